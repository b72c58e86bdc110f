"""Lanes that wait for another number of the same patient, and for nothing any more."""

from __future__ import annotations

from typing import Any

from hub.ledger import barriers
from hub.ledger.deliveries import BARRED


def test_a_lane_that_waits_for_no_barrier_is_freed_and_one_that_waits_for_one_is_not(engine: Any) -> None:
    tx = engine.empty()
    tx.insert(
        "lane",
        ("key", "destination", "head", "not_before", "owner", "epoch", "blocked_reason"),
        [
            ("out/p1", "out", 10, 7, None, 1, BARRED),
            ("out/p2", "out", 11, 7, None, 1, BARRED),
            ("out/p3", "out", 12, 7, None, 1, "destination not configured"),
        ],
    )
    tx.insert("barrier", ("lane", "at", "other"), [("out/p2", 11, "out/p9")])
    tx.insert(
        "delivery",
        ("id", "message_id", "destination", "mapping", "replay", "lane", "state", "attempts", "updated_at"),
        [(5, 1, "out", "", 0, "out/p9", "QUEUED", 0, 1)],
    )
    assert barriers.any_barred(tx)
    assert barriers.lift_all(tx) == {"out/p1"}
    assert tx.rows("SELECT key, blocked_reason FROM lane WHERE blocked_reason IS NOT NULL ORDER BY key") == [
        ("out/p2", BARRED),
        ("out/p3", "destination not configured"),
    ]
    tx.run("UPDATE delivery SET state = 'DELIVERED' WHERE id = ?", 5)
    assert barriers.lift_all(tx) == {"out/p2"}
    assert not barriers.any_barred(tx)
