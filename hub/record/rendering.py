"""Rows → FHIR R4 JSON: the body with id, meta and subject."""

from __future__ import annotations

import orjson

from hub.model.record_change import Json
from hub.model.uids import uid_number, uid_text
from hub.record.instants import instant
from hub.record.masking import labels

_NO_SUBJECT = frozenset({"Patient", "Practitioner", "PractitionerRole", "Organization", "Appointment"})
_SUBJECT = {
    "AllergyIntolerance": "patient",
    "Immunization": "patient",
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
    if patient_id is not None and kind not in _NO_SUBJECT:
        rendered[_SUBJECT.get(kind, "subject")] = {"reference": f"Patient/{uid_text(patient_id)}"}
    return rendered


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
