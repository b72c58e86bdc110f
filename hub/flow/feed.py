"""The change feed: what changed in the record since the last notification, told in order, at least once.

How far a feed is stands in the ledger and moves after the receiver took a notification: a crash tells the last one again, with
the same numbers.

Standard: HL7 FHIR R4 Subscription (rest-hook); Subscriptions R5 Backport 1.1, `id-only` notifications.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from hub.ledger import positions
from hub.model.uids import uid_text
from hub.record.changes import Change, changes_since
from hub.record.masking import Viewer
from hub.store import Store, Transaction

AT_ONCE = 200  # changes in one notification
SETTLED_US = 2_000_000  # a change is told so long after it was made: transactions that began before it have ended by then
SETTLED_SHARED_US = 15_000_000
_STATUS = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription-status-r4"

Notify = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class FeedSpec:
    """`name` in the configuration; `types` that are told, none = all; `from_start`: what the record holds already is told too."""

    name: str
    types: frozenset[str] = frozenset()
    from_start: bool = False


class Feed:
    """One receiver. `push` may run in one process at a time (its lease is the caller's)."""

    def __init__(self, spec: FeedSpec, store: Store, notify: Notify) -> None:
        self.spec, self._store, self._notify = spec, store, notify
        self._jobs = (f"feed/{spec.name}", f"feed/{spec.name}#")

    async def push(self, may_go_on: Callable[[], bool] = lambda: True) -> int:
        """Tell all that is to be told now; how many changes that were.

        Raises:
            What `notify` raises: the next call begins with the same notification.
        """
        told = 0
        await self._store.write(self._begin)
        while may_go_on():
            before = self._store.now_us() - (SETTLED_SHARED_US if self._store.shared else SETTLED_US)
            cursor, changes, onward = await self._store.read(lambda tx, before=before: self._next(tx, before))  # type: ignore[misc]
            if changes:
                await self._notify(notification(self.spec.name, changes, onward))
                told += len(changes)
            if onward != cursor:
                await self._store.write(lambda tx, onward=onward: self._move(tx, onward))  # type: ignore[misc]
            if len(changes) < AT_ONCE and (not changes or onward == cursor):
                return told
        return told

    def _begin(self, tx: Transaction) -> None:
        at, number = self._jobs
        if positions.position(tx, at) is None:
            positions.place(tx, at, 0 if self.spec.from_start else self._store.now_us())
            positions.place(tx, number, 0)

    def _next(self, tx: Transaction, before: int) -> tuple[str, list[Change], str]:
        at, number = (positions.position(tx, job) or 0 for job in self._jobs)
        cursor = f"{at}~{number}"
        if at >= before:
            return cursor, [], cursor
        found, onward = changes_since(tx, cursor, types=self.spec.types, viewer=Viewer(), limit=AT_ONCE, before_us=before)
        return cursor, found, onward

    def _move(self, tx: Transaction, cursor: str) -> None:
        for job, text in zip(self._jobs, cursor.split("~"), strict=True):
            was = positions.position(tx, job)
            if was is not None:
                positions.move(tx, job, was=was, now=int(text))


def notification(name: str, changes: Sequence[Change], cursor: str) -> bytes:
    """A Bundle that names what changed, without a word of what it says."""
    status: dict[str, Any] = {
        "resourceType": "Parameters",
        "meta": {"profile": [_STATUS]},
        "parameter": [
            {"name": "subscription", "valueReference": {"reference": f"Subscription/{name}"}},
            {"name": "status", "valueCode": "active"},
            {"name": "type", "valueCode": "event-notification"},
            {
                "name": "notification-event",
                "part": [{"name": "event-number", "valueString": cursor}, {"name": "timestamp", "valueInstant": changes[-1].at}],
            },
        ],
    }
    request = {"method": "GET", "url": f"Subscription/{name}/$status"}
    entries: list[dict[str, Any]] = [{"resource": status, "request": request, "response": {"status": "200"}}]
    for one in changes:
        method = "DELETE" if one.gone else "POST" if one.version == 1 else "PUT"
        entries.append(
            {
                "fullUrl": f"urn:uuid:{one.id}",
                "request": {"method": method, "url": f"{one.type}/{one.id}"},
                "response": {
                    "status": "204" if one.gone else "201" if one.version == 1 else "200",
                    "etag": f'W/"{one.version}"',
                    "lastModified": one.at,
                },
            }
        )
    bundle = {"resourceType": "Bundle", "type": "history", "timestamp": changes[-1].at, "entry": entries}
    return orjson.dumps({**bundle, "id": uid_text(int(cursor.partition("~")[2])) if cursor.partition("~")[2] != "0" else name})
