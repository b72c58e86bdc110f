"""Results of ORU and OUL: per OBR a DiagnosticReport, per OBX an Observation, per SPM a Specimen.

A report is known by the filler's (else the placer's) order number and OBR-4; results of later messages add to it.

Standard: HL7 v2.5.1 §7.3 (ORU_R01, OUL_R22), tables 0074, 0123; FHIR R4 DiagnosticReport.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hub.formats.er7 import Message
from hub.formats.ts import parse_ts
from hub.model.record_change import ResourceChange
from hub.model.refusals import Finding
from hub.model.site import Site
from mappings.hl7v2.ce import coding, full_concept
from mappings.hl7v2.line import Composite, line
from mappings.hl7v2.message_times import event_time, ts_finding
from mappings.hl7v2.obx_observation import (
    DOCUMENTS,
    Context,
    gathered_lines,
    numbered_once,
    observation,
    observation_findings,
    observation_number,
)
from mappings.hl7v2.order_groups import OrderGroup, order_groups
from mappings.hl7v2.order_number import Number, filler_number, inner_number, placer_number
from mappings.hl7v2.plain_document import visit
from mappings.hl7v2.spm import specimen_reference, specimens_of
from mappings.hl7v2.ucum import Units
from mappings.hl7v2.xcn import practitioner_reference

Json = dict[str, Any]

# Table 0123 → DiagnosticReport.status.
REPORT_STATUSES = {
    "O": "registered",
    "I": "registered",
    "S": "registered",
    "A": "partial",
    "P": "preliminary",
    "R": "preliminary",
    "F": "final",
    "C": "corrected",
    "M": "corrected",
    "X": "cancelled",
    "Y": "unknown",
    "Z": "unknown",
}
# Table 0074 → Observation.category; a section that is not listed is the laboratory's.
SECTIONS = {
    **dict.fromkeys(
        ("RAD", "RUS", "CT", "NMR", "NMS", "US", "VUS", "OUS", "RX", "CTH", "XRC", "CUS", "NRS", "XA", "MG"), "imaging"
    ),
    **dict.fromkeys(("EC", "EN", "PF", "CP", "CG", "PHR", "VR"), "procedure"),
    **dict.fromkeys(("PT", "OT", "RT", "RC"), "therapy"),
    **dict.fromkeys(("NUR", "ICU"), "vital-signs"),
}
SECTION_SYSTEM = "http://terminology.hl7.org/CodeSystem/v2-0074"
REPORT_NOTE = "http://hl7.org/fhir/5.0/StructureDefinition/extension-DiagnosticReport.note"
_FINAL = frozenset({"final", "corrected", "amended", "cancelled", "entered-in-error"})
_GONE = frozenset({"cancelled", "entered-in-error"})


def results(message: Message, site: Site, units: Units) -> Iterator[ResourceChange]:
    """Specimens, observations and reports of a message, what is referred to first."""
    made_at = event_time(message, site)
    seen: dict[str, ResourceChange] = {}
    ranks: dict[str, int] = {}
    for group in order_groups(message):
        order = filler_number(group, site) or placer_number(group, site)
        specimens = specimens_of(group, order, site, units, made_at)
        context = context_of(group, order, specimens, message, site=site, units=units)
        found = numbered_once(observations_of(group, context), ranks)
        report = _report(group, order, found, specimens, context)
        for change in (*specimens, *found, *((report,) if report is not None else ())):
            name = f"{change.type} {change.key}"
            seen[name] = _joined(seen[name], change) if name in seen else change
    yield from seen.values()


def _joined(first: ResourceChange, second: ResourceChange) -> ResourceChange:
    """One specimen or report that stands several times in a message: the first one, with the results of both."""
    adds, removes = (
        {name: [*one.get(name, ()), *other.get(name, ())] for name in {*one, *other}}
        for one, other in ((first.adds, second.adds), (first.removes, second.removes))
    )
    return replace(first, adds=adds, removes=removes)


def result_findings(message: Message, site: Site) -> tuple[Finding, ...]:
    """What is worth telling of orders and observations."""
    found: list[Finding] = []
    for group in order_groups(message):
        readable = [part for part in group.observations if part.fields.text(2).upper() != "ED"]
        if readable and (filler_number(group, site) or placer_number(group, site)) is None:
            at = group.at()
            found.append(Finding("NO_ORDER_NUMBER", at, f"{at}: no order number: a correction is not known as one"))
        if group.obr is not None and group.obr.fields.text(25).upper() not in {"", *REPORT_STATUSES}:
            at = group.obr.at(25)
            found.append(Finding("OBR_STATUS", at, f"{at}: not a status of table 0123; told by its observations"))
        for part in readable:
            found += observation_findings(part)
            told = ts_finding(part.at(14), parse_ts(part.fields.text(14), site.timezone)) if part.fields.raw(14) else None
            if told is not None:
                found.append(told)
    return tuple(found)


def context_of(
    group: OrderGroup, order: Number | None, specimens: list[ResourceChange], message: Message, *, site: Site, units: Units
) -> Context:
    """What the observations of one order share."""
    pid = line(message, "PID")
    shared: Json = {}
    if (placer := placer_number(group, site)) is not None:
        shared["basedOn"] = [placer.reference("ServiceRequest")]
    if (stay := visit(message, site)) is not None:
        shared["encounter"] = stay
    if specimens:
        shared["specimen"] = specimen_reference(specimens[0])
    context = Context(
        message=message,
        site=site,
        units=units,
        event_time=event_time(message, site),
        order=order,
        patient=pid.text(3) if pid is not None else "",
        effective=_observed(group, site),
        category=_category(group),
        shared=shared,
    )
    if (parent := _parent(group, context)) is not None:
        shared["derivedFrom"] = [parent.reference("Observation")]
    return context


def observations_of(group: OrderGroup, context: Context) -> list[ResourceChange]:
    """The observations of one order, its documents left out."""
    parts = [part for part in group.observations if part.fields.text(2).upper() not in DOCUMENTS]
    return [made for run in gathered_lines(parts) if (made := observation(run, context)) is not None]


def _report(
    group: OrderGroup, order: Number | None, found: list[ResourceChange], specimens: list[ResourceChange], context: Context
) -> ResourceChange | None:
    """The report of one OBR; None without a number, and for an OBR that holds nothing but documents."""
    obr, site = group.obr, context.site
    code = full_concept(obr.fields.one(4)) if obr is not None else None
    if obr is None or order is None or code is None:
        return None
    said = obr.fields.text(25).upper()
    if not found and (group.observations or said not in REPORT_STATUSES):
        return None
    numbers = [(filler_number(group, site), "FILL"), (placer_number(group, site), "PLAC")]
    body: Json = {
        "status": REPORT_STATUSES.get(said) or _status(found),
        "code": code,
        "identifier": [one.identifier(kind) for one, kind in numbers if one is not None],
        **{name: value for name, value in context.shared.items() if name in ("basedOn", "encounter")},
    }
    if section := obr.fields.text(24).upper():
        body["category"] = [{"coding": [coding(section, "", SECTION_SYSTEM)]}]
    elif context.category == "laboratory":
        body["category"] = [{"coding": [coding("LAB", "", SECTION_SYSTEM)]}]
    if specimens:
        body["specimen"] = [specimen_reference(one) for one in specimens]
    if context.effective:
        body["effectiveDateTime"] = context.effective
    if issued := parse_ts(obr.fields.text(22), site.timezone).fhir_instant():
        body["issued"] = issued
    if (interpreter := practitioner_reference(_inner_name(obr.fields.one(32)))) is not None:
        body["resultsInterpreter"] = [interpreter]
    if notes := [note.text for note in group.notes() if note.text]:
        body["extension"] = [{"url": REPORT_NOTE, "valueAnnotation": {"text": text}} for text in notes]
    return ResourceChange(
        "DiagnosticReport",
        f"{order.key}/{obr.fields.text(4) or obr.fields.text(4, 4) or obr.fields.text(4, 2)}",
        body,
        obr.at(),
        context.event_time,
        gathers=True,
        adds={"result": [_reference(one) for one in found if one.body["status"] not in _GONE]},
        removes={"result": [_reference(one) for one in found if one.body["status"] in _GONE]},
    )


def _reference(change: ResourceChange) -> Json:
    system, _, value = change.key.partition("|")
    return Number(system, value).reference("Observation")


def _status(found: list[ResourceChange]) -> str:
    """The report's status by its observations, when OBR-25 does not tell."""
    statuses = {one.body["status"] for one in found}
    if "corrected" in statuses and statuses <= _FINAL:
        return "corrected"
    if statuses and statuses <= _FINAL:
        return "final"
    return "preliminary" if "preliminary" in statuses else "unknown"


