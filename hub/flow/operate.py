"""What people and receipts do to the flow: replay, discard, retry, skip, file a receipt. Called by the API and the console."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hub.bell.port import Bell
from hub.flow.graph import RECORD
from hub.flow.ports import Structure, dmp_submission, receipts_told
from hub.flow.receipts import DMP, HUB, ReceiptDesk
from hub.flow.rules import Ruled, Rules
from hub.formats.er7 import Message, read
from hub.ledger import acts
from hub.ledger.acts import NotFound, NotPossible, Receipt
from hub.ledger.messages import body_of
from hub.model.record_change import DocumentAction
from hub.model.site import Site
from hub.model.uids import uid_number, uid_text
from hub.record.consents import dmp_refusal
from hub.record.merging import root_of
from hub.store import Store, Transaction

__all__ = ["NotFound", "NotPossible", "Operations", "Receipt"]

LEAVES_THE_HOUSE = ("dmp", "mssante:")


def _number(uid: str) -> int:
    try:
        return uid_number(uid)
    except ValueError:
        raise NotFound("no such message or delivery") from None


class Operations(Ruled):
    """Each act is one transaction. Ids are those of the API. Raises: NotFound, NotPossible, StoreUnavailable."""

    def __init__(self, store: Store, rules: Rules, bell: Bell) -> None:
        self.rules, self._store, self._bell = rules, store, bell

    async def discard(self, message_id: str) -> None:
        """Close a message for good; its bytes stay."""
        number = _number(message_id)
        await self._store.write(lambda tx: acts.discard(tx, number, self._store.now_us()))

    async def skip(self, delivery_id: str) -> None:
        """Never make this delivery."""
        number = _number(delivery_id)
        await self._store.write(lambda tx: acts.skip(tx, number, self._store.now_us()))
        self._ring_all()

    async def retry(self, delivery_id: str) -> None:
        """Make this delivery now, under the same id."""
        number = _number(delivery_id)
        destination = await self._store.write(lambda tx: acts.retry(tx, number, self._store.now_us()))
        self._bell.ring(destination)
        self._bell.ring(f"{destination}/probe")

    async def replay(self, message_id: str, only: Sequence[str] = ()) -> list[str]:
        """New deliveries of a kept message at the end of its lanes; their ids.

        Without `only`, all its destinations but those that leave the house (DMP, mail), which must be named.
        """
        number = _number(message_id)
        made, rung = await self._store.write(lambda tx: self._replay(tx, number, only))
        for destination in rung:
            self._bell.ring(destination)
        return [uid_text(one) for one in made]

    async def file_receipt(self, delivery_id: str, receipt: Receipt) -> None:
        """Keep a receipt (DMP answer, DSN, MDN) for a delivery, and tell the creator who asked for it; once."""
        number = _number(delivery_id)
        ring = await self._store.write(lambda tx: self._file_receipt(tx, number, receipt))
        if ring:
            self._bell.ring(ring)

    def _file_receipt(self, tx: Transaction, number: int, receipt: Receipt) -> str:
        row = tx.row("SELECT message_id FROM delivery WHERE id = ?", number)
        if row is None:
            raise NotFound("no such delivery")
        desk = ReceiptDesk(self._store, self._graph, self._registry, self._site)
        return desk.file(tx, number, receipt, desk.creator_of(tx, row[0]))

    def _replay(self, tx: Transaction, number: int, only: Sequence[str]) -> tuple[list[int], list[str]]:
        row = tx.row("SELECT source, connection, patient_id, charset FROM message WHERE id = ?", number)
        if row is None:
            raise NotFound("no such message")
        source, connection, patient_id, charset = row
        message = read(body_of(tx, number), charset)
        structure, site = self._registry.find(message), replace(self._site, source=source)
        requested = structure.requests(message, site) if structure is not None else ()
        refused = dict(structure.refused_requests(message, site)) if structure is not None else {}
        told = receipts_told(structure, message, site)
        targets = self._graph.targets(source, message, requested, record=structure is not None and not told)
        known = {t.destination: t.mapping for t in targets if t.destination not in refused}
        if source == HUB:  # what the hub made goes where it went
            known = dict(tx.rows("SELECT destination, mapping FROM delivery WHERE message_id = ?", number))
        if DMP in known and (reason := self._opposed(tx, structure, message, site, patient_id)):
            refused[DMP] = reason
            del known[DMP]
        for name in only:
            if name in refused:
                raise NotPossible(f"a rule forbids this delivery ({refused[name]})")
            if name not in known:
                raise NotPossible("the configuration sends this message to no such destination")
        chosen = [name for name in known if (name in only if only else not name.startswith(LEAVES_THE_HOUSE))]
        if not chosen:
            raise NotPossible("nothing to replay: name the destination (dmp, mssante:…) to send outside again")
        tail = f"p{root_of(tx, patient_id)}" if patient_id is not None else f"s{source}/{connection}"
        if source == HUB:
            tail = self._lane_tail(tx, number)
        made = acts.replay(
            tx,
            number,
            [(name, known[name], f"{name}/{tail}") for name in chosen],
            next_id=self._store.next_id,
            now=self._store.now_us(),
            blocked=self._graph.blocked,
        )
        return made, chosen

    @staticmethod
    def _opposed(tx: Transaction, structure: Structure | None, message: Message, site: Site, patient_id: int | None) -> str:
        """Why the DMP must not be fed with this message now; a deletion may always leave."""
        submission = dmp_submission(structure, message, site)
        if patient_id is None or submission is None or submission.action is DocumentAction.DELETE:
            return ""
        return dmp_refusal(tx, [patient_id]).get(patient_id, "")

    @staticmethod
    def _lane_tail(tx: Transaction, number: int) -> str:
        """Of the lane that a message of the hub's own went by."""
        row = tx.row("SELECT destination, lane FROM delivery WHERE message_id = ? ORDER BY id LIMIT 1", number)
        return str(row[1]).removeprefix(f"{row[0]}/") if row is not None else f"s{HUB}/{HUB}"

    def _ring_all(self) -> None:
        for name in (*self._graph.destinations, RECORD):
            self._bell.ring(name)
