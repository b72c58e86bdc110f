"""A CDA in OBX-5: its bytes and header, whose it is, and what the record changes because of it.

Standard: CI-SIS transmission de documents CDA en HL7 v2; HL7 v2.5.1 §2.A.24 (ED); HL7 CDA R2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hub.formats.cda_header import CdaHeader, is_cda, read_header, read_whole
from hub.formats.er7 import WHOLE, Message, Segment
from hub.model.identity import PatientIdentity
from hub.model.record_change import ContentRange, DocumentAction, DocumentChange, Json
from hub.model.refusals import FieldInvalid, Finding, IdentityUnproven, Unreadable
from hub.model.site import Site
from mappings.cda.contents import Contents
from mappings.cda.document_reference import DocumentTypes, cda_document_reference, mask_of_header
from mappings.cda.translate import MAPPING, CdaFacts, translate_cda
from mappings.cda.xml import Element
from mappings.hl7v2.message_times import event_time
from mappings.hl7v2.obx_content import XML_TYPE, obx_bytes, obx_content, obx_text
from mappings.hl7v2.plain_document import visit
from mappings.hl7v2.ucum import Units


@dataclass(frozen=True, slots=True)
class CdaDocument:
    """A document OBX whose CDA could be read. `xml` and `root` are there only where its content is read too (`WHOLE`)."""

    obx: Segment
    header: CdaHeader
    content: ContentRange
    xml: bytes = field(default=b"", repr=False, compare=False)
    root: Element | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class FiledAs:
    """How a message files a document: what it does, what it hides (bits), what its own fields say beside the header."""

    action: DocumentAction
    mask: int = 0
    replaces: str = ""  # as a URI, where the header names no predecessor
    related: Sequence[Json] = ()
    says: Json = field(default_factory=dict)  # elements of the DocumentReference that the message tells better


@dataclass(frozen=True, slots=True)
class CdaTranslation:
    """A CDA as a change of the record: its DocumentReference, and the facts of its content."""

    types: DocumentTypes
    units: Units

    def change(
        self, cda: CdaDocument, message: Message, site: Site, filed: FiledAs
    ) -> tuple[DocumentChange, tuple[Finding, ...]]:
        """The document's change, and what was found while its content was read."""
        header = cda.header
        change = DocumentChange(
            action=filed.action,
            master_id=header.master_id,
            path=cda.obx.at(5),
            set_id=uri(header.set_id),
            replaces=uri(header.replaces) or filed.replaces,
            version_number=header.version_number,
            event_time=event_time(message, site),
        )
        if filed.action is DocumentAction.DELETE:
            return change, ()
        mask = filed.mask | mask_of_header(header)
        body = {**cda_document_reference(header, mask=mask, types=self.types, tz=site.timezone), **filed.says}
        context: Json = dict(body.get("context", {}))
        if encounter := visit(message, site):
            context["encounter"] = [encounter]
        if related := [*context.get("related", ()), *filed.related]:
            context["related"] = related
        if context:
            body["context"] = context
        said = self._facts(cda, message, site, change.event_time)
        change = replace(change, body=body, content=cda.content, mask=mask, facts=said.facts, facts_mapping=MAPPING)
        return replace(change, inner_content=said.inner_content), said.findings

    def _facts(self, cda: CdaDocument, message: Message, site: Site, at: int) -> CdaFacts:
        """A document that cannot be read as a whole is filed without facts."""
        xml = cda.xml or cda_bytes(cda.obx, message)
        contents = Contents(xml, cda.content)
        try:
            return translate_cda(
                xml,
                tz=site.timezone,
                units=self.units,
                event_time=at,
                read=(cda.root, cda.header) if cda.root is not None else None,
                contents=contents,
                environment=site.environment,
            )
        except Unreadable as refused:
            return CdaFacts((), (_unreadable(cda.obx, refused),))


def uri(number: str) -> str:
    """A CDA id as the record writes it; empty stays empty."""
    return f"urn:oid:{number}" if number else ""


