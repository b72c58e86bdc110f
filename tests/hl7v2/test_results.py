"""Results of plain ORU^R01 and OUL^R22: each OBX as an Observation, each OBR as a report, each SPM as a specimen."""

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.er7 import read
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.hl7v2.obx_value import number, reference_range
from mappings.hl7v2.ucum import Units
from mappings.registry import builtin, packaged_table
from mappings.tables import load

REGISTRY = builtin()
SITE = Site(source="lab")
UNITS = Units(load(packaged_table("ucum_units")))
LAB = "urn:vaguemestre:authority:LABO"
SUBJECT = {"subject": {"reference": "Patient/1"}}


def message(kind, *segments, made="20260302101500"):
    lines = [
        f"MSH|^~\\&|LABO|Z|HUB|Z|{made}||{kind}|1|P|2.5||||||UNICODE UTF-8",
        "PID|||4712^^^Z^PI||SAULNIER^Odile||19790114|F",
        "PV1||I|||||||||||||||||V9",
        *segments,
    ]
    return read(("\r".join(lines) + "\r").encode())


def oru(*segments, **more):
    return message("ORU^R01", *segments, **more)


def changes(taken):
    structure = REGISTRY.find(taken)
    structure.judge(taken, SITE)
    return structure.translate(taken, SITE).resources


def of(kind, taken):
    return [one for one in changes(taken) if one.type == kind]


def said(change):
    """The body without what it removes, valid as FHIR."""
    body = {name: value for name, value in {**change.defaults, **change.body, **change.adds}.items() if value is not None}
    get_fhir_model_class(change.type).model_validate({**body, **(SUBJECT if change.type != "Appointment" else {})})
    return body


def codes(taken):
    return {finding.code for finding in REGISTRY.find(taken).remarks(taken, SITE)}


ORDER = ("ORC|RE|P1^DPI|F1^LABO", "OBR|1|P1^DPI|F1^LABO|58410-2^NFS^LN|||20260302080000|||||||||||||||20260302100000||HM|F")


def observed(obx, *after):
    (change,) = of("Observation", oru(*ORDER, obx, *after))
    return said(change)


# ---- values ----


