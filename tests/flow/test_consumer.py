"""Flow 6: a document that came by mail is answered with what the record holds (ERR-5 900 to 906), over real sockets.

Standard: CI-SIS transmission au LPS d'un document CDA reçu par messagerie sécurisée, 1.1.2, table applicationErrorCondition.
"""

from __future__ import annotations

import asyncio
import base64

import pytest

from hub.model.refusals import APPLICATION_ERRORS_0533
from hub.store import StoreUnavailable

HUB = """
[hub]
environment = "test"
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["record"]
"""
INS, OTHER_INS = "284057512345672", "179026345678920"
ROOT = "1.2.250.9.77.6"
PID = (
    "PID|||{ipp}{ins}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS||{name}^{given}^{givens}^^^^L||{born}|{sex}|||"
    "^^^^^^BDL^^{place}|||||||||||||||||||||{status}\r"
)
TRAITS = {
    "ins": INS,
    "name": "LACAILLE",
    "given": "Odette",
    "givens": "Odette Berthe",
    "born": "19840512",
    "sex": "F",
    "place": "29019",
    "status": "VALI",
    "ipp": "",
}
CDA = """<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="{id}"/><code code="18748-4" codeSystem="2.16.840.1.113883.6.1"/>
<effectiveTime value="20260302093000+0100"/><confidentialityCode code="N"/><languageCode code="fr-FR"/>{set}
<versionNumber value="{version}"/>
<recordTarget><patientRole>{ids}<patient><name><family qualifier="BR">{name}</family><given>{givens}</given>
<given qualifier="BR">{given}</given></name><administrativeGenderCode code="{sex}"/><birthTime value="{born}"/>
{birthplace}</patient></patientRole></recordTarget>
<author><time value="20260302093000+0100"/><assignedAuthor><id root="1.2.250.1.71.4.2.1" extension="{author}"/>
<representedOrganization><id root="1.2.250.1.71.4.2.2" extension="{structure}"/></representedOrganization>
</assignedAuthor></author>{related}
<component><nonXMLBody><text mediaType="application/pdf" representation="B64">JVBERi0xLjQK</text></nonXMLBody></component>
</ClinicalDocument>"""
AUTHOR, STRANGER, CLINIC, ELSEWHERE = "810000000017", "810000000033", "1290000017", "1350000019"
RELATED = f'<relatedDocument typeCode="RPLC"><parentDocument><id root="{ROOT}.{{number}}"/></parentDocument></relatedDocument>'
SB_PERSON = "{number}^VASSEUR^Irma^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"
SB_STRUCTURE = "CLINIQUE-Z^^^^^ASIP-SANTE-ST&1.2.250.1.71.4.2.2&ISO^FINEG^^^{number}"
EVENTS = {"create": ("T02", "NW", "F"), "replace": ("T10", "RO", "C"), "delete": ("T04", "CA", "D")}
_numbers = iter(range(1, 10_000))


