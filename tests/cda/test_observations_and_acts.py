"""Observations, vital signs, acts, plans, visits and relatives of a CDA (CI-SIS FR-27, 32, 48 to 62, 95; FHIR R4)."""

import importlib.util
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from hub.model.refusals import Unreadable
from mappings.cda.translate import translate_cda


def _documents():
    spec = importlib.util.spec_from_file_location("clinical_documents", Path(__file__).with_name("clinical_documents.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = _documents()
FR, PCC, LOINC, SNOMED, TA = made.FR, made.PCC, made.LOINC, made.SNOMED, made.TA
under, observation, statement, only, read, valid, codes, code_in = (
    made.under, made.observation, made.statement, made.only, made.read, made.valid, made.codes, made.code_in
)  # fmt: skip
WEIGHT = f'<code code="29463-7" {LOINC} displayName="Poids"/>'
KILOS = '<value xsi:type="PQ" value="58" unit="kg"/>'
ON_MONDAY = '<effectiveTime value="20260223"/>'
NO_TIME = '<effectiveTime nullFlavor="NA"/>'
CCAM = '<code code="DDAF004" codeSystem="1.2.250.1.215.300.1" displayName="acte"/>'


def category(body):
    return [code_in(one) for one in body.get("category", ())]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (KILOS, {"valueQuantity": {"value": 58, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}}),
        ('<value xsi:type="BL" value="false"/>', {"valueBoolean": False}),
        ('<value xsi:type="INT" value="3"/>', {"valueInteger": 3}),
        ('<value xsi:type="ST"> deux  mots </value>', {"valueString": "deux mots"}),
        ('<value xsi:type="EIVL_TS" value="20260223"/>', {"valueDateTime": "2026-02-23"}),
        (f'<value xsi:type="CD" code="1" {SNOMED}/>', {"valueCodeableConcept.coding.0.code": "1"}),
        ('<value xsi:type="CD" nullFlavor="UNK"/>', {"dataAbsentReason.coding.0.code": "UNK"}),
    ],
)
def test_an_observation_has_the_value_of_its_type_or_says_why_not(value, wanted):
    body = only(observation(WEIGHT + ON_MONDAY + value))
    for path, said in wanted.items():
        found = body
        for step in path.split("."):
            found = found[int(step)] if step.isdigit() else found[step]
        assert found == said
    assert (body["status"], body["effectiveDateTime"]) == ("final", "2026-02-23")


@pytest.mark.parametrize(
    ("template", "section", "wanted"),
    [
        (FR + "48", "29762-2", ["social-history"]),
        (FR + "52", "11450-4", ["social-history"]),
        (FR + "50", "11450-4", ["vital-signs"]),
        (FR + "25", "18776-5", ["survey"]),
        (FR + "48", "18776-5", []),
    ],
)
def test_the_category_is_that_of_template_or_section_never_a_guess(template, section, wanted):
    assert category(only(observation(WEIGHT + KILOS, template), section=section)) == wanted


def test_what_negates_modifies_and_a_no_needs_no_negation():
    body = only(observation(WEIGHT + '<value xsi:type="BL" value="true"/>', more='negationInd="true"'))
    assert body["modifierExtension"] == [{"url": "urn:vaguemestre:negated", "valueBoolean": True}]
    assert "modifierExtension" not in only(observation(WEIGHT + '<value xsi:type="BL" value="false"/>', more='negationInd="1"'))


def test_a_side_that_qualifies_a_code_stays_with_it():
    side = '<qualifier><name code="20228-3" displayName="latéralité"/><value code="7771000" displayName="gauche"/></qualifier>'
    left = observation(f'<code code="MED-118" {TA} displayName="Masse">{side}</code><value xsi:type="BL" value="true"/>')
    right = left.replace("gauche", "droite").replace("7771000", "24028007")
    bodies = valid(read(left, right))["Observation"]
    assert [body["code"]["text"] for body in bodies] == ["Masse (latéralité : gauche)", "Masse (latéralité : droite)"]
    again = valid(read(right, left))["Observation"]
    assert {str(body["identifier"]) for body in bodies} == {str(body["identifier"]) for body in again}


