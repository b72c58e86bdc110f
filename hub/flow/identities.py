"""What people decide on doubtful identities: each decision is one transaction, in the record and in the lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hub.bell.port import Bell
from hub.flow.graph import RECORD, Graph
from hub.ledger import barriers
from hub.ledger.acts import NotFound, NotPossible
from hub.model.uids import uid_number
from hub.record import identity_cases
from hub.record.identity_cases import Decided, Decision, NotDecidable
from hub.record.merging import root_of, same_person
from hub.store import Store, Transaction

__all__ = ["Decision", "Identities"]


class Identities:
    """The queue of doubtful identities, and merges. Ids are those of the API.

    Raises: NotFound, NotPossible, StoreUnavailable.
    """

    def __init__(self, store: Store, graph: Callable[[], Graph], bell: Bell) -> None:
        self._store, self._graph, self._bell = store, graph, bell

    async def cases(self, *, state: str, limit: int, after: int, values: bool) -> dict[str, Any]:
        """A page of cases, the oldest first, and the cursor of the next one."""

        def look(tx: Transaction) -> dict[str, Any]:
            found = identity_cases.list_cases(tx, state=state, limit=limit + 1, after=after)
            more = str(found[limit - 1].id) if len(found) > limit else None
            return {"items": [identity_cases.shown(tx, one, values=values) for one in found[:limit]], "after": more}

        return await self._store.read(look)

    async def show(self, case_id: str, *, values: bool) -> dict[str, Any]:
        """One case."""
        number = _number(case_id)
        return await self._store.read(lambda tx: identity_cases.shown(tx, _case(tx, number), values=values))

    async def preview(self, case_id: str, decision: Decision) -> dict[str, Any]:
        """What a decision would change."""
        number = _number(case_id)
        return await self._store.read(lambda tx: identity_cases.preview(tx, _case(tx, number), decision))

    async def decide(self, case_id: str, decision: Decision, *, actor: str, reason: str) -> None:
        """Decide a case."""
        number = _number(case_id)

        def job(tx: Transaction) -> None:
            _case(tx, number)
            done = identity_cases.decide(
                tx, number, decision, actor=actor, reason=reason, next_id=self._store.next_id, now_us=self._store.now_us()
            )
            self._part_lanes(tx, done)

        await self._write(job)

    async def merges(self, patient_id: str) -> list[dict[str, Any]]:
        """Every merge that a patient had part in."""
        number = _number(patient_id)
        return await self._store.read(lambda tx: identity_cases.merges_of(tx, number))

    async def undo_merge(self, merge_id: str, *, actor: str) -> None:
        """Undo one merge."""
        number = _number(merge_id)

        def job(tx: Transaction) -> None:
            done = identity_cases.undo_merge(tx, number, actor=actor, next_id=self._store.next_id, now_us=self._store.now_us())
            self._part_lanes(tx, done)

        await self._write(job)

    async def _write(self, job: Callable[[Transaction], None]) -> None:
        try:
            await self._store.write(job)
        except NotDecidable as refused:
            raise NotPossible(refused.sentence) from None
        for name in (*self._graph().destinations, RECORD):
            self._bell.ring(name)

    def _part_lanes(self, tx: Transaction, done: Decided) -> None:
        """What comes later under one number waits for what is open under the other."""
        if done.joined is None and done.parted is None:
            return
        if self._store.shared:
            self._store.seen(barriers.newest_of(tx, done.patients))
        at = self._store.next_id()
        if done.joined is not None:
            stands, other = root_of(tx, done.joined[0]), done.joined[1]
            everyone = same_person(tx, done.joined)
            for before in (one for one in {other, *everyone} if one != stands):
                barriers.raise_between(tx, everyone, before=before, after=stands, at=at)
        if done.parted is not None:
            first, second = done.parted
            for before, after in ((first, second), (second, first)):
                barriers.raise_between(tx, done.patients, before=before, after=after, at=at)


def _number(uid: str) -> int:
    try:
        return uid_number(uid)
    except ValueError:
        raise NotFound("no such case, merge or patient") from None


def _case(tx: Transaction, number: int) -> identity_cases.Case:
    try:
        return identity_cases.find_case(tx, number)
    except NotDecidable:
        raise NotFound("no such case") from None
