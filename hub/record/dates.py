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
_AT_LAST = (("period", "end"), ("effectivePeriod", "end"), ("performedPeriod", "end"), ("timingPeriod", "end"))


def date_of(body: Json) -> str:
    """The date as the resource says it: of a period its start; empty when there is none."""
    for outer, inner in _INSIDE:
        if (found := body.get(outer)) and found.get(inner):
            return str(found[inner])
    for name in _OUTSIDE:
        if body.get(name):
            return str(body[name])
    collected = (body.get("collection") or {}).get("collectedPeriod") or {}
    return str(collected.get("start") or next((body[outer][inner] for outer, inner in _AT_LAST if _has(body, outer, inner)), ""))


def _has(body: Json, outer: str, inner: str) -> bool:
    return isinstance(body.get(outer), dict) and bool(body[outer].get(inner))


def sort_date(body: Json) -> str:
    """`date_of` in comparable form."""
    return begins(date_of(body))
