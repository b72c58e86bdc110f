"""Every fact of every official document: valid FHIR R4, led to by its XPath, known by a number of its own."""

from __future__ import annotations

import importlib
import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from lxml import etree

from mappings.cda.translate import CdaFacts, translate_cda
from mappings.hl7v2.ucum import Units
from mappings.registry import packaged_table
from mappings.tables import load

SAMPLES = Path(os.environ.get("VAGUEMESTRE_SAMPLES", ""), "cda", "examples")
NAMES = sorted(file.name for file in SAMPLES.glob("*.xml")) if os.environ.get("VAGUEMESTRE_SAMPLES") else []
pytestmark = pytest.mark.skipif(not NAMES, reason="VAGUEMESTRE_SAMPLES is not set: no official documents here")

SUBJECT = {
    "AllergyIntolerance": "patient",
    "Immunization": "patient",
    "ImmunizationRecommendation": "patient",
    "FamilyMemberHistory": "patient",
    "Appointment": "",
}
ELSEWHERE = frozenset({"Encounter", "MedicationRequest"})  # the stay, and what a dispensation fulfils, are told by others
PATIENT = {"reference": "Patient/1"}


@cache
def units() -> Units:
    return Units(load(packaged_table("ucum_units")))


@cache
def translated(name: str) -> CdaFacts:
    return translate_cda((SAMPLES / name).read_bytes(), tz=ZoneInfo("Europe/Paris"), units=units())


def references(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, list):
        for one in part:
            yield from references(one)
    elif isinstance(part, dict):
        if isinstance(part.get("type"), str) and "identifier" in part and isinstance(part["identifier"], dict):
            yield part
        for one in part.values():
            yield from references(one)


def contained(body: dict[str, Any]) -> Iterator[str]:
    return (f"#{one['id']}" for one in body.get("contained", ()))


def local_references(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for one in part:
            yield from local_references(one)
    elif isinstance(part, dict):
        reference = part.get("reference")
        if isinstance(reference, str):
            yield reference
        for one in part.values():
            yield from local_references(one)


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_is_valid_r4(name: str) -> None:
    for fact in translated(name).facts:
        body = {"resourceType": fact.type, "id": "x", **fact.body}
        if (subject := SUBJECT.get(fact.type, "subject")) and subject not in body:
            body[subject] = PATIENT
        if fact.type == "Appointment":
            body["participant"] = [*body.get("participant", ()), {"actor": PATIENT, "status": "accepted"}]
        module = importlib.import_module(f"fhir.resources.R4B.{fact.type.lower()}")
        getattr(module, fact.type).model_validate(body)


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_is_where_it_says_and_told_once(name: str) -> None:
    root = etree.fromstring((SAMPLES / name).read_bytes(), etree.XMLParser(huge_tree=True))
    document = root if root.tag.endswith("ClinicalDocument") else root.find("{urn:hl7-org:v3}ClinicalDocument")
    facts = translated(name).facts
    for fact in facts:
        path = "".join(
            f"/*[local-name()='{step.partition('[')[0]}']{'[' + step.partition('[')[2] if '[' in step else ''}"
            for step in fact.path.split("/")[2:]
        )
        assert document is not None and len(document.xpath("." + path) if path else [document]) == 1, fact.path
    doubled = [key for key, n in Counter((fact.type, fact.key) for fact in facts).items() if n > 1]
    assert doubled == []


@pytest.mark.parametrize("name", NAMES)
def test_what_a_fact_refers_to_is_there(name: str) -> None:
    facts = translated(name).facts
    told = {(fact.type, one.get("system"), one.get("value")) for fact in facts for one in fact.body.get("identifier", ())}
    told |= {(fact.type, *fact.key.split("|", 1)) for fact in facts}
    for fact in facts:
        for reference in references(fact.body):
            number = reference["identifier"]
            if reference["type"] in ELSEWHERE:
                continue
            if number.get("system") == "urn:ietf:rfc:3986" and str(number.get("value")).startswith("urn:uuid:"):
                assert (reference["type"], number["system"], number["value"]) in told, (fact.path, reference["type"])
        assert set(local_references(fact.body)) <= {*contained(fact.body), "#"}, fact.path
