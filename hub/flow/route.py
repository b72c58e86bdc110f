"""Second station: which destinations get the message, in which patient's lane; and the record's change, when nothing is in
its way, in the same transaction.

Planning is pure and runs on the event loop in short slices. Filing happens inside one transaction for a handful of messages
(`hub.flow.file_plans`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from hub.bell.port import Bell
from hub.flow.file_plans import Filed, Grant, Plan, file_plans
from hub.flow.graph import RECORD
from hub.flow.membership import Membership, bell_of
from hub.flow.ports import Structure, documents, is_heavy, receipts_told
from hub.flow.receipts import DMP, ReceiptDesk
from hub.flow.recent import Recent
from hub.flow.rules import Ruled, Rules
from hub.formats.er7 import Message, read
from hub.ledger import routing
from hub.ledger.deliveries import Head
from hub.ledger.messages import body_of
from hub.ledger.routing import Unrouted
from hub.model import log
from hub.model.record_change import DocumentAction, RecordChange
from hub.model.refusals import HubError, MessageRefused
from hub.model.site import Site
from hub.store import BlobDamaged, ReadTooLong, Store, StoreUnavailable

BELL = "route"
BATCH = 64
FED_AT_MOST = 1024  # rows held in memory; beyond that routing reads the ledger
ASIDE_BYTES = 64 << 10
SLICE = 4  # messages planned between two looks at the network
TOGETHER = 16  # messages filed in one go: a few milliseconds of the writer
BUSY_S, GATHER_S = 0.02, 0.004  # where the store is shared: how long ago is "just now", and what then is waited for more
LOOK_S = 1.0
YIELD = 2.0  # under pressure routing rests twice as long as it works


class Taker(Protocol):
    """Who makes a destination's deliveries: says how many empty lanes it would take now, then gets what it was given of them.

    `doubt`: whether the grant's lanes were taken is not known, because the answer to the commit was lost.
    """

    def grant(self, lanes: int) -> Grant: ...
    def take(self, grant: Grant, heads: Sequence[Head]) -> None: ...
    def doubt(self, grant: Grant) -> None: ...


class Router(Ruled):
    """Routes what `Receiver` kept; `run` ends after `stop`.

    Where the store is shared it reads the shards of its process from the ledger, in the order in which they were kept.
    """

    def __init__(
        self,
        *,
        store: Store,
        rules: Rules,
        recent: Recent,
        bell: Bell,
        held: Callable[[str], str],
        takers: Mapping[str, Taker],
        member: Membership,
        pressed: Callable[[], bool] = lambda: False,
    ) -> None:
        self.rules = rules
        self._store, self._recent, self._bell, self._held = store, recent, bell, held
        self._pressed, self._takers = pressed, takers
        self._member = member
        self._gathered = ""  # the name under which rings are heard
        self._worked_until = 0.0
        self._stopping = False
        self._fed: deque[Unrouted] = deque()
        self._behind = True  # the ledger holds messages that were not fed: those of the last run, or too many to hold
        self.idle = asyncio.Event()

    def feed(self, row: Unrouted) -> None:
        """A message that was just kept; in order of arrival on each connection."""
        if len(self._fed) >= FED_AT_MOST:
            self._start_over()
        self._fed.append(row)
        self._bell.wake(BELL)

    def _start_over(self) -> None:
        """Take everything from the ledger again, in order of arrival: what was fed and not filed must not be overtaken."""
        self._behind = True
        self._fed.clear()

    def look(self) -> None:
        """Look into the ledger for messages that nobody fed."""
        self._behind = True
        self._bell.wake(BELL)

    def lease_lost(self) -> None:
        """What is in hand finds its messages routed by others, or routes them: either way once."""

    def lease_held(self) -> None:
        self.look()

    def stop(self) -> None:
        """End after the group in hand; `run` returns."""
        self._stopping = True
        self._bell.wake(BELL)

    async def run(self, sweep_s: float = 5.0) -> None:
        while not self._stopping:
            try:
                while not self._stopping and await self._batch():
                    pass
                self.idle.set()
            except (StoreUnavailable, ReadTooLong) as error:
                log.event("route.store_unavailable", level="warning", reason=error.code)
                self._start_over()
                await asyncio.sleep(0.5)
                continue
            except Exception as error:  # messages wait in the ledger: they are tried again, not forgotten
                log.event("route.failed", level="error", error=type(error).__name__)
                self._start_over()
                await asyncio.sleep(1.0)
                continue
            if not await self._bell.wait(BELL, self._patience_s(sweep_s)):
                self._behind = True
            self.idle.clear()
            if self._store.shared and time.monotonic() - self._worked_until < BUSY_S:
                await asyncio.sleep(GATHER_S)  # under load: few transactions of many messages

    def _patience_s(self, sweep_s: float) -> float:
        """How long to wait for a ring: less where it may have gone to a router that is no more."""
        return min(sweep_s, LOOK_S) if self._store.shared else sweep_s

    async def _batch(self) -> bool:
        if self._member.leaving:
            await self._member.let_go()
        waiting, bodies = await self._next()
        if not waiting:
            return False
        before: tuple[Sequence[Unrouted], asyncio.Future[Filed]] | None = None
        for start in range(0, len(waiting), TOGETHER):
            began, plans, group = time.perf_counter(), [], waiting[start : start + TOGETHER]
            for n, row in enumerate(group, 1):
                plans.append(await self._plan_of(row, bodies.get(row.id)))
                if n % SLICE == 0:
                    await asyncio.sleep(0)
            for part in _alone_where_it_acts(plans):
                if before is not None:  # a group that fails is filed again before the next: patients' messages stay in order
                    await self._filed(*before)
                before = [plan.row for plan in part], asyncio.ensure_future(self._file(part))
            for plan in plans:
                self._recent.routed(plan.row.id, has_deliveries=plan.has_deliveries)
            if self._pressed():  # senders wait for their answers: what is kept can wait a little
                await asyncio.sleep(YIELD * (time.perf_counter() - began))
        if before is not None:
            await self._filed(*before)
        self._worked_until = time.monotonic()
        return not self._store.shared or len(waiting) == BATCH

    async def _next(self) -> tuple[list[Unrouted], dict[int, bytes]]:
        """The next messages to route: as they were fed, or from the ledger when that is not all."""
        if self._store.shared:
            return await self._next_of_shards()
        if self._behind:
            self._behind = False
            waiting, bodies = await self._store.read(lambda tx: routing.unrouted(tx, limit=BATCH, known=self._recent.get))
            self._behind = self._behind or len(waiting) == BATCH
            if waiting:
                return waiting, bodies
        return [self._fed.popleft() for _ in range(min(BATCH, len(self._fed)))], {}

    async def _next_of_shards(self) -> tuple[list[Unrouted], dict[int, bytes]]:
        shards = self._member.shards
        if self._gathered != self._member.owner:
            self._gathered = self._member.owner
            self._bell.gather([bell_of(self._gathered), bell_of("")], BELL)
        if not shards or not self._member.holds():
            return [], {}
        return await self._store.read(lambda tx: routing.unrouted(tx, limit=BATCH, known=self._recent.get, shards=shards))

    async def _filed(self, group: Sequence[Unrouted], filing: asyncio.Future[Filed]) -> None:
        try:
            await filing
        except StoreUnavailable:
            raise
        except Exception as error:
            for row in group:
                await self._file_alone(row, error)

    async def _file(self, plans: Sequence[Plan]) -> Filed:
        """File a group, and hand its deliveries to those who make them."""
        wanted = Counter(name for plan in plans for name, _ in plan.targets if name in self._takers)
        takers = {name: self._takers[name] for name in wanted}  # a reload may take one away meanwhile
        grants = {name: takers[name].grant(lanes) for name, lanes in wanted.items()}
        heads: dict[str, list[Head]] = {}
        try:
            filed = await self._store.write(
                lambda tx: file_plans(
                    tx,
                    plans,
                    next_id=self._store.next_id,
                    now=self._store.now_us(),
                    blocked=self._graph.blocked,
                    held=self._held,
                    grants=grants,
                    desk=self._desk,
                    seen=self._store.seen if self._store.shared else None,
                )
            )
            heads = filed.heads
        except StoreUnavailable:
            for name, grant in grants.items():
                takers[name].doubt(grant)
            raise
        finally:
            for name, grant in grants.items():
                takers[name].take(grant, heads.get(name, []))
        for name in filed.rings:
            self._bell.ring(name)
        return filed

    async def _file_alone(self, row: Unrouted, error: BaseException) -> None:
        """One message of a group that failed: as it is, then without the record's change, then set aside."""
        if isinstance(error, StoreUnavailable):
            raise error
        plan = await self._plan_of(row, None)
        without = [replace(plan, change=None)] if plan.change is not None else []
        for again in [plan, *without]:
            try:
                await self._file([again])
            except StoreUnavailable:
                raise
            except Exception as failure:
                error = failure
                log.event("route.failed", level="error", message_id=row.id, error=type(failure).__name__)
            else:
                return
        await self._file([Plan(row, plan.control_id, broke=type(error).__name__)])

    # ---- pure ------------------------------------------------------------------------------------------------------

    async def _plan_of(self, row: Unrouted, body: bytes | None) -> Plan:
        message = self._recent.get(row.id)
        if message is not None:
            return await self._planned(row, message)
        try:
            if body is None:
                body = await self._store.read(lambda tx: body_of(tx, row.id))
            message = read(body, row.charset)
            self._recent.put(row.id, message)
        except (BlobDamaged, MessageRefused, KeyError) as error:
            code = error.code if isinstance(error, HubError) else "BodyMissing"
            log.event("message.damaged", level="error", message_id=row.id, reason=code)
            return Plan(row, broke=code)
        plan = await self._planned(row, message)
        self._recent.done_with(row.id, message)
        return plan

    async def _planned(self, row: Unrouted, message: Message) -> Plan:
        """The plan; of a large message beside the event loop, so that nobody waits for an answer meanwhile.

        But for one that was read already and that a worker translates: planning it is quick.
        """
        if len(message.raw) > ASIDE_BYTES and not self._is_read(message):
            return await asyncio.to_thread(self._plan, row, message)
        return self._plan(row, message)

    def _is_read(self, message: Message) -> bool:
        structure = self._registry.find(message) if message.views else None
        return structure is not None and is_heavy(structure, message)

    def _plan(self, row: Unrouted, message: Message) -> Plan:
        try:
            return self.plan(row, message)
        except Exception as error:
            code = error.code if isinstance(error, HubError) else type(error).__name__
            log.event("route.plan_failed", level="error", message_id=row.id, error=code)
            return Plan(row, broke=code)

    def plan(self, row: Unrouted, message: Message) -> Plan:
        """Where one message goes, and what it changes in the record if that is quick to say."""
        site = self._sites.get(row.source, self._site)
        structure = self._registry.find(message)
        requested = structure.requests(message, site) if structure is not None else ()
        refused = dict(structure.refused_requests(message, site)) if structure is not None else {}
        told = receipts_told(structure, message, site)
        targets = self._graph.targets(row.source, message, requested, record=structure is not None and not told)
        change = None
        if structure is not None and not is_heavy(structure, message) and any(t.destination == RECORD for t in targets):
            change = self._translate(structure, message, site, row.id)
        identity = change.identity if change is not None else self._registry.identity(message, site) if targets else None
        document, follows, withdraws = _documents(structure, message, site, change) if targets else (None, None, False)
        asked = {t.destination for t in targets}
        remarks = tuple(structure.remarks(message, site)) if structure is not None and targets else ()
        return Plan(
            row,
            message.control_id,
            identity,
            remarks,
            tuple((t.destination, t.mapping) for t in targets if t.destination not in refused),
            tuple((t.destination, refused[t.destination]) for t in targets if t.destination in refused),
            change,
            document,
            follows,
            self._desk.creator(message, row.source) if refused or DMP in asked else None,
            tuple(told),
            withdraws=DMP in asked and withdraws,
        )

    @property
    def _desk(self) -> ReceiptDesk:
        return ReceiptDesk(self._store, self._graph, self._registry, self._site)

    def _translate(self, structure: Structure, message: Message, site: Site, number: int) -> RecordChange | None:
        """None when the mapping fails: the record's lane meets the error again and sets the message aside; others go on."""
        try:
            return structure.translate(message, site)
        except Exception as error:
            log.event("route.translate_failed", level="error", message_id=number, error=type(error).__name__)
            return None


def _alone_where_it_acts(plans: Sequence[Plan]) -> Iterator[Sequence[Plan]]:
    """Plans in their order, those that merge or part patients each by itself."""
    start = 0
    for n, plan in enumerate(plans):
        if plan.acts:
            yield from (part for part in (plans[start:n], plans[n : n + 1]) if part)
            start = n + 1
    if start < len(plans):
        yield plans[start:]


def _documents(
    structure: Structure | None, message: Message, site: Site, change: RecordChange | None
) -> tuple[str | None, str | None, bool]:
    """The document that a message carries, the one that it replaces or deletes, and whether it deletes it.

    As its change says, or the message itself when it has none; of several the first speaks for all.
    """
    if change is None:
        return documents(structure, message, site)
    if not change.documents:
        return None, None, False
    first = change.documents[0]
    if first.action is DocumentAction.DELETE:
        return None, first.master_id, True
    return first.master_id, first.replaces or None, False
