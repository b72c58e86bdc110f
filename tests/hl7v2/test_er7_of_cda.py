"""A bare CDA as a message: HL7 v2.5.1 MDM, PAM France for PID; CI-SIS structuration minimale for what the header says."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.cda_header import is_cda
from hub.formats.content import document_bytes
from hub.formats.er7 import read
from hub.formats.er7.of_cda import er7_of_cda, er7_of_document
from hub.model.refusals import MessageRefused, Unreadable
from hub.model.site import Site
from mappings.registry import builtin

REGISTRY = builtin()
SITE = Site(source="drop", environment="test")
INS = '<id root="1.2.250.1.213.1.4.10" extension="284057512345672"/>'

CDA = """<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:sdtc="urn:hl7-org:sdtc">
<id root="1.2.250.9.77.5" extension="A|7"/><code code="11502-2" codeSystem="2.16.840.1.113883.6.1" displayName="CR ^ bio"/>
<title>Compte rendu</title><effectiveTime value="20260302093000+0100"/><confidentialityCode code="R"/>
<setId root="1.2.250.9.77.5" extension="A"/><versionNumber value="2"/>
<recordTarget><patientRole>@INS@<id root="1.2.250.9.77" extension="47&amp;11"/><id root="1.2.250.1.213.1.4.13" extension="1"/>
<addr use="HP"><houseNumber>3</houseNumber><streetName>quai ~ des Brumes</streetName><city>BREST</city>
<postalCode>29200</postalCode></addr>
<telecom value="tel:0200000000" use="MC"/><telecom value="mailto:o@example.org"/><telecom nullFlavor="UNK"/>
<patient><name><given qualifier="BR">Odette</given><family qualifier="CL">QUERE</family><given>Odette
Berthe</given><family qualifier="BR">LA\\CAILLE</family></name><administrativeGenderCode code="F"/><birthTime value="19840512"/>
<sdtc:deceasedInd value="true"/>
<birthplace><place><addr><city>BREST</city><county>29019</county></addr></place></birthplace></patient>
</patientRole></recordTarget>
<author><time value="20260302"/><assignedAuthor><id root="1.2.250.1.71.4.2.1" extension="810000000017"/>
<assignedPerson><name><given>Irma</given><family>VASSEUR</family></name></assignedPerson></assignedAuthor></author>
<custodian><assignedCustodian><representedCustodianOrganization><id root="1.2.250.1.71.4.2.2" extension="1290000017"/>
</representedCustodianOrganization></assignedCustodian></custodian>
<legalAuthenticator><assignedEntity/></legalAuthenticator>
<relatedDocument typeCode="RPLC"><parentDocument><id root="1.2.250.9.77.5" extension="A6"/></parentDocument></relatedDocument>
<componentOf><encompassingEncounter><id root="1.2.250.1.71.4.2.1" extension="810000000017"/>
<id root="1.2.250.9.78" extension="V9"/>
<code code="IMP"/><effectiveTime><low value="20260301"/><high value="20260303"/></effectiveTime>
</encompassingEncounter></componentOf>
<component><nonXMLBody><text mediaType="application/pdf" representation="B64">JVBERi0xLjQK</text></nonXMLBody></component>
</ClinicalDocument>"""


def cda(**changes: str) -> bytes:
    text = CDA.replace("@INS@", INS)
    for old, new in changes.values() if changes else ():
        text = text.replace(old, new)
    return text.encode()


def message_of(xml: bytes):
    message = read(er7_of_cda(xml))
    REGISTRY.admit(message, SITE)
    return message


def test_every_value_of_the_header_comes_back_as_it_was():
    message = message_of(cda())
    structure = REGISTRY.find(message)
    structure.judge(message, SITE)
    change = structure.translate(message, SITE)
    (document,) = change.documents
    assert (message.type, message.text("MSH", 7), message.sending_app) == ("MDM^T10", "20260302093000+0100", "CDA")
    assert (document.master_id, document.replaces) == ("urn:oid:1.2.250.9.77.5.A|7", "urn:oid:1.2.250.9.77.5.A6")
    assert document_bytes(message.raw, document.content) == cda()
    who = change.identity
    assert [(one.value, one.oid) for one in who.ins] == [("284057512345672", "1.2.250.1.213.1.4.10")]
    assert [(one.system, one.value) for one in who.local] == [("urn:oid:1.2.250.9.77", "47&11")]
    assert (who.birth_name, who.first_given_name, who.birth_given_names, who.used_name) == (
        "LA\\CAILLE",
        "Odette",
        "Odette Berthe",
        "QUERE",
    )
    assert (who.birth_date, who.sex, who.birth_place, who.statuses) == ("19840512", "F", "29019", ("VALI",))
    patient = change.patient
    assert (patient["address"], patient["deceasedBoolean"]) == (
        [{"line": ["3 quai ~ des Brumes"], "city": "BREST", "postalCode": "29200", "use": "home"}],
        True,
    )
    assert [(one["system"], one["value"], one["use"]) for one in patient["telecom"]] == [
        ("phone", "0200000000", "mobile"),
        ("email", "o@example.org", "home"),
    ]
    (stay,) = change.resources
    assert (stay.key, stay.body["class"]["code"]) == ("urn:oid:1.2.250.9.78|V9", "IMP")
    assert stay.body["period"] == {"start": "2026-03-01", "end": "2026-03-03"}
    assert (document.body["docStatus"], message.text("TXA", 2, 2), message.text("PID", 23)) == ("final", "CR ^ bio", "BREST")


def test_the_same_document_is_the_same_message_and_another_is_another():
    one, again, other = (er7_of_cda(xml) for xml in (cda(), cda(), cda() + b"\n"))
    assert one == again != other
    assert read(one).control_id != read(other).control_id
    assert len(read(one).control_id) == 20


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("@", "@", "VALI"),
        ("284057512345672", "284057512345671", ""),
        (INS, "", ""),
        ("<county>29019</county>", "", ""),
        ('<given qualifier="BR">Odette</given>', "", ""),
    ],
)
def test_an_identity_is_qualified_only_by_an_ins_with_its_traits(old, new, status):
    message = message_of(cda(change=(old, new)))
    assert message.text("PID", 32) == status


def test_a_name_without_qualifiers_and_a_stay_without_number():
    xml = cda(a=(' qualifier="BR"', ""), b=(' qualifier="CL"', ""), c=('<id root="1.2.250.9.78" extension="V9"/>', ""))
    change = REGISTRY.find(message_of(xml)).translate(message_of(xml), SITE)
    assert (change.identity.birth_name, change.resources) == ("QUERE LA\\CAILLE", ())


def test_a_document_that_names_no_patient_is_refused_as_any_message():
    numberless = re.sub(rb'<id root="1.2.250.(?:9.77|1.213.1.4.\d+)" [^>]*/>', b"", cda())
    nameless = re.sub(rb"<name>.*?QUERE.*?</name>", b"", cda(), flags=re.DOTALL)
    for xml, at in ((numberless, "PID-3"), (nameless, "PID-5")):
        message = message_of(xml)
        with pytest.raises(MessageRefused) as refused:
            REGISTRY.find(message).judge(message, SITE)
        assert (refused.value.code, refused.value.at) == ("FieldMissing", at)


PREFIXED = b"<a:ClinicalDocument xmlns:a='urn:hl7-org:v3'/>"


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        (cda(), True),
        (b"\xef\xbb\xbf \n<!-- <x> --><?a b?>" + PREFIXED, True),
        (cda().decode().replace("UTF-8", "UTF-16").encode("utf-16"), True),
        (b'<x:stylesheet xmlns:x="http://www.w3.org/1999/XSL/Transform">' + PREFIXED + b"</x:stylesheet>", True),
        (b"<x:stylesheet/>", False),
        (b"<!DOCTYPE a [<!ENTITY b '1'>]>" + PREFIXED, True),
        (b'<MDM_T02 xmlns="urn:hl7-org:v2xml"><OBX.5><![CDATA[<ClinicalDocument/>]]></OBX.5></MDM_T02>', False),
        (b"<?never closed", False),
        (b"", False),
        (b"MSH|^~\\&|", False),
    ],
)
def test_what_is_taken_for_a_cda(xml, said):
    assert is_cda(xml) is said


BOMB = (
    b"<!DOCTYPE x [<!ENTITY a '1'>" + b"".join(b"<!ENTITY %c '&%c;&%c;'>" % (98 + n, 97 + n, 97 + n) for n in range(20)) + b"]>"
)


@pytest.mark.parametrize(
    "xml",
    [
        BOMB + b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2"/><title>&u;</title></ClinicalDocument>',
        b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">' + cda().partition(b"?>")[2],
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>' + cda().partition(b"?>")[2].replace(b"Compte", b"&e;"),
        cda().replace(b"Compte rendu", b"<a>" * 10_000),
        cda().replace(b"urn:hl7-org:v3", b"urn:hl7-org:v2"),
        cda().replace(b"UTF-8", b"UTF-16"),
        cda().replace(b"Compte rendu", b"Compte rendu \xe9"),
        cda()[:-30],
        cda().replace(b'<id root="1.2.250.9.77.5" extension="A|7"/>', b""),
        cda() * 2,
    ],
)
def test_what_cannot_be_read_safely_is_refused_at_the_door(xml):
    with pytest.raises(Unreadable) as refused:
        er7_of_document(xml)
    assert refused.value.condition == "102"
    assert not any(value in refused.value.sentence for value in ("CAILLE", "QUERE", "4711"))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_garbled_document_is_refused_or_becomes_a_message_of_six_segments(data):
    xml = bytearray(cda())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(xml) - 1))
        xml[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=6))
    try:
        made = er7_of_document(bytes(xml))
    except Unreadable:
        return
    message = read(made)
    assert [one.name for one in message.segments()] == ["MSH", "EVN", "PID", "PV1", "TXA", "OBX"]
    try:
        REGISTRY.find(message).judge(message, SITE)
    except MessageRefused:
        return
    (document,) = REGISTRY.find(message).translate(message, SITE).documents
    assert document_bytes(message.raw, document.content) == bytes(xml)


@pytest.mark.skipif("VAGUEMESTRE_SAMPLES" not in os.environ, reason="no official documents here")
def test_every_official_document_is_taken_and_says_who_its_patient_is():
    files = sorted((Path(os.environ["VAGUEMESTRE_SAMPLES"]) / "cda" / "examples").glob("*.xml"))
    assert len(files) > 50
    for file in files:
        message = message_of(file.read_bytes())
        REGISTRY.find(message).judge(message, SITE)
        assert REGISTRY.identity(message, SITE).ins, file.name