def mail(
    action: str,
    number: str,
    *,
    replaces: str = "",
    version: int = 1,
    set_id: str = ROOT,
    sender: str = AUTHOR,
    structure: str = "",
    author: str = AUTHOR,
    of: str = CLINIC,
    ids: str | None = None,
    birthplace: bool = True,
    padding: int = 0,
    profile: str = "1.1^CISIS_CDA_HL7_LPS",
    txa_12: str = "",
    **traits: str,
) -> bytes:
    """An MDM of flow 6 about a synthetic document."""
    event, orc, obx = EVENTS[action]
    said = TRAITS | traits
    document = CDA.format(
        id=f"{ROOT}.{number}",
        set=f'<setId root="{set_id}"/>' if set_id else "",
        version=version,
        ids=ids if ids is not None else f'<id root="1.2.250.1.213.1.4.10" extension="{said["ins"]}"/>',
        birthplace=f"<birthplace><place><addr><county>{said['place']}</county></addr></place></birthplace>" if birthplace else "",
        author=author,
        structure=of,
        related=RELATED.format(number=replaces) if replaces else "",
        **{name: said[name] for name in ("name", "given", "givens", "sex", "born")},
    )
    document += "<!--" + "x" * padding + "-->" if padding else ""
    control = f"C{next(_numbers)}"
    lines = [
        f"MSH|^~\\&|PFI|CLINIQUE-Z|DPI|HOPITAL-Z|20260302{next(_numbers):06d}||MDM^{event}^MDM_T02|{control}|P|2.6|||||FRA"
        f"|UNICODE UTF-8|||{profile}",
        "EVN||20260302101500",
        PID.format(**said).rstrip("\r"),
        "PV1|1|N",
        f"ORC|{orc}",
        "OBR|1|||18748-4^CR^LN",
        f"TXA|1|18748-4|TEXT|||||||||{txa_12 or f'{ROOT}.{number}'}|{f'{ROOT}.{replaces}' if action == 'replace' else ''}||||AU",
        f"OBX|1|ED|18748-4^CR^LN||^text^XML^Base64^{base64.b64encode(document.encode()).decode()}||||||{obx}",
        f"PRT||UC||SB^^participation|{SB_PERSON.format(number=sender) if sender else ''}|||"
        f"{SB_STRUCTURE.format(number=structure) if structure else ''}|||||||"
        "^^X.400^irma.vasseur@medecin.mssante.example",
        "OBX|2|ED|m1^XDM/1.0/DDM+CR||^text^^Base64^Qm9uam91cg==||||||F",
        *(
            f"OBX|{n}|CWE|{flag}^^MetaDMPMSS||N^^expandedYes-NoIndicator||||||F"
            for n, flag in enumerate(("MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REP_LEGAUX", "MODIF_CONF_CODE"), 3)
        ),
    ]
    return "".join(f"{line}\r" for line in lines).encode()


def told(ack: bytes) -> str:
    """`AA`, or MSA-1 with the codes of ERR-3 and ERR-5 and the place of ERR-2."""
    lines = {line[:3]: line.split(b"|") for line in ack.split(b"\r") if line}
    answer = lines[b"MSA"][1].decode()
    if answer == "AA":
        assert b"ERR" not in lines
        return answer
    err = [field.decode() for field in lines[b"ERR"]]
    at, condition, application = (
        err[2].replace("^1^", "-").removesuffix("^1"),
        err[3].split("^")[0],
        err[5].split("^") if len(err) > 5 else [""],
    )
    if application[0]:
        assert application[1:] == [APPLICATION_ERRORS_0533[application[0]], "applicationErrorCondition"]
    return " ".join(part for part in (answer, condition, application[0], at) if part)


