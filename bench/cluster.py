"""Speed of a hub of several processes on this machine: edges, workers, PostgreSQL and NATS of its own.

    python -m bench.cluster                         everything (about ten minutes)
    python -m bench.cluster acks through both       only these
    python -m bench.cluster through --workers 2     another number of workers (4) or edges (2)

Loads, receivers, servers and hub share the cores: every figure is what is left of them. CPU is given by part, so that a model
for more machines can be made of it (docs/scale.md).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from bench.running import ROOT, TICKS, fdatasync_ms, free_ports, load, sink, wait_for_port
from bench.services import NatsServer, PostgresServer
from hub.store.place import place_of
from hub.store.upgrade import upgrade

Report = dict[str, Any]

CLUSTER = """
[hub]
data_dir = "data"
environment = "test"
[store]
url = "{url}"
[bell]
url = "{nats}"
[web]
listen = "127.0.0.1:{web}"
"""
SOURCE = """
[[source]]
name = "{name}"
kind = "mllp"
listen = "127.0.0.1:{port}"
routes = {routes}
"""
DESTINATION = """
[[destination]]
name = "{name}"
kind = "mllp"
connect = "127.0.0.1:{port}"
[destination.retry]
probe_s = 0.5
"""
SOURCES = {"keep": "[]", "record": '["record"]', "through": '["out"]', "both": '["record", "out"]', "dead": '["gone"]'}
SETTINGS = {"shared_buffers": "256MB", "max_connections": "200", "max_wal_size": "4GB", "wal_compression": "lz4"}


class Cluster:
    """The processes of one hub, and what they cost."""

    def __init__(self, folder: Path, postgres: PostgresServer, nats: NatsServer, edges: int, workers: int) -> None:
        self.folder, self.postgres, self.nats = folder, postgres, nats
        self.url = postgres.create_database()
        names = [*SOURCES, "out", "gone", "web"]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        text = CLUSTER.format(url=self.url, nats=nats.url, web=self.ports["web"])
        text += "".join(SOURCE.format(name=name, port=self.ports[name], routes=routes) for name, routes in SOURCES.items())
        text += "".join(DESTINATION.format(name=name, port=self.ports[name]) for name in ("out", "gone"))
        (folder / "hub.toml").write_text(text)
        upgrade(place_of(self.url, base=folder, default=folder))
        self.parts: dict[str, list[subprocess.Popen[bytes]]] = {"edge": [], "worker": []}
        for role, n in (("edge", edges), ("worker", workers)):
            for number in range(n):
                self.parts[role].append(self._spawn(role, number))
        for role in self.parts:
            self._until_ready(role)
        wait_for_port(self.ports["keep"], self.parts["edge"][0])
        self.connection = psycopg.connect(self.url, autocommit=True)

    def _log(self, role: str, number: int) -> Path:
        return self.folder / f"{role}{number}.log"

    def _spawn(self, role: str, number: int) -> subprocess.Popen[bytes]:
        with self._log(role, number).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "hub.app.cli", "run", "-c", str(self.folder / "hub.toml"), "--role", role],
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )

    def _until_ready(self, role: str) -> None:
        for number, process in enumerate(self.parts[role]):
            log = self._log(role, number)
            while b"hub.ready" not in log.read_bytes():
                if process.poll() is not None:
                    raise RuntimeError(log.read_text()[-3000:])
                time.sleep(0.02)

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by part."""
        found = {role: sum(_cpu_s(process.pid) for process in processes) for role, processes in self.parts.items()}
        return {**found, "postgres": self.postgres.cpu_s(), "nats": self.nats.cpu_s()}

    def row(self, sql: str) -> tuple[Any, ...]:
        found = self.connection.execute(sql.encode()).fetchone()
        assert found is not None
        return found

    def wal(self) -> int:
        """Bytes that PostgreSQL has written to its log so far."""
        return int(self.row("SELECT pg_current_wal_lsn() - '0/0'")[0])

    def settled(self, but: str = "", timeout_s: float = 900.0) -> float:
        """Seconds until nothing waits, but for messages of the source `but`."""
        began = time.perf_counter()
        while time.perf_counter() - began < timeout_s:
            left = self.row(
                f"SELECT count(*) FROM message WHERE state IN ('RECEIVED','ROUTED') AND state <> 'DONE' AND source <> '{but}'"
            )[0]
            if not left:
                return time.perf_counter() - began
            time.sleep(0.1)
        raise RuntimeError(f"messages stay open: {self.row('SELECT count(*), min(state) FROM message WHERE state <> $$DONE$$')}")

    def kill_worker(self) -> None:
        process = self.parts["worker"].pop(0)
        process.kill()
        process.wait()

    def stop(self) -> None:
        self.connection.close()
        running = [process for processes in self.parts.values() for process in processes]
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(30)
        self.postgres.drop_database(self.url)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def servers() -> Iterator[tuple[PostgresServer, NatsServer]]:
    """PostgreSQL and NATS for all measurements of one run."""
    postgres, nats = (
        PostgresServer(Path(tempfile.mkdtemp(prefix="vaguemestre-bench-pg-")), SETTINGS),
        NatsServer(Path(tempfile.mkdtemp(prefix="vaguemestre-bench-nats-"))),
    )
    postgres.start()
    nats.start()
    try:
        yield postgres, nats
    finally:
        nats.stop()
        postgres.stop()


