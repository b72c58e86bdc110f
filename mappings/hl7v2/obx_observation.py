"""OBX: one FHIR Observation, whose number stays the same when its result is corrected.

The number is made of the filler's (else the placer's) order number, the code of OBX-3 and OBX-4; without an order number, of the
patient's number, code, OBX-4 and time. What a later message leaves out of a result is gone: an interpretation never outlives its
value. Only OBX-11 U, D and W without OBX-5 leave the value as it is.

Standard: HL7 v2.5.1 §7.4.2, tables 0078, 0085; FHIR R4 Observation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hub.formats.er7 import Message
from hub.formats.ts import parse_ts
from hub.model.record_change import ResourceChange
from hub.model.refusals import Finding
from hub.model.site import Site
from mappings.blood_groups import blood_group_category
from mappings.hl7v2.ce import code_system, coding, full_concept
from mappings.hl7v2.line import Composite
from mappings.hl7v2.obx_value import VALUES, obx_value, reference_range
from mappings.hl7v2.order_groups import Part
from mappings.hl7v2.order_number import Number, derived_number
from mappings.hl7v2.ucum import Units
from mappings.hl7v2.xcn import organization_reference, practitioner_reference

Json = dict[str, Any]

# Table 0085 → Observation.status. An empty OBX-11 says nothing of how final the value is.
STATUSES = {
    "F": "final",
    "U": "final",
    "V": "final",
    "P": "preliminary",
    "R": "preliminary",
    "S": "preliminary",
    "B": "amended",
    "A": "amended",
    "C": "corrected",
    "X": "cancelled",
    "N": "cancelled",
    "D": "entered-in-error",
    "W": "entered-in-error",
    "I": "registered",
    "O": "final",  # detail of an order: said by who orders
    "": "unknown",
}
DOCUMENTS = frozenset({"ED", "RP"})  # filed as documents, or kept in the message

_VALUE_STAYS = frozenset({"U", "D", "W"})
_NOTHING_COMES = {"X": "not-performed", "N": "not-asked"}
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_INTERPRETATIONS = frozenset(
    {
        *(
            "L",
            "H",
            "LL",
            "HH",
            "LU",
            "HU",
            "<",
            ">",
            "N",
            "A",
            "AA",
            "U",
            "D",
            "B",
            "W",
            "S",
            "R",
            "I",
            "NS",
            "SDD",
            "SYN-R",
            "SYN-S",
        ),
        *("POS", "NEG", "IND", "DET", "ND", "E", "EX", "HX", "LX", "NR", "RR", "WR", "NCL", "UNE", "EXP"),
    }
)
# LOINC codes of the vital signs of FHIR R4, whatever the section that sends them.
VITAL_SIGNS = frozenset(
    {
        *("85354-9", "8480-6", "8462-4", "8867-4", "9279-1", "8310-5", "2708-6", "59408-5"),
        *("8302-2", "29463-7", "39156-5", "9843-4", "3141-9"),
    }
)
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_SAID_WHOLE = (*VALUES, "component", "dataAbsentReason", "interpretation", "referenceRange", "note")
_LINES = frozenset({"TX", "FT"})  # several OBX of one code may be the lines of one text


@dataclass(slots=True)
class Context:
    """What all observations of one order share."""

    message: Message
    site: Site
    units: Units
    event_time: int
    order: Number | None = None
    patient: str = ""  # the patient's first number, for observations without an order number
    effective: str = ""  # when OBX-14 is empty
    category: str = ""
    shared: Json = field(default_factory=dict)  # basedOn, encounter, specimen, derivedFrom


def gathered_lines(parts: list[Part]) -> Iterator[list[Part]]:
    """Observations, those that are lines of one text (TX, FT with the same OBX-3, OBX-4 and OBX-11) together."""
    run: list[Part] = []
    for part in parts:
        if run and _one_text(run[-1], part):
            run.append(part)
            continue
        if run:
            yield run
        run = [part]
    if run:
        yield run


def observation(parts: list[Part], context: Context) -> ResourceChange | None:
    """The Observation that an OBX (or several, lines of one text) tells of; None without a code in OBX-3."""
    part = parts[0]
    code = full_concept(part.fields.one(3))
    if code is None:
        return None
    status = part.fields.text(11).upper()
    body: Json = {"status": STATUSES.get(status, "unknown"), "code": code, **_said(parts, status, context), **context.shared}
    effective = _effective(part, context)
    if effective:
        body["effectiveDateTime"] = effective
    if kind := "vital-signs" if part.fields.text(3) in VITAL_SIGNS else context.category:
        body["category"] = [{"coding": [coding(kind, "", _CATEGORY)]}]
    if (blood_group := blood_group_category(code)) is not None:
        body["category"] = [*body.get("category", ()), blood_group]
    _put_performers(body, part, context)
    number = observation_number(part.fields.one(3), part.fields.text(4), effective, context)
    body["identifier"] = [number.identifier()]
    return ResourceChange("Observation", number.key, body, part.at(), context.event_time)


def observation_number(ce: Composite, sub_id: str, effective: str, context: Context) -> Number:
    """The number of the observation of that code and OBX-4."""
    code = _code_parts(ce)
    if context.order is not None:
        return derived_number("observation", *context.order, *code, sub_id)
    return derived_number("observation", context.site.source, context.patient, *code, sub_id, effective)


def numbered_once(changes: list[ResourceChange], ranks: dict[str, int]) -> list[ResourceChange]:
    """Observations that share code and OBX-4 within one order, told apart by their rank; the first keeps its number.

    `ranks` counts those of the message so far.
    """
    found = []
    for change in changes:
        rank = ranks[change.key] = ranks.get(change.key, 0) + 1
        if rank > 1:
            number = derived_number("observation", change.key, str(rank))
            body = {**change.body, "identifier": [number.identifier()]}
            found.append(ResourceChange(change.type, number.key, body, change.path, change.event_time))
        else:
            found.append(change)
    return found


def observation_findings(part: Part) -> Iterator[Finding]:
    """What is worth telling of one OBX: no values."""
    if not any(part.fields.text(3, n) for n in (1, 2, 4, 5)):
        yield Finding("OBX_WITHOUT_CODE", part.at(3), f"{part.at(3)}: no code, so the observation is not filed")
    if part.fields.text(11).upper() not in STATUSES:
        yield Finding("OBX_STATUS", part.at(11), f"{part.at(11)}: not a status of table 0085; read as unknown")
    if part.fields.text(2).upper() == "RP":
        yield Finding("POINTER_LEFT", part.at(5), f"{part.at(5)}: a pointer (RP) is kept in the message only")


def _said(parts: list[Part], status: str, context: Context) -> Json:
    """Value, interpretation, range and notes; None for each that is not said, unless only the status is told."""
    part = parts[0]
    values = [obx_value(one, context.message, context.site, context.units) for one in parts]
    value: Json = (
        values[0] if len(parts) == 1 else {"valueString": "\n".join(one.get("valueString", "") for one in values).strip()}
    )
    if not any(value.values()) and status in _VALUE_STAYS:
        return {}
    said: Json = dict.fromkeys(_SAID_WHOLE)
    if "component" in value:
        code = full_concept(part.fields.one(3))
        said["component"] = [{"code": code} | one for one in value["component"]]
    elif any(value.values()):
        said |= value
    elif status in _NOTHING_COMES:
        reason = _NOTHING_COMES[status]
        said["dataAbsentReason"] = {"coding": [coding(reason, "", _ABSENT)]}
    fields = part.fields
    if flags := [found for one in fields.all(8) if (found := _interpretation(one)) is not None]:
        said["interpretation"] = flags
    if (limits := reference_range(fields.text(7), fields.text(6), fields.text(6, 2), context.units)) is not None:
        said["referenceRange"] = [limits]
    if notes := [{"text": note.text} for one in parts for note in one.notes if note.text]:
        said["note"] = notes
    return said


def _lines(values: list[Json]) -> str:
    return "\n".join(str(one.get("valueString", "")) for one in values).strip()


def _interpretation(ce: Composite) -> Json | None:
    code = ce.text(1)
    if code.upper() in _INTERPRETATIONS:
        return {"coding": [coding(code.upper(), "", _INTERPRETATION)]}
    return full_concept(ce)


def _effective(part: Part, context: Context) -> str:
    """OBX-14, else when the specimen was taken, else OBX-19."""
    zone = context.site.timezone
    return (
        (part.fields.raw(14) and parse_ts(part.fields.text(14), zone).fhir_datetime())
        or context.effective
        or parse_ts(part.fields.text(19), zone).fhir_datetime()
    )


def _put_performers(body: Json, part: Part, context: Context) -> None:
    """OBX-16, OBX-25 (people), OBX-23 (organisation), else OBX-15 (producer); OBX-17 is the method, OBX-18 the device."""
    fields = part.fields
    people = [practitioner_reference(one) for n in (16, 25) if fields.raw(n) for one in fields.all(n)]
    organisation = organization_reference(fields.one(23), context.site) if fields.raw(23) else None
    if organisation is None and (name := fields.text(15, 2) or fields.text(15)):
        organisation = {"type": "Organization", "display": name}
    if performers := [one for one in (*people, organisation) if one is not None]:
        body["performer"] = performers
    if fields.raw(17) and (method := full_concept(fields.one(17))) is not None:
        body["method"] = method
    if device := fields.text(18):
        body["device"] = {"type": "Device", "display": device}


def _one_text(one: Part, other: Part) -> bool:
    kinds = {one.fields.text(2).upper(), other.fields.text(2).upper()}
    if len(kinds) != 1 or not kinds <= _LINES or one.notes:
        return False
    return all(one.fields.raw(n) == other.fields.raw(n) for n in (3, 4, 11))


def _code_parts(ce: Composite) -> tuple[str, str]:
    """System and code by which an observation is known: the first coding, else the second, else the text."""
    for first in (1, 4):
        if code := ce.text(first):
            return code_system(code, ce.text(first + 2)), code
    return "", ce.text(2) or ce.text(5)
