"""All of one patient, in slices: each is one short read, and says where the next one begins.

Standard: FHIR R4 Patient/$everything (start, end, _type, _since, _count).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.model.record_change import Json
from hub.record.definitions import PARAMETERS
from hub.record.filing import COLUMNS, Stored
from hub.record.instants import micros_span, span
from hub.record.masking import Viewer, visible
from hub.record.merging import root_of, same_person
from hub.record.page import SearchRefused
from hub.record.rendering import ENTERED_IN_ERROR, number_of
from hub.record.showing import seen, shown
from hub.store import Transaction

KINDS = ("Patient", *sorted(PARAMETERS))
_NAMES = frozenset({"start", "end", "_type", "_since", "_count", "_format", "_pretty", "_elements", "_summary", "after"})


@dataclass(frozen=True, slots=True)
class Everything:
    """What is asked of whom. `patients` are all numbers of the person, `start` and `end` comparable dates ("" = open)."""

    patients: tuple[int, ...]
    kinds: tuple[str, ...]
    start: str = ""
    end: str = ""
    since_us: int = 0
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slice:
    """Resources in their order, and where the next slice begins (None: this was the last)."""

    entries: tuple[Json, ...]
    after: str | None


def everything(tx: Transaction, patient: str, params: Sequence[tuple[str, str]], viewer: Viewer) -> Everything | None:
    """What `params` ask of a patient; None when there is no such patient for this reader.

    Raises:
        SearchRefused: a date that is none, or a type that is not kept.
    """
    number = number_of(patient)
    if number is None or not any(one.type == "Patient" for one in seen(tx, [number], viewer)):
        return None
    asked = {name: value for name, value in params if value}
    kinds = [one for name, value in params if name == "_type" for one in value.split(",") if one]
    if not set(kinds) <= set(KINDS):
        raise SearchRefused("_type", "a type that this record keeps for patients")
    since = micros_span(asked["_since"].replace(" ", "+")) if "_since" in asked else (0, 0)
    if since is None:
        raise SearchRefused("_since")
    everyone = same_person(tx, [number])
    root = root_of(tx, number)
    return Everything(
        (root, *(one for one in everyone if one != root)),
        tuple(one for one in KINDS if one in kinds) if kinds else KINDS,
        _bound(asked, "start", 0),
        _bound(asked, "end", 1),
        since[0],
        tuple(sorted({name for name, _ in params} - _NAMES)),
    )


def _bound(asked: dict[str, str], name: str, end: int) -> str:
    if name not in asked:
        return ""
    found = span(asked[name].replace(" ", "+"))
    if found is None:
        raise SearchRefused(name)
    return found[end]


def slice_of(tx: Transaction, asked: Everything, viewer: Viewer, *, count: int, after: str = "") -> Slice:
    """Up to `count` resources after that cursor: by number of the patient, by type, by date, what has no date first.

    Raises:
        SearchRefused: a wrong cursor.
    """
    place, date, number = _place(asked, after)
    found: list[Stored] = []
    while place < len(asked.patients) * len(asked.kinds) and len(found) <= count:
        found += _rows(tx, asked, viewer, (place, date, number), count + 1 - len(found))
        if len(found) <= count:
            place, date, number = place + 1, "", 0
    entries = tuple(shown(tx, found[:count], viewer))
    if len(found) <= count:
        return Slice(entries, None)
    last = found[count - 1]
    at = asked.patients.index(last.patient_id or 0) * len(asked.kinds) + asked.kinds.index(last.type)
    return Slice(entries, f"{at}~{last.sort_date}~{last.id}")


def _rows(tx: Transaction, asked: Everything, viewer: Viewer, place: tuple[int, str, int], count: int) -> list[Stored]:
    """The next rows of one type and one number of the patient."""
    at, date, number = place
    whose, kind = asked.patients[at // len(asked.kinds)], asked.kinds[at % len(asked.kinds)]
    hiding = visible(viewer)
    dated = "AND r.sort_date >= ? AND (r.sort_date > ? OR r.id > ?)"
    bounds: list[str] = []
    if kind != "Patient":
        bounds += ["AND (r.sort_date >= ? OR r.sort_date = '')"] * bool(asked.start)
        bounds += ["AND r.sort_date < ?"] * bool(asked.end)
    rows = tx.rows(
        f"SELECT {COLUMNS} FROM resource r WHERE r.patient_id = ? AND r.type = ? {dated} AND r.updated_at >= ?"  # noqa: S608
        f" AND r.status NOT IN ('{ENTERED_IN_ERROR}', 'replaced') AND {hiding.sql} {' '.join(bounds)}"
        " ORDER BY r.sort_date, r.id LIMIT ?",
        whose,
        kind,
        date,
        date,
        number,
        asked.since_us,
        *hiding.values,
        *((one for one in (asked.start, asked.end) if one) if kind != "Patient" else ()),
        count,
    )
    return [Stored(*row) for row in rows]


def _place(asked: Everything, after: str) -> tuple[int, str, int]:
    if not after:
        return 0, "", 0
    at, _, rest = after.partition("~")
    date, _, number = rest.rpartition("~")
    numbers = all(one.isascii() and one.isdigit() and len(one) < 20 for one in (at, number))
    if not numbers or len(date) > 20 or "\0" in date or int(at) >= len(asked.patients) * len(asked.kinds):
        raise SearchRefused("after")
    return int(at), date, int(number)
