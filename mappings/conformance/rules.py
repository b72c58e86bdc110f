"""The rule language of the tables: one row asks one thing of one place.

| key | asks |
|---|---|
| `usage` | `R` filled, `RE` filled when known (a note), `X` empty; of a segment: there, or not there |
| `table`, `never` | the value is, or is not, one of a list |
| `type` | the value has the form of a type (`TYPES`) |
| `like` | the value matches a pattern; `says` tells what that means |
| `length` | at most so many characters (a note) |
| `max` | at most so many repetitions of the field, or segments |
| `order` | segments of these names come in this order |
| `check` | a named function of `checks`, for what a row cannot say |

`when` lists conditions that all hold: `ZBE-4 in UPDATE CANCEL`, `not in`, `present`, `absent`, `like`. A condition on the
rule's own segment looks at the same segment; HL7's null (a value that is removed) counts as absent there. `@name` stands for a
list of the table's `[sets]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mappings.conformance.path import Path

_CONDITION = re.compile(r"(?P<path>\S+) (?P<op>not in|in|present|absent|like)(?: (?P<values>.+))?")
_KINDS = ("usage", "table", "never", "type", "like", "length", "max", "order", "check")


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of `when`."""

    path: Path
    op: str
    values: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `wanted` is what its kind asks for: letters, values, a pattern, a number, a function's name.

    `covers`: rules that say nothing more of a segment in which this one is broken.
    """

    id: str
    at: Path | None
    kind: str
    wanted: Any
    severity: Severity
    standard: str
    clause: str
    when: tuple[Condition, ...] = ()
    says: str = ""
    covers: tuple[str, ...] = ()


def rules_of(table: Mapping[str, Any], standard: str) -> tuple[Rule, ...]:
    """The rows of a table.

    Raises:
        ValueError: a row that asks nothing, two things, or with a place or condition of no known form.
    """
    sets: Mapping[str, list[str]] = table.get("sets", {})
    return tuple(_rule(row, sets, standard) for row in table.get("rules", ()))


def _rule(row: Mapping[str, Any], sets: Mapping[str, list[str]], standard: str) -> Rule:
    kinds = [kind for kind in _KINDS if kind in row]
    if len(kinds) != 1:
        raise ValueError(f"a row asks one thing: {row}")
    kind = kinds[0]
    at = Path.of(row["at"]) if "at" in row else None
    if at is None and kind not in ("order", "check"):
        raise ValueError(f"a row without place: {row}")
    usual = Severity.NOTE if kind == "length" or row.get("usage") == "RE" else Severity.ERROR
    place = row.get("at", "")
    return Rule(
        id=row.get("id") or (row["check"] if kind == "check" else f"{place}/{row.get('usage', kind)}"),
        at=at,
        kind=kind,
        wanted=_wanted(kind, row[kind], sets),
        severity=Severity(row.get("severity", usual)),
        standard=standard,
        clause=row.get("clause") or re.sub(r"\{[^}]*\}", "", place),
        when=tuple(_condition(text, sets) for text in row.get("when", ())),
        says=row.get("says", ""),
        covers=tuple(row.get("covers", ())),
    )


def _wanted(kind: str, value: Any, sets: Mapping[str, list[str]]) -> Any:
    if kind == "like":
        return re.compile(value)
    if kind in ("table", "never", "order"):
        return _expanded(value, sets)
    return value


def _condition(text: str, sets: Mapping[str, list[str]]) -> Condition:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ValueError(f"not a condition: {text}")
    path, op, values = Path.of(found["path"]), found["op"], found["values"] or ""
    if op == "like":
        return Condition(path, op, pattern=re.compile(values))
    return Condition(path, op, frozenset(_expanded(values.split(), sets)))


def _expanded(values: list[str], sets: Mapping[str, list[str]]) -> tuple[str, ...]:
    found: list[str] = []
    for value in values:
        found += sets[value[1:]] if value.startswith("@") and value[1:] in sets else [value]
    return tuple(found)
