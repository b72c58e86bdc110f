"""Problems: diagnoses, symptoms, antecedents → Condition.

Standard: CI-SIS FR-Probleme (1.2.250.1.213.1.1.3.37), FR-Liste-des-problemes (….39), FR-Probleme-cancer (….113), FR-Severite
(….29), FR-Statut-du-probleme (….30), FR-Statut-clinique-du-patient (….31), FR-Certitude (….171); IHE PCC Problem Entry
(1.3.6.1.4.1.19376.1.5.3.1.4.5); FHIR R4 Condition (con-3, con-4, con-5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import clinical
from mappings.cda.templates.clinical import known_as
from mappings.cda.walk import translate_statement
from mappings.cda.xml import Element, attribute, has_template, one

Json = dict[str, Any]

_CATEGORY = "http://terminology.hl7.org/CodeSystem/condition-category"
_CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_CLINICAL_CODES = frozenset({"active", "recurrence", "relapse", "inactive", "remission", "resolved"})
_CLINICAL_OF_SNOMED = {
    "55561003": "active",
    "90734009": "active",
    "7087005": "active",
    "255227004": "recurrence",
    "73425007": "inactive",
    "413322009": "resolved",
    "277022003": "remission",
    "263855007": "relapse",
}
_ENDED = frozenset({"inactive", "remission", "resolved"})
_VERIFICATION_CODES = frozenset({"unconfirmed", "provisional", "differential", "confirmed", "refuted", "entered-in-error"})
_VERIFICATION_OF_SNOMED = {
    "410605003": "confirmed",
    "410592001": "provisional",
    "415684004": "provisional",
    "410516002": "refuted",
    "723511001": "refuted",
}
_DIAGNOSES = frozenset({"46241-6", "11535-2", "29548-5"})
_HISTORY = frozenset({"11348-0", "10167-5"})
_HISTORY_TEMPLATES = frozenset({"1.2.250.1.213.1.1.2.134", "1.3.6.1.4.1.19376.1.5.3.1.3.8"})
_PROBLEM_LISTS = frozenset({"11450-4"})
_STAGE = "1.3.6.1.4.1.19376.1.7.3.1.4.14.2"


def problem(entry: Element, scope: Scope) -> Json | None:
    """One problem. Its code is the value; the kind of problem is a category."""
    if clinical.says_nothing(entry, scope):
        return None
    scope.claim(entry)
    act = clinical.concern_of(entry)
    code = clinical.code_of(entry, scope, "value")
    qualifiers = _qualifiers(entry, scope)
    stages, found = _stages(entry, scope), clinical.parts(entry, scope)
    if code is None:
        return None
    absence = clinical.says_absence(code)
    verification = _verification(qualifiers["certainty"])
    if not absence and clinical.is_denied(entry, act, scope):
        verification = "refuted"
    body = _state(entry, act, qualifiers["status"], verification, scope)
    body |= _categories(entry, act, verification, scope)
    if qualifiers["severity"] is not None:
        body["severity"] = qualifiers["severity"]
    body["code"] = code
    body |= _times(entry, scope) | _who(entry, act, scope)
    if stages:
        body["stage"] = stages
    found.notes += clinical.concern_notes(act, scope)
    details = [{"detail": [reference]} for reference in found.references()]
    found.put(body, bodySite=clinical.sites(entry, scope), evidence=[*details, *({"code": [said]} for _, said in found.mentions)])
    clinical.extend(body, "urn:vaguemestre:patient-status", "CodeableConcept", qualifiers["health"])
    if qualifiers["certainty"] is not None and not _verification(qualifiers["certainty"]):
        clinical.extend(body, "urn:vaguemestre:certainty", "CodeableConcept", qualifiers["certainty"])
    return scope.add("Condition", entry, body, at=_times(entry, scope).get("onsetDateTime", ""))


def _qualifiers(entry: Element, scope: Scope) -> dict[str, Json | None]:
    return {
        "severity": clinical.qualifier(entry, scope, clinical.SEVERITY),
        "status": clinical.qualifier(entry, scope, clinical.STATUS),
        "health": clinical.qualifier(entry, scope, clinical.HEALTH_STATUS),
        "certainty": clinical.qualifier(entry, scope, clinical.CERTAINTY, clinical.CERTAINTY_CODE),
    }


def _first_known(concept: Json | None, codes: frozenset[str], others: dict[str, str]) -> str:
    for code in clinical.codes_in(concept):
        if code in codes or code in others:
            return others.get(code, code)
    return ""


def _verification(certainty: Json | None) -> str:
    return _first_known(certainty, _VERIFICATION_CODES, _VERIFICATION_OF_SNOMED)


def _is_history(scope: Scope) -> bool:
    return scope.section_code in _HISTORY or bool(_HISTORY_TEMPLATES & scope.section_templates)


def _state(entry: Element, act: Element | None, status: Json | None, verification: str, scope: Scope) -> Json:
    """clinicalStatus and verificationStatus.

    What was refuted or entered in error has no clinicalStatus. An end says that it is over (con-4). In a section of antecedents
    a problem is over unless its concern is active.
    """
    made: Json = {"verificationStatus": clinical.coded(_VERIFICATION, verification)} if verification else {}
    if verification in {"refuted", "entered-in-error"}:
        return made
    said = _first_known(status, _CLINICAL_CODES, _CLINICAL_OF_SNOMED)
    ended = bool(values.end(entry, scope))
    if not said:
        concern = clinical.status_code(act) if act is not None else ""
        over = concern in {"aborted", "suspended"} or (_is_history(scope) and concern != "active")
        said = "resolved" if ended else "inactive" if over else "active"
    elif ended and said not in _ENDED:
        scope.find("VALUE_INVALID", entry, "a problem that is over and said to be active; kept as over")
        said = "resolved"
    return {"clinicalStatus": clinical.coded(_CLINICAL, said), **made}


def _categories(entry: Element, act: Element | None, verification: str, scope: Scope) -> Json:
    """Problem list or diagnosis of the stay where the section says so, and the kind of problem (`code`)."""
    found: list[Json] = []
    if verification in {"refuted", "entered-in-error"}:
        pass
    elif scope.section_code in _DIAGNOSES:
        found.append(clinical.coded(_CATEGORY, "encounter-diagnosis"))
    elif act is not None or scope.section_code in _PROBLEM_LISTS or _is_history(scope):
        found.append(clinical.coded(_CATEGORY, "problem-list-item"))
    kind = values.concept(one(entry, "code"), scope)
    if kind is not None:
        found.append(kind)
    return {"category": found} if found else {}


def _times(entry: Element, scope: Scope) -> Json:
    begins, ends = values.start(entry, scope), values.end(entry, scope)
    made = {"onsetDateTime": begins} if begins else {}
    return made | ({"abatementDateTime": ends} if ends else {})


def _who(entry: Element, act: Element | None, scope: Scope) -> Json:
    """Who wrote the problem, or its concern, and when."""
    made: Json = {}
    for part in (entry, act):
        if part is None or one(part, "author") is None:
            continue
        if "recordedDate" not in made and (when := values.moment(one(part, "author/time"), scope)):
            made["recordedDate"] = when
        author = clinical.who_wrote(part)
        if "recorder" not in made and author is not None:
            made["recorder"] = author
    return made


def _stages(entry: Element, scope: Scope) -> list[Json]:
    """Stages of a cancer (TNM): each an Observation that the problem names as its stage."""
    made = []
    for _, child in clinical.nested(entry):
        if not has_template(child, _STAGE) and attribute(child, "code", "code") not in _STAGE_CODES:
            continue
        reference = translate_statement(child, scope)
        if reference is None:
            continue
        stage: Json = {"assessment": [reference]}
        summary, kind = values.concept(one(child, "value"), scope), values.concept(one(child, "code"), scope)
        made.append(stage | ({"summary": summary} if summary is not None else {}) | ({"type": kind} if kind is not None else {}))
    return made


# Stage group by TNM, clinical and pathological; another classification of the stage.
_STAGE_CODES = frozenset({"75620-5", "75621-3", "21908-9", "21902-2", "21918-8"})

TRANSLATORS: dict[str, Callable[[Element, Scope], Json | None]] = {
    **dict.fromkeys(known_as("fr:113", "fr:37", "ihe:5"), problem),
    **dict.fromkeys(known_as("fr:39.1", "fr:39", "fr:40", "ihe:5.2", "ihe:5.3", "ihe:5.1", "ccd:27"), clinical.concern),
    **dict.fromkeys(known_as("ccd:28"), problem),
}
