"""Traps of the official French files that lie on the wire: sizes, control ids that repeat, acknowledgements from others (§7)."""

from __future__ import annotations

import asyncio

import hl7
import hl7.client
import pytest

from adapters.mllp.frames import frame

HUB = """
[hub]
environment = "test"
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = [{routes}]
"""
OUT = """
[[destination]]
name = "ris"
kind = "mllp"
connect = "127.0.0.1:{port}"
"""

pytestmark = pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)


def test_trap_03_more_than_64_kib(running, make_mdm):
    """A reader with the usual limit drops the connection on a CDA of 330 kB; small ADT hide it."""
    raw = make_mdm("M1").replace(b"PV1|1", b"NTE|1||" + b"x" * 400_000 + b"\rPV1|1")

    def send(port: int) -> str:
        with hl7.client.MLLPClient("127.0.0.1", port) as client:
            answers = [hl7.parse(client.send_message(one).strip(b"\x0b\x1c\r").decode()) for one in (raw, make_mdm("M2"))]
            return " ".join(str(answer.segment("MSA")[1]) for answer in answers)

    async def main():
        async with running(HUB.format(routes='"record"')) as hub:
            port = next(s.port for s in hub.hub.sources if s.name == "his")
            assert await asyncio.to_thread(send, port) == "AA AA"
            found = await hub.settled(2)
            assert sorted(one["size"] > 400_000 for one in found) == [False, True]

    asyncio.run(main())


def test_trap_15_one_control_id_for_everything(running, make_mdm):
    """MSH-10 is 015 in every ORU and MDM of the files, first sending, replacement and deletion alike."""
    number, successor = "1.2.250.9.77.5.100", "1.2.250.9.77.5.101"
    chain = [
        make_mdm("015", number=number),
        make_mdm("015", event="T10", number=successor, replaces=number),
        make_mdm("015", event="T04", number=successor, replaces=number),
    ]

    async def main():
        async with running(HUB.format(routes='"record"')) as hub, hub.sender() as his:
            for raw in [*chain, *chain]:
                assert b"\rMSA|AA|015\r" in await his.ask(raw)
            found = await hub.settled(3)
            assert len(found) == 3
            rows = dict(await hub.rows("SELECT key, status FROM resource WHERE type = 'DocumentReference'"))
            assert rows == {f"urn:oid:{number}": "superseded", f"urn:oid:{successor}": "entered-in-error"}

    asyncio.run(main())


def test_trap_16_an_acknowledgement_from_another_name(running, make_adt, receiver_class):
    """The request went to PFI-Y and PFI-X answers: MSA-2 and the connection decide, not MSH-3."""
    receiver = receiver_class(
        lambda message: frame(
            b"MSH|^~\\&|PFI-X|ELSEWHERE|NOBODY|NOWHERE|20260302||ACK^A01^ACK|016|P|2.5\rMSA|AA|"
            + message.split(b"|", 10)[9]
            + b"\r"
        )
    )

    async def main():
        await receiver.start()
        try:
            async with running(HUB.format(routes='"ris"') + OUT.format(port=receiver.port)) as hub, hub.sender() as his:
                assert b"\rMSA|AA|C1\r" in await his.ask(make_adt("C1"))
                (found,) = await hub.settled(1)
                assert [(d["destination"], d["state"]) for d in found["deliveries"]] == [("ris", "DELIVERED")]
        finally:
            await receiver.stop()

    asyncio.run(main())
