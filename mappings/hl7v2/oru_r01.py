"""ORU^R01 outside a French profile: Patient, Encounter, each ED of an OBX-5 as a document, any other OBX as an observation.

Standard: HL7 v2.5.1 §7.3.1 (ORU_R01).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from hub.formats.er7 import Message, Segment
from hub.model.record_change import ContentRange, DocumentAction, DocumentChange, RecordChange
from hub.model.refusals import Finding
from hub.model.site import Site
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

    name, version = "oru", "2"
    heavy, parses_document = False, True

    def __init__(self, units: Units) -> None:
        self._units = units

    def judge(self, message: Message, site: Site) -> None:
        judge_pid(message)
        judge_one_patient(message)
        for obx, _, _ in _documents(message):
            obx_content(obx, message)

    def remarks(self, message: Message, site: Site) -> tuple[Finding, ...]:
        findings = list(pid_findings(message, site) + pv1_findings(message, site) + result_findings(message, site))
        for obx, _, _ in _documents(message):
            if obx_content(obx, message) is None:
                findings.append(Finding("DOCUMENT_EMPTY", obx.at(5), f"{obx.at(5)}: an ED without data; nothing is filed"))
        return tuple(findings)

    def translate(self, message: Message, site: Site) -> RecordChange:
        identity = pid_identity(message, site)
        stay = pv1_encounter(message, site)
        return RecordChange(
            mapping=f"{self.name}@{self.version}",
            identity=identity,
            patient=pid_patient(message, identity, site),
            event_time=event_time(message, site),
            resources=(*((stay,) if stay is not None else ()), *results(message, site, self._units)),
            documents=tuple(_changes(message, site)),
        )


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
        if content is None and status not in _WITHDRAWN:
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
