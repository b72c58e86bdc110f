"""Results of biology: FR-Resultat-examens-de-biologie, batteries, isolates with their antibiogram → Observation.

Standard: CI-SIS 1.2.250.1.213.1.1.3.78, .79, .80; IHE PaLM XD-LAB 1.3.6.1.4.1.19376.1.3.1.4, .5, .6; FHIR R4 Observation.
"""

from __future__ import annotations

from typing import Any

from mappings.blood_groups import blood_group_category
from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import laboratory_context as context
from mappings.cda.templates import laboratory_values as parts
from mappings.cda.walk import translate_each
from mappings.cda.xml import Element, attribute, every, has_template, local_name, one
from mappings.code_systems import LOINC

Json = dict[str, Any]

ISOLATE = "urn:vaguemestre:isolate"
# What an isolate without a code of its own answers.
_ORGANISM = {
    "coding": [{"system": LOINC, "code": "11475-1", "display": "Microorganism identified in Specimen by Culture"}],
    "text": "Micro-organisme isolé",
}
_NESTS = frozenset({"component", "entryRelationship"})
_TAKES_PART = frozenset({"participant", "performer"})


def result(entry: Element, scope: Scope) -> Json | None:
    """One result; its value, what it means, how and by whom it was made."""
    status = context.status_of(entry)
    if status == context.NULLIFIED:
        scope.claim_all(entry)
        return None
    if attribute(entry, "moodCode") not in {"EVN", ""}:
        scope.left(entry, "a result that is not one yet (moodCode); stays in the document")
        return None
    if attribute(entry, "negationInd") == "true":
        scope.left(entry, "a negated result; stays in the document")
        return None
    code = parts.examination(one(entry, "code"), scope) or _text_code(entry, scope)
    if code is None:
        scope.find("CODE_MISSING", entry, "a result without a code; stays in the document")
        scope.claim_all(entry)
        return None
    scope.claim(entry)
    body: Json = {"status": status, "category": context.laboratory_category(code, blood_group_category(code)), "code": code}
    told = context.told(entry)
    body |= values.when(entry, scope)
    body |= parts.said_values(entry, code, scope)
    _put_description(body, entry, told, scope)
    _put_context(body, entry, told, scope)
    if told & _NESTS:
        _put_nested(body, entry, scope)
    return _add(entry, body, scope)


def _put_description(body: Json, entry: Element, told: frozenset[str], scope: Scope) -> None:
    """What a value means, how it was found, and where."""
    if "interpretationCode" in told and (flags := parts.concepts(entry, "interpretationCode", scope)):
        body["interpretation"] = flags
    if "methodCode" in told and (method := parts.method(entry, scope)) is not None:
        body["method"] = method
    if "referenceRange" in told and (ranges := parts.reference_ranges(entry, scope)):
        body["referenceRange"] = ranges
    if "targetSiteCode" in told and (site := values.concept(one(entry, "targetSiteCode"), scope)) is not None:
        body["bodySite"] = site


def battery(entry: Element, scope: Scope) -> Json | None:
    """A group of results (BATTERY); without a code of its own it has that of the chapter it stands in."""
    code = parts.examination(one(entry, "code"), scope) or context.around(scope).code
    code = code or {"text": scope.section_title or "Batterie d'examens"}
    return _group(entry, {"code": code}, scope)


def isolate(entry: Element, scope: Scope) -> Json | None:
    """A micro-organism that was isolated (CLUSTER), with its count and its antibiogram."""
    code = parts.examination(one(entry, "code"), scope) or _ORGANISM
    germ = one(entry, "specimen/specimenRole/specimenPlayingEntity/code")
    found = values.concept(germ, scope)
    body: Json = {"code": code}
    if found is not None:
        body["valueCodeableConcept"] = found
    elif (reason := values.absent_reason(germ)) is not None:
        body["dataAbsentReason"] = reason
    numbers = every(entry, "specimen/specimenRole/id")
    own = "^".join((attribute(numbers[0], "root"), attribute(numbers[0], "extension"))) if numbers else ""
    named = own or _first_code(found) or "isolate"
    with context.inside(scope, isolate=named, germ=found, specimen=context.specimen_of(entry, scope)):
        return _group(entry, body, scope, ids=[*every(entry, "id"), *numbers])