@pytest.mark.parametrize(
    ("obx", "value"),
    [
        ("NM|718-7^Hb^LN||12.5|g/dL", {"valueQuantity": {"value": 12.5, "unit": "g/dL", "code": "g/dL"}}),
        ("NM|718-7^Hb^LN||12,5|g/dL", {"valueQuantity": {"value": 12.5, "unit": "g/dL", "code": "g/dL"}}),
        ("NM|777-3^Plt^LN||250|G/L", {"valueQuantity": {"value": 250, "unit": "G/L", "code": "10*9/L"}}),
        ("NM|1^X^L||3|bidules", {"valueQuantity": {"value": 3, "unit": "bidules"}}),
        ("NM|1^X^L||3|umol/L^µmol/L^UCUM", {"valueQuantity": {"value": 3, "unit": "µmol/L", "code": "umol/L"}}),
        ("NM|1^X^L||<0.5|mg/L", {"valueQuantity": {"comparator": "<", "value": 0.5, "unit": "mg/L", "code": "mg/L"}}),
        ("NM|1^X^L||négatif", {"valueString": "négatif"}),
        ("NM|1^X^L||12345678901234567890", {"valueString": "12345678901234567890"}),
        ("SN|1^X^L||<^5|mg/L", {"valueQuantity": {"comparator": "<", "value": 5, "unit": "mg/L", "code": "mg/L"}}),
        ("SN|1^X^L||>=^5", {"valueQuantity": {"comparator": ">=", "value": 5}}),
        ("SN|1^X^L||^5", {"valueQuantity": {"value": 5}}),
        ("SN|1^X^L||^1^-^5", {"valueRange": {"low": {"value": 1}, "high": {"value": 5}}}),
        ("SN|1^X^L||^1^:^128", {"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 128}}}),
        ("SN|1^X^L||^2^+", {"valueString": "2 +"}),
        (
            "CWE|1^X^L||112283007^E. coli^SCT^ECO^Escherichia^L",
            {
                "valueCodeableConcept": {
                    "coding": [
                        {"system": "http://snomed.info/sct", "code": "112283007", "display": "E. coli"},
                        {"code": "ECO", "display": "Escherichia"},
                    ],
                    "text": "E. coli",
                }
            },
        ),
        ("ST|1^X^L||A ^ B", {"valueString": "A ^ B"}),
        ("TX|1^X^L||ligne 1~ligne 2", {"valueString": "ligne 1\nligne 2"}),
        ("FT|1^X^L||un\\.br\\deux \\T\\ trois", {"valueString": "un\ndeux & trois"}),
        ("DT|1^X^L||20260301", {"valueDateTime": "2026-03-01"}),
        ("TS|1^X^L||202603010730", {"valueDateTime": "2026-03-01T07:30:00+01:00"}),
        ("TM|1^X^L||0730", {"valueTime": "07:30:00"}),
        ("TM|1^X^L||2561", {"valueString": "2561"}),
        ("IS|1^X^L||POS", {"valueCodeableConcept": {"text": "POS"}}),
        ("XPN|1^X^L||Un^Deux", {"valueString": "Un Deux"}),
        ("|1^X^L||libre", {"valueString": "libre"}),
        ('NM|1^X^L||""', {}),
    ],
)
def test_value(obx, value):
    body = observed(f"OBX|1|{obx}||||||F" if obx.count("|") > 3 else f"OBX|1|{obx}|||||||F")
    found = {name: one for name, one in body.items() if name.startswith("value")}
    for quantity in found.values():
        if isinstance(quantity, dict) and "code" in quantity:
            assert quantity.pop("system") == "http://unitsofmeasure.org"
    assert found == value


def test_repetitions_are_components():
    body = observed("OBX|1|CE|1^Germes^L||A^a^L~B^b^L||||||F")
    assert [one["valueCodeableConcept"]["coding"][0]["code"] for one in body["component"]] == ["A", "B"]
    assert "valueCodeableConcept" not in body and body["component"][0]["code"]["text"] == "Germes"


def test_lines_of_one_text_are_one_observation():
    lines = [f"OBX|{n}|TX|22637-3^Conclusion^LN||ligne {n}||||||F" for n in (1, 2, 3)]
    first, other = of("Observation", oru(*ORDER, *lines, "OBX|4|TX|1^Autre^L||seule||||||F"))
    assert said(first)["valueString"] == "ligne 1\nligne 2\nligne 3" and said(other)["valueString"] == "seule"


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("3.5-5.0", (3.5, 5)),
        ("3,5 – 5", (3.5, 5)),
        ("-2 - 2", (-2, 2)),
        ("<5", (None, 5)),
        ("<= 5", (None, 5)),
        (">0,9", (0.9, None)),
        ("négatif", (None, None)),
        ("5", (None, None)),
    ],
)
def test_reference_range(text, limits):
    found = reference_range(text, "mmol/L", "", UNITS)
    assert found["text"] == text
    assert (found.get("low", {}).get("value"), found.get("high", {}).get("value")) == limits
    for limit in ("low", "high"):
        assert limit not in found or (found[limit]["code"] == "mmol/L" and "comparator" not in found[limit])


@pytest.mark.parametrize(
    ("unit", "code"),
    [
        ("mmol/L", "mmol/L"),
        ("µmol/l", "umol/l"),
        ("10*9/L", "10*9/L"),
        ("G/L", "10*9/L"),
        ("T/L", "10*12/L"),
        ("UI/L", "[IU]/L"),
        ("%", "%"),
        ("mmHg", "mm[Hg]"),
        ("mL/min/{1.73_m2}", "mL/min/{1.73_m2}"),
        ("kg/m2", "kg/m2"),
        ("/min", "/min"),
        ("UI/xx", ""),
        ("cp/mL", ""),
        ("x" * 100, ""),
        ("", ""),
    ],
)
def test_unit(unit, code):
    assert UNITS.code(unit) == code