def _observed(group: OrderGroup, site: Site) -> str:
    """OBR-7, else SPM-17."""
    texts = [group.obr.fields.text(7)] if group.obr is not None else []
    texts += [part.fields.text(17) for part in group.specimens]
    return next((said for text in texts if (said := parse_ts(text, site.timezone).fhir_datetime())), "")


def _category(group: OrderGroup) -> str:
    """By OBR-24, else laboratory when a specimen or a measured or coded value is there."""
    section = group.obr.fields.text(24).upper() if group.obr is not None else ""
    if section:
        return SECTIONS.get(section, "laboratory")
    kinds = {part.fields.text(2).upper() for part in group.observations}
    return "laboratory" if group.specimens or kinds - {"TX", "FT", "ED", "RP", ""} else ""


def _parent(group: OrderGroup, context: Context) -> Number | None:
    """The observation of another order from which this order follows (the organism of an antibiogram): OBR-26 and OBR-29.

    OBR-26 holds OBX-3 as subcomponents of its first component, OBX-4 as second one.
    """
    if group.obr is None:
        return None
    fields, site = group.obr.fields, context.site
    parent = inner_number(fields.one(29), 2, site) or inner_number(fields.one(29), 1, site)
    result = fields.one(26)
    if parent is None or not result.text(1):
        return None
    upper = Context(context.message, site, context.units, context.event_time, order=parent)
    return observation_number(result.inner(1), result.text(2), "", upper)


def _inner_name(ndl: Composite) -> Composite:
    """OBR-32.1 (CNN): id, family and given name as subcomponents; an XCN written flat is read as such."""
    return ndl.inner(1) if ndl.text(1, 2) else ndl
