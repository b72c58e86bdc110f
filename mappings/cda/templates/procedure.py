"""Acts that were done → Procedure; those that are planned or asked → ServiceRequest (`plan`).

Standard: CI-SIS FR-Acte (1.2.250.1.213.1.1.3.62 and below); IHE PCC Procedure Entry (1.3.6.1.4.1.19376.1.5.3.1.4.19); FHIR R4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import clinical, plan
from mappings.cda.templates.clinical import known_as
from mappings.cda.xml import Element, attribute, every, one, text

Json = dict[str, Any]

_STATUS = {
    "": "completed",
    "completed": "completed",
    "active": "in-progress",
    "aborted": "stopped",
    "cancelled": "not-done",
    "suspended": "on-hold",
    "held": "preparation",
    "new": "preparation",
}
_REASONS = frozenset({"Condition", "Observation", "Procedure", "DiagnosticReport", "DocumentReference"})


def procedure(entry: Element, scope: Scope) -> Json | None:
    """An act. Observations inside it are facts of their own that the act is named in (`partOf`), or its reason."""
    if clinical.says_nothing(entry, scope):
        return None
    if clinical.mood(entry) != "EVN":
        return plan.planned(entry, scope)
    scope.claim(entry)
    code = clinical.code_of(entry, scope)
    before = len(scope.reading.facts)
    found = clinical.parts(entry, scope)
    if code is None:
        return None
    when = values.when(entry, scope, "performed")
    body: Json = {"status": _status(entry, when, scope), "code": code, **when}
    _put_who(entry, body, scope)
    reasons = found.references("RSON", "CAUS", only=_REASONS)
    found.put(
        body,
        bodySite=clinical.sites(entry, scope),
        reasonCode=found.reasons(),
        reasonReference=reasons,
        usedCode=[*clinical.devices(entry, scope), *(said for kind, said in found.mentions if kind not in {"RSON", "CAUS"})],
    )
    for way in clinical.sites(entry, scope, "approachSiteCode"):
        clinical.extend(body, "urn:vaguemestre:approach-site", "CodeableConcept", way)
    clinical.extend(body, "urn:vaguemestre:priority", "CodeableConcept", values.concept(one(entry, "priorityCode"), scope))
    method = values.concept(one(entry, "methodCode"), scope)
    clinical.extend(body, "urn:vaguemestre:method", "CodeableConcept", method)
    reference = scope.add("Procedure", entry, body)
    _put_part_of(scope, before, [one_ for one_ in found.references() if one_ not in reasons], reference)
    return reference


def _status(entry: Element, when: Json, scope: Scope) -> str:
    """statusCode; an act that is under way but dated after the document is only prepared."""
    if clinical.is_negated(entry):
        return "not-done"
    status, said = _STATUS.get(clinical.status_code(entry), "unknown"), next(iter(when.values()), "")
    begins = said.get("start", "") if isinstance(said, dict) else said
    return "preparation" if status == "in-progress" and begins[:10] > clinical.written_on(scope) else status


def _put_part_of(scope: Scope, before: int, inside: list[Json], reference: Json) -> None:
    """Observations made in an act name it."""
    keys = {f"{part['identifier']['system']}|{part['identifier']['value']}" for part in inside if part["type"] == "Observation"}
    for fact in scope.reading.facts[before:]:
        if fact.type == "Observation" and fact.key in keys:
            fact.body.setdefault("partOf", []).append(reference)


def _put_who(entry: Element, body: Json, scope: Scope) -> None:
    """Who did it, who wrote it, where."""
    actors = values.performers(entry)
    places = []
    for part in every(entry, "participant"):
        kind, role = attribute(part, "typeCode"), one(part, "participantRole")
        if kind == "LOC":
            places.append(text(one(role, "playingEntity/name")))
        elif kind in {"PRF", "SPRF", "PPRF"} and (actor := values.practitioner(role)) is not None:
            actors.append(actor)
    if actors:
        body["performer"] = [{"actor": actor} for n, actor in enumerate(actors) if actor not in actors[:n]]
    author = clinical.who_wrote(entry)
    if author is not None:
        body["recorder"] = author
    place = next((name for name in places if name), "")
    if place:
        body["location"] = {"type": "Location", "display": place}


TRANSLATORS: dict[str, Callable[[Element, Scope], Json | None]] = dict.fromkeys(
    known_as("fr:62", "fr:62.2", "fr:100", "fr:165", "ihe:19", "ccd:29"), procedure
)
