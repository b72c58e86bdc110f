"""A CDA in a message without a French profile: known by its own id, it tells of itself and speaks of the message's patient."""

import base64
from pathlib import Path

import pytest

from hub.flow.ports import documents as numbers
from hub.flow.ports import is_heavy
from hub.formats.content import document_bytes
from hub.formats.er7 import escape, read
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.registry import builtin

REGISTRY = builtin()
SITE = Site(source="lab")
CDA = (Path(__file__).parent.parent / "vectors" / "hl7v2" / "pfi_cda.xml").read_text("utf-8")
RPLC = '<relatedDocument typeCode="RPLC"><parentDocument><id root="1.2.250.9.77.5.99"/></parentDocument></relatedDocument>'


def cda(related: str = "", number: str = "4711", **more: str) -> bytes:
    values = {
        "ID": "1.2.250.9.77.5.100",
        "CODE": "11502-2",
        "CONF": "N",
        "VERSION": "1",
        "PATIENT": f'<id root="1.2.250.9.77" extension="{number}"/>',
        "RELATED": related,
    } | more
    text = CDA
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text.encode()


def ed(data: bytes, *, status: str = "F") -> str:
    return f"OBX|1|ED|11502-2^CR^LN||^text^XML^Base64^{base64.b64encode(data).decode()}||||||{status}"


def message(kind: str, *segments: str):
    lines = [
        f"MSH|^~\\&|LABO|Z|HUB|Z|20260302101500||{kind}|1|P|2.5||||||UNICODE UTF-8",
        "PID|||4711^^^Z&1.2.250.9.77&ISO^PI||LACAILLE^Odette||19840512|F",
        "PV1||I|||||||||||||||||V9",
        *segments,
    ]
    return read(("\r".join(lines) + "\r").encode())


def txa(number: str = "D1", replaced: str = "", state: str = "AU", confidentiality: str = "") -> str:
    return f"TXA|1|DS|TEXT|20260301||||||||{number}|{replaced}||||{state}|{confidentiality}"


def change_of(taken):
    structure = REGISTRY.find(taken)
    structure.judge(taken, SITE)
    assert is_heavy(structure, taken)
    change = structure.translate(taken, SITE)
    (document,) = change.documents
    follows = document.replaces or None
    withdraws = document.action.value == "delete"
    expected = (None, document.master_id, True) if withdraws else (document.master_id, follows, False)
    assert numbers(structure, taken, SITE) == expected, "what routing was told is what the record does"
    return document


def codes(taken) -> set[str]:
    return {finding.code for finding in REGISTRY.find(taken).remarks(taken, SITE)}


@pytest.mark.parametrize(
    ("taken", "action", "replaces", "state"),
    [
        (message("ORU^R01", "OBR|1||F1", ed(cda())), "create", "", "final"),
        (message("ORU^R01", "OBR|1||F1", ed(cda(RPLC), status="P")), "replace", "urn:oid:1.2.250.9.77.5.99", "preliminary"),
        (message("ORU^R01", "OBR|1||F1", ed(cda(), status="D")), "delete", "", None),
        (message("OUL^R22", "SPM|1", "OBR|1||F1", ed(cda())), "create", "", "final"),
        (message("MDM^T02", txa(), ed(cda())), "create", "", "final"),
        (message("MDM^T02", txa(state="DI"), ed(cda())), "create", "", "preliminary"),
        (message("MDM^T10", txa(replaced="1.2.250.9.77.5.7"), ed(cda())), "replace", "urn:oid:1.2.250.9.77.5.7", "final"),
        (message("MDM^T10", txa(replaced="D0"), ed(cda(RPLC))), "replace", "urn:oid:1.2.250.9.77.5.99", "final"),
        (message("MDM^T04", txa(), ed(cda())), "delete", "", None),
    ],
)
def test_a_cda_is_filed_under_its_own_number_and_read(taken, action, replaces, state):
    document = change_of(taken)
    assert (document.action.value, document.master_id, document.replaces) == (action, "urn:oid:1.2.250.9.77.5.100", replaces)
    assert document.set_id == "urn:oid:1.2.250.9.77.5"
    if action != "delete":
        assert document.facts_mapping.startswith("cda@")
        assert (document.body["docStatus"], document.body["date"]) == (state, "2026-03-02T09:30:00+01:00")
        assert document.body["type"]["coding"][0]["code"] == "11502-2"
        assert document.body["context"]["encounter"][0]["identifier"]["value"] == "V9"
        assert document_bytes(taken.raw, document.content) == cda(RPLC if "5.99" in replaces else "")


