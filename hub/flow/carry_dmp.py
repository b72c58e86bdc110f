"""Deliveries to the DMP: the message as a submission, the DMP's answer as a receipt.

Every document has its uniqueId: when it is not known what became of an attempt, the DMP is asked before anything is sent again.
A patient who was opposed since the message was routed is respected: only a deletion leaves. What came before it may tell of
that, so it is asked once that is in the record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hub.flow.carry import Cargo, KeptMessages, NotOurs, SaidNo
from hub.flow.graph import RECORD
from hub.flow.ports import dmp_submission
from hub.flow.receipts import Creator, ReceiptDesk
from hub.formats.content import document_bytes
from hub.formats.er7 import Message
from hub.ledger.acts import Receipt
from hub.ledger.deliveries import Head
from hub.ledger.unfiled import is_behind
from hub.model.dmp import Dmp, DmpSubmission
from hub.model.ports import PeerReference
from hub.model.record_change import DocumentAction
from hub.model.refusals import DeliveryFailed, MessageRefused, NoAnswer, PeerRefused, TranslationFailed
from hub.record.consents import dmp_refusal
from hub.store import Store, Transaction

_PAUSES_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, *[0.25] * 16)  # how long what came before may take to be in the record


class DmpCarrier:
    """One submission a message, however many documents it has."""

    def __init__(self, destination: Dmp, messages: KeptMessages, store: Store) -> None:
        self._destination, self._messages, self._store = destination, messages, store
        self.in_flight = destination.in_flight

    async def carry(self, head: Head, may_send: Callable[[], bool]) -> Cargo:
        message = await self._messages.of(head)
        creator = self._desk().creator(message, head.source)
        submission, contents = await asyncio.to_thread(self._read, message, head)
        try:
            reference = await self._sent(head, submission, contents, may_send)
        except PeerRefused as refused:
            reason = refused.reason
            raise SaidNo(refused, lambda tx: self._tell(tx, head, positive=False, code=reason, creator=creator)) from None
        return Cargo(reference, after=lambda tx: self._tell(tx, head, positive=True, code="", creator=creator))

    def _desk(self) -> ReceiptDesk:
        rules = self._messages.rules
        return ReceiptDesk(self._store, rules.graph, rules.registry, rules.site)

    async def probe(self) -> None:
        await self._destination.probe()

    async def _sent(
        self, head: Head, submission: DmpSubmission, contents: list[bytes], may_send: Callable[[], bool]
    ) -> PeerReference:
        if head.unsure:
            _must_hold(may_send)
            try:
                there = await self._destination.ask(submission)
            except PeerRefused as refused:  # the question, not the document
                raise NoAnswer(f"the DMP could not be asked ({refused.reason})", answer=refused.answer) from None
            if there is not None:
                return there
        reason = submission.refused or await self._refusal(head, submission)
        if reason:
            raise PeerRefused(f"it must not go to the DMP ({reason})", reason=reason)
        _must_hold(may_send)
        return await self._destination.submit(submission, contents, delivery_id=head.id)

    def _read(self, message: Message, head: Head) -> tuple[DmpSubmission, list[bytes]]:
        site = self._messages.site(head.source)
        try:
            structure = self._messages.rules.registry.find(message)
            submission = dmp_submission(structure, message, site)
            if submission is None:
                raise TranslationFailed("nothing in this message asks for the DMP any more")
            if submission.action is DocumentAction.DELETE:
                return submission, []
            return submission, [document_bytes(message.raw, one.content, site.default_charset) for one in submission.documents]
        except MessageRefused as refused:
            raise TranslationFailed(f"{refused.code} while reading what goes to the DMP") from None

    async def _refusal(self, head: Head, submission: DmpSubmission) -> str:
        """Why the patient's DMP must not be fed now; empty when it may.

        Raises:
            DeliveryFailed: the record has not taken what came before; it may later.
        """
        if submission.action is DocumentAction.DELETE:
            return ""
        record_lane = RECORD + head.lane.removeprefix(head.destination)

        def asked(tx: Transaction) -> str | None:
            if is_behind(tx, before=head.message_id, lane=record_lane):
                return None
            row = tx.row("SELECT patient_id FROM message WHERE id = ?", head.message_id)
            return dmp_refusal(tx, [row[0]]).get(row[0], "") if row is not None and row[0] is not None else ""

        for pause_s in _PAUSES_S:
            reason = await self._store.read(asked)
            if reason is not None:
                return reason
            await asyncio.sleep(pause_s)
        raise DeliveryFailed("the record has not taken yet what came before this document")

    def _tell(self, tx: Transaction, head: Head, *, positive: bool, code: str, creator: Creator | None) -> str:
        return self._desk().file(tx, head.id, Receipt("DMP", positive, self._store.now_us(), code), creator)


def _must_hold(may_send: Callable[[], bool]) -> None:
    if not may_send():
        raise NotOurs("the lease ended before anything was sent")
