"""OBX-5 as a document: where its bytes stand in the message, and what they are.

Standard: HL7 v2.5.1 §2.A.24 (ED), tables 0191, 0291, 0299.
"""

from __future__ import annotations

import hashlib
import re
from typing import cast

from hub.formats.base64_lenient import decode
from hub.formats.content import text_bytes
from hub.formats.er7 import Message, Segment
from hub.model.record_change import ContentRange
from hub.model.refusals import FieldInvalid, FieldMissing, Unreadable

TEXT_TYPES = frozenset({"TX", "FT", "ST"})
PLAIN_TEXT = "text/plain; charset=utf-8"

_MAGIC = (
    (b"%PDF-", "application/pdf"),
    (b"{\\rtf", "application/rtf"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n", "image/png"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
)
XML_TYPE = "text/xml"
_XML = re.compile(
    rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\x00]*<\x00?(?:\?\x00?x\x00?m\x00?l|(?:[A-Za-z_][\w.-]*:)?ClinicalDocument)"
)
_SUBTYPES = {
    "PDF": "application/pdf",
    "RTF": "application/rtf",
    "JPEG": "image/jpeg",
    "JPG": "image/jpeg",
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "XML": XML_TYPE,
    "HTML": "text/html",
    "DICOM": "application/dicom",
    "OCTET-STREAM": "",
}


def obx_bytes(obx: Segment, raw: bytes) -> tuple[bytes, int, int]:
    """The decoded bytes of an ED in Base64 in the message `raw`, and where the Base64 stands in the message (offset, length).

    Raises:
        FieldMissing: ED-5 is empty.
        FieldInvalid: not Base64 (102).
    """
    start, end = obx.component_span(5, 5)
    if start == end:
        raise FieldMissing(at=obx.at(5))
    try:
        return decode(raw[start:end]), start, end - start
    except Unreadable:
        raise FieldInvalid(at=obx.at(5), sentence=f"{obx.at(5)}: not base64") from None


def obx_text(obx: Segment, message: Message) -> bytes:
    """An ED that is text: its component 5, escapes undone, in UTF-8."""
    start, end = obx.component_span(5, 5)
    return text_bytes(message.raw[start:end], message)


def obx_content(obx: Segment, message: Message) -> ContentRange | None:
    """The document that OBX-5 holds: an ED, or text (TX, FT, ST); None for another type, or an OBX-5 that is empty.

    Decoded once a message: judging and translating ask for the same.

    Raises:
        FieldInvalid: an ED that says Base64 and is none (102).
    """
    view = f"content of line {obx.index}"
    if view not in message.views:
        message.views[view] = _content(obx, message)
    return cast("ContentRange | None", message.views[view])


def _content(obx: Segment, message: Message) -> ContentRange | None:
    kind = obx.text(2).upper()
    if kind in TEXT_TYPES:
        start, end = obx.span(5)
        return _text(obx, message, start, end) if end > start and not obx.is_null(5) else None
    if kind != "ED":
        return None
    start, end = obx.component_span(5, 5)
    if start == end:
        return None
    if obx.text(5, 4).upper() in ("BASE64", "B64"):
        data, offset, length = obx_bytes(obx, message.raw)
        return ContentRange(offset, length, "base64", _content_type(data, obx.text(5, 3)), len(data), _sha1(data))
    return _text(obx, message, start, end)


def _text(obx: Segment, message: Message, start: int, end: int) -> ContentRange:
    data = text_bytes(message.raw[start:end], message)
    named = _SUBTYPES.get(obx.text(5, 3).upper(), "") if obx.text(2).upper() == "ED" else ""
    kind = _kind_by_magic(data) or named or PLAIN_TEXT
    return ContentRange(start, end - start, "text", kind, len(data), _sha1(data))


def _content_type(data: bytes, subtype: str) -> str:
    """By the first bytes, else as ED-3 says, else text when it is UTF-8."""
    if kind := _kind_by_magic(data):
        return kind
    named = _SUBTYPES.get(subtype.upper(), "")
    if named:
        return named
    try:
        data.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return PLAIN_TEXT if data else "application/octet-stream"


def _kind_by_magic(data: bytes) -> str:
    """By the first bytes; empty when they tell nothing."""
    kind = next((kind for magic, kind in _MAGIC if data.startswith(magic)), "")
    return kind or (XML_TYPE if _XML.match(data) else "")


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()
