"""What the change feed tells of the record, and what it tells again."""

from __future__ import annotations

import asyncio
import json

import pytest

from hub.flow import feed as feed_module
from hub.flow.feed import Feed, FeedSpec
from hub.model.refusals import PeerUnavailable


def test_what_was_not_taken_is_told_again_with_the_same_number(engine, monkeypatch):
    tx = engine.empty()
    monkeypatch.setattr(feed_module, "SETTLED_US", 0)
    tx.insert(
        "resource",
        ("id", "type", "key", "version", "patient_id", "sort_date", "status", "mask", "event_time", "updated_at", "body"),
        [
            (1, "Condition", "a", 1, 7, "", "", 0, 0, 100, b"{}"),
            (2, "Condition", "b", 3, 7, "", "entered-in-error", 0, 0, 100, b"{}"),
            (3, "Condition", "c", 1, 7, "", "", 1, 0, 101, b"{}"),  # masked for professionals
            (4, "Patient", "d", 1, 7, "", "", 0, 0, 102, b"{}"),
            (5, "Condition", "e", 2, 7, "", "", 0, 0, 103, b"{}"),
        ],
    )

    class Store:
        shared = False

        def now_us(self) -> int:
            return 1_000

        async def write(self, job):
            return job(tx)

        read = write

    got, fails = [], [True]

    async def notify(body: bytes) -> None:
        got.append(json.loads(body))
        if fails.pop() if fails else False:
            raise PeerUnavailable

    async def main():
        feed = Feed(FeedSpec("x", frozenset({"Condition"}), from_start=True), Store(), notify)
        with pytest.raises(PeerUnavailable):
            await feed.push()
        assert await feed.push() == 3
        assert await feed.push() == 0

    asyncio.run(main())
    assert got[0] == got[1] and len(got) == 2
    assert [entry["request"]["method"] for entry in got[1]["entry"][1:]] == ["POST", "DELETE", "PUT"]
    assert [entry["response"]["etag"] for entry in got[1]["entry"][1:]] == ['W/"1"', 'W/"3"', 'W/"2"']
