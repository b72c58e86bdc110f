"""A CDA header as a DocumentReference: CI-SIS PDSm, cda → XDS metadata."""

from zoneinfo import ZoneInfo

import pytest
from fhir.resources.R4B.documentreference import DocumentReference

from hub.formats.cda_header import read_header
from mappings.cda.document_reference import DocumentTypes, cda_document_reference
from mappings.registry import packaged_table
from mappings.tables import load

TYPES = DocumentTypes(load(packaged_table("document_types")))
LOINC = "http://loinc.org"
V3 = "http://terminology.hl7.org/CodeSystem/v3-"

CDA = """<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:ps3-20="urn:dicom-org:ps3-20">
<templateId root="2.16.840.1.113883.2.8.2.1"/><templateId root="1.2.250.1.213.1.1.1.1"/>
<templateId root="1.2.250.1.213.1.1.1.5"/><templateId root="1.2.250.1.213.1.1.1.5.2"/>
<id root="1.2.250.1.999.1" extension="8"/>
<code code="18748-4" codeSystem="2.16.840.1.113883.6.1" displayName="CR d'imagerie"/><title>Scanner</title>
<effectiveTime value="20260301101500+0100"/><confidentialityCode code="R"/><languageCode code="fr-FR"/>
<recordTarget><patientRole><id root="1.2.250.1.213.1.4.10" extension="299019935012378"/>
<id root="1.2.250.1.999.7" extension="P7"/>
<patient><name><family qualifier="BR">ESSAI</family><family qualifier="SP">USAGE</family><given>ZOE ANNE</given>
<given qualifier="BR">ZOE</given></name><administrativeGenderCode code="UN"/><birthTime value="19990100"/></patient>
</patientRole></recordTarget>
<author><functionCode code="ATTPHYS" codeSystem="2.16.840.1.113883.5.88" displayName="Médecin responsable"/>
<time value="20260301"/><assignedAuthor><id root="1.2.250.1.71.4.2.1" extension="810000000017"/>
<code code="G15_10/SM44" codeSystem="1.2.250.1.213.1.1.4.5" displayName="Radiologie"/>
<assignedPerson><name><given>Irma</given><family>VASSEUR</family></name></assignedPerson></assignedAuthor></author>
<author><time value="20260301"/><assignedAuthor><id root="1.2.250.1.999.3"/><assignedAuthoringDevice>
<softwareName>Automate</softwareName></assignedAuthoringDevice>
<representedOrganization><name>Labo</name></representedOrganization></assignedAuthor></author>
<author><time value="20260301"/><assignedAuthor>
<id root="1.2.250.1.213.1.4.10" extension="299019935012378"/></assignedAuthor></author>
<author><time value="20260301"/><assignedAuthor><id nullFlavor="UNK"/></assignedAuthor></author>
<custodian><assignedCustodian><representedCustodianOrganization><id root="1.2.250.1.71.4.2.2" extension="1290000017"/>
</representedCustodianOrganization></assignedCustodian></custodian>
<legalAuthenticator><time value="20260301"/><assignedEntity><id root="1.2.250.1.71.4.2.1" extension="810000000025"/>
<assignedPerson><name><family>QUERE</family></name></assignedPerson></assignedEntity></legalAuthenticator>
<inFulfillmentOf><order><id root="1.2.250.1.999.8" extension="O1"/>
<ps3-20:accessionNumber root="1.2.250.1.999.9" extension="A1"/></order></inFulfillmentOf>
<inFulfillmentOf><order><id root="2f2dd5a3-7c4f-4b4e-9d4f-000000000001"/></order></inFulfillmentOf>
<documentationOf><serviceEvent><code code="24725-4" codeSystem="2.16.840.1.113883.6.1" displayName="Scanner crâne">
<translation code="CT" codeSystem="1.2.840.10008.2.16.4"/></code><effectiveTime><low value="20260228"/></effectiveTime>
<performer typeCode="PRF"><assignedEntity><representedOrganization>
<standardIndustryClassCode code="AMBULATOIRE" displayName="Ambulatoire"/></representedOrganization></assignedEntity></performer>
</serviceEvent></documentationOf>
<documentationOf><serviceEvent><code nullFlavor="UNK"/></serviceEvent></documentationOf>
<documentationOf><serviceEvent><code code="CT" codeSystem="1.2.840.10008.2.16.4"/></serviceEvent></documentationOf>
<componentOf><encompassingEncounter><location><healthCareFacility><code code="ETAB" codeSystem="1.2.250.1.213.1.1.4.6"/>
</healthCareFacility></location></encompassingEncounter></componentOf>
<component><structuredBody/></component></ClinicalDocument>"""


