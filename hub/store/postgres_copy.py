"""One PostgreSQL database as a side of a copy: rows go in and out by COPY, in binary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import Connection, sql
from sqlalchemy import BigInteger, Integer, LargeBinary, Table, Text

from hub.store.copy_side import BODIES, CopyRefused, Side
from hub.store.place import Place
from hub.store.port import Row, StoreUnavailable
from hub.store.postgres_connection import unavailable
from hub.store.postgres_refusal import explained

_TYPES = ((BigInteger, "int8"), (Integer, "int4"), (Text, "text"), (LargeBinary, "bytea"))  # a BigInteger is an Integer too
_SETTINGS = (
    "SET synchronous_commit = on",
    "SET lock_timeout = '10s'",
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
    "SET maintenance_work_mem = '64MB'",
)


class PostgresSide:
    """A PostgreSQL database inside one transaction."""

    holds_nul, arrival = False, "arrival"

    def __init__(self, place: Place, connection: Connection[Any]) -> None:
        self.name, self._connection = place.name, connection

    def living(self) -> int:
        return int(self._one("SELECT count(*) FROM member WHERE lease_until >= extract(epoch FROM clock_timestamp()) * 1000000"))

    def unrouted(self) -> int:
        return int(self._one("SELECT count(*) FROM message WHERE state = 'RECEIVED'"))

    def count(self, table: str) -> int:
        return int(self._one(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))))

    def rows(self, table: Table, columns: list[str], order: list[str]) -> Iterator[Row]:
        by = sql.SQL(", ").join(
            sql.SQL('{} COLLATE "C"' if isinstance(table.columns[one].type, Text) else "{}").format(sql.Identifier(one))
            for one in order
        )
        query = sql.SQL("SELECT {} FROM {} ORDER BY {}").format(_names(columns), sql.Identifier(table.name), by)
        return self._out(query, _types(table, columns), table.name)

    def bodies(self) -> Iterator[tuple[bytes, int]]:
        query = sql.SQL(BODIES)
        yield from self._out(query, ["bytea", "int8"], "message")

    def _out(self, query: sql.Composed | sql.SQL, types: list[str], what: str) -> Iterator[Row]:
        out_of = sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(query)
        with _told(self.name, what), self._connection.cursor() as cursor, cursor.copy(out_of) as copy:
            copy.set_types(types)
            yield from copy.rows()

    def load(self, table: Table, columns: list[str], rows: Iterable[Row]) -> None:
        into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table.name), _names(columns))
        with _told(self.name, table.name), self._connection.cursor() as cursor, cursor.copy(into) as copy:
            copy.set_types(_types(table, columns))
            for row in rows:
                copy.write_row(row)

    def commit(self) -> None:
        with _told(self.name, "commit"):
            self._connection.execute("COMMIT")
        with suppress(psycopg.Error):  # the server does it by itself, later
            self._connection.execute("ANALYZE")

    def _one(self, query: str | sql.Composed) -> Any:
        with _told(self.name, "count"):
            row = self._connection.execute(query).fetchone()
        assert row is not None
        return row[0]


@contextmanager
def opened(place: Place, *, write: bool) -> Iterator[Side]:
    """A transaction on a database, in which nobody joins its list of processes; rolled back unless it is committed."""
    try:  # without the short timeouts of a hub: a server that writes much may stand still for seconds
        connection = Connection.connect(
            place.conninfo, autocommit=True, application_name="vaguemestre db copy", connect_timeout=3
        )
    except psycopg.Error as error:
        raise explained(place, error) from None
    try:
        with _told(place.name, "begin"):
            for setting in _SETTINGS:
                connection.execute(setting)
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            connection.execute("LOCK TABLE member IN SHARE ROW EXCLUSIVE MODE")  # before the snapshot is taken
        yield PostgresSide(place, connection)
    finally:
        connection.close()  # rolls back what was not committed


def _names(columns: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _types(table: Table, columns: list[str]) -> list[str]:
    return [next(name for kind, name in _TYPES if isinstance(table.columns[one].type, kind)) for one in columns]


@contextmanager
def _told(name: str, what: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        gone = unavailable(error)
        if gone is not None:
            raise StoreUnavailable(f"{name}: {gone.sentence} ({what})") from None
        if error.sqlstate == "55P03":
            raise CopyRefused(f"somebody works on {name}: stop every process of the hub") from None
        raise CopyRefused(f"{name} does not take {what} ({error.sqlstate or type(error).__name__})") from None
