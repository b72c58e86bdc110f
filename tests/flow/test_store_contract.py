"""What every store promises, on both engines; and what only one that several processes share has to keep."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Integer, LargeBinary

from bench.services import PostgresServer
from hub.model.refusals import HubError
from hub.store import BlobDamaged, ReadTooLong, StoreUnavailable, postgres, sqlite
from hub.store.blobs import BlobFolder
from hub.store.clock import SharedClock, ticks_us
from hub.store.place import Place, open_for_command, open_store, place_of
from hub.store.port import DuplicateKey, StatementRefused
from hub.store.schema import metadata
from hub.store.upgrade import upgrade

BIG = (1 << 63) - 1
LEASE = ("job", "owner", "lease_until")


class Oops(HubError):
    """A function's own error."""

    code = "Oops"


@pytest.fixture
def opened(tmp_path):
    """`async with opened(place) as store`."""

    @asynccontextmanager
    async def start(place: Place):
        store = open_store(place, BlobFolder(tmp_path / "blobs"))
        store.start()
        try:
            yield store
        finally:
            await store.close()

    return start


def put(tx, job: str, owner: str = "o", at: int = 1):
    tx.insert("job_lease", LEASE, [(job, owner, at)])
    return job


async def jobs(store) -> list[str]:
    return sorted(job for (job,) in await store.read(lambda tx: tx.rows("SELECT job FROM job_lease")))


# ---- functions and transactions ----


def test_what_was_written_is_read_and_lasts(each_place, opened):
    async def run():
        async with opened(each_place) as store:
            assert await store.write(lambda tx: put(tx, "one")) == "one"
            assert await jobs(store) == ["one"]
            assert store.health() == ""
        async with opened(each_place) as store:
            assert await jobs(store) == ["one"]

    asyncio.run(run())


def test_a_function_that_raises_is_undone_alone(each_place, opened):
    def job(n: int):
        def run(tx):
            put(tx, f"{n:03d}")
            tx.run("UPDATE job_lease SET owner = ? WHERE job = ?", "x", f"{n:03d}")
            if n % 3 == 0:
                raise Oops(str(n))
            return n

        return run

    async def run():
        async with opened(each_place) as store:
            found = await asyncio.gather(*(store.write(job(n)) for n in range(40)), return_exceptions=True)
            assert [str(one.sentence) if isinstance(one, Oops) else one for one in found] == [
                str(n) if n % 3 == 0 else n for n in range(40)
            ]
            assert await jobs(store) == [f"{n:03d}" for n in range(40) if n % 3]
            assert store.health() == ""

    asyncio.run(run())


@pytest.mark.parametrize("urgent", [False, True])
def test_results_of_a_bulk_come_in_order_and_who_raises_is_undone_alone(each_place, opened, urgent):
    batches: list[list[int]] = []

    def job(tx, items):
        batches.append(list(items))
        for item in items:
            put(tx, f"{item:04d}")
            if item % 50 == 7:
                raise Oops(str(item))
        return [f"done {item}" for item in items]

    async def run():
        async with opened(each_place) as store:
            bulk = store.bulk(job, urgent=urgent, at_most=32)
            found = await asyncio.gather(*(bulk(n) for n in range(300)), return_exceptions=True)
            assert [one.sentence if isinstance(one, Oops) else one for one in found] == [
                str(n) if n % 50 == 7 else f"done {n}" for n in range(300)
            ]
            assert await jobs(store) == [f"{n:04d}" for n in range(300) if n % 50 != 7]
            assert max(map(len, batches)) <= 32
            assert len([one for one in batches if len(one) > 1]) < 60  # gathered, not one by one

    asyncio.run(run())


def test_items_of_a_bulk_are_worked_in_the_order_they_were_given(each_place, opened):
    seen: list[int] = []

    def job(tx, items):
        for item in items:
            seen.append(item)
            put(tx, str(item))
        return items

    async def run():
        async with opened(each_place) as store:
            bulk, told = store.bulk(job, at_most=16), list[int]()
            for n in range(500):
                bulk.submit(n, told.append)
                if n % 40 == 0:
                    await asyncio.sleep(0)
            while len(told) < 500:
                await asyncio.sleep(0.01)
            assert told == seen == list(range(500))

    asyncio.run(run())


