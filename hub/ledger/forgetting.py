"""Keys of messages that are older than the window are forgotten: the same control id is a new message again."""

from __future__ import annotations

from hub.store import Transaction

JOB = "forget-keys"
SLICE = 500


def forget_keys(tx: Transaction, *, before: int, at_most: int = SLICE) -> int:
    """Delete the dedupe keys of messages kept before `before` (UTC microseconds), in their order; a key that a later message
    holds by now stays.

    How many messages were looked at; fewer than `at_most`: there is nothing older left. Each slice remembers where it ended.
    """
    row = tx.row("SELECT position FROM job_position WHERE job = ?", JOB)
    after = row[0] if row is not None else 0
    found = tx.rows(
        "SELECT id, source, control_id, sha256 FROM message WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
        after,
        before // 1000 << 16,
        at_most,
    )
    if found:
        tx.run_many(
            "DELETE FROM dedupe WHERE source = ? AND control_id = ? AND sha256 = ? AND message_id = ?",
            [(source, control_id, digest, number) for number, source, control_id, digest in found],
        )
        tx.insert(
            "job_position",
            ("job", "position"),
            [(JOB, found[-1][0])],
            suffix="ON CONFLICT (job) DO UPDATE SET position = excluded.position",
        )
    return len(found)
