"""One patient as a whole: everything in slices, the summary, the newest of each analysis, and what changed since."""

from __future__ import annotations

from itertools import count
from typing import Any
from xml.etree import ElementTree

import pytest
from fhir.resources.R4B import get_fhir_model_class

from hub.model.identifiers import LocalIdentifier
from hub.model.identity import PatientIdentity
from hub.model.record_change import Json, RecordChange, ResourceChange
from hub.model.uids import uid_number, uid_text
from hub.record.apply import apply
from hub.record.changes import changes_since
from hub.record.everything import everything, slice_of
from hub.record.identity import resolve
from hub.record.instants import instant
from hub.record.lastn import lastn
from hub.record.masking import Viewer
from hub.record.merging import merge
from hub.record.page import SearchRefused
from hub.record.summary import summary

SYSTEM, LOINC = "urn:oid:1.2.250.1.999.7", "http://loinc.org"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
READER = Viewer()


class Chart:
    """A record that is told single resources."""

    def __init__(self, tx: Any) -> None:
        self.tx, self._numbers, self.now = tx, count(1_795_000_000_000 << 16), 1_795_000_000_000_000
        self.patients: dict[str, str] = {}

    def tell(self, *told: ResourceChange, who: str = "P1") -> None:
        local = LocalIdentifier("urn:oid:1.2.250.1.999.1", who)
        identity = PatientIdentity((local,), birth_name=f"ESSAI {who}", birth_date="19800101", sex="F")
        number, self.now = next(self._numbers), self.now + 1_000_000
        more: dict[str, Any] = {"next_id": lambda: next(self._numbers), "now_us": self.now}
        found = resolve(self.tx, identity, message_id=number, **more).patient_id
        assert found is not None
        self.patients[who] = uid_text(found)
        change = RecordChange("test@1", identity, {"active": True}, resources=told)
        apply(self.tx, change, patient_id=found, message_id=number, source="dpi", **more)

    def merge(self, survivor: str, prior: str) -> None:
        one, other = (uid_number(self.patients[who]) for who in (survivor, prior))
        merge(self.tx, one, other, actor="test", message_id=None, next_id=lambda: next(self._numbers), now_us=self.now)

    def everything(self, *params: tuple[str, str], who: str = "P1", count: int = 2, viewer: Viewer = READER) -> list[Json]:
        asked = everything(self.tx, self.patients[who], params, viewer)
        assert asked is not None
        found: list[Json] = []
        after: str | None = ""
        while after is not None:
            one = slice_of(self.tx, asked, viewer, count=count, after=after)
            assert len(one.entries) <= count
            found, after = [*found, *one.entries], one.after
        return found

    def lastn(self, *params: tuple[str, str], who: str = "P1") -> list[tuple[str, float]]:
        found = lastn(self.tx, [("patient", self.patients[who]), *params], READER).entries
        return [(one["code"]["coding"][0]["code"], one["valueQuantity"]["value"]) for one in found]


def observation(key: str, value: float, taken: str, *codes: str, category: str = "laboratory") -> ResourceChange:
    body = {
        "identifier": [{"system": SYSTEM, "value": key}],
        "status": "final",
        "category": [{"coding": [{"system": CATEGORY, "code": category}]}],
        "code": {"coding": [{"system": LOINC, "code": code} for code in codes]},
        "effectiveDateTime": taken,
        "valueQuantity": {"value": value, "unit": "g/dL"},
    }
    return ResourceChange("Observation", f"{SYSTEM}|{key}", body, "entry")


def fact(kind: str, key: str, **body: Any) -> ResourceChange:
    return ResourceChange(kind, f"{SYSTEM}|{key}", {"identifier": [{"system": SYSTEM, "value": key}], **body}, "entry")


@pytest.fixture
def chart(engine: Any) -> Chart:
    chart = Chart(engine.empty())
    chart.tell(
        observation("O1", 11, "2026-01-01", "718-7"),
        observation("O2", 12, "2026-02-01", "718-7", "L1"),
        observation("O3", 13, "2026-03-01", "718-7", "L2"),
        observation("O4", 70, "2026-02-15", "8867-4", category="vital-signs"),
        fact("Condition", "C1", code={"text": "Asthme <b>&"}, clinicalStatus={"coding": [{"code": "active"}]}),
        fact("Condition", "C2", code={"text": "Otite"}, clinicalStatus={"coding": [{"code": "resolved"}]}, onsetDateTime="2001"),
        fact("Procedure", "GONE", status="entered-in-error", code={"text": "x"}),
    )
    return chart


# ---- everything ----


def test_everything_comes_once_whatever_the_slice(chart: Chart) -> None:
    for size in (1, 2, 3, 100):
        found = chart.everything(count=size)
        assert [one["resourceType"] for one in found] == ["Patient", "Condition", "Condition"] + ["Observation"] * 4
        assert len({one["id"] for one in found}) == 7


def test_everything_takes_a_period_types_and_a_time(chart: Chart) -> None:
    period = chart.everything(("start", "2026-02"), ("end", "2026-02-10"))
    assert sorted(one["resourceType"] for one in period) == ["Condition", "Observation", "Patient"]  # one has no date
    assert [one["resourceType"] for one in chart.everything(("_type", "Condition,Patient"))] == [
        "Patient",
        "Condition",
        "Condition",
    ]
    chart.tell(observation("O9", 1, "2020", "1-1"))
    since = chart.everything(("_since", instant(chart.now)), ("_type", "Observation"))
    assert [one["identifier"][0]["value"] for one in since] == ["O9"]
    for wrong in (("start", "soon"), ("_type", "Medication"), ("_since", "x")):
        with pytest.raises(SearchRefused):
            everything(chart.tx, chart.patients["P1"], [wrong], READER)
    assert everything(chart.tx, uid_text(5), [], READER) is None
    with pytest.raises(SearchRefused):
        asked = everything(chart.tx, chart.patients["P1"], [], READER)
        assert asked is not None
        slice_of(chart.tx, asked, READER, count=1, after="9999~~1")


