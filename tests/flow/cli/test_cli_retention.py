"""Retention and holds from a terminal, beside a running hub and without one."""

from __future__ import annotations

RETENTION = "[retention]\ndone_days = 30\nrefused_days = 60\n"
DAY_MS = 86_400_000


def age(one, days: float) -> None:
    """Make every message older."""
    shift = int(days * DAY_MS) << 16
    for table, column in (("body", "message_id"), ("dedupe", "message_id"), ("delivery", "message_id"), ("message", "id")):
        one.sql(f"UPDATE {table} SET {column} = {column} - ?", *([shift] if one.sql(f"SELECT 1 FROM {table}") else [0]))
    one.sql("UPDATE delivery SET updated_at = updated_at - ?", int(days * DAY_MS) * 1000)


def test_a_dry_run_says_what_a_round_then_removes(either):
    one = either
    one.configure(RETENTION, hub="dedupe_window_days = 1")
    one.start()
    one.send(
        one.write("a.hl7", control="A"),
        one.write("b.hl7", control="B", ipp="900002"),
        one.write("c.hl7", control="C", change=("|2.5^FRA^2.11|", "|9.9|")),
    )
    items = one.settled(3)
    assert one.json("db", "prune", "--dry-run") == {"items": []}
    age(one, 40)
    newest = one.json("messages", "list", "--state", "DONE")["items"][0]
    held = one.cli("messages", "hold", newest["id"], "--reason", "request of the court")
    assert held.returncode == 0, held.stderr
    (found,) = one.json("db", "prune", "--dry-run")["items"]
    assert (found["source"], found["state"], found["messages"]) == ("his", "DONE", 1)
    assert one.json("db", "prune", "--dry-run")["items"] == [found] and len(one.json("messages", "list")["items"]) == 3
    done = one.cli("db", "prune")  # beside the running hub
    assert done.returncode == 0 and done.stdout.endswith("1 message removed, " + done.stdout.split("removed, ")[1])
    states = sorted(item["state"] for item in one.json("messages", "list")["items"])
    assert states == ["DONE", "REFUSED"]
    shown = one.json("messages", "show", newest["id"])
    assert shown["held"] and shown["holds"][0]["reason"] == "request of the court"
    assert "request of the court" in one.cli("messages", "show", newest["id"]).stdout
    assert "DONE (held)" in one.cli("messages", "list").stdout
    one.stop()
    assert one.cli("messages", "release", newest["id"], "--reason", "case closed").returncode == 0
    assert one.cli("db", "prune").returncode == 0  # without it
    assert [item["state"] for item in one.json("messages", "list")["items"]] == ["REFUSED"]
    assert one.whole_chain() and len(items) == 3
    acts = [act for (act,) in one.sql("SELECT act FROM audit ORDER BY id")]
    assert acts == ["message.hold", "db.prune", "message.release", "db.prune"]


def test_a_hold_needs_one_thing_and_a_reason(installed):
    installed.start()
    installed.send(installed.write("a.hl7"))
    (item,) = installed.settled(1)
    uid, patient = item["id"], item["patient"]
    assert installed.cli("messages", "hold", uid).returncode == 2  # typer: --reason is missing
    assert installed.cli("messages", "hold", uid, "--source", "his", "--reason", "both at once").returncode == 2
    assert installed.cli("messages", "hold", "--reason", "nothing named").returncode == 2
    assert installed.cli("messages", "hold", uid, "--reason", "x").returncode == 1
    unknown = installed.cli("messages", "hold", "--source", "nobody", "--reason", "does it exist")
    assert unknown.returncode == 1 and "no such source" in unknown.stderr
    assert installed.cli("messages", "hold", "--patient", patient, "--reason", "claim of the patient").returncode == 0
    again = installed.cli("messages", "hold", "--patient", patient, "--reason", "claim of the patient")
    assert again.returncode == 1 and "held already" in again.stderr
    assert installed.cli("messages", "hold", "--source", "his", "--reason", "audit of the sender").returncode == 0
    items = installed.json("messages", "holds")["items"]
    assert {(one["kind"], one["target"]) for one in items} == {("patient", patient), ("source", "his")}
    assert "audit of the sender" in installed.cli("messages", "holds").stdout
    assert installed.cli("messages", "release", "--source", "his", "--reason", "audit ended").returncode == 0
    assert len(installed.json("messages", "holds")["items"]) == 1
    assert len(installed.json("messages", "holds", "--released")["items"]) == 2
    assert installed.json("messages", "show", uid)["holds"][0]["kind"] == "patient"


def test_without_ages_nothing_goes(installed):
    installed.start()
    installed.send(installed.write("a.hl7"))
    installed.settled(1)
    age(installed, 4_000)
    told = installed.cli("db", "prune")
    assert told.returncode == 0 and "for ever" in told.stdout and "0 messages removed" in told.stdout
    assert len(installed.json("messages", "list")["items"]) == 1
