"""The DICOM catalogue of an imaging report: studies, series, instances, and where their images are said to be.

Standard: CI-SIS FR-DICOM-Examen-imagerie (1.2.250.1.213.1.1.3.155), FR-DICOM-Serie-imagerie (….156), FR-DICOM-SOP-instance-
observation (….157); DICOM PS3.20 §10 (Study Act, Series Act, SOP Instance Observation); FHIR R4 ImagingStudy.
"""

from __future__ import annotations

import re
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import clinical
from mappings.cda.xml import V3, Element, attribute, every, names, one

Json = dict[str, Any]

_UID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+", re.ASCII)
_MODALITY = "121139"
_UNKNOWN = {"system": "http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "code": "UNK"}
_ACCESSION = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}
_STATUS = {"aborted": "cancelled", "cancelled": "cancelled", "active": "registered"}


def imaging_study(entry: Element, scope: Scope, act: Json | None = None) -> Json | None:
    """A Study Act as an ImagingStudy with its series and instances. `act`: reference to the Procedure that made it.

    Findings: STUDY_UID_INVALID (no fact, or a series or an instance less), DICOM_MODALITY_MISSING.
    """
    if clinical.says_nothing(entry, scope):
        return None
    scope.claim_all(entry)
    uid = _uid(entry, scope)
    if not uid:
        return None
    series = [made for part in _nested(entry, "act") if (made := _series(part, scope)) is not None]
    body: Json = {
        "status": _STATUS.get(clinical.status_code(entry), "available"),
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
    }
    root = scope.reading.root
    numbers = accession_numbers(root)
    if len(numbers) == 1:
        body["identifier"].append(numbers[0])
        if len(found := orders(root)) == 1:
            body["basedOn"] = found
    modalities = [one_["modality"] for one_ in series if one_["modality"] != _UNKNOWN]
    if modalities:
        body["modality"] = [made for at, made in enumerate(modalities) if made not in modalities[:at]]
    if started := values.start(entry, scope):
        body["started"] = started
    if act is not None:
        body["procedureReference"] = act
    if codes := _procedure_codes(uid, scope):
        body["procedureCode"] = codes
    if said := values.text_of(entry, scope):
        body["description"] = said
    body |= {"numberOfSeries": len(series), "numberOfInstances": sum(len(one_.get("instance", ())) for one_ in series)}
    if series:
        body["series"] = series
    return scope.add("ImagingStudy", entry, body, about=uid, at="")


def _series(part: Element, scope: Scope) -> Json | None:
    uid = _uid(part, scope)
    if not uid:
        return None
    modality = _modality(part)
    if modality is None:
        scope.find("DICOM_MODALITY_MISSING", part, "a series without a modality")
    instances = [made for one_ in _nested(part, "observation") if (made := _instance(one_, scope)) is not None]
    body: Json = {"uid": uid, "modality": modality or _UNKNOWN, "numberOfInstances": len(instances)}
    if said := values.text_of(part, scope):
        body["description"] = said
    if started := values.start(part, scope):
        body["started"] = started
    if instances:
        body["instance"] = instances
    return body


def _instance(part: Element, scope: Scope) -> Json | None:
    uid = _uid(part, scope)
    sop_class = attribute(part, "code", "code")
    if not uid:
        return None
    if not _UID.fullmatch(sop_class):
        scope.find("CODE_MISSING", part, "an instance without its SOP class; left out")
        return None
    made: Json = {"uid": uid, "sopClass": {"system": values.URI, "code": f"urn:oid:{sop_class}"}}
    if title := attribute(part, "displayName", "code"):
        made["title"] = title
    if address := "".join(attribute(part, "value", "text/reference").split()):
        made["extension"] = [{"url": "urn:vaguemestre:wado-uri", "valueString": address}]
    return made


def _nested(entry: Element, name: str) -> list[Element]:
    return entry.findall(names(f"entryRelationship/{name}")) + entry.findall(names(f"component/{name}"))


def _modality(part: Element) -> Json | None:
    """The value of the qualifier « modality » (DCM 121139) of a Series Act's code."""
    for qualifier in every(part, "code/qualifier"):
        value = one(qualifier, "value")
        if value is not None and attribute(qualifier, "code", "name") == _MODALITY:
            return values.coding(value)
    return None


def _uid(part: Element, scope: Scope) -> str:
    uid = "".join(attribute(part, "root", "id").split())
    if len(uid) <= 64 and _UID.fullmatch(uid):
        return uid
    scope.find("STUDY_UID_INVALID", part, "not a DICOM UID; stays in the document")
    return ""


def _procedure_codes(uid: str, scope: Scope) -> list[Json]:
    """Codes of the acts of the header that are known by the study's UID; their modality and site are no codes of an act."""
    found = []
    for event in every(scope.reading.root, "documentationOf/serviceEvent"):
        code = one(event, "code")
        if code is None or all(attribute(number, "root") != uid for number in event.findall(f"{V3}id")):
            continue
        parts = [part for part in (code, *every(code, "translation")) if one(part, "qualifier") is None]
        codings = [made for part in parts if (made := values.coding(part)) is not None]
        if codings:
            found.append({"coding": codings, "text": codings[0].get("display") or codings[0]["code"]})
    return found


def orders(root: Element) -> list[Json]:
    """Orders that a document answers to, as references by their numbers."""
    numbers = (values.identifier(element) for element in every(root, "inFulfillmentOf/order/id"))
    return [{"type": "ServiceRequest", "identifier": number} for number in numbers if number is not None]


def accession_numbers(root: Element) -> list[Json]:
    """Accession numbers of the orders that a document answers to."""
    found: list[Json] = []
    for element in every(root, "inFulfillmentOf/order/ps3-20:accessionNumber"):
        number = values.identifier(element)
        if number is not None and {"type": _ACCESSION, **number} not in found:
            found.append({"type": _ACCESSION, **number})
    return found
