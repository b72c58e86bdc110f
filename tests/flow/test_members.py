"""The list of processes: numbers, leases, burials, and what is freed by them. On both engines."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from hub.ledger import leases, members
from hub.ledger.members import EDGES, ClusterFull, Joining
from hub.store.blobs import BlobFolder
from hub.store.place import open_store


@pytest.fixture
def opened(each_place, tmp_path):
    """`async with opened() as store`: an empty database."""

    @asynccontextmanager
    async def start():
        store = open_store(each_place, BlobFolder(tmp_path / "blobs"))
        store.start()
        try:
            yield store
        finally:
            await store.close()

    return start


def joining(owner: str, role: str = "worker") -> Joining:
    return Joining(owner, f"vaguemestre {owner}", role, "host", 1, "0")


async def join(store, owner: str, *, role: str = "worker", now: int = 0, until: int = 100) -> int:
    return await store.write(lambda tx: members.join(tx, joining(owner, role), now=now, lease_until=until))


def lane(tx, key: str, owner: str | None) -> None:
    row = (key, "lab", 1, 0, owner, 5, None)
    tx.insert("lane", ("key", "destination", "head", "not_before", "owner", "epoch", "blocked_reason"), [row])


def test_numbers_run_out_and_those_of_the_dead_come_back(opened):
    async def run():
        async with opened() as store:
            numbers = await asyncio.gather(*(join(store, f"m{n}", until=100 + n) for n in range(EDGES)))
            assert sorted(numbers) == list(range(EDGES))
            with pytest.raises(ClusterFull):
                await join(store, "one more", now=50)
            gone = numbers[7]
            await store.write(lambda tx: members.leave(tx, "m7"))
            assert await join(store, "another", until=500) == gone
            assert await store.read(lambda tx: members.count(tx, ["worker"])) == EDGES
            assert await join(store, "after the burial of m0", now=101, until=999) == numbers[0]

    asyncio.run(run())


def test_a_number_rests_before_it_is_given_again(opened):
    async def run():
        async with opened() as store:
            given = []
            for n in range(EDGES + 2):
                given.append(await join(store, f"m{n}"))
                await store.write(lambda tx, n=n: members.leave(tx, f"m{n}"))
            assert given == [n % EDGES for n in range(EDGES + 2)]

    asyncio.run(run())


def test_who_misses_the_lease_is_buried_and_all_it_held_is_free(opened):
    async def run():
        async with opened() as store:
            await join(store, "quick", until=100)
            await join(store, "slow", until=100)

            def hold(tx):
                for key, owner in (("a", "quick"), ("b", "slow"), ("c", None)):
                    lane(tx, key, owner)
                leases.take(tx, ["route/1"], owner="quick", now=0, lease_until=100)
                leases.take(tx, ["route/2"], owner="slow", now=0, lease_until=100)

            await store.write(hold)
            assert await store.write(lambda tx: members.renew(tx, "quick", now=90, lease_until=190)) is True
            assert await store.write(lambda tx: members.bury(tx, now=100)) == []  # a lease holds to its last microsecond
            assert await store.write(lambda tx: members.bury(tx, now=101)) == ["slow"]
            assert await store.write(lambda tx: members.bury(tx, now=101)) == []
            found = await store.read(lambda tx: tx.rows("SELECT key, owner, epoch FROM lane ORDER BY key"))
            assert found == [("a", "quick", 5), ("b", None, 5), ("c", None, 5)]
            assert await store.read(lambda tx: leases.held(tx, kind="route/")) == {"route/1": "quick"}
            assert await store.write(lambda tx: members.renew(tx, "slow", now=102, lease_until=202)) is False
            assert await store.read(lambda tx: tx.rows("SELECT owner, lease_until FROM job_lease")) == [("quick", 190)]

    asyncio.run(run())


def test_who_leaves_frees_only_its_own(opened):
    async def run():
        async with opened() as store:
            await join(store, "one")
            await join(store, "other")
            await store.write(lambda tx: [lane(tx, "a", "one"), lane(tx, "b", "other")])
            await store.write(lambda tx: leases.take(tx, ["x", "y"], owner="one", now=0, lease_until=100))
            await store.write(lambda tx: members.leave(tx, "one"))
            assert await store.read(lambda tx: tx.rows("SELECT key, owner FROM lane ORDER BY key")) == [
                ("a", None),
                ("b", "other"),
            ]
            assert await store.read(lambda tx: leases.held(tx, kind="")) == {}
            await store.write(lambda tx: members.leave(tx, "one"))

    asyncio.run(run())


def test_lanes_of_who_is_not_in_the_list_are_freed(opened):
    async def run():
        async with opened() as store:
            await join(store, "one")
            await store.write(lambda tx: [lane(tx, "a", "one"), lane(tx, "b", "a ghost"), lane(tx, "c", None)])
            await store.write(members.free_orphans)
            found = await store.read(lambda tx: tx.rows("SELECT key, owner FROM lane ORDER BY key"))
            assert found == [("a", "one"), ("b", None), ("c", None)]

    asyncio.run(run())


def test_a_job_is_held_by_one_until_its_time_its_return_or_never(opened):
    async def run():
        async with opened() as store:

            async def take(owner: str, now: int, *jobs: str) -> list[str]:
                return sorted(await store.write(lambda tx: leases.take(tx, jobs, owner=owner, now=now, lease_until=now + 10)))

            assert await take("one", 0, "route/1", "route/10", "other/1") == ["other/1", "route/1", "route/10"]
            assert await take("two", 5, "route/1", "route/2") == ["route/2"]
            assert await take("two", 10, "route/1") == []
            assert await take("two", 11, "route/1") == ["route/1"]
            held = await store.read(lambda tx: leases.held(tx, kind="route/"))
            assert held == {"route/1": "two", "route/10": "one", "route/2": "two"}
            await store.write(lambda tx: leases.give_back(tx, ["route/1", "route/10"], owner="one"))
            assert await store.read(lambda tx: leases.held(tx, kind="route/")) == {"route/1": "two", "route/2": "two"}
            assert await store.write(lambda tx: leases.take(tx, [], owner="one", now=0, lease_until=1)) == []

    asyncio.run(run())


def test_many_that_want_one_job_get_it_once(opened):
    async def run():
        async with opened() as store:
            jobs = [f"route/{n}" for n in range(64)]
            wanted = [
                store.write(lambda tx, n=n: leases.take(tx, jobs[n % 7 :] + jobs[: n % 7], owner=str(n), now=0, lease_until=10))
                for n in range(12)
            ]
            found = await asyncio.gather(*wanted)
            assert sorted(job for taken in found for job in taken) == sorted(jobs)

    asyncio.run(run())
