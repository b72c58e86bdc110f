"""Amounts as medicines and devices write them: packages, doses from … to …, so much in so long.

Standard: HL7 v3 PQ, IVL_PQ, RTO; UCUM; EDQM Standard Terms (0.4.0.127.0.16.1.1.2.1) as units of packages (CI-SIS eP-MED-DM).
"""

from __future__ import annotations

import re
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.xml import Element, attribute, one
from mappings.hl7v2.ucum import UCUM

Json = dict[str, Any]

EDQM = "http://standardterms.edqm.eu"
_EDQM_CODE = re.compile(r"\d{8}", re.ASCII)
TIME_UNITS = frozenset({"s", "min", "h", "d", "wk", "mo", "a"})
_DAYS = frozenset({"j", "J", "jour", "jours"})


def amount_of(element: Element | None, scope: Scope) -> Json | None:
    """A PQ as a Quantity; a unit of eight digits is an EDQM package, not a unit of UCUM."""
    unit = attribute(element, "unit")
    if element is None or not _EDQM_CODE.fullmatch(unit):
        return values.quantity(element, scope)
    value = values.number(attribute(element, "value"))
    if value is None:
        scope.find("VALUE_INVALID", element, "not a number; left out")
        return None
    return {"value": value, "system": EDQM, "code": unit}


def duration(element: Element | None, scope: Scope) -> Json | None:
    """A PQ of time as a Duration of UCUM; None when it is none.

    Findings: UNIT_NOT_UCUM (another unit; a French `j` is read as day), VALUE_INVALID.
    """
    if element is None or not (said := attribute(element, "value")):
        return None
    value, unit = values.number(said), attribute(element, "unit")
    if value is None or value < 0:
        scope.find("VALUE_INVALID", element, "not a length of time; left out")
        return None
    if unit in _DAYS:
        scope.find("UNIT_NOT_UCUM", element, "the unit of a day is d in UCUM; read as a day")
        unit = "d"
    if unit not in TIME_UNITS:
        scope.find("UNIT_NOT_UCUM", element, "not a unit of time; left out")
        return None
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def ratio(element: Element | None, scope: Scope) -> Json | None:
    """An RTO as a Ratio, its denominator perhaps a time; None unless both parts are said."""
    if element is None:
        return None
    over, under = one(element, "numerator"), one(element, "denominator")
    timed = attribute(under, "unit") in TIME_UNITS | _DAYS
    numerator = values.quantity(over, scope)
    denominator = duration(under, scope) if timed else values.quantity(under, scope)
    if numerator is None or denominator is None:
        return None
    return {"numerator": numerator, "denominator": denominator}


def amount_or_range(element: Element | None, scope: Scope, name: str, *, happened: bool) -> Json:
    """`doseQuantity`, `rateQuantity` → `{"<name>Quantity": …}`, or `{"<name>Range": …}` where low and high differ.

    One end alone is what was given when it happened, and a limit when it is still to be.
    """
    if element is None:
        return {}
    if attribute(element, "value"):
        made = amount_of(element, scope)
        return {f"{name}Quantity": made} if made is not None else {}
    ends = {end: made for end in ("low", "high") if (made := amount_of(one(element, end), scope)) is not None}
    if not ends:
        return {}
    low, high = ends.get("low"), ends.get("high")
    if low == high or (happened and len(ends) == 1):
        return {f"{name}Quantity": low or high}
    return {f"{name}Range": ends}
