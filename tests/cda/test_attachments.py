"""Bytes inside a document (HL7 CDA R2, ED in Base64), and documents attached to one (CI-SIS FR-Document-attache)."""

import base64
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from hub.formats.content import content_type_of, document_bytes
from hub.model.record_change import ContentRange, ResourceChange
from mappings.cda.contents import Contents, inline, is_cut
from mappings.cda.xml import V3, Element
from tests.cda.imaging_documents import FR, LOINC, PDF, PNG, SECTION, attached, b64, cda, entry, media, section, translate


def document(*texts: str, encoding: str = "UTF-8") -> bytes:
    media = "".join(f'<value mediaType="application/pdf" representation="B64">{one}</value>' for one in texts)
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    return f'{head}<ClinicalDocument xmlns="urn:hl7-org:v3"><title>é</title>{media}</ClinicalDocument>'.encode(encoding)


def message(xml: bytes) -> tuple[bytes, ContentRange]:
    """A message that holds the document in Base64, and where."""
    coded = base64.b64encode(xml)
    sha1 = hashlib.sha1(xml, usedforsecurity=False).digest()
    return b"MSH|" + coded + b"|", ContentRange(4, len(coded), "base64", "text/xml", len(xml), sha1)


def values(xml: bytes) -> list[Element]:
    return list(etree.fromstring(xml, etree.XMLParser(remove_comments=True, remove_pis=True)).iter(f"{V3}value"))


def taken_out(xml: bytes) -> list[bytes | None]:
    raw, outer = message(xml)
    contents = Contents(xml, outer)
    found = [contents(element) for element in values(xml)]
    for one in found:
        assert one is None or document_bytes(raw, one) != b""
    return [document_bytes(raw, one) if one is not None else None for one in found]


def broken(data: bytes, line: str) -> str:
    text = b64(data)
    return line + line.join(text[at : at + 76] for at in range(0, len(text), 76)) + line


@pytest.mark.parametrize("line", ["", "\n", "\r\n", "  \t", "&#13;\n", "&#xD;&#xA;"])
def test_bytes_are_found_as_they_are_written(line: str):
    assert taken_out(document(broken(PDF, line), broken(PNG, line))) == [PDF, PNG]


def test_equal_beginnings_and_equal_bytes_are_told_apart_by_all_of_them():
    other = PDF[:-5] + b"other"
    assert taken_out(document(b64(PDF), b64(other), b64(PDF), b64(other[:-7]))) == [PDF, other, PDF, other[:-7]]


def test_a_range_says_what_it_holds():
    xml = document(b64(PNG))
    _, outer = message(xml)
    found = Contents(xml, outer)(values(xml)[0])
    assert found is not None
    assert found.inner is not None
    assert (found.offset, found.length, found.encoding) == (outer.offset, outer.length, "base64")
    assert (found.content_type, found.size, found.sha1) == ("image/png", len(PNG), hashlib.sha1(PNG).digest())
    assert xml[found.inner[0] :][: found.inner[1]] == base64.b64encode(PNG)


def test_markup_and_encodings_that_hide_the_bytes():
    half = len(b64(PDF)) // 2
    assert taken_out(document(f"<![CDATA[{b64(PDF)}]]>")) == [PDF]
    assert taken_out(document(f"{b64(PDF)[:half]}<!-- x -->{b64(PDF)[half:]}")) == [None]
    assert taken_out(document(b64(PDF), encoding="UTF-16")) == [None]
    assert taken_out(document(b64(PDF), encoding="ISO-8859-15")) == [PDF]


def test_text_of_a_message_holds_a_document_that_holds_bytes():
    xml = document(b64(PDF))
    raw = b"MSH|^~\\&|A|B|C|D|20260101||MDM^T02|1|P|2.5||||||UNICODE UTF-8\rOBX|1|TX|1||" + xml + b"\r"
    outer = ContentRange(raw.index(xml), len(xml), "text", "text/xml", len(xml), b"")
    found = Contents(xml, outer)(values(xml)[0])
    assert found is not None
    assert document_bytes(raw, found) == PDF


