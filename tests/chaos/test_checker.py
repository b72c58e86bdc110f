"""The checker itself: a good history passes, every planted violation is found, and the order rule is what it says."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import pytest
from chaos_checker import Broken, check, counts, inversions, ordered_pairs, repeats
from chaos_history import Arrival, Attempt, Delivery, Effect, End, History, KeptMessage, Lane, Message, Trouble, Version
from hypothesis import given
from hypothesis import strategies as st

PATIENTS, TURNS, STAY = 4, 6, 3
DESTINATIONS = ("near", "far")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def good() -> History:
    """24 admissions of four patients: kept once, delivered to two destinations, the third one again after a worker was killed."""
    history = History(routes={"his": ("record", *DESTINATIONS)}, arrivals={name: [] for name in DESTINATIONS})
    history.troubles.append(Trouble("kill_worker", "worker-1", 2.05, 2.5))
    end = history.end
    for turn in range(TURNS):
        for person in range(PATIENTS):
            number = turn * PATIENTS + person
            at, control_id, patient = float(number), f"RC{person}S{turn}", f"P{person}"
            digest, rest = _digest(control_id), _digest(f"{control_id} without")
            message = Message(
                "his",
                person,
                control_id,
                patient,
                digest,
                rest,
                at,
                at + 0.1,
                "AA",
                changes="Encounter",
                stay=f"{person}/{turn // STAY}",
            )
            history.messages.append(message)
            end.messages.append(KeptMessage(number, "his", control_id, digest, "DONE", "AA", 500 + person))
            for place, destination in enumerate(("record", *DESTINATIONS)):
                delivery_id = number * 10 + place
                end.deliveries.append(Delivery(delivery_id, number, destination, "DELIVERED", 1))
                if destination != "record":
                    end.attempts.append(Attempt(delivery_id, 1, "DELIVER"))
                    arrival = Arrival(1, control_id, patient, digest, rest, at + 0.2)
                    history.arrivals[destination].append(arrival)
                    if number == 2:
                        history.arrivals[destination].append(replace(arrival, connection=2, at=at + 0.9))
            stay = 900 + person * 10 + turn // STAY
            end.versions.append(Version(stay, "Encounter", turn % STAY + 1))
            end.effects.append(Effect(stay, turn % STAY + 1, number))
    return history


def test_good_history():
    history = good()
    assert check(history) == []
    assert counts(history) == {
        "messages": 24,
        "sendings": 24,
        "acked": 24,
        "kept": 24,
        "deliveries": 72,
        "arrivals": 50,
        "repeats": 2,
        "late_repeats": 0,
        "patients": 4,
        "lanes_checked": 8,
        "pairs_in_order": 8 * math.comb(TURNS, 2),
        "versions": 24,
        "trouble_kill_worker": 1,
    }


def test_empty_history():
    assert check(History()) == []
    assert counts(History())["messages"] == 0


def _drop(rows: list, **wanted) -> None:
    kept = [row for row in rows if any(getattr(row, name) != value for name, value in wanted.items())]
    assert len(kept) < len(rows)
    rows[:] = kept


def _change(rows: list, changes: dict, **wanted) -> None:
    found = [n for n, row in enumerate(rows) if all(getattr(row, name) == value for name, value in wanted.items())]
    assert found
    rows[found[0]] = replace(rows[found[0]], **changes)


def _forget(end: End, message_id: int) -> None:
    """As if the message had never been kept."""
    _drop(end.messages, id=message_id)
    ids = {row.id for row in end.deliveries if row.message_id == message_id}
    _drop(end.deliveries, message_id=message_id)
    end.attempts[:] = [row for row in end.attempts if row.delivery_id not in ids]
    _drop(end.effects, message_id=message_id)
    _drop(end.versions, resource_id=901, version=STAY)


def _lost(history: History) -> None:
    _forget(history.end, 20)
    for arrivals in history.arrivals.values():
        _drop(arrivals, control_id="RC0S5")


def _kept_twice(history: History) -> None:
    history.end.messages.append(replace(history.end.messages[7], id=99, state="REFUSED", ack_code="AE"))


def _kept_altered(history: History) -> None:
    _change(history.end.messages, {"sha256": _digest("other")}, id=3)


def _kept_unknown(history: History) -> None:
    history.end.messages.append(KeptMessage(99, "his", "NOBODY", _digest("x"), "REFUSED", "AE", None))


def _refused(history: History) -> None:
    _change(history.messages, {"code": "AE"}, control_id="RC1S1")


def _refused_for_ever(history: History) -> None:
    _change(history.messages, {"code": "AR", "acked_at": None}, control_id="RC1S1")


def _patient_split(history: History) -> None:
    _change(history.end.messages, {"patient_id": 777}, id=3)


def _patients_joined(history: History) -> None:
    for number in range(0, 24, PATIENTS):
        _change(history.end.messages, {"patient_id": 501}, id=number)


def _stuck_message(history: History) -> None:
    _change(history.end.messages, {"state": "ROUTED"}, id=3)


def _ended_badly(history: History) -> None:
    _change(history.end.messages, {"state": "SET_ASIDE"}, id=3)


def _open_n(history: History) -> None:
    _change(history.end.messages, {"open_n": 1}, id=3)


def _not_routed(history: History) -> None:
    _drop(history.end.deliveries, id=31)
    _drop(history.end.attempts, delivery_id=31)


def _delivery_doubled(history: History) -> None:
    history.end.deliveries.append(Delivery(999, 3, "far", "DELIVERED", 1))
    history.end.attempts.append(Attempt(999, 1, "DELIVER"))


def _stuck_delivery(history: History) -> None:
    _change(history.end.deliveries, {"state": "UNSURE"}, id=31)


def _stuck_lane(history: History) -> None:
    history.end.lanes.append(Lane("far/p501", "far"))


def _held_lane(history: History) -> None:
    history.end.lanes.append(Lane("far/p501", "far", "the end of a delivery could not be filed"))


def _attempt_missing(history: History) -> None:
    _drop(history.end.attempts, delivery_id=31)


def _attempt_numbers(history: History) -> None:
    _change(history.end.attempts, {"n": 2}, delivery_id=31)


def _attempt_of_nothing(history: History) -> None:
    history.end.attempts.append(Attempt(12345, 1, "DELIVER"))


def _succeeded_twice(history: History) -> None:
    _change(history.end.deliveries, {"attempts": 2}, id=31)
    history.end.attempts.append(Attempt(31, 2, "DELIVER"))


def _never_arrived(history: History) -> None:
    _drop(history.arrivals["far"], control_id="RC0S5")


def _arrived_unknown(history: History) -> None:
    history.arrivals["far"].append(Arrival(1, "NOBODY", "P1", _digest("x"), _digest("y"), 50.0))


def _arrived_altered(history: History) -> None:
    _change(history.arrivals["far"], {"digest": _digest("other")}, control_id="RC0S5")


def _arrived_not_kept(history: History) -> None:
    _forget(history.end, 20)
    _change(history.messages, {"acked_at": None, "code": ""}, control_id="RC0S5")


def _other_id(history: History) -> None:
    last = history.arrivals["far"][-1]
    history.arrivals["far"].append(replace(last, control_id="X1", digest=_digest("X1"), at=50.0, answered=False))


def _repeat_altered(history: History) -> None:
    arrivals = history.arrivals["far"]
    assert arrivals[2].control_id == arrivals[3].control_id
    arrivals[3] = replace(arrivals[3], digest=_digest("other"), rest=_digest("another"))


def _repeat_uncaused(history: History) -> None:
    last = history.arrivals["far"][-1]
    history.arrivals["far"].append(replace(last, at=last.at + 1))


def _late_uncaused(history: History) -> None:
    first = history.arrivals["far"][15]
    history.arrivals["far"].append(replace(first, at=40.0))


def _long_after(history: History) -> None:
    """The repeat's fault was over, with all its consequences, before the first arrival."""
    history.troubles[:] = [replace(history.troubles[0], began_at=-20.0, ended_at=-10.0)]


