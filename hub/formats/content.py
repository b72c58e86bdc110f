"""The bytes of a document that stands inside a message, and those that stand inside a document."""

from __future__ import annotations

import re

from hub.formats.base64_lenient import decode as decode_base64
from hub.formats.er7 import Message, read, unescape
from hub.formats.er7.charset import decode
from hub.model.record_change import ContentRange

OCTETS, PLAIN_TEXT = "application/octet-stream", "text/plain; charset=utf-8"
_MAGIC = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"{\\rtf", "application/rtf"),
    (b"PK\x03\x04", "application/zip"),
)
_XML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|(?:[A-Za-z_][\w.-]*:)?ClinicalDocument)")
_BLANK_REFERENCES = re.compile(rb"&#(?:0*(?:9|10|13|32)|x0*(?:9|20|[aAdD]));")
_BINARY_SIGNS = bytes(n for n in range(32) if n not in b"\t\n\r\f\x1b")


def document_bytes(raw: bytes, content: ContentRange, default_charset: str = "utf-8") -> bytes:
    """A document's decoded bytes, or those that stand inside it (`content.inner`), out of the message `raw` as it was kept.

    Raises:
        Unreadable: the range does not hold what it says.
    """
    value = raw[content.offset : content.offset + content.length]
    data = decode_base64(value) if content.encoding == "base64" else text_bytes(value, read(raw, default_charset))
    if content.inner is None:
        return data
    offset, length = content.inner
    return decode_base64(base64_of_xml(data[offset : offset + length]))


def text_bytes(value: bytes, message: Message) -> bytes:
    """Text as it stands in a field of `message`, escapes undone, in UTF-8."""
    return decode(unescape(value, message.separators), message.charset).encode()


def base64_of_xml(value: bytes) -> bytes:
    """Base64 as it stands in an XML text, without the blanks that are written as character references (`&#13;`)."""
    return _BLANK_REFERENCES.sub(b"", value) if b"&" in value else value


def content_type_of(data: bytes) -> str:
    """What bytes are, by the bytes themselves: PDF, PNG, JPEG, TIFF, GIF, RTF, ZIP, DICOM, XML, text in UTF-8, else octets."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data[128:132] == b"DICM":
        return "application/dicom"
    if _XML.match(data):
        return "text/xml"
    if not data or data.translate(None, _BINARY_SIGNS) != data:
        return OCTETS
    try:
        data.decode()
    except UnicodeDecodeError:
        return OCTETS
    return PLAIN_TEXT