def read_cda(obx: Segment, message: Message) -> CdaDocument:
    """The CDA that a profile wants in OBX-5, in Base64.

    Raises:
        FieldMissing: OBX-5 without data (101).
        FieldInvalid: not Base64, not XML, not a CDA (102).
    """
    data, offset, length = obx_bytes(obx, message.raw)
    root, kept = None, b""
    try:
        if message.views.get(WHOLE):
            (root, header), kept = read_whole(data), data
        else:
            header = read_header(data)
    except Unreadable as refused:
        raise FieldInvalid(at=obx.at(5), sentence=f"{obx.at(5)}: {refused.sentence.removeprefix('/: ')}") from None
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    content = ContentRange(offset, length, "base64", cda_type(data), len(data), digest)
    return CdaDocument(obx, header, content, kept, root)


def plain_cda(obx: Segment, message: Message) -> CdaDocument | None:
    """The CDA in an ED of a message without profile; None when it holds anything else, or a CDA that cannot be read."""
    found = _plain(obx, message)
    return found if isinstance(found, CdaDocument) else None


def plain_cda_findings(obx: Segment, message: Message) -> tuple[Finding, ...]:
    """That an ED says it is a CDA and cannot be read as one."""
    found = _plain(obx, message)
    return (_unreadable(obx, found),) if isinstance(found, Unreadable) else ()


def judge_patient(cdas: Sequence[CdaDocument], identity: PatientIdentity) -> None:
    """Whether a message and its documents speak of one patient.

    Raises:
        IdentityUnproven: nothing proves it (207).
    """
    for cda in cdas:
        if not is_same_patient(identity, cda.header):
            raise IdentityUnproven(at="PID-3", sentence="PID-3: not the patient of the document")


def is_same_patient(identity: PatientIdentity, header: CdaHeader) -> bool:
    """Whether PID and CDA prove to speak of one patient.

    Two INS must be the same one. When only one side, or neither, has an INS, a local number must be on both sides: under the
    same OID, or, where PID-3 names its authority otherwise, the same number.
    """
    if identity.ins and header.ins:
        return any(ins in header.ins for ins in identity.ins)
    local = {
        (number.system.removeprefix("urn:oid:") if number.system.startswith("urn:oid:") else "", number.value)
        for number in identity.local
    }
    return any((root, extension) in local or ("", extension) in local for root, extension in header.patient_ids if extension)


def cda_bytes(obx: Segment, message: Message) -> bytes:
    """The bytes of the document in OBX-5, whether Base64 or text."""
    if obx.text(5, 4).upper() in ("BASE64", "B64"):
        return obx_bytes(obx, message.raw)[0]
    return obx_text(obx, message)


def cda_type(xml: bytes) -> str:
    """`application/xslt+xml` when the CDA lies inside the stylesheet that displays it."""
    return "application/xslt+xml" if b"http://www.w3.org/1999/XSL/Transform" in xml[:4096] else XML_TYPE


def _plain(obx: Segment, message: Message) -> CdaDocument | Unreadable | None:
    view = f"cda of line {obx.index}"
    if view not in message.views:
        message.views[view] = _read_plain(obx, message)
    found = message.views[view]
    return found if isinstance(found, CdaDocument | Unreadable) else None


def _read_plain(obx: Segment, message: Message) -> CdaDocument | Unreadable | None:
    try:
        content = obx_content(obx, message) if obx.text(2).upper() == "ED" else None
    except FieldInvalid:
        return None
    if content is None or content.content_type != XML_TYPE:
        return None
    data = cda_bytes(obx, message)
    if not is_cda(data):
        return None
    try:
        return CdaDocument(obx, read_header(data), replace(content, content_type=cda_type(data)))
    except Unreadable as refused:
        return refused


def _unreadable(obx: Segment, refused: Unreadable) -> Finding:
    told = refused.sentence.removeprefix("/: ")
    return Finding("CDA_UNREADABLE", obx.at(5), f"{obx.at(5)}: {told}; filed as it came, nothing of it is read")
