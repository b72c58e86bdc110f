"""`vaguemestre db copy`: there and back, large bodies too; what it refuses; what it finds; what is left when it is killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from base64 import b64encode

import psycopg
import pytest

from hub.app.config import load
from hub.model.uids import uid_text
from hub.store.copy import compare, open_side, refuse_unfit
from hub.store.copy_side import CopyRefused
from hub.store.place import place_of
from tests import warm

MDM = (
    "MSH|^~\\&|GAM|CHU-TEST|HUB|HUB|20261124080000||MDM^T02^MDM_T02|BIG|T|2.5^FRA^2.11|||||FRA|UNICODE UTF-8\n"
    "EVN||20261124080000\n"
    "PID|1||900001^^^CHU&1.2.250.1.999.1&ISO^PI||MARQUETEST^ZOE^^^^^L||19800102|F\n"
    "PV1|1|I\n"
    "TXA|1|CR|AP|20261124080000||||||||DOC-1|||||AU\n"
    "OBX|1|ED|18842-5^CRH^LN||^application^pdf^Base64^{pdf}||||||F\n"
)
OUT = """
[[destination]]
name = "out"
kind = "mllp"
connect = "127.0.0.1:{port}"
"""
COPIED = (
    "message",
    "body",
    "delivery",
    "attempt",
    "dedupe",
    "audit",
    "token",
    "patient",
    "resource",
    "provenance",
    "token_index",
)


@pytest.fixture(scope="module")
def day(tmp_path_factory, installed_class):
    """A stopped hub: messages of every end, one waiting for a destination, a 20 MB body, a token, an act in the audit trail."""
    one = installed_class(tmp_path_factory.mktemp("day"))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # not listened to
        one.configure(OUT.format(port=nobody.getsockname()[1]), routes='["record", "requested", "out"]')
        one.start()
        big = one.folder / "big.hl7"
        big.write_text(MDM.format(pdf=b64encode(b"%PDF-1.4" + os.urandom(15 << 20)).decode()))
        one.send(
            one.write("a.hl7", control="A"),
            one.write("b.hl7", control="B", change=("|2.5^FRA^2.11|", "|9.9|")),
            one.write("c.hl7", control="C", ipp="900002"),
            big,
        )
        end = time.monotonic() + 60
        while True:
            states = dict(one.sql("SELECT state, count(*) FROM delivery GROUP BY state"))
            if states.get("DELIVERED") == 3 and states.get("WAITING"):
                break
            assert time.monotonic() < end, states
            time.sleep(0.1)
        assert one.cli("token", "create", "--name", "night", "--role", "operator").returncode == 0
        one.stop()
    assert one.sql("SELECT size > 20000000 FROM message WHERE in_file = 1") == [(1,)]
    for value in (
        "a",
        "Z",
        "é",
        "_",
        "\U0001f600",
        "\uffee",
        "a b",
        "ab",
    ):  # bytes, code units and dictionaries differ in their order
        one.sql("INSERT INTO token_index VALUES ('Patient.identifier', ?, 'x', 1)", value)
    return one


@pytest.fixture
def filled(day, installed):
    """A copy of that day's hub, with ports of its own."""
    shutil.copytree(day.data, installed.data)
    return installed


def copy(source, target):
    return warm.run("db", "copy", "--from", source.file, "--to", target.file, timeout=100)


def rows(one, *, without: tuple[str, ...] = ("arrival",)) -> dict[str, list[tuple]]:
    """Every table, its columns by name; without what is numbered anew."""
    found = {}
    for table in one.contents():
        columns = sorted(name for name in _columns(table) if name not in without)
        found[table] = sorted(one.sql(f"SELECT {', '.join(map(_quoted, columns))} FROM {table}"), key=repr)
    return found


def _columns(table: str) -> list[str]:
    from hub.store.schema import metadata

    return [column.name for column in metadata.tables[table].columns]


def _quoted(name: str) -> str:
    return f'"{name}"'


