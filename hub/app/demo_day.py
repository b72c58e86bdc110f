"""A short day of synthetic traffic: one invented patient of a hospital, its laboratory and its radiology.

Nobody here exists. The INS is under the national test OID and has a right key.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

HOSPITAL = "CHU-DEMO&1.2.250.1.999.50&ISO"
IPP_OID, VISIT_OID, DOCUMENT_OID = "1.2.250.1.999.50.1", "1.2.250.1.999.50.2", "1.2.250.1.999.50.9"
TEST_INS_OID = "1.2.250.1.213.1.4.10"


@dataclass(frozen=True, slots=True)
class Event:
    """One message of the day: when it is said to be sent, what it is, and its bytes."""

    at: str
    english: str
    body: bytes


def ins(first_thirteen: str) -> str:
    """An invented matricule with its key."""
    return f"{first_thirteen}{97 - int(first_thirteen) % 97:02d}"


INS = ins("2850735123456")
OTHER_INS = ins("1790135123457")


def _pid(matricule: str = INS, status: str = "VALI") -> str:
    fields = [""] * 33
    fields[0], fields[1] = "PID", "1"
    fields[3] = f"8000123^^^CHU-DEMO&{IPP_OID}&ISO^PI~{matricule}^^^ASIP-SANTE-INS-NIR&{TEST_INS_OID}&ISO^INS"
    fields[5] = "EXEMPLE^CAMILLE^CAMILLE ANNE LOUISE^^^^L~IMAGINAIRE^CAMILLE^^^^^D"
    fields[7], fields[8] = "19850712", "F"
    fields[11] = "3 RUE DES INVENTIONS^^RENNES^^35000^FRA^H~^^^^^^BDL^^35238"
    fields[13], fields[18], fields[32] = "^PRN^PH^^^^^^^^^0200000000", f"24500001^^^CHU-DEMO&{IPP_OID}&ISO^AN", status
    return "|".join(fields)


def _pv1(patient_class: str = "I") -> str:
    fields = [""] * 45
    fields[0], fields[1], fields[2], fields[3] = "PV1", "1", patient_class, f"CARDIO^12^A^{HOSPITAL}"
    fields[7] = "810009999999^SOIGNANT^ALEX^^^DR^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"
    fields[19], fields[44] = f"V777001^^^CHU-DEMO&{VISIT_OID}&ISO^VN", "20261124075800"
    return "|".join(fields)


def _adt(event: str, control: str, at: str) -> bytes:
    return "\r".join(
        [
            f"MSH|^~\\&|GAM|CHU-DEMO|VAGUEMESTRE|HUB|{at}||ADT^{event}^ADT_A01|{control}|T|2.5^FRA^2.11|||||FRA|UNICODE UTF-8|FR||2.11^IHE_FRANCE-2.11-PAM",
            f"EVN||{at}||||{at}",
            _pid(),
            _pv1(),
            f"ZBE|M{control}^CHU-DEMO^1.2.250.1.999.50.3^ISO|{at}||INSERT|N||Cardiologie^^^^^{HOSPITAL}^UF^^^4501||HMS",
            "",
        ]
    ).encode()


def _lab_report(control: str, at: str) -> bytes:
    pdf = base64.b64encode(_pdf("Compte rendu d'examens biologiques (exemple)")).decode()
    return "\r".join(
        [
            f"MSH|^~\\&|SIL|LABO-DEMO|VAGUEMESTRE|HUB|{at}||ORU^R01^ORU_R01|{control}|T|2.5|||||FRA|UNICODE UTF-8",
            _pid(),
            _pv1(),
            "ORC|RE|C5001|R5001",
            "OBR|1|C5001|R5001|11502-2^CR d'examens biologiques^LN|||20261124083000",
            "OBX|1|NM|718-7^Hémoglobine^LN||13.4|g/dL|12.0-16.0|N|||F",
            f"OBX|2|ED|11502-2^CR d'examens biologiques^LN||^APPLICATION^PDF^Base64^{pdf}||||||F",
            "",
        ]
    ).encode()


def _cda(document: str, *, set_id: str, version: int, replaces: str = "", matricule: str = INS) -> bytes:
    related = (
        f'<relatedDocument typeCode="RPLC"><parentDocument><id root="{replaces}"/></parentDocument></relatedDocument>'
        if replaces
        else ""
    )
    pdf = base64.b64encode(_pdf(f"Radiographie du thorax, version {version} (exemple)")).decode()
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
<component><nonXMLBody><text mediaType="application/pdf" representation="B64">{pdf}</text></nonXMLBody></component>
</ClinicalDocument>
""".encode()


def _mdm(event: str, control: str, at: str, document: str, cda: bytes, *, action: str, status: str, replaces: str = "") -> bytes:
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
            _pid(),
            _pv1(),
            f"ORC|{action}",
            f"OBR|1|||{kind}",
            f"TXA|1|18748-4|TEXT|||||||||{document}|{replaces}||||AU",
            f"OBX|1|ED|{kind}||^TEXT^XML^Base64^{base64.b64encode(cda).decode()}||||||{status}",
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


def _pdf(title: str) -> bytes:
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


def the_day() -> Iterator[Event]:
    """The messages, in order."""
    first, second, wrong = f"{DOCUMENT_OID}.1", f"{DOCUMENT_OID}.2", f"{DOCUMENT_OID}.3"
    chest = f"{DOCUMENT_OID}.100"
    yield Event("07:58", "admission", _adt("A01", "DEMO0001", "20261124075800"))
    yield Event("09:12", "lab report (PDF)", _lab_report("DEMO0002", "20261124091200"))
    v1 = _cda(first, set_id=chest, version=1)
    yield Event("10:40", "imaging report (CDA)", _mdm("T02", "DEMO0003", "20261124104000", first, v1, action="NW", status="F"))
    v2 = _cda(second, set_id=chest, version=2, replaces=first)
    yield Event(
        "11:30",
        "the same, corrected",
        _mdm("T10", "DEMO0004", "20261124113000", second, v2, action="RO", status="C", replaces=first),
    )
    yield Event("13:05", "transfer", _adt("A02", "DEMO0005", "20261124130500"))
    stranger = _cda(wrong, set_id=f"{DOCUMENT_OID}.101", version=1, matricule=OTHER_INS)
    yield Event(
        "14:20", "report of another patient", _mdm("T02", "DEMO0006", "20261124142000", wrong, stranger, action="NW", status="F")
    )
    yield Event(
        "15:10",
        "withdrawal of the imaging report",
        _mdm("T04", "DEMO0007", "20261124151000", second, v2, action="CA", status="D"),
    )
    yield Event(
        "15:11", "message repeated by its sender", _mdm("T04", "DEMO0007", "20261124151000", second, v2, action="CA", status="D")
    )
    yield Event("16:45", "discharge", _adt("A03", "DEMO0008", "20261124164500"))