def test_a_caller_that_went_away_harms_nobody(each_place, opened):
    async def run():
        async with opened(each_place) as store:
            bulk = store.bulk(lambda tx, items: [put(tx, item) for item in items])
            gone = asyncio.ensure_future(bulk("gone"))
            other = asyncio.ensure_future(bulk("other"))
            await asyncio.sleep(0)
            gone.cancel()
            assert await other == "other"
            assert await jobs(store) == ["gone", "other"]

    asyncio.run(run())


def test_what_is_queued_at_the_close_is_done(each_place, opened):
    async def run():
        async with opened(each_place) as store:
            bulk, told = store.bulk(lambda tx, items: [put(tx, item) for item in items], at_most=8), []
            for n in range(100):
                bulk.submit(f"{n:03d}", told.append)
        await asyncio.sleep(0)
        async with opened(each_place) as store:
            assert len(await jobs(store)) == 100
        assert told == [f"{n:03d}" for n in range(100)]

    asyncio.run(run())


def test_a_read_sees_one_moment_and_changes_nothing(each_place, opened):
    async def run():
        async with opened(each_place) as store:
            await store.write(lambda tx: put(tx, "before"))
            looked, written = threading.Event(), threading.Event()

            def slow(tx):
                first = tx.rows("SELECT job FROM job_lease")
                looked.set()
                assert written.wait(20)
                return first, tx.rows("SELECT job FROM job_lease")

            reading = asyncio.ensure_future(store.read(slow))
            await asyncio.to_thread(looked.wait, 20)
            await store.write(lambda tx: put(tx, "between"))
            written.set()
            first, second = await reading
            assert first == second == [("before",)]
            with pytest.raises(Exception):  # each engine says it in its own words
                await store.read(lambda tx: put(tx, "by a reader"))
            assert await jobs(store) == ["before", "between"]

    asyncio.run(run())


def test_numbers_grow_also_after_a_restart_and_after_what_others_made(each_place, opened):
    async def run():
        async with opened(each_place) as store:
            first = [store.next_id() for _ in range(5_000)]
            assert first == sorted(set(first))
            store.seen(first[-1] + (5_000 << 16))
            beyond = store.next_id()
            assert beyond > first[-1] + (5_000 << 16)
            await store.write(lambda tx: tx.insert("body", ("message_id", "bytes"), [(beyond, b"")]))
            row = (beyond, 1, "a", "r", "x", "t", "{}", b"", b"")
            await store.write(
                lambda tx: tx.insert("audit", ("id", "at", "actor", "role", "act", "target", "detail", "previous", "hash"), [row])
            )
        async with opened(each_place) as store:
            assert store.next_id() > beyond
            store.use_edge(7)
            after = store.next_id()
            assert after > beyond and after >> 11 & 31 == 7

    asyncio.run(run())


# ---- the same SQL ----


def value_of(column, n: int):
    if isinstance(column.type, LargeBinary):
        return bytes([n, 0, 255])
    if isinstance(column.type, BigInteger):
        return BIG - n
    if isinstance(column.type, Integer):
        return (1 << 31) - 1 - n
    return f"{column.name} é€ {n}"


@pytest.mark.parametrize("name", sorted(set(metadata.tables) - {"member"}))
def test_every_column_takes_its_largest_value_and_null_by_insert_and_by_update(each_place, opened, name):
    table = metadata.tables[name]
    columns = [column.name for column in table.columns]
    key = next(iter(table.primary_key.columns)).name
    optional = [column.name for column in table.columns if column.nullable]
    full = [tuple(value_of(column, n) for column in table.columns) for n in range(3)]
    other = columns.index(key)

    quoted = ", ".join(f'"{one}"' for one in columns)

    def rows(tx):
        return sorted(tx.rows(f"SELECT {quoted} FROM {name}"), key=repr)

    async def run():
        async with opened(each_place) as store:
            await store.write(lambda tx: tx.insert(name, columns, full))
            assert await store.read(rows) == sorted(full, key=repr)
            if optional:
                empty = [(row[other], *([None] * len(optional))) for row in full]
                await store.write(lambda tx: tx.update(name, key, optional, empty))
                bare = [tuple(None if c in optional else v for c, v in zip(columns, row, strict=True)) for row in full]
                assert await store.read(rows) == sorted(bare, key=repr)
                mixed = [(row[other], *(row[columns.index(c)] if n else None for c in optional)) for n, row in enumerate(full)]
                await store.write(lambda tx: tx.update(name, key, optional, mixed))
                assert await store.read(rows) == sorted([bare[0], *full[1:]], key=repr)
            await store.write(lambda tx: tx.run_in(f"DELETE FROM {name} WHERE {key} IN ({{keys}})", [r[other] for r in full]))
            with_null = [
                tuple(None if c in optional and n else v for c, v in zip(columns, row, strict=True)) for n, row in enumerate(full)
            ]
            await store.write(lambda tx: tx.insert(name, columns, with_null))
            assert await store.read(rows) == sorted(with_null, key=repr)

    asyncio.run(run())


