"""The bytes of a document that stands inside a message."""

from __future__ import annotations

from hub.formats.base64_lenient import decode as decode_base64
from hub.formats.er7 import Message, read, unescape
from hub.formats.er7.charset import decode
from hub.model.record_change import ContentRange


def document_bytes(raw: bytes, content: ContentRange, default_charset: str = "utf-8") -> bytes:
    """A document's decoded bytes, out of the message `raw` as it was kept.

    Raises:
        Unreadable: the range does not hold what it says.
    """
    value = raw[content.offset : content.offset + content.length]
    return decode_base64(value) if content.encoding == "base64" else text_bytes(value, read(raw, default_charset))


def text_bytes(value: bytes, message: Message) -> bytes:
    """Text as it stands in a field of `message`, escapes undone, in UTF-8."""
    return decode(unescape(value, message.separators), message.charset).encode()
