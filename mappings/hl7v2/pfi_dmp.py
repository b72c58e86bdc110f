"""A CDA message as a submission to the DMP: what XDS wants to know, from the CDA's header, the patient and the sender.

First form: codes go as the header writes them; value sets, legalAuthenticator and the rules on visibility are not checked.
Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2, §3.2 HL7/CDA → XDS.
"""

from __future__ import annotations

from datetime import tzinfo

from hub.formats.cda_header import CdaAuthor, CdaHeader
from hub.formats.ts import parse_ts
from hub.model.dmp import Coded, DmpAuthor, DmpDocument, DmpSubmission
from hub.model.identifiers import PROFESSIONALS, STRUCTURES
from hub.model.identity import PatientIdentity
from hub.model.record_change import INVISIBLE_PATIENT, INVISIBLE_REP_LEGAUX, MASQUE_PS, DocumentAction
from mappings.cda.document_reference import DocumentTypes
from mappings.hl7v2.cda_document import CdaDocument
from mappings.hl7v2.line import Line
from mappings.hl7v2.pfi_request import PfiRequest

_CONFIDENTIALITY, _VISIBILITY = "2.16.840.1.113883.5.25", "1.2.250.1.213.1.1.4.13"
_SECTORS, _OTHER_FACILITIES = "1.2.250.1.71.4.2.4", "1.2.250.1.213.1.1.4.6"
_PRACTICE_SETTINGS, _CONTENT_TYPES, _SPECIALTIES = "1.2.250.1.213.1.1.4.9", "1.2.250.1.213.2.2", "1.2.250.1.213.1.1.4.5"
_FLAGS = (
    (MASQUE_PS, "MASQUE_PS"),
    (INVISIBLE_PATIENT, "INVISIBLE_PATIENT"),
    (INVISIBLE_REP_LEGAUX, "INVISIBLE_REPRESENTANTS_LEGAUX"),
)
_CONTENT_TYPE_OF_CLASS = {"I": "03", "O": "07", "R": "19", "N": "97", "E": "07"}  # PV1-2 → JDV_J59


def dmp_submission(request: PfiRequest, types: DocumentTypes, refused: str) -> DmpSubmission:
    """The submission that a message asks for; `refused` is the rule that forbids it, if one does."""
    ins, action = request.national_ins, request.action or DocumentAction.CREATE
    kind = _CONTENT_TYPE_OF_CLASS.get(request.message.text("PV1", 2).upper())
    return DmpSubmission(
        action,
        tuple(_document(request, cda, types) for cda in request.cdas),
        patient_id=f"{ins.value}^^^&{ins.oid}&ISO^NH" if ins is not None else "",
        source_patient_id=_local(request.identity),
        patient_info=_traits(request.cdas[0].header),
        author=_sender(request),
        content_type=Coded(kind, _CONTENT_TYPES) if kind else None,
        refused=refused or ("" if ins is not None else request.why_no_national_ins),
    )


def _document(request: PfiRequest, cda: CdaDocument, types: DocumentTypes) -> DmpDocument:
    header, tz = cda.header, request.site.timezone
    facility = header.facility_type
    labels = [Coded(header.confidentiality or "N", _CONFIDENTIALITY)]
    labels += [Coded(name, _VISIBILITY) for bit, name in _FLAGS if request.mask & bit]
    return DmpDocument(
        header.id,
        cda.content,
        Coded(header.code, header.code_system, header.code_display),
        replaces=header.replaces if request.action is DocumentAction.REPLACE else "",
        title=(header.title or header.code_display)[:128],
        language=header.language or "fr-FR",
        creation_time=_utc(header.effective_time, tz),
        service_start=_utc(header.event_start, tz),
        service_stop=_utc(header.event_stop, tz),
        class_=_coded(types.category(header.code)),
        format=_coded({"coding": [found]} if (found := types.format(header.fmt)) else None),
        facility=Coded(facility, _SECTORS if facility.startswith("SA") else _OTHER_FACILITIES) if facility else None,
        practice_setting=Coded(header.practice_setting, _PRACTICE_SETTINGS) if header.practice_setting else None,
        confidentiality=tuple(labels),
        authors=tuple(map(_author, header.authors)),
    )


def _coded(concept: dict[str, list[dict[str, str]]] | None) -> Coded | None:
    if concept is None:
        return None
    found = concept["coding"][0]
    return Coded(found["code"], found.get("system", "").removeprefix("urn:oid:"), found.get("display", ""))


def _utc(text: str, tz: tzinfo) -> str:
    instant = parse_ts(text, tz).instant
    return instant.strftime("%Y%m%d%H%M%S") if instant is not None else ""


def _author(author: CdaAuthor) -> DmpAuthor:
    person = _xcn(author.id_extension or author.id_root, author.family or author.device_name, author.given)
    institution = _xon(author.organisation_name, author.organisation_id)
    return DmpAuthor(person, institution, f"{author.code}^^{author.code_system or _SPECIALTIES}" if author.code else "")


def _sender(request: PfiRequest) -> DmpAuthor:
    """PRT of the sender (SB)."""
    for segment in request.message.segments("PRT"):
        fields = Line.of(segment, request.message)
        if fields.text(4).replace(" ", "").upper() == "SB":
            person, structure = fields.one(5), fields.one(8)
            return DmpAuthor(_xcn(person.text(1), person.text(2), person.text(3)), _xon(structure.text(1), structure.text(10)))
    return DmpAuthor()


def _xcn(number: str, family: str, given: str) -> str:
    parts = (_plain(number), _plain(family), _plain(given))
    return f"{'^'.join(parts)}^^^^^^&{PROFESSIONALS}&ISO^D^^^IDNPS" if any(parts) else ""


def _xon(name: str, number: str) -> str:
    if not name and not number:
        return ""
    return f"{_plain(name)}^^^^^&{STRUCTURES}&ISO^IDNST^^^{_plain(number)}"


def _plain(text: str) -> str:
    """Text without what parts an HL7 composite."""
    return "".join(" " if c in "^&~|\\\r\n" else c for c in text).strip()


def _local(identity: PatientIdentity) -> str:
    for number in identity.local:
        if number.system.startswith("urn:oid:"):
            return f"{_plain(number.value)}^^^&{number.system.removeprefix('urn:oid:')}&ISO^PI"
    return ""


def _traits(header: CdaHeader) -> tuple[str, ...]:
    told = []
    if header.birth_name:
        told.append(f"PID-5|{_plain(header.birth_name)}^{_plain(header.first_given_name)}^^^^^L")
    if header.birth_time[:8].isdigit():
        told.append(f"PID-7|{header.birth_time[:8]}")
    if header.sex:
        told.append(f"PID-8|{_plain(header.sex)}")
    return tuple(told)
