"""Extensions of FHIR resources that HL7 v2 fields need, and the code systems of the PAM tables.

An extension of FR Core where there is one; else `urn:vaguemestre:extension:<name>`, listed in docs/hl7v2/pam-france.md.
Codes of a Z field are in the system `urn:vaguemestre:pam-fr:<field>`.
"""

from __future__ import annotations

from typing import Any

from mappings.hl7v2.ce import fhir_code
from mappings.hl7v2.line import Composite

Json = dict[str, Any]

FR_CORE = "https://hl7.fr/ig/fhir/core"


def ours(name: str) -> str:
    """The url of an extension of this project."""
    return f"urn:vaguemestre:extension:{name}"


def fr_core(name: str) -> str:
    """The url of an extension of FR Core."""
    return f"{FR_CORE}/StructureDefinition/{name}"


def pam_system(field: str) -> str:
    """The code system of a Z field: `ZFM-1`."""
    return f"urn:vaguemestre:pam-fr:{field}"


def pam_coding(field: str, ce: Composite, labels: dict[str, str] | None = None) -> Json | None:
    """A code of a Z field, with its label; None when it is empty."""
    code = fhir_code(ce.text(1))
    if not code:
        return None
    display = (labels or {}).get(code.upper()) or ce.text(2)
    return {"system": pam_system(field), "code": code, **({"display": display} if display else {})}
