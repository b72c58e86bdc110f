"""MDM^T02, T10, T04 outside a French profile: Patient, Encounter, and the text, ED or CDA of OBX-5 as a document.

T02 files, T10 replaces the document of TXA-13, T04 withdraws the document of TXA-12, as in the French profiles; a T04 whose
TXA-19 says that the document is available (AV), as HL7 itself means the event, files it. A CDA is known by its own id, and
tells of itself; TXA-17 adds its state, TXA-18 what is more confidential.
Standard: HL7 v2.5.1 §9.5 (MDM), §9.6.1 (TXA).
"""

from __future__ import annotations

from collections.abc import Iterator

from hub.formats.er7 import Message, Segment
from hub.formats.ts import Ts, parse_ts
from hub.model.record_change import (
    CONFIDENTIALITY_VERY_RESTRICTED,
    ContentRange,
    DocumentAction,
    DocumentChange,
    Json,
    RecordChange,
)
from hub.model.refusals import FieldMissing, Finding, SegmentMissing
from hub.model.site import Site
from mappings.cda.document_reference import security_labels
from mappings.hl7v2.cda_document import CdaDocument, CdaTranslation, FiledAs, judge_patient, plain_cda, plain_cda_findings, uri
from mappings.hl7v2.ce import coding, concept
from mappings.hl7v2.line import Line, line
from mappings.hl7v2.message_times import event_time
from mappings.hl7v2.obx_content import TEXT_TYPES, obx_content
from mappings.hl7v2.pid import judge_pid, pid_findings, pid_identity, pid_patient
from mappings.hl7v2.plain_document import described, document_number, kind_and_title
from mappings.hl7v2.pv1 import pv1_encounter, pv1_findings
from mappings.hl7v2.xcn import practitioner_reference
from mappings.structure import AsksForNothing

_ACTIONS = {"MDM^T02": DocumentAction.CREATE, "MDM^T10": DocumentAction.REPLACE, "MDM^T04": DocumentAction.DELETE}
_STATUSES = {
    "DI": "preliminary",
    "IP": "preliminary",
    "IN": "preliminary",
    "PA": "preliminary",
    "AU": "final",
    "LA": "final",
    "DO": "final",
}
_CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
_LABELS = {"V": "V", "R": "R", "U": "N", "N": "N"}
_STRICTNESS = "NRV"


class MdmT02(AsksForNothing):
    """Documents that come as such."""

    name, version = "mdm", "2"
    heavy, parses_document = False, True

    def __init__(self, translation: CdaTranslation) -> None:
        self._translation = translation

    def is_heavy(self, message: Message) -> bool:
        """Whether it holds a CDA."""
        return bool(_cdas(message))

    def documents(self, message: Message, site: Site) -> tuple[str | None, str | None, bool]:
        """The document of the message, the one that it replaces or deletes, and whether it deletes; of several the first."""
        cdas, txa = _cdas(message), line(message, "TXA")
        if not cdas or txa is None:
            return None, None, False
        header, action = cdas[0].header, _action(message, txa)
        if action is DocumentAction.DELETE:
            return None, header.master_id, True
        return header.master_id, uri(header.replaces) or _replaced(txa, site, action) or None, False

    def judge(self, message: Message, site: Site) -> None:
        judge_pid(message)
        txa = line(message, "TXA")
        if txa is None:
            raise SegmentMissing(at="TXA")
        if not txa.text(12):
            raise FieldMissing(at="TXA-12")
        action = _action(message, txa)
        if action is DocumentAction.REPLACE and not txa.text(13):
            raise FieldMissing(at="TXA-13")
        if action is not DocumentAction.DELETE:
            if not message.segments("OBX"):
                raise SegmentMissing(at="OBX")
            if not list(_contents(message)):
                raise FieldMissing(at="OBX-5")
        if cdas := _cdas(message):
            judge_patient(cdas, pid_identity(message, site))

    def remarks(self, message: Message, site: Site) -> tuple[Finding, ...]:
        findings = pid_findings(message, site) + pv1_findings(message, site)
        if len(list(_contents(message))) > 1:
            findings += (Finding("SEVERAL_CONTENTS", "OBX", "OBX: several contents under one number; filed beside each other"),)
        return findings + tuple(told for obx in message.segments("OBX") for told in plain_cda_findings(obx, message))

    def translate(self, message: Message, site: Site) -> RecordChange:
        identity = pid_identity(message, site)
        stay = pv1_encounter(message, site)
        made = list(_changes(message, site, self._translation))
        return RecordChange(
            mapping=f"{self.name}@{self.version}",
            identity=identity,
            patient=pid_patient(message, identity, site),
            event_time=event_time(message, site),
            resources=(stay,) if stay is not None else (),
            documents=tuple(change for change, _ in made),
            findings=tuple(finding for _, findings in made for finding in findings),
        )