def test_there_and_back(filled, clustered, installed_class, tmp_path_factory, patient_values):
    before = rows(filled)
    assert all(before[table] for table in COPIED)
    done = copy(filled, clustered)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all equal.\n")
    counts = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:-1]}
    assert counts["message"] == ["4", "4"]
    assert counts["large"] == ["bodies", "1", "1"]
    assert not any(value in done.stdout + done.stderr for value in patient_values)
    assert rows(clustered) == before
    assert clustered.data.stat().st_mode & 0o077 == 0
    arrivals = [arrival for (arrival,) in clustered.sql("SELECT arrival FROM message ORDER BY id")]
    assert arrivals == sorted(set(arrivals))
    assert len(arrivals) == 4
    # the cluster goes on where the embedded hub stopped
    clustered.start()
    clustered.send(clustered.write("d.hl7", control="D", ipp="900002"))
    end = time.monotonic() + 30
    while clustered.sql("SELECT state FROM message WHERE control_id = 'D'") != [("DONE",)]:
        assert time.monotonic() < end
        time.sleep(0.1)
    clustered.stop()
    assert clustered.sql("SELECT arrival FROM message WHERE control_id = 'D'")[0][0] > arrivals[-1]
    # and back
    home = installed_class(tmp_path_factory.mktemp("home"))
    assert copy(clustered, home).returncode == 0
    assert rows(home) == rows(clustered)
    assert home.sql("SELECT count(*) FROM message WHERE arrival IS NOT NULL") == [(0,)]
    assert home.whole_chain()
    (big,) = home.sql("SELECT sha256 FROM message WHERE in_file = 1")[0]
    assert len(load(home.file).blobs().read(bytes(big))) > 20_000_000