def test_observations_inside_are_members_supports_or_reasons():
    inner = [observation(f'<code code="{n}" {TA}/><value xsi:type="BL" value="true"/>') for n in "ABC"]
    outer = observation(WEIGHT + KILOS + under("COMP", inner[0]) + under("SPRT", inner[1]) + under("RSON", inner[2]))
    bodies = valid(read(outer))["Observation"]
    numbers = {code_in(body["code"]): body["identifier"][-1] for body in bodies}
    body = next(one for one in bodies if "hasMember" in one)
    assert [one["identifier"] for one in body["hasMember"]] == [numbers["A"]]
    assert [one["identifier"] for one in body["derivedFrom"]] == [numbers["B"]]
    assert [one["valueReference"]["identifier"] for one in body["extension"]] == [numbers["C"]]


def test_vital_signs_are_a_panel_and_members_that_share_its_time():
    members = "".join(
        f"<component>{observation(WEIGHT.replace('29463-7', code) + NO_TIME + KILOS, FR + '50')}</component>"
        for code in ("29463-7", "8480-6")
    )
    bodies = valid(read(statement("organizer", FR + "49", f'<statusCode code="completed"/>{ON_MONDAY}{members}')))["Observation"]
    assert [code_in(body["code"]) for body in bodies] == ["29463-7", "8480-6", "85353-1"]
    assert {body["effectiveDateTime"] for body in bodies} == {"2026-02-23"}
    assert len(bodies[-1]["hasMember"]) == 2
    assert {tuple(category(body)) for body in bodies} == {("vital-signs",)}


def test_an_organizer_without_code_is_only_its_members():
    member = f"<component>{observation(WEIGHT + KILOS)}</component>"
    assert code_in(only(statement("organizer", FR + "95", '<code nullFlavor="NA"/>' + member))["code"]) == "29463-7"


def test_what_is_said_of_the_mother_is_about_her_and_only_an_observation_is_filed():
    body = only(observation(WEIGHT + KILOS), head=made.MOTHER)
    assert body["focus"] == [{"type": "RelatedPerson", "display": "Mère"}]
    found = read(made.problem(), head=made.MOTHER)
    assert (found.facts, codes(found)) == ((), {"ABOUT_ANOTHER_PERSON"})
    assert "focus" not in only(observation(WEIGHT + KILOS), head=made.MOTHER.replace("MTH", "SELF"))


def test_a_comment_is_a_note_of_what_it_stands_in_and_by_itself_an_observation():
    assert only(observation(WEIGHT + KILOS + under("SUBJ", made.COMMENT)))["note"] == [{"text": "des mots"}]
    assert only(made.COMMENT)["valueString"] == "des mots"
    assert only(made.COMMENT.replace("#said", "#before"))["valueString"] == "derrière l'ancre"
    assert read(made.COMMENT.replace("#said", "#dash")).facts == ()


@pytest.mark.parametrize("template", ["24", "28", "35", "36", "61", "94", "97"])
def test_coverage_transfers_and_references_are_left_and_told(template):
    found = read(statement("act", FR + template, '<code code="x"/>'))
    assert (found.facts, codes(found)) == ((), {"LEFT_IN_DOCUMENT"})


# ---- acts and plans ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "status_code", "when", "wanted"),
    [
        ("", "completed", "20260223", "completed"),
        ("", "active", "20260223", "in-progress"),
        ("", "active", "20261223", "preparation"),
        ("", "aborted", "20260223", "stopped"),
        ("", "cancelled", "20260223", "not-done"),
        ('negationInd="true"', "completed", "20260223", "not-done"),
    ],
)
def test_an_act_has_the_status_of_its_entry(more, status_code, when, wanted):
    inner = f'{CCAM}<statusCode code="{status_code}"/><effectiveTime value="{when}"/>'
    assert only(statement("procedure", FR + "62", inner, more=more))["status"] == wanted


def test_an_act_names_site_reason_devices_and_is_named_by_its_observations():
    reason = statement("act", FR + "36", '<code code="I21.1"/>')
    device = statement("act", FR + "36", '<code code="C010101"/>')
    score = observation(f'<code code="GEN-023" {TA}/><value xsi:type="BL" value="true"/>')
    part = '<participant typeCode="DEV"><participantRole><playingDevice><code code="Z1"/></playingDevice></participantRole>'
    part += "</participant>"
    site = f'<targetSiteCode code="41801008" {SNOMED}/>'
    inner = f"{CCAM}{ON_MONDAY}{site}{part}{under('RSON', reason)}{under('REFR', device)}{under('COMP', score)}"
    bodies = valid(read(statement("procedure", FR + "62", inner)))
    (body,), (seen,) = bodies["Procedure"], bodies["Observation"]
    assert (code_in(body["code"]), code_in(body["bodySite"][0]), code_in(body["reasonCode"][0])) == (
        "DDAF004",
        "41801008",
        "I21.1",
    )
    assert [code_in(one) for one in body["usedCode"]] == ["Z1", "C010101"]
    assert seen["partOf"][0]["identifier"] == body["identifier"][-1]


