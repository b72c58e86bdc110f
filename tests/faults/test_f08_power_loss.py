"""F8: power loss. Every write and sync of a hub is journaled in order; a disk is made as it may look after a cut at any moment:
all that was synced, and any part of what was not, sectors torn. Every message acknowledged before the cut must be on it.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sqlite3
import struct
from pathlib import Path

import pytest
from fault_harness import full, measured, run

from bench.sender import Load, Sent, send
from bench.synthetic import Traffic

SECTOR = 512


class Disk:
    """What is on the platter, and what only the kernel knows."""

    def __init__(self) -> None:
        self.synced: dict[str, bytearray] = {}
        self.pending: dict[str, list[tuple[int, bytes | None]]] = {}  # offset and data; data None: truncated to offset
        self.renames: list[tuple[str, str]] = []

    def take(self, kind: bytes, path: str, offset: int, length: int, data: bytes) -> None:
        if kind == b"W":
            self.pending.setdefault(path, []).append((offset, data))
        elif kind == b"T":
            self.pending.setdefault(path, []).append((length, None))
        elif kind == b"R":
            self.renames.append((path, data.decode()))
        elif kind == b"U":
            self.pending.pop(path, None)
            self.synced.pop(path, None)
        elif kind == b"S":
            self._sync(path)

    def _sync(self, path: str) -> None:
        for place, data in self.pending.pop(path, ()):
            _apply(self.synced.setdefault(path, bytearray()), place, data)
        for source, target in [rename for rename in self.renames if str(Path(rename[1]).parent) == path]:
            self.renames.remove((source, target))
            if source in self.synced:
                self.synced[target] = self.synced.pop(source)

    def after_a_cut(self, rng: random.Random) -> dict[str, bytes]:
        """Files as they may be found: unsynced writes and renames happened or not, a write may be torn."""
        found = {path: bytearray(content) for path, content in self.synced.items()}
        keep = rng.random()
        for path, writes in self.pending.items():
            for place, data in writes:
                if rng.random() > keep:
                    continue
                if data and rng.random() < 0.3:
                    data = data[: rng.randrange(0, len(data), SECTOR)]
                _apply(found.setdefault(path, bytearray()), place, data)
        for source, target in self.renames:
            if rng.random() < 0.5 and source in found:
                found[target] = found.pop(source)
        return {path: bytes(content) for path, content in found.items() if not path.endswith("-shm")}


def _apply(content: bytearray, place: int, data: bytes | None) -> None:
    if data is None:
        del content[place:]
        content.extend(bytes(max(0, place - len(content))))
        return
    content.extend(bytes(max(0, place + len(data) - len(content))))
    content[place : place + len(data)] = data


def _records(journal: Path):
    """Each record and the journal's length after it."""
    with journal.open("rb") as file:
        while len(head := file.read(21)) == 21:
            kind, path_length, offset, length = struct.unpack("<ciqq", head)
            path = file.read(path_length).decode()
            data = file.read(length) if kind in (b"W", b"R") else b""
            yield file.tell(), (kind, path, offset, length, data)


class Watching(Sent):
    """A sender's journal that notes how long the disk's journal was when each AA came."""

    def __init__(self, journal: Path) -> None:
        super().__init__()
        self.acked_at = _Noting(journal)


class _Noting(dict):
    def __init__(self, journal: Path) -> None:
        super().__init__()
        self.journal, self.length_at = journal, {}

    def setdefault(self, control_id, at):
        if control_id not in self:
            self.length_at[control_id] = os.stat(self.journal).st_size
        return super().setdefault(control_id, at)


@pytest.mark.parametrize(("kind", "messages", "size"), [("adt", full(20_000, 1_600), 0), ("mdm", full(600, 120), 300_000)])
def test_f08_power_loss(place, disk, kind, messages, size):
    journal = place.folder / "disk.journal"
    cuts, rng = full(300, 25), random.Random(8)

    async def traffic() -> Watching:
        place.configure()
        place.environment.update(LD_PRELOAD=str(disk), FAULT_DIR=str(place.data), FAULT_JOURNAL=str(journal))
        await place.start()
        sent = Watching(journal)
        await send(Load("127.0.0.1", place.port, Traffic(kind, run="P", patients=50, size=size), 8, messages // 8, 2), sent)
        await place.settled(60)
        place.kill()
        return sent

    sent = run(traffic())
    acked = sorted((length, one) for one, length in sent.acked_at.length_at.items())
    assert len(acked) == messages // 8 * 8
    begin, end = acked[0][0], journal.stat().st_size
    moments = sorted(rng.randrange(begin, end) for _ in range(cuts))
    model, checked, starts = Disk(), 0, 0
    for length, record in _records(journal):
        while moments and moments[0] < length:
            moment = moments.pop(0)
            due = [one for at, one in acked if at <= moment]
            _open_copy(place.folder / "copy", place.data, model.after_a_cut(rng), due)
            checked += 1
        model.take(*record)
        starts += length > begin and record[0] == b"W" and record[1].endswith("-wal") and record[2] == 0
    assert checked == cuts
    if kind == "adt":
        assert starts >= 1, "the WAL never began again, so that old frames never lay behind new ones"
    measured(f"F8 power loss, {kind}", messages=len(acked), cuts=checked, wal_starts=starts, lost=0)


def _open_copy(copy: Path, data: Path, files: dict[str, bytes], due: list[str]) -> None:
    """Put the files down and look for every message that was acknowledged."""
    shutil.rmtree(copy, ignore_errors=True)
    for path, content in files.items():
        target = copy / Path(path).relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    connection = sqlite3.connect(copy / "vaguemestre.db")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        kept = {
            row[0]: row[1:]
            for row in connection.execute(
                "SELECT m.control_id, m.sha256, m.in_file, b.bytes FROM message m LEFT JOIN body b ON b.message_id = m.id"
            )
        }
    finally:
        connection.close()
    missing = [one for one in due if one not in kept]
    assert not missing, f"acknowledged before the cut and gone: {len(missing)} of {len(due)}, {missing[:5]}"
    for one in due:
        digest, in_file, body = kept[one]
        if in_file:
            body = (copy / "blobs" / digest.hex()[0] / digest.hex()).read_bytes()
        assert hashlib.sha256(body).digest() == digest, one
