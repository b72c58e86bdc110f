"""How far a job that works in slices has come: a number that only its holder moves."""

from __future__ import annotations

from hub.store import Transaction


def position(tx: Transaction, job: str) -> int | None:
    """The number, None before the first `place`."""
    row = tx.row("SELECT position FROM job_position WHERE job = ?", job)
    return row[0] if row is not None else None


def place(tx: Transaction, job: str, number: int) -> None:
    """Begin at `number`, unless it has begun."""
    tx.insert("job_position", ("job", "position"), [(job, number)], suffix="ON CONFLICT (job) DO NOTHING")


def move(tx: Transaction, job: str, *, was: int, now: int) -> bool:
    """Go on to `now`; False when somebody else has gone on from `was` already."""
    return bool(tx.rows("UPDATE job_position SET position = ? WHERE job = ? AND position = ? RETURNING job", now, job, was))
