"""Who the demonstration's day is about: one invented patient, with a right key under the national test OID, in one stay."""

from __future__ import annotations

HOSPITAL = "CHU-DEMO&1.2.250.1.999.50&ISO"
IPP_OID, VISIT_OID, DOCUMENT_OID = "1.2.250.1.999.50.1", "1.2.250.1.999.50.2", "1.2.250.1.999.50.9"
MOVEMENT_OID, ORDER_OID, AGENDA_OID = "1.2.250.1.999.50.3", "1.2.250.1.999.50.4", "1.2.250.1.999.50.5"
TEST_INS_OID = "1.2.250.1.213.1.4.10"
IPP, OTHER_IPP = "8000123", "8000999"


def ins(first_thirteen: str) -> str:
    """An invented matricule with its key."""
    return f"{first_thirteen}{97 - int(first_thirteen) % 97:02d}"


INS = ins("2850735123456")
OTHER_INS = ins("1790135123457")


def pid(matricule: str = INS, status: str = "VALI", ipp: str = IPP) -> str:
    """PID; without a matricule the identity is not qualified."""
    fields = [""] * 33
    number = f"~{matricule}^^^ASIP-SANTE-INS-NIR&{TEST_INS_OID}&ISO^INS" if matricule else ""
    fields[0], fields[1] = "PID", "1"
    fields[3] = f"{ipp}^^^CHU-DEMO&{IPP_OID}&ISO^PI{number}"
    fields[5] = "EXEMPLE^CAMILLE^CAMILLE ANNE LOUISE^^^^L~IMAGINAIRE^CAMILLE^^^^^D"
    fields[7], fields[8] = "19850712", "F"
    fields[11] = "3 RUE DES INVENTIONS^^RENNES^^35000^FRA^H~^^^^^^BDL^^35238"
    fields[13], fields[18], fields[32] = "^PRN^PH^^^^^^^^^0200000000", f"24500001^^^CHU-DEMO&{IPP_OID}&ISO^AN", status
    return "|".join(fields)


def pv1(patient_class: str = "I", place: str = "CARDIO^12^A", visit: str = "V777001") -> str:
    """PV1 of the stay."""
    fields = [""] * 45
    fields[0], fields[1], fields[2], fields[3] = "PV1", "1", patient_class, f"{place}^{HOSPITAL}"
    fields[7] = "810009999999^SOIGNANT^ALEX^^^DR^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"
    fields[19], fields[44] = f"{visit}^^^CHU-DEMO&{VISIT_OID}&ISO^VN", "20261124075800"
    return "|".join(fields)
