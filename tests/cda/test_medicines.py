"""Prescribed, dispensed and taken medicines: CI-SIS eP-MED-DM, eDISP-MED; IHE PCC Medications, IHE PHARM PRE and DIS."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest


def _beside(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = _beside("medicine_documents")
FR = made.FR
PCC = made.PCC
PHARM = made.PHARM
CONSUMABLE = made.CONSUMABLE
NAMELESS = made.NAMELESS
templates = made.templates
under = made.under
act = made.act
observation = made.observation
administration = made.administration
supply = made.supply
read = made.read
one = made.one
valid = made.valid
PRESCRIBED = made.PRESCRIBED
LINE = made.LINE
ALL_OF_IT = made.ALL_OF_IT
DISPENSED = made.DISPENSED


def test_a_prescribed_line_with_steps() -> None:
    body = one(administration(PRESCRIBED, ALL_OF_IT, "INT"), code="57833-6")
    medicine = body["medicationCodeableConcept"]
    assert [coding["code"] for coding in medicine["coding"]] == ["60000001", "J01XX00"]
    assert (medicine["text"], body["status"], body["intent"]) == ("Essaimycine 5 mg", "active", "order")
    assert body["groupIdentifier"]["value"] == "01ESSAI"
    assert body["requester"]["identifier"]["value"] == "99700000017"
    assert body["dispenseRequest"] == {
        "validityPeriod": {"start": "2026-03-01", "end": "2026-06-01"},
        "numberOfRepeatsAllowed": 0,
        "quantity": {"value": 2, "system": "http://standardterms.edqm.eu", "code": "30009000"},
        "performer": body["dispenseRequest"]["performer"],
    }
    assert body["substitution"]["allowedCodeableConcept"]["coding"][0]["code"] == "N"
    marks = {part["url"].rpartition(":")[2]: part for part in body["extension"]}
    assert marks["long-term-condition"]["valueBoolean"] is True
    assert marks["prescription-kind"]["valueCoding"]["code"] == "MED-1096"
    assert marks["treatment-period"]["valuePeriod"] == {"start": "2026-03-01", "end": "2026-03-06"}
    assert "note" not in body
    contained = body["contained"][0]
    assert contained["batch"] == {"lotNumber": "L7", "expirationDate": "2027-01-31"}
    assert contained["ingredient"][0]["strength"]["numerator"]["value"] == 5


def test_steps_stand_in_their_order_and_keep_what_the_line_says() -> None:
    first, second = one(administration(PRESCRIBED, ALL_OF_IT, "INT"))["dosageInstruction"]
    assert (first["sequence"], second["sequence"]) == (1, 3)
    assert first["timing"]["repeat"] == {
        "boundsPeriod": {"start": "2026-03-01", "end": "2026-03-02"},
        "frequency": 1,
        "period": 8,
        "periodUnit": "h",
    }
    assert first["doseAndRate"][0]["doseRange"]["high"]["value"] == 2
    assert second["doseAndRate"][0]["doseQuantity"] == {
        "value": 1,
        "unit": "{tablet}",
        "system": "http://unitsofmeasure.org",
        "code": "{tablet}",
    }
    assert (
        first["patientInstruction"],
        first["asNeededCodeableConcept"]["text"] if "asNeededCodeableConcept" in first else "",
    ) == ("à jeun", "si fièvre")
    assert second["route"]["coding"][0]["code"] == "20053000"
    assert second["maxDosePerPeriod"]["denominator"]["code"] == "d"


@pytest.mark.parametrize(
    ("old", "new", "path", "value"),
    [
        ('code="completed"', 'code="aborted"', "status", "stopped"),
        ('code="completed"', 'code="suspended"', "status", "on-hold"),
        ('<repeatNumber value="0"/>', '<repeatNumber value="-1"/>', "dispenseRequest.numberOfRepeatsAllowed", None),
        ('<repeatNumber value="0"/>', '<repeatNumber value="3"/>', "dispenseRequest.numberOfRepeatsAllowed", 3),
        (CONSUMABLE, NAMELESS, "medicationCodeableConcept.text", "Essaimycine 5 mg"),
        ("<pharm:name>Essai</pharm:name>", "", "contained.0.ingredient.0.itemCodeableConcept.text", "100000000001"),
        ('<high value="20260306"/>', '<width value="2" unit="wk"/>', "extension.0.valuePeriod.end", "2026-03-14"),
        ('<high value="20260306"/>', '<width value="2" unit="mo"/>', "extension.0.valuePeriod.end", None),
        ('<high value="20260306"/>', '<high value="20250306"/>', "extension.0.valuePeriod.end", None),
        ("", "", "dosageInstruction.0.text", "1 le matin"),
    ],
)
def test_a_plain_line(old: str, new: str, path: str, value: Any) -> None:
    found: Any = one(administration(PRESCRIBED, LINE.replace(old, new) if old else LINE, "INT"))
    for step in path.split("."):
        found = found[int(step)] if isinstance(found, list) else found.get(step)
    assert found == value


TIMING_EVENT = "http://terminology.hl7.org/CodeSystem/v3-TimingEvent"
FIVE_DAYS = {"value": 5, "unit": "d", "system": "http://unitsofmeasure.org", "code": "d"}


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ('<period value="1" unit="d"/>', {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}}),
        ('<period value="8" unit="fois"/>', None),
        ('<period value="x" unit="h"/>', None),
        ('<period value="2" unit="J"/>', {"repeat": {"frequency": 1, "period": 2, "periodUnit": "d"}}),
        ('<event code="ACM"/>', {"repeat": {"when": ["ACM"]}}),
        ('<event code="HS"/><offset><low value="-1" unit="h"/></offset>', {"repeat": {"when": ["HS"], "offset": 60}}),
        ('<event code="C"/><offset><low value="1" unit="h"/></offset>', {"repeat": {"when": ["C"]}}),
        ('<event code="ICM"/>', {"code": {"coding": [{"system": TIMING_EVENT, "code": "ICM"}]}}),
        ('<width value="5" unit="d"/>', {"repeat": {"boundsDuration": FIVE_DAYS}}),
        ('<low value="20261301"/>', None),
        (
            '<phase><low value="20260301"/><width value="30" unit="min"/></phase><period value="1" unit="d"/>',
            {
                "repeat": {
                    "frequency": 1,
                    "period": 1,
                    "periodUnit": "d",
                    "duration": 30,
                    "durationUnit": "min",
                    "boundsPeriod": {"start": "2026-03-01"},
                }
            },
        ),
        (
            '<comp><period value="1" unit="d"/></comp><comp operator="E"><period value="2" unit="d"/></comp>',
            {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
        ),
        (
            '<comp><period value="1" unit="d"/></comp><comp><period value="3" unit="d"/></comp><comp><event code="EVE"/></comp>',
            {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d", "when": ["EVE"]}},
        ),
    ],
)  # fmt: skip
def test_times(times: str, expected: dict[str, Any] | None) -> None:
    inner = f'<effectiveTime><low value="2026"/></effectiveTime><effectiveTime operator="A">{times}</effectiveTime>{CONSUMABLE}'
    body = one(administration((FR + "42",), inner))
    dosage = body.get("dosage", [{}])[0]
    assert dosage.get("timing") == expected


def test_hours_that_the_ward_chooses_are_times_a_day() -> None:
    inner = '<effectiveTime institutionSpecified="true"><period value="8" unit="h"/></effectiveTime>'
    body = one(administration((FR + "42",), inner + CONSUMABLE))
    assert body["dosage"][0]["timing"]["repeat"] == {"frequency": 3, "period": 1, "periodUnit": "d"}


@pytest.mark.parametrize(("code", "done"), [("G", True), ("N", False)])
def test_a_dispensed_line_names_the_prescribed_one(code: str, done: bool) -> None:
    substituted = under("COMP", act(FR + "206", f'<code code="{code}" codeSystem="2.16.840.1.113883.5.1070"/>', "EVN"))
    body = one(supply((PCC + "7.3", PHARM + "4", FR + "204"), DISPENSED + substituted), code="60593-1")
    assert body["authorizingPrescription"] == [
        {"type": "MedicationRequest", "identifier": {"system": "urn:oid:1.2.250.1.999.2", "value": "L1"}}
    ]
    assert body["extension"][0]["valueIdentifier"]["value"] == "urn:oid:1.2.250.1.999.9"
    assert (body["substitution"]["wasSubstituted"], body["whenHandedOver"]) == (done, "2026-03-01")
    assert body["performer"][0]["actor"]["identifier"]["value"] == "99700000025"
    assert body["note"] == [{"text": "prévenu"}]
    assert body["dosageInstruction"][0]["doseAndRate"][0]["doseQuantity"]["value"] == 1


def test_what_was_dispensed_of_a_treatment_is_a_dispense_of_its_own() -> None:
    handed = supply((PCC + "7.3", FR + "44"), '<quantity value="1"/><performer><time value="20260102"/></performer>')
    found = read(administration((FR + "42",), CONSUMABLE + under("REFR", handed)))
    dispense, statement = valid(found)
    assert dispense["medicationCodeableConcept"] == statement["medicationCodeableConcept"]
    assert (dispense["whenHandedOver"], statement["status"]) == ("2026-01-02", "unknown")


IVL = '<effectiveTime xsi:type="IVL_TS">{}</effectiveTime>'


@pytest.mark.parametrize(
    ("root", "mood", "more", "inner", "section", "status"),
    [
        ("42", "EVN", "", IVL.format('<low value="20250101"/><high nullFlavor="UNK"/>'), "x", "active"),
        ("42", "EVN", "", IVL.format('<low value="20250101"/><high value="20250201"/>'), "x", "completed"),
        ("42", "EVN", "", IVL.format('<low value="20250101"/><high value="20270201"/>'), "x", "active"),
        ("42", "EVN", "", '<effectiveTime value="20250101"/>', "x", "completed"),
        ("42", "EVN", "", "", "x", "unknown"),
        ("42", "EVN", "", "", "10160-0", "active"),
        ("42", "INT", "", "", "x", "intended"),
        ("42.3", "EVN", 'negationInd="true"', "", "x", "not-taken"),
        ("42", "EVN", "", '<statusCode code="aborted"/>', "x", "stopped"),
        ("173", "EVN", "", "", "x", "completed"),
        ("26", "EVN", "", "", "x", "completed"),
    ],
)
def test_status_of_a_treatment(root: str, mood: str, more: str, inner: str, section: str, status: str) -> None:
    body = one(administration((FR + root,), inner + CONSUMABLE, mood, more), section=section)
    assert body["status"] == status


def test_no_known_treatment_is_told_by_its_code() -> None:
    inner = '<code code="no-known-medications" codeSystem="2.16.840.1.113883.5.1150.1"/>' + NAMELESS
    body = one(administration((PCC + "7",), inner))
    assert body["medicationCodeableConcept"]["coding"][0]["code"] == "no-known-medications"
    assert body["status"] == "active"


def test_reason_stop_checks_and_comment_of_a_treatment() -> None:
    problem = f'<observation moodCode="EVN">{templates(PCC + "5", FR + "37")}<id root="1.2.250.1.999.5" extension="P"/>'
    problem += '<code code="439401001" codeSystem="2.16.840.1.113883.6.96"/><value xsi:type="CD" code="I10" '
    problem += 'codeSystem="2.16.840.1.113883.6.3"/></observation>'
    reason = act(
        FR + "36", '<id root="1.2.250.1.999.5" extension="P"/><code code="I10" codeSystem="2.16.840.1.113883.6.3"/>', "EVN"
    )
    check = '<code code="PAT-056" codeSystem="1.2.250.1.213.1.1.4.322"/><value xsi:type="BL" value="false"/>'
    inner = CONSUMABLE + under("RSON", reason)
    inner += under("COMP", observation("1.2", "MED-052", '<value xsi:type="ST">arrêt</value>'))
    inner += under("COMP", observation("1.2", "MED-559", '<value xsi:type="BL" value="false"/>'))
    inner += (
        under("SUBJ", act(FR + "32", "<text>à revoir</text>", "EVN"))
        + f"<precondition><criterion>{check}</criterion></precondition>"
    )
    found = read(administration((FR + "42",), inner), problem)
    body = next(fact.body for fact in found.facts if fact.type == "MedicationStatement")
    assert body["reasonCode"][0]["coding"][0]["code"] == "I10"
    assert body["reasonReference"] == [{"type": "Condition", "identifier": {"system": "urn:oid:1.2.250.1.999.5", "value": "P"}}]
    assert (body["status"], body["statusReason"][0]["text"], body["note"]) == ("stopped", "arrêt", [{"text": "à revoir"}])
    assert body["extension"][0]["extension"][1] == {"url": "value", "valueBoolean": False}
    assert body["dosage"][0]["extension"][0]["url"] == "urn:vaguemestre:precondition"