@pytest.mark.parametrize("n", [0, 1, 2, 63, 77, 300, 1000])
def test_any_number_of_rows(each_place, opened, n):
    made = [(f"{i:05d}", "o" if i % 2 else "", i) for i in range(n)]
    names = [job for job, _, _ in made]

    def work(tx):
        returned = tx.insert("job_lease", LEASE, made, suffix="ON CONFLICT (job) DO NOTHING RETURNING job, lease_until")
        assert sorted(returned) == [(job, at) for job, _, at in made]
        again = tx.insert("job_lease", LEASE, made, suffix="ON CONFLICT (job) DO NOTHING RETURNING job")
        assert again == []
        tx.update("job_lease", "job", ("lease_until", "owner"), [(job, at + 1, owner + "!") for job, owner, at in made])
        found = tx.rows_in("SELECT job, owner, lease_until FROM job_lease WHERE lease_until > ? AND job IN ({keys})", names, 0)
        assert sorted(found) == [(job, owner + "!", at + 1) for job, owner, at in made]
        values = [(job, at, None, b"\0x") for job, _, at in made]
        joined = tx.rows_values(
            "WITH v(j, a, n, b) AS (VALUES {values}) SELECT v.j, v.a, v.n, v.b, l.lease_until "
            "FROM v JOIN job_lease l ON l.job = v.j",
            values,
        )
        assert sorted(joined) == [(job, at, None, b"\0x", at + 1) for job, _, at in made]
        tx.run_many("UPDATE job_lease SET owner = ? WHERE job = ?", [("many", job) for job in names])
        assert len(tx.rows("SELECT job FROM job_lease WHERE owner = ?", "many")) == n
        tx.run_in("DELETE FROM job_lease WHERE job IN ({keys})", names[: n // 2])
        assert tx.row("SELECT count(*) FROM job_lease") == (n - n // 2,)
        assert tx.row("SELECT job FROM job_lease WHERE job = ?", "not there") is None

    async def run():
        async with opened(each_place) as store:
            await store.write(work)
            assert len(await jobs(store)) == n - n // 2

    asyncio.run(run())


def test_an_update_takes_null_wherever_it_stands(each_place, opened):
    async def run():
        async with opened(each_place) as store:
            lane = ("key", "destination", "head", "not_before", "owner", "epoch", "blocked_reason")
            await store.write(lambda tx: tx.insert("lane", lane, [(f"l{n}", "d", BIG - n, 0, None, 0, None) for n in range(6)]))
            rows = [("l0", None, 5, None), ("l1", "me", 6, None), ("l2", None, 7, "why"), ("l3", "me", 8, "why")]
            await store.write(lambda tx: tx.update("lane", "key", ("owner", "not_before", "blocked_reason"), rows))
            found = await store.read(lambda tx: tx.rows("SELECT key, owner, not_before, blocked_reason FROM lane ORDER BY key"))
            assert found == [*rows, ("l4", None, 0, None), ("l5", None, 0, None)]
            none = await store.write(lambda tx: tx.rows("UPDATE lane SET owner = ? WHERE key = ? RETURNING key", "x", "nobody"))
            some = await store.write(lambda tx: tx.rows("UPDATE lane SET owner = ? WHERE key = ? RETURNING key", "x", "l5"))
            assert (none, some) == ([], [("l5",)])

    asyncio.run(run())


NASTY = [
    "",
    "NULL",
    "{",
    "}",
    '"',
    "\\",
    "'",
    "a,b",
    "{a,b}",
    "é",
    "\u2028",
    "😀",
    "%s",
    "?",
    "$1",
    "{keys}",
    "\x1a",
    "\ufffe",
    " x ",
    "\t\r\n",
]


def test_text_comes_back_as_it_went(each_place, opened):
    async def run():
        async with opened(each_place) as store:
            await store.write(lambda tx: tx.insert("job_lease", LEASE, [(text, text, n) for n, text in enumerate(NASTY)]))
            found = await store.read(lambda tx: tx.rows("SELECT job, owner FROM job_lease ORDER BY lease_until"))
            assert found == [(text, text) for text in NASTY]
            for text in NASTY:
                assert await store.read(lambda tx, t=text: tx.row("SELECT owner FROM job_lease WHERE job = ?", t)) == (text,)
            sql = "SELECT job FROM job_lease WHERE job IN ({keys})"
            assert sorted(await store.read(lambda tx: tx.rows_in(sql, NASTY))) == sorted((text,) for text in NASTY)

    asyncio.run(run())


def test_any_text_and_any_bytes(each_place, opened):
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
    loop = asyncio.new_event_loop()

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(text, st.binary(max_size=50)), max_size=8, unique_by=lambda row: row[0]))
    def holds(rows):
        def work(tx):
            tx.run("DELETE FROM token")
            tx.insert(
                "token",
                ("id", "name", "hash", "role", "masked", "created_at"),
                [(n, name, digest + bytes([n]), "r", 0, BIG) for n, (name, digest) in enumerate(rows)],
            )
            return tx.rows("SELECT name, hash FROM token ORDER BY id")

        assert loop.run_until_complete(store.write(work)) == [(n, d + bytes([i])) for i, (n, d) in enumerate(rows)]

    manager = opened(each_place)
    store = loop.run_until_complete(manager.__aenter__())
    try:
        holds()
    finally:
        loop.run_until_complete(manager.__aexit__(None, None, None))
        loop.close()


def test_a_body_of_300_kb_and_blobs(each_place, opened):
    body = bytes(range(256)) * 1_200
    digest = hashlib.sha256(body).digest()

    async def run():
        async with opened(each_place) as store:
            await store.write(lambda tx: tx.insert("body", ("message_id", "bytes"), [(BIG, body), (-BIG, b"")]))
            found = await store.read(lambda tx: tx.rows("SELECT message_id, bytes FROM body ORDER BY message_id"))
            assert found == [(-BIG, b""), (BIG, body)] and type(found[1][1]) is bytes
            await store.put_blob(digest, body)
            assert await store.read(lambda tx: tx.blob(digest)) == body
            with pytest.raises(BlobDamaged):
                await store.read(lambda tx: tx.blob(bytes(32)))

    asyncio.run(run())


@pytest.mark.parametrize("value", ["\ud800", 1 << 63, -(1 << 63) - 1, 10**40])
def test_a_value_that_no_column_takes_is_its_own_functions_error(each_place, opened, value):
    def bad(tx):
        put(tx, "bad")
        tx.run("UPDATE job_lease SET owner = ? WHERE job = ?", *((value, "bad") if isinstance(value, str) else ("x", "bad")))
        tx.run("UPDATE job_lease SET lease_until = ? WHERE job = ?", *((value, "bad") if isinstance(value, int) else (1, "bad")))

    async def run():
        async with opened(each_place) as store:
            bulk = store.bulk(lambda tx, items: [one(tx) for one in items])
            good = lambda n: lambda tx: put(tx, f"good{n}")  # noqa: E731
            found = await asyncio.gather(
                bulk(good(1)), bulk(bad), store.write(bad), bulk(good(2)), store.write(good(3)), return_exceptions=True
            )
            assert [isinstance(one, Exception) and not isinstance(one, StoreUnavailable) for one in found] == [
                False,
                True,
                True,
                False,
                False,
            ]
            assert not any(str(value) in str(one) for one in found if isinstance(one, StatementRefused))
            assert await jobs(store) == ["good1", "good2", "good3"]
            assert store.health() == ""

    asyncio.run(run())


def test_a_nul_is_that_functions_error_on_postgresql(place, opened):
    async def run():
        async with opened(place) as store:
            with pytest.raises(StatementRefused):
                await store.write(lambda tx: put(tx, "a\0b"))
            with pytest.raises(StatementRefused):
                await store.read(lambda tx: tx.rows("SELECT job FROM job_lease WHERE job = ?", "\0"))
            await store.write(lambda tx: put(tx, "good"))
            assert await jobs(store) == ["good"] and store.health() == ""

    asyncio.run(run())


def test_errors_of_the_server_quote_no_value(place, opened):
    async def run():
        async with opened(place) as store:
            with pytest.raises(StatementRefused) as refused:
                await store.write(lambda tx: tx.run("INSERT INTO job_lease (job, owner) VALUES (?, ?)", "TESTUT", "ZOE"))
            assert str(refused.value) == "NotNullViolation 23502"
            await store.write(lambda tx: put(tx, "TESTUT"))
            with pytest.raises(DuplicateKey) as twice:
                await store.write(lambda tx: put(tx, "TESTUT"))
            assert "TESTUT" not in f"{refused.value!r} {twice.value!r} {twice.value.__cause__!r}"

    asyncio.run(run())


def test_a_read_that_takes_too_long_is_stopped_and_the_next_one_is_not(each_place, opened, monkeypatch):
    monkeypatch.setattr(sqlite, "READ_LIMIT_S", 0.5)
    monkeypatch.setattr(postgres, "READING", postgres.READING.replace("statement_timeout=5000", "statement_timeout=500"))
    endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 2000000000) SELECT count(*) FROM c"

    async def run():
        async with opened(each_place) as store:
            await store.write(lambda tx: put(tx, "there"))
            found = await asyncio.gather(*(store.read(lambda tx: tx.rows(endless)) for _ in range(3)), return_exceptions=True)
            assert [type(one) for one in found] == [ReadTooLong] * 3
            assert await jobs(store) == ["there"]

    asyncio.run(run())


