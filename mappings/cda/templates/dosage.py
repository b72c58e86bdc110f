"""How a medicine is taken: dose, rate, route, site, limit and times of an administration as Dosage.

Standard: IHE PCC TF-2 6.3.4.16 (normal, tapered, split, conditional dosing: 1.3.6.1.4.1.19376.1.5.3.1.4.7.1, .8, .9, .10); CI-SIS
FR-Traitement-prescrit-subordonnee (1.2.250.1.213.1.1.3.83.1), FR-Traitement-subordonnee (….42.1); FHIR R4 Dosage.
"""

from __future__ import annotations

from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates.measures import amount_or_range, ratio
from mappings.cda.templates.product import extend
from mappings.cda.templates.qualifiers import qualifier, said
from mappings.cda.templates.timing import timing
from mappings.cda.xml import Element, attribute, every, one

Json = dict[str, Any]

_OF_THE_LINE = ("route", "site", "maxDosePerPeriod", "asNeededCodeableConcept", "extension")


def whole_time(entry: Element) -> Element | None:
    """The `effectiveTime` that says from when until when, or at which moment, all of it was: the first that says either."""
    for element in every(entry, "effectiveTime"):
        if attribute(element, "value") or attribute(element, "value", "low") or attribute(element, "value", "high"):
            return element
    return None


def dosages(entry: Element, scope: Scope, *, without: Element | None = None) -> list[Json]:
    """The Dosage of an administration, or one for each administration subordinate to it, by `sequenceNumber`.

    A subordinate one keeps what its parent alone says (route, site, limit, condition).

    `without` is an effectiveTime that is told elsewhere.
    """
    own = dosage(entry, scope, without=without)
    parts = _subordinate(entry)
    if not parts:
        return [own] if own else []
    inherited = {name: own[name] for name in _OF_THE_LINE if name in own}
    found = []
    if "doseAndRate" in own or "period" in own.get("timing", {}).get("repeat", {}):
        found.append(own)
    for number, part in parts:
        made = inherited | dosage(part, scope)
        if text := said(values.text_of(part, scope)):
            made["text"] = text
        if made:
            found.append({"sequence": number, **made} if number is not None else made)
        scope.claim_all(part)
    return found


def dosage(entry: Element, scope: Scope, *, without: Element | None = None) -> Json:
    """One administration as a Dosage, without its subordinate ones; {} when it says nothing of how it is taken."""
    happened = attribute(entry, "moodCode") == "EVN"
    made: Json = {}
    when = timing((element for element in every(entry, "effectiveTime") if element is not without), scope)
    if when is not None:
        made["timing"] = when
    for name, path in (("site", "approachSiteCode"), ("route", "routeCode")):
        concept = values.concept(one(entry, path), scope)
        if concept is not None:
            made[name] = concept
    given = amount_or_range(one(entry, "doseQuantity"), scope, "dose", happened=happened)
    given |= amount_or_range(one(entry, "rateQuantity"), scope, "rate", happened=happened)
    if given:
        made["doseAndRate"] = [given]
    limits = [found for element in every(entry, "maxDoseQuantity") if (found := ratio(element, scope)) is not None]
    if limits:
        made["maxDosePerPeriod"] = limits[0]
        extend(made, *({"url": "urn:vaguemestre:max-dose-per-period", "valueRatio": other} for other in limits[1:]))
    _conditions(entry, scope, made)
    return made


def _conditions(entry: Element, scope: Scope, made: Json) -> None:
    """`precondition`: in words, the medicine is taken when they hold; a criterion with a value is a check that was made."""
    words: list[str] = []
    codings: list[Json] = []
    for criterion in every(entry, "precondition/criterion"):
        code, value = one(criterion, "code"), one(criterion, "value")
        if code is not None and value is not None and (found := qualifier("urn:vaguemestre:precondition", code, value, scope)):
            extend(made, found)
            continue
        concept = values.concept(code, scope) or {}
        codings += concept.get("coding", ())
        if text := said(values.text_of(criterion, scope)) or concept.get("text", ""):
            words.append(text)
    if words or codings:
        made["asNeededCodeableConcept"] = {
            name: found for name, found in (("coding", codings), ("text", "; ".join(words))) if found
        }


def _subordinate(entry: Element) -> list[tuple[int | None, Element]]:
    found = []
    for relation in every(entry, "entryRelationship"):
        number = values.number(attribute(relation, "value", "sequenceNumber"))
        if attribute(relation, "typeCode") == "COMP":
            found += [
                (number if isinstance(number, int) and 0 < number < 1 << 31 else None, part)
                for part in every(relation, "substanceAdministration")
            ]
    return sorted(found, key=lambda row: (row[0] is None, row[0] or 0))
