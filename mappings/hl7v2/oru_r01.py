"""ORU^R01 outside a French profile: Patient, Encounter, each ED of an OBX-5 as a document (a CDA with what it
says), any other OBX as an observation.

Standard: HL7 v2.5.1 §7.3.1 (ORU_R01).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from hub.formats.er7 import Message, Segment
from hub.model.record_change import ContentRange, DocumentAction, DocumentChange, RecordChange
from hub.model.refusals import Finding
from hub.model.site import Site
from mappings.hl7v2.cda_document import CdaDocument, CdaTranslation, FiledAs, judge_patient, plain_cda, plain_cda_findings, uri
from mappings.hl7v2.cx import source_system
from mappings.hl7v2.line import Line, line
from mappings.hl7v2.message_times import event_time
from mappings.hl7v2.obx_content import obx_content
from mappings.hl7v2.order_groups import judge_one_patient
from mappings.hl7v2.pid import judge_pid, pid_findings, pid_identity, pid_patient
from mappings.hl7v2.plain_document import described, document_number, kind_and_title, observed, observer, opened
from mappings.hl7v2.pv1 import pv1_encounter, pv1_findings
from mappings.hl7v2.results import result_findings, results
from mappings.hl7v2.ucum import Units
from mappings.structure import AsksForNothing

_STATUSES = {"P": "preliminary", "R": "preliminary", "S": "preliminary", "F": "final", "U": "final", "C": "amended"}
_WITHDRAWN = frozenset({"D", "W"})
_NOTHING_YET = frozenset({"X", "N", "O", "I"})


class OruR01(AsksForNothing):
    """Results, and documents that come as results."""

    name, version = "oru", "3"
    heavy, parses_document = False, True

    def __init__(self, units: Units, translation: CdaTranslation) -> None:
        self._units, self._translation = units, translation

    def is_heavy(self, message: Message) -> bool:
        """Whether it holds a CDA."""
        return bool(result_cdas(message))

    def documents(self, message: Message, site: Site) -> tuple[str | None, str | None, bool]:
        """The document of the message, the one that it replaces or deletes, and whether it deletes; of several the first."""
        return numbers_of(result_cdas(message))

    def judge(self, message: Message, site: Site) -> None:
        judge_pid(message)
        judge_one_patient(message)
        for obx, _, _ in _documents(message):
            obx_content(obx, message)
        if cdas := result_cdas(message):
            judge_patient(cdas, pid_identity(message, site))

    def remarks(self, message: Message, site: Site) -> tuple[Finding, ...]:
        findings = list(pid_findings(message, site) + pv1_findings(message, site) + result_findings(message, site))
        for obx, _, _ in _documents(message):
            if obx_content(obx, message) is None:
                findings.append(Finding("DOCUMENT_EMPTY", obx.at(5), f"{obx.at(5)}: an ED without data; nothing is filed"))
            findings += plain_cda_findings(obx, message)
        return tuple(findings)

    def translate(self, message: Message, site: Site) -> RecordChange:
        identity = pid_identity(message, site)
        stay = pv1_encounter(message, site)
        made = [*cda_changes(result_cdas(message), message, site, self._translation)]
        return RecordChange(
            mapping=f"{self.name}@{self.version}",
            identity=identity,
            patient=pid_patient(message, identity, site),
            event_time=event_time(message, site),
            resources=(*((stay,) if stay is not None else ()), *results(message, site, self._units)),
            documents=(*_changes(message, site), *(change for change, _ in made)),
            findings=tuple(finding for _, findings in made for finding in findings),
        )


def result_cdas(message: Message) -> list[CdaDocument]:
    """The CDA among the documents of a message of results."""
    if b"ED" not in message.raw:
        return []
    return [cda for obx, _, _ in _documents(message) if (cda := plain_cda(obx, message)) is not None]


def numbers_of(cdas: Sequence[CdaDocument]) -> tuple[str | None, str | None, bool]:
    """Of the first one: its number, that of the document which it replaces or deletes, and whether OBX-11 deletes it."""
    if not cdas:
        return None, None, False
    header = cdas[0].header
    if cdas[0].obx.text(11).upper() in _WITHDRAWN:
        return None, header.master_id, True
    return header.master_id, uri(header.replaces) or None, False


def cda_changes(
    cdas: Sequence[CdaDocument], message: Message, site: Site, translation: CdaTranslation
) -> Iterator[tuple[DocumentChange, tuple[Finding, ...]]]:
    """What the record changes because of the CDA of a message of results: OBX-11 withdraws, a predecessor is replaced."""
    for cda in cdas:
        status = cda.obx.text(11).upper()
        action = DocumentAction.REPLACE if cda.header.replaces else DocumentAction.CREATE
        if status in _WITHDRAWN:
            action = DocumentAction.DELETE
        says = {"docStatus": _STATUSES[status]} if status in _STATUSES else {}
        yield translation.change(cda, message, site, FiledAs(action, says=says))


def _documents(message: Message) -> Iterator[tuple[Segment, Segment | None, Segment | None]]:
    """Each OBX that holds an ED, with the ORC and OBR it stands under."""
    orc = obr = None
    for segment in message.segments():
        if segment.name == "ORC":
            orc, obr = segment, None
        elif segment.name == "OBR":
            obr = segment
        elif segment.name == "OBX" and segment.text(2).upper() == "ED" and segment.text(11).upper() not in _NOTHING_YET:
            yield segment, orc, obr


def _changes(message: Message, site: Site) -> Iterator[DocumentChange]:
    made_at = event_time(message, site)
    for n, (obx, orc, obr) in enumerate(_documents(message), start=1):
        content = obx_content(obx, message)
        status = obx.text(11).upper()
        if (content is None and status not in _WITHDRAWN) or plain_cda(obx, message) is not None:
            continue
        fields, order = Line.of(obx, message), opened(obr, message)
        kind, title = kind_and_title(fields, order)
        body = described(message, site, kind=kind, title=title, made=observed(fields, order, site), author=observer(fields))
        if status in _STATUSES:
            body["docStatus"] = _STATUSES[status]
        number = _number(fields, n, order, opened(orc, message), site) or _digest(message, content, site)
        if number:
            yield DocumentChange(
                action=DocumentAction.DELETE if status in _WITHDRAWN else DocumentAction.CREATE,
                master_id=number,
                path=obx.at(5),
                body=body,
                content=content if status not in _WITHDRAWN else None,
                event_time=made_at,
            )


def _number(obx: Line, n: int, obr: Line | None, orc: Line | None, site: Site) -> str:
    """The filler's (else the placer's) order number with the OBX's set id; empty without an order number."""
    part = obx.text(1) or str(n)
    for order, field in ((obr, 3), (orc, 3), (obr, 2), (orc, 2)):
        if order is not None and (number := document_number(order.one(field), site, part=part)):
            return number
    return ""


def _digest(message: Message, content: ContentRange | None, site: Site) -> str:
    """A number made of patient and content, for a document that came without one."""
    if content is None:
        return ""
    pid = line(message, "PID")
    patient = pid.raw(3).encode(errors="surrogateescape") if pid is not None else b""
    return f"{source_system(site)}|{hashlib.sha1(patient + content.sha1, usedforsecurity=False).hexdigest()}"
