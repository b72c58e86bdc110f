"""Observations: one code, one value, and what stands in them as answers of their own.

Standard: CI-SIS FR-Simple-Observation (1.2.250.1.213.1.1.3.48 and below), FR-Habitus-Mode-de-vie (….52), FR-Observation-sur-la-
grossesse (….53), FR-Directive-anticipee (….54) and others; IHE PCC Simple Observations (1.3.6.1.4.1.19376.1.5.3.1.4.13).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mappings.blood_groups import blood_group_category
from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import clinical, plan
from mappings.cda.templates.clinical import Parts, known_as
from mappings.cda.templates.laboratory_values import said_values
from mappings.cda.xml import Element, attribute, every, local_name, names, one

Json = dict[str, Any]
Translate = Callable[[Element, Scope], Json | None]

CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_REASON_CODE = "http://hl7.org/fhir/StructureDefinition/workflow-reasonCode"
_REASON = "http://hl7.org/fhir/StructureDefinition/workflow-reasonReference"
_PERFORMERS = frozenset({"Practitioner", "PractitionerRole", "Organization", "CareTeam", "Patient", "RelatedPerson"})
_MEMBERS = frozenset({"Observation"})
_STATUS = {
    "": "final",
    "completed": "final",
    "active": "preliminary",
    "aborted": "cancelled",
    "cancelled": "cancelled",
    "new": "registered",
    "held": "registered",
    "suspended": "preliminary",
}
_CATEGORY_OF_SECTION = {
    "29762-2": "social-history",
    "8716-3": "vital-signs",
    "29545-1": "exam",
    "10210-3": "exam",
    "47420-5": "survey",
    "46006-3": "survey",
}
_EXAM_SECTIONS = "1.3.6.1.4.1.19376.1.5.3.1.1.9."
# Scores: Apgar at 1, 5, 10 minutes, Glasgow, Rankin, NIHSS.
_SURVEYS = frozenset({"9272-6", "9274-2", "9271-8", "9269-2", "75859-9", "72089-6"})


def observe(entry: Element, scope: Scope, category: str = "") -> Json | None:
    """An observation that was made; one that is planned is a ServiceRequest or a Goal (`plan`)."""
    if clinical.says_nothing(entry, scope):
        return None
    if clinical.mood(entry) != "EVN":
        return plan.planned(entry, scope)
    scope.claim(entry)
    code = clinical.code_of(entry, scope)
    found = clinical.parts(entry, scope)
    if code is None:
        return None
    kind = _category(code, category, scope)
    body: Json = {"status": _STATUS.get(clinical.status_code(entry), "unknown"), **({"category": kind} if kind else {})}
    body |= {"code": code, **effective(entry, scope)}
    body |= said_values(entry, code, scope)
    if clinical.is_negated(entry) and body.get("valueBoolean") is not False:  # "no" and « not so » say the same in French entries
        body["modifierExtension"] = [{"url": clinical.NEGATED, "valueBoolean": True}]
    _put_details(entry, body, scope)
    _put_parts(entry, body, found, scope)
    return scope.add("Observation", entry, body)


def effective(entry: Element, scope: Scope) -> Json:
    """When it was so: its own time, else that of the organizer that it stands in."""
    own = values.when(entry, scope)
    outer = clinical.enclosing(entry)
    return own or (values.when(outer, scope) if outer is not None and local_name(outer) == "organizer" else {})


def _category(code: Json, category: str, scope: Scope) -> list[Json]:
    if not category and _SURVEYS & set(clinical.codes_in(code)):
        category = "survey"
    if not category:
        category = _CATEGORY_OF_SECTION.get(scope.section_code, "")
    if not category and any(root.startswith(_EXAM_SECTIONS) for root in scope.section_templates):
        category = "exam"
    further = blood_group_category(code)
    return [*([clinical.coded(CATEGORY, category)] if category else []), *([further] if further is not None else [])]


def _put_details(entry: Element, body: Json, scope: Scope) -> None:
    places = clinical.sites(entry, scope)
    if places:
        body["bodySite"] = places[0]
    for place in places[1:]:
        clinical.extend(body, "urn:vaguemestre:body-site", "CodeableConcept", place)
    method = values.concept(one(entry, "methodCode"), scope)
    if method is not None:
        body["method"] = method
    said = [concept for part in every(entry, "interpretationCode") if (concept := values.concept(part, scope)) is not None]
    if said:
        body["interpretation"] = said
    ranges = [made for part in every(entry, "referenceRange/observationRange") if (made := _range(part, scope))]
    if ranges:
        body["referenceRange"] = ranges
    body |= _who(entry)


def _range(element: Element, scope: Scope) -> Json:
    value = one(element, "value")
    made: Json = values.range_(value, scope) or {}
    said = values.text_of(element, scope) or ("" if made or value is None else values.narrative(value, scope))
    return made | ({"text": said} if said else {})


def _who(entry: Element) -> Json:
    roles = entry.findall(names("participant"))
    asked = [values.practitioner(one(role, "participantRole")) for role in roles if attribute(role, "typeCode") == "PRF"]
    found = [made for made in (*values.performers(entry), *asked) if made is not None and made["type"] in _PERFORMERS]
    author = clinical.who_wrote(entry, _PERFORMERS)
    if not found and author is not None:
        found = [author]
    return {"performer": [made for n, made in enumerate(found) if made not in found[:n]]} if found else {}


def _put_parts(entry: Element, body: Json, found: Parts, scope: Scope) -> None:
    """Answers that stand in it are members; what supports it is what it derives from; reasons are the extensions of FHIR."""
    supports = found.references("SPRT", only=_MEMBERS) + found.references(only=frozenset({"DocumentReference"}))
    reasons = found.references("RSON", "CAUS")
    members = [part for part in found.references(only=_MEMBERS) if part not in supports and part not in reasons]
    others = [part for part in found.references() if part not in supports and part not in reasons and part not in members]
    for reason in reasons:
        clinical.extend(body, _REASON, "Reference", reason)
    for reason_code in found.reasons():
        clinical.extend(body, _REASON_CODE, "CodeableConcept", reason_code)
    for other in others:
        clinical.extend(body, "urn:vaguemestre:related", "Reference", other)
    found.put(body, hasMember=members, derivedFrom=supports)
    if not any(name.startswith("value") for name in body) and not members and (said := values.text_of(entry, scope)):
        found.notes.insert(0, {"text": said})
        body["note"] = found.notes


# ---- organizers ------------------------------------------------------------------------------------------------------------


def panel(entry: Element, scope: Scope, category: str = "", default: Json | None = None) -> Json | None:
    """An organizer: an Observation with a code whose members are its observations; without a code only its members."""
    if clinical.says_nothing(entry, scope):
        return None
    scope.claim(entry)
    code = values.concept(one(entry, "code"), scope) or default
    found = clinical.parts(entry, scope)
    members = found.references(only=_MEMBERS)
    if code is None or not members:
        return None
    body: Json = {"status": _STATUS.get(clinical.status_code(entry), "unknown")}
    body |= {"category": [clinical.coded(CATEGORY, category)]} if category else {}
    body |= {"code": code, **(values.when(entry, scope) or _shared_time(entry, scope)), **_who(entry)}
    if clinical.is_negated(entry):
        body["modifierExtension"] = [{"url": clinical.NEGATED, "valueBoolean": True}]
    _put_parts(entry, body, found, scope)
    return scope.add("Observation", entry, body)


def _shared_time(entry: Element, scope: Scope) -> Json:
    """The time of the observations in an organizer when it is the same for all."""
    times = [values.when(child, scope) for _, child in clinical.nested(entry) if local_name(child) == "observation"]
    return times[0] if times and all(time == times[0] for time in times) else {}


# ---- comments at the level of an entry, and what stays in the document ---------------------------------------------------------


def remark(entry: Element, scope: Scope) -> Json | None:
    """A comment that is an entry of its own: an Observation whose value is its text."""
    if clinical.says_nothing(entry, scope):
        return None
    scope.claim_all(entry)
    said, code = values.text_of(entry, scope), values.concept(one(entry, "code"), scope)
    if clinical.says_little(said) or code is None:
        return None
    body: Json = {"status": "final", "code": code, **values.when(entry, scope), "valueString": said, **_who(entry)}
    return scope.add("Observation", entry, body)


def _left(sentence: str) -> Translate:
    def leave(entry: Element, scope: Scope) -> None:
        if not clinical.says_nothing(entry, scope):
            scope.left(entry, f"{sentence}; stays in the document")

    return leave


def _observed(category: str = "") -> Translate:
    return lambda entry, scope: observe(entry, scope, category)


_QUALIFIERS = ("fr:29", "fr:30", "fr:31", "ihe:1", "ihe:1.1", "ihe:1.2", "ccd:50", "ccd:51", "ccd:55", "ccd:57")
_PLAIN = (
    *_QUALIFIERS,
    "fr:211",
    "fr:212",
    "fr:213",
    "fr:102",
    "fr:150",
    "fr:170",
    "fr:171",
    "fr:172",
    "fr:74",
    "fr:209",
    "fr:12",
    "fr:48",
    "ihe:13",
    "ccd:31",
)
_PANELS = ("fr:55", "fr:56", "fr:7", "fr:98", "fr:208", "fr:95", "ihe:13.5.1", "ihe:13.5.2", "functional:7")
_BY_CATEGORY = {
    "social-history": ("fr:52", "ihe:13.4", "ccd:33"),
    "survey": ("fr:25", "fr:6", "fr:8", "fr:89", "fr:110", "functional:6", "functional:1", "functional:4"),
}
_LEFT = {
    "a transfer of the patient": ("fr:28",),
    "the hospital that is preferred": ("fr:97",),
    "a reference to another document": ("fr:35", "ihe:4"),
    "a reference to another entry": ("fr:36", "ihe:4.1"),
    "who covers the patient's expenses": ("fr:61", "ihe:17", "ccd:20", "fr:94", "ihe:18", "ccd:26"),
    "a transport of the patient": ("fr:24",),
}
TRANSLATORS: dict[str, Translate] = {
    **{root: _observed(category) for category, told in _BY_CATEGORY.items() for root in known_as(*told)},
    **dict.fromkeys(known_as("fr:57", "ihe:13.6"), _observed("laboratory")),
    **dict.fromkeys(known_as("fr:53", "ihe:13.5", "fr:54", "ihe:13.7", "ccd:17"), _observed()),
    "1.3.6.1.4.1.19376.1.7.3.1.4.14.2": _observed(),
    **dict.fromkeys(known_as(*_PANELS), panel),
    **dict.fromkeys(known_as("fr:32", "ihe:2", "ccd:40"), remark),
    **{root: _left(sentence) for sentence, told in _LEFT.items() for root in known_as(*told)},
    "1.3.6.1.4.1.19376.1.5.3.1.1.10.4.1": _left("a transport of the patient"),
    "1.3.6.1.4.1.19376.1.5.3.1.1.10.4.2": _left("the hospital that is preferred"),
    "1.3.6.1.4.1.19376.1.5.3.1.1.25.1.4.1": _left("a transfer of the patient"),
    **dict.fromkeys(known_as(*_PLAIN), _observed()),
    **dict.fromkeys(known_as("ccd:32"), panel),
}
