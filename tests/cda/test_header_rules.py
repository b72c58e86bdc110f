"""The rules of the header, one by one: CI-SIS, volet Structuration minimale des documents de santé, rules 1.16."""

import contextlib
import importlib.util
import os
import re
from collections import Counter
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.model.refusals import Finding, Unreadable
from mappings.cda import checks, header_rules
from mappings.cda.translate import translate_cda
from mappings.hl7v2.ucum import Units
from mappings.registry import packaged_table
from mappings.tables import load

UNITS = Units(load(packaged_table("ucum_units")))


def _documents():
    path = Path(__file__).with_name("header_document.py")
    spec = importlib.util.spec_from_file_location("header_document", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DOCUMENTS = _documents()
N1, N3 = DOCUMENTS.n1(), DOCUMENTS.n3()


def found(xml: str, environment: str = "test") -> tuple[Finding, ...]:
    return translate_cda(xml.encode(), tz=ZoneInfo("Europe/Paris"), units=UNITS, environment=environment).findings


@pytest.mark.parametrize("xml", [N1, N3])
def test_a_document_that_keeps_the_rules_has_no_finding(xml):
    assert found(xml) == ()


PERFORMER = "/documentationOf[1]/serviceEvent/performer"
# what is replaced, by what, the code that is told, and where
BROKEN = [
    ('<realmCode code="FR"/>', "", "CDA_REALM", "/realmCode"),
    ('code="FR"', 'code="BE"', "CDA_REALM", "/realmCode"),
    ("POCD_HD000040", "POCD_HD000041", "CDA_TYPE_ID", "/typeId"),
    ('<typeId root="2.16.840.1.113883.1.3"', "<typeId", "CDA_TYPE_ID", "/typeId"),
    ('<id root="1.2.250.1.999.1" ', '<id root="abc" ', "CDA_ID", "/id"),
    (' displayName="CR"', "", "CDA_CODE", "/code"),
    ('codeSystem="2.16.840.1.113883.6.1" ', "", "CDA_CODE", "/code"),
    ('code="11502-2"', 'code="11502-3"', "CDA_CODE_SET", "/code"),
    ("<title>Compte rendu</title>", "<title> </title>", "CDA_TITLE", "/title"),
    ("<title>Compte rendu</title>", "<title>A</title><title>B</title>", "CDA_TITLE", "/title[2]"),
    ("20260301101500+0100", "20260301", "CDA_EFFECTIVE_TIME", "/effectiveTime"),
    ('code="N"', 'code="MASQUE_PS"', "CDA_CONFIDENTIALITY", "/confidentialityCode"),
    ('codeSystem="2.16.840.1.113883.5.25"', "", "CDA_CONFIDENTIALITY", "/confidentialityCode"),
    ("fr-FR", "fr", "CDA_LANGUAGE", "/languageCode"),
    ('<setId root="1.2.250.1.999.1" extension="S"/>', "", "CDA_SET_ID", "/setId"),
    ('<versionNumber value="2"/>', '<versionNumber value="0"/>', "CDA_VERSION", "/versionNumber"),
    ("recordTarget", "recordTargets", "CDA_PATIENT", "/recordTarget/patientRole"),
    ("author>", "writer>", "CDA_AUTHOR", "/author"),
    ("</dataEnterer>", "</dataEnterer><dataEnterer/>", "CDA_DATA_ENTERER", "/dataEnterer[2]"),
    ("custodian>", "keeper>", "CDA_CUSTODIAN", "/custodian/assignedCustodian/representedCustodianOrganization"),
    ("legalAuthenticator>", "signer>", "CDA_SIGNER", "/legalAuthenticator"),
    ("documentationOf>", "about>", "CDA_EVENT", "/documentationOf/serviceEvent"),
    ('typeCode="RPLC"', 'typeCode="APND"', "CDA_RELATED", "/relatedDocument"),
    ("componentOf>", "during>", "CDA_ENCOUNTER", "/componentOf/encompassingEncounter"),
    ('<id root="1.2.250.1.999.7" extension="P7"/>', '<id extension="P7"/>', "CDA_PATIENT_ID", "/recordTarget/patientRole/id[2]"),
    ("<name><family q", "<name/><name><family q", "CDA_PATIENT_NAME", "/recordTarget/patientRole/patient/name[2]"),
    ('<administrativeGenderCode code="F"', '<administrativeGenderCode code="X"', "CDA_GENDER", "/administrativeGenderCode"),
    ('<birthTime value="19840512"/>', '<birthTime value="12.5.1984"/>', "CDA_BIRTH_TIME", "/birthTime"),
    ("<county>29019</county>", "<county>Brest</county>", "CDA_BIRTH_PLACE", "/county"),
    ('<time nullFlavor="UNK"/>', "<time/>", "CDA_AUTHOR_TIME", "/author[2]/time"),
    ('<author><functionCode code="PCP"', '<author><functionCode code="XX"', "CDA_FUNCTION_SET", "/author[1]/functionCode"),
    ('extension="A"', "", "CDA_AUTHOR_ID", "/author[2]/assignedAuthor/id"),
    ("G15_10/SM26", "G15_10/SM999", "CDA_AUTHOR_CODE_SET", "/author[1]/assignedAuthor/code"),
    ("<family>VASSEUR</family>", "", "CDA_AUTHOR_NAME", "/author[1]/assignedAuthor/assignedPerson"),
    ("<softwareName>S</softwareName>", "", "CDA_AUTHOR_DEVICE", "/author[2]/assignedAuthor/assignedAuthoringDevice"),
    ("<manufacturerModelName>M</manufacturerModelName>", "", "CDA_AUTHOR_DEVICE", "/assignedAuthoringDevice"),
    (
        '<representedOrganization><id root="1.2.250.1.71.4.2.2"',
        '<representedOrganization><id root="1.2.250.1.71.4.2.9"',
        "CDA_STRUCTURE_ID",
        "/author[1]/assignedAuthor/representedOrganization/id",
    ),
    ('classCode="ECON"', 'classCode="PROV"', "CDA_INFORMANT", "/informant/relatedEntity"),
    ('code="SIS"', 'code="XXX"', "CDA_RELATION_SET", "/informant/relatedEntity/code"),
    (
        '<representedCustodianOrganization><id root="1.2.250.1.71.4.2.2"',
        '<representedCustodianOrganization><id root="1.2.250.1.71.4.2.1"',
        "CDA_CUSTODIAN_ID",
        "/custodian/assignedCustodian/representedCustodianOrganization/id",
    ),
    (
        '1.2.250.1.71.4.2.1" extension="1"',
        '1.2.3" extension="1"',
        "CDA_RECIPIENT_ID",
        "/informationRecipient/intendedRecipient/id",
    ),
    ('<legalAuthenticator><time value="20260301"/>', "<legalAuthenticator>", "CDA_SIGNED_AT", "/legalAuthenticator/time"),
    ('<signatureCode code="S"/>', '<signatureCode code="X"/>', "CDA_SIGNATURE", "/legalAuthenticator/signatureCode"),
    ('extension="810000000025"', "", "CDA_SIGNER_ID", "/legalAuthenticator/assignedEntity/id"),
    ("<family>QUERE</family>", "<family/>", "CDA_SIGNER_NAME", "/legalAuthenticator/assignedEntity/assignedPerson/name/family"),
    ('1.2.250.1.71.4.2.1" extension="9"', '1.2.3" extension="9"', "CDA_AUTHENTICATOR_ID", "/authenticator/assignedEntity/id"),
    ('<participant typeCode="REF">', "<participant>", "CDA_PARTICIPANT", "/participant"),
    ('<associatedEntity classCode="PROV"/>', "", "CDA_PARTICIPANT_ROLE", "/participant/associatedEntity"),
    ('<id root="1.2.250.1.999.8" extension="O1"/>', "", "CDA_ORDER_ID", "/inFulfillmentOf/order/id"),
    ('<low value="20260228"/>', "<low/>", "CDA_EVENT_TIME", "/documentationOf[1]/serviceEvent/effectiveTime/low"),
    ('typeCode="PRF"', 'typeCode="SPRF"', "CDA_PERFORMER", PERFORMER),
    (
        '<performer typeCode="PRF"><assignedEntity><id root="1.2.250.1.71.4.2.1" extension="810000000017"/>',
        '<performer typeCode="PRF"><assignedEntity>',
        "CDA_PERFORMER_ID",
        "/documentationOf[1]/serviceEvent/performer/assignedEntity/id",
    ),
    ('code="AMBULATOIRE"', "", "CDA_PRACTICE_SETTING", "/standardIndustryClassCode"),
    ('code="AMBULATOIRE"', 'code="PLAGE"', "CDA_PRACTICE_SETTING_SET", "/standardIndustryClassCode"),
    ('<parentDocument><id root="1.2.250.1.999.1" extension="6"/>', "<parentDocument>", "CDA_RELATED_ID", "/parentDocument/id"),
    ('code="completed"', 'code="active"', "CDA_CONSENT", "/authorization/consent/statusCode"),
    ('<effectiveTime value="20260301"/>', "", "CDA_ENCOUNTER_TIME", "/componentOf/encompassingEncounter/effectiveTime"),
    ('code="AMB"', 'code="PLAGE"', "CDA_ENCOUNTER_SET", "/componentOf/encompassingEncounter/code"),
    ("1.2.250.1.213.2.14", "1.2.250.1.213.2.15", "CDA_DISCHARGE", "/dischargeDispositionCode"),
    ('typeCode="ATND"', 'typeCode="X"', "CDA_PARTICIPATION_SET", "/encounterParticipant"),
    ('code="SA07"', "", "CDA_FACILITY", "/location/healthCareFacility/code"),
    ('code="SA07"', 'code="SA99"', "CDA_FACILITY_SET", "/location/healthCareFacility/code"),
    ("</ClinicalDocument>", "<component/></ClinicalDocument>", "CDA_BODY", "/component[2]"),
    ("nonXMLBody", "otherBody", "CDA_BODY", "/component"),
    ('<templateId root="2.16.840.1.113883.2.8.2.1"/>', "", "CDA_TEMPLATE_FRANCE", "/templateId"),
    ('<templateId root="1.2.250.1.213.1.1.1.1"/>', "", "CDA_TEMPLATE_CISIS", "/templateId"),
    (DOCUMENTS.UNSTRUCTURED, "1.2.3", "CDA_TEMPLATE_N1", "/templateId"),
    ('root="1.2.250.1.999.7"', 'root="1.2.250.1.213.1.4.2"', "CDA_INS_C", "/recordTarget/patientRole/id[2]"),
    ("1.2.250.1.213.1.4.10", "1.2.250.1.213.1.4.13", "CDA_NO_INS", "/recordTarget/patientRole"),
    ('"284057512345672"', '"28405751234567"', "CDA_INS_SHAPE", "/recordTarget/patientRole/id[1]"),
    ('"284057512345672"', '"284057512345673"', "CDA_INS_KEY", "/recordTarget/patientRole/id[1]"),
    ("1.2.250.1.213.1.4.10", "1.2.250.1.213.1.4.8", "CDA_INS_ENVIRONMENT", "/recordTarget/patientRole/id[1]"),
    ('<given qualifier="BR">ZOE</given>', "", "CDA_INS_TRAITS", "/recordTarget/patientRole"),
    ('qualifier="CL"', 'qualifier="SP"', "CDA_NAME_QUALIFIER", "/recordTarget/patientRole/patient/name/family[2]"),
    ("assignedPerson>", "somebody>", "CDA_AUTHOR_KIND", "/author[1]/assignedAuthor"),
    ('extension="6"', 'extension="7"', "CDA_REPLACES_ITSELF", ""),
    ("relatedDocument", "otherDocument", "CDA_VERSION_ALONE", "/versionNumber"),
    ('<versionNumber value="2"/>', '<versionNumber value="1"/>', "CDA_VERSION_FIRST", "/versionNumber"),
    ('<low value="20260228"/>', '<low value="20260230"/>', "TS_INVALID", "/documentationOf[1]/serviceEvent/effectiveTime/low"),
    ('<high value="20260301"/>', '<high value="20250301"/>', "CDA_PERIOD", "/documentationOf[1]/serviceEvent/effectiveTime"),
    ('<addr use="H">', '<addr use="BAD">', "CDA_ADDR_USE", "/recordTarget/patientRole/addr"),
    ("<city>", "<streetAddressLine>x</streetAddressLine><city>", "CDA_ADDR_MIXED", "/recordTarget/patientRole/addr"),
    ('value="tel:0200000000" use="H"', 'value="tel:0200000000" use="X"', "CDA_TELECOM_USE", "/telecom[1]"),
    ("tel:0200000000", "0200000000", "CDA_TELECOM", "/telecom[1]"),
    ('<telecom nullFlavor="UNK"/>', "<telecom/>", "CDA_TELECOM", "/telecom[2]"),
    ("<prefix>MME</prefix>", "<prefix>Lady</prefix>", "CDA_PREFIX", "/author[1]/assignedAuthor/assignedPerson/name/prefix"),
    ("<suffix>DR</suffix>", "<suffix>Doc</suffix>", "CDA_SUFFIX", "/author[1]/assignedAuthor/assignedPerson/name/suffix"),
    ('mediaType="application/pdf"', 'mediaType="text/html"', "CDA_MEDIA_TYPE", "/component/nonXMLBody/text"),
    ('representation="B64"', "", "CDA_REPRESENTATION", "/component/nonXMLBody/text"),
    ("JVBERi0xLjQK", "JVBERi0xLjQKJ", "CONTENT_BASE64", "/component/nonXMLBody/text"),
    ("JVBERi0xLjQK", "R0lGODlh", "CONTENT_NOT_PDF", "/component/nonXMLBody/text"),
    ("JVBERi0xLjQK", "", "CONTENT_EMPTY", "/component/nonXMLBody/text"),
    (
        'application/pdf" representation="B64">JVBERi0xLjQK',
        'image/jpeg" representation="B64">R0lGODlh',
        "CONTENT_TYPE_LIES",
        "/text",
    ),
]
BROKEN_N3 = [
    ('<code code="11450-4"/>', "", "SECTION_CODE", "/component/structuredBody/component/section"),
    ("<text>x</text>", "", "SECTION_TEXT", "/component/structuredBody/component/section"),
    (DOCUMENTS.MODEL, DOCUMENTS.UNSTRUCTURED, "CDA_TEMPLATE_MODEL", "/templateId"),
]


@pytest.mark.parametrize(
    ("level", "old", "new", "code", "at"), [(N1, *row) for row in BROKEN] + [(N3, *row) for row in BROKEN_N3]
)
def test_a_broken_rule_is_told_at_its_place(level, old, new, code, at):
    assert old in level
    told = [finding for finding in found(level.replace(old, new)) if finding.code == code]
    assert len(told) >= 1, [finding.code for finding in found(level.replace(old, new))]
    assert any(finding.at.endswith(at) and finding.at.startswith("/ClinicalDocument") for finding in told), told
    for finding in told:
        assert finding.sentence.startswith(f"{finding.at}: ")
        assert not re.search("ESSAI|USAGE|VASSEUR|QUERE|28405751|0200000000|Brumes|P7", finding.sentence.removeprefix(finding.at))


def test_every_rule_is_broken_once():
    rows = {rule.code for group in header_rules.groups() for rule in group.rules}
    rows |= {code for group in header_rules.groups() for rule in group.rules for code, _ in rule.wrongs}
    joined = set(re.findall(r'"((?:CDA|SECTION|TS|CONTENT)_[A-Z_0-9]+)"', Path(checks.__file__).read_text("utf-8")))
    assert rows | joined == {row[2] for row in (*BROKEN, *BROKEN_N3)}


def test_a_nullflavor_where_it_may_stand_says_nothing():
    xml = N1.replace('<birthTime value="19840512"/>', '<birthTime nullFlavor="UNK"/>').replace(
        '<id root="1.2.250.1.213.1.4.10" extension="284057512345672"/>', '<id nullFlavor="UNK"/>'
    )
    assert {finding.code for finding in found(xml)} == {"CDA_NO_INS"}


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_garbled_header_is_refused_or_checked(data):
    text = data.draw(st.sampled_from([N1, N3]))
    places = [match.span() for match in re.finditer(r'"[^"]*"|<[A-Za-z]+[^<>]*/>|>[^<>]+<', text)]
    for _ in range(data.draw(st.integers(1, 3))):
        start, end = data.draw(st.sampled_from(places))
        said = data.draw(st.sampled_from(['""', '"x"', "", '" 20230230 "', '"1.2"', "><", ">&#10;<"]))
        text = text[:start] + said + " " * max(0, end - start - len(said)) + text[end:]
    with contextlib.suppress(Unreadable):
        assert all(finding.at.startswith("/") for finding in found(text))


@pytest.mark.skipif("VAGUEMESTRE_SAMPLES" not in os.environ, reason="no official documents here")
def test_official_headers_keep_the_rules_but_for_what_is_known_of_them():
    """The kit's own rules find nothing but the qualifier SP; keys, environments and versions are rules of ours."""
    told = Counter()
    for file in (Path(os.environ["VAGUEMESTRE_SAMPLES"]) / "cda" / "examples").glob("*.xml"):
        findings = translate_cda(file.read_bytes(), tz=ZoneInfo("Europe/Paris"), units=UNITS).findings
        told.update(finding.code for finding in findings if finding.code.startswith(("CDA_", "SECTION_")))
    assert told == {"CDA_INS_KEY": 5, "CDA_VERSION_ALONE": 5, "CDA_VERSION_FIRST": 1, "CDA_NAME_QUALIFIER": 1}
