"""Real servers for tests and measurements: PostgreSQL and NATS on loopback, each with a folder and a port of its own.

Nothing is left behind: `close` ends the server and removes a folder that it made itself, at the latest when Python ends; a
guard process does the same when Python is killed.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

TICKS = os.sysconf("SC_CLK_TCK")
# pid, word of its command line, signal, folder or ""
_GUARD = 'read -r _; if grep -qaF -- "$2" "/proc/$1/cmdline"; then kill -s "$3" "$1"; sleep 1; fi; [ -z "$4" ] || rm -rf "$4"'


class ServerFailed(RuntimeError):
    """A server did not start, or did not answer in time."""


def steady_port() -> int:
    """A free port below those that the system gives to clients: while the server is down nobody else gets it."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(200):
        port = random.randrange(min(10_000, lowest // 2), lowest)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ServerFailed("no free port")


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and of its children that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(fields[at]) for at in (11, 12, 13, 14)) / TICKS


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _until_gone(pids: list[int], timeout_s: float = 20.0) -> None:
    until = time.monotonic() + timeout_s
    while any(map(_alive, pids)):
        if time.monotonic() > until:
            raise ServerFailed("processes stay alive after SIGKILL")
        time.sleep(0.005)


class _Server(ABC):
    """What both servers share: folder, port, one process, a guard."""

    program: str
    guard_signal: str

    def __init__(self, folder: Path | None) -> None:
        self._made = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="vaguemestre-")) if folder is None else folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "log"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        atexit.register(self.close)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the server (PostgreSQL: of the postmaster).

        Raises:
            ServerFailed: it was not started.
        """
        if self._process is None:
            raise ServerFailed(f"{self.program} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = 60.0) -> None:
        """Start and wait until it answers. A second start keeps the data and the port.

        Raises:
            ServerFailed: it ended, or does not answer; the message holds the end of its log.
        """
        if self.running:
            return
        fixed = self.port != 0
        for attempt in range(5):
            if not fixed:
                self.port = steady_port()
            self._launch()
            if self._answers(timeout_s):
                return
            self.kill()
            if fixed or attempt == 4 or b"ddress already in use" not in self.log.read_bytes():
                break
        raise ServerFailed(f"{self.program} does not answer: {self.log.read_text(errors='replace')[-2000:]}")

    def close(self) -> None:
        """End it, and remove the folder if it was made here."""
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.close)
        try:
            self.stop()
        finally:
            if self._made:
                shutil.rmtree(self.folder, ignore_errors=True)

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def kill(self) -> None: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _ready(self) -> bool: ...

    def _as_user(self) -> dict[str, Any]:
        return {}

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                **self._as_user(),
            )
        words = [str(self._process.pid), str(self.folder), self.guard_signal, str(self.folder) if self._made else ""]
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _answers(self, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until and self.running:
            if self._ready():
                return True
            time.sleep(0.01)
        return False

    def _signal(self, number: int, timeout_s: float) -> bool:
        """Whether it is over after the signal."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return False
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
        return True


