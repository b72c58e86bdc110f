"""Scheduled work: once among several processes, and what it does."""

from __future__ import annotations

import asyncio

from hub.app.jobs import forget, once
from hub.ledger import forgetting

KEEP = """
[hub]
dedupe_window_days = {days}
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = []
"""


def test_keys_older_than_the_window_are_forgotten_and_younger_ones_stay(running, make_adt, monkeypatch):
    monkeypatch.setattr(forgetting, "SLICE", 3)

    async def main():
        async with running(KEEP.format(days=0.001)) as hub, hub.sender() as his:  # 86 s
            for n in range(8):
                await his.ask(make_adt(f"OLD{n}"))
            await hub.settled(8)
            await forget(hub.hub)
            assert await hub.row("SELECT count(*) FROM dedupe") == (8,)  # nothing is old yet
            shift = 100_000_000
            await hub.hub.store.write(lambda tx: tx.run("UPDATE dedupe SET at = at - ?", shift))
            ago = (shift // 1000) << 16
            for table, column in (
                ("message", "id"),
                ("body", "message_id"),
                ("dedupe", "message_id"),
                ("delivery", "message_id"),
            ):
                await hub.hub.store.write(lambda tx, t=table, c=column: tx.run(f"UPDATE {t} SET {c} = {c} - ?", ago))
            for n in range(2):
                await his.ask(make_adt(f"NEW{n}"))
            await hub.settled(10)
            await forget(hub.hub)
            rows = await hub.rows("SELECT control_id FROM dedupe ORDER BY control_id")
            assert rows == [("NEW0",), ("NEW1",)]
            await forget(hub.hub)  # again: nothing more
            assert await hub.row("SELECT count(*) FROM dedupe") == (2,)

    asyncio.run(main())


def test_a_key_that_was_used_again_since_is_not_forgotten_with_its_first_message(running, make_adt):
    async def main():
        async with running(KEEP.format(days=0.001)) as hub, hub.sender() as his:
            await his.ask(make_adt("C0"))
            await hub.settled(1)
            ago = (100_000_000 // 1000) << 16
            for table, column in (("message", "id"), ("body", "message_id")):  # an old message, its key used just now
                await hub.hub.store.write(lambda tx, t=table, c=column: tx.run(f"UPDATE {t} SET {c} = {c} - ?", ago))
            await forget(hub.hub)
            assert await hub.row("SELECT count(*) FROM dedupe") == (1,)

    asyncio.run(main())


def test_a_job_is_done_by_one_process_in_its_time(running):
    async def main():
        done = []

        async def job():
            done.append(1)

        async with running(KEEP.format(days=30)) as hub:
            first, second = await asyncio.gather(once(hub.hub, "x", 60, job), once(hub.hub, "x", 60, job))
            assert sorted((first, second)) == [False, True] and done == [1]
            assert not await once(hub.hub, "x", 60, job)
            assert await once(hub.hub, "y", 60, job)
            await hub.hub.store.write(lambda tx: tx.run("UPDATE job_lease SET lease_until = 1"))  # its time is over
            assert await once(hub.hub, "x", 60, job) and len(done) == 3

    asyncio.run(main())
