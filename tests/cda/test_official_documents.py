"""Every official document against a table of what its XML says: how many facts of each kind, and some exact values.

The tables (`expected/*.toml`, one a family of entries; several may speak of one document) were written by reading the
documents. A row of `has` names a resource by elements that it must hold, as dotted paths (`code.coding.0.code`); `unread` is how
many statements stay in the document: one of the tables says it.
"""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mappings.cda.translate import CdaFacts, translate_cda
from mappings.hl7v2.ucum import Units
from mappings.registry import packaged_table
from mappings.tables import load

SAMPLES = os.environ.get("VAGUEMESTRE_SAMPLES", "")
EXPECTED = {
    (name, file.stem): row
    for file in sorted(Path(__file__).with_name("expected").glob("*.toml"))
    for name, row in tomllib.loads(file.read_text("utf-8")).items()
}
pytestmark = pytest.mark.skipif(not SAMPLES, reason="VAGUEMESTRE_SAMPLES is not set: no official documents here")


@cache
def units() -> Units:
    return Units(load(packaged_table("ucum_units")))


@cache
def translated(name: str) -> CdaFacts:
    xml = (Path(SAMPLES) / "cda" / "examples" / name).read_bytes()
    return translate_cda(xml, tz=ZoneInfo("Europe/Paris"), units=units())


def at(body: Any, path: str) -> Any:
    for step in path.split("."):
        if isinstance(body, list):
            body = body[int(step)] if step.isdigit() and int(step) < len(body) else None
        else:
            body = body.get(step) if isinstance(body, dict) else None
    return body


@pytest.mark.parametrize(("name", "family"), sorted(EXPECTED))
def test_a_document_says_what_its_xml_says(name: str, family: str) -> None:
    facts, row = translated(name), EXPECTED[name, family]
    counted = Counter(fact.type for fact in facts.facts)
    assert {kind: counted[kind] for kind in row.get("counts", {})} == row.get("counts", {})
    unread = [finding.at for finding in facts.findings if finding.code in {"NOT_READ", "NOT_TRANSLATED"}]
    assert len(unread) == row.get("unread", len(unread)), unread
    for wanted in row.get("has", ()):
        kind = wanted["type"]
        rest = {path: value for path, value in wanted.items() if path != "type"}
        alike = [fact.body for fact in facts.facts if fact.type == kind]
        assert any(all(at(body, path) == value for path, value in rest.items()) for body in alike), wanted


def test_no_official_document_is_left_out() -> None:
    there = {file.name for file in (Path(SAMPLES) / "cda" / "examples").glob("*.xml")}
    assert there - {name for (name, _family), row in EXPECTED.items() if "unread" in row} == set()
