"""What the web is given by the wiring: data below it, and the ways to act."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hub.ledger.acts import Receipt
from hub.model.ports import Answer, Origin
from hub.model.site import Site
from hub.record.identity_cases import Decision
from hub.store.port import Store
from hub.web.tickets import Tickets

MEBIBYTE = 1 << 20


class Operations(Protocol):
    """Operator acts on the ledger, by the ids of the API; each is durable when it returns.

    Raises: hub.ledger.acts.NotFound, hub.ledger.acts.NotPossible, StoreUnavailable.
    """

    async def replay(self, message_id: str, only: Sequence[str] = ()) -> list[str]:
        """Make new deliveries at the end of their lanes; their ids."""

    async def discard(self, message_id: str) -> None: ...
    async def retry(self, delivery_id: str) -> None: ...
    async def skip(self, delivery_id: str) -> None: ...
    async def file_receipt(self, delivery_id: str, receipt: Receipt) -> None: ...


class Identities(Protocol):
    """The queue of doubtful identities. Raises: hub.ledger.acts.NotFound, hub.ledger.acts.NotPossible, StoreUnavailable."""

    async def cases(self, *, state: str, limit: int, after: int, values: bool) -> dict[str, Any]: ...
    async def show(self, case_id: str, *, values: bool) -> dict[str, Any]: ...
    async def preview(self, case_id: str, decision: Decision) -> dict[str, Any]: ...
    async def decide(self, case_id: str, decision: Decision, *, actor: str, reason: str) -> None: ...
    async def merges(self, patient_id: str) -> Sequence[dict[str, Any]]: ...
    async def undo_merge(self, merge_id: str, *, actor: str) -> None: ...


@dataclass(slots=True)
class Services:
    """Everything the web needs.

    `ready` says whether the store is writable and the listeners are bound, with the reasons. `metrics` gives the body and
    the media type of `/metrics`. `submit_hl7` keeps one ER7 message and gives its acknowledgement. `languages` is the
    console's preference when the browser states none. `version` is the installed one. `reload` reads the
    configuration again: whether it is in force, and what changed or every mistake. `site` is another one after it.
    """

    store: Store
    operations: Operations
    identities: Identities
    site: Site
    ready: Callable[[], tuple[bool, dict[str, Any]]]
    metrics: Callable[[], tuple[bytes, str]]
    submit_hl7: Callable[[bytes, Origin], Awaitable[Answer]]
    tickets: Tickets = field(default_factory=Tickets)
    version: str = "0.1.0"
    language: str = "fr"
    max_body_bytes: int = 64 * MEBIBYTE
    reload: Callable[[], Awaitable[tuple[bool, dict[str, Any]]]] | None = None
