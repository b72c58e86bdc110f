"""Plain ORU and MDM: what stands in OBX-5 becomes a document with exact bytes, a number and an action."""

import base64
import hashlib

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.content import document_bytes
from hub.formats.er7 import read
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.registry import builtin

REGISTRY = builtin()
SITE = Site(source="lab")
PDF = b"%PDF-1.4\n%\xe2\xe3\n1 0 obj\n"
OBX_PDF = f"OBX|1|ED|11502-2^CR bio^LN||^application^PDF^Base64^{base64.b64encode(PDF).decode()}||||||F"


def message(kind, *segments, charset="UNICODE UTF-8"):
    lines = [
        f"MSH|^~\\&|LABO|Z|HUB|Z|20260302101500||{kind}|1|P|2.5||||||{charset}",
        "PID|||4711^^^Z^PI||LACAILLE^Odette||19840512|F",
        "PV1||I|||||||||||||||||V9",
        *segments,
    ]
    codec = "utf-8" if charset == "UNICODE UTF-8" else "iso8859-15"
    return read(("\r".join(lines) + "\r").encode(codec))


def translated(taken):
    structure = REGISTRY.find(taken)
    structure.judge(taken, SITE)
    return structure.translate(taken, SITE)


def documents(taken):
    return translated(taken).documents


def refusal(taken):
    with pytest.raises(MessageRefused) as caught:
        REGISTRY.find(taken).judge(taken, SITE)
    return f"{caught.value.condition} {caught.value.at}"


def oru(*segments, **kwargs):
    return message("ORU^R01", *segments, **kwargs)


def mdm(event, txa, *segments, **kwargs):
    return message(f"MDM^{event}", txa, *segments, **kwargs)


def txa(number="D1", replaced="", status="AU", confidentiality="", available=""):
    start = "TXA|1|DS^Courrier|TEXT|20260301||20260302093000|||10000000017^VASSEUR^Irma|||"
    return f"{start}{number}|{replaced}||||{status}|{confidentiality}|{available}"


# ---- ORU ------------------------------------------------------------------------------------------------------------


def test_pdf_of_a_report():
    taken = oru("ORC|RE|P1|F1^LABO", "OBR|1|P1|F1^LABO|58410-2^NFS^LN|||20260302080000", "OBX|1|NM|718-7^Hb^LN||12|g/dL", OBX_PDF)
    change = translated(taken)
    (document,) = change.documents
    assert (change.mapping, document.action.value, document.path) == ("oru@3", "create", "OBX[2]-5")
    assert document.master_id == "urn:vaguemestre:authority:LABO|F1.1"
    assert document_bytes(taken.raw, document.content) == PDF
    assert (document.content.content_type, document.content.size) == ("application/pdf", len(PDF))
    assert document.content.sha1 == hashlib.sha1(PDF).digest()
    body = document.body
    assert body["type"]["coding"] == [{"system": "http://loinc.org", "code": "11502-2", "display": "CR bio"}]
    assert (body["docStatus"], body["date"]) == ("final", "2026-03-02T08:00:00+01:00")
    assert body["context"]["encounter"][0]["identifier"] == {"system": "urn:vaguemestre:source:lab", "value": "V9"}
    assert change.resources[0].key == "urn:vaguemestre:source:lab|V9"


def test_numbers_and_texts_of_a_result_are_no_documents():
    change = translated(oru("OBR|1|P1|F1", "OBX|1|NM|718-7^Hb^LN||12|g/dL", "OBX|2|TX|1^Note||Texte libre"))
    assert change.documents == () and change.patient is not None
    assert [one.type for one in change.resources] == ["Encounter", "Observation", "Observation"]


