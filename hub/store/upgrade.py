"""Bring a database to the schema of this version. Alembic is imported only when there is something to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hub.model.refusals import HubError

HEAD = "0001"  # the newest migration; a test holds it against the folder


class SchemaTooNew(HubError):
    """The database was made by a newer version of the hub."""

    code = "SchemaTooNew"


def version_of(database: Path) -> str:
    """The migration that a database has; empty for a new or missing one."""
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


def upgrade(database: Path) -> tuple[str, str]:
    """Create or migrate a database; the versions before and after. A migration that is cut short is rolled back.

    Raises:
        SchemaTooNew.
    """
    before = version_of(database)
    if before == HEAD:
        return before, before
    if before > HEAD:
        raise SchemaTooNew(f"the database has schema {before}, this version knows {HEAD}: install the newer version again")
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    database.parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    engine = create_engine(f"sqlite:///{database}", poolclass=NullPool)

    # SQLite commits DDL in the middle of a transaction unless the driver is told not to begin by itself
    @event.listens_for(engine, "connect")
    def _connect(dbapi: sqlite3.Connection, _record: object) -> None:
        dbapi.isolation_level = None
        dbapi.execute("PRAGMA journal_mode=WAL")
        dbapi.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: object) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]

    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()
    return before, version_of(database)
