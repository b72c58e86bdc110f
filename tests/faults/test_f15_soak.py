"""F15: a soak at 300 messages a second with searches: memory, file handles and waiting times stay flat. Full numbers only."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import pytest
from fault_harness import FULL, ROOT, check_ledger, measured, run

from bench.sender import Load, Sent, send
from bench.sink import Sink
from bench.synthetic import Traffic
from bench.traffic import compare

MINUTES = float(os.environ.get("VAGUEMESTRE_SOAK_MINUTES", "15"))
RATE = 300
WARM_UP = 1 / 3  # of the time


@pytest.mark.skipif(not FULL, reason="a soak of minutes: VAGUEMESTRE_FAULTS=full")
def test_f15_soak(place):
    messages = int(MINUTES * 60 * RATE) // 8

    async def story():
        sink = Sink()
        await sink.start()
        place.configure(destinations=[("out", sink.port, "")], routes=("record", "out"))
        await place.start(ready=True)
        token = subprocess.run(
            [sys.executable, "-m", "hub.app.cli", "token", "create", "-c", place.config, "--name", "soak", "--role", "operator"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ).stdout.split()[-1]
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
        samples: list[tuple[float, int, int, int]] = []
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
            samples.append(
                (
                    time.monotonic() - began,
                    place.rss_kb(),
                    len(os.listdir(f"/proc/{place.process.pid}/fd")),
                    place.database.with_name("vaguemestre.db-wal").stat().st_size,
                )
            )
        await sending
        assert len(journal.acked) == messages * 8
        await place.settled(60)
        warm = [sample for sample in samples if sample[0] > samples[-1][0] * WARM_UP]
        slope_mb_h = _slope([(at, rss / 1024) for at, rss, _, _ in warm]) * 3600
        first = sorted(journal.latencies[: len(journal.latencies) // 3])
        last = sorted(journal.latencies[-len(journal.latencies) // 3 :])
        p99_first, p99_last = first[int(len(first) * 0.99)], last[int(len(last) * 0.99)]
        handles = [sample[2] for sample in warm]
        wal_mb = max(sample[3] for sample in samples) / (1 << 20)
        assert (await place.stop(30))[0] == 0
        check_ledger(place, journal)
        verdict = compare(journal.acked, journal.answers, [(got.control_id, got.patient) for got in sink.journal])
        kb_each = place.database.stat().st_size / 1024 / len(journal.acked)
        measured(
            "F15 soak",
            minutes=MINUTES,
            messages=len(journal.acked),
            rss_slope_mb_per_h=round(slope_mb_h, 1),
            rss_mb=warm[-1][1] // 1024,
            fds=f"{min(handles)}-{max(handles)}",
            p99_first_ms=round(p99_first * 1e3, 1),
            p99_last_ms=round(p99_last * 1e3, 1),
            wal_max_mb=round(wal_mb, 1),
            slowest_page_ms=round(slowest_page * 1e3),
            kb_per_message=round(kb_each, 1),
        )
        assert verdict.is_clean and not verdict.repeated
        assert max(handles) - min(handles) <= 10
        assert p99_last < max(2 * p99_first, 0.02)
        assert wal_mb < 200
        assert slope_mb_h < 10 or warm[-1][1] - warm[0][1] < 3_000, f"{slope_mb_h:.1f} MB/h"
        await sink.stop()

    run(story())


def _slope(points: list[tuple[float, float]]) -> float:
    """Least squares."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
