"""The few fields that say whom an acknowledgement is for and what it says, read without parsing the rest."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE_END = re.compile(b"[\r\n]+")
_CODE = re.compile(r"[A-Za-z0-9._-]{1,20}")


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """MSA-1, MSA-2 as bytes, its own MSH-10, and the first ERR-3.1 (ERR-1.4.1 before 2.5) when it is a code.

    Standard: HL7 v2.5.1 §2.15.8 MSA, §2.15.5 ERR.
    """

    code: str
    msa_2: bytes
    msh_10: str
    err_3: str


def msh_10(body: bytes) -> bytes:
    """The control id as it stands in the message, empty when there is none."""
    end = _LINE_END.search(body, 0, 4096)
    header = body[: end.start() if end else 4096]
    if len(header) < 9 or not header.startswith(b"MSH"):
        return b""
    fields = header.split(header[3:4], 10)
    return fields[9].strip() if len(fields) > 9 else b""


def read_acknowledgement(body: bytes) -> Acknowledgement | None:
    """None when `body` has no MSH or no MSA: it answers nothing."""
    if len(body) < 9 or not body.startswith(b"MSH"):
        return None
    separator, component = body[3:4], body[4:5]
    msa: list[bytes] | None = None
    err: list[bytes] | None = None
    for segment in _LINE_END.split(body, 64):
        if segment.startswith(b"MSA" + separator) and msa is None:
            msa = segment.split(separator, 7)
        elif segment.startswith(b"ERR" + separator) and err is None:
            err = segment.split(separator, 5)
    if msa is None:
        return None
    code = _text(msa[1]) if len(msa) > 1 else ""
    msa_2 = msa[2].strip() if len(msa) > 2 else b""
    return Acknowledgement(code, msa_2, msh_10(body).decode("utf-8", "replace"), _error_code(err, component))


def _error_code(err: list[bytes] | None, component: bytes) -> str:
    if err is None:
        return ""
    if len(err) > 3 and err[3]:
        return _text(err[3].split(component, 1)[0])
    older = err[1].split(component, 4) if len(err) > 1 else []
    return _text(older[3].split(b"&", 1)[0]) if len(older) > 3 else ""


def _text(value: bytes) -> str:
    """`value` when it has the shape of a code: anything else could be a value of the message."""
    text = value.strip().decode("ascii", "replace")
    return text if _CODE.fullmatch(text) else ""
