"""The way back: a receipt is filed at its delivery, and the creator who asked for it gets one ZAM in his own charset.

Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2, §1.2, §2.9, §4.2.
"""

import asyncio

import hl7
import pytest

from hub.ledger.acts import NotFound, Receipt
from hub.ledger.made import HUB
from hub.model.uids import uid_text

RIS = """
[[source]]
name = "ris"
kind = "mllp"
listen = "127.0.0.1:0"
{return_to}
routes = ["record", "requested"{more}]
[[destination]]
name = "ris-return"
kind = "mllp"
connect = "127.0.0.1:{port}"
[destination.retry]
base_s = 0.05
probe_s = 0.05
"""
ADDRESS = "malo.quere@medecin.mssante.example"
ONE = pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)


def ris(port: int, *, return_to: bool = True, more: str = "") -> str:
    return RIS.format(port=port, return_to='return_to = "ris-return"' if return_to else "", more=more)


async def peer_of(receiver_class, **more):
    peer = receiver_class(**more)
    await peer.start()
    return peer


def delivery_of(messages, control, destination):
    (message,) = [m for m in messages if m["control_id"] == control and m["source"] != HUB]
    return next((d for d in message["deliveries"] if d["destination"] == destination), {"state": "not routed"})


def fields(zam: bytes) -> dict[str, str]:
    message = hl7.parse(zam.decode())
    found = {"type": str(message.segment("MSH")[9]), "original": str(message.segments("OBX")[0][4])}
    found |= {"status": str(message.segments("OBX")[0][3][0][0]), "said": str(message.segments("OBX")[0][5][0][0])}
    if len(message.segments("OBX")) > 1:
        found["address"] = str(message.segments("OBX")[1][5][0][3])
    if "\rERR|" in zam.decode():
        found["error"] = str(message.segment("ERR")[5])
    return found


KINDS = [
    ("DMP", "dmp", "ACK_RECEPTION", "Z01", "ACK_RECEPTION_DMP", "DMPClosed", "DMPClosed^DMP fermé^DMP_ERROR_CODE"),
    ("DSN", f"mssante:{ADDRESS}", "ACK_RECEPTION", "Z02", "ACK_RECEPTION_MSS", "550", "550^Boîte aux lettres introuvable"),
    ("MDN", f"mssante:{ADDRESS}", "ACK_LECTURE_MSS", "Z03", "ACK_LECTURE_MSS", "902", "902^Identifiant du patient inconnu"),
]


@ONE
def test_each_kind_asked_or_not_positive_or_negative_and_twice(running, receiver_class, make_mdm):
    """Twelve messages, one for each cell of kind × asked × sign; each receipt is filed twice."""

    async def main():
        peer = await peer_of(receiver_class)
        async with running(ris(peer.port)) as hub, hub.sender("ris") as sender:
            cells = [(kind, asked, positive) for kind in KINDS for asked in (True, False) for positive in (True, False)]
            for n, ((_, _, flag, *_), asked, _) in enumerate(cells):
                raw = make_mdm(f"C{n}", DESTMSSANTEPS="Y", **({flag: "Y"} if asked else {"ACK_RECEPTION": "N"}))
                assert b"MSA|AA|" in await sender.ask(raw)
            kept = await hub.until(lambda f: len(f) == len(cells) and all(m["state"] == "ROUTED" for m in f))
            for n, ((kind, destination, _, _, _, code, _), _, positive) in enumerate(cells):
                delivery = delivery_of(kept, f"C{n}", destination)["id"]
                for at in (1_700_000_000_000_000, 1_700_000_001_000_000):
                    receipt = Receipt(kind, positive, at, "" if positive else code)
                    await hub.hub.operations.file_receipt(delivery, receipt)
            expected = [n for n, (_, asked, _) in enumerate(cells) if asked]
            await hub.until(lambda f: sum(m["source"] == HUB and m["state"] == "DONE" for m in f) == len(expected))
            got = {fields(zam)["original"]: fields(zam) for zam in peer.got}
            assert len(peer.got) == len(got) == len(expected)
            for n in expected:
                (_, _, _, event, status, _, error), _, positive = cells[n]
                zam = got[f"C{n}"]
                assert (zam["type"], zam["status"], zam["said"]) == (f"ZAM^{event}^ZAM_Z01", status, "Y" if positive else "N")
                assert zam.get("address") == (ADDRESS if event != "Z01" else None)
                assert zam.get("error", "").startswith(error) if not positive else "error" not in zam
            for n, ((kind, destination, *_), _, positive) in enumerate(cells):
                filed = delivery_of(await hub.messages(), f"C{n}", destination)["receipts"]
                assert [(r["kind"], r["positive"]) for r in filed] == [(kind, positive)]
        await peer.stop()

    asyncio.run(main())


