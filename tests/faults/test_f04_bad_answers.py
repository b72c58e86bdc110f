"""F4: a receiver that is silent, late, answers for somebody else, twice, with garbage, with half a frame, AR, AE."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from fault_harness import check_ledger, full, measured, run

from bench.sender import Load, send
from bench.sink import AA, AE, AR, DROP, FOR, GARBAGE, HALF, LATE, MUTE, TWICE, WRONG_ID, Got, Sink
from bench.synthetic import Traffic
from bench.traffic import compare

RETRY = "ack_timeout_s = 0.4\n[destination.retry]\nbase_s = 0.1\nprobe_s = 0.1"
MESSAGES = full(400, 40)


async def _through(place, behaviour, *, lines="", states=("DONE",), late_s=0.6):
    """Send through a hub to a sink with this behaviour; the sink and the sender's journal, checked."""
    sink = Sink(behaviour, late_s=late_s)
    await sink.start()
    place.configure(destinations=[("out", sink.port, f"{lines}\n{RETRY}")], routes=("out",))
    await place.start()
    sent = await send(Load("127.0.0.1", place.port, Traffic(run="B", patients=10), 4, MESSAGES // 4))
    assert len(sent.acked) == MESSAGES
    await place.settled(full(120, 15))
    assert (await place.stop())[0] == 0
    check_ledger(place, sent, states=states)
    verdict = compare(sent.acked, sent.answers, [(got.control_id, got.patient) for got in sink.journal])
    assert verdict.is_clean, verdict
    await sink.stop()
    return sink, sent


def _taken(sink: Sink) -> Counter:
    """How often the receiver said yes to each message."""
    return Counter(got.control_id for got in sink.journal if got.did in (AA, TWICE))


def _repeats(sink: Sink) -> list[tuple[Got, Got]]:
    """Each arrival of a message with the next one of the same."""
    arrivals: dict[str, list[Got]] = {}
    for got in sink.journal:
        arrivals.setdefault(got.control_id, []).append(got)
    return [pair for each in arrivals.values() for pair in pairwise(each)]


def _outcomes(place) -> Counter:
    return Counter(dict(place.rows("SELECT outcome, count(*) FROM attempt GROUP BY 1")))


UNUSABLE = (MUTE, LATE, WRONG_ID, GARBAGE, HALF, DROP)


@pytest.mark.parametrize("wrong", full([(one,) for one in UNUSABLE], [UNUSABLE[:3], UNUSABLE[3:]]), ids="-".join)
def test_f04_unusable_answers_are_tried_again(place, wrong):
    async def story():
        sink, sent = await _through(place, lambda n, _id: wrong[n // 7 % len(wrong)] if n % 7 == 3 else AA)
        unusable = [got for got in sink.journal if got.did != AA]
        assert len(unusable) >= MESSAGES // 7
        assert {got.did for got in unusable} == set(wrong)
        assert set(_taken(sink)) == set(sent.acked), "DELIVERED only what the receiver said yes to"
        assert _outcomes(place)["NO_ANSWER"] >= len(unusable)
        for before, after in _repeats(sink):
            assert before.connection != after.connection, "the connection ends with the doubt, and all that was on it comes again"
        measured(f"F4 {' '.join(wrong)}", messages=MESSAGES, arrivals=len(sink.journal), connections=sink.connections)

    run(story())


def test_f04_two_answers_are_one(place):
    async def story():
        sink, sent = await _through(place, lambda n, _id: TWICE if n % 3 == 0 else AA)
        assert len(sink.journal) == len(sent.acked) == _outcomes(place)["DELIVER"]

    run(story())


def test_f04_the_answer_to_one_is_never_that_to_the_next(place):
    """The receiver answers some messages only when the next one arrives, and then the next one not at all."""
    owed: list[str] = []

    def behaviour(n, control_id):
        if owed and owed[0] != control_id:
            return FOR + owed.pop()
        if n % 13 == 3:
            owed[:] = [control_id]
            return MUTE
        return AA

    async def story():
        sink, sent = await _through(place, behaviour, lines="in_flight = 1")
        mixed_up = [got for got in sink.journal if got.did.startswith(FOR)]
        assert len(mixed_up) >= 2
        taken = _taken(sink)
        assert all(taken[got.control_id] for got in mixed_up), "whose answer went to another is sent again"
        assert set(taken) == set(sent.acked)

    run(story())


def test_f04_ar_is_retried_with_growing_pauses(place):
    refused = Counter()

    def behaviour(_n, control_id):
        refused[control_id] += 1
        return AR if refused[control_id] <= 3 and control_id.endswith("0") else AA

    async def story():
        sink, sent = await _through(place, behaviour)
        tried = [one for one in sent.acked if one.endswith("0")]
        assert len(tried) == MESSAGES // 10
        for one in tried:
            at = [got.at for got in sink.journal if got.control_id == one]
            assert len(at) == 4
            pauses = [after - before for before, after in pairwise(at)]
            assert pauses[2] > pauses[0] * 1.5, pauses
        assert _outcomes(place)["FAIL_FOR_NOW"] == 3 * len(tried)

    run(story())


def test_f04_ae_is_refused_at_once(place):
    async def story():
        sink, sent = await _through(place, lambda _n, one: AE if one.endswith("7") else AA, states=("DONE", "PARTIAL"))
        assert len(sink.journal) == len(sent.acked), "not one of them came twice"
        refused = place.rows(
            "SELECT m.control_id, m.state FROM delivery d JOIN message m ON m.id = d.message_id WHERE d.state = 'REFUSED'"
        )
        assert sorted(refused) == sorted((one, "PARTIAL") for one in sent.acked if one.endswith("7"))

    run(story())


def test_f04_ae_may_be_retried(place):
    refused = Counter()

    def behaviour(_n, control_id):
        refused[control_id] += 1
        return AE if refused[control_id] <= 2 and control_id.endswith("7") else AA

    async def story():
        sink, sent = await _through(place, behaviour, lines='on_ae = "retry"')
        assert len(sink.journal) == len(sent.acked) + 2 * MESSAGES // 10

    run(story())
