"""Each trap that the official French files hold (reference §7, 1 to 24), with synthetic messages that fall into it.

Messages are read, judged and translated as the hub does it; where a trap lies in an answer or on the wire, the answer itself is
looked at, and `tests/flow/test_traps_on_the_wire.py` sends the message to a running hub.
"""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import hl7
import pytest

from hub.formats.content import document_bytes
from hub.formats.er7 import Message, acknowledgement, read
from hub.model.record_change import RecordChange
from hub.model.refusals import MessageRefused, RuleBroken
from hub.model.site import Site
from mappings.registry import builtin

VECTORS = Path(__file__).parent.parent / "vectors" / "hl7v2"
MDM, ORU, CDA = ((VECTORS / name).read_text("utf-8") for name in ("pfi_mdm.hl7", "pfi_oru.hl7", "pfi_cda.xml"))
TYPE_OF = {MDM: "18748-4", ORU: "11502-2"}
INS, OTHER_INS, WRONG_KEY = "284057512345672", "179026345678920", "284057512345600"
ROOT = "1.2.250.9.77.5"
REGISTRY, SITE = builtin(), Site(source="ris")
PATIENT_MAIL = f"mssante:{INS}@patient.mssante.fr"
PAM = (
    "MSH|^~\\&|GAM|H|HUB|HUB|20260302080000||ADT^A01^ADT_A01|3975|P|2.5^FRA^2.11|||||FRA|UNICODE UTF-8|FR||"
    "2.11^IHE_FRANCE-2.11-PAM\n"
    "EVN||20260302080000||||20260302080000\n"
    f"PID|||4711^^^H&1.2.250.9.77&ISO^PI~{INS}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS||"
    "LACAILLE^Odette^Odette Berthe^^^^L||19840512|F|||3 quai des Brumes^^BREST^^29200^FRA^H~^^^^^^BDL^^29019"
    "|||||||||||||||||||||VALI\n"
    "PV1|1|I|NEPH^12^B||||||||||||||||V77^^^H&1.2.250.9.78&ISO^VN|||||||||||||||||||||||||20260302080000\n"
    "PV2|||||||||20260201\n"
    "ZBE|M1^H^1.2.250.9.79^ISO|20260302080000||INSERT|N||Néphrologie^^^^^H&1.2.250.9.80&ISO^UF^^^3435||HMS\n"
    "ZFA|ACTIF|20260101||||||||INO|20260302|IC|20260302\n"
)


def cda(number: str = f"{ROOT}.100", *, code: str = "18748-4", ins: str = INS, replaces: str = "", version: str = "1") -> bytes:
    related = f'<relatedDocument typeCode="RPLC"><parentDocument><id root="{replaces}"/></parentDocument></relatedDocument>'
    root, _, extension = number.partition("^")
    values = {
        "ID": root + (f'" extension="{extension}' if extension else ""),
        "CODE": code,
        "CONF": "N",
        "VERSION": version,
        "PATIENT": f'<id root="1.2.250.1.213.1.4.10" extension="{ins}"/>',
        "RELATED": related if replaces else "",
    }
    text = CDA
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text.encode()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def pfi(base: str = MDM, *changes: tuple[str, str], first: str | None = None, second: str | None = None) -> bytes:
    """The base message with texts replaced; `first` and `second` stand where its documents are, in Base64 as they are."""
    code = TYPE_OF[base]
    text = base
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    text = text.replace("@CDA@", first if first is not None else b64(cda(code=code)))
    return text.replace("@CDA2@", second if second is not None else b64(cda(f"{ROOT}.101", code=code))).encode()


@dataclass(frozen=True)
class Outcome:
    """What became of a message: `told` is AA, or the condition and place of the refusal."""

    message: Message
    told: str
    change: RecordChange | None = None
    requests: tuple[str, ...] = ()
    refused: dict[str, str] | None = None
    findings: frozenset[str] = frozenset()


