"""A message from the socket to the record and to another application, and what its sender and its operators see."""

from __future__ import annotations

import asyncio
import hashlib

from hub.store import StoreUnavailable

HIS = """
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["record", "requested"]
"""
THROUGH = """
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["record", "out"]
[[destination]]
name = "out"
kind = "mllp"
connect = "127.0.0.1:{port}"
ack_timeout_s = {ack_timeout_s}
{more}
[destination.retry]
base_s = 0.05
probe_s = 0.05
"""


def through(port: int, more: str = "", ack_timeout_s: float = 5.0) -> str:
    return THROUGH.format(port=port, more=more, ack_timeout_s=ack_timeout_s)


def test_an_admission_is_kept_answered_and_in_the_record(running, make_adt, read_msa):
    async def main():
        async with running(HIS) as hub, hub.sender() as his:
            message = make_adt("C1")
            assert read_msa(await his.ask(message)) == ("AA", "C1")
            (kept,) = await hub.settled(1)
            assert (kept["state"], kept["type"], kept["control_id"], kept["ack"]) == (
                "DONE",
                "ADT^A01",
                "C1",
                {"code": "AA", "error": None, "state": "SENT"},
            )
            assert [(d["destination"], d["state"]) for d in kept["deliveries"]] == [("record", "DELIVERED")]
            assert kept["sha256"] == hashlib.sha256(message).hexdigest()
            assert (await hub.row("SELECT bytes FROM body"))[0] == message
            assert dict(await hub.rows("SELECT type, count(*) FROM resource GROUP BY type")) == {"Patient": 1, "Encounter": 1}

    asyncio.run(main())


