"""Escape sequences of HL7 text.

Standard: HL7 v2.5.1 §2.7, use of escape sequences in text fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from hub.formats.er7.charset import NUL, SUBSTITUTE, encode
from hub.formats.er7.separators import STANDARD, Separators

_CONTROLS = {control: b"X%02X" % control for control in (0x0A, 0x0B, 0x0D, 0x1C)}


def unescape(value: bytes, separators: Separators = STANDARD) -> bytes:
    """`value` with its escape sequences undone; one that is not known stays as it is.

    `\\.br\\` becomes LF, highlighting (`\\H\\`, `\\N\\`) disappears, `\\X0D0A\\` becomes these bytes, `\\X00\\` a SUB.
    """
    if not separators.escape or separators.escape not in value:
        return value
    pattern, meaning = _reading(separators)
    return pattern.sub(meaning, value)


def escape(text: str, separators: Separators = STANDARD, codec: str = "utf-8") -> bytes:
    """`text` in the message's charset, with separators and framing characters escaped: safe inside any component."""
    value = encode(text, codec)
    for character, sequence in _writing(separators):
        if character in value:
            value = value.replace(character, sequence)
    return value


@lru_cache(maxsize=64)
def _writing(separators: Separators) -> tuple[tuple[bytes, bytes], ...]:
    mark = separators.escape
    named = (
        (mark, b"E"),
        (separators.field, b"F"),
        (separators.component, b"S"),
        (separators.subcomponent, b"T"),
        (separators.repetition, b"R"),
        *((bytes([control]), name) for control, name in _CONTROLS.items()),
    )
    return tuple((character, mark + name + mark if mark else b" ") for character, name in named if character)


@lru_cache(maxsize=64)
def _reading(separators: Separators) -> tuple[re.Pattern[bytes], Callable[[re.Match[bytes]], bytes]]:
    mark = re.escape(separators.escape)
    pattern = re.compile(mark + rb"([EFSTRHN]|\.br|X(?:[0-9A-Fa-f]{2})+)" + mark)
    meanings = {
        b"E": separators.escape,
        b"F": separators.field,
        b"S": separators.component,
        b"T": separators.subcomponent,
        b"R": separators.repetition,
        b"H": b"",
        b"N": b"",
        b".br": b"\n",
    }

    def meaning(found: re.Match[bytes]) -> bytes:
        name = found[1]
        return meanings[name] if name in meanings else bytes.fromhex(name[1:].decode()).replace(NUL, SUBSTITUTE)

    return pattern, meaning
