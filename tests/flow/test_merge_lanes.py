"""A merge, its undoing, and the lanes of both patients: what came first under one number leaves before what comes later under
the other, whatever waits where."""

from __future__ import annotations

import asyncio

import pytest

from hub.model.uids import uid_text
from hub.record.identity_cases import Decision

CONFIG = """
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["record", "out"]
[[destination]]
name = "out"
kind = "mllp"
connect = "127.0.0.1:{port}"
in_flight = 8
[destination.retry]
base_s = 0.05
probe_s = 0.05
"""

HEADER = (
    "MSH|^~\\&|GAM|CHU-TEST|HUB|HUB|2026112408{n:02}00||ADT^{event}|{control}|T|2.5^FRA^2.11|||||FRA|UNICODE UTF-8\r"
    "EVN||2026112408{n:02}00\r"
)
PID = "PID|1||{ipp}^^^CHU&1.2.250.1.999.1&ISO^PI||{name}^ZOE^ZOE MARIE^^^^L||19800102|F||||||||||||||||||||||||{status}\r"
MRG = "MRG|{prior}^^^CHU&1.2.250.1.999.1&ISO^PI\r"


def update(n: int, ipp: str, *, name: str = "TESTUT", status: str = "PROV") -> bytes:
    return (
        HEADER.format(n=n, event="A31^ADT_A05", control=f"C{n}") + PID.format(ipp=ipp, name=name, status=status) + "PV1|1|N\r"
    ).encode()


def merge(n: int, survivor: str, prior: str) -> bytes:
    pid = PID.format(ipp=survivor, name="TESTUT", status="PROV")
    return (HEADER.format(n=n, event="A40^ADT_A39", control=f"C{n}") + pid + MRG.format(prior=prior)).encode()


def part(n: int, one: str, other: str) -> bytes:
    pids = "".join(PID.format(ipp=ipp, name="TESTUT", status="PROV") for ipp in (one, other))
    return (HEADER.format(n=n, event="A37^ADT_A37", control=f"C{n}") + pids).encode()


def controls(peer) -> list[str]:
    return [message.split(b"|", 10)[9].decode() for message in peer.got]


async def told(hub, his, *messages: bytes) -> None:
    for message in messages:
        assert b"MSA|AA|" in await his.ask(message)
    await hub.until(lambda found: all(one["state"] != "RECEIVED" for one in found))


def story(running, receiver_class, *steps: list[bytes], free: int = 0):
    """The steps while the receiver is down; then it is there, and gets everything in the order told.

    The first `free` messages are of patients who are two persons still: any order among them will do.
    """

    async def main():
        peer = receiver_class()
        await peer.start()
        await peer.stop()
        async with running(CONFIG.format(port=peer.port)) as hub, hub.sender() as his:
            for step in steps:
                await told(hub, his, *step)
            assert not peer.got
            await peer.start()
            told_n = sum(map(len, steps))
            await hub.settled(told_n, 20)
            order = [int(control[1:]) for control in controls(peer)]
            assert sorted(order[:free]) + order[free:] == list(range(1, told_n + 1))
            assert await hub.row("SELECT count(*) FROM barrier") == (0,)
            assert await hub.row("SELECT count(*) FROM lane") == (0,)
        await peer.stop()

    asyncio.run(main())


def test_what_waits_under_the_old_number_leaves_before_the_merge_and_what_follows(running, receiver_class):
    story(
        running,
        receiver_class,
        [update(1, "B"), update(2, "A"), update(3, "B")],
        [merge(4, "A", "B")],
        [update(5, "A"), update(6, "B"), update(7, "A")],
        free=3,
    )


def test_what_comes_after_the_parting_waits_for_it(running, receiver_class):
    story(
        running,
        receiver_class,
        [update(1, "B"), merge(2, "A", "B"), update(3, "A"), update(4, "B")],
        [part(5, "A", "B"), update(6, "B"), update(7, "B")],
    )


def test_the_parting_itself_is_waited_for(running, receiver_class):
    async def main():
        peer = receiver_class()
        await peer.start()
        async with running(CONFIG.format(port=peer.port)) as hub, hub.sender() as his:
            await told(hub, his, update(1, "B"), update(2, "A"), merge(3, "A", "B"))
            await hub.settled(3)
            await peer.stop()
            await told(hub, his, part(4, "A", "B"), update(5, "B"), update(6, "A"))
            assert await hub.row("SELECT count(*) FROM barrier") == (1,)
            await peer.start()
            await hub.settled(6, 20)
            assert controls(peer)[3] == "C4"
            assert await hub.row("SELECT count(*) FROM barrier") == (0,)
        await peer.stop()

    asyncio.run(main())


def test_others_are_not_held_up(running, receiver_class):
    async def main():
        silent = {"on": True}
        peer = receiver_class(lambda m: None if silent["on"] and b"|C1|" in m else "AA")
        await peer.start()
        toml = CONFIG.format(port=peer.port).replace("in_flight", "ack_timeout_s = 30\nconnections = 4\nin_flight")
        async with running(toml) as hub, hub.sender() as his:
            await told(hub, his, update(1, "B"), merge(2, "A", "B"), update(3, "A"), update(4, "X"))
            await hub.until(lambda _: "C4" in controls(peer))
            lanes = await hub.rows("SELECT blocked_reason FROM lane WHERE blocked_reason IS NOT NULL")
            assert lanes in ([], [("waits for another number of the same patient",)])
            assert "C2" not in controls(peer) and "C3" not in controls(peer)
            silent["on"] = False
            await peer.stop()
            await peer.start()
            await hub.settled(4, 20)
            order = controls(peer)
            assert order.index("C1") < order.index("C2") < order.index("C3")
        await peer.stop()

    asyncio.run(main())


@pytest.mark.parametrize("store_of", ["sqlite", "postgres"], indirect=True)
def test_a_person_s_decision_keeps_the_order_too(running, receiver_class):
    """Two numbers of two patients in one message are a case; once it is linked, what waits under either leaves first."""

    async def main():
        peer = receiver_class()
        await peer.start()
        await peer.stop()
        async with running(CONFIG.format(port=peer.port)) as hub, hub.sender() as his:
            await told(hub, his, update(1, "A"), update(2, "B"))
            both = update(3, "A").replace(
                b"CHU&1.2.250.1.999.1&ISO^PI", b"CHU&1.2.250.1.999.1&ISO^PI~B^^^CHU&1.2.250.1.999.1&ISO^PI"
            )
            await told(hub, his, both)
            ((case, kind),) = await hub.rows("SELECT id, kind FROM identity_case")
            assert kind == "TWO_PATIENTS"
            identities = hub.hub.identities
            told_before = await identities.preview(uid_text(case), Decision.LINK)
            assert told_before["possible"] and told_before["patient"]["waiting"] == 2
            await identities.decide(uid_text(case), Decision.LINK, actor="op", reason="same person")
            await told(hub, his, update(4, "A"), update(5, "B"))
            await peer.start()
            await hub.settled(5, 20)
            order = controls(peer)
            assert set(order[:3]) == {"C1", "C2", "C3"} and order[3:] == ["C4", "C5"]
        await peer.stop()

    asyncio.run(main())
