"""Allergies, intolerances and adverse effects of medicines → AllergyIntolerance.

Standard: CI-SIS FR-Allergie-ou-hypersensibilite (1.2.250.1.213.1.1.3.41), FR-Effet-indesirable (….210 to .213), FR-Criticite
(….172), FR-Certitude (….171); IHE PCC Allergies and Intolerances (1.3.6.1.4.1.19376.1.5.3.1.4.6); FHIR R4 AllergyIntolerance
(ait-1, ait-2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import clinical
from mappings.cda.templates.clinical import known_as
from mappings.cda.templates.observation import observe
from mappings.cda.xml import Element, attribute, every, has_template, one, text
from mappings.code_systems import SNOMED

Json = dict[str, Any]

_CLINICAL = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"
_VERIFICATION = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
# Kinds of hypersensitivity (SNOMED CT; HL7 ActCode ObservationIntoleranceType) → type, category of FHIR.
_KINDS = {
    "416098002": ("allergy", "medication"),
    "414285001": ("allergy", "food"),
    "426232007": ("allergy", "environment"),
    "419199007": ("allergy", ""),
    "609328004": ("allergy", ""),
    "59037007": ("intolerance", "medication"),
    "235719002": ("intolerance", "food"),
    "419511003": ("", "medication"),
    "418471000": ("", "food"),
    "418038007": ("", ""),
    "420134006": ("", ""),
    "ALG": ("allergy", ""),
    "DALG": ("allergy", "medication"),
    "FALG": ("allergy", "food"),
    "EALG": ("allergy", "environment"),
    "DINT": ("", "medication"),
    "FINT": ("", "food"),
    "EINT": ("", "environment"),
    "DNAINT": ("intolerance", "medication"),
    "FNAINT": ("intolerance", "food"),
    "ENAINT": ("intolerance", "environment"),
    "NAINT": ("intolerance", ""),
    "OINT": ("", ""),
}
_NO_KNOWN = {
    "medication": ("409137002", "No known drug allergy"),
    "food": ("429625007", "No known food allergy"),
    "environment": ("428607008", "No known environmental allergy"),
    "": ("716186003", "No known allergy"),
}
_CRITICALITY = {"low": "low", "high": "high", "unable-to-assess": "unable-to-assess"}
_CRITICALITY |= {"CRITL": "low", "CRITH": "high", "CRITU": "unable-to-assess"}
_CLINICAL_STATUS = {"active": "active", "inactive": "inactive", "resolved": "resolved", "55561003": "active"}
_CLINICAL_STATUS |= {"73425007": "inactive", "413322009": "resolved"}
_VERIFICATION_STATUS = {
    "confirmed": "confirmed",
    "unconfirmed": "unconfirmed",
    "provisional": "unconfirmed",
    "differential": "unconfirmed",
    "presumed": "unconfirmed",
    "refuted": "refuted",
    "entered-in-error": "entered-in-error",
    "410605003": "confirmed",
    "410592001": "unconfirmed",
    "410516002": "refuted",
    "723511001": "refuted",
}
_SEVERITY = {
    "255604002": "mild",
    "371923003": "moderate",
    "6736007": "moderate",
    "371924009": "severe",
    "24484000": "severe",
    "442452003": "severe",
    "399166001": "severe",
    "L": "mild",
    "M": "moderate",
    "H": "severe",
}
_ADVERSE, _IMPUTABILITY, _GRAVITY, _EVOLUTION = (clinical.FR + number for number in ("210", "211", "212", "213"))


@dataclass(slots=True)
class _Said:
    """What an entry says beside its substance."""

    kind: Json | None
    status: str
    certainty: Json | None
    criticality: Json | None


def allergy(entry: Element, scope: Scope) -> Json | None:
    """One AllergyIntolerance a substance; what is negated without a substance is « no known allergy »."""
    if clinical.says_nothing(entry, scope):
        return None
    scope.claim(entry)
    act = clinical.concern_of(entry)
    said = _Said(
        kind=values.concept(one(entry, "code"), scope),
        status=_mapped(clinical.qualifier(entry, scope, clinical.STATUS), _CLINICAL_STATUS),
        certainty=clinical.qualifier(entry, scope, clinical.CERTAINTY, clinical.CERTAINTY_CODE),
        criticality=clinical.qualifier(entry, scope, clinical.CRITICALITY, clinical.CRITICALITY_CODE),
    )
    severity, reactions = clinical.qualifier(entry, scope, clinical.SEVERITY), _reactions(entry, scope)
    found = clinical.parts(entry, scope)
    found.notes += clinical.concern_notes(act, scope)
    made: Json | None = None
    for code in _substances(entry, said, scope):
        body = _status(entry, act, code, said, scope) | _kind(said.kind) | {"code": code}
        _put_times(entry, act, body, scope)
        found.put(body, reaction=[dict(reaction) for reaction in reactions])
        for reference in found.references():
            clinical.extend(body, "urn:vaguemestre:related", "Reference", reference)
        clinical.extend(body, "urn:vaguemestre:severity", "CodeableConcept", severity)
        criticality = _mapped(said.criticality, _CRITICALITY)
        if criticality:
            body["criticality"] = criticality
        made = scope.add("AllergyIntolerance", entry, body, at=body.get("onsetDateTime", ""))
    return made


def _mapped(concept: Json | None, table: dict[str, str]) -> str:
    return next((table[code] for code in clinical.codes_in(concept) if code in table), "")


def _substances(entry: Element, said: _Said, scope: Scope) -> list[Json]:
    """What it is an allergy to: the substances named (participant CSM), else the value, else the kind of allergy."""
    found = []
    for part in every(entry, "participant"):
        playing = one(part, "participantRole/playingEntity")
        if attribute(part, "typeCode") not in {"CSM", "CAGNT"} or playing is None:
            continue
        code, name = values.concept(one(playing, "code"), scope), text(one(playing, "name"))
        if code is not None or name:
            found.append(code or {"text": name})
    if found:
        return found
    value = values.concept(one(entry, "value"), scope)
    if value is not None and "coding" not in value:
        value = None if clinical.says_little(value["text"]) else value
    if (value is None or set(clinical.codes_in(value)) & _KINDS.keys()) and clinical.is_denied(entry, None, scope):
        code_, display = _NO_KNOWN[_kind(said.kind).get("category", [""])[0]]
        return [clinical.coded(SNOMED, code_, display)]
    if value is None:
        value = said.kind if said.kind is not None else clinical.code_of(entry, scope)
    return [value] if value is not None else []


def _kind(kind: Json | None) -> Json:
    for code in clinical.codes_in(kind):
        if code in _KINDS:
            type_, category = _KINDS[code]
            return ({"type": type_} if type_ else {}) | ({"category": [category]} if category else {})
    return {}


def _status(entry: Element, act: Element | None, code: Json, said: _Said, scope: Scope) -> Json:
    """clinicalStatus (always, but for an error: ait-1, ait-2) and verificationStatus.

    An allergy is active unless it is said to be over: what is not said must not be missed.
    """
    verification = _mapped(said.certainty, _VERIFICATION_STATUS)
    if not clinical.says_absence(code) and clinical.is_denied(entry, act, scope):
        verification = "refuted"
    made: Json = {"verificationStatus": clinical.coded(_VERIFICATION, verification)} if verification else {}
    if verification == "entered-in-error":
        return made
    concern = clinical.status_code(act) if act is not None else ""
    over = concern in {"aborted", "suspended"} or verification == "refuted"
    status = said.status or ("resolved" if values.end(entry, scope) else "inactive" if over else "active")
    return {"clinicalStatus": clinical.coded(_CLINICAL, status), **made}


def _put_times(entry: Element, act: Element | None, body: Json, scope: Scope) -> None:
    begins = values.start(entry, scope)
    if begins:
        body["onsetDateTime"] = begins
    for part in (entry, act):
        written, author = values.moment(one(part, "author/time"), scope), None if part is None else clinical.who_wrote(part)
        if written:
            body.setdefault("recordedDate", written)
        if author is not None:
            body.setdefault("recorder", author)


def _reactions(entry: Element, scope: Scope) -> list[Json]:
    """What it showed itself by (typeCode MFST): manifestation, onset, severity, comments."""
    made = []
    for kind, child in clinical.nested(entry):
        if kind != "MFST" or not has_template(child, *clinical.PROBLEM):
            continue
        severity = clinical.qualifier(child, scope, clinical.SEVERITY)
        manifestation, notes = clinical.code_of(child, scope, "value"), clinical.parts(child, scope).notes
        scope.claim_all(child)
        if manifestation is None or clinical.is_negated(child) or clinical.status_code(child) == "nullified":
            continue
        reaction: Json = {"manifestation": [manifestation]}
        onset, grade = values.start(child, scope), _mapped(severity, _SEVERITY)
        reaction |= {"onset": onset} if onset else {}
        reaction |= {"severity": grade} if grade else {}
        reaction |= {"note": notes} if notes else {}
        if not grade:
            clinical.extend(reaction, "urn:vaguemestre:severity", "CodeableConcept", severity)
        made.append(reaction)
    return made


# ---- adverse effects ---------------------------------------------------------------------------------------------------------


def adverse_effect(entry: Element, scope: Scope) -> Json | None:
    """An adverse effect of a medicine: an AllergyIntolerance when it names the medicine, else an Observation."""
    if clinical.says_nothing(entry, scope):
        return None
    medicine = _medicine(entry, scope)
    if medicine is None:
        return observe(entry, scope)
    kind = values.concept(one(entry, "code"), scope)
    said = _Said(kind, "", None, None)
    gravity = clinical.qualifier(entry, scope, (_GRAVITY,))
    imputability, evolution = (clinical.qualifier(entry, scope, (root,)) for root in (_IMPUTABILITY, _EVOLUTION))
    reactions, effect = _reactions(entry, scope), values.concept(one(entry, "value"), scope)
    if not reactions and effect is not None:
        reactions = [{"manifestation": [effect]}]
    grade = _mapped(gravity, _SEVERITY)
    for reaction in reactions if grade else ():
        reaction.setdefault("severity", grade)
    found = clinical.parts(entry, scope)
    body = _status(entry, None, medicine, said, scope) | _kind(kind) | {"category": ["medication"], "code": medicine}
    _put_times(entry, None, body, scope)
    found.put(body, reaction=reactions)
    told = (("adverse-effect", effect), ("kind", kind), ("severity", gravity if not grade else None))
    for name, concept in (*told, ("imputability", imputability), ("evolution", evolution)):
        clinical.extend(body, f"urn:vaguemestre:{name}", "CodeableConcept", concept)
    return scope.add("AllergyIntolerance", entry, body, at=body.get("onsetDateTime", ""))


def _medicine(entry: Element, scope: Scope) -> Json | None:
    """The medicine of the administration that stands in the entry, which is part of it."""
    for _, child in clinical.nested(entry):
        material = one(child, "consumable/manufacturedProduct/manufacturedMaterial")
        if material is None:
            continue
        code, name = values.concept(one(material, "code"), scope), text(one(material, "name"))
        if code is not None or name:
            scope.claim_all(child)
            return code if code is not None else {"text": name}
    return None


TRANSLATORS: dict[str, Callable[[Element, Scope], Json | None]] = {
    _ADVERSE: adverse_effect,
    **dict.fromkeys(known_as("fr:41", "ihe:6", "ccd:18"), allergy),
}