# ---- commands ----


def test_a_command_writes_reads_and_is_undone_when_it_raises(each_place, opened, tmp_path):
    store = open_for_command(each_place, BlobFolder(tmp_path / "blobs"))

    def fails(tx):
        put(tx, "undone")
        raise Oops("no")

    try:
        assert store.write(lambda tx: put(tx, "done")) == "done"
        with pytest.raises(Oops):
            store.write(fails)
        with pytest.raises(StoreUnavailable):
            store.write(lambda tx: put(tx, "done"))
        assert store.write(lambda tx: put(tx, "after")) == "after"
        assert sorted(store.read(lambda tx: tx.rows("SELECT job FROM job_lease"))) == [("after",), ("done",)]
        assert store.next_id() < store.next_id()
    finally:
        store.close()
    reader = open_for_command(each_place, BlobFolder(tmp_path / "blobs"), read_only=True)
    try:
        assert len(reader.read(lambda tx: tx.rows("SELECT job FROM job_lease"))) == 2
        with pytest.raises(StoreUnavailable):
            reader.write(lambda tx: put(tx, "by a reader"))
    finally:
        reader.close()


# ---- a server that is gone ----


@pytest.fixture
def own_server(postgres_server) -> Iterator[PostgresServer]:
    """One that a test may stop: nobody else uses it."""
    with PostgresServer() as server:
        yield server


