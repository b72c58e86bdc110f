"""Single faults: each breaks one thing of a running cluster, waits, and mends it."""

from __future__ import annotations

import asyncio
import random
import shutil
import time

from chaos_cluster import LEASE_S, Cluster, Node
from chaos_proxy import BLACKHOLE, RESET

BEYOND_LEASE_S = LEASE_S + 1.5
FAILOVER_WAIT_S = 30.0
_HEADS_OF = (  # of each lane that a process owns, the delivery whose turn it is
    "SELECT min(d.id) FROM delivery d JOIN lane l ON l.key = d.lane JOIN member m ON m.owner = l.owner WHERE m.pid = %s "
    "AND l.destination <> 'bad' AND d.state IN ('QUEUED', 'WAITING', 'SENDING', 'UNSURE') GROUP BY l.key"
)
_UNROUTED_OF = (
    "SELECT g.id FROM message g JOIN job_lease j ON j.job = 'route/' || g.shard JOIN member m ON m.owner = j.owner "
    "WHERE m.pid = %s AND g.state = 'RECEIVED'"
)


async def kill_edge(cluster: Cluster, rng: random.Random) -> None:
    async with cluster.one(rng, "edge", "all") as node, cluster.trouble(f"kill_{node.role}", node.name):
        await _kill_and_start(cluster, rng, node)


async def kill_web(cluster: Cluster, rng: random.Random) -> None:
    async with cluster.one(rng, "web") as node, cluster.trouble("kill_web", node.name):
        await _kill_and_start(cluster, rng, node)


async def _kill_and_start(cluster: Cluster, rng: random.Random, node: Node) -> None:
    node.kill()
    await asyncio.sleep(rng.uniform(0.0, 1.0))
    node.start()
    await cluster.ready(node)


async def kill_worker(cluster: Cluster, rng: random.Random) -> None:
    """Kill one that is busy, measure how long its lanes stand still; it comes back when the others have gone on with them."""
    async with cluster.one(rng, "worker", "all") as node, cluster.trouble(f"kill_{node.role}", node.name):
        pid = node.process.pid
        for _ in range(5):
            await _until_busy(cluster, pid)
            node.pause()  # what it holds in this moment it holds when it is killed
            deliveries, messages = await _held(cluster, pid)
            if deliveries or messages:
                break
            node.resume()
        node.kill()
        killed_at = time.monotonic()
        cluster.figure("held_when_killed", len(deliveries) + len(messages))
        while (deliveries or messages) and time.monotonic() < killed_at + FAILOVER_WAIT_S:
            await asyncio.sleep(0.05)
            deliveries = await _still(cluster, "SELECT id FROM delivery WHERE id = ANY(%s) AND state <> 'DELIVERED'", deliveries)
            messages = await _still(cluster, "SELECT id FROM message WHERE id = ANY(%s) AND state = 'RECEIVED'", messages)
        cluster.figure("failover_s", time.monotonic() - killed_at)
        node.start()
        await cluster.ready(node)


async def _held(cluster: Cluster, pid: int) -> tuple[list[int], list[int]]:
    """The heads of the lanes of a process, and messages that it has to route."""
    deliveries, messages = await cluster.rows(_HEADS_OF, pid), await cluster.rows(_UNROUTED_OF, pid)
    return [row[0] for row in deliveries], [row[0] for row in messages]


async def _until_busy(cluster: Cluster, pid: int) -> None:
    """Wait a little for a moment in which it holds something."""
    until = time.monotonic() + 2
    while not any(await _held(cluster, pid)) and time.monotonic() < until:
        await asyncio.sleep(0.02)


async def _still(cluster: Cluster, sql: str, ids: list[int]) -> list[int]:
    return [row[0] for row in await cluster.rows(sql, ids)] if ids else []


