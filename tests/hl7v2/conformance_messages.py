"""Conformant synthetic messages of every French profile, and an editable form of a message, for the tests of the rules."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from functools import cache


def ins(first: str = "2930475108123") -> str:
    return first + f"{97 - int(first) % 97:02d}"


INS = ins()
DOCUMENT, OLD = "1.2.250.1.999.7.1", "1.2.250.1.999.7.0"


@cache
def cda(document: str = DOCUMENT, *, replaces: str = "", code: str = "11502-2", matricule: str = INS, traits: bool = True) -> str:
    relation = (
        f'<relatedDocument typeCode="RPLC"><parentDocument><id root="{replaces}"/></parentDocument></relatedDocument>'
        if replaces
        else ""
    )
    birth_place = "<birthplace><place><addr><county>75108</county></addr></place></birthplace>" if traits else ""
    xml = (
        f'<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3"><id root="{document}"/>'
        f'<code code="{code}" codeSystem="2.16.840.1.113883.6.1"/><title>Essai</title><effectiveTime value="20261124"/>'
        '<confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/><setId root="1.2.250.1.999.7.9"/>'
        f'<recordTarget><patientRole><id extension="{matricule}" root="1.2.250.1.213.1.4.8"/><patient><name>'
        '<given>ZELIE ROSE</given><given qualifier="BR">ZELIE</given><family qualifier="BR">MARQUEMOT</family></name>'
        f'<administrativeGenderCode code="F"/><birthTime value="19930412"/>{birth_place}</patient></patientRole></recordTarget>'
        f'{relation}<component><nonXMLBody><text mediaType="text/plain">x</text></nonXMLBody></component></ClinicalDocument>'
    )
    return b64encode(xml.encode().ljust(1002)).decode()


def _msh(kind: str, version: str, profile: str, *, language: str = "") -> str:
    return f"MSH|^~\\&|APPLI|SITE|HUB|CHU|20261124080000||{kind}|C1|P|{version}|||||FRA|UNICODE UTF-8|{language}||{profile}"


PID = (
    f"PID|1||900^^^CHU&1.2.250.1.999.1&ISO^PI~{INS}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.8&ISO^INS"
    "||MARQUEMOT^ZELIE^ZELIE ROSE^^^^L~MARQUEDEUX^ZELIE^^^^^D||19930412|F|||1 rue^^PARIS^^75008^FRA^H~^^^^^^BDL^^75108"
    "|||||||55^^^CHU&1.2.250.1.999.2&ISO^AN|||||||||||||N|VALI"
)
MORE_NUMBERS = (
    "~7^^^ASIP-SANTE-INS-C&1.2.250.1.213.1.4.2&ISO^INS-C~8^^^CNOP&1.2.250.1.176.1.2&ISO^NDP"
    "~9^^^ASIP-SANTE-NIR&1.2.250.1.213.1.4.8&ISO^NH"
)
VISIT = "700^^^CHU&1.2.250.1.999.3&ISO^VN"
PV1 = f"PV1|1|I|MED^12^1{'|' * 16}{VISIT}{'|' * 25}20261124080000|20261125080000{'|' * 6}V"
UF = "Chirurgie^^^^^CHU&120000000&N^UF^^^6268"
MRG = "MRG|901^^^CHU&1.2.250.1.999.1&ISO^PI"
ZFA = "ZFA|FERME|20261124080000|20261124080000||||||INO|20261124080000|IC|20261124080000"
ZFP = "ZFP|1|11"
ZFV = (
    "ZFV|750000001^20261124|AMB||20261124|20261125|^^^^^^ORI~^^^^^^DST"
    "|5^^^CHU&1.2.250.1.999.2&ISO^AN|6^^^CHU&1.2.250.1.999.4&ISO^MR|||MED"
)
ZFM = "ZFM|8|8|1|1|5"
ZFD = "ZFD|31^13^1993|40|N|N|INSI|20261124|CN|20301124"
ZFS = "ZFS|1|M1^CHU|20261124|20261125|INSERT|SL^Soins libres"
LINES = {"ZFA": ZFA, "ZFP": ZFP, "ZFS": ZFS, "PID": PID}


def _zbe(action: str = "INSERT", original: str = "", nature: str = "HMS") -> str:
    return f"ZBE|M1^CHU^1.2.250.1.999.5^ISO|20261124080000||{action}|N|{original}|{UF}|{UF}|{nature}"


LINES["ZBE"] = _zbe()


def _adt(event: str, structure: str, *segments: str, pid: str = PID) -> str:
    header = _msh(f"ADT^{event}^{structure}", "2.5^FRA^2.11", "2.11^IHE_FRANCE-2.11-PAM", language="FR")
    return "\r".join((header, "EVN||20261124080000|20261124080000|||20261124080000", pid, *segments))


_LOCAL_PID = PID[: PID.index("~" + INS)] + PID[PID.index("^INS||") + 4 :].replace("|VALI", "|PROV")
_FULL_PID = PID.replace("^INS||", f"^INS{MORE_NUMBERS}||")
_INS_MRG = f"MRG|{INS}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.8&ISO^INS"
PAM = (
    _adt("A01", "ADT_A01", PV1, _zbe(), ZFA, ZFP, ZFV, ZFM, ZFD, pid=_FULL_PID),
    _adt("A02", "ADT_A02", PV1, _zbe(nature="M")),
    _adt("A03", "ADT_A03", PV1, _zbe(nature="S")),
    _adt("A06", "ADT_A06", PV1, _zbe()),
    _adt("A11", "ADT_A09", PV1, _zbe("CANCEL", "A01")),
    _adt("Z99", "ADT_A01", PV1, _zbe("UPDATE", "A01", "C"), ZFA),
    _adt("A28", "ADT_A05", PV1.replace("|I|", "|N|"), ZFA, ZFD, ZFS),
    _adt("A40", "ADT_A39", MRG),
    _adt("A47", "ADT_A30", MRG),
    _adt("A31", "ADT_A05", PV1, pid=_LOCAL_PID),
    _adt("A47", "ADT_A30", _INS_MRG, pid=PID.replace(INS, '""').replace("|VALI", "|PROV")),
)

_SYSTEM = "ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO"
SENDER = (
    f"PRT||UC||SB^Send by^participation|810000000001^MARQUEPS^PAUL^^^^^^{_SYSTEM}^D^^^IDNPS|||"
    "Labo^^^^^ASIP-SANTE-ST&1.2.250.1.71.4.2.2&ISO^FINEG^^^750000001|||||||^^X.400^labo@a.mssante.fr"
)
DOCTOR = (
    f"PRT||UC||RCT^Result Copies To^participation|10000000002^MARQUEDR^JEAN^^^^^^{_SYSTEM}^D^^^RPPS||||||||||"
    "^^X.400^jean@a.mssante.fr"
)
PATIENT = (
    f"PRT||UC||RCT^Result Copies To^participation|{INS}^^^^^^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.8&ISO^^^^INS||||||||||"
    f"^^X.400^{INS}@patient.mssante.fr"
)
REPLY = "PRT||UC||REPLY^Reply To^participation|||||||||||^^X.400^retour@a.mssante.fr"
_FLAGS = {
    "MASQUE_PS": "N",
    "INVISIBLE_PATIENT": "N",
    "INVISIBLE_REP_LEGAUX": "N",
    "CONNEXION_SECRETE": "N",
    "MODIF_CONF_CODE": "N",
    "DESTDMP": "Y",
    "DESTMSSANTEPS": "Y",
    "DESTMSSANTEPAT": "Y",
    "ACK_RECEPTION": "Y",
    "ACK_LECTURE_MSS": "N",
}
LPS_FLAGS = ("MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REP_LEGAUX", "MODIF_CONF_CODE")
MAIL_TEXT = b64encode(b"Bonjour !").decode()


def document_obx(number: int, content: str, action: str = "F", *, word: str = "text", system: str = "^LN") -> str:
    return f"OBX|{number}|ED|11502-2^CR{system}||^{word}^XML^Base64^{content}||||||{action}"


def meta_obx(
    number: int, code: str, value: str, kind: str = "CWE", system: str = "^MetaDMPMSS", yes: str = "expandedYes-NoIndicator"
) -> str:
    return f"OBX|{number}|{kind}|{code}^{code.lower()}{system}||{value}^^{yes}||||||F".replace(f"{value}^^|", f"{value}|")


def _metas(first: int, codes: dict[str, str], **how: str) -> list[str]:
    return [meta_obx(first + n, code, value, **how) for n, (code, value) in enumerate(codes.items())]


def _mail_text(number: int, code: str = "CORPSMAIL_PS", system: str = "^MetaDMPMSS") -> str:
    return f"OBX|{number}|ED|{code}^corps{system}||^text^^Base64^{MAIL_TEXT}||||||F"


_EVN = "EVN||20261124080000"
_ACTIONS = {"T02": ("NW", "F", ""), "T10": ("RO", "C", OLD), "T04": ("CA", "D", "")}


def _mdm(
    event: str,
    profile: str,
    flags: list[str],
    *,
    prts: tuple[str, ...],
    order: bool = True,
    state: str = "AU",
    pv1: str = PV1,
    pid: str = PID,
    orc: str = "",
    system: str = "^LN",
    txa12: str = DOCUMENT,
) -> str:
    control, action, old = _ACTIONS[event]
    segments = [_msh(f"MDM^{event}^MDM_T02", "2.6", profile), _EVN, pid, pv1]
    if order:
        segments += [f"ORC|{orc or control}", f"OBR|1|||11502-2^CR{system}"]
    segments += [f"TXA|1|11502-2|TEXT|||||||||{txa12}|{old}||||{state}"]
    segments += [document_obx(1, cda(replaces=old), action, system=system), *prts, *flags]
    return "\r".join(segments)


def _oru(action: str, profile: str, *, two: bool = False, kind: str = "CE", flags: dict[str, str] = _FLAGS) -> str:
    control = {"F": "NW", "C": "RO", "D": "CA"}[action]
    old = OLD if action == "C" else ""
    documents = [document_obx(1, cda(replaces=old), action, word="TEXT"), SENDER, DOCTOR, PATIENT, REPLY]
    if two:
        documents.append(document_obx(2, cda("1.2.250.1.999.7.2", replaces=old and "1.2.250.1.999.7.3"), action, word="TEXT"))
    first = 2 + two
    segments = [_msh("ORU^R01^ORU_R01", "2.5", profile), PID, PV1, f"ORC|{control}", "OBR|1|||11502-2^CR^LN", *documents]
    segments += [
        *_metas(first, flags, kind=kind),
        _mail_text(first + len(flags)),
        _mail_text(first + len(flags) + 1, "CORPSMAIL_PATIENT"),
    ]
    return "\r".join(segments)


_V21, _V20, _V12 = "2.1^CISIS_CDA_HL7_V2", "2.0^CISIS_CDA_HL7_V2", "1.2^CISIS_CDA_HL7_V1"
_PRTS = (SENDER, DOCTOR, PATIENT, REPLY)
_N_PV1 = PV1.replace("|I|", "|N|")
_OLD_NAMES = {"INVISIBLE_REP_LEGAUX": "INVISIBLE_REPRESENTANTS_LEGAUX", "MODIF_CONF_CODE": "MODIF_CONFIDENTIALITYCODE"}
_OLD_FLAGS = {_OLD_NAMES.get(code, code): value for code, value in _FLAGS.items() if not code.startswith("ACK")}
_LPS_MAIL = f"OBX|2|ED|<a1@a.mssante.fr>^XDM/1.0/DDM+CR||^text^^Base64^{MAIL_TEXT}||||||F"
_LPS = dict.fromkeys(LPS_FLAGS, "N")

_TLR_PV1 = PV1.replace("|I|", "|O|")
_ORC_2 = "OPN1^^1.2.250.1.999.6^ISO"
_DR = f"810000000001^MARQUEPS^PAUL^^^^^^{_SYSTEM}^D^^^IDNPS"
_TLR_ORG = "STRUCTURE_IMAGERIE^^TLR_TYPE_ORGANISATION"


def _tlr(kind: str, control: str, procedure: str, *segments: str, reason: str = "", extra: str = "") -> str:
    orc = f"ORC|{control}|{_ORC_2}{'|' * 10}{_DR}{'|' * 4}{reason}|{_TLR_ORG}"
    obr = f"OBR|1|{_ORC_2}||{procedure}^x^TLR_OBR_PROCEDURE"
    middle = (extra,) if extra else ()
    return "\r".join((_msh(kind, "2.5.1", "1.0^CISIS_TLR_HL7_V2"), PID, _TLR_PV1, orc, *middle, obr, *segments))


_LOT = "OBX|{n}|{kind}|PRODUIT_ADMINISTRE^x^TLR_OBSERVATION|1.{n}|{value}||||||F"
_PROTOCOL = f"OBX|1|ED|PROTOCOLE_IMAGERIE^x^TLR_OBSERVATION||^TEXT^^Base64^{MAIL_TEXT}||||||F"
_IPC = "IPC|ACN1^^1.2.250.1.999.8^ISO|P1|1.2.250.1.999.9.1|S1"
TLR = (
    _tlr(
        "ORM^O01^ORM_O01",
        "NW",
        "TRANSMISSION_DEMANDE",
        "OBX|1|CE|MODALITE_IMAGERIE^x^TLR_OBSERVATION||MR^IRM^DCM||||||O",
        "OBX|2|CE|REGION_ANATOMIQUE^x^TLR_OBSERVATION|1.1|774007^x^SCT||||||O",
        "OBX|3|FT|11322-5^x^LN||rien|||MAJEUR|||O",
        "OBX|4|CE|82810-3^x^LN||N^^expandedYes-NoIndicator||||||O",
    ),
    _tlr("ORM^O01^ORM_O01", "CA", "ANNULATION_DEMANDE", reason="R1^motif"),
    _tlr("ORU^R01^ORU_R01", "OK", "REPONSE_DEMANDE", _PROTOCOL),
    _tlr("ORU^R01^ORU_R01", "OC", "REPONSE_DEMANDE", reason="R1^motif"),
    _tlr(
        "OMI^O23^OMI_O23",
        "SR",
        "COMPLEMENT_POST_ACTE",
        _LOT.format(n=1, kind="CE", value="V09^^ATC"),
        _LOT.format(n=2, kind="ST", value="0123"),
        _IPC,
        extra="TQ1||||||730^jours|20261124",
    ),
)


def _zam(event: str, code: str, value: str, profile: str = _V21, *, address: str = "", error: str = "",
         yes: str = "expandedYes-NoIndicator", condition: str = "messageErrorCondition") -> str:  # fmt: skip
    segments = [_msh(f"ZAM^{event}^ZAM_Z01", "2.6", profile), _EVN]
    segments.append(f"OBX|1|CWE|{code}^x^AckMetierZAM|C0|{value}^^{yes}||||||F")
    if address:
        segments.append(f"OBX|2|XTN|{address}^x^AckMetierZAM|81|^^X.400^jean@a.mssante.fr||||||F")
    if error:
        segments.append(f"ERR|||207^x^{condition}|E|{error}")
    return "\r".join(segments)


_DMP_NO = "DMPClosed^x^DMP_ERROR_CODE"
MESSAGES: dict[str, tuple[str, ...]] = {
    "pam-fr": PAM,
    "cda-2.1": (
        *(_mdm(event, _V21, _metas(2, _FLAGS), prts=_PRTS) for event in _ACTIONS),
        *(_oru(action, _V21) for action in "FCD"),
        _oru("F", _V21, two=True),
    ),
    "cda-2.0": (
        *(_mdm(event, _V20, _metas(2, _FLAGS), prts=_PRTS, order=False, state="LA") for event in _ACTIONS),
        *(_oru(action, _V20) for action in "FC"),
    ),
    "cda-1.2": (
        *(
            _mdm(
                event,
                _V12,
                _metas(2, _OLD_FLAGS, system="", yes=""),
                prts=(REPLY,),
                state="LA",
                orc="SC",
                system="",
                txa12="2638",
            )
            for event in _ACTIONS
        ),
    ),
    "lps-1.1": tuple(
        _mdm(event, "1.1^CISIS_CDA_HL7_LPS", [_LPS_MAIL, *_metas(3, _LPS)], prts=_PRTS, pv1=_N_PV1) for event in _ACTIONS
    ),
    "lps-1.0": tuple(
        _mdm(event, "1.0^CISIS_CDA_HL7_LPS", [_LPS_MAIL, *_metas(3, _LPS)], prts=_PRTS, order=False, state="LA")
        for event in _ACTIONS
    ),
    "tlr-1.0": TLR,
    "zam-2.1": (
        _zam("Z01", "ACK_RECEPTION_DMP", "N", error=_DMP_NO),
        _zam("Z01", "ACK_RECEPTION_DMP", "Y"),
        _zam("Z02", "ACK_RECEPTION_MSS", "N", address="DESTINATAIRE_MSS", error="550^x^SMTPERRORCODE"),
        _zam("Z03", "ACK_LECTURE_MSS", "N", address="LECTEUR_MSS", error="902^x^applicationErrorCondition"),
    ),
    "zam-2.0": (
        _zam("Z01", "ACK_RECEPTION_DMP", "N", _V20, error="DMPClosed^x^DMPERRORCODE", yes="HL70136", condition="HL70357"),
    ),
    "ack": (
        f"{_msh('ACK^A01^ACK', '2.5', '')}\rMSA|AA|C0",
        f"{_msh('ACK^T02^ACK', '2.6', '')}\rMSA|AE|C0\rERR||PID^1^3|101^x^messageErrorCondition|E",
    ),
    "fr": (
        "\r".join((_msh("ORU^R01^ORU_R01", "2.5.1", ""), PID, PV1, "ORC|RE|P1^A", "OBR|1|P1^A||718-7^Hb^LN")),
        "\r".join((_msh("OML^O21^OML_O21", "2.5", ""), _LOCAL_PID, PV1, "ORC|NW|P1^A", "OBR|1|P1^A||718-7^Hb^LN")),
    ),
}


@dataclass
class Editable:
    """A message as lists of fields, in which single places are changed. Separators are `|^~\\&`."""

    lines: list[list[str]]
    separator: str = "|"

    @classmethod
    def of(cls, text: str) -> Editable:
        return cls([line.split("|") for line in text.split("\r")])

    def copy(self) -> Editable:
        return Editable([list(line) for line in self.lines])

    def bytes(self) -> bytes:
        return "\r".join(self.separator.join(line) for line in self.lines).encode() + b"\r"

    def get(self, line: int, field: int) -> str:
        fields, at = self.lines[line], field - (self.lines[line][0] == "MSH")
        return fields[at] if at < len(fields) else ""

    def put(self, line: int, field: int, value: str) -> None:
        fields, at = self.lines[line], field - (self.lines[line][0] == "MSH")
        fields += [""] * (at + 1 - len(fields))
        fields[at] = value

    def put_part(self, line: int, field: int, repetition: int, component: int, subcomponent: int, value: str) -> None:
        """Change one component (0: the whole repetition) of one repetition."""
        repetitions = self.get(line, field).split("~")
        parts = repetitions[repetition - 1].split("^")
        if component:
            parts += [""] * (component - len(parts))
            if subcomponent:
                pieces = parts[component - 1].split("&")
                pieces += [""] * (subcomponent - len(pieces))
                pieces[subcomponent - 1] = value
                value = "&".join(pieces)
            parts[component - 1] = value
            value = "^".join(parts)
        repetitions[repetition - 1] = value
        self.put(line, field, "~".join(one for one in repetitions if one or len(repetitions) == 1))

    def find(self, name: str, nth: int = 1) -> int:
        """The line of the nth segment of a name."""
        return [n for n, line in enumerate(self.lines) if line[0] == name][nth - 1]

    def obx(self, code: str) -> int:
        """The line of the OBX whose OBX-3.1 is that code."""
        return next(n for n, line in enumerate(self.lines) if line[0] == "OBX" and line[3].split("^")[0] == code)
