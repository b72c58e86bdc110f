"""A short day of synthetic traffic: one invented patient of a hospital, of its laboratory and radiology, and of a town."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from hub.app import demo_cda_day as documents
from hub.app.demo_documents import imaging_report, mdm, pdf
from hub.app.demo_patient import AGENDA_OID, HOSPITAL, IPP_OID, MOVEMENT_OID, ORDER_OID, OTHER_INS, OTHER_IPP, pid, pv1
from hub.formats.er7.of_cda import er7_of_document


class Way(StrEnum):
    """How it reaches the hub; a document without a message around it comes as a file or over HTTP."""

    MLLP = "MLLP"
    FOLDER = "folder"
    HTTP = "HTTP"


@dataclass(frozen=True, slots=True)
class Event:
    """One message or document of the day: when it is said to be sent, what it is, its bytes, and its way."""

    at: str
    english: str
    body: bytes
    way: Way = Way.MLLP

    @property
    def control_id(self) -> str:
        """MSH-10 of the message, or of the one that a bare document is kept as."""
        message = self.body if self.way is Way.MLLP else er7_of_document(self.body)
        return message.split(b"|", 10)[9].decode()


def _message(*segments: str) -> bytes:
    return "".join(f"{segment}\r" for segment in segments).encode()


def _msh(kind: str, control: str, at: str, *, app: str = "GAM", version: str = "2.5^FRA^2.11", profile: str = "") -> str:
    end = f"|FR||{profile}" if profile else ""
    return f"MSH|^~\\&|{app}|CHU-DEMO|VAGUEMESTRE|HUB|{at}||{kind}|{control}|T|{version}|||||FRA|UNICODE UTF-8{end}"


# A report that is mailed to the practitioner and not to the patient is one that she cannot see yet (table of MSSanté routing).
_BY_MAIL = {"DESTMSSANTEPS": "Y", "INVISIBLE_PATIENT": "Y"}
_PAM = "2.11^IHE_FRANCE-2.11-PAM"


def _adt(event: str, structure: str, control: str, at: str, *, place: str = "CARDIO^12^A", more: tuple[str, ...] = ()) -> bytes:
    """A movement of the stay."""
    return _message(
        _msh(f"ADT^{event}^{structure}", control, at, profile=_PAM),
        f"EVN||{at}||||{at}",
        pid(),
        pv1(place=place),
        f"ZBE|M{control}^CHU-DEMO^{MOVEMENT_OID}^ISO|{at}||INSERT|N||Cardiologie^^^^^{HOSPITAL}^UF^^^4501||HMS",
        *more,
    )


def _merge(control: str, at: str) -> bytes:
    """The number that the emergency department gave is the same person's."""
    return _message(
        _msh("ADT^A40^ADT_A39", control, at, profile=_PAM),
        f"EVN||{at}||||{at}",
        pid(),
        f"MRG|{OTHER_IPP}^^^CHU-DEMO&{IPP_OID}&ISO^PI",
    )


def _emergency(control: str, at: str) -> bytes:
    """An arrival under a number that nobody knew to be this patient's."""
    return _message(
        _msh("ADT^A04^ADT_A01", control, at, profile=_PAM),
        f"EVN||{at}||||{at}",
        pid("", "PROV", OTHER_IPP),
        pv1("E", "URG^1^A", "V776999"),
        f"ZBE|M{control}^CHU-DEMO^{MOVEMENT_OID}^ISO|{at}||INSERT|N||Urgences^^^^^{HOSPITAL}^UF^^^4600||S",
    )


def _order(control: str, at: str) -> bytes:
    """Electrolytes, please."""
    number = f"C5001^DPI^{ORDER_OID}^ISO"
    return _message(
        _msh("OML^O21^OML_O21", control, at, app="DPI", version="2.5"),
        pid(),
        pv1(),
        f"ORC|NW|{number}||||||||||810009999999^SOIGNANT^ALEX^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",
        f"OBR|1|{number}||24326-1^Ionogramme^LN",
    )


def _lab_results(control: str, at: str, *, potassium: str = "4.1", status: str = "F") -> bytes:
    number, filler = f"C5001^DPI^{ORDER_OID}^ISO", f"R5001^SIL^{ORDER_OID}.1^ISO"
    report = base64.b64encode(pdf("Compte rendu d'examens biologiques (exemple)")).decode()
    return _message(
        _msh("ORU^R01^ORU_R01", control, at, app="SIL", version="2.5"),
        pid(),
        pv1(),
        f"ORC|RE|{number}|{filler}",
        f"OBR|1|{number}|{filler}|24326-1^Ionogramme^LN|||20261124083000|||||||||||||||{at}|||{status}",
        f"OBX|1|NM|2951-2^Sodium^LN||139|mmol/L|136-145|N|||{status}|||20261124083000",
        f"OBX|2|NM|2823-3^Potassium^LN||{potassium}|mmol/L|3.5-5.1|N|||{status}|||20261124083000",
        f"OBX|3|ED|11502-2^CR d'examens biologiques^LN||^APPLICATION^PDF^Base64^{report}||||||{status}",
    )


