"""Imaging reports (CR-IMG): the acts, their doses of radiation, and the report itself.

Standard: CI-SIS volet CR-IMG (1.2.250.1.213.1.1.1.45), FR-Acte-imagerie (1.2.250.1.213.1.1.3.153), FR-Mesure (….154),
FR-Exposition-patient (….165); DICOM PS3.20 Imaging Reports (1.2.840.10008.9).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hub.formats.ts import parse_ts
from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import attachment, clinical, imaging_request, imaging_study
from mappings.cda.templates.observation import observe
from mappings.cda.walk import translate_parts
from mappings.cda.xml import V3, Element, attribute, every, has_template, one, text

Json = dict[str, Any]

_FR, _DICOM = "1.2.250.1.213.1.1.3.", "1.2.840.10008.9."
_ACT, _CONTRAST = (_FR + "153", _DICOM + "14"), (_FR + "151", _DICOM + "13")
_DOSE_SECTION = "73569-6"
_CONCLUSION, _ADDENDUM = ("1.2.250.1.213.1.1.2.209", _DICOM + "5"), ("1.2.250.1.213.1.1.2.210", _DICOM + "6")
_FINDINGS = ("1.2.250.1.213.1.1.2.208", "2.16.840.1.113883.10.20.6.1.2")
_RADIOLOGY = {"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD", "display": "Radiology"}
_PROCEDURE_STATUS = {
    "": "completed",
    "completed": "completed",
    "active": "in-progress",
    "aborted": "stopped",
    "cancelled": "not-done",
    "new": "preparation",
    "held": "on-hold",
    "suspended": "on-hold",
}
_RESULTS, _STUDIES, _ACTS = "imaging results", "imaging studies", "imaging acts"


# ---- acts ------------------------------------------------------------------------------------------------------------


def imaging_act(entry: Element, scope: Scope) -> Json | None:
    """FR-Acte-imagerie, FR-Exposition-patient: a Procedure with its modality, site, contrast agents and who answers for it."""
    if clinical.says_nothing(entry, scope):
        return None
    if clinical.mood(entry) != "EVN":
        return imaging_request.imaging_request(entry, scope)
    scope.claim(entry)
    code, found = clinical.code_of(entry, scope), clinical.parts(entry, scope)
    status = _PROCEDURE_STATUS.get(clinical.status_code(entry), "unknown")
    body: Json = {"status": "not-done" if clinical.is_negated(entry) else status}
    if code is not None:
        body["code"] = code
    body |= values.when(entry, scope, "performed")
    if places := imaging_request.sites(entry, scope):
        body["bodySite"] = places
    if performers := _performers(entry, scope):
        body["performer"] = performers
    if agents := _contrast_agents(entry, scope):
        body["usedCode"] = agents
    if said := values.text_of(entry, scope):
        found.notes.insert(0, {"text": said})
    found.put(body)
    clinical.extend(body, "urn:vaguemestre:modality", "CodeableConcept", values.concept(one(entry, "methodCode"), scope))
    made = scope.add("Procedure", entry, body)
    if has_template(entry, *_ACT):
        scope.reading.shared.setdefault(_ACTS, {}).setdefault(scope.section, []).append(made)
    return made


def _performers(entry: Element, scope: Scope) -> list[Json]:
    made: list[Json] = [{"actor": actor} for actor in values.performers(entry)]
    for participant in every(entry, "participant"):
        role = one(participant, "participantRole")
        actor = values.practitioner(role) if attribute(participant, "typeCode") in {"RESP", "PRF", "SPRF", "PPRF"} else None
        if actor is not None:
            function = values.concept(one(role, "code"), scope)
            made.append({"function": function, "actor": actor} if function is not None else {"actor": actor})
    return made


def _contrast_agents(entry: Element, scope: Scope) -> list[Json]:
    """Codes of the agents that the act's section lists, when it has this act only."""
    entries = every(scope.section, "entry") if has_template(entry, *_ACT) else []
    if sum(has_template(act, *_ACT) for part in entries for act in part.findall(f"{V3}procedure")) != 1:
        return []
    agents = (agent for part in entries for agent in part.findall(f"{V3}substanceAdministration"))
    given = [one(agent, "consumable/manufacturedProduct/manufacturedMaterial/code") for agent in agents if _is_contrast(agent)]
    return [made for code in given if (made := values.concept(code, scope)) is not None]


def _is_contrast(agent: Element) -> bool:
    return has_template(agent, *_CONTRAST) and not clinical.is_negated(agent) and clinical.status_code(agent) != "nullified"


def act_of(scope: Scope) -> Json | None:
    """The act that a section is about: the only one in it, or in the nearest section around it that has any."""
    acts: dict[Element | None, list[Json]] = scope.reading.shared.get(_ACTS, {})
    section = scope.section
    while section is not None:
        if section in acts:
            return acts[section][0] if len(acts[section]) == 1 else None
        section = next(section.iterancestors(f"{V3}section"), None)
    return None


