"""HL7 dates that need not be whole as FHIR dates."""

from __future__ import annotations

import re

_BIRTH_DATE = re.compile(r"[12]\d{7}|[12]\d{5}|[12]\d{3}", re.ASCII)
_DAYS = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def fhir_birth_date(text: str) -> str:
    """A date as FHIR writes it; a day or month 00, as INS has them, is left out. Empty when it is no calendar date."""
    text = text[:8]
    if not _BIRTH_DATE.fullmatch(text):
        return ""
    if text[6:] == "00":
        text = text[:6]
    if text[4:] == "00":
        text = text[:4]
    year, month, day = int(text[:4]), int(text[4:6] or 1), int(text[6:8] or 1)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= _DAYS[month] or (month == 2 and day == 29 and not leap):
        return ""
    return "-".join(part for part in (text[:4], text[4:6], text[6:]) if part)
