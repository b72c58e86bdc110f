"""Fault tests: real processes, sockets, SQLite files and PostgreSQL servers. `fault_harness` is the module that they share.

`VAGUEMESTRE_FAULTS=full` runs the full numbers and prints a table of what was measured.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
if str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))  # bench is not installed


def _load() -> None:
    spec = importlib.util.spec_from_file_location("fault_harness", Path(__file__).with_name("harness.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["fault_harness"] = module
    spec.loader.exec_module(module)


if "fault_harness" not in sys.modules:
    _load()
harness = sys.modules["fault_harness"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if harness.FULL:
        for item in items:
            if "faults" in item.path.parts:
                item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture
def engine():
    """sqlite or postgres, by parameter: `on_both_engines`."""
    return "sqlite"


@pytest.fixture
def place(tmp_path, engine, request):
    """A folder for one hub; every process started there is ended."""
    made = harness.Place(tmp_path, request.getfixturevalue("postgres_server") if engine == "postgres" else None)
    yield made
    made.close()


@pytest.fixture(scope="session")
def disk(tmp_path_factory):
    """The library that makes a disk fail, or watches it."""
    return harness.fault_library(tmp_path_factory.mktemp("disk"))


def pytest_terminal_summary(terminalreporter) -> None:
    if harness.MEASURED and harness.FULL:
        terminalreporter.section("what the faults measured")
        for fault, figures in harness.MEASURED:
            terminalreporter.write_line(f"{fault:28} " + "  ".join(f"{name} {value}" for name, value in figures.items()))