SERVERS: list[tuple[PostgresServer, NatsServer]] = []
SIZE = {"edges": 2, "workers": 4}


@contextmanager
def cluster(workers: int = 0) -> Iterator[Cluster]:
    """A hub of the asked size on a new database."""
    with tempfile.TemporaryDirectory(prefix="vaguemestre-bench-") as folder:
        running = Cluster(Path(folder), *SERVERS[0], SIZE["edges"], workers or SIZE["workers"])
        try:
            yield running
        finally:
            running.stop()


def _per_message(before: dict[str, float], after: dict[str, float], n: int) -> dict[str, float]:
    """CPU milliseconds a message, by part."""
    found = {part: round((after[part] - before[part]) / n * 1e3, 3) for part in after}
    return {**found, "all": round(sum(found.values()), 3)}


def acks() -> Report:
    """Durable acknowledgements: 1 KB ADT on two edges, nothing routed further."""
    report: Report = {}
    with cluster() as c:
        load(c.ports["keep"], 16, 4_000)
        for connections, n in ((1, 2_000), (16, 16_000), (64, 16_000)):
            c.settled()
            before = c.cpu_s()
            got = load(c.ports["keep"], connections, n)
            c.settled()
            report[f"{connections} connections"] = {k: got[k] for k in ("per_s", "p50_ms", "p99_ms")}
        report["cpu ms a message"] = _per_message(before, c.cpu_s(), n)
    return report


def _end_to_end(source: str, *, workers: int = 0, n: int = 12_000, patients: int = 300, connections: int = 16) -> Report:
    n -= n % connections
    with cluster(workers) as c:
        with sink(c.ports["out"], 1_600):
            time.sleep(1.0)
            load(c.ports[source], 16, 1_600)
        c.settled()
        with sink(c.ports["out"], n) as result:
            time.sleep(1.5)  # the breakers find the receiver
            began, before, wal = time.perf_counter(), c.cpu_s(), c.wal()
            got = load(c.ports[source], connections, n, "--patients", str(patients))
            c.settled()
            seconds = time.perf_counter() - began
        cpu, wal = _per_message(before, c.cpu_s(), n), (c.wal() - wal) // n
        size = c.row(f"SELECT pg_database_size(current_database()) / {n + 1_600}")[0]
    return {
        "end to end per s": round(n / seconds),
        "acks per s": got["per_s"],
        "arrived": result[0]["arrived"],
        "repeats": result[0]["repeats"],
        "inversions": len(result[0].get("inversions", ())),
        "cpu ms a message": cpu,
        "database bytes a message": size,
        "log bytes a message": wal,
    }


def through() -> Report:
    """MLLP in, MLLP out."""
    return _end_to_end("through")


def both() -> Report:
    """The same with the record written."""
    return _end_to_end("both")


def record() -> Report:
    """The record alone, acknowledged and followed."""
    with cluster() as c:
        load(c.ports["record"], 16, 2_000)
        c.settled()
        began, before, n = time.perf_counter(), c.cpu_s(), 12_000
        got = load(c.ports["record"], 16, n, "--patients", "300")
        c.settled()
        seconds = time.perf_counter() - began
        return {
            "acks": {k: got[k] for k in ("per_s", "p50_ms", "p99_ms")},
            "messages in the record per s": round(n / seconds),
            "cpu ms a message": _per_message(before, c.cpu_s(), n),
        }


def documents() -> Report:
    """CDA of 130 KB in an MDM, header read, into the record."""
    with cluster() as c:
        load(c.ports["record"], 8, 160, "--kind", "cda", "--size", "72000")
        c.settled()
        began, before, wal, n = time.perf_counter(), c.cpu_s(), c.wal(), 1_600
        got = load(c.ports["record"], 8, n, "--kind", "cda", "--size", "72000")
        c.settled()
        seconds = time.perf_counter() - began
        return {
            "acks": {k: got[k] for k in ("per_s", "p50_ms", "p99_ms")},
            "in the record per s": round(n / seconds),
            "cpu ms a document": _per_message(before, c.cpu_s(), n),
            "log bytes a document": (c.wal() - wal) // n,
        }


def workers() -> Report:
    """How throughput changes with the number of workers."""
    return {f"{n} workers": _end_to_end("both", workers=n, n=8_000) for n in (1, 2, 4)}


