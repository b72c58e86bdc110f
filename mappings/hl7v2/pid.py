"""PID: who the patient is (`pid_identity`), and the FHIR Patient that the message tells of (`pid_patient`).

Standard: IHE PAM France 2.11.2 with INS annex; FR Core 2.1 fr-core-patient, fr-core-patient-ins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from hub.formats.er7 import Message
from hub.formats.ts import parse_ts
from hub.model.identifiers import INS_ROOTS, InsMatricule, LocalIdentifier
from hub.model.identity import PatientIdentity, ins_is_usable
from hub.model.refusals import FieldMissing, Finding, SegmentMissing
from hub.model.site import Site
from mappings.hl7v2.cx import cx_system
from mappings.hl7v2.extensions import FR_CORE
from mappings.hl7v2.fhir_date import fhir_birth_date
from mappings.hl7v2.line import SAME_PERSON, Composite, Line, line, lines
from mappings.hl7v2.message_times import ts_finding
from mappings.hl7v2.nk1 import nk1_contacts
from mappings.hl7v2.xad import BIRTH_PLACE_TYPE, xad_address
from mappings.hl7v2.xcn import practitioner_reference
from mappings.hl7v2.xtn import xtn_contact
from mappings.hl7v2.zfd import zfd_extensions, zfd_reliability
from mappings.hl7v2.zfp import zfp_extensions

BIRTH_PLACE = "http://hl7.org/fhir/StructureDefinition/patient-birthPlace"
IDENTITY_RELIABILITY = f"{FR_CORE}/StructureDefinition/fr-core-identity-reliability"
BIRTH_LIST_GIVEN_NAME = f"{FR_CORE}/StructureDefinition/fr-core-patient-birth-list-given-name"
IDENTITY_STATUS = f"{FR_CORE}/CodeSystem/fr-core-cs-v2-0445"

Json = dict[str, Any]

_IPP_KINDS = frozenset({"", "PI", "MR", "PT", "RRI"})
_GENDERS = {"F": "female", "M": "male", "U": "unknown", "O": "other", "A": "other", "N": "other"}
STATUSES = frozenset(
    [
        "VALI",
        "PROV",
        "DOUB",
        "DESA",
        "DPOT",
        "DOUA",
        "COLP",
        "COLV",
        "FILI",
        "CACH",
        "ANOM",
        "IDVER",
        "RECD",
        "IDRA",
        "USUR",
        "HOMD",
        "INVA",
        "HOMA",
        "FICT",
        "DOUT",
    ]
)
_ATTRIBUTES = frozenset({"HOMA", "FICT", "DOUT"})  # said beside a status, not instead of one


def judge_pid(message: Message) -> None:
    """What every message about a patient must hold.

    Raises:
        SegmentMissing: no PID.
        FieldMissing: PID-3 or PID-5 is empty.
    """
    segment = message.peek("PID")
    if segment is None:
        raise SegmentMissing(at="PID")
    if segment.raw(3)[:1].isalnum() and segment.raw(5)[:1].isalpha():
        return  # the usual case, told without cutting the message
    pid = line(message, "PID")
    assert pid is not None
    if not any(cx.text() for cx in pid.all(3)):
        raise FieldMissing(at="PID-3")
    if not any(xpn.text(1) or xpn.text(2) for xpn in pid.all(5)):
        raise FieldMissing(at="PID-5")


def pid_identity(message: Message, site: Site) -> PatientIdentity:
    """The identity that PID carries; empty when there is no PID.

    PID-3: a number is an INS by its OID and its type INS (the billing NIR shares the OID, with type NH), an IPP by its type.
    PID-5: type L is the birth name (else the first name given), D the used one. PID-11: type BDL is the birth place.
    A birth date that was corrected by hand (ZFD-4) cannot be that of a qualified identity: then VALI does not count.
    """
    pid = line(message, "PID")
    if pid is None:
        return PatientIdentity()
    identity = identity_of(pid, site)
    if identity.ins and "VALI" in identity.statuses and _birth_date_corrected(message):
        return replace(identity, statuses=tuple(status for status in identity.statuses if status != "VALI"))
    return identity


@lru_cache(maxsize=SAME_PERSON)
def identity_of(pid: Line, site: Site) -> PatientIdentity:
    """The identity of one PID."""
    local, ins = numbers_of(pid.all(3), site)
    birth, used = _names(pid)
    return PatientIdentity(
        local=local,
        ins=ins,
        statuses=_statuses(pid),
        birth_name=birth.text(1) if birth is not None else "",
        first_given_name=birth.text(2) if birth is not None else "",
        birth_given_names=birth.text(3) if birth is not None else "",
        used_name=used.text(1) if used is not None else "",
        birth_date=pid.text(7),
        sex=pid.text(8).upper(),
        birth_place=next((xad.text(9) for xad in pid.all(11) if xad.text(7) == BIRTH_PLACE_TYPE), ""),
    )


def pid_findings(message: Message, site: Site) -> tuple[Finding, ...]:
    """What is worth telling about the patient's identity: codes and places, no values."""
    pid = line(message, "PID")
    return _findings(pid, site, _birth_date_corrected(message)) if pid is not None else ()