def through(raw: bytes, site: Site = SITE) -> Outcome:
    message = read(raw)
    try:
        REGISTRY.admit(message, site)
        structure = REGISTRY.find(message)
        assert structure is not None
        structure.judge(message, site)
    except MessageRefused as refused:
        return Outcome(message, f"{refused.condition} {refused.at}")
    return Outcome(
        message,
        "AA",
        structure.translate(message, site),
        tuple(structure.requests(message, site)),
        dict(structure.refused_requests(message, site)),
        frozenset(finding.code for finding in structure.remarks(message, site)),
    )


def ack(raw: bytes, code: str = "AA", **more: object) -> bytes:
    return acknowledgement(read(raw), code=code, control_id="1", at=datetime(2026, 3, 2, tzinfo=UTC), site=SITE, **more)


# ---- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("tail", ["", "\n\n\n", "\r\n\r\n"])
def test_trap_01_line_ends(line_end, tail):
    """Every official file ends its lines with LF, some with blank lines at the end; a byte order mark may stand before MSH."""
    for base in (PAM, pfi().decode(), pfi(ORU).decode()):
        raw = (base.rstrip("\n").replace("\n", line_end) + tail.replace("\n", line_end)).encode()
        for variant in (raw, b"\xef\xbb\xbf" + raw):
            plain = read(base.replace("\n", "\r").encode())
            message = read(variant)
            assert [s.line() for s in message.segments()] == [s.line() for s in plain.segments()]
            assert through(variant).told == "AA"


def test_trap_02_nothing_is_lost_in_silence():
    """A tolerant parser dropped PRT from ORU and MDM, Z segments from ADT, and everything from a ZAM."""
    assert [s.text(4) for s in read(pfi()).segments("PRT")] == ["SB", "RCT", "RCT", "REPLY"]
    assert [s.text(4) for s in read(pfi(ORU)).segments("PRT")] == ["SB", "RCT"]
    outcome = through(pfi(ORU))
    assert outcome.told == "AA" and len(outcome.change.documents) == 2
    admission = through(PAM.encode())
    assert {s.name for s in admission.message.segments()} >= {"ZBE", "ZFA"}
    stay = next(one for one in admission.change.resources if one.type == "Encounter")
    assert stay.key == "urn:oid:1.2.250.9.78|V77"
    zam = (
        "MSH|^~\\&|PFI|H|RIS|H|20260302||ZAM^Z01^ZAM_Z01|Z1|P|2.6|||||FRA|UNICODE UTF-8|||2.1^CISIS_CDA_HL7_V2\n"
        "EVN||20260302\nOBX|1|CWE|ACK_RECEPTION_DMP^^AckMetierZAM|M1|N^^expandedYes-NoIndicator||||||F\n"
        "ERR|||207^Application error^messageErrorCondition|E|DMPClosed^x^DMP_ERROR_CODE\n"
    )
    message = read(zam.encode())
    assert [s.name for s in message.segments()] == ["MSH", "EVN", "OBX", "ERR"]
    (receipt,) = REGISTRY.find(message).receipts(message, SITE)
    assert "M1" in str(receipt) or receipt.control_id == "M1"


def test_trap_04_the_acknowledgement_is_whole():
    """An ACK made by copying a header lacked MSH-17, MSH-18 and ERR; ours mirrors MSH-3 to 6 and has all three."""
    raw = pfi()
    answer = hl7.parse(ack(raw, "AE", refusal=RuleBroken(at="TXA-12", sentence="TXA-12: other")).decode())
    msh, err = answer.segment("MSH"), answer.segment("ERR")
    assert [str(msh[n]) for n in (3, 4, 5, 6)] == ["PFI", "HUB-Z", "RIS", "CLINIQUE-Z"]
    assert [str(msh[n]) for n in (9, 11, 12, 17, 18)] == ["ACK^T02^ACK", "P", "2.6", "FRA", "UNICODE UTF-8"]
    assert len(msh) <= 19  # no MSH-21
    assert [str(err[n]) for n in (2, 3, 4)] == ["TXA^1^12", "207^Application error^messageErrorCondition", "E"]


