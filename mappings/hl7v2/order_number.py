"""Order numbers: how the record knows an order, a report and an observation across messages.

Standard: HL7 v2.5.1 §4.5.1 (ORC-2, ORC-3, ORC-4), §4.5.3 (OBR-2, OBR-3).
"""

from __future__ import annotations

import json
import uuid
from typing import Any, NamedTuple

from hub.model.site import Site
from mappings.hl7v2.cx import authority_system, ei_system
from mappings.hl7v2.line import Composite
from mappings.hl7v2.order_groups import OrderGroup

Json = dict[str, Any]

URI = "urn:ietf:rfc:3986"
IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
_DERIVED = uuid.UUID("6f0b7d0e-7c3e-5d0a-9b58-1a2f6c1d4e77")  # namespace of numbers that the hub makes of others


class Number(NamedTuple):
    """A number and the system of who gave it."""

    system: str
    value: str

    @property
    def key(self) -> str:
        return f"{self.system}|{self.value}"

    def identifier(self, kind: str = "") -> Json:
        """As FHIR Identifier, with a type of table 0203 (PLAC, FILL, PGN, ACSN)."""
        typed: Json = {"type": {"coding": [{"system": IDENTIFIER_TYPE, "code": kind}]}} if kind else {}
        return {**typed, "system": self.system, "value": self.value}

    def reference(self, kind: str) -> Json:
        """As logical reference, to which the record adds the address once the resource is filed."""
        return {"type": kind, "identifier": {"system": self.system, "value": self.value}}


def ei_number(ei: Composite, site: Site) -> Number | None:
    """An EI; None when it is empty."""
    return Number(ei_system(ei, site), ei.text(1)) if ei.text(1) else None


def inner_number(pair: Composite, component: int, site: Site) -> Number | None:
    """An EI that is one component of an EIP, its parts subcomponents; None when it is empty."""
    value = pair.text(component)
    if not value:
        return None
    return Number(authority_system(pair.text(component, 2), pair.text(component, 3), pair.text(component, 4), site), value)


def placer_number(group: OrderGroup, site: Site) -> Number | None:
    """OBR-2, else ORC-2."""
    return _of_order(group, 2, site)


def filler_number(group: OrderGroup, site: Site) -> Number | None:
    """OBR-3, else ORC-3."""
    return _of_order(group, 3, site)


def group_number(group: OrderGroup, site: Site) -> Number | None:
    """ORC-4, the number that several orders share."""
    return ei_number(group.orc.fields.one(4), site) if group.orc is not None else None


def derived_number(*parts: str) -> Number:
    """A number made of others, the same whenever they are the same.

    Standard: RFC 9562 §5.5 (UUID version 5).
    """
    return Number(URI, f"urn:uuid:{uuid.uuid5(_DERIVED, json.dumps(parts))}")


def _of_order(group: OrderGroup, field: int, site: Site) -> Number | None:
    for part in (group.obr, group.orc):
        if part is not None and (number := ei_number(part.fields.one(field), site)) is not None:
            return number
    return None
