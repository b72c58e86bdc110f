"""The stories: each breaks one thing, again and again, under traffic; `random_mix` breaks anything. Afterwards all is checked."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import chaos_faults as faults
import psycopg
import pytest
from chaos_checker import Violation, check, counts
from chaos_cluster import Cluster, Node
from chaos_ends import ended
from chaos_history import History

from bench.services import PostgresServer

PATIENCE_S = 90.0  # of the senders, after the last fault
HOUR_S = 3600
DISK = "400m"
Fault = Callable[[Cluster, random.Random], Awaitable[None]]


@dataclass
class Outcome:
    """What came out of a story."""

    name: str
    seed: int
    settled: bool
    all_answered: bool
    violations: list[Violation]
    counted: dict[str, int]
    figures: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        words = [f"{name} {value}" for name, value in self.counted.items()]
        words += [f"{name} {value:g}" for name, value in self.figures.items()]
        lines = [f"{self.name} (seed {self.seed}): " + "  ".join(words)]
        kinds = Counter(violation.kind for violation in self.violations)
        lines += [f"  {n} x {kind}" for kind, n in kinds.items()]
        shown: Counter[str] = Counter()
        for violation in self.violations:
            shown[violation.kind] += 1
            if shown[violation.kind] <= 3:
                lines.append(f"    {violation}")
        return "\n".join([*lines, *(f"  {remark}" for remark in self.remarks)])

    @property
    def is_good(self) -> bool:
        return self.settled and self.all_answered and not self.violations and not self.remarks


async def play(cluster: Cluster, name: str, schedule: list[list[Fault]], *, seconds: float, rounds: int = 1000) -> Outcome:
    """Traffic for some seconds; meanwhile one loop for each list of `schedule` picks faults from it. Then wait, and check all."""
    cluster.stories += 1
    rng = random.Random(f"{cluster.seed}/{name}/{cluster.stories}")
    began, before = time.monotonic(), len(cluster.troubles)
    traffic = cluster.send(f"{name[:1].upper()}{cluster.stories}R", seconds)
    try:
        await asyncio.sleep(0.5)
        await asyncio.gather(*(_loop(cluster, chosen, rng, began + seconds, rounds) for chosen in schedule))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(traffic), seconds + PATIENCE_S)
    finally:
        all_answered = traffic.done()
        await ended(traffic)
    settled = await cluster.settled()
    history = await cluster.history()
    violations = check(history)
    remarks = cluster.remarks()
    figures = {
        "seconds": round(time.monotonic() - began, 1),
        "fenced": cluster.fenced(),
        "restarts": cluster.restarts,
        **_delays(history, cluster.troubles[before:]),
        **{key: round(max(values), 2) for key, values in cluster.figures.items()},
    }
    return Outcome(name, cluster.seed, settled, all_answered, violations, counts(history), figures, remarks)


async def _loop(cluster: Cluster, chosen: list[Fault], rng: random.Random, until: float, rounds: int) -> None:
    for _ in range(rounds):
        if time.monotonic() >= until:
            return
        await rng.choice(chosen)(cluster, rng)
        await asyncio.sleep(rng.uniform(0.1, 1.0))


def _delays(history: History, troubles: list) -> dict[str, float]:
    """Seconds from the acknowledgement to the arrival at the quick destination."""
    if not troubles:
        return {}
    since = min(trouble.began_at for trouble in troubles) - 1
    first: dict[str, float] = {}
    for arrival in history.arrivals["near"]:
        first.setdefault(arrival.control_id, arrival.at)
    delays = sorted(
        first[message.control_id] - message.acked_at
        for message in history.messages
        if message.acked_at is not None and message.acked_at > since and message.control_id in first
    )
    return {"worst_delay_s": round(delays[-1], 2), "median_delay_s": round(delays[len(delays) // 2], 3)} if delays else {}


# ---- clocks --------------------------------------------------------------------------------------------------------


def clock_library(folder: Path) -> Path:
    """clock.c, compiled; skips by name without a compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("clocks that differ: needs a C compiler")
    library = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def skew(library: Path) -> Callable[[Node], None]:
    """The first edge and worker live an hour ahead, the last worker an hour behind."""

    def shift(node: Node) -> None:
        hours = {"edge-1": 1, "worker-1": 1, "worker-2": -1}.get(node.name, 0)
        if hours:
            node.environment.update(LD_PRELOAD=str(library), CLOCK_SHIFT_S=str(hours * HOUR_S))

    return shift


