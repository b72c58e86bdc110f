"""How a stay began and ends, from PV1, PV2, ZFM and ZFV, as elements of the Encounter.

Standard: HL7 v2.5.1 §3.4.3, §3.4.4 (PV1, PV2), tables 0007, 0023, 0112; IHE PAM France 2.11.2, ZFM and ZFV; ATIH, PMSI.
"""

from __future__ import annotations

from hub.formats.er7 import Message
from hub.formats.ts import parse_ts
from hub.model.refusals import Finding
from hub.model.site import Site
from mappings.hl7v2.ce import concept
from mappings.hl7v2.cx import cx_system
from mappings.hl7v2.extensions import Json, fr_core, ours, pam_coding
from mappings.hl7v2.line import Composite, Line, line
from mappings.hl7v2.message_times import ts_finding
from mappings.hl7v2.xad import xad_address
from mappings.national_identifiers import structure_identifier

_TABLE = "http://terminology.hl7.org/CodeSystem/v2-"
_ENTRY = {
    "0": "Transfert pour réaliser un acte",
    "6": "Mutation",
    "7": "Transfert",
    "8": "Domicile",
    "N": "Naissance",
    "O": "Don d'organes",
}
_EXIT = {
    "0": "Transfert pour réaliser un acte",
    "4": "Fugue",
    "5": "Sortie contre avis médical ou sortie à l'essai",
    "6": "Mutation",
    "7": "Transfert",
    "8": "Domicile",
    "9": "Décès",
}
_UNITS = frozenset("1234567R9U8")  # ZFM-3 and ZFM-4
_EMERGENCY = frozenset("5UV")  # ZFM-5
_ENDS = {"ORI": "origin-address", "DST": "destination-address"}  # XAD-7 of ZFV-6
_CARE = frozenset({"MED", "PARAMED", "AUCUN"})  # ZFV-11


def put_hospitalization(body: Json, message: Message, site: Site) -> None:
    """`hospitalization`, `priority`, `reasonCode` and extensions, as far as the message tells of them."""
    pv1, pv2, zfm, zfv = (line(message, name) for name in ("PV1", "PV2", "ZFM", "ZFV"))
    stay: Json = {}
    extensions: list[Json] = []
    if pv1 is not None:
        _from_pv1(body, stay, pv1, site)
    if came := _codes(pv1, 14, "0023") + _pam_codes(zfm, "ZFM", {1: _ENTRY, 3: {}}):
        stay["admitSource"] = {"coding": came}
    if left := _codes(pv1, 36, "0112") + _pam_codes(zfm, "ZFM", {2: _EXIT, 4: {}}) + _pam_codes(zfv, "ZFV", {9: {}}):
        stay["dischargeDisposition"] = {"coding": left}
    if pv2 is not None:
        extensions += _from_pv2(body, pv2, site)
    if zfm is not None and (passed := pam_coding("ZFM-5", zfm.one(5))):
        extensions.append({"url": ours("emergency-passage"), "valueCoding": passed})
    if zfv is not None:
        extensions += _from_zfv(stay, zfv, site)
    if stay:
        body["hospitalization"] = stay
    if extensions:
        body["extension"] = extensions


def hospitalization_findings(message: Message, site: Site) -> tuple[Finding, ...]:
    """Codes of ZFM and ZFV that are in no table, and times that are none."""
    found: list[Finding] = []
    if (zfm := line(message, "ZFM")) is not None:
        for n, table in ((1, _ENTRY), (2, _EXIT), (3, _UNITS), (4, _UNITS), (5, _EMERGENCY)):
            if zfm.text(n) and zfm.text(n).upper() not in table:
                found.append(Finding("ZFM", f"ZFM-{n}", f"ZFM-{n}: a code that is in no table; kept as written"))
    if (zfv := line(message, "ZFV")) is not None:
        if zfv.text(11) and zfv.text(11).upper() not in _CARE:
            found.append(Finding("ZFV", "ZFV-11", "ZFV-11: a code that is in no table; kept as written"))
        for n in (4, 5):
            if (told := ts_finding(f"ZFV-{n}", parse_ts(zfv.text(n), site.timezone))) is not None:
                found.append(told)
    if (pv2 := line(message, "PV2")) is not None:
        for n in (8, 9):
            if (told := ts_finding(f"PV2-{n}", parse_ts(pv2.text(n), site.timezone))) is not None:
                found.append(told)
    return tuple(found)


