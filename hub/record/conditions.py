"""Conditions on `resource r` that searches are made of: by row, patient, number, state, date and search row.

Standard: FHIR R4 search (token, reference, date, string).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hub.model.identifiers import is_oid
from hub.record.body_filters import Keep
from hub.record.page import SearchRefused
from hub.record.rendering import number_of

MAX_ALTERNATIVES = 50
_COMMA = re.compile(r"(?<!\\),")
_BAR = re.compile(r"(?<!\\)\|")
_ESCAPED = re.compile(r"\\([\\,|$])")
_PREFIXED = re.compile(r"(eq|ne|ge|gt|le|lt|sa|eb)?(.*)", re.DOTALL)
_SEXES = {"male": ("M",), "female": ("F",), "other": ("O", "A", "N"), "unknown": ("U", "")}


@dataclass(frozen=True, slots=True)
class Coded:
    """What a coded parameter asks for: (system, code) alternatives, None for any system; `dated`: it has rows by date."""

    param: str
    values: tuple[tuple[str | None, str], ...]
    dated: bool = True


@dataclass(frozen=True, slots=True)
class Refers:
    """A parameter that asks what refers to one of these: `Type/id` or an id by its number, or a URI.

    `param`: the rows that hold such references; without it they stand at `paths` of the body.
    """

    param: str
    numbers: tuple[tuple[str, int], ...]  # type ("" = any) and row number
    uris: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on `resource r`; `narrow` when it leaves few rows, so that sorting them costs nothing.

    `owners`: the condition says whose the rows are; a query for these patients' numbers, over the same `values`. `coded`: it
    has rows of one patient. `keep`: what of the rows is meant, told by their bodies. `refers`: it is told once it is known
    what may be referred to. `name` is the parameter.
    """

    sql: str
    values: tuple[Any, ...]
    narrow: bool = False
    owners: str = ""
    coded: Coded | None = None
    is_owner: bool = False  # `values` are the numbers of the patients whose the rows are
    keep: Keep | None = None
    refers: Refers | None = None
    name: str = ""


Reader = Callable[[str, str], Condition]  # name, value → condition


# ---- values ----


def alternatives(name: str, value: str) -> list[str]:
    found = [one for one in _COMMA.split(value) if one]
    if not found or len(found) > MAX_ALTERNATIVES or "\0" in value:
        raise SearchRefused(name)
    return found


def unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def either(conditions: Iterable[Condition]) -> Condition:
    found = list(conditions)
    if len(found) == 1:
        return found[0]
    return Condition(
        "(" + " OR ".join(one.sql for one in found) + ")",
        tuple(value for one in found for value in one.values),
        all(one.narrow for one in found),
    )


def prefixed(text: str) -> tuple[str, str]:
    """Prefix and date; a + of an offset may have come undecoded, as a blank."""
    found = _PREFIXED.fullmatch(unescaped(text).replace(" ", "+"))
    return (found[1] or "eq", found[2]) if found else ("eq", "")


def system_and_code(name: str, text: str) -> tuple[str | None, str]:
    *systems, value = (unescaped(part) for part in _BAR.split(text, maxsplit=1))
    if not value:
        raise SearchRefused(name)
    if not systems:
        return None, value
    return f"urn:oid:{systems[0]}" if is_oid(systems[0]) else systems[0], value


# ---- kinds of conditions ----


def token(param: str, column: str = "r.id", *, narrow: bool = True) -> Reader:
    def one(name: str, text: str) -> Condition:
        system, value = system_and_code(name, text)
        sql = f"{column} IN (SELECT t.resource_id FROM token_index t WHERE t.param = ? AND t.value = ?"  # noqa: S608
        if system is None:
            return Condition(sql + ")", (param, value), narrow)
        return Condition(sql + " AND t.system = ?)", (param, value, system), narrow)

    return lambda name, value: either(one(name, text) for text in alternatives(name, value))


def exact_text(param: str, form: Callable[[str], str]) -> Reader:
    def one(name: str, text: str) -> Condition:
        value = form(unescaped(text))
        if not value:
            raise SearchRefused(name)
        return Condition(
            "r.id IN (SELECT t.resource_id FROM token_index t WHERE t.param = ? AND t.value = ? AND t.system = '')",
            (param, value),
            narrow=True,
        )

    return lambda name, value: either(one(name, text) for text in alternatives(name, value))


def by_id(name: str, value: str) -> Condition:
    numbers = [number for text in alternatives(name, value) if (number := number_of(text)) is not None] or [-1]
    return Condition(f"r.id IN ({','.join('?' * len(numbers))})", tuple(numbers), narrow=True)


def of_patient(name: str, value: str) -> Condition:
    numbers = []
    for text in alternatives(name, value):
        kind, slash, logical_id = text.rpartition("/")
        if slash and kind.rpartition("/")[2] != "Patient":
            raise SearchRefused(name)
        number = number_of(logical_id)
        numbers.append(-1 if number is None else number)
    marks = ",".join("?" * len(numbers))
    return Condition(f"r.patient_id IN ({marks})", tuple(numbers), True, f"SELECT p.id FROM patient p WHERE p.id IN ({marks})")  # noqa: S608


_PATIENT_IDENTIFIER = token("Patient.identifier", "r.patient_id")


def owner_with(name: str, value: str) -> Condition:
    found = _PATIENT_IDENTIFIER(name, value)
    within = found.sql.replace("r.patient_id IN (", "x.id IN (")
    return Condition(found.sql, found.values, True, f"SELECT x.id FROM patient x WHERE {within}")  # noqa: S608


def by_status(name: str, value: str) -> Condition:
    found = [text.rpartition("|")[2] for text in alternatives(name, value)]
    return Condition(f"r.status IN ({','.join('?' * len(found))})", tuple(found))


def by_gender(name: str, value: str) -> Condition:
    sexes = [sex for text in alternatives(name, value) for sex in _SEXES.get(text, ())]
    if not sexes:
        raise SearchRefused(name)
    marks = ",".join("?" * len(sexes))
    return Condition(f"EXISTS (SELECT 1 FROM patient p WHERE p.id = r.id AND p.sex IN ({marks}))", tuple(sexes))  # noqa: S608


def birthdate(text: str) -> str:
    text = text.removeprefix("eq")
    return text if re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?", text, re.ASCII) else ""


_BEGINS = {
    "eq": "{c} >= ? AND {c} < ?",
    "ne": "({c} < ? OR {c} >= ?)",
    "ge": "{c} >= ?",
    "gt": "{c} >= ?",
    "sa": "{c} >= ?",
    "le": "{c} < ?",
    "lt": "{c} < ?",
    "eb": "{c} < ?",
}
_WHICH_END = {"ge": (0,), "gt": (1,), "sa": (1,), "le": (1,), "lt": (0,), "eb": (0,), "eq": (0, 1), "ne": (0, 1)}


def by_date(column: str, read: Callable[[str], tuple[Any, Any] | None]) -> Reader:
    def one(name: str, text: str) -> Condition:
        prefix, date = prefixed(text)
        ends = read(date)
        if ends is None:
            raise SearchRefused(name)
        sql = _BEGINS[prefix].format(c=column)
        return Condition(
            f"({sql} AND {column} <> '')" if column == "r.sort_date" else f"({sql})",
            tuple(ends[end] for end in _WHICH_END[prefix]),
        )

    return lambda name, value: either(one(name, text) for text in alternatives(name, value))
