"""Biology in a CDA: results, batteries, isolates, samplings, chapters (CI-SIS FR-21, 77, 78, 79, 80, 107; IHE PaLM XD-LAB)."""

from contextlib import suppress
from dataclasses import replace
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from hub.model.refusals import Unreadable
from mappings.cda.translate import translate_cda
from mappings.hl7v2.ucum import Units
from mappings.registry import packaged_table
from mappings.tables import load

FR = "1.2.250.1.213.1.1.3."
LOINC = 'codeSystem="2.16.840.1.113883.6.1"'
SUBJECT = {"subject": {"reference": "Patient/1"}}
RESULT_CODE = f'<code code="718-7" displayName="Hémoglobine" {LOINC}/>'
DONE = '<statusCode code="completed"/><effectiveTime value="20260302081000+0100"/>'


@cache
def units():
    return Units(load(packaged_table("ucum_units")))


def template(number):
    return f'<templateId root="{FR}{number}"/>'


def result(inside, code=RESULT_CODE, done=DONE, more=""):
    return f'<observation classCode="OBS" moodCode="EVN" {more}>{template(80)}{code}{done}{inside}</observation>'


def battery(*members, code=""):
    parts = "".join(f"<component>{one}</component>" for one in members)
    return f'<organizer classCode="BATTERY" moodCode="EVN">{template(78)}{code}<statusCode code="completed"/>{parts}</organizer>'


def isolate(germ, *members, number=""):
    own = f'<id root="1.2.3.4" extension="{number}"/>' if number else ""
    parts = "".join(f"<component>{one}</component>" for one in members)
    return (
        f'<organizer classCode="CLUSTER" moodCode="EVN">{template(79)}{DONE}<specimen><specimenRole>{own}<specimenPlayingEntity>'
        f"{germ}</specimenPlayingEntity></specimenRole></specimen>{parts}</organizer>"
    )


def germ(code):
    return f'<code code="{code}" codeSystem="2.16.840.1.113883.6.96" displayName="germe {code}"/>'


def sampling(number="T1", time="202603020735+0100"):
    return (
        f'<procedure classCode="PROC" moodCode="EVN">{template(77)}<code code="9050" codeSystem="1.2.250.1.213.2.7"/>'
        f'<effectiveTime><high value="{time}"/></effectiveTime><participant typeCode="PRD"><participantRole classCode="SPEC">'
        f'<id root="1.2.3.5" extension="{number}"/><playingEntity><code code="BLD" codeSystem="2.16.840.1.113883.18.311"/>'
        f'</playingEntity></participantRole></participant><entryRelationship typeCode="COMP"><act classCode="ACT" moodCode="EVN">'
        f'{template(107)}<code code="SPRECEIVE"/><effectiveTime value="202603020752+0100"/></act></entryRelationship></procedure>'
    )


def comment(text):
    return f'<act classCode="ACT" moodCode="EVN">{template(32)}<code code="48767-8" {LOINC}/><text>{text}</text></act>'


def related(kind, inside):
    return f'<entryRelationship typeCode="{kind}">{inside}</entryRelationship>'


def chapter(*inside, code="18719-5", head=""):
    parts = "".join(related("COMP", one) for one in inside)
    return (
        f'<section><code code="{code}" {LOINC}/><title>Chapitre</title><text><content ID="r1">trace</content></text>'
        f'<entry typeCode="DRIV"><templateId root="{FR}21"/><act classCode="ACT" moodCode="EVN"><code code="{code}" {LOINC}/>'
        f'<statusCode code="completed"/>{head}{parts}</act></entry></section>'
    )


HEADER = """
<inFulfillmentOf><order><id root="1.2.3.9" extension="P77"/></order></inFulfillmentOf>
<documentationOf><serviceEvent><code code="18719-5" codeSystem="2.16.840.1.113883.6.1"/><lab:statusCode code="active"/>
<effectiveTime><low value="202603020900+0100"/><high value="202603021600+0100"/></effectiveTime></serviceEvent></documentationOf>
<documentationOf><serviceEvent><code code="18725-2" codeSystem="2.16.840.1.113883.6.1"/><lab:statusCode code="completed"/>
</serviceEvent></documentationOf>"""


