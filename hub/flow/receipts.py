"""The way back: a receipt of the DMP or of a mailbox is filed, and told to the creator of the document as a ZAM.

A ZAM is a message of the hub's own, made in the transaction that files its receipt: once for each delivery and receipt.
Nothing is told that was not asked for, and silence is never told.
Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2, §2.9 ZAM_Z01.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from hub.flow.graph import Graph
from hub.flow.ports import Registry
from hub.formats.er7 import Message, read, zam
from hub.formats.er7.zam import Kind
from hub.ledger import acts, correlation
from hub.ledger.acts import Receipt
from hub.ledger.made import HUB, Made, keep_made
from hub.ledger.messages import body_of
from hub.model import log
from hub.model.receipts import IncomingReceipt, ReceiptsWanted
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from hub.store import BlobDamaged, Store, Transaction

DMP, MAIL = "dmp", "mssante:"
_KIND: Mapping[str, Kind] = {"DMP": "Z01", "DSN": "Z02", "MDN": "Z03"}
_CODES = {"Z01": "DMP", "Z02": "SMTP", "Z03": "APPLICATION"}
_CODE = re.compile(r"[A-Za-z0-9_.:\-]{1,64}")
_OTHER = "Erreur renvoyée par le destinataire"
Outside = Literal["DMP", "DSN"]


@dataclass(frozen=True, slots=True)
class Creator:
    """Who made a document, as far as answering goes: where its receipts go, which it wants, how a ZAM must address it.

    `return_to` is a destination. `app` and `facility` are MSH-3 and MSH-4 of its message, `charset` a Python codec.
    """

    return_to: str
    wanted: ReceiptsWanted
    control_id: str
    app: str
    facility: str
    charset: str
    processing_id: str

    def wants(self, kind: Kind) -> bool:
        return {"Z01": self.wanted.dmp, "Z02": self.wanted.reception, "Z03": self.wanted.reading}[kind]


@dataclass(frozen=True, slots=True)
class ReceiptDesk:
    """Files receipts and makes ZAM of them, inside the caller's transaction."""

    store: Store
    graph: Graph
    registry: Registry
    site: Site

    def creator(self, message: Message, source: str) -> Creator | None:
        """Who wants to hear of this message of that source; None when nobody does, or nobody can be told."""
        spec = self.graph.sources.get(source)
        structure = self.registry.find(message)
        if spec is None or not spec.return_to or structure is None:
            return None
        wanted = structure.receipts_wanted(message, self._site_of(source))
        if wanted == ReceiptsWanted():
            return None
        app, facility = (_hd(message, field) for field in (3, 4))
        return Creator(spec.return_to, wanted, message.control_id, app, facility, message.charset, message.processing_id or "P")

    def creator_of(self, tx: Transaction, message_id: int) -> Creator | None:
        """The same for a kept message; None too when its bytes are gone."""
        row = tx.row("SELECT source, charset FROM message WHERE id = ?", message_id)
        spec = self.graph.sources.get(row[0]) if row is not None else None
        if row is None or spec is None or not spec.return_to:
            return None
        try:
            return self.creator(read(body_of(tx, message_id), row[1]), row[0])
        except (KeyError, BlobDamaged, MessageRefused) as error:
            log.event("receipt.no_original", level="warning", message_id=message_id, error=type(error).__name__)
            return None

    def file(self, tx: Transaction, delivery_id: int, receipt: Receipt, creator: Creator | None) -> str:
        """Keep a receipt for a delivery, and queue its ZAM; the destination to wake, empty when there is none.

        The same receipt again does nothing.

        Raises:
            NotFound: no such delivery.
        """
        if not acts.file_receipt(tx, delivery_id, receipt):
            return ""
        kind = _KIND.get(receipt.kind)
        if kind is None or creator is None or not creator.wants(kind):
            return ""
        row = tx.row(
            "SELECT d.destination, d.lane, m.patient_id FROM delivery d JOIN message m ON m.id = d.message_id WHERE d.id = ?",
            delivery_id,
        )
        assert row is not None
        destination, lane, patient_id = row
        address = destination.removeprefix(MAIL) if destination.startswith(MAIL) else receipt.detail
        if kind != "Z01" and not address:
            log.event("receipt.no_mailbox", level="warning", delivery_id=delivery_id)
            return ""
        lane_tail = lane.removeprefix(f"{destination}/")
        made = self._made(kind, receipt, creator, address=address, lane_tail=lane_tail, patient_id=patient_id)
        seen = self.store.seen if self.store.shared else None
        keep_made(tx, made, self.store.now_us(), next_id=self.store.next_id, seen=seen)
        return creator.return_to

    def file_refused(self, tx: Transaction, delivery_id: int, destination: str, reason: str, creator: Creator | None) -> str:
        """The negative receipt of a delivery outside the house that a rule ended; as `file`."""
        kind = outside(destination)
        if kind is None:
            return ""
        return self.file(tx, delivery_id, Receipt(kind, False, self.store.now_us(), reason), creator)

    def file_incoming(self, tx: Transaction, told: IncomingReceipt) -> tuple[int | None, str]:
        """A receipt that another platform brought: the delivery it was filed at, and the destination to wake.

        (None, "") when no message that we delivered carries this control id.
        """
        found = correlation.delivered(tx, told.control_id, told.receiving_app)
        if found is None:
            return None, ""
        delivery_id, message_id = found
        receipt = Receipt(told.kind, told.positive, told.at or self.store.now_us(), told.code, told.address)
        return delivery_id, self.file(tx, delivery_id, receipt, self.creator_of(tx, message_id))

    def _made(
        self, kind: Kind, receipt: Receipt, creator: Creator, *, address: str, lane_tail: str, patient_id: int | None
    ) -> Made:
        number = self.store.next_id()
        control_id = f"{number:016X}"
        body = zam(
            kind=kind,
            original_control_id=creator.control_id,
            positive=receipt.positive,
            control_id=control_id,
            at=_instant(self.store.now_us()),
            event_at=_instant(receipt.at),
            site=self.site,
            receiving_app=creator.app,
            receiving_facility=creator.facility,
            address=address,
            error=None if receipt.positive else application_error(kind, receipt.code),
            charset=creator.charset,
            processing_id=creator.processing_id,
        )
        return Made(
            number,
            f"ZAM^{kind}",
            control_id,
            self.site.name,
            creator.charset,
            body,
            patient_id,
            creator.return_to,
            f"{creator.return_to}/{lane_tail}",
            self.graph.blocked(creator.return_to),
        )

    def _site_of(self, source: str) -> Site:
        spec = self.graph.sources.get(source)
        return replace(self.site, source=source, default_charset=spec.charset) if spec is not None else self.site