def _from_pv1(body: Json, stay: Json, pv1: Line, site: Site) -> None:
    """PV1-4 kind of admission, PV1-5 number of the pre-admission, PV1-37 where the patient went."""
    if kind := pv1.text(4):
        body["priority"] = {"coding": [{"system": f"{_TABLE}0007", "code": kind}]}
    if pv1.raw(5) and (before := pv1.one(5)).text():
        stay["preAdmissionIdentifier"] = {"system": cx_system(before, site), "value": before.text()}
    if pv1.raw(37) and (went := _structure(pv1.one(37))):
        stay["destination"] = went


def _codes(pv1: Line | None, field: int, table: str) -> list[Json]:
    """A code of PV1, as a list of none or one."""
    code = pv1.text(field) if pv1 is not None else ""
    return [{"system": f"{_TABLE}{table}", "code": code}] if code else []


def _pam_codes(segment: Line | None, name: str, fields: dict[int, dict[str, str]]) -> list[Json]:
    """Codes of a Z segment; `fields` gives the labels of each."""
    if segment is None:
        return []
    codings = (pam_coding(f"{name}-{n}", segment.one(n), labels) for n, labels in fields.items())
    return [coding for coding in codings if coding is not None]


def _from_pv2(body: Json, pv2: Line, site: Site) -> list[Json]:
    """PV2-3 reason, PV2-8 and PV2-9 expected admission and discharge."""
    reason = concept(pv2.one(3))
    if reason is not None:
        body["reasonCode"] = [reason]
    found: list[Json] = []
    if admission := parse_ts(pv2.text(8), site.timezone).fhir_datetime():
        found.append({"url": ours("expected-admission"), "valueDateTime": admission})
    if discharge := parse_ts(pv2.text(9), site.timezone).fhir_date():
        found.append({"url": fr_core("fr-core-estimated-discharge-date"), "valueDate": discharge})
    return found


def _from_zfv(stay: Json, zfv: Line, site: Site) -> list[Json]:
    """ZFV-1 establishment of origin, 2 transport, 4/5 placement, 6 addresses, 7 NDA of origin, 8 archives, 11 care on the way."""
    if came := _structure(zfv.one(1)):
        stay["origin"] = came
    found: list[Json] = []
    for n, name in ((2, "transport-out"), (11, "care-during-transport")):
        if coding := pam_coding(f"ZFV-{n}", zfv.one(n)):
            found.append({"url": ours(name), "valueCoding": coding})
    placed = {
        name: text for name, n in (("start", 4), ("end", 5)) if (text := parse_ts(zfv.text(n), site.timezone).fhir_datetime())
    }
    if placed:
        found.append({"url": ours("psychiatric-placement"), "valuePeriod": placed})
    for xad in zfv.all(6):
        end = _ENDS.get(xad.text(7).upper(), "")
        address = xad_address(xad)
        if end and address is not None:
            found.append({"url": ours(end), "valueAddress": address})
    for n, name in ((7, "origin-account"), (8, "archive-number")):
        numbers = [cx for cx in zfv.all(n) if cx.text()]
        found += [{"url": ours(name), "valueIdentifier": {"system": cx_system(cx, site), "value": cx.text()}} for cx in numbers]
    return found


def _structure(dld: Composite) -> Json | None:
    """A DLD as a logical reference: its first component is the establishment's number, a FINESS in France."""
    number = dld.text(1)
    if not number:
        return None
    identifier = structure_identifier(number, "", "FINESS" if len(number) in (9, 10) else "")
    return {"type": "Organization", "identifier": identifier} if identifier else {"type": "Organization", "display": number}