def test_what_stands_beside_the_value():
    body = observed(
        "OBX|1|NM|2823-3^Potassium^LN^K^K+^L||5.9|mmol/L|3.5-5.0|HH|||F|||20260302081000|LAB1^Labo 1^L"
        "|10000000017^VASSEUR^Irma^^^^^^&1.2.250.1.71.4.2.1&ISO^^^^RPPS|ISE^Potentiométrie^L|AUTO-7^X|20260302090000"
        "||||Labo Nord^^^^^&1.2.250.1.71.4.2.2&ISO^FINEG^^^300017985",
        "NTE|1|L|Hémolysé",
        "NTE|2|L|À contrôler",
    )
    assert body["status"] == "final" and body["effectiveDateTime"] == "2026-03-02T08:10:00+01:00"
    assert [one.get("code") for one in body["code"]["coding"]] == ["2823-3", "K"]
    assert body["interpretation"] == [
        {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", "code": "HH"}]}
    ]
    assert body["referenceRange"][0]["high"]["value"] == 5.0
    assert [one["text"] for one in body["note"]] == ["Hémolysé", "À contrôler"]
    person, organisation = body["performer"]
    assert person["identifier"]["value"] == "10000000017" and organisation["display"] == "Labo Nord"
    assert body["method"]["text"] == "Potentiométrie" and body["device"]["display"] == "AUTO-7"
    assert body["basedOn"][0]["identifier"] == {"system": "urn:vaguemestre:authority:DPI", "value": "P1"}
    assert body["encounter"]["identifier"]["value"] == "V9"
    assert body["category"][0]["coding"][0]["code"] == "laboratory"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("F", "final"),
        ("U", "final"),
        ("P", "preliminary"),
        ("R", "preliminary"),
        ("S", "preliminary"),
        ("C", "corrected"),
        ("A", "amended"),
        ("X", "cancelled"),
        ("N", "cancelled"),
        ("D", "entered-in-error"),
        ("W", "entered-in-error"),
        ("I", "registered"),
        ("", "unknown"),
        ("?", "unknown"),
    ],
)
def test_status(status, expected):
    assert observed(f"OBX|1|NM|718-7^Hb^LN||12|g/dL|||||{status}")["status"] == expected


