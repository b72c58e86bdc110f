"""XTN as a FHIR ContactPoint.

Standard: HL7 v2.5.1 §2.A.90 tables 0201, 0202; IHE France: `NET` + `Internet` for mail, `CP` for a mobile telephone.
"""

from __future__ import annotations

from mappings.hl7v2.line import Composite

_SYSTEMS = {"FX": "fax", "BP": "pager", "INTERNET": "email", "X.400": "email"}
_USES = {"PRN": "home", "ORN": "home", "VHN": "home", "WPN": "work", "PRS": "mobile", "EMR": "temp"}


def xtn_contact(xtn: Composite, use: str) -> dict[str, str] | None:
    """An XTN as a ContactPoint; `use` counts when XTN-2 says none. None when it holds no number."""
    kind, mail = xtn.text(3).upper(), xtn.text(4)
    value = mail or xtn.text(12) or xtn.text(1) or xtn.text(6) + xtn.text(7)
    if not value:
        return None
    system = "email" if mail else _SYSTEMS.get(kind, "phone")
    return {"system": system, "value": value, "use": "mobile" if kind == "CP" else _USES.get(xtn.text(2).upper(), use)}