def test_a_message_goes_on_byte_by_byte(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class()
        await peer.start()
        async with running(through(peer.port)) as hub, hub.sender() as his:
            sent = [make_adt(f"C{n}", ipp=str(n), visit=f"V{n}") for n in range(30)]
            his.write(*sent)
            for _ in sent:
                await his.answer()
            found = await hub.settled(30)
            assert {m["state"] for m in found} == {"DONE"}
            assert sorted(peer.got) == sorted(sent)
            assert all(len(m["deliveries"]) == 2 for m in found)
        await peer.stop()

    asyncio.run(main())


def test_line_feeds_are_made_carriage_returns_on_the_way_out_only(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class()
        await peer.start()
        async with running(through(peer.port)) as hub, hub.sender() as his:
            with_lf = make_adt("C1").replace(b"\r", b"\n")
            await his.ask(with_lf)
            await hub.settled(1)
            assert peer.got == [make_adt("C1")]
            assert (await hub.row("SELECT bytes FROM body"))[0] == with_lf
        await peer.stop()

    asyncio.run(main())


def test_a_refusal_is_kept_and_says_where_and_why(running, make_adt, read_msa):
    async def main():
        async with running(HIS) as hub, hub.sender() as his:
            ack = await his.ask(make_adt("C1").replace(b"|2.5^FRA^2.11|", b"|9.9|"))
            assert read_msa(ack) == ("AE", "C1")
            assert b"ERR||MSH^1^12|203^" in ack
            (kept,) = await hub.settled(1)
            assert kept["state"] == "REFUSED"
            assert kept["ack"]["error"]["code"] == "203"
            assert kept["ack"]["error"]["at"].startswith("MSH-12")
            assert kept["deliveries"] == []

    asyncio.run(main())


def test_bytes_that_are_no_hl7_are_kept_too(running, read_msa):
    async def main():
        async with running(HIS) as hub, hub.sender() as his:
            ack = await his.ask(b"good morning")
            assert read_msa(ack)[0] == "AE"
            (kept,) = await hub.settled(1)
            assert (kept["state"], kept["ack"]["error"]["code"]) == ("REFUSED", "199")
            assert (await hub.row("SELECT bytes FROM body"))[0] == b"good morning"

    asyncio.run(main())


def test_the_same_bytes_again_get_the_same_answer_and_no_new_row(running, make_adt, read_msa):
    async def main():
        async with running(HIS) as hub, hub.sender() as his:
            for _ in range(3):
                assert read_msa(await his.ask(make_adt("C1"))) == ("AA", "C1")
            his.write(make_adt("C2"), make_adt("C2"), make_adt("C2"))  # in one write: one group
            for _ in range(3):
                assert read_msa(await his.answer()) == ("AA", "C2")
            found = await hub.settled(2)
            assert len(found) == 2

    asyncio.run(main())


def test_after_a_refusal_the_same_bytes_are_judged_afresh_on_the_same_row(running, make_adt, read_msa):
    async def main():
        async with running(HIS) as hub, hub.sender() as his:
            hub.hub.receiver.draining = True  # a circumstance: AR
            assert read_msa(await his.ask(make_adt("C1")))[0] == "AR"
            (first,) = await hub.messages()
            assert first["state"] == "REFUSED"
            hub.hub.receiver.draining = False
            assert read_msa(await his.ask(make_adt("C1")))[0] == "AA"
            (again,) = await hub.settled(1)
            assert (again["id"], again["state"], again["ack"]["code"]) == (first["id"], "DONE", "AA")

    asyncio.run(main())


def test_a_used_control_id_is_a_finding_or_a_refusal_as_configured(running, make_adt, read_msa):
    async def main():
        strict = HIS.replace("routes", "strict_control_id = true\nroutes")
        async with running(HIS, "lenient") as hub, hub.sender() as his:
            await his.ask(make_adt("C1"))
            assert read_msa(await his.ask(make_adt("C1", visit="V2")))[0] == "AA"
            newest, oldest = await hub.settled(2)
            assert [f["code"] for f in newest["findings"]] == ["CONTROL_ID_REUSED"] and oldest["findings"] == []
        async with running(strict, "strict") as hub, hub.sender() as his:
            await his.ask(make_adt("C1"))
            assert read_msa(await his.ask(make_adt("C1", visit="V2")))[0] == "AE"
            his.write(make_adt("C3", visit="V3"), make_adt("C3", visit="V4"))
            assert [read_msa(await his.answer())[0] for _ in range(2)] == ["AA", "AE"]
            assert read_msa(await his.ask(make_adt("C1")))[0] == "AA"  # the first bytes again are still known

    asyncio.run(main())


def test_a_large_body_is_a_file_and_keeps_its_place(running, make_adt, read_msa):
    async def main():
        async with running(HIS) as hub, hub.sender() as his:
            large = make_adt("BIG") + b"NTE|1||" + b"x" * 600_000 + b"\r"
            his.write(large, make_adt("NEXT", event="A03"))
            assert [read_msa(await his.answer()) for _ in range(2)] == [("AA", "BIG"), ("AA", "NEXT")]
            newest, oldest = await hub.settled(2)
            assert (oldest["control_id"], newest["control_id"]) == ("BIG", "NEXT")
            assert await hub.row("SELECT count(*) FROM body") == (1,)
            from hub.ledger.messages import body_of
            from hub.model.uids import uid_number

            assert await hub.hub.store.read(lambda tx: body_of(tx, uid_number(oldest["id"]))) == large

    asyncio.run(main())


def test_no_route_is_said_and_can_be_discarded(running, make_adt):
    async def main():
        async with running(HIS) as hub, hub.sender() as his:
            await his.ask(make_adt("C1").replace(b"ADT^A01^ADT_A01", b"BAR^P01^BAR_P01"))
            (kept,) = await hub.settled(1)
            assert (kept["state"], kept["ack"]["code"]) == ("NO_ROUTE", "AA")
            await hub.hub.operations.discard(kept["id"])
            (kept,) = await hub.messages()
            assert kept["state"] == "DISCARDED"

    asyncio.run(main())


def test_enhanced_mode_is_honoured(running, make_adt, read_msa):
    async def main():
        async with running(HIS) as hub, hub.sender() as his:

            def mode(control, accept):
                return make_adt(control).replace(b"|2.5^FRA^2.11|||||", b"|2.5^FRA^2.11|||" + accept + b"||")

            assert read_msa(await his.ask(mode("C1", b"AL"))) == ("CA", "C1")
            his.write(mode("C2", b"NE"), mode("C3", b"ER"), mode("C4", b"SU"))
            assert read_msa(await his.answer()) == ("CA", "C4")  # the two before owe nothing
            bad = mode("C5", b"ER").replace(b"|2.5^FRA^2.11|", b"|9.9|")
            assert read_msa(await his.ask(bad)) == ("CE", "C5")
            found = await hub.settled(5)
            assert next(m for m in found if m["control_id"] == "C2")["ack"]["state"] == "NOT_OWED"

    asyncio.run(main())


def test_what_was_acknowledged_before_a_stop_is_done_after_it(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class()
        await peer.start()
        port = peer.port
        await peer.stop()
        async with running(through(port)) as hub, hub.sender() as his:
            for n in range(5):
                await his.ask(make_adt(f"C{n}", visit=f"V{n}"))
            await hub.until(lambda found: len(found) == 5 and all(m["state"] == "ROUTED" for m in found))
        peer.port = port
        await peer.start()
        async with running(through(port)) as hub:
            found = await hub.settled(5)
            assert {m["state"] for m in found} == {"DONE"}
            assert [m.split(b"|", 10)[9] for m in peer.got] == [b"C0", b"C1", b"C2", b"C3", b"C4"]
        await peer.stop()

    asyncio.run(main())


def test_a_store_that_fails_for_a_while_does_not_reorder(running, make_adt, monkeypatch):
    """What routing had in hand when the store failed goes before what came later."""

    async def main():
        async with running(HIS) as hub, hub.sender() as his:
            store, failing = hub.hub.store, [True]
            write = store.write

            async def sometimes(job):
                if failing[0]:
                    raise StoreUnavailable("for a while")
                return await write(job)

            monkeypatch.setattr(store, "write", sometimes)
            await his.ask(make_adt("C1"))
            await his.ask(make_adt("C2", event="A08"))
            await asyncio.sleep(0.1)
            failing[0] = False
            await his.ask(make_adt("C3", event="A03"))
            await hub.settled(3)
            routed = await hub.rows("SELECT control_id FROM message ORDER BY routed_at, id")
            assert [control_id for (control_id,) in routed] == ["C1", "C2", "C3"]
            body = await hub.row("SELECT body FROM resource WHERE type = 'Encounter'")
            assert b'"finished"' in body[0]
            assert await hub.row("SELECT count(*) FROM message WHERE findings LIKE '%OLDER%'") == (0,)

    asyncio.run(main())
