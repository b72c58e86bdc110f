"""Bring a database to the schema of this version. Alembic is imported only when there is something to do.

A migration is one transaction on both engines: cut short, it is rolled back. Processes that start together on a shared
database migrate one after the other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hub.model.refusals import HubError
from hub.store.place import Place
from hub.store.port import StoreUnavailable

HEAD = "0005"  # the newest migration; a test holds it against the folder
_ONE_AT_A_TIME = 0x7661675F  # key of the advisory lock


class SchemaTooNew(HubError):
    """The database was made by a newer version of the hub."""

    code = "SchemaTooNew"


def version_of(place: Place) -> str:
    """The migration that a database has; empty for a new or missing one.

    Raises:
        StoreUnavailable: a server that cannot be reached.
    """
    if place.path is not None:
        return _version_of_file(place.path)
    import psycopg

    from hub.store.postgres_connection import connect, unavailable

    try:
        with connect(place.conninfo) as connection:
            there = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if there and there[0] else None
    except psycopg.Error as error:
        raise unavailable(error) or StoreUnavailable(f"the database refused ({error.sqlstate})") from None
    return row[0] if row else ""


def _version_of_file(database: Path) -> str:
    if not database.exists():
        return ""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        return ""
    finally:
        connection.close()
    return row[0] if row else ""


def upgrade(place: Place) -> tuple[str, str]:
    """Create or migrate a database; the versions before and after. A migration that is cut short is rolled back.

    Raises:
        SchemaTooNew, StoreUnavailable.
    """
    before = version_of(place)
    if before == HEAD:
        return before, before
    if before > HEAD:
        raise SchemaTooNew(f"the database has schema {before}, this version knows {HEAD}: install the newer version again")
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with _connection(place) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, version_of(place)


@contextmanager
def _connection(place: Place) -> Iterator[Any]:
    from sqlalchemy import create_engine, event, text
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    if place.path is None:
        import psycopg
        from sqlalchemy.exc import DBAPIError

        from hub.store.postgres_connection import unavailable

        engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(place.conninfo), poolclass=NullPool)
        try:
            with engine.begin() as connection:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_ONE_AT_A_TIME})"))
                yield connection
        except DBAPIError as error:
            raise (unavailable(error.orig) if error.orig else None) or error from None
        finally:
            engine.dispose()
        return
    from hub.store.sqlite import write_ahead

    place.path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{place.path}", poolclass=NullPool)

    # SQLite commits DDL in the middle of a transaction unless the driver is told not to begin by itself
    @event.listens_for(engine, "connect")
    def _connect(dbapi: sqlite3.Connection, _record: object) -> None:
        dbapi.isolation_level = None
        write_ahead(dbapi)

    @event.listens_for(engine, "begin")
    def _begin(connection: object) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]

    with engine.begin() as connection:
        yield connection
    engine.dispose()
