"""Who may see what: the reader, the SQL condition that hides, and the security labels that say why.

The condition stands in the WHERE clause of every statement that reads a resource; nothing is filtered afterwards, so no
count, page or history tells that something is there.
Standard: CI-SIS JDV_J08-XdsConfidentialityCode, TRE_A07-StatutVisibiliteDocument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hub.model.record_change import CONFIDENTIALITY_VERY_RESTRICTED, INVISIBLE_PATIENT, INVISIBLE_REP_LEGAUX, MASQUE_PS, Json
from hub.record.tokens import AUTHOR_FINESS, AUTHOR_RPPS

VISIBILITY_SYSTEM = "urn:oid:1.2.250.1.213.1.1.4.13"
CONFIDENTIALITY_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
_LABELS = (
    (MASQUE_PS, VISIBILITY_SYSTEM, "MASQUE_PS"),
    (INVISIBLE_PATIENT, VISIBILITY_SYSTEM, "INVISIBLE_PATIENT"),
    (INVISIBLE_REP_LEGAUX, VISIBILITY_SYSTEM, "INVISIBLE_REPRESENTANTS_LEGAUX"),
    (CONFIDENTIALITY_VERY_RESTRICTED, CONFIDENTIALITY_SYSTEM, "V"),
)


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who reads. `sees_masked` holds the bits that are hidden from this reader unless they, or their structure, wrote it.

    `rpps` and `finess` say who a professional is and for which structure; empty = unknown, then nothing is theirs.
    """

    role: str = "professional"
    sees_masked: int = MASQUE_PS
    rpps: str = ""
    finess: str = ""


@dataclass(frozen=True, slots=True)
class Visible:
    """An SQL condition and its values."""

    sql: str
    values: tuple[Any, ...]


def visible(viewer: Viewer, *, mask: str = "r.mask", resource_id: str = "r.id") -> Visible:
    """The condition under which `viewer` sees a row; column names are ours, never a caller's text."""
    if not viewer.sees_masked:
        return Visible("1 = 1", ())
    authors = [(AUTHOR_RPPS, viewer.rpps), (AUTHOR_FINESS, viewer.finess)]
    keys = [pair for pair in authors if pair[1]]
    plain = f"({mask} & ?) = 0"
    if not keys:
        return Visible(plain, (viewer.sees_masked,))
    of_author = "a.param = ? AND a.value = ? AND a.system = ''"
    written = f"EXISTS (SELECT 1 FROM token_index a WHERE {of_author} AND a.resource_id = {resource_id})"  # noqa: S608 - our names
    said = (  # a fact is theirs when a document of theirs says it
        f"EXISTS (SELECT 1 FROM derivation f JOIN resource g ON g.id = f.document_id AND g.status = 'current'"  # noqa: S608
        f" JOIN token_index a ON {of_author} AND a.resource_id = f.document_id WHERE f.resource_id = {resource_id})"
    )
    own = " OR ".join([written, said] * len(keys))
    values = tuple(text for pair in keys for text in (*pair, *pair))
    return Visible(f"({plain} OR {own})", (viewer.sees_masked, *values))


def labels(mask: int) -> list[Json]:
    """The codings of the bits of `mask`."""
    return [{"system": system, "code": code} for bit, system, code in _LABELS if mask & bit]


def with_labels(security: list[Json], mask: int) -> list[Json]:
    """`DocumentReference.securityLabel` with one confidentiality (normal when nothing is said) and the codes of `mask`."""
    found = [dict(one) for one in security]
    codes = {coding.get("code") for one in found for coding in one.get("coding", ())}
    if not codes & {"N", "R", "V", "U", "L", "M"} and not mask & CONFIDENTIALITY_VERY_RESTRICTED:
        found.insert(0, {"coding": [{"system": CONFIDENTIALITY_SYSTEM, "code": "N"}]})
    return found + [{"coding": [label]} for label in labels(mask) if label["code"] not in codes]


def mask_of(security: list[Json], mask: int) -> int:
    """`mask` and the bits that the labels themselves say."""
    codes = {coding.get("code") for one in security for coding in one.get("coding", ())}
    for bit, _, code in _LABELS:
        if code in codes:
            mask |= bit
    return mask