def test_what_stands_in_the_way(filled, clustered, installed_class, tmp_path_factory):
    empty = installed_class(tmp_path_factory.mktemp("empty"))
    done = copy(empty, clustered)
    assert (done.returncode, "there is no database at" in done.stderr) == (1, True)
    assert not empty.data.exists()
    done = copy(filled, filled)
    assert (done.returncode, "both configurations name" in done.stderr) == (1, True)
    filled.start()
    done = copy(filled, clustered)
    assert (done.returncode, "another vaguemestre runs on" in done.stderr) == (1, True)
    filled.stop()
    assert copy(filled, clustered).returncode == 0
    done = copy(filled, clustered)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{clustered.name} is not empty (it has rows in ")
    clustered.start()
    done = copy(clustered, empty)
    assert done.returncode == 1
    assert f"processes of the hub run on {clustered.name}: stop them all" in done.stderr
    clustered.stop()
    clustered.start()
    clustered.process.kill()  # its row stays until its lease ends
    clustered.process.wait()
    clustered.process = None
    end = time.monotonic() + 30
    while (done := copy(clustered, empty)).returncode:
        assert "processes of the hub run on" in done.stderr
        assert time.monotonic() < end
        time.sleep(0.5)
    assert rows(empty) == rows(clustered)


def test_a_hub_that_runs_on_the_target(filled, clustered):
    clustered.start()
    done = copy(filled, clustered)
    assert (done.returncode, "processes of the hub run on" in done.stderr) == (1, True)
    clustered.stop()
    assert not any(clustered.contents()[table] for table in COPIED)


def test_killed_in_the_middle(filled, clustered):
    """The copy waits for a table that somebody else holds, is killed, and has left nothing."""
    clustered.cli("db", "upgrade")
    with psycopg.connect(clustered.url, autocommit=False) as other:
        other.execute("LOCK TABLE token_index IN ACCESS EXCLUSIVE MODE")
        with warm.start("db", "copy", "--from", filled.file, "--to", clustered.file, stderr=subprocess.DEVNULL) as process:
            end = time.monotonic() + 30
            waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'vaguemestre db copy' AND wait_event_type = 'Lock'"
            with psycopg.connect(clustered.url, autocommit=True) as looking:
                while looking.execute(waiting).fetchone() is None:
                    assert process.poll() is None and time.monotonic() < end
                    time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        other.rollback()
    assert not any(clustered.contents()[table] for table in COPIED)
    done = copy(filled, clustered)
    assert done.returncode == 0, done.stderr
    assert rows(clustered) == rows(filled)


CHANGES = {
    "message": "UPDATE message SET sending_app = sending_app || 'x' WHERE control_id = 'A'",
    "delivery": "UPDATE delivery SET last_error = NULL WHERE last_error IS NOT NULL",
    "body": "DELETE FROM body WHERE message_id = (SELECT min(message_id) FROM body)",
    "audit": "UPDATE audit SET at = at + 1",
    "resource": "UPDATE resource SET body = '' WHERE id = (SELECT max(id) FROM resource)",
    "patient_identifier": "UPDATE patient_identifier SET value = 'X' WHERE value = '900001'",
    "token": "DELETE FROM token",
    "lane": "UPDATE lane SET epoch = epoch + 1",
}


def test_one_row_that_differs(filled, clustered):
    assert copy(filled, clustered).returncode == 0
    here, there = load(filled.file).place, load(clustered.file).place
    with open_side(here, write=False) as one, open_side(there, write=True) as other:
        assert all(table.equal for table in compare(one, other, lambda *_: None))
    for table, change in CHANGES.items():
        with psycopg.connect(clustered.url) as connection:
            assert connection.execute(change).rowcount > 0
            connection.commit()
        with open_side(here, write=False) as one, open_side(there, write=False) as other:
            found = {each.table for each in compare(one, other, lambda *_: None) if not each.equal}
            back = {each.table for each in compare(other, one, lambda *_: None) if not each.equal}
        assert table in found
        assert found == back == set(list(CHANGES)[: list(CHANGES).index(table) + 1])


def test_a_body_that_was_damaged_before(filled, clustered):
    ((big, number),) = filled.sql("SELECT sha256, id FROM message WHERE in_file = 1")
    file = filled.data / "blobs" / bytes(big).hex()[0] / bytes(big).hex()
    file.write_bytes(b"not what it was")
    done = copy(filled, clustered)
    assert done.returncode == 0
    assert done.stderr == f"1 large body was damaged before, and is not in the copy: {uid_text(number)}\n"
    assert rows(clustered) == rows(filled)


def test_text_that_the_target_cannot_hold(filled, clustered):
    """U+0000 came into text before it was read as SUB."""
    filled.sql("UPDATE message SET control_id = 'A' || char(0) || 'B' WHERE control_id = 'A'")
    done = copy(filled, clustered)
    assert done.returncode == 0, done.stderr
    assert clustered.sql("SELECT count(*) FROM message WHERE control_id = ?", "A\x1aB") == [(1,)]


def test_a_value_that_does_not_fit(filled, clustered):
    filled.sql("UPDATE message SET size = 1 << 40 WHERE control_id = 'A'")
    done = copy(filled, clustered)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "message" in done.stderr
    assert not any(clustered.contents()[table] for table in COPIED)


def test_messages_that_wait_to_be_routed_stay_on_their_engine(clustered, tmp_path):
    """Each engine tells the order of arrival its own way: what is not routed yet is routed before it moves."""
    clustered.cli("db", "upgrade")
    for number in (20, 10):
        clustered.sql(
            "INSERT INTO message (id, source, connection, format, type, control_id, sending_app, charset, size, sha256, in_file, "
            "received_at, state, ack_code, ack_state) "
            "VALUES (?, 'his', '1', 'er7', 'ADT^A01', ?, 'GAM', 'utf-8', 1, ?, 0, 1, 'RECEIVED', 'AA', 'SENT')",
            number,
            str(number),
            bytes(32),
        )
    target = place_of("", base=tmp_path, default=tmp_path / "new.db")
    from hub.store.opening import migrated

    migrated(target)
    with (
        open_side(load(clustered.file).place, write=False) as one,
        open_side(target, write=True) as other,
        pytest.raises(CopyRefused, match="not routed yet"),
    ):
        refuse_unfit(one, other)
    clustered.sql("UPDATE message SET state = 'NO_ROUTE'")
    with open_side(load(clustered.file).place, write=False) as one, open_side(target, write=True) as other:
        refuse_unfit(one, other)
