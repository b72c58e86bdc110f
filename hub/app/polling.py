"""Sources that are polled: a job each; where several processes share a store, one of them at a time looks into a source."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Protocol

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from hub.flow.files_in import FileSource
from hub.ledger import leases
from hub.model import log
from hub.model.ports import Source
from hub.store import Store, StoreUnavailable, Transaction

LEASE_S = 30.0  # after this long without a renewal another process looks, and takes what was claimed
_PREFIX = "poll "


class Polls(Protocol):
    """What polling needs of the hub."""

    @property
    def store(self) -> Store: ...
    @property
    def owner(self) -> str: ...
    @property
    def sources(self) -> Sequence[Source]: ...


def watch(scheduler: AsyncIOScheduler, hub: Polls) -> None:
    """A job for each source that is polled, at its own pace; none for one that is gone. May be called again at any time."""
    wanted = {f"{_PREFIX}{source.name}": source.poll_s for source in hub.sources if isinstance(source, FileSource)}
    there = {job.id: job for job in scheduler.get_jobs() if job.id.startswith(_PREFIX)}
    for name in there.keys() - wanted.keys():
        scheduler.remove_job(name)
    for name, poll_s in wanted.items():
        job = there.get(name)
        if job is not None and job.trigger.interval.total_seconds() == poll_s:
            continue
        scheduler.add_job(
            poll,
            "interval",
            args=(hub, name.removeprefix(_PREFIX)),
            seconds=poll_s,
            id=name,
            replace_existing=True,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )


async def poll(hub: Polls, name: str) -> None:
    """Let the source of that name look once, when it is this process's turn."""
    source = next((one for one in hub.sources if isinstance(one, FileSource) and one.name == name), None)
    if source is None:
        return None
    if not hub.store.shared:
        return await source.poll()
    turn = _Turn(hub, name)
    try:
        if await turn.take():
            renewing = asyncio.create_task(turn.keep())
            try:
                await source.poll(turn.lasts)
            finally:
                renewing.cancel()
                await turn.give_back()
    except StoreUnavailable as error:
        log.event("job.store_unavailable", level="warning", job="poll", source=name, reason=error.code)


class _Turn:
    """The lease on one source. Whether it lasts is told by our own clock, from before the renewal was asked for."""

    def __init__(self, hub: Polls, name: str) -> None:
        self._hub, self._job = hub, f"{_PREFIX}{name}"
        self._owner = f"{hub.owner} {self._job}"
        self._until = 0.0

    def lasts(self) -> bool:
        return time.monotonic() < self._until

    async def take(self) -> bool:
        """Take it, or take it for longer; whether it is ours.

        Raises:
            StoreUnavailable.
        """
        began, store = time.monotonic(), self._hub.store

        def taken(tx: Transaction) -> bool:
            now = store.now_us()
            leases.give_back(tx, [self._job], owner=self._owner)
            return bool(leases.take(tx, [self._job], owner=self._owner, now=now, lease_until=now + int(LEASE_S * 1e6)))

        ours = await store.write(taken)
        self._until = began + LEASE_S if ours else 0.0
        return ours

    async def keep(self) -> None:
        """Renew it three times in its length."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            with contextlib.suppress(StoreUnavailable):
                await self.take()

    async def give_back(self) -> None:
        """
        Raises:
            StoreUnavailable.
        """
        await self._hub.store.write(lambda tx: leases.give_back(tx, [self._job], owner=self._owner))
