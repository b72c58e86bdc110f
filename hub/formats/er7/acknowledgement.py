"""The technical acknowledgement: what every message is answered with.

Standard: HL7 v2.5.1 §2.9 and §2.A.21; CI-SIS transmission de documents CDA en HL7 v2, 2.1.2, acquittement technique.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from functools import lru_cache

from hub.formats.er7.charset import name_of
from hub.formats.er7.escapes import escape, unescape
from hub.formats.er7.message import Message
from hub.formats.er7.separators import STANDARD, Separators
from hub.model.refusals import APPLICATION_ERRORS_0533, CONDITIONS_0357, MessageRefused
from hub.model.site import Site

_FRAMING = b"\x0b\x1c"
_LOCATION = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[(\d{1,6})\])?(?:-(\d{1,4})(?:\[(\d{1,4})\])?(?:\.(\d{1,4}))?(?:\.(\d{1,4}))?)?")


def acknowledgement(
    request: Message | None, *, code: str, control_id: str, at: datetime, site: Site, refusal: MessageRefused | None = None
) -> bytes:
    """An ACK in ER7 for `request`, without MLLP framing, in the request's charset, with the usual separators.

    `code` is MSA-1; MSA-2 is the request's MSH-10 as written, empty when there was nothing to read (`request` None).
    Everything but AA and CA carries an ERR segment. `at` is aware; it is written as local time with its offset.
    """
    codec = "utf-8" if request is None else request.charset
    if request is None:
        header = (
            *_own_header(site, codec),
            b"",
            b"",
            timestamp(at, site.timezone),
            b"",
            b"ACK",
            control_id.encode(),
            b"P",
            b"2.5",
        )
        charset, answered = name_of(codec), b""
    else:
        app, organisation = _own_header(site, codec)
        written = request.header if request.separators is STANDARD else _Rewritten(request)
        answered = written(10)
        header = (
            written(5) or app,
            written(6) or organisation,
            written(3),
            written(4),
            timestamp(at, site.timezone),
            b"",
            _kind(request.type),
            control_id.encode(),
            written(11) or b"P",
            written(12) or b"2.5",
        )
        charset = written(18) or b"UNICODE UTF-8"
    ack = b"MSH|^~\\&|%b|||||FRA|%b\rMSA|%b|%b\r" % (b"|".join(header), charset, code.encode(), answered)
    if refusal is not None or code[1:] != "A":
        ack += _err(refusal, codec)
    return ack.translate(None, _FRAMING)


class _Rewritten:
    """Header fields of a message with separators of its own, in the usual ones."""

    __slots__ = ("_request",)

    def __init__(self, request: Message) -> None:
        self._request = request

    def __call__(self, field: int) -> bytes:
        theirs = self._request.separators
        return _rewrite(self._request.header(field), theirs)


def _rewrite(field: bytes, theirs: Separators) -> bytes:
    splits = (
        (theirs.repetition, STANDARD.repetition),
        (theirs.component, STANDARD.component),
        (theirs.subcomponent, STANDARD.subcomponent),
    )

    def at_level(part: bytes, level: int) -> bytes:
        if level == len(splits):
            return _reescaped(part, theirs)
        their, our = splits[level]
        return our.join(at_level(piece, level + 1) for piece in (part.split(their) if their else [part]))

    return at_level(field, 0)


def _reescaped(leaf: bytes, theirs: Separators) -> bytes:
    return escape(unescape(leaf, theirs).decode("iso8859-1"), STANDARD, "iso8859-1")


@lru_cache(maxsize=64)
def _own_header(site: Site, codec: str) -> tuple[bytes, ...]:
    return escape(site.name, STANDARD, codec), escape(site.organisation, STANDARD, codec)


@lru_cache(maxsize=256)
def _kind(message_type: str) -> bytes:
    event = message_type.partition("^")[2]
    return b"ACK^%b^ACK" % escape(event[:16], STANDARD, "ascii") if event else b"ACK"


def timestamp(at: datetime, timezone: tzinfo) -> bytes:
    """`at` (aware) as a TS to the second, local time with offset."""
    return _timestamp(int(at.timestamp()), timezone)


@lru_cache(maxsize=64)
def _timestamp(second: int, timezone: tzinfo) -> bytes:
    local = datetime.fromtimestamp(second, UTC).astimezone(timezone)
    return local.strftime("%Y%m%d%H%M%S%z").encode()


def _err(refusal: MessageRefused | None, codec: str) -> bytes:
    condition = "207" if refusal is None else refusal.condition
    location = _erl(refusal.at) if refusal is not None else b""
    label = CONDITIONS_0357.get(condition, CONDITIONS_0357["207"])
    fields = [b"ERR", b"", location, _coded(condition, label, b"messageErrorCondition", codec), b"E"]
    application = "" if refusal is None else refusal.application
    sentence = "" if refusal is None else " ".join(refusal.sentence.split())
    if application:
        label = APPLICATION_ERRORS_0533.get(application, "")
        fields.append(_coded(application, label, b"applicationErrorCondition", codec))
    elif sentence:
        fields.append(b"")
    if sentence:
        fields += [b"", b"", escape(sentence, STANDARD, codec)]
    return b"|".join(fields) + b"\r"


def _coded(code: str, label: str, system: bytes, codec: str) -> bytes:
    return b"%b^%b^%b" % (escape(code, STANDARD, codec), escape(label, STANDARD, codec), system)


def _erl(at: str) -> bytes:
    """ERR-2 for a place in HL7 words: `PID-3` is `PID^1^3`; empty for an XPath, which ERL cannot say.

    Standard: HL7 v2.5.1 §2.A.28, ERL.
    """
    words = _LOCATION.fullmatch(at)
    if words is None:
        return b""
    segment, sequence, field, repetition, component, subcomponent = words.groups()
    parts = [segment, sequence or "1"]
    if field:
        parts.append(field)
        if repetition or component:
            parts.append(repetition or "1")
        if component:
            parts.append(component)
        if subcomponent:
            parts.append(subcomponent)
    return "^".join(parts).encode()
