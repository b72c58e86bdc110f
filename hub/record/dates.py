"""The date that a list of resources of one type is ordered and searched by, told by a resource's body."""

from __future__ import annotations

from hub.model.record_change import Json
from hub.record.instants import begins

_INSIDE = (("period", "start"), ("effectivePeriod", "start"), ("collection", "collectedDateTime"))
_OUTSIDE = ("effectiveDateTime", "authoredOn", "start", "dateTime", "date", "issued", "occurrenceDateTime", "receivedTime")


def date_of(body: Json) -> str:
    """The date as the resource says it: of a period its start; empty when there is none."""
    for outer, inner in _INSIDE:
        if (found := body.get(outer)) and found.get(inner):
            return str(found[inner])
    for name in _OUTSIDE:
        if body.get(name):
            return str(body[name])
    collected = (body.get("collection") or {}).get("collectedPeriod") or {}
    return str(collected.get("start") or (body.get("period") or {}).get("end") or "")


def sort_date(body: Json) -> str:
    """`date_of` in comparable form."""
    return begins(date_of(body))
