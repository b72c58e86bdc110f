"""XAD as a FHIR Address.

Standard: HL7 v2.5.1 §2.A.87 table 0190; IHE France, XAD-9 = INSEE code; FR Core fr-core-address-insee-code.
"""

from __future__ import annotations

from typing import Any

from mappings.hl7v2.line import Composite

INSEE_CODE = "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-address-insee-code"
COMMUNES = "https://mos.esante.gouv.fr/NOS/TRE_R13-CommuneOM/FHIR/TRE-R13-CommuneOM"
BIRTH_PLACE_TYPE = "BDL"

_USES = {"H": "home", "L": "home", "P": "home", "O": "work", "B": "work", "C": "temp", "BA": "old"}
_PARTS = (("city", 3), ("district", 8), ("state", 4), ("postalCode", 5), ("country", 6))


def xad_address(xad: Composite) -> dict[str, Any] | None:
    """An XAD as an Address; None when it says nothing."""
    address: dict[str, Any] = {}
    insee = xad.text(9)
    if insee:
        address["extension"] = [{"url": INSEE_CODE, "valueCoding": {"system": COMMUNES, "code": insee}}]
    lines = [part.strip() for text in (xad.text(1), xad.text(2)) for part in text.split("^") if part.strip()]
    if lines:
        address["line"] = lines
    for name, component in _PARTS:
        text = xad.text(component)
        if text:
            address[name] = text
    if not address:
        return None
    use = _USES.get(xad.text(7))
    if use is not None:
        address["use"] = use
    return address
