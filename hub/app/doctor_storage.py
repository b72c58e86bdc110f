"""Doctor: the data folder, its disk, and the database."""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hub.app.config import Installation
from hub.app.doctor_verdicts import OK, WARNING, WRONG, Verdict
from hub.store.upgrade import HEAD, version_of

MIN_FREE_BYTES, MIN_FREE_PART = 5 << 30, 0.10
SYNCS = 20
SLOW_SYNC_MS, NO_SYNC_MS = 20.0, 0.01
LARGE_WAL_BYTES = 256 << 20
QUICK_CHECK_S = 5.0


def folders(installation: Installation, hub_pid: int | None) -> Iterator[Verdict]:
    """The data folder is there, ours to write, and nobody else's to read."""
    for name, folder in _folders(installation):
        if not folder.exists():
            above = _existing(folder)
            if os.access(above, os.W_OK):
                yield Verdict(name, WARNING, f"{folder} does not exist yet", "run or db upgrade makes it")
            else:
                yield Verdict(
                    name,
                    WARNING,
                    f"{folder} does not exist, and this user cannot make it in {above}",
                    "mkdir it, owned by the user of the hub; a systemd unit's StateDirectory does so",
                )
            continue
        if not folder.is_dir():
            yield Verdict(name, WRONG, f"{folder} is not a folder", "name another in the configuration")
        elif not os.access(folder, os.W_OK | os.X_OK):
            yield Verdict(
                name, WRONG, f"{folder} cannot be written by this user", "run as the user of the hub, or chown it to that user"
            )
        elif folder.stat().st_mode & 0o007:
            yield Verdict(name, WRONG, f"{folder} is open to every user of this machine", f"chmod o= {folder}")
        else:
            yield Verdict(name, OK, str(folder))


def _folders(installation: Installation) -> list[tuple[str, Path]]:
    found = [("data folder", installation.data_dir)]
    if installation.database.parent != installation.data_dir:
        found.append(("database folder", installation.database.parent))
    return found


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def disk(installation: Installation, hub_pid: int | None) -> Iterator[Verdict]:
    """Free space where the data is."""
    usage = shutil.disk_usage(_existing(installation.data_dir))
    part = usage.free / usage.total
    says = f"{usage.free / (1 << 30):.1f} GB free ({part:.0%})"
    if usage.free < MIN_FREE_BYTES or part < MIN_FREE_PART:
        yield Verdict("free disk", WARNING, says, "make room: with a full disk every message is answered AR")
    else:
        yield Verdict("free disk", OK, says)


def sync_time(installation: Installation, hub_pid: int | None) -> Iterator[Verdict]:
    """How long this disk takes to make a write durable: every acknowledgement waits for one."""
    if not installation.data_dir.is_dir() or not os.access(installation.data_dir, os.W_OK):
        return
    times = []
    with tempfile.TemporaryFile(dir=installation.data_dir) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    p50 = statistics.median(times)
    says = f"fdatasync takes {p50:.2f} ms (median of {SYNCS}, slowest {max(times):.2f} ms)"
    if p50 > SLOW_SYNC_MS:
        yield Verdict("disk sync", WARNING, says, "a slow disk slows every acknowledgement: use a local SSD")
    elif p50 < NO_SYNC_MS:
        yield Verdict("disk sync", WARNING, f"{says}: nothing reaches a disk that fast", "data_dir on a real disk, not in memory")
    else:
        yield Verdict("disk sync", OK, says)


def database(installation: Installation, hub_pid: int | None) -> Iterator[Verdict]:
    """Schema, integrity, size of the write-ahead log."""
    path = installation.database
    if not path.exists():
        yield Verdict("database", WARNING, f"{path} does not exist yet", "run or db upgrade makes it")
        return
    try:
        version = version_of(path)
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            yield _schema(version)
            yield _integrity(connection, path)
        finally:
            connection.close()
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", None) or type(error).__name__
        yield Verdict(
            "database", WRONG, f"{path} cannot be read ({code})", "run as the user of the hub; if it is damaged, restore a copy"
        )
        return
    wal = path.with_name(f"{path.name}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    if size > LARGE_WAL_BYTES:
        yield Verdict(
            "write-ahead log",
            WARNING,
            f"{size >> 20} MB",
            "something reads the database without end (a backup, sqlite3 left open): end it",
        )
    else:
        yield Verdict("write-ahead log", OK, f"{size >> 20} MB")


def _schema(version: str) -> Verdict:
    if version == HEAD:
        return Verdict("schema", OK, version)
    if version > HEAD:
        return Verdict("schema", WRONG, f"{version} is newer than this version's {HEAD}", "install the newer version again")
    return Verdict(
        "schema",
        WRONG,
        f"{version or 'none'}, this version needs {HEAD}",
        "stop the hub, copy the database, vaguemestre db upgrade",
    )


def _integrity(connection: sqlite3.Connection, path: Path) -> Verdict:
    """`PRAGMA quick_check`, as far as it comes in its time."""
    until = time.monotonic() + QUICK_CHECK_S
    connection.set_progress_handler(lambda: time.monotonic() > until, 50_000)
    try:
        row = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            return Verdict(
                "integrity", OK, f"nothing found in {QUICK_CHECK_S:.0f} s; the database is too large to check it whole here"
            )
        raise
    finally:
        connection.set_progress_handler(None, 0)
    if row is None or row[0] != "ok":
        return Verdict(
            "integrity", WRONG, f"{path} is damaged", "stop the hub, keep a copy of the folder, restore the last good copy"
        )
    return Verdict("integrity", OK, f"{path.stat().st_size >> 20} MB, whole")
