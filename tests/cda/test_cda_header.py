"""CDA header: CI-SIS structuration minimale des documents de santé."""

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from hub.formats.cda_header import canonical_id, read_header, read_whole, reading
from hub.model.identifiers import InsMatricule
from hub.model.refusals import Unreadable

PATIENT = """<recordTarget><patientRole>
 <id root="1.2.250.1.213.1.4.10" extension=" 299019935012378 "/>
 <id root="1.2.250.1.999.7" extension="IPP-7"/>
 <id root="1.2.250.1.213.1.4.8" extension="too short"/>
 <id nullFlavor="UNK"/>
 <patient>
  <name><given qualifier="CL">Zoé</given><family qualifier="CL">USAGE</family>
   <given qualifier="BR">ZOE</given> <given>
     ZOE   ANNE-LISE </given><family qualifier="BR">ESSAI<!-- x --></family></name>
  <administrativeGenderCode code="F"/><birthTime value="19990131"/>
  <birthplace><place><addr><county>99350</county><city>RABAT</city></addr></place></birthplace>
 </patient></patientRole></recordTarget>"""

HEADER = """<?xml version="1.0" encoding="UTF-8"?>
<?xml-stylesheet type="text/xsl" href="cda.xsl"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<realmCode code="FR"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
<templateId root="2.16.840.1.113883.2.8.2.1"/><templateId root="1.2.250.1.213.1.1.1.1"/>
{template}
<id root="1.2.250.1.999.1" extension="42.2"/>
<code code="11502-2" codeSystem="2.16.840.1.113883.6.1" displayName="CR d'examens biologiques"/>
<title> Compte
 rendu </title>
<effectiveTime value="20260301101500+0100"/><confidentialityCode code="N"/><languageCode code="fr-FR"/>
<setId root="1.2.250.1.999.1" extension="42"/><versionNumber value="2"/>
{patient}
<author><time value="20260301100000+0100"/><assignedAuthor><id root="1.2.250.1.71.4.2.1" extension="899700000017"/>
 <code code="G15_10/SM26" codeSystem="1.2.250.1.213.1.1.4.5"/>
 <assignedPerson><name><prefix>DR</prefix><given>Paul</given><family>AUTEUR</family></name></assignedPerson>
 <representedOrganization><id root="1.2.250.1.71.4.2.2" extension="1999999999"/><name>Labo d'essai</name>
 </representedOrganization>
</assignedAuthor></author>
<author><time value="20260301100100+0100"/><assignedAuthor><id root="1.2.250.1.999.3"/>
 <assignedAuthoringDevice>
  <manufacturerModelName>Modèle</manufacturerModelName><softwareName>Automate</softwareName></assignedAuthoringDevice>
 <representedOrganization><id root="1.2.250.1.999.4"/></representedOrganization>
</assignedAuthor></author>
<custodian><assignedCustodian><representedCustodianOrganization>
 <id root="1.2.250.1.71.4.2.2" extension="1999999999"/><name>Labo</name>
</representedCustodianOrganization></assignedCustodian></custodian>
<documentationOf><serviceEvent><effectiveTime><low value="202602280900+0100"/><high value="202602281000+0100"/></effectiveTime>
 <performer typeCode="PRF"><assignedEntity><representedOrganization>
  <standardIndustryClassCode code="ETABLISSEMENT"/></representedOrganization>
 </assignedEntity></performer></serviceEvent></documentationOf>
<documentationOf><serviceEvent><effectiveTime><low value="1999"/></effectiveTime></serviceEvent></documentationOf>
<relatedDocument typeCode="RPLC"><parentDocument><id root="1.2.250.1.999.1" extension="42.1"/></parentDocument></relatedDocument>
<componentOf><encompassingEncounter><id root="1.2.250.1.999.5" extension="V1"/><effectiveTime nullFlavor="UNK"/>
 <location><healthCareFacility><code code="SA25"/></healthCareFacility></location></encompassingEncounter></componentOf>
"""
N1 = '<component><nonXMLBody><text mediaType="{media}" representation="B64">{data}</text></nonXMLBody></component>'
N3 = "<component><structuredBody><component><section><text>{text}</text></section></component></structuredBody></component>"