def test_a_status_alone_leaves_the_value_and_a_cancellation_does_not():
    (only_status,), (cancelled,), (final,) = (
        of("Observation", oru(*ORDER, f"OBX|1|NM|718-7^Hb^LN||||||||{status}")) for status in "UXF"
    )
    assert "valueQuantity" not in only_status.body and "interpretation" not in only_status.body
    assert cancelled.body["valueQuantity"] is None and cancelled.body["interpretation"] is None
    assert cancelled.body["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
    assert final.body["valueQuantity"] is None and final.body["dataAbsentReason"] is None


# ---- who is who ----


def keys(*segments, **more):
    return [one.key for one in of("Observation", oru(*segments, **more))]


def test_a_correction_has_the_number_of_what_it_corrects():
    first = keys(*ORDER, "OBX|1|NM|718-7^Hb^LN||12|g/dL|||||F")
    assert first == keys(*ORDER, "OBX|7|NM|718-7^Hémoglobine^LN||13|g/dL|||||C", made="20260303")
    assert first != keys(*ORDER, "OBX|1|NM|718-7^Hb^LN|2|12|g/dL|||||F")
    assert first != keys(*ORDER, "OBX|1|NM|718-7^Hb^L||12|g/dL|||||F")
    assert first != keys("OBR|1|P1|F2^LABO|58410-2^NFS^LN", "OBX|1|NM|718-7^Hb^LN||12|g/dL|||||F")


def test_same_code_twice_is_two_observations():
    twice = keys(*ORDER, *["OBX|1|NM|718-7^Hb^LN||12|g/dL|||||F"] * 2)
    assert len(set(twice)) == 2 and twice[0] == keys(*ORDER, "OBX|1|NM|718-7^Hb^LN||12|g/dL|||||F")[0]


def test_without_an_order_number_patient_code_and_time_decide():
    def one(when):
        return keys("OBR|1|||X", f"OBX|1|NM|8867-4^FC^LN||72|/min|||||F|||{when}")

    assert one("20260302080000") == one("20260302080000") != one("20260302090000")
    assert "NO_ORDER_NUMBER" in codes(oru("OBR|1|||X", "OBX|1|NM|8867-4^FC^LN||72"))
    assert of("DiagnosticReport", oru("OBR|1|||X", "OBX|1|NM|8867-4^FC^LN||72")) == []


def test_vital_signs_are_vital_signs():
    (change,) = of("Observation", oru("OBR|1||F9|X", "OBX|1|NM|8867-4^FC^LN||72|/min|||||F"))
    assert said(change)["category"][0]["coding"][0]["code"] == "vital-signs"


def test_report():
    taken = oru(
        *ORDER[:1],
        ORDER[1] + "|||||||10000000017&VASSEUR&Irma",
        "NTE|1|L|Prélèvement difficile",
        "OBX|1|NM|718-7^Hb^LN||12|g/dL|||||F",
        "OBX|2|NM|777-3^Plt^LN||||||||X",
    )
    (change,) = of("DiagnosticReport", taken)
    hemoglobin, platelets = of("Observation", taken)
    assert change.key == f"{LAB}|F1/58410-2" and change.gathers and change.path == "OBR"
    body = said(change)
    assert (body["status"], body["issued"]) == ("final", "2026-03-02T10:00:00+01:00")
    assert body["category"][0]["coding"][0]["code"] == "HM" and body["effectiveDateTime"] == "2026-03-02T08:00:00+01:00"
    assert {one["type"]["coding"][0]["code"]: one["value"] for one in body["identifier"]} == {"FILL": "F1", "PLAC": "P1"}
    assert [f"{one['identifier']['system']}|{one['identifier']['value']}" for one in change.adds["result"]] == [hemoglobin.key]
    assert [one["identifier"]["value"] for one in change.removes["result"]] == [platelets.body["identifier"][0]["value"]]
    assert body["resultsInterpreter"][0]["display"] == "Irma VASSEUR"
    assert body["extension"][0]["valueAnnotation"]["text"] == "Prélèvement difficile"


@pytest.mark.parametrize(
    ("obr_25", "observations", "expected"),
    [
        ("P", "FF", "preliminary"),
        ("A", "FF", "partial"),
        ("C", "FF", "corrected"),
        ("X", "", "cancelled"),
        ("", "FF", "final"),
        ("", "FC", "corrected"),
        ("", "FP", "preliminary"),
        ("", "", None),
        ("F", "", "final"),
    ],
)
def test_status_of_a_report(obr_25, observations, expected):
    obx = [f"OBX|{n}|NM|{n}^X^L||1||||||{status}" for n, status in enumerate(observations, 1)]
    found = of("DiagnosticReport", oru(f"OBR|1|P1|F1^LABO|58410-2^NFS^LN{'|' * 21}{obr_25}", *obx))
    assert [said(one)["status"] for one in found] == ([expected] if expected else [])


def test_one_number_for_two_reports_of_one_code_is_one_report_with_all_results():
    obr = "OBR|1|P1|F1^LABO|58410-2^NFS^LN"
    (change,) = of("DiagnosticReport", oru(obr, "OBX|1|NM|1^X^L||1", obr, "OBX|1|NM|2^X^L||1"))
    assert len(change.adds["result"]) == 2


def test_specimen():
    spm = (
        "SPM|1|S1&DPI^T77&LABO|T70^LABO|BLD^Sang^L|||VP^Ponction^L|LA^Bras gauche^L||||5^mL||Difficile"
        "|||20260302080000^20260302080500|20260302083000||Y"
    )
    taken = oru(*ORDER, "OBX|1|NM|718-7^Hb^LN||12", spm)
    (change,), (observation,) = of("Specimen", taken), of("Observation", taken)
    assert change.key == f"{LAB}|T77"
    body = said(change)
    assert (
        body["type"]["text"] == "Sang" and body["receivedTime"] == "2026-03-02T08:30:00+01:00" and body["status"] == "available"
    )
    assert body["collection"]["collectedPeriod"]["end"] == "2026-03-02T08:05:00+01:00"
    assert body["collection"]["quantity"] == {"value": 5, "unit": "mL", "system": "http://unitsofmeasure.org", "code": "mL"}
    assert said(observation)["specimen"]["identifier"] == {"system": LAB, "value": "T77"}


def test_specimen_of_older_senders():
    (change,) = of("Specimen", oru("OBR|1|P1|F1^LABO|1^X|||20260302080000||||||||UR&Urines", "OBX|1|NM|1^X||1"))
    body = said(change)
    assert body["type"]["coding"][0]["code"] == "UR" and body["collection"]["collectedDateTime"].startswith("2026-03-02T08")


def test_organism_and_its_antibiogram():
    taken = oru(
        "OBR|1|P1|B1^LABO|630-4^ECBU^LN",
        "OBX|1|CE|634-6^Germe^LN|1|112283007^E. coli^SCT||||||F",
        "OBR|2|P1|B2^LABO|29576-6^Antibiogramme^LN||||||||||||||||||||||634-6&Germe&LN^1|||P1^B1&LABO",
        "OBX|1|SN|18862-3^Amoxicilline^LN||<=^2|mg/L||S|||F",
    )
    organism, drug = of("Observation", taken)
    assert said(drug)["derivedFrom"][0]["identifier"]["value"] == organism.body["identifier"][0]["value"]
    assert said(drug)["interpretation"][0]["coding"][0]["code"] == "S" and "derivedFrom" not in said(organism)


def test_oul_has_its_specimen_first():
    taken = message(
        "OUL^R22",
        "SPM|1|^T1&LABO||BLD",
        "OBR|1|P1|F1^LABO|718-7^Hb^LN",
        "ORC|RE|P1|F1^LABO",
        "OBX|1|NM|718-7^Hb^LN||12|g/dL|||||F",
        "SPM|2|^T2&LABO||UR",
        "OBR|2|P2|F2^LABO|2887-8^Protéines^LN",
        "OBX|1|NM|2887-8^Protéines^LN||0.1|g/L|||||F",
    )
    assert [one.type for one in changes(taken)] == [
        "Encounter",
        *("Specimen", "Observation", "DiagnosticReport"),
        *("Specimen", "Observation", "DiagnosticReport"),
    ]
    first, second = of("Observation", taken)
    assert said(first)["specimen"]["identifier"]["value"] == "T1" and said(second)["specimen"]["identifier"]["value"] == "T2"


# ---- what is refused, and what is told ----


def test_two_patients_in_one_message_are_refused():
    taken = oru(*ORDER, "OBX|1|NM|1^X||1", "PID|||4713^^^Z^PI||AUTRE^Nom", *ORDER, "OBX|1|NM|1^X||2")
    with pytest.raises(MessageRefused) as refused:
        REGISTRY.find(taken).judge(taken, SITE)
    assert (refused.value.condition, refused.value.at) == ("198", "PID[2]")


def test_findings():
    assert "OBX_WITHOUT_CODE" in codes(oru(*ORDER, "OBX|1|NM|||1"))
    assert of("Observation", oru(*ORDER, "OBX|1|NM|||1")) == []
    assert "OBX_STATUS" in codes(oru(*ORDER, "OBX|1|NM|1^X||1||||||Q"))
    assert "POINTER_LEFT" in codes(oru(*ORDER, "OBX|1|RP|1^X||http^x"))
    assert "TS_INVALID" in codes(oru(*ORDER, "OBX|1|NM|1^X||1||||||F|||hier"))
    assert not codes(oru(*ORDER, "OBX|1|NM|1^X||1||||||F"))


def test_no_finding_repeats_a_value():
    taken = oru(*ORDER, "OBX|1|NM|ZZTOP^X||SECRET||||||ZZ|||ZZTOP", "OBX|2|NM|||SECRET")
    for finding in REGISTRY.find(taken).remarks(taken, SITE):
        assert "SECRET" not in finding.sentence and "ZZ" not in finding.sentence


_TEXT = st.text('|^~\\&AZaz019<>=.,-:/ "é\x00\x0b', max_size=40)
_SEGMENTS = st.sampled_from(
    ["OBX|1|NM|", "OBX|1|SN|", "OBX||CE|", "OBX||TX|", "OBX||TM|", "OBX||TS|", "OBX|", "OBR|", "ORC|", "SPM|1|", "NTE|", "TQ1|"]
)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(_SEGMENTS, _TEXT), max_size=8), st.sampled_from(["ORU^R01", "OUL^R22"]))
def test_nothing_crashes_a_mapping(parts, kind):
    taken = message(kind, *(name + text for name, text in parts))
    structure = REGISTRY.find(taken)
    try:
        structure.judge(taken, SITE)
    except MessageRefused as refused:
        assert refused.at
        return
    structure.remarks(taken, SITE)
    found = structure.translate(taken, SITE).resources
    assert len({(one.type, one.key) for one in found}) == len(found)
    for one in found:
        if one.type != "Encounter":
            said(one)


@given(_TEXT)
def test_a_number_is_what_python_reads(text):
    found = number(text)
    if found is not None:
        assert float(text.strip().lstrip("<>=≤≥ ").replace(",", ".")) == found[1]
