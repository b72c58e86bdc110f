"""Scheduled work. APScheduler only ticks: what is due stands in the ledger, and where several processes tick, one does it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from hub.app import feeds, polling
from hub.app.config import Installation
from hub.ledger import forgetting, leases
from hub.model import log
from hub.model.ports import Source
from hub.store import Store, StoreUnavailable, Transaction

PAUSE_S = 0.05  # between two slices: other work goes first
FORGET_EVERY_S = 600.0
PRUNE_EVERY_S = 600.0


class Swept(Protocol):
    """What the jobs need of the hub."""

    @property
    def store(self) -> Store: ...
    @property
    def owner(self) -> str: ...
    @property
    def dedupe_window_us(self) -> int: ...
    @property
    def sources(self) -> Sequence[Source]: ...
    @property
    def installation(self) -> Installation: ...
    @property
    def makes_deliveries(self) -> bool: ...
    async def sweep(self) -> None: ...
    async def prune(self) -> None: ...
    async def count_pruned(self) -> None: ...


def start_jobs(hub: Swept, sweep_s: float = 5.0, forget_s: float = FORGET_EVERY_S) -> AsyncIOScheduler:
    """Start the clock of one process."""
    scheduler = AsyncIOScheduler(timezone="UTC")

    def every(seconds: float, name: str, job: Callable[[], Awaitable[object]]) -> None:
        async def guarded() -> None:
            try:
                await job()
            except StoreUnavailable as error:
                log.event("job.store_unavailable", level="warning", job=name, reason=error.code)

        scheduler.add_job(guarded, "interval", seconds=seconds, id=name, max_instances=1, coalesce=True, misfire_grace_time=None)

    async def watch_sources() -> None:
        polling.watch(scheduler, hub)
        feeds.watch(scheduler, hub)

    every(sweep_s, "sweep", hub.sweep)
    every(sweep_s, "watch-sources", watch_sources)
    every(forget_s, "forget", lambda: once(hub, "forget", forget_s, lambda: forget(hub)))
    every(PRUNE_EVERY_S, "prune", hub.prune)
    every(PRUNE_EVERY_S, "count-pruned", hub.count_pruned)
    polling.watch(scheduler, hub)
    feeds.watch(scheduler, hub)
    scheduler.start()
    return scheduler


async def once(hub: Swept, name: str, every_s: float, job: Callable[[], Awaitable[None]]) -> bool:
    """Do a job that is done once in `every_s`, by whichever process comes first; whether it was this one."""
    store = hub.store

    def take(tx: Transaction) -> bool:
        now = store.now_us()
        until = now + int(every_s * 0.9 * 1e6)
        return bool(leases.take(tx, [f"job/{name}"], owner=f"{hub.owner} {name}", now=now, lease_until=until))

    if not await store.write(take):
        return False
    await job()
    return True


async def forget(hub: Swept) -> None:
    """Forget the keys of messages that are older than the dedupe window."""
    looked_at = forgetting.SLICE
    while looked_at == forgetting.SLICE:
        before = hub.store.now_us() - hub.dedupe_window_us
        looked_at = await hub.store.write(lambda tx, before=before: forgetting.forget_keys(tx, before=before))  # type: ignore[misc]
        await asyncio.sleep(PAUSE_S)