V1 = mail("create", "1")
CASES = {
    "initial": ([], mail("create", "1"), "AA"),
    "replacement-of-what-is-not-held": ([], mail("replace", "2", replaces="1", version=2), "AA"),
    "deletion-of-what-is-not-held": ([], mail("delete", "1"), "AA"),
    "replacement-of-the-latest": ([V1], mail("replace", "2", replaces="1", version=2), "AA"),
    "deletion-of-the-latest": ([V1], mail("delete", "1"), "AA"),
    "replacement-sent-again": (
        [V1, mail("replace", "2", replaces="1", version=2)],
        mail("replace", "2", replaces="1", version=2),
        "AA",
    ),
    "first-sending-once-more": ([V1], mail("create", "1"), "AA"),
    "901-first-sending-of-a-strangers-document": ([V1], mail("create", "1", sender=STRANGER), "AE 207 901 OBX-5"),
    "901-a-strangers-replacement-under-the-same-number": (
        [V1, mail("replace", "2", replaces="1", version=2)],
        mail("replace", "2", replaces="1", version=2, sender=STRANGER),
        "AE 207 901 OBX-5",
    ),
    "906-first-sending-of-a-number-of-another-patient": (
        [mail("create", "1", ins=OTHER_INS, name="ROCHER"), mail("create", "9")],
        V1,
        "AE 207 906 OBX-5",
    ),
    "deletion-sent-again": ([V1, mail("delete", "1")], mail("delete", "1"), "AA"),
    "900-replacement-of-a-replaced-one": (
        [V1, mail("replace", "2", replaces="1", version=2)],
        mail("replace", "3", replaces="1", version=3),
        "AE 207 900 OBX-5",
    ),
    "900-deletion-of-a-replaced-one": (
        [V1, mail("replace", "2", replaces="1", version=2)],
        mail("delete", "1"),
        "AE 207 900 OBX-5",
    ),
    "900-replacement-of-a-deleted-one": (
        [V1, mail("delete", "1")],
        mail("replace", "2", replaces="1", version=2),
        "AE 207 900 OBX-5",
    ),
    "900-replacement-by-an-older-version": (
        [mail("create", "5", version=5)],
        mail("replace", "3", replaces="2", version=3),
        "AE 207 900 OBX-5",
    ),
    "900-deletion-of-another-version": ([V1], mail("delete", "4", version=4, replaces="3"), "AE 207 900 OBX-5"),
    "missed-version-in-between": ([V1], mail("replace", "3", replaces="2", version=3), "AA"),
    "deletion-of-a-version-that-never-came-withdraws-its-predecessor": ([V1], mail("delete", "2", replaces="1", version=2), "AA"),
    "901-replacement-by-a-stranger": ([V1], mail("replace", "2", replaces="1", version=2, sender=STRANGER), "AE 207 901 OBX-5"),
    "901-deletion-by-a-stranger-of-another-structure": (
        [V1],
        mail("delete", "1", sender=STRANGER, structure=ELSEWHERE),
        "AE 207 901 OBX-5",
    ),
    "colleague-of-the-same-structure": (
        [V1],
        mail("replace", "2", replaces="1", version=2, sender=STRANGER, structure=CLINIC),
        "AA",
    ),
    "structure-with-its-number-unprefixed": ([V1], mail("delete", "1", sender=STRANGER, structure=CLINIC[1:]), "AA"),
    "colleague-named-by-the-new-document": (
        [V1],
        mail("replace", "2", replaces="1", version=2, sender=STRANGER, author=STRANGER),
        "AA",
    ),
    "new-version-of-strangers-without-sender": (
        [V1],
        mail("replace", "2", replaces="1", version=2, sender="", author=STRANGER, of=ELSEWHERE),
        "AE 207 901 OBX-5",
    ),
    "903-only-local-numbers": (
        [],
        mail("create", "1", ids='<id root="1.2.250.9.77" extension="4711"/>', ipp="4711^^^Z&1.2.250.9.77&ISO^PI~"),
        "AE 207 903 OBX-5",
    ),
    "904-another-INS-in-the-document": (
        [],
        mail("create", "1", ids=f'<id root="1.2.250.1.213.1.4.10" extension="{OTHER_INS}"/>'),
        "AE 207 904 PID-3",
    ),
    "904-birth-name": ([V1], mail("create", "7", name="DUCAILLOU"), "AE 207 904 PID-3"),
    "904-birth-date": ([V1], mail("create", "7", born="19840513"), "AE 207 904 PID-3"),
    "904-sex": ([V1], mail("create", "7", sex="M"), "AE 207 904 PID-3"),
    "904-given-names": ([V1], mail("create", "7", givens="Odile Berthe"), "AE 207 904 PID-3"),
    "904-place-of-birth": ([V1], mail("create", "7", place="29232"), "AE 207 904 PID-3"),
    "904-same-local-number-another-INS": (
        [mail("create", "1", ipp="4711^^^Z&1.2.250.9.77&ISO^PI~")],
        mail("create", "7", ipp="4711^^^Z&1.2.250.9.77&ISO^PI~", ins=OTHER_INS),
        "AE 207 904 PID-3",
    ),
    "accents-and-case-are-no-difference": ([V1], mail("create", "7", name="Lacaillé", givens="ODETTE-BERTHE"), "AA"),
    "905-no-place-of-birth": ([], mail("create", "1", birthplace=False), "AE 207 905 OBX-5"),
    "905-came-with-1.1": ([], mail("create", "1", birthplace=False, profile="1.0^CISIS_CDA_HL7_LPS"), "AA"),
    "906-a-document-of-another-patient": (
        [mail("create", "1", ins=OTHER_INS, name="ROCHER"), mail("create", "9")],
        mail("replace", "2", replaces="1", version=2),
        "AE 207 906 OBX-5",
    ),
    "906-another-number-in-TXA": ([], mail("create", "1", txa_12="1.2.250.9.1"), "AE 207 906 TXA-12"),
    "technical-error-has-no-application-code": ([], V1.replace(b"^text^XML^Base64^", b"^text^XML^Base64^%%"), "AE 102 OBX-5"),
    "not-this-profile-no-question": (
        [V1, mail("replace", "2", replaces="1", version=2)],
        mail("replace", "3", replaces="1", version=3, profile=""),
        "AA",
    ),
}


