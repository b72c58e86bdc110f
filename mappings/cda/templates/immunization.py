"""Vaccinations as Immunization, recommended ones as ImmunizationRecommendation.

Standard: CI-SIS VAC, FR-Vaccination (1.2.250.1.213.1.1.3.45), FR-Vaccin-recommande (….47), FR-Rang-de-la-vaccination (….82); IHE
PCC Immunizations (1.3.6.1.4.1.19376.1.5.3.1.4.12, .12.2); FHIR R4; FR Core 2.1 fr-core-immunization (series, doseNumber).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import acts
from mappings.cda.templates.measures import amount_of
from mappings.cda.templates.product import contain, extend, product
from mappings.cda.templates.qualifiers import PROBLEM, Qualifiers, fold_observations, is_void, qualifiers, said
from mappings.cda.walk import translate_each
from mappings.cda.xml import Element, attribute, has_template, one

Json = dict[str, Any]

RANK = ("1.2.250.1.213.1.1.3.82", "2.16.840.1.113883.10.20.1.46")
_RANK_CODE = "30973-2"
_SERIES = frozenset({"INITIMMUNIZ", "BOOSTER"})
_LOINC = "http://loinc.org"
_DUE = {"start": ("30981-5", "Earliest date to give"), "end": ("59777-3", "Latest date to give immunization")}
_ADMINISTERING = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0443", "code": "AP"}]}
_STATUS = "http://terminology.hl7.org/CodeSystem/immunization-recommendation-status"


def immunization(entry: Element, scope: Scope) -> Json | None:
    """One vaccination, given or not."""
    if is_void(entry, scope):
        return None
    if attribute(entry, "moodCode") not in {"EVN", ""}:
        return recommendation(entry, scope)
    vaccine, details = _vaccine(entry, scope)
    if vaccine is None:
        return None
    under = qualifiers(entry, scope)
    refused = attribute(entry, "negationInd").lower() == "true"
    body: Json = {"status": "not-done" if refused else "completed", "vaccineCode": vaccine}
    at = values.start(entry, scope)
    body |= {"occurrenceDateTime": at} if at else {"occurrenceString": "unknown"}
    _batch(body, details)
    _given(entry, scope, body)
    rank = _rank(under, scope)
    series = attribute(entry, "code", "code")
    if rank is not None or series in _SERIES:
        dose: Json = {"doseNumberPositiveInt": rank} if rank is not None else {"doseNumberString": "unknown"}
        body["protocolApplied"] = [{"series": series, **dose} if series else dose]
    reactions = _reactions(under, scope)
    if reactions:
        body["reaction"] = reactions
    under.put(body)
    extend(body, *fold_observations(under.observations, scope))
    scope.claim(entry)
    translate_each((*under.observations, *under.rest), scope)
    return scope.add("Immunization", entry, body, at=f"{at} {rank}" if rank is not None else None)


def _vaccine(entry: Element, scope: Scope) -> tuple[Json | None, Json | None]:
    vaccine, details = product(one(entry, "consumable"), scope)
    if vaccine is None and (words := said(values.text_of(entry, scope))):
        vaccine = {"text": words}
    if vaccine is None:
        scope.find("CODE_MISSING", entry, "a vaccination that names no vaccine; stays in the document")
        scope.claim_all(entry)
    return vaccine, details


def _batch(body: Json, details: Json | None) -> None:
    """Lot, expiry and maker where Immunization has them; what else is known of the product is contained."""
    details = dict(details or {})
    batch = details.pop("batch", {})
    if lot := batch.get("lotNumber"):
        body["lotNumber"] = lot
    if expires := batch.get("expirationDate"):
        body["expirationDate"] = expires[:10]
    if maker := details.pop("manufacturer", None):
        body["manufacturer"] = maker
    contain(body, details or None)


def _given(entry: Element, scope: Scope, body: Json) -> None:
    """Site, route, dose, who gave it, and when that was written down."""
    for name, path in (("site", "approachSiteCode"), ("route", "routeCode")):
        concept = values.concept(one(entry, path), scope)
        if concept is not None:
            body[name] = concept
    dose = amount_of(one(entry, "doseQuantity"), scope)
    if dose is not None:
        body["doseQuantity"] = dose
    actors = values.performers(entry)
    if actors:
        body["performer"] = [{"function": _ADMINISTERING, "actor": actor} for actor in actors]
    if one(entry, "informant/relatedEntity") is not None:
        body["primarySource"] = False
    elif actors:
        body["primarySource"] = True
    if recorded := values.moment(one(entry, "author/time"), scope):
        body["recorded"] = recorded


def _rank(under: Qualifiers, scope: Scope) -> int | None:
    """The rank of the dose in its series (LOINC 30973-2); None when it is unsaid."""
    found = None
    for part in [*under.rest, *under.observations]:
        if has_template(part, *RANK) or attribute(part, "code", "code") == _RANK_CODE:
            (under.rest if part in under.rest else under.observations).remove(part)
            scope.claim(part)
            number = values.number(attribute(part, "value", "value"))
            if isinstance(number, int) and 0 < number < 1 << 31:
                found = number
            elif attribute(part, "value", "value"):
                scope.find("VALUE_INVALID", part, "not the rank of a dose; left out")
    return found


def _reactions(under: Qualifiers, scope: Scope) -> list[Json]:
    """What followed (FR-Probleme under CAUS): an Observation each, to which the Immunization refers."""
    made = []
    for part in [part for part in under.rest if has_template(part, *PROBLEM)]:
        under.rest.remove(part)
        what = values.concept(one(part, "value"), scope)
        if what is None and (words := said(values.text_of(part, scope))):
            what = {"text": words}
        if what is None:
            scope.left(part, "a reaction that is not named; stays in the document")
            continue
        code = values.concept(one(part, "code"), scope) or {"text": "reaction"}
        at = values.start(part, scope)
        happened: Json = {"status": "final", "code": code, **({"effectiveDateTime": at} if at else {})}
        if attribute(part, "negationInd").lower() == "true":
            scope.left(part, "a reaction that did not take place; stays in the document")
            continue
        happened["valueCodeableConcept"] = what
        reference = scope.add("Observation", part, happened)
        made.append({**({"date": at} if at else {}), "detail": reference})
    return made


def recommendation(entry: Element, scope: Scope) -> Json | None:
    """One vaccination that is to come."""
    if is_void(entry, scope):
        return None
    if attribute(entry, "negationInd").lower() == "true":
        scope.left(entry, "a vaccination that is not to be given; stays in the document")
        return None
    vaccine, details = _vaccine(entry, scope)
    if vaccine is None:
        return None
    if not (at := acts.written_at(entry, scope)):
        scope.left(entry, "a recommendation of no date; stays in the document")
        return None
    under = qualifiers(entry, scope)
    advice: Json = {"vaccineCode": [vaccine], "forecastStatus": {"coding": [{"system": _STATUS, "code": "due"}]}}
    dates = _due(entry, scope)
    if dates:
        advice["dateCriterion"] = dates
    rank = _rank(under, scope)
    if rank is not None:
        advice["doseNumberPositiveInt"] = rank
    if (series := attribute(entry, "code", "code")) in _SERIES:
        advice["series"] = series
    if under.notes:
        advice["description"] = "\n".join(note["text"] for note in under.notes)
    route, dose = values.concept(one(entry, "routeCode"), scope), amount_of(one(entry, "doseQuantity"), scope)
    extend(advice, *([{"url": "urn:vaguemestre:route", "valueCodeableConcept": route}] if route is not None else ()))
    extend(advice, *([{"url": "urn:vaguemestre:dose", "valueQuantity": dose}] if dose is not None else ()))
    body: Json = {"date": at, "recommendation": [advice]}
    extend(body, *under.marks, *fold_observations(under.observations, scope))
    contain(body, details)
    scope.claim(entry)
    translate_each((*under.observations, *under.rest), scope)
    first = (vaccine.get("coding") or [{}])[0]
    about = f"{first.get('system', '')}|{first.get('code', '')}" if first else vaccine["text"]
    return scope.add("ImmunizationRecommendation", entry, body, about=about, at=dates[0]["value"] if dates else "")


def _due(entry: Element, scope: Scope) -> list[Json]:
    element = one(entry, "effectiveTime")
    if moment := values.moment(element, scope):
        return [_criterion("30980-7", "Date vaccine due", moment)]
    period = values.period(element, scope)
    return [_criterion(*_DUE[end], at) for end, at in period.items()]


def _criterion(code: str, display: str, value: str) -> Json:
    return {"code": {"coding": [{"system": _LOINC, "code": code, "display": display}]}, "value": value}


TRANSLATORS: dict[str, Callable[[Element, Scope], Json | None]] = {
    "1.2.250.1.213.1.1.3.47": recommendation,
    "1.3.6.1.4.1.19376.1.5.3.1.4.12.2": recommendation,
    "1.2.250.1.213.1.1.3.45": immunization,
    "1.3.6.1.4.1.19376.1.5.3.1.4.12": immunization,
}
