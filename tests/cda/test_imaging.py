"""Imaging reports and requests: CI-SIS CR-IMG, DA-IMG; DICOM PS3.20; FHIR R4."""

import copy

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from hub.model.record_change import ResourceChange
from hub.model.refusals import Unreadable
from tests.cda import imaging_documents as doc
from tests.cda.imaging_documents import FR, SECTION, STUDY, cda, entry, section, translate


def only(xml: bytes, kind: str) -> dict:
    found = [fact.body for fact in translate(xml).facts if fact.type == kind]
    assert len(found) == 1, [fact.type for fact in translate(xml).facts]
    return found[0]


def codes(xml: bytes) -> list[str]:
    """Findings in the body; those of the header have tests of their own."""
    return [finding.code for finding in translate(xml).findings if not finding.code.startswith("CDA_")]


def reference(fact: ResourceChange) -> dict:
    return {"type": fact.type, "identifier": {"system": "urn:ietf:rfc:3986", "value": fact.key.partition("|")[2]}}


def assert_r4(xml: bytes) -> None:
    for fact in translate(xml).facts:
        made = copy.deepcopy(fact.body)
        if fact.type in {"DiagnosticReport", "DocumentReference"}:
            for attachment in made.get("presentedForm", []) + [one["attachment"] for one in made.get("content", [])]:
                if str(attachment.get("url", "")).startswith("#"):
                    attachment["url"] = "Binary/1"
        get_fhir_model_class(fact.type)(**made | {"resourceType": fact.type, "subject": {"display": "x"}})


def test_a_report_names_what_it_is_made_of():
    facts = {fact.type: fact for fact in translate(doc.REPORT).facts}
    report = facts["DiagnosticReport"].body
    assert codes(doc.REPORT) == []
    assert (report["result"], report["imagingStudy"]) == ([reference(facts["Observation"])], [reference(facts["ImagingStudy"])])
    assert report["effectivePeriod"] == {"start": "2026-03-01T10:00:00+01:00", "end": "2026-03-01T10:10:00+01:00"}
    assert report["basedOn"][0]["identifier"] == {"system": "urn:oid:1.2.250.1.999.4", "value": "D-1"}
    assert report["identifier"][0]["type"]["coding"][0]["code"] == "ACSN"
    assert report["category"][0]["coding"][0]["code"] == "RAD"
    assert report["conclusion"] == "Rien d'anormal\n\nTitre : Relu"
    assert report["extension"] == [{"url": "urn:vaguemestre:findings", "valueString": "Poumons clairs"}]
    assert report["presentedForm"][0]["url"] == "#content0"
    assert facts["DiagnosticReport"].contents[0].size == len(doc.PDF)
    assert "DocumentReference" not in facts


@pytest.mark.parametrize("xml", [doc.REPORT, doc.REQUEST])
def test_what_is_made_is_r4(xml: bytes):
    assert_r4(xml)


def test_a_later_version_speaks_of_the_same_report():
    later = doc.REPORT.replace(b'extension="42.1"', b'extension="42.2"').replace(b"20260301101500", b"20260302101500")
    assert [fact.key for fact in translate(later).facts] == [fact.key for fact in translate(doc.REPORT).facts]


def test_a_report_of_texts_only():
    report = only(cda(section(SECTION + "209", words="RAS")), "DiagnosticReport")
    assert (report["conclusion"], report["issued"]) == ("RAS", "2026-03-01T10:15:00+01:00")
    assert not {"result", "imagingStudy", "presentedForm", "basedOn"} & report.keys()
    assert translate(cda(section(SECTION + "209", words="RAS"), model="1.2.250.1.213.1.1.1.47")).facts == ()


