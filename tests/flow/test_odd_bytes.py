"""Bytes that are no text of any database: the message is answered, kept as it came, routed or refused; the hub goes on."""

from __future__ import annotations

import asyncio

import pytest

from adapters.mllp.frames import frame

HIS = """
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["record", "out"]
[[destination]]
name = "out"
kind = "mllp"
connect = "127.0.0.1:{port}"
"""
ODD = [b"\0", b"\xff", b"\xed\xa0\x80", b"\\X00\\", b"\\XEDA080\\", b"\x1a", "\ufffe".encode(), b"{}", b"'\"\\", b"%s"]
PLACES = [
    b"|GAM|",
    b"|ADT^A01^ADT_A01|",
    b"|T|",
    b"900001^^^CHU",
    b"TESTUT^",
    b"^ZOE MARIE",
    b"RENNES",
    b"MED^1",
    b"V1^^^CHU",
    b"|PROV",
    b"|I|",
]


def echo(message: bytes) -> bytes:
    """An AA that names the message as it was written."""
    return frame(b"MSH|^~\\&|PEER|PEER|||2026||ACK|R1|P|2.5\rMSA|AA|" + message.split(b"|", 10)[9] + b"\r")


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_odd_bytes_anywhere_stop_nothing(running, receiver_class, make_adt, odd):
    async def main():
        peer = receiver_class(echo)
        await peer.start()
        async with running(HIS.format(port=peer.port)) as hub, hub.sender() as his:
            sent = []
            for n, place in enumerate(PLACES):
                message = make_adt(f"C{n}")
                assert place in message
                at = message.index(place) + len(place) // 2
                sent.append(message[:at] + odd + message[at:])
            sent.append(make_adt("C").replace(b"|C|", b"|C" + odd + b"D|"))
            for message in sent:
                his.write(message)
                assert b"\rMSA|A" in await his.answer(30)
            last = make_adt("LAST", ipp="42", visit="V42")
            assert b"\rMSA|AA|LAST" in await his.ask(last)
            found = await hub.settled(len(sent) + 1, 60)
            assert len(found) == len(sent) + 1
            assert {m["state"] for m in found} <= {"DONE", "REFUSED", "NO_ROUTE"}
            bodies = {bytes(row[0]) for row in await hub.rows("SELECT bytes FROM body")}
            assert bodies == {*sent, last}
            assert set(peer.got) <= bodies and last in peer.got
            texts = await hub.rows("SELECT value FROM patient_identifier")
            assert all("\0" not in text for (text,) in texts)
        await peer.stop()

    asyncio.run(main())
