"""Bytes inside a document: HL7 CDA R2, ED in Base64."""

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.content import content_type_of, document_bytes
from hub.model.record_change import ContentRange
from mappings.cda.contents import Contents, inline, is_cut
from mappings.cda.xml import V3, Element, parse

PDF = b"%PDF-1.4\n" + bytes(range(256)) * 4 + b"%%EOF"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(80)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


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
    return list(parse(xml).iter(f"{V3}value"))


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
