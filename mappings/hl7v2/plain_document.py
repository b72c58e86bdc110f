"""Documents of senders without a French profile: what OBR, OBX and TXA tell of them, as a DocumentReference.

Standard: HL7 v2.5.1 chapters 7 and 9; FHIR R4 DocumentReference.
"""

from __future__ import annotations

from typing import Any

from hub.formats.er7 import Message, Segment
from hub.formats.ts import Ts, parse_ts
from hub.model.identifiers import is_oid
from hub.model.site import Site
from mappings.hl7v2.ce import concept
from mappings.hl7v2.cx import cx_system, ei_system
from mappings.hl7v2.line import Composite, Line, line
from mappings.hl7v2.xcn import practitioner_reference

Json = dict[str, Any]


def document_number(ei: Composite, site: Site, *, part: str = "") -> str:
    """A document's own number as the record knows it: `urn:oid:…` when EI-1 is an OID, else `system|value`; empty when absent.

    `part` tells several documents of one number apart.
    """
    value = ei.text(1)
    if not value:
        return ""
    suffix = f".{part}" if part else ""
    if is_oid(value) and (not part or part.isdigit()):
        return f"urn:oid:{value}{suffix}"
    return f"{ei_system(ei, site)}|{value}{suffix}"


def described(message: Message, site: Site, *, kind: Json | None, title: str, made: Ts, author: Json | None) -> Json:
    """The DocumentReference as far as every plain message tells of it."""
    body: Json = {"author": [author or sending_application(message)]}
    if kind is not None:
        body["type"] = kind
    attachment: Json = {}
    if title:
        body["description"] = attachment["title"] = title
    if instant := made.fhir_instant():
        body["date"] = instant
    if created := made.fhir_datetime():
        attachment["creation"] = created
    if attachment:
        body["content"] = [{"attachment": attachment}]
    if encounter := visit(message, site):
        body["context"] = {"encounter": [encounter]}
    return body


def visit(message: Message, site: Site) -> Json | None:
    """The stay that PV1-19 numbers, as a logical reference."""
    pv1 = line(message, "PV1")
    number = pv1.one(19) if pv1 is not None else None
    if number is None or not number.text() or (pv1 is not None and pv1.text(2) == "N"):
        return None
    return {"type": "Encounter", "identifier": {"system": cx_system(number, site), "value": number.text()}}


def sending_application(message: Message) -> Json:
    """MSH-3 and MSH-4, for a document whose author nobody names."""
    name = " ".join(text for text in (message.text("MSH", 3), message.text("MSH", 4)) if text)
    return {"type": "Device", "display": name or "unknown"}


def kind_and_title(obx: Line, obr: Line | None) -> tuple[Json | None, str]:
    """Type and title from OBX-3, else OBR-4."""
    for ce in (obx.one(3), obr.one(4) if obr is not None else None):
        found = concept(ce) if ce is not None else None
        if ce is not None and found is not None:
            return found, ce.text(2)
    return None, ""


def observer(obx: Line) -> Json | None:
    """OBX-16, the responsible observer."""
    return practitioner_reference(obx.one(16))


def observed(obx: Line, obr: Line | None, site: Site) -> Ts:
    """OBX-14, else OBR-22 (report), else OBR-7."""
    for text in (obx.text(14), obr.text(22) if obr is not None else "", obr.text(7) if obr is not None else ""):
        said = parse_ts(text, site.timezone)
        if said.instant is not None:
            return said
    return parse_ts("", site.timezone)


def opened(segment: Segment | None, message: Message) -> Line | None:
    return Line.of(segment, message) if segment is not None else None
