"""What a CDA message asks to be mailed and which documents belong together.

Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2 §2.1, §2.5, §2.6, §3.3; 1.2 for COMP_LOT.
"""

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.er7 import read
from hub.model.mail import MailRecipient, RecipientKind
from hub.model.receipts import ReceiptsWanted
from hub.model.record_change import DocumentAction
from hub.model.site import Site
from mappings.hl7v2.prt import Prt
from mappings.registry import builtin

VECTORS = Path(__file__).parent.parent / "vectors" / "hl7v2"
CDA = (VECTORS / "pfi_cda.xml").read_text("utf-8")
REGISTRY, SITE = builtin(), Site(source="ris")
PS, PATIENT = "malo.quere@medecin.mssante.example", "284057512345672@patient.mssante.fr"
PRT_15 = "|||||||^^X.400^"


def cda(number: str, code: str) -> str:
    text = CDA
    values = {"ID": number, "CODE": code, "CONF": "N", "VERSION": "1", "RELATED": ""}
    values["PATIENT"] = '<id root="1.2.250.1.213.1.4.10" extension="284057512345672"/>'
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return base64.b64encode(text.encode()).decode()


def message(base: str = "pfi_mdm", *changes: tuple[str, str], more: str = ""):
    code = {"pfi_mdm": "18748-4", "pfi_oru": "11502-2"}[base]
    text = (VECTORS / f"{base}.hl7").read_text("utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    text = text.replace("@CDA@", cda("1.2.250.9.77.5.100", code)).replace("@CDA2@", cda("1.2.250.9.77.5.101", code))
    found = read((text + more).encode())
    REGISTRY.find(found).judge(found, SITE)
    return found


def mail(*args, **more):
    found = message(*args, **more)
    return REGISTRY.find(found).mail_request(found, SITE)


def body(code: str, text: str, subtype: str = "TEXT") -> str:
    return f"OBX|10|ED|{code}^^MetaDMPMSS||^{subtype}^^Base64^{base64.b64encode(text.encode()).decode()}||||||F\n"


def no(*flags: str) -> list[tuple[str, str]]:
    return [(f"{flag}^^MetaDMPMSS||Y", f"{flag}^^MetaDMPMSS||N") for flag in flags]


def test_recipients_bodies_and_where_answers_go():
    more = body("CORPSMAIL_PS", "Cher confrère, l’examen est joint.\r\nCordialement") + body(
        "CORPSMAIL_PATIENT", "Bonjour Madame", "text"
    )
    more += "OBX|12|CWE|ACK_RECEPTION||Y||||||F\nOBX|13|CWE|ACK_LECTURE||Y||||||F\n"
    asked = mail(more=more)
    assert asked.action is DocumentAction.CREATE
    assert asked.recipients == (MailRecipient(PS, RecipientKind.PROFESSIONAL), MailRecipient(PATIENT, RecipientKind.PATIENT))
    assert asked.reply_to == ("secretariat@clinique-z.mssante.example",)
    assert asked.professional_body == "Cher confrère, l’examen est joint.\r\nCordialement"
    assert asked.patient_body == "Bonjour Madame"
    assert asked.receipts == ReceiptsWanted(dmp=True, reception=True, reading=True)
    assert not asked.no_reply
    assert PS not in repr(asked) and PATIENT not in repr(asked.recipients)


def test_only_those_whom_a_flag_asks_for():
    assert [one.kind for one in mail("pfi_mdm", *no("DESTMSSANTEPAT")).recipients] == [RecipientKind.PROFESSIONAL]
    assert [one.kind for one in mail("pfi_mdm", *no("DESTMSSANTEPS")).recipients] == [RecipientKind.PATIENT]
    assert mail("pfi_mdm", *no("DESTMSSANTEPS", "DESTMSSANTEPAT")) is None
    lps = message("pfi_mdm", ("2.1^CISIS_CDA_HL7_V2", "1.1^CISIS_CDA_HL7_LPS"))
    assert REGISTRY.find(lps).mail_request(lps, SITE) is None


def test_a_missing_body_is_empty_and_the_receiver_of_the_request_says_its_own():
    assert (mail().professional_body, mail().patient_body) == ("", "")


@pytest.mark.parametrize(
    ("nte", "no_reply"),
    [
        ("NTE|1|||FIN\n", True),
        ("NTE|1||x\nNTE|2|||fin^x\n", True),
        ("NTE|1|||SUITE\n", False),
        ("NTE|1||FIN\n", False),
        ("OBX|10|CWE|ACK_RECEPTION||N||||||F\nNTE|1|||FIN\n", False),
        ("", False),
    ],
)
def test_the_patient_may_not_answer(nte, no_reply):
    """NTE-4 FIN right after DESTMSSANTEPAT, and only there."""
    assert mail(more=nte).no_reply is no_reply


def test_no_reply_is_the_patients_alone():
    assert not mail("pfi_mdm", *no("DESTMSSANTEPAT"), more="NTE|1|||FIN\n").no_reply


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ("810000000025^QUERE^Malo^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS|||", "professional"),
        ("|||Néphrologie^^^^^120456789^UF^^^3435", "organisation"),
        ("|||||Logiciel-Z", "application"),
        ("284057512345672^LACAILLE^Odette^^^^^^1.2.250.1.213.1.4.10^L^^^INS|||", "patient"),
        ("284057512345672^LACAILLE^Odette^^^^^^INS&1.2.250.1.213.1.4.8&ISO^L|||", "patient"),
        ("", ""),
    ],
)
def test_who_a_recipient_is(fields, kind):
    written = fields + "|" * (10 - fields.count("|")) + "^^X.400^a@b.example"
    text = read(f"MSH|^~\\&|A|B\nPRT||UC||RCT^^participation|{written}\n".encode())
    prt = Prt(text.first("PRT"), text)
    assert (prt.kind, prt.address, prt.is_one_address) == (kind, "a@b.example", True)


