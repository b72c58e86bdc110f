"""From when until when the certificates of a PEM file are valid; nothing else of them is read.

Standard: RFC 5280 §4.1, RFC 7468 (PEM).
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime

MAX_BYTES = 1 << 20  # a file of authorities holds a few hundred certificates

_PEM = re.compile(rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----(.+?)-----END", re.DOTALL)
_INTEGER, _SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x02, 0x30, 0x17, 0x18, 0xA0


class NotACertificate(ValueError):
    """The bytes are not a certificate in DER."""


@dataclass(frozen=True, slots=True)
class Validity:
    """Aware UTC instants; valid at both ends."""

    not_before: datetime
    not_after: datetime


def validities(pem: bytes) -> list[Validity]:
    """Of every certificate in the file, in order; empty when there is none.

    Raises:
        NotACertificate: a block is damaged, or the file is larger than `MAX_BYTES`.
    """
    if len(pem) > MAX_BYTES:
        raise NotACertificate("too large")
    found = []
    for block in _PEM.finditer(pem):
        try:
            der = binascii.a2b_base64(block[1])
        except binascii.Error:
            raise NotACertificate("not base64") from None
        found.append(_validity(der))
    return found


def _validity(der: bytes) -> Validity:
    certificate, _ = _element(der, 0, _SEQUENCE)
    signed, _ = _element(certificate, 0, _SEQUENCE)
    at = 0
    if signed[:1] == bytes([_VERSION]):
        _, at = _element(signed, at, _VERSION)
    _, at = _element(signed, at, _INTEGER)  # serialNumber
    _, at = _element(signed, at, _SEQUENCE)  # signature
    _, at = _element(signed, at, _SEQUENCE)  # issuer
    validity, _ = _element(signed, at, _SEQUENCE)
    before, at = _time(validity, 0)
    after, _ = _time(validity, at)
    return Validity(before, after)


def _element(der: bytes, at: int, tag: int) -> tuple[bytes, int]:
    """The content of the element at `at`, and where the next one starts."""
    if at + 2 > len(der) or der[at] != tag:
        raise NotACertificate("another structure")
    length, at = der[at + 1], at + 2
    if length & 0x80:
        width = length & 0x7F
        if not 1 <= width <= 4 or at + width > len(der):
            raise NotACertificate("no length")
        length, at = int.from_bytes(der[at : at + width], "big"), at + width
    if at + length > len(der):
        raise NotACertificate("cut short")
    return der[at : at + length], at + length


def _time(der: bytes, at: int) -> tuple[datetime, int]:
    """UTCTime holds two digits of the year: 50 and more are 19xx."""
    tag = der[at] if at < len(der) else 0
    if tag not in (_UTC_TIME, _GENERALIZED_TIME):
        raise NotACertificate("no time")
    content, after = _element(der, at, tag)
    text = content.decode("ascii", "replace")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC), after
    except ValueError:
        raise NotACertificate("no time") from None
