"""Search parameters → conditions on `resource r`, from the table of `definitions`; what it lacks is an unknown parameter.

Standard: FHIR R4 search (token, reference, date, string, quantity; modifiers :exact, :missing, :not); CI-SIS PDSm flow 05-b.
"""

from __future__ import annotations

import re
from dataclasses import replace

from hub.model.identity import comparable
from hub.record import body_filters
from hub.record.conditions import (
    Coded,
    Condition,
    Reader,
    Refers,
    alternatives,
    birthdate,
    by_date,
    by_gender,
    by_id,
    by_status,
    exact_text,
    of_patient,
    owner_with,
    prefixed,
    system_and_code,
    token,
    unescaped,
)
from hub.record.definitions import PARAMETERS, Parameter, patient_names
from hub.record.instants import micros_span, span
from hub.record.page import SearchRefused
from hub.record.rendering import number_of

_ARCHIVED = "s-archived"  # the end of the extension of PDSm, whatever its base
_REFERENCE = re.compile(r"(?:.*/)?([A-Z][A-Za-z]{1,40})/([^/]+)|([^/|:]+)", re.DOTALL)


def reader_of(kind: str, name: str) -> Reader | None:
    """How a parameter of a resource type is read; None when it is unknown.

    Raises:
        SearchRefused: a modifier that the parameter does not have.
    """
    base, colon, modifier = name.partition(":")
    reader = _READERS.get(kind, {}).get(base) or (_EVERY.get(base) if kind in _READERS else None)
    if reader is None or not colon:
        return reader
    parameter = PARAMETERS.get(kind, {}).get(base)
    changed = _modified(kind, parameter, modifier) if parameter else _exact_name(base) if modifier == "exact" else None
    if changed is None:
        raise SearchRefused(base, "a modifier that is not supported here")
    return changed


def parameters_by_type() -> dict[str, set[str]]:
    """The parameters of each type, without those of every type."""
    return {kind: set(readers) for kind, readers in _READERS.items()}


def known_types() -> frozenset[str]:
    """Resource types that can be searched."""
    return frozenset(_READERS)


# ---- parameters of the table ----


def _reader(kind: str, parameter: Parameter) -> Reader:
    param = f"{kind}.{parameter.name}"
    match parameter.kind:
        case "identifier":
            return token(param)
        case "coded" | "dated":
            return _coded(param, parameter)
        case "reference" | "link":
            return _reference(param, parameter)
        case "sorted":
            return by_date("r.sort_date", span)
        case "status":
            return by_status
    return _of_the_body(parameter)


def _of_the_body(parameter: Parameter, *, exact: bool = False) -> Reader:
    """A parameter that is told by the body."""

    def read(name: str, value: str) -> Condition:
        texts = alternatives(name, value)
        match parameter.kind:
            case "number":
                keep = body_filters.has_number(parameter.paths, [system_and_code(name, text) for text in texts])
            case "flag":
                keep = body_filters.has_flag(_ARCHIVED, _flags(name, texts))
            case "string":
                keep = body_filters.has_text(parameter.paths, [unescaped(text) for text in texts], exact=exact)
            case "quantity":
                keep = body_filters.has_quantity(name, parameter.paths, [unescaped(text) for text in texts])
            case "date":
                keep = body_filters.has_date(name, parameter.paths, [prefixed(text) for text in texts])
            case _:
                keep = body_filters.has_code(parameter.paths, [system_and_code(name, text) for text in texts])
        return Condition("1 = 1", (), keep=keep, name=name)

    return read


def _flags(name: str, texts: list[str]) -> frozenset[str]:
    if not set(texts) <= {"true", "false"}:
        raise SearchRefused(name)
    return frozenset(texts)


def _modified(kind: str, parameter: Parameter, modifier: str) -> Reader | None:
    if modifier == "missing":
        return _missing(parameter)
    if modifier == "exact" and parameter.kind == "string":
        return _of_the_body(parameter, exact=True)
    if modifier != "not":
        return None
    if parameter.kind == "status":
        return _status_not
    if parameter.kind in ("token", "coded", "dated", "identifier"):
        return _not_coded(parameter)
    return None


def _missing(parameter: Parameter) -> Reader:
    column = {"sorted": "r.sort_date", "status": "r.status"}.get(parameter.kind, "")

    def read(name: str, value: str) -> Condition:
        if value not in ("true", "false"):
            raise SearchRefused(name)
        if column:
            return Condition(f"{column} {'=' if value == 'true' else '<>'} ''", ())
        return Condition("1 = 1", (), keep=body_filters.is_missing(parameter.paths, value == "true"), name=name)

    return read


def _not_coded(parameter: Parameter) -> Reader:
    def read(name: str, value: str) -> Condition:
        meant = body_filters.has_code(parameter.paths, [system_and_code(name, text) for text in alternatives(name, value)])
        return Condition("1 = 1", (), keep=lambda body: not meant(body), name=name)

    return read


def _status_not(name: str, value: str) -> Condition:
    found = by_status(name, value)
    return Condition(f"NOT ({found.sql})", found.values)


def _coded(param: str, parameter: Parameter) -> Reader:
    rows = token(param, narrow=False)

    def read(name: str, value: str) -> Condition:
        asked = tuple(system_and_code(name, text) for text in alternatives(name, value))
        dated = parameter.kind == "dated" and all(code != parameter.but for _, code in asked)
        return replace(rows(name, value), coded=Coded(param, asked, dated))

    return read


def _reference(param: str, parameter: Parameter) -> Reader:
    """What refers to `Type/id`: by the numbers under which that is known, within one person."""

    def read(name: str, value: str) -> Condition:
        numbers, uris = [], []
        for text in map(unescaped, alternatives(name, value)):
            found = _REFERENCE.fullmatch(text)
            number = number_of(found[2] or found[3]) if found else None
            if found and number is not None:
                numbers.append((found[1] or "", number))
            elif parameter.kind == "link":
                uris.append(text)
        refers = Refers(param if parameter.kind == "reference" else "", tuple(numbers), tuple(uris), parameter.paths)
        return Condition("1 = 0", (), narrow=parameter.kind == "reference", refers=refers, name=name)

    return read


def _exact_name(part: str) -> Reader | None:
    """A Patient's name letter by letter."""
    if part not in ("family", "given"):
        return None

    def read(name: str, value: str) -> Condition:
        texts = [unescaped(text) for text in alternatives(name, value)]
        found = _READERS["Patient"][part](name, value)
        return replace(found, keep=body_filters.has_text((f"name.{part}",), texts, exact=True))

    return read


def _readers(kind: str) -> dict[str, Reader]:
    whose: dict[str, Reader] = {}
    for name in patient_names(kind):
        whose |= {name: of_patient, f"{name}.identifier": owner_with}
    return {**whose, **{name: _reader(kind, parameter) for name, parameter in PARAMETERS[kind].items()}}


_EVERY: dict[str, Reader] = {"_id": by_id, "_lastUpdated": by_date("r.updated_at", micros_span)}
_READERS: dict[str, dict[str, Reader]] = {
    "Patient": {
        "identifier": token("Patient.identifier"),
        "family": exact_text("Patient.family", comparable),
        "given": exact_text("Patient.given", comparable),
        "birthdate": exact_text("Patient.birthdate", birthdate),
        "gender": by_gender,
    },
    **{kind: _readers(kind) for kind in PARAMETERS},
}
