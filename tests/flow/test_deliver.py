"""Deliveries to an application that refuses, is busy, silent, confused, or gone; and what operators do about them."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from hub.flow.graph import RetryPolicy
from hub.flow.retry import Breaker, pause_s
from hub.ledger import queries
from hub.ledger.acts import NotFound, NotPossible, Receipt
from hub.model.states import DeliveryState
from hub.model.uids import uid_number

THROUGH = """
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["out"]
[[destination]]
name = "out"
kind = "mllp"
connect = "127.0.0.1:{port}"
ack_timeout_s = {ack_timeout_s}
{more}
[destination.retry]
base_s = 0.05
probe_s = 0.05
give_up_h = {give_up_h}
"""


def through(port: int, more: str = "", ack_timeout_s: float = 5.0, give_up_h: float = 72) -> str:
    return THROUGH.format(port=port, more=more, ack_timeout_s=ack_timeout_s, give_up_h=give_up_h)


def controls(peer) -> list[str]:
    return [m.split(b"|", 10)[9].decode() for m in peer.got]


def states(found: list[dict]) -> dict[str, tuple[str, str]]:
    return {m["control_id"]: (m["state"], m["deliveries"][0]["state"]) for m in found if m["deliveries"]}


def test_ae_is_for_good_and_the_lane_goes_on(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class(lambda m: "AE" if b"|C1|" in m else "AA")
        await peer.start()
        async with running(through(peer.port)) as hub, hub.sender() as his:
            for n in range(3):
                await his.ask(make_adt(f"C{n}", event=("A01", "A08", "A03")[n]))
            found = await hub.settled(3)
            assert states(found) == {"C0": ("DONE", "DELIVERED"), "C1": ("PARTIAL", "REFUSED"), "C2": ("DONE", "DELIVERED")}
            assert controls(peer) == ["C0", "C1", "C2"]
            refused = next(m for m in found if m["control_id"] == "C1")["deliveries"][0]
            assert refused["attempts"] == 1 and refused["last_error"].startswith("PeerRefused")
        await peer.stop()

    asyncio.run(main())


def test_on_dead_block_holds_the_lane_until_somebody_skips(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class(lambda m: "AE" if b"|C0|" in m else "AA")
        await peer.start()
        async with running(through(peer.port, 'on_dead = "block"')) as hub, hub.sender() as his:
            await his.ask(make_adt("C0"))
            await hub.settled(1)
            await his.ask(make_adt("C1", event="A03"))
            await his.ask(make_adt("OTHER", ipp="2", visit="W"))
            await hub.until(lambda found: states(found).get("OTHER") == ("DONE", "DELIVERED"))
            assert states(await hub.messages())["C1"] == ("ROUTED", "QUEUED")
            lanes = await hub.hub.store.read(lambda tx: queries.find_lanes(tx, blocked=True))
            assert [lane["blocked_reason"] for lane in lanes["items"]] == ["a delivery of this lane failed for good"]
            first = next(m for m in await hub.messages() if m["control_id"] == "C0")
            await hub.hub.operations.skip(first["deliveries"][0]["id"])
            found = await hub.settled(3)
            assert states(found)["C1"] == ("DONE", "DELIVERED")
            assert states(found)["C0"] == ("PARTIAL", "CANCELLED")
        await peer.stop()

    asyncio.run(main())


def test_ar_is_tried_again_in_place(running, receiver_class, make_adt):
    async def main():
        answers = itertools.chain(["AR", "AR"], itertools.repeat("AA"))
        peer = receiver_class(lambda m: next(answers))
        await peer.start()
        async with running(through(peer.port)) as hub, hub.sender() as his:
            await his.ask(make_adt("C0"))
            await his.ask(make_adt("C1", event="A03"))
            found = await hub.settled(2)
            assert controls(peer) == ["C0", "C0", "C0", "C1"]
            delivery = next(m for m in found if m["control_id"] == "C0")["deliveries"][0]
            assert delivery["attempts"] == 3
            rows = await hub.rows("SELECT n, outcome FROM attempt WHERE delivery_id = ? ORDER BY n", uid_number(delivery["id"]))
            assert rows == [(1, "FAIL_FOR_NOW"), (2, "FAIL_FOR_NOW"), (3, "DELIVER")]
        await peer.stop()

    asyncio.run(main())


def test_on_ae_retry(running, receiver_class, make_adt):
    async def main():
        answers = itertools.chain(["AE"], itertools.repeat("AA"))
        peer = receiver_class(lambda m: next(answers))
        await peer.start()
        async with running(through(peer.port, 'on_ae = "retry"')) as hub, hub.sender() as his:
            await his.ask(make_adt("C0"))
            assert states(await hub.settled(1)) == {"C0": ("DONE", "DELIVERED")}
        await peer.stop()

    asyncio.run(main())


def test_what_is_too_old_is_given_up(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class(lambda m: "AR")
        await peer.start()
        async with running(through(peer.port, give_up_h=0.3 / 3600)) as hub, hub.sender() as his:
            await his.ask(make_adt("C0"))
            found = await hub.settled(1)
            assert states(found) == {"C0": ("PARTIAL", "DEAD")}
            dead = await hub.hub.store.read(lambda tx: queries.find_deliveries(tx, DeliveryState.DEAD))
            assert [d["message"]["control_id"] for d in dead["items"]] == ["C0"]
            peer.decide = lambda m: "AA"
            await hub.hub.operations.retry(dead["items"][0]["id"])
            assert states(await hub.settled(1)) == {"C0": ("DONE", "DELIVERED")}
        await peer.stop()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("odd", "store_of"),
    [("silent", "sqlite"), ("silent", "postgres"), ("silent", "cluster")]
    + [(odd, "sqlite") for odd in ("wrong msa", "garbage", "half a frame", "two answers")],
    indirect=["store_of"],
)
def test_no_good_answer_means_unsure_then_the_same_id_again(running, receiver_class, make_adt, odd):
    async def main():
        seen = itertools.count()

        def decide(message):
            if next(seen):
                return "AA"
            wrong = b"\x0bMSH|^~\\&|P|P|||20260101||ACK|1|P|2.5\rMSA|AA|SOMEBODY-ELSE\r\x1c\r"
            right = wrong.replace(b"SOMEBODY-ELSE", b"C0")
            return {
                "silent": None,
                "wrong msa": wrong,
                "garbage": b"hello?\x1c\r",
                "half a frame": b"\x0bMSH|^~\\&|",
                "two answers": right + right,
            }[odd]

        peer = receiver_class(decide)
        await peer.start()
        async with running(through(peer.port, ack_timeout_s=0.3)) as hub, hub.sender() as his:
            await his.ask(make_adt("C0"))
            await his.ask(make_adt("C1", event="A03"))
            found = await hub.settled(2)
            assert states(found) == {"C0": ("DONE", "DELIVERED"), "C1": ("DONE", "DELIVERED")}
            expected = ["C0", "C1"] if odd == "two answers" else ["C0", "C0", "C1"]
            assert controls(peer) == expected
            assert len({m for m in peer.got if b"|C0|" in m}) == 1  # the repeat is the same bytes
        await peer.stop()

    asyncio.run(main())


def test_on_unsure_hold_waits_for_a_person(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class(lambda m: None)
        await peer.start()
        async with running(through(peer.port, 'on_unsure = "hold"', ack_timeout_s=0.2)) as hub, hub.sender() as his:
            await his.ask(make_adt("C0"))
            found = await hub.until(lambda f: states(f).get("C0") == ("ROUTED", "UNSURE"))
            await asyncio.sleep(0.3)
            assert controls(peer) == ["C0"]
            peer.decide = lambda m: "AA"
            await hub.hub.operations.retry(found[0]["deliveries"][0]["id"])
            assert states(await hub.settled(1)) == {"C0": ("DONE", "DELIVERED")}
        await peer.stop()

    asyncio.run(main())


def test_a_destination_that_is_down_costs_one_probe_not_one_attempt_a_patient(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class()
        await peer.start()
        port = peer.port
        await peer.stop()
        async with running(through(port)) as hub, hub.sender() as his:
            for n in range(40):
                await his.ask(make_adt(f"C{n:02}", ipp=str(n), visit=f"V{n}"))
            await hub.until(
                lambda f: len(f) == 40 and any(m["deliveries"] and m["deliveries"][0]["state"] == "WAITING" for m in f)
            )
            await asyncio.sleep(0.5)
            (attempts,) = await hub.row("SELECT count(*) FROM attempt")
            assert attempts <= 20  # those in flight when it was noticed, and no more
            peer.port = port
            await peer.start()
            found = await hub.settled(40)
            assert {s for s, _ in states(found).values()} == {"DONE"}
            assert sorted(controls(peer)) == [f"C{n:02}" for n in range(40)]
        await peer.stop()

    asyncio.run(main())


def test_one_patients_trouble_does_not_delay_another(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class(lambda m: "AR" if b"|BAD" in m else "AA")
        await peer.start()
        async with running(through(peer.port)) as hub, hub.sender() as his:
            await his.ask(make_adt("BAD1", ipp="1"))
            await his.ask(make_adt("BAD2", ipp="1", event="A03"))
            for n in range(20):
                await his.ask(
                    make_adt(f"C{n}", ipp="2", visit="W", event="A08" if n else "A01").replace(b"ZOE MARIE", b"ZOE %d" % n)
                )
            await hub.until(lambda f: sum(s == ("DONE", "DELIVERED") for s in states(f).values()) == 20)
            assert [c for c in controls(peer) if not c.startswith("BAD")] == [f"C{n}" for n in range(20)]
            assert "BAD2" not in controls(peer)
        await peer.stop()

    asyncio.run(main())


def test_replay_is_a_new_delivery_marked_as_such(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class()
        await peer.start()
        async with running(through(peer.port)) as hub, hub.sender() as his:
            await his.ask(make_adt("C0"))
            (kept,) = await hub.settled(1)
            await hub.hub.operations.replay(kept["id"])
            await hub.settled(1)
            (kept,) = await hub.until(lambda f: len(f[0]["deliveries"]) == 2 and f[0]["state"] == "DONE")
            first, second = kept["deliveries"]
            assert second["replay_of"] == first["id"] and second["state"] == "DELIVERED"
            assert controls(peer) == ["C0", "C0"]
            with pytest.raises(NotPossible):
                await hub.hub.operations.replay(kept["id"], ["dmp"])
            with pytest.raises(NotFound):
                await hub.hub.operations.replay("12345")
        await peer.stop()

    asyncio.run(main())


def test_a_negative_receipt_makes_the_message_partial(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class()
        await peer.start()
        async with running(through(peer.port)) as hub, hub.sender() as his:
            await his.ask(make_adt("C0"))
            (kept,) = await hub.settled(1)
            delivery = kept["deliveries"][0]["id"]
            await hub.hub.operations.file_receipt(delivery, Receipt("DMP", True, 1))
            assert (await hub.messages())[0]["state"] == "DONE"
            await hub.hub.operations.file_receipt(delivery, Receipt("MDN", False, 2, "902"))
            (kept,) = await hub.messages()
            assert kept["state"] == "PARTIAL"
            assert [(r["kind"], r["positive"], r["code"]) for r in kept["deliveries"][0]["receipts"]] == [
                ("DMP", True, None),
                ("MDN", False, "902"),
            ]
        await peer.stop()

    asyncio.run(main())


def another_takes_it(tx):
    """A member that lives, so that its lanes are not taken for orphans."""
    tx.insert(
        "member",
        ("owner", "session", "edge", "role", "host", "pid", "version", "started_at", "seen_at", "lease_until"),
        [("another", "elsewhere", 30, "worker", "elsewhere", 1, "0", 0, 0, time.time_ns() // 1000 + 60_000_000)],
    )
    tx.run("UPDATE lane SET owner = 'another', epoch = epoch + 1")


def test_a_lane_taken_by_somebody_else_fences_the_old_owner(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class()
        peer.delay_s = 0.5
        await peer.start()
        async with running(through(peer.port)) as hub, hub.sender() as his:
            await his.ask(make_adt("C0"))
            await hub.until(lambda f: states(f).get("C0") == ("ROUTED", "SENDING"))
            await hub.hub.store.write(another_takes_it)
            await asyncio.sleep(0.8)
            assert states(await hub.messages()) == {"C0": ("ROUTED", "SENDING")}  # the late mark changed nothing
            await hub.hub.store.write(lambda tx: tx.run("UPDATE lane SET owner = NULL"))  # the other owner was buried
            await hub.hub.sweep()
            assert states(await hub.settled(1)) == {"C0": ("DONE", "DELIVERED")}
            assert controls(peer) == ["C0", "C0"]
        await peer.stop()

    asyncio.run(main())


def test_pauses_double_up_to_the_cap():
    policy = RetryPolicy(base_s=5, cap_s=3600)
    assert [round(pause_s(policy, n, lambda: 0.5)) for n in (1, 2, 3, 4)] == [5, 10, 20, 40]
    assert pause_s(policy, 1000, lambda: 1.0) == pytest.approx(3600 * 1.2)
    assert pause_s(policy, 1, lambda: 0.0) == 4.0


def test_the_breaker():
    breaker = Breaker()
    assert not breaker.is_open
    for _ in range(2):
        breaker.no_answer()
    assert not breaker.is_open
    breaker.no_answer()
    assert breaker.is_open
    breaker.probed()
    assert breaker.half_open and not breaker.is_open
    breaker.no_answer()
    assert breaker.is_open and not breaker.half_open
    breaker.probed()
    breaker.answered()
    assert not breaker.is_open and not breaker.half_open
    breaker.unavailable("gone")
    assert breaker.is_open


def test_a_replacement_waits_when_its_predecessor_was_given_up(running, receiver_class, make_adt):
    def document(control: str, event: str, number: str, replaces: str = "") -> bytes:
        head = make_adt(control, event="A01").replace(b"ADT^A01^ADT_A01", f"MDM^{event}^MDM_T02".encode())
        return head + f"TXA|1|CR|TEXT|||||||||{number}|{replaces}\rOBX|1|TX|34108-1^CR^LN||essai||||||F\r".encode()

    async def main():
        peer = receiver_class(lambda m: "AR" if b"|D1|" in m and b"T02" in m[:100] else "AA")
        await peer.start()
        toml = through(peer.port, give_up_h=0.2 / 3600).replace('routes = ["out"]', 'routes = ["record", "out"]')
        async with running(toml) as hub, hub.sender() as his:
            await his.ask(document("D1", "T02", "DOC1"))
            await hub.until(lambda f: any(d["state"] == "DEAD" for m in f for d in m["deliveries"]))
            await his.ask(document("D2", "T10", "DOC2", "DOC1"))
            await his.ask(make_adt("OTHER", ipp="2", visit="W"))
            await hub.until(lambda f: {"OTHER"} <= {m["control_id"] for m in f if m["state"] == "DONE"})
            await asyncio.sleep(0.2)
            assert "D2" not in controls(peer)
            lanes = await hub.hub.store.read(lambda tx: queries.find_lanes(tx, blocked=True))
            assert [lane["blocked_reason"] for lane in lanes["items"]] == [
                "the document that it replaces or deletes was given up"
            ]
            peer.decide = lambda m: "AA"
            first = next(m for m in await hub.messages() if m["control_id"] == "D1")
            dead = next(d for d in first["deliveries"] if d["state"] == "DEAD")
            await hub.hub.operations.retry(dead["id"])
            await hub.settled(3)
            assert [c for c in controls(peer) if c in ("D1", "D2")][-2:] == ["D1", "D2"]
        await peer.stop()

    asyncio.run(main())
