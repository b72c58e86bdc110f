"""A process and its lease, over a real store: shared shards, handing over, a pause, a burial, a server that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from hub.bell.local import LocalBell
from hub.flow import membership
from hub.flow.membership import Alone, Member
from hub.flow.shards import SHARDS
from hub.ledger import leases, members
from hub.store.blobs import BlobFolder
from hub.store.place import Place, open_store

LEASE_S = 2.0


class Process:
    """A member with its store and its life; it lets go of shards as a router does."""

    def __init__(self, place: Place, folder, bell: LocalBell, role: str, **options) -> None:
        self.store = open_store(place, BlobFolder(folder))
        self.store.start()
        self.member = Member(self.store, bell, role, version="0", lease_s=LEASE_S, **options)
        self.member.watchers.append(self)
        self.told: list[str] = []
        self._life: list[asyncio.Task] = []

    async def __aenter__(self):
        await self.member.start()
        self._life = [asyncio.ensure_future(self.member.run()), asyncio.ensure_future(self._let_go())]
        return self

    async def __aexit__(self, *_):
        await self.stop()

    async def stop(self) -> None:
        if self._life:
            await self.member.leave()
            await self.die()

    async def die(self) -> None:
        """End without a word."""
        for task in self._life:
            task.cancel()
        await asyncio.gather(*self._life, return_exceptions=True)
        self._life = []
        await self.store.close()

    def lease_lost(self) -> None:
        assert not self.member.holds()
        self.told.append("lost")

    def lease_held(self) -> None:
        self.told.append("held")

    async def _let_go(self) -> None:
        while True:
            if self.member.leaving:
                await self.member.let_go()
            await asyncio.sleep(0.02)


@pytest.fixture
def process(place, tmp_path):
    bell = LocalBell()
    return lambda role="worker", **options: Process(place, tmp_path / "blobs", bell, role, **options)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.02)


def shared_out(*processes: Process) -> bool:
    """Whether every shard is in one hand, and nobody has more than the share."""
    held = [one.member.shards for one in processes]
    share = -(-SHARDS // len(processes))
    return sorted(shard for shards in held for shard in shards) == list(range(SHARDS)) and max(map(len, held)) <= share


def test_who_is_alone_has_everything():
    alone = Alone()
    assert alone.holds() and alone.shards is None and alone.owner != Alone().owner


def test_shards_are_shared_among_one_two_and_three_and_taken_over_again(process):
    async def run():
        async with process() as one:
            await until(lambda: shared_out(one))
            async with process("all") as two:
                await until(lambda: shared_out(one, two))
                async with process() as three, process("edge") as edge, process("web") as web:
                    await until(lambda: shared_out(one, two, three))
                    assert edge.member.shards == web.member.shards == ()
                    assert len({p.member.owner for p in (one, two, three, edge, web)}) == 5
                await until(lambda: shared_out(one, two))  # three left
            await until(lambda: shared_out(one))

    asyncio.run(run())


def test_a_lease_that_was_written_in_the_moment_of_leaving_comes_to_its_end(process):
    """Whose name is in no list cannot renew it: when it ran out, others take the shard."""

    async def run():
        async with process() as one:
            await until(lambda: shared_out(one))

            def late(tx):
                end = one.store.now_us() + 2_000_000
                tx.run("UPDATE job_lease SET owner = 'gone', lease_until = ? WHERE job = 'route/7'", end)

            await one.store.write(late)
            await until(lambda: 7 not in one.member.shards)
            await until(lambda: shared_out(one))

    asyncio.run(run())


def test_who_stood_still_and_was_not_buried_is_told_to_go_on(process):
    """Work that waited for the lease is not rung for: without a word it would wait for ever."""

    async def run():
        async with process() as one:
            await until(lambda: shared_out(one))
            before, said = one.member.owner, len(one.told)
            one.member._held_until = 0
            await until(lambda: one.member.holds() and len(one.told) > said)
            assert one.told[said:] == ["held"] and one.member.owner == before

    asyncio.run(run())


def test_what_a_dead_process_held_goes_to_the_others(process):
    async def run():
        async with process() as one, process() as two:
            await until(lambda: shared_out(one, two))
            owner = two.member.owner
            lane = ("key", "destination", "head", "not_before", "owner", "epoch")
            await one.store.write(lambda tx: tx.insert("lane", lane, [("lab/p1", "lab", 1, 0, owner, 5)]))
            await two.die()
            await until(lambda: shared_out(one))
            assert await one.store.read(lambda tx: tx.rows("SELECT owner FROM lane")) == [(None,)]
            assert await one.store.read(lambda tx: members.count(tx, ["worker"])) == 1
            assert "held" in one.told

    asyncio.run(run())


def test_a_process_that_was_paused_knows_it_before_anything_else(process, monkeypatch):
    """The pause is made of the clock: nothing of the process has run in between."""

    async def run():
        async with process() as one, process() as two:
            await until(lambda: shared_out(one, two))
            assert one.member.holds()
            now = membership.ticks_us()
            monkeypatch.setattr(membership, "ticks_us", lambda: now + int(LEASE_S * 1e6) + 1)
            assert not one.member.holds()
            monkeypatch.undo()

    asyncio.run(run())


def test_who_was_buried_loses_everything_and_comes_back_under_another_name(process):
    async def run():
        async with process() as one, process() as two:
            await until(lambda: shared_out(one, two))
            before, said = one.member.owner, len(one.told)

            def kill(tx):
                tx.run("UPDATE member SET lease_until = 0 WHERE owner = ?", before)
                members.bury(tx, now=two.store.now_us())

            one.member._held_until = 0  # as after a pause: its lease is over for itself first, then for the others
            await two.store.write(kill)
            await until(lambda: one.member.owner != before)
            await until(lambda: shared_out(one, two) and one.member.holds())
            assert one.told[said] == "lost" and one.told[-1] == "held"
            owners = await two.store.read(lambda tx: sorted(tx.rows("SELECT owner FROM member")))
            assert owners == sorted([(one.member.owner,), (two.member.owner,)])
            held = await two.store.read(lambda tx: leases.held(tx, kind="route/"))
            assert set(held.values()) == {one.member.owner, two.member.owner}

    asyncio.run(run())


def test_a_server_that_is_away_for_long_kills_nobody(postgres_server, process):
    async def run():
        async with process() as one, process() as two:
            await until(lambda: shared_out(one, two))
            names = [one.member.owner, two.member.owner]
            await asyncio.to_thread(postgres_server.stop)
            await until(lambda: not one.member.holds() and not two.member.holds())
            await asyncio.sleep(LEASE_S)
            await asyncio.to_thread(postgres_server.start)
            await until(lambda: one.member.holds() and two.member.holds() and shared_out(one, two))
            assert [one.member.owner, two.member.owner] == names
            assert "lost" not in one.told + two.told and one.told[-1] == two.told[-1] == "held"

    asyncio.run(run())


def test_places_at_a_destination_are_taken_by_as_many_as_there_are(process):
    async def run():
        async with process(few={"lab": 1, "ris": 2}) as one, process(few={"lab": 1, "ris": 2}) as two:
            everyone = (one.member, two.member)
            await until(lambda: [sum(m.serves(name) for m in everyone) for name in ("lab", "ris")] == [1, 2])
            assert all(member.serves("anything else") for member in everyone)
            first = one if one.member.serves("lab") else two
            other = two if first is one else one
            await first.stop()
            await until(lambda: other.member.serves("lab"))

    asyncio.run(run())
