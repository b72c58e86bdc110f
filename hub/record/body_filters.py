"""Search parameters without rows of their own: looked up in the bodies that the others leave.

Standard: FHIR R4 search §3.1.1.4 (token, date with its prefixes and ranges, quantity, string; modifiers).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from hub.model.identity import comparable
from hub.model.record_change import Json
from hub.record.definitions import inside, values_at
from hub.record.instants import span
from hub.record.page import SearchRefused

Keep = Callable[[Json], bool]  # whether a body is meant
Code = tuple[str | None, str]  # system (None: any) and code

_QUANTITY = re.compile(r"(eq|ne|ge|gt|le|lt|ap)?([+-]?\d{1,20}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,2})?)((?:\|[^|]*){0,2})", re.ASCII)
_FIRST, _LAST = "", "9999"


def has_code(paths: Sequence[str], asked: Sequence[Code]) -> Keep:
    """Bodies that hold one of these codes, codings or identifiers."""
    anywhere = {code for system, code in asked if system is None}
    exactly = {one for one in asked if one[0] is not None}

    def keep(body: Json) -> bool:
        return any(
            code in anywhere or (system, code) in exactly
            for path in paths
            for one in values_at(body, path)
            for system, code in codes(one)
        )

    return keep


def codes(value: Any) -> list[tuple[str, str]]:
    """System and code of what stands where a token is searched."""
    if isinstance(value, str):
        return [("", value)]
    if isinstance(value, bool):
        return [("", str(value).lower())]
    if not isinstance(value, dict):
        return []
    if "coding" in value:
        return [pair for coding in value["coding"] for pair in codes(coding)]
    code = value.get("code") or value.get("value")
    return [(str(value.get("system", "")), str(code))] if code else []


def has_number(paths: Sequence[str], asked: Sequence[Code]) -> Keep:
    """Bodies with a reference to who has one of these identifiers."""
    matches = has_code(("identifier",), asked)

    def keep(body: Json) -> bool:
        return any(matches(part) for path in paths for one in values_at(body, path) for part in inside(body, one))

    return keep


def has_flag(ending: str, wanted: frozenset[str]) -> Keep:
    """Bodies whose extension with that end of its address is true, or for `false` is not."""

    def keep(body: Json) -> bool:
        found = any(one.get("valueBoolean") is True for one in body.get("extension", ()) if str(one.get("url")).endswith(ending))
        return str(found).lower() in wanted

    return keep


def has_text(paths: Sequence[str], asked: Sequence[str], *, exact: bool) -> Keep:
    """Bodies with a text that begins so, accents and case aside; `exact`: with that very text."""
    wanted = tuple(asked) if exact else tuple(comparable(text) for text in asked)

    def keep(body: Json) -> bool:
        found = [one for path in paths for one in values_at(body, path) if isinstance(one, str)]
        return any(one in wanted if exact else comparable(one).startswith(wanted) for one in found)

    return keep


def has_date(name: str, paths: Sequence[str], asked: Sequence[tuple[str, str]]) -> Keep:
    """Bodies with a date or period that stands to one of the asked (prefix, date) as its prefix says.

    Raises:
        SearchRefused: no date.
    """
    checks = []
    for prefix, text in asked:
        ends = span(text)
        if ends is None:
            raise SearchRefused(name)
        checks.append((_COMPARED[prefix], ends))

    def keep(body: Json) -> bool:
        spans = [found for path in paths for one in values_at(body, path) if (found := _range(one)) is not None]
        return any(check(found, ends) for found in spans for check, ends in checks)

    return keep


Range = tuple[str, str]
_COMPARED: dict[str, Callable[[Range, Range], bool]] = {
    "eq": lambda found, asked: asked[0] <= found[0] and found[1] <= asked[1],
    "ne": lambda found, asked: not (asked[0] <= found[0] and found[1] <= asked[1]),
    "gt": lambda found, asked: found[1] > asked[1],
    "ge": lambda found, asked: found[1] > asked[1] or asked[0] <= found[0] < asked[1],
    "lt": lambda found, asked: found[0] < asked[0],
    "le": lambda found, asked: found[0] < asked[0] or asked[0] < found[1] <= asked[1],
    "sa": lambda found, asked: found[0] >= asked[1],
    "eb": lambda found, asked: found[1] <= asked[0],
}


def _range(value: Any) -> Range | None:
    if isinstance(value, str):
        return span(value)
    if not isinstance(value, dict) or not (value.get("start") or value.get("end")):
        return None
    start, end = (span(str(value.get(name, ""))) for name in ("start", "end"))
    return (start[0] if start else _FIRST), (end[1] if end else _LAST)


def has_quantity(name: str, paths: Sequence[str], asked: Sequence[str]) -> Keep:
    """Bodies with a quantity of the asked size, `[prefix]number|system|code`; units are compared, not converted.

    Of a value that is only said to be below or above a number, what follows from that for sure.

    Raises:
        SearchRefused: no number, or more than system and code behind it.
    """
    checks = [_quantity(name, text) for text in asked]

    def keep(body: Json) -> bool:
        return any(check(one) for path in paths for one in values_at(body, path) if isinstance(one, dict) for check in checks)

    return keep


def _quantity(name: str, text: str) -> Keep:
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise SearchRefused(name)
    number, unit = Decimal(found[2]), found[3].split("|")[1:]
    prefix, half = found[1] or "eq", Decimal((0, (5,), int(Decimal(found[2]).as_tuple().exponent) - 1))

    def keep(quantity: Json) -> bool:
        try:
            value = Decimal(str(quantity["value"]))
        except (KeyError, InvalidOperation):
            return False
        return _unit_is(quantity, unit) and _sized(prefix, value, str(quantity.get("comparator", "")), number, half)

    return keep


def _unit_is(quantity: Json, unit: Sequence[str]) -> bool:
    if not any(unit):
        return True
    system, code = ("", unit[0]) if len(unit) == 1 else unit
    if system and quantity.get("system") != system:
        return False
    return not code or code == quantity.get("code") or (not system and code == quantity.get("unit"))


def _sized(prefix: str, value: Decimal, comparator: str, number: Decimal, half: Decimal) -> bool:
    below, above = comparator[:1] == "<", comparator[:1] == ">"
    if prefix in ("eq", "ne", "ap"):
        near = abs(number) / 10 if prefix == "ap" else half
        return not comparator and (abs(value - number) <= near if prefix == "ap" else -near <= value - number < near) != (
            prefix == "ne"
        )
    if prefix in ("gt", "ge"):
        enough = value > number or (value == number and (prefix == "ge" or comparator == ">"))
        return enough and not below
    enough = value < number or (value == number and (prefix == "le" or comparator == "<"))
    return enough and not above


def is_missing(paths: Sequence[str], missing: bool) -> Keep:
    """Bodies without a value at any of the paths, or with one."""
    return lambda body: missing is not any(values_at(body, path) for path in paths)


def refers(paths: Sequence[str], references: frozenset[str], numbers: frozenset[str]) -> Keep:
    """Bodies with a reference by one of these addresses, or to one of these numbers (`system|value`, or a bare value)."""

    def keep(body: Json) -> bool:
        for one in (one for path in paths for one in values_at(body, path) if isinstance(one, dict)):
            number = one.get("identifier") or {}
            if one.get("reference") in references or f"{number.get('system', '')}|{number.get('value')}" in numbers:
                return True
            if number.get("value") in references:
                return True
        return False

    return keep