@lru_cache(maxsize=SAME_PERSON)
def _findings(pid: Line, site: Site, birth_date_corrected: bool) -> tuple[Finding, ...]:
    found: list[Finding] = []
    marked = [cx for cx in pid.all(3) if is_ins(cx) and cx.text()]
    statuses = _statuses(pid)
    if not STATUSES.issuperset(statuses):
        found.append(Finding("IDENTITY_STATUS", "PID-32", "PID-32: a status that is in no table; kept as written"))
    if marked:
        every = [_matricule(cx) for cx in marked]
        if any(ins is None for ins in every):
            found.append(Finding("INS_SHAPE", "PID-3", "PID-3: an INS without its 15 characters or its OID; it is not kept"))
        if any(ins is not None and not ins.key_is_right for ins in every):
            found.append(Finding("INS_KEY", "PID-3", "PID-3: the key of an INS is wrong; it is kept, and never sent outside"))
        if "VALI" not in statuses:
            found.append(Finding("INS_NOT_QUALIFIED", "PID-32", "PID-32: not VALI; the INS is not used"))
        elif not ins_is_usable(statuses):
            found.append(
                Finding("INS_DOUBTFUL", "PID-32", "PID-32: doubtful or fictive, which VALI excludes; the INS is not used")
            )
        elif birth_date_corrected:
            found.append(
                Finding(
                    "BIRTH_DATE_CORRECTED", "ZFD-4", "ZFD-4: a corrected birth date, which VALI excludes; the INS is not used"
                )
            )
    if (born := pid.text(7)) and not fhir_birth_date(born):
        found.append(Finding("BIRTH_DATE", "PID-7", "PID-7: not a calendar date; compared as written, not shown as a date"))
    if pid.raw(29):
        told = ts_finding("PID-29", parse_ts(pid.text(29), site.timezone))
        if told is not None:
            found.append(told)
    return tuple(found)


def pid_patient(message: Message, identity: PatientIdentity, site: Site) -> Json | None:
    """The FHIR Patient as far as the message tells of it: absent elements are not told, None ones are removed by the sender."""
    pid = line(message, "PID")
    if pid is None:
        return None
    shared, birth_place = _person(pid, site)
    patient = dict(shared)
    extensions = _reliability(message, identity) + zfd_extensions(message) + zfp_extensions(message)
    if birth_place is not None:
        extensions.append({"url": BIRTH_PLACE, "valueAddress": birth_place})
    if extensions:
        patient["extension"] = extensions
    _put(patient, "generalPractitioner", _attending(message), removed=False)
    _put(patient, "contact", nk1_contacts(message), removed=False)
    return patient


@lru_cache(maxsize=SAME_PERSON)
def _person(pid: Line, site: Site) -> tuple[Json, Json | None]:
    """What PID alone says of the Patient, not to be changed; and the place of birth."""
    patient: Json = {}
    addresses, birth_place = _addresses(pid)
    if names := _human_names(pid):
        patient["name"] = names
    sex = pid.text(8).upper()
    if sex in _GENDERS:
        patient["gender"] = _GENDERS[sex]
    if pid.is_null(7):
        patient["birthDate"] = None
    elif birth_date := fhir_birth_date(pid.text(7)):
        patient["birthDate"] = birth_date
    _put_deceased(patient, pid, site)
    _put(patient, "address", addresses, removed=pid.is_null(11))
    _put(patient, "telecom", _telecom(pid), removed=pid.is_null(13) and (pid.is_null(14) or not pid.raw(14)))
    return patient, birth_place


def numbers_of(cxs: Iterable[Composite], site: Site) -> tuple[tuple[LocalIdentifier, ...], tuple[InsMatricule, ...]]:
    """The IPPs and the INS of PID-3 or MRG-1."""
    local: list[LocalIdentifier] = []
    ins: list[InsMatricule] = []
    for cx in cxs:
        value, kind = cx.text(), cx.text(5)
        if not value:
            continue
        if is_ins(cx):
            matricule = _matricule(cx)
            if matricule is not None and matricule not in ins:
                ins.append(matricule)
        elif kind in _IPP_KINDS:
            number = LocalIdentifier(cx_system(cx, site), value, kind or "PI")
            if number not in local:
                local.append(number)
    return tuple(local), tuple(ins)


def is_ins(cx: Composite) -> bool:
    """Whether a number of PID-3 calls itself an INS, by its type or, without type, by its authority."""
    kind = cx.text(5)
    return kind == "INS" or (not kind and "INS" in cx.text(4) and _authority_oid(cx) in INS_ROOTS)


