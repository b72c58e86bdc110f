"""A cluster of real processes on loopback: edges, workers, webs over one PostgreSQL and one NATS, with traffic and its history.

Every process has its own configuration, log and way to PostgreSQL (a proxy that can be cut).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from chaos_ends import Line, Receiver, WebLine, ended, sometimes
from chaos_history import Attempt, Delivery, Effect, End, History, KeptMessage, Lane, Trouble, Version
from chaos_proxy import Proxy

from bench.services import NatsServer, PostgresServer
from bench.synthetic import Traffic
from tests import warm

ROOT = Path(__file__).resolve().parents[2]
LEASE_S = 3.0
ROUTES = {"his": ("record", "near", "far", "bad"), "api": ("record", "near")}
FENCED = "member.buried"
OUTAGE = "store.unavailable"  # the one event of level error that faults may cause
ONLY_ONE = 100_000  # number of the first connection that speaks of one patient
AWAY_S = 60.0  # the longest that PostgreSQL may be away
SAID = ("the database ", "WARNING ")  # that it cannot start without it; what a library warns of, a job that is late
STALLED_S = 40.0  # without any change: it will not settle any more
_SENDING = "ack_timeout_s = 10\n[destination.retry]\nbase_s = 0.1\ncap_s = 1\nprobe_s = 0.2"
_END = {
    "messages": (
        KeptMessage,
        "SELECT id, source, control_id, sha256, state, ack_code, patient_id, open_n, failed_n FROM message",
    ),
    "deliveries": (Delivery, "SELECT id, message_id, destination, state, attempts, replay FROM delivery"),
    "attempts": (Attempt, "SELECT delivery_id, n, outcome FROM attempt"),
    "lanes": (Lane, "SELECT key, destination, blocked_reason FROM lane"),
    "versions": (
        Version,
        "SELECT id, type, version FROM resource UNION ALL "
        "SELECT v.id, r.type, v.version FROM resource_version v JOIN resource r ON r.id = v.id",
    ),
    "effects": (Effect, "SELECT resource_id, version, message_id FROM provenance"),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Size:
    """How many processes, and how much traffic: `rate` messages a second over `lines` connections."""

    edges: int = 2
    workers: int = 2
    webs: int = 1
    alls: int = 0
    rate: float = 60.0
    lines: int = 6
    patients: int = 5  # of each line


class Node:
    """One process of the cluster, started and ended as often as the story wants."""

    def __init__(self, name: str, role: str, folder: Path, proxy: Proxy) -> None:
        self.name, self.role, self.proxy = name, role, proxy
        self.config, self.log = folder / f"{name}.toml", folder / f"{name}.log"
        self.status_port = free_port()
        self.environment: dict[str, str] = {}
        self.process: warm.Process | subprocess.Popen[str] | None = None
        self.broken = asyncio.Lock()  # who holds it breaks this process

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it and do not wait."""
        command = ["run", "-c", self.config, "--role", self.role]
        if self.role in ("edge", "worker"):
            command += ["--status", f"127.0.0.1:{self.status_port}"]
        with self.log.open("ab") as log:
            self.process = warm.start(*command, cwd=self.config.parent, stdout=log, stderr=log, env=self.environment)

    async def ready(self, timeout_s: float = 60.0) -> None:
        """Wait until its /readyz says so.

        Raises:
            AssertionError: it ended, or is not ready in time.
        """
        until = time.monotonic() + timeout_s
        while await asyncio.to_thread(_status, self.status_port, "/readyz") != 200:
            if not self.alive or time.monotonic() > until:
                raise AssertionError(f"{self.name} is not ready: {self.log.read_text(errors='replace')[-2000:]}")
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        """kill -9, wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, timeout_s)

    def events(self) -> list[dict[str, Any]]:
        """Every structured line of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def unstructured(self) -> list[str]:
        """Lines of its log that are not events: tracebacks."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [line for line in lines if line and not line.startswith("{")]


def _status(port: int, path: str) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError), socket.create_connection(("127.0.0.1", port), 2) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return int(connection.makefile("rb").readline().split()[1])
    return 0


@dataclass
class Cluster:
    """Everything of one or more stories. `bell_url` empty = the NATS server's; `prepare` may change a process."""

    folder: Path
    postgres: PostgresServer
    nats: NatsServer | None
    size: Size = field(default_factory=Size)
    seed: int = 0
    bell_url: str = ""
    prepare: Callable[[Node], None] = lambda node: None

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.nodes: list[Node] = []
        self.lines: list[Line] = []
        self.troubles: list[Trouble] = []
        self.figures: dict[str, list[float]] = {}
        self.receivers = {
            "near": Receiver(),
            "far": Receiver(delay_s=0.05),
            "bad": Receiver(sometimes(random.Random(self.seed), drop=0.005, ar=0.02)),
        }
        self.port = free_port()
        self.url = ""
        self.token = ""
        self.stories = self.restarts = 0
        self.runs: list[str] = []
        self.bell_lock, self.database_lock, self.receiver_lock = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    # ---- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything at once, and wait until everything is ready."""
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        self.url = await asyncio.to_thread(self.postgres.create_database)
        for receiver in self.receivers.values():
            await receiver.start()
        size = self.size
        for role, n in (("edge", size.edges), ("worker", size.workers), ("web", size.webs), ("all", size.alls)):
            for number in range(1, n + 1):
                await self._add(f"{role}-{number}", role)
        if self.of("web", "all"):
            self.token = await asyncio.to_thread(self._make_token, self.of("web", "all")[0])
        for node in self.nodes:
            node.start()
        await asyncio.gather(*(node.ready() for node in self.nodes))
        self._watching = asyncio.create_task(self._watch())

    async def _add(self, name: str, role: str) -> None:
        proxy = Proxy(self.postgres.port)
        await proxy.start()
        node = Node(name, role, self.folder, proxy)
        node.config.write_text(self._configuration(node))
        self.prepare(node)
        self.nodes.append(node)

    def _configuration(self, node: Node) -> str:
        store_url = f"postgresql://postgres@127.0.0.1:{node.proxy.port}/{self.url.rpartition('/')[2]}"
        bell_url = self.bell_url or (self.nats.url if self.nats else "")
        parts = [
            f'[hub]\ndata_dir = "{self.folder / "data"}"',
            f'[store]\nurl = "{store_url}"',
            f'[cluster]\nname = "{self.url.rpartition("/")[2]}"\nlease_s = {LEASE_S}',
            f'[web]\nlisten = "127.0.0.1:{node.status_port}"',
            f'[[source]]\nname = "his"\nkind = "mllp"\nlisten = "127.0.0.1:{self.port}"\nroutes = {json.dumps(ROUTES["his"])}',
            f'[[route]]\nsource = "api"\nto = {json.dumps(ROUTES["api"])}',
        ]
        if bell_url:
            parts.append(f'[bell]\nurl = "{bell_url}"')
        parts += [
            f'[[destination]]\nname = "{name}"\nkind = "mllp"\nconnect = "127.0.0.1:{receiver.port}"\n{_SENDING}'
            for name, receiver in self.receivers.items()
        ]
        return "\n\n".join(parts) + "\n"

    def _make_token(self, node: Node) -> str:
        done = warm.run("token", "create", "-c", node.config, "--name", "feeder", "--role", "system", cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[-1]

    def of(self, *roles: str) -> list[Node]:
        return [node for node in self.nodes if node.role in roles]

    async def ready(self, node: Node, timeout_s: float = 180.0) -> None:
        """Wait until it is ready; started again when it ended by itself, as its supervisor would.

        Raises:
            AssertionError: it is not ready in time.
        """
        until = time.monotonic() + timeout_s
        while True:
            try:
                await node.ready(until - time.monotonic())
                return
            except AssertionError:
                if time.monotonic() > until:
                    raise
            self._start_again(node)
            await asyncio.sleep(0.2)

    def _start_again(self, node: Node) -> None:
        if not node.alive:
            self.restarts += 1
            now = time.monotonic()
            self.troubles.append(Trouble(f"exit_{node.role}", node.name, now - 1, now))
            node.start()

    async def _watch(self) -> None:
        """Start again who ended by itself while nobody breaks it."""
        while True:
            await asyncio.sleep(0.3)
            for node in self.nodes:
                if not node.broken.locked():
                    self._start_again(node)

    async def stop(self) -> dict[str, int]:
        """SIGTERM to all; exit codes by name."""
        if self._watching is not None:
            await ended(self._watching)
        codes = await asyncio.gather(*(node.stop() for node in self.nodes))
        return {node.name: code for node, code in zip(self.nodes, codes, strict=True)}

    async def close(self) -> None:
        """End everything, whatever state it is in."""
        if self._watching is not None:
            await ended(self._watching)
        for node in self.nodes:
            if node.alive:
                node.kill()
            await node.proxy.stop()
        for receiver in self.receivers.values():
            await receiver.stop()
        if self.url:
            await asyncio.to_thread(self.postgres.start)
            await asyncio.to_thread(self.postgres.drop_database, self.url)  # recovery looks at every file there is
            self.url = ""

    # ---- troubles ------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def one(self, rng: random.Random, *roles: str) -> AsyncIterator[Node]:
        """A process of one of these roles that nobody else breaks at the moment."""
        nodes = self.of(*roles)
        node = rng.choice([node for node in nodes if not node.broken.locked()] or nodes)
        async with node.broken:
            yield node

    @contextlib.asynccontextmanager
    async def trouble(self, kind: str, who: str = "") -> AsyncIterator[None]:
        """Note a fault, from here to the end of the block."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.troubles.append(Trouble(kind, who, began, time.monotonic()))

    def figure(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def fenced(self) -> int:
        """How often a process learned that it had been buried."""
        return sum(event["event"] == FENCED for node in self.nodes for event in node.events())

    def remarks(self) -> list[str]:
        """What the logs should not hold: errors, lines that are no events, values of patients."""
        found = []
        for node in self.nodes:
            said = [line for line in node.unstructured() if not line.startswith(SAID)]
            found += [f"{node.name} said: {line[:300]}" for line in said[:5]]
            errors = Counter(event["event"] for event in node.events() if event["level"] == "error" and event["event"] != OUTAGE)
            found += [f"{node.name} says {n} times {name}" for name, n in errors.items()]
            text = node.log.read_text(errors="replace")
            if any(mark in text for run in self.runs for mark in (f"{run}P", f"{run}V")) or "ESSAI" in text:
                found.append(f"{node.name}: the log holds a value of a patient")
        return found

    # ---- traffic -------------------------------------------------------------------------------------------------

    def send(self, run: str, seconds: float) -> asyncio.Task[None]:
        """Start the senders: half of them with one message at a time, the others with several; one of them over HTTP."""
        size, fresh = self.size, []
        every_s = size.lines / size.rate
        self.runs.append(run)
        for n in range(size.lines):
            connection = 50 * self.stories + n  # so that no two stories speak of the same patient
            patients = size.patients
            if n % 4 == 1:  # speaks of one patient all the time, who is nobody of the others
                patients, connection = 1, ONLY_ONE + connection
            traffic = Traffic("mix" if n % 3 == 2 else "adt", run, patients)
            rest = (int(seconds / every_s), every_s)
            if n == 0 and self.token:
                line: Line = WebLine(traffic, connection, *rest, 0, "api", seed=self.seed, token=self.token)
                line.ports = tuple(node.status_port for node in self.of("web", "all"))
            else:
                line = Line(traffic, connection, *rest, self.port, pipeline=1 if n % 2 else 4, seed=self.seed)
            fresh.append(line)
        self.lines += fresh
        return asyncio.create_task(self._send(fresh))

    async def _send(self, lines: list[Line]) -> None:
        tasks = [asyncio.create_task(line.run()) for line in lines]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                await ended(task)

    # ---- what it holds -------------------------------------------------------------------------------------------

    async def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query; asked again while the server is away."""
        until = time.monotonic() + AWAY_S
        while True:
            try:
                return await asyncio.to_thread(self._rows, sql, values)
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(0.1)

    def _rows(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True, connect_timeout=10) as connection:
            return connection.execute(sql.encode(), values or None).fetchall()

    async def settled(self, *, at_most_s: float = 300.0) -> bool:
        """Wait until nothing is open any more; false when nothing moves any more before that."""
        acked = sum(post.acked_at is not None for line in self.lines for post in line.posts)
        seen, moved_at, until = None, time.monotonic(), time.monotonic() + at_most_s
        while True:
            (now,) = await self.rows(
                "SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM message WHERE state IN ('RECEIVED', 'ROUTED')), "
                "(SELECT count(*) FROM lane), (SELECT count(*) FROM attempt)"
            )
            if now[0] >= acked and now[1] == 0 and now[2] == 0:
                return True
            if now != seen:
                seen, moved_at = now, time.monotonic()
            if time.monotonic() > min(until, moved_at + STALLED_S):
                return False
            await asyncio.sleep(0.1)

    async def history(self) -> History:
        """Everything, as it is now."""
        end = End(**{name: [make(*row) for row in await self.rows(sql)] for name, (make, sql) in _END.items()})
        return History(
            messages=[message for line in self.lines for message in line.journal()],
            arrivals={name: receiver.arrivals() for name, receiver in self.receivers.items()},
            troubles=list(self.troubles),
            end=end,
            routes=ROUTES,
        )
