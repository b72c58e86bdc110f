"""One SQLite file as a side of a copy. The caller holds the lock of its data folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Table

from hub.store.copy_side import BODIES, CopyRefused, Side
from hub.store.port import Row, StoreUnavailable
from hub.store.sqlite import connect


class SqliteSide:
    """A SQLite file inside one transaction."""

    holds_nul, arrival = True, "id"

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.name, self._connection = str(path), connection

    def living(self) -> int:
        return 0

    def unrouted(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM message WHERE state = 'RECEIVED'").fetchone()[0])

    def count(self, table: str) -> int:
        return int(self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - a name of our schema

    def rows(self, table: Table, columns: list[str], order: list[str]) -> Iterator[Row]:
        with _told(self.name, table.name):
            yield from self._connection.execute(f"SELECT {_names(columns)} FROM {table.name} ORDER BY {_names(order)}")  # noqa: S608

    def bodies(self) -> Iterator[tuple[bytes, int]]:
        with _told(self.name, "message"):
            yield from self._connection.execute(BODIES)

    def load(self, table: Table, columns: list[str], rows: Iterable[Row]) -> None:
        marks = ", ".join("?" * len(columns))
        with _told(self.name, table.name):
            self._connection.executemany(f"INSERT INTO {table.name} ({_names(columns)}) VALUES ({marks})", rows)  # noqa: S608

    def commit(self) -> None:
        with _told(self.name, "commit"):
            self._connection.execute("COMMIT")


@contextmanager
def opened(path: Path, *, write: bool) -> Iterator[Side]:
    """A transaction on a file; rolled back unless it is committed."""
    with _told(str(path), "begin"):
        connection = connect(path, read_only=not write, cache_kb=65_536)
    try:
        with _told(str(path), "begin"):
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        yield SqliteSide(path, connection)
    finally:
        connection.close()  # rolls back what was not committed


def _names(columns: list[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


@contextmanager
def _told(name: str, what: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as error:
        raise CopyRefused(f"{name} does not take a row of {what} ({type(error).__name__})") from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", None) or type(error).__name__
        raise StoreUnavailable(f"{name} cannot be used ({code}, {what})") from None
