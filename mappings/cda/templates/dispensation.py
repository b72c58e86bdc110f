"""Dispensed medicines as MedicationDispense.

Standard: CI-SIS eDISP-MED, FR-Traitement-dispense (1.2.250.1.213.1.1.3.204), FR-Dispensation (….44); IHE PHARM DIS Dispense Item
(1.3.6.1.4.1.19376.1.9.1.3.4), Prescription Item Reference (….3.11), Substitution act (….3.9.2); IHE PCC Supply Entry
(1.3.6.1.4.1.19376.1.5.3.1.4.7.3); FHIR R4 MedicationDispense.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import acts
from mappings.cda.templates.dosage import dosages
from mappings.cda.templates.measures import amount_of, duration
from mappings.cda.templates.product import contain, extend, product
from mappings.cda.templates.qualifiers import Qualifiers, fold_observations, is_void, qualifiers, said
from mappings.cda.walk import translate_each
from mappings.cda.xml import V3, Element, attribute, has_template, local_name, one, text

Json = dict[str, Any]

PRESCRIBED_LINE = ("1.2.250.1.213.1.1.3.90", "1.3.6.1.4.1.19376.1.9.1.3.11")
SUBSTITUTED = ("1.2.250.1.213.1.1.3.206", "1.3.6.1.4.1.19376.1.9.1.3.9.2")
_DISPENSATION = "60593-1"
_STATUS = {"active": "in-progress", "aborted": "stopped", "cancelled": "cancelled", "suspended": "on-hold", "held": "on-hold"}


def dispensation(entry: Element, scope: Scope) -> Json | None:
    """One dispensed line."""
    if is_void(entry, scope):
        return None
    if attribute(entry, "moodCode") not in {"EVN", ""} or attribute(entry, "negationInd").lower() == "true":
        scope.left(entry, "a supply that is not one that took place; stays in the document")
        return None
    medicine, details = _medicine(entry, scope)
    if medicine is None:
        scope.find("CODE_MISSING", entry, "a dispensed line that names no medicine; stays in the document")
        scope.claim_all(entry)
        return None
    under = qualifiers(entry, scope)
    body: Json = {
        "status": _STATUS.get(attribute(entry, "code", "statusCode"), "completed"),
        "medicationCodeableConcept": medicine,
    }
    _handed_over(entry, scope, body)
    _amounts(entry, scope, body)
    _read_parts(under, scope, body)
    if under.instructions:
        body.setdefault("dosageInstruction", [{}])[0]["patientInstruction"] = "\n".join(under.instructions)
    if under.notes:
        body["note"] = under.notes
    extend(body, *under.marks, *fold_observations(under.observations, scope))
    prescriber = values.author(entry) if "authorizingPrescription" not in body else None
    if prescriber is not None:
        extend(body, {"url": "urn:vaguemestre:prescriber", "valueReference": prescriber})
    contain(body, details)
    scope.claim(entry)
    translate_each((*under.observations, *under.rest), scope)
    return scope.add("MedicationDispense", entry, body)


def _medicine(entry: Element, scope: Scope) -> tuple[Json | None, Json | None]:
    """`product`; of a supply under a treatment or a vaccination, what that is about; else the entry's own words."""
    medicine, details = product(one(entry, "product"), scope)
    relation = entry.getparent()
    above = None if relation is None else relation.getparent()
    if medicine is None and above is not None and local_name(above) == "substanceAdministration":
        medicine, details = product(one(above, "consumable"), scope)
    if medicine is None and (words := _words(entry, details, scope)):
        medicine = {"text": words}
    return medicine, details


def _words(entry: Element, details: Json | None, scope: Scope) -> str:
    """The entry's own words, which examples of the volet put beside the anchor that they name; at least its form."""
    beside = scope.anchored(f"{attribute(entry, 'value', 'text/reference')}-delivre")
    form: Json = (details or {}).get("form", {})
    return said(values.text_of(entry, scope)) or said(text(beside)) or str(form.get("text", ""))


def _handed_over(entry: Element, scope: Scope, body: Json) -> None:
    """Who handed it over and when; in a dispensing document the act that it documents says so for every line."""
    act = acts.main_act(scope) if scope.header.code == _DISPENSATION else None
    at = values.start(entry, scope) or values.start(entry, scope, "performer/time")
    at = at or ("" if act is None else values.start(act, scope))
    if at:
        body["whenHandedOver"] = at
    actors = values.performers(entry) or ([] if act is None else values.performers(act))
    if actors:
        body["performer"] = [{"actor": actor} for actor in actors]


def _amounts(entry: Element, scope: Scope, body: Json) -> None:
    quantity, lasts = amount_of(one(entry, "quantity"), scope), duration(one(entry, "expectedUseTime/width"), scope)
    if quantity is not None:
        body["quantity"] = quantity
    if lasts is not None:
        body["daysSupply"] = lasts


def _read_parts(under: Qualifiers, scope: Scope, body: Json) -> None:
    """The prescribed line, the substitution, the dosing."""
    for part in list(under.rest):
        if has_template(part, *PRESCRIBED_LINE):
            _prescribed(part, body)
            scope.claim_all(part)
        elif has_template(part, *SUBSTITUTED):
            kind = values.concept(one(part, "code"), scope)
            done = attribute(part, "code", "code") not in {"N", ""}
            body["substitution"] = {"wasSubstituted": done, **({"type": kind} if kind is not None else {})}
            scope.claim(part)
        elif local_name(part) == "substanceAdministration":
            body.setdefault("dosageInstruction", []).extend(_dosing(part, scope))
        else:
            continue
        under.rest.remove(part)


def _dosing(part: Element, scope: Scope) -> list[Json]:
    found = dosages(part, scope)
    if words := said(values.text_of(part, scope)):
        found = found or [{}]
        found[0].setdefault("text", words)
    scope.claim_all(part)
    return found


def _prescribed(part: Element, body: Json) -> None:
    """The line of the prescription by its own id, the document by an extension, and who prescribed."""
    lines = values.identifiers(part)
    if lines:
        body["authorizingPrescription"] = [{"type": "MedicationRequest", "identifier": line} for line in lines]
    for element in part.iterfind(f"{V3}reference/{V3}externalDocument/{V3}id"):
        if (document := values.identifier(element)) is not None:
            extend(body, {"url": "urn:vaguemestre:prescription-document", "valueIdentifier": document})
    prescriber = values.author(part)
    if prescriber is not None:
        extend(body, {"url": "urn:vaguemestre:prescriber", "valueReference": prescriber})


def prescribed_line(entry: Element, scope: Scope) -> None:
    """A reference to a prescribed line that stands under no supply: nothing was dispensed."""
    scope.left(entry, "a reference to a prescription; stays in the document")


TRANSLATORS: dict[str, Callable[[Element, Scope], Json | None]] = {
    "1.2.250.1.213.1.1.3.204": dispensation,
    "1.3.6.1.4.1.19376.1.9.1.3.4": dispensation,
    "1.2.250.1.213.1.1.3.44": dispensation,
    "1.3.6.1.4.1.19376.1.5.3.1.4.7.3": dispensation,
    "1.2.250.1.213.1.1.3.90": prescribed_line,
    "1.3.6.1.4.1.19376.1.9.1.3.11": prescribed_line,
}
