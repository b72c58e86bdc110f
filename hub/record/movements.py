"""Movements of stays as rows that are only ever added; the Encounter is computed from them (`hub.record.stay`).

Standard: IHE PAM France 2.11.2, ITI-31.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

from hub.model.movement_events import NAMELESS_CANCEL, NAMELESS_CORRECTION
from hub.model.record_change import Json, MovementAction, MovementChange
from hub.model.refusals import Finding
from hub.model.uids import uid_text
from hub.record.filing import Stored
from hub.record.instants import instant
from hub.record.stay import COMPUTED, Row, Stay, encounter_of, in_sequence, movements_of
from hub.store import Transaction

_COLUMNS = (
    "key",
    "action",
    "event",
    "original_event",
    "start",
    "historic",
    "nature",
    "event_time",
    "message_id",
    "path",
    "facts",
)
_READ = f"SELECT encounter_id, {', '.join(_COLUMNS)} FROM movement WHERE encounter_id IN ({{keys}})"  # noqa: S608 - our names

# ADT messages were filed without movements by their translation's first version.
_BEFORE = "SELECT 1 FROM provenance WHERE resource_id = ? AND mapping = 'adt@1'"


def _rows(tx: Transaction, encounters: Sequence[int]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {number: [] for number in encounters}
    for number, key, action, event, original, start, historic, nature, at, message, path, facts in tx.rows_in(_READ, encounters):
        row = Row(key, action, event, original, start, historic, nature, at, message, path, orjson.loads(facts))
        found[number].append(row)
    return found


class Stays:
    """The movements of the stays that some messages speak of: read together, added to, and written at the end."""

    __slots__ = ("_new", "_rows", "_tx")

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._rows: dict[int, list[Row]] = {}
        self._new: list[tuple[int, Row]] = []

    def load(self, encounters: Iterable[int]) -> None:
        """Read the movements of these stays in one statement."""
        wanted = sorted(set(encounters) - self._rows.keys())
        if wanted:
            self._rows.update(_rows(self._tx, wanted))

    def has_movements(self, encounter: int) -> bool:
        self.load([encounter])
        return bool(self._rows[encounter])

    def add(self, encounter: int, changes: Sequence[MovementChange], message_id: int, stored: Stored | None) -> None:
        """What a message says of movements; said again by the same message it counts once."""
        if stored is None:
            self._rows.setdefault(encounter, [])
        self.load([encounter])
        rows = self._rows[encounter]
        if not rows and stored is not None and stored.status != "unknown" and self._tx.row(_BEFORE, encounter) is not None:
            self._keep(encounter, _as_filed(stored))
        there = {row.key for row in rows if row.message_id == message_id}
        for change in changes:
            if change.key not in there:
                there.add(change.key)
                self._keep(encounter, _row(change, message_id))

    def _keep(self, encounter: int, row: Row) -> None:
        self._rows[encounter].append(row)
        self._new.append((encounter, row))

    def encounter(self, encounter: int, before: Json, defaults: Json) -> Json:
        """The Encounter as its movements say; elements that are no matter of movements stay as they are."""
        computed = encounter_of(movements_of(self._rows[encounter]))
        kept = {name: value for name, value in before.items() if name not in COMPUTED}
        return {**defaults, **kept, **computed}

    def findings(self, encounter: int, changes: Sequence[MovementChange]) -> list[Finding]:
        """Cancellations and corrections of movements that are not known, or not yet."""
        corrections = [one for one in changes if one.action is not MovementAction.INSERT]
        if not corrections:
            return []
        stay = movements_of(self._rows[encounter])
        return [
            Finding("MOVEMENT_UNKNOWN", one.path, f"{one.path}: no movement of the stay is known that this one speaks of")
            for one in corrections
            if not _is_known(stay, one)
        ]

    def flush(self, next_id: Callable[[], int]) -> None:
        if self._new:
            self._tx.insert(
                "movement",
                ("id", "encounter_id", *_COLUMNS),
                [(next_id(), encounter, *_values(row)) for encounter, row in self._new],
            )
            self._new = []


def computed_only(said: Json) -> Json:
    """What a message that is no movement may say of a stay that has movements."""
    return {name: value for name, value in said.items() if name not in COMPUTED}


def _is_known(stay: Stay, change: MovementChange) -> bool:
    if change.key.startswith(NAMELESS_CANCEL):
        return change.key not in stay.unmatched
    found = stay.movement(change.key)
    if found is None:
        return True  # a correction without a number of its own
    return any(row.action == MovementAction.INSERT for row in found.rows)


def _as_filed(stored: Stored) -> Row:
    """A stay that was filed before movements were kept, as the oldest thing that is said of it."""
    body = stored.json
    facts: Json = {name: body[name] for name in ("identifier", "hospitalization", "period", "class") if name in body}
    start = str(body.get("period", {}).get("start", ""))
    return Row(f"{NAMELESS_CORRECTION}filed", "UPDATE", "", "", start, 0, "", stored.event_time, 0, "", facts)


def _row(change: MovementChange, message_id: int) -> Row:
    return Row(
        change.key,
        change.action.value,
        change.event,
        change.original_event,
        change.start,
        int(change.historic),
        change.nature,
        change.event_time,
        message_id,
        change.path,
        change.facts,
    )


def _values(row: Row) -> tuple[Any, ...]:
    return (
        row.key,
        row.action,
        row.event,
        row.original_event,
        row.start,
        row.historic,
        row.nature,
        row.event_time,
        row.message_id,
        row.path,
        orjson.dumps(row.facts, option=orjson.OPT_SORT_KEYS),
    )


def movements_shown(tx: Transaction, encounter: int) -> list[Json]:
    """The movements of a stay in the order in which they begin, each with every message that spoke of it, oldest first.

    Corrections and cancellations that name no movement stand at the end, under `key` null.
    """
    rows = _rows(tx, [encounter])[encounter]
    senders = _senders(tx, sorted({row.message_id for row in rows}))
    stay = movements_of(rows)
    found = [
        {
            "key": one.key,
            "event": one.event or None,
            "start": one.start or None,
            "nature": one.nature or None,
            "historic": one.historic,
            "cancelled": not one.is_live,
            "history": [_shown(row, senders) for row in one.rows],
        }
        for one in in_sequence(stay.movements.values())
    ]
    loose = sorted((*stay.corrections, *stay.cancellations), key=lambda row: row.order)
    if loose:
        found.append({"key": None, "history": [_shown(row, senders) for row in loose]})
    return found


def _senders(tx: Transaction, messages: Sequence[int]) -> dict[int, tuple[str, str]]:
    """Source and MSH-10 of each message that is still kept."""
    rows = tx.rows_in("SELECT id, source, control_id FROM message WHERE id IN ({keys})", messages) if messages else []
    return {number: (source, control_id) for number, source, control_id in rows}


def _shown(row: Row, senders: dict[int, tuple[str, str]]) -> Json:
    source, control_id = senders.get(row.message_id, (None, None))
    return {
        "message": uid_text(row.message_id) if row.message_id else None,
        "source": source,
        "control_id": control_id,
        "action": row.action,
        "event": row.event or None,
        "original_event": row.original_event or None,
        "start": row.start or None,
        "nature": row.nature or None,
        "historic": bool(row.historic),
        "at": instant(row.event_time) if row.event_time else None,
        "path": row.path,
        "facts": {name: value for name, value in row.facts.items() if name[0] != "_"},
    }
