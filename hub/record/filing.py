"""Resources as rows: loaded together, compared, and written in few statements, old bodies kept as versions.

A `Filing` is one message's work on the record. Nothing is written before `flush`; what is read back within the message is
what will be written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from hub.model.record_change import Json
from hub.record.tokens import Token, tokens
from hub.store import Transaction

Key = tuple[str, str]            # resource type, key

_AT_ONCE = 20
COLUMNS = "r.id, r.type, r.key, r.version, r.patient_id, r.sort_date, r.status, r.mask, r.event_time, r.updated_at, r.body"
_LOAD = {
    n: f"SELECT {COLUMNS} FROM resource r WHERE " + " OR ".join(["(r.type = ? AND r.key = ?)"] * n)  # noqa: S608 - our names
    for n in range(1, _AT_ONCE + 1)
}
_RESOURCE = (
    "id", "type", "key", "version", "patient_id", "sort_date", "status", "mask", "event_time", "updated_at", "body",
)
_VERSION = ("id", "version", "status", "mask", "updated_at", "body")
_PROVENANCE = ("resource_id", "version", "message_id", "path", "mapping", "source")


@dataclass(slots=True)
class Stored:
    """A row of `resource`: the current version. `body` is FHIR JSON without id, meta and subject."""

    id: int
    type: str
    key: str
    version: int
    patient_id: int | None
    sort_date: str
    status: str
    mask: int
    event_time: int
    updated_at: int
    body: bytes

    @property
    def json(self) -> Json:
        found: Json = orjson.loads(self.body)
        return found


@dataclass(slots=True)
class Draft:
    """What a resource should be now."""

    body: Json
    status: str
    path: str
    sort_date: str = ""
    mask: int = 0
    event_time: int = 0


def dumps(body: Json) -> bytes:
    """The stored form: keys sorted, so that the same content is the same bytes."""
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


@dataclass(slots=True)
class Filing:
    """The record being changed by one message."""

    tx: Transaction
    message_id: int
    mapping: str
    source: str
    next_id: Callable[[], int]
    now_us: int
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    _seen: dict[Key, Stored | None] = field(default_factory=dict)
    _new: dict[int, Stored] = field(default_factory=dict)
    _changed: dict[int, Stored] = field(default_factory=dict)
    _versions: list[tuple[Any, ...]] = field(default_factory=list)
    _provenance: list[tuple[Any, ...]] = field(default_factory=list)
    _tokens_new: list[tuple[Any, ...]] = field(default_factory=list)
    _tokens_gone: list[tuple[Any, ...]] = field(default_factory=list)

    # ---- read ----

    def load(self, keys: Iterable[Key]) -> None:
        """Read the rows of `keys` in one statement (twenty at a time)."""
        wanted = [key for key in dict.fromkeys(keys) if key not in self._seen]
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start:start + _AT_ONCE]
            self._seen.update(dict.fromkeys(part))
            for row in self.tx.rows(_LOAD[len(part)], *[text for key in part for text in key]):
                self._seen[row[1], row[2]] = Stored(*row)

    def get(self, kind: str, key: str) -> Stored | None:
        if (kind, key) not in self._seen:
            self.load([(kind, key)])
        return self._seen[kind, key]

    def by_id(self, numbers: Iterable[int]) -> list[Stored]:
        """Rows by number, with what this message changed; in order of their numbers."""
        wanted = sorted(set(numbers))
        pending = {**self._new, **self._changed}
        found = {number: pending[number] for number in wanted if number in pending}
        missing = [number for number in wanted if number not in found]
        if missing:
            for row in self.tx.rows_in(f"SELECT {COLUMNS} FROM resource r WHERE r.id IN ({{keys}})", missing):  # noqa: S608
                stored = self._seen.get((row[1], row[2])) or Stored(*row)
                self._seen[stored.type, stored.key] = stored
                found[stored.id] = stored
        return [found[number] for number in wanted if number in found]

    def filed_now(self, param: str, value: str, system: str) -> list[Stored]:
        """Resources that this message gave a search row, before it is written."""
        numbers = [row[3] for row in self._tokens_new if row[:3] == (param, value, system)]
        return self.by_id(numbers) if numbers else []

    def is_older(self, stored: Stored, event_time: int) -> bool:
        """Whether this message speaks of an earlier state than what is filed.

        Told by the event's time; when that is equal or unknown, by which message came first. So a message that is applied
        again changes nothing.
        """
        if event_time and stored.event_time and event_time != stored.event_time:
            return event_time < stored.event_time
        if stored.id in self._new or stored.id in self._changed:
            return False
        rows = self.tx.rows(
            "SELECT message_id FROM provenance WHERE resource_id = ? AND (version = ? OR message_id = ?)",
            stored.id, stored.version, self.message_id,
        )
        return any(row[0] >= self.message_id for row in rows)

    def was_applied(self, stored: Stored) -> bool:
        """Whether this very message made a version of the resource on an earlier run."""
        if stored.id in self._new or stored.id in self._changed:
            return False
        return self.tx.row(
            "SELECT 1 FROM provenance WHERE message_id = ? AND resource_id = ?", self.message_id, stored.id,
        ) is not None

    # ---- change ----

    def create(self, kind: str, key: str, patient_id: int | None, draft: Draft, *, number: int | None = None) -> Stored:
        stored = Stored(
            self.next_id() if number is None else number, kind, key, 1, patient_id, draft.sort_date, draft.status, draft.mask,
            draft.event_time, self.now_us, dumps(draft.body),
        )
        self.created += 1
        self._seen[kind, key] = self._new[stored.id] = stored
        self._provenance.append((stored.id, 1, self.message_id, draft.path, self.mapping, self.source))
        self._tokens_new += [(param, value, system, stored.id) for param, value, system in tokens(kind, draft.body)]
        return stored

    def change(self, stored: Stored, draft: Draft) -> bool:
        """Make a new version unless nothing differs; whether it did."""
        body = dumps(draft.body)
        if body == stored.body and draft.status == stored.status and draft.mask == stored.mask:
            self.unchanged += 1
            return False
        if body != stored.body:
            before, after = tokens(stored.type, stored.json), tokens(stored.type, draft.body)
            self._forget_tokens(stored.id, before - after)
            self._tokens_new += [(param, value, system, stored.id) for param, value, system in after - before]
        self._versions.append((stored.id, stored.version, stored.status, stored.mask, stored.updated_at, stored.body))
        stored.version += 1
        stored.body, stored.status, stored.mask, stored.sort_date = body, draft.status, draft.mask, draft.sort_date
        stored.event_time, stored.updated_at = max(stored.event_time, draft.event_time), self.now_us
        self._provenance.append((stored.id, stored.version, self.message_id, draft.path, self.mapping, self.source))
        if stored.id not in self._new:
            self._changed[stored.id] = stored
        self.updated += 1
        return True

    def _forget_tokens(self, number: int, gone: set[Token]) -> None:
        rows = [(param, value, system, number) for param, value, system in gone]
        pending = [row for row in rows if row in self._tokens_new]
        self._tokens_new = [row for row in self._tokens_new if row not in pending]
        self._tokens_gone += [row for row in rows if row not in pending]

    # ---- write ----

    def flush(self) -> None:
        """Write everything, in few statements."""
        if self._versions:
            self.tx.insert("resource_version", _VERSION, self._versions)
        if self._new:
            self.tx.insert("resource", _RESOURCE, [
                (s.id, s.type, s.key, s.version, s.patient_id, s.sort_date, s.status, s.mask, s.event_time, s.updated_at, s.body)
                for s in self._new.values()
            ])
        for s in self._changed.values():
            self.tx.run(
                "UPDATE resource SET version = ?, patient_id = ?, sort_date = ?, status = ?, mask = ?, event_time = ?,"
                " updated_at = ?, body = ? WHERE id = ?",
                s.version, s.patient_id, s.sort_date, s.status, s.mask, s.event_time, s.updated_at, s.body, s.id,
            )
        if self._tokens_gone:
            self.tx.run_many(
                "DELETE FROM token_index WHERE param = ? AND value = ? AND system = ? AND resource_id = ?", self._tokens_gone,
            )
        if self._tokens_new:
            self.tx.insert("token_index", ("param", "value", "system", "resource_id"), sorted(self._tokens_new))
        if self._provenance:
            self.tx.insert("provenance", _PROVENANCE, self._provenance)
