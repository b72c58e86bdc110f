"""Empty records on both engines."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from hub.store import Transaction
from hub.store.place import place_of
from hub.store.postgres_connection import connect
from hub.store.postgres_transaction import PostgresTransaction
from hub.store.schema import metadata
from hub.store.sqlite_transaction import SqliteTransaction
from hub.store.upgrade import upgrade

RECORDS = 2  # that one test looks at side by side


class Sqlite:
    """Databases in memory, copied from one that has the schema."""

    name = "sqlite"

    def __init__(self) -> None:
        self._template = sqlite3.connect(":memory:", isolation_level=None)
        metadata.create_all(create_engine("sqlite://", creator=lambda: self._template))

    def empty(self, _n: int = 0) -> Transaction:
        """A transaction on an empty record."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        self._template.backup(connection)
        return SqliteTransaction(connection, None)  # type: ignore[arg-type]

    def plan(self, tx: Transaction, sql: str, *values: Any) -> str:
        """How the engine would find the rows."""
        return " / ".join(row[3] for row in tx.rows("EXPLAIN QUERY PLAN " + sql, *values))


class Postgres:
    """Databases made by the migrations; each record is a transaction that is rolled back when the next one begins."""

    name = "postgres"

    def __init__(self, urls: list[str]) -> None:
        places = [place_of(url, base=Path(), default=Path()) for url in urls]
        for place in places:
            upgrade(place)
        self._connections = [connect(place.conninfo) for place in places]

    def empty(self, n: int = 0) -> Transaction:
        """A transaction on an empty record; ends the one before it with the same `n`."""
        connection = self._connections[n]
        connection.execute("ROLLBACK")
        connection.execute("BEGIN")
        return PostgresTransaction(connection, None)  # type: ignore[arg-type]

    def plan(self, tx: Transaction, sql: str, *values: Any) -> str:
        tx.run("SET LOCAL enable_seqscan = off")  # the tables are empty: read them whole only if nothing else is possible
        return " / ".join(row[0] for row in tx.rows("EXPLAIN " + sql, *values))

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> Iterator[Sqlite | Postgres]:
    if request.param == "sqlite":
        yield Sqlite()
        return
    server = request.getfixturevalue("postgres_server")
    urls = [server.create_database(language="fr-FR") for _ in range(RECORDS)]
    engine = Postgres(urls)
    yield engine
    engine.close()
    for url in urls:
        server.drop_database(url)