@pytest.mark.parametrize("text", ["", "  ", "not base64!", "=", "QUJD=QUJD", "é"])
def test_no_bytes(text: str):
    assert taken_out(document(text)) == [None]


def test_a_document_of_nothing_but_hidden_bytes_is_given_up():
    hidden, shown = f"{b64(PDF)}<!-- x -->QUJD", b64(PNG)
    assert taken_out(document(*[hidden] * 3, shown))[-1] == PNG
    assert taken_out(document(*[hidden] * 70, shown)) == [None] * 71


def test_cut_base64_keeps_whole_bytes_and_is_told():
    xml = document("QUJDR")
    assert taken_out(xml) == [b"ABC"]
    assert is_cut(values(xml)[0])
    assert not is_cut(values(document(b64(PDF)))[0])


def test_another_representation_is_not_base64():
    xml = document(b64(PDF)).replace(b'"B64"', b'"TXT"')
    assert taken_out(xml) == [None]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PDF, "application/pdf"),
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"II*\x00x", "image/tiff"),
        (b"MM\x00*x", "image/tiff"),
        (b"GIF89a.", "image/gif"),
        (b"{\\rtf1}", "application/rtf"),
        (b"PK\x03\x04", "application/zip"),
        (bytes(128) + b"DICM", "application/dicom"),
        (b'\xef\xbb\xbf<?xml version="1.0"?><a/>', "text/xml"),
        ("Élève\n".encode(), "text/plain; charset=utf-8"),
        ("Élève".encode("latin-1"), "application/octet-stream"),
        (b"\x00\x01", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_what_bytes_are(data: bytes, kind: str):
    assert content_type_of(data) == kind


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40).map(b64), st.text("QUJD= \n&;#13<é", max_size=12)), max_size=4))
def test_what_is_found_is_what_the_element_says(texts: list[str]):
    xml = document(*(one.replace("<", "&lt;").replace("&;", "&amp;;") for one in texts if "&" not in one))
    for element, data in zip(values(xml), taken_out(xml), strict=True):
        said = inline(element)
        if data is not None:
            assert said is not None
            assert (len(data), hashlib.sha1(data).digest()) == (said.size, said.sha1)


# ---- attached documents ------------------------------------------------------------------------------------------------


def filed(statement: str, template: str = SECTION + "37", words: str = "") -> tuple[list[ResourceChange], list[str], bytes]:
    """Facts and findings of a document with one entry, and the document."""
    xml = cda(section(template, entry(statement), words=words), model="1.2.3")
    said = translate(xml)
    return list(said.facts), [one.code for one in said.findings if not one.code.startswith("CDA_")], xml


def test_an_attached_document_is_a_document():
    name = '<content ID="name">Lettre du 3 mars</content>'
    kind = '<value xsi:type="CD"><originalText><reference value="#name"/></originalText></value>'
    (fact,), findings, xml = filed(attached(media(b64(PDF)), kind=kind, time='<effectiveTime value="20260303"/>'), words=name)
    assert (fact.type, findings) == ("DocumentReference", [])
    assert fact.body["content"] == [
        {
            "attachment": {
                "contentType": "application/pdf",
                "url": "#content0",
                "title": "Lettre du 3 mars",
                "creation": "2026-03-03",
            }
        }
    ]
    assert (fact.body["status"], fact.body["description"]) == ("current", "Lettre du 3 mars")
    assert fact.body["type"]["coding"][0]["code"] == "55107-7"
    assert (fact.body["date"], fact.body["author"][0]["display"]) == ("2026-03-01T10:15:00+01:00", "AUTEUR")
    assert fact.body["context"]["related"][0]["identifier"]["value"] == "urn:oid:1.2.250.1.999.1.42.1"
    raw, outer = message(xml)
    assert document_bytes(raw, replace(outer, inner=fact.contents[0].inner)) == PDF


def test_its_type_is_what_the_document_says_it_is():
    (coded,), _, _ = filed(attached(media(b64(PDF))))
    assert coded.body["type"]["coding"] == [{"system": "http://loinc.org", "code": "11502-2"}]
    (worded,), _, _ = filed(attached(media(b64(PDF)), kind='<value xsi:type="ST">Schéma</value>'))
    assert (worded.body["description"], worded.body["type"]["coding"][0]["code"]) == ("Schéma", "55107-7")


