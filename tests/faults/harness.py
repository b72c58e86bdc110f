"""What the fault tests share: hub processes with their configuration, log and ledger; a checker of what must hold afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from bench.sender import Sent
from bench.services import PostgresServer
from bench.sink import END, START
from tests import warm

ROOT = Path(__file__).resolve().parents[2]
FULL = os.environ.get("VAGUEMESTRE_FAULTS") == "full"
Process = warm.Process | subprocess.Popen[str]
MEASURED: list[tuple[str, dict]] = []
on_both_engines = pytest.mark.parametrize("engine", ["sqlite", "postgres"])  # of the fixture `place`


def full(number, shortened):
    """The full number under VAGUEMESTRE_FAULTS=full, else the shortened one."""
    return number if FULL else shortened


def measured(fault: str, **figures) -> None:
    MEASURED.append((fault, figures))


def run(coroutine):
    return asyncio.run(coroutine)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---- processes -----------------------------------------------------------------------------------------------------


class Place:
    """A folder with a configuration, and the hub that runs on it, started and ended as often as the test wants.

    With `server` its ledger is a database of its own there; without, a SQLite file in the folder.
    """

    def __init__(self, folder: Path, server: PostgresServer | None = None) -> None:
        self.folder, self.server = folder, server
        self.url = server.create_database() if server is not None else ""
        self.data = folder / "data"
        self.config = folder / "hub.toml"
        self.log = folder / "hub.log"
        self.port, self.web_port = free_port(), free_port()
        self.process: Process | None = None
        self._all: list[Process] = []
        self.environment: dict[str, str] = {}  # of every process started here

    @property
    def database(self) -> Path:
        return self.data / "vaguemestre.db"

    def configure(self, *, destinations=(), routes=("record",), source="", hub="", more="", data=None) -> None:
        """`destinations` are (name, port, lines of TOML); `source`, `hub`, `more` are further lines."""
        if data is not None:
            self.data = Path(data)
        parts = [
            f'[hub]\ndata_dir = "{self.data}"\n{hub}',
            *([f'[store]\nurl = "{self.url}"'] if self.url else []),
            f'[web]\nlisten = "127.0.0.1:{self.web_port}"',
            f'[[source]]\nname = "his"\nkind = "mllp"\nlisten = "127.0.0.1:{self.port}"\n'
            f"routes = {json.dumps(list(routes))}\n{source}",
        ]
        parts += [
            f'[[destination]]\nname = "{name}"\nkind = "mllp"\nconnect = "127.0.0.1:{port}"\n{lines}'
            for name, port, lines in destinations
        ]
        self.config.write_text("\n\n".join([*parts, more]) + "\n")

    def spawn(self, *command: str, **environment: str) -> Process:
        """Start a process and do not wait for it: a command, or `run`."""
        with self.log.open("ab") as log:
            env = {**self.environment, **environment}
            process = warm.start(*(command or ("run",)), "-c", self.config, cwd=self.folder, stdout=log, stderr=log, env=env)
        self._all.append(process)
        return process

    async def start(self, *, ready: bool = False, role: str = "all", wait_s: float = 15.0, **environment: str) -> None:
        """Start and wait until it listens for messages, or until the web answers too."""
        seen = len(self.events())
        self.process = self.spawn("run", "--role", role, **environment)
        wanted = "hub.ready" if ready else "hub.listening"
        until = time.monotonic() + wait_s
        while not any(event["event"] == wanted for event in self.events()[seen:]):
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the hub did not start: {self.log.read_text()[-2000:]}")
            await asyncio.sleep(0.01)

    def kill(self) -> None:
        """kill -9, wait until it is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    async def stop(self, timeout_s: float = 15.0) -> tuple[int, float]:
        """SIGTERM: exit code and seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return await self.ended(timeout_s), time.monotonic() - began

    async def ended(self, timeout_s: float = 15.0) -> int:
        return await asyncio.to_thread(self.process.wait, timeout_s)

    def end_all(self) -> None:
        for process in self._all:
            if process.poll() is None:
                process.kill()
                process.wait()

    def close(self) -> None:
        """End every process and drop the database."""
        self.end_all()
        if self.server is not None:
            self.server.drop_database(self.url)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def events(self) -> list[dict]:
        """Every structured line of the log so far."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def unstructured(self) -> list[str]:
        """Lines of the log that are not ours: tracebacks."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if line and not line.startswith("{")]

    def token(self, role: str = "operator", *more: str) -> str:
        """A new API token."""
        made = warm.run("token", "create", "-c", self.config, "--name", role, "--role", role, *more, check=True)
        return made.stdout.split()[-1]

    async def get(self, path: str, token: str = "") -> tuple[int, bytes]:
        return await asyncio.to_thread(self._get, path, token)

    def _get(self, path: str, token: str) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.web_port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def rss_kb(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        return 0

    # ---- the ledger ----------------------------------------------------------------------------------------------

    def rows(self, sql: str, *values) -> list[tuple]:
        if self.url:
            with psycopg.connect(self.url, autocommit=True) as server:
                if not values:
                    return server.execute(sql).fetchall()
                return server.execute(sql.replace("%", "%%").replace("?", "%s"), values).fetchall()
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def value(self, sql: str, *values):
        return self.rows(sql, *values)[0][0]

    def examine(self) -> None:
        """Tables and indexes agree, as the engine itself sees it.

        Raises:
            AssertionError, psycopg.Error: they do not.
        """
        if not self.url:
            assert self.value("PRAGMA integrity_check") == "ok"
        elif self.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'"):
            with psycopg.connect(self.url, autocommit=True) as server:
                server.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
                server.execute(_CHECK_INDEXES)
                damaged = server.execute(_CHECK_TABLES).fetchall()
            assert damaged == []

    async def settled(self, timeout_s: float = 30.0, *, messages: int = 0) -> None:
        """Wait until at least `messages` are kept and nothing is open any more."""
        until = time.monotonic() + timeout_s
        while True:
            kept = self.value("SELECT count(*) FROM message") if messages else 0
            unfinished = self.value("SELECT count(*) FROM message WHERE state IN ('RECEIVED', 'ROUTED')")
            if kept >= messages and not unfinished:
                return
            if time.monotonic() > until:
                raise AssertionError(
                    f"not settled: {kept} kept, {unfinished} unfinished, {self.rows(_OPEN)}, {self.events()[-5:]}"
                )
            await asyncio.sleep(0.1)


# Every row is in the index where it belongs, and each index in order; what its table holds can be read.
_CHECK_INDEXES = (
    "SELECT bt_index_check(i.indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
    "JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relnamespace = 'public'::regnamespace"
)
_CHECK_TABLES = (
    "SELECT c.relname, h.blkno, h.msg FROM pg_class c, LATERAL verify_heapam(c.oid) h "
    "WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace"
)
_OPEN = "SELECT destination, state, count(*) FROM delivery WHERE state <> 'DELIVERED' GROUP BY 1, 2"


# ---- talking MLLP by hand ------------------------------------------------------------------------------------------


async def ask(port: int, *messages: bytes, timeout_s: float = 5.0) -> list[bytes]:
    """Send messages over one new connection, one after the other; the answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
    answers = []
    try:
        for message in messages:
            writer.write(START + message + END)
            answers.append((await asyncio.wait_for(reader.readuntil(END), timeout_s))[1:-2])
    finally:
        writer.close()
    return answers


