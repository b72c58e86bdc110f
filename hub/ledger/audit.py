"""Who looked and who did: one row each, chained by digest so that a changed or missing row shows.

Cutting off the newest rows leaves a shorter chain that is whole: keep the last hash elsewhere to see that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from hub.store.port import Transaction

_FIRST = bytes(32)
_COLUMNS = ("id", "at", "actor", "role", "act", "target", "patient_id", "detail", "previous", "hash")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One read or act. `detail` holds codes, counts and the reason a person gave; never a patient's value."""

    actor: str
    role: str
    act: str
    target: str
    patient_id: int | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


def record(tx: Transaction, entries: Sequence[AuditEntry], *, next_id: Callable[[], int], now_us: int) -> list[int]:
    """Append the rows in order; their numbers, which always grow along the chain."""
    tx.exclusive("audit")  # one chain, whoever writes
    last = tx.row("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1")
    number, previous = (last[0], bytes(last[1])) if last else (0, _FIRST)
    rows = []
    for entry in entries:
        number = max(next_id(), number + 1)
        detail = orjson.dumps(dict(entry.detail), option=orjson.OPT_SORT_KEYS).decode()
        values = (number, now_us, entry.actor, entry.role, entry.act, entry.target, entry.patient_id, detail)
        digest = _chained(previous, values)
        rows.append((*values, previous, digest))
        previous = digest
    tx.insert("audit", _COLUMNS, rows)
    return [row[0] for row in rows]


def verify(tx: Transaction, *, batch: int = 5_000) -> int | None:
    """The number of the first row that breaks the chain, None when it is whole."""
    previous, after = _FIRST, -1
    while rows := tx.rows(
        "SELECT id, at, actor, role, act, target, patient_id, detail, previous, hash FROM audit WHERE id > ? ORDER BY id LIMIT ?",
        after,
        batch,
    ):
        for row in rows:
            if bytes(row[8]) != previous or _chained(previous, row[:8]) != bytes(row[9]):
                return int(row[0])
            previous = bytes(row[9])
        after = rows[-1][0]
    return None


def _chained(previous: bytes, values: Sequence[object]) -> bytes:
    return hashlib.sha256(previous + orjson.dumps(list(values))).digest()
