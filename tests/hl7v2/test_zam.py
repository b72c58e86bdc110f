"""ZAM_Z01 as it comes from another platform, and as the hub writes it: the profile's table row by row.

Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2, §2.9.
"""

from datetime import UTC, datetime

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.flow.receipts import application_error
from hub.formats.er7 import read, zam
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.registry import builtin

REGISTRY, SITE = builtin(), Site(source="pfi-b", environment="test")
STATUS = {"Z01": "ACK_RECEPTION_DMP", "Z02": "ACK_RECEPTION_MSS", "Z03": "ACK_LECTURE_MSS"}
MAILBOX = {"Z02": "DESTINATAIRE_MSS", "Z03": "LECTEUR_MSS"}
KIND = {"Z01": "DMP", "Z02": "DSN", "Z03": "MDN"}
YES_NO = {"2.1": "expandedYes-NoIndicator", "2.0": "HL70136"}
ADDRESS = "cabinet.essai@test.mssante.example"


def written(event="Z01", *, version="2.1", status=None, original="C77", said="Y", evn="20261120101500", mailbox=ADDRESS, err=""):
    lines = [
        f"MSH|^~\\&|PFI-B|ORG-B|LABO-E|SITE-E|202611201016||ZAM^{event}^ZAM_Z01|Z9|T|2.6|||||FRA|UNICODE UTF-8|||"
        f"{version}^CISIS_CDA_HL7_V2"
    ]
    if evn is not None:
        lines.append(f"EVN||{evn}")
    lines.append(f"OBX|1|CWE|{status or STATUS.get(event, '')}^libellé^AckMetierZAM|{original}|{said}^^{YES_NO[version]}||||||F|")
    if event in MAILBOX and mailbox is not None:
        lines.append(f"OBX|2|XTN|{MAILBOX[event]}^x^AckMetierZAM||{mailbox if '^' in mailbox else '^^X.400^' + mailbox}||||||F|")
    if err:
        lines.append(f"ERR|||207^Application error^messageErrorCondition|E|{err}")
    return "\r".join(lines).encode() + b"\r"


def answer(raw: bytes) -> str:
    message = read(raw)
    try:
        REGISTRY.admit(message, SITE)
        REGISTRY.find(message).judge(message, SITE)
    except MessageRefused as refused:
        assert refused.sentence
        return f"{refused.condition} {refused.at}"
    return "AA"


@pytest.mark.parametrize("version", YES_NO)
@pytest.mark.parametrize("event", STATUS)
@pytest.mark.parametrize("said", ["Y", "N"])
def test_what_a_receipt_tells(event, version, said):
    message = read(written(event, version=version, said=said, err="" if said == "Y" else "554^non^SMTPERRORCODE"))
    structure = REGISTRY.find(message)
    structure.judge(message, SITE)
    (told,) = structure.receipts(message, SITE)
    assert (told.kind, told.control_id, told.positive, told.receiving_app) == (KIND[event], "C77", said == "Y", "LABO-E")
    assert told.code == ("" if said == "Y" else "554")
    assert told.address == (ADDRESS if event in MAILBOX else "")
    assert told.at == int(datetime(2026, 11, 20, 9, 15, tzinfo=UTC).timestamp() * 1e6)
    assert ADDRESS not in repr(told)
    assert structure.requests(message, SITE) == () and structure.translate(message, SITE).resources == ()
    assert structure.remarks(message, SITE) == ()


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, "AA"),
        ({"original": ""}, "101 OBX-4"),
        ({"original": '""'}, "101 OBX-4"),
        ({"said": "O"}, "103 OBX-5"),
        ({"said": ""}, "101 OBX-5"),
        ({"said": " y "}, "AA"),
        ({"status": "ACK_LECTURE_MSS"}, "103 OBX-3"),
        ({"status": "ack_reception _dmp"}, "AA"),
        ({"evn": None}, "AA"),
        ({"event": "Z02", "mailbox": None}, "101 OBX[2]-5"),
        ({"event": "Z02", "mailbox": "^^X.400^"}, "101 OBX[2]-5"),
        ({"event": "Z03", "mailbox": "^NET^Internet^" + ADDRESS}, "AA"),
        ({"event": "Z03", "mailbox": ADDRESS + "^"}, "AA"),
        ({"event": "Z04", "status": "X"}, "201 MSH-9.2"),
    ],
)
def test_answer(change, expected):
    assert answer(written(**change)) == expected


