"""Rows → FHIR R4 JSON: the body with id, meta and subject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from hub.model.record_change import Json
from hub.model.uids import uid_number, uid_text
from hub.record.instants import instant
from hub.record.masking import labels

ENTERED_IN_ERROR = "entered-in-error"
STATE_SYSTEM = "urn:vaguemestre:record-state"
_WITHOUT_A_STATE = frozenset({"ImmunizationRecommendation"})  # R4 gives it no element that says that it was withdrawn
_NO_SUBJECT = frozenset({"Patient", "Practitioner", "PractitionerRole", "Organization", "Appointment"})
_SUBJECT = {
    "AllergyIntolerance": "patient",
    "Immunization": "patient",
    "ImmunizationRecommendation": "patient",
    "Consent": "patient",
    "FamilyMemberHistory": "patient",
    "RelatedPerson": "patient",
    "Task": "for",
}


def render(
    kind: str, number: int, *, version: int, patient_id: int | None, status: str, mask: int, updated_at: int, body: bytes
) -> Json:
    """One version of a resource as FHIR JSON."""
    rendered: Json = {"resourceType": kind, "id": uid_text(number), "meta": meta(version, updated_at, mask)}
    if kind == "DocumentReference":
        rendered["status"] = status
    rendered.update(orjson.loads(body))
    if status == ENTERED_IN_ERROR and kind in _WITHOUT_A_STATE:
        rendered["meta"]["tag"] = [{"system": STATE_SYSTEM, "code": ENTERED_IN_ERROR}]
    if patient_id is not None and kind not in _NO_SUBJECT:
        rendered[_SUBJECT.get(kind, "subject")] = {"reference": f"Patient/{uid_text(patient_id)}"}
    if patient_id is not None and kind == "Appointment":
        patient = {"actor": {"reference": f"Patient/{uid_text(patient_id)}"}, "status": "accepted"}
        rendered["participant"] = [patient, *rendered.get("participant", ())]
    return rendered


def patient_in(resource: Mapping[str, Any]) -> int | None:
    """The number of the patient that a rendered resource is about."""
    kind = resource["resourceType"]
    if kind == "Patient":
        return number_of(resource["id"])
    references = [resource.get(_SUBJECT.get(kind, "subject")) or {}]
    if kind == "Appointment":
        references = [one.get("actor") or {} for one in resource.get("participant", ())]
    for reference in references:
        target, slash, logical_id = reference.get("reference", "").rpartition("/")
        if slash and target == "Patient":
            return number_of(logical_id)
    return None


def meta(version: int, updated_at: int, mask: int) -> Json:
    """`Resource.meta`: version, instant of the last change, security labels."""
    found: Json = {"versionId": str(version), "lastUpdated": instant(updated_at)}
    if security := labels(mask):
        found["security"] = security
    return found


def number_of(text: str) -> int | None:
    """The row number of a logical id; None when the text is none of ours."""
    try:
        return uid_number(text)
    except ValueError:
        return None