def _harmless_trouble(history: History) -> None:
    history.troubles[:] = [replace(history.troubles[0], kind="kill_edge")]


def _order(history: History) -> None:
    arrivals = history.arrivals["far"]
    mine = [n for n, arrival in enumerate(arrivals) if arrival.control_id.startswith("RC3")]
    arrivals[mine[1]], arrivals[mine[2]] = (
        replace(arrivals[mine[2]], at=arrivals[mine[1]].at),
        replace(arrivals[mine[1]], at=arrivals[mine[2]].at),
    )


def _version_missing(history: History) -> None:
    _drop(history.end.effects, message_id=20)
    _drop(history.end.versions, resource_id=901, version=STAY)


def _version_doubled(history: History) -> None:
    history.end.versions.append(Version(901, "Encounter", STAY + 1))
    history.end.effects.append(Effect(901, STAY + 1, 20))


def _other_resource_doubled(history: History) -> None:
    history.end.versions += [Version(990, "Patient", 1), Version(990, "Patient", 2)]
    history.end.effects += [Effect(990, 1, 20), Effect(990, 2, 20)]


def _versions_gap(history: History) -> None:
    _drop(history.end.versions, resource_id=901, version=2)


def _provenance_missing(history: History) -> None:
    _drop(history.end.effects, resource_id=901, version=2)


