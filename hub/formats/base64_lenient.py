"""Base64 as it really comes in OBX-5: broken over lines, unpadded, sometimes one character short.

Standard: RFC 4648 §4; HL7 v2.5.1 §2.A.24, ED.5.
"""

from __future__ import annotations

import binascii
import re

import pybase64

from hub.model.refusals import Unreadable

_BLANKS = b" \t\r\n\f\v"
_ESCAPES = re.compile(rb"\\(?:X((?:[0-9A-Fa-f]{2})*)|\.(?:br|sp|in|ti|fi|nf|ce)[-+0-9]{0,8}|[HN])\\")
_FOREIGN = re.compile(rb"[^A-Za-z0-9+/]")


def decode(data: bytes) -> bytes:
    """The bytes that `data` stands for.

    Blanks, written or as HL7 escapes (`\\X0D\\`, `\\.br\\`), are dropped, padding is added, a last character that
    stands for no whole byte is dropped.

    Raises:
        Unreadable: any other character, or padding before the end.
    """
    try:
        return pybase64.b64decode(data, validate=True)
    except binascii.Error:
        pass
    if b"\\" in data:
        data = _ESCAPES.sub(_escaped, data)
    data = data.translate(None, _BLANKS).rstrip(b"=")
    if _FOREIGN.search(data):
        raise Unreadable(at="OBX-5", condition="102", sentence="OBX-5: not base64")
    if len(data) % 4 == 1:
        data = data[:-1]
    return pybase64.b64decode(data + b"=" * (-len(data) % 4), validate=True)


def _escaped(found: re.Match[bytes]) -> bytes:
    return bytes.fromhex(found[1].decode()) if found[1] else b""