def test_trap_05_sizes():
    """From 0.1 kB to 820 kB in the files, and 20 MB are to be planned for, in one OBX line."""
    big = cda().replace(b"JVBERi0xLjQK", b"JVBERi0xLjQKJVBE" * (1 << 20))
    started = time.perf_counter()
    raw = pfi(first=b64(big))
    outcome = through(raw)
    assert len(raw) > 20 << 20 and outcome.told == "AA"
    assert outcome.change.documents[0].content.size == len(big)
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize(
    ("declared", "written"),
    [
        ("UNICODE UTF-8", "utf-8"),
        ("8859/15", "iso8859-15"),
        ("8859/1", "iso8859-1"),
        ("UNICODE UTF-8", "iso8859-15"),
        ("", "utf-8"),
    ],
)
def test_trap_06_charset(declared, written):
    """Read by MSH-18, else as UTF-8, else as ISO 8859-15; an answer in 8859/15 writes ’ as a plain apostrophe."""
    text = PAM.replace("LACAILLE^Odette", "LACAILLÉ^Zoë").replace("UNICODE UTF-8", declared)
    patient = through(text.encode(written)).change.patient
    assert (patient["name"][0]["family"], patient["name"][0]["given"]) == ("LACAILLÉ", ["Zoë"])


def test_trap_06_answer_in_a_small_charset():
    raw = PAM.replace("UNICODE UTF-8", "8859/15").encode("iso8859-15")
    answer = ack(raw, "AE", refusal=RuleBroken(at="OBX-3", sentence="OBX-3: l’été à Œuf"))
    assert answer.decode("iso8859-15").rstrip("\r").endswith("OBX-3: l'été à Œuf")
    assert b"|8859/15\r" in answer


def test_trap_07_separators_that_are_not_the_usual_ones():
    """Files of version 2.0 declare U+02DC, two bytes in UTF-8, as the repetition separator, and use it."""
    text = PAM.replace("|^~\\&|", "|^\u02dc\\&|").replace("~", "\u02dc")
    outcome = through(text.encode())
    identity = outcome.change.identity
    assert [one.value for one in identity.local] == ["4711"] and [one.value for one in identity.ins] == [INS]
    assert identity.birth_place == "29019"
    assert outcome.change.patient["address"][0]["city"] == "BREST"
    assert ack(text.encode()).startswith(b"MSH|^~\\&|HUB|HUB|GAM|H|")


# ---- documents -------------------------------------------------------------------------------------------------------


def test_trap_08_base64_as_it_comes():
    """Without padding, broken over lines, with blanks or escapes inside; the bytes of the document stay as they are."""
    document = cda().replace(b"\n", b"\r\n", 5) + b" "
    whole = b64(document)
    assert whole.endswith("=")
    for written in (whole.rstrip("="), " ".join([whole[:80], whole[80:]]), whole[:76] + "\\X0D0A\\" + whole[76:], whole + "  "):
        outcome = through(pfi(first=written))
        assert outcome.told == "AA"
        (one,) = outcome.change.documents
        assert document_bytes(outcome.message.raw, one.content) == document
    without_prolog = cda().removeprefix(b'<?xml version="1.0" encoding="UTF-8"?>\n')
    assert through(pfi(first=b64(without_prolog))).told == "AA"
    for not_a_cda in (b"<a/>", b'<ClinicalDocument xmlns="urn:x"/>', b"<?xml version='1.0' encodi"):
        assert through(pfi(first=b64(not_a_cda))).told == "102 OBX-5"


def test_trap_08_a_mail_body_that_is_cut_is_no_reason_to_refuse():
    """The text of the laboratory's mail is one character too long or too short: it is read as far as it goes."""
    text = "Cher confrère, voici le compte rendu de Mme Lacaille."
    cut = b64(text.encode()).rstrip("=")[:-3]
    assert len(cut) % 4 == 1
    raw = pfi() + f"OBX|10|ED|CORPSMAIL_PS^^MetaDMPMSS||^TEXT^^Base64^{cut}||||||F\n".encode()
    outcome = through(raw)
    assert outcome.told == "AA" and "MAIL_BODY" in outcome.findings
    body = REGISTRY.find(outcome.message).mail_request(outcome.message, SITE).professional_body
    assert body and text.startswith(body)


