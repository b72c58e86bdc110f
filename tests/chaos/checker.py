"""The checker: reads a whole history and names every broken promise; `counts` tells how much it looked at.

Sentences name messages by their control id and never hold a value of a patient.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from chaos_history import Arrival, History, KeptMessage, Message

RECORD = "record"
DOUBTFUL = frozenset({f"{fault}_{role}" for fault in ("kill", "pause", "cut", "exit") for role in ("worker", "all")})
DOUBTFUL |= {"stop_postgres", "postgres_disk_full"}
OPEN_MESSAGES = frozenset({"RECEIVED", "ROUTED"})
OPEN_DELIVERIES = frozenset({"QUEUED", "WAITING", "SENDING", "UNSURE"})


class Broken(StrEnum):
    """The promises."""

    ACKED_MISSING = "acknowledged and not kept"
    KEPT_TWICE = "kept twice"
    KEPT_ALTERED = "kept with other bytes"
    KEPT_UNKNOWN = "kept and never sent"
    REFUSED = "refused a good message"
    PATIENT_SPLIT = "a patient and its number differ"
    STUCK_MESSAGE = "a message is not finished"
    ENDED_BADLY = "an acknowledged message ended without success"
    COUNTERS = "counters of a message are wrong"
    NOT_ROUTED = "a delivery was not made"
    DELIVERY_DOUBLED = "two deliveries of one message to one destination"
    STUCK_DELIVERY = "a delivery is open"
    STUCK_LANE = "a lane is left"
    ATTEMPTS = "attempts and their rows differ"
    NEVER_ARRIVED = "delivered and never arrived"
    ARRIVED_UNKNOWN = "arrived and never sent"
    ARRIVED_ALTERED = "arrived with other bytes"
    ARRIVED_NOT_KEPT = "arrived and not kept"
    OTHER_ID = "arrived again under another id"
    REPEAT_ALTERED = "arrived again with other bytes"
    REPEAT_UNCAUSED = "arrived again although its delivery was not in doubt"
    ORDER = "arrived out of order"
    VERSION_MISSING = "no effect in the record"
    VERSION_DOUBLED = "more than one effect in the record"
    VERSIONS_GAP = "versions do not follow each other"
    PROVENANCE = "a version and its provenance differ"
    RECORD_ORDER = "applied to the record out of order"
    STAY_SPLIT = "a stay and its resource differ"


@dataclass(frozen=True, slots=True)
class Violation:
    kind: Broken
    sentence: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"


def check(history: History) -> list[Violation]:
    """Every broken promise; empty when all were kept."""
    return [Violation(kind, sentence) for rules in _RULES for kind, sentence in rules(_Look(history))]


_Found = Iterator[tuple[Broken, str]]


class _Look:
    """A history with its lookups."""

    def __init__(self, history: History) -> None:
        self.history, self.end = history, history.end
        self.sent = {message.control_id: message for message in history.messages}
        self.kept = {row.id: row for row in history.end.messages}
        self.kept_ids = Counter(row.control_id for row in history.end.messages)

    def name(self, message_id: int) -> str:
        row = self.kept.get(message_id)
        return row.control_id if row else f"message {message_id}"

    def routed(self) -> Iterator[tuple[KeptMessage, Message]]:
        """Kept, accepted, and known."""
        for row in self.end.messages:
            if row.ack_code == "AA" and row.control_id in self.sent:
                yield row, self.sent[row.control_id]


# ---- order ---------------------------------------------------------------------------------------------------------


def inversions(times: Mapping[str, tuple[float, float]], order: Sequence[str]) -> list[tuple[str, str]]:
    """`times` are (first sent, acknowledged) of each message, infinite when it was not; `order` is how they arrived.

    A pair (a, b) for each b that came before some a which was acknowledged before b was sent.
    """
    found = []
    earliest, who = math.inf, ""
    for one in reversed(order):
        sent_at, acked_at = times[one]
        if earliest < sent_at:
            found.append((who, one))
        if acked_at < earliest:
            earliest, who = acked_at, one
    return found


def ordered_pairs(times: Iterable[tuple[float, float]]) -> int:
    """How many pairs have a given order: one acknowledged before the other was sent."""
    times = list(times)
    sent = sorted(sent_at for sent_at, _ in times)
    return sum(len(sent) - bisect.bisect_right(sent, acked_at) for _, acked_at in times)


def _times(message: Message) -> tuple[float, float]:
    return message.sent_at, math.inf if message.acked_at is None else message.acked_at


def _firsts(look: _Look, arrivals: Iterable[Arrival]) -> dict[str, list[str]]:
    """Known control ids of each patient in order of their first arrival."""
    firsts: dict[str, dict[str, None]] = defaultdict(dict)
    for arrival in arrivals:
        message = look.sent.get(arrival.control_id)
        if message is not None:
            firsts[message.patient].setdefault(arrival.control_id)
    return {patient: list(ids) for patient, ids in firsts.items()}


def _order(look: _Look) -> _Found:
    for destination, arrivals in look.history.arrivals.items():
        for ids in _firsts(look, arrivals).values():
            for early, late in inversions({one: _times(look.sent[one]) for one in ids}, ids):
                yield Broken.ORDER, f"{destination}: {late} came before {early}, which was acknowledged before it was sent"


# ---- repeats -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Repeat:
    """An arrival after the first one of the same message. `late`: a newer message of the same patient came between."""

    destination: str
    control_id: str
    late: bool
    caused: bool


def repeats(history: History) -> list[Repeat]:
    """Every repeat at every destination, in order.

    It is caused when the arrival before was not answered AA, or a fault that leaves deliveries in doubt touched the time between.
    """
    sent = {message.control_id: message for message in history.messages}
    troubles = [trouble for trouble in history.troubles if trouble.kind in DOUBTFUL]
    found = []
    for destination, arrivals in history.arrivals.items():
        before: dict[str, list[Arrival]] = defaultdict(list)
        newest: dict[str, float] = {}
        for arrival in arrivals:
            message, earlier = sent.get(arrival.control_id), before[arrival.control_id]
            if message is not None:
                if earlier:
                    caused = not earlier[-1].answered or any(trouble.touches(earlier[-1].at, arrival.at) for trouble in troubles)
                    late = _times(message)[1] < newest[message.patient]
                    found.append(Repeat(destination, arrival.control_id, late, caused))
                newest[message.patient] = max(message.sent_at, newest.get(message.patient, -math.inf))
            earlier.append(arrival)
    return found


def _arrivals(look: _Look) -> _Found:
    rests = {message.rest: message.control_id for message in look.history.messages}
    for destination, arrivals in look.history.arrivals.items():
        firsts: dict[str, Arrival] = {}
        for arrival in arrivals:
            name = f"{destination}: {arrival.control_id}"
            message, first = look.sent.get(arrival.control_id), firsts.setdefault(arrival.control_id, arrival)
            other = rests.get(arrival.rest)
            if other is not None and other != arrival.control_id:
                yield Broken.OTHER_ID, f"{destination}: {other} came as another id"
            elif message is None:
                yield Broken.ARRIVED_UNKNOWN, name
            elif first.digest != arrival.digest:
                yield Broken.REPEAT_ALTERED, name
            elif message.digest != arrival.digest or message.patient != arrival.patient:
                yield Broken.ARRIVED_ALTERED, name
        for control_id in firsts:
            if control_id in look.sent and control_id not in look.kept_ids:
                yield Broken.ARRIVED_NOT_KEPT, f"{destination}: {control_id}"
    for repeat in repeats(look.history):
        if not repeat.caused:
            yield Broken.REPEAT_UNCAUSED, f"{repeat.destination}: {repeat.control_id}{' (late)' if repeat.late else ''}"


# ---- the ledger ----------------------------------------------------------------------------------------------------


def _keeping(look: _Look) -> _Found:
    for message in look.history.messages:
        if message.acked_at is not None and message.control_id not in look.kept_ids:
            yield Broken.ACKED_MISSING, message.control_id
        if message.code in ("AE", "CE") or (message.acked_at is None and message.code in ("AR", "CR")):
            yield Broken.REFUSED, f"{message.control_id}: {message.code}"
    for control_id, n in look.kept_ids.items():
        if n > 1:
            yield Broken.KEPT_TWICE, f"{control_id}: {n} times"
        if control_id not in look.sent:
            yield Broken.KEPT_UNKNOWN, control_id
    numbers: dict[str, set[int | None]] = defaultdict(set)
    patients: dict[int | None, set[str]] = defaultdict(set)
    for row, message in look.routed():
        if row.sha256 != message.digest:
            yield Broken.KEPT_ALTERED, row.control_id
        if row.patient_id is not None or row.state not in OPEN_MESSAGES:
            numbers[message.patient].add(row.patient_id)
            patients[row.patient_id].add(message.patient)
    for name, found in (*_named("a patient has", numbers), *_named("a number stands for", patients)):
        yield Broken.PATIENT_SPLIT, f"{name} {found}"


def _named(what: str, found: Mapping) -> Iterator[tuple[str, str]]:
    for others in found.values():
        if len(others) != 1:
            yield what, f"{len(others)} of the other"


def _messages(look: _Look) -> _Found:
    failed = Counter(row.message_id for row in look.end.deliveries if row.state in ("REFUSED", "DEAD"))
    open_n = Counter(row.message_id for row in look.end.deliveries if row.state in OPEN_DELIVERIES)
    for row in look.end.messages:
        if row.state in OPEN_MESSAGES:
            yield Broken.STUCK_MESSAGE, f"{row.control_id}: {row.state}"
        elif row.ack_code == "AA" and row.state != "DONE":
            yield Broken.ENDED_BADLY, f"{row.control_id}: {row.state}"
        if (row.open_n, row.failed_n) != (open_n[row.id], failed[row.id]):
            yield Broken.COUNTERS, f"{row.control_id}: {row.open_n} open and {row.failed_n} failed on the message"


def _deliveries(look: _Look) -> _Found:
    rows = Counter((row.message_id, row.destination, row.replay) for row in look.end.deliveries)
    for (message_id, destination, _), n in rows.items():
        if n > 1:
            yield Broken.DELIVERY_DOUBLED, f"{destination}: {look.name(message_id)}, {n} rows"
    for row, message in look.routed():
        for destination in look.history.routes.get(message.source, ()):
            if not rows[row.id, destination, 0]:
                yield Broken.NOT_ROUTED, f"{destination}: {row.control_id}"
    numbers: dict[int, list[int]] = defaultdict(list)
    successes: Counter[int] = Counter()
    for attempt in look.end.attempts:
        numbers[attempt.delivery_id].append(attempt.n)
        successes[attempt.delivery_id] += attempt.outcome == "DELIVER"
    arrived = {destination: {one.control_id for one in arrivals} for destination, arrivals in look.history.arrivals.items()}
    for row in look.end.deliveries:
        name = f"{row.destination}: {look.name(row.message_id)}"
        if row.state in OPEN_DELIVERIES:
            yield Broken.STUCK_DELIVERY, f"{name}, {row.state}"
        if row.state == "DELIVERED" and row.destination != RECORD and look.name(row.message_id) not in arrived[row.destination]:
            yield Broken.NEVER_ARRIVED, name
        if row.destination == RECORD:  # made with the routing: no attempts to tell of
            continue
        if sorted(numbers.pop(row.id, [])) != list(range(1, row.attempts + 1)):
            yield Broken.ATTEMPTS, f"{name}, {row.attempts} attempts"
        elif successes[row.id] != (row.state == "DELIVERED"):
            yield Broken.ATTEMPTS, f"{name}, {row.state} after {successes[row.id]} that succeeded"
    for delivery_id in numbers:
        yield Broken.ATTEMPTS, f"an attempt of no delivery, {delivery_id}"
    for lane in look.end.lanes:
        reason = f", held: {lane.blocked_reason}" if lane.blocked_reason else ""
        yield Broken.STUCK_LANE, f"a lane of {lane.destination}{reason}"


# ---- the record ----------------------------------------------------------------------------------------------------


def _record(look: _Look) -> _Found:
    types = {row.resource_id: row.type for row in look.end.versions}
    made: dict[int, list[int]] = defaultdict(list)  # message -> resources, one for each version it made
    by_version: Counter[tuple[int, int]] = Counter()
    for effect in look.end.effects:
        made[effect.message_id].append(effect.resource_id)
        by_version[effect.resource_id, effect.version] += 1
    versions: dict[int, list[int]] = defaultdict(list)
    for row in look.end.versions:
        versions[row.resource_id].append(row.version)
    for resource_id, found in versions.items():
        if sorted(found) != list(range(1, len(found) + 1)):
            yield Broken.VERSIONS_GAP, f"{types[resource_id]} {resource_id}: {sorted(found)[:20]}"
        for version in found:
            if by_version[resource_id, version] != 1:
                n = by_version[resource_id, version]
                yield Broken.PROVENANCE, f"{types[resource_id]} {resource_id} version {version}: {n} rows"
    for resource_id, version in by_version.keys() - {(row.resource_id, row.version) for row in look.end.versions}:
        yield Broken.PROVENANCE, f"resource {resource_id} version {version} is not there"
    stays: dict[str, set[int]] = defaultdict(set)
    resources: dict[int, set[str]] = defaultdict(set)
    for row, message in look.routed():
        if RECORD not in look.history.routes.get(message.source, ()):
            continue
        found = Counter(made.get(row.id, []))
        n = sum(k for resource_id, k in found.items() if types.get(resource_id) == message.changes)
        if message.changes and n == 0 and row.state not in OPEN_MESSAGES:
            yield Broken.VERSION_MISSING, f"{message.changes} of {row.control_id}"
        if (message.changes and n > 1) or max(found.values(), default=1) > 1:
            yield Broken.VERSION_DOUBLED, f"{row.control_id}: {n} of {message.changes}"
        if message.stay and message.changes:
            for resource_id in found:
                if types.get(resource_id) == message.changes:
                    stays[message.stay].add(resource_id)
                    resources[resource_id].add(message.stay)
    for what, found in (*_named("a stay has", stays), *_named("a resource stands for", resources)):
        yield Broken.STAY_SPLIT, f"{what} {found}"


def _record_order(look: _Look) -> _Found:
    makers: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for effect in look.end.effects:
        row = look.kept.get(effect.message_id)
        if row is not None and row.control_id in look.sent:
            makers[effect.resource_id].append((effect.version, row.control_id))
    for resource_id, found in makers.items():
        ids = list(dict.fromkeys(control_id for _, control_id in sorted(found)))
        for early, late in inversions({one: _times(look.sent[one]) for one in ids}, ids):
            yield Broken.RECORD_ORDER, f"resource {resource_id}: {late} was applied before {early}"


_RULES = (_keeping, _messages, _deliveries, _arrivals, _order, _record, _record_order)


# ---- how much was looked at ----------------------------------------------------------------------------------------


def counts(history: History) -> dict[str, int]:
    """What the checker looked at, in numbers."""
    look = _Look(history)
    lanes = pairs = 0
    for arrivals in history.arrivals.values():
        for ids in _firsts(look, arrivals).values():
            lanes += 1
            pairs += ordered_pairs(_times(look.sent[one]) for one in ids)
    again = repeats(history)
    by_kind = Counter(trouble.kind for trouble in history.troubles)
    return {
        "messages": len(history.messages),
        "sendings": sum(message.sends for message in history.messages),
        "acked": sum(message.acked_at is not None for message in history.messages),
        "kept": len(history.end.messages),
        "deliveries": len(history.end.deliveries),
        "arrivals": sum(map(len, history.arrivals.values())),
        "repeats": len(again),
        "late_repeats": sum(repeat.late for repeat in again),
        "patients": len({message.patient for message in history.messages}),
        "lanes_checked": lanes,
        "pairs_in_order": pairs,
        "versions": len(history.end.versions),
        **{f"trouble_{kind}": n for kind, n in sorted(by_kind.items())},
    }