def many_patients() -> Report:
    """Lanes of 100,000 patients: each message is another patient's."""
    return _end_to_end("through", n=100_000, patients=100_000 // 16)


def hot_patient() -> Report:
    """One patient with thousands of messages beside ordinary traffic: what the others feel."""
    with cluster() as c:
        alone, beside = {}, {}
        for found, hot in ((alone, False), (beside, True)):
            with sink(c.ports["out"], 6_400 + 4_000 * hot) as result:
                time.sleep(1.5)
                burst = _burst(c, 4_000) if hot else None
                began = time.perf_counter()
                load(c.ports["through"], 16, 6_400, "--patients", "300", "--run", f"N{int(hot)}")
                found["others' load s"] = round(time.perf_counter() - began, 2)
                if burst is not None:
                    burst.wait()
                c.settled()
                found["settled s"] = round(time.perf_counter() - began, 2)
            found["arrived"], found["inversions"] = result[0]["arrived"], len(result[0].get("inversions", ()))
        return {"alone": alone, "beside a patient with 4,000 messages": beside}


def _burst(c: Cluster, n: int) -> subprocess.Popen[bytes]:
    words = [f"127.0.0.1:{c.ports['through']}", "-c", "1", "-m", str(n), "--patients", "1", "--run", "HOT", "--first", "90"]
    return subprocess.Popen([sys.executable, "-m", "bench.traffic", "load", *words], cwd=ROOT, stdout=subprocess.DEVNULL)


def dead_destination(waiting: int = 50_000) -> Report:
    """Other traffic before, and while 50,000 messages wait for a destination that is down."""
    with cluster() as c:
        with sink(c.ports["out"], 1_600):
            time.sleep(1.0)
            load(c.ports["through"], 16, 1_600)
        figures = []
        for step in range(2):
            with sink(c.ports["out"], 12_000) as result:
                time.sleep(1.5)
                began = time.perf_counter()
                load(c.ports["through"], 16, 12_000, "--patients", "300", "--run", f"D{step}")
                c.settled("dead")
                figures.append(round(12_000 / (time.perf_counter() - began)))
            if not step:
                load(c.ports["dead"], 32, waiting, "--patients", "600")
                while c.row("SELECT count(*) FROM message WHERE state = 'RECEIVED'")[0]:
                    time.sleep(0.2)
        open_n = c.row("SELECT count(*) FROM delivery WHERE destination = 'gone' AND state = 'WAITING'")[0]
        return {
            "end to end per s": {"before": figures[0], "with the dead one": figures[1]},
            "ratio": round(figures[1] / figures[0], 3),
            "waiting": open_n,
            "arrived": result[0]["arrived"],
        }


def failover() -> Report:
    """kill -9 of a worker under load: seconds until each lane that it owned delivers again."""
    times = []
    for _ in range(3):
        with cluster(2) as c:
            n = 6_000
            with sink(c.ports["out"], n):
                time.sleep(1.5)
                words = [f"127.0.0.1:{c.ports['through']}", "-c", "8", "-m", str(n // 8), "--patients", "50", "--rate", "400"]
                sender = subprocess.Popen(
                    [sys.executable, "-m", "bench.traffic", "load", *words], cwd=ROOT, stdout=subprocess.DEVNULL
                )
                time.sleep(4.0)
                c.kill_worker()
                killed = time.perf_counter()
                stuck = "SELECT count(*) FROM message WHERE state IN ('RECEIVED','ROUTED') AND received_at < {}"
                at = c.row("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")[0]
                while c.row(stuck.format(at))[0]:
                    time.sleep(0.02)
                times.append(round(time.perf_counter() - killed, 2))
                sender.wait()
                c.settled()
    return {"seconds until everything that waited at the kill was delivered": times}


def search() -> Report:
    """Record search on both engines: the same rows, the same questions, 95th percentile of each."""
    from bench.search import compare_engines

    return compare_engines(SERVERS[0][0].create_database())


ALL: dict[str, Callable[[], Report]] = {
    f.__name__: f
    for f in (acks, through, record, both, documents, workers, many_patients, hot_patient, dead_destination, failover, search)
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", help=", ".join(ALL))
    parser.add_argument("--edges", type=int, default=2)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    SIZE.update(edges=options.edges, workers=options.workers)
    unknown = [name for name in options.what if name not in ALL]
    if unknown:
        parser.error(f"no such measurement: {', '.join(unknown)}")
    results: Report = {"cores": os.cpu_count(), "load before": os.getloadavg()[0], "fdatasync ms": fdatasync_ms(), **SIZE}
    print(json.dumps(results))
    with servers() as both_servers:
        SERVERS.append(both_servers)
        for name in options.what or ALL:
            print(f"{name} …", file=sys.stderr, flush=True)
            results[name] = ALL[name]()
            print(json.dumps({name: results[name]}, ensure_ascii=False, indent=1), flush=True)
    out = Path(__file__).parent / "out"
    out.mkdir(exist_ok=True)
    (out / f"cluster-{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
