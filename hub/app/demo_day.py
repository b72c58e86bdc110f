"""A short day of synthetic traffic: one invented patient of a hospital, its laboratory and its radiology."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

from hub.app.demo_documents import cda, mdm, pdf
from hub.app.demo_patient import (
    AGENDA_OID,
    DOCUMENT_OID,
    HOSPITAL,
    IPP_OID,
    MOVEMENT_OID,
    ORDER_OID,
    OTHER_INS,
    OTHER_IPP,
    pid,
    pv1,
)


@dataclass(frozen=True, slots=True)
class Event:
    """One message of the day: when it is said to be sent, what it is, and its bytes."""

    at: str
    english: str
    body: bytes


def _message(*segments: str) -> bytes:
    return "".join(f"{segment}\r" for segment in segments).encode()


def _msh(kind: str, control: str, at: str, *, app: str = "GAM", version: str = "2.5^FRA^2.11", profile: str = "") -> str:
    end = f"|FR||{profile}" if profile else ""
    return f"MSH|^~\\&|{app}|CHU-DEMO|VAGUEMESTRE|HUB|{at}||{kind}|{control}|T|{version}|||||FRA|UNICODE UTF-8{end}"


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
    """The messages, in order."""
    first, second, wrong = f"{DOCUMENT_OID}.1", f"{DOCUMENT_OID}.2", f"{DOCUMENT_OID}.3"
    chest = f"{DOCUMENT_OID}.100"
    consent = "ZFA|ACTIF|20260101|||||||INO|20261124075000|IC|20261124075000"
    yield Event("06:40", "arrival at the emergency department", _emergency("DEMO0001", "20261124064000"))
    yield Event("07:58", "admission, with consent", _adt("A01", "ADT_A01", "DEMO0002", "20261124075800", more=(consent,)))
    yield Event("08:05", "both numbers are one patient", _merge("DEMO0003", "20261124080500"))
    yield Event("08:20", "laboratory order", _order("DEMO0004", "20261124082000"))
    yield Event("09:12", "results, with a PDF", _lab_results("DEMO0005", "20261124091200"))
    yield Event("09:40", "a result corrected", _lab_results("DEMO0006", "20261124094000", potassium="4.4", status="C"))
    v1 = cda(first, set_id=chest, version=1)
    yield Event("10:40", "imaging report (CDA)", mdm("T02", "DEMO0007", "20261124104000", first, v1, action="NW", status="F"))
    v2 = cda(second, set_id=chest, version=2, replaces=first)
    yield Event(
        "11:30",
        "the same, corrected",
        mdm("T10", "DEMO0008", "20261124113000", second, v2, action="RO", status="C", replaces=first),
    )
    yield Event("13:05", "transfer", _adt("A02", "ADT_A02", "DEMO0009", "20261124130500", place="USIC^2^B"))
    stranger = cda(wrong, set_id=f"{DOCUMENT_OID}.101", version=1, matricule=OTHER_INS)
    yield Event(
        "14:20", "report of another patient", mdm("T02", "DEMO0010", "20261124142000", wrong, stranger, action="NW", status="F")
    )
    withdrawn = mdm("T04", "DEMO0011", "20261124151000", second, v2, action="CA", status="D")
    yield Event("15:10", "withdrawal of the imaging report", withdrawn)
    yield Event("15:11", "message repeated by its sender", withdrawn)
    yield Event("15:30", "appointment for the follow-up", _appointment("DEMO0012", "20261124153000"))
    yield Event("16:45", "discharge", _adt("A03", "ADT_A03", "DEMO0013", "20261124164500", place="USIC^2^B"))
