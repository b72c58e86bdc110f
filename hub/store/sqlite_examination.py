"""What ails a SQLite database: schema, integrity, size of the write-ahead log."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from hub.store.place import Place
from hub.store.upgrade import version_of
from hub.store.verdicts import OK, WARNING, WRONG, Verdict, schema_verdict

LARGE_WAL_BYTES = 256 << 20
QUICK_CHECK_S = 5.0


def examined(place: Place, path: Path) -> Iterator[Verdict]:
    """Schema, integrity, size of the write-ahead log."""
    if not path.exists():
        yield Verdict("database", WARNING, f"{path} does not exist yet", "run or db upgrade makes it")
        return
    try:
        version = version_of(place)
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            yield schema_verdict(version)
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
