"""What changed since: a feed over the whole record, in the order in which resources changed, for one reader.

A cursor is a time and a row; who keeps it, misses nothing and gets nothing twice, as long as `before_us` lies before every write
that is not yet committed.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.model.uids import uid_text
from hub.record.instants import instant
from hub.record.masking import Viewer, visible
from hub.record.page import SearchRefused
from hub.record.rendering import ENTERED_IN_ERROR
from hub.store import Transaction

_WALKED = 2_000  # rows of other types that one call passes over, for each row that it may give


@dataclass(frozen=True, slots=True)
class Change:
    """The current version of a resource that changed; `gone`: it was entered in error. `at` is a FHIR instant."""

    type: str
    id: str
    version: int
    at: str
    gone: bool


def changes_since(
    tx: Transaction, cursor: str, *, types: frozenset[str], viewer: Viewer, limit: int, before_us: int
) -> tuple[list[Change], str]:
    """Up to `limit` changes of these types (none: all) after that cursor ("" = from the beginning), and the next cursor.

    A resource that changed again is told once, as it is now. What the viewer does not see is not told.

    Raises:
        SearchRefused: a cursor that this function did not make.
    """
    at, number = _position(cursor)
    hiding = visible(viewer)
    marks = ",".join("?" * len(types))
    of_types = f"AND r.type IN ({marks})" if types else ""
    end = tx.row(
        "SELECT r.updated_at, r.id FROM resource r WHERE r.updated_at >= ? AND r.updated_at < ?"  # noqa: S608 - our names
        f" AND (r.updated_at > ? OR r.id > ?) AND {hiding.sql} ORDER BY r.updated_at, r.id LIMIT 1 OFFSET ?",
        at,
        before_us,
        at,
        number,
        *hiding.values,
        max(limit, _WALKED) - 1,
    )
    last = end if end is not None else (before_us, 0)
    rows = tx.rows(
        "SELECT r.updated_at, r.id, r.type, r.version, r.status FROM resource r"  # noqa: S608 - our names
        f" WHERE r.updated_at >= ? AND r.updated_at <= ? AND r.updated_at < ? AND (r.updated_at > ? OR r.id > ?)"
        f" AND (r.updated_at < ? OR r.id <= ?) {of_types} AND {hiding.sql} ORDER BY r.updated_at, r.id LIMIT ?",
        at,
        last[0],
        before_us,
        at,
        number,
        *last,
        *sorted(types),
        *hiding.values,
        limit,
    )
    found = [
        Change(kind, uid_text(row), version, instant(when), status == ENTERED_IN_ERROR)
        for when, row, kind, version, status in rows
    ]
    if len(rows) == limit:
        last = rows[-1][:2]
    return found, cursor if last[0] < at else f"{last[0]}~{last[1]}"


def _position(cursor: str) -> tuple[int, int]:
    if not cursor:
        return 0, 0
    at, tilde, number = cursor.partition("~")
    if not tilde or not all(one.isascii() and one.isdigit() and len(one) < 20 for one in (at, number)):
        raise SearchRefused("cursor")
    return int(at), int(number)
