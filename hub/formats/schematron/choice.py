"""Which rule file a document wants: the one that it names itself, else that of its template.

Standard: CI-SIS volet Structuration minimale; the processing instruction `oxygen SCHSchema` of the published examples.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from lxml import etree

from hub.formats.cda_header import MAX_BYTES
from hub.formats.cda_header.reading import read_header
from hub.model.refusals import Unreadable

_DOCUMENT = "{urn:hl7-org:v3}ClinicalDocument"
_NAMED = re.compile(r"""SCHSchema\s*=\s*["'](?:[^"']*[/\\])?([^"'/\\]+\.sch)["']""", re.IGNORECASE)
_MODEL = re.compile(r"1\.2\.250\.1\.213\.1\.1\.1\.(?!1$)[0-9.]+")

_ASKED = re.compile(r"""templateId\s*\[\s*@root\s*=\s*(?:"|'|&quot;|&apos;)([0-9.]+)""")
_VERSION = re.compile(r"_([0-9]{4}\.[0-9]{2})$")


@dataclass(frozen=True, slots=True)
class RuleChoice:
    """`named`: file names of its processing instructions. `models`: root and extension of its French model templates.

    `has_body`: a structured body; rules of a document type want one.
    """

    named: tuple[str, ...]
    models: tuple[tuple[str, str], ...]
    has_body: bool


def document_with_choice(xml: bytes) -> tuple[str, RuleChoice]:
    """The ClinicalDocument alone, taken out of a stylesheet that displays it, and what it says of its rules.

    Raises:
        Unreadable: as `hub.formats.cda_header.read_header`, which refuses what is not safe to build a tree of.
    """
    header = read_header(xml, max_bytes=MAX_BYTES)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True)
    try:
        root = etree.fromstring(xml, parser)
    except etree.LxmlError:
        raise Unreadable(at="/", condition="102", sentence="/: not XML that can be read") from None
    document = root if root.tag == _DOCUMENT else root.find(f".//{_DOCUMENT}")
    if document is None:
        raise Unreadable(at="/", condition="102", sentence="/: not a ClinicalDocument")
    instructions = cast("list[etree._ProcessingInstruction]", root.xpath("//processing-instruction('oxygen')"))
    named = [match[1] for one in instructions if (match := _NAMED.search(str(one.text or "")))]
    models = [one for one in header.template_ids if _MODEL.fullmatch(one[0])]
    choice = RuleChoice(tuple(dict.fromkeys(named)), tuple(models), header.body_kind == "N3")
    return etree.tostring(document, encoding="unicode", with_tail=False), choice


def model_of(texts: Iterable[str]) -> str:
    """The French model template that the parts of a rule file ask most often of a document; empty when they ask for none."""
    asked = Counter(found[1] for text in texts for found in _ASKED.finditer(text) if _MODEL.fullmatch(found[1]))
    return asked.most_common(1)[0][0] if asked else ""


def version_of(stem: str) -> str:
    """`2024.01` of `CI-SIS_BIO-TROD_2024.01`; empty when the name ends otherwise."""
    match = _VERSION.search(stem)
    return match[1] if match is not None else ""
