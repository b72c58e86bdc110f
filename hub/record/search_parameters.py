"""Search parameters → SQL conditions on `resource r`. A table by resource type; what it lacks is an unknown parameter.

Standard: FHIR R4 search (token, reference, date, string); CI-SIS PDSm flow 05-b.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from hub.model.identifiers import is_oid
from hub.model.identity import comparable
from hub.record.clinical_tokens import coded_parameters, reference_parameters
from hub.record.instants import micros_span, span
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
    """What a coded parameter asks for: (system, code) alternatives, None for any system."""

    param: str
    values: tuple[tuple[str | None, str], ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on `resource r`; `narrow` when it leaves few rows, so that sorting them costs nothing.

    `owners`: the condition says whose the rows are; a query for these patients' numbers, over the same `values`. `coded`: it
    has rows by patient and date too.
    """

    sql: str
    values: tuple[Any, ...]
    narrow: bool = False
    owners: str = ""
    coded: Coded | None = None
    is_owner: bool = False  # `values` are the numbers of the patients whose the rows are


Reader = Callable[[str, str], Condition]  # name, value → condition


def reader_of(kind: str, name: str) -> Reader | None:
    """How a parameter of a resource type is read; None when it is unknown."""
    return _READERS.get(kind, {}).get(name) or (_EVERY.get(name) if kind in _READERS else None)


def parameters_by_type() -> dict[str, set[str]]:
    """The parameters of each type, without those of every type."""
    return {kind: set(readers) for kind, readers in _READERS.items()}


def known_types() -> frozenset[str]:
    """Resource types that can be searched."""
    return frozenset(_READERS)


# ---- values ----


def _alternatives(name: str, value: str) -> list[str]:
    found = [one for one in _COMMA.split(value) if one]
    if not found or len(found) > MAX_ALTERNATIVES or "\0" in value:
        raise SearchRefused(name)
    return found


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def _either(conditions: Iterable[Condition]) -> Condition:
    found = list(conditions)
    if len(found) == 1:
        return found[0]
    return Condition(
        "(" + " OR ".join(one.sql for one in found) + ")",
        tuple(value for one in found for value in one.values),
        all(one.narrow for one in found),
    )


# ---- kinds of parameters ----


def _system_and_code(name: str, text: str) -> tuple[str | None, str]:
    *systems, value = (_plain(part) for part in _BAR.split(text, maxsplit=1))
    if not value:
        raise SearchRefused(name)
    if not systems:
        return None, value
    return f"urn:oid:{systems[0]}" if is_oid(systems[0]) else systems[0], value


def _coded(param: str) -> Reader:
    plain = _token(param, narrow=False)

    def read(name: str, value: str) -> Condition:
        asked = tuple(_system_and_code(name, text) for text in _alternatives(name, value))
        return replace(plain(name, value), coded=Coded(param, asked))

    return read


def _reference(param: str) -> Reader:
    """What refers to `Type/id`: by the number under which that is known, within one person."""

    def read(name: str, value: str) -> Condition:
        numbers = [number_of(text.rpartition("/")[2]) for text in _alternatives(name, value)]
        marks = ",".join("?" * len(numbers))
        sql = (
            "r.id IN (SELECT t.resource_id FROM resource x JOIN token_index t ON t.param = ?"  # noqa: S608 - our names
            " AND t.value = replace(x.key, '#' || x.patient_id, '') AND t.system = x.type"
            " JOIN resource y ON y.id = t.resource_id JOIN patient p ON p.id = x.patient_id JOIN patient q ON q.id = y.patient_id"
            f" WHERE x.id IN ({marks}) AND COALESCE(p.merged_into, p.id) = COALESCE(q.merged_into, q.id))"
        )
        return Condition(sql, (param, *(-1 if number is None else number for number in numbers)), narrow=True)

    return read


def _token(param: str, column: str = "r.id", *, narrow: bool = True) -> Reader:
    def one(name: str, text: str) -> Condition:
        system, value = _system_and_code(name, text)
        sql = f"{column} IN (SELECT t.resource_id FROM token_index t WHERE t.param = ? AND t.value = ?"  # noqa: S608
        if system is None:
            return Condition(sql + ")", (param, value), narrow)
        return Condition(sql + " AND t.system = ?)", (param, value, system), narrow)

    return lambda name, value: _either(one(name, text) for text in _alternatives(name, value))


def _exact(param: str, form: Callable[[str], str]) -> Reader:
    def one(name: str, text: str) -> Condition:
        value = form(_plain(text))
        if not value:
            raise SearchRefused(name)
        return Condition(
            "r.id IN (SELECT t.resource_id FROM token_index t WHERE t.param = ? AND t.value = ? AND t.system = '')",
            (param, value),
            narrow=True,
        )

    return lambda name, value: _either(one(name, text) for text in _alternatives(name, value))


