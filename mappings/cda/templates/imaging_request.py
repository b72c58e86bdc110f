"""A requested imaging examination (DA-IMG).

Standard: CI-SIS volet DA-IMG (1.2.250.1.213.1.1.1.47), FR-Demande-d-examen-d-imagerie (1.2.250.1.213.1.1.3.27.3), section
FR-Demande-d-examen (1.2.250.1.213.1.1.2.211); IHE PCC Observation Requests (1.3.6.1.4.1.19376.1.5.3.1.1.20.3.1).
"""

from __future__ import annotations

from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import acts, clinical
from mappings.cda.templates.qualifiers import Qualifiers, qualifiers
from mappings.cda.walk import translate_each
from mappings.cda.xml import V3, Element, attribute, has_template, one, text

Json = dict[str, Any]

_REASON_SECTIONS = ("1.2.250.1.213.1.1.2.211", "1.2.840.10008.9.7")
_INFORMATION_SECTIONS = ("1.2.250.1.213.1.1.2.205", "1.2.840.10008.9.2")
_IMAGING = {"system": "http://snomed.info/sct", "code": "363679005", "display": "Imaging"}
_STATUS = {
    "": "active",
    "active": "active",
    "new": "active",
    "completed": "completed",
    "aborted": "revoked",
    "cancelled": "revoked",
    "held": "on-hold",
    "suspended": "on-hold",
}
_INTENT = {"PRP": "proposal", "GOL": "plan", "PRMS": "plan", "APT": "plan"}
_PRIORITY = {"UR": "urgent", "EM": "stat", "S": "stat", "A": "asap", "CS": "asap", "CR": "asap", "R": "routine", "EL": "routine"}
_QUESTION = "urn:vaguemestre:question"


def imaging_request(entry: Element, scope: Scope) -> Json | None:
    """A ServiceRequest: what is asked, how urgently, of which part of the body, why, by whom, and the answers beside it."""
    if clinical.says_nothing(entry, scope):
        return None
    scope.claim(entry)
    code, found = clinical.code_of(entry, scope), qualifiers(entry, scope)
    if code is None:
        scope.claim_all(entry)
        return None
    body: Json = {
        "status": _STATUS.get(clinical.status_code(entry), "unknown"),
        "intent": _INTENT.get(clinical.mood(entry), "order"),
        "category": [{"coding": [_IMAGING], "text": "Imaging"}],
        "code": code,
        **values.when(entry, scope, "occurrence"),
    }
    if clinical.is_negated(entry):
        body["doNotPerform"] = True
    _put_priority(entry, body, scope)
    _put_people_and_numbers(entry, body, scope)
    if places := sites(entry, scope):
        body["bodySite"] = places
    clinical.extend(body, "urn:vaguemestre:modality", "CodeableConcept", values.concept(one(entry, "methodCode"), scope))
    if reason := _reason(scope):
        found.reasons.append({"text": reason})
    said = values.text_of(entry, scope)
    if said and said != code.get("text"):
        found.notes.insert(0, {"text": said})
    _put_questions(body, found, scope)
    found.put(body)
    return scope.add("ServiceRequest", entry, body)


def sites(entry: Element, scope: Scope) -> list[Json]:
    """Each `targetSiteCode`; its side and other qualifiers are part of its text, also where the document words the site."""
    found = clinical.sites(entry, scope)
    for place in found:
        parts = [part for one_ in place.get("extension", ()) if one_["url"] == values.QUALIFIER for part in one_["extension"]]
        named = (part["valueCodeableConcept"].get("text", "") for part in parts if part["url"] == "value")
        said = str(place.get("text", ""))
        missing = [name for name in named if name and name.lower() not in said.lower()]
        if missing:
            place["text"] = ", ".join([said, *missing])
    return found


def _put_priority(entry: Element, body: Json, scope: Scope) -> None:
    element = one(entry, "priorityCode")
    priority = _PRIORITY.get(attribute(element, "code"), "")
    if priority:
        body["priority"] = priority
    concept = values.concept(element, scope)
    if concept is not None and (not priority or values.original_text(element, scope) if element is not None else False):
        clinical.extend(body, "urn:vaguemestre:priority", "CodeableConcept", concept)


def _put_people_and_numbers(entry: Element, body: Json, scope: Scope) -> None:
    requester = acts.author_of(entry, scope)
    if requester is not None:
        body["requester"] = requester
    if written := acts.written_at(entry, scope):
        body["authoredOn"] = written
    if performers := values.performers(entry):
        body["performer"] = performers
    event = acts.main_act(scope)
    number = values.identifier(element) if event is not None and (element := one(event, "id")) is not None else None
    if number is not None:
        body["requisition"] = number


def _put_questions(body: Json, found: Qualifiers, scope: Scope) -> None:
    """Simple observations beside a request (call back, associated events) as extensions; anything else is translated."""
    for question in found.observations:
        code, value = values.concept(one(question, "code"), scope), one(question, "value")
        said = (values.value(value, scope) if value is not None else {}) or (
            {"valueString": words} if (words := values.text_of(question, scope)) else {}
        )
        scope.claim(question)
        if code is not None and said:
            made = {"url": _QUESTION, "extension": [{"url": "code", "valueCodeableConcept": code}, {"url": "value", **said}]}
            body.setdefault("extension", []).append(made)
    if supporting := translate_each(found.rest, scope):
        body["supportingInfo"] = supporting


def _reason(scope: Scope) -> str:
    """What the document says of the reason of its requests: the section « demande », else the clinical information."""
    shared = scope.reading.shared
    if "imaging reason" not in shared:
        said: dict[int, str] = {}
        for section in scope.reading.root.iter(f"{V3}section"):
            for rank, templates in enumerate((_REASON_SECTIONS, _INFORMATION_SECTIONS)):
                if has_template(section, *templates) and (words := text(one(section, "text"))):
                    said.setdefault(rank, words)
        shared["imaging reason"] = said.get(0) or said.get(1, "")
    reason: str = shared["imaging reason"]
    return reason
