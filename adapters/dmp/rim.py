"""ebRIM as XDS.b uses it: submission sets, document entries, associations.

Standard: IHE ITI TF-3 §4.2 (metadata), ebXML RegRep 3.0; CI-SIS, volet Partage de documents de santé.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adapters.dmp.soap import Element, element
from hub.model.dmp import Coded, DmpAuthor, DmpDocument, DmpSubmission

RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
XDSB = "urn:ihe:iti:xds-b:2007"

APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
DEPRECATED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
DELETED = "urn:asip:ci-sis:2010:StatusType:Deleted"

HAS_MEMBER = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
REPLACES = "urn:ihe:iti:2007:AssociationType:RPLC"
UPDATES_STATUS = "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus"

_SUBMISSION_SET = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
_STABLE_DOCUMENT = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
SUBMISSION_UNIQUE_ID = "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8"
DOCUMENT_UNIQUE_ID = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"
DOCUMENT_PATIENT_ID = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"
_SUBMISSION_PATIENT_ID = "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446"
_SUBMISSION_SOURCE_ID = "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832"
_SUBMISSION_AUTHOR = "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d"
_CONTENT_TYPE = "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500"
_AUTHOR = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d"
_CLASS = "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a"
_TYPE = "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983"
_CONFIDENTIALITY = "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f"
_FORMAT = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d"
_FACILITY = "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1"
_PRACTICE_SETTING = "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead"


def submission_set(parent: Element, submission: DmpSubmission, *, unique_id: str, source_id: str, submitted: str) -> str:
    """RegistryPackage and its Classification under a RegistryObjectList; its id. `submitted` is UTC `YYYYMMDDHHMMSS`."""
    number = "SubmissionSet01"
    package = element(RIM, "RegistryPackage", parent, id=number)
    slot(package, "submissionTime", [submitted])
    _author(package, number, _SUBMISSION_AUTHOR, submission.author)
    _classification(package, number, _CONTENT_TYPE, submission.content_type)
    _identifier(package, number, _SUBMISSION_PATIENT_ID, "XDSSubmissionSet.patientId", submission.patient_id)
    _identifier(package, number, _SUBMISSION_SOURCE_ID, "XDSSubmissionSet.sourceId", source_id)
    _identifier(package, number, SUBMISSION_UNIQUE_ID, "XDSSubmissionSet.uniqueId", unique_id)
    element(
        RIM,
        "Classification",
        parent,
        id=f"{number}.node",
        classifiedObject=number,
        classificationNode=_SUBMISSION_SET,
        objectType="urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:Classification",
    )
    return number


def document_entry(parent: Element, document: DmpDocument, submission: DmpSubmission, *, number: str) -> None:
    """ExtrinsicObject of one document, with id `number`."""
    entry = element(
        RIM, "ExtrinsicObject", parent, id=number, mimeType=document.content.content_type, objectType=_STABLE_DOCUMENT
    )
    for name, values in (
        ("creationTime", [document.creation_time]),
        ("serviceStartTime", [document.service_start]),
        ("serviceStopTime", [document.service_stop]),
        ("languageCode", [document.language]),
        ("sourcePatientId", [submission.source_patient_id]),
        ("sourcePatientInfo", submission.patient_info),
        ("hash", [document.content.sha1.hex()]),
        ("size", [str(document.content.size)]),
    ):
        slot(entry, name, values)
    if document.title:
        _text(entry, "Name", document.title)
    for author in document.authors:
        _author(entry, number, _AUTHOR, author)
    _classification(entry, number, _CLASS, document.class_)
    _classification(entry, number, _TYPE, document.type)
    for label in document.confidentiality:
        _classification(entry, number, _CONFIDENTIALITY, label)
    _classification(entry, number, _FORMAT, document.format)
    _classification(entry, number, _FACILITY, document.facility)
    _classification(entry, number, _PRACTICE_SETTING, document.practice_setting)
    _identifier(entry, number, DOCUMENT_PATIENT_ID, "XDSDocumentEntry.patientId", submission.patient_id)
    _identifier(entry, number, DOCUMENT_UNIQUE_ID, "XDSDocumentEntry.uniqueId", document.unique_id)


def association(parent: Element, kind: str, source: str, target: str, slots: Iterable[tuple[str, str]] = ()) -> None:
    """An Association with its slots."""
    number = f"as{len(parent):02d}"
    made = element(RIM, "Association", parent, id=number, associationType=kind, sourceObject=source, targetObject=target)
    for name, value in slots:
        slot(made, name, [value])


def slot(parent: Element, name: str, values: Sequence[str]) -> None:
    """A Slot with those of `values` that are not empty; none when all are."""
    told = [value for value in values if value]
    if told:
        listed = element(RIM, "ValueList", element(RIM, "Slot", parent, name=name))
        for value in told:
            element(RIM, "Value", listed, value)


def slot_values(parent: Element, name: str) -> list[str]:
    """Values of a Slot."""
    return [
        (value.text or "").strip()
        for one in parent.findall(f"{{{RIM}}}Slot")
        if one.get("name") == name
        for value in one.iter(f"{{{RIM}}}Value")
    ]


def identifier_of(entry: Element, scheme: str) -> str:
    """Value of an ExternalIdentifier."""
    for one in entry.findall(f"{{{RIM}}}ExternalIdentifier"):
        if one.get("identificationScheme") == scheme:
            return str(one.get("value", ""))
    return ""


def _identifier(parent: Element, owner: str, scheme: str, name: str, value: str) -> None:
    made = element(
        RIM,
        "ExternalIdentifier",
        parent,
        id=f"{owner}.{name.rpartition('.')[2]}",
        registryObject=owner,
        identificationScheme=scheme,
        value=value,
    )
    _text(made, "Name", name)


def _classification(parent: Element, owner: str, scheme: str, code: Coded | None) -> None:
    if code is None or not code.code:
        return
    made = element(
        RIM,
        "Classification",
        parent,
        id=f"{owner}.c{len(parent):02d}",
        classifiedObject=owner,
        classificationScheme=scheme,
        nodeRepresentation=code.code,
    )
    slot(made, "codingScheme", [code.system])
    _text(made, "Name", code.display or code.code)


def _author(parent: Element, owner: str, scheme: str, author: DmpAuthor) -> None:
    if not author.person and not author.institution:
        return
    made = element(
        RIM,
        "Classification",
        parent,
        id=f"{owner}.c{len(parent):02d}",
        classifiedObject=owner,
        classificationScheme=scheme,
        nodeRepresentation="",
    )
    slot(made, "authorInstitution", [author.institution])
    slot(made, "authorPerson", [author.person])
    slot(made, "authorSpecialty", [author.specialty])


def _text(parent: Element, name: str, value: str) -> None:
    element(RIM, "LocalizedString", element(RIM, name, parent), value=value)
