"""The parts of a result: its values, reference ranges, methods, and results of before.

Standard: CI-SIS FR-Resultat-examens-de-biologie-element-clinique-pertinent (1.2.250.1.213.1.1.3.80); IHE PaLM XD-LAB; FHIR R4.
"""

from __future__ import annotations

from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.xml import V3, Element, attribute, every, local_name, one
from mappings.code_systems import LOINC

Json = dict[str, Any]

PREVIOUS = "urn:vaguemestre:previous-result"
COMPONENT = "urn:vaguemestre:component"
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_RANGE_MEANING = "http://terminology.hl7.org/CodeSystem/referencerange-meaning"


def examination(code: Element | None, scope: Scope) -> Json | None:
    """The code of an examination, LOINC before others; None when it says nothing."""
    found = values.concept(code, scope)
    if found is not None and len(found.get("coding", ())) > 1:
        found["coding"].sort(key=lambda one_: one_.get("system") != LOINC)
    return found


def said_values(entry: Element, code: Json, scope: Scope) -> Json:
    """`value[x]` of the first `value`, components for the others and for values in other units, or why there is none."""
    found: Json = {}
    parts: list[Json] = []
    elements = entry.findall(f"{V3}value")
    for element in elements:
        made = values.value(element, scope)
        if made and not found:
            found = made
        elif made:
            parts.append(_component("further-value", made, code))
        for other in element.findall(f"{V3}translation"):
            if (same := _other_unit(other, scope)) is not None:
                parts.append(_component("other-unit", {"valueQuantity": same}, code))
    if parts:
        found["component"] = parts
    if elements and not any(name.startswith("value") for name in found):
        reason = _absent_reason(elements[0])
        if reason is not None:
            found["dataAbsentReason"] = reason
    return found


def _component(kind: str, value: Json, code: Json) -> Json:
    """A further value. Its code is not that of the result: beside a value of its own FHIR R4 forbids that (obs-7)."""
    return {"code": {"coding": [{"system": COMPONENT, "code": kind}], "text": code["text"]}, **value}


def _other_unit(translation: Element, scope: Scope) -> Json | None:
    """A PQR: `value`, and the unit in `code`. A coded translation, which is part of its value, gives None."""
    value = values.number(attribute(translation, "value"))
    if value is None:
        return None
    made: Json = scope.units.quantity(value, attribute(translation, "code") or attribute(translation, "unit"))
    return made


def _absent_reason(value: Element) -> Json | None:
    reason = values.absent_reason(value)
    if reason is None and any(part.get("value", "").strip() for part in value.iter()):
        reason = {"coding": [{"system": _ABSENT, "code": "error"}]}
    return reason


def concepts(entry: Element, name: str, scope: Scope) -> list[Json]:
    """All elements of that name as CodeableConcepts."""
    return [made for part in entry.findall(V3 + name) if (made := values.concept(part, scope)) is not None]


def method(entry: Element, scope: Scope) -> Json | None:
    """`methodCode`; several as the codings of one."""
    found = concepts(entry, "methodCode", scope)
    if len(found) < 2:
        return found[0] if found else None
    codings = [coding for one_ in found for coding in one_.get("coding", ())]
    text = "; ".join(one_["text"] for one_ in found)
    return {"coding": codings, "text": text} if codings else {"text": text}


def reference_ranges(entry: Element, scope: Scope) -> list[Json]:
    """`referenceRange/observationRange` with its ends, or its text; what it holds for (age, sex) from its preconditions."""
    found = []
    for range_ in every(entry, "referenceRange/observationRange"):
        value = one(range_, "value")
        made: Json = {} if value is None else (values.range_(value, scope) or {})
        said = values.text_of(range_, scope)
        if not said and not made and value is not None:
            said = values.narrative(value, scope)
        if said:
            made["text"] = said
        if not made:
            continue
        meaning = values.concept(one(range_, "interpretationCode"), scope)
        if meaning is not None:
            normal = any(coding["code"] == "N" for coding in meaning.get("coding", ()))
            made["type"] = {"coding": [{"system": _RANGE_MEANING, "code": "normal"}]} if normal else meaning
        _put_preconditions(made, range_, scope)
        found.append(made)
    return found


def _put_preconditions(made: Json, range_: Element, scope: Scope) -> None:
    """`precondition/criterion` (CDA or lab namespace): an interval is an age, a code whom the range is for."""
    applies: list[Json] = []
    for criterion in range_.iter():
        if not isinstance(criterion.tag, str) or local_name(criterion) != "criterion":
            continue
        parts = {local_name(part): part for part in criterion if isinstance(part.tag, str)}
        value = parts.get("value")
        ends: Json = {}
        for end in () if value is None else value:
            name = local_name(end) if isinstance(end.tag, str) else ""
            if name in {"low", "high"} and (limit := values.quantity(end, scope)) is not None:
                ends[name] = limit
        coded = values.concept(value, scope) or values.concept(parts.get("code"), scope)
        if ends:
            made["age"] = ends
        elif coded is not None:
            applies.append(coded)
    if applies:
        made["appliesTo"] = applies


def previous_result(entry: Element, scope: Scope) -> Json | None:
    """An earlier result, told beside the one that it is compared with, as an extension; None when it holds no value."""
    inside = [entry] if local_name(entry) == "observation" else entry.iter(f"{V3}observation")
    for observation in inside:
        value = one(observation, "value")
        made = {} if value is None else values.value(value, scope)
        if not made:
            continue
        parts: list[Json] = [{"url": "value", **made}]
        times = values.when(observation, scope)
        for kind, time in times.items():
            parts.append({"url": "effective", "value" + kind.removeprefix("effective"): time})
        return {"url": PREVIOUS, "extension": parts}
    return None
