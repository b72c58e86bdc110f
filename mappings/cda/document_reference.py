"""A CDA header as a DocumentReference.

Standard: CI-SIS PDSm comprehensive DocumentReference (MHD 4.0.1); cda → XDS metadata mapping of the CI-SIS volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from hub.formats.cda_header import CdaAuthor, CdaHeader
from hub.formats.ts import parse_ts
from hub.model.record_change import CONFIDENTIALITY_VERY_RESTRICTED, MASQUE_PS
from mappings.hl7v2.ce import coding, system_of_oid
from mappings.national_identifiers import professional_identifier, structure_identifier

Json = dict[str, Any]

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
VISIBILITY = "urn:oid:1.2.250.1.213.1.1.4.13"
PRACTICE_SETTINGS = "urn:oid:1.2.250.1.213.1.1.4.9"
_SECTORS, _OTHER_FACILITIES = "urn:oid:1.2.250.1.71.4.2.4", "urn:oid:1.2.250.1.213.1.1.4.6"
_LABELS = ((MASQUE_PS, "MASQUE_PS"), (2, "INVISIBLE_PATIENT"), (4, "INVISIBLE_REPRESENTANTS_LEGAUX"))


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
    body: Json = {"docStatus": "final", "type": _type(header), "securityLabel": security_labels(header.confidentiality, mask)}
    category = types.category(header.code)
    if category is not None:
        body["category"] = [category]
    if instant := made.fhir_instant():
        body["date"] = instant
    if header.title:
        body["description"] = header.title
    authors = [author for author in map(_author, header.authors) if author is not None]
    body["contained"] = [{"resourceType": "PractitionerRole", "id": f"author{n}", **one} for n, one in enumerate(authors, 1)]
    body["author"] = [{"reference": f"#author{n}"} for n in range(1, len(authors) + 1)]
    if not authors:
        del body["contained"]
        body["author"] = [{"display": "unknown"}]
    custodian = _organization(header.custodian_id, header.custodian_root, header.custodian_name)
    if custodian is not None:
        body["custodian"] = custodian
    context = _context(header, tz)
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
    found: Json = {"coding": [coding(header.code, header.code_display, system_of_oid(header.code_system))]}
    if header.code_display:
        found["text"] = header.code_display
    return found


def _author(author: CdaAuthor) -> Json | None:
    """Who wrote it and for whom, as the content of a contained PractitionerRole."""
    role: Json = {}
    identifier = professional_identifier(author.id_extension or author.id_root, author.id_root)
    name = " ".join(part for part in (author.given, author.family) if part) or author.device_name
    if identifier is not None or name:
        person: Json = {"type": "Practitioner" if not author.device_name else "Device"}
        if identifier is not None:
            person["identifier"] = identifier
        if name:
            person["display"] = name
        role["practitioner"] = person
    organization = _organization(author.organisation_id, author.organisation_root, author.organisation_name)
    if organization is not None:
        role["organization"] = organization
    if author.code:
        role["code"] = [{"coding": [coding(author.code, "", system_of_oid(author.code_system))]}]
    return role or None


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


def _context(header: CdaHeader, tz: tzinfo) -> Json:
    context: Json = {}
    period = {
        name: text
        for name, ts in (("start", header.event_start), ("end", header.event_stop))
        if (text := parse_ts(ts, tz).fhir_datetime())
    }
    if period:
        context["period"] = period
    if header.practice_setting:
        context["practiceSetting"] = {"coding": [coding(header.practice_setting, "", PRACTICE_SETTINGS)]}
    if header.facility_type:
        system = _SECTORS if header.facility_type.startswith("SA") else _OTHER_FACILITIES
        context["facilityType"] = {"coding": [coding(header.facility_type, "", system)]}
    return context


def _content(header: CdaHeader, creation: str, types: DocumentTypes) -> Json:
    attachment = {"title": header.title or header.code_display, "language": header.language, "creation": creation}
    content: Json = {"attachment": {name: text for name, text in attachment.items() if text}}
    found = types.format(header.fmt)
    if found is not None:
        content["format"] = found
    return content
