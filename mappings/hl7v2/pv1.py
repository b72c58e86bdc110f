"""PV1 and ZBE: the stay, as a FHIR Encounter.

Standard: IHE PAM France 2.11.2, PV1 and ZBE; FR Core fr-core-encounter.
"""

from __future__ import annotations

from typing import Any

from hub.formats.er7 import Message
from hub.formats.ts import parse_ts
from hub.model.record_change import ResourceChange
from hub.model.refusals import Finding
from hub.model.site import Site
from mappings.hl7v2.cx import cx_system
from mappings.hl7v2.line import Line, line
from mappings.hl7v2.message_times import event_time, ts_finding
from mappings.hl7v2.xcn import practitioner_reference

Json = dict[str, Any]

ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"

# PV1-2 → Encounter.class. N (not a stay) makes no Encounter.
CLASSES = {
    "I": ("IMP", "inpatient encounter"),
    "E": ("EMER", "emergency"),
    "O": ("AMB", "ambulatory"),
    "R": ("AMB", "ambulatory"),
    "P": ("PRENC", "pre-admission"),
    "B": ("IMP", "inpatient encounter"),
    "V": ("VR", "virtual"),
}
UNKNOWN_CLASS = {"system": "http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "code": "UNK"}
MOVEMENTS = frozenset({"INSERT", "UPDATE", "CANCEL"})

# What each event of the stay says of it; an event that is not listed leaves the status as it is.
STATUS_OF_EVENT = {"A01": "in-progress", "A02": "in-progress", "A08": "in-progress", "A03": "finished"}


def pv1_encounter(message: Message, site: Site, *, event: str = "") -> ResourceChange | None:
    """The stay that PV1-19 numbers; None without a number, or when PV1-2 says that there is no stay (N).

    The status follows the event of the stay; PV1-45 ends a stay whatever the event. Messages that are no event of the stay
    leave its status alone.
    """
    pv1 = line(message, "PV1")
    if pv1 is None or pv1.text(2) == "N":
        return None
    visit = pv1.one(19)
    number = visit.text()
    if not number:
        return None
    system = cx_system(visit, site)
    body: Json = {"identifier": [_identifier(system, number, "VN"), *_account(message, site)]}
    kind = pv1.text(2).upper()
    if kind in CLASSES:
        code, display = CLASSES[kind]
        body["class"] = {"system": ACT_CODE, "code": code, "display": display}
    period = _period(message, pv1, event, site)
    if period:
        body["period"] = period
    status = STATUS_OF_EVENT.get(event)
    if status is not None:
        body["status"] = "finished" if period.get("end") else status
    _put_place(body, pv1, site)
    _put_service(body, message, site)
    _put_attender(body, pv1)
    return ResourceChange(
        type="Encounter",
        key=f"{system}|{number}",
        body=body,
        path="PV1",
        event_time=event_time(message, site),
        defaults={"status": "unknown", "class": UNKNOWN_CLASS},
    )


def pv1_findings(message: Message, site: Site) -> tuple[Finding, ...]:
    """What is worth telling about the stay and its movement."""
    found: list[Finding] = []
    pv1 = line(message, "PV1")
    if pv1 is not None:
        if pv1.text(2) != "N" and not pv1.text(19):
            found.append(Finding("NO_VISIT_NUMBER", "PV1-19", "PV1-19: no visit number, so the stay is not filed"))
        for field in (44, 45):
            told = ts_finding(f"PV1-{field}", parse_ts(pv1.text(field), site.timezone)) if pv1.raw(field) else None
            if told is not None:
                found.append(told)
    zbe = line(message, "ZBE")
    if zbe is not None and zbe.text(4) not in MOVEMENTS:
        if zbe.text(5) in MOVEMENTS:
            found.append(Finding("ZBE_SHIFTED", "ZBE-4", "ZBE-4: the movement's action stands one field late; read there"))
        else:
            found.append(Finding("ZBE_ACTION", "ZBE-4", "ZBE-4: neither INSERT, UPDATE nor CANCEL"))
    return tuple(found)


def _identifier(system: str, value: str, kind: str) -> Json:
    return {"type": {"coding": [{"system": IDENTIFIER_TYPE, "code": kind}]}, "system": system, "value": value}


def _account(message: Message, site: Site) -> list[Json]:
    """PID-18, the administrative file (NDA)."""
    pid = line(message, "PID")
    account = pid.one(18) if pid is not None else None
    if account is None or not account.text():
        return []
    return [_identifier(cx_system(account, site), account.text(), "AN")]


def _period(message: Message, pv1: Line, event: str, site: Site) -> Json:
    """From PV1-44 to PV1-45; for an admission or a discharge that leaves them out, when the movement began."""
    period: Json = {}
    for name, field, moved_by in (("start", 44, "A01"), ("end", 45, "A03")):
        if pv1.is_null(field):
            period[name] = None
            continue
        said = parse_ts(pv1.text(field), site.timezone)
        if said.instant is None and event == moved_by:
            said = parse_ts(message.text("ZBE", 2), site.timezone)
            if said.instant is None:
                said = parse_ts(message.text("EVN", 6), site.timezone)
        if said.instant is not None:
            period[name] = said.fhir_datetime()
    return period


def _put_place(body: Json, pv1: Line, site: Site) -> None:
    """PV1-3: the ward, room and bed; its structure as serviceProvider."""
    if pv1.is_null(3):
        body["location"] = None
        return
    place = pv1.one(3)
    parts = [part for part in (place.text(1), place.text(2), place.text(3)) if part]
    if parts:
        identifier = {"system": cx_system(place, site), "value": "-".join(parts)}
        body["location"] = [{"location": {"identifier": identifier, "display": " ".join(parts)}}]
    name, number = place.text(4), place.text(4, 2)
    if name or number:
        provider: Json = {"display": name or number}
        if number:
            provider["identifier"] = {"system": cx_system(place, site), "value": number}
        body["serviceProvider"] = provider


def _put_service(body: Json, message: Message, site: Site) -> None:
    """ZBE-7, the unit that answers for the patient medically; a ZBE whose fields stand one late is read there."""
    zbe = line(message, "ZBE")
    if zbe is None:
        return
    unit = zbe.one(8 if zbe.text(4) not in MOVEMENTS and zbe.text(5) in MOVEMENTS else 7)
    label, code = unit.text(1), unit.text(10)
    service: Json = {}
    if code:
        service["coding"] = [{"system": cx_system(unit, site, component=6), "code": code}]
    if label:
        service["text"] = label
    if service:
        body["serviceType"] = service


def _put_attender(body: Json, pv1: Line) -> None:
    """PV1-7, the attending doctors."""
    if pv1.is_null(7):
        body["participant"] = None
        return
    people = [person for xcn in pv1.all(7) if (person := practitioner_reference(xcn)) is not None]
    if people:
        attender = {"coding": [{"system": PARTICIPATION, "code": "ATND"}]}
        body["participant"] = [{"type": [attender], "individual": person} for person in people]