def code_of(answer: bytes) -> str:
    return answer.split(b"\rMSA|")[1][:2].decode()


# ---- what must hold ------------------------------------------------------------------------------------------------


@dataclass
class Kept:
    """What the ledger holds, after the end."""

    states: Counter
    control_ids: Counter


def check_ledger(place: Place, sent: Sent | None = None, *, states=("DONE",), settled: bool = True) -> Kept:
    """The promises of the ledger: acknowledged ⊆ kept, each once, nothing left under way, counters agree, the store is whole."""
    rows = place.rows
    place.examine()
    kept = Counter(control_id for (control_id,) in rows("SELECT control_id FROM message"))
    if sent is not None:
        missing = [one for one in sent.acked if one not in kept]
        assert not missing, f"acknowledged and not kept: {len(missing)}, {missing[:5]}"
        doubled = [one for one, n in kept.items() if n > 1]
        assert not doubled, f"kept twice: {doubled[:5]}"
    bodies = "SELECT 1 FROM body b WHERE b.message_id = m.id"
    assert rows(f"SELECT id FROM message m WHERE in_file = 0 AND NOT EXISTS ({bodies})") == []
    assert (
        rows(
            "SELECT delivery_id FROM attempt a GROUP BY 1 "
            "HAVING count(*) <> (SELECT attempts FROM delivery d WHERE d.id = a.delivery_id)"
        )
        == []
    )
    found = Counter(dict(rows("SELECT state, count(*) FROM message GROUP BY state")))
    if settled:
        assert set(found) <= set(states), found
        assert rows("SELECT DISTINCT state FROM delivery WHERE state IN ('QUEUED','WAITING','SENDING','UNSURE')") == []
        assert rows("SELECT key FROM lane WHERE blocked_reason IS NULL") == []
        assert rows("SELECT id, open_n FROM message WHERE open_n <> 0") == []
        assert (
            rows(
                "SELECT m.id FROM message m WHERE failed_n <> (SELECT count(*) FROM delivery d WHERE d.message_id = m.id "
                "AND d.state IN ('REFUSED', 'DEAD') AND NOT EXISTS (SELECT 1 FROM delivery e WHERE e.replay_of = d.id))"
            )
            == []
        )
    return Kept(found, kept)


