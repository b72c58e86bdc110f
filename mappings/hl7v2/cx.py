"""CX, EI, HD: numbers and the authorities that give them.

One naming of authorities, used wherever an identifier of HL7 v2 enters the record:

| authority (CX-4, EI-2…4) | FHIR system |
|---|---|
| universal id is an OID (type ISO or not told), or the namespace itself is one | `urn:oid:<oid>` |
| universal id is a UUID (type UUID, GUID) | `urn:uuid:<uuid>` |
| any other universal id (FINESS as M or N, local L, …) | `urn:vaguemestre:authority:<universal id>` |
| only a namespace | `urn:vaguemestre:authority:<namespace>` |
| nothing | `urn:vaguemestre:source:<name of the source>` |

Standard: HL7 v2.5.1 §2.A.14 (CX), §2.A.28 (EI), §2.A.33 (HD); IHE France, contraintes sur les types de données 1.8.2.
"""

from __future__ import annotations

import re
from functools import lru_cache

from hub.model.identifiers import is_oid
from hub.model.site import Site
from mappings.hl7v2.line import Composite

_NOT_IN_A_URN = re.compile(r"[^A-Za-z0-9._~-]")


def source_system(site: Site) -> str:
    """The system of numbers that name no authority: the source's own."""
    return f"urn:vaguemestre:source:{_quoted(site.source)}"


@lru_cache(maxsize=4096)
def _system(namespace: str, universal_id: str, universal_type: str) -> str:
    if is_oid(universal_id):
        return f"urn:oid:{universal_id}"
    if universal_id:
        if universal_type.upper() in ("UUID", "GUID"):
            return f"urn:uuid:{_quoted(universal_id.lower())}"
        return f"urn:vaguemestre:authority:{_quoted(universal_id)}"
    if is_oid(namespace):
        return f"urn:oid:{namespace}"
    return f"urn:vaguemestre:authority:{_quoted(namespace)}" if namespace else ""


def authority_system(namespace: str, universal_id: str, universal_type: str, site: Site) -> str:
    """The FHIR system of an authority given as HD, by the table above."""
    return _system(namespace, universal_id, universal_type) or source_system(site)


def cx_system(value: Composite, site: Site, *, component: int = 4) -> str:
    """The FHIR system of the HD that stands in one component: CX-4, XON-6, PL-4."""
    return authority_system(value.text(component), value.text(component, 2), value.text(component, 3), site)


def ei_system(value: Composite, site: Site) -> str:
    """The FHIR system of an EI, whose authority lies in components 2 to 4."""
    return authority_system(value.text(2), value.text(3), value.text(4), site)


def _quoted(text: str) -> str:
    """Percent-encoded, for the tail of a URN (RFC 3986 §2.1)."""
    return _NOT_IN_A_URN.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode(errors="replace")), text)