def test_trap_09_placeholder_documents():
    """Files without Base64 in their name carry a sentence in the document's place."""
    placeholder = b64("Document médical au format CDA".encode())
    assert through(pfi(first=placeholder)).told == "102 OBX-5"
    assert through(pfi(ORU, second=placeholder)).told == "102 OBX[2]-5"


def test_trap_10_another_patient_in_the_document():
    """PID speaks of one person and the document of another: nothing may leave the hub."""
    assert through(pfi(first=b64(cda(ins=OTHER_INS)))).told == "207 PID-3"
    assert through(pfi(ORU, second=b64(cda(f"{ROOT}.101", code="11502-2", ins=OTHER_INS)))).told == "207 PID-3"


@pytest.mark.parametrize("local", [f"{INS}0", f"0{INS}", INS[:-1], OTHER_INS])
def test_trap_11_mailbox_of_somebody_else(local):
    """The patient's mailbox does not begin with the patient's INS: that mail is refused, the message is taken."""
    outcome = through(pfi(MDM, (f"^^X.400^{INS}@patient", f"^^X.400^{local}@patient")))
    assert outcome.told == "AA"
    assert outcome.refused == {f"mssante:{local}@patient.mssante.fr": "553"}


def test_trap_12_wrong_key():
    """An INS with a wrong key is kept and told, and goes to no national service."""
    outcome = through(pfi(MDM, (INS, WRONG_KEY), first=b64(cda(ins=WRONG_KEY))))
    assert outcome.told == "AA" and "INS_KEY" in outcome.findings
    assert [one.value for one in outcome.change.identity.ins] == [WRONG_KEY]
    assert outcome.refused == {"dmp": "INS_KEY", f"mssante:{WRONG_KEY}@patient.mssante.fr": "INS_KEY"}


@pytest.mark.parametrize(
    ("txa_12", "document", "told"),
    [
        (f"{ROOT}.100^CLINIQUE-Z", f"{ROOT}.100", "AA"),
        (f"100^^{ROOT}^ISO", f"{ROOT}.100", "AA"),
        (f"{ROOT}.A100^CLINIQUE-Z", f"{ROOT}^A100", "AA"),
        (f"A100^^{ROOT}^ISO", f"{ROOT}^A100", "AA"),
        (f"{ROOT}A100", f"{ROOT}^A100", "207 TXA-12"),
        ("2638", f"{ROOT}.100", "207 TXA-12"),
    ],
)
def test_trap_13_document_numbers(txa_12, document, told):
    """One id in many spellings, compared in one form: root, or root and extension with a dot."""
    assert through(pfi(MDM, (f"||{ROOT}.100|", f"||{txa_12}|"), first=b64(cda(document)))).told == told


def test_trap_13_predecessor_in_txa():
    """TXA-13 lacks a dot, or names the new document again, or stands in a deletion: what the document says counts."""
    action = (("MDM^T02", "MDM^T10"), ("ORC|NW", "ORC|RO"), ("@CDA@||||||F", "@CDA@||||||C"))
    document = b64(cda(replaces=f"{ROOT}.99", version="2"))
    for txa_13 in (f"{ROOT}99", f"{ROOT}.100"):
        outcome = through(pfi(MDM, *action, (f"{ROOT}.100|||||AU", f"{ROOT}.100|{txa_13}||||AU"), first=document))
        assert outcome.told == "AA" and "TXA_13_DIFFERS" in outcome.findings
        assert outcome.change.documents[0].replaces == f"urn:oid:{ROOT}.99"
    deletion = (("MDM^T02", "MDM^T04"), ("ORC|NW", "ORC|CA"), ("@CDA@||||||F", "@CDA@||||||D"))
    outcome = through(pfi(MDM, *deletion, (f"{ROOT}.100|||||AU", f"{ROOT}.100|{ROOT}1||||AU"), first=document))
    assert outcome.told == "AA" and outcome.change.documents[0].master_id == f"urn:oid:{ROOT}.100"


