"""ZFD: how the identity was obtained and proven, birth by the lunar calendar, SMS.

Standard: IHE PAM France 2.11.2, ZFD; RNIV 1 (documents that prove an identity).
"""

from __future__ import annotations

import re

from hub.formats.er7 import Message
from hub.model.refusals import Finding
from mappings.hl7v2.ce import fhir_code
from mappings.hl7v2.extensions import Json, fr_core, ours
from mappings.hl7v2.fhir_date import fhir_birth_date
from mappings.hl7v2.line import Line, line

METHODS = frozenset({"SM", "CV", "INSI", "CB", "RFID", "AV"})  # ZFD-5
PROOFS = frozenset(["AN", "CC", "CE", "CM", "CN", "CS", "LE", "PA", "PC", "TC", "AV", "DC", "AC", "IE"])  # ZFD-7

_METHOD_COLLECTION = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-identity-method-collection"
_VALIDATION_MODE = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-mode-validation-identity"
_UCUM = "http://unitsofmeasure.org"
_YES_NO = {"Y": True, "N": False}
_LUNAR = re.compile(r"\d{1,2}\^\d{1,2}\^\d{4}", re.ASCII)


def zfd_reliability(message: Message) -> list[Json]:
    """Parts of fr-core-identity-reliability: ZFD-5 method, ZFD-6 date of the INSi query, ZFD-7 document."""
    zfd = line(message, "ZFD")
    if zfd is None:
        return []
    parts: list[Json] = []
    if method := fhir_code(zfd.text(5)):
        parts.append({"url": "methodCollection", "valueCoding": {"system": _METHOD_COLLECTION, "code": method}})
    if asked := fhir_birth_date(zfd.text(6)):
        parts.append({"url": "dateCollection", "valueDate": asked})
    if proof := fhir_code(zfd.text(7)):
        parts.append({"url": "validationMode", "valueCoding": {"system": _VALIDATION_MODE, "code": proof.upper()}})
    return parts


def zfd_extensions(message: Message) -> list[Json]:
    """ZFD-1 lunar birth date, 2 weeks of gestation, 3 consent to SMS, 4 corrected birth date, 8 end of the document."""
    zfd = line(message, "ZFD")
    if zfd is None:
        return []
    found: list[Json] = []
    if lunar := _lunar_date(zfd):
        found.append({"url": fr_core("fr-core-lunar-date"), "valueString": lunar})
    weeks = zfd.text(2)
    if _weeks(weeks):
        quantity = {"value": int(weeks), "unit": "semaines", "system": _UCUM, "code": "wk"}
        found.append({"url": ours("gestation-at-birth"), "valueQuantity": quantity})
    for field, url in ((3, ours("sms-consent")), (4, fr_core("fr-core-patient-birthdate-update-indicator"))):
        said = zfd.text(field).upper()
        if said in _YES_NO:
            found.append({"url": url, "valueBoolean": _YES_NO[said]})
    if until := fhir_birth_date(zfd.text(8)):
        found.append({"url": ours("identity-document-expiry"), "valueDate": until})
    return found


def zfd_findings(message: Message) -> tuple[Finding, ...]:
    """Codes and dates of ZFD that are none."""
    zfd = line(message, "ZFD")
    if zfd is None:
        return ()
    wrong = {
        1: bool(zfd.raw(1)) and not zfd.is_null(1) and not _lunar_date(zfd),
        2: bool(zfd.text(2)) and not _weeks(zfd.text(2)),
        3: zfd.text(3).upper() not in ("", "Y", "N"),
        4: zfd.text(4).upper() not in ("", "Y", "N"),
        5: zfd.text(5).upper() not in {"", *METHODS},
        6: bool(zfd.text(6)) and not fhir_birth_date(zfd.text(6)),
        7: zfd.text(7).upper() not in {"", *PROOFS},
        8: bool(zfd.text(8)) and not fhir_birth_date(zfd.text(8)),
    }
    return tuple(Finding("ZFD", f"ZFD-{n}", f"ZFD-{n}: not a value of its table or type") for n, bad in wrong.items() if bad)


def _lunar_date(zfd: Line) -> str:
    """ZFD-1, day^month^year; days 31 to 35 and months over 12 are what it is for. `dd/mm/yyyy`, as on the papers."""
    lunar = zfd.one(1)
    text = f"{lunar.text(1)}^{lunar.text(2)}^{lunar.text(3)}"
    return text.replace("^", "/") if _LUNAR.fullmatch(text) else ""


def _weeks(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 2
