"""The characters that split a message, as the message itself declares them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from hub.formats.er7.charset import NUL
from hub.model.refusals import Unreadable

_STANDARD = (b"^", b"~", b"\\", b"&")


@dataclass(frozen=True, slots=True)
class Separators:
    """Each separator as bytes: one character, of several bytes in UTF-8 when a sender declares such a one.

    A separator that is empty splits nothing: the sender gave its character to another.
    """

    field: bytes = b"|"
    component: bytes = b"^"
    repetition: bytes = b"~"
    escape: bytes = b"\\"
    subcomponent: bytes = b"&"


STANDARD = Separators()


def field_separator(raw: bytes, at: int) -> bytes:
    """MSH-1: the character that stands at offset `at`.

    Raises:
        Unreadable: there is none, or it is a letter, a digit, a blank, a line end or a NUL.
    """
    first = raw[at : at + 1]
    if first >= b"\xc2":
        for width in (2, 3, 4):
            character = raw[at : at + width]
            if _is_utf8(character):
                return character
    if not first or first.isalnum() or first.isspace() or first == NUL:
        raise Unreadable(at="MSH-1")
    return first


@lru_cache(maxsize=64)
def declared(field: bytes, encoding_characters: bytes) -> Separators:
    """The separators of MSH-1 and MSH-2. What MSH-2 leaves out is as HL7 recommends: `^~\\&`.

    Raises:
        Unreadable: MSH-2 holds a letter, a digit or a NUL, or one character twice.
    Standard: HL7 v2.5.1 §2.5.4, message delimiters.
    """
    given = _characters(encoding_characters)[:4]
    given += [b" "] * (4 - len(given))
    written = [field, *(character for character in given if not character.isspace())]
    if len(set(written)) != len(written) or any(character.isalnum() or character == NUL for character in written):
        raise Unreadable(at="MSH-2")
    chosen = []
    for character, recommended in zip(given, _STANDARD, strict=True):
        if not character.isspace():
            chosen.append(character)
        else:
            chosen.append(b"" if recommended in written else recommended)
    separators = Separators(field, *chosen)
    return STANDARD if separators == STANDARD else separators


def _characters(text: bytes) -> list[bytes]:
    if _is_utf8(text):
        return [character.encode() for character in text.decode()]
    return [text[at : at + 1] for at in range(len(text))]


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
