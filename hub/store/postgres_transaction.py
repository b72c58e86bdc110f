"""Portable SQL on a PostgreSQL connection in pipeline mode: only what must be read back waits for the server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from itertools import chain
from typing import Any

from psycopg import Connection
from psycopg.types.numeric import Int8Dumper

from hub.store.blobs import Blobs
from hub.store.port import Row

_SIZES = (64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)  # rows in one statement: few sizes, so that few statements are prepared
_TYPES = {int: "bigint", str: "text", bytes: "bytea"}


class AnyInt(Int8Dumper):
    """An integer whose type the server infers: one prepared statement also where a value may be NULL."""

    oid = 0


@cache
def dollars(sql: str) -> str:
    """`?` → `$1`, `$2` …; `IN ({keys})` → `= ANY($n)` with n the last."""
    parts = sql.replace("IN ({keys})", "= ANY(?)").split("?")
    return parts[0] + "".join(f"${n}{part}" for n, part in enumerate(parts[1:], 1))


def _marks(rows: int, columns: int, casts: Sequence[str] = ()) -> str:
    """`($1,$2),($3,$4)`; the first row with casts."""
    lines = []
    for row in range(rows):
        at = row * columns
        lines.append("(" + ",".join(f"${at + n + 1}{casts[n] if casts and not row else ''}" for n in range(columns)) + ")")
    return ",".join(lines)


@cache
def _insert_sql(table: str, columns: tuple[str, ...], n: int, suffix: str) -> str:
    names = ",".join(f'"{column}"' for column in columns)
    first, *rest = suffix.split("?")
    tail = first + "".join(f"${n * len(columns) + at}{part}" for at, part in enumerate(rest, 1))
    return f"INSERT INTO {table} ({names}) VALUES {_marks(n, len(columns))} {tail}"  # noqa: S608 - names of our schema


@cache
def _types_of(table: str) -> dict[str, str]:
    from sqlalchemy.dialects import postgresql

    from hub.store.schema import metadata

    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return {column.name: column.type.compile(dialect) for column in metadata.tables[table].columns}


@cache
def _update_sql(table: str, key: str, columns: tuple[str, ...], n: int) -> str:
    types = _types_of(table)
    names = ",".join(("k", *(f"c{i}" for i in range(len(columns)))))
    casts = [f"::{types[column]}" for column in (key, *columns)]
    sets = ",".join(f"{column}=v.c{i}" for i, column in enumerate(columns))
    return (
        f"WITH v({names}) AS (VALUES {_marks(n, len(columns) + 1, casts)}) "  # noqa: S608 - names of our schema
        f"UPDATE {table} SET {sets} FROM v WHERE {table}.{key}=v.k"
    )


@cache
def _values_sql(sql: str, n: int, casts: tuple[str, ...]) -> str:
    return re.sub(r"\{values\}", lambda _: _marks(n, len(casts), casts), sql)


class PostgresTransaction:
    """`hub.store.Transaction` on one connection; says nothing of begin and commit."""

    arrival = "arrival"
    locked, skip_locked = " FOR UPDATE", " FOR UPDATE SKIP LOCKED"
    __slots__ = ("_blobs", "_connection")

    def __init__(self, connection: Connection[Any], blobs: Blobs) -> None:
        self._connection, self._blobs = connection, blobs

    def _run(self, sql: str, values: Sequence[Any]) -> Any:
        return self._connection.execute(sql, values, binary=True)

    def exclusive(self, name: str) -> None:
        self._run("SELECT pg_advisory_xact_lock($1)", (int.from_bytes(blake2b(name.encode(), digest_size=7).digest(), "big"),))

    def end_sessions(self, names: Sequence[str]) -> None:
        self._run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ANY($1) "
            "AND datname = current_database() AND pid <> pg_backend_pid()",  # a restored copy names the processes of the original
            (list(names),),
        )

    def rows(self, sql: str, *values: Any) -> list[Row]:
        found: list[Row] = self._run(dollars(sql), values).fetchall()
        return found

    def row(self, sql: str, *values: Any) -> Row | None:
        found: Row | None = self._run(dollars(sql), values).fetchone()
        return found

    def rows_in(self, sql: str, keys: Sequence[Any], *values: Any) -> list[Row]:
        if not keys:
            return []
        found: list[Row] = self._run(dollars(sql), (*values, list(keys))).fetchall()
        return found

    def run_in(self, sql: str, keys: Sequence[Any]) -> None:
        if keys:
            self._run(dollars(sql), (list(keys),))

    def rows_values(self, sql: str, rows: Sequence[Sequence[Any]]) -> list[Row]:
        waiting = []
        for part in _parts(rows):
            casts = tuple(f"::{_type(part, column)}" for column in range(len(part[0])))
            waiting.append(self._run(_values_sql(sql, len(part), casts), tuple(chain.from_iterable(part))))
        return [row for one in waiting for row in one.fetchall()]

    def run(self, sql: str, *values: Any) -> None:
        self._run(dollars(sql), values)

    def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        text = dollars(sql)
        for row in rows:
            self._run(text, row)

    def insert(
        self,
        table: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        suffix: str = "",
        suffix_values: Sequence[Any] = (),
    ) -> list[Row]:
        columns = tuple(columns)
        waiting = [
            self._run(_insert_sql(table, columns, len(part), suffix), (*chain.from_iterable(part), *suffix_values))
            for part in _parts(rows)
        ]
        return [row for one in waiting for row in one.fetchall()] if "RETURNING" in suffix else []

    def update(self, table: str, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        columns = tuple(columns)
        for part in _padded(rows):
            self._run(_update_sql(table, key, columns, len(part)), tuple(chain.from_iterable(part)))

    def blob(self, sha256: bytes) -> bytes:
        return self._blobs.read(sha256)


def _type(rows: Sequence[Sequence[Any]], column: int) -> str:
    return next((_TYPES[type(row[column])] for row in rows if row[column] is not None), "text")


def _parts(rows: Sequence[Sequence[Any]]) -> list[Sequence[Sequence[Any]]]:
    """Rows in as few parts of the sizes above as possible."""
    parts, at = [], 0
    while at < len(rows):
        size = next(size for size in _SIZES if size <= len(rows) - at)
        parts.append(rows[at : at + size])
        at += size
    return parts


def _padded(rows: Sequence[Sequence[Any]]) -> list[Sequence[Sequence[Any]]]:
    """The same for statements to which a row may be told twice: the last part is filled up with its last row."""
    parts = [rows[at : at + _SIZES[0]] for at in range(0, len(rows), _SIZES[0])]
    if parts:
        last = list(parts[-1])
        size = next(size for size in reversed(_SIZES) if size >= len(last))
        parts[-1] = last + last[-1:] * (size - len(last))
    return parts
