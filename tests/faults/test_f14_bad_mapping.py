"""F14: a site's mapping raises, loops, swells, ends its process: only that message is in error, the worker is replaced.

And a poisoned message in the middle of a batch, whose change the record cannot take: all others go on, in order.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time

import pytest
from fault_harness import ask, check_ledger, check_record, code_of, full, measured, run

from bench.sender import Load, send
from bench.sink import Sink
from bench.synthetic import Traffic
from bench.traffic import compare

TROUBLES = ("RAISES", "LOOPS", "SWELLS", "EXITS", "CRASHES", "NOTBYTES")
SITE = '''
import ctypes, os
from dataclasses import replace
from hub.model.record_change import ResourceChange
from mappings.hl7v2.adt import Adt
from mappings.registry import reads

def trouble(message):
    what = message.header(4)
    if what == b"RAISES":
        raise KeyError(message.raw.decode())
    if what == b"LOOPS":
        while True:
            pass
    if what == b"SWELLS":
        return [bytearray(1 << 20) for _ in range(1024)]
    if what == b"EXITS":
        os._exit(3)
    if what == b"CRASHES":
        ctypes.string_at(0)

def rewrite(message, site):
    trouble(message)
    return None if message.header(4) == b"NOTBYTES" else message.raw.replace(b"|BENCH|", b"|SITE|", 1)

class Heavy(Adt):
    name, version, heavy = "site-adt", "1", True
    def translate(self, message, site):
        trouble(message)
        return super().translate(message, site)

class Poisonous(Adt):
    """Its change cannot be written, which shows only inside the transaction; or the translation itself fails."""
    name, version = "site-adt", "1"
    def translate(self, message, site):
        change = super().translate(message, site)
        if message.header(4) == b"TRANSACTION":
            poison = ResourceChange("Encounter", "x|poison", {"status": object()}, "PV1")
            return replace(change, resources=(*change.resources, poison))
        if message.header(4) == b"TRANSLATION":
            raise ValueError(message.raw.decode())
        return change

REWRITES = {"trouble": rewrite}
'''


def _site(place, structure: str = "") -> str:
    folder = place.folder / "site"
    folder.mkdir()
    rows = f'STRUCTURES = [(reads("ADT^A01", "ADT^A08", "ADT^A03"), {structure}())]\n' if structure else ""
    (folder / "site.py").write_text(SITE + rows)
    return '[mappings]\nfolder = "site"\ntime_s = 1.0\nmemory_mb = 128\n'


def _troubled(traffic: Traffic, number: int, trouble: str) -> bytes:
    return traffic.message(0, number).replace(b"|BENCH|BENCH|", f"|BENCH|{trouble}|".encode(), 1)


def _states(place) -> dict[str, str]:
    return dict(place.rows("SELECT control_id, state FROM message"))


@pytest.mark.parametrize("where", ["rewriting", "translation"])
def test_f14_trouble_in_a_worker_hits_one_message(place, where):
    troubles = TROUBLES if where == "rewriting" else TROUBLES[:-1]
    patients = len(troubles) + 4
    traffic = Traffic(run="W", patients=patients)

    async def story():
        out, plain = Sink(), Sink()
        await out.start()
        await plain.start()
        more = _site(place, "Heavy" if where == "translation" else "")
        if where == "rewriting":
            more += '[[route]]\nsource = "his"\nto = ["out"]\nmapping = "trouble"\n'
        place.configure(
            destinations=[("out", out.port, ""), ("plain", plain.port, "")],
            routes=("plain",) if where == "rewriting" else ("record", "plain"),
            more=more,
        )
        await place.start()
        # each patient has three messages; the second one of the first patients is in trouble
        bad = {traffic.control_id(0, patients + n): what for n, what in enumerate(troubles)}
        messages = [
            _troubled(traffic, n, bad[traffic.control_id(0, n)]) if traffic.control_id(0, n) in bad else traffic.message(0, n)
            for n in range(3 * patients)
        ]
        began = time.monotonic()
        answers = await ask(place.port, *messages)
        assert [code_of(answer) for answer in answers] == ["AA"] * len(messages)
        await asyncio.sleep(0.3)
        assert len(plain.journal) == len(messages), "what needs no worker does not wait for one"
        await place.settled(20)
        took = time.monotonic() - began
        states = _states(place)
        assert {one for one, state in states.items() if state == "SET_ASIDE"} == set(bad)
        assert {one for one, state in states.items() if state == "DONE"} == states.keys() - bad.keys()
        destination = "out" if where == "rewriting" else "record"
        errors = dict(
            place.rows(
                "SELECT m.control_id, d.last_error FROM delivery d JOIN message m ON m.id = d.message_id "
                "WHERE d.state = 'DEAD' AND d.destination = ?",
                destination,
            )
        )
        assert errors.keys() == bad.keys()
        assert all(error.startswith("TranslationFailed: ") for error in errors.values()), errors
        assert "longer than 1 s" in errors[traffic.control_id(0, patients + 1)]
        assert "memory" in errors[traffic.control_id(0, patients + 2)]
        if where == "rewriting":
            assert set(out.ids) == states.keys() - bad.keys()
        recycled = [event for event in place.events() if event["event"] == "worker.recycled"]
        assert len(recycled) >= 3
        assert took < 15
        assert place.rss_kb() < 250_000
        verdict = compare(states, states, [(got.control_id, got.patient) for got in plain.journal])
        assert verdict.is_clean and not verdict.repeated
        assert (await place.stop())[0] == 0
        check_ledger(place, states=("DONE", "SET_ASIDE"))
        said = place.log.read_text()
        assert "ESSAI" not in said and "Traceback" not in said
        measured(f"F14 {where}", troubles=len(bad), recycled=len(recycled), seconds=round(took, 1))
        await out.stop()
        await plain.stop()

    run(story())


def test_f14_on_dead_block_holds_the_lane_of_that_patient_only(place):
    traffic = Traffic(run="B", patients=3)

    async def story():
        sink = Sink()
        await sink.start()
        more = _site(place) + '[[route]]\nsource = "his"\nto = ["out"]\nmapping = "trouble"\n'
        place.configure(destinations=[("out", sink.port, 'on_dead = "block"')], routes=(), more=more)
        await place.start()
        messages = [traffic.message(0, n) for n in range(9)]
        messages[3] = _troubled(traffic, 3, "RAISES")
        await ask(place.port, *messages)
        expected = {traffic.control_id(0, n) for n in range(9)} - {"BC0S3", "BC0S6"}
        began = time.monotonic()
        while set(sink.ids) != expected:
            assert time.monotonic() - began < 10, sink.ids
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        assert set(sink.ids) == expected
        assert place.rows("SELECT count(*) FROM lane WHERE blocked_reason IS NOT NULL") == [(1,)]
        states = _states(place)
        assert (states["BC0S3"], states["BC0S6"]) == ("SET_ASIDE", "ROUTED")
        await sink.stop()

    run(story())


@pytest.mark.parametrize("poison", ["TRANSACTION", "TRANSLATION"])
def test_f14_poison_in_the_middle_of_a_batch(place, poison):
    patients, messages = 2, full(3_000, 300)
    traffic = Traffic(run="P", patients=patients)

    class Poisoned(Traffic):
        def message(self, connection, number):
            made = traffic.message(connection, number)
            return made.replace(b"|BENCH|BENCH|", f"|BENCH|{poison}|".encode(), 1) if number % 41 == 5 else made

    async def story():
        sink = Sink()
        await sink.start()
        place.configure(routes=())
        await place.start()
        sent = await send(Load("127.0.0.1", place.port, Poisoned(run="P", patients=patients), 4, messages // 4, 32))
        assert len(sent.acked) == messages
        await place.settled(messages=messages)
        assert (await place.stop())[0] == 0
        with sqlite3.connect(place.database) as connection:  # as after a kill: all kept, nothing routed
            connection.execute("UPDATE message SET state = 'RECEIVED', routed_at = NULL")
        connection.close()
        place.configure(destinations=[("out", sink.port, "")], routes=("record", "out"), more=_site(place, "Poisonous"))
        await place.start()
        await place.settled(full(60, 20))
        bad = {one for one in sent.acked if int(one.split("S")[1]) % 41 == 5}
        states = _states(place)
        assert {one for one, state in states.items() if state == "SET_ASIDE"} == bad
        assert {one for one, state in states.items() if state == "DONE"} == set(sent.acked) - bad
        verdict = compare(sent.acked, sent.answers, [(got.control_id, got.patient) for got in sink.journal])
        assert verdict.is_clean and not verdict.repeated, verdict
        assert (await place.stop())[0] == 0
        check_ledger(place, sent, states=("DONE", "SET_ASIDE"))
        check_record(place, without=bad)
        said = place.log.read_text()
        assert "ESSAI" not in said and "Traceback" not in said
        measured(f"poison, {poison.lower()}", messages=messages, set_aside=len(bad), inversions=0)
        await sink.stop()

    run(story())