def measure(entry: Element, scope: Scope) -> Json | None:
    """FR-Mesure: an Observation, a dose of radiation of its act as a rule."""
    made = observe(entry, scope, "imaging")
    if made is None or made["type"] != "Observation":
        return made
    act, filed = act_of(scope), scope.reading.facts[-1] if scope.reading.facts else None
    if act is not None and filed is not None and filed.key.endswith(str(made["identifier"]["value"])):
        filed.body["partOf"] = [act]
    scope.reading.shared.setdefault(_RESULTS, []).append(made)
    return made


def study(entry: Element, scope: Scope) -> Json | None:
    """FR-DICOM-Examen-imagerie: an ImagingStudy."""
    made = imaging_study.imaging_study(entry, scope, act_of(scope))
    if made is not None:
        scope.reading.shared.setdefault(_STUDIES, []).append(made)
    return made


# ---- the report ------------------------------------------------------------------------------------------------------


def report(root: Element, scope: Scope) -> Json | None:
    """The document as one DiagnosticReport: acts, period, doses, studies, conclusion with its addenda, copy of the document.

    Each version of a document speaks of the same report.
    """
    shared = scope.reading.shared
    body: Json = {"status": "final", "category": [{"coding": [_RADIOLOGY]}]}
    body["code"] = values.concept(one(root, "code"), scope) or {"text": scope.header.title or "imaging report"}
    body |= _when(root, scope)
    if issued := parse_ts(scope.header.effective_time, scope.tz).fhir_instant():
        body["issued"] = issued
    if orders := imaging_study.orders(root):
        body["basedOn"] = orders
    if numbers := imaging_study.accession_numbers(root):
        body["identifier"] = numbers
    if performers := _organisations_and_people(root):
        body["performer"] = performers
    if interpreters := _people(every(root, "author/assignedAuthor")):
        body["resultsInterpreter"] = interpreters
    for name, key in (("result", _RESULTS), ("imagingStudy", _STUDIES)):
        if shared.get(key):
            body[name] = shared[key]
    if said := _conclusion(root):
        body["conclusion"] = said
    clinical.extend(body, "urn:vaguemestre:findings", "String", " ".join(_texts(root, _FINDINGS)))
    copy = attachment.document_copy(scope)
    if copy is not None:
        body["presentedForm"] = [copy[0]]
    return scope.add(
        "DiagnosticReport", root, body, about="imaging report", at="", ids=(), contents=() if copy is None else (copy[1],)
    )


def _when(root: Element, scope: Scope) -> Json:
    """The time of the first act that says one."""
    acts = every(root, "documentationOf/serviceEvent")
    return next((said for act in acts if (said := values.when(act, scope))), {})


def _organisations_and_people(root: Element) -> list[Json]:
    found: list[Json] = []
    for entity in every(root, "documentationOf/serviceEvent/performer/assignedEntity"):
        for made in (values.practitioner(entity), values.organization(one(entity, "representedOrganization"))):
            if made is not None and made not in found and made["type"] != "Device":
                found.append(made)
    return found


def _people(roles: list[Element]) -> list[Json]:
    found = [made for role in roles if (made := values.practitioner(role)) is not None]
    return [made for at, made in enumerate(found) if made["type"] != "Device" and made not in found[:at]]


def _conclusion(root: Element) -> str:
    """The conclusion, and each addendum after it under its title."""
    sections = [part for part in root.iter(f"{V3}section") if has_template(part, *_ADDENDUM)]
    added = [f"{text(one(part, 'title')) or 'Addendum'} : {said}" for part in sections if (said := text(one(part, "text")))]
    return "\n\n".join([*_texts(root, _CONCLUSION), *added])[:64_000]


def _texts(root: Element, templates: tuple[str, ...]) -> list[str]:
    sections = (part for part in root.iter(f"{V3}section") if has_template(part, *templates))
    return [said[:64_000] for part in sections if (said := text(one(part, "text")))]


def _group(entry: Element, scope: Scope) -> None:
    """A series or an instance outside a study holds nothing that can be named by itself."""
    scope.find("LEFT_IN_DOCUMENT", entry, "images outside a study; stay in the document")
    scope.claim(entry)
    translate_parts(entry, scope)


TRANSLATORS: dict[str, Callable[[Element, Scope], Json | None]] = {
    **dict.fromkeys((*_ACT, _FR + "165"), imaging_act),
    **dict.fromkeys((_FR + "154", "2.16.840.1.113883.10.20.6.2.14"), measure),
    "2.16.840.1.113883.10.20.6.2.13": observe,
    **dict.fromkeys((_FR + "155", _DICOM + "16", "2.16.840.1.113883.10.20.6.2.6"), study),
    **dict.fromkeys((_FR + "156", _DICOM + "17", _FR + "157", _DICOM + "18", "2.16.840.1.113883.10.20.6.2.8"), _group),
    _FR + "27.3": imaging_request.imaging_request,
}
DOCUMENTS: dict[str, Callable[[Element, Scope], Json | None]] = {"1.2.250.1.213.1.1.1.45": report, "1.2.840.10008.9.1": report}
