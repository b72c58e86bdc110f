"""XCN and XON: people and structures as FHIR references without a resource of their own.

Standard: IHE France, contraintes sur les types de données 1.8.2; HL7 v2.5.1 §2.A.88, §2.A.89.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from hub.model.identifiers import is_oid
from hub.model.site import Site
from mappings.hl7v2.cx import cx_system
from mappings.hl7v2.line import Composite, Manner
from mappings.national_identifiers import professional_identifier, structure_identifier


def practitioner_reference(xcn: Composite) -> dict[str, Any] | None:
    """An XCN as a logical reference (identifier, name); None when it names nobody.

    The same people are named in many messages: what was made of the last ones is remembered.
    """
    found = _practitioner(*xcn.written)
    return dict(found) if found is not None else None


@lru_cache(maxsize=2048)
def _practitioner(raw: str, manner: Manner) -> dict[str, Any] | None:
    xcn = Composite(manner, raw)
    authority = xcn.text(9, 2) or xcn.text(9)
    identifier = professional_identifier(xcn.text(1), authority if is_oid(authority) else "", xcn.text(13))
    return _reference("Practitioner", identifier, " ".join(name for name in (xcn.text(3), xcn.text(2)) if name))


def organization_reference(xon: Composite, site: Site) -> dict[str, Any] | None:
    """An XON as a logical reference; None when it names nothing."""
    authority = xon.text(6, 2)
    identifier = structure_identifier(xon.text(10) or xon.text(3), authority if is_oid(authority) else "", xon.text(7))
    if identifier is not None and "system" not in identifier:
        identifier["system"] = cx_system(xon, site, component=6)
    return _reference("Organization", identifier, xon.text(1))


def _reference(kind: str, identifier: dict[str, Any] | None, display: str) -> dict[str, Any] | None:
    if identifier is None and not display:
        return None
    reference: dict[str, Any] = {"type": kind}
    if identifier is not None:
        reference["identifier"] = identifier
    if display:
        reference["display"] = display
    return reference
