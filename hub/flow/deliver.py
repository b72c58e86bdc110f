"""Third station: make deliveries. One dispatcher a destination claims lanes, sends their heads, and files every end.

A lane's next delivery leaves only after its predecessor's end is on disk; different lanes go side by side.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol

from hub.bell.port import Bell
from hub.flow.carry import NotOurs, SaidNo
from hub.flow.file_plans import Grant
from hub.flow.graph import DestinationSpec
from hub.flow.membership import Membership
from hub.flow.meters import Meters
from hub.flow.retry import Breaker, pause_s
from hub.ledger import deliveries
from hub.ledger.deliveries import Claim, Head
from hub.ledger.outcomes import Marked, Outcome, mark
from hub.model import log
from hub.model.crash_points import crash_point
from hub.model.ports import PeerReference
from hub.model.refusals import DeliveryFailed, HubError, NoAnswer, PeerBusy, PeerRefused, PeerUnavailable, TranslationFailed
from hub.model.states import DeliveryEvent
from hub.store import BlobDamaged, ReadTooLong, Store, StoreUnavailable, Transaction

LANES_AT_ONCE = 64  # claimed in one transaction
LANES_HELD = 256  # and owned at any moment


class Carried(Protocol):
    """What a carrier brings back: the peer's reference, and what to do in the transaction that files the end, before and
    behind it.
    """

    @property
    def reference(self) -> PeerReference: ...
    @property
    def also(self) -> Callable[[Transaction], None] | None: ...
    @property
    def after(self) -> Callable[[Transaction], str] | None: ...


class Carrier(Protocol):
    """Makes one delivery: sends it to a peer, or translates it for the record.

    `may_send` is asked last, before the first byte leaves.

    Raises: DeliveryFailed and its kinds, TranslationFailed, BlobDamaged, NotOurs.
    """

    in_flight: int

    async def carry(self, head: Head, may_send: Callable[[], bool]) -> Carried: ...
    async def probe(self) -> None: ...


class Dispatcher:
    """Deliveries of one destination. `run` ends when `stop` was called and what is in flight has ended."""

    def __init__(
        self,
        spec: DestinationSpec,
        carrier: Carrier,
        *,
        store: Store,
        bell: Bell,
        member: Membership,
        meters: Meters,
        sweep_s: float = 5.0,
    ) -> None:
        self.spec, self._carrier, self._store, self._bell = spec, carrier, store, bell
        self._member, self._meters, self._sweep_s = member, meters, sweep_s
        self._ready: list[tuple[int, Head]] = []
        self._held = 0  # lanes owned: ready, in flight, or waiting for their mark
        self._due: list[tuple[str, int]] = []  # lanes whose pause is over by the monotonic clock, and that pause's end
        self._active = 0  # deliveries under way
        self._life = 0  # how often the lease was lost: what was taken up before is not ours after
        self._doubtful: list[Claim] = []  # under which lanes were perhaps taken, and nothing sent
        self._more_waits = True  # the ledger may hold lanes that could be claimed
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._marks = store.bulk(self._mark_all, at_most=LANES_AT_ONCE)
        self.breaker = Breaker()

    async def run(self) -> None:
        try:
            while not self._stopping:
                try:
                    await self._claim_round()
                except StoreUnavailable as error:
                    log.event("deliver.store_unavailable", level="warning", destination=self.spec.name, reason=error.code)
                    await asyncio.sleep(0.5)
                except Exception as error:  # deliveries wait in the ledger: they are tried again, not forgotten
                    log.event("deliver.claim_failed", level="error", destination=self.spec.name, error=type(error).__name__)
                    await asyncio.sleep(1.0)
        finally:
            try:
                await asyncio.gather(*self._tasks)
            finally:
                await self._give_back()

    def stop(self) -> None:
        """Claim nothing more; end what is in flight."""
        self._stopping = True
        self._bell.wake(self.spec.name)
        self._bell.wake(f"{self.spec.name}/probe")

    async def left(self) -> None:
        """After `run` has ended: return when no lane is ours any more, and every end is filed."""
        while self._held or self._ready or self._doubtful or self._tasks:
            await self._give_back()
            await asyncio.gather(*self._tasks)
            doubtful = list(self._doubtful)
            if doubtful:
                try:
                    await self._store.write(partial(self._forget, doubtful))
                except StoreUnavailable as error:
                    log.event("deliver.store_unavailable", level="warning", destination=self.spec.name, reason=error.code)
                    await asyncio.sleep(0.5)
                    continue
                self._doubtful = [one for one in self._doubtful if one not in doubtful]
            await asyncio.sleep(0.01)

    def _forget(self, doubtful: Sequence[Claim], tx: Transaction) -> None:
        deliveries.forget(tx, doubtful, now=self._store.now_us(), ask=self._asks)

    @property
    def _asks(self) -> bool:
        return self.spec.on_unsure == "ask"

    def look(self) -> None:
        """Look into the ledger for lanes that nobody rang for."""
        self._bell.wake(self.spec.name)

    # ---- taking up -------------------------------------------------------------------------------------------------

    def grant(self, lanes: int) -> Grant:
        """Room for up to `lanes` empty lanes, kept free until `take`; none while the destination is down or the hub stops."""
        full = self._stopping or self.breaker.reason or not self._ours()
        free = 0 if full else max(0, min(lanes, LANES_HELD - self._held))
        self._held += free
        return Grant(Claim(self._member.owner, self._store.next_id()), free)

    def take(self, grant: Grant, heads: Sequence[Head]) -> None:
        """Take up what routing gave of a grant; the rest of its room is free again."""
        if grant.claim.owner != self._member.owner:  # the lease was lost since: others send them
            self._held -= grant.lanes
            self._doubtful.append(grant.claim)
            return
        self._held -= grant.lanes - len(heads)
        for head in heads:
            heapq.heappush(self._ready, (head.id, head))
        self._pump()

    def doubt(self, grant: Grant) -> None:
        """The answer to the commit that would have taken a grant's lanes was lost: they are given back if they were taken."""
        self._doubtful.append(grant.claim)

    def lease_lost(self) -> None:
        """Others have our lanes: what was not sent is theirs to send."""
        self._life += 1
        self._held -= len(self._ready)
        self._ready.clear()

    def lease_held(self) -> None:
        self._pump()
        self._bell.wake(self.spec.name)

    # ---- claiming --------------------------------------------------------------------------------------------------

    async def _claim_round(self) -> None:
        if self.breaker.is_open and self._member.serves(self.spec.name) and not await self._probe():
            return
        room = 1 if self.breaker.half_open else LANES_HELD - self._held
        if self.breaker.half_open and self._held:
            room = 0
        if room <= 0 or not self._ours():
            self._more_waits = True
            await self._bell.wait(self.spec.name, self._sweep_s)
            return
        wanted, claim, due, doubtful = min(room, LANES_AT_ONCE), self._claim_now(), list(self._due), list(self._doubtful)
        try:
            heads = await self._store.write(lambda tx: self._claim(tx, wanted, claim, due, doubtful))
        except StoreUnavailable:
            self._doubtful.append(claim)
            raise
        del self._due[: len(due)]
        self._doubtful = [one for one in self._doubtful if one not in doubtful]
        if claim.owner != self._member.owner:  # the lease was lost since: others send them
            self._doubtful.append(claim)
            return
        for head in heads:
            heapq.heappush(self._ready, (head.id, head))
        self._held += len(heads)
        self._pump()
        self._more_waits = len(heads) == wanted
        if len(heads) < LANES_AT_ONCE:
            await self._bell.wait(self.spec.name, self._sweep_s)
        while self._held > LANES_HELD - LANES_AT_ONCE and not self._stopping:
            await self._bell.wait(self.spec.name, self._sweep_s)

    def _ours(self) -> bool:
        return self._member.holds() and self._member.serves(self.spec.name)

    def _claim_now(self) -> Claim:
        return Claim(self._member.owner, self._store.next_id())

    def _claim(
        self, tx: Transaction, at_most: int, claim: Claim, due: Sequence[tuple[str, int]], doubtful: Sequence[Claim]
    ) -> list[Head]:
        now = self._store.now_us()
        if doubtful:
            deliveries.forget(tx, doubtful, now=now, ask=self._asks)
        if due:
            tx.run_many("UPDATE lane SET not_before = 0 WHERE key = ? AND not_before = ? AND owner IS NULL", sorted(due))
        heads = deliveries.claim(tx, self.spec.name, claim, now=now, at_most=at_most)
        if self.spec.on_unsure != "hold":
            return heads
        unsure = [head for head in heads if head.unsure]
        if unsure:
            deliveries.hold(tx, unsure, now)
        return [head for head in heads if not head.unsure]

    async def _probe(self) -> bool:
        await asyncio.sleep(0) if self._stopping else await self._bell.wait(f"{self.spec.name}/probe", self.spec.retry.probe_s)
        if self._stopping:
            return False
        try:
            await self._carrier.probe()
        except HubError:
            return False
        self.breaker.probed()
        return True

    async def _give_back(self) -> None:
        heads = [head for _, head in self._ready]
        self._ready.clear()
        if heads:
            self._held -= len(heads)
            while True:
                try:
                    return await self._store.write(lambda tx: deliveries.give_back(tx, heads, now=self._store.now_us()))
                except StoreUnavailable as error:
                    log.event("deliver.store_unavailable", level="warning", destination=self.spec.name, reason=error.code)
                if self._stopping:  # `left` tries again, where the process goes on
                    self._held += len(heads)
                    for head in heads:
                        heapq.heappush(self._ready, (head.id, head))
                    return None
                await asyncio.sleep(0.5)
        return None

    # ---- sending ---------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Start what may leave now: as many as may be under way at once, the oldest first."""
        while self._ready and self._active < self._carrier.in_flight and not self._stopping:
            if self.breaker.is_open:
                self._aside(self._give_back())
                return
            if not self._member.holds():  # `lease_held` or `lease_lost` says how it goes on
                return
            self._active += 1
            self._aside(self._deliver(heapq.heappop(self._ready)[1]))

    async def _deliver(self, head: Head) -> None:
        life = self._life
        try:
            outcome = await self._attempt(head, lambda: self._life == life and self._member.holds())
        except NotOurs:  # nothing was sent: it waits for the lease, or is another's by now
            self._active -= 1
            if self._life == life:
                heapq.heappush(self._ready, (head.id, head))
            else:
                self._held -= 1
            return
        self._active -= 1
        crash_point("before-mark")
        self._meters.deliveries.labels(self.spec.name, outcome.event.value).inc()
        self._file(outcome)
        self._pump()

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attempt(self, head: Head, may_send: Callable[[], bool]) -> Outcome:
        started = self._store.now_us()
        try:
            carried = await self._carrier.carry(head, may_send)
        except NotOurs:
            raise
        except (DeliveryFailed, TranslationFailed, BlobDamaged, StoreUnavailable, ReadTooLong) as error:
            return self._failed(head, error, started)
        except Exception as error:
            log.event(
                "deliver.failed", level="error", destination=self.spec.name, delivery_id=head.id, error=type(error).__name__
            )
            return self._failed(head, TranslationFailed(f"the hub failed on this delivery ({type(error).__name__})"), started)
        if self.breaker.reason:
            self._closed()
        self.breaker.answered()
        reference = carried.reference
        return Outcome(
            head,
            DeliveryEvent.DELIVER,
            started,
            self._store.now_us(),
            answer=reference.answer,
            external_ref=reference.external_ref,
            also=carried.also,
            after=carried.after,
        )

    def _failed(self, head: Head, error: HubError, started: int) -> Outcome:
        now = self._store.now_us()
        outcome = Outcome(
            head,
            DeliveryEvent.FAIL_FOR_NOW,
            started,
            now,
            error=f"{error.code}: {error.sentence}"[:500],
            answer=error.answer if isinstance(error, DeliveryFailed) else b"",
        )
        if isinstance(error, PeerUnavailable):
            was_open = bool(self.breaker.reason)
            self.breaker.unavailable("destination unavailable")
            self._opened(was_open)
            outcome.event, outcome.keep_lane = DeliveryEvent.HOLD, False
        elif isinstance(error, NoAnswer):
            was_open = bool(self.breaker.reason)
            self.breaker.no_answer()
            self._opened(was_open)
            outcome.event = DeliveryEvent.NO_ANSWER
            if self.spec.on_unsure == "hold":
                outcome.block = "no answer: an operator decides"
        elif isinstance(error, PeerBusy) or (isinstance(error, PeerRefused) and self.spec.on_ae == "retry"):
            self.breaker.answered()
        elif isinstance(error, PeerRefused):
            self.breaker.answered()
            outcome.event = DeliveryEvent.REFUSE
            outcome.after = error.after if isinstance(error, SaidNo) else None
        elif isinstance(error, TranslationFailed | BlobDamaged):
            outcome.event, outcome.breaks_message = DeliveryEvent.GIVE_UP, True
        if head.unsure and self._asks and outcome.event in (DeliveryEvent.FAIL_FOR_NOW, DeliveryEvent.HOLD):
            outcome.event = DeliveryEvent.NO_ANSWER  # it could not be asked: nobody knows still
        if outcome.event in (DeliveryEvent.FAIL_FOR_NOW, DeliveryEvent.NO_ANSWER, DeliveryEvent.HOLD) and not outcome.block:
            self._delay(outcome, now)
        if outcome.event in (DeliveryEvent.GIVE_UP, DeliveryEvent.REFUSE) and self.spec.on_dead == "block":
            outcome.block = "a delivery of this lane failed for good"
        return outcome

    def _delay(self, outcome: Outcome, now: int) -> None:
        head, policy = outcome.head, self.spec.retry
        if head.first_try_at is not None and now - head.first_try_at > policy.give_up_s * 1e6:
            outcome.event = DeliveryEvent.GIVE_UP
            return
        if outcome.event is DeliveryEvent.HOLD:
            return
        pause = pause_s(policy, head.attempts + 1)
        outcome.not_before = now + int(pause * 1e6)
        asyncio.get_running_loop().call_later(pause, self._pause_over, head.lane, outcome.not_before)

    def _pause_over(self, lane: str, not_before: int) -> None:
        self._due.append((lane, not_before))
        self._bell.wake(self.spec.name)

    def _opened(self, was_open: bool) -> None:
        if self.breaker.reason and not was_open:
            self._meters.breaker_open.labels(self.spec.name).set(1)
            log.event("destination.down", level="warning", destination=self.spec.name, reason=self.breaker.reason)

    def _closed(self) -> None:
        self._meters.breaker_open.labels(self.spec.name).set(0)
        log.event("destination.up", destination=self.spec.name)
        self._bell.wake(self.spec.name)

    # ---- filing ----------------------------------------------------------------------------------------------------

    def _file(self, outcome: Outcome) -> None:
        self._marks.submit(outcome, lambda result: self._filed(outcome, result))

    def _mark_all(self, tx: Transaction, outcomes: Sequence[Outcome]) -> list[Marked]:
        return mark(tx, outcomes, owner=self._member.owner)

    def _filed(self, outcome: Outcome, result: Marked | BaseException) -> None:
        if isinstance(result, StoreUnavailable):
            outcome.again = True
            asyncio.get_running_loop().call_later(0.2, self._file, outcome)  # the end is known; only the store is not ready
            return
        if isinstance(result, BaseException):
            log.event(
                "deliver.not_filed",
                level="error",
                destination=self.spec.name,
                delivery_id=outcome.head.id,
                error=type(result).__name__,
            )
            if outcome.after is not None:  # the end itself is not in doubt
                outcome.after = None
                self._file(outcome)
                return
            if outcome.also is not None:
                self._file(
                    Outcome(
                        outcome.head,
                        DeliveryEvent.GIVE_UP,
                        outcome.started_at,
                        outcome.ended_at,
                        breaks_message=True,
                        error=f"TranslationFailed: the record did not take it ({type(result).__name__})",
                    )
                )
                return
            self._held -= 1
            self._aside(self._leave_to_an_operator(outcome.head))
            return
        if result.fenced:
            self._meters.fenced.inc()
            log.event("deliver.fenced", level="warning", destination=self.spec.name, delivery_id=outcome.head.id)
        if result.ring:
            self._bell.ring(result.ring)
        if result.next is not None and not self.breaker.is_open and not self._stopping:
            heapq.heappush(self._ready, (result.next.id, result.next))
            self._pump()
            return
        if result.next is not None:
            heapq.heappush(self._ready, (result.next.id, result.next))
            self._aside(self._give_back())
            return
        self._held -= 1
        if (self._more_waits and self._held <= LANES_HELD - LANES_AT_ONCE) or self.breaker.reason:
            self._bell.wake(self.spec.name)

    async def _leave_to_an_operator(self, head: Head) -> None:
        """The end of a delivery cannot be written: neither sent again and again, nor forgotten."""
        while not self._stopping:
            try:
                return await self._store.write(
                    lambda tx: deliveries.hold(tx, [head], self._store.now_us(), reason="its end could not be filed")
                )
            except StoreUnavailable:
                await asyncio.sleep(0.5)
        return None