def _appointment(control: str, at: str) -> bytes:
    """The follow-up, in a week."""
    return _message(
        _msh("SIU^S12^SIU_S12", control, at, app="AGENDA", version="2.5"),
        f"SCH|RDV81^AGENDA^{AGENDA_OID}^ISO|RDV81^AGENDA^{AGENDA_OID}^ISO||||CONTROLE^Consultation de contrôle|CONTROLE^Contrôle"
        "|||20|min|^^^20261201093000^20261201095000|||||||||||||BOOKED",
        pid(),
        pv1("O", "CS^3^", "V777002"),
        "RGS|1|A",
        "AIP|1||810009999999^SOIGNANT^ALEX^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS|||20261201093000|||20|min",
    )


def the_day() -> Iterator[Event]:
    """The messages and documents, in order."""
    yield Event("06:10", "a blood count of last week (CDA)", documents.blood_count_before().xml(), Way.HTTP)
    yield Event("06:40", "arrival at the emergency department", _emergency("DEMO0001", "20261124064000"))
    consent = "ZFA|ACTIF|20260101|||||||INO|20261124075000|IC|20261124075000"
    yield Event("07:58", "admission, with consent", _adt("A01", "ADT_A01", "DEMO0002", "20261124075800", more=(consent,)))
    yield Event("08:05", "both numbers are one patient", _merge("DEMO0003", "20261124080500"))
    yield Event("08:10", "the practitioner's synthesis (CDA)", documents.synthesis().xml(), Way.FOLDER)
    yield Event("08:20", "laboratory order", _order("DEMO0004", "20261124082000"))
    yield Event("09:12", "results, with a PDF", _lab_results("DEMO0005", "20261124091200"))
    yield Event("09:40", "a result corrected", _lab_results("DEMO0006", "20261124094000", potassium="4.4", status="C"))
    yield from _biology()
    yield from _imaging()
    yield Event("15:30", "appointment for the follow-up", _appointment("DEMO0012", "20261124153000"))
    ordered = mdm("T02", "DEMO0014", "20261124161000", documents.prescription(), app="DPI")
    yield Event("16:10", "e-prescription of two lines (CDA)", ordered)
    yield Event("16:45", "discharge", _adt("A03", "ADT_A03", "DEMO0013", "20261124164500", place="USIC^2^B"))
    yield Event("17:30", "the pharmacy's dispensation (CDA)", documents.dispensation().xml(), Way.HTTP)


def _biology() -> Iterator[Event]:
    count, corrected = documents.blood_count(), documents.blood_count_corrected()
    yield Event("09:50", "today's blood count (CDA)", mdm("T02", "DEMO0015", "20261124095000", count, app="SIL"))
    again = mdm("T10", "DEMO0016", "20261124101500", corrected, action="RO", status="C", app="SIL")
    yield Event("10:15", "the same, corrected", again)
    yield Event("10:30", "blood group (CDA)", mdm("T02", "DEMO0017", "20261124103000", documents.blood_group(), app="SIL"))
    hidden = mdm("T02", "DEMO0018", "20261124104500", documents.masked_report(), app="SIL", MASQUE_PS="Y")
    yield Event("10:45", "a result masked to professionals (CDA)", hidden)


def _imaging() -> Iterator[Event]:
    """A report in two versions, one of somebody else, and its withdrawal; between them a vaccination and a transfer."""
    first, second = imaging_report(1), imaging_report(2, version=2, replaces=1)
    made = mdm("T02", "DEMO0007", "20261124105000", first, **_BY_MAIL)
    yield Event("10:50", "imaging report (CDA)", made)
    again = mdm("T10", "DEMO0008", "20261124113000", second, action="RO", status="C", **_BY_MAIL)
    yield Event("11:30", "the same, corrected", again)
    vaccinated = mdm("T02", "DEMO0019", "20261124120000", documents.vaccination_note(), app="DPI")
    yield Event("12:00", "vaccination note (CDA)", vaccinated)
    yield Event("13:05", "transfer", _adt("A02", "ADT_A02", "DEMO0009", "20261124130500", place="USIC^2^B"))
    stranger = mdm("T02", "DEMO0010", "20261124142000", imaging_report(3, set_number=101, matricule=OTHER_INS), **_BY_MAIL)
    yield Event("14:20", "report of another patient", stranger)
    withdrawn = mdm("T04", "DEMO0011", "20261124151000", second, action="CA", status="D", **_BY_MAIL)
    yield Event("15:10", "withdrawal of the imaging report", withdrawn)
    yield Event("15:11", "message repeated by its sender", withdrawn)