@pytest.mark.parametrize(
    ("status_code", "when", "wanted"),
    [
        ("active", "20260223", "active"),
        ("completed", "20260223", "completed"),
        ("completed", "20260401", "active"),
        ("cancelled", "20260401", "revoked"),
    ],
)
def test_a_planned_act_is_a_request_that_is_over_only_when_its_time_is(status_code, when, wanted):
    inner = f'{CCAM}<statusCode code="{status_code}"/><effectiveTime value="{when}"/><priorityCode code="UR"/>'
    body = only(statement("procedure", FR + "62", inner, mood="INT"))
    assert (body["status"], body["intent"], body["priority"]) == (wanted, "plan", "urgent")


@pytest.mark.parametrize(
    ("mood", "value", "wanted"),
    [
        ("INT", "", {"intent": "plan"}),
        ("PRP", KILOS, {"intent": "proposal", "orderDetail": [{"text": "58 kg"}]}),
        ("RQO", '<value xsi:type="BL" value="false"/>', {"intent": "order", "doNotPerform": True}),
        ("GOL", KILOS, {"lifecycleStatus": "active", "startDate": None}),
    ],
)
def test_a_request_for_an_examination_and_a_goal_are_told_apart_by_their_mood(mood, value, wanted):
    body = only(observation(WEIGHT + ON_MONDAY + value, FR + "27", mood=mood))
    assert {name: body.get(name) for name in wanted} == wanted


def test_a_goal_has_a_target_and_the_day_by_which():
    body = only(observation(WEIGHT + ON_MONDAY + KILOS, FR + "27", mood="GOL"))
    (target,) = body["target"]
    assert (target["detailQuantity"]["value"], target["dueDate"], code_in(target["measure"])) == (58, "2026-02-23", "29463-7")
    negated = only(observation(WEIGHT, FR + "27", mood="GOL", more='negationInd="true"'))
    assert negated["lifecycleStatus"] == "rejected"
    found = read(observation(WEIGHT + '<value xsi:type="TS" value="20260223"/>', FR + "27", mood="GOL"))
    assert (valid(found)["Goal"][0]["target"][0]["detailString"], codes(found)) == ("20260223", {"VALUE_TYPE"})


# ---- visits and relatives --------------------------------------------------------------------------------------------------


PERFORMER = (
    '<performer><assignedEntity><id root="1.2.250.1.71.4.2.1" extension="899700000017"/>'
    "<assignedPerson><name><family>ESSAI</family></name></assignedPerson></assignedEntity></performer>"
)
PLACE = (
    '<participant typeCode="LOC"><participantRole><playingEntity><name>Service</name></playingEntity></participantRole>'
    "</participant>"
)
STAY = '<code code="IMP" codeSystem="2.16.840.1.113883.5.4"/>'
HOURS = '<effectiveTime><low value="202602230900+0100"/><high value="202602231000+0100"/></effectiveTime>'


def test_a_visit_that_took_place_is_an_encounter():
    body = only(statement("encounter", FR + "58", STAY + HOURS + PERFORMER + PLACE + under("SUBJ", made.COMMENT)))
    assert (body["status"], body["class"]["code"], body["period"]["end"]) == ("finished", "IMP", "2026-02-23T10:00:00+01:00")
    assert (body["participant"][0]["individual"]["display"], body["location"][0]["location"]["display"]) == ("ESSAI", "Service")
    beginning = only(
        statement("encounter", FR + "58", f'<code code="x" {TA}/><effectiveTime><low value="2026"/></effectiveTime>')
    )
    assert (beginning["status"], beginning["class"]["code"]) == ("unknown", "UNK")
    assert read(statement("encounter", FR + "58", STAY, more='nullFlavor="NA"')).facts == ()


