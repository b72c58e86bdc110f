"""Problems and allergies of a CDA (CI-SIS FR-37, 39, 41, 113, 171, 172, 210; FHIR R4 con-3 to con-5, ait-1, ait-2)."""

import importlib.util
from pathlib import Path

import pytest


def _documents():
    spec = importlib.util.spec_from_file_location("clinical_documents", Path(__file__).with_name("clinical_documents.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = _documents()
FR, PCC, CCD, LOINC, SNOMED, TA = made.FR, made.PCC, made.CCD, made.LOINC, made.SNOMED, made.TA
under, said, problem, concern, only, read, valid, codes, code_in = (
    made.under, made.said, made.problem, made.concern, made.only, made.read, made.valid, made.codes, made.code_in
)  # fmt: skip
SINCE = '<effectiveTime><low value="20200101"/></effectiveTime>'
OVER = '<effectiveTime><low value="20200101"/><high value="20210203"/></effectiveTime>'
HISTORY = "11348-0"


def status(body):
    return code_in(body.get("clinicalStatus")), code_in(body.get("verificationStatus"))


@pytest.mark.parametrize(
    ("entry", "section", "wanted"),
    [
        (concern(problem(SINCE)), "11450-4", ("active", "")),
        (concern(problem(OVER)), "11450-4", ("resolved", "")),
        (concern(problem(SINCE), status="suspended"), "11450-4", ("inactive", "")),
        (concern(problem(SINCE), status="completed"), "11450-4", ("active", "")),
        (concern(problem(SINCE), status="completed"), HISTORY, ("inactive", "")),
        (concern(problem(SINCE), status="active"), HISTORY, ("active", "")),
        (concern(problem(OVER), status="completed"), HISTORY, ("resolved", "")),
        (concern(problem(under("REFR", said(FR + "30", "33999-4", "remission")))), "11450-4", ("remission", "")),
        (concern(problem(OVER + under("REFR", said(FR + "30", "33999-4", "active")))), "11450-4", ("resolved", "")),
        (concern(problem(under("SUBJ", said(FR + "171", "66455-7", "unconfirmed")))), "11450-4", ("active", "unconfirmed")),
        (concern(problem(under("SUBJ", said(FR + "171", "66455-7", "entered-in-error")))), "11450-4", ("", "entered-in-error")),
        (concern(problem(SINCE, more='negationInd="true"')), "11450-4", ("", "refuted")),
    ],
)
def test_the_state_of_a_problem_is_that_of_its_entry_its_concern_and_its_section(entry, section, wanted):
    assert status(only(entry, section=section)) == wanted


def test_a_problem_holds_code_kind_severity_times_site_and_comments():
    body = only(
        concern(
            problem(
                f'{OVER}<targetSiteCode code="76752008" {SNOMED}/>'
                + under("SUBJ", said(FR + "29", "SEV", "6736007"))
                + under("REFR", said(FR + "31", "11323-3", "84387000"))
                + under("SUBJ", made.COMMENT)
            )
        )
    )
    assert (code_in(body["code"]), code_in(body["severity"]), code_in(body["bodySite"][0])) == ("I10", "6736007", "76752008")
    assert [code_in(kind) for kind in body["category"]] == ["problem-list-item", "282291009"]
    assert (body["onsetDateTime"], body["abatementDateTime"]) == ("2020-01-01", "2021-02-03")
    assert body["note"] == [{"text": "des mots"}]
    assert body["code"]["coding"][0]["system"] == "http://hl7.org/fhir/sid/icd-10"


@pytest.mark.parametrize("template", [FR + "37", FR + "113", PCC + "5", CCD + "28"])
def test_older_and_foreign_templates_say_the_same_problem(template):
    assert code_in(only(problem(template=template))["code"]) == "I10"


@pytest.mark.parametrize(
    ("section", "category"), [("11450-4", ["problem-list-item"]), ("46241-6", ["encounter-diagnosis"]), ("10210-3", [])]
)
def test_a_problem_is_on_the_list_only_where_the_section_says_so(section, category):
    assert [code_in(one) for one in only(problem(), section=section)["category"]][:-1] == category


ABSENT = '<value xsi:type="CD" code="no-known-problems" codeSystem="2.16.840.1.113883.5.1150.1"/>'


def test_no_known_problem_is_not_refuted_twice():
    body = only(concern(problem(value=ABSENT, more='negationInd="true"')))
    assert (code_in(body["code"]), status(body)) == ("no-known-problems", ("active", ""))


def pointing(cell, negated):
    value = f'<text><reference value="{cell}"/></text><value xsi:type="CD" code="MED-1" displayName="Prématurité" {TA}>'
    value += f'<originalText><reference value="{cell}"/></originalText></value>'
    return read(concern(problem(value=value, more=f'negationInd="{negated}"')))


@pytest.mark.parametrize(
    ("cell", "negated", "verification", "told"),
    [
        ("#no", "true", "refuted", set()),
        ("#no", "false", "refuted", {"TEXT_SAYS_OTHERWISE"}),
        ("yes", "true", "", {"TEXT_SAYS_OTHERWISE"}),
        ("#dash", "true", "refuted", set()),
    ],
)
def test_the_text_of_the_section_counts_against_the_negation_and_is_no_name(cell, negated, verification, told):
    found = pointing(cell, negated)
    ((body,),) = valid(found).values()
    assert (status(body)[1], body["code"]["text"], codes(found)) == (verification, "Prématurité", told)


def test_a_relationship_can_negate_what_it_leads_to():
    outer = made.statement("act", FR + "39", '<statusCode code="active"/>' + under("SUBJ", problem(), more='negationInd="true"'))
    assert status(only(outer)) == ("", "refuted")


def test_observations_in_a_problem_are_its_evidence_and_its_stage():
    stage = made.observation(
        f'<code code="75620-5" {LOINC}/><value xsi:type="CD"><qualifier><name code="21909-7" displayName="Stade"/>'
        '<value code="IB" displayName="IB"/></qualifier></value>',
        "1.3.6.1.4.1.19376.1.7.3.1.4.14.2",
    )
    plain = made.observation(f'<code code="A" {TA}/><value xsi:type="BL" value="true"/>')
    bodies = valid(read(concern(problem(under("SUBJ", stage) + under("REFR", plain), template=FR + "113"))))
    (body,) = bodies["Condition"]
    numbers = [one["identifier"][-1] for one in bodies["Observation"]]
    assert body["stage"][0]["summary"]["text"] == "Stade : IB"
    assert body["stage"][0]["assessment"][0]["identifier"] in numbers
    assert body["evidence"][0]["detail"][0]["identifier"] in numbers


def test_a_problem_without_code_or_words_stays_and_a_nullified_one_is_nothing():
    found = read(problem(value='<value xsi:type="CD" nullFlavor="NA"/>'))
    assert (found.facts, codes(found)) == ((), {"CODE_MISSING"})
    nullified = problem().replace('code="completed"', 'code="nullified"')
    assert (read(nullified).facts, codes(read(nullified))) == ((), set())


# ---- allergies ---------------------------------------------------------------------------------------------------------


def allergy(inner="", kind="416098002", more="", substance="60234100", value='<value xsi:type="CD"/>'):
    agent = (
        '<participant typeCode="CSM"><participantRole classCode="MANU"><playingEntity>'
        f'<code code="{substance}" codeSystem="1.2.250.1.213.2.3.1" displayName="ESSAI"/></playingEntity>'
        "</participantRole></participant>"
    )
    code = f'<code code="{kind}" {SNOMED} displayName="genre"/><statusCode code="completed"/>'
    return made.observation(code + SINCE + value + (agent if substance else "") + inner, FR + "41", more=more)


def reaction(inner=""):
    value = f'<value xsi:type="CD" code="271807003" displayName="éruption" {SNOMED}/>'
    return under("MFST", problem(SINCE + inner, value=value))


def test_an_allergy_holds_substance_reaction_criticality_and_certainty():
    body = only(
        concern(
            allergy(
                reaction(under("SUBJ", said(FR + "29", "SEV", "24484000")))
                + under("SUBJ", said(FR + "172", "82606-5", "high"))
                + under("SUBJ", said(FR + "171", "66455-7", "confirmed"))
                + under("REFR", said(FR + "30", "33999-4", "inactive"))
                + under("SUBJ", made.COMMENT)
            ),
            template=FR + "40",
        ),
        section="48765-2",
    )
    assert (body["type"], body["category"], body["criticality"], status(body)) == (
        "allergy", ["medication"], "high", ("inactive", "confirmed"),
    )  # fmt: skip
    assert (code_in(body["code"]), body["onsetDateTime"], body["note"]) == ("60234100", "2020-01-01", [{"text": "des mots"}])
    (shown,) = body["reaction"]
    assert (code_in(shown["manifestation"][0]), shown["severity"], shown["onset"]) == ("271807003", "severe", "2020-01-01")


@pytest.mark.parametrize(
    ("entry", "code", "wanted"),
    [
        (allergy(more='negationInd="true"'), "60234100", ("inactive", "refuted")),
        (allergy(more='negationInd="true"', substance=""), "409137002", ("active", "")),
        (allergy(more='negationInd="true"', substance="", kind="414285001"), "429625007", ("active", "")),
        (allergy(more='negationInd="true"', substance="", kind="1"), "716186003", ("active", "")),
        (allergy(substance=""), "416098002", ("active", "")),
        (
            allergy(substance="", value=ABSENT.replace("problems", "allergies"), more='negationInd="true"'),
            "no-known-allergies",
            ("active", ""),
        ),
    ],
)
def test_what_is_not_an_allergy_says_so(entry, code, wanted):
    body = only(entry, section="48765-2")
    assert (code_in(body["code"]), status(body)) == (code, wanted)


def test_an_answer_is_no_substance():
    value = '<value xsi:type="CD"><originalText><reference value="#yes"/></originalText></value>'
    assert only(allergy(substance="", kind="414285001", value=value))["code"]["text"] == "genre"


def test_every_substance_is_an_allergy_of_its_own():
    second = allergy(substance="2").partition("<participant")[2].partition("</participant>")[0]
    bodies = valid(read(allergy(f"<participant{second}</participant>")))["AllergyIntolerance"]
    assert sorted(code_in(body["code"]) for body in bodies) == ["2", "60234100"]
    assert len({str(body["identifier"]) for body in bodies}) == 2


def adverse(medicine):
    inner = f'<code code="79899007" {SNOMED}/><value xsi:type="CD" displayName="effet"/>{medicine}{reaction()}'
    inner += under("SUBJ", said(FR + "212", "94030-4", "255604002")) + under("SUBJ", said(FR + "211", "GEN-318", "17162000"))
    return made.observation(inner, FR + "210")


def test_an_adverse_effect_of_a_named_medicine_is_an_intolerance_to_it():
    medicine = (
        '<consumable><manufacturedProduct><manufacturedMaterial><code code="3400900000001" codeSystem="1.2.250.1.213.2.3.2"/>'
        "</manufacturedMaterial></manufacturedProduct></consumable>"
    )
    body = only(adverse(under("COMP", made.statement("substanceAdministration", FR + "42", medicine))), section="44939-7")
    assert (code_in(body["code"]), body["category"], body["reaction"][0]["severity"]) == ("3400900000001", ["medication"], "mild")
    bodies = valid(read(adverse(""), section="44939-7"))
    assert "AllergyIntolerance" not in bodies
    assert code_in(bodies["Observation"][-1]["code"]) == "79899007"
