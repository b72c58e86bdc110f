"""Treatments as MedicationStatement: taken, being taken, to be taken, or known to be none.

Standard: CI-SIS FR-Traitement (1.2.250.1.213.1.1.3.42, .42.3, .42.4), FR-Thrombolyse (….26), FR-Administration-de-produit-
radiopharmaceutique (….173), FR-Administration-de-produit-de-contraste (….151), FR-Traitement-en-cours (….13); IHE PCC Medications
(1.3.6.1.4.1.19376.1.5.3.1.4.7); FHIR R4 MedicationStatement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import acts
from mappings.cda.templates.dosage import dosages, whole_time
from mappings.cda.templates.product import contain, extend, product
from mappings.cda.templates.qualifiers import Qualifiers, fold_observations, is_void, qualifiers, said
from mappings.cda.templates.timing import span
from mappings.cda.walk import translate_each
from mappings.cda.xml import Element, attribute, has_template, one, text

Json = dict[str, Any]

_FR = "1.2.250.1.213.1.1.3."
_GIVEN = (_FR + "26", _FR + "151", _FR + "173", "1.2.840.10008.9.13", "1.3.6.1.4.1.19376.1.5.3.1.1.13.3.2")
_ABSENT_UNKNOWN = "2.16.840.1.113883.5.1150.1"
_STOP_OF_TREATMENT = "MED-052"
_STATUS = {"aborted": "stopped", "suspended": "on-hold", "held": "on-hold", "cancelled": "not-taken"}
_CURRENT = frozenset({"10160-0", "10183-2", "42346-7"})  # sections: long-term, at discharge, at admission
_NULL_FLAVOR = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"


def medication(entry: Element, scope: Scope) -> Json | None:
    """One treatment."""
    if is_void(entry, scope):
        return None
    whole = whole_time(entry)
    medicine, details = product(one(entry, "consumable"), scope)
    medicine = medicine or _without_product(entry, whole, scope)
    if medicine is None:
        scope.find("CODE_MISSING", entry, "a treatment that names no medicine; stays in the document")
        scope.claim_all(entry)
        return None
    under = qualifiers(entry, scope)
    body: Json = {"status": _status(entry, whole, scope), "medicationCodeableConcept": medicine}
    act = one(entry, "code")
    if attribute(act, "code") != "DRUG" and attribute(act, "codeSystem") != _ABSENT_UNKNOWN:
        kind = values.concept(act, scope)
        if kind is not None:
            body["category"] = kind
    body |= _time(whole, scope)
    source, at = values.author(entry), values.moment(one(entry, "author/time"), scope)
    body |= {"informationSource": source} if source is not None else {}
    body |= {"dateAsserted": at} if at else {}
    taken = dosages(entry, scope, without=whole)
    if under.instructions:
        taken = taken or [{}]
        taken[0]["patientInstruction"] = "\n".join(under.instructions)
    if taken:
        body["dosage"] = taken
    _stopped(under, scope, body)
    under.put(body)
    extend(body, *fold_observations(under.observations, scope))
    contain(body, details)
    scope.claim(entry)
    translate_each((*under.observations, *under.rest), scope)
    return scope.add("MedicationStatement", entry, body)


def _without_product(entry: Element, whole: Element | None, scope: Scope) -> Json | None:
    """What a statement without a product says: that none is taken or known (its code), or its own words; or, of something taken
    at a known time, that it is not said what (the nullFlavor).
    """
    code = one(entry, "code")
    if attribute(code, "codeSystem") == _ABSENT_UNKNOWN:
        return values.concept(code, scope)
    if words := said(values.text_of(entry, scope)):
        return {"text": words}
    flavor = next(
        (
            found
            for path in ("", "/code", "/name")
            if (found := attribute(entry, "nullFlavor", f"consumable/manufacturedProduct/manufacturedMaterial{path}"))
        ),
        "",
    )
    if whole is None or not flavor:
        return None
    return {"coding": [{"system": _NULL_FLAVOR, "code": flavor}], "text": scope.section_title or "unknown"}


def _time(whole: Element | None, scope: Scope) -> Json:
    if moment := values.moment(whole, scope):
        return {"effectiveDateTime": moment}
    period = span(whole, scope)
    return {"effectivePeriod": period} if period else {}


def _status(entry: Element, whole: Element | None, scope: Scope) -> str:
    """By negation, mood and statusCode; a completed act may still go on: then by its times at the date of the document."""
    mood, status = attribute(entry, "moodCode"), attribute(entry, "code", "statusCode")
    if attribute(entry, "negationInd").lower() == "true":
        return "not-taken"
    if status in _STATUS:
        return _STATUS[status]
    if mood not in {"EVN", ""}:
        return "intended"
    if attribute(entry, "code", "code") == "no-medication-info":
        return "unknown"
    if has_template(entry, *_GIVEN) or attribute(whole, "value") or acts.is_over(whole, scope):
        return "completed"
    if status == "active" or whole is not None or attribute(entry, "codeSystem", "code") == _ABSENT_UNKNOWN:
        return "active"
    only_dispensed = one(entry, "entryRelationship/supply") is not None
    return "active" if scope.section_code in _CURRENT and not only_dispensed else "unknown"


def _stopped(under: Qualifiers, scope: Scope, body: Json) -> None:
    """An observation that the treatment was stopped (MED-052), with its reason."""
    for part in list(under.observations):
        if attribute(part, "code", "code") != _STOP_OF_TREATMENT:
            continue
        reason = values.concept(one(part, "code"), scope) or {}
        words = (text(one(part, "value")), said(values.text_of(part, scope)))
        if any(words):
            reason["text"] = ": ".join(dict.fromkeys(word for word in words if word))
        body["status"] = "stopped"
        body.setdefault("statusReason", []).append(reason)
        under.observations.remove(part)
        scope.claim(part)


TRANSLATORS: dict[str, Callable[[Element, Scope], Json | None]] = {
    **{_FR + part: medication for part in ("26", "173", "151", "13", "42.3", "42.4", "42")},
    "1.2.840.10008.9.13": medication,
    "1.3.6.1.4.1.19376.1.5.3.1.1.13.3.2": medication,
    "1.3.6.1.4.1.19376.1.5.3.1.4.7": medication,
    "1.3.6.1.4.1.19376.1.5.3.1.4.8": medication,
    "2.16.840.1.113883.10.20.1.24": medication,
}
