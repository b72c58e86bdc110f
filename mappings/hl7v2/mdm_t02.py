"""MDM^T02, T10, T04 outside a French profile: Patient, Encounter, and the text or ED of OBX-5 as a document.

T02 files, T10 replaces the document of TXA-13, T04 withdraws the document of TXA-12, as in the French profiles; a T04 whose
TXA-19 says that the document is available (AV), as HL7 itself means the event, files it.
Standard: HL7 v2.5.1 §9.5 (MDM), §9.6.1 (TXA).
"""

from __future__ import annotations

from collections.abc import Iterator

from hub.formats.er7 import Message
from hub.formats.ts import Ts, parse_ts
from hub.model.record_change import ContentRange, DocumentAction, DocumentChange, Json, RecordChange
from hub.model.refusals import FieldMissing, Finding, SegmentMissing
from hub.model.site import Site
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


class MdmT02(AsksForNothing):
    """Documents that come as such."""

    name, version = "mdm", "1"
    heavy, parses_document = False, True

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

    def remarks(self, message: Message, site: Site) -> tuple[Finding, ...]:
        findings = pid_findings(message, site) + pv1_findings(message, site)
        if len(list(_contents(message))) > 1:
            findings += (Finding("SEVERAL_CONTENTS", "OBX", "OBX: several contents under one number; filed beside each other"),)
        return findings

    def translate(self, message: Message, site: Site) -> RecordChange:
        identity = pid_identity(message, site)
        stay = pv1_encounter(message, site)
        return RecordChange(
            mapping=f"{self.name}@{self.version}",
            identity=identity,
            patient=pid_patient(message, identity, site),
            event_time=event_time(message, site),
            resources=(stay,) if stay is not None else (),
            documents=tuple(_changes(message, site)),
        )


def _action(message: Message, txa: Line) -> DocumentAction:
    action = _ACTIONS[message.type]
    available = action is DocumentAction.DELETE and txa.text(19).upper() == "AV"
    return DocumentAction.CREATE if available else action


def _contents(message: Message) -> Iterator[tuple[Line, str, ContentRange]]:
    for obx in message.segments("OBX"):
        if obx.text(2).upper() == "ED" or obx.text(2).upper() in TEXT_TYPES:
            content = obx_content(obx, message)
            if content is not None:
                yield Line.of(obx, message), obx.at(5), content


def _changes(message: Message, site: Site) -> Iterator[DocumentChange]:
    txa = line(message, "TXA")
    if txa is None:
        return
    action, made_at = _action(message, txa), event_time(message, site)
    if action is DocumentAction.DELETE:
        yield DocumentChange(action, document_number(txa.one(12), site), "TXA-12", event_time=made_at)
        return
    obr = line(message, "OBR")
    for n, (obx, path, content) in enumerate(_contents(message)):
        part = str(n + 1) if n else ""
        kind, title = concept(txa.one(2)), txa.text(2, 2)
        if kind is None or not title:
            other, other_title = kind_and_title(obx, obr)
            kind, title = kind or other, title or other_title
        body = described(message, site, kind=kind, title=title, made=_made(txa, site), author=_author(txa))
        _put_state(body, txa)
        replaces = document_number(txa.one(13), site, part=part) if action is DocumentAction.REPLACE else ""
        yield DocumentChange(
            action=action,
            master_id=document_number(txa.one(12), site, part=part),
            path=path,
            body=body,
            content=content,
            replaces=replaces,
            event_time=made_at,
        )


def _made(txa: Line, site: Site) -> Ts:
    """TXA-6 (written), else TXA-7 (typed), else TXA-4 (the act)."""
    said = (parse_ts(txa.text(field), site.timezone) for field in (6, 7, 4))
    return next((ts for ts in said if ts.instant is not None), parse_ts("", site.timezone))


def _author(txa: Line) -> Json | None:
    """TXA-9 (originator), else TXA-5 (who carried out the act)."""
    return practitioner_reference(txa.one(9)) or practitioner_reference(txa.one(5))


def _put_state(body: Json, txa: Line) -> None:
    status = _STATUSES.get(txa.text(17).upper())
    if status is not None:
        body["docStatus"] = status
    label = _LABELS.get(txa.text(18).upper())
    if label is not None:
        body["securityLabel"] = [{"coding": [coding(label, "", _CONFIDENTIALITY)]}]
