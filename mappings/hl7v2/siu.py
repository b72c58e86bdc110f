"""SIU^S12 to S22 and S26: an appointment, known by its filler's (else its placer's) number.

S18 to S22 add, change or take away single resources and services (segment action code, table 0206); the other events tell the
whole appointment. A cancellation that comes before its booking stays: the older booking only fills in what is lacking.

Standard: HL7 v2.5.1 chapter 10, tables 0206, 0278; FHIR R4 Appointment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hub.formats.er7 import Message
from hub.formats.ts import Ts, parse_ts
from hub.model.record_change import RecordChange, ResourceChange
from hub.model.refusals import FieldInvalid, FieldMissing, Finding, SegmentMissing
from hub.model.site import Site
from mappings.hl7v2.ce import full_concept
from mappings.hl7v2.cx import cx_system
from mappings.hl7v2.line import Composite, Line, line, lines
from mappings.hl7v2.message_times import event_time, ts_finding
from mappings.hl7v2.obx_value import clean, number
from mappings.hl7v2.order_groups import judge_one_patient
from mappings.hl7v2.order_number import Number, ei_number
from mappings.hl7v2.pid import judge_pid, pid_findings, pid_identity, pid_patient
from mappings.hl7v2.plain_document import visit
from mappings.hl7v2.xcn import practitioner_reference
from mappings.structure import AsksForNothing

Json = dict[str, Any]

# Event → status; None: as SCH-25 says, else unchanged.
EVENTS: dict[str, str | None] = {
    "S12": "booked",
    "S13": "booked",
    "S14": None,
    "S15": "cancelled",
    "S16": "cancelled",
    "S17": "entered-in-error",
    "S18": None,
    "S19": None,
    "S20": None,
    "S21": None,
    "S22": None,
    "S26": "noshow",
}
# SCH-25 (table 0278); it refines an event that does not end the appointment.
FILLER_STATUSES = {
    "PENDING": "pending",
    "WAITLIST": "waitlist",
    "BOOKED": "booked",
    "OVERBOOK": "booked",
    "STARTED": "arrived",
    "COMPLETE": "fulfilled",
    "CANCELLED": "cancelled",
    "DC": "cancelled",
    "DELETED": "entered-in-error",
    "NOSHOW": "noshow",
}
_TELLS_TIMES = frozenset({"S12", "S13"})
_SINGLE = {"S18": "A", "S19": "U", "S20": "D", "S21": "D", "S22": "D"}  # what a segment without action code means
_ENDS = frozenset({"cancelled", "entered-in-error", "noshow"})
_MINUTES = {
    "": 1.0,
    "MIN": 1.0,
    "M": 1.0,
    "MN": 1.0,
    "MINUTE": 1.0,
    "MINUTES": 1.0,
    "S": 1 / 60,
    "SEC": 1 / 60,
    "H": 60.0,
    "HR": 60.0,
}
_PARTICIPATION = {"PENDING": "needs-action", "CANCELLED": "declined", "DC": "declined", "DELETED": "declined"}


@dataclass(frozen=True, slots=True)
class _Resource:
    """What one AIS, AIG, AIL or AIP says. `action` is A, U, D, X or empty."""

    action: str
    participants: tuple[Json, ...] = ()
    service: Json | None = None


class Siu(AsksForNothing):
    """One appointment."""

    name, version = "siu", "1"
    heavy = parses_document = False

    def judge(self, message: Message, site: Site) -> None:
        sch = line(message, "SCH")
        if sch is None:
            raise SegmentMissing(at="SCH")
        if _number(sch, site) is None:
            raise FieldMissing(at="SCH-2")
        if message.peek("PID") is not None:
            judge_pid(message)
        judge_one_patient(message)
        if _event(message) in _TELLS_TIMES:
            at, written = _start_text(message, sch)
            if not written:
                raise FieldMissing(at=at)
            if not parse_ts(written, site.timezone).fhir_instant():
                raise FieldInvalid(at=at)

    def remarks(self, message: Message, site: Site) -> tuple[Finding, ...]:
        found = list(pid_findings(message, site))
        sch = line(message, "SCH")
        if sch is not None:
            at, written = _start_text(message, sch)
            if written and (told := ts_finding(at, parse_ts(written, site.timezone))) is not None:
                found.append(told)
            if (said := sch.text(25).upper()) and said not in FILLER_STATUSES:
                found.append(Finding("SCH_STATUS", "SCH-25", "SCH-25: not a status of table 0278; the event decides"))
        if message.peek("PID") is None:
            found.append(Finding("NO_PATIENT", "PID", "PID: no patient; only an appointment that is already known is changed"))
        return tuple(found)

    def translate(self, message: Message, site: Site) -> RecordChange:
        identity = pid_identity(message, site)
        appointment = _appointment(message, site)
        return RecordChange(
            mapping=f"{self.name}@{self.version}",
            identity=identity,
            patient=pid_patient(message, identity, site) if message.peek("PID") is not None else None,
            event_time=event_time(message, site),
            resources=(appointment,) if appointment is not None else (),
        )


def _appointment(message: Message, site: Site) -> ResourceChange | None:
    sch = line(message, "SCH")
    own = _number(sch, site) if sch is not None else None
    if sch is None or own is None:
        return None
    event = _event(message)
    given = ((ei_number(sch.one(2), site), "FILL"), (ei_number(sch.one(1), site), "PLAC"))
    body: Json = {"identifier": [one.identifier(kind) for one, kind in given if one is not None]}
    if status := _status(event, sch):
        body["status"] = status
    reason = full_concept(sch.one(6))
    if reason is not None and status in _ENDS:
        body["cancelationReason"] = reason
    if (why := full_concept(sch.one(7))) is not None:
        body["reasonCode"] = [why]
    if (kind := full_concept(sch.one(8))) is not None:
        body["appointmentType"] = kind
    body |= _times(message, sch, site)
    comments = [clean(one.text(3)) for one in lines(message, "NTE")]
    if comment := "\n".join(text for text in comments if text):
        body["comment"] = comment
    orders = [ei_number(sch.one(field), site) for field in (26, 27)]
    if based_on := [one.reference("ServiceRequest") for one in orders if one is not None][:1]:
        body["basedOn"] = based_on
    if (stay := visit(message, site)) is not None:
        body["supportingInformation"] = [stay]
    adds, removes = _put_resources(body, _resources(message, site), event)
    return ResourceChange(
        "Appointment",
        own.key,
        body,
        "SCH",
        event_time(message, site),
        defaults={"status": "booked"},
        gathers=True,
        adds=adds,
        removes=removes,
    )


def _put_resources(body: Json, resources: list[_Resource], event: str) -> tuple[Json, Json]:
    """Put participants and services into the body, or return what to add and what to take away."""
    adds: Json = {}
    removes: Json = {}
    for one in resources:
        action = one.action or _SINGLE.get(event, "")
        target = body if event not in _SINGLE else removes if action == "D" else adds
        if target is body and action == "D":
            continue
        if one.participants:
            target.setdefault("participant", []).extend(one.participants)
        if one.service is not None:
            target.setdefault("serviceType", []).append(one.service)
    return adds, removes


def _resources(message: Message, site: Site) -> list[_Resource]:
    return list(_read_resources(message, site))


def _read_resources(message: Message, site: Site) -> Iterator[_Resource]:
    for segment in message.segments():
        if segment.name not in ("AIS", "AIG", "AIL", "AIP"):
            continue
        fields = Line.of(segment, message)
        action = fields.text(2).upper()
        if segment.name == "AIS":
            yield _Resource(action, service=full_concept(fields.one(3)))
            continue
        actors = [(_ACTORS[segment.name](one, site), _role(segment.name, fields)) for one in fields.all(3)]
        status = _PARTICIPATION.get(fields.text(14 if segment.name == "AIG" else 12).upper(), "accepted")
        yield _Resource(
            action,
            tuple(
                {**({"type": [role]} if role is not None else {}), "actor": actor, "status": status}
                for actor, role in actors
                if actor is not None
            ),
        )


def _person(xcn: Composite, site: Site) -> Json | None:
    return practitioner_reference(xcn)


def _location(place: Composite, site: Site) -> Json | None:
    """PL: point of care, room, bed, and the facility as display."""
    parts = [text for n in (1, 2, 3) if (text := place.text(n))]
    if not parts:
        return {"type": "Location", "display": place.text(9)} if place.text(9) else None
    return {
        "type": "Location",
        "identifier": {"system": cx_system(place, site), "value": "-".join(parts)},
        "display": " ".join(parts),
    }


def _thing(ce: Composite, site: Site) -> Json | None:
    """AIG-3: a machine, a team, any resource that is neither person nor place."""
    shown = ce.text(2) or ce.text(1)
    return {"type": "Device", "display": shown} if shown else None


_ACTORS = {"AIP": _person, "AIL": _location, "AIG": _thing}


def _role(name: str, fields: Line) -> Json | None:
    return full_concept(fields.one(4)) if name in ("AIP", "AIG") else None


def _status(event: str, sch: Line) -> str:
    status = EVENTS.get(event)
    if status in _ENDS:
        return status or ""
    return FILLER_STATUSES.get(sch.text(25).upper(), status or "")


def _times(message: Message, sch: Line, site: Site) -> Json:
    """Start, end and duration; what an appointment that is moved does not say of them is gone."""
    start = parse_ts(_start_text(message, sch)[1], site.timezone)
    begins = start.fhir_instant()
    if not begins:
        return {}
    minutes = _minutes(message, sch)
    end = parse_ts(_end_text(message, sch), site.timezone).fhir_instant()
    if not end and minutes is not None and start.local is not None:
        end = _later(start, minutes)
    return {"start": begins, "end": end or None, "minutesDuration": minutes}


def _later(start: Ts, minutes: int) -> str:
    assert start.local is not None and start.instant is not None
    try:
        return (start.instant + timedelta(minutes=minutes)).astimezone(start.local.tzinfo).isoformat(timespec="seconds")
    except OverflowError:
        return ""


def _start_text(message: Message, sch: Line) -> tuple[str, str]:
    """SCH-11.4, else TQ1-7, else the first of AIS-4, AIP-6, AIL-6, AIG-8; the place and the text."""
    if text := sch.text(11, 4):
        return "SCH-11.4", text
    for name, field in (("TQ1", 7), ("AIS", 4), ("AIP", 6), ("AIL", 6), ("AIG", 8)):
        for one in lines(message, name):
            if text := one.text(field):
                return f"{name}-{field}", text
    return "SCH-11.4", ""


def _end_text(message: Message, sch: Line) -> str:
    tq1 = line(message, "TQ1")
    return sch.text(11, 5) or (tq1.text(8) if tq1 is not None else "")


def _minutes(message: Message, sch: Line) -> int | None:
    """SCH-9, else AIS-7, as positive whole minutes."""
    ais = line(message, "AIS")
    pairs = [(sch.text(9), sch.text(10))]
    pairs += [(ais.text(7), ais.text(8))] if ais is not None else []
    for text, unit in pairs:
        amount, factor = number(text), _MINUTES.get(unit.upper())
        if amount is not None and factor is not None and 0 < (minutes := round(amount[1] * factor)) < 1_000_000:
            return minutes
    return None


def _number(sch: Line, site: Site) -> Number | None:
    """SCH-2, else SCH-1."""
    return ei_number(sch.one(2), site) or ei_number(sch.one(1), site)


def _event(message: Message) -> str:
    return message.type.partition("^")[2]