def _provenance_doubled(history: History) -> None:
    history.end.effects.append(Effect(901, 2, 8))


def _provenance_of_nothing(history: History) -> None:
    history.end.effects.append(Effect(901, 9, 4321))


def _record_order(history: History) -> None:
    _change(history.end.effects, {"version": 9}, resource_id=901, version=1)
    _change(history.end.effects, {"version": 1}, resource_id=901, version=2)
    _change(history.end.effects, {"version": 2}, resource_id=901, version=9)


def _stay_split(history: History) -> None:
    _change(history.end.versions, {"resource_id": 950, "version": 1}, resource_id=901, version=STAY)
    _change(history.end.effects, {"resource_id": 950, "version": 1}, resource_id=901, version=STAY)


PLANTED = [
    (_lost, Broken.ACKED_MISSING),
    (_kept_twice, Broken.KEPT_TWICE),
    (_kept_altered, Broken.KEPT_ALTERED),
    (_kept_unknown, Broken.KEPT_UNKNOWN),
    (_refused, Broken.REFUSED),
    (_refused_for_ever, Broken.REFUSED),
    (_patient_split, Broken.PATIENT_SPLIT),
    (_patients_joined, Broken.PATIENT_SPLIT),
    (_stuck_message, Broken.STUCK_MESSAGE),
    (_ended_badly, Broken.ENDED_BADLY),
    (_open_n, Broken.COUNTERS),
    (_not_routed, Broken.NOT_ROUTED),
    (_delivery_doubled, Broken.DELIVERY_DOUBLED),
    (_stuck_delivery, Broken.STUCK_DELIVERY),
    (_stuck_lane, Broken.STUCK_LANE),
    (_held_lane, Broken.STUCK_LANE),
    (_attempt_missing, Broken.ATTEMPTS),
    (_attempt_numbers, Broken.ATTEMPTS),
    (_attempt_of_nothing, Broken.ATTEMPTS),
    (_succeeded_twice, Broken.ATTEMPTS),
    (_never_arrived, Broken.NEVER_ARRIVED),
    (_arrived_unknown, Broken.ARRIVED_UNKNOWN),
    (_arrived_altered, Broken.ARRIVED_ALTERED),
    (_arrived_not_kept, Broken.ARRIVED_NOT_KEPT),
    (_other_id, Broken.OTHER_ID),
    (_repeat_altered, Broken.REPEAT_ALTERED),
    (_repeat_uncaused, Broken.REPEAT_UNCAUSED),
    (_late_uncaused, Broken.REPEAT_UNCAUSED),
    (_long_after, Broken.REPEAT_UNCAUSED),
    (_harmless_trouble, Broken.REPEAT_UNCAUSED),
    (_order, Broken.ORDER),
    (_version_missing, Broken.VERSION_MISSING),
    (_version_doubled, Broken.VERSION_DOUBLED),
    (_other_resource_doubled, Broken.VERSION_DOUBLED),
    (_versions_gap, Broken.VERSIONS_GAP),
    (_provenance_missing, Broken.PROVENANCE),
    (_provenance_doubled, Broken.PROVENANCE),
    (_provenance_of_nothing, Broken.PROVENANCE),
    (_record_order, Broken.RECORD_ORDER),
    (_stay_split, Broken.STAY_SPLIT),
]
CONSEQUENCES = {  # what one planted violation breaks besides
    _stuck_delivery: {Broken.COUNTERS, Broken.ATTEMPTS},
    _versions_gap: {Broken.PROVENANCE},
    _provenance_missing: {Broken.VERSION_MISSING},
    _provenance_doubled: {Broken.VERSION_DOUBLED, Broken.STAY_SPLIT, Broken.RECORD_ORDER},
}