async def kill_nats(cluster: Cluster, rng: random.Random) -> None:
    async with cluster.bell_lock:
        with_store = rng.random() < 0.5
        async with cluster.trouble("kill_nats"):
            await asyncio.to_thread(cluster.nats.kill)
            await asyncio.sleep(rng.uniform(0.3, 2.0))
            if not with_store:
                await asyncio.to_thread(shutil.rmtree, cluster.nats.store, ignore_errors=True)
            await asyncio.to_thread(cluster.nats.start)


async def stop_postgres_immediate(cluster: Cluster, rng: random.Random) -> None:
    """`pg_ctl -m immediate`, a pause, a start with recovery; then a while of work, so that there is something to recover."""
    async with cluster.database_lock:
        async with cluster.trouble("stop_postgres"):
            stopped_at = time.monotonic()
            await asyncio.to_thread(cluster.postgres.stop_immediate)
            await asyncio.sleep(rng.uniform(0.1, 2.0))
            await asyncio.to_thread(cluster.postgres.start)
            cluster.figure("outage_s", time.monotonic() - stopped_at)
        await asyncio.sleep(rng.uniform(0.2, 2.0))


async def cut_worker_reset(cluster: Cluster, rng: random.Random) -> None:
    async with cluster.one(rng, "worker", "all") as node:
        await _cut(cluster, rng, node, RESET)


async def cut_worker_blackhole(cluster: Cluster, rng: random.Random) -> None:
    async with cluster.one(rng, "worker", "all") as node:
        await _cut(cluster, rng, node, BLACKHOLE)


async def cut_edge(cluster: Cluster, rng: random.Random) -> None:
    async with cluster.one(rng, "edge") as node:
        await _cut(cluster, rng, node, rng.choice((RESET, BLACKHOLE)))


async def _cut(cluster: Cluster, rng: random.Random, node: Node, how: str) -> None:
    """Cut a process off PostgreSQL until it has missed its lease; a black hole may give back late what it swallowed."""
    async with cluster.trouble(f"cut_{node.role}", f"{node.name} {how}"):
        node.proxy.cut(how)
        await asyncio.sleep(BEYOND_LEASE_S + rng.uniform(0.0, 1.0))
        node.proxy.mend(forget=rng.random() < 0.5)
        await cluster.ready(node)


async def pause_worker(cluster: Cluster, rng: random.Random) -> None:
    async with cluster.one(rng, "worker", "all") as node:
        await _pause(cluster, rng, node)


async def pause_edge(cluster: Cluster, rng: random.Random) -> None:
    async with cluster.one(rng, "edge") as node:
        await _pause(cluster, rng, node)


async def _pause(cluster: Cluster, rng: random.Random, node: Node) -> None:
    """SIGSTOP beyond the lease, then SIGCONT."""
    async with cluster.trouble(f"pause_{node.role}", node.name):
        node.pause()
        await asyncio.sleep(BEYOND_LEASE_S + rng.uniform(0.0, 1.0))
        node.resume()
        await cluster.ready(node)


async def restart(cluster: Cluster, rng: random.Random) -> None:
    """Not a fault: SIGTERM, an end in order, a new start, as in a rolling upgrade. It leaves no delivery in doubt."""
    async with cluster.one(rng, "edge", "worker", "web", "all") as node, cluster.trouble(f"restart_{node.role}", node.name):
        began = time.monotonic()
        code = await node.stop()
        assert code == 0, f"{node.name} ended with {code}"
        cluster.figure("stop_s", time.monotonic() - began)
        node.start()
        await cluster.ready(node)


async def receiver_down(cluster: Cluster, rng: random.Random) -> None:
    """The bad destination is dead for a while."""
    async with cluster.receiver_lock, cluster.trouble("receiver_down", "bad"):
        await cluster.receivers["bad"].stop()
        await asyncio.sleep(rng.uniform(0.5, 3.0))
        await cluster.receivers["bad"].start()


async def nothing(cluster: Cluster, rng: random.Random) -> None:
    """Traffic without a fault."""
    await asyncio.sleep(rng.uniform(0.5, 4.0))
