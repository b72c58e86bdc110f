"""What is planned, asked or aimed at: an observation or procedure in another mood than EVN.

Standard: CI-SIS FR-Demande-d-examen-ou-de-suivi (1.2.250.1.213.1.1.3.27), FR-Acte (….62) in mood INT, RQO, PRP, ARQ; IHE PCC
Observation Requests (1.3.6.1.4.1.19376.1.5.3.1.1.20.3.1); FHIR R4 ServiceRequest, Goal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import clinical
from mappings.cda.templates.clinical import Parts
from mappings.cda.xml import Element, attribute, one

Json = dict[str, Any]

_STATUS = {"completed": "completed", "aborted": "revoked", "cancelled": "revoked", "suspended": "on-hold", "held": "on-hold"}
_INTENT = {"RQO": "order", "ARQ": "order", "PRP": "proposal"}
PRIORITY = {"UR": "urgent", "EM": "stat", "S": "stat", "A": "asap", "R": "routine", "EL": "routine"}
_LIFECYCLE = {
    "completed": "completed",
    "aborted": "cancelled",
    "cancelled": "cancelled",
    "suspended": "on-hold",
    "held": "on-hold",
    "new": "planned",
}
_REQUESTERS = clinical.PERSONS | {"Organization", "Device"}
_REASONS = frozenset({"Condition", "Observation", "DiagnosticReport", "DocumentReference"})
_ADDRESSED = frozenset({"Condition", "Observation", "MedicationStatement", "ServiceRequest"})


def planned(entry: Element, scope: Scope) -> Json | None:
    """A Goal for an entry of mood GOL, else a ServiceRequest."""
    if clinical.says_nothing(entry, scope):
        return None
    return goal(entry, scope) if clinical.mood(entry) == "GOL" else service_request(entry, scope)


def service_request(entry: Element, scope: Scope) -> Json | None:
    """What is asked or intended. What is not (negationInd, or a value that says no) is told by `doNotPerform`."""
    scope.claim(entry)
    code, found = clinical.code_of(entry, scope), clinical.parts(entry, scope)
    if code is None:
        return None
    when = values.when(entry, scope, "occurrence")
    body: Json = {
        "status": _status(entry, when, scope),
        "intent": _INTENT.get(clinical.mood(entry), "plan"),
        "code": code,
        **when,
    }
    said, refused = _detail(one(entry, "value"), scope)
    if said is not None:
        body["orderDetail"] = [said]
    if refused or clinical.is_negated(entry):
        body["doNotPerform"] = True
    put_priority(entry, body, scope)
    requester = clinical.who_wrote(entry, _REQUESTERS)
    body |= {"requester": requester} if requester is not None else {}
    written = values.moment(one(entry, "author/time"), scope)
    body |= {"authoredOn": written} if written else {}
    _put_request_parts(entry, body, found, scope)
    return scope.add("ServiceRequest", entry, body)


def _put_request_parts(entry: Element, body: Json, found: Parts, scope: Scope) -> None:
    reasons = found.references("RSON", "CAUS", only=_REASONS)
    found.put(
        body,
        bodySite=clinical.sites(entry, scope),
        performer=values.performers(entry),
        reasonCode=found.reasons(),
        reasonReference=reasons,
        supportingInfo=[one_ for one_ in found.references() if one_ not in reasons],
    )
    for device in clinical.devices(entry, scope):
        clinical.extend(body, "urn:vaguemestre:device", "CodeableConcept", device)
    for kind, concept in found.mentions:
        if kind not in {"RSON", "CAUS"}:
            clinical.extend(body, "urn:vaguemestre:mention", "CodeableConcept", concept)


def put_priority(entry: Element, body: Json, scope: Scope) -> None:
    """`priorityCode` as `priority` where FHIR has it, and as it is written."""
    said = values.concept(one(entry, "priorityCode"), scope)
    code = next(iter(clinical.codes_in(said)), "")
    if code in PRIORITY:
        body["priority"] = PRIORITY[code]
    clinical.extend(body, "urn:vaguemestre:priority", "CodeableConcept", said)


def _status(entry: Element, when: Json, scope: Scope) -> str:
    """statusCode; but a plan is done only when its time is over by the date of the document.

    French entries write `completed` of what is only completely written.
    """
    status = _STATUS.get(clinical.status_code(entry), "active")
    said = next(iter(when.values()), "")
    over = said.get("end", "") if isinstance(said, dict) else said
    return "active" if status == "completed" and (not over or over[:10] >= clinical.written_on(scope)) else status


def _detail(value: Element | None, scope: Scope) -> tuple[Json | None, bool]:
    """What a request says beside its code, and whether that is a no."""
    if value is None:
        return None, False
    made = values.value(value, scope)
    if "valueCodeableConcept" in made:
        return made["valueCodeableConcept"], False
    if "valueBoolean" in made:
        return None, not made["valueBoolean"]
    quantity = made.get("valueQuantity")
    if quantity is not None:
        return {"text": " ".join(str(part) for part in (quantity["value"], quantity.get("unit", "")) if part != "")}, False
    said = next((said for said in made.values() if isinstance(said, str | int)), None)
    return ({"text": str(said)} if said is not None else None), False


# ---- goals -----------------------------------------------------------------------------------------------------------------


def goal(entry: Element, scope: Scope) -> Json | None:
    """What is aimed at: code, the value to reach, by when. A goal that is negated is rejected."""
    scope.claim(entry)
    code, found = clinical.code_of(entry, scope), clinical.parts(entry, scope)
    if code is None:
        return None
    state = "rejected" if clinical.is_negated(entry) else _LIFECYCLE.get(clinical.status_code(entry), "active")
    body: Json = {"lifecycleStatus": state, "description": code}
    begins, due = _days(entry, scope)
    if begins:
        body["startDate"] = begins
    target = _target(one(entry, "value"), code, scope) | ({"dueDate": due} if due else {})
    if target:
        body["target"] = [target]
    author = clinical.who_wrote(entry)
    if author is not None:
        body["expressedBy"] = author
    found.put(body, addresses=found.references(only=_ADDRESSED))
    return scope.add("Goal", entry, body, at=begins or due)


def _days(entry: Element, scope: Scope) -> tuple[str, str]:
    """From when and by when, as dates: a single time is the day by which."""
    element = one(entry, "effectiveTime")
    alone = values.moment(element, scope)
    low, high = values.moment(one(element, "low"), scope), values.moment(one(element, "high"), scope)
    return low[:10], (alone or high)[:10]


def _target(value: Element | None, code: Json, scope: Scope) -> Json:
    if value is None:
        return {}
    made = values.value(value, scope, "detail")
    kept = {name: said for name, said in made.items() if name in _DETAILS}
    if made and not kept:
        said = attribute(value, "value")
        scope.find("VALUE_TYPE", value, "a value of a type that a goal does not have; kept as text")
        kept = {"detailString": said} if said else {}
    return {"measure": code, **kept} if kept else {}


_DETAILS = frozenset(
    {"detailQuantity", "detailRange", "detailCodeableConcept", "detailString", "detailBoolean", "detailInteger", "detailRatio"}
)

TRANSLATORS: dict[str, Callable[[Element, Scope], Json | None]] = dict.fromkeys(
    (clinical.FR + "27", "1.3.6.1.4.1.19376.1.5.3.1.1.20.3.1"), planned
)
