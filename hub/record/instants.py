"""FHIR dates in one comparable form: the UTC instant at which what was said begins, `YYYY-MM-DDTHH:MM:SSZ`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

PARIS = ZoneInfo("Europe/Paris")
_PARTS = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII)
_FORM = "%Y-%m-%dT%H:%M:%SZ"


def begins(text: str, zone: tzinfo = PARIS) -> str:
    """When a FHIR date or dateTime begins, in comparable form; empty when it is none. Without an offset it is local time."""
    found = span(text, zone)
    return found[0] if found else ""


def as_instant(text: str, zone: tzinfo = PARIS) -> str:
    """A FHIR instant: `text` itself when it is one, else the first instant of what it says; empty when it is no date."""
    found = _PARTS.fullmatch(text)
    if found is None or (first := begins(text, zone)) == "":
        return ""
    if found[6] and found[7]:
        return text
    return datetime.strptime(first, _FORM).replace(tzinfo=UTC).astimezone(zone).isoformat()


@lru_cache(maxsize=4096)
def span(text: str, zone: tzinfo = PARIS) -> tuple[str, str] | None:
    """First instant of a date and first instant after it, both in comparable form; None when the text is no date."""
    found = _PARTS.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, offset = found.groups()
    try:
        first = datetime(int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0))
        after = _after(first, month, day, hour, second)
        return _utc(first, offset, zone), _utc(after, offset, zone)
    except (ValueError, OverflowError):
        return None


def _after(first: datetime, month: str | None, day: str | None, hour: str | None, second: str | None) -> datetime:
    if month is None:
        return first.replace(year=first.year + 1)
    if day is None:
        return (first + timedelta(days=32)).replace(day=1)
    if hour is None:
        return first + timedelta(days=1)
    return first + (timedelta(minutes=1) if second is None else timedelta(seconds=1))


def _utc(local: datetime, offset: str | None, zone: tzinfo) -> str:
    if offset is None:
        moment = local.replace(tzinfo=zone)
    else:
        moment = datetime.fromisoformat(local.isoformat() + offset.replace("Z", "+00:00"))
    utc = moment.astimezone(UTC)
    return f"{utc.year:04d}-{utc.month:02d}-{utc.day:02d}T{utc.hour:02d}:{utc.minute:02d}:{utc.second:02d}Z"


def instant(micros: int) -> str:
    """A FHIR instant, UTC with milliseconds, of microseconds since 1970."""
    return datetime.fromtimestamp(micros // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{micros // 1000 % 1000:03d}Z"


def micros_span(text: str, zone: tzinfo = PARIS) -> tuple[int, int] | None:
    """`span` in microseconds since 1970; an instant with a fraction of a second is that millisecond."""
    found = span(text, zone)
    if found is None:
        return None
    first, after = (int(datetime.strptime(one, _FORM).replace(tzinfo=UTC).timestamp()) * 1_000_000 for one in found)
    fraction = re.search(r"\.(\d{1,6})", text)
    if fraction is None:
        return first, after
    first += int(fraction[1].ljust(6, "0"))
    return first, first + 1000