def _group(entry: Element, body: Json, scope: Scope, ids: list[Element] | None = None) -> Json | None:
    """File a group; None when it holds nothing and says nothing."""
    status = context.status_of(entry)
    if status == context.NULLIFIED:
        scope.claim_all(entry)
        return None
    scope.claim(entry)
    code: Json = body["code"]
    body = {"status": status, "category": context.laboratory_category(code, blood_group_category(code)), **body}
    body |= values.when(entry, scope)
    _put_nested(body, entry, scope, shares=True)
    if not any(name in body for name in ("hasMember", "note", "valueCodeableConcept")):
        return None
    _put_context(body, entry, context.told(entry), scope)
    return _add(entry, body, scope, ids)


def _add(entry: Element, body: Json, scope: Scope, ids: list[Element] | None = None) -> Json:
    here = context.around(scope)
    about = None
    if here.isolate:
        about = f"{_first_code(body['code']) or body['code'].get('text', '')}\n{here.isolate}"
        if here.germ is not None and "hasMember" not in body:
            body["extension"] = [*body.get("extension", ()), {"url": ISOLATE, "valueCodeableConcept": here.germ}]
    return scope.add("Observation", entry, body, about=about, ids=ids)


def _put_context(body: Json, entry: Element, told: frozenset[str], scope: Scope) -> None:
    """Specimen, performers and device: the result's own, else those around it."""
    here = context.around(scope)
    if "specimen" not in body:
        specimen = context.specimen_of(entry, scope) if "specimen" in told else here.specimen
        if specimen is not None:
            body["specimen"] = specimen
    own = bool(told & _TAKES_PART)
    if performers := (context.people(entry) if own else []) or list(here.performers):
        body["performer"] = performers
    if used := (context.devices(entry, scope) if own else []) or list(here.devices):
        body["device"] = {"type": "Device", "display": used[0]["text"]}
        found = [{"url": context.DEVICE, "valueCodeableConcept": one_} for one_ in used if "coding" in one_]
        if found:
            body["extension"] = [*body.get("extension", ()), *found]


def _put_nested(body: Json, entry: Element, scope: Scope, *, shares: bool = False) -> None:
    """Comments, earlier results, specimens and results that stand in a statement; `shares`: its specimen is its members'."""
    found = context.children(entry)
    if not found:
        return
    if notes := context.comments(found, scope):
        body["note"] = [{"text": said} for said in notes]
    earlier = set() if shares else {id(one_) for one_ in values.related(entry, "REFR")}
    before: list[Json] = []
    rest: list[Element] = []
    for statement in found:
        if id(statement) in earlier:
            if (said := parts.previous_result(statement, scope)) is not None:
                before.append(said)
                scope.claim_all(statement)
            else:
                scope.left(statement, "an earlier result without a value; stays in the document")
        else:
            rest.append(statement)
    if before:
        body["extension"] = [*body.get("extension", ()), *before]
    if not rest:
        return
    samplings, members = sorted_out(rest, scope)
    specimens = translate_each(samplings, scope)
    if len(specimens) == 1:
        body["specimen"] = specimens[0]
    with context.inside(scope, specimen=body.get("specimen", context.around(scope).specimen)):
        made = [reference for reference in translate_each(members, scope) if reference["type"] == "Observation"]
    if made:
        body["hasMember"] = made


def sorted_out(found: list[Element], scope: Scope) -> tuple[list[Element], list[Element]]:
    """Samplings, and the other statements; images are told to stay in the document."""
    samplings, rest = [], []
    for statement in found:
        name = local_name(statement)
        if name == "observationMedia":
            scope.left(statement, "an image of a result; stays in the document")
        elif name == "procedure" and has_template(statement, *context.SAMPLING):
            samplings.append(statement)
        else:
            rest.append(statement)
    return samplings, rest


def _text_code(entry: Element, scope: Scope) -> Json | None:
    """What a result without a code says of itself in its text."""
    said = values.text_of(entry, scope)
    return {"text": said} if said else None


def _first_code(concept: Json | None) -> str:
    first = ((concept or {}).get("coding") or [{}])[0]
    return f"{first.get('system', '')}|{first['code']}" if first else ""
