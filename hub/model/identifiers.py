"""Identifiers of people, structures and things, as frozen types whose repr shows nothing.

A wrong shape raises ValueError; a wrong INS key is only told (`key_is_right`), because real senders produce it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

INS_NIR = "1.2.250.1.213.1.4.8"
INS_NIA = "1.2.250.1.213.1.4.9"
INS_NIR_TEST = "1.2.250.1.213.1.4.10"
INS_NIR_DEMO = "1.2.250.1.213.1.4.11"
INS_ROOTS = frozenset({INS_NIR, INS_NIA, INS_NIR_TEST, INS_NIR_DEMO})
PROFESSIONALS = "1.2.250.1.71.4.2.1"
STRUCTURES = "1.2.250.1.71.4.2.2"

_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_INS = re.compile(r"[0-9]{6}[0-9AB][0-9]{8}")


def is_oid(text: str) -> bool:
    """Whether `text` is an object identifier in dotted form."""
    return _OID.fullmatch(text) is not None


class _Masked:
    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"


@dataclass(frozen=True, slots=True, repr=False)
class InsMatricule(_Masked):
    """INS: 13 characters and a two-digit key, under one of the four INS roots.

    Raises:
        ValueError: not 15 characters of the form, or not an INS root.
    Standard: ANS, référentiel INS 2.0; identity of the NIR with 2A/2B for Corsica.
    """

    value: str
    oid: str

    def __post_init__(self) -> None:
        if self.oid not in INS_ROOTS or not _INS.fullmatch(self.value):
            raise ValueError("not an INS")

    @property
    def key_is_right(self) -> bool:
        """97 − (first 13 digits mod 97), with 2A read as 19 and 2B as 18."""
        digits = self.value[:13].replace("2A", "19").replace("2B", "18")
        return digits.isdigit() and 97 - int(digits) % 97 == int(self.value[13:])

    @property
    def system(self) -> str:
        return f"urn:oid:{self.oid}"


@dataclass(frozen=True, slots=True, repr=False)
class LocalIdentifier(_Masked):
    """A number that one authority gives: IPP, visit, order. `system` is a FHIR system URI."""

    system: str
    value: str
    kind: str = "PI"  # CX-5: PI, VN, AN, …


@dataclass(frozen=True, slots=True, repr=False)
class Rpps(_Masked):
    """A professional's national number, 11 digits."""

    value: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9]{11}", self.value):
            raise ValueError("not an RPPS")


@dataclass(frozen=True, slots=True, repr=False)
class Finess(_Masked):
    """A health structure's number, 9 characters."""

    value: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9][0-9AB][0-9]{7}", self.value):
            raise ValueError("not a FINESS")