def cda(
    body: str = N1.format(media="application/pdf", data="QUJD"),
    *,
    template: str = "1.3.6.1.4.1.19376.1.2.20",
    patient: str = PATIENT,
) -> bytes:
    return (HEADER.format(template=f'<templateId root="{template}"/>', patient=patient) + body + "</ClinicalDocument>").encode()


def small(content: str = "") -> bytes:
    return f'<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2.3"/>{content}</ClinicalDocument>'.encode()


def refusal_of(xml: bytes, **limits: int) -> Unreadable:
    with pytest.raises(Unreadable) as refused:
        read_header(xml, **limits)
    assert (refused.value.condition, refused.value.ack_code) == ("102", "AE")
    return refused.value


def test_document():
    header = read_header(cda())
    assert (header.id, header.id_root, header.id_extension) == ("1.2.250.1.999.1.42.2", "1.2.250.1.999.1", "42.2")
    assert (header.master_id, header.set_id, header.version_number) == ("urn:oid:1.2.250.1.999.1.42.2", "1.2.250.1.999.1.42", 2)
    assert header.replaces == "1.2.250.1.999.1.42.1"
    assert (header.code, header.code_system, header.code_display) == (
        "11502-2",
        "2.16.840.1.113883.6.1",
        "CR d'examens biologiques",
    )
    assert (header.title, header.effective_time) == ("Compte rendu", "20260301101500+0100")
    assert (header.confidentiality, header.language) == ("N", "fr-FR")
    assert header.template_ids[2] == ("1.3.6.1.4.1.19376.1.2.20", "")


def test_patient():
    header = read_header(cda())
    assert header.patient_ids == (
        ("1.2.250.1.213.1.4.10", "299019935012378"),
        ("1.2.250.1.999.7", "IPP-7"),
        ("1.2.250.1.213.1.4.8", "too short"),
    )
    assert header.ins == (InsMatricule("299019935012378", "1.2.250.1.213.1.4.10"),)
    assert (header.birth_name, header.used_name, header.first_given_name) == ("ESSAI", "USAGE", "ZOE")
    assert (header.birth_given_names, header.birth_time, header.sex, header.birth_place_code) == (
        "ZOE ANNE-LISE",
        "19990131",
        "F",
        "99350",
    )
    assert header.has_all_traits


@pytest.mark.parametrize(
    "gone",
    ['<family qualifier="BR">ESSAI<!-- x --></family>', '<given qualifier="BR">ZOE</given>', '<birthTime value="19990131"/>'],
)
def test_a_missing_trait_is_told(gone: str):
    assert gone in PATIENT
    assert not read_header(cda(patient=PATIENT.replace(gone, ""))).has_all_traits


@pytest.mark.parametrize(
    ("families", "used"),
    [
        ('<family qualifier="SP">EPOUX</family>', "EPOUX"),
        ("<family>NOM</family>", "NOM"),
        ('<family>NOM</family><family qualifier="SP">EPOUX</family><family qualifier="CL">CL</family>', "CL"),
        ("", ""),
    ],
)
def test_used_name(families: str, used: str):
    patient = f"<recordTarget><patientRole><patient><name>{families}</name></patient></patientRole></recordTarget>"
    header = read_header(small(patient))
    assert (header.used_name, header.birth_name) == (used, "")


