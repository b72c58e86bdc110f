"""F15: a soak at 300 messages a second with searches: memory, file handles and waiting times stay flat, dead rows are cleaned.

Full numbers only.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from fault_harness import FULL, Place, check_ledger, measured, on_both_engines, run

from bench.sender import Load, Sent, send
from bench.sink import Sink
from bench.synthetic import Traffic
from bench.traffic import compare

MINUTES = float(os.environ.get("VAGUEMESTRE_SOAK_MINUTES", "15"))
RATE = 300
WARM_UP = 1 / 3  # of the time
DEAD_ROWS_EACH = 10  # rows of a message, its deliveries and lanes that are written more than once
CLEANED_WITHIN_S = 180  # the server looks once a minute


@dataclass
class Sample:
    """One look at the hub. `queue_kb`: the write-ahead log of SQLite; on PostgreSQL what rows that live for seconds occupy."""

    at: float
    rss_kb: int
    handles: int
    queue_kb: int
    behind: int  # messages that are not done yet
    dead_rows: int = 0
    server_kb: int = 0  # memory of the hub's sessions on the server


# Lanes, and the indexes that hold open deliveries and messages only: they are as large as their dead rows let them grow.
_QUEUE = (
    "SELECT (pg_total_relation_size('lane') + pg_relation_size('delivery_open') + pg_relation_size('delivery_not_delivered') "
    "+ pg_relation_size('message_open') + pg_relation_size('message_unrouted')) / 1024"
)
_DEAD = "SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables WHERE relname IN ('lane', 'delivery', 'message')"
_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'vaguemestre%'"


@pytest.mark.skipif(not FULL, reason="a soak of minutes: VAGUEMESTRE_FAULTS=full")
@on_both_engines
def test_f15_soak(place, engine):
    messages = int(MINUTES * 60 * RATE) // 8

    async def story():
        sink = Sink()
        await sink.start()
        place.configure(destinations=[("out", sink.port, "")], routes=("record", "out"))
        await place.start(ready=True)
        token = place.token()
        journal = Sent()
        sending = asyncio.create_task(
            send(
                Load(
                    "127.0.0.1",
                    place.port,
                    Traffic("mix", run="S", patients=2_000, size=20_000),
                    8,
                    messages,
                    2,
                    rate=RATE,
                    patience_s=MINUTES * 60 + 120,
                ),
                journal,
            )
        )
        samples: list[Sample] = []
        slowest_page = 0.0
        began = time.monotonic()
        n = 0
        while not sending.done():
            await asyncio.sleep(2)
            n += 1
            paths = (
                "/api/v1/messages?limit=50",
                f"/api/v1/messages?control_id=SC3S{n * 50}",
                "/api/v1/messages?state=REFUSED",
                "/metrics",
            )
            asked = time.monotonic()
            status, _ = await place.get(paths[n % len(paths)], token)
            slowest_page = max(slowest_page, time.monotonic() - asked)
            assert status == 200
            samples.append(_look(place, time.monotonic() - began))
        await sending
        assert len(journal.acked) == messages * 8
        await place.settled(600)
        warm = [sample for sample in samples if sample.at > samples[-1].at * WARM_UP]
        early = [sample for sample in samples if sample.at <= samples[-1].at * WARM_UP]
        slope_mb_h = _slope([(sample.at, sample.rss_kb / 1024) for sample in warm]) * 3600
        first = sorted(journal.latencies[: len(journal.latencies) // 3])
        last = sorted(journal.latencies[-len(journal.latencies) // 3 :])
        p99_first, p99_last = first[int(len(first) * 0.99)], last[int(len(last) * 0.99)]
        handles = [sample.handles for sample in warm]
        queue_mb = max(sample.queue_kb for sample in samples) / 1024
        early_queue_mb = max(sample.queue_kb for sample in early) / 1024
        server_mb = [sample.server_kb // 1024 for sample in warm]
        assert (await place.stop(30))[0] == 0
        check_ledger(place, journal)
        verdict = compare(journal.acked, journal.answers, [(got.control_id, got.patient) for got in sink.journal])
        measured(
            f"F15 soak, {engine}",
            minutes=MINUTES,
            messages=len(journal.acked),
            rss_slope_mb_per_h=round(slope_mb_h, 1),
            rss_mb=f"{warm[0].rss_kb // 1024}-{warm[-1].rss_kb // 1024}",
            server_mb=f"{server_mb[0]}-{server_mb[-1]}",
            fds=f"{min(handles)}-{max(handles)}",
            p99_first_ms=round(p99_first * 1e3, 1),
            p99_last_ms=round(p99_last * 1e3, 1),
            queue_max_mb=f"{early_queue_mb:.1f} then {queue_mb:.1f}",
            behind=f"{max(sample.behind for sample in early)} then {max(sample.behind for sample in warm)}",
            dead_rows_max=max(sample.dead_rows for sample in samples),
            slowest_page_ms=round(slowest_page * 1e3),
            kb_per_message=round(_size_kb(place) / len(journal.acked), 1),
        )
        assert verdict.is_clean and not verdict.repeated
        assert max(handles) - min(handles) <= 10
        assert p99_last < max(2 * p99_first, 0.02)
        assert queue_mb < 200
        assert queue_mb < max(2 * early_queue_mb, 40), "what the queue occupies is used again"
        assert max(sample.dead_rows for sample in samples) < RATE * DEAD_ROWS_EACH * CLEANED_WITHIN_S
        assert server_mb[-1] - server_mb[0] < 20, server_mb
        assert slope_mb_h < 10 or warm[-1].rss_kb - warm[0].rss_kb < 3_000, f"{slope_mb_h:.1f} MB/h"
        await sink.stop()

    run(story())


def _look(place: Place, at: float) -> Sample:
    handles = len(os.listdir(f"/proc/{place.process.pid}/fd"))
    behind = place.value("SELECT count(*) FROM message WHERE state <> 'DONE' AND state IN ('RECEIVED', 'ROUTED')")
    if not place.url:
        wal = place.database.with_name("vaguemestre.db-wal").stat().st_size
        return Sample(at, place.rss_kb(), handles, wal // 1024, behind)
    sessions = sum(_anonymous_kb(pid) for (pid,) in place.rows(_SESSIONS))
    return Sample(at, place.rss_kb(), handles, place.value(_QUEUE), behind, place.value(_DEAD), sessions)


def _anonymous_kb(pid: int) -> int:
    """Memory of a process that is its own; 0 when it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1])
    return 0


def _size_kb(place: Place) -> float:
    if place.url:
        return place.value("SELECT pg_database_size(current_database())") / 1024
    return place.database.stat().st_size / 1024


def _slope(points: list[tuple[float, float]]) -> float:
    """Least squares."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
