"""A CDA header as a DocumentReference.

Standard: CI-SIS PDSm comprehensive DocumentReference (MHD 4.0.1); cda → XDS metadata mapping of the CI-SIS volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from hub.formats.cda_header import CdaAuthor, CdaHeader, Code
from hub.formats.ts import parse_ts
from hub.model.identifiers import INS_ROOTS
from hub.model.record_change import CONFIDENTIALITY_VERY_RESTRICTED, MASQUE_PS
from mappings.cda.values import uri_of
from mappings.hl7v2.ce import coding, system_of_oid
from mappings.hl7v2.extensions import FR_CORE
from mappings.hl7v2.fhir_date import fhir_birth_date
from mappings.national_identifiers import professional_identifier, structure_identifier

Json = dict[str, Any]

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
VISIBILITY = "urn:oid:1.2.250.1.213.1.1.4.13"
PRACTICE_SETTINGS = "urn:oid:1.2.250.1.213.1.1.4.9"
IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
_BIRTH_LIST = f"{FR_CORE}/StructureDefinition/fr-core-patient-birth-list-given-name"
_SECTORS, _OTHER_FACILITIES = "urn:oid:1.2.250.1.71.4.2.4", "urn:oid:1.2.250.1.213.1.1.4.6"
_LABELS = ((MASQUE_PS, "MASQUE_PS"), (2, "INVISIBLE_PATIENT"), (4, "INVISIBLE_REPRESENTANTS_LEGAUX"))
_GENDERS = {"F": "female", "M": "male", "UN": "other"}


@dataclass(frozen=True, slots=True)
class DocumentTypes:
    """Class and format of documents, from `tables/document_types.toml`."""

    table: Mapping[str, Any]

    def category(self, code: str) -> Json | None:
        """The classCode of a type code, where it is established."""
        classes = self.table["class"]
        found = classes["of_type"].get(code)
        return {"coding": [coding(found, classes["names"].get(found, ""), classes["system"])]} if found else None

    def format(self, fmt: str) -> Json | None:
        """The formatCode of a header's `fmt`: itself for an unstructured body, else that of the document's model."""
        formats = self.table["format"]
        code = fmt if fmt.startswith("urn:") else formats["of_model"].get(fmt, "")
        if not code:
            return None
        return coding(code, "", formats["system_of_ours" if ":ci-sis:" in code else "system"])


def cda_document_reference(header: CdaHeader, *, mask: int, types: DocumentTypes, tz: tzinfo) -> Json:
    """The DocumentReference as far as the header tells of it; number, versions and bytes are the record's to write."""
    made = parse_ts(header.effective_time, tz)
    body: Json = {"docStatus": "final", "securityLabel": security_labels(header.confidentiality, mask)}
    if kind := _type(header):
        body["type"] = kind
    category = types.category(header.code)
    if category is not None:
        body["category"] = [category]
    if instant := made.fhir_instant():
        body["date"] = instant
    if header.title:
        body["description"] = header.title
    contained: list[Json] = []
    authors = [_party(author, f"author{n}", contained) for n, author in enumerate(header.authors, 1)]
    body["author"] = [author for author in authors if author is not None] or [{"display": "unknown"}]
    signer = _party(header.signer, "authenticator", contained) if header.signer is not None else None
    if signer is not None:
        body["authenticator"] = signer
    custodian = _organization(header.custodian_id, header.custodian_root, header.custodian_name)
    if custodian is not None:
        body["custodian"] = custodian
    context = _context(header, tz)
    patient = _source_patient(header)
    if patient:
        contained.append({"resourceType": "Patient", "id": "patient", **patient})
        context["sourcePatientInfo"] = {"reference": "#patient"}
    if contained:
        body["contained"] = contained
    if context:
        body["context"] = context
    body["content"] = [_content(header, made.fhir_datetime(), types)]
    return body


def security_labels(confidentiality: str, mask: int) -> list[Json]:
    """The CDA's confidentiality and one label for each active flag."""
    labels = [coding(confidentiality or "N", "", CONFIDENTIALITY)]
    labels += [coding(name, "", VISIBILITY) for bit, name in _LABELS if mask & bit]
    return [{"coding": [label]} for label in labels]


def mask_of_header(header: CdaHeader) -> int:
    """The bit of a very restricted document."""
    return CONFIDENTIALITY_VERY_RESTRICTED if header.confidentiality == "V" else 0


def _type(header: CdaHeader) -> Json:
    found: Json = {}
    if header.code:
        found["coding"] = [coding(header.code, header.code_display, system_of_oid(header.code_system))]
    if header.code_display:
        found["text"] = header.code_display
    return found