def test_authors_custodian_event_and_encounter():
    header = read_header(cda())
    person, device = header.authors
    assert (person.id_root, person.id_extension, person.family, person.given) == (
        "1.2.250.1.71.4.2.1",
        "899700000017",
        "AUTEUR",
        "Paul",
    )
    assert (person.organisation_id, person.organisation_root, person.organisation_name) == (
        "1999999999",
        "1.2.250.1.71.4.2.2",
        "Labo d'essai",
    )
    assert (person.code, person.time, person.device_name) == ("G15_10/SM26", "20260301100000+0100", "")
    assert (device.family, device.device_name, device.organisation_id) == ("", "Automate", "1.2.250.1.999.4")
    assert (header.custodian_id, header.custodian_name) == ("1999999999", "Labo")
    assert (header.event_start, header.event_stop, header.practice_setting) == (
        "202602280900+0100",
        "202602281000+0100",
        "ETABLISSEMENT",
    )
    assert (header.encounter_ids, header.facility_type) == ((("1.2.250.1.999.5", "V1"),), "SA25")


@pytest.mark.parametrize(
    ("body", "template", "kind", "media_type", "fmt"),
    [
        (
            N1.format(media="application/pdf", data="QUJD"),
            "1.3.6.1.4.1.19376.1.2.20",
            "N1",
            "application/pdf",
            "urn:ihe:iti:xds-sd:pdf:2008",
        ),
        (N1.format(media="image/jpeg", data="QUJD"), "1.3.6.1.4.1.19376.1.2.20", "N1", "image/jpeg", ""),
        (N3.format(text="x"), "1.2.250.1.213.1.1.1.55", "N3", "", "1.2.250.1.213.1.1.1.55"),
        ("<component><nonXMLBody/></component>", "1.2.3", "N1", "", ""),
        ("", "1.2.3", "", "", "1.2.3"),
    ],
)
def test_bodies(body: str, template: str, kind: str, media_type: str, fmt: str):
    header = read_header(cda(body, template=template))
    assert (header.body_kind, header.media_type, header.fmt) == (kind, media_type, fmt)


def test_the_text_of_a_section_is_not_a_body():
    header = read_header(cda(N3.format(text='<text mediaType="x">y</text>')))
    assert (header.body_kind, header.media_type) == ("N3", "")


def test_a_body_larger_than_the_parser_keeps_is_passed_over():
    data = base64.b64encode(os.urandom(9)).decode() * 1_000_000
    assert read_header(cda(N1.format(media="application/pdf", data=data))).body_kind == "N1"


def test_a_document_inside_its_stylesheet():
    inner = small("<title>dedans</title>").decode()
    xsl = 'xmlns:xsl="http://www.w3.org/1999/XSL/Transform" version="1.0"'
    sheet = f'<xsl:stylesheet {xsl}><xsl:include href="http://localhost:1/x"/>{inner}</xsl:stylesheet>'
    assert read_header(sheet.encode()).title == "dedans"


@pytest.mark.parametrize("codec", ["iso8859-15", "utf-16", "utf-8-sig", "windows-1252"])
def test_encodings(codec: str):
    xml = cda().decode().replace('encoding="UTF-8"', f'encoding="{codec.removesuffix("-sig")}"')
    header = read_header(xml.encode(codec))
    assert (header.birth_name, header.authors[1].device_name) == ("ESSAI", "Automate")


def test_nothing_is_shown_by_repr():
    header = read_header(cda())
    assert "ESSAI" not in repr(header)
    assert "AUTEUR" not in repr(header.authors)


