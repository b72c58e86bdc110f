"""What the header of a document says of all its entries: who wrote it and when, the act it documents, kinds of prescriptions.

Standard: CI-SIS Structuration minimale (author, documentationOf/serviceEvent); volet eP-MED-DM (serviceEvent of class INFO).
"""

from __future__ import annotations

import re
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.xml import Element, attribute, every, one

Json = dict[str, Any]

E_PRESCRIPTION = "1.2.250.1.215.500.1.1"  # numbers of the national electronic prescription (CNAM)
_DIGITS = re.compile(r"\d{4,14}", re.ASCII)


def main_act(scope: Scope) -> Element | None:
    """The serviceEvent that the document is about: the first that is not a mark of class INFO."""
    found = every(scope.reading.root, "documentationOf/serviceEvent")
    return next((event for event in found if attribute(event, "classCode") != "INFO"), None)


def marks(scope: Scope) -> list[Json]:
    """Kinds of a prescription (bizone, exception drug, secured …) as `urn:vaguemestre:prescription-kind` extensions."""
    found = []
    for event in every(scope.reading.root, "documentationOf/serviceEvent"):
        if attribute(event, "classCode") == "INFO" and (code := one(event, "code")) is not None and (made := values.coding(code)):
            found.append({"url": "urn:vaguemestre:prescription-kind", "valueCoding": made})
    return found


def group_identifier(scope: Scope) -> Json | None:
    """The national number of the electronic prescription."""
    for element in every(scope.reading.root, "documentationOf/serviceEvent/id"):
        if attribute(element, "root") == E_PRESCRIPTION:
            return values.identifier(element)
    return None


def author_of(entry: Element, scope: Scope) -> Json | None:
    """Who wrote an entry: its own author, else the first person among those of the document."""
    own = values.author(entry)
    if own is not None:
        return own
    found = [made for part in every(scope.reading.root, "author/assignedAuthor") if (made := values.practitioner(part))]
    return next((made for made in found if made["type"] == "Practitioner"), found[0] if found else None)


def written_at(entry: Element, scope: Scope) -> str:
    """When an entry was written: `author/time`, else that of the document."""
    return (
        values.moment(one(entry, "author/time"), scope)
        or values.moment(one(scope.reading.root, "author/time"), scope)
        or values.moment(one(scope.reading.root, "effectiveTime"), scope)
    )


def is_over(element: Element | None, scope: Scope) -> bool:
    """Whether an IVL_TS had ended when the document was written."""
    high, now = _DIGITS.match(attribute(element, "value", "high")), _DIGITS.match(scope.header.effective_time)
    if high is None or now is None:
        return False
    length = min(len(high[0]), len(now[0]))
    return high[0][:length] < now[0][:length]


def wanted_performer(scope: Scope) -> Json | None:
    """The pharmacy that the patient chose to have a prescription dispensed at (participant PRF of the header)."""
    for participant in every(scope.reading.root, "participant"):
        if attribute(participant, "typeCode") == "PRF":
            return values.organization(one(participant, "associatedEntity/scopingOrganization"))
    return None
