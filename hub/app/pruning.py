"""Retention at work: a round looks at all old messages in order of arrival, in slices between which others go first.

One process at a time does it, under a lease that each of its transactions extends; killed anywhere, the next one goes on where
it was. Before a message goes, the documents that it owes to the record become the record's; a large body goes after its last
name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from hub.ledger import leases, retention
from hub.ledger.messages import body_of
from hub.ledger.retention import Candidate, Policy
from hub.model import log
from hub.model.crash_points import crash_point
from hub.record import promotion
from hub.store import BlobDamaged, Transaction, blob_names
from hub.store.blobs import Blobs

T = TypeVar("T")

JOB, LEASE_S = "job/pruning", 60.0
REST_S, REST_TIMES = 0.02, 4.0  # after a slice: so long, or so many times what it took
BODIES_AT_ONCE = 100


class Kept(Protocol):
    """What a round needs of a store."""

    async def write(self, job: Callable[[Transaction], T]) -> T: ...
    async def read(self, job: Callable[[Transaction], T]) -> T: ...
    async def put_blob(self, sha256: bytes, content: bytes) -> None: ...
    def now_us(self) -> int: ...


@dataclass(slots=True)
class Totals:
    """What a round did."""

    messages: int = 0
    bytes: int = 0
    documents: int = 0
    bodies: int = 0
    ended: bool = False  # it came to the newest message that is old enough


class LeaseLost(Exception):
    """Another process prunes."""


class Pruner:
    """Rounds under one policy. `rest(seconds)` is called between slices and returns when there is room for the next.

    `told(totals, number)` hears after each slice how far it is: the number of the last message that was looked at.
    """

    def __init__(
        self,
        store: Kept,
        blobs: Blobs,
        policy: Policy,
        *,
        owner: str,
        rest: Callable[[float], Awaitable[None]] = asyncio.sleep,
        told: Callable[[Totals, int], None] = lambda _totals, _number: None,
    ) -> None:
        self._store, self._blobs, self._policy, self._owner = store, blobs, policy, f"{owner} prune"
        self._rest, self._told = rest, told
        self._held_until = 0.0  # by the monotonic clock
        self._stopping = False

    def stop(self) -> None:
        """End after the slice in hand."""
        self._stopping = True

    async def round(self) -> Totals | None:
        """Go on with the round that is under way, to its end; None when another process is at it.

        Raises:
            StoreUnavailable, ReadTooLong: the next call goes on.
        """
        if not await self._begin():
            return None
        totals = Totals()
        try:
            await self._remove_bodies(totals)
            after = await self._store.read(retention.position)
            while not self._stopping:
                last = await self._stretch(after, totals)
                if last is None:
                    await self._write(retention.end_round)
                    totals.ended = True
                    break
                after = last
        except LeaseLost:
            log.event("prune.lease_lost", level="warning", count=totals.messages)
            return totals
        await self._store.write(lambda tx: leases.give_back(tx, [JOB], owner=self._owner))
        return totals

    async def _begin(self) -> bool:
        until = self._store.now_us() + int(LEASE_S * 1e6)
        began = time.monotonic()
        taken = await self._store.write(
            lambda tx: leases.take(tx, [JOB], owner=self._owner, now=self._store.now_us(), lease_until=until)
        )
        self._held_until = began + LEASE_S / 2
        return bool(taken)

    async def _write(self, job: Callable[[Transaction], T]) -> T:
        """A transaction under the lease, which it extends.

        Raises:
            LeaseLost: nothing was done.
        """
        began = time.monotonic()

        def under_the_lease(tx: Transaction) -> T:
            until = self._store.now_us() + int(LEASE_S * 1e6)
            if not leases.extend(tx, JOB, owner=self._owner, lease_until=until):
                raise LeaseLost
            return job(tx)

        done = await self._store.write(under_the_lease)
        self._held_until = began + LEASE_S / 2
        return done

    # ---- messages --------------------------------------------------------------------------------------------------

    async def _stretch(self, after: int, totals: Totals) -> int | None:
        """The next rows; the number of the last one, None when there is none that is old enough."""
        store, policy = self._store, self._policy
        found = await store.read(lambda tx: retention.scan(tx, policy, after=after, now=store.now_us()))
        if found.last is None:
            return None
        candidates = await self._that_may_go(found.candidates)
        await self._promote([one.id for one in candidates], totals)
        while candidates and not self._stopping:
            began, part = time.perf_counter(), candidates
            done = await self._write(
                lambda tx, part=part: retention.prune(tx, policy, part, now=store.now_us(), owed=promotion.owing)  # type: ignore[misc]
            )
            crash_point("after-prune")
            totals.messages, totals.bytes = totals.messages + done.messages, totals.bytes + done.bytes
            candidates = candidates[len(candidates) - len(done.left) :]
            self._told(totals, candidates[0].id if candidates else found.last)
            await self._rest(max(REST_S, REST_TIMES * (time.perf_counter() - began)))
        await self._remove_bodies(totals)
        self._told(totals, found.last)
        return found.last

    async def _that_may_go(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those that nobody needs, as a reader sees it: the transaction that deletes looks again."""
        going: set[int] = set()
        for start in range(0, len(candidates), 200):
            numbers = [one.id for one in candidates[start : start + 200]]
            rows = await self._store.read(
                lambda tx, numbers=numbers: retention.may_go(tx, self._policy, numbers, now=self._store.now_us())  # type: ignore[misc]
            )
            going |= {row[0] for row in rows}
        return [one for one in candidates if one.id in going]

    # ---- documents -------------------------------------------------------------------------------------------------

    async def _promote(self, numbers: Sequence[int], totals: Totals) -> None:
        """Give the record the bytes that these messages owe it; one message in memory at a time."""
        owing: set[int] = set()
        for start in range(0, len(numbers), 200):
            part = numbers[start : start + 200]
            owing |= await self._store.read(lambda tx, part=part: promotion.owing(tx, part))  # type: ignore[misc]
        for number in sorted(owing):
            if self._stopping:
                return
            try:
                await self._promote_one(number, totals)
            except (BlobDamaged, KeyError):
                log.event("prune.not_promoted", level="error", message_id=number, reason="BlobDamaged")
            except blob_names.BlobGoing as going:
                log.event("prune.not_promoted", level="warning", message_id=number, reason=going.code)

    async def _promote_one(self, number: int, totals: Totals) -> None:
        def look(tx: Transaction) -> tuple[str, bytes, list[promotion.Owed]]:
            row = tx.row("SELECT charset FROM message WHERE id = ?", number)
            return row[0] if row is not None else "utf-8", bytes(body_of(tx, number)), promotion.owed_by(tx, number)

        charset, raw, owed = await self._store.read(look)
        for one in owed:
            began = time.perf_counter()
            data = await asyncio.to_thread(one.out_of, raw, charset)
            sha256 = await self._put_aside(data) if len(data) > promotion.INLINE_BYTES else None
            await self._write(
                lambda tx, one=one, data=data, sha256=sha256: promotion.promote(tx, one.id, data, sha256=sha256)  # type: ignore[misc]
            )
            crash_point("after-promote")
            totals.documents += 1
            await self._rest(max(REST_S, time.perf_counter() - began))

    async def _put_aside(self, data: bytes) -> bytes:
        from hashlib import sha256

        digest = (await asyncio.to_thread(sha256, data)).digest()
        await self._store.put_blob(digest, data)
        return digest

    # ---- large bodies ----------------------------------------------------------------------------------------------

    async def _remove_bodies(self, totals: Totals) -> None:
        """Remove large bodies that lost their last name. Who removes one holds the lease in that very moment."""
        store = self._store
        while not self._stopping:
            before = store.now_us() - int(LEASE_S * 1e6)
            waiting = await store.read(lambda tx, before=before: blob_names.leaving(tx, before=before, at_most=BODIES_AT_ONCE))  # type: ignore[misc]
            for sha256 in waiting:
                if not await self._write(lambda tx, sha256=sha256: blob_names.condemn(tx, sha256, store.now_us())):  # type: ignore[misc]
                    continue
                if time.monotonic() > self._held_until:
                    raise LeaseLost
                await asyncio.to_thread(self._blobs.remove, sha256)
                crash_point("after-remove")
                await self._write(lambda tx, sha256=sha256: blob_names.gone(tx, sha256))  # type: ignore[misc]
                totals.bodies += 1
            if len(waiting) < BODIES_AT_ONCE:
                return
