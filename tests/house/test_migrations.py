"""The migrations and the schema say the same on both engines; cut short or run by two at once, nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import BigInteger, Connection, Engine, Integer, LargeBinary, MetaData, create_engine, event, inspect, select, text
from sqlalchemy.pool import NullPool

import hub.store.migrations
from hub.store.place import Place, place_of
from hub.store.port import StoreUnavailable
from hub.store.schema import metadata
from hub.store.upgrade import HEAD, SchemaTooNew, upgrade, version_of

FORK = multiprocessing.get_context("fork")


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path) -> Iterator[Place]:
    """An empty database."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return place_of(url, base=tmp_path, default=tmp_path / "hub.db")


@pytest.fixture
def on_postgres(postgres_url, tmp_path) -> Place:
    return place_of(postgres_url, base=tmp_path, default=tmp_path)


def engine_of(place: Place) -> Engine:
    if place.path is not None:
        return create_engine(f"sqlite:///{place.path}", poolclass=NullPool)
    return create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(place.conninfo), poolclass=NullPool)


def with_connection(place: Place, use: Callable[[Connection], Any]) -> Any:
    engine = engine_of(place)
    try:
        with engine.begin() as connection:
            return use(connection)
    finally:
        engine.dispose()


def config_of() -> Config:
    config = Config()
    config.set_main_option("script_location", str(hub.store.migrations.__path__[0]))
    return config


def migrate(place: Place, version: str) -> None:
    config = config_of()

    def run(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, version)

    with_connection(place, run)


def fill(place: Place, rows: int = 3) -> dict[str, list[dict[str, Any]]]:
    """Rows in every table, whatever its columns are; what was written, by table."""

    def value(column: Any, n: int) -> Any:
        if isinstance(column.type, LargeBinary):
            return bytes([n, 0, 255])
        if isinstance(column.type, BigInteger):
            return (1 << 62) + n
        if isinstance(column.type, Integer):
            return n
        return f"{column.name} é {n}"

    def run(connection: Connection) -> dict[str, list[dict[str, Any]]]:
        found = MetaData()
        found.reflect(connection)
        written = {}
        for name, table in found.tables.items():
            if name != "alembic_version":
                written[name] = [
                    {c.name: None if n == 2 and c.nullable else value(c, n) for c in table.columns} for n in range(1, rows + 1)
                ]
                connection.execute(table.insert(), written[name])
        return written

    return with_connection(place, run)


def kept(place: Place, written: dict[str, list[dict[str, Any]]]) -> bool:
    """Whether every row is still there, in the columns that its table still has."""

    def run(connection: Connection) -> bool:
        found = MetaData()
        found.reflect(connection)
        for name, rows in written.items():
            columns = [found.tables[name].columns[c] for c in rows[0] if c in found.tables[name].columns]
            now = sorted((tuple(row) for row in connection.execute(select(*columns))), key=repr)
            if now != sorted((tuple(row[c.name] for c in columns) for row in rows), key=repr):
                return False
        return True

    return bool(with_connection(place, run))


def differences(place: Place) -> list[Any]:
    """Where database and schema differ, as alembic sees it."""

    def here(one: Any, _name: object, kind: str, _reflected: object, _other: object) -> bool:
        return kind != "index" or one._ddl_if is None or one._ddl_if.dialect == dialect

    def run(connection: Connection) -> list[Any]:
        nonlocal dialect
        dialect = connection.dialect.name
        return compare_metadata(MigrationContext.configure(connection, opts={"include_object": here}), metadata)

    dialect = ""
    return with_connection(place, run)


def objects(place: Place) -> Any:
    """Tables by their columns, indexes by their SQL, and what only one engine has: WITHOUT ROWID, defaults, sequences."""
    if place.path is None:
        return with_connection(place, _postgres_objects)

    def run(connection: Connection) -> Any:
        found: dict[str, Any] = {}
        rows = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%'").fetchall()
        for kind, name, sql in rows:
            if kind == "table":
                columns = connection.exec_driver_sql(f"PRAGMA table_xinfo({name})").fetchall()
                found[name] = ({tuple(c)[1:] for c in columns}, "WITHOUT ROWID" in sql)
            elif sql is not None:
                found[name] = " ".join(sql.split())
            else:  # of a UNIQUE constraint
                found[name] = [tuple(c) for c in connection.exec_driver_sql(f"PRAGMA index_info({name})")]
        return found

    return with_connection(place, run)


def _postgres_objects(connection: Connection) -> Any:
    columns = connection.execute(
        text(
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
            "WHERE table_schema = 'public' AND table_name <> 'alembic_version'"
        )
    )
    indexes = connection.execute(
        text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'")
    )
    return {tuple(c) for c in columns}, {tuple(i) for i in indexes}


def test_a_new_database_has_exactly_the_schema(place, tmp_path):
    assert upgrade(place) == ("", HEAD)
    assert differences(place) == []


