"""Synthetic messages: admissions, reports with results or a PDF, documents of the PFI profile. Nobody in them exists.

The control id of every message is unique, `<run>C<connection>S<number>`, so that sender, hub and receiver can be compared.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import lru_cache

from bench.lab_report import lab_report

KINDS = ("adt", "oru", "mdm", "cda", "lab", "mix")
EVENTS = ("A01", "A08", "A03")  # one stay of a patient, then the next stay
_MIX = ("adt", "adt", "oru", "adt", "adt", "adt", "mdm")

_PID = (
    "PID|1||@IPP@^^^BENCH&1.2.250.1.999.1&ISO^PI~@INS@^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS||"
    "ESSAI@NAME@^CAMILLE^CAMILLE ANNE^^^^L||@BORN@|F|||@STREET@ RUE DU BANC^^BREST^^29200^FRA^H~^^^^^^BDL^^29019"
    "|||||||||||||||||||N||VALI"
)
_ADT = "\r".join(
    (
        "MSH|^~\\&|BENCH|BENCH|HUB|HUB|@AT@||ADT^@EVENT@^ADT_A01|@ID@|P|2.5^FRA^2.11|||||FRA|UNICODE UTF-8|FR||"
        "2.11^IHE_FRANCE-2.11-PAM",
        "EVN||@AT@||||@AT@",
        _PID,
        "PV1|1|I|NEPH^@BED@^B^BENCH||||10000000017^VASSEUR^IRMA^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^RPPS"
        "||||||||||||@VISIT@^^^BENCH&1.2.250.1.999.2&ISO^VN|||||||||||||||||||||||||@AT@",
        "ZBE|@ID@^BENCH^1.2.250.1.999.3^ISO|@AT@||INSERT|N||^^^^^^UF^^^6268||HMS",
        "",
    )
)
_ORU = "\r".join(
    (
        "MSH|^~\\&|LABO|BENCH|HUB|HUB|@AT@||ORU^R01^ORU_R01|@ID@|P|2.5|||||FRA|UNICODE UTF-8",
        _PID,
        "PV1|1|I|||||||||||||||||@VISIT@^^^BENCH&1.2.250.1.999.2&ISO^VN",
        "ORC|RE|P@ID@|F@ID@",
        "OBR|1|P@ID@|F@ID@|11502-2^CR d'examens biologiques^LN|||@AT@",
        *(
            f"OBX|{n}|NM|{code}^{name}^LN||{value}|{unit}|||||F|||@AT@"
            for n, (code, name, value, unit) in enumerate(
                (
                    ("2951-2", "Sodium", "139", "mmol/L"),
                    ("2823-3", "Potassium", "4.1", "mmol/L"),
                    ("2160-0", "Créatinine", "71", "umol/L"),
                    ("718-7", "Hémoglobine", "13.2", "g/dL"),
                ),
                1,
            )
        ),
        "",
    )
)
_MDM = "\r".join(
    (
        "MSH|^~\\&|RIS|BENCH|HUB|HUB|@AT@||MDM^T02^MDM_T02|@ID@|P|2.5|||||FRA|UNICODE UTF-8",
        "EVN||@AT@",
        _PID,
        "PV1|1|I|||||||||||||||||@VISIT@^^^BENCH&1.2.250.1.999.2&ISO^VN",
        "TXA|1|CR|AP|@AT@||||||||DOC@ID@|||||AU",
        "OBX|1|ED|18748-4^CR d'imagerie médicale^LN||^application^pdf^Base64^@CONTENT@||||||F",
        "",
    )
)
_PFI = "\r".join(
    (
        "MSH|^~\\&|RIS|BENCH|HUB|HUB|@AT@||MDM^T02^MDM_T02|@ID@|P|2.6|||||FRA|UNICODE UTF-8|||2.1^CISIS_CDA_HL7_V2",
        "EVN||@AT@",
        _PID,
        "PV1|1|I|NEPH^12^B||||||||||||||||@VISIT@^^^BENCH&1.2.250.1.999.2&ISO^VN",
        "ORC|NW",
        "OBR|1|||18748-4^CR d'imagerie médicale^LN",
        "TXA|1|18748-4|TEXT|20260302||||||||1.2.250.9.77.5.@NUMBER@|||||AU",
        "OBX|1|ED|18748-4^CR d'imagerie médicale^LN||^text^XML^Base64^@CONTENT@||||||F",
        "PRT||UC||SB^^participation|810000000017^VASSEUR^Irma^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS|||BENCH^^^^^ASIP-SANTE-ST"
        "&1.2.250.1.71.4.2.2&ISO^FINEG^^^290000017",
        *(
            f"OBX|{n}|CWE|{name}^^MetaDMPMSS||{flag}^^expandedYes-NoIndicator||||||F"
            for n, (name, flag) in enumerate(
                (
                    ("MASQUE_PS", "N"),
                    ("INVISIBLE_PATIENT", "N"),
                    ("INVISIBLE_REP_LEGAUX", "N"),
                    ("CONNEXION_SECRETE", "N"),
                    ("MODIF_CONF_CODE", "N"),
                    ("DESTDMP", "Y"),
                    ("DESTMSSANTEPS", "N"),
                    ("DESTMSSANTEPAT", "N"),
                ),
                2,
            )
        ),
        "",
    )
)
_CDA = """<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3">
  <realmCode code="FR"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
  <templateId root="2.16.840.1.113883.2.8.2.1"/><templateId root="1.2.250.1.213.1.1.1.1"/>
  <templateId root="1.3.6.1.4.1.19376.1.2.20"/>
  <id root="1.2.250.9.77.5.@NUMBER@"/>
  <code code="18748-4" codeSystem="2.16.840.1.113883.6.1" displayName="Compte rendu"/><title>Compte rendu d'échographie</title>
  <effectiveTime value="20260302093000+0100"/><confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/>
  <languageCode code="fr-FR"/><setId root="1.2.250.9.77.6.@NUMBER@"/><versionNumber value="1"/>
  <recordTarget><patientRole>
    <id root="1.2.250.1.999.1" extension="@IPP@"/><id root="1.2.250.1.213.1.4.10" extension="@INS@"/>
    <patient><name><family qualifier="BR">ESSAI@NAME@</family><given>CAMILLE ANNE</given>
      <given qualifier="BR">CAMILLE</given></name>
      <administrativeGenderCode code="F"/><birthTime value="@BORN@"/>
      <birthplace><place><addr><county>29019</county></addr></place></birthplace></patient>
  </patientRole></recordTarget>
  <author><time value="20260302093000+0100"/><assignedAuthor>
    <id root="1.2.250.1.71.4.2.1" extension="810000000017"/><code code="G15_10/SM44" codeSystem="1.2.250.1.213.1.1.4.5"/>
    <assignedPerson><name><family>VASSEUR</family><given>Irma</given></name></assignedPerson>
    <representedOrganization><id root="1.2.250.1.71.4.2.2" extension="1290000017"/><name>BENCH</name></representedOrganization>
  </assignedAuthor></author>
  <custodian><assignedCustodian><representedCustodianOrganization>
    <id root="1.2.250.1.71.4.2.2" extension="1290000017"/><name>BENCH</name>
  </representedCustodianOrganization></assignedCustodian></custodian>
  <documentationOf><serviceEvent><effectiveTime><low value="20260302090000+0100"/></effectiveTime>
    <performer typeCode="PRF"><assignedEntity><representedOrganization>
      <standardIndustryClassCode code="AMBULATOIRE"/></representedOrganization></assignedEntity></performer></serviceEvent>
  </documentationOf>
  <componentOf><encompassingEncounter><effectiveTime><low value="20260302"/></effectiveTime>
    <location><healthCareFacility><code code="SA07"/></healthCareFacility></location></encompassingEncounter></componentOf>
  <component><nonXMLBody><text mediaType="application/pdf" representation="B64">@PDF@</text></nonXMLBody></component>