class PostgresServer(_Server):
    """A PostgreSQL cluster with fsync on and the superuser `postgres`, trusted on loopback.

    As root it runs as the system user `postgres`, who must be able to reach `folder`; without a folder it makes one.
    `settings` go over SETTINGS, as in postgresql.conf.
    """

    program = "postgres"
    guard_signal = "QUIT"
    SETTINGS: Mapping[str, str] = {
        "fsync": "on",
        "max_connections": "200",
        "shared_buffers": "128MB",
        "huge_pages": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",
    }

    def __init__(self, folder: Path | None = None, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self.data = self.folder / "data"
        self.settings = {**self.SETTINGS, **(settings or {})}

    @classmethod
    def programs(cls) -> Path | None:
        """The folder of the newest `initdb` and `postgres`; None when there is none."""
        versions = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
        for folder in sorted(versions, key=lambda path: int(path.parent.name), reverse=True):
            if (folder / "initdb").exists() and (folder / "postgres").exists():
                return folder
        found = shutil.which("initdb")
        if found is not None and Path(found).resolve().with_name("postgres").exists():
            return Path(found).resolve().parent
        return None

    @classmethod
    def available(cls) -> bool:
        return cls.programs() is not None

    def start(self, timeout_s: float = 60.0) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        super().start(timeout_s)

    def stop(self) -> None:
        """Fast shutdown: transactions are rolled back, a checkpoint is written."""
        if not self._signal(signal.SIGINT, 30.0):
            self.stop_immediate()

    def stop_immediate(self) -> None:
        """End at once without a checkpoint; the next start recovers."""
        if not self._signal(signal.SIGQUIT, 20.0):
            self.kill()

    def kill(self) -> None:
        """SIGKILL the postmaster and all its children; the next start recovers."""
        pids: list[int] = []
        if self.running:
            os.kill(self.pid, signal.SIGSTOP)  # no child is born in between
            pids = _children(self.pid)
        self._signal(signal.SIGKILL, 20.0)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _until_gone(pids)

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def create_database(self, *, language: str = "") -> str:
        """The URL of a new, empty database with a name of its own; text is sorted by bytes, or as a `language` (fr-FR) does."""
        name = f"v{uuid4().hex[:16]}"
        sorted_as = f" TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE '{language}'" if language else ""
        self._execute(f'CREATE DATABASE "{name}"{sorted_as}')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop it, and whoever is still connected to it."""
        self._execute(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    def cpu_s(self) -> float:
        """CPU seconds of all its processes since it was started."""
        return sum(map(_cpu_s, [self.pid, *_children(self.pid)]))

    def _execute(self, sql: str) -> None:
        import psycopg

        with psycopg.connect(self.url(), autocommit=True, connect_timeout=10) as connection:
            connection.execute(sql.encode())

    def _initdb(self) -> None:
        if os.geteuid() == 0:
            closed = [str(parent) for parent in self.folder.parents if not parent.stat().st_mode & 0o001]
            if closed:
                raise ServerFailed(f"the user postgres cannot pass {closed[0]}")
            shutil.chown(self.folder, "postgres", "postgres")
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        done = subprocess.run(
            [self._program("initdb"), *options, "-D", str(self.data)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **self._as_user(),
        )
        if done.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise ServerFailed(f"initdb: {done.stderr[-2000:]}")

    def _command(self) -> list[str]:
        places = {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder)}
        settings = {**self.settings, **places}
        return [
            self._program("postgres"),
            "-D",
            str(self.data),
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ]

    def _ready(self) -> bool:
        with suppress(OSError):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"
        return False

    def _as_user(self) -> dict[str, Any]:
        return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}

    def _program(self, name: str) -> str:
        folder = self.programs()
        if folder is None:
            raise ServerFailed("PostgreSQL is not installed")
        return str(folder / name)


class NatsServer(_Server):
    """A NATS server with JetStream, its store in `folder`; `config` is text of its configuration file (TLS, users)."""

    program = "nats-server"
    guard_signal = "KILL"

    def __init__(self, folder: Path | None = None, config: str = "") -> None:
        super().__init__(folder)
        self.store = self.folder / "store"
        self._config = self.folder / "nats.conf"
        self._config.write_text(config)

    @classmethod
    def available(cls) -> bool:
        return shutil.which(cls.program) is not None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def stop(self) -> None:
        if not self._signal(signal.SIGTERM, 20.0):
            self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        self._signal(signal.SIGKILL, 20.0)

    def cpu_s(self) -> float:
        """CPU seconds since it was started."""
        return _cpu_s(self.pid)

    def _command(self) -> list[str]:
        where = ["-a", "127.0.0.1", "-p", str(self.port), "-sd", str(self.store)]
        return [shutil.which(self.program) or self.program, "-js", *where, "-c", str(self._config)]

    def _ready(self) -> bool:
        with suppress(OSError, ValueError), socket.create_connection(("127.0.0.1", self.port), 2) as connection:
            return bool(json.loads(connection.makefile("rb").readline().removeprefix(b"INFO ")).get("jetstream"))
        return False
