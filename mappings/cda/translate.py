"""A CDA document → facts and findings: the checks of its header, then one pass over its body.

Standard: HL7 CDA R2; FHIR R4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo

from hub.formats.cda_header import CdaHeader, read_whole
from hub.model.record_change import ContentRange, ResourceChange
from hub.model.refusals import Finding
from mappings.cda.checks import check
from mappings.cda.scope import Reading
from mappings.cda.templates.attachment import body_content
from mappings.cda.walk import walk
from mappings.cda.xml import Element
from mappings.hl7v2.ucum import Units

MAPPING = "cda@1"
"""Name and version of this translation, for Provenance; a version that says more of a document is a new number."""


@dataclass(frozen=True, slots=True)
class CdaFacts:
    """What a document says beside itself. `inner_content`: the bytes that show it, of level 1 or copied into level 3."""

    facts: tuple[ResourceChange, ...] = ()
    findings: tuple[Finding, ...] = ()
    inner_content: ContentRange | None = None


def translate_cda(
    xml: bytes,
    *,
    tz: tzinfo,
    units: Units,
    event_time: int = 0,
    read: tuple[Element, CdaHeader] | None = None,
    contents: Callable[[Element], ContentRange | None] = lambda _element: None,
    environment: str = "",
) -> CdaFacts:
    """The facts of a document. `event_time` (UTC microseconds) orders what several documents say of one fact; `read` is what
    `read_whole` gave, where it was read already.

    Findings of its header come first; `environment` is that of the hub, for the INS (empty: not checked).

    Raises:
        Unreadable: not a CDA that can be read safely.
    """
    root, header = read if read is not None else read_whole(xml)
    reading = Reading(root, header, tz, units, event_time, contents)
    check(reading, environment)
    if header.body_kind == "N3":
        walk(reading)
    shown = body_content(reading)
    return CdaFacts(tuple(reading.facts), reading.all_findings(), shown)