DOCTYPE = b'<!DOCTYPE ClinicalDocument [<!ENTITY e SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("xml", "at"),
    [
        (b"", "/"),
        (b"Document medical au format CDA niveau 1", "/"),
        (b"<ClinicalDocument/>", "/"),
        (b'<x><ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2"/></ClinicalDocument></x>', "/"),
        (b"<!DOCTYPE x>" + small(), "/"),
        (DOCTYPE + small("<title>&e;</title>"), "/"),
        (small("<title>&e;</title>"), "/"),
        (small("<a>" * 257 + "</a>" * 257), "/"),
        (small() + b"<x/>", "/"),
        (small(N3.format(text="<b>x</i>")), "/"),
        (cda()[:-1], "/"),
        (small("\x00"), "/"),
        (small(N3.format(text="<x:y/>")), "/"),
        (small('<title xmlns:x="&gt;http://x"/>'), "/"),
        (b'<?xml version="1.0" encoding="martian"?>' + small(), "/"),
        (b"\xff" + small(), "/"),
        (b'<ClinicalDocument xmlns="urn:hl7-org:v3"/>', "/ClinicalDocument/id"),
        (
            b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id nullFlavor="UNK" extension="7"/></ClinicalDocument>',
            "/ClinicalDocument/id",
        ),
        (small(PATIENT + PATIENT), "/ClinicalDocument/recordTarget"),
    ],
)
def test_refused(xml: bytes, at: str):
    refusal = refusal_of(xml)
    assert refusal.at == at
    assert "ESSAI" not in refusal.sentence


def test_an_entity_bomb_is_refused_before_it_grows():
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "aaaaaaaaaa">{entities}]>'.encode() + small("<title>&e11;</title>")
    assert "DOCTYPE" in refusal_of(bomb).sentence


def test_limits(monkeypatch: pytest.MonkeyPatch):
    xml = small("<title>x</title>")
    assert read_header(xml, max_bytes=len(xml)).title == "x"
    assert str(len(xml) - 1) in refusal_of(xml, max_bytes=len(xml) - 1).sentence
    monkeypatch.setattr(reading, "MAX_TAGS", xml.count(b"<"))
    assert read_header(xml).title == "x"
    refusal_of(small("<title><i/></title>"))
    monkeypatch.setattr(reading, "MAX_TAGS", 200_000)
    monkeypatch.setattr(reading, "MAX_HEADER_BYTES", 20_000)
    assert read_header(cda(N3.format(text="<b/>" * 50_000))).body_kind == "N3"
    refusal_of(small("<b/>" * 50_000))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1.2.250.1.71.4.2.2.120456789.71024000081", "1.2.250.1.71.4.2.2.120456789.71024000081"),
        ("1.2.250.1.71.4.2.2.120456789.71024000081^Organisation-Y", "1.2.250.1.71.4.2.2.120456789.71024000081"),
        ("A71024000081^^1.2.250.1.999^ISO", "1.2.250.1.999.A71024000081"),
        (" A7 ^ x ^ 1.2.250.1.999 ^ ISO ", "1.2.250.1.999.A7"),
        ("1.2.3^^1.2.3^ISO", "1.2.3"),
        ("2638", "2638"),
        ("2638^^Organisation^ISO", "2638"),
        ("urn:oid:1.2.3", "1.2.3"),
        ("", ""),
    ],
)
def test_document_ids_in_one_form(text: str, canonical: str):
    assert canonical_id(text) == canonical


def test_txa_12_and_cda_id_meet():
    assert canonical_id("42.2^^1.2.250.1.999.1^ISO") == canonical_id("1.2.250.1.999.1.42.2^X") == read_header(cda()).id


# ---- for every input ------------------------------------------------------------------------------------------------


