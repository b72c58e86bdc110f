"""F11: SIGTERM under load: it stops accepting, ends what is in flight, exits 0; after the restart nothing comes twice."""

from __future__ import annotations

import asyncio

import pytest
from fault_harness import check_ledger, check_record, full, measured, run

from bench.sender import Load, Sent, send
from bench.sink import Sink
from bench.synthetic import Traffic
from bench.traffic import compare


@pytest.mark.parametrize("delay_s", full([0.0, 0.2, 1.0], [0.0, 0.8]))
def test_f11_sigterm_under_load(place, delay_s):
    rounds = full(10, 1)

    async def story():
        sink = Sink(delay_s=delay_s)
        await sink.start()
        place.configure(destinations=[("out", sink.port, "in_flight = 64")], routes=("record", "out"))
        await place.start()
        journal, slowest = Sent(), 0.0
        messages = full(4000, 240)
        load = Load(
            "127.0.0.1", place.port, Traffic(run="T", patients=100), 8, messages // 8, 4, messages / (rounds * 1.5), resend=True
        )
        sending = asyncio.create_task(send(load, journal))
        for _ in range(rounds):
            await asyncio.sleep(1.0)
            code, took = await place.stop()
            assert code == 0
            slowest = max(slowest, took)
            assert place.rows("SELECT state, count(*) FROM delivery WHERE state = 'SENDING' GROUP BY 1") == []
            await place.start()
        await sending
        assert len(journal.acked) == messages // 8 * 8
        await place.settled(60)
        assert (await place.stop())[0] == 0
        check_ledger(place, journal)
        check_record(place)
        verdict = compare(journal.acked, journal.answers, [(got.control_id, got.patient) for got in sink.journal])
        assert verdict.is_clean and not verdict.repeated, verdict
        assert slowest < 5 + delay_s, slowest
        assert "Traceback" not in place.log.read_text()
        measured(f"F11 SIGTERM, receiver {delay_s} s", rounds=rounds, slowest_s=round(slowest, 2), repeats=0, lost=0)
        await sink.stop()

    run(story())


def test_f11_a_receiver_that_never_answers_does_not_hold_the_exit(place):
    async def story():
        sink = Sink(lambda _n, _id: "mute")
        await sink.start()
        place.configure(destinations=[("out", sink.port, "")], routes=("out",))
        await place.start(ready=True)
        sent = await send(Load("127.0.0.1", place.port, Traffic(run="M", patients=50), 4, 25))
        assert len(sent.acked) == 100
        await asyncio.sleep(0.2)
        code, took = await place.stop()
        assert (code, took < 10) == (0, True), took
        await sink.stop()
        sink.behaviour = None
        sink.journal.clear()
        await sink.start()
        await place.start()
        await place.settled()
        assert set(sink.ids) == set(sent.acked)
        assert (await place.stop())[0] == 0
        check_ledger(place, sent)
        await sink.stop()

    run(story())
