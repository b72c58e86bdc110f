"""Fixtures that every test may use. Everything real runs on loopback, on free ports, and is stopped by its fixture."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
if str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))  # bench is not installed

from bench.services import NatsServer, PostgresServer  # noqa: E402
from tests.databases import Databases, MigratedFile  # noqa: E402

SLOWEST_FIRST = ("chaos", "faults", "flow")  # so that no process is left alone with them at the end


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several processes

        def rank(item: pytest.Item) -> int:
            return next((n for n, folder in enumerate(SLOWEST_FIRST) if folder in item.path.parts), len(SLOWEST_FIRST))

        items.sort(key=rank)


def _needed(name: str, found: bool) -> None:
    """Skip by name when a program is absent; fail when VAGUEMESTRE_REQUIRE_SERVICES=1."""
    if found:
        return
    if os.environ.get("VAGUEMESTRE_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{name} is not installed, and VAGUEMESTRE_REQUIRE_SERVICES=1", pytrace=False)
    pytest.skip(f"{name} is not installed")


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of official samples (`hl7v2/`, `cda/`)."""
    folder = os.environ.get("VAGUEMESTRE_SAMPLES")
    if not folder:
        pytest.skip("official samples: VAGUEMESTRE_SAMPLES is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL, shared by the session. A test that stops or kills it starts it again."""
    _needed("PostgreSQL", PostgresServer.available())
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database of this test."""
    url = postgres_server.create_database()
    yield url
    postgres_server.start()
    postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def databases(postgres_server: PostgresServer) -> Iterator[Databases]:
    """Databases with the schema and without rows."""
    made = Databases(postgres_server)
    yield made
    made.drop()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> MigratedFile:
    """A SQLite file with the schema, to be copied."""
    return MigratedFile(tmp_path_factory.mktemp("migrated") / "vaguemestre.db")


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """A running NATS server with JetStream, shared by the session. A test that stops or kills it starts it again."""
    _needed("nats-server", NatsServer.available())
    with NatsServer() as server:
        yield server