@pytest.mark.parametrize(("plant", "kind"), PLANTED, ids=[plant.__name__.strip("_") for plant, _ in PLANTED])
def test_planted_violation_is_found(plant, kind):
    history = good()
    plant(history)
    found = check(history)
    kinds = {violation.kind for violation in found}
    assert kind in kinds
    assert kinds <= {kind} | CONSEQUENCES.get(plant, set()), "one fault is not told as another"


def test_every_promise_has_a_planted_violation():
    assert {kind for _, kind in PLANTED} == set(Broken)


def test_sentences_hold_no_patient():
    for plant, _ in PLANTED:
        history = good()
        history.messages[:] = [replace(one, patient=f"SECRET{one.patient}", stay=f"SECRET{one.stay}") for one in history.messages]
        for arrivals in history.arrivals.values():
            arrivals[:] = [replace(one, patient=f"SECRET{one.patient}") for one in arrivals]
        plant(history)
        assert not any("SECRET" in str(violation) for violation in check(history))


def test_order_is_not_asked_of_what_was_not_acknowledged_before():
    history = good()
    _order(history)
    history.messages[:] = [
        replace(one, acked_at=one.acked_at + 20) if one.control_id == "RC3S1" else one for one in history.messages
    ]
    assert check(history) == []


def test_a_late_repeat_is_counted_and_allowed_when_its_delivery_was_in_doubt():
    history = good()
    arrivals = history.arrivals["far"]
    place = next(n for n, arrival in enumerate(arrivals) if arrival.control_id == "RC1S2")
    arrivals[place] = replace(arrivals[place], answered=False)
    arrivals.append(replace(arrivals[place], at=40.0))
    assert check(history) == []
    assert counts(history)["late_repeats"] == 1
    assert [(one.control_id, one.late) for one in repeats(history)] == [("RC2S0", False), ("RC2S0", False), ("RC1S2", True)]


def test_what_was_kept_and_not_acknowledged_is_no_loss():
    history = good()
    history.messages[:] = [replace(one, acked_at=None, code="") if one.control_id == "RC1S2" else one for one in history.messages]
    assert check(history) == []


def _brute(times, order):
    return {late for n, late in enumerate(order) if any(times[early][1] < times[late][0] for early in order[n + 1 :])}


_MOMENTS = st.integers(0, 12).map(float)


@st.composite
def _arrived(draw):
    n = draw(st.integers(0, 9))
    times = {}
    for number in range(n):
        sent_at = draw(_MOMENTS)
        times[str(number)] = (sent_at, draw(st.one_of(st.just(math.inf), _MOMENTS.map(lambda pause, at=sent_at: at + pause))))
    return times, draw(st.permutations(list(times)))


@given(_arrived())
def test_order_rule_against_every_pair(arrived):
    times, order = arrived
    found = inversions(times, order)
    assert {late for _, late in found} == _brute(times, order)
    assert len(found) == len({late for _, late in found})
    for early, late in found:
        assert order.index(late) < order.index(early)
        assert times[early][1] < times[late][0]


@given(_arrived())
def test_pairs_are_counted(arrived):
    times, _ = arrived
    assert ordered_pairs(times.values()) == sum(a[1] < b[0] for a in times.values() for b in times.values())
