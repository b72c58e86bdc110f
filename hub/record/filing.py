"""Resources as rows: loaded together, compared, and written in few statements, old bodies kept as versions.

A `Filing` is the work of one message, or of several in their order, on the record. Nothing is written before `flush`; what is
read back meanwhile is what will be written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from hub.model.record_change import ContentRange, Json
from hub.record.binaries import stored_encoding
from hub.record.clinical_tokens import Token
from hub.record.derivations import Derivations
from hub.record.merging import roots_of
from hub.record.tokens import tokens
from hub.store import Transaction

Key = tuple[str, str]  # resource type, key
TokenRow = tuple[str, str, str, int]

COLUMNS = "r.id, r.type, r.key, r.version, r.patient_id, r.sort_date, r.status, r.mask, r.event_time, r.updated_at, r.body"
_LOAD = f"WITH v(t, k) AS (VALUES {{values}}) SELECT {COLUMNS} FROM v CROSS JOIN resource r WHERE r.type = v.t AND r.key = v.k"  # noqa: S608
_RESOURCE = ("id", "type", "key", "version", "patient_id", "sort_date", "status", "mask", "event_time", "updated_at", "body")
_CHANGING = ("version", "sort_date", "status", "mask", "event_time", "updated_at", "body")
_BINARY = ("id", "resource_id", "message_id", "offset", "length", "encoding", "content_type", "size", "sha1")
_VERSION = ("id", "version", "status", "mask", "updated_at", "body")
_TOKEN = ("param", "value", "system", "resource_id")
_PROVENANCE = ("resource_id", "version", "message_id", "path", "mapping", "source", "document_id")
_TRANSLATED = ("document_id", "mapping", "at", "facts", "unread")
_TRANSLATED_AGAIN = (
    "ON CONFLICT (document_id) DO UPDATE SET mapping = excluded.mapping, at = excluded.at, facts = excluded.facts,"
    " unread = excluded.unread"
)


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
    _parsed: tuple[bytes, Json] | None = None

    @property
    def json(self) -> Json:
        """The body, parsed once; not to be changed."""
        if self._parsed is None or self._parsed[0] is not self.body:
            self._parsed = self.body, orjson.loads(self.body)
        return self._parsed[1]


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


class Filing:
    """The record being changed. `begin` says for which message; the counts are those of that message."""

    __slots__ = (
        "_binaries",
        "_changed",
        "_document",
        "_last",
        "_new",
        "_provenance",
        "_roots",
        "_seen",
        "_token_index",
        "_tokens_gone",
        "_tokens_new",
        "_touched",
        "_translated",
        "_versions",
        "created",
        "derivations",
        "mapping",
        "message_id",
        "next_id",
        "now_us",
        "source",
        "tx",
        "unchanged",
        "updated",
    )

    def __init__(self, tx: Transaction, next_id: Callable[[], int], now_us: int) -> None:
        self.tx, self.next_id, self.now_us = tx, next_id, now_us
        self._seen: dict[Key, Stored | None] = {}
        self._roots: dict[int, int] = {}
        self._new: dict[int, Stored] = {}
        self._changed: dict[int, Stored] = {}
        self._last: dict[int, int] = {}  # resource → message of its newest version, for those changed here
        self._versions: list[tuple[Any, ...]] = []
        self._provenance: list[tuple[Any, ...]] = []
        self._translated: dict[int, tuple[Any, ...]] = {}
        self.derivations = Derivations(tx)
        self._document: int | None = None
        self._binaries: list[tuple[Any, ...]] = []
        self._tokens_new: set[TokenRow] = set()
        self._tokens_gone: set[TokenRow] = set()
        self._token_index: dict[Token, set[int]] = {}
        self.begin(0, "", "")

    def begin(self, message_id: int, mapping: str, source: str) -> None:
        """Work for this message from here on."""
        self.message_id, self.mapping, self.source, self._document = message_id, mapping, source, None
        self.created = self.updated = self.unchanged = 0
        self._touched: set[int] = set()

    @contextmanager
    def read_from(self, document: int, mapping: str) -> Iterator[None]:
        """What is filed meanwhile stands in this document, and was read by this mapping."""
        before = self.mapping, self._document
        self.mapping, self._document = mapping or self.mapping, document
        try:
            yield
        finally:
            self.mapping, self._document = before

    # ---- read ----

    def load(self, keys: Iterable[Key]) -> None:
        """Read the rows of `keys` in few statements."""
        wanted = [key for key in dict.fromkeys(keys) if key not in self._seen]
        self._seen.update(dict.fromkeys(wanted))
        for row in self.tx.rows_values(_LOAD, wanted) if wanted else ():
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

    def roots_of(self, patients: Iterable[int]) -> dict[int, int]:
        """The number that stands for each of these patients after merges."""
        wanted = set(patients)
        missing = wanted - self._roots.keys()
        if missing:
            merged = roots_of(self.tx, missing)
            self._roots.update((one, merged.get(one, one)) for one in missing)
        return {one: self._roots[one] for one in wanted}

    def same_person(self, one: int | None, other: int | None) -> bool:
        """Whether two patient numbers are one person's, merges counted."""
        if one == other or one is None or other is None:
            return one == other
        roots = self.roots_of((one, other))
        return roots[one] == roots[other]

    def filed_now(self, param: str, value: str, system: str) -> list[Stored]:
        """Resources that were given a search row that is not yet written."""
        numbers = self._token_index.get((param, value, system))
        return self.by_id(numbers) if numbers else []

    def is_older(self, stored: Stored, event_time: int) -> bool:
        """Whether this message speaks of an earlier state than what is filed.

        Told by the event's time; when that is equal or unknown, by which message came first. So a message that is applied
        again changes nothing.
        """
        if event_time and stored.event_time and event_time != stored.event_time:
            return event_time < stored.event_time
        if stored.id in self._touched:
            return False
        if stored.id in self._last:
            return self._last[stored.id] >= self.message_id or (stored.id not in self._new and self.was_applied(stored))
        rows = self.tx.rows(
            "SELECT message_id FROM provenance WHERE resource_id = ? AND (version = ? OR message_id = ?)",
            stored.id,
            stored.version,
            self.message_id,
        )
        return any(row[0] >= self.message_id for row in rows)

    def was_applied(self, stored: Stored) -> bool:
        """Whether this very message made a version of the resource on an earlier run."""
        if stored.id in self._touched or stored.id in self._new:
            return False
        return (
            self.tx.row("SELECT 1 FROM provenance WHERE message_id = ? AND resource_id = ?", self.message_id, stored.id)
            is not None
        )

    # ---- change ----

    def create(self, kind: str, key: str, patient_id: int | None, draft: Draft, *, number: int | None = None) -> Stored:
        stored = Stored(
            self.next_id() if number is None else number,
            kind,
            key,
            1,
            patient_id,
            draft.sort_date,
            draft.status,
            draft.mask,
            draft.event_time,
            self.now_us,
            dumps(draft.body),
        )
        self.created += 1
        self._seen[kind, key] = self._new[stored.id] = stored
        self._came_from(stored, draft.path)
        self._remember_tokens(stored.id, tokens(kind, draft.body, patient_id))
        return stored

    def change(self, stored: Stored, draft: Draft) -> bool:
        """Make a new version unless nothing differs; whether it did."""
        body = dumps(draft.body)
        if body == stored.body and draft.status == stored.status and draft.mask == stored.mask:
            self.unchanged += 1
            return False
        if body != stored.body:
            before, after = (tokens(stored.type, one, stored.patient_id) for one in (stored.json, draft.body))
            self._forget_tokens(stored.id, before - after)
            self._remember_tokens(stored.id, after - before)
        self._versions.append((stored.id, stored.version, stored.status, stored.mask, stored.updated_at, stored.body))
        stored.version += 1
        stored.body, stored.status, stored.mask, stored.sort_date = body, draft.status, draft.mask, draft.sort_date
        stored.event_time, stored.updated_at = max(stored.event_time, draft.event_time), self.now_us
        self._came_from(stored, draft.path)
        if stored.id not in self._new:
            self._changed[stored.id] = stored
        self.updated += 1
        return True

    def add_binary(self, document: int, content: ContentRange) -> int:
        """File where a document's bytes stand in the message; the number of the Binary."""
        number = self.next_id()
        self._binaries.append(
            (
                number,
                document,
                self.message_id,
                content.offset,
                content.length,
                stored_encoding(content),
                content.content_type,
                content.size,
                content.sha1,
            )
        )
        return number

    def said_again(self, stored: Stored, path: str) -> None:
        """Another document says what is filed already: no version, and one more place that it comes from."""
        self._provenance.append((stored.id, stored.version, self.message_id, path, self.mapping, self.source, self._document))

    def was_translated(self, document: int, mapping: str, *, facts: int, unread: int) -> None:
        """Note by which mapping the content of a document was read."""
        self._translated[document] = (document, mapping, self.now_us, facts, unread)

    def _came_from(self, stored: Stored, path: str) -> None:
        self.said_again(stored, path)
        self._last[stored.id] = self.message_id
        self._touched.add(stored.id)

    def _remember_tokens(self, number: int, gained: set[Token]) -> None:
        for token in gained:
            self._tokens_new.add((*token, number))
            self._token_index.setdefault(token, set()).add(number)

    def _forget_tokens(self, number: int, gone: set[Token]) -> None:
        for token in gone:
            row = (*token, number)
            if row in self._tokens_new:
                self._tokens_new.discard(row)
                self._token_index[token].discard(number)
            else:
                self._tokens_gone.add(row)

    # ---- write ----

    def flush(self) -> None:
        """Write everything, in few statements."""
        if self._versions:
            self.tx.insert("resource_version", _VERSION, sorted(self._versions))
        if self._new:
            self.tx.insert(
                "resource",
                _RESOURCE,
                [
                    (
                        s.id,
                        s.type,
                        s.key,
                        s.version,
                        s.patient_id,
                        s.sort_date,
                        s.status,
                        s.mask,
                        s.event_time,
                        s.updated_at,
                        s.body,
                    )
                    for _, s in sorted(self._new.items())  # rows that come in order fill their pages
                ],
            )
        if self._changed:
            self.tx.update(
                "resource",
                "id",
                _CHANGING,
                [
                    (s.id, s.version, s.sort_date, s.status, s.mask, s.event_time, s.updated_at, s.body)
                    for s in self._changed.values()
                ],
            )
        if self._binaries:
            self.tx.insert("binary_content", _BINARY, self._binaries)
        if self._tokens_gone:
            self.tx.run_many(
                "DELETE FROM token_index WHERE param = ? AND value = ? AND system = ? AND resource_id = ?",
                sorted(self._tokens_gone),
            )
        if self._tokens_new:
            by_resource = sorted((row[3], row) for row in self._tokens_new)
            self.tx.insert("token_index", _TOKEN, [row for _, row in by_resource])
        self.derivations.flush()
        if self._translated:
            self.tx.insert("translated", _TRANSLATED, sorted(self._translated.values()), suffix=_TRANSLATED_AGAIN)
        if self._provenance:
            rows = {row[:4]: row for row in self._provenance}  # one entry of a document may be named twice
            self.tx.insert("provenance", _PROVENANCE, [row for _, row in sorted(rows.items())])
