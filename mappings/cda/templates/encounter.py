"""Stays and visits that took place → Encounter; those that are asked for or agreed → Appointment.

Standard: CI-SIS FR-Rencontre (1.2.250.1.213.1.1.3.58); IHE PCC Encounters (1.3.6.1.4.1.19376.1.5.3.1.4.14); FHIR R4 Encounter,
Appointment (app-2, app-3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import clinical
from mappings.cda.templates.clinical import Parts, known_as
from mappings.cda.xml import Element, attribute, every, one, text

Json = dict[str, Any]

_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_CLASSES = frozenset({"AMB", "EMER", "FLD", "HH", "IMP", "ACUTE", "NONAC", "OBSENC", "PRENC", "SS", "VR"})
_UNKNOWN_CLASS = {"system": "http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "code": "UNK"}
_STATUS = {"completed": "finished", "active": "in-progress", "aborted": "cancelled", "cancelled": "cancelled"}
_ACTORS = frozenset({"Practitioner", "PractitionerRole", "RelatedPerson", "Device"})
_REASONS = frozenset({"Condition", "Procedure", "Observation"})


def encounter(entry: Element, scope: Scope) -> Json | None:
    """A stay or visit by its mood: EVN took place, anything else is to come."""
    if clinical.says_nothing(entry, scope):
        return None
    scope.claim(entry)
    code, found = values.concept(one(entry, "code"), scope), clinical.parts(entry, scope)
    if clinical.mood(entry) != "EVN":
        return _appointment(entry, code, found, scope)
    when = values.period(one(entry, "effectiveTime"), scope)
    body: Json = {"status": _status(entry, when), "class": _class(code)}
    if code is not None:
        body["type"] = [code]
    if when:
        body["period"] = when
    individuals = [one_ for one_ in values.performers(entry) if one_["type"] in clinical.PERSONS]
    places = _places(entry)
    lists: dict[str, list[Json]] = {
        "participant": [{"individual": one_} for one_ in individuals],
        "reasonCode": found.reasons(),
        "reasonReference": found.references("RSON", "CAUS", only=_REASONS),
        "location": [{"location": place} for place in places],
    }
    body |= {name: said for name, said in lists.items() if said}
    for note in found.notes:
        clinical.extend(body, "urn:vaguemestre:note", "Annotation", note)
    for reference in found.references():
        if reference not in lists["reasonReference"]:
            clinical.extend(body, "urn:vaguemestre:related", "Reference", reference)
    clinical.extend(body, "urn:vaguemestre:priority", "CodeableConcept", values.concept(one(entry, "priorityCode"), scope))
    return scope.add("Encounter", entry, body, about=_about(code), at=when.get("start", when.get("end", "")))


def _status(entry: Element, when: Json) -> str:
    """statusCode; where it is unsaid, an end says that it is over, and a beginning alone says nothing."""
    said = _STATUS.get(clinical.status_code(entry), "")
    return "cancelled" if clinical.is_negated(entry) else said or ("finished" if when.get("end") else "unknown")


def _class(code: Json | None) -> Json:
    for part in (code or {}).get("coding", ()):
        if part["code"] in _CLASSES and part.get("system", _ACT_CODE) == _ACT_CODE:
            return {**part, "system": _ACT_CODE}
    return dict(_UNKNOWN_CLASS)


def _about(code: Json | None) -> str:
    return (clinical.codes_in(code) or [(code or {}).get("text", "")])[0]


def _places(entry: Element) -> list[Json]:
    """Where it took place (participant LOC)."""
    found: list[Json] = []
    for part in every(entry, "participant"):
        role = one(part, "participantRole")
        name = text(one(role, "playingEntity/name"))
        numbers = [made for number in every(role, "id") if (made := values.identifier(number)) is not None]
        if attribute(part, "typeCode") == "LOC" and (name or numbers):
            place = {"type": "Location", **({"identifier": numbers[0]} if numbers else {}), **({"display": name} if name else {})}
            found.append(place)
    return found


# ---- appointments ------------------------------------------------------------------------------------------------------------


def _appointment(entry: Element, code: Json | None, found: Parts, scope: Scope) -> Json | None:
    """Who, where, when it is wished for. Only what is agreed to the minute, both ends, is booked (app-2, app-3)."""
    when = values.period(one(entry, "effectiveTime"), scope)
    begins, ends = when.get("start", ""), when.get("end", "")
    agreed = clinical.mood(entry) in {"APT", "PRMS"} and "T" in begins and "T" in ends
    body: Json = {"status": "booked" if agreed else "proposed"}
    if clinical.is_negated(entry) or clinical.status_code(entry) in {"cancelled", "aborted"}:
        body["status"] = "cancelled"
    if code is not None:
        body["serviceType"] = [code]
    body |= _times(begins, ends, agreed)
    actors: list[Json] = [one_ for one_ in values.performers(entry) if one_["type"] in _ACTORS] + _places(entry)
    needed = "accepted" if agreed else "needs-action"
    if actors:
        body["participant"] = [{"actor": actor, "status": needed} for actor in actors]
    reasons = found.references("RSON", "CAUS", only=_REASONS)
    body |= {"reasonCode": found.reasons()} if found.reasons() else {}
    body |= {"reasonReference": reasons} if reasons else {}
    if found.notes:
        body["comment"] = "\n".join(note["text"] for note in found.notes)
    for reference in found.references():
        if reference not in reasons:
            clinical.extend(body, "urn:vaguemestre:related", "Reference", reference)
    clinical.extend(body, "urn:vaguemestre:priority", "CodeableConcept", values.concept(one(entry, "priorityCode"), scope))
    written = values.moment(one(entry, "author/time"), scope)
    body |= {"created": written} if written else {}
    return scope.add("Appointment", entry, body, about=_about(code), at=begins or ends)


def _times(begins: str, ends: str, agreed: bool) -> Json:
    if agreed:
        return {"start": begins, "end": ends}
    wished = {name: said for name, said in (("start", begins), ("end", ends)) if said}
    return {"requestedPeriod": [wished]} if wished else {}


TRANSLATORS: dict[str, Callable[[Element, Scope], Json | None]] = dict.fromkeys(known_as("fr:58", "ihe:14", "ccd:21"), encounter)
