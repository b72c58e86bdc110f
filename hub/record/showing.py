"""Rows of the record as their reader gets them: under the number that stands for the person, references with their addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hub.model.record_change import Json
from hub.record.filing import COLUMNS, Stored
from hub.record.masking import Viewer, visible
from hub.record.merging import roots_of
from hub.record.references import resolve
from hub.record.rendering import render
from hub.store import Transaction


def shown(tx: Transaction, stored: Sequence[Stored], viewer: Viewer) -> list[Json]:
    """Current versions as FHIR JSON."""
    roots = roots_of(tx, {one.patient_id or 0 for one in stored})
    found = [_rendered(one, roots) for one in stored]
    resolve(tx, [(rendered, one.patient_id) for rendered, one in zip(found, stored, strict=True)], viewer)
    return found


def seen(tx: Transaction, numbers: Iterable[int], viewer: Viewer) -> list[Stored]:
    """Those of these rows that `viewer` sees, in order of their numbers."""
    wanted = sorted(set(numbers))
    if not wanted:
        return []
    hiding = visible(viewer)
    sql = f"SELECT {COLUMNS} FROM resource r WHERE {hiding.sql} AND r.id IN ({{keys}})"  # noqa: S608 - our names
    rows = {row[0]: row for row in tx.rows_in(sql, wanted, *hiding.values)}
    return [Stored(*rows[number]) for number in sorted(rows)]


def _rendered(one: Stored, roots: Mapping[int, int]) -> Json:
    return render(
        one.type,
        one.id,
        version=one.version,
        patient_id=roots.get(one.patient_id or 0, one.patient_id),
        status=one.status,
        mask=one.mask,
        updated_at=one.updated_at,
        body=one.body,
    )
