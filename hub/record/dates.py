"""The date that a list of resources of one type is ordered and searched by, told by a resource's body."""

from __future__ import annotations

from hub.model.record_change import Json
from hub.record.instants import begins

_INSIDE = (
    ("period", "start"),
    ("effectivePeriod", "start"),
    ("collection", "collectedDateTime"),
    ("performedPeriod", "start"),
    ("onsetPeriod", "start"),
    ("timingPeriod", "start"),
)
_OUTSIDE = (
    "effectiveDateTime",
    "effectiveInstant",
    "authoredOn",
    "start",
    "dateTime",
    "date",
    "issued",
    "occurrenceDateTime",
    "receivedTime",
    "performedDateTime",
    "whenHandedOver",
    "whenPrepared",
    "started",
    "startDate",
    "timingDateTime",
    "onsetDateTime",
    "recordedDate",
    "recordedOn",
    "recorded",
)
_AT_LAST = (
    ("occurrencePeriod", "start"),
    ("requestedPeriod", "start"),
    ("period", "end"),
    ("effectivePeriod", "end"),
    ("performedPeriod", "end"),
    ("timingPeriod", "end"),
)


def date_of(body: Json) -> str:
    """The date as the resource says it: of a period its start; empty when there is none."""
    for outer, inner in _INSIDE:
        if (found := body.get(outer)) and found.get(inner):
            return str(found[inner])
    for name in _OUTSIDE:
        if body.get(name):
            return str(body[name])
    collected = (body.get("collection") or {}).get("collectedPeriod") or {}
    return str(collected.get("start") or next((found for outer, inner in _AT_LAST if (found := _in(body, outer, inner))), ""))


def _in(body: Json, outer: str, inner: str) -> str:
    """An end of a period, of the first where there are several."""
    found = body.get(outer)
    first = found[0] if isinstance(found, list) and found else found
    return str(first.get(inner) or "") if isinstance(first, dict) else ""


def sort_date(body: Json) -> str:
    """`date_of` in comparable form."""
    return begins(date_of(body))
