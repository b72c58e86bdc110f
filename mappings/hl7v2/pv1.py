"""PV1 and ZBE: the stay, as a FHIR Encounter.

Standard: IHE PAM France 2.11.2, PV1 and ZBE; FR Core fr-core-encounter.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from hub.formats.er7 import Message
from hub.formats.ts import Ts, parse_ts
from hub.model.movement_events import STATUS_AFTER
from hub.model.record_change import ResourceChange
from hub.model.refusals import Finding
from hub.model.site import Site
from mappings.hl7v2.cx import cx_system
from mappings.hl7v2.line import Composite, Line, Manner, line
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
STATUS_OF_EVENT = {**STATUS_AFTER, "A08": "in-progress"}


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
    """What is worth telling about the stay."""
    found: list[Finding] = []
    pv1 = line(message, "PV1")
    if pv1 is not None:
        if pv1.text(2) != "N" and not pv1.text(19):
            found.append(Finding("NO_VISIT_NUMBER", "PV1-19", "PV1-19: no visit number, so the stay is not filed"))
        for field in (44, 45):
            told = ts_finding(f"PV1-{field}", parse_ts(pv1.text(field), site.timezone)) if pv1.raw(field) else None
            if told is not None:
                found.append(told)
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
            said = _time_of(message, "ZBE", 2, site)
            if said.instant is None:
                said = _time_of(message, "EVN", 6, site)
        if said.instant is not None:
            period[name] = said.fhir_datetime()
    return period


def _time_of(message: Message, name: str, field: int, site: Site) -> Ts:
    found = line(message, name)
    return parse_ts(found.text(field) if found is not None else "", site.timezone)


def _put_place(body: Json, pv1: Line, site: Site) -> None:
    """PV1-3: the ward, room and bed; its structure as serviceProvider."""
    if pv1.is_null(3):
        body["location"] = None
        return
    place = pv1.one(3)
    if (found := place_of(place, site)) is not None:
        body["location"] = [found]
    name, number = place.text(4), place.text(4, 2)
    if name or number:
        provider: Json = {"display": name or number}
        if number:
            provider["identifier"] = {"system": cx_system(place, site), "value": number}
        body["serviceProvider"] = provider


def place_of(pl: Composite, site: Site) -> Json | None:
    """A PL (ward, room, bed) as an entry of Encounter.location; None when it names no place."""
    parts = [part for part in (pl.text(1), pl.text(2), pl.text(3)) if part]
    if not parts:
        return None
    return {"location": {"identifier": {"system": cx_system(pl, site), "value": "-".join(parts)}, "display": " ".join(parts)}}


def unit_of(xon: Composite, site: Site) -> Json:
    """A UF (ZBE-7, ZBE-8) as a CodeableConcept; empty when it names none."""
    return dict(_unit(*xon.written, site)) if xon.raw else {}


@lru_cache(maxsize=2048)  # a hospital's units, named in each message
def _unit(raw: str, manner: Manner, site: Site) -> Json:
    xon = Composite(manner, raw)
    label, code = xon.text(1), xon.text(10)
    unit: Json = {}
    if code:
        unit["coding"] = [{"system": cx_system(xon, site, component=6), "code": code}]
    if label:
        unit["text"] = label
    return unit


def _put_service(body: Json, message: Message, site: Site) -> None:
    """ZBE-7, the unit that answers for the patient medically; a ZBE whose fields stand one late is read there."""
    zbe = line(message, "ZBE")
    if zbe is None:
        return
    service = unit_of(zbe.one(8 if zbe.text(4) not in MOVEMENTS and zbe.text(5) in MOVEMENTS else 7), site)
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
