"""What the record's FHIR interface can do, said once: the routes read it, and `/fhir/metadata` tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hub.record.definitions import PARAMETERS, patient_names
from hub.record.including import forward_includes, reverse_includes

_EVERY = {"_id": "token", "_lastUpdated": "date"}
_DEFINITIONS = "http://hl7.org/fhir/OperationDefinition/"


def _of_patients(kind: str) -> dict[str, str]:
    whose: dict[str, str] = {}
    for name in patient_names(kind):
        whose |= {name: "reference", f"{name}.identifier": "token"}
    return {**whose, **{name: parameter.search_type for name, parameter in PARAMETERS[kind].items()}}


SEARCH_PARAMETERS: dict[str, dict[str, str]] = {
    "Patient": {"identifier": "token", "family": "string", "given": "string", "birthdate": "date", "gender": "token"},
    **{kind: _of_patients(kind) for kind in PARAMETERS},
    "Provenance": {"target": "reference"},
}


@dataclass(frozen=True, slots=True)
class Kept:
    """A resource type of this record. `versioned`: earlier versions are kept; `searched`: it can be searched."""

    versioned: bool
    searched: bool
    documentation: str


_WITHDRAWN = "Entered-in-error ones only when their status is asked for."
TYPES = {
    "Patient": Kept(True, True, "Identity traits with INS and IPP. Names are compared whole, without accents or case."),
    "Encounter": Kept(True, True, f"Stays and visits, by visit number. {_WITHDRAWN}"),
    "DocumentReference": Kept(True, True, f"Documents with their versions. {_WITHDRAWN}"),
    "Binary": Kept(False, False, "A document’s exact bytes; the resource in JSON when application/fhir+json is asked for."),
    "ServiceRequest": Kept(True, True, f"Orders, by placer number; cancelled ones are revoked. {_WITHDRAWN}"),
    "Task": Kept(True, True, f"Requests for remote reading of images and what became of them. {_WITHDRAWN}"),
    "DiagnosticReport": Kept(True, True, "Reports; cancelled and entered-in-error ones only when status asks for them."),
    "Observation": Kept(True, True, "Results; cancelled and entered-in-error ones only when status asks for them."),
    "Specimen": Kept(True, True, f"Specimens of orders and results. {_WITHDRAWN}"),
    "Appointment": Kept(True, True, f"Appointments; the patient is a participant. {_WITHDRAWN}"),
    "Consent": Kept(True, True, f"Consent to the DMP and legal modes of stays. {_WITHDRAWN}"),
    "Condition": Kept(True, True, "Problems and past illness; withdrawn ones only when verification-status is asked for."),
    "AllergyIntolerance": Kept(True, True, "Allergies; withdrawn ones only when verification-status is asked for."),
    "Immunization": Kept(True, True, f"Vaccinations. {_WITHDRAWN}"),
    "ImmunizationRecommendation": Kept(True, True, "Vaccinations to come; withdrawn ones carry a tag and are read by id only."),
    "MedicationRequest": Kept(True, True, f"Prescription lines. {_WITHDRAWN}"),
    "MedicationDispense": Kept(True, True, f"Dispensations. {_WITHDRAWN}"),
    "MedicationStatement": Kept(True, True, f"Treatments as documents tell them. {_WITHDRAWN}"),
    "Procedure": Kept(True, True, f"Procedures. {_WITHDRAWN}"),
    "FamilyMemberHistory": Kept(True, True, f"Family history. {_WITHDRAWN}"),
    "DeviceRequest": Kept(True, True, f"Prescribed devices. {_WITHDRAWN}"),
    "DeviceUseStatement": Kept(True, True, f"Devices that the patient has. {_WITHDRAWN}"),
    "ImagingStudy": Kept(True, True, f"Imaging studies that documents tell of. {_WITHDRAWN}"),
    "Goal": Kept(True, True, "Goals; withdrawn ones only when lifecycle-status is asked for."),
    "Provenance": Kept(True, True, "Where a version came from: message and place in it."),
}
_OPERATIONS = {
    "Patient": {
        "everything": f"{_DEFINITIONS}Patient-everything",
        "summary": "http://hl7.org/fhir/uv/ips/OperationDefinition/summary",
    },
    "Observation": {"lastn": f"{_DEFINITIONS}Observation-lastn"},
}
_DOCUMENTATION = (
    "Messages write the record. Prefer: handling=strict refuses unknown search parameters. Modifiers: :missing, :not on tokens,"
    " :exact on strings. _include and _revinclude as each type says, without :iterate. _sort by one key."
)


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
                "documentation": _DOCUMENTATION,
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
        for element, names in (("searchInclude", forward_includes(kind)), ("searchRevInclude", reverse_includes(kind))):
            if names:
                resource[element] = names
    if kind in _OPERATIONS:
        resource["operation"] = [{"name": name, "definition": url} for name, url in _OPERATIONS[kind].items()]
    return resource