def test_several_contents_of_one_document():
    (fact,), _, xml = filed(attached(media(b64(PDF)), media(b64(PNG), "image/png", "D2")))
    assert [part["attachment"]["url"] for part in fact.body["content"]] == ["#content0", "#content1"]
    raw, outer = message(xml)
    assert [document_bytes(raw, replace(outer, inner=one.inner)) for one in fact.contents] == [PDF, PNG]


def test_bytes_that_nobody_can_find_are_told_by_size_and_hash():
    xml = cda(section(SECTION + "37", entry(attached(media(b64(PDF))))), model="1.2.3")
    (fact,) = translate(xml, finds_bytes=False).facts
    digest = base64.b64encode(hashlib.sha1(PDF, usedforsecurity=False).digest()).decode()
    attachment = fact.body["content"][0]["attachment"]
    assert (attachment["size"], attachment["hash"], "url" in attachment, fact.contents) == (len(PDF), digest, False, ())


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        (SECTION + "243", '<value xsi:type="ST">x</value>'),
        (SECTION + "37", f'<value xsi:type="CD" code="55108-5" codeSystem="{LOINC}"/>'),
    ],
)
def test_the_copy_of_the_document_is_no_second_document(template: str, kind: str):
    facts, findings, _ = filed(attached(media(b64(PDF)), kind=kind), template)
    assert (facts, findings) == ([], [])


@pytest.mark.parametrize(
    ("data", "declared", "code", "kept"),
    [
        ("", "application/pdf", "CONTENT_EMPTY", ""),
        ("???", "application/pdf", "CONTENT_BASE64", ""),
        (b64(PDF[:-1])[:-3], "application/pdf", "CONTENT_BASE64", "application/pdf"),
        (b64(b"Bonjour"), "application/pdf", "CONTENT_NOT_PDF", "text/plain; charset=utf-8"),
        (b64(PNG), "image/jpeg", "CONTENT_TYPE_LIES", "image/png"),
        (b64(b'<?xml version="1.0"?><a/>'), "application/xml", "", "text/xml"),
        (b64(b"\x00\x01\x02"), "application/x-odd", "", "application/octet-stream"),
        (b64(PNG), "", "", "image/png"),
    ],
)
def test_what_is_wrong_with_bytes(data: str, declared: str, code: str, kept: str):
    facts, findings, _ = filed(attached(media(data, declared)))
    assert findings == ([code] if code else [])
    assert [fact.contents[0].content_type for fact in facts] == ([kept] if kept else [])


def test_what_holds_nothing_or_was_taken_back():
    assert filed(attached())[:2] == ([], ["CONTENT_EMPTY"])
    assert filed(attached(media(b64(PDF))).replace("completed", "nullified", 1))[:2] == ([], [])


def test_images_of_the_text():
    image = f'<observationMedia classCode="OBS" moodCode="EVN"><templateId root="{FR}103"/><value>QUJD</value></observationMedia>'
    assert filed(image, SECTION + "223")[:2] == ([], [])
    assert filed(image, SECTION + "70")[:2] == ([], ["LEFT_IN_DOCUMENT"])


@pytest.mark.parametrize(
    ("text", "representation", "kind"),
    [
        (b64(PDF), "B64", "application/pdf"),
        (b64(PNG), "B64", "image/png"),
        ("", "B64", None),
        ("é", "B64", None),
        ("texte", "TXT", None),
    ],
)
def test_the_body_of_a_document_of_level_1(text: str, representation: str, kind: str | None):
    body = f'<nonXMLBody><text mediaType="application/pdf" representation="{representation}">{text}</text></nonXMLBody>'
    said = translate(cda(body=body, model="1.3.6.1.4.1.19376.1.2.20"))
    assert (said.inner_content.content_type if said.inner_content else None) == kind


def test_the_copy_shows_a_structured_document():
    said = translate(cda(section(SECTION + "243", entry(attached(media(b64(PDF))))), model="1.2.3"))
    assert said.inner_content is not None
    assert said.inner_content.size == len(PDF)
