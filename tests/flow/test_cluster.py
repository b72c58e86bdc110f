"""Several processes on one store: roles, handing over, order, and what a member that was given up for dead may still do."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from hub.flow.carry import KeptMessages
from hub.ledger import members
from hub.ledger.deliveries import Head

pytestmark = pytest.mark.parametrize("store_of", ["postgres", "cluster"], indirect=True)

THROUGH = """
[cluster]
lease_s = 1.0
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["record", "out"]
[[destination]]
name = "out"
kind = "mllp"
connect = "127.0.0.1:{port}"
{more}
[destination.retry]
probe_s = 0.1
base_s = 0.2
"""


def through(port, more=""):
    return THROUGH.format(port=port, more=more)


def controls(peer):
    return [message.split(b"|", 10)[9].decode() for message in peer.got]


def test_an_edge_keeps_a_worker_delivers_and_neither_does_the_others_work(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class()
        await peer.start()
        async with running(through(peer.port), role="edge") as edge:
            async with edge.sender() as his:
                for n in range(5):
                    await his.ask(make_adt(f"C{n}"))
            await asyncio.sleep(0.5)
            assert {m["state"] for m in await edge.messages()} == {"RECEIVED"}  # nobody routes yet
            async with running(through(peer.port), role="worker") as worker:
                assert worker.hub.sources == []
                await edge.settled(5)
                assert controls(peer) == [f"C{n}" for n in range(5)]
                assert await worker.row("SELECT count(*) FROM resource WHERE type = 'Encounter'") == (1,)
        await peer.stop()

    asyncio.run(main())


def test_one_patients_order_is_kept_across_edges_and_workers(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class()
        await peer.start()
        toml = through(peer.port)
        edges = (running(toml, role="edge"), running(toml, role="edge"))
        workers = [running(toml, role="worker") for _ in range(3)]
        async with AsyncExitStack() as stack:
            senders = [await stack.enter_async_context((await stack.enter_async_context(edge)).sender()) for edge in edges]
            w1, *_ = [await stack.enter_async_context(worker) for worker in workers]
            for n in range(40):  # each acknowledged before the next is sent, over the other edge
                await senders[n % 2].ask(make_adt(f"P{n % 4}N{n:02}", ipp=f"90{n % 4}", visit=f"V{n}"))
            await w1.settled(40, 20)
        arrived = controls(peer)
        assert len(arrived) == 40
        for patient in range(4):
            of_patient = [c for c in arrived if c.startswith(f"P{patient}")]
            assert of_patient == sorted(of_patient)
        await peer.stop()

    asyncio.run(main())


def test_a_rolling_restart_loses_nothing_and_repeats_nothing(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class()
        peer.delay_s = 0.01
        await peer.start()
        toml = through(peer.port)
        async with running(toml, role="edge") as edge, edge.sender() as his:
            for turn in range(3):  # a new worker joins before the old one goes
                async with running(toml, role="worker"):
                    for n in range(10):
                        await his.ask(make_adt(f"T{turn}N{n}", ipp=f"9{n}", visit=f"V{turn}{n}"))
            async with running(toml, role="worker") as last:
                await last.settled(30, 20)
        assert sorted(controls(peer)) == sorted(f"T{t}N{n}" for t in range(3) for n in range(10))
        await peer.stop()

    asyncio.run(main())


def test_shards_are_shared_and_taken_over_when_a_member_vanishes(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class()
        await peer.start()
        toml = through(peer.port)
        worker = running(toml, role="worker")
        async with worker as one, running(toml, role="worker") as two, running(toml, role="edge") as edge, edge.sender() as his:
            await until(lambda: len(one.hub.member.shards) == len(two.hub.member.shards) == 32)
            two.hub._life.cancel()  # its heart stops; its hands do not know yet
            await until(lambda: len(one.hub.member.shards) == 64, 10)
            assert not two.hub.member.holds()
            for n in range(8):
                await his.ask(make_adt(f"C{n}", ipp=f"9{n}", visit=f"V{n}"))
            await edge.settled(8, 20)
            assert sorted(controls(peer)) == [f"C{n}" for n in range(8)]
        await peer.stop()

    asyncio.run(main())


def test_who_was_buried_takes_a_new_name_and_sends_nothing_it_held(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class()
        peer.delay_s = 0.3
        await peer.start()
        toml = through(peer.port)
        async with running(toml, role="worker") as one, running(toml, role="edge") as edge, edge.sender() as his:
            for n in range(6):  # one patient: one at a time
                await his.ask(make_adt(f"C{n}", visit=f"V{n}"))
            await until(lambda: len(peer.got) == 1)
            before = one.hub.member.owner
            await edge.hub.store.write(lambda tx: buried(tx, before, edge.hub.store.now_us()))
            await until(lambda: one.hub.member.owner != before, 10)
            await edge.settled(6, 20)
            arrived = controls(peer)
            assert list(dict.fromkeys(arrived)) == [f"C{n}" for n in range(6)]  # in order; what was under way may come twice
            assert len(arrived) <= 7
            assert await edge.row("SELECT count(*), max(version) FROM resource WHERE type = 'Encounter'") == (6, 1)
        await peer.stop()

    asyncio.run(main())


def test_who_was_buried_while_it_read_a_message_does_not_send_it(running, receiver_class, make_adt, monkeypatch):
    async def main():
        peer = receiver_class()
        await peer.start()
        toml = through(peer.port)
        reading, go_on, of = asyncio.Event(), asyncio.Event(), KeptMessages.of

        async def slowly(self, head):
            message = await of(self, head)
            if not reading.is_set():
                reading.set()
                await go_on.wait()
            return message

        monkeypatch.setattr(KeptMessages, "of", slowly)
        async with running(toml, role="worker") as one, running(toml, role="edge") as edge, edge.sender() as his:
            await his.ask(make_adt("C0"))
            await reading.wait()
            before = one.hub.member.owner
            await edge.hub.store.write(lambda tx: buried(tx, before, edge.hub.store.now_us()))
            await until(lambda: one.hub.member.owner != before, 10)
            await edge.settled(1, 20)  # under its new name it took the lane again, and delivered
            go_on.set()
            await asyncio.sleep(0.3)
            assert controls(peer) == ["C0"]
        await peer.stop()

    asyncio.run(main())


def test_what_was_claimed_under_a_name_that_is_gone_is_not_sent(running, receiver_class, make_adt):
    """A claim that was under way while its process was buried: the lane is another's to take."""

    async def main():
        peer = receiver_class()
        await peer.start()
        async with running(through(peer.port), role="worker") as one, running(through(peer.port), role="edge") as edge:
            dispatcher = one.hub._by_name["out"]
            late = dispatcher.grant(3)
            before, room = one.hub.member.owner, dispatcher._held
            await edge.hub.store.write(lambda tx: buried(tx, before, edge.hub.store.now_us()))
            await until(lambda: one.hub.member.owner != before, 10)
            head = Head(1, 1, "out", "", "out/p1", 0, 0, 0, "his", "C0", False, b"", "utf-8", late.claim.epoch)
            dispatcher.take(late, [head])
            assert (dispatcher._held, dispatcher._ready) == (room - 3, [])
            async with edge.sender() as his:
                await his.ask(make_adt("C1"))
            await edge.settled(1, 20)
            assert controls(peer) == ["C1"]
        await peer.stop()

    asyncio.run(main())