def document(*sections, code="11502-2", header=HEADER):
    body = "".join(f"<component>{one}</component>" for one in sections)
    return f"""<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xmlns:lab="urn:oid:1.3.6.1.4.1.19376.1.3.2"><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
<id root="1.2.3.77" extension="D1"/><code code="{code}" codeSystem="2.16.840.1.113883.6.1"/><title>CR</title>
<effectiveTime value="20260302161000+0100"/><setId root="1.2.3.77" extension="S1"/><versionNumber value="1"/>{header}
<component><structuredBody>{body}</structuredBody></component></ClinicalDocument>"""


def read(xml):
    """Facts of a document and findings of its entries; every fact valid as FHIR R4, every reference to a fact that is there."""
    found = translate_cda(xml.encode(), tz=ZoneInfo("Europe/Paris"), units=units())
    found = replace(found, findings=tuple(one for one in found.findings if "/entry" in one.at))
    numbers = {fact.key.rpartition("|")[2] for fact in found.facts}
    for fact in found.facts:
        get_fhir_model_class(fact.type).model_validate({**fact.body, **SUBJECT})
        for name in ("hasMember", "result", "specimen"):
            references = fact.body.get(name, ())
            for one in [references] if isinstance(references, dict) else references:
                assert one["identifier"]["value"] in numbers
    return found


def bodies(found, kind="Observation"):
    return [fact.body for fact in found.facts if fact.type == kind]


def only(*inside, **more):
    found = read(document(chapter(*inside), **more))
    (body,) = bodies(found)
    return body, {finding.code for finding in found.findings}


def value(kind, attributes="", inside=""):
    return f'<value xsi:type="{kind}" {attributes}>{inside}</value>'


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (value("PQ", 'value=" 13.4 " unit="g/dL"'), {"valueQuantity": {"value": 13.4, "unit": "g/dL"}}),
        (value("IVL_PQ", "", '<high value="5" unit="mg/L" inclusive="false"/>'), {"valueQuantity": {"comparator": "<"}}),
        (value("IVL_PQ", "", '<high value="5" unit="mg/L"/>'), {"valueQuantity": {"comparator": "<="}}),
        (value("IVL_PQ", "", '<low value="5" unit="mg/L" inclusive="true"/>'), {"valueQuantity": {"comparator": ">="}}),
        (value("IVL_PQ", "", '<low value="5" unit="mg/L"/>'), {"valueQuantity": {"comparator": ">"}}),
        (value("IVL_PQ", "", '<low value="5"/><high value="9"/>'), {"valueRange": {"low": {"value": 5}}}),
        (value("CD", "", '<originalText><reference value="r1"/></originalText>'), {"valueCodeableConcept": {"text": "trace"}}),
        (value("ST", "", "clair"), {"valueString": "clair"}),
        (value("INT", 'value="3"'), {"valueInteger": 3}),
        (value("PQ", 'nullFlavor="NASK"'), {"dataAbsentReason": {"coding": [{"code": "NASK"}]}}),
        (value("PQ", 'value="hémolysé"'), {"dataAbsentReason": {"coding": [{"code": "error"}]}}),
    ],
)
def test_a_value_is_read_by_its_type(said, expected):
    body, _ = only(result(said))
    assert contains(body, expected)
    assert len([name for name in body if name.startswith("value") or name == "dataAbsentReason"]) == 1


def contains(body, expected):
    if isinstance(expected, dict):
        return all(name in body and contains(body[name], one) for name, one in expected.items())
    if isinstance(expected, list):
        return all(contains(*pair) for pair in zip(body, expected, strict=True))
    return body == expected