def test_trap_14_a_replacement_without_predecessor():
    """Of two documents that are replaced together one names what it replaces and the other does not."""
    action = (("ORC|NW", "ORC|RO"), ("@||||||F", "@||||||C"))
    first = b64(cda(code="11502-2", replaces=f"{ROOT}.98", version="2"))
    assert through(pfi(ORU, *action, first=first, second=b64(cda(f"{ROOT}.101", code="11502-2")))).told == "207 OBX[2]-5"
    second = b64(cda(f"{ROOT}.101", code="11502-2", replaces=f"{ROOT}.99", version="2"))
    assert through(pfi(ORU, *action, first=first, second=second)).told == "AA"


# ---- numbers and places ----------------------------------------------------------------------------------------------


def test_trap_17_numbers_by_their_authority_and_length():
    """IDNPS and RPPS for the same number, a structure's prefix typed FINEG, a blank in the authority, a bare OID in HD-1."""
    base = through(pfi()).change.documents[0].body["contained"]
    for changes in (
        [("^D^^^IDNPS", "^D^^^RPPS")],
        [("ASIP-SANTE-PS&", "ASIP-SANTE- PS&")],
        [("FINEG^^^290000017", "FINEG^^^1290000017")],
    ):
        outcome = through(pfi(MDM, *changes))
        assert outcome.told == "AA" and outcome.change.documents[0].body["contained"] == base
        assert PATIENT_MAIL in outcome.requests and not outcome.refused
    bare = through(pfi(MDM, ("ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS", "1.2.250.1.213.1.4.10^INS")))
    assert [ins.oid for ins in bare.change.identity.ins] == ["1.2.250.1.213.1.4.10"]
    nothing = through(pfi(MDM, ("^^^^^^1.2.250.1.213.1.4.10^L^^^INS", "^^^^^^^L^^^INS")))
    assert PATIENT_MAIL in nothing.requests


def test_trap_18_addresses_and_flags_one_field_off():
    """An address one field late, NET before X.400, a mail body whose status stands one field early, two PRT on one line."""
    late = through(pfi(MDM, ("|^^X.400^malo", "||^NET^X.400^malo")))
    assert late.told == "AA" and "ADDRESS_SHIFTED" in late.findings
    assert late.requests == through(pfi()).requests
    body = b64(b"Bonjour")
    early = through(pfi() + f"OBX|10|ED|CORPSMAIL_PATIENT^^MetaDMPMSS||^TEXT^^Base64^{body}|||||F\n".encode())
    assert early.told == "AA" and REGISTRY.find(early.message).mail_request(early.message, SITE).patient_body == "Bonjour"
    merged = through(pfi(MDM, ("@medecin.mssante.example\nPRT||UC||RCT", "@medecin.mssante.examplePRT||UC||RCT")))
    assert merged.told in {"102 PRT-15", "102 PRT[2]-15", "101 PRT-15.4"}


def test_trap_19_blanks_and_case_around_codes():
    """Blanks before a table's name, after it, inside a code, before the profile: stripped, and codes alone are compared."""
    noisy = pfi(
        MDM,
        ("^^expandedYes-NoIndicator", "^^ expandedYes-NoIndicator"),
        ("^^MetaDMPMSS", "^ Document Non Visible^MetaDMPMSS "),
        ("INVISIBLE_REP_LEGAUX", "INVISIBLE_ Rep_Legaux"),
        ("2.1^CISIS_CDA", "2.1^ CISIS_CDA"),
    )
    outcome, plain = through(noisy), through(pfi())
    assert (outcome.told, outcome.requests, outcome.findings) == (plain.told, plain.requests, plain.findings)


