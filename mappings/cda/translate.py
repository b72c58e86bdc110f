"""A CDA document → facts and findings: one pass over its body, then the checks of its header.

Standard: HL7 CDA R2; FHIR R4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo

from hub.formats.cda_header import CdaHeader, read_header
from hub.model.record_change import ContentRange, ResourceChange
from hub.model.refusals import Finding
from mappings.cda.scope import Reading
from mappings.cda.walk import walk
from mappings.cda.xml import V3, Element, attribute, has_template, one, parse
from mappings.hl7v2.ucum import Units

MAPPING = "cda@1"
"""Name and version of this translation, for Provenance; a version that says more of a document is a new number."""
COPY_OF_DOCUMENT = "1.2.250.1.213.1.1.2.243"


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
    header: CdaHeader | None = None,
    contents: Callable[[Element], ContentRange | None] = lambda _element: None,
) -> CdaFacts:
    """The facts of a document. `event_time` (UTC microseconds) orders what several documents say of one fact.

    Raises:
        Unreadable: not a CDA that can be read safely.
    """
    header = header if header is not None else read_header(xml)
    reading = Reading(parse(xml), header, tz, units, event_time, contents)
    if header.body_kind == "N3":
        walk(reading)
    return CdaFacts(tuple(reading.facts), reading.all_findings(), _inner_content(reading))


def _inner_content(reading: Reading) -> ContentRange | None:
    """nonXMLBody/text in Base64, else the first copy of the document.

    Standard: CI-SIS, section « copie du document » 1.2.250.1.213.1.1.2.243.
    """
    shown = one(reading.root, "component/nonXMLBody/text")
    if shown is None:
        copies = (section for section in reading.root.iter(f"{V3}section") if has_template(section, COPY_OF_DOCUMENT))
        found = (media.find(f"{V3}value") for section in copies for media in section.iter(f"{V3}observationMedia"))
        shown = next((value for value in found if value is not None), None)
    return reading.contents(shown) if shown is not None and attribute(shown, "representation") == "B64" else None