ANALYSER = "<manufacturerModelName>ANALYSEUR 5</manufacturerModelName>"
VALIDATOR = (
    '<id root="1.2.250.1.71.4.2.1" extension="810000000018"/>'
    "<playingEntity><name><given>Zoé</given><family>EXEMPLE</family></name></playingEntity>"
)
BEFORE = f'<observation classCode="OBS" moodCode="EVN">{DONE}<value xsi:type="PQ" value="1.2" unit="g/L"/></observation>'
LIMITS = (
    '<value xsi:type="IVL_PQ"><low value="0.7" unit="g/L"/></value><interpretationCode code="N"/><lab:precondition>'
    '<lab:criterion><lab:code code="SEX"/><lab:value xsi:type="CD" code="F"/></lab:criterion></lab:precondition>'
)
BESIDE = (
    value("PQ", 'value="1.5" unit="g/L"', '<translation value="8.3" code="mmol/L"/>')
    + value("ST", "", "sérum lactescent")
    + '<interpretationCode code="H" codeSystem="2.16.840.1.113883.5.83"/><methodCode code="VA"/><methodCode code="VB"/>'
    + f'<participant typeCode="DEV"><participantRole><playingDevice>{ANALYSER}</playingDevice></participantRole></participant>'
    + f'<participant typeCode="AUTHEN"><participantRole>{VALIDATOR}</participantRole></participant>'
    + related("SUBJ", comment("à contrôler"))
    + related("REFR", BEFORE)
    + f"<referenceRange><observationRange>{LIMITS}</observationRange></referenceRange>"
)


def test_what_stands_beside_a_value_is_kept():
    body, findings = only(sampling(), result(BESIDE))
    assert body["status"] == "final" and body["effectiveDateTime"] == "2026-03-02T08:10:00+01:00"
    assert body["category"][0]["coding"][0]["code"] == "laboratory"
    assert body["valueQuantity"]["code"] == "g/L"
    other, further = body["component"]
    assert (other["valueQuantity"]["value"], other["valueQuantity"]["code"]) == (8.3, "mmol/L")
    assert further["valueString"] == "sérum lactescent"
    assert not {"718-7"} & {coding["code"] for one in body["component"] for coding in one["code"]["coding"]}  # obs-7
    assert [one["code"] for one in body["method"]["coding"]] == ["VA", "VB"]
    assert body["device"]["display"] == "ANALYSEUR 5"
    assert body["performer"] == [
        {
            "type": "Practitioner",
            "identifier": {"system": "https://rpps.esante.gouv.fr", "value": "10000000018"},
            "display": "Zoé EXEMPLE",
        }
    ]
    assert body["note"] == [{"text": "à contrôler"}]
    (before,) = body["extension"]
    assert before["url"] == "urn:vaguemestre:previous-result"
    assert before["extension"][0]["valueQuantity"]["value"] == 1.2
    assert before["extension"][1]["valueDateTime"] == "2026-03-02T08:10:00+01:00"
    (limits,) = body["referenceRange"]
    assert limits["low"]["value"] == 0.7 and limits["type"]["coding"][0]["code"] == "normal"
    assert limits["appliesTo"][0]["coding"][0]["code"] == "F"
    assert body["specimen"]["type"] == "Specimen"
    assert findings == set()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (f'<code code="L7" codeSystem="1.2.3"><translation code="718-7" {LOINC}/></code>', ["718-7", "L7"]),
        ('<code nullFlavor="UNK"><originalText>Vitesse</originalText></code>', []),
        ("<text>Vitesse</text>", []),
    ],
)
def test_loinc_comes_first_and_a_name_is_enough(code, expected):
    body, findings = only(result(value("INT", 'value="3"'), code=code))
    assert [one["code"] for one in body["code"].get("coding", ())] == expected
    assert expected or body["code"]["text"] == "Vitesse"
    assert findings == set()


