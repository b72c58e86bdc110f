"""F7: the disk says that it could not keep what was written: nothing is acknowledged any more, the process ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time

import pytest
from fault_harness import check_ledger, check_record, full, measured, on_disk, run

from bench.sender import Load, Sent, send
from bench.synthetic import Traffic
from hub.store.blobs import BlobFolder, SyncFailed

IN_HAND_S = 0.3  # a group whose sync had begun before, and its answers on their way


@pytest.mark.parametrize("kind", ["adt", "mdm"])
def test_f07_failed_sync_stops_acknowledging(place, disk, kind):
    trigger = on_disk(place, disk)
    rng = random.Random(7)
    messages = full(2000, 400) if kind == "adt" else full(200, 60)

    async def story():
        place.configure()
        await place.start()
        journal = Sent()
        traffic = Traffic(kind, run="F", patients=20, size=3_000 if kind == "adt" else 300_000)
        sending = asyncio.create_task(send(Load("127.0.0.1", place.port, traffic, 8, messages // 8, resend=True), journal))
        codes = []
        for _ in range(full(10, 2)):
            await asyncio.sleep(rng.uniform(0.1, 0.4))
            trigger.write_text("sync 5")
            failing = time.monotonic()
            if sending.done():
                break
            codes.append(await place.ended())
            late = [one for one, at in journal.acked_at.items() if at > failing + IN_HAND_S]
            assert not late, f"acknowledged after the disk failed: {late[:5]}"
            assert any(event["event"] == "store.broken" for event in place.events())
            trigger.unlink()
            await place.start()
        await sending
        assert codes and set(codes) == {1}
        assert len(journal.acked) == messages // 8 * 8
        await place.settled()
        assert (await place.stop())[0] == 0
        check_ledger(place, journal)
        if kind == "adt":
            check_record(place)
        assert "Traceback" not in place.log.read_text()
        measured(f"F7 failed sync, {kind}", failures=len(codes), acked=len(journal.acked), lost=0, AR=journal.codes["AR"])

    run(story())


def test_f07_a_folder_that_cannot_be_synced_is_not_forgotten(tmp_path, monkeypatch):
    """Two large bodies share a folder; the first group's sync fails: the second group may not pass without one."""
    folder = BlobFolder(tmp_path / "blobs")
    content = b"body"
    folder.write(hashlib.sha256(content).digest(), content)

    def fails(_fd):
        raise OSError(5, "I/O error")

    monkeypatch.setattr(os, "fsync", fails)
    for _ in range(2):
        with pytest.raises(SyncFailed):
            folder.sync_folders()
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    folder.sync_folders()
    folder.sync_folders()
    assert len(synced) == 1