def test_a_server_that_is_gone_is_unavailable_and_back_when_it_is_back(own_server, opened, tmp_path):
    place = place_of(own_server.create_database(), base=tmp_path, default=tmp_path)
    upgrade(place)

    async def run():
        async with opened(place) as store:
            bulk = store.bulk(lambda tx, items: [put(tx, item) for item in items], urgent=True)
            numbers = count()
            for away, away_s in ((own_server.kill, 8.0), (own_server.stop, 0.5)):  # the first: until pauses would have grown
                await bulk(f"{next(numbers)}")
                assert await jobs(store)
                await asyncio.to_thread(away)
                calls = (bulk("x"), store.write(lambda tx: put(tx, "y")), store.read(lambda tx: tx.rows("SELECT 1")))
                found = await asyncio.gather(*calls, return_exceptions=True)
                assert [type(one) for one in found] == [StoreUnavailable] * 3
                assert store.health() != "" and "postgresql:" not in store.health()
                until = time.monotonic() + away_s
                while time.monotonic() < until:
                    with suppress(StoreUnavailable):
                        await store.read(lambda tx: tx.rows("SELECT 1"))
                    await asyncio.sleep(0.1)
                before = store.now_us()
                await store.read_clock()  # kept by this machine meanwhile
                assert before <= store.now_us() < before + 60_000_000
                await asyncio.to_thread(own_server.start)
                back = time.monotonic()
                await _until_works(lambda: bulk(f"{next(numbers)}"))
                assert store.health() == ""
                await _until_works(lambda: jobs(store))
                assert time.monotonic() - back < 20  # not the minute that a growing pause would cost
            assert not {"x", "y"} & set(await jobs(store))

    asyncio.run(run())


