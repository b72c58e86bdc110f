"""A CDA as elements: safe parsing, access by short paths, and the XPath under which an element is named.

Standard: HL7 CDA R2; XML namespaces of the French extended schema (sdtc, pharm, lab, ps3-20).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from lxml import etree

Element = etree._Element

V3 = "{urn:hl7-org:v3}"
DOCUMENT = f"{V3}ClinicalDocument"
XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_PREFIXES = {
    "sdtc": "{urn:hl7-org:sdtc}",
    "pharm": "{urn:ihe:pharm:medication}",
    "lab": "{urn:oid:1.3.6.1.4.1.19376.1.3.2}",
    "ps3-20": "{urn:dicom-org:ps3-20}",
}
_EDGES = frozenset(V3 + name for name in ("br", "caption", "item", "list", "paragraph", "table", "td", "th", "tr"))


@lru_cache(maxsize=1024)
def names(path: str) -> str:
    """`section/text`, `pharm:ingredient`, `value/@code` without attribute → the same path with namespaces."""
    return "/".join(_name(step) for step in path.split("/"))


def _name(step: str) -> str:
    prefix, colon, local = step.partition(":")
    if not colon:
        return step if step in {".", ".."} else V3 + step
    return _PREFIXES[prefix] + local


def one(parent: Element | None, path: str) -> Element | None:
    """The first element under `parent` at `path` (steps of the CDA namespace; `pharm:`, `sdtc:`, `lab:`, `ps3-20:`)."""
    if parent is None:
        return None
    return parent.find(names(path)) if _has_steps(path) else next(parent.iterchildren(names(path)), None)


def every(parent: Element | None, path: str) -> list[Element]:
    """All elements under `parent` at `path`."""
    if parent is None:
        return []
    return parent.findall(names(path)) if _has_steps(path) else list(parent.iterchildren(names(path)))


def _has_steps(path: str) -> bool:
    """Whether a path is more than the name of a child, which lxml finds in half the time."""
    return "/" in path or path[0] == "."


def attribute(parent: Element | None, name: str, path: str = "") -> str:
    """An attribute of `parent`, or of the first element at `path` under it, blanks around it removed; empty when absent."""
    found = one(parent, path) if path else parent
    return "" if found is None else found.get(name, "").strip()


def text(element: Element | None) -> str:
    """The text inside, each run of blanks as one; a line break and the edge of a cell, an item, a paragraph is a blank."""
    if element is None:
        return ""
    said = "".join(_pieces(element)) if len(element) else element.text or ""
    return " ".join(said.split())


def _pieces(element: Element) -> Iterator[str]:
    edge = " " if element.tag in _EDGES else ""
    yield edge
    yield element.text or ""
    for child in element:
        yield from _pieces(child)
        yield child.tail or ""
    yield edge


def local_name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def template_ids(element: Element) -> list[str]:
    """Roots of the templates that an element says it keeps to."""
    return [root for template in element.findall(V3 + "templateId") if (root := template.get("root", "").strip())]


def has_template(element: Element, *roots: str) -> bool:
    return any(template.get("root", "").strip() in roots for template in element.findall(V3 + "templateId"))


class Paths:
    """XPaths of the elements of one document: local names, with a position where several siblings have one name."""

    def __init__(self) -> None:
        self._known: dict[Element, str] = {}

    def of(self, element: Element) -> str:
        found = self._known.get(element)
        if found is None:
            parent = element.getparent()
            if parent is None or element.tag == DOCUMENT:
                found = f"/{local_name(element)}"
            else:
                same = parent.findall(element.tag)
                position = f"[{same.index(element) + 1}]" if len(same) > 1 else ""
                found = f"{self.of(parent)}/{local_name(element)}{position}"
            self._known[element] = found
        return found
