"""FR-Prelevement → Specimen.

Standard: CI-SIS 1.2.250.1.213.1.1.3.77, .107; IHE PaLM XD-LAB 1.3.6.1.4.1.19376.1.3.1.2, .3; FHIR R4 Specimen.
"""

from __future__ import annotations

from typing import Any

from hub.model.identifiers import PROFESSIONALS
from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import laboratory_context as context
from mappings.cda.xml import Element, attribute, every, has_template, one

Json = dict[str, Any]

_RECEPTION = ("1.2.250.1.213.1.1.3.107", "1.3.6.1.4.1.19376.1.3.1.3")
_COLLECTORS = frozenset({"Practitioner", "PractitionerRole"})


def specimen(entry: Element, scope: Scope) -> Json | None:
    """What was sampled, when, where, by whom, and when the laboratory received it."""
    if context.status_of(entry) == context.NULLIFIED or attribute(entry, "negationInd") == "true":
        scope.claim_all(entry)
        return None
    role = one(entry, "participant/participantRole")
    body: Json = {"status": "available"}
    if (kind := values.concept(one(role, "playingEntity/code"), scope)) is not None:
        body["type"] = kind
    collection = _collection(entry, scope)
    found = context.children(entry)
    if notes := context.comments(found, scope):
        body["note"] = [{"text": said} for said in notes]
    for act in found:
        if has_template(act, *_RECEPTION):
            scope.claim_all(act)
            if received := values.start(act, scope) or values.end(act, scope):
                body["receivedTime"] = received
    if collection:
        body["collection"] = collection
    numbers = _numbers(role, scope)
    at = str(collection.get("collectedDateTime") or collection.get("collectedPeriod", ""))
    reference = scope.add("Specimen", entry, body, at=at, ids=[*numbers, *every(entry, "id")])
    known = context.around(scope).specimens
    for number in numbers:
        known.setdefault((attribute(number, "root"), attribute(number, "extension")), reference)
    return reference


def reception(entry: Element, scope: Scope) -> Json | None:
    """When a specimen was received: part of what it stands in."""
    scope.claim_all(entry)
    return None


def _numbers(role: Element | None, scope: Scope) -> list[Element]:
    """The ids of a specimen, without a professional's number that stands where the bar code should."""
    found = []
    for number in every(role, "id"):
        if attribute(number, "root") == PROFESSIONALS:
            scope.find("VALUE_INVALID", number, "the number of a professional, not of a specimen; left out")
        else:
            found.append(number)
    return found


def _collection(entry: Element, scope: Scope) -> Json:
    found: Json = {}
    who = [one_ for one_ in values.performers(entry) if one_["type"] in _COLLECTORS]
    if who:
        found["collector"] = who[0]
    times = values.when(entry, scope, "collected")
    period = times.get("collectedPeriod", {})
    if period and "start" not in period:  # only when it ended: the moment of sampling
        times = {"collectedDateTime": period["end"]}
    found |= times
    if (method := values.concept(one(entry, "code"), scope)) is not None:
        found["method"] = method
    if (site := values.concept(one(entry, "targetSiteCode"), scope)) is not None:
        found["bodySite"] = site
    return found
