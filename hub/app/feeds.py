"""Change feeds at work: a job each; where several processes share a store, one of them at a time tells a receiver."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from adapters.mllp.tls import TlsClientOptions, client_context
from adapters.rest_hook import RestHook
from hub.app.config import Installation, absolute
from hub.app.config_feed import FeedSection
from hub.flow.feed import Feed, FeedSpec
from hub.ledger import leases
from hub.model import log
from hub.model.refusals import DeliveryFailed, Misconfigured
from hub.store import Store, StoreUnavailable, Transaction

LEASE_S, BASE_S, CAP_S = 60.0, 5.0, 300.0
_PREFIX = "feed "


class Feeding(Protocol):
    """What feeds need of the hub."""

    @property
    def store(self) -> Store: ...
    @property
    def owner(self) -> str: ...
    @property
    def installation(self) -> Installation: ...
    @property
    def makes_deliveries(self) -> bool: ...


@dataclass(slots=True)
class _Told:
    """One receiver, and how its last notification went."""

    section: FeedSection
    hub: Feeding
    failures: int = 0
    not_before: float = 0.0
    lease_until: float = field(default=0.0)

    async def tick(self) -> None:
        """Tell what is to be told, when it is this process's turn and the receiver is not left alone for a while."""
        if time.monotonic() < self.not_before or not await self._take():
            return
        try:
            hook = make_hook(self.section, self.hub.installation)
            async with hook.client() as client:
                spec = FeedSpec(self.section.name, frozenset(self.section.types), self.section.from_start)
                await Feed(spec, self.hub.store, lambda body: hook.post(client, body)).push(self._may_go_on)
        except (DeliveryFailed, Misconfigured) as error:
            self.failures += 1
            wait = min(CAP_S, BASE_S * 2 ** min(self.failures - 1, 10))
            self.not_before = time.monotonic() + wait
            level = "warning" if self.failures == 1 else "info"
            log.event("feed.not_told", level=level, destination=self.section.name, reason=error.code, attempts=self.failures)
        except StoreUnavailable as error:
            log.event("feed.store_unavailable", level="warning", destination=self.section.name, reason=error.code)
        else:
            if self.failures:
                log.event("feed.told_again", destination=self.section.name, attempts=self.failures)
            self.failures = 0

    def _may_go_on(self) -> bool:
        return time.monotonic() < self.lease_until - self.section.timeout_s

    async def _take(self) -> bool:
        """Hold the lease for a while longer, or take it."""
        store, job, owner = self.hub.store, f"job/feed {self.section.name}", f"{self.hub.owner} feed"
        length = LEASE_S + 2 * self.section.timeout_s
        began = time.monotonic()

        def take(tx: Transaction) -> bool:
            now = store.now_us()
            until = now + int(length * 1e6)
            if leases.extend(tx, job, owner=owner, lease_until=until):
                return True
            return bool(leases.take(tx, [job], owner=owner, now=now, lease_until=until))

        try:
            taken = await store.write(take)
        except StoreUnavailable:
            return False
        self.lease_until = began + length
        return taken


def make_hook(section: FeedSection, installation: Installation) -> RestHook:
    """The channel that a section describes.

    Raises:
        Misconfigured: a file that cannot be read, or TLS files that do not load.
    """
    token = ""
    if section.token_file is not None:
        try:
            token = (absolute(installation, section.token_file) or Path()).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(str(section.token_file), "token_file", f"cannot be read ({type(error).__name__})") from None

    def file(path: Path | None) -> str:
        return str(absolute(installation, path) or "")

    tls = None
    if section.url.startswith("https://"):
        tls = client_context(TlsClientOptions(file(section.tls_ca_file), file(section.tls_cert_file), file(section.tls_key_file)))
    return RestHook(section.url, token, tls, section.timeout_s)


def watch(scheduler: AsyncIOScheduler, hub: Feeding) -> None:
    """A job for each feed of the configuration, at its own pace; none for one that is gone. May be called again at any time."""
    sections = hub.installation.configuration.feed if hub.makes_deliveries else []
    wanted = {f"{_PREFIX}{one.name}": one for one in sections}
    there = {job.id: job for job in scheduler.get_jobs() if job.id.startswith(_PREFIX)}
    for name in there.keys() - wanted.keys():
        scheduler.remove_job(name)
    for name, section in wanted.items():
        job = there.get(name)
        if job is not None and job.args[0].section == section:
            continue
        scheduler.add_job(
            _Told.tick,
            "interval",
            args=(_Told(section, hub),),
            seconds=section.poll_s,
            id=name,
            replace_existing=True,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
