"""The command line as a user types it: processes, a configuration in a folder of its own, a hub that runs or does not."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from hub.app.beside import opened
from hub.app.config import load
from hub.ledger.audit import verify
from hub.store.schema import metadata
from tests import warm

ADT = (
    "MSH|^~\\&|GAM|CHU-TEST|HUB|HUB|20261124080000||ADT^A01^ADT_A01|{control}|T|2.5^FRA^2.11|||||FRA|UNICODE UTF-8\n"
    "EVN||20261124080000\n"
    "PID|1||{ipp}^^^CHU&1.2.250.1.999.1&ISO^PI||MARQUETEST^ZOE^ZOE MARIE^^^^L||19800102|F|||1 RUE DES ESSAIS^^RENNES^^35000^FRA^H"
    "|||||||||||||||||||||PROV\n"
    "PV1|1|I|MED^1||||||||||||||||V{ipp}^^^CHU&1.2.250.1.999.2&ISO^VN|||||||||||||||||||||||||20261124080000\n"
)
PATIENT_VALUES = ("MARQUETEST", "ZOE", "19800102", "900001", "RUE DES ESSAIS")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def two_free_ports() -> tuple[int, int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1], free_port()


class Installed:
    """A configuration and its data folder; with `url` of PostgreSQL, its data there."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder, self.url = folder, url
        self.file = folder / "vaguemestre.toml"
        self.data = folder / "data"
        self.mllp, self.web = two_free_ports()
        self.process: warm.Process | subprocess.Popen | None = None
        self.configure()

    def configure(
        self, more: str = "", *, routes: str = '["record", "requested"]', hub: str = "", source: str = "", store: str = ""
    ) -> None:
        self.file.write_text(
            f"""
[hub]
data_dir = "data"
{hub}
[store]
url = "{self.url}"
{store}
[web]
listen = "127.0.0.1:{self.web}"
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:{self.mllp}"
routes = {routes}
{source}
{more}
""",
            encoding="utf-8",
        )

    def cli(self, *arguments: object, **more: object) -> subprocess.CompletedProcess:
        """A command with `--config` of this installation."""
        return warm.run(*arguments, "--config", self.file, **more)

    def json(self, *arguments: object) -> dict:
        done = self.cli(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def write(self, name: str, *, control: str = "C1", ipp: str = "900001", change: tuple[str, str] = ("", "")) -> Path:
        """A message in a file, with LF as editors write it."""
        path = self.folder / name
        path.write_text(ADT.format(control=control, ipp=ipp).replace(*change), encoding="utf-8")
        return path

    def start(self) -> None:
        with (self.folder / "log").open("w") as log:
            self.process = warm.start("run", "--config", self.file, stdout=log, stderr=log)
        end = time.monotonic() + 30
        while '"hub.ready"' not in (self.folder / "log").read_text():
            assert self.process.poll() is None and time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(15) == 0
        self.process = None

    def send(self, *files: Path) -> subprocess.CompletedProcess:
        return warm.run("send", "--to", f"127.0.0.1:{self.mllp}", *files)

    def settled(self, count: int) -> list[dict]:
        """All messages, newest first, once none moves."""
        end = time.monotonic() + 20
        while True:
            items = self.json("messages", "list")["items"]
            if len(items) == count and not any(item["state"] in ("RECEIVED", "ROUTED") for item in items):
                return items
            assert time.monotonic() < end, items

    @property
    def name(self) -> str:
        """What commands call its database."""
        return self.url or str(self.data / "vaguemestre.db")

    def sql(self, statement: str, *values: object) -> list[tuple]:
        """Rows of one statement with `?`, committed."""
        if not self.url:
            with closing(sqlite3.connect(self.data / "vaguemestre.db")) as connection, connection:
                return connection.execute(statement, values).fetchall()
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute(statement.replace("?", "%s"), values)
            return cursor.fetchall() if cursor.description else []

    def contents(self) -> dict[str, list[tuple]]:
        """Every row of every table but those of the processes, as a set has them."""
        return {
            table: sorted(self.sql(f"SELECT * FROM {table}"), key=repr)
            for table in metadata.tables
            if table not in ("member", "job_lease")
        }

    def whole_chain(self) -> bool:
        """Whether the audit trail is unbroken."""
        with opened(load(self.file), read_only=True) as store:
            return store.read(verify) is None

    def fingerprint(self) -> dict[str, str]:
        """Every file of the data folder and the digest of what it holds."""
        return {
            str(path.relative_to(self.data)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.data.rglob("*"))
            if path.is_file()
        }


def _used(one: Installed):
    yield one
    if one.process is not None:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def installed(tmp_path):
    yield from _used(Installed(tmp_path))


@pytest.fixture
def clustered(tmp_path_factory, postgres_server):
    """An installation whose data is on PostgreSQL, which sorts text as a dictionary does."""
    url = postgres_server.create_database(language="fr-FR")
    yield from _used(Installed(tmp_path_factory.mktemp("clustered"), url))
    postgres_server.drop_database(url)


@pytest.fixture(params=["sqlite", "postgres"])
def either(request):
    """An installation on each engine."""
    return request.getfixturevalue("installed" if request.param == "sqlite" else "clustered")


@pytest.fixture(scope="session")
def installed_class():
    return Installed


@pytest.fixture
def command():
    return warm.run


@pytest.fixture
def patient_values():
    return PATIENT_VALUES


@pytest.fixture
def a_free_port():
    return free_port