</ClinicalDocument>"""
_LAB = _PFI.replace("18748-4^CR d'imagerie médicale", "11502-2^CR d'examens biologiques").replace(
    "TXA|1|18748-4", "TXA|1|11502-2"
)
_SHAPES = {"adt": _ADT, "oru": _ORU, "mdm": _MDM, "cda": _PFI, "lab": _LAB}


@dataclass(frozen=True, slots=True)
class Traffic:
    """What to make. `patients` are those of one connection: no two connections speak of the same one.

    `size` is how many bytes the document of an mdm or cda holds, or the PDF in a lab report, which has `results`.
    Message `n` of a connection is of patient `n % patients`;
    the events of one patient follow each other as EVENTS, a new stay after each A03.
    """

    kind: str = "adt"
    run: str = "RUN0"
    patients: int = 100
    size: int = 3_000
    results: int = 14

    def control_id(self, connection: int, number: int) -> str:
        return f"{self.run}C{connection}S{number}"

    def patient(self, connection: int, number: int) -> str:
        """The IPP."""
        return f"{self.run}P{connection}x{number % self.patients}"

    def visit(self, connection: int, number: int) -> str:
        return f"{self.run}V{connection}x{number % self.patients}x{number // self.patients // len(EVENTS)}"

    def event(self, number: int) -> str:
        return EVENTS[number // self.patients % len(EVENTS)]

    def kind_of(self, number: int) -> str:
        return _MIX[number % len(_MIX)] if self.kind == "mix" else self.kind

    def message(self, connection: int, number: int) -> bytes:
        """One message in ER7, without framing. The same arguments give the same bytes."""
        kind, turn, person = self.kind_of(number), number // self.patients, connection * self.patients + number % self.patients
        at = f"20260302{turn // 3600 % 24:02}{turn // 60 % 60:02}{turn % 60:02}"
        ins, born = _ins(person % 1_000_000)
        values = {
            b"@AT@": at,
            b"@EVENT@": self.event(number),
            b"@ID@": self.control_id(connection, number),
            b"@IPP@": self.patient(connection, number),
            b"@INS@": ins,
            b"@BORN@": born,
            b"@NAME@": _letters(person),
            b"@STREET@": str(1 + turn % 3 // 2),
            b"@BED@": str(turn % 97),
            b"@VISIT@": self.visit(connection, number),
        }
        parts = list(_pieces(kind))
        for place in range(1, len(parts), 2):
            key = parts[place]
            if key == b"@CONTENT@":
                parts[place] = self._content(kind, connection, number, ins, born)
            elif key == b"@NUMBER@":
                parts[place] = _document_number(self.control_id(connection, number)).encode()
            else:
                parts[place] = values[key].encode()
        return b"".join(parts)

    def _content(self, kind: str, connection: int, number: int, ins: str, born: str) -> bytes:
        pdf = _pdf(self.size)
        if kind == "mdm":
            return pdf
        person = connection * self.patients + number % self.patients
        values = {
            "@NUMBER@": _document_number(self.control_id(connection, number)),
            "@INS@": ins,
            "@BORN@": born,
            "@IPP@": self.patient(connection, number),
            "@NAME@": _letters(person),
            "@PDF@": pdf.decode(),
        }
        cda = lab_report(self.results) if kind == "lab" else _CDA
        for place, value in values.items():
            cda = cda.replace(place, value)
        return base64.b64encode(cda.encode())


@lru_cache
def _pieces(kind: str) -> tuple[bytes, ...]:
    """A shape cut at its places: text, place, text, place, … text."""
    pieces: list[bytes] = []
    rest = _SHAPES[kind].encode()
    while True:
        start = rest.find(b"@")
        if start < 0:
            return (*pieces, rest)
        end = rest.index(b"@", start + 1) + 1
        pieces += [rest[:start], rest[start:end]]
        rest = rest[end:]


def _ins(person: int) -> tuple[str, str]:
    """A number with a right key under the test OID, and the birth date that it says."""
    year, month = 40 + person // 12_000 % 60, 1 + person // 1_000 % 12
    number = f"2{year:02}{month:02}29{19:03}{person % 1_000:03}"
    return f"{number}{97 - int(number) % 97:02}", f"19{year:02}{month:02}15"


def _letters(number: int) -> str:
    text = ""
    for _ in range(5):
        number, rest = divmod(number, 26)
        text = chr(65 + rest) + text
    return text


def _document_number(control_id: str) -> str:
    """Digits for an OID, one a control id."""
    return str(int.from_bytes(control_id.encode(), "big"))


@lru_cache(maxsize=8)
def _pdf(size: int) -> bytes:
    head = b"%PDF-1.4\n% synthetic\n"
    return base64.b64encode(head + bytes(33 + n % 90 for n in range(max(0, size - len(head)))))
