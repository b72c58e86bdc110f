"""Logical references of stored bodies, given their address when they are read.

A body names what it refers to by number (`type`, `identifier`), because either may be filed first. So nothing has to be
rewritten when the other one comes, and applying a message again changes nothing. The number is the key of the other resource, or
where no resource has that key one of its identifiers (a dispensation names a prescription line by the line's own number).

Standard: FHIR R4 Reference.identifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hub.model.record_change import Json
from hub.model.uids import uid_text
from hub.record.definitions import PARAMETERS
from hub.record.masking import Viewer, visible
from hub.record.merging import roots_of
from hub.store import Transaction

HOLDERS = frozenset(PARAMETERS) - {"Encounter", "Consent"}
TARGETS = frozenset(PARAMETERS)
_BY_KEY = (
    "WITH v(t, k) AS (VALUES {values}) SELECT r.type, r.key, r.id, r.patient_id, r.status FROM v CROSS JOIN resource r"
    " WHERE r.type = v.t AND r.key = v.k"
)
_BY_IDENTIFIER = (
    "WITH v(p, i, s) AS (VALUES {values}) SELECT t.param, t.value, t.system, r.id, r.patient_id, r.status FROM v"
    " CROSS JOIN token_index t CROSS JOIN resource r"
    " WHERE t.param = v.p AND t.value = v.i AND t.system = v.s AND r.id = t.resource_id"
)

Name = tuple[str, str]  # type and `system|value`
Found = tuple[int, int | None, bool]  # row number, whose, whether it stands


def resolve(tx: Transaction, found: Sequence[tuple[Json, int | None]], viewer: Viewer) -> None:
    """Give every logical reference in these resources (each with its patient's number) its address, if it has one.

    Only to things of the same person, and to none that the viewer may not see.
    """
    wanted = [
        (reference, patient, (reference["type"], _key(reference)))
        for resource, patient in found
        if resource["resourceType"] in HOLDERS
        for reference in _logical(resource)
    ]
    if not wanted:
        return
    at = _by_key(tx, {(kind, form) for _, patient, (kind, key) in wanted for form in (key, f"{key}#{patient or 0}")})
    left = {name for _, patient, name in wanted if name not in at and (name[0], f"{name[1]}#{patient or 0}") not in at}
    at |= _by_identifier(tx, left)
    everything = [one for candidates in at.values() for one in candidates]
    seen = _seen(tx, {number for number, _, _ in everything}, viewer)
    roots = roots_of(tx, {patient for _, patient, _ in everything if patient} | {one for _, one, _ in wanted if one})
    for reference, patient, (kind, key) in wanted:
        candidates = [*at.get((kind, f"{key}#{patient or 0}"), ()), *at.get((kind, key), ())]
        if number := _of_the_same(candidates, patient, roots, seen):
            reference["reference"] = f"{kind}/{uid_text(number)}"


def _of_the_same(candidates: Iterable[Found], patient: int | None, roots: Mapping[int, int], seen: set[int]) -> int:
    for number, owner, _ in candidates:
        if number in seen and roots.get(owner or 0, owner) == roots.get(patient or 0, patient):
            return number
    return 0


def _by_key(tx: Transaction, names: set[Name]) -> dict[Name, list[Found]]:
    return {
        (kind, key): [(number, owner, status != "entered-in-error")]
        for kind, key, number, owner, status in tx.rows_values(_BY_KEY, sorted(names))
    }


def _by_identifier(tx: Transaction, names: set[Name]) -> dict[Name, list[Found]]:
    """What has these identifiers: first what stands, newest first."""
    asked = sorted((f"{kind}.identifier", value, system) for kind, key in names for system, _, value in [key.partition("|")])
    found: dict[Name, list[Found]] = {}
    for param, value, system, number, owner, status in tx.rows_values(_BY_IDENTIFIER, asked) if asked else ():
        name = (param.removesuffix(".identifier"), f"{system}|{value}")
        found.setdefault(name, []).append((number, owner, status != "entered-in-error"))
    for candidates in found.values():
        candidates.sort(key=lambda one: (not one[2], -one[0]))
    return found


def _seen(tx: Transaction, numbers: set[int], viewer: Viewer) -> set[int]:
    hiding = visible(viewer)
    sql = f"SELECT r.id FROM resource r WHERE {hiding.sql} AND r.id IN ({{keys}})"  # noqa: S608 - our names
    return {number for (number,) in tx.rows_in(sql, sorted(numbers), *hiding.values)} if numbers else set()


def _key(reference: Json) -> str:
    number = reference["identifier"]
    return f"{number['system']}|{number['value']}"


def _logical(part: Any) -> Iterator[Json]:
    """Every reference inside that has a number and no address."""
    if isinstance(part, list):
        for one in part:
            yield from _logical(one)
    elif isinstance(part, dict):
        number = part.get("identifier")
        if isinstance(part.get("type"), str) and part["type"] in TARGETS and "reference" not in part and isinstance(number, dict):
            if "system" in number and "value" in number:
                yield part
            return
        for one in part.values():
            if isinstance(one, (dict, list)):
                yield from _logical(one)
