"""French national numbers of professionals and structures as FHIR identifiers.

Senders mix prefixed and bare numbers and mislabel their type, so the authority's OID and the length decide.
Standard: FR Core 2.1 (Practitioner, Organization); ANS, annexe « identifiants des personnes et des structures ».
"""

from __future__ import annotations

from typing import Any

from hub.model.identifiers import PROFESSIONALS, STRUCTURES, is_oid

RPPS_SYSTEM = "https://rpps.esante.gouv.fr"
FINESS_SYSTEM = "https://finess.esante.gouv.fr"
SIRET_SYSTEM = "https://sirene.fr"

_PROFESSIONAL_TYPES = frozenset({"RPPS", "IDNPS", "ADELI"})
_STRUCTURE_TYPES = frozenset({"FINEJ", "FINEG", "FINESS", "IDNST", "SIRET"})


def professional_identifier(number: str, oid: str = "", kind: str = "") -> dict[str, Any] | None:
    """The identifier of a professional: RPPS when it is one (`8` + RPPS, or 11 digits), else the national or local number.

    `oid` is the authority's OID, `kind` its type (XCN-13), either may be empty. None when there is no number.
    """
    if not number:
        return None
    if oid == PROFESSIONALS or kind in _PROFESSIONAL_TYPES:
        if number.isdigit() and len(number) == 12 and number[0] == "8":
            return {"system": RPPS_SYSTEM, "value": number[1:]}
        if number.isdigit() and len(number) == 11:
            return {"system": RPPS_SYSTEM, "value": number}
        return {"system": f"urn:oid:{PROFESSIONALS}", "value": number}
    return {"system": f"urn:oid:{oid}", "value": number} if is_oid(oid) else {"value": number}


def structure_identifier(number: str, oid: str = "", kind: str = "") -> dict[str, Any] | None:
    """The identifier of a health structure: FINESS when it is one (`1` + FINESS, or 9 characters), SIRET, else as given."""
    if not number:
        return None
    if oid == STRUCTURES or kind in _STRUCTURE_TYPES:
        if len(number) == 10 and number[0] == "1":
            return {"system": FINESS_SYSTEM, "value": number[1:]}
        if len(number) == 9:
            return {"system": FINESS_SYSTEM, "value": number}
        if len(number) == 15 and number[0] == "3":
            return {"system": SIRET_SYSTEM, "value": number[1:]}
        return {"system": f"urn:oid:{STRUCTURES}", "value": number}
    return {"system": f"urn:oid:{oid}", "value": number} if is_oid(oid) else {"value": number}