def test_trap_20_short_and_long_segments():
    """PID ends at field 32 or 39, an ACK's MSH at 18, lines end with pipes or before a field that is read."""
    plain = through(pfi()).change
    longer = through(pfi(MDM, ("N||VALI", "N||VALI|||||||"), ("ORC|NW", "ORC|NW||||"))).change
    assert (longer.identity, longer.patient) == (plain.identity, plain.patient)
    short = read(b"MSH|^~\\&|A|B|C|D|20260302||ACK^T02^ACK|1|P|2.6|||||FRA|UNICODE UTF-8\nMSA|AA\nPID|\nPV1\n")
    assert short.profiles == () and short.text("MSA", 2) == "" and short.text("PID", 32) == "" and short.text("PV1", 19, 4) == ""
    assert through(pfi(MDM, ("N||VALI", ""))).told == "AA"


def test_trap_21_escapes_are_undone_once():
    """`\\F\\` in a pharmacy number, `\\S\\` in an address, `\\T\\` in a name; an escaped escape stays text."""
    text = (
        PAM.replace("4711^^^H&1.2.250.9.77&ISO^PI", "12\\F\\34\\F\\5^^^CNOP&1.2.250.1.176.1.2&ISO^PI")
        .replace("3 quai des Brumes", "3 quai\\S\\des Brumes")
        .replace("Odette Berthe", "Odette \\T\\ Berthe")
        .replace("BREST", "BR\\E\\S\\E\\EST")
    )
    change = through(text.encode()).change
    assert change.identity.local[0].value == "12|34|5"
    assert change.identity.birth_given_names == "Odette & Berthe"
    assert change.patient["address"][0]["line"] == ["3 quai", "des Brumes"]
    assert change.patient["address"][0]["city"] == "BR\\S\\EST"


def test_trap_22_dates_that_disagree_are_no_reason_to_refuse():
    """A mail's subject with another birth date, a discharge before the admission, MSH-7 years from EVN-2."""
    text = PAM.replace("EVN||20260302080000", "EVN||20190101").replace("PV2|||||||||20260201", "PV2|||||||||19990101")
    assert through(text.encode()).told == "AA"
    lps = pfi(MDM, ("2.1^CISIS_CDA_HL7_V2", "1.1^CISIS_CDA_HL7_LPS"))
    lps += b"OBX|10|ED|m1^XDM/1.0/DDM+CR LACAILLE Odette 07/08/2010||^text^^Base64^Qm9uam91cg==||||||F\n"
    assert through(lps).told == "AA"
    assert through(pfi(MDM, ("EVN||20260302101500", "EVN||20010101"))).told == "AA"


def test_trap_23_a_movement_one_field_off():
    """A value in ZBE-3, which is forbidden, moves everything behind it: the movement is read where it stands."""
    shifted = PAM.replace("|20260302080000||INSERT|N||Néph", "|20260302080000||20260302080000|INSERT|N||Néph")
    outcome, plain = through(shifted.encode()), through(PAM.encode())
    assert outcome.told == "AA" and "ZBE_SHIFTED" in outcome.findings and "ZBE_SHIFTED" not in plain.findings
    service = [next(one for one in each.change.resources if one.type == "Encounter") for each in (outcome, plain)]
    assert service[0].body.get("serviceType") == service[1].body.get("serviceType")


def test_trap_24_what_is_written_counts_not_what_is_said_about_it():
    """Texts beside the files say OBX-5.4 where the Base64 is OBX-5.5, and no receipt where the flag says yes."""
    assert through(pfi(MDM, ("^text^XML^Base64^", "^text^XML^"))).told == "101 OBX-5"
    message = read(pfi() + b"OBX|10|CWE|ACK_RECEPTION^sans accuse^MetaDMPMSS||Y^Non^x||||||F\n")
    wanted = REGISTRY.find(message).receipts_wanted(message, SITE)
    assert wanted.dmp and wanted.reception and not wanted.reading
    imaging = through(pfi(MDM, ("CR d'imagerie médicale", "CR de biologie")))
    assert imaging.change.documents[0].body["type"]["coding"][0]["code"] == "18748-4"


def test_every_trap_has_a_test():
    files = (Path(__file__), Path(__file__).parents[1] / "flow" / "test_traps_on_the_wire.py")
    named = {int(number) for path in files for number in re.findall(r"^def test_trap_(\d\d)_", path.read_text("utf-8"), re.M)}
    assert named == set(range(1, 25))