def test_everything_of_a_merged_patient_is_one_persons(chart: Chart) -> None:
    chart.tell(observation("P2-1", 5, "2026-05-01", "718-7"), who="P2")
    chart.merge("P1", "P2")
    for who in ("P1", "P2"):
        found = chart.everything(who=who)
        assert len(found) == 8 + (sum(one["resourceType"] == "Patient" for one in found) - 1)
        subjects = {one["subject"]["reference"] for one in found if "subject" in one}
        assert subjects == {f"Patient/{chart.patients['P1']}"}
        assert chart.lastn(("code", "718-7"), who=who) == [("718-7", 5)]
        assert chart.lastn(who=who)[0] == ("718-7", 5) and len(chart.lastn(who=who)) == 2


# ---- lastn ----


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ([], [("718-7", 13), ("8867-4", 70)]),
        ([("max", "2")], [("718-7", 13), ("718-7", 12), ("8867-4", 70)]),
        ([("category", "laboratory")], [("718-7", 13)]),
        ([("category", "vital-signs")], [("8867-4", 70)]),
        ([("code", f"{LOINC}|718-7,8867-4")], [("718-7", 13), ("8867-4", 70)]),
        ([("code", "urn:other|718-7")], []),
        ([("date", "lt2026-02-10")], [("718-7", 12)]),
    ],
)
def test_the_newest_of_each_code(chart: Chart, params: list[tuple[str, str]], found: list[tuple[str, float]]) -> None:
    assert chart.lastn(*params) == found


@pytest.mark.parametrize("params", [[("max", "0")], [("max", "many")], [("subject", "x")], [("date", "soon")]])
def test_lastn_refuses(chart: Chart, params: list[tuple[str, str]]) -> None:
    with pytest.raises(SearchRefused):
        chart.lastn(*params)
    with pytest.raises(SearchRefused):
        lastn(chart.tx, [("code", "718-7")], READER)


# ---- summary ----


def test_the_summary_is_an_ips_document(chart: Chart) -> None:
    chart.tell(
        fact("AllergyIntolerance", "A1", code={"text": "Pénicilline"}, verificationStatus={"coding": [{"code": "refuted"}]}),
        fact("Immunization", "V1", status="completed", vaccineCode={"text": "ROR"}, occurrenceDateTime="2020-01-01"),
        fact(
            "DeviceUseStatement",
            "U1",
            status="active",
            device={"reference": "#d"},
            contained=[{"resourceType": "Device", "id": "d", "type": {"text": "Stimulateur"}}],
        ),
    )
    document = summary(
        chart.tx, chart.patients["P1"], READER, base="http://h/fhir", document="0b0f", at="2026-11-24T10:00:00Z", author="PFI-X"
    )
    assert document is not None
    get_fhir_model_class("Bundle").model_validate(document)
    composition = document["entry"][0]["resource"]
    sections = {one["code"]["coding"][0]["code"]: one for one in composition["section"]}
    held = {f"{one['resource']['resourceType']}/{one['resource']['id']}" for one in document["entry"]}
    assert {"11450-4", "48765-2", "10160-0", "11369-6", "30954-2", "11348-0", "8716-3", "46264-8"} == sections.keys()
    for one in sections.values():
        assert {entry["reference"] for entry in one.get("entry", ())} <= held
        assert bool(one.get("entry")) is ("emptyReason" not in one)
        ElementTree.fromstring(one["text"]["div"])
    assert [one["code"] for one in sections["48765-2"]["emptyReason"]["coding"]] == ["unavailable", "no-allergy-info"]
    assert "Stimulateur" in sections["46264-8"]["text"]["div"]
    assert "Asthme &lt;b&gt;&amp;" in sections["11450-4"]["text"]["div"] and len(sections["30954-2"]["entry"]) == 1
    assert summary(chart.tx, uid_text(7), READER, base="", document="1", at="", author="") is None


# ---- what changed ----


def test_changes_are_told_once_and_in_order(chart: Chart) -> None:
    def since(cursor: str, limit: int = 3, types: frozenset[str] = frozenset()) -> tuple[list[Any], str]:
        return changes_since(chart.tx, cursor, types=types, viewer=READER, limit=limit, before_us=chart.now + 1)

    cursor, seen = "", list[Any]()
    while True:
        found, onward = since(cursor)
        seen += found
        if not found:
            break
        cursor = onward
    assert len(seen) == len({one.id for one in seen}) == 8
    assert [one.type for one in seen if one.gone] == ["Procedure"]
    assert since(cursor)[0] == []
    chart.tell(observation("O1", 11.5, "2026-01-01", "718-7"), fact("Condition", "C3", code={"text": "x"}))
    assert [(one.type, one.version) for one in since(cursor)[0]] == [("Observation", 2), ("Condition", 1)]
    assert [one.type for one in since(cursor, types=frozenset({"Condition"}))[0]] == ["Condition"]
    assert changes_since(chart.tx, cursor, types=frozenset(), viewer=READER, limit=9, before_us=chart.now)[0] == []
    with pytest.raises(SearchRefused):
        since("yesterday")