def test_a_destination_that_takes_one_process_has_one_connection_at_a_time(running, receiver_class, make_adt):
    async def main():
        peer = receiver_class()
        await peer.start()
        toml = through(peer.port, "workers = 1")
        worker = running(toml, role="worker")
        async with running(toml, role="edge") as edge, edge.sender() as his, worker as one, running(toml, role="worker") as two:
            await until(lambda: one.hub.member.serves("out") or two.hub.member.serves("out"))
            for n in range(20):
                await his.ask(make_adt(f"C{n:02}", ipp=f"9{n}", visit=f"V{n}"))
            await edge.settled(20, 20)
            assert not (one.hub.member.serves("out") and two.hub.member.serves("out"))
            serving, other = (one, two) if one.hub.member.serves("out") else (two, one)
            assert len(peer._writers) == 1
            serving.hub._life.cancel()
            await serving.hub.member.leave()  # the place is free
            await until(lambda: other.hub.member.serves("out"), 10)
            for n in range(20, 25):
                await his.ask(make_adt(f"C{n:02}", ipp=f"9{n}", visit=f"V{n}"))
            await edge.settled(25, 20)
        assert sorted(controls(peer)) == [f"C{n:02}" for n in range(25)]
        await peer.stop()

    asyncio.run(main())


def buried(tx, owner, now):
    """As another member does when the lease ran out."""
    tx.run("UPDATE member SET lease_until = 1 WHERE owner = ?", owner)
    assert members.bury(tx, now=now) == [owner]


async def until(holds, timeout_s=5.0):
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while not holds():
        assert loop.time() < end
        await asyncio.sleep(0.02)