@pytest.mark.parametrize(
    ("entry", "findings", "status"),
    [
        (result("", code=""), {"CODE_MISSING"}, None),
        (result("", code='<code nullFlavor="NI"/>'), {"CODE_MISSING"}, None),
        (result(value("PQ", 'value="x"')), {"VALUE_INVALID"}, "final"),
        (result(value("PQ", 'value="1" unit="bidule"')), {"UNIT_NOT_UCUM"}, "final"),
        (result("", done='<statusCode code="completed"/><effectiveTime value="20260230"/>'), {"TS_INVALID"}, "final"),
        (result("", done='<statusCode code="aborted"/>'), set(), "cancelled"),
        (result("", done='<statusCode code="active"/>'), set(), "preliminary"),
        (result("", done=""), set(), "unknown"),
        (result("", done='<statusCode code="nullified"/>'), set(), None),
        (result("", more='negationInd="true"'), {"LEFT_IN_DOCUMENT"}, None),
        (result("").replace('"EVN"', '"INT"'), {"LEFT_IN_DOCUMENT"}, None),
        (result(related("REFR", result(""))), {"LEFT_IN_DOCUMENT"}, "final"),
        (battery(), set(), None),
    ],
)
def test_what_is_wrong_is_told_and_never_lost(entry, findings, status):
    found = read(document(chapter(entry)))
    assert [body["status"] for body in bodies(found)] == ([status] if status else [])
    assert {finding.code for finding in found.findings} == findings
    assert len(bodies(found, "DiagnosticReport")) == 1


def test_a_chapter_is_a_report_with_its_results():
    avis = f'<code code="55112-7" {LOINC}/><title>Avis</title><text>RAS</text>'
    comments = f'<section><templateId root="1.2.250.1.213.1.1.2.73"/>{avis}</section>'
    inside = battery(result(value("INT", 'value="3"')), comment("Lu deux fois"), code=f'<code code="58410-2" {LOINC}/>')
    found = read(document(chapter(sampling(), inside, comment("Voir avis")), comments))
    (report,) = bodies(found, "DiagnosticReport")
    member, group = bodies(found)
    assert report["status"] == "preliminary" and report["code"]["coding"][0]["code"] == "18719-5"
    assert report["effectivePeriod"] == {"start": "2026-03-02T09:00:00+01:00", "end": "2026-03-02T16:00:00+01:00"}
    assert report["issued"] == "2026-03-02T16:10:00+01:00" and report["conclusion"] == "Voir avis\nAvis : RAS"
    assert report["basedOn"] == [{"type": "ServiceRequest", "identifier": {"system": "urn:oid:1.2.3.9", "value": "P77"}}]
    assert report["result"][0]["identifier"]["value"] == group["identifier"][-1]["value"]
    assert group["hasMember"][0]["identifier"]["value"] == member["identifier"][-1]["value"]
    assert group["note"] == [{"text": "Lu deux fois"}]
    (specimen,) = bodies(found, "Specimen")
    assert specimen["collection"]["collectedDateTime"] == "2026-03-02T07:35:00+01:00"
    assert specimen["receivedTime"] == "2026-03-02T07:52:00+01:00" and specimen["identifier"][0]["value"] == "T1"


def test_the_status_of_a_report_is_that_of_its_own_act():
    found = read(document(chapter(result("")), chapter(result(""), code="18725-2")))
    assert [body["status"] for body in bodies(found, "DiagnosticReport")] == ["preliminary", "final"]


def test_results_in_another_document_make_a_report_without_its_header():
    found = read(document(chapter(result("")), code="57055-6"))
    (report,) = bodies(found, "DiagnosticReport")
    assert "basedOn" not in report and "issued" not in report
    assert report["effectiveDateTime"] == "2026-03-02T08:10:00+01:00" and report["status"] == "final"


def test_a_rapid_test_is_one_report_whatever_its_chapters():
    found = read(document(chapter(result("")), chapter(result(""), comment("Positif"), code="18725-2"), code="96173-0"))
    (report,) = bodies(found, "DiagnosticReport")
    assert report["code"]["coding"][0]["code"] == "96173-0"
    assert len(report["result"]) == 2 and report["conclusion"] == "Positif"


def test_two_specimens_are_nobody_s_unless_named():
    named = result('<specimen><specimenRole><id root="1.2.3.5" extension="T2"/></specimenRole></specimen>')
    found = read(document(chapter(sampling("T1"), sampling("T2", "202603020805+0100"), result(""), named)))
    unnamed, other = bodies(found)
    second = bodies(found, "Specimen")[1]
    assert "specimen" not in unnamed
    assert other["specimen"]["identifier"]["value"] == second["identifier"][-1]["value"]