@pytest.mark.parametrize("store_of", ["sqlite", "postgres"], indirect=True)
def test_answers(running):
    """Each case for a patient of its own, in one hub."""

    async def main():
        async with running(HUB) as hub, hub.sender() as his:
            for n, (name, (before, message, answer)) in enumerate(CASES.items()):
                ours = lambda raw, n=n: own(raw, n)  # noqa: E731
                for raw in before:
                    assert told(await his.ask(ours(raw))) == "AA", name
                assert told(await his.ask(ours(message))) == answer, name

    asyncio.run(main())


def own(raw: bytes, n: int) -> bytes:
    """The same message about another patient and other documents, so that cases do not meet."""
    before, marker, rest = raw.partition(b"^text^XML^Base64^")
    value, bar, tail = rest.partition(b"|")
    if not value.startswith(b"%"):
        value = base64.b64encode(_other(base64.b64decode(value), n))
    return _other(before, n) + marker + value + bar + _other(tail, n)


def _other(text: bytes, n: int) -> bytes:
    for ins in (INS, OTHER_INS):
        first = str(int(ins[:13]) + 1000 * (n + 1))
        text = text.replace(ins.encode(), f"{first}{97 - int(first) % 97:02d}".encode())
    return text.replace(ROOT.encode(), f"{ROOT}.{n + 1}0".encode()).replace(b"4711", f"47{n}".encode())


@pytest.mark.parametrize("padding", [0, 80_000])
def test_messages_in_a_row_are_answered_as_if_one_by_one(running, padding):
    """Sent without waiting for answers: each look at the record waits for what came before, on every store."""

    async def main():
        async with running(HUB) as hub, hub.sender() as his:
            chain = [mail("create", "1", padding=padding)]
            chain += [mail("replace", str(n), replaces=str(n - 1), version=n, padding=padding) for n in range(2, 9)]
            chain += [mail("replace", "20", replaces="4", version=20), mail("delete", "8"), mail("create", "30", set_id="")]
            his.write(*chain)
            answers = [told(await his.answer(20)) for _ in chain]
            assert answers == ["AA"] * 8 + ["AE 207 900 OBX-5", "AA", "AA"]
            await hub.settled(len(chain))
            rows = await hub.rows("SELECT key, status FROM resource WHERE type = 'DocumentReference'")
            statuses = {key.rpartition(".")[2]: status for key, status in rows}
            assert statuses == {**{str(n): "superseded" for n in range(1, 8)}, "8": "entered-in-error", "30": "current"}

    asyncio.run(main())


@pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
def test_the_same_bytes_again_get_the_first_answer(running):
    async def main():
        async with running(HUB) as hub, hub.sender() as his:
            replacement = mail("replace", "2", replaces="1", version=2)
            stale = mail("replace", "3", replaces="1", version=3)
            for raw, answer in [(V1, "AA"), (replacement, "AA"), (stale, "AE 207 900 OBX-5")] * 2:
                assert told(await his.ask(raw)) == answer
            found = await hub.settled(3)
            assert len(found) == 3
            refused = next(m for m in found if m["state"] == "REFUSED")
            assert refused["ack"]["error"]["text"].endswith("(900)")
            assert not refused["deliveries"]

    asyncio.run(main())


@pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
def test_a_deletion_withdraws_what_is_held_of_the_document(running):
    """The version to delete never came: its predecessor, which is held and current, may not stay readable."""

    async def main():
        async with running(HUB) as hub, hub.sender() as his:
            for raw in (V1, mail("delete", "2", replaces="1", version=2)):
                assert told(await his.ask(raw)) == "AA"
            await hub.settled(2)
            assert await hub.rows("SELECT status FROM resource WHERE type = 'DocumentReference'") == [("entered-in-error",)]

    asyncio.run(main())


@pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
def test_unknown_patients_are_refused_where_the_source_says_so(running):
    refuse = HUB + 'unknown_patient = "refuse"\n'
    adt = (
        "MSH|^~\\&|GAM|H|HUB|HUB|20260302080000||ADT^A01^ADT_A01|A1|P|2.5|||||FRA|UNICODE UTF-8\rEVN||20260302080000\r"
        + PID.format(**TRAITS | {"ipp": "4711^^^Z&1.2.250.9.77&ISO^PI~"})
        + "PV1|1|I|||||||||||||||||V1^^^Z&1.2.250.9.78&ISO^VN\r"
    ).encode()

    async def main():
        async with running(refuse) as hub, hub.sender() as his:
            assert told(await his.ask(V1)) == "AE 207 902 PID-3"
            his.write(adt, mail("create", "1", status="PROV"), mail("create", "2"))
            assert [told(await his.answer()) for _ in range(3)] == ["AA", "AE 207 902 PID-3", "AA"]
            await hub.settled(4)
            assert (await hub.row("SELECT count(*) FROM patient")) == (1,)

    asyncio.run(main())


@pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
def test_while_the_record_is_behind_the_sender_is_told_to_come_again(running, monkeypatch):
    monkeypatch.setattr("hub.flow.consumer.ASK_FOR_S", 0.1)
    monkeypatch.setattr("hub.flow.consumer.is_unfiled", lambda tx, **_: True)

    async def main():
        async with running(HUB) as hub, hub.sender() as his:
            assert told(await his.ask(V1)) == "AR 207 MSH"
            monkeypatch.undo()
            assert told(await his.ask(V1)) == "AA"
            (found,) = await hub.settled(1)
            assert found["state"] == "DONE"

    asyncio.run(main())


@pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
def test_a_hub_that_only_passes_the_message_on_asks_nobody(running, receiver_class):
    """Without a route to the record the software behind the destination is the consumer, and its answer counts there."""
    receiver = receiver_class()

    async def main():
        await receiver.start()
        routes = (
            HUB.replace('["record"]', '["dpi"]')
            + f'[[destination]]\nname = "dpi"\nkind = "mllp"\nconnect = "127.0.0.1:{receiver.port}"\n'
        )
        try:
            async with running(routes) as hub, hub.sender() as his:
                stale = mail("replace", "3", replaces="1", version=3)
                for raw in (V1, mail("replace", "2", replaces="1", version=2), stale):
                    assert told(await his.ask(raw)) == "AA"
                found = await hub.settled(3)
                assert {one["state"] for one in found} == {"DONE"} and len(receiver.got) == 3
        finally:
            await receiver.stop()

    asyncio.run(main())


@pytest.mark.parametrize("error", [ValueError("SECRET"), StoreUnavailable("gone")])
@pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
def test_a_look_that_fails_is_no_verdict(running, monkeypatch, error):
    def fails(*_args, **_more):
        raise error

    async def main():
        async with running(HUB) as hub, hub.sender() as his:
            monkeypatch.setattr("hub.flow.consumer.objection", fails)
            ack = await his.ask(V1)
            assert told(ack) == "AR 207 MSH"
            assert b"SECRET" not in ack
            his.write(V1, mail("create", "3"))
            assert [told(await his.answer()) for _ in range(2)] == ["AR 207 MSH"] * 2
            monkeypatch.undo()
            assert told(await his.ask(mail("create", "1"))) == "AA"

    asyncio.run(main())
