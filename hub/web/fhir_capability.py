"""What the record's FHIR interface can do, said once: the routes read it, and `/fhir/metadata` tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_OF_A_PATIENT = {
    "identifier": "token",
    "patient": "reference",
    "subject": "reference",
    "patient.identifier": "token",
    "subject.identifier": "token",
    "status": "token",
}
SEARCH_PARAMETERS: dict[str, dict[str, str]] = {
    "Patient": {"identifier": "token", "family": "string", "given": "string", "birthdate": "date", "gender": "token"},
    "Encounter": {**_OF_A_PATIENT, "date": "date"},
    "DocumentReference": {**_OF_A_PATIENT, "type": "token", "category": "token", "date": "date"},
    "Provenance": {"target": "reference"},
    "ServiceRequest": {
        **_OF_A_PATIENT,
        "authored": "date",
        "code": "token",
        "category": "token",
        "requisition": "token",
        "encounter": "reference",
        "based-on": "reference",
        "replaces": "reference",
        "specimen": "reference",
    },
    "Task": {
        **_OF_A_PATIENT,
        "authored-on": "date",
        "code": "token",
        "encounter": "reference",
        "based-on": "reference",
        "focus": "reference",
    },
    "DiagnosticReport": {
        **_OF_A_PATIENT,
        "date": "date",
        "code": "token",
        "category": "token",
        "encounter": "reference",
        "based-on": "reference",
        "result": "reference",
        "specimen": "reference",
    },
    "Observation": {
        **_OF_A_PATIENT,
        "date": "date",
        "code": "token",
        "category": "token",
        "interpretation": "token",
        "encounter": "reference",
        "based-on": "reference",
        "specimen": "reference",
        "derived-from": "reference",
    },
    "Specimen": {**_OF_A_PATIENT, "collected": "date", "type": "token", "parent": "reference"},
    "Appointment": {
        **_OF_A_PATIENT,
        "date": "date",
        "service-type": "token",
        "appointment-type": "token",
        "based-on": "reference",
    },
    "Consent": {**_OF_A_PATIENT, "date": "date", "category": "token", "code": "token", "scope": "token"},
}
_EVERY = {"_id": "token", "_lastUpdated": "date"}


@dataclass(frozen=True, slots=True)
class Kept:
    """A resource type of this record. `versioned`: earlier versions are kept; `searched`: it can be searched."""

    versioned: bool
    searched: bool
    documentation: str


TYPES = {
    "Patient": Kept(True, True, "Identity traits with INS and IPP. Names are compared whole, without accents or case."),
    "Encounter": Kept(True, True, "Stays and visits, by visit number."),
    "DocumentReference": Kept(True, True, "Documents with their versions; entered-in-error ones only when status asks for them."),
    "Binary": Kept(False, False, "A document’s exact bytes; the resource in JSON when application/fhir+json is asked for."),
    "ServiceRequest": Kept(True, True, "Orders, by placer number; cancelled ones are revoked."),
    "Task": Kept(True, True, "Requests for remote reading of images and what became of them."),
    "DiagnosticReport": Kept(True, True, "Reports; cancelled and entered-in-error ones only when status asks for them."),
    "Observation": Kept(True, True, "Results; cancelled and entered-in-error ones only when status asks for them."),
    "Specimen": Kept(True, True, "Specimens of orders and results."),
    "Appointment": Kept(True, True, "Appointments; the patient is a participant."),
    "Consent": Kept(True, True, "Consent to the DMP and legal modes of stays."),
    "Provenance": Kept(True, True, "Where a version came from: message and place in it."),
}


def capability_statement(base: str, version: str, name: str) -> dict[str, Any]:
    """The CapabilityStatement of this server.

    Standard: FHIR R4 CapabilityStatement, kind `instance`.
    """
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-11-24",
        "kind": "instance",
        "publisher": name,
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "software": {"name": "Vaguemestre", "version": version},
        "implementation": {"description": name, "url": base},
        "rest": [
            {
                "mode": "server",
                "documentation": "Messages write the record. Prefer: handling=strict refuses unknown search parameters.",
                "security": {"cors": False, "description": "Bearer token with the role professional; every read is audited."},
                "resource": [_resource(kind, kept) for kind, kept in TYPES.items()],
            }
        ],
    }


def _resource(kind: str, kept: Kept) -> dict[str, Any]:
    versions, searches = ["vread", "history-instance"] if kept.versioned else [], ["search-type"] if kept.searched else []
    interactions = ["read", *versions, *searches]
    resource: dict[str, Any] = {
        "type": kind,
        "documentation": kept.documentation,
        "interaction": [{"code": code} for code in interactions],
        "versioning": "versioned" if kept.versioned else "no-version",
        "readHistory": kept.versioned,
    }
    if kept.searched:
        known = SEARCH_PARAMETERS[kind] | ({} if kind == "Provenance" else _EVERY)
        resource["searchParam"] = [{"name": name, "type": type_} for name, type_ in known.items()]
    return resource