@pytest.mark.parametrize(
    ("order", "number"),
    [
        (("ORC|RE|P1|F1", "OBR|1|P1|F2"), "urn:vaguemestre:source:lab|F2.1"),
        (("ORC|RE|P1|F1", "OBR|1"), "urn:vaguemestre:source:lab|F1.1"),
        (("OBR|1|P1",), "urn:vaguemestre:source:lab|P1.1"),
        (("OBR|1||F^X^1.2.250.9.5^ISO",), "urn:oid:1.2.250.9.5|F.1"),
        (("OBR|1||1.2.250.9.5.7",), "urn:oid:1.2.250.9.5.7.1"),
    ],
)
def test_number_of_a_result_document(order, number):
    (document,) = documents(oru(*order, OBX_PDF))
    assert document.master_id == number


def test_each_document_stands_under_its_own_order():
    first, second = documents(oru("OBR|1||F1", OBX_PDF, "OBR|2||F2", OBX_PDF))
    assert (first.master_id, second.master_id) == ("urn:vaguemestre:source:lab|F1.1", "urn:vaguemestre:source:lab|F2.1")


def test_without_an_order_number_patient_and_content_decide():
    (one,), (again,) = documents(oru(OBX_PDF)), documents(oru("OBR|1", OBX_PDF))
    (other,) = documents(oru(OBX_PDF.replace("JVBE", "JVBF")))
    assert one.master_id == again.master_id != other.master_id


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("F", ("create", "final")),
        ("P", ("create", "preliminary")),
        ("C", ("create", "amended")),
        ("", ("create", None)),
        ("D", ("delete", None)),
        ("W", ("delete", None)),
        ("X", None),
        ("N", None),
    ],
)
def test_status_of_a_result(status, expected):
    found = documents(oru("OBR|1||F1", OBX_PDF[:-1] + status))
    assert [(d.action.value, d.body.get("docStatus")) for d in found] == ([expected] if expected else [])
    assert all((d.content is None) == (d.action.value == "delete") for d in found)


def test_bad_base64_is_refused_with_its_place():
    assert refusal(oru("OBX|1|NM|1||1", "OBX|2|ED|1^x||^application^PDF^Base64^*!*")) == "102 OBX[2]-5"
    assert refusal(mdm("T02", txa(), "OBX|1|ED|1^x||^application^PDF^Base64^*!*")) == "102 OBX-5"


def test_empty_ed_is_a_finding():
    taken = oru("OBR|1||F1", "OBX|1|ED|1^x||^application^PDF^Base64^")
    assert {f.code for f in REGISTRY.find(taken).remarks(taken, SITE)} == {"DOCUMENT_EMPTY"}
    assert documents(taken) == ()


# ---- MDM ------------------------------------------------------------------------------------------------------------


def test_text_of_a_letter():
    text = "Cher confrère,\\.br\\A\\T\\B, 37^5 ~ 38"
    for charset in ("UNICODE UTF-8", "8859/15"):
        taken = mdm("T02", txa(), f"OBX|1|TX|1^Lettre||{text}||||||F", charset=charset)
        (document,) = documents(taken)
        assert document.master_id == "urn:vaguemestre:source:lab|D1"
        assert document_bytes(taken.raw, document.content).decode() == "Cher confrère,\nA&B, 37^5 ~ 38"
        assert document.content.content_type == "text/plain; charset=utf-8"
        assert document.body["type"] == {"coding": [{"code": "DS", "display": "Courrier"}], "text": "Courrier"}
        assert document.body["author"][0]["display"] == "Irma VASSEUR"
        assert document.body["date"] == "2026-03-02T09:30:00+01:00"


@pytest.mark.parametrize(
    ("event", "available", "expected"),
    [
        ("T02", "", ("create", "")),
        ("T10", "", ("replace", "urn:vaguemestre:source:lab|D0")),
        ("T04", "", ("delete", "")),
        ("T04", "CA", ("delete", "")),
        ("T04", "AV", ("create", "")),
    ],
)
def test_action_by_event(event, available, expected):
    taken = mdm(event, txa(replaced="D0", available=available), OBX_PDF)
    assert [(d.action.value, d.replaces) for d in documents(taken)] == [expected]


