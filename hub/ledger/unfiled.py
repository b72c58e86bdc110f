"""Whether the record already holds what was acknowledged before."""

from __future__ import annotations

from collections.abc import Sequence

from hub.store import Transaction


def is_unfiled(tx: Transaction, *, before: int, lanes: Sequence[str]) -> bool:
    """Whether a message that came before this number waits to be routed, or one of these lanes holds an open delivery."""
    waiting = tx.row("SELECT 1 FROM message WHERE state = 'RECEIVED' AND state <> 'DONE' AND id < ? LIMIT 1", before)
    if waiting is not None:
        return True
    return bool(lanes) and bool(tx.rows_in("SELECT key FROM lane WHERE key IN ({keys})", lanes))


def is_behind(tx: Transaction, *, before: int, lane: str) -> bool:
    """Whether a message that came before this number still has an open delivery in a lane."""
    row = tx.row(
        "SELECT 1 FROM delivery WHERE lane = ? AND state IN ('QUEUED','WAITING','SENDING','UNSURE') AND message_id < ? LIMIT 1",
        lane,
        before,
    )
    return row is not None
