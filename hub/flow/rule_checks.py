"""The rules of a kit over every CDA document that was kept: after the acknowledgement, beside everything else.

Documents are taken in the order in which they were filed, those from before the kit was set newest first when nothing else
waits. Findings and position are one write, so that no document is left out or checked twice; nothing is queued in memory.
One process at a time does it, under a lease. The side process is started for the first document and ended when idle.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hub.flow.workshop import Bench, Limits, Workshop
from hub.ledger import leases, positions
from hub.ledger.messages import add_findings, body_of
from hub.ledger.retention import number_at
from hub.model import log
from hub.model.refusals import Finding, TranslationFailed
from hub.record import kept_documents
from hub.record.kept_documents import KeptDocument, Stretch
from hub.store import BlobDamaged, Store, StoreUnavailable, Transaction

FORWARD, BACKWARD = "schematron", "schematron/before"
JOB, LEASE_S = "job/schematron", 240.0
TIME_S, MEMORY_MB, TASKS = 120.0, 2048, 2000
LOOK_S, IDLE_S, REST_S = 2.0, 60.0, 0.02
SETTLED_S = 60.0  # in a shared store, numbers of this age are all there: other processes have committed theirs


@dataclass(frozen=True, slots=True)
class NotRun:
    """A rule file that could not be run, with the place of its mistake."""

    stem: str
    file: str
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What the side process says of one document."""

    findings: tuple[Finding, ...]
    not_run: tuple[NotRun, ...] = ()


class RuleChecks:
    """Checks documents for as long as `bench()` says how; None: no kit is set. `rest(seconds)` returns when others may wait."""

    def __init__(
        self,
        store: Store,
        bench: Callable[[], Bench | None],
        *,
        owner: Callable[[], str],
        rest: Callable[[float], Awaitable[None]] = asyncio.sleep,
        idle_s: float = IDLE_S,
        look_s: float = LOOK_S,
        settled_s: float = SETTLED_S,
    ) -> None:
        self._store, self._bench, self._owner, self._rest = store, bench, owner, rest
        self._idle_s, self._look_s = idle_s, look_s
        self._settled_us = int(settled_s * 1e6) if store.shared else 0
        self._workshop: Workshop | None = None
        self._working_at: Bench | None = None
        self._told: set[NotRun] = set()

    async def run(self) -> None:
        """Until cancelled."""
        idle_since = time.monotonic()
        while True:
            try:
                if await self.step():
                    idle_since = time.monotonic()
                    continue
            except StoreUnavailable as error:
                log.event("job.store_unavailable", level="warning", job="schematron", reason=error.code)
            except Exception as error:
                log.event("schematron.failed", level="error", error=type(error).__name__)
            if time.monotonic() - idle_since >= self._idle_s:
                self.close()
            await asyncio.sleep(self._look_s)

    async def stop(self) -> None:
        """End the side process, and let another hub process go on."""
        self.close()
        if self._store.shared:
            with contextlib.suppress(StoreUnavailable):
                await self._store.write(lambda tx: leases.give_back(tx, [JOB], owner=f"{self._owner()} schematron"))

    def close(self) -> None:
        """End the side process, if there is one."""
        if self._workshop is not None:
            self._workshop.close()
            self._workshop = None

    @property
    def is_working(self) -> bool:
        """Whether there is a side process."""
        return self._workshop is not None

    async def step(self) -> bool:
        """Check one document, or pass over what is none; False when there is nothing to do.

        Raises:
            StoreUnavailable, ReadTooLong: the next call goes on.
        """
        bench = self._bench()
        if bench is None:
            return False
        found = await self._store.read(self._next)
        if found is None:
            await self._store.write(self._begin)
            found = await self._store.read(self._next)
        if found is None or found[2].last is None or not await self._take_turn():
            return False
        job, was, stretch = found
        began = time.perf_counter()
        findings = await self._check(stretch.document, bench) if stretch.document is not None else ()
        await self._store.write(lambda tx: self._file(tx, job, was, stretch, findings))
        await self._rest(max(REST_S, time.perf_counter() - began) if job == BACKWARD else REST_S)
        return True

    # ---- what is next ------------------------------------------------------------------------------------------------

    def _begin(self, tx: Transaction) -> None:
        now = min(kept_documents.newest(tx), self._settled(tx))
        positions.place(tx, FORWARD, now)
        positions.place(tx, BACKWARD, now + 1)

    def _settled(self, _tx: Transaction) -> int:
        return number_at(self._store.now_us() - self._settled_us) if self._settled_us else (1 << 63) - 1

    def _next(self, tx: Transaction) -> tuple[str, int, Stretch] | None:
        """The job, its position, and what follows; None before the beginning."""
        forward, backward = positions.position(tx, FORWARD), positions.position(tx, BACKWARD)
        if forward is None or backward is None:
            return None
        stretch = kept_documents.following(tx, forward, self._settled(tx))
        if stretch.last is not None:
            return FORWARD, forward, stretch
        return BACKWARD, backward, kept_documents.preceding(tx, backward)

    async def _take_turn(self) -> bool:
        """One process of a shared store does it; the lease outlasts any one document."""
        if not self._store.shared:
            return True
        now, owner = self._store.now_us(), f"{self._owner()} schematron"
        until = now + int(LEASE_S * 1e6)

        def taken(tx: Transaction) -> bool:
            if leases.extend(tx, JOB, owner=owner, lease_until=until):
                return True
            return bool(leases.take(tx, [JOB], owner=owner, now=now, lease_until=until))

        return await self._store.write(taken)

    # ---- one document ------------------------------------------------------------------------------------------------

    async def _check(self, document: KeptDocument, bench: Bench) -> tuple[Finding, ...]:
        try:
            content = await self._store.read(
                lambda tx: kept_documents.bytes_of(tx, document.id, lambda number: body_of(tx, number))
            )
        except KeyError:
            return ()
        except BlobDamaged:
            return (not_run_at_all("the bytes of the document are damaged"),)
        if content is None:
            return ()
        checked = await self._ask(content, bench)
        for one in set(checked.not_run) - self._told:
            self._told.add(one)
            log.event("schematron.not_run", level="error", file=one.file, key=one.key, reason=one.reason)
        return checked.findings

    async def _ask(self, content: bytes, bench: Bench) -> Checked:
        """Ask the side process; a second one where the first was lost, perhaps to what it had gathered before."""
        if self._workshop is None or self._working_at != bench:
            self.close()
            self._workshop, self._working_at = Workshop(bench, Limits(1, TIME_S, MEMORY_MB, TASKS)), bench
            self._told.clear()
        try:
            checked: Checked = await self._workshop.do(content)
        except TranslationFailed:
            try:
                checked = await self._workshop.do(content)
            except TranslationFailed as failed:
                return Checked((not_run_at_all(failed.sentence),))
        return checked

    def _file(self, tx: Transaction, job: str, was: int, stretch: Stretch, findings: tuple[Finding, ...]) -> None:
        assert stretch.last is not None
        if positions.move(tx, job, was=was, now=stretch.last) and stretch.document is not None:
            add_findings(tx, stretch.document.message_id, findings)


def not_run_at_all(reason: str) -> Finding:
    """The finding of a document that no rule was run over."""
    return Finding("SCHEMATRON_NOT_RUN", "/", f"the rules were not run: {reason}")