@ONE
def test_a_zam_is_addressed_written_and_kept_as_its_creator_needs_it(running, receiver_class, make_mdm):
    async def main():
        peer = await peer_of(receiver_class)
        async with running(ris(peer.port)) as hub, hub.sender("ris") as sender:
            raw = make_mdm("C1", ACK_RECEPTION="Y").replace(b"|UNICODE UTF-8|", b"|8859/15|")
            raw = raw.replace(b"|RIS|CLINIQUE-Z|", b"|RIS^1.2.250.9.5^ISO|CLINIQUE-Z|").decode().encode("iso8859-15")
            await sender.ask(raw)
            kept = await hub.until(lambda f: f[0]["state"] == "ROUTED")
            delivery = delivery_of(kept, "C1", "dmp")["id"]
            await hub.hub.operations.file_receipt(delivery, Receipt("DMP", False, 1_760_000_000_000_000, "DMPClosed"))
            found = await hub.until(lambda f: any(m["source"] == HUB and m["state"] == "DONE" for m in f))
            (zam,) = peer.got
            header = zam.split(b"\r")[0].split(b"|")
            assert header[2:6] == [b"VAGUEMESTRE", b"HUB", b"RIS^1.2.250.9.5^ISO", b"CLINIQUE-Z"]
            assert header[10:12] == [b"T", b"2.6"] and header[17] == b"8859/15" and header[20] == b"2.1^CISIS_CDA_HL7_V2"
            assert "DMP fermé".encode("iso8859-15") in zam
            assert zam.split(b"\r")[1] == b"EVN||20251009105320+0200"
            made = next(m for m in found if m["source"] == HUB)
            original = next(m for m in found if m["source"] == "ris")
            assert (made["type"], made["control_id"], made["ack"]["state"]) == ("ZAM^Z01", header[9].decode(), "NOT_OWED")
            assert made["patient"] == original["patient"]
            (sent,) = made["deliveries"]
            assert sent["lane"].partition("/")[2] == delivery_of(found, "C1", "dmp")["lane"].partition("/")[2]
            assert (await hub.row("SELECT bytes FROM body WHERE message_id = (SELECT max(id) FROM message)"))[0] == zam
        await peer.stop()

    asyncio.run(main())


@ONE
def test_without_return_to_a_receipt_is_filed_and_nobody_is_told(running, receiver_class, make_mdm):
    async def main():
        peer = await peer_of(receiver_class)
        async with running(ris(peer.port, return_to=False)) as hub, hub.sender("ris") as sender:
            await sender.ask(make_mdm("C1", ACK_RECEPTION="Y"))
            kept = await hub.until(lambda f: f[0]["state"] == "ROUTED")
            await hub.hub.operations.file_receipt(delivery_of(kept, "C1", "dmp")["id"], Receipt("DMP", True, 1))
            (message,) = await hub.messages()
            assert [r["kind"] for r in delivery_of([message], "C1", "dmp")["receipts"]] == ["DMP"]
            with pytest.raises(NotFound):
                await hub.hub.operations.file_receipt(uid_text(4711 << 20), Receipt("DMP", True, 1))
            with pytest.raises(NotFound):
                await hub.hub.operations.file_receipt("C1", Receipt("DMP", True, 1))
        assert peer.got == []
        await peer.stop()

    asyncio.run(main())


@ONE
def test_a_receipt_for_a_mail_from_an_application_names_its_mailbox(running, receiver_class, make_mdm):
    """A delivery to an application may bring receipts of several mailboxes: each is told once."""

    async def main():
        peer = await peer_of(receiver_class)
        async with running(ris(peer.port, more=', "ris-return"')) as hub, hub.sender("ris") as sender:
            await sender.ask(make_mdm("C1", ACK_RECEPTION="Y"))
            kept = await hub.until(lambda f: delivery_of(f, "C1", "ris-return")["state"] == "DELIVERED" if f else False)
            delivery = delivery_of(kept, "C1", "ris-return")["id"]
            for mailbox in ("a@x.example", "b@x.example", "a@x.example", ""):
                await hub.hub.operations.file_receipt(delivery, Receipt("DSN", True, 1, detail=mailbox))
            await hub.until(lambda f: sum(m["source"] == HUB and m["state"] == "DONE" for m in f) == 2)
            assert [fields(zam)["address"] for zam in peer.got[1:]] == ["a@x.example", "b@x.example"]
        await peer.stop()

    asyncio.run(main())


REFUSED = [
    ("no qualified INS", {"DESTMSSANTEPS": "Y"}, [(b"||VALI", b"||PROV")], "dmp", "INS_NOT_QUALIFIED", ["Z01"]),
    (
        "mailbox of another patient",
        {"DESTDMP": "N", "DESTMSSANTEPAT": "Y"},
        [(b"^^X.400^284057512345672@patient", b"^^X.400^184057512345672@patient")],
        "mssante:184057512345672@patient.mssante.fr",
        "553",
        ["Z02"],
    ),
]