def _action(message: Message, txa: Line) -> DocumentAction:
    action = _ACTIONS[message.type]
    available = action is DocumentAction.DELETE and txa.text(19).upper() == "AV"
    return DocumentAction.CREATE if available else action


def _contents(message: Message) -> Iterator[tuple[Segment, ContentRange]]:
    for obx in message.segments("OBX"):
        if obx.text(2).upper() == "ED" or obx.text(2).upper() in TEXT_TYPES:
            content = obx_content(obx, message)
            if content is not None:
                yield obx, content


def _cdas(message: Message) -> list[CdaDocument]:
    return [cda for obx in message.segments("OBX") if (cda := plain_cda(obx, message)) is not None]


def _changes(message: Message, site: Site, translation: CdaTranslation) -> Iterator[tuple[DocumentChange, tuple[Finding, ...]]]:
    txa = line(message, "TXA")
    if txa is None:
        return
    action = _action(message, txa)
    if action is DocumentAction.DELETE and not _cdas(message):
        number = document_number(txa.one(12), site)
        yield DocumentChange(action, number, "TXA-12", event_time=event_time(message, site)), ()
        return
    for n, (obx, content) in enumerate(_contents(message)):
        cda = plain_cda(obx, message)
        if cda is not None:
            yield translation.change(cda, message, site, _filed(txa, site, action, cda))
        elif action is not DocumentAction.DELETE:
            yield _plain_change(obx, content, message, site, part=str(n + 1) if n else ""), ()


def _plain_change(obx: Segment, content: ContentRange, message: Message, site: Site, *, part: str) -> DocumentChange:
    txa, fields = Line.of(message.segments("TXA")[0], message), Line.of(obx, message)
    action = _action(message, txa)
    kind, title = concept(txa.one(2)), txa.text(2, 2)
    if kind is None or not title:
        other, other_title = kind_and_title(fields, line(message, "OBR"))
        kind, title = kind or other, title or other_title
    body = described(message, site, kind=kind, title=title, made=_made(txa, site), author=_author(txa))
    if status := _STATUSES.get(txa.text(17).upper()):
        body["docStatus"] = status
    if label := _LABELS.get(txa.text(18).upper()):
        body["securityLabel"] = [{"coding": [coding(label, "", _CONFIDENTIALITY)]}]
    return DocumentChange(
        action=action,
        master_id=document_number(txa.one(12), site, part=part),
        path=obx.at(5),
        body=body,
        content=content,
        replaces=_replaced(txa, site, action, part=part),
        event_time=event_time(message, site),
    )


def _filed(txa: Line, site: Site, action: DocumentAction, cda: CdaDocument) -> FiledAs:
    """TXA-17 as its state; TXA-18 where it is more confidential than the header."""
    says: Json = {}
    if status := _STATUSES.get(txa.text(17).upper()):
        says["docStatus"] = status
    label = _LABELS.get(txa.text(18).upper(), "N")
    if _STRICTNESS.find(label) > _STRICTNESS.find(cda.header.confidentiality or "N"):
        says["securityLabel"] = security_labels(label, 0)
    mask = CONFIDENTIALITY_VERY_RESTRICTED if label == "V" else 0
    return FiledAs(action, mask=mask, replaces=_replaced(txa, site, action), says=says)


def _replaced(txa: Line, site: Site, action: DocumentAction, *, part: str = "") -> str:
    """TXA-13 of a replacement."""
    return document_number(txa.one(13), site, part=part) if action is DocumentAction.REPLACE else ""


def _made(txa: Line, site: Site) -> Ts:
    """TXA-6 (written), else TXA-7 (typed), else TXA-4 (the act)."""
    said = (parse_ts(txa.text(field), site.timezone) for field in (6, 7, 4))
    return next((ts for ts in said if ts.instant is not None), parse_ts("", site.timezone))


def _author(txa: Line) -> Json | None:
    """TXA-9 (originator), else TXA-5 (who carried out the act)."""
    return practitioner_reference(txa.one(9)) or practitioner_reference(txa.one(5))
