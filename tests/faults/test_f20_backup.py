"""F20: a backup taken under load is whole. Restored beside the original it delivers elsewhere, or it goes on in its place."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter

import pytest
from fault_harness import ROOT, Place, check_ledger, check_record, full, measured, on_both_engines, run

from bench.sender import Load, Sent, send
from bench.sink import Sink
from bench.synthetic import Traffic
from bench.traffic import compare
from hub.ledger import audit
from hub.store.blobs import BlobFolder
from hub.store.place import open_for_command, place_of

MESSAGES, LINES, RATE = full(5_000, 80), 6, full(200, 200)
DOCUMENTS = full(300, 12)  # in files: larger than what the database takes
OUT = "in_flight = 4\n[destination.retry]\nbase_s = 0.2\nprobe_s = 0.2"
OPEN = "('QUEUED', 'WAITING', 'SENDING', 'UNSURE')"


@on_both_engines
def test_f20_backup_under_load(place, engine):
    async def story():
        theirs, elsewhere = Sink(delay_s=0.03), Sink()
        await theirs.start()
        await elsewhere.start()
        place.configure(destinations=[("out", theirs.port, OUT)], routes=("record", "out"))
        await place.start(ready=True)
        looking = asyncio.create_task(_look_at_bodies(place, _token(place)))
        first = Sent()
        sending = asyncio.create_task(_send(place, first))
        await _acked(first, 0.35, sending)

        acked, began = first.acked, time.monotonic()
        await asyncio.to_thread(_copy_database, place, place.folder / "backup")
        seconds = time.monotonic() - began
        await asyncio.to_thread(shutil.copytree, place.data / "blobs", place.folder / "backup" / "blobs")
        copies = [await asyncio.to_thread(_restored, place, name) for name in ("beside", "instead")]
        try:
            beside, instead = copies
            waiting, delivered = _examine(beside, acked)
            assert delivered, "something was delivered before the backup"
            assert waiting, "something waited while the backup was taken"

            beside.configure(destinations=[("out", elsewhere.port, OUT)], routes=("record", "out"))
            await beside.start()
            await _acked(first, 0.7, sending)
            await beside.settled(60)
            assert (await beside.stop())[0] == 0
            assert Counter(elsewhere.ids) == dict.fromkeys(waiting, 1), (
                "beside the original, a copy delivers what it held, elsewhere"
            )
            check_ledger(beside)
            check_record(beside, stays_of="A")
            assert len(theirs.ids) == len(set(theirs.ids)), "what the copy held, only the original delivered there"
            assert not [e for e in place.events() if e["event"] == "store.unavailable"], "the original does not notice"

            looking.cancel()
            place.kill()
            sending.cancel()
            before = set(theirs.ids)
            instead.port = place.port
            instead.configure(destinations=[("out", theirs.port, OUT)], routes=("record", "out"))
            await instead.start()
            again = Sent()
            await _send(instead, again)  # the senders repeat from the time of the backup, or from further back
            await instead.settled(full(300, 60), messages=len(again.acked))
            assert (await instead.stop())[0] == 0
            assert len(again.acked) == LINES * MESSAGES + DOCUMENTS
            check_ledger(instead, again)
            check_record(instead, stays_of="A")
            verdict = compare(again.acked, again.answers, [(got.control_id, got.patient) for got in theirs.journal])
            assert verdict.is_clean, verdict
            repeated = set(verdict.repeated)
            assert repeated <= before, "a repeat is of what the original delivered"
            assert not repeated & set(delivered), "and never of what the backup knew as delivered"
            assert set(verdict.repeated.values()) <= {2}
        finally:
            for copy in copies:
                copy.close()
        measured(
            f"F20 backup under load, {engine}",
            kept_at_backup=len(waiting) + len(delivered),
            waiting=len(waiting),
            backup_s=round(seconds, 2),
            delivered_by_both=0,
            taken_over=len(again.acked),
            repeats=len(repeated),
            lost=0,
        )

    run(story())


@pytest.mark.xfail(
    strict=True, reason="sessions are ended by name in every database of the server, not only in that of the store"
)
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


def _token(place: Place) -> str:
    return subprocess.run(
        [sys.executable, "-m", "hub.app.cli", "token", "create", "-c", place.config, "--name", "reader", "--role", "operator"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout.split()[-1]


async def _look_at_bodies(place: Place, token: str) -> None:
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
    found = dict(
        copy.rows(
            "SELECT m.control_id, d.state FROM message m "
            "LEFT JOIN delivery d ON d.message_id = m.id AND d.destination = 'out' AND d.replay = 0"
        )
    )
    delivered = [one for one, state in found.items() if state == "DELIVERED"]
    return [one for one in found if one not in set(delivered)], delivered
