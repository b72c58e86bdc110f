"""F20: a backup taken under load is whole. Restored beside the original it delivers elsewhere, or it goes on in its place."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import time
from collections import Counter

import pytest
from fault_harness import Place, check_ledger, check_record, full, measured, on_both_engines, run

from bench.sender import Load, Sent, send
from bench.sink import Sink
from bench.synthetic import Traffic
from bench.traffic import compare
from hub.ledger import audit
from hub.store.blobs import BlobFolder
from hub.store.place import open_for_command, place_of

MESSAGES, LINES, RATE = full(3_000, 80), 6, 200
DOCUMENTS = full(180, 12)  # in files: larger than what the database takes
OUT = "in_flight = 4\n[destination.retry]\nbase_s = 0.2\nprobe_s = 0.2"
OPEN = "('QUEUED', 'WAITING', 'SENDING', 'UNSURE')"


@on_both_engines
def test_f20_backup_under_load(place, engine):
    async def story():
        theirs = Sink(delay_s=0.03)
        await theirs.start()
        _configure(place, theirs)
        await place.start(ready=True)
        token = place.token()
        reading = asyncio.create_task(_read_bodies(place, token))
        first = Sent()
        sending = asyncio.create_task(_send(place, first))
        await _acked(first, 0.35, sending)

        acked, began = first.acked, time.monotonic()
        await asyncio.to_thread(_copy_database, place, place.folder / "backup")
        seconds = time.monotonic() - began
        await asyncio.to_thread(shutil.copytree, place.data / "blobs", place.folder / "backup" / "blobs")
        copies = [await asyncio.to_thread(_restored, place, name) for name in ("looked_at", "beside", "instead")]
        try:
            looked_at, beside, instead = copies
            waiting, delivered = _examine(looked_at, acked)
            assert delivered, "something was delivered before the backup"
            assert waiting, "something waited while the backup was taken"
            await _look(looked_at, theirs, token)
            assert _delivered(looked_at) == delivered, "nothing leaves a copy that is looked at"
            await _rehearse(beside, waiting)
            await _acked(first, 0.7, sending)
            assert len(theirs.ids) == len(set(theirs.ids)), "what the copies held, only the original delivered there"
            assert not reading.done(), "bodies could be read all the time"
            assert not [e for e in place.events() if e["event"] == "store.unavailable"], "the original does not notice"
            reading.cancel()
            place.kill()
            sending.cancel()
            await asyncio.sleep(1)  # until the destination has read what was sent to it
            repeats = await _go_on(instead, place, theirs, delivered)
        finally:
            for copy in copies:
                copy.close()
        measured(
            f"F20 backup under load, {engine}",
            kept_at_backup=len(waiting) + len(delivered),
            waiting=len(waiting),
            backup_s=round(seconds, 2),
            delivered_by_both=0,
            taken_over=LINES * MESSAGES + DOCUMENTS,
            repeats=repeats,
            lost=0,
        )

    run(story())


def _configure(place: Place, sink: Sink) -> None:
    place.configure(destinations=[("out", sink.port, OUT)], routes=("record", "out"))


async def _look(copy: Place, theirs: Sink, token: str) -> None:
    """As docs/operations.md says: the web alone; where one process does everything, without source, destination and route."""
    if copy.url:
        _configure(copy, theirs)
    else:
        copy.config.write_text(f'[hub]\ndata_dir = "{copy.data}"\n[web]\nlisten = "127.0.0.1:{copy.web_port}"\n')
    await copy.start(ready=True, role="web" if copy.url else "all")
    status, page = await copy.get("/api/v1/messages?limit=5", token)
    assert status == 200
    assert len(json.loads(page)["items"]) == 5
    await asyncio.sleep(1)
    assert (await copy.stop())[0] == 0


async def _rehearse(copy: Place, waiting: list[str]) -> None:
    """Beside the original, a copy whose destinations have other addresses delivers what it held there, and nothing else."""
    elsewhere = Sink()
    await elsewhere.start()
    _configure(copy, elsewhere)
    await copy.start()
    await copy.settled(full(300, 60))
    assert (await copy.stop())[0] == 0
    await elsewhere.stop()
    assert Counter(elsewhere.ids) == dict.fromkeys(waiting, 1)
    check_ledger(copy)
    check_record(copy, stays_of="A")


async def _go_on(copy: Place, original: Place, theirs: Sink, delivered: list[str]) -> int:
    """In the place of the original, which has ended; senders repeat everything. How many came to the destination again."""
    before = set(theirs.ids)
    copy.port = original.port
    _configure(copy, theirs)
    await copy.start()
    again = Sent()
    await _send(copy, again)
    await copy.settled(full(600, 60), messages=len(again.acked))
    assert (await copy.stop())[0] == 0
    assert len(again.acked) == LINES * MESSAGES + DOCUMENTS
    check_ledger(copy, again)
    check_record(copy, stays_of="A")
    verdict = compare(again.acked, again.answers, [(got.control_id, got.patient) for got in theirs.journal])
    assert verdict.is_clean, verdict
    repeated = set(verdict.repeated)
    assert repeated <= before, "a repeat is of what the original delivered"
    assert not repeated & set(delivered), "and never of what the backup knew as delivered"
    assert set(verdict.repeated.values()) <= {2}
    return len(repeated)


@pytest.mark.parametrize("engine", ["postgres"])
def test_f20_a_copy_that_still_names_the_processes_of_the_original(place, engine):
    """On the same server, with the rows of the processes in it: they are buried in the copy; the original keeps its sessions."""

    async def story():
        place.configure()
        await place.start()
        sent = await send(Load("127.0.0.1", place.port, Traffic(run="B"), 1, 20))
        sessions = place.rows(_SESSIONS)
        assert sessions
        _program(place, "pg_dump", "--format=custom", f"--file={place.folder / 'dump'}", f"--dbname={place.url}")
        (place.folder / "copy").mkdir()
        copy = Place(place.folder / "copy", place.server)
        try:
            _program(place, "pg_restore", "--exit-on-error", f"--dbname={copy.url}", str(place.folder / "dump"))
            assert copy.value("SELECT count(*) FROM member") == 1
            copy.configure()
            await copy.start()
            until = time.monotonic() + 30
            while not any(event["event"] == "member.buried_others" for event in copy.events()):
                assert time.monotonic() < until
                await asyncio.sleep(0.1)
        finally:
            copy.close()
        assert set(sessions) <= set(place.rows(_SESSIONS))
        assert len(sent.acked) == 20

    run(story())


_SESSIONS = (
    "SELECT pid, backend_start FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'vaguemestre%'"
)


# ---- traffic -------------------------------------------------------------------------------------------------------


async def _send(place: Place, journal: Sent) -> None:
    """Admissions over some lines and documents over one more, paced; the same bytes each time."""
    stays, documents = Sent(), Sent()
    stays.answers = documents.answers = journal.answers
    stays.acked_at = documents.acked_at = journal.acked_at
    common = {"resend": True, "patience_s": full(900, 60)}
    address = "127.0.0.1", place.port
    await asyncio.gather(
        send(Load(*address, Traffic(run="A", patients=25), LINES, MESSAGES, rate=RATE, **common), stays),
        send(
            Load(
                *address,
                Traffic("mdm", run="D", patients=10, size=300_000),
                1,
                DOCUMENTS,
                rate=RATE * DOCUMENTS / (LINES * MESSAGES),
                **common,
            ),
            documents,
        ),
    )


async def _acked(journal: Sent, part: float, sending: asyncio.Task) -> None:
    while len(journal.acked_at) < part * (LINES * MESSAGES + DOCUMENTS):
        assert not sending.done(), "the load goes on meanwhile"
        await asyncio.sleep(0.01)


async def _read_bodies(place: Place, token: str) -> None:
    """Read bodies without end: each is a row of the audit."""
    while True:
        _, page = await place.get("/api/v1/messages?limit=20", token)
        for item in json.loads(page)["items"]:
            status, _ = await place.get(f"/api/v1/messages/{item['id']}/body", token)
            assert status == 200
            await asyncio.sleep(0.02)


# ---- the backup ----------------------------------------------------------------------------------------------------


def _copy_database(place: Place, target) -> None:
    """As docs/operations.md says: the database first, the blobs after it. The rows of running processes stay behind."""
    target.mkdir()
    if not place.url:
        connection = sqlite3.connect(f"file:{place.database}?mode=ro", uri=True)
        connection.execute("VACUUM INTO ?", (str(target / "vaguemestre.db"),))
        connection.close()
        return
    of_processes = [f"--exclude-table-data={table}" for table in ("member", "job_lease")]
    _program(place, "pg_dump", "--format=custom", *of_processes, f"--file={target / 'dump'}", f"--dbname={place.url}")


def _restored(place: Place, name: str) -> Place:
    """The backup in a place of its own; the ports are other ones."""
    (place.folder / name).mkdir()
    made = Place(place.folder / name, place.server)
    made.data.mkdir()
    shutil.copytree(place.folder / "backup" / "blobs", made.data / "blobs")
    if made.url:
        _program(place, "pg_restore", "--exit-on-error", f"--dbname={made.url}", str(place.folder / "backup" / "dump"))
    else:
        shutil.copy(place.folder / "backup" / "vaguemestre.db", made.database)
    return made


def _delivered(copy: Place) -> list[str]:
    return [one for one, state in copy.rows(_STATES) if state == "DELIVERED"]


_STATES = (
    "SELECT m.control_id, d.state FROM message m "
    "LEFT JOIN delivery d ON d.message_id = m.id AND d.destination = 'out' AND d.replay = 0"
)


def _program(place: Place, name: str, *arguments: str) -> None:
    subprocess.run([place.server.programs() / name, *arguments], check=True, capture_output=True)


def _examine(copy: Place, acked: list[str]) -> tuple[list[str], list[str]]:
    """What must hold in a copy that nothing has touched; control ids that wait for the destination, and that it has."""
    kept = check_ledger(copy, settled=False).control_ids
    assert not [one for one in acked if one not in kept], "acknowledged before the backup began"
    assert not [one for one, n in kept.items() if n > 1]
    assert check_record(copy, stays_of="A", settled=False) > 0
    blobs, in_files = BlobFolder(copy.data / "blobs"), 0
    for digest, in_file in copy.rows("SELECT sha256, in_file FROM message"):
        if in_file:
            blobs.read(digest)
            in_files += 1
    assert in_files > 0
    store = open_for_command(place_of(copy.url, base=copy.data, default=copy.database), blobs, read_only=True)
    try:
        assert store.read(lambda tx: audit.verify(tx)) is None
    finally:
        store.close()
    assert copy.value("SELECT count(*) FROM audit") > 3
    wrong = (
        "SELECT m.id FROM message m WHERE open_n <> "
        f"(SELECT count(*) FROM delivery d WHERE d.message_id = m.id AND d.state IN {OPEN})"
    )
    assert copy.rows(wrong) == []
    lanes = f"SELECT DISTINCT lane FROM delivery WHERE state IN {OPEN}"
    assert set(copy.rows(lanes)) == set(copy.rows("SELECT key FROM lane")), "a lane is a row while it holds open deliveries"
    delivered = _delivered(copy)
    return [one for one in kept if one not in set(delivered)], delivered