@pytest.mark.parametrize(
    ("mood", "when", "wanted"),
    [
        ("ARQ", HOURS, {"status": "proposed", "start": None}),
        ("APT", HOURS, {"status": "booked", "start": "2026-02-23T09:00:00+01:00"}),
        ("APT", ON_MONDAY, {"status": "proposed", "start": None}),
        ("INT", "", {"status": "proposed", "requestedPeriod": None}),
    ],
)
def test_a_visit_to_come_is_an_appointment_booked_only_to_the_minute(mood, when, wanted):
    body = only(statement("encounter", FR + "58", STAY + when + PERFORMER, mood=mood))
    assert {name: body.get(name) for name in wanted} == wanted


def relative(inner, code='<code code="FTH" codeSystem="2.16.840.1.113883.5.111" displayName="Père"/>'):
    person = '<subject><administrativeGenderCode code="M"/><birthTime value="1950"/><sdtc:deceasedInd value="true"/></subject>'
    who = f'<subject><relatedSubject classCode="PRS">{code}{person}</relatedSubject></subject>'
    return statement("organizer", FR + "59", f'<statusCode code="completed"/>{who}<component>{inner}</component>')


def test_what_a_relative_had_is_theirs_and_no_fact_of_the_patient():
    had = made.problem('<effectiveTime value="2000"/>', template=FR + "51", more='negationInd="true"')
    body = only(relative(had), section="10157-6")
    assert (code_in(body["relationship"]), code_in(body["sex"]), body["bornDate"], body["deceasedBoolean"]) == (
        "FTH", "male", "1950", True,
    )  # fmt: skip
    (condition,) = body["condition"]
    assert (code_in(condition["code"]), condition["onsetPeriod"]["start"]) == ("I10", "2000")
    assert condition["modifierExtension"][0]["url"] == "urn:vaguemestre:negated"
    assert code_in(only(relative(had, '<code nullFlavor="UNK"/>'))["relationship"]) == "FAMMEMB"


# ---- what is wrong -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [observation(KILOS), statement("procedure", FR + "62", ON_MONDAY)])
def test_an_entry_without_a_code_stays_in_the_document(entry):
    found = read(entry)
    assert (found.facts, codes(found)) == ((), {"CODE_MISSING"})


def test_a_nullified_entry_is_nothing():
    found = read(observation(WEIGHT + KILOS + '<statusCode code="nullified"/>'))
    assert (found.facts, codes(found)) == ((), set())


def test_a_wrong_value_is_told_and_the_observation_kept():
    found = read(observation(WEIGHT + '<effectiveTime value="20261345"/><value xsi:type="PQ" value="lourd" unit="kg"/>'))
    (body,) = valid(found)["Observation"]
    assert codes(found) == {"TS_INVALID", "VALUE_INVALID"}
    assert not {"valueQuantity", "effectiveDateTime"} & body.keys()


EVERYTHING = made.document(
    made.concern(made.problem(under("SUBJ", made.said(FR + "171", "66455-7", "confirmed")) + under("SUBJ", made.COMMENT))),
    made.concern(observation(WEIGHT + under("MFST", made.problem()), FR + "41"), template=FR + "40"),
    statement("organizer", FR + "49", f"<component>{observation(WEIGHT + ON_MONDAY + KILOS, FR + '50')}</component>"),
    statement("procedure", FR + "62", CCAM + ON_MONDAY + under("COMP", observation(WEIGHT + KILOS))),
    observation(WEIGHT + HOURS + KILOS, FR + "27", mood="GOL"),
    statement("encounter", FR + "58", STAY + HOURS + PERFORMER + PLACE, mood="APT"),
    relative(made.problem(template=FR + "51")),
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_entry_that_is_cut_or_garbled_never_breaks_the_reading(data):
    root = etree.fromstring(EVERYTHING)
    inside = [part for part in root.iter() if any("section" in str(parent.tag) for parent in part.iterancestors())]
    for _ in range(data.draw(st.integers(1, 3))):
        part = data.draw(st.sampled_from(inside))
        if part.getparent() is not None and data.draw(st.booleans()):
            part.getparent().remove(part)
        elif part.attrib:
            name = data.draw(st.sampled_from(sorted(part.attrib)))
            part.set(name, data.draw(st.sampled_from(["", " ", "nullified", "-1", "9" * 30, "20269999", "true", "#said"])))
    with suppress(Unreadable):
        found = translate_cda(etree.tostring(root), tz=made.ZoneInfo("Europe/Paris"), units=made.UNITS)
        for body in (fact.body for fact in found.facts):
            assert "subject" not in body
        assert "NOT_TRANSLATED" not in codes(found)
