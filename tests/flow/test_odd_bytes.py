"""Bytes that are no text of any database: the message is answered, kept as it came, routed or refused; the hub goes on."""

from __future__ import annotations

import asyncio

import pytest

from adapters.mllp.frames import frame
from hub.ledger.messages import body_of
from hub.model.uids import uid_text
from hub.record.masking import Viewer
from hub.record.queries import read_binary

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
pytestmark = pytest.mark.parametrize("store_of", ["sqlite", "postgres"], indirect=True)
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


def test_a_text_is_read_back_in_the_charset_of_its_source(running, make_adt):
    async def main():
        toml = HIS.partition("[[destination]]")[0].replace('"record", "out"', '"record"') + 'charset = "iso-8859-15"\n'
        async with running(toml) as hub, hub.sender() as his:
            head = (
                make_adt("C1")
                .decode()
                .split("\rEVN")[0]
                .replace("ADT^A01^ADT_A01", "MDM^T02^MDM_T02")
                .replace("|UNICODE UTF-8", "")
            )
            pid = next(line for line in make_adt("C1").decode().split("\r") if line.startswith("PID"))
            text = "Prothèse posée à 8 €, œdème"
            report = f"{head}\rEVN||20261124\r{pid}\rTXA|1|11488-4|TEXT|||||||||D1\rOBX|1|TX|11488-4^Lettre^LN||{text}||||||F\r"
            assert b"MSA|AA|" in await his.ask(report.encode("iso-8859-15"))
            await hub.settled(1)
            for (number,) in await hub.rows("SELECT id FROM binary_content"):
                found = await hub.hub.store.read(
                    lambda tx, n=number: read_binary(tx, uid_text(n), viewer=Viewer(), body_of=lambda m: bytes(body_of(tx, m)))
                )
                assert found.data.decode() == text
            assert await hub.row("SELECT count(*) FROM binary_content") == (1,)

    asyncio.run(main())


def test_a_report_of_thousands_of_results_holds_nobody_up(running, make_adt):
    """Others are answered while it is translated, and it is filed whole."""

    async def main():
        toml = HIS.partition("[[destination]]")[0].replace('"record", "out"', '"record"')
        async with running(toml) as hub, hub.sender() as his, hub.sender() as other:
            lines = make_adt("BIG").decode().replace("ADT^A01^ADT_A01", "ORU^R01^ORU_R01").split("\r")
            results = [f"OBX|{n}|NM|{10000 + n}-1^essai^LN||{n}|mmol/L|||||F" for n in range(1, 3001)]
            big = "\r".join([lines[0], lines[2], "ORC|RE|P1|F1", "OBR|1|P1|F1|24326-1^Ionogramme^LN", *results, ""])
            assert b"MSA|AA|" in await his.ask(big.encode())
            waited = []
            while (await hub.messages(control_id="BIG"))[0]["state"] == "RECEIVED":
                began = asyncio.get_running_loop().time()
                assert b"MSA|AA|" in await other.ask(make_adt(f"S{len(waited)}", ipp=str(len(waited)), visit="W"))
                waited.append(asyncio.get_running_loop().time() - began)
            await hub.settled(len(waited) + 1, 60)
            assert await hub.row("SELECT count(*) FROM resource WHERE type = 'Observation'") == (3000,)

    asyncio.run(main())
