"""ZAM^Z01, Z02, Z03: receipts of another platform for what we sent to it; versions 2.0 and 2.1 of the profile.

Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2, §2.9 ZAM_Z01 (HL7 v2.6).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hub.formats.er7 import Message, Segment
from hub.formats.ts import parse_ts
from hub.model.receipts import IncomingReceipt
from hub.model.record_change import RecordChange
from hub.model.refusals import CodeUnknown, FieldMissing, Finding, SegmentMissing
from hub.model.site import Site
from mappings.structure import AsksForNothing

EVENTS = ("Z01", "Z02", "Z03")
_CODE = re.compile(r"[A-Za-z0-9_.:\-]{1,64}")


@dataclass(frozen=True, slots=True)
class _Event:
    """What an event says: the receipt's kind, OBX-3 of its status, OBX-3 of its mailbox (empty: it has none)."""

    kind: str
    status: str
    mailbox: str = ""


_EVENTS = {
    "Z01": _Event("DMP", "ACK_RECEPTION_DMP"),
    "Z02": _Event("DSN", "ACK_RECEPTION_MSS", "DESTINATAIRE_MSS"),
    "Z03": _Event("MDN", "ACK_LECTURE_MSS", "LECTEUR_MSS"),
}


class ZamZ01(AsksForNothing):
    """Receipts that come. They change nothing in the record: `receipts` says what they tell."""

    name, version = "zam", "1"
    heavy, parses_document = False, False

    def judge(self, message: Message, site: Site) -> None:
        """Refuses what could not be filed: no status (100), no number of the original (101), an unknown status (103)."""
        event = _event(message)
        status = message.first("OBX")
        if status is None:
            raise SegmentMissing(at="OBX")
        if _code(status.text(3)) != event.status:
            raise CodeUnknown(at=status.at(3), sentence=f"{status.at(3)}: not the status that MSH-9.2 announces")
        if not _told(status.text(4)):
            raise FieldMissing(at=status.at(4), sentence=f"{status.at(4)}: MSH-10 of the original message is missing")
        if not _code(status.text(5)):
            raise FieldMissing(at=status.at(5))
        if _code(status.text(5)) not in ("Y", "N"):
            raise CodeUnknown(at=status.at(5), sentence=f"{status.at(5)}: neither Y nor N")
        if event.mailbox:
            mailbox = _mailbox(message, event)
            if mailbox is None or not _address(mailbox):
                at = mailbox.at(5) if mailbox is not None else "OBX[2]-5"
                raise FieldMissing(at=at, sentence=f"{at}: the address of the mailbox is missing")

    def remarks(self, message: Message, site: Site) -> tuple[Finding, ...]:
        findings: list[Finding] = []
        receipt = self.receipts(message, site)[0]
        if not receipt.at:
            findings.append(Finding("EVENT_TIME_MISSING", "EVN-2", "EVN-2: not the time of the event; taken as now"))
        if not receipt.positive and not receipt.code:
            findings.append(Finding("RECEIPT_REASON_MISSING", "ERR-5", "ERR-5: a negative receipt without its reason"))
        if receipt.positive and message.first("ERR") is not None:
            findings.append(Finding("RECEIPT_CONTRADICTS", "ERR", "ERR: an error beside a positive status; the status counts"))
        return tuple(findings)

    def receipts(self, message: Message, site: Site) -> tuple[IncomingReceipt, ...]:
        """The one receipt that the message brings."""
        event, status = _event(message), message.first("OBX")
        if status is None:
            return ()
        mailbox = _mailbox(message, event) if event.mailbox else None
        positive, reason = _code(status.text(5)) == "Y", message.text("ERR", 5)
        at = parse_ts(message.text("EVN", 2), site.timezone)
        return (
            IncomingReceipt(
                event.kind,
                _told(status.text(4)),
                positive,
                at=at.micros,
                code=reason if not positive and _CODE.fullmatch(reason) else "",
                receiving_app=message.text("MSH", 5),
                address=_address(mailbox) if mailbox is not None else "",
            ),
        )

    def translate(self, message: Message, site: Site) -> RecordChange:
        """Nothing: a receipt is the ledger's."""
        return RecordChange(mapping=f"{self.name}@{self.version}")


def _event(message: Message) -> _Event:
    return _EVENTS.get(message.type.partition("^")[2], _EVENTS["Z01"])


def _mailbox(message: Message, event: _Event) -> Segment | None:
    """The OBX that names the mailbox: by its code, else the second one."""
    following = message.segments("OBX")[1:]
    return next((obx for obx in following if _code(obx.text(3)) == event.mailbox), None) or next(iter(following), None)


def _address(obx: Segment) -> str:
    """XTN-4; a system that writes the address into XTN-1 is understood."""
    found = obx.text(5, 4) or obx.text(5, 1)
    return found if "@" in found and not any(c.isspace() for c in found) else ""


def _code(text: str) -> str:
    return "".join(text.split()).upper()


def _told(text: str) -> str:
    return "" if text == '""' else text