def test_deletion_needs_no_content():
    (document,) = documents(mdm("T04", txa()))
    assert (document.action.value, document.master_id, document.content) == ("delete", "urn:vaguemestre:source:lab|D1", None)


@pytest.mark.parametrize(
    ("event", "segments", "answer"),
    [
        ("T02", (OBX_PDF,), "100 TXA"),
        ("T02", (txa(number=""), OBX_PDF), "101 TXA-12"),
        ("T10", (txa(), OBX_PDF), "101 TXA-13"),
        ("T02", (txa(),), "100 OBX"),
        ("T02", (txa(), "OBX|1|NM|1||2"), "101 OBX-5"),
        ("T02", (txa(), "OBX|1|TX|1||"), "101 OBX-5"),
    ],
)
def test_required(event, segments, answer):
    assert refusal(message(f"MDM^{event}", *segments)) == answer


@pytest.mark.parametrize(
    ("data", "subtype", "kind"),
    [
        (PDF, "PDF", "application/pdf"),
        (PDF, "", "application/pdf"),
        (b"{\\rtf1 x}", "RTF", "application/rtf"),
        (b"\xff\xd8\xff\xe0x", "JPEG", "image/jpeg"),
        (b"<?xml version='1.0'?><a/>", "XML", "text/xml"),
        (b"<html></html>", "HTML", "text/html"),
        ("é".encode(), "", "text/plain; charset=utf-8"),
        (b"\xe9\x00\xff", "", "application/octet-stream"),
    ],
)
def test_content_type(data, subtype, kind):
    (document,) = documents(mdm("T02", txa(), f"OBX|1|ED|1^x||^x^{subtype}^Base64^{base64.b64encode(data).decode()}"))
    assert document.content.content_type == kind


@pytest.mark.parametrize(
    ("status", "label", "expected"),
    [("AU", "", ("final", None)), ("LA", "R", ("final", "R")), ("PA", "V", ("preliminary", "V")), ("", "U", (None, "N"))],
)
def test_status_and_confidentiality(status, label, expected):
    (document,) = documents(mdm("T02", txa(status=status, confidentiality=label), OBX_PDF))
    labels = document.body.get("securityLabel", [])
    assert (document.body.get("docStatus"), labels[0]["coding"][0]["code"] if labels else None) == expected


def test_several_texts_are_told_and_all_kept():
    taken = mdm("T02", txa(), "OBX|1|TX|1||un", "OBX|2|TX|1||deux")
    assert "SEVERAL_CONTENTS" in {f.code for f in REGISTRY.find(taken).remarks(taken, SITE)}
    assert [(d.master_id, document_bytes(taken.raw, d.content)) for d in documents(taken)] == [
        ("urn:vaguemestre:source:lab|D1", b"un"),
        ("urn:vaguemestre:source:lab|D1.2", b"deux"),
    ]


def test_body_is_fhir_once_the_record_added_its_part():
    for taken in (oru("OBR|1||F1", OBX_PDF), mdm("T02", txa(), OBX_PDF), mdm("T02", "TXA|1|||||||||||D1", OBX_PDF)):
        body = documents(taken)[0].body
        written = {"resourceType": "DocumentReference", "status": "current", "content": [{"attachment": {"contentType": "x/y"}}]}
        get_fhir_model_class("DocumentReference").model_validate({**body, **written})


@settings(deadline=None)
@given(
    st.lists(st.text('|^~\\&OBXEDTXA0123=Aa\r"é\x00', max_size=60), max_size=6),
    st.sampled_from(["ORU^R01", "MDM^T02", "MDM^T10", "MDM^T04"]),
)
def test_anything_after_the_patient_is_refused_or_taken(lines, kind):
    taken = message(kind, txa(), *(f"OBX|{line}" for line in lines))
    structure = REGISTRY.find(taken)
    try:
        structure.judge(taken, SITE)
        for document in structure.translate(taken, SITE).documents:
            if document.content is not None:
                assert len(document_bytes(taken.raw, document.content)) == document.content.size
    except MessageRefused as refused:
        assert refused.at
