"""Searching every clinical type: parameters, modifiers, order, what comes along, what was withdrawn."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.model.identifiers import LocalIdentifier
from hub.model.identity import PatientIdentity
from hub.model.record_change import Json, RecordChange, ResourceChange
from hub.model.uids import uid_text
from hub.record import queries
from hub.record.apply import apply
from hub.record.body_filters import has_date, has_quantity
from hub.record.dates import date_of
from hub.record.definitions import PARAMETERS
from hub.record.identity import resolve
from hub.record.masking import Viewer
from hub.record.page import Page, SearchRefused
from hub.record.rendering import STATE_SYSTEM
from hub.record.subsets import _TABLE, shortened

SYSTEM, LOINC, UCUM = "urn:oid:1.2.250.1.999.7", "http://loinc.org", "http://unitsofmeasure.org"
READER = Viewer()


class Chart:
    """A record that is told single resources, and asked."""

    def __init__(self, tx: Any) -> None:
        self.tx, self._numbers, self.now = tx, count(1_795_000_000_000 << 16), 1_795_000_000_000_000
        self.patients: dict[str, str] = {}

    def tell(self, *told: ResourceChange, who: str = "P1") -> None:
        identity = PatientIdentity(
            (LocalIdentifier("urn:oid:1.2.250.1.999.1", who),), birth_name="ESSAI", birth_date="19800101", sex="F"
        )
        number, self.now = next(self._numbers), self.now + 1_000_000
        more: dict[str, Any] = {"next_id": lambda: next(self._numbers), "now_us": self.now}
        found = resolve(self.tx, identity, message_id=number, **more).patient_id
        assert found is not None
        self.patients[who] = uid_text(found)
        change = RecordChange("test@1", identity, {"active": True}, resources=told)
        apply(self.tx, change, patient_id=found, message_id=number, source="dpi", **more)

    def page(self, kind: str, *params: tuple[str, str], who: str = "P1", viewer: Viewer = READER, **more: Any) -> Page:
        return queries.search(self.tx, kind, [("patient", self.patients[who]), *params], viewer=viewer, **more)

    def keys(self, kind: str, *params: tuple[str, str], **more: Any) -> list[str]:
        return [one["identifier"][0]["value"] for one in self.page(kind, *params, **more).entries]


def fact(kind: str, key: str, **body: Any) -> ResourceChange:
    numbers = [{"system": SYSTEM, "value": key}, *body.pop("more_numbers", ())]
    return ResourceChange(kind, f"{SYSTEM}|{key}", {"identifier": numbers, **body}, f"entry[{key}]")


def code(system: str, value: str, text: str = "") -> Json:
    return {"coding": [{"system": system, "code": value}], **({"text": text} if text else {})}


def to(kind: str, key: str) -> Json:
    return {"type": kind, "identifier": {"system": SYSTEM, "value": key}}


STATUS = "http://terminology.hl7.org/CodeSystem/condition-clinical"
CERTAIN = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
VITAL = code("http://terminology.hl7.org/CodeSystem/observation-category", "vital-signs")
LAB = code("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory")


def observation(key: str, analysis: str, value: float, taken: str, category: Json = LAB, **more: Any) -> ResourceChange:
    quantity = {"value": value, "unit": "g/dL", "system": UCUM, "code": "g/dL", **more.pop("quantity", {})}
    return fact(
        "Observation",
        key,
        status="final",
        code=code(LOINC, analysis),
        category=[category],
        effectiveDateTime=taken,
        valueQuantity=quantity,
        **more,
    )


@pytest.fixture
def chart(engine: Any) -> Chart:
    chart = Chart(engine.empty())
    chart.tell(
        fact("Encounter", "S1", status="finished", **{"class": {"code": "IMP"}}, period={"start": "2026-01-01"}),
        observation(
            "O1", "718-7", 9.5, "2026-01-02T08:00:00+01:00", interpretation=[code("urn:h", "L")], encounter=to("Encounter", "S1")
        ),
        observation("O2", "718-7", 13, "2026-02-02", specimen=to("Specimen", "E1")),
        observation("O3", "718-7", 15, "2026-03-02", quantity={"comparator": ">"}),
        observation("O4", "8867-4", 80, "2026-03-01", VITAL, quantity={"unit": "/min", "code": "/min"}),
        fact("Specimen", "E1", status="available", type=code("urn:s", "BLD"), collection={"collectedDateTime": "2026-02-02"}),
        fact(
            "DiagnosticReport",
            "R1",
            status="final",
            code=code(LOINC, "58410-2"),
            result=[to("Observation", "O1"), to("Observation", "O2")],
        ),
        fact(
            "Condition",
            "C1",
            clinicalStatus=code(STATUS, "active"),
            verificationStatus=code(CERTAIN, "confirmed"),
            code=code("urn:icd", "I10"),
            onsetDateTime="2019",
        ),
        fact(
            "Condition",
            "C2",
            clinicalStatus=code(STATUS, "resolved"),
            code=code("urn:icd", "J18"),
            onsetPeriod={"start": "2010-02", "end": "2010-03"},
        ),
        fact(
            "MedicationRequest",
            "M1",
            status="active",
            intent="order",
            medicationCodeableConcept=code("urn:atc", "C07"),
            authoredOn="2026-01-05",
            more_numbers=[{"system": "urn:line", "value": "L-7"}],
        ),
        fact(
            "MedicationDispense",
            "D1",
            status="completed",
            medicationCodeableConcept=code("urn:atc", "C07"),
            whenHandedOver="2026-01-06",
            authorizingPrescription=[{"type": "MedicationRequest", "identifier": {"system": "urn:line", "value": "L-7"}}],
        ),
        fact(
            "Immunization",
            "V1",
            status="completed",
            vaccineCode=code("urn:cis", "61"),
            occurrenceDateTime="2025-10-10",
            lotNumber="AB12",
        ),
        fact("Immunization", "V2", status="not-done", vaccineCode=code("urn:cis", "61"), occurrenceDateTime="2026-10-10"),
    )
    return chart


@pytest.mark.parametrize(
    ("kind", "params", "keys"),
    [
        ("Observation", [("code", f"{LOINC}|718-7"), ("_sort", "-date")], ["O3", "O2", "O1"]),
        ("Observation", [("code", "718-7"), ("_sort", "date")], ["O1", "O2", "O3"]),
        ("Observation", [("category", "laboratory")], ["O3", "O2", "O1"]),
        ("Observation", [("category", "vital-signs")], ["O4"]),
        ("Observation", [("category", f"{LOINC}|vital-signs")], []),
        ("Observation", [("code:not", "718-7")], ["O4"]),
        ("Observation", [("interpretation", "L,LL")], ["O1"]),
        ("Observation", [("interpretation:missing", "true")], ["O3", "O4", "O2"]),
        ("Observation", [("value-quantity", f"lt13|{UCUM}|g/dL")], ["O1"]),
        ("Observation", [("value-quantity", "ge13||g/dL")], ["O3", "O2"]),
        ("Observation", [("value-quantity", "13")], ["O2"]),
        ("Observation", [("value-quantity", "gt20||g/dL")], []),
        ("Observation", [("date", "ge2026-02"), ("date", "lt2026-03")], ["O2"]),
        ("Condition", [("clinical-status", "active")], ["C1"]),
        ("Condition", [("clinical-status:not", "active")], ["C2"]),
        ("Condition", [("verification-status:missing", "false")], ["C1"]),
        ("Condition", [("onset-date", "2010")], ["C2"]),
        ("Condition", [("onset-date", "lt2010-02-15")], ["C2"]),
        ("Condition", [("code", "urn:icd|I10,urn:icd|J18")], ["C1", "C2"]),
        ("MedicationRequest", [("status", "active"), ("intent", "order")], ["M1"]),
        ("MedicationDispense", [("whenhandedover", "2026-01")], ["D1"]),
        ("MedicationDispense", [("code", "C07")], ["D1"]),
        ("Immunization", [("vaccine-code", "urn:cis|61")], ["V2", "V1"]),
        ("Immunization", [("status:not", "not-done")], ["V1"]),
        ("Immunization", [("lot-number", "ab")], ["V1"]),
        ("Immunization", [("lot-number:exact", "ab12")], []),
        ("Immunization", [("lot-number:exact", "AB12")], ["V1"]),
        ("Immunization", [("_sort", "-_lastUpdated"), ("_count", "9")], ["V2", "V1"]),
    ],
)
def test_parameters_find_what_they_say(chart: Chart, kind: str, params: list[tuple[str, str]], keys: list[str]) -> None:
    assert chart.keys(kind, *params) == keys
    assert chart.page(kind, *params, ("_total", "accurate")).total == len(keys)
    assert chart.page(kind, *params, count=0).total == len(keys)
    if len(keys) > 1:  # and page by page
        after, seen = "", list[str]()
        for _ in keys:
            page = chart.page(kind, *params, count=1, after=after)
            seen += [one["identifier"][0]["value"] for one in page.entries]
            after = page.after or ""
        assert seen == keys and not after


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("Observation", "code:text", "xyzzy"),
        ("Observation", "date:not", "2026"),
        ("Observation", "code:missing", "perhaps"),
        ("Observation", "value-quantity", "lots"),
        ("Condition", "onset-date", "soon"),
        ("DocumentReference", "isArchived", "maybe"),
        ("Observation", "_include:iterate", "Observation:specimen"),
        ("Observation", "_include", "Observation:performer"),
        ("Observation", "_include", "Specimen:parent"),
        ("Observation", "_revinclude", "Observation:patient"),
        ("Observation", "_total", "roughly"),
        ("Patient", "gender:not", "male"),
    ],
)
def test_what_is_not_supported_is_refused(chart: Chart, kind: str, name: str, value: str) -> None:
    with pytest.raises(SearchRefused) as refused:
        queries.search(chart.tx, kind, [(name, value)] + [("patient", chart.patients["P1"])] * (kind != "Patient"), viewer=READER)
    assert value not in str(refused.value)


def test_what_bodies_tell_is_asked_of_a_patient(chart: Chart) -> None:
    with pytest.raises(SearchRefused, match="patient"):
        queries.search(chart.tx, "Condition", [("clinical-status", "active")], viewer=READER)
    assert queries.search(chart.tx, "Condition", [("_sort", "-onset-date")], viewer=READER).unknown == ("_sort",)


def test_what_belongs_together_comes_along(chart: Chart) -> None:
    page = chart.page("DiagnosticReport", ("_include", "DiagnosticReport:result"), ("_include", "DiagnosticReport:patient"))
    assert sorted(one["resourceType"] for one in page.included) == ["Observation", "Observation", "Patient"]
    back = chart.page(
        "Observation", ("identifier", "O2"), ("_revinclude", "DiagnosticReport:result"), ("_include", "Observation:specimen")
    )
    assert sorted(one["resourceType"] for one in back.included) == ["DiagnosticReport", "Specimen"]
    origins = chart.page("Observation", ("_revinclude", "Provenance:target"), ("_count", "9"))
    assert {one["resourceType"] for one in origins.included} == {"Provenance"} and len(origins.included) == 4
    only = chart.page("DiagnosticReport", ("_include", "DiagnosticReport:result:Specimen"))
    assert only.included == ()


def test_a_dispensation_is_found_by_the_line_that_it_names(chart: Chart) -> None:
    request = chart.page("MedicationRequest").entries[0]
    dispense = chart.page("MedicationDispense", ("prescription", f"MedicationRequest/{request['id']}")).entries[0]
    assert dispense["authorizingPrescription"][0]["reference"] == f"MedicationRequest/{request['id']}"
    assert chart.page("MedicationRequest", ("_revinclude", "MedicationDispense:prescription")).included[0]["id"] == dispense["id"]
    assert chart.keys("MedicationDispense", ("prescription", f"MedicationStatement/{request['id']}")) == []


def test_what_is_about_somebody_else_is_not_found_by_its_code(chart: Chart) -> None:
    chart.tell(observation("MOTHER", "718-7", 11, "2026-04-01", focus=[{"display": "mère"}]))
    assert chart.keys("Observation", ("code", "718-7")) == ["O3", "O2", "O1"]
    assert "MOTHER" not in chart.keys("Observation", ("category", "laboratory"))
    assert chart.keys("Observation", ("focus:missing", "false")) == ["MOTHER"]


def test_references_stay_with_one_person(chart: Chart) -> None:
    chart.tell(fact("DiagnosticReport", "R9", status="final", code=code(LOINC, "1"), result=[to("Observation", "O1")]), who="P2")
    page = chart.page("DiagnosticReport", ("_include", "DiagnosticReport:result"), who="P2")
    assert "reference" not in page.entries[0]["result"][0] and page.included == ()
    observed = chart.page("Observation", ("identifier", "O1")).entries[0]["id"]
    assert (
        queries.search(chart.tx, "DiagnosticReport", [("result", observed)], viewer=READER).entries[0]["identifier"][0]["value"]
        == "R1"
    )
    assert len(chart.page("Observation", ("identifier", "O1"), ("_revinclude", "DiagnosticReport:result")).included) == 1


@pytest.mark.parametrize("kind", sorted(set(PARAMETERS) - {"DocumentReference", "Encounter", "Appointment"}))
def test_what_was_withdrawn_is_found_when_it_is_asked_for(chart: Chart, kind: str) -> None:
    chart.tell(fact(kind, "GONE", status="entered-in-error"))
    assert "GONE" not in chart.keys(kind) and chart.page(kind, ("_total", "accurate"), ("identifier", "GONE")).total == 0
    name = {"Condition": "verification-status", "AllergyIntolerance": "verification-status", "Goal": "lifecycle-status"}.get(
        kind, "status"
    )
    if kind not in ("Condition", "AllergyIntolerance", "Goal", "ImmunizationRecommendation"):
        assert chart.keys(kind, (name, "entered-in-error")) == ["GONE"]
        assert "GONE" not in chart.keys(kind, (f"{name}:not", "final"))
    if kind == "ImmunizationRecommendation":
        number = chart.tx.row("SELECT id FROM resource WHERE type = ? AND status = 'entered-in-error'", kind)[0]
        found = queries.read(chart.tx, kind, uid_text(number), viewer=READER)
        assert found is not None and found["meta"]["tag"] == [{"system": STATE_SYSTEM, "code": "entered-in-error"}]
        assert found["patient"]["reference"] == f"Patient/{chart.patients['P1']}"


def test_documents_are_found_by_their_metadata(chart: Chart) -> None:
    body = {
        "type": code(LOINC, "11502-2"),
        "description": "Compte rendu d'hémogramme",
        "author": [{"reference": "#a"}],
        "contained": [
            {
                "resourceType": "Practitioner",
                "id": "a",
                "name": [{"family": "Guérineau"}],
                "identifier": [{"system": "urn:rpps", "value": "1"}],
            }
        ],
        "context": {
            "period": {"start": "2026-01-01", "end": "2026-01-09"},
            "practiceSetting": code("urn:j04", "AMBULATOIRE"),
            "related": [{"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}}],
        },
        "content": [{"format": {"system": "urn:fmt", "code": "urn:ihe:pcc"}, "attachment": {"creation": "2026-01-10"}}],
    }
    chart.tell(
        ResourceChange(
            "DocumentReference",
            "urn:oid:1.9",
            {
                "status": "current",
                "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.9"},
                "date": "2026-01-11",
                **body,
            },
            "OBX",
        )
    )
    for name, value, there in (
        ("setting", "AMBULATOIRE", True),
        ("facility", "SA01", False),
        ("period", "ge2026-01-05", True),
        ("period", "gt2026-02", False),
        ("period", "2026-01", True),
        ("creation", "2026-01-10", True),
        ("format", "urn:fmt|urn:ihe:pcc", True),
        ("author.family", "guerin", True),
        ("author.identifier", "urn:rpps|1", True),
        ("author.identifier", "urn:rpps|2", False),
        ("description", "compte", True),
        ("description:exact", "Compte", False),
        ("related", "urn:oid:1.2.3", True),
        ("isArchived", "false", True),
        ("isArchived", "true", False),
        ("security-label", "V", False),
        ("relatesto:missing", "true", True),
    ):
        assert bool(chart.page("DocumentReference", (name, value), ("status", "current")).entries) is there, (name, value)


# ---- parts of a resource ----


def test_views_keep_what_fhir_requires(chart: Chart) -> None:
    whole = chart.page("Observation", ("identifier", "O1")).entries[0]
    for params, shown, left in (
        ([("_elements", "effectiveDateTime")], {"effectiveDateTime", "status", "code"}, {"category", "valueQuantity", "subject"}),
        ([("_summary", "true")], {"valueQuantity", "subject", "code"}, {"category"}),
        ([("_summary", "text")], {"status", "code"}, {"valueQuantity"}),
        ([("_summary", "data")], {"category", "valueQuantity"}, {"text"}),
    ):
        shorten = shortened(params)
        assert shorten is not None
        short = shorten(whole)
        assert shown <= short.keys() and not left & short.keys() and short["meta"]["tag"][0]["code"] == "SUBSETTED"
        get_fhir_model_class("Observation").model_validate(short)
    assert shortened([("_summary", "false")]) is None
    for wrong in (
        [("_summary", "brief")],
        [("_summary", "true"), ("_elements", "x")],
        [("_summary", "text"), ("_include", "a:b")],
    ):
        with pytest.raises(SearchRefused):
            shortened(wrong)


@pytest.mark.parametrize("kind", sorted(_TABLE))
def test_summaries_are_those_of_fhir(kind: str) -> None:
    elements = {
        field.alias or name: field.json_schema_extra or {}
        for name, field in get_fhir_model_class(kind).model_fields.items()
        if isinstance(field.json_schema_extra, dict)
    }
    summary = {name for name, told in elements.items() if told.get("summary_element_property")} - {"id", "meta", "implicitRules"}
    required = {name for name, told in elements.items() if told.get("element_required") or told.get("one_of_many_required")}
    assert _TABLE[kind]["summary"] == summary and required <= _TABLE[kind]["required"] <= elements.keys()


# ---- values, any ----


@pytest.mark.parametrize(
    ("body", "date"),
    [
        ({"performedPeriod": {"start": "2026-01", "end": "2026-02"}}, "2026-01"),
        ({"performedPeriod": {"end": "2026-02"}}, "2026-02"),
        ({"requestedPeriod": [{"start": "2026-03"}], "comment": "x"}, "2026-03"),
        ({"onsetDateTime": "2019", "recordedDate": "2020"}, "2019"),
        ({"authoredOn": "2026-04", "occurrenceDateTime": "2026-05"}, "2026-04"),
        ({"occurrenceString": "unknown"}, ""),
    ],
)
def test_every_type_has_its_date(body: Json, date: str) -> None:
    assert date_of(body) == date


@given(st.text(st.characters(codec="utf-8"), max_size=12), st.sampled_from(["", "lt", "ge", "ap", "ne"]))
@settings(max_examples=60)
def test_a_quantity_is_understood_or_refused(text: str, prefix: str) -> None:
    try:
        keep = has_quantity("value-quantity", ("valueQuantity",), [prefix + text])
    except SearchRefused:
        return
    for body in ({}, {"valueQuantity": {"value": 1}}, {"valueQuantity": {"value": "x"}}, {"valueQuantity": {"comparator": "<"}}):
        assert keep(body) in (True, False)


@given(st.dates(), st.dates(), st.dates())
@settings(max_examples=40)
def test_prefixes_of_dates_divide_the_line(asked: Any, one: Any, other: Any) -> None:
    start, end = sorted((one, other))
    body = {"p": {"start": start.isoformat(), "end": end.isoformat()}}
    said = {
        prefix: has_date("d", ("p",), [(prefix, asked.isoformat())])(body)
        for prefix in ("eq", "ne", "gt", "lt", "sa", "eb", "ge", "le")
    }
    assert said["eq"] is not said["ne"] and said["eq"] is (start == end == asked)
    assert said["sa"] is (start > asked) and said["eb"] is (end < asked)
    assert said["gt"] is (end > asked) and said["lt"] is (start < asked)