def outside(destination: str) -> Outside | None:
    """The kind of receipt that a destination outside the house gives; None for one inside."""
    return "DMP" if destination == DMP else "DSN" if destination.startswith(MAIL) else None


def application_error(kind: Kind, code: str) -> tuple[str, str, str]:
    """ERR-5 of a negative ZAM: code, label, coding system.

    The DMP has codes that are not public: one that is unknown goes as it is. Mail and application codes are closed lists.
    """
    table = _tables()[_CODES[kind]]
    labels: dict[str, str] = table["labels"]
    if code not in labels and (kind != "Z01" or not _CODE.fullmatch(code)):
        code = table["fallback"]
    return code, labels.get(code, _OTHER), table["system"]


@lru_cache(maxsize=1)
def _tables() -> dict[str, Any]:
    return tomllib.loads(resources.files("hub.flow").joinpath("receipt_codes.toml").read_text(encoding="utf-8"))


def _hd(message: Message, field: int) -> str:
    """An HD of MSH, its components parted by `^`."""
    parts = [message.text("MSH", field, component) for component in (1, 2, 3)]
    return "^".join(parts).rstrip("^")


def _instant(us: int) -> datetime:
    try:
        return datetime.fromtimestamp(us / 1e6, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


__all__ = ["HUB", "Creator", "ReceiptDesk", "application_error", "outside"]
