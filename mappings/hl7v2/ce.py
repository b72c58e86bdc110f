"""CE, CWE: codes of HL7 v2 as FHIR codings.

Standard: HL7 v2.5.1 §2.A.3, table 0396.
"""

from __future__ import annotations

import re
from typing import Any

from mappings.code_systems import LOINC, system_of_oid
from mappings.hl7v2.line import Composite

__all__ = ["LOINC", "TRE_A05", "code_system", "coding", "concept", "fhir_code", "full_concept", "system_of_oid"]

TRE_A05 = "urn:oid:1.2.250.1.213.1.1.4.12"

_LOINC_CODE = re.compile(r"[0-9]{1,7}-[0-9]")
_SYSTEMS = {
    "LN": LOINC,
    "LOINC": LOINC,
    "SCT": "http://snomed.info/sct",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "UCUM": "http://unitsofmeasure.org",
    "TRE_A05": TRE_A05,
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "ATC": "http://www.whocc.no/atc",
}


def fhir_code(text: str) -> str:
    """A code as FHIR writes it: single blanks inside, none around."""
    return text if text.isalnum() else " ".join(text.split())


def coding(code: str, display: str = "", system: str = "") -> dict[str, str]:
    """A Coding without what is empty; a FHIR code holds single blanks only."""
    return {name: text for name, text in (("system", system), ("code", fhir_code(code)), ("display", display)) if text}


def concept(ce: Composite) -> dict[str, Any] | None:
    """A CE as a CodeableConcept; a LOINC code is known by its form when component 3 names no system. None when empty."""
    code, display = ce.text(1), ce.text(2)
    if not code:
        return {"text": display} if display else None
    result: dict[str, Any] = {"coding": [coding(code, display, code_system(code, ce.text(3)))]}
    if display:
        result["text"] = display
    return result


def full_concept(ce: Composite) -> dict[str, Any] | None:
    """A CE or CWE with both its codings (components 1-3 and 4-6), and CWE-9 as text; None when empty."""
    if ce.is_empty():
        return None
    parts = [text if (text := ce.text(n)).isalnum() else " ".join(text.split()) for n in range(1, 10)]
    codings = [coding(parts[n], parts[n + 1], code_system(parts[n], parts[n + 2])) for n in (0, 3) if parts[n]]
    text = parts[8] or parts[1] or parts[4]
    result: dict[str, Any] = {}
    if codings:
        result["coding"] = codings
    if text:
        result["text"] = text
    return result or None


def code_system(code: str, named: str) -> str:
    """The FHIR system that CE-3 names; a code without system that has LOINC's form is one; empty when unknown."""
    if not named:
        return LOINC if _LOINC_CODE.fullmatch(code) else ""
    return _SYSTEMS.get(named.upper()) or system_of_oid(named)