def _birth_date_corrected(message: Message) -> bool:
    """ZFD-4."""
    zfd = line(message, "ZFD")
    return zfd is not None and zfd.text(4).upper() == "Y"


def _statuses(pid: Line) -> tuple[str, ...]:
    return tuple(status for one in pid.all(32) if (status := one.text().upper()))


def _authority_oid(cx: Composite) -> str:
    """CX-4.2, or CX-4.1 when a sender wrote the OID there."""
    return cx.text(4, 2) or cx.text(4)


def _matricule(cx: Composite) -> InsMatricule | None:
    return _ins(cx.text(), _authority_oid(cx))


@lru_cache(maxsize=256)  # one message asks for the same number several times
def _ins(value: str, oid: str) -> InsMatricule | None:
    try:
        return InsMatricule(value.replace(" ", "").upper(), oid)
    except ValueError:
        return None


def _names(pid: Line) -> tuple[Composite | None, Composite | None]:
    """Birth name (the first name when none is marked L) and used name."""
    every = pid.all(5)
    birth = next((xpn for xpn in every if xpn.text(7) == "L"), None)
    used = next((xpn for xpn in every if xpn.text(7) == "D"), None)
    if birth is None:
        birth = next((xpn for xpn in every if xpn is not used), None)
    return birth, used


def _human_names(pid: Line) -> list[Json]:
    birth, used = _names(pid)
    names: list[Json] = []
    if birth is not None and (birth.text(1) or birth.text(2)):
        official: Json = {"use": "official"}
        if birth.text(3):
            official["extension"] = [{"url": BIRTH_LIST_GIVEN_NAME, "valueString": birth.text(3)}]
        names.append(_name(official, birth.text(1), birth.text(2)))
    if used is not None and used.text(1):
        names.append(_name({"use": "usual"}, used.text(1), used.text(2) or (birth.text(2) if birth is not None else "")))
    return names


def _name(name: Json, family: str, given: str) -> Json:
    if family:
        name["family"] = family
    if given:
        name["given"] = [given]
    return name


def _addresses(pid: Line) -> tuple[list[Json], Json | None]:
    """Addresses, and the place of birth, which HL7 puts among them."""
    addresses: list[Json] = []
    birth_place = None
    for xad in pid.all(11):
        address = xad_address(xad)
        if address is None:
            continue
        if xad.text(7) == BIRTH_PLACE_TYPE:
            birth_place = address
        else:
            addresses.append(address)
    return addresses, birth_place


def _reliability(message: Message, identity: PatientIdentity) -> list[Json]:
    """PID-32 and ZFD-5 to 7 as fr-core-identity-reliability; the status as the sender wrote it."""
    parts: list[Json] = []
    status = next((s for s in identity.statuses if s not in _ATTRIBUTES), next(iter(identity.statuses), ""))
    if status:
        parts.append({"url": "identityStatus", "valueCoding": {"system": IDENTITY_STATUS, "code": status}})
    for attribute in identity.statuses:
        if attribute in _ATTRIBUTES and attribute != status:
            coded = {"coding": [{"system": IDENTITY_STATUS, "code": attribute}]}
            parts.append({"url": "comment", "valueCodeableConcept": coded})
    parts += zfd_reliability(message)
    return [{"url": IDENTITY_RELIABILITY, "extension": parts}] if parts else []


def _put_deceased(patient: Json, pid: Line, site: Site) -> None:
    """deceased[x] from PID-29 and PID-30: one of the two forms, the other one removed."""
    if not pid.raw(29) and not pid.raw(30):
        return
    died, said = parse_ts(pid.text(29), site.timezone), pid.text(30).upper()
    if died.instant is not None and said != "N":
        patient["deceasedDateTime"], patient["deceasedBoolean"] = died.fhir_datetime(), None
    elif said in ("Y", "N"):
        patient["deceasedBoolean"], patient["deceasedDateTime"] = said == "Y", None
    elif pid.is_null(29) or pid.is_null(30):
        patient["deceasedBoolean"] = patient["deceasedDateTime"] = None


def _telecom(pid: Line) -> list[Json]:
    found = [xtn_contact(xtn, use) for field, use in ((13, "home"), (14, "work")) for xtn in pid.all(field)]
    return [contact for contact in found if contact is not None]


def _attending(message: Message) -> list[Json]:
    """The attending doctor, whom ROL names (ROL-3 ODRP), else PD1-4."""
    found = [practitioner_reference(rol.one(4)) for rol in lines(message, "ROL") if rol.text(3) == "ODRP"]
    if not found and (pd1 := line(message, "PD1")) is not None:
        found = [practitioner_reference(xcn) for xcn in pd1.all(4)]
    return [doctor for doctor in found if doctor is not None]


def _put(patient: Json, name: str, values: list[Json], *, removed: bool) -> None:
    if values:
        patient[name] = values
    elif removed:
        patient[name] = None
