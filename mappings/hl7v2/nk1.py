"""NK1: the people around the patient, as Patient.contact.

Standard: HL7 v2.5.1 §3.4.5, tables 0063 (NK1-3) and 0131 (NK1-7); FHIR R4 Patient.contact.
"""

from __future__ import annotations

from hub.formats.er7 import Message
from mappings.hl7v2.extensions import Json
from mappings.hl7v2.line import Composite, Line, lines
from mappings.hl7v2.xad import xad_address
from mappings.hl7v2.xtn import xtn_contact

_TABLES = ((3, "http://terminology.hl7.org/CodeSystem/v2-0063"), (7, "http://terminology.hl7.org/CodeSystem/v2-0131"))


def nk1_contacts(message: Message) -> list[Json]:
    """Each NK1 that names somebody or says how to reach them."""
    return [contact for nk1 in lines(message, "NK1") if (contact := _contact(nk1))]


def _contact(nk1: Line) -> Json:
    contact: Json = {}
    relationship = [concept for field, table in _TABLES if (concept := _relationship(nk1.one(field), table))]
    xpn = nk1.one(2)
    family, given = xpn.text(1), xpn.text(2)
    if family or given:
        contact["name"] = {name: value for name, value in (("family", family), ("given", [given] if given else [])) if value}
    telecom = [found for field, use in ((5, "home"), (6, "work")) for xtn in nk1.all(field) if (found := xtn_contact(xtn, use))]
    if telecom:
        contact["telecom"] = telecom
    address = next((found for xad in nk1.all(4) if (found := xad_address(xad))), None)
    if address is not None:
        contact["address"] = address
    if organization := nk1.text(13):
        contact["organization"] = {"type": "Organization", "display": organization}
    if contact and relationship:
        contact["relationship"] = relationship
    return contact


def _relationship(ce: Composite, table: str) -> Json:
    code, label = ce.text(1), ce.text(2)
    if not code:
        return {"text": label} if label else {}
    return {"coding": [{"system": table, "code": code}], **({"text": label} if label else {})}