def test_a_receipt_without_status():
    assert answer(written().partition(b"OBX")[0]) == "100 OBX"


@pytest.mark.parametrize(
    "change, findings",
    [
        ({"said": "N"}, ["RECEIPT_REASON_MISSING"]),
        ({"said": "N", "err": "DMPClosed^DMP fermé^DMPERRORCODE"}, []),
        ({"evn": None}, ["EVENT_TIME_MISSING"]),
        ({"evn": "yesterday"}, ["EVENT_TIME_MISSING"]),
        ({"err": "554^x^SMTPERRORCODE"}, ["RECEIPT_CONTRADICTS"]),
    ],
)
def test_remarks(change, findings):
    message = read(written(**change))
    assert [one.code for one in REGISTRY.find(message).remarks(message, SITE)] == findings


@given(st.lists(st.sampled_from([b"OBX", b"ERR", b"EVN", b"|", b"^", b"ACK_RECEPTION_DMP", b"Y", b"\r", b"@", b"1", b"\xe9"])))
def test_no_zam_crashes_the_mapping(parts):
    raw = b"MSH|^~\\&|A|B|C|D|2026||ZAM^Z02^ZAM_Z01|1|T|2.6\r" + b"".join(parts)
    message = read(raw)
    structure = REGISTRY.find(message)
    if answer(raw) == "AA":
        assert structure.receipts(message, SITE)[0].control_id
        structure.remarks(message, SITE)


# ---- as the hub writes it --------------------------------------------------------------------------------------------


def made(kind, code, **more):
    positive = not code
    at = datetime(2026, 11, 20, 9, 15, tzinfo=UTC)
    return zam(
        kind=kind,
        original_control_id="C77",
        positive=positive,
        control_id="H1",
        at=at,
        event_at=at,
        site=Site(name="PFI-A", organisation="ORG-A"),
        receiving_app="LABO-E^1.2.250.9.1^ISO",
        receiving_facility="SITE-E",
        address=ADDRESS if kind != "Z01" else "",
        error=None if positive else application_error(kind, code),
        **more,
    )


@pytest.mark.parametrize("kind", STATUS)
@pytest.mark.parametrize("code", ["", "DMPClosed", "553", "906"])
def test_what_the_hub_writes_another_hub_takes(kind, code):
    raw = made(kind, code)
    assert answer(raw) == "AA"
    message = read(raw)
    (told,) = REGISTRY.find(message).receipts(message, SITE)
    assert (told.kind, told.control_id, told.positive) == (KIND[kind], "C77", not code)
    independent = hl7.parse(raw.decode())
    assert [str(independent.segment("MSH")[n]) for n in (3, 4, 5, 6)] == ["PFI-A", "ORG-A", "LABO-E^1.2.250.9.1^ISO", "SITE-E"]
    assert str(independent.segment("OBX")[4]) == "C77"


@pytest.mark.parametrize(
    "kind, code, expected",
    [
        ("Z01", "DMPClosed", ("DMPClosed", "DMP fermé", "DMP_ERROR_CODE")),
        ("Z01", "XDSSomethingNew", ("XDSSomethingNew", "Erreur renvoyée par le destinataire", "DMP_ERROR_CODE")),
        ("Z01", "Mme Dupont|née", ("DMPError", "Erreur du DMP", "DMP_ERROR_CODE")),
        ("Z01", "", ("DMPError", "Erreur du DMP", "DMP_ERROR_CODE")),
        ("Z02", "553", ("553", "Nom de boîte aux lettres invalide", "SMTPERRORCODE")),
        ("Z02", "INS_NOT_QUALIFIED", ("554", "Échec définitif", "SMTPERRORCODE")),
        ("Z03", "904", ("904", "L'INS ou les traits diffèrent de ceux connus", "applicationErrorCondition")),
        ("Z03", "xyz", ("906", "Autre erreur d'intégration", "applicationErrorCondition")),
    ],
)
def test_the_reason_of_a_negative_receipt(kind, code, expected):
    assert application_error(kind, code) == expected
    assert "^".join(expected) in made(kind, code or "?").decode()


def test_labels_fit_the_charset_of_the_sender():
    assert "Boîte".encode("iso8859-15") in made("Z02", "550", charset="iso8859-15")
