"""F6: the disk is full, or does not take writes: AR or no answer, never AA; the hub stays, tells it, and goes on by itself."""

from __future__ import annotations

import asyncio
import subprocess
import time
from contextlib import contextmanager

from fault_harness import check_ledger, check_record, full, measured, needs_root, on_disk, run

from bench.sender import Load, Sent, send
from bench.sink import Sink
from bench.synthetic import Traffic
from bench.traffic import compare


@contextmanager
def small_disk(folder, size_mb):
    needs_root()
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        import pytest

        pytest.skip("a small file system of its own: mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _fill(file) -> None:
    with file.open("ab", buffering=0) as out:
        try:
            while True:
                out.write(bytes(4096))
        except OSError:
            return


async def _until(condition, seconds, what):
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < seconds, what
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def _refuses_then_resumes(place, sink, stop_writes, let_write):
    """Traffic with resend; writes stop in the middle of it, for a while; the journals and what was measured."""
    messages = full(4000, 800)
    await place.start(ready=True)
    journal = Sent()
    load = Load(
        "127.0.0.1", place.port, Traffic(run="F", patients=25), 8, messages // 8, rate=full(300, 400), resend=True, patience_s=90
    )
    sending = asyncio.create_task(send(load, journal))
    await asyncio.sleep(0.5)
    stop_writes()
    began = time.monotonic()

    async def refused():
        return journal.codes["AR"] > 0

    await _until(refused, 5, "no message was refused")
    refused_s = time.monotonic() - began
    acked = len(journal.acked)

    async def not_ready():
        return (await place.get("/readyz"))[0] == 503

    alert_s = await _until(not_ready, 5, "/readyz stays well")
    assert (await place.get("/healthz"))[0] == 200
    assert any(event["event"] == "store.unavailable" and event["level"] == "error" for event in place.events())
    await asyncio.sleep(full(10, 1))
    assert place.alive
    silent = len(journal.acked)
    let_write()
    resumed_s = await _until(lambda: asyncio.sleep(0, len(journal.acked) > silent + 10), 8, "it did not resume by itself")
    await sending
    assert len(journal.acked) == messages // 8 * 8

    async def ready():
        return (await place.get("/readyz"))[0] == 200

    await _until(ready, 8, "/readyz stays 503")
    await place.settled(30)
    assert (await place.stop())[0] == 0
    check_ledger(place, journal)
    check_record(place)
    verdict = compare(journal.acked, journal.answers, [(got.control_id, got.patient) for got in sink.journal])
    assert verdict.is_clean and not verdict.repeated, verdict
    assert sum(event["event"] == "store.available" for event in place.events()) >= 1
    return {
        "refused_after_s": round(refused_s, 2),
        "alert_after_s": round(alert_s, 2),
        "resumed_after_s": round(resumed_s, 2),
        "AR": journal.codes["AR"],
        "acked_while_full": silent - acked,
        "lost": 0,
    }


def test_f06_disk_full(place):
    async def story():
        with small_disk(place.folder / "small", 48) as disk:
            filler = disk / "filler"
            sink = Sink()
            await sink.start()
            place.configure(destinations=[("out", sink.port, "")], routes=("record", "out"), data=disk / "data")
            figures = await _refuses_then_resumes(place, sink, lambda: _fill(filler), filler.unlink)
            await sink.stop()
        measured("F6 disk full", **figures)

    run(story())


def test_f06_writes_refused(place, disk):
    """As a file system does that became read-only, or ran out of quota, under an open database."""
    trigger = on_disk(place, disk)

    async def story():
        sink = Sink()
        await sink.start()
        place.configure(destinations=[("out", sink.port, "")], routes=("record", "out"))
        figures = await _refuses_then_resumes(place, sink, lambda: trigger.write_text("write 30"), trigger.unlink)
        await sink.stop()
        measured("F6 read-only", **figures)

    run(story())


def test_f06_large_messages_on_a_full_disk(place):
    async def story():
        with small_disk(place.folder / "small", 24) as disk:
            filler = disk / "filler"
            place.configure(data=disk / "data")
            await place.start()
            large = Traffic("mdm", run="L", patients=5, size=300_000)
            load = Load("127.0.0.1", place.port, large, 2, 5, resend=True, patience_s=30)
            _fill(filler)
            journal = Sent()
            sending = asyncio.create_task(send(load, journal))
            await _until(lambda: asyncio.sleep(0, journal.codes["AR"] >= 4), 10, "no message was refused")
            assert not journal.acked
            assert place.alive
            filler.unlink()
            await sending
            assert len(journal.acked) == 10
            await place.settled(10)
            assert (await place.stop())[0] == 0
            check_ledger(place, journal)
            assert list((place.data / "blobs" / "parts").iterdir()) == []

    run(story())


def test_f06_a_full_disk_at_start_and_at_the_end(place):
    """It says why it cannot start; it can still be stopped."""

    async def story():
        with small_disk(place.folder / "small", 16) as disk:
            place.configure(data=disk / "data")
            filler = disk / "filler"
            await place.start()
            await send(Load("127.0.0.1", place.port, Traffic(run="A", patients=5), 2, 50))
            _fill(filler)
            assert (await place.stop())[0] == 0
            (place.data / "lock").unlink()
            filler.open("ab").close()
            _fill(filler)
            process = place.spawn()
            code = await asyncio.to_thread(process.wait, 20)
            assert code == 1, place.log.read_text()
            assert place.unstructured() and "Traceback" not in place.log.read_text(), place.log.read_text()
            filler.unlink()
            await place.start()
            await place.settled(10)
            assert (await place.stop())[0] == 0
            check_ledger(place)

    run(story())
