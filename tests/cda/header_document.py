"""A synthetic CDA whose header keeps every rule; tests break it in one place."""

HEADER = """<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<realmCode code="FR"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
<templateId root="2.16.840.1.113883.2.8.2.1"/><templateId root="1.2.250.1.213.1.1.1.1"/><templateId root="{model}"/>
<id root="1.2.250.1.999.1" extension="7"/>
<code code="11502-2" codeSystem="2.16.840.1.113883.6.1" displayName="CR"/><title>Compte rendu</title>
<effectiveTime value="20260301101500+0100"/>
<confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/><languageCode code="fr-FR"/>
<setId root="1.2.250.1.999.1" extension="S"/><versionNumber value="2"/>
<recordTarget><patientRole><id root="1.2.250.1.213.1.4.10" extension="284057512345672"/>
<id root="1.2.250.1.999.7" extension="P7"/>
<addr use="H"><houseNumber>3</houseNumber><streetName>quai des Brumes</streetName><city>BREST</city></addr>
<telecom value="tel:0200000000" use="H"/><telecom nullFlavor="UNK"/>
<patient><name><family qualifier="BR">ESSAI</family><given qualifier="BR">ZOE</given><given>ZOE ANNE</given>
<family qualifier="CL">USAGE</family></name><administrativeGenderCode code="F" codeSystem="2.16.840.1.113883.5.1"/>
<birthTime value="19840512"/><birthplace><place><addr><county>29019</county></addr></place></birthplace></patient>
</patientRole></recordTarget>
<author><functionCode code="PCP" codeSystem="2.16.840.1.113883.5.88"/><time value="20260301"/>
<assignedAuthor><id root="1.2.250.1.71.4.2.1" extension="810000000017"/>
<code code="G15_10/SM26" codeSystem="1.2.250.1.213.1.1.4.5"/>
<assignedPerson><name><prefix>MME</prefix><family>VASSEUR</family><suffix>DR</suffix></name></assignedPerson>
<representedOrganization><id root="1.2.250.1.71.4.2.2" extension="1290000017"/></representedOrganization>
</assignedAuthor></author>
<author><time nullFlavor="UNK"/><assignedAuthor><id root="1.2.250.1.999.3" extension="A"/><assignedAuthoringDevice>
<manufacturerModelName>M</manufacturerModelName><softwareName>S</softwareName></assignedAuthoringDevice></assignedAuthor></author>
<dataEnterer><assignedEntity/></dataEnterer>
<informant><relatedEntity classCode="ECON"><code code="SIS" codeSystem="2.16.840.1.113883.5.111"/></relatedEntity></informant>
<custodian><assignedCustodian><representedCustodianOrganization><id root="1.2.250.1.71.4.2.2" extension="1290000017"/>
</representedCustodianOrganization></assignedCustodian></custodian>
<informationRecipient><intendedRecipient><id root="1.2.250.1.71.4.2.1" extension="1"/></intendedRecipient></informationRecipient>
<legalAuthenticator><time value="20260301"/><signatureCode code="S"/><assignedEntity>
<id root="1.2.250.1.71.4.2.1" extension="810000000025"/><assignedPerson><name><family>QUERE</family></name></assignedPerson>
</assignedEntity></legalAuthenticator>
<authenticator><time value="20260301"/><signatureCode code="S"/><assignedEntity><id root="1.2.250.1.71.4.2.1" extension="9"/>
</assignedEntity></authenticator>
<participant typeCode="REF"><functionCode code="PCP" codeSystem="2.16.840.1.113883.5.88"/><associatedEntity classCode="PROV"/>
</participant>
<inFulfillmentOf><order><id root="1.2.250.1.999.8" extension="O1"/></order></inFulfillmentOf>
<documentationOf><serviceEvent><effectiveTime><low value="20260228"/><high value="20260301"/></effectiveTime>
<performer typeCode="PRF"><assignedEntity><id root="1.2.250.1.71.4.2.1" extension="810000000017"/><representedOrganization>
<standardIndustryClassCode code="AMBULATOIRE" codeSystem="1.2.250.1.213.1.1.4.9"/></representedOrganization></assignedEntity>
</performer></serviceEvent></documentationOf><documentationOf><serviceEvent/></documentationOf>
<relatedDocument typeCode="RPLC"><parentDocument><id root="1.2.250.1.999.1" extension="6"/></parentDocument></relatedDocument>
<authorization><consent><statusCode code="completed"/></consent></authorization>
<componentOf><encompassingEncounter><code code="AMB" codeSystem="2.16.840.1.113883.5.4"/><effectiveTime value="20260301"/>
<dischargeDispositionCode code="1" codeSystem="1.2.250.1.213.2.14"/><encounterParticipant typeCode="ATND"/>
<location><healthCareFacility><code code="SA07" codeSystem="1.2.250.1.71.4.2.4"/></healthCareFacility></location>
</encompassingEncounter></componentOf>
"""
N1 = (
    '<component><nonXMLBody><text mediaType="application/pdf" representation="B64">JVBERi0xLjQK</text></nonXMLBody></component>'
    "</ClinicalDocument>"
)
N3 = (
    '<component><structuredBody><component><section><code code="11450-4"/><title>T</title><text>x</text></section></component>'
    "</structuredBody></component></ClinicalDocument>"
)
UNSTRUCTURED, MODEL = "1.3.6.1.4.1.19376.1.2.20", "1.2.250.1.213.1.1.1.55"


def n1() -> str:
    """A document of level 1."""
    return HEADER.format(model=UNSTRUCTURED) + N1


def n3() -> str:
    """A document of level 3."""
    return HEADER.format(model=MODEL) + N3
