"""Prescribed medicines as MedicationRequest.

Standard: CI-SIS eP-MED-DM, FR-Traitement-prescrit (1.2.250.1.213.1.1.3.83); IHE PHARM PRE Prescription Item
(1.3.6.1.4.1.19376.1.9.1.3.2), Supply request (….3.8), Substitution permission (….3.9.1); FHIR R4 MedicationRequest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import acts
from mappings.cda.templates.dosage import dosages, whole_time
from mappings.cda.templates.measures import amount_of, duration
from mappings.cda.templates.product import contain, extend, product
from mappings.cda.templates.qualifiers import fold_observations, is_void, qualifiers, said
from mappings.cda.templates.timing import span
from mappings.cda.walk import translate_each
from mappings.cda.xml import Element, attribute, has_template, one, text

Json = dict[str, Any]

SUPPLY = ("1.2.250.1.213.1.1.3.86", "1.3.6.1.4.1.19376.1.9.1.3.8")
SUBSTITUTION = ("1.2.250.1.213.1.1.3.87", "1.3.6.1.4.1.19376.1.9.1.3.9.1")
_PRESCRIPTION = "57833-6"
# An order whose statusCode is "completed" was placed (IHE PCC TF-2 6.3.4.16.4): for FHIR it is in force.
_STATUS = {"aborted": "stopped", "suspended": "on-hold", "held": "on-hold", "cancelled": "cancelled", "new": "draft"}
_INTENT = {"PRP": "proposal", "PRMS": "plan"}


def prescription(entry: Element, scope: Scope) -> Json | None:
    """One prescribed line."""
    if is_void(entry, scope):
        return None
    medicine, details = product(one(entry, "consumable"), scope)
    medicine = medicine or _named_by_text(entry, scope)
    if medicine is None:
        scope.find("CODE_MISSING", entry, "a prescribed line that names no medicine; stays in the document")
        scope.claim_all(entry)
        return None
    under = qualifiers(entry, scope)
    body: Json = {
        "status": _STATUS.get(attribute(entry, "code", "statusCode"), "active"),
        "intent": _INTENT.get(attribute(entry, "moodCode"), "order"),
        "medicationCodeableConcept": medicine,
    }
    if attribute(entry, "negationInd").lower() == "true":
        body["doNotPerform"] = True
    _ordered(entry, scope, body)
    if treated := span(whole_time(entry), scope):
        extend(body, {"url": "urn:vaguemestre:treatment-period", "valuePeriod": treated})
    taken = _taken(entry, scope, under.instructions)
    if taken:
        body["dosageInstruction"] = taken
    _dispensed(entry, scope, under.rest, body)
    under.put(body)
    extend(body, *fold_observations(under.observations, scope), *acts.marks(scope))
    contain(body, details)
    scope.claim(entry)
    translate_each((*under.observations, *under.rest), scope)
    return scope.add("MedicationRequest", entry, body)


def _named_by_text(entry: Element, scope: Scope) -> Json | None:
    words = said(values.text_of(entry, scope))
    return {"text": words} if words else None


def _ordered(entry: Element, scope: Scope, body: Json) -> None:
    """Who asked, when, and on which prescription."""
    group, requester, at = acts.group_identifier(scope), acts.author_of(entry, scope), acts.written_at(entry, scope)
    if group is not None:
        body["groupIdentifier"] = group
    if requester is not None:
        body["requester"] = requester
    if at:
        body["authoredOn"] = at


def _taken(entry: Element, scope: Scope, instructions: list[str]) -> list[Json]:
    """dosageInstruction; a dosing in words is looked for in the section's text beside the name of the medicine."""
    found = dosages(entry, scope)
    if not any("doseAndRate" in made or "text" in made or "period" in _repeat(made) or "when" in _repeat(made) for made in found):
        reference = attribute(entry, "value", "text/reference")
        words = said(text(scope.anchored(f"{reference}-posologie"))) if reference else ""
        if words:
            found = [{"text": words, **(found[0] if found else {})}]
        elif "timing" not in (found[0] if found else {}):
            scope.find("DOSAGE_IN_TEXT", entry, "the dosing is not coded; it stands in the text of the section alone")
    if instructions:
        found = found or [{}]
        found[0]["patientInstruction"] = "\n".join(instructions)
    return found


def _repeat(made: Json) -> Json:
    repeat: Json = made.get("timing", {}).get("repeat", {})
    return repeat


def _dispensed(entry: Element, scope: Scope, under: list[Element], body: Json) -> None:
    """dispenseRequest and substitution. `repeatNumber` counts deliveries after the first (0 = none), as FHIR does."""
    wanted: Json = {}
    act = acts.main_act(scope)
    if scope.header.code == _PRESCRIPTION and (valid := values.period(one(act, "effectiveTime"), scope)):
        wanted["validityPeriod"] = valid
    repeats = one(entry, "repeatNumber")
    number = values.number(attribute(repeats, "value") or attribute(repeats, "value", "high"))
    if isinstance(number, int) and 0 <= number < 1 << 31:
        wanted["numberOfRepeatsAllowed"] = number
    for part in [part for part in under if has_template(part, *SUPPLY, *SUBSTITUTION)]:
        under.remove(part)
        scope.claim(part)
        if has_template(part, *SUBSTITUTION):
            permitted = values.concept(one(part, "code"), scope)
            if permitted is not None:
                body["substitution"] = {"allowedCodeableConcept": permitted}
            continue
        quantity, lasts = amount_of(one(part, "quantity"), scope), duration(one(part, "expectedUseTime/width"), scope)
        wanted |= {"quantity": quantity} if quantity is not None else {}
        wanted |= {"expectedSupplyDuration": lasts} if lasts is not None else {}
    pharmacy = acts.wanted_performer(scope)
    if pharmacy is not None:
        wanted["performer"] = pharmacy
    if wanted:
        body["dispenseRequest"] = wanted


TRANSLATORS: dict[str, Callable[[Element, Scope], Json | None]] = {
    "1.2.250.1.213.1.1.3.83": prescription,
    "1.3.6.1.4.1.19376.1.9.1.3.2": prescription,
}
