"""F19: a database of the first schema, full of queued messages, is upgraded; who upgrades is killed half way: nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import shutil
import sqlite3
import time

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from fault_harness import Place, check_ledger, check_record, full, measured, on_both_engines, run
from sqlalchemy import Connection, MetaData, create_engine, select
from sqlalchemy.pool import NullPool

import hub.store.migrations
from bench.sender import Load, Sent, send
from bench.sink import DROP, Sink
from bench.synthetic import Traffic
from bench.traffic import compare
from hub.model.uids import UidMaker
from hub.store.place import place_of
from hub.store.upgrade import HEAD, version_of

FIRST = "0001"
LINES, PATIENTS = 4, 50
ROUTED, UNROUTED = full(20_000, 400), full(5_000, 150)  # on each line
CUTS = full(10, 2)
RETRY = "[destination.retry]\nbase_s = 0.2\nprobe_s = 0.2"


@pytest.fixture
def today(place):
    """A hub of today, in which the messages queue up."""
    folder = place.folder / "today"
    folder.mkdir()
    made = Place(folder, place.server)
    yield made
    made.close()


@on_both_engines
def test_f19_killed_in_the_middle_of_an_upgrade(place, today, engine):
    traffic, rng = Traffic(run="U", patients=PATIENTS), random.Random(19)

    async def story():
        sink = Sink(lambda n, control_id: DROP)
        await sink.start()
        for one in (today, place):
            one.configure(destinations=[("out", sink.port, RETRY)], routes=("record", "out"))
        journal = Sent()
        await _queue(today, traffic, journal)
        await asyncio.to_thread(_make_old, today, place)
        await asyncio.to_thread(_keep, place, traffic, journal)
        queued = place.value("SELECT count(*) FROM message WHERE state <> 'DONE'")
        assert queued == len(journal.acked) == LINES * (ROUTED + UNROUTED)
        pristine = _Pristine(place)
        kept, before = _kept(place), _facts(place)

        watch = _Watch(place)
        seconds = await _upgraded_s(place, watch)
        assert _version(place) == HEAD
        assert _facts(place) == before
        cut = whole = 0
        while cut < CUTS or _version(place) == HEAD:  # the last one is cut
            assert cut + whole < 12 * CUTS, "no process could be killed in the middle of it"
            if _version(place) == HEAD:
                await asyncio.to_thread(pristine.put_back)
            how = rng.choice((("run",), ("db", "upgrade")))
            place.process = place.spawn(*how)
            await watch.begun()
            await asyncio.sleep(rng.uniform(0, 0.7 * seconds))
            was_in_the_middle = watch.migrating()
            place.kill()
            await watch.over()
            version = _version(place)
            assert version in (FIRST, HEAD)
            cut, whole = cut + (was_in_the_middle and version == FIRST), whole + (version == HEAD)
            works = how == ("run",) and version == HEAD  # perhaps it routes already
            assert _kept(place) == kept if works else _facts(place) == before, "as it was, or upgraded whole"
        pristine.drop()
        watch.close()

        sink.behaviour = None
        sink.journal.clear()
        began = time.monotonic()
        await place.start(wait_s=60)
        listening_s = time.monotonic() - began
        await place.settled(full(900, 60), messages=queued)
        assert (await place.stop())[0] == 0
        assert _version(place) == HEAD
        check_ledger(place, journal)
        check_record(place)
        verdict = compare(journal.acked, journal.acked, [(got.control_id, got.patient) for got in sink.journal])
        assert verdict.is_clean and not verdict.repeated, verdict
        measured(
            f"F19 upgrade, {engine}",
            queued=queued,
            killed_in_the_middle=cut,
            killed_after=whole,
            migration_s=round(seconds, 2),
            listens_after_s=round(listening_s, 2),
            lost=0,
            inversions=0,
        )

    run(story())


# ---- the queue -----------------------------------------------------------------------------------------------------


async def _queue(today: Place, traffic: Traffic, journal: Sent) -> None:
    """Messages that are routed and wait for a destination that takes none, some under way when the hub was killed."""
    await today.start()
    load = Load("127.0.0.1", today.port, traffic, LINES, ROUTED, 4, patience_s=full(900, 60))
    await send(load, journal)
    until = time.monotonic() + full(600, 60)
    while today.value("SELECT count(*) FROM message WHERE state = 'RECEIVED'") or today.value(_RECORDING):
        assert time.monotonic() < until, "not routed"
        await asyncio.sleep(0.1)
    today.kill()


_RECORDING = "SELECT count(*) FROM delivery WHERE destination = 'record' AND state <> 'DELIVERED'"


def _make_old(today: Place, place: Place) -> None:
    """What is in the one, in a database of the first schema in the other: columns that both have."""
    config = Config()
    config.set_main_option("script_location", str(hub.store.migrations.__path__[0]))
    place.data.mkdir(exist_ok=True)
    here, there = MetaData(), MetaData()
    with _connected(today) as source, _connected(place) as target:
        config.attributes["connection"] = target
        command.upgrade(config, FIRST)
        here.reflect(source)
        there.reflect(target)
        for name, table in there.tables.items():
            if name in here.tables and name not in ("alembic_version", "job_lease"):
                columns = [column.name for column in table.columns if column.name in here.tables[name].columns]
                rows = source.execute(select(*(here.tables[name].columns[column] for column in columns)))
                while part := rows.mappings().fetchmany(2_000):
                    target.execute(table.insert(), [dict(row) for row in part])
    assert _version(place) == FIRST


def _keep(place: Place, traffic: Traffic, journal: Sent) -> None:
    """Messages after those, kept and acknowledged, and not routed when the hub was killed."""
    with _connected(place) as target:
        old = MetaData()
        old.reflect(target)
        now_ms = time.time_ns() // 1_000_000
        uids = UidMaker(lambda: now_ms, edge=0, after=place.value("SELECT max(id) FROM message"))
        for number in range(ROUTED, ROUTED + UNROUTED):
            rows = []
            for line in range(LINES):
                body, one = traffic.message(line, number), uids.next()
                rows.append(
                    (one, line, traffic.control_id(line, number), traffic.event(number), body, hashlib.sha256(body).digest())
                )
                journal.acked_at[rows[-1][2]] = 0.0
            target.execute(
                old.tables["message"].insert(),
                [
                    {
                        "id": one,
                        "source": "his",
                        "connection": str(line),
                        "format": "hl7v2-er7",
                        "type": f"ADT^{event}",
                        "control_id": control_id,
                        "sending_app": "BENCH",
                        "charset": "utf-8",
                        "size": len(body),
                        "sha256": digest,
                        "in_file": 0,
                        "received_at": now_ms * 1000,
                        "state": "RECEIVED",
                        "ack_code": "AA",
                        "ack_state": "SENT",
                    }
                    for one, line, control_id, event, body, digest in rows
                ],
            )
            target.execute(old.tables["body"].insert(), [{"message_id": row[0], "bytes": row[4]} for row in rows])
            target.execute(
                old.tables["dedupe"].insert(),
                [
                    {"source": "his", "control_id": row[2], "sha256": row[5], "message_id": row[0], "at": now_ms * 1000}
                    for row in rows
                ],
            )


@contextlib.contextmanager
def _connected(place: Place):
    url = "postgresql+psycopg://" if place.url else f"sqlite:///{place.database}"
    creator = {"creator": lambda: psycopg.connect(place.url)} if place.url else {}
    engine = create_engine(url, poolclass=NullPool, **creator)
    try:
        connection: Connection
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


# ---- the upgrade ---------------------------------------------------------------------------------------------------


class _Pristine:
    """The database as it was before the first upgrade."""

    def __init__(self, place: Place) -> None:
        self.place, self.copy = place, place.folder / "first.db"
        self.url = ""
        if place.url:
            self.url = place.server.create_database()
            self._copy(place.url, self.url)
        else:
            with sqlite3.connect(place.database) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            shutil.copy(place.database, self.copy)

    def put_back(self) -> None:
        if self.url:
            self._copy(self.url, self.place.url)
        else:
            for end in ("-wal", "-shm"):
                self.place.database.with_name(self.place.database.name + end).unlink(missing_ok=True)
            shutil.copy(self.copy, self.place.database)

    def drop(self) -> None:
        if self.url:
            self.place.server.drop_database(self.url)

    def _copy(self, source: str, target: str) -> None:
        names = [url.rpartition("/")[2] for url in (target, source)]
        self.place.server.drop_database(target)
        with psycopg.connect(self.place.server.url(), autocommit=True) as server:
            server.execute('CREATE DATABASE "{}" TEMPLATE "{}"'.format(*names))


def _version(place: Place) -> str:
    return version_of(place_of(place.url, base=place.data, default=place.database))


def _kept(place: Place) -> tuple:
    """Every message, in order, and how many bodies and keys there are."""
    messages = tuple(place.rows("SELECT id, control_id, sha256, received_at FROM message ORDER BY id"))
    return messages, place.value("SELECT count(*) FROM body"), place.value("SELECT count(*) FROM dedupe")


def _facts(place: Place) -> list[tuple]:
    """That, how far each message and delivery is, and how much there is of everything else."""
    counted = ("attempt", "lane", "patient", "patient_identifier", "resource", "provenance", "token_index", "audit")
    return [
        _kept(place),
        *(place.rows(f"SELECT count(*) FROM {table}")[0] for table in counted),
        tuple(place.rows("SELECT id, state, open_n, patient_id FROM message ORDER BY id")),
        tuple(place.rows("SELECT id, message_id, lane, state, attempts FROM delivery ORDER BY id")),
    ]


class _Watch:
    """Sees whether the transaction of a migration is open: it alone writes, or holds the lock of migrations."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._server = psycopg.connect(place.server.url(), autocommit=True) if place.url else None

    def migrating(self) -> bool:
        if self._server is not None:
            return self._server.execute(_ADVISORY, (self.place.url.rpartition("/")[2],)).fetchone() is not None
        connection = sqlite3.connect(self.place.database, timeout=0, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
        finally:
            connection.close()
        return False

    async def begun(self) -> None:
        until = time.monotonic() + 30
        while not self.migrating():
            assert self.place.process.poll() is None and time.monotonic() < until, self.place.log.read_text()[-2000:]
            await asyncio.sleep(0.004)

    async def over(self) -> None:
        """Committed, or given up: a server takes a moment to see that its client is gone."""
        until = time.monotonic() + 60
        while self.migrating():
            assert time.monotonic() < until
            await asyncio.sleep(0.001)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


_ADVISORY = (
    "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
    "WHERE l.locktype = 'advisory' AND l.granted AND d.datname = %s"
)


async def _upgraded_s(place: Place, watch: _Watch) -> float:
    """Seconds of one upgrade that nobody disturbs, from its first lock on."""
    place.process = place.spawn("db", "upgrade")
    await watch.begun()
    began = time.monotonic()
    await watch.over()
    seconds = time.monotonic() - began
    assert await place.ended(60) == 0
    return seconds