def test_documents_of_one_message_point_to_each_other():
    """N1 and N3 of the same content, each under its own number."""
    found = message("pfi_oru")
    first, second = REGISTRY.find(found).translate(found, SITE).documents
    identifiers = [[one["identifier"]["value"] for one in document.body["context"]["related"]] for document in (first, second)]
    assert identifiers == [["urn:oid:1.2.250.9.77.5.101"], ["urn:oid:1.2.250.9.77.5.100"]]
    alone = message()
    (only,) = REGISTRY.find(alone).translate(alone, SITE).documents
    assert "related" not in only.body["context"]


@pytest.mark.parametrize("value", ["1.2.250.9.77.6^7", "1.2.250.9.77.6.7", "1.2.250.9.77.6^7~1.2.250.9.77.5.100"])
def test_companions_of_version_1_2(value):
    """COMP_LOT lists the documents of the same lot; the document itself may be among them."""
    profile = ("2.1^CISIS_CDA_HL7_V2", "1.2^CISIS_CDA_HL7_V1")
    found = message("pfi_mdm", profile, more=f"OBX|10|CE|COMP_LOT||{value}||||||F\n")
    (document,) = REGISTRY.find(found).translate(found, SITE).documents
    assert document.body["context"]["related"] == [
        {"type": "DocumentReference", "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.250.9.77.6.7"}}
    ]


@pytest.mark.parametrize(
    "subtype", ["^TEXT^XML^Base64^", "^text^XML^Base64^", "^text^xml^base64^", "^^XML^Base64^", "^TEXT^^Base64^", "^^^^"]
)
def test_subtypes_of_the_document(subtype):
    found = message("pfi_mdm", ("^text^XML^Base64^", subtype))
    assert len(REGISTRY.find(found).translate(found, SITE).documents) == 1


@settings(deadline=None)
@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=200))
def test_any_text_comes_back(text):
    assert mail(more=body("CORPSMAIL_PS", text)).professional_body == text


@settings(deadline=None)
@given(st.binary(max_size=120).filter(lambda raw: not set(raw) & set(b"\r\n")))
def test_any_bytes_as_body_crash_nothing(raw):
    found = read(message().raw + b"OBX|10|ED|CORPSMAIL_PS||" + raw + b"||||||F\nPRT||UC||REPLY||" + raw + b"\n")
    structure = REGISTRY.find(found)
    structure.mail_request(found, SITE)
    structure.remarks(found, SITE)