# ---- a disk that fills ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk() -> Iterator[Path]:
    """A folder on a small file system of its own, which the user postgres may reach; skips by name without the right to mount."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-disk-"))
    folder.chmod(0o755)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "chaos", folder], capture_output=True, check=False
    )
    if done.returncode:
        folder.rmdir()
        pytest.skip("a small file system of its own: needs the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False)
        folder.rmdir()


def fill(folder: Path, leave_bytes: int = 0) -> Path:
    """Fill the file system of a folder; the file that does it."""
    filler = folder / "filler"
    free = shutil.disk_usage(folder).free - leave_bytes
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as out:
        while free > 0:
            free -= out.write(bytes(min(free, 1 << 20)))
    return filler


async def postgres_disk_full(cluster: Cluster, rng: random.Random) -> None:
    """No room for some seconds; then room again, and a server that stopped over it is started as its supervisor would."""
    async with cluster.database_lock, cluster.trouble("postgres_disk_full"):
        folder = cluster.postgres.folder
        filler = await asyncio.to_thread(fill, folder, rng.choice((0, 1 << 20)))
        until = time.monotonic() + rng.uniform(2.0, 4.0)
        refused = False
        while time.monotonic() < until:
            await asyncio.sleep(0.2)
            await asyncio.to_thread(fill_rest, filler)
            refused = refused or await _takes_no_writes(cluster)
        filler.unlink()
        await asyncio.to_thread(cluster.postgres.start)
        cluster.figure("disk_refused", refused)


def fill_rest(filler: Path) -> None:
    """Take also the room that was freed meanwhile."""
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as out:
        out.write(bytes(max(0, shutil.disk_usage(filler.parent).free)))


async def _takes_no_writes(cluster: Cluster) -> bool:
    def write() -> bool:
        try:
            with psycopg.connect(cluster.url, autocommit=True, connect_timeout=2) as connection:
                connection.execute("CREATE TEMP TABLE room AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
        except psycopg.Error:
            return True
        return False

    return await asyncio.to_thread(write)


def small_postgres(folder: Path) -> PostgresServer:
    """A server on the small disk, with as little WAL as it can do with."""
    return PostgresServer(
        folder / "pg",
        {"shared_buffers": "16MB", "min_wal_size": "32MB", "max_wal_size": "32MB", "wal_recycle": "off", "wal_init_zero": "off"},
    )


# ---- all of them ---------------------------------------------------------------------------------------------------

SINGLE: dict[str, Fault] = {
    "nothing": faults.nothing,
    "kill_edge": faults.kill_edge,
    "kill_worker": faults.kill_worker,
    "kill_web": faults.kill_web,
    "kill_nats": faults.kill_nats,
    "stop_postgres_immediate": faults.stop_postgres_immediate,
    "cut_worker_reset": faults.cut_worker_reset,
    "cut_worker_blackhole": faults.cut_worker_blackhole,
    "cut_edge": faults.cut_edge,
    "pause_worker": faults.pause_worker,
    "pause_edge": faults.pause_edge,
    "restart": faults.restart,
    "receiver_down": faults.receiver_down,
}
SERVERS = [faults.kill_nats, faults.stop_postgres_immediate, *[faults.nothing] * 2]
PROCESSES = [fault for name, fault in SINGLE.items() if name not in ("nothing", "kill_nats", "stop_postgres_immediate")]


async def random_mix(cluster: Cluster, seconds: float) -> Outcome:
    """Two loops that break processes and one that breaks servers, side by side."""
    return await play(cluster, "random_mix", [PROCESSES, PROCESSES, SERVERS], seconds=seconds)