def test_the_embedded_database_has_exactly_the_schema(tmp_path):
    migrated, plain = Place("migrated", tmp_path / "migrated.db"), Place("plain", tmp_path / "plain.db")
    upgrade(migrated)
    with_connection(plain, metadata.create_all)
    assert objects(migrated) == objects(plain)  # partial indexes and WITHOUT ROWID too, which alembic does not compare


def test_the_shared_database_has_exactly_the_schema(postgres_server, tmp_path):
    urls = [postgres_server.create_database() for _ in range(2)]
    try:
        migrated, plain = (place_of(url, base=tmp_path, default=tmp_path) for url in urls)
        upgrade(migrated)
        with_connection(plain, metadata.create_all)
        assert objects(migrated) == objects(plain)  # partial indexes too
        with psycopg.connect(migrated.conninfo) as connection:
            arrivals = connection.execute("SELECT nextval('message_arrival'), nextval('message_arrival')").fetchone()
        assert arrivals == (1, 2)
    finally:
        for url in urls:
            postgres_server.drop_database(url)


def test_head_is_the_newest_migration():
    assert ScriptDirectory.from_config(config_of()).get_current_head() == HEAD


def test_upgrading_again_changes_nothing(place):
    upgrade(place)
    before = objects(place)
    assert upgrade(place) == (HEAD, HEAD)
    assert version_of(place) == HEAD
    assert objects(place) == before


def test_a_newer_schema_is_refused(place):
    upgrade(place)
    with_connection(place, lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(SchemaTooNew):
        upgrade(place)
    assert version_of(place) == "9999"


def test_an_older_database_keeps_its_rows(place):
    migrate(place, "0001")
    assert version_of(place) == "0001"
    written = fill(place)
    assert upgrade(place) == ("0001", HEAD)
    assert kept(place, written)


def test_messages_kept_before_arrived_in_the_order_of_their_numbers(on_postgres):
    migrate(on_postgres, "0001")
    fill(on_postgres, rows=3)
    upgrade(on_postgres)
    with psycopg.connect(on_postgres.conninfo) as connection:
        assert connection.execute("SELECT arrival FROM message ORDER BY id").fetchall() == [(1,), (2,), (3,)]
        assert connection.execute("SELECT nextval('message_arrival')").fetchone() == (4,)


# ---- cut short ----


def _die_at(place: Place, statement: int) -> None:
    """In a process of its own: migrate, and be killed before the n-th statement (0: never)."""
    seen = 0

    @event.listens_for(Engine, "before_cursor_execute")
    def _count(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    @event.listens_for(Engine, "commit")
    def _commit(_: object) -> None:
        if seen < statement:  # more than there are: right before the commit
            os.kill(os.getpid(), signal.SIGKILL)

    upgrade(place)


def in_a_process(target: Callable[..., None], *args: object) -> Any:
    process = FORK.Process(target=target, args=args, daemon=True)
    process.start()
    return process


@pytest.mark.parametrize("before", ["", "0001"])
def test_a_migration_that_is_killed_anywhere_is_as_if_it_had_not_begun(place, before):
    written = {}
    if before:
        migrate(place, before)
        written = fill(place)
        empty = objects(place)
    last = 10_000
    for statement in (1, 2, 3, 5, 8, 13, 21, last):
        process = in_a_process(_die_at, place, statement)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert version_of(place) == before
        if before:
            assert objects(place) == empty
            assert kept(place, written)
        elif place.path is None or place.path.exists():
            assert with_connection(place, lambda connection: inspect(connection).get_table_names()) == []
    assert upgrade(place) == (before, HEAD)
    assert kept(place, written)
    assert differences(place) == []


def test_processes_that_migrate_at_once_do_it_once(place):
    migrate(place, "0001")
    written = fill(place)
    together = FORK.Barrier(3)

    def go() -> None:
        together.wait(60)
        upgrade(place)

    processes = [in_a_process(go) for _ in range(3)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert version_of(place) == HEAD
    assert kept(place, written)


@pytest.mark.parametrize("statement", [1, 9])
def test_a_server_that_goes_away_under_a_migration_is_unavailable(on_postgres, statement):
    migrate(on_postgres, "0001")
    written = fill(on_postgres)
    others = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    seen = 0

    def cut(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            with psycopg.connect(on_postgres.conninfo, autocommit=True) as other:
                other.execute(others)

    event.listen(Engine, "before_cursor_execute", cut)
    try:
        with pytest.raises(StoreUnavailable):
            upgrade(on_postgres)
    finally:
        event.remove(Engine, "before_cursor_execute", cut)
    assert version_of(on_postgres) == "0001"
    assert kept(on_postgres, written)
    assert upgrade(on_postgres) == ("0001", HEAD)


def test_a_server_that_cannot_be_reached_is_unavailable(tmp_path):
    nowhere = place_of("postgresql://postgres@127.0.0.1:1/none", base=tmp_path, default=tmp_path)
    with pytest.raises(StoreUnavailable):
        version_of(nowhere)
    with pytest.raises(StoreUnavailable):
        upgrade(nowhere)
