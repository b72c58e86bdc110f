"""`vaguemestre messages`, with the hub running and stopped."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

OUT = """
[[destination]]
name = "out"
kind = "mllp"
connect = "127.0.0.1:{port}"
[destination.retry]
probe_s = 0.1
"""
ZERO = "00000000-0000-7000-8000-000000000000"


def audit_rows(one) -> list[tuple]:
    return [
        (actor, act, target, json.loads(detail), patient is not None)
        for actor, act, target, detail, patient in one.sql("SELECT actor, act, target, detail, patient_id FROM audit ORDER BY id")
    ]


@pytest.fixture
def stopped(either, a_free_port):
    """Three messages kept: DONE, NO_ROUTE and REFUSED; the hub is stopped."""
    either.start()
    either.send(
        either.write("a.hl7", control="A"),
        either.write("b.hl7", control="B", change=("ADT^A01^ADT_A01", "BAR^P01")),
        either.write("c.hl7", control="C", change=("|2.5^FRA^2.11|", "|9.9|")),
    )
    either.settled(3)
    either.stop()
    return either


def test_list_and_show_without_a_hub(stopped, patient_values):
    done = stopped.cli("messages", "list")
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0][:3] == ["STATE", "RECEIVED", "TYPE"]
    assert [(row[0], row[3], row[4], row[5]) for row in rows[1:]] == [
        ("REFUSED", "ADT^A01", "C", "his"),
        ("NO_ROUTE", "BAR^P01", "B", "his"),
        ("DONE", "ADT^A01", "A", "his"),
    ]
    assert "record:DELIVERED" in rows[3]
    assert "answered AE 203 at MSH-12" in done.stdout
    shown = stopped.cli("messages", "show", rows[3][-1])
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"Message {rows[3][-1]}  DONE\n")
    assert "  ──▶ record  DELIVERED" in shown.stdout
    refused = stopped.cli("messages", "show", rows[1][-1]).stdout
    assert "  answer     AE (SENT)\n  refused    203 at MSH-12: Unsupported version id\n" in refused
    assert "next       its sender corrects and sends it again" in refused
    for text in (done.stdout, shown.stdout, refused):
        assert not any(value in text for value in patient_values)
    assert audit_rows(stopped) == []  # nothing of a patient was shown


def test_times_are_those_of_the_hub(stopped):
    (utc,) = stopped.json("messages", "list", "--state", "DONE")["items"]
    assert utc["received_at"].endswith("Z")
    stopped.configure(hub='timezone = "Asia/Tokyo"')
    hour = (int(utc["received_at"][11:13]) + 9) % 24
    assert f" {hour:02}:{utc['received_at'][14:19]} " in stopped.cli("messages", "list", "--state", "DONE").stdout


def test_filters_and_pages(stopped):
    def controls(*arguments):
        return [item["control_id"] for item in stopped.json("messages", "list", *arguments)["items"]]

    assert controls("--state", "refused") == ["C"]
    assert controls("--control-id", "A") == ["A"]
    assert controls("--type", "BAR^P01") == ["B"]
    assert controls("--source", "other") == []
    assert controls("--since", "1h") == ["C", "B", "A"]
    assert controls("--since", "2099-01-01T00:00:00Z") == []
    page = stopped.json("messages", "list", "--limit", "2")
    assert [item["control_id"] for item in page["items"]] == ["C", "B"]
    assert controls("--limit", "2", "--after", page["after"]) == ["A"]
    assert f"--after {page['after']}" in stopped.cli("messages", "list", "--limit", "2").stderr
    assert stopped.cli("messages", "list", "--source", "other").stdout == "No message is like that.\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("list", "--state", "GONE"), "--state: 'GONE' is none of RECEIVED, ROUTED"),
        (("list", "--since", "yesterday"), "--since: 'yesterday' must be like 30m"),
        (("list", "--since", "999999w"), "--since: '999999w' must be like 30m"),
        (("list", "--after", "x"), "--after: must be the cursor"),
    ],
)
def test_wrong_arguments(installed, arguments, says):
    done = installed.cli("messages", *arguments)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("list",), ("show", ZERO), ("replay", ZERO, "--yes"), ("discard", ZERO, "--yes")],
    ids=lambda arguments: arguments[0],
)
def test_without_a_database_and_without_the_message(either, arguments):
    done = either.cli("messages", *arguments)
    assert done.returncode == 1
    assert "there is no database at" in done.stderr
    assert not either.data.exists()
    if arguments[0] != "list":
        either.cli("db", "upgrade")
        done = either.cli("messages", *arguments)
        assert done.returncode == 1
        assert f"no message has the id '{ZERO}'" in done.stderr


def test_a_file_that_is_no_database(installed):
    installed.data.mkdir()
    (installed.data / "vaguemestre.db").write_text("not a database" * 100)
    done = installed.cli("messages", "list")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is not a database (SQLITE_NOTADB)" in done.stderr


def test_a_refused_message_is_not_replayed_and_the_try_is_audited(stopped):
    (message,) = stopped.json("messages", "list", "--state", "REFUSED")["items"]
    done = stopped.cli("messages", "replay", message["id"], "--yes")
    assert done.returncode == 1
    assert "a message in state REFUSED cannot be replayed" in done.stderr
    (row,) = audit_rows(stopped)
    assert row[0].startswith("cli:")
    assert row[1:4] == ("message.replay.refused", f"message/{message['id']}", {"destinations": [], "error": "NotPossible"})
    assert stopped.whole_chain()


def test_replay_without_a_hub_leaves_when_it_starts(stopped):
    (message,) = stopped.json("messages", "list", "--control-id", "A")["items"]
    before = stopped.contents()
    asked = stopped.cli("messages", "replay", message["id"], stdin="n\n")
    assert asked.returncode == 1
    assert "──▶ record" in asked.stdout
    assert asked.stdout.endswith("Nothing was done.\n")
    assert stopped.contents() == before
    done = stopped.cli("messages", "replay", message["id"], stdin="y\n")
    assert done.returncode == 0
    assert done.stdout.endswith("1 delivery queued. No hub runs here now: they leave when it starts.\n")
    (waiting,) = stopped.json("messages", "list", "--control-id", "A")["items"]
    assert waiting["state"] == "ROUTED"
    assert [(d["state"], d["replay_of"]) for d in waiting["deliveries"]] == [
        ("DELIVERED", None),
        ("QUEUED", waiting["deliveries"][0]["id"]),
    ]
    stopped.start()
    assert [d["state"] for d in stopped.settled(3)[2]["deliveries"]] == ["DELIVERED", "DELIVERED"]
    stopped.stop()
    (row,) = audit_rows(stopped)
    assert row[1:] == ("message.replay", f"message/{message['id']}", {"destinations": []}, True)


def test_discard(stopped):
    (message,) = stopped.json("messages", "list", "--state", "NO_ROUTE")["items"]
    done = stopped.cli("messages", "discard", message["id"], stdin="\n")
    assert (done.returncode, stopped.json("messages", "show", message["id"])["state"]) == (1, "NO_ROUTE")
    done = stopped.cli("messages", "discard", message["id"], "--yes")
    assert done.returncode == 0
    assert done.stdout.endswith("Discarded. Its bytes stay.\n")
    assert stopped.json("messages", "show", message["id"])["state"] == "DISCARDED"
    again = stopped.cli("messages", "discard", message["id"], "--yes")
    assert again.returncode == 1
    assert "a message in state DISCARDED cannot be discarded" in again.stderr
    assert [row[1] for row in audit_rows(stopped)] == ["message.discard", "message.discard.refused"]
    assert stopped.whole_chain()


def test_acts_beside_a_running_hub(either, receiver_class):
    """A destination that is down: the message waits, is discarded; another is delivered twice, the second time by replay."""

    async def main():
        peer = receiver_class()
        await peer.start()
        port = peer.port
        await peer.stop()
        either.configure(OUT.format(port=port), routes='["out"]')
        await asyncio.to_thread(either.start)
        await asyncio.to_thread(either.send, either.write("a.hl7", control="A"))
        message = await asyncio.to_thread(_until, either, "A", lambda m: [d["state"] for d in m["deliveries"]] == ["WAITING"])
        shown = await asyncio.to_thread(either.cli, "messages", "show", message["id"])
        assert "──▶ out  WAITING" in shown.stdout
        assert "PeerUnavailable" in shown.stdout
        done = await asyncio.to_thread(either.cli, "messages", "discard", message["id"], "--yes")
        assert done.returncode == 0, done.stderr
        assert "out: WAITING, will be cancelled" in done.stdout
        await peer.start()
        await asyncio.to_thread(either.send, either.write("b.hl7", control="B", ipp="900002"))
        message = await asyncio.to_thread(_until, either, "B", lambda m: m["state"] == "DONE")
        done = await asyncio.to_thread(either.cli, "messages", "replay", message["id"], "-d", "out", "--yes")
        assert done.returncode == 0, done.stderr
        assert f"──▶ out  MLLP 127.0.0.1:{port}" in done.stdout
        assert "The running hub takes them within a few seconds." in done.stdout
        await asyncio.to_thread(_until, either, "B", lambda m: [d["state"] for d in m["deliveries"]] == ["DELIVERED"] * 2)
        assert [message.split(b"|")[9] for message in peer.got] == [b"B", b"B"]
        wrong = await asyncio.to_thread(either.cli, "messages", "replay", message["id"], "-d", "nowhere", "--yes")
        assert wrong.returncode == 1
        assert "sends this message to no such destination" in wrong.stderr
        await asyncio.to_thread(either.stop)
        await peer.stop()
        assert [row[1] for row in audit_rows(either)] == ["message.discard", "message.replay", "message.replay.refused"]
        assert either.whole_chain()

    asyncio.run(main())


def _until(either, control: str, holds) -> dict:
    end = time.monotonic() + 20
    while True:
        items = either.json("messages", "list", "--control-id", control)["items"]
        if items and holds(items[0]):
            return items[0]
        assert time.monotonic() < end, items


def test_what_a_sender_writes_cannot_steer_the_terminal(either):
    either.start()
    either.send(either.write("a.hl7", control="A\x1b[31mred", change=("GAM", "GAM\x1b]0;title\x07")))
    (message,) = either.settled(1)
    either.stop()
    listed, shown = either.cli("messages", "list").stdout, either.cli("messages", "show", message["id"]).stdout
    assert "A·[31mred" in listed
    assert "\x1b" not in listed + shown
    assert "\x07" not in shown


def test_a_patients_mailbox_is_shown_without_its_ins():
    from hub.app.terminal import destination_name

    assert destination_name("mssante:279035121518989@patient.mssante.fr") == "mssante:…@patient.mssante.fr"
    assert destination_name("mssante:279035121518989@other.mssante.fr") == "mssante:…@other.mssante.fr"
    assert destination_name("mssante:anne.testut@chu.mssante.fr") == "mssante:anne.testut@chu.mssante.fr"
    assert destination_name("dmp") == "dmp"
    assert destination_name("lab-out") == "lab-out"
