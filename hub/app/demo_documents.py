"""Documents and messages that carry them, for the demonstration's day."""

from __future__ import annotations

import base64

from hub.app.demo_patient import INS, IPP_OID, TEST_INS_OID, VISIT_OID, pid, pv1


def cda(document: str, *, set_id: str, version: int, replaces: str = "", matricule: str = INS) -> bytes:
    related = (
        f'<relatedDocument typeCode="RPLC"><parentDocument><id root="{replaces}"/></parentDocument></relatedDocument>'
        if replaces
        else ""
    )
    printed = base64.b64encode(pdf(f"Radiographie du thorax, version {version} (exemple)")).decode()
    professional = '<id root="1.2.250.1.71.4.2.1" extension="810009999999"/>'
    structure = '<id root="1.2.250.1.71.4.2.2" extension="1350000009"/><name>CHU DE DEMONSTRATION</name>'
    person = "<assignedPerson><name><family>SOIGNANT</family><given>ALEX</given></name></assignedPerson>"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3"><realmCode code="FR"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
<templateId root="2.16.840.1.113883.2.8.2.1"/><templateId root="1.2.250.1.213.1.1.1.1"/><templateId root="1.3.6.1.4.1.19376.1.2.20"/>
<id root="{document}"/><code code="18748-4" displayName="CR d'imagerie médicale" codeSystem="2.16.840.1.113883.6.1"/>
<title>Radiographie du thorax</title><effectiveTime value="20261124104000+0100"/>
<confidentialityCode code="N" displayName="Normal" codeSystem="2.16.840.1.113883.5.25"/><languageCode code="fr-FR"/>
<setId root="{set_id}"/><versionNumber value="{version}"/>
<recordTarget><patientRole><id root="{TEST_INS_OID}" extension="{matricule}"/><id root="{IPP_OID}" extension="8000123"/>
<patient><name><family qualifier="BR">EXEMPLE</family><given>CAMILLE ANNE LOUISE</given><given qualifier="BR">CAMILLE</given></name>
<administrativeGenderCode code="F" codeSystem="2.16.840.1.113883.5.1"/><birthTime value="19850712"/>
<birthplace><place><addr><county>35238</county><city>RENNES</city></addr></place></birthplace></patient></patientRole></recordTarget>
<author><time value="20261124104000+0100"/><assignedAuthor>{professional}{person}
<representedOrganization>{structure}</representedOrganization></assignedAuthor></author>
<custodian><assignedCustodian><representedCustodianOrganization>{structure}</representedCustodianOrganization></assignedCustodian></custodian>
<legalAuthenticator><time value="20261124104000+0100"/><signatureCode code="S"/><assignedEntity>{professional}{person}</assignedEntity></legalAuthenticator>
<documentationOf><serviceEvent><effectiveTime><low value="20261124100000+0100"/></effectiveTime><performer typeCode="PRF"><assignedEntity>{professional}
<representedOrganization><standardIndustryClassCode code="ETABLISSEMENT" codeSystem="1.2.250.1.213.1.1.4.9"/></representedOrganization></assignedEntity></performer>
</serviceEvent></documentationOf>{related}
<componentOf><encompassingEncounter><id root="{VISIT_OID}" extension="V777001"/><effectiveTime><low value="20261124075800+0100"/></effectiveTime>
<location><healthCareFacility><code code="SA01" codeSystem="1.2.250.1.71.4.2.4"/></healthCareFacility></location></encompassingEncounter></componentOf>
<component><nonXMLBody><text mediaType="application/pdf" representation="B64">{printed}</text></nonXMLBody></component>
</ClinicalDocument>
""".encode()


def mdm(
    event: str, control: str, at: str, document: str, content: bytes, *, action: str, status: str, replaces: str = ""
) -> bytes:
    flags = {
        "MASQUE_PS": "N",
        "INVISIBLE_PATIENT": "N",
        "INVISIBLE_REP_LEGAUX": "N",
        "CONNEXION_SECRETE": "N",
        "MODIF_CONF_CODE": "N",
        "DESTDMP": "Y",
        "DESTMSSANTEPS": "Y",
        "DESTMSSANTEPAT": "N",
        "ACK_RECEPTION": "Y",
        "ACK_LECTURE_MSS": "N",
    }
    kind = "18748-4^CR d'imagerie médicale^LN"
    return "\r".join(
        [
            f"MSH|^~\\&|RIS|RADIO-DEMO|VAGUEMESTRE|HUB|{at}||MDM^{event}^MDM_T02|{control}|T|2.6|||||FRA|UNICODE UTF-8|||2.1^CISIS_CDA_HL7_V2",
            f"EVN||{at}",
            pid(),
            pv1(),
            f"ORC|{action}",
            f"OBR|1|||{kind}",
            f"TXA|1|18748-4|TEXT|||||||||{document}|{replaces}||||AU",
            f"OBX|1|ED|{kind}||^TEXT^XML^Base64^{base64.b64encode(content).decode()}||||||{status}",
            "PRT||UC||SB^Send by^participation|810009999999^SOIGNANT^ALEX^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"
            "|||CHU DE DEMONSTRATION^^^^^ASIP-SANTE-ST&1.2.250.1.71.4.2.2&ISO^IDNST^^^1350000009",
            "PRT||UC||RCT^Result Copies To^participation|810008888888^TRAITANT^SACHA^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"
            "||||||||||^^X.400^sacha.traitant@medecin.example",
            *(
                f"OBX|{n}|CWE|{code}^{code}^MetaDMPMSS||{value}^^expandedYes-NoIndicator||||||F"
                for n, (code, value) in enumerate(flags.items(), 2)
            ),
            "",
        ]
    ).encode()


def pdf(title: str) -> bytes:
    """A one-page PDF that viewers open."""
    text = title.encode("latin-1", "replace").replace(b"(", b"\\(").replace(b")", b"\\)")
    stream = b"BT /F1 16 Tf 60 760 Td (" + text + b") Tj ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    out, places = b"%PDF-1.4\n", []
    for n, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj%s endobj\n" % (n, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