@pytest.mark.parametrize(
    ("said", "header", "labels"), [("V", "N", ["V"]), ("", "R", ["R"]), ("R", "V", ["V"]), ("U", "N", ["N"])]
)
def test_the_more_confidential_of_message_and_document_counts(said, header, labels):
    document = change_of(message("MDM^T02", txa(confidentiality=said), ed(cda(CONF=header))))
    assert [one["coding"][0]["code"] for one in document.body["securityLabel"]] == labels
    assert document.mask == (8 if labels == ["V"] else 0)


@pytest.mark.parametrize("kind", ["ORU^R01", "OUL^R22", "MDM^T02"])
def test_the_document_of_another_patient_is_refused(kind):
    segments = [txa()] if kind.startswith("MDM") else ["OBR|1||F1"]
    taken = message(kind, *segments, ed(cda(number="4712")))
    with pytest.raises(MessageRefused) as refused:
        REGISTRY.find(taken).judge(taken, SITE)
    assert (refused.value.code, refused.value.condition, refused.value.at) == ("IdentityUnproven", "207", "PID-3")


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE x>" + cda().partition(b"?>")[2],
        cda()[:-9],
        cda().replace(b"urn:hl7-org:v3", b"urn:hl7-org:v2"),
        cda().replace(b"<title>", b"<title>" + b"<a>" * 10_000),
        cda().replace(b"UTF-8", b"martian"),
    ],
)
def test_a_cda_that_cannot_be_read_is_told_and_kept_as_it_came(data):
    assert data != cda()
    taken = message("MDM^T02", txa(), ed(data.replace(b"<?xml", b" <?xml", 1) if data[:1] != b"<" else data))
    structure = REGISTRY.find(taken)
    structure.judge(taken, SITE)
    assert "CDA_UNREADABLE" in codes(taken) and not is_heavy(structure, taken)
    (document,) = structure.translate(taken, SITE).documents
    assert (document.master_id, document.facts_mapping) == ("urn:vaguemestre:source:lab|D1", "")
    assert document_bytes(taken.raw, document.content) == data


@pytest.mark.parametrize("data", [b"<?xml version='1.0'?><report/>", b"<html/>", b"%PDF-1.4 <ClinicalDocument>", b""])
def test_what_is_no_cda_stays_what_it_was(data):
    taken = message("ORU^R01", "OBR|1||F1", ed(data))
    assert not is_heavy(REGISTRY.find(taken), taken) and "CDA_UNREADABLE" not in codes(taken)
    assert numbers(REGISTRY.find(taken), taken, SITE) == (None, None, False)


@pytest.mark.parametrize("codec", ["utf-16", "iso8859-15"])
def test_other_encodings_and_a_stylesheet_around_it(codec):
    document = change_of(message("ORU^R01", "OBR|1", ed(cda().decode().replace("UTF-8", codec).encode(codec))))
    assert (document.body["description"], document.content.content_type) == ("Compte rendu d'échographie", "text/xml")
    sheet = b'<?xml version="1.0"?><x:stylesheet xmlns:x="http://www.w3.org/1999/XSL/Transform" version="1.0">%s</x:stylesheet>'
    document = change_of(message("ORU^R01", "OBR|1", ed(sheet % cda().partition(b"?>")[2])))
    assert (document.master_id, document.content.content_type) == ("urn:oid:1.2.250.9.77.5.100", "application/xslt+xml")


def test_a_cda_as_escaped_text():
    text = escape(cda().decode()).decode()
    taken = message("ORU^R01", "OBR|1", f"OBX|1|ED|11502-2||^text^XML^A^{text}||||||F")
    document = change_of(taken)
    assert document_bytes(taken.raw, document.content) == cda()
