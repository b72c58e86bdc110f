"""OBX-5 as FHIR value[x], and the reference range of OBX-7.

| OBX-2 | becomes |
|---|---|
| NM | valueQuantity (a `<` or `>` before the number is its comparator, a decimal comma is read); no number: valueString |
| SN | valueQuantity with comparator, valueRange, valueRatio; else valueString |
| CE CWE CNE CF IS ID | valueCodeableConcept (IS, ID: text) |
| ST TX FT | valueString, formatting commands as line ends |
| DT TS DTM | valueDateTime |
| TM | valueTime |
| any other | valueString, components joined by a blank |

Several repetitions of one OBX-5 become components with the code of the observation, but for texts, whose repetitions are lines.

Standard: HL7 v2.5.1 §7.4.2; FHIR R4 Observation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hub.formats.content import text_bytes
from hub.formats.er7 import Message
from hub.formats.ts import parse_ts
from hub.model.site import Site
from mappings.hl7v2.ce import full_concept
from mappings.hl7v2.line import Composite
from mappings.hl7v2.order_groups import Part
from mappings.hl7v2.ucum import Units

Json = dict[str, Any]

VALUES = ("valueQuantity", "valueRange", "valueRatio", "valueCodeableConcept", "valueString", "valueDateTime", "valueTime")
TEXTS = frozenset({"TX", "FT", "ST"})
_CODED = frozenset({"CE", "CWE", "CNE", "CF"})
_DATES = frozenset({"DT", "TS", "DTM"})
_NUMBER = re.compile(r"(<=|>=|<|>|≤|≥)?\s*([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d{1,2})?)", re.ASCII)
_RANGE = re.compile(r"([+-]?\d+(?:[.,]\d+)?)\s*(?:-|–|à|to)\s*([+-]?\d+(?:[.,]\d+)?)", re.ASCII)
_TIME = re.compile(r"(\d\d)(\d\d)(?:(\d\d)(?:\.\d+)?)?(?:[+-]\d{4})?", re.ASCII)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_COMPARATORS = {"≤": "<=", "≥": ">=", "<": "<", ">": ">", "<=": "<=", ">=": ">="}
_MOST_DIGITS = 15  # a double keeps these


def obx_value(part: Part, message: Message, site: Site, units: Units) -> Json:
    """What OBX-5 says, as `value[x]` or `component` values; empty when it says nothing. Never raises."""
    fields, kind = part.fields, part.fields.text(2).upper()
    if not fields.raw(5) or fields.is_null(5):
        return {}
    if kind in TEXTS or not kind:
        text = obx_text(part, message)
        return {"valueString": text} if text else {}
    reader = _reader(kind, fields.one(6), site, units)
    found = [value for one in fields.all(5) if not one.is_empty() and (value := reader(one))]
    if not found:
        return {}
    return found[0] if len(found) == 1 else {"component": found}


def obx_text(part: Part, message: Message) -> str:
    """A text OBX-5, repetitions as lines; carets and ampersands in it are text."""
    start, end = part.segment.span(5)
    separator = message.separators.repetition
    raw = message.raw[start:end]
    pieces = raw.split(separator) if separator and part.fields.text(2).upper() != "ST" else [raw]
    return clean("\n".join(text_bytes(piece, message).decode(errors="replace") for piece in pieces))


def number(text: str) -> tuple[str, int | float] | None:
    """Comparator and number; None when it is none, or has more digits than a double keeps."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        return None
    if len(found[2]) > _MOST_DIGITS and sum(one.isdigit() for one in found[2].lower().partition("e")[0]) > _MOST_DIGITS:
        return None
    written = found[2].replace(",", ".")
    value = float(written)
    if value in (float("inf"), float("-inf")):
        return None
    return _COMPARATORS.get(found[1] or "", ""), int(value) if written.lstrip("+-").isdigit() else value


def reference_range(text: str, unit: str, shown: str, units: Units) -> Json | None:
    """OBX-7: low and high where it reads `a-b`, `<b`, `>a` (with `=` or not); always its text."""
    text = clean(text)
    if not text:
        return None
    made: Json = {"text": text}
    if (between := _RANGE.fullmatch(text)) is not None:
        made["low"], made["high"] = (_limit(one, unit, shown, units) for one in between.groups())
    elif (one := number(text)) is not None and one[0]:
        made["high" if one[0][0] == "<" else "low"] = units.quantity(one[1], unit, shown)
    return made


def clean(text: str) -> str:
    """Without control characters, which a FHIR string cannot hold."""
    return _CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def _reader(kind: str, unit: Composite, site: Site, units: Units) -> Callable[[Composite], Json]:
    code, shown = unit.text(1), unit.text(2)
    if kind == "NM":
        return lambda one: _nm(one, code, shown, units)
    if kind == "SN":
        return lambda one: _sn(one, code, shown, units)
    if kind in _CODED:
        return lambda one: {"valueCodeableConcept": concept} if (concept := full_concept(one)) is not None else {}
    if kind in ("IS", "ID"):
        return lambda one: {"valueCodeableConcept": {"text": text}} if (text := clean(one.text())) else {}
    if kind in _DATES:
        return lambda one: _date(one, site)
    return _tm if kind == "TM" else _other


def _nm(one: Composite, unit: str, shown: str, units: Units) -> Json:
    found = number(one.text())
    if found is None:
        return _other(one)
    comparator, value = found
    quantity = units.quantity(value, unit, shown)
    return {"valueQuantity": {"comparator": comparator, **quantity} if comparator else quantity}


def _sn(one: Composite, unit: str, shown: str, units: Units) -> Json:
    sign, first, between, second = (one.text(n) for n in (1, 2, 3, 4))
    low, high = number(first), number(second)
    if low is None or low[0]:
        return _other(one)
    quantity = units.quantity(low[1], unit, shown)
    if not between and not second:
        if sign in ("", "="):
            return {"valueQuantity": quantity}
        return {"valueQuantity": {"comparator": _COMPARATORS[sign], **quantity}} if sign in _COMPARATORS else _other(one)
    if sign or high is None or high[0]:
        return _other(one)
    if between == "-":
        return {"valueRange": {"low": quantity, "high": units.quantity(high[1], unit, shown)}}
    if between in (":", "/"):
        return {"valueRatio": {"numerator": quantity, "denominator": {"value": high[1]}}}
    return _other(one)


def _date(one: Composite, site: Site) -> Json:
    said = parse_ts(one.text(), site.timezone).fhir_datetime()
    return {"valueDateTime": said} if said else _other(one)


def _tm(one: Composite) -> Json:
    found = _TIME.fullmatch(one.text())
    if found is None or int(found[1]) > 23 or int(found[2]) > 59 or int(found[3] or 0) > 59:
        return _other(one)
    return {"valueTime": f"{found[1]}:{found[2]}:{found[3] or '00'}"}


def _other(one: Composite) -> Json:
    text = clean(" ".join(part for n in range(1, 21) if (part := one.text(n))))
    return {"valueString": text} if text else {}


def _limit(text: str, unit: str, shown: str, units: Units) -> Json:
    found = number(text)
    return units.quantity(found[1], unit, shown) if found is not None else {}
