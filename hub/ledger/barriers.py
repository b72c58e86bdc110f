"""Barriers between lanes: where one person has two numbers, what came first under one is sent before what comes later under
the other.

A row says that in `lane`, deliveries from `at` on wait until `other` has no open delivery below `at`. A lane whose head waits
so is blocked with the reason `BARRED`, until the last delivery before it in the other lane has ended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from hub.ledger.deliveries import BARRED
from hub.store import Transaction

_OPEN = "state IN ('QUEUED','WAITING','SENDING','UNSURE')"


def raise_between(tx: Transaction, patients: Sequence[int], *, before: int, after: int, at: int) -> int:
    """Let what has a number from `at` on in the lanes of patient `after` wait for what is open in the lanes of `before`.

    `patients` are all numbers of the person or persons concerned: whose messages are looked at. How many barriers it took.
    """
    end = f"/p{before}"
    rows = tx.rows_in(
        "SELECT DISTINCT d.lane, d.destination FROM message m JOIN delivery d ON d.message_id = m.id "  # noqa: S608 - our names
        f"WHERE m.state = 'ROUTED' AND d.{_OPEN} AND m.patient_id IN ({{keys}})",
        patients,
    )
    found = sorted((f"{destination}/p{after}", at, lane) for lane, destination in rows if lane.endswith(end))
    tx.insert("barrier", ("lane", "at", "other"), found, suffix="ON CONFLICT (lane, at, other) DO NOTHING")
    return len(found)


def newest_of(tx: Transaction, patients: Sequence[int]) -> int:
    """The highest number of an open delivery of these patients: a barrier behind it must have a higher one."""
    rows = tx.rows_in(
        "SELECT max(d.id) FROM message m JOIN delivery d ON d.message_id = m.id "  # noqa: S608 - our names
        f"WHERE m.state = 'ROUTED' AND d.{_OPEN} AND m.patient_id IN ({{keys}})",
        patients,
    )
    return max((number for (number,) in rows if number is not None), default=0)


def any_raised(tx: Transaction) -> bool:
    """Whether there is any barrier at all; mostly there is none."""
    return tx.row("SELECT 1 FROM barrier LIMIT 1") is not None


def any_barred(tx: Transaction) -> bool:
    """Whether any lane waits for another one, or seems to."""
    return any_raised(tx) or tx.row("SELECT 1 FROM lane WHERE blocked_reason = ? LIMIT 1", BARRED) is not None


def barred(tx: Transaction, lanes: Sequence[str]) -> set[str]:
    """Those of these lanes that stand before a barrier: nothing is handed out of them at once."""
    if not lanes or not any_raised(tx):
        return set()
    return {lane for (lane,) in tx.rows_in("SELECT DISTINCT lane FROM barrier WHERE lane IN ({keys})", lanes)}


def lift(tx: Transaction, ended: Collection[str]) -> set[str]:
    """Take away barriers that nothing holds any more, now that deliveries ended in these lanes; the lanes that are free so."""
    if not ended or not any_raised(tx):
        return set()
    return _lift(tx, tx.rows_in("SELECT lane, at, other FROM barrier WHERE other IN ({keys})", sorted(ended)))


def lift_all(tx: Transaction) -> set[str]:
    """The same for every barrier, and for lanes that wait for none: what a process that died left behind."""
    free = _lift(tx, tx.rows("SELECT lane, at, other FROM barrier ORDER BY lane, at, other LIMIT 1000"))
    stranded = tx.rows(
        "UPDATE lane SET blocked_reason = NULL, not_before = 0 WHERE blocked_reason = ?"
        " AND NOT EXISTS (SELECT 1 FROM barrier b WHERE b.lane = lane.key) RETURNING key",
        BARRED,
    )
    return free | {key for (key,) in stranded}


def _lift(tx: Transaction, rows: Iterable[Sequence[object]]) -> set[str]:
    over = [
        tuple(row)
        for row in rows
        if tx.row(f"SELECT 1 FROM delivery WHERE lane = ? AND id < ? AND {_OPEN} LIMIT 1", row[2], row[1]) is None  # noqa: S608
    ]
    if not over:
        return set()
    tx.run_many("DELETE FROM barrier WHERE lane = ? AND at = ? AND other = ?", over)
    lanes = {str(lane) for lane, _, _ in over}
    # Who looks at such a lane now, and still sees the barrier, blocks it in a moment: that moment is waited for.
    tx.rows_in(f"SELECT key FROM lane WHERE key IN ({{keys}}) ORDER BY key{tx.locked}", sorted(lanes))  # noqa: S608
    free = lanes - barred(tx, sorted(lanes))
    tx.run_many(
        "UPDATE lane SET blocked_reason = NULL, not_before = 0 WHERE key = ? AND blocked_reason = ?",
        [(lane, BARRED) for lane in sorted(free)],
    )
    return free
