"""OBX-6: the unit of a result, as text and, when it is one, as a UCUM code.

Standard: The Unified Code for Units of Measure 2.1; FHIR R4 Quantity.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

UCUM = "http://unitsofmeasure.org"
_ANNOTATION = r"\{[^{}\s]*\}"
_EXPONENT = r"[+-]?\d{1,3}"


class Units:
    """Over the table of units (`tables/ucum_units.toml`)."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._aliases: dict[str, str] = dict(table["aliases"])
        metric, atoms, prefixes = (_either(table[name]) for name in ("metric", "atoms", "prefixes"))
        atom = f"(?:(?:{prefixes})?(?:{metric})|{atoms})(?:{_EXPONENT})?"
        term = f"(?:10[*^]{_EXPONENT}|[1-9]\\d{{0,5}}|{atom})(?:{_ANNOTATION})?|{_ANNOTATION}"
        self._ucum = re.compile(f"/?(?:{term})(?:[./](?:{term}))*", re.ASCII)
        self.code = lru_cache(maxsize=2048)(self._code)

    def _code(self, text: str) -> str:
        """The UCUM code of a unit as written; empty when it has none."""
        if len(text) > 60:
            return ""
        found = self._aliases.get(text)
        if found is not None:
            return found
        plain = text.replace("µ", "u").replace("μ", "u")
        return plain if self._ucum.fullmatch(plain) else ""

    def quantity(self, value: float, unit: str, shown: str = "") -> dict[str, Any]:
        """A FHIR Quantity; `shown` is the unit for people where it differs from its code."""
        made: dict[str, Any] = {"value": value}
        if unit or shown:
            made["unit"] = shown or unit
        if code := self.code(unit):
            made |= {"system": UCUM, "code": code}
        return made


def _either(names: Iterable[str]) -> str:
    """A pattern for one of these, the longest first."""
    return "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