def check_record(place: Place, without=(), *, stays_of: str = "", settled: bool = True) -> int:
    """Effects exactly once, for admissions of `bench.synthetic`: an Encounter a stay, a version a message; how many Encounters.

    `without` are control ids of messages that the record could not take; `stays_of` is the run of the traffic whose stays count
    (documents speak of stays too). Before everything is settled, messages whose delivery to the record is done count.
    """
    due = "" if settled else _RECORDED
    stays: Counter = Counter()
    for control_id, body in place.rows(
        "SELECT m.control_id, b.bytes FROM body b JOIN message m ON m.id = b.message_id "
        f"WHERE m.type LIKE 'ADT%' AND m.ack_code = 'AA'{due}"
    ):
        pv1 = body.split(b"\rPV1|")[1].split(b"\r")[0].split(b"|")
        if control_id not in without:
            stays[pv1[18].split(b"^")[0].decode()] += 1
    rows = [
        (key.split("|")[1], version) for key, version in place.rows("SELECT key, version FROM resource WHERE type = 'Encounter'")
    ]
    found = {visit: version for visit, version in rows if visit.startswith(stays_of)}
    assert found.keys() == stays.keys()
    wrong = {key: (found[key], n) for key, n in stays.items() if found[key] != n}
    assert not wrong, f"versions of an Encounter and messages about it differ: {list(wrong.items())[:5]}"
    assert (
        place.rows("SELECT r.id FROM resource r WHERE version <> 1 + (SELECT count(*) FROM resource_version v WHERE v.id = r.id)")
        == []
    )
    assert (
        place.rows(
            "SELECT p.resource_id FROM provenance p JOIN resource r ON r.id = p.resource_id WHERE r.type = 'Encounter' "
            "GROUP BY p.resource_id, p.version HAVING count(*) <> 1"
        )
        == []
    )
    patients = place.value(f"SELECT count(DISTINCT patient_id) FROM message m WHERE patient_id IS NOT NULL{due}")
    assert place.value("SELECT count(*) FROM resource WHERE type = 'Patient'") == patients
    return len(found)


_RECORDED = (
    " AND EXISTS (SELECT 1 FROM delivery d WHERE d.message_id = m.id AND d.destination = 'record' AND d.state = 'DELIVERED')"
)


# ---- disks that fail -----------------------------------------------------------------------------------------------


def fault_library(folder: Path) -> Path:
    """disk.c, compiled; skips by name without a compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("a disk that fails: needs a C compiler")
    library = folder / "disk.so"
    source = Path(__file__).with_name("disk.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl", "-lpthread"], check=True)
    return library


def on_disk(place: Place, library: Path) -> Path:
    """Let the processes of a place run on a disk that fails while the returned file exists and says so."""
    trigger = place.folder / "trigger"
    place.environment.update(LD_PRELOAD=str(library), FAULT_DIR=str(place.data), FAULT_TRIGGER=str(trigger))
    return trigger


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("a small file system of its own: needs root")
