"""When a medicine is taken: effectiveTime of an administration as a Timing.

Standard: HL7 v3 IVL_TS, PIVL_TS, EIVL_TS, SXPR_TS; IHE PCC TF-2 6.3.4.16 (Medications); FHIR R4 Timing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates.measures import duration
from mappings.cda.xml import Element, attribute, every, one

Json = dict[str, Any]

_MEALS = frozenset({"C", "CM", "CD", "CV"})
EVENTS = _MEALS | frozenset(
    ["HS", "WAKE", "AC", "ACM", "ACD", "ACV", "PC", "PCM", "PCD", "PCV", "MORN", "NOON", "AFT", "EVE", "NIGHT", "PHS"]
)
_TIMING_EVENT = "http://terminology.hl7.org/CodeSystem/v3-TimingEvent"
_HOURS = {"h": 1, "min": 1 / 60, "d": 24}
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "wk": 604_800}
_MAX_OFFSET_MINUTES = 60 * 24 * 366


def timing(times: Iterable[Element], scope: Scope) -> Json | None:
    """Several `effectiveTime` of one administration as one Timing; None when they say nothing.

    What a Timing cannot hold (an exclusion, a second frequency) is told as LEFT_IN_DOCUMENT.
    """
    made: Json = {}
    for element in times:
        _read(element, scope, made)
    repeat, code = made.get("repeat", {}), made.get("code", {})
    found = {name: said for name, said in (("event", made.get("event")), ("repeat", repeat), ("code", code)) if said}
    return found or None


def _read(element: Element, scope: Scope, made: Json) -> None:
    if attribute(element, "operator") in {"E", "P"}:
        scope.find("LEFT_IN_DOCUMENT", element, "times that are left out of a frequency; they stay in the document")
    elif parts := every(element, "comp"):
        for part in parts:
            _read(part, scope, made)
    elif one(element, "period") is not None:
        _period(element, scope, made)
    elif one(element, "event") is not None:
        _event(element, scope, made)
    elif any(one(element, end) is not None for end in ("low", "high", "width")):
        _bounds(element, scope, made)
    elif said := values.moment(element, scope):
        made.setdefault("event", []).append(said)


def span(element: Element | None, scope: Scope) -> Json:
    """An IVL_TS as a Period, its end counted from `low` and `width` when it has no `high`; {} when it has neither end."""
    found = values.period(element, scope)
    width = duration(one(element, "width"), scope) if "start" in found and "end" not in found else None
    if width is not None:
        if ended := end_after(found["start"], width):
            found["end"] = ended
        else:
            found["extension"] = [{"url": "urn:vaguemestre:width", "valueDuration": width}]
    return found


def _bounds(element: Element, scope: Scope, made: Json) -> None:
    bounds = span(element, scope)
    width = None if bounds else duration(one(element, "width"), scope)
    if not bounds and width is None:
        return
    repeat = made.setdefault("repeat", {})
    repeat.pop("boundsPeriod", None)
    repeat.pop("boundsDuration", None)
    repeat |= {"boundsPeriod": bounds} if bounds else {"boundsDuration": width}


def end_after(start: str, width: Json) -> str:
    """The end of what begins at a FHIR dateTime and lasts a Duration: its last day when it begins on a day, else its last
    instant; empty where the calendar would have to be asked (months) or the start is less than a day.
    """
    seconds = _SECONDS.get(width["code"])
    if seconds is None or width["value"] > 100_000:
        return ""
    lasting = timedelta(seconds=seconds * width["value"])
    try:
        if "T" in start:
            return (datetime.fromisoformat(start) + lasting).isoformat()
        if len(start) == len("2026-11-24") and lasting.days >= 1 and not lasting.seconds:
            return (date.fromisoformat(start) + lasting - timedelta(days=1)).isoformat()
    except (ValueError, OverflowError):
        pass
    return ""


def _period(element: Element, scope: Scope, made: Json) -> None:
    """PIVL_TS. With `institutionSpecified` a part of a day is a number of times a day, at hours that the ward chooses."""
    said = one(element, "period")
    if said is not None:
        for part in (said, *every(said, "translation")):
            if text := values.original_text(part, scope):
                made.setdefault("code", {})["text"] = text
    every_ = duration(said, scope)
    repeat = made.setdefault("repeat", {})
    if every_ is not None and every_["value"] > 0:
        frequency, value, unit = 1, every_["value"], every_["code"]
        hours = value * _HOURS.get(unit, 0)
        if attribute(element, "institutionSpecified").lower() == "true" and 0 < hours < 24 and (24 / hours).is_integer():
            frequency, value, unit = int(24 / hours), 1, "d"
        found = {"frequency": frequency, "period": value, "periodUnit": unit}
        if "period" in repeat and any(repeat[name] != found[name] for name in found):
            scope.find("LEFT_IN_DOCUMENT", element, "a second frequency of one administration; it stays in the document")
        else:
            repeat |= found
    phase = one(element, "phase")
    if phase is not None:
        if lasts := duration(one(phase, "width"), scope):
            repeat |= {"duration": lasts["value"], "durationUnit": lasts["code"]}
        if "boundsPeriod" not in repeat and "boundsDuration" not in repeat and (began := values.moment(one(phase, "low"), scope)):
            repeat["boundsPeriod"] = {"start": began}


def _event(element: Element, scope: Scope, made: Json) -> None:
    """EIVL_TS: an event of the day, so long before or after it."""
    repeat = made.setdefault("repeat", {})
    event = attribute(element, "code", "event")
    if event not in EVENTS:
        if event.isalpha() and len(event) <= 10:
            made.setdefault("code", {}).setdefault("coding", []).append({"system": _TIMING_EVENT, "code": event})
        else:
            scope.find("CODE_MISSING", element, "an event of the day that is not known; left out")
        return
    when = repeat.setdefault("when", [])
    if event not in when:
        when.append(event)
    offset = one(element, "offset")
    said = next((part for part in (one(offset, "low"), one(offset, "center"), offset) if attribute(part, "value")), None)
    if said is None or event in _MEALS:
        return
    value = values.number(attribute(said, "value").lstrip("-"))
    minutes = (value or 0) * _SECONDS.get(attribute(said, "unit"), 0) / 60
    if minutes.is_integer() and 0 < minutes <= _MAX_OFFSET_MINUTES:
        repeat["offset"] = int(minutes)
    elif value != 0:
        scope.find("LEFT_IN_DOCUMENT", said, "an offset that is not in whole minutes; it stays in the document")
