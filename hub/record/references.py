"""Logical references of stored bodies, given their address when they are read.

A body names what it refers to by number (`type`, `identifier`), because either may be filed first. So nothing has to be
rewritten when the other one comes, and applying a message again changes nothing.

Standard: FHIR R4 Reference.identifier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hub.model.record_change import Json
from hub.model.uids import uid_text
from hub.record.masking import Viewer
from hub.record.merging import roots_of
from hub.store import Transaction

HOLDERS = frozenset({"ServiceRequest", "Task", "DiagnosticReport", "Observation", "Specimen", "Appointment"})
TARGETS = frozenset({*HOLDERS, "Encounter"})
_FIND = (
    "WITH v(t, k) AS (VALUES {{values}}) SELECT r.type, r.key, r.id, r.patient_id FROM v CROSS JOIN resource r"
    " WHERE r.type = v.t AND r.key = v.k AND (r.mask & {hidden}) = 0"
)


def resolve(tx: Transaction, found: Sequence[tuple[Json, int | None]], viewer: Viewer) -> None:
    """Give every logical reference in these resources (each with its patient's number) its address, if it has one.

    Only to things of the same person, and to none that the viewer may not see.
    """
    wanted = [
        (reference, patient, _key(reference))
        for resource, patient in found
        if resource["resourceType"] in HOLDERS
        for reference in _logical(resource)
    ]
    if not wanted:
        return
    keys = sorted({(one["type"], form) for one, patient, key in wanted for form in (key, f"{key}#{patient or 0}")})
    rows = tx.rows_values(_FIND.format(hidden=int(viewer.sees_masked)), keys)
    at = {(kind, key): (number, patient) for kind, key, number, patient in rows}
    roots = roots_of(tx, {patient for _, patient in at.values() if patient} | {patient for _, patient, _ in wanted if patient})
    for reference, patient, key in wanted:
        for form in (f"{key}#{patient or 0}", key):
            number, owner = at.get((reference["type"], form), (0, None))
            if number and roots.get(owner or 0, owner) == roots.get(patient or 0, patient):
                reference["reference"] = f"{reference['type']}/{uid_text(number)}"
                break


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