@pytest.mark.parametrize("what, flags, changes, destination, reason, zams", REFUSED, ids=[row[0] for row in REFUSED])
def test_a_rule_that_ends_a_delivery_is_told_at_once(
    running, receiver_class, make_mdm, what, flags, changes, destination, reason, zams
):
    """Both engines and several processes: the receipt and its ZAM are part of the routing transaction."""

    async def main():
        peer = await peer_of(receiver_class)
        async with running(ris(peer.port)) as hub, hub.sender("ris") as sender:
            for control, asked in (("C1", "Y"), ("C2", "N")):
                raw = make_mdm(control, ACK_RECEPTION=asked, **flags)
                for before, after in changes:
                    assert before in raw
                    raw = raw.replace(before, after)
                assert b"MSA|AA|" in await sender.ask(raw)
            found = await hub.until(
                lambda f: (
                    sum(m["source"] == "ris" and m["state"] != "RECEIVED" for m in f) == 2
                    and sum(m["source"] == HUB and m["state"] == "DONE" for m in f) == len(zams)
                )
            )
            for control in ("C1", "C2"):
                delivery = delivery_of(found, control, destination)
                assert (delivery["state"], delivery["last_error"]) == ("REFUSED", reason)
                assert [(r["positive"], r["code"]) for r in delivery["receipts"]] == [(False, reason)]
            assert [(fields(z)["type"][4:7], fields(z)["original"], fields(z)["said"]) for z in peer.got] == [
                (event, "C1", "N") for event in zams
            ]
            assert fields(peer.got[0])["error"].startswith(reason + "^")
        await peer.stop()

    asyncio.run(main())


def zam_in(original: str, *, event="Z02", said="Y", address="a@x.example", control="Z1", app="RIS") -> bytes:
    status, mailbox = {
        "Z01": ("ACK_RECEPTION_DMP", ""),
        "Z02": ("ACK_RECEPTION_MSS", "DESTINATAIRE_MSS"),
        "Z03": ("ACK_LECTURE_MSS", "LECTEUR_MSS"),
    }[event]
    lines = [
        f"MSH|^~\\&|PFI-B|ORG-B|{app}|CLINIQUE-Z|202611201016||ZAM^{event}^ZAM_Z01|{control}|T|2.6|||||FRA|UNICODE UTF-8|||"
        "2.0^CISIS_CDA_HL7_V2",
        "EVN||20261120101500",
        f"OBX|1|CWE|{status}^x^AckMetierZAM|{original}|{said}^^HL70136||||||F",
    ]
    if mailbox:
        lines.append(f"OBX|2|XTN|{mailbox}^x^AckMetierZAM||^^X.400^{address}||||||F")
    if said == "N":
        lines.append("ERR|||207^Application internal error^HL70357|E|DMPClosed^DMP fermé^DMPERRORCODE")
    return "\r".join(lines).encode() + b"\r"


BETWEEN = """
[[source]]
name = "ris"
kind = "mllp"
listen = "127.0.0.1:0"
return_to = "ris-return"
routes = ["pfi-b"]
[[source]]
name = "pfi-b-return"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["record", "requested"]
[[destination]]
name = "ris-return"
kind = "mllp"
connect = "127.0.0.1:{port}"
[[destination]]
name = "pfi-b"
kind = "mllp"
connect = "127.0.0.1:{other}"
"""


def test_receipts_of_another_platform_are_filed_and_go_on(running, receiver_class, make_mdm):
    async def main():
        peer, other = await peer_of(receiver_class), await peer_of(receiver_class)
        document = BETWEEN.format(port=peer.port, other=other.port)
        async with running(document) as hub, hub.sender("ris") as sender, hub.sender("pfi-b-return") as back:
            await sender.ask(make_mdm("C1", ACK_RECEPTION="Y"))
            await hub.settled(1)
            received = [
                zam_in("C1", event="Z01", said="N", control="Z1"),
                zam_in("C1", control="Z2"),
                zam_in("C1", control="Z3", address="b@x.example"),
                zam_in("C1", control="Z4"),  # told already: other bytes, same receipt
                zam_in("C1", event="Z03", control="Z5"),  # reading was not asked for
            ]
            for raw in received:
                assert b"|ACK^Z0" in (answer := await back.ask(raw)) and b"MSA|AA|Z" in answer
            found = await hub.until(
                lambda f: (
                    sum(m["source"] == "pfi-b-return" and m["state"] == "DONE" for m in f) == len(received)
                    and sum(m["source"] == HUB and m["state"] == "DONE" for m in f) == 3
                )
            )
            assert sorted((fields(z)["type"][4:7], fields(z).get("address", "")) for z in peer.got) == [
                ("Z01", ""),
                ("Z02", "a@x.example"),
                ("Z02", "b@x.example"),
            ]
            assert {fields(z)["original"] for z in peer.got} == {"C1"}
            delivery = delivery_of(found, "C1", "pfi-b")
            assert sorted((r["kind"], r["positive"], r["code"]) for r in delivery["receipts"]) == [
                ("DMP", False, "DMPClosed"),
                ("DSN", True, None),
                ("DSN", True, None),
                ("MDN", True, None),
            ]
            assert next(m["state"] for m in found if m["control_id"] == "C1") == "PARTIAL"
        await peer.stop()
        await other.stop()

    asyncio.run(main())


