"""F1, F2: kill -9, at random moments and exactly between a commit and its ACK, or a send and its mark.

Nothing acknowledged is lost, the record's effects happen once, a receiver sees a repeat only of what was in flight.
"""

from __future__ import annotations

import asyncio
import random

import pytest
from fault_harness import check_ledger, check_record, full, measured, run

from bench.sender import Load, Sent, send
from bench.sink import Sink
from bench.synthetic import Traffic
from bench.traffic import compare

IN_FLIGHT = 16
LANES_HELD = 256  # sent, and their mark not on disk: at most one delivery of each lane that is held


async def _final(place, sent, sink):
    """The sender is done: let the hub finish, stop it, compare everything."""
    await place.settled(60)
    code, _ = await place.stop()
    assert code == 0
    check_ledger(place, sent)
    encounters = check_record(place)
    verdict = compare(sent.acked, sent.answers, [(got.control_id, got.patient) for got in sink.journal])
    assert not verdict.lost, verdict.lost[:5]
    assert not verdict.inversions, verdict.inversions[:5]
    assert not verdict.unknown, verdict.unknown[:5]
    return verdict, encounters


def test_f01_killed_at_random(place):
    rounds, messages = full(50, 3), full(2000, 600)

    async def story():
        sink = Sink()
        await sink.start()
        place.configure(destinations=[("out", sink.port, f"in_flight = {IN_FLIGHT}")], routes=("record", "out"))
        await place.start()
        kills = repeats = 0
        rng = random.Random(1)
        journal = Sent()
        for n in range(rounds):
            load = Load(
                "127.0.0.1", place.port, Traffic(run=f"K{n}R", patients=20), 8, messages // 8, 4, messages / 1.2, resend=True
            )
            sending = asyncio.create_task(send(load, journal))
            await asyncio.sleep(rng.uniform(0.05, 1.0))
            while not sending.done():
                place.kill()
                kills += 1
                await place.start()
                await asyncio.sleep(rng.uniform(0.3, 1.0))
            await sending
        assert kills >= rounds
        assert len(journal.acked) == rounds * messages // 8 * 8
        verdict, encounters = await _final(place, journal, sink)
        repeats = sum(n - 1 for n in verdict.repeated.values())
        assert repeats <= kills * LANES_HELD
        assert max(verdict.repeated.values(), default=1) <= 1 + max(3, kills // 10), "the same one is not hit again and again"
        measured(
            "F1 kill -9",
            rounds=rounds,
            kills=kills,
            acked=len(journal.acked),
            lost=0,
            resent=journal.repeats,
            repeats=repeats,
            encounters=encounters,
        )
        await sink.stop()

    run(story())


POINTS = [("after-commit", 60), ("before-mark", 1), ("before-mark", 60)]


@pytest.mark.parametrize(
    ("point", "nth"),
    full([*POINTS, *((point, nth) for point in ("after-commit", "before-mark") for nth in (20, 150, 400))], POINTS),
)
def test_f02_killed_between(place, point, nth):
    messages = full(2000, 400)

    async def story():
        sink = Sink()
        await sink.start()
        place.configure(destinations=[("out", sink.port, f"in_flight = {IN_FLIGHT}")], routes=("record", "out"))
        await place.start(VAGUEMESTRE_CRASH_AT=f"{point}:{nth}")
        load = Load("127.0.0.1", place.port, Traffic(run="C", patients=20), 8, messages // 8, resend=True)
        sending = asyncio.create_task(send(load))
        assert await place.ended() == -9, "the crash point was not reached"
        await place.start()
        sent = await sending
        assert len(sent.acked) == messages // 8 * 8
        verdict, _ = await _final(place, sent, sink)
        repeats = len(verdict.repeated)
        assert set(verdict.repeated.values()) <= {2}, "one kill, one repeat at most"
        assert repeats <= LANES_HELD
        if point == "before-mark":
            assert repeats >= 1, "a delivery that was sent and not marked must come again, under the same MSH-10"
        measured(f"F2 {point}:{nth}", acked=len(sent.acked), lost=0, repeats=repeats)
        await sink.stop()

    run(story())