def _id(name: str, value: str) -> Condition:
    numbers = [number for text in _alternatives(name, value) if (number := number_of(text)) is not None] or [-1]
    return Condition(f"r.id IN ({','.join('?' * len(numbers))})", tuple(numbers), narrow=True)


def _patient(name: str, value: str) -> Condition:
    numbers = []
    for text in _alternatives(name, value):
        kind, slash, logical_id = text.rpartition("/")
        if slash and kind.rpartition("/")[2] != "Patient":
            raise SearchRefused(name)
        number = number_of(logical_id)
        numbers.append(-1 if number is None else number)
    marks = ",".join("?" * len(numbers))
    return Condition(f"r.patient_id IN ({marks})", tuple(numbers), True, f"SELECT p.id FROM patient p WHERE p.id IN ({marks})")  # noqa: S608


def _owner_with(name: str, value: str) -> Condition:
    found = _PATIENT_IDENTIFIER(name, value)
    within = found.sql.replace("r.patient_id IN (", "x.id IN (")
    return Condition(found.sql, found.values, True, f"SELECT x.id FROM patient x WHERE {within}")  # noqa: S608


def _status(name: str, value: str) -> Condition:
    found = [text.rpartition("|")[2] for text in _alternatives(name, value)]
    return Condition(f"r.status IN ({','.join('?' * len(found))})", tuple(found))


def _gender(name: str, value: str) -> Condition:
    sexes = [sex for text in _alternatives(name, value) for sex in _SEXES.get(text, ())]
    if not sexes:
        raise SearchRefused(name)
    marks = ",".join("?" * len(sexes))
    return Condition(f"EXISTS (SELECT 1 FROM patient p WHERE p.id = r.id AND p.sex IN ({marks}))", tuple(sexes))  # noqa: S608


def _birthdate(text: str) -> str:
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


def _date(column: str, read: Callable[[str], tuple[Any, Any] | None]) -> Reader:
    def one(name: str, text: str) -> Condition:
        found = _PREFIXED.fullmatch(_plain(text).replace(" ", "+"))  # a + of an offset that came undecoded
        ends = read(found[2]) if found is not None else None
        if found is None or ends is None:
            raise SearchRefused(name)
        prefix = found[1] or "eq"
        sql = _BEGINS[prefix].format(c=column)
        return Condition(
            f"({sql} AND {column} <> '')" if column == "r.sort_date" else f"({sql})",
            tuple(ends[end] for end in _WHICH_END[prefix]),
        )

    return lambda name, value: _either(one(name, text) for text in _alternatives(name, value))


_PATIENT_IDENTIFIER = _token("Patient.identifier", "r.patient_id")
_OF_A_PATIENT: dict[str, Reader] = {
    "patient": _patient,
    "subject": _patient,
    "patient.identifier": _owner_with,
    "subject.identifier": _owner_with,
    "status": _status,
    "date": _date("r.sort_date", span),  # a period counts by its start
}
_DATES = {  # the one date of a resource has a name of its own in some types
    "ServiceRequest": "authored",
    "Task": "authored-on",
    "Specimen": "collected",
}


def _clinical(kind: str, *more: tuple[str, Reader]) -> dict[str, Reader]:
    """The parameters of an order, a result, a specimen, a task, an appointment or a consent."""
    readers = {name: reader for name, reader in _OF_A_PATIENT.items() if name != "date" or kind not in _DATES}
    if kind in _DATES:
        readers[_DATES[kind]] = _OF_A_PATIENT["date"]
    readers["identifier"] = _token(f"{kind}.identifier")
    readers |= {name: _coded(f"{kind}.{name}") for name in coded_parameters(kind)}
    readers |= {name: _reference(f"{kind}.{name}") for name in reference_parameters(kind)}
    return readers | dict(more)


_EVERY: dict[str, Reader] = {"_id": _id, "_lastUpdated": _date("r.updated_at", micros_span)}
_READERS: dict[str, dict[str, Reader]] = {
    "Patient": {
        "identifier": _token("Patient.identifier"),
        "family": _exact("Patient.family", comparable),
        "given": _exact("Patient.given", comparable),
        "birthdate": _exact("Patient.birthdate", _birthdate),
        "gender": _gender,
    },
    "Encounter": {**_OF_A_PATIENT, "identifier": _token("Encounter.identifier")},
    "DocumentReference": {
        **_OF_A_PATIENT,
        "identifier": _token("DocumentReference.identifier"),
        "type": _token("DocumentReference.type", narrow=False),
        "category": _token("DocumentReference.category", narrow=False),
    },
    "ServiceRequest": _clinical("ServiceRequest", ("requisition", _token("ServiceRequest.requisition"))),
    "Task": _clinical("Task"),
    "DiagnosticReport": _clinical("DiagnosticReport"),
    "Observation": _clinical("Observation"),
    "Specimen": _clinical("Specimen"),
    "Appointment": _clinical("Appointment"),
    "Consent": _clinical("Consent"),
}
