"""Scheduled work. APScheduler only ticks: what is due stands in the ledger."""

from __future__ import annotations

from typing import Protocol

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from hub.model import log
from hub.store import StoreUnavailable


class Swept(Protocol):
    async def sweep(self) -> None: ...


def start_jobs(hub: Swept, sweep_s: float = 5.0) -> AsyncIOScheduler:
    """Start the clock of one process."""

    async def sweep() -> None:
        try:
            await hub.sweep()
        except StoreUnavailable as error:
            log.event("sweep.store_unavailable", level="warning", reason=error.code)

    scheduler = AsyncIOScheduler(timezone="UTC")
    scheduler.add_job(sweep, "interval", seconds=sweep_s, id="sweep", max_instances=1, coalesce=True, misfire_grace_time=None)
    scheduler.start()
    return scheduler