def test_a_connection_that_was_ended_meanwhile_costs_nobody_an_error(place, opened):
    async def run():
        async with opened(place) as store:
            for n in range(5):
                await asyncio.gather(*(store.write(lambda tx: tx.row("SELECT 1")) for _ in range(12)))
                await store.write(lambda tx: tx.end_sessions([store.session]))
                found = await asyncio.gather(
                    *(store.write(lambda tx, k=k: put(tx, f"{n}/{k}") and tx.row("SELECT 1")) for k in range(12))
                )
                assert found == [(1,)] * 12
            assert len(await jobs(store)) == 60

    asyncio.run(run())


async def _until_works(call: Callable):
    until = time.monotonic() + 60
    while True:
        try:
            return await call()
        except StoreUnavailable:
            assert time.monotonic() < until
            await asyncio.sleep(0.05)


def test_a_store_without_a_server_does_not_open(tmp_path):
    nowhere = place_of("postgresql://postgres@127.0.0.1:1/none", base=tmp_path, default=tmp_path)
    with pytest.raises(StoreUnavailable):
        open_store(nowhere, BlobFolder(tmp_path / "blobs"))
    with pytest.raises(StoreUnavailable):
        open_for_command(nowhere, BlobFolder(tmp_path / "blobs"))


# ---- the clock ----


def test_the_clock_is_the_servers(place, opened):
    async def run():
        async with opened(place) as store:
            sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
            for _ in range(3):
                before = store.now_us()
                (server,) = await store.read(lambda tx: tx.row(sql))
                assert before - 5_000_000 < server < store.now_us() + 5_000_000
                await store.read_clock()

    asyncio.run(run())


def test_a_clock_that_was_set_is_followed_at_the_next_sample():
    clock, now = SharedClock(), ticks_us()
    for n in range(16):
        clock.sample(now + n, now + n + 1_000_000_050, now + n + 100)  # a good one: round trip 100 µs, an offset of 1000 s
    assert abs(clock.now_us() - ticks_us() - 1_000_000_000) < 1_000
    clock.sample(now, now + 4_600_000_500, now + 1_000)  # set forward by an hour
    assert abs(clock.now_us() - ticks_us() - 4_600_000_000) < 1_000
    clock.sample(now, now + 500_000_500, now + 1_000)  # and back
    assert abs(clock.now_us() - ticks_us() - 500_000_000) < 1_000


def test_a_slow_answer_does_not_move_the_clock():
    clock, now = SharedClock(), ticks_us()
    clock.sample(now, now + 1_000_000_050, now + 100)
    for _ in range(10):
        clock.sample(now, now + 1_000_000_000 + 4_000_000, now + 4_000_100)  # four seconds on the way back
    assert abs(clock.now_us() - ticks_us() - 1_000_000_000) < 1_000


@given(st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(0, 3_000_000)), min_size=1, max_size=40))
def test_the_clock_is_never_further_off_than_half_a_round_trip_and_the_drift(ways):
    clock, now, offset = SharedClock(), ticks_us(), 123_000_000_000
    for there, back in ways:
        clock.sample(now, now + there + offset, now + there + back)
    shortest = min(there + back for there, back in ways[-16:])
    assert abs(clock.now_us() - ticks_us() - offset) <= shortest // 2 + 2_000