def body_of(xml: str) -> dict:
    return cda_document_reference(read_header(xml.encode()), mask=0, types=TYPES, tz=ZoneInfo("Europe/Paris"))


def test_who_made_it_for_whom_and_who_signed():
    body = body_of(CDA)
    role, device, signer, patient = body["contained"]
    assert [role["resourceType"], device["resourceType"], signer["resourceType"]] == [
        "PractitionerRole",
        "Device",
        "PractitionerRole",
    ]
    assert role["practitioner"]["identifier"]["value"] == "10000000017"
    assert role["specialty"][0]["coding"][0]["display"] == "Radiologie"
    assert role["code"] == [
        {"coding": [{"system": f"{V3}ParticipationFunction", "code": "ATTPHYS", "display": "Médecin responsable"}]}
    ]
    assert device["deviceName"][0]["name"] == "Automate" and device["owner"]["display"] == "Labo"
    assert [one.get("reference") for one in body["author"]] == ["#author1", "#author2", None]
    assert body["author"][2] == {
        "type": "Patient",
        "identifier": {"system": "urn:oid:1.2.250.1.213.1.4.10", "value": "299019935012378"},
    }
    assert (body["authenticator"], signer["id"]) == ({"reference": "#authenticator"}, "authenticator")
    assert signer["practitioner"]["display"] == "QUERE"
    assert body["custodian"]["identifier"]["value"] == "290000017"
    assert patient == {
        "resourceType": "Patient",
        "id": "patient",
        "identifier": [
            {"system": "urn:oid:1.2.250.1.213.1.4.10", "value": "299019935012378"},
            {"system": "urn:oid:1.2.250.1.999.7", "value": "P7"},
        ],
        "name": [
            {"use": "official", "extension": patient["name"][0]["extension"], "family": "ESSAI", "given": ["ZOE"]},
            {"use": "usual", "family": "USAGE", "given": ["ZOE"]},
        ],
        "gender": "other",
        "birthDate": "1999-01",
    }


def test_what_it_is_and_what_it_documents():
    body = body_of(CDA)
    context = body["context"]
    assert [[(c["system"], c["code"]) for c in event["coding"]] for event in context["event"]] == [
        [(LOINC, "24725-4")],
        [("http://dicom.nema.org/resources/ontology/DCM", "CT")],
    ]
    assert context["practiceSetting"]["coding"] == [
        {"system": "urn:oid:1.2.250.1.213.1.1.4.9", "code": "AMBULATOIRE", "display": "Ambulatoire"}
    ]
    assert context["facilityType"]["coding"] == [{"system": "urn:oid:1.2.250.1.213.1.1.4.6", "code": "ETAB"}]
    assert [one["identifier"] for one in context["related"]] == [
        {"system": "urn:oid:1.2.250.1.999.8", "value": "O1"},
        {"system": "urn:ietf:rfc:3986", "value": "urn:uuid:2f2dd5a3-7c4f-4b4e-9d4f-000000000001"},
        {
            "system": "urn:oid:1.2.250.1.999.9",
            "value": "A1",
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
        },
    ]
    assert (body["category"][0]["coding"][0]["code"], context["period"]) == ("31", {"start": "2026-02-28"})
    assert body["content"][0]["format"] == {"system": "urn:oid:1.2.250.1.213.1.1.4.2.282", "code": "urn:asip:ci-sis:cse-cs9:2017"}
    assert body["securityLabel"] == [{"coding": [{"system": f"{V3}Confidentiality", "code": "R"}]}]


@pytest.mark.parametrize("xml", [CDA, '<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2.3"/></ClinicalDocument>'])
def test_it_is_fhir_once_the_record_added_its_part(xml):
    body = body_of(xml)
    attachment = {"contentType": "text/xml", **body["content"][0]["attachment"]}
    content = [{**body["content"][0], "attachment": attachment}]
    made = {"resourceType": "DocumentReference", "status": "current", **body, "content": content}
    DocumentReference.model_validate(made)
