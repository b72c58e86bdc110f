"""Reading an SVRL report.

Standard: ISO/IEC 19757-3:2016 Annex D.
"""

from __future__ import annotations

from dataclasses import dataclass

from lxml import etree

from hub.formats.schematron.schema import Level

_SVRL = "{http://purl.oclc.org/dsdl/svrl}"


@dataclass(frozen=True, slots=True)
class Failed:
    """One failed assertion, successful report, or rule that could not be evaluated (`error` is then its XPath error code)."""

    level: Level
    at: str
    sentence: str
    error: str = ""


def read_svrl(report: str) -> list[Failed]:
    """What a report tells, in its order."""
    root = etree.fromstring(report.encode(), etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True))
    found: list[Failed] = []
    for element in root.iterchildren(f"{_SVRL}failed-assert", f"{_SVRL}successful-report", f"{_SVRL}error"):
        at = element.get("location", "/")
        if element.tag == f"{_SVRL}error":
            found.append(Failed(Level.WARNING, at, "", error=element.get("code", "")))
        else:
            text = element.findtext(f"{_SVRL}text") or ""
            found.append(Failed(Level(element.get("role", Level.ERROR)), at, " ".join(text.split())))
    return found
