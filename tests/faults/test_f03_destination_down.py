"""F3: a destination is away for a long time, then comes back: nothing lost, in order, the others do not notice."""

from __future__ import annotations

import asyncio
import time

from fault_harness import check_ledger, free_port, full, measured, on_both_engines, run

from bench.sender import Load, Sent, send
from bench.sink import Sink
from bench.synthetic import Traffic
from bench.traffic import compare

QUEUED = full(120_000, 2_000)
NOISE_S = full(100, 600) / 1000  # other tests run beside the short numbers
RATE, FILL_RATE = 200, full(200, 800)
RETRY = "[destination.retry]\nbase_s = 0.5\nprobe_s = 0.5"


def _p99_s(sent: Sent, sink: Sink, since: int) -> float:
    """From the acknowledgement to the arrival at the other destination."""
    delays = sorted(
        max(0.0, got.at - sent.acked_at[got.control_id]) for got in sink.journal[since:] if got.control_id in sent.acked_at
    )
    return delays[int(len(delays) * 0.99)]


@on_both_engines
def test_f03_down_and_back(place, engine):
    async def story():
        up, down = Sink(), Sink()
        await up.start()
        down.port = free_port()
        place.configure(destinations=[("up", up.port, RETRY), ("down", down.port, RETRY)], routes=("up", "down"))
        await place.start()
        await down.start()
        journal = Sent()
        address = "127.0.0.1", place.port
        await send(Load(*address, Traffic(run="A", patients=50), 4, 100, rate=FILL_RATE), journal)
        await place.settled()
        before_s, rss_before = _p99_s(journal, up, 0), place.rss_kb()

        await down.stop()
        seen = len(up.journal)
        await send(Load(*address, Traffic(run="B", patients=500), 4, QUEUED // 4, rate=FILL_RATE, patience_s=900), journal)
        await asyncio.sleep(0.5)
        during_s, rss_during = _p99_s(journal, up, seen), place.rss_kb()
        assert len(up.journal) == len(journal.acked), "the other destination got everything meanwhile"
        assert place.value("SELECT count(*) FROM delivery WHERE destination = 'down' AND state = 'WAITING'") > QUEUED * 0.9
        assert during_s < max(2 * before_s, NOISE_S), (before_s, during_s)
        assert rss_during - rss_before < 100_000, (rss_before, rss_during)
        attempts = place.value(
            "SELECT coalesce(sum(attempts), 0) FROM delivery WHERE destination = 'down' AND state <> 'DELIVERED'"
        )
        assert attempts < 100, "an outage is asked about once an interval, not once a patient"

        began = time.monotonic()
        await down.start()
        still_coming = asyncio.create_task(send(Load(*address, Traffic(run="C", patients=50), 4, RATE // 4, rate=RATE), journal))
        while len(down.journal) < len(journal.acked) or not still_coming.done():
            assert time.monotonic() - began < full(900, 20), (len(down.journal), len(journal.acked))
            await asyncio.sleep(0.02)
        seconds = down.journal[-1].at - began
        await place.settled()
        drained = sum(got.at > began for got in down.journal) / seconds
        assert drained > 2 * RATE, drained
        assert (await place.stop())[0] == 0
        check_ledger(place, journal)
        for sink in (up, down):
            verdict = compare(journal.acked, journal.answers, [(got.control_id, got.patient) for got in sink.journal])
            assert verdict.is_clean and not verdict.repeated, verdict
        measured(
            f"F3 destination down, {engine}",
            queued=QUEUED,
            lost=0,
            drained_per_s=round(drained),
            other_p99_before_ms=round(before_s * 1e3, 1),
            other_p99_during_ms=round(during_s * 1e3, 1),
            rss_growth_mb=round((rss_during - rss_before) / 1024, 1),
        )

    run(story())