@given(xml=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(xml: bytes):
    with pytest.raises(Unreadable):
        read_header(xml)


DOCUMENT = cda()


@given(
    cuts=st.lists(
        st.tuples(
            st.integers(0, len(DOCUMENT)),
            st.integers(0, 40),
            st.sampled_from([b"", b"<", b">", b"/", b'"', b"\xff", b"&x;", b"<a>", b"\x00"]),
        ),
        max_size=3,
    )
)
def test_mutated_documents_are_read_or_refused(cuts: list[tuple[int, int, bytes]]):
    xml = DOCUMENT
    for start, length, insertion in cuts:
        xml = xml[:start] + insertion + xml[start + length :]
    try:
        header = read_header(xml)
    except Unreadable:
        return
    assert etree.fromstring(xml) is not None
    assert header.id_root


ELEMENTS = sorted({element.tag.rpartition("}")[2] for element in etree.fromstring(DOCUMENT).iter(etree.Element)})
trees = st.recursive(
    st.sampled_from(ELEMENTS).map(
        lambda tag: f'<{tag} root="1.2" extension="x" value="3" code="c" qualifier="BR" typeCode="RPLC"/>'
    ),
    lambda inner: st.tuples(st.sampled_from(ELEMENTS), st.lists(inner, max_size=4)).map(
        lambda node: f"<{node[0]}>{''.join(node[1])}</{node[0]}>"
    ),
    max_leaves=25,
)


@given(content=st.lists(trees, max_size=6).map("".join))
def test_any_arrangement_of_header_elements_is_read_or_refused(content: str):
    try:
        assert read_header(small(content)).id == "1.2.3"
    except Unreadable as refused:
        assert refused.at.startswith("/")


# ---- official samples -----------------------------------------------------------------------------------------------

FOLDER = os.environ.get("VAGUEMESTRE_SAMPLES")
SAMPLES = sorted(Path(FOLDER, "cda", "examples").glob("*.xml")) if FOLDER else []


@pytest.mark.skipif(not SAMPLES, reason="VAGUEMESTRE_SAMPLES names no folder with cda/examples/")
@pytest.mark.parametrize("path", SAMPLES or [None], ids=lambda path: path.name if path else "none")
def test_official_examples(path: Path):
    xml = path.read_bytes()
    header = read_header(xml)
    document = next(
        etree.fromstring(xml, etree.XMLParser(resolve_entities=False, huge_tree=True)).iter("{urn:hl7-org:v3}ClinicalDocument")
    )

    def plain(xpath: str) -> str:
        return document.xpath(f"string({xpath})", namespaces={"v": "urn:hl7-org:v3"}).strip()

    assert header.id_root == plain("v:id/@root")
    assert header.code == plain("v:code/@code")
    assert header.birth_name == plain("v:recordTarget/v:patientRole/v:patient/v:name/v:family[@qualifier='BR']")
    assert header.version_number == int(plain("v:versionNumber/@value"))
    assert header.custodian_id == plain("v:custodian//v:representedCustodianOrganization/v:id/@extension")
    assert header.facility_type == plain("v:componentOf//v:healthCareFacility/v:code/@code")
    assert len(header.authors) == document.xpath("count(v:author)", namespaces={"v": "urn:hl7-org:v3"})
    assert header.body_kind == ("N1" if plain("name(v:component/v:nonXMLBody)") else "N3")
    assert header.ins
    assert header.has_all_traits


@pytest.mark.parametrize("read", [read_header, lambda xml: read_whole(xml)[1]], ids=["header", "whole"])
@pytest.mark.parametrize(
    "xml",
    [
        b"<x/>",
        b"<ClinicalDocument/>",
        b'<!DOCTYPE a><ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2"/></ClinicalDocument>',
        b'<!DOCTYPE a [<!ENTITY b "c">]><ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2"/>&b;</ClinicalDocument>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2"/></ClinicalDocument>',
        b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2"/>' + b"<a>" * 300 + b"</a>" * 300 + b"</ClinicalDocument>",
        b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2"/><b:a/></ClinicalDocument>',
        b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id/></ClinicalDocument>',
        b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2"/>',
        b"\xff\xfe<",
        b"",
    ],
)
def test_what_cannot_be_read_safely_is_refused_by_both_ways_of_reading(read, xml):
    with pytest.raises(Unreadable):
        read(xml)


def test_a_document_too_large_for_one_parse_is_read_whole_too():
    huge = small(f"<component><nonXMLBody><text mediaType='application/pdf'>{'QUJD' * (3 << 20)}</text></nonXMLBody></component>")
    root, header = read_whole(huge)
    assert header == read_header(huge)
    assert header.body_kind == "N1" and len("".join(root.itertext())) == 12 << 20
