"""The migrations and the schema say the same; what is upgraded twice is left alone."""

from __future__ import annotations

import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

import hub.store.migrations
from hub.store.schema import metadata
from hub.store.upgrade import HEAD, SchemaTooNew, upgrade, version_of


def test_a_new_database_has_exactly_the_schema(tmp_path):
    database = tmp_path / "new.db"
    assert upgrade(database) == ("", HEAD)
    engine = create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
    plain = tmp_path / "plain.db"
    engine = create_engine(f"sqlite:///{plain}")
    metadata.create_all(engine)
    engine.dispose()
    assert _objects(database) == _objects(plain)  # partial indexes and WITHOUT ROWID too, which alembic does not compare


def _objects(path):
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%' AND sql IS NOT NULL")
    found = {name: " ".join(sql.replace("\t", " ").split()) for name, sql in rows}
    connection.close()
    return found


def test_head_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(hub.store.migrations.__path__[0]))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_upgrading_again_changes_nothing(tmp_path):
    database = tmp_path / "hub.db"
    upgrade(database)
    assert upgrade(database) == (HEAD, HEAD)
    assert version_of(database) == HEAD


def test_a_newer_schema_is_refused(tmp_path):
    database = tmp_path / "hub.db"
    upgrade(database)
    connection = sqlite3.connect(database)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(SchemaTooNew):
        upgrade(database)
