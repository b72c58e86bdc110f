"""HL7 time stamps: digits with a precision, usually without an offset, read in the hub's time zone.

Standard: HL7 v2.5.1 §2.A.77, `YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import IntEnum
from functools import lru_cache

_TS = re.compile(r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?)?)?)?([+-]\d{4}|Z)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE_LENGTH = {1: 4, 2: 7}
_MICROSECOND = timedelta(microseconds=1)


class Precision(IntEnum):
    """What the sender knew, from nothing to fractions of a second."""

    NONE, YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, FRACTION = range(8)


@dataclass(frozen=True, slots=True)
class Ts:
    """One time stamp.

    `instant` is aware UTC (the start of what was said: a day begins at local midnight), None when the text is empty or no
    time stamp. `text` is the text as sent. `ambiguous`: a local hour that the autumn change doubles, taken as the first one;
    `skipped`: one that the spring change leaves out.
    """

    text: str = ""
    instant: datetime | None = None
    local: datetime | None = None
    precision: Precision = Precision.NONE
    ambiguous: bool = False
    skipped: bool = False

    @property
    def is_valid(self) -> bool:
        """Whether it says when; an empty text is valid and says nothing."""
        return self.instant is not None or not self.text

    @property
    def micros(self) -> int:
        """Microseconds since 1970, UTC; 0 when it says nothing."""
        return (self.instant - _EPOCH) // _MICROSECOND if self.instant is not None else 0

    @property
    def problem(self) -> str:
        """A finding's code: TS_INVALID, TS_AMBIGUOUS, TS_SKIPPED, or empty."""
        if not self.is_valid:
            return "TS_INVALID"
        if self.ambiguous:
            return "TS_AMBIGUOUS"
        return "TS_SKIPPED" if self.skipped else ""

    def fhir_date(self) -> str:
        """FHIR `date`, as precise as the text: YYYY, YYYY-MM or YYYY-MM-DD; empty when it says nothing."""
        if self.local is None:
            return ""
        return self.local.date().isoformat()[: _DATE_LENGTH.get(self.precision, 10)]

    def fhir_datetime(self) -> str:
        """FHIR `dateTime`, as precise as the text; from the hour on with seconds (zero-filled, FHIR asks for them) and offset."""
        if self.local is None:
            return ""
        if self.precision <= Precision.DAY:
            return self.fhir_date()
        text = self.local.isoformat(timespec="microseconds" if self.precision is Precision.FRACTION else "seconds")
        return text if self.precision is not Precision.FRACTION else _short_fraction(text)

    def fhir_instant(self) -> str:
        """FHIR `instant`, for elements that take nothing else: a day is its local midnight; empty when the day is unknown."""
        if self.local is None or self.precision < Precision.DAY:
            return ""
        return self.fhir_datetime() if self.precision > Precision.DAY else self.local.isoformat(timespec="seconds")


EMPTY = Ts()


def parse_ts(text: str, tz: tzinfo) -> Ts:
    """What a time stamp says; `tz` is where its clock hangs unless it names an offset.

    Never raises: a text that is no time stamp comes back with no instant. `""` (HL7 null) says nothing.
    """
    if not text or text == '""':
        return EMPTY
    return _parse(text, tz)


@lru_cache(maxsize=4096)
def _parse(text: str, tz: tzinfo) -> Ts:
    found = _TS.fullmatch(text.strip())
    if found is None:
        return Ts(text)
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    precision = Precision(sum(part is not None for part in found.groups()[:7]))
    try:
        clock = datetime(
            int(year),
            int(month or 1),
            int(day or 1),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((fraction or "").ljust(6, "0")),
        )
        zone = tz if offset is None else _fixed(offset)
        local = clock.replace(tzinfo=zone)
        instant = local.astimezone(UTC)
        first, second_time = local.utcoffset(), local.replace(fold=1).utcoffset()
    except (ValueError, OverflowError):
        return Ts(text)
    shift = (first - second_time) if first is not None and second_time is not None else timedelta(0)
    by_the_hour = precision >= Precision.HOUR and offset is None
    if shift < timedelta(0):
        local = instant.astimezone(zone)
    return Ts(text, instant, local, precision, by_the_hour and shift > timedelta(0), by_the_hour and shift < timedelta(0))


def _fixed(offset: str) -> tzinfo:
    if offset == "Z":
        return UTC
    hours, minutes = int(offset[1:3]), int(offset[3:5])
    if hours > 14 or minutes > 59:
        raise ValueError("no such offset")
    span = timedelta(hours=hours, minutes=minutes)
    return timezone(-span if offset[0] == "-" else span)


def _short_fraction(text: str) -> str:
    """`…:05.120000+01:00` without the zeroes that nobody sent."""
    head, _, rest = text.partition(".")
    digits, offset = rest[:6], rest[6:]
    return f"{head}.{digits.rstrip('0') or '0'}{offset}"
