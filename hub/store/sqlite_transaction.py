"""Portable SQL on a SQLite connection, with few and large statements: each statement costs two thread switches."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

from hub.store.blobs import Blobs
from hub.store.port import Row

_ROWS = 32  # in one statement; each number of rows is a statement of its own that stays prepared


@cache
def _insert_sql(table: str, columns: tuple[str, ...], n: int, suffix: str) -> str:
    marks = "(" + ",".join("?" * len(columns)) + ")"
    names = ",".join(f'"{column}"' for column in columns)
    return f"INSERT INTO {table} ({names}) VALUES {','.join([marks] * n)} {suffix}"  # noqa: S608 - names of our schema


@cache
def _update_sql(table: str, key: str, columns: tuple[str, ...], n: int) -> str:
    names = ",".join(("k", *(f"c{i}" for i in range(len(columns)))))
    marks = "(" + ",".join("?" * (len(columns) + 1)) + ")"
    sets = ",".join(f"{column}=v.c{i}" for i, column in enumerate(columns))
    return (
        f"WITH v({names}) AS (VALUES {','.join([marks] * n)}) "  # noqa: S608 - names of our schema
        f"UPDATE {table} SET {sets} FROM v WHERE {table}.{key}=v.k"
    )


@cache
def _in_sql(sql: str, n: int) -> str:
    return sql.replace("{keys}", ",".join("?" * n))


@cache
def _values_sql(sql: str, n: int, width: int) -> str:
    return sql.replace("{values}", ",".join(["(" + ",".join("?" * width) + ")"] * n))


class SqliteTransaction:
    """`hub.store.Transaction` on one connection; says nothing of begin and commit."""

    arrival = "id"
    locked = skip_locked = ""
    __slots__ = ("_blobs", "_execute", "_executemany")

    def __init__(self, connection: sqlite3.Connection, blobs: Blobs) -> None:
        self._execute, self._executemany = connection.execute, connection.executemany
        self._blobs = blobs

    def exclusive(self, name: str) -> None:
        """There is one writer."""

    def end_sessions(self, names: Sequence[str]) -> None:
        """There is no server."""

    def rows(self, sql: str, *values: Any) -> list[Row]:
        return self._execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> Row | None:
        found: Row | None = self._execute(sql, values).fetchone()
        return found

    def rows_in(self, sql: str, keys: Sequence[Any], *values: Any) -> list[Row]:
        found: list[Row] = []
        for part in _keys(keys):
            found += self._execute(_in_sql(sql, len(part)), (*values, *part)).fetchall()
        return found

    def run_in(self, sql: str, keys: Sequence[Any]) -> None:
        for part in _keys(keys):
            self._execute(_in_sql(sql, len(part)), part)

    def rows_values(self, sql: str, rows: Sequence[Sequence[Any]]) -> list[Row]:
        found: list[Row] = []
        for part in _parts(rows):
            found += self._execute(_values_sql(sql, len(part), len(part[0])), tuple(chain.from_iterable(part))).fetchall()
        return found

    def run(self, sql: str, *values: Any) -> None:
        self._execute(sql, values)

    def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            self._executemany(sql, rows)

    def insert(
        self,
        table: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        suffix: str = "",
        suffix_values: Sequence[Any] = (),
    ) -> list[Row]:
        columns, returned = tuple(columns), list[Row]()
        for part in _parts(rows):
            done = self._execute(_insert_sql(table, columns, len(part), suffix), (*chain.from_iterable(part), *suffix_values))
            if suffix:
                returned += done.fetchall()
        return returned

    def update(self, table: str, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        columns = tuple(columns)
        for part in _parts(rows):
            self._execute(_update_sql(table, key, columns, len(part)), tuple(chain.from_iterable(part)))

    def blob(self, sha256: bytes) -> bytes:
        return self._blobs.read(sha256)


def _keys(keys: Sequence[Any]) -> list[list[Any]]:
    """Keys in lists whose lengths are powers of two, so that few statements are prepared; the last key is repeated."""
    parts = []
    for start in range(0, len(keys), 256):
        part = list(keys[start : start + 256])
        parts.append(part + part[-1:] * ((1 << (len(part) - 1).bit_length()) - len(part)))
    return parts


def _parts(rows: Sequence[Sequence[Any]]) -> list[Sequence[Sequence[Any]]]:
    return [rows[at : at + _ROWS] for at in range(0, len(rows), _ROWS)]