def _party(author: CdaAuthor, name: str, contained: list[Json]) -> Json | None:
    """An author or who signs: a contained PractitionerRole or Device, or the patient; None when nothing is said of them."""
    person = " ".join(part for part in (author.given, author.family) if part)
    if author.id_root in INS_ROOTS:
        system, value = uri_of(author.id_root, author.id_extension)
        return {"type": "Patient", "identifier": {"system": system, "value": value}, **({"display": person} if person else {})}
    made = _device(author) if author.device_name and not person else _role(author, person)
    if made is None:
        return None
    contained.append({"resourceType": made.pop("resourceType"), "id": name, **made})
    return {"reference": f"#{name}"}


def _role(author: CdaAuthor, person: str) -> Json | None:
    role: Json = {}
    identifier = professional_identifier(author.id_extension or author.id_root, author.id_root)
    if identifier is not None or person:
        who: Json = {"type": "Practitioner"}
        if identifier is not None:
            who["identifier"] = identifier
        if person:
            who["display"] = person
        role["practitioner"] = who
    organization = _organization(author.organisation_id, author.organisation_root, author.organisation_name)
    if organization is not None:
        role["organization"] = organization
    if author.function[1]:
        role["code"] = [_concept(author.function)]
    if author.code:
        role["specialty"] = [_concept((author.code_system, author.code, author.code_display))]
    return {"resourceType": "PractitionerRole", **role} if role else None


def _device(author: CdaAuthor) -> Json:
    device: Json = {"deviceName": [{"name": author.device_name, "type": "user-friendly-name"}]}
    if author.id_root:
        system, value = uri_of(author.id_root, author.id_extension)
        device["identifier"] = [{"system": system, "value": value}]
    owner = _organization(author.organisation_id, author.organisation_root, author.organisation_name)
    if owner is not None:
        device["owner"] = owner
    return {"resourceType": "Device", **device}


def _organization(number: str, root: str, name: str) -> Json | None:
    identifier = structure_identifier(number, root)
    if identifier is None and not name:
        return None
    found: Json = {"type": "Organization"}
    if identifier is not None:
        found["identifier"] = identifier
    if name:
        found["display"] = name
    return found


def _concept(code: Code, system: str = "") -> Json:
    """`system` where the code names none."""
    return {"coding": [coding(code[1], code[2], system_of_oid(code[0]) or system)]}


def _context(header: CdaHeader, tz: tzinfo) -> Json:
    context: Json = {}
    if header.events:
        context["event"] = [_concept(code) for code in header.events]
    period = {
        name: text
        for name, ts in (("start", header.event_start), ("end", header.event_stop))
        if (text := parse_ts(ts, tz).fhir_datetime())
    }
    if period:
        context["period"] = period
    if header.practice_setting:
        context["practiceSetting"] = _concept(header.practice_setting_code, PRACTICE_SETTINGS)
    if header.facility_type:
        system = _SECTORS if header.facility_type.startswith("SA") else _OTHER_FACILITIES
        context["facilityType"] = _concept(header.facility_type_code, system)
    related = [_order(*number) for number in dict.fromkeys(header.orders)]
    related += [_order(*number, kind="ACSN") for number in dict.fromkeys(header.accessions)]
    if related:
        context["related"] = related
    return context


def _order(root: str, extension: str, *, kind: str = "") -> Json:
    """The request that a document fulfils, by its number or its accession number (ACSN)."""
    system, value = uri_of(root, extension)
    identifier: Json = {"system": system, "value": value}
    if kind:
        identifier["type"] = {"coding": [{"system": IDENTIFIER_TYPES, "code": kind}]}
    return {"type": "ServiceRequest", "identifier": identifier}


def _source_patient(header: CdaHeader) -> Json:
    """The patient with the numbers and traits that the document itself gives."""
    patient: Json = {}
    numbers = [uri_of(*number) for number in header.patient_ids]
    if numbers:
        patient["identifier"] = [{"system": system, "value": value} for system, value in numbers]
    names: list[Json] = []
    if header.birth_name or header.first_given_name:
        official: Json = {"use": "official"}
        if header.birth_given_names:
            official["extension"] = [{"url": _BIRTH_LIST, "valueString": header.birth_given_names}]
        if header.birth_name:
            official["family"] = header.birth_name
        if header.first_given_name:
            official["given"] = [header.first_given_name]
        names.append(official)
    if header.used_name:
        given = header.first_given_name or header.birth_given_names
        names.append({"use": "usual", "family": header.used_name, **({"given": [given]} if given else {})})
    if names:
        patient["name"] = names
    if header.sex in _GENDERS:
        patient["gender"] = _GENDERS[header.sex]
    if birth_date := fhir_birth_date(header.birth_time):
        patient["birthDate"] = birth_date
    return patient


def _content(header: CdaHeader, creation: str, types: DocumentTypes) -> Json:
    attachment = {"title": header.title or header.code_display, "language": header.language, "creation": creation}
    content: Json = {"attachment": {name: text for name, text in attachment.items() if text}}
    found = types.format(header.fmt)
    if found is not None:
        content["format"] = found
    return content
