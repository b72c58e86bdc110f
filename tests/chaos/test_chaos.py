"""A cluster under faults: acknowledged is kept, the record's effects happen once, every lane keeps its order, nothing stays open.

Shortened here; `make chaos` runs every story for longer and on its own cluster, then breaks anything at random for minutes.
`VAGUEMESTRE_CHAOS_SEED` repeats a run's choices, `VAGUEMESTRE_CHAOS_MINUTES` says how long the random mix lasts.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from chaos_cluster import Cluster, Size, free_port
from chaos_scenarios import SINGLE, Outcome, clock_library, play, postgres_disk_full, random_mix, skew, small_disk, small_postgres

FULL = os.environ.get("VAGUEMESTRE_CHAOS") == "full"
SEED = int(os.environ.get("VAGUEMESTRE_CHAOS_SEED") or (random.SystemRandom().randrange(1_000_000) if FULL else 7))
MINUTES = float(os.environ.get("VAGUEMESTRE_CHAOS_MINUTES") or 5)
SIZE = Size(2, 4, 2, 0, rate=120, lines=12) if FULL else Size(2, 2, 1, 0, rate=40, lines=6)
SECONDS, ROUNDS = (30.0, 1000) if FULL else (3.0, 1)
pytestmark = pytest.mark.timeout(3600 if FULL else 180)


class Stage:
    """An event loop, and a cluster that stays from test to test while all is well."""

    def __init__(self, folder: Path, postgres, nats) -> None:
        self.folder, self.postgres, self.nats = folder, postgres, nats
        self.runner = asyncio.Runner()
        self.cluster: Cluster | None = None
        self._made = 0

    def build(self, size: Size = SIZE, **changes) -> Cluster:
        """A new cluster, the one before ended."""
        self.end()
        self._made += 1
        folder = self.folder / str(self._made)
        folder.mkdir()
        things = {"postgres": self.postgres, "nats": self.nats, **changes}
        self.cluster = Cluster(folder, size=size, seed=SEED, **things)
        self.runner.run(self.cluster.start())
        return self.cluster

    def play(self, name: str, schedule, *, keep: bool = False, seconds: float = SECONDS, rounds: int = ROUNDS) -> Outcome:
        """Run a story on the cluster there is; unless it is kept for the next story, stop it in order."""
        cluster = self.cluster or self.build()
        outcome = self.runner.run(play(cluster, name, schedule, seconds=seconds, rounds=rounds))
        return self.judge(outcome, keep=keep)

    def judge(self, outcome: Outcome, *, keep: bool = False) -> Outcome:
        print(f"\n{outcome}")
        if not outcome.is_good:
            self.show()
            self.end()
        assert outcome.settled, f"something never ended\n{outcome}"
        assert outcome.all_answered, f"a sender got no answer\n{outcome}"
        assert outcome.is_good, str(outcome)
        assert outcome.counted["acked"] == outcome.counted["messages"] > 0
        assert outcome.counted["pairs_in_order"] > 0
        if not keep:
            self.stop()
        return outcome

    def show(self) -> None:
        """The end of every log."""
        for node in self.cluster.nodes:
            lines = node.log.read_text(errors="replace").splitlines()[-12:]
            print(f"--- {node.name}", *lines, sep="\n")

    def stop(self) -> None:
        """SIGTERM to all: everyone ends in order."""
        codes = self.runner.run(self.cluster.stop())
        self.end()
        assert set(codes.values()) == {0}, codes

    def end(self) -> None:
        if self.cluster is not None:
            self.runner.run(self.cluster.close())
            self.cluster = None

    def close(self) -> None:
        self.end()
        self.postgres.start()
        self.nats.start()
        self.runner.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory, postgres_server, nats_server):
    made = Stage(tmp_path_factory.mktemp("chaos"), postgres_server, nats_server)
    yield made
    made.close()


SHORT = {
    "kill_edge_and_web": ("kill_edge", "kill_web"),
    "kill_worker": ("kill_worker",),
    "restart": ("restart",),
    "kill_both_servers": ("kill_nats", "stop_postgres_immediate"),
    "cut_worker_pause_edge": ("cut_worker_blackhole", "pause_edge"),
    "pause_worker_cut_edge": ("pause_worker", "cut_edge"),
    "reset_worker_and_receiver_down": ("cut_worker_reset", "receiver_down"),
}
STORIES = {name: (name,) for name in SINGLE} if FULL else SHORT


@pytest.mark.parametrize("name", list(STORIES))
def test_broken(stage, name):
    """Each fault by itself, again and again; shortened, one or two of them once."""
    outcome = stage.play(name, [[SINGLE[fault]] for fault in STORIES[name]], keep=not FULL)
    assert name == "nothing" or any(key.startswith("trouble_") for key in outcome.counted)
    if {"cut_worker_blackhole", "pause_worker", "pause_edge"} & set(STORIES[name]):
        assert outcome.figures["fenced"] >= 1, "who missed its lease has to learn it"
    if name == "kill_worker":
        assert outcome.figures["held_when_killed"] >= 1


def test_ends_in_order(stage):
    """SIGTERM ends every process with exit code 0, also after all that."""
    if stage.cluster is None:
        stage.build()
    stage.stop()


@pytest.mark.parametrize("name", ["nats_never", "clock_skew"] if FULL else ["clock_skew_and_nats_never"])
def test_adverse(stage, name):
    """Without NATS everything is slower, and right; so it is where the machines believe different hours."""
    changes = {}
    if "nats_never" in name:
        changes["bell_url"] = f"nats://127.0.0.1:{free_port()}"
    if "clock_skew" in name:
        changes["prepare"] = skew(clock_library(stage.folder))
    cluster = stage.build(**changes)
    if "clock_skew" in name:
        hours = {node.name: datetime.fromisoformat(node.events()[0]["timestamp"]) for node in cluster.nodes}
        assert hours["worker-1"] - hours["web-1"] > timedelta(minutes=59)
        assert hours["web-1"] - hours["worker-2"] > timedelta(minutes=59)
    stage.play(name, [[SINGLE["kill_worker"], SINGLE["pause_worker"], SINGLE["kill_edge"]]])


def test_postgres_disk_full(stage):
    """While PostgreSQL has no room nothing is acknowledged; afterwards everything goes on."""
    with small_disk() as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        with small_postgres(folder) as server:
            stage.build(postgres=server)
            outcome = stage.play("postgres_disk_full", [[postgres_disk_full]], seconds=SECONDS + 2)
            assert outcome.figures["disk_refused"], "the disk was never full"


@pytest.mark.skipif(not FULL, reason="VAGUEMESTRE_CHAOS is not full")
def test_random_mix(stage):
    print(f"\nseed {SEED}, {MINUTES:g} minutes")
    cluster = stage.build(Size(3, 4, 2, 1, rate=100, lines=12, patients=30))
    stage.judge(stage.runner.run(random_mix(cluster, MINUTES * 60)))
