"""MSH-18 ↔ Python codecs, and text that survives a charset too small for it."""

from __future__ import annotations

import unicodedata

_CODECS = {
    b"UNICODE UTF-8": "utf-8",
    b"UTF-8": "utf-8",
    b"UTF8": "utf-8",
    b"UNICODE": "utf-8",
    b"UNICODE UTF8": "utf-8",
    b"8859/1": "iso8859-1",
    b"8859-1": "iso8859-1",
    b"ISO-8859-1": "iso8859-1",
    b"ISO8859-1": "iso8859-1",
    b"8859/15": "iso8859-15",
    b"8859-15": "iso8859-15",
    b"ISO-8859-15": "iso8859-15",
    b"ISO8859-15": "iso8859-15",
    b"WINDOWS-1252": "cp1252",
    b"CP1252": "cp1252",
    b"ASCII": "ascii",
    b"US-ASCII": "ascii",
    b"ISO IR6": "ascii",
}
_NAMES = {
    "utf-8": b"UNICODE UTF-8",
    "iso8859-1": b"8859/1",
    "iso8859-15": b"8859/15",
    "ascii": b"ASCII",
    "cp1252": b"WINDOWS-1252",
}
_PLAIN = str.maketrans(
    {
        "’": "'",
        "‘": "'",
        "“": '"',
        "”": '"',
        "«": '"',
        "»": '"',
        "–": "-",
        "—": "-",
        "…": "...",
        "œ": "oe",
        "Œ": "OE",
        "æ": "ae",
        "Æ": "AE",
        "€": "EUR",
        "\u00a0": " ",
        "\u202f": " ",
        "•": "-",
        "™": "(TM)",
    }
)

NUL, SUBSTITUTE = b"\0", b"\x1a"  # neither a database nor a CDA document can hold a NUL: text has SUB in its place


def codec_of(msh_18: bytes) -> str | None:
    """The Python codec that MSH-18 names; None when it names none we know.

    Standard: HL7 v2.5.1 table 0211; CI-SIS allows `UNICODE UTF-8` and `8859/15`.
    """
    return _CODECS.get(msh_18) or _CODECS.get(b" ".join(msh_18.upper().split()))


def name_of(codec: str) -> bytes:
    """How MSH-18 writes a codec; `UNICODE UTF-8` for one that HL7 has no word for."""
    return _NAMES.get(codec, b"UNICODE UTF-8")


def decode(value: bytes, codec: str) -> str:
    """Text of `value`; bytes that are not of the declared charset are read as ISO 8859-15, which knows every byte.

    A NUL is read as SUB.
    """
    if NUL in value:
        value = value.replace(NUL, SUBSTITUTE)
    try:
        return value.decode(codec)
    except UnicodeDecodeError:
        pass
    if codec == "ascii":
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    return value.decode("iso8859-15")


def encode(text: str, codec: str) -> bytes:
    """Bytes of `text`; a character that the charset lacks becomes its nearest plain form (’ → '), at worst `?`."""
    try:
        return text.encode(codec)
    except UnicodeEncodeError:
        return b"".join(_nearest(character, codec) for character in text)


def _nearest(character: str, codec: str) -> bytes:
    for form in (character, character.translate(_PLAIN), unicodedata.normalize("NFKD", character)):
        try:
            return form.encode(codec)
        except UnicodeEncodeError:
            continue
    return unicodedata.normalize("NFKD", character).encode(codec, "ignore") or b"?"