def test_an_act_has_its_modality_side_and_contrast_agent():
    act = only(doc.REPORT, "Procedure")
    assert act["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] == "CT"
    assert act["bodySite"][0]["text"] == "Thorax, gauche"
    assert act["usedCode"][0]["coding"][0]["code"] == "V08AB11"
    assert [note["text"] for note in act["note"]] == ["description", "remarque"]
    assert only(doc.REPORT, "Observation")["partOf"][0]["type"] == "Procedure"


def test_what_belongs_to_one_of_two_acts_is_given_to_none():
    xml = cda(section(SECTION + "206", entry(doc.act()) + entry(doc.act("1.2.9")) + entry(doc.CONTRAST) + entry(doc.DOSE)))
    facts = translate(xml).facts
    assert all("usedCode" not in fact.body for fact in facts if fact.type == "Procedure")
    assert "partOf" not in only(xml, "Observation")


@pytest.mark.parametrize(
    ("inside", "attributes", "status"),
    [
        ('<statusCode code="aborted"/>', "", "stopped"),
        ('<statusCode code="active"/>', "", "in-progress"),
        ('<statusCode code="odd"/>', "", "unknown"),
        ("", ' negationInd="true"', "not-done"),
    ],
)
def test_status_of_an_act(inside: str, attributes: str, status: str):
    act = doc.act(inside=inside).replace("<procedure", f"<procedure{attributes}")
    assert only(cda(section(SECTION + "206", entry(act))), "Procedure")["status"] == status


def test_what_was_taken_back_says_nothing():
    gone = '<statusCode code="nullified"/>'
    xml = cda(
        section(
            SECTION + "206", entry(doc.act(inside=gone)) + entry(doc.study(inside=gone)) + entry(doc.request(status="nullified"))
        )
    )
    assert [fact.type for fact in translate(xml).facts] == ["DiagnosticReport"]
    assert codes(xml) == []


# ---- the DICOM catalogue ---------------------------------------------------------------------------------------------


def catalogue(*studies: str) -> bytes:
    return cda(
        section(SECTION + "217", "".join(entry(one) for one in studies)), model="1.2.250.1.999.1", header=doc.ORDER + doc.EVENT
    )


def test_a_study_with_its_series_and_instances():
    study = only(catalogue(doc.study(inside=doc.series() + doc.series(STUDY + ".2", "SR", ""))), "ImagingStudy")
    assert {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY}"} in study["identifier"]
    assert [number["value"] for number in study["identifier"] if "type" in number] == ["A-1"]
    assert [one["code"] for one in study["modality"]] == ["CT", "SR"]
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (2, 1)
    assert [one["code"] for one in study["procedureCode"][0]["coding"]] == ["24627-2"]
    instance = study["series"][0]["instance"][0]
    assert (instance["uid"], instance["sopClass"]["code"]) == (STUDY + ".1.1", "urn:oid:1.2.840.10008.5.1.4.1.1.2")
    assert instance["extension"] == [{"url": "urn:vaguemestre:wado-uri", "valueString": "http://h/wado?x=1&y=2"}]


def test_of_several_accession_numbers_none_is_that_of_a_study():
    two = catalogue(doc.study()).replace(doc.ORDER.encode(), (doc.ORDER + doc.ORDER.replace("A-1", "A-2")).encode())
    study = only(two, "ImagingStudy")
    assert all("type" not in number for number in study["identifier"])
    assert "basedOn" not in study


def test_two_documents_speak_of_one_study():
    other = catalogue(doc.study()).replace(b'extension="42', b'extension="77')
    assert [fact.key for fact in translate(other).facts] == [fact.key for fact in translate(catalogue(doc.study())).facts]


@pytest.mark.parametrize("uid", ["1.2.x", "", "1." * 40 + "1", "1.02.3", "D1E2F3A4-0000-0000-0000-000000000000"])
def test_a_study_is_known_by_a_dicom_uid(uid: str):
    assert translate(catalogue(doc.study(uid))).facts == ()
    assert codes(catalogue(doc.study(uid))) == ["STUDY_UID_INVALID"]


def test_what_is_wrong_in_a_series_is_told_and_the_rest_stands():
    xml = catalogue(
        doc.study(inside=doc.series(modality="") + doc.series("x") + doc.series(STUDY + ".3", inside=doc.instance(sop="CT")))
    )
    assert codes(xml) == ["DICOM_MODALITY_MISSING", "STUDY_UID_INVALID", "CODE_MISSING"]
    study = only(xml, "ImagingStudy")
    assert [(one["uid"], one["modality"]["code"], one["numberOfInstances"]) for one in study["series"]] == [
        (STUDY + ".1", "UNK", 1),
        (STUDY + ".3", "CT", 0),
    ]
    assert_r4(xml)


# ---- requests --------------------------------------------------------------------------------------------------------


def test_a_request():
    request = only(doc.REQUEST, "ServiceRequest")
    assert codes(doc.REQUEST) == []
    assert (request["status"], request["intent"], request["priority"]) == ("active", "order", "urgent")
    assert request["requisition"] == {"system": "urn:oid:1.2.250.1.999.4", "value": "D-1"}
    assert request["bodySite"][0]["text"] == "Thorax, gauche"
    assert (request["reasonCode"], request["note"]) == ([{"text": "Douleur"}], [{"text": "remarque"}])
    assert request["extension"][0]["extension"][1] == {"url": "value", "valueBoolean": True}
    assert (request["requester"]["display"], request["authoredOn"]) == ("AUTEUR", "2026-03-01T10:15:00+01:00")


@pytest.mark.parametrize(
    ("given", "element", "wanted"),
    [
        ({"status": "completed"}, "status", "completed"),
        ({"status": "aborted"}, "status", "revoked"),
        ({"mood": "PRP"}, "intent", "proposal"),
        ({"priority": '<priorityCode code="R"/>'}, "priority", "routine"),
        ({"priority": '<priorityCode code="odd"/>'}, "priority", None),
        ({"priority": ""}, "priority", None),
    ],
)
def test_state_intent_and_priority_of_a_request(given: dict[str, str], element: str, wanted: str | None):
    xml = cda(section(SECTION + "158.3", entry(doc.request(**given))), model="1.2.3")
    assert only(xml, "ServiceRequest").get(element) == wanted


def test_a_request_for_nothing_is_none():
    xml = cda(section(SECTION + "158.3", entry(doc.request(code='<code nullFlavor="UNK"/>'))), model="1.2.3")
    assert translate(xml).facts == ()
    assert codes(xml) == ["CODE_MISSING"]


def test_an_act_that_is_asked_for_is_a_request():
    assert only(cda(section(SECTION + "206", entry(doc.act(mood="RQO"))), model="1.2.3"), "ServiceRequest")["intent"] == "order"


def test_series_outside_a_study_stay_in_the_document():
    alone = f'<act classCode="ACT" moodCode="EVN"><templateId root="{FR}156"/><id root="1.2.3"/></act>'
    assert codes(catalogue(alone)) == ["LEFT_IN_DOCUMENT"]


# ---- for every input -------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([doc.REPORT, doc.REQUEST]), st.integers(0, 10**6), st.sampled_from(["gone", "attribute", "garbled", "text"])
)
def test_a_damaged_document_is_read_as_far_as_it_goes(xml: bytes, place: int, damage: str):
    root = etree.fromstring(xml)
    elements = [one for one in root.iterdescendants() if isinstance(one.tag, str)]
    element = elements[place % len(elements)]
    if damage == "gone":
        parent = element.getparent()
        assert parent is not None
        parent.remove(element)
    elif damage == "text":
        element.text = "\x7f&é"
    else:
        for name in list(element.attrib):
            if damage == "attribute":
                del element.attrib[name]
            else:
                element.attrib[name] = "²\t--"
    try:
        facts = translate(etree.tostring(root)).facts
    except Unreadable:
        return
    assert len({(fact.type, fact.key) for fact in facts}) == len(facts)
