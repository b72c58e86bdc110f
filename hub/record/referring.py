"""What refers to given resources: by the numbers under which they are known, within one person.

Standard: FHIR R4 search, reference parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hub.model.uids import uid_text
from hub.record import body_filters
from hub.record.conditions import Condition, Refers
from hub.record.filing import Stored
from hub.record.masking import Viewer
from hub.record.merging import roots_of, same_person
from hub.record.showing import seen
from hub.store import Transaction

_REFERRING = (
    "WITH v(p, k, s) AS (VALUES {values}) SELECT t.value, t.system, r.id, r.patient_id FROM v CROSS JOIN token_index t"
    " CROSS JOIN resource r WHERE t.param = v.p AND t.value = v.k AND t.system = v.s AND r.id = t.resource_id"
    " AND r.status <> 'entered-in-error'"
)


@dataclass(frozen=True, slots=True)
class Target:
    """Something that can be referred to: `Type/id`, and its numbers as `system|value`."""

    type: str
    address: str
    numbers: tuple[str, ...]
    patient_id: int | None


def target_of(stored: Stored) -> Target:
    """How others refer to a resource."""
    body = stored.json
    identifiers = [*body.get("identifier", ()), body.get("masterIdentifier") or {}]
    numbers = [stored.key.removesuffix(f"#{stored.patient_id or 0}")]
    numbers += [f"{one.get('system', '')}|{one['value']}" for one in identifiers if one.get("value")]
    return Target(stored.type, f"{stored.type}/{uid_text(stored.id)}", tuple(dict.fromkeys(numbers)), stored.patient_id)


def as_condition(tx: Transaction, condition: Condition, refers: Refers, viewer: Viewer) -> Condition:
    """The condition once it is known what is referred to; to what the viewer does not see, nothing refers."""
    types = {number: kind for kind, number in refers.numbers}
    found = [target_of(one) for one in seen(tx, types, viewer) if types[one.id] in ("", one.type)]
    if refers.param:
        return _by_rows(tx, condition, refers.param, found)
    keep = body_filters.refers(
        refers.paths,
        frozenset({one.address for one in found} | set(refers.uris)),
        frozenset(number for one in found for number in one.numbers),
    )
    if refers.uris:
        return replace(condition, sql="1 = 1", refers=None, keep=keep)
    owners = same_person(tx, [one.patient_id for one in found if one.patient_id is not None])
    marks = ",".join("?" * max(1, len(owners)))
    return replace(condition, sql=f"r.patient_id IN ({marks})", values=tuple(owners or [-1]), refers=None, keep=keep, narrow=True)


def _by_rows(tx: Transaction, condition: Condition, param: str, targets: Sequence[Target]) -> Condition:
    parts: list[str] = []
    values: list[Any] = []
    for one in targets:
        owners = same_person(tx, [one.patient_id]) if one.patient_id is not None else []
        marks, whose = ",".join("?" * len(one.numbers)), ",".join("?" * max(1, len(owners)))
        parts.append(
            f"SELECT t.resource_id FROM token_index t JOIN resource y ON y.id = t.resource_id WHERE t.param = ?"  # noqa: S608
            f" AND t.value IN ({marks}) AND t.system = ? AND y.patient_id IN ({whose})"
        )
        values += [param, *one.numbers, one.type, *(owners or [-1])]
    sql = f"r.id IN ({' UNION ALL '.join(parts)})" if parts else "1 = 0"
    return replace(condition, sql=sql, values=tuple(values), refers=None)


def referring(tx: Transaction, targets: Iterable[Target], params: Sequence[str]) -> list[int]:
    """Rows that stand and refer to one of these by one of these parameters, newest first; whoever may see them."""
    by_name: dict[tuple[str, str], list[int | None]] = {}
    for one in targets:
        for number in one.numbers:
            by_name.setdefault((number, one.type), []).append(one.patient_id)
    asked = [(param, number, kind) for param in params for number, kind in sorted(by_name)]
    rows = tx.rows_values(_REFERRING, asked) if asked else []
    whose = {patient for found in by_name.values() for patient in found} | {row[3] for row in rows}
    roots = roots_of(tx, {one for one in whose if one is not None})
    return sorted(
        {
            number
            for value, kind, number, patient in rows
            if roots.get(patient, patient) in {roots.get(one or 0, one) for one in by_name[value, kind]}
        },
        reverse=True,
    )