@ONE
def test_a_receipt_that_speaks_of_nothing_we_sent_is_kept_with_a_finding(running, receiver_class, make_mdm, read_msa):
    async def main():
        peer, other = await peer_of(receiver_class), await peer_of(receiver_class)
        document = BETWEEN.format(port=peer.port, other=other.port)
        async with running(document) as hub, hub.sender("pfi-b-return") as back:
            assert read_msa(await back.ask(zam_in("NOBODY"))) == ("AA", "Z1")
            assert read_msa(await back.ask(zam_in("", control="Z2"))) == ("AE", "Z2")
            found = await hub.settled(2)
            states = {m["control_id"]: (m["state"], [f["code"] for f in m["findings"]]) for m in found}
            assert states == {"Z1": ("NO_ROUTE", ["RECEIPT_UNKNOWN"]), "Z2": ("REFUSED", [])}
        assert peer.got == []
        await peer.stop()
        await other.stop()

    asyncio.run(main())


@ONE
def test_of_two_messages_with_one_number_the_receipt_belongs_to_that_of_its_addressee(running, receiver_class, make_mdm):
    async def main():
        peer, other = await peer_of(receiver_class), await peer_of(receiver_class)
        document = BETWEEN.format(port=peer.port, other=other.port)
        async with running(document) as hub, hub.sender("ris") as sender, hub.sender("pfi-b-return") as back:
            await sender.ask(make_mdm("015", ACK_RECEPTION="Y"))
            await sender.ask(make_mdm("015", number="1.2.250.9.77.5.7", ACK_RECEPTION="Y").replace(b"|RIS|", b"|RIS-2|"))
            await hub.settled(2)
            await back.ask(zam_in("015", app="RIS"))
            await hub.until(lambda f: any(m["source"] == HUB and m["state"] == "DONE" for m in f))
            assert peer.got[0].split(b"|")[4] == b"RIS"
        await peer.stop()
        await other.stop()

    asyncio.run(main())


@ONE
def test_a_zam_that_its_creator_refuses_can_be_sent_again(running, receiver_class, make_mdm):
    async def main():
        answers = ["AE", "AA"]
        peer = await peer_of(receiver_class, decide=lambda _m: answers.pop(0))
        async with running(ris(peer.port)) as hub, hub.sender("ris") as sender:
            await sender.ask(make_mdm("C1", ACK_RECEPTION="Y"))
            kept = await hub.until(lambda f: f[0]["state"] == "ROUTED")
            await hub.hub.operations.file_receipt(delivery_of(kept, "C1", "dmp")["id"], Receipt("DMP", True, 1))
            found = await hub.until(lambda f: any(m["source"] == HUB and m["state"] == "PARTIAL" for m in f))
            await hub.hub.operations.replay(next(m["id"] for m in found if m["source"] == HUB))
            await hub.until(lambda f: any(m["source"] == HUB and m["state"] == "DONE" for m in f))
            assert len(peer.got) == 2 and peer.got[0] == peer.got[1]
        await peer.stop()

    asyncio.run(main())


def test_two_at_once_with_the_same_receipt_make_one_zam(running, receiver_class, make_mdm):
    async def main():
        peer = await peer_of(receiver_class)
        async with running(ris(peer.port)) as hub, hub.sender("ris") as sender:
            await sender.ask(make_mdm("C1", ACK_RECEPTION="Y"))
            kept = await hub.until(lambda f: f[0]["state"] == "ROUTED")
            delivery = delivery_of(kept, "C1", "dmp")["id"]
            await asyncio.gather(*(hub.hub.operations.file_receipt(delivery, Receipt("DMP", True, n)) for n in range(8)))
            await hub.until(lambda f: any(m["source"] == HUB and m["state"] == "DONE" for m in f))
            assert len(await hub.messages()) == 2
        assert len(peer.got) == 1
        await peer.stop()

    asyncio.run(main())