ANTIBIOTIC = (
    f'<code code="28-1" {LOINC}/>{DONE}'
    '<value xsi:type="IVL_PQ"><high value="2" unit="mg/L" inclusive="true"/></value>'
    '<interpretationCode code="S" codeSystem="2.16.840.1.113883.5.83"/>'
)


def antibiogram():
    susceptibility = f'<observation classCode="OBS" moodCode="EVN">{template(80)}{ANTIBIOTIC}</observation>'
    return battery(susceptibility, code=f'<code code="18769-0" {LOINC}/>')


def test_an_isolate_is_a_germ_with_its_antibiogram():
    found = read(document(chapter(sampling(), isolate(germ("112283007"), antibiogram()), code="18725-2")))
    susceptibility, group, organism = bodies(found)
    assert organism["valueCodeableConcept"]["coding"][0]["code"] == "112283007"
    assert organism["code"]["coding"][0]["code"] == "11475-1"
    assert organism["hasMember"][0]["identifier"]["value"] == group["identifier"][-1]["value"]
    assert susceptibility["interpretation"][0]["coding"][0]["code"] == "S"
    assert susceptibility["valueQuantity"]["comparator"] == "<=" and susceptibility["specimen"] == organism["specimen"]
    assert susceptibility["extension"][0]["valueCodeableConcept"] == organism["valueCodeableConcept"]


def test_isolates_keep_their_numbers_when_their_order_changes():
    def numbers(*germs):
        found = read(document(chapter(*(isolate(germ(one), antibiogram()) for one in germs))))
        named = [(body["extension"][0]["valueCodeableConcept"], body) for body in bodies(found) if "extension" in body]
        return {concept["coding"][0]["code"]: body["identifier"][-1]["value"] for concept, body in named}

    there, back = numbers("112283007", "58800005"), numbers("58800005", "112283007")
    assert there == back and len(set(there.values())) == 2


def test_an_isolate_without_a_germ_says_so():
    found = read(document(chapter(isolate('<code nullFlavor="UNK"/>', antibiogram()))))
    assert bodies(found)[-1]["dataAbsentReason"]["coding"][0]["code"] == "UNK"


@pytest.mark.parametrize(("code", "is_group"), [("882-1", True), ("10331-7", True), ("1159-3", True), ("718-7", False)])
def test_a_blood_group_has_a_category_of_its_own(code, is_group):
    body, _ = only(result(value("CD", 'code="278149003"'), code=f'<code code="{code}" {LOINC}/>'))
    further = [one["coding"][0]["code"] for one in body["category"][1:]]
    assert further == (["blood-group"] if is_group else [])


def test_a_professional_s_number_is_no_bar_code():
    xml = document(chapter(sampling().replace("1.2.3.5", "1.2.250.1.71.4.2.1"), result("")))
    found = read(xml)
    (specimen,) = bodies(found, "Specimen")
    assert len(specimen["identifier"]) == 1 and {one.code for one in found.findings} == {"VALUE_INVALID"}


FULL = document(
    chapter(
        sampling(),
        battery(result(value("PQ", 'value="1" unit="g/L"') + related("REFR", result(value("INT", 'value="2"'))))),
        isolate(germ("112283007"), antibiogram(), number="I1"),
        comment("RAS"),
    )
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_report_is_read_as_far_as_it_goes(data):
    root = etree.fromstring(FULL)
    for _ in range(data.draw(st.integers(1, 3))):
        everything = [one for one in root.iter() if one.getparent() is not None]
        element = data.draw(st.sampled_from(everything))
        change = data.draw(st.sampled_from(["drop", "attribute", "empty", "twice"]))
        if change == "drop":
            element.getparent().remove(element)
        elif change == "twice":
            element.addnext(etree.fromstring(etree.tostring(element)))
        elif change == "empty":
            del element[:]
        elif element.attrib:
            name = data.draw(st.sampled_from(sorted(element.attrib)))
            element.set(name, data.draw(st.sampled_from(["", "x", "20260230", "-1", "é", "9" * 40])))
    with suppress(Unreadable):
        found = read(etree.tostring(root, encoding="unicode"))
        assert "NOT_TRANSLATED" not in {finding.code for finding in found.findings}
