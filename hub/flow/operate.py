"""What people and receipts do to the flow: replay, discard, retry, skip, file a receipt. Called by the API and the console."""

from __future__ import annotations

from collections.abc import Sequence

from hub.bell.local import LocalBell
from hub.flow.graph import RECORD, Graph
from hub.flow.ports import Registry
from hub.formats.er7 import read
from hub.ledger import acts
from hub.ledger.acts import NotFound, NotPossible, Receipt
from hub.ledger.messages import body_of
from hub.model.site import Site
from hub.store import Store, Transaction

__all__ = ["NotFound", "NotPossible", "Operations", "Receipt"]

LEAVES_THE_HOUSE = ("dmp", "mssante:")


class Operations:
    """Each act is one transaction. Raises: NotFound, NotPossible, StoreUnavailable. Numbers are row numbers."""

    def __init__(self, store: Store, graph: Graph, registry: Registry, site: Site, bell: LocalBell) -> None:
        self._store, self._graph, self._registry, self._site, self._bell = store, graph, registry, site, bell

    async def discard(self, message_id: int) -> None:
        """Close a message for good; its bytes stay."""
        await self._store.write(lambda tx: acts.discard(tx, message_id, self._store.now_us()))

    async def skip(self, delivery_id: int) -> None:
        """Never make this delivery."""
        await self._store.write(lambda tx: acts.skip(tx, delivery_id, self._store.now_us()))
        self._ring_all()

    async def retry(self, delivery_id: int) -> None:
        """Make this delivery now, under the same id."""
        destination = await self._store.write(lambda tx: acts.retry(tx, delivery_id, self._store.now_us()))
        self._bell.ring(destination)
        self._bell.ring(f"{destination}/probe")

    async def replay(self, message_id: int, *, destinations: Sequence[str] = ()) -> list[int]:
        """New deliveries of a kept message at the end of its lanes; their numbers.

        Without `destinations`, all but those that leave the house (DMP, mail), which must be named.
        """
        made, rung = await self._store.write(lambda tx: self._replay(tx, message_id, destinations))
        for destination in rung:
            self._bell.ring(destination)
        return made

    async def file_receipt(
        self, delivery_id: int, *, kind: str, positive: bool, at_us: int | None = None, code: str | None = None, detail: str | None = None,
    ) -> None:
        """Keep a receipt (DMP answer, DSN, MDN) for a delivery."""
        receipt = Receipt(kind, positive, at_us or self._store.now_us(), code or "", detail or "")
        await self._store.write(lambda tx: acts.file_receipt(tx, delivery_id, receipt))

    def _replay(self, tx: Transaction, number: int, only: Sequence[str]) -> tuple[list[int], list[str]]:
        row = tx.row("SELECT source, connection, patient_id, charset FROM message WHERE id = ?", number)
        if row is None:
            raise NotFound("no such message")
        source, connection, patient_id, charset = row
        message = read(body_of(tx, number), charset)
        structure = self._registry.find(message)
        requested = structure.requests(message, self._site) if structure is not None else ()
        targets = self._graph.targets(source, message, requested, record=structure is not None)
        known = {t.destination: t.mapping for t in targets}
        unknown = set(only) - known.keys()
        if unknown:
            raise NotPossible("the configuration sends this message to no such destination")
        chosen = [name for name in known if (name in only if only else not name.startswith(LEAVES_THE_HOUSE))]
        if not chosen:
            raise NotPossible("nothing to replay: name the destination (dmp, mssante:…) to send outside again")
        tail = f"p{patient_id}" if patient_id is not None else f"s{source}/{connection}"
        made = acts.replay(
            tx, number, [(name, known[name], f"{name}/{tail}") for name in chosen], next_id=self._store.next_id, now=self._store.now_us(),
            blocked=self._graph.blocked,
        )
        return made, chosen

    def _ring_all(self) -> None:
        for name in (*self._graph.destinations, RECORD):
            self._bell.ring(name)
