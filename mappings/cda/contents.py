"""Bytes that stand in a document as Base64: an attached document, the PDF of a document of level 1.

They are not copied: a range names where they are in the document, and the document where it is in its message.

Standard: HL7 CDA R2, ED with representation B64 (observationMedia/value, nonXMLBody/text); RFC 4648 §4.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from hub.formats.base64_lenient import decode
from hub.formats.content import base64_of_xml, content_type_of
from hub.model.record_change import ContentRange
from hub.model.refusals import Unreadable
from mappings.cda.xml import Element, attribute

_BLANKS = b" \t\r\n"
_KEY, _MAX_TRIES = 200, 64  # characters looked for; places with the same beginning that are compared
_MAX_MISSES = 64  # bytes that were not found, after which nothing is looked for in this document any more


@dataclass(frozen=True, slots=True)
class Inline:
    """What an ED in Base64 holds. `is_cut`: its last character stands for no whole byte."""

    content_type: str
    size: int
    sha1: bytes
    is_cut: bool


def inline(element: Element) -> Inline | None:
    """The bytes in an element of representation B64; None when it is not Base64 or says it is not.

    Blanks are dropped, missing padding is added. Nothing at all is an Inline of size 0.
    """
    return _inline(element, _compact(element))


def _inline(element: Element, compact: bytes) -> Inline | None:
    if attribute(element, "representation").upper() not in {"B64", ""}:
        return None
    try:
        data = decode(compact)
    except Unreadable:
        return None
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    return Inline(content_type_of(data), len(data), digest, _is_cut(compact))


def is_cut(element: Element) -> bool:
    """Whether the last character of Base64 stands for no whole byte."""
    return _is_cut(_compact(element))


def _is_cut(compact: bytes) -> bool:
    return len(compact.rstrip(b"=")) % 4 == 1


@dataclass
class Contents:
    """Where the bytes of an element of this document are in the message that brought it.

    `xml` are the decoded bytes of the document, `outer` says where they stand in the message.
    """

    xml: bytes
    outer: ContentRange
    _after: int = 0  # contents are asked for in the order of the document, most of the time
    _misses: int = 0
    _known: dict[Element, ContentRange | None] = field(default_factory=dict)

    def __call__(self, element: Element) -> ContentRange | None:
        """The range of an element's Base64; None when it holds none, or the document's encoding or markup hides it."""
        if element not in self._known:
            self._known[element] = self._range(element)
        return self._known[element]

    def _range(self, element: Element) -> ContentRange | None:
        compact = _compact(element)
        found = self._find(element, compact) if compact and self._misses < _MAX_MISSES else None
        self._misses += found is None
        said = _inline(element, compact) if found else None
        if said is None or not said.size:
            return None
        return replace(self.outer, content_type=said.content_type, size=said.size, sha1=said.sha1, inner=found)

    def _find(self, element: Element, compact: bytes) -> tuple[int, int] | None:
        key = (element.text or "").split(None, 1)[0][:_KEY].encode() if (element.text or "").strip() else b""
        if not key or self.xml[:2] in {b"\xff\xfe", b"\xfe\xff"} or b"\x00" in self.xml[:4]:
            return None
        at, wrapped = self.xml.find(key, self._after), False
        for _ in range(_MAX_TRIES):
            if at < 0 and not wrapped:
                at, wrapped = self.xml.find(key), True
            if at < 0:
                return None
            end = self._end(at)
            if _without_blanks(base64_of_xml(self.xml[at:end])) == compact:
                self._after = end
                return at, end - at
            at = self.xml.find(key, at + 1)
        return None

    def _end(self, start: int) -> int:
        """Where the text that begins at `start` ends: at the next tag, or at the end of its CDATA section."""
        tag = self.xml.find(b"<", start)
        tag = len(self.xml) if tag < 0 else tag
        section = self.xml.find(b"]]>", start, tag)
        return tag if section < 0 else section


def _compact(element: Element) -> bytes:
    return _without_blanks((element.text or "").encode())


def _without_blanks(coded: bytes) -> bytes:
    return coded.translate(None, _BLANKS) if any(blank in coded for blank in _BLANKS) else coded
