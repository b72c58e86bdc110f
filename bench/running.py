"""Processes that a measurement needs: a hub, loads, sinks, the peer; and what they cost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")

HUB = """
[hub]
data_dir = "data"
environment = "test"
[web]
listen = "127.0.0.1:{web}"
[[source]]
name = "keep"
kind = "mllp"
listen = "127.0.0.1:{keep}"
routes = []
[[source]]
name = "record"
kind = "mllp"
listen = "127.0.0.1:{record}"
routes = ["record"]
[[source]]
name = "through"
kind = "mllp"
listen = "127.0.0.1:{through}"
routes = ["out"]
[[source]]
name = "both"
kind = "mllp"
listen = "127.0.0.1:{both}"
routes = ["record", "out"]
[[destination]]
name = "out"
kind = "mllp"
connect = "127.0.0.1:{out}"
[destination.retry]
probe_s = 0.2
"""


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for_port(port: int, process: subprocess.Popen[bytes], timeout_s: float = 60.0) -> float:
    """Seconds until something listens."""
    began = time.perf_counter()
    while time.perf_counter() - began < timeout_s:
        if process.poll() is not None:
            raise RuntimeError(f"a process ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return time.perf_counter() - began
        except OSError:
            time.sleep(0.005)
    raise RuntimeError("nothing listens")


class HubProcess:
    """A running hub; `ports` by source name, `folder` its data."""

    def __init__(self, folder: Path) -> None:
        names = ("web", "keep", "record", "through", "both", "out")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.folder = folder
        self.log = folder / "log"
        (folder / "hub.toml").write_text(HUB.format(**self.ports))
        self.listens_s = self.ready_s = 0.0
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "hub.app.cli", "run", "--config", str(self.folder / "hub.toml")],
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        began = time.perf_counter()
        self.listens_s = wait_for_port(self.ports["keep"], process)
        while b"hub.ready" not in self.log.read_bytes():
            if process.poll() is not None:
                raise RuntimeError(self.log.read_text()[-2000:])
            time.sleep(0.01)
        self.ready_s = time.perf_counter() - began
        return process

    @property
    def database(self) -> Path:
        return self.folder / "data" / "vaguemestre.db"

    def cpu_s(self, pid: int = 0) -> float:
        fields = Path(f"/proc/{pid or self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def cpu_with_workers_s(self) -> float:
        """Of the process and of its workers that live now."""
        return self.cpu_s() + sum(self.cpu_s(pid) for pid in self.workers())

    def workers(self) -> list[int]:
        """Its processes that live now."""
        found: list[int] = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
        return sorted(set(found))

    def count(self, sql: str) -> int:
        """What one query of the database counts."""
        import sqlite3

        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        (found,) = connection.execute(sql).fetchone()
        connection.close()
        return int(found)

    def rss_mb(self, pid: int = 0) -> float:
        status = Path(f"/proc/{pid or self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def again(self) -> None:
        """Stop and start on the same data."""
        self.stop()
        self.log.unlink()
        self.process = self._start()

    def settled(self, timeout_s: float = 600.0) -> float:
        """Seconds until nothing is RECEIVED or ROUTED any more."""
        import sqlite3

        began = time.perf_counter()
        while time.perf_counter() - began < timeout_s:
            connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
            (left,) = connection.execute(
                "SELECT count(*) FROM message WHERE state IN ('RECEIVED','ROUTED') AND state <> 'DONE'"
            ).fetchone()
            connection.close()
            if not left:
                return time.perf_counter() - began
            time.sleep(0.05)
        raise RuntimeError("messages stay open")


@contextmanager
def hub():
    """A hub on a data folder of its own, on the disk of the temporary folder."""
    with tempfile.TemporaryDirectory(prefix="vaguemestre-bench-") as folder:
        running = HubProcess(Path(folder))
        try:
            yield running
        finally:
            if running.process.poll() is None:
                running.stop()


@contextmanager
def peer():
    """python-hl7's server; its port."""
    (port,) = free_ports(1)
    process = subprocess.Popen([sys.executable, "-m", "bench.peer", f"127.0.0.1:{port}"], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def load(port: int, connections: int, messages: int, *more: str) -> dict[str, Any]:
    """The result of one load; `messages` in all."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench.traffic",
            "load",
            f"127.0.0.1:{port}",
            "-c",
            str(connections),
            "-m",
            str(max(1, messages // connections)),
            *more,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout)


@contextmanager
def sink(port: int, expect: int):
    """A receiver; the yielded list holds its result after the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.traffic", "sink", f"127.0.0.1:{port}", "--expect", str(expect), "--idle", "20"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    wait_for_port(port, process)
    result: list[dict[str, Any]] = []
    yield result
    out, _ = process.communicate(timeout=900)
    result.append(json.loads(out))


def fdatasync_ms(folder: str | None = None, n: int = 300) -> dict[str, float]:
    """Append 4 KiB and fdatasync, `n` times: median and 99th percentile."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(n):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1e3)
    times.sort()
    return {"p50": round(times[n // 2], 3), "p99": round(times[n * 99 // 100], 3)}
