"""OIDs of code systems and the URIs that FHIR R4 gives them; a French system without one keeps its OID.

Standard: HL7 THO; FR Core 2.1; CI-SIS (lists of terminologies of the volets).
"""

from __future__ import annotations

from hub.model.identifiers import is_oid

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
ATC = "http://www.whocc.no/atc"
_V3 = "http://terminology.hl7.org/CodeSystem/v3-"
URI_OF = {
    "2.16.840.1.113883.6.1": LOINC,
    "2.16.840.1.113883.6.96": SNOMED,
    "2.16.840.1.113883.6.3": "http://hl7.org/fhir/sid/icd-10",
    "2.16.840.1.113883.6.90": "http://hl7.org/fhir/sid/icd-10-cm",
    "2.16.840.1.113883.6.347": "http://id.who.int/icd/release/11/mms",
    "2.16.840.1.113883.6.73": ATC,
    "2.16.840.1.113883.6.8": "http://unitsofmeasure.org",
    "0.4.0.127.0.16.1.1.2.1": "http://standardterms.edqm.eu",
    "1.2.840.10008.2.16.4": "http://dicom.nema.org/resources/ontology/DCM",
    "1.2.840.10008.6.1.19": "http://dicom.nema.org/resources/ontology/DCM",
    "2.16.840.1.113883.6.139": "http://hl7.org/fhir/sid/icpc-2",
    "2.16.840.1.113883.5.1": _V3 + "AdministrativeGender",
    "2.16.840.1.113883.5.4": _V3 + "ActCode",
    "2.16.840.1.113883.5.6": _V3 + "ActClass",
    "2.16.840.1.113883.5.7": _V3 + "ActPriority",
    "2.16.840.1.113883.5.8": _V3 + "ActReason",
    "2.16.840.1.113883.5.25": _V3 + "Confidentiality",
    "2.16.840.1.113883.5.83": _V3 + "ObservationInterpretation",
    "2.16.840.1.113883.5.84": _V3 + "ObservationMethod",
    "2.16.840.1.113883.5.88": _V3 + "ParticipationFunction",
    "2.16.840.1.113883.5.90": _V3 + "ParticipationType",
    "2.16.840.1.113883.5.110": _V3 + "RoleClass",
    "2.16.840.1.113883.5.111": _V3 + "RoleCode",
    "2.16.840.1.113883.5.112": _V3 + "RouteOfAdministration",
    "2.16.840.1.113883.5.129": _V3 + "SpecimenType",
    "2.16.840.1.113883.5.139": _V3 + "TimingEvent",
    "2.16.840.1.113883.5.1063": _V3 + "ObservationValue",
    "2.16.840.1.113883.5.1070": _V3 + "SubstanceAdminSubstitution",
    "2.16.840.1.113883.5.1008": _V3 + "NullFlavor",
    "2.16.840.1.113883.5.1150.1": "http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips",
}


def system_of_oid(oid: str) -> str:
    """The FHIR system of a code system given by its OID; empty when it is none."""
    return URI_OF.get(oid) or (f"urn:oid:{oid}" if is_oid(oid) else "")
