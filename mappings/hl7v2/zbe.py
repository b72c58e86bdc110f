"""ZBE: the movement that a message of a stay inserts, corrects or cancels, and what holds from then on.

Senders without ZBE get a movement of their event and its time: an A08 of theirs corrects what is current, a cancellation takes
back the latest movement of its kind (`hub.model.movement_events`).

Standard: IHE PAM France 2.11.2, ITI-31 and ZBE; HL7 v2.5.1 chapter 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hub.formats.er7 import Message
from hub.formats.ts import EMPTY, Ts, parse_ts
from hub.model.movement_events import CANCELS, CORRECTION, NAMELESS_CANCEL, NAMELESS_CORRECTION
from hub.model.record_change import MovementAction, MovementChange, ResourceChange
from hub.model.refusals import Finding
from hub.model.site import Site
from mappings.hl7v2.cx import ei_system
from mappings.hl7v2.extensions import Json, ours
from mappings.hl7v2.line import Composite, Line, line
from mappings.hl7v2.message_times import message_time, ts_finding
from mappings.hl7v2.pv1 import place_of, unit_of

EVENTS = frozenset(
    {*("A01", "A02", "A03", "A04", "A05", "A06", "A07", "A08", "A14", "A15", "A16", "A21", "A22", "A54", CORRECTION), *CANCELS}
)
NATURES = frozenset({"S", "H", "M", "L", "D", "SM", "SH", "MH", "LD", "HMS", "C"})

_MEDICAL_UNIT, _CARE_UNIT = ours("medical-unit"), ours("care-unit")
_ACTIONS = frozenset(one.value for one in MovementAction)
_UNDONE_BY_CLASS = {"A06": "A07", "A07": "A06"}
# Where an event's own time stands when ZBE-2 and EVN-6 do not tell it.
_OWN_TIME = {"A01": ("PV1", 44), "A04": ("PV1", 44), "A03": ("PV1", 45), "A05": ("PV2", 8), "A14": ("PV2", 8), "A16": ("PV2", 9)}


@dataclass(frozen=True, slots=True)
class Zbe:
    """ZBE with its fields where they belong; `late` when a sender wrote them one field late."""

    line: Line
    late: int

    def one(self, field: int) -> Composite:
        """A field from 4 on."""
        return self.line.one(field + self.late)

    def code(self, field: int) -> str:
        return self.one(field).text().upper()


def zbe_of(message: Message) -> Zbe | None:
    """The movement segment; one whose action stands in ZBE-5 is read one field further."""
    zbe = line(message, "ZBE")
    if zbe is None:
        return None
    late = zbe.text(4).upper() not in _ACTIONS and zbe.text(5).upper() in _ACTIONS
    return Zbe(zbe, int(late))


def movement_changes(message: Message, site: Site, stay: ResourceChange, event: str) -> tuple[MovementChange, ...]:
    """The movement of a message of a stay; empty for other events."""
    if event not in EVENTS:
        return ()
    zbe = zbe_of(message)
    keys = _keys(zbe, site) if zbe is not None else []
    action = _action(event, zbe.code(4) if zbe is not None else "", named=bool(keys))
    start = _start(message, site, event, zbe)
    facts = _facts(message, site, stay, event, zbe)
    if len(keys) > 1:
        facts["_keys"] = keys
    return (
        MovementChange(
            encounter=stay.key,
            key=keys[0] if keys else _nameless(message, site, event, action, start),
            action=action,
            event=event,
            start=start.fhir_datetime(),
            path="ZBE" if zbe is not None else "PV1",
            original_event=_original_event(event, action, zbe),
            historic=zbe is not None and zbe.code(5) == "Y",
            nature=zbe.code(9) if zbe is not None else "",
            facts=facts,
            event_time=stay.event_time,
        ),
    )


def zbe_findings(message: Message, site: Site, event: str) -> tuple[Finding, ...]:
    """What is worth telling about the movement."""
    zbe = zbe_of(message)
    if zbe is None:
        return ()
    found: list[Finding] = []
    said = zbe.code(4)
    if zbe.late:
        found.append(Finding("ZBE_SHIFTED", "ZBE-4", "ZBE-4: the movement's action stands one field late; read there"))
    elif said not in _ACTIONS:
        found.append(Finding("ZBE_ACTION", "ZBE-4", "ZBE-4: neither INSERT, UPDATE nor CANCEL; the event decides"))
    if said in _ACTIONS and said != _action(event, said, named=True):
        found.append(Finding("ZBE_ACTION", "ZBE-4", "ZBE-4: not what the event means; the event decides"))
    if not any(ei.text() for ei in zbe.line.all(1)):
        found.append(Finding("ZBE_ID", "ZBE-1", "ZBE-1: no movement number; the movement is known by its event and time"))
    start = parse_ts(zbe.line.text(2), site.timezone)
    if start is EMPTY:
        found.append(Finding("ZBE_START", "ZBE-2", "ZBE-2: no start; another time of the message is taken"))
    elif (told := ts_finding("ZBE-2", start)) is not None:
        found.append(told)
    if zbe.code(9) not in {"", *NATURES}:
        found.append(Finding("ZBE_NATURE", "ZBE-9", "ZBE-9: a nature that is in no table; kept as written"))
    if said in ("UPDATE", "CANCEL") and not zbe.code(6):
        found.append(Finding("ZBE_ORIGINAL", "ZBE-6", "ZBE-6: the event of the movement is not told"))
    return tuple(found)


def _keys(zbe: Zbe, site: Site) -> list[str]:
    """ZBE-1: the numbers of the movement."""
    found = [f"{ei_system(ei, site)}|{ei.text()}" for ei in zbe.line.all(1) if ei.text()]
    return list(dict.fromkeys(found))


def _action(event: str, said: str, *, named: bool) -> MovementAction:
    """ZBE-4, unless the event can mean one thing only."""
    if event in CANCELS:
        return MovementAction.CANCEL
    if event == CORRECTION:
        return MovementAction.CANCEL if said == MovementAction.CANCEL else MovementAction.UPDATE
    if said in _ACTIONS and named:
        return MovementAction(said)
    return MovementAction.UPDATE if event == "A08" else MovementAction.INSERT


def _original_event(event: str, action: MovementAction, zbe: Zbe | None) -> str:
    """ZBE-6; for a cancellation without it what its event cancels."""
    if action is MovementAction.INSERT:
        return ""
    said = zbe.one(6) if zbe is not None else None
    if said is not None and said.text():
        return (said.text(2) if said.text().upper() == "ADT" else said.text()).upper()
    if action is MovementAction.CANCEL:
        return CANCELS[event][0] if event in CANCELS else _UNDONE_BY_CLASS.get(event, "" if event == CORRECTION else event)
    return ""


def _start(message: Message, site: Site, event: str, zbe: Zbe | None) -> Ts:
    """When the movement begins: ZBE-2, else EVN-6, the event's own field, EVN-3 (planned), EVN-2, MSH-7."""
    for text in _times(message, event, zbe):
        said = parse_ts(text, site.timezone) if text else EMPTY
        if said.instant is not None:
            return said
    return message_time(message, site)


def _times(message: Message, event: str, zbe: Zbe | None) -> Iterator[str]:
    planned = event in ("A05", "A14", "A15", "A16")
    if zbe is not None:
        yield zbe.line.text(2)
    if not planned:
        yield message.text("EVN", 6)
    if event in _OWN_TIME:
        yield message.text(*_OWN_TIME[event])
    if planned:
        yield message.text("EVN", 3)
    yield message.text("EVN", 2)


def _nameless(message: Message, site: Site, event: str, action: MovementAction, start: Ts) -> str:
    """The key of a movement that its sender gave no number; the same message sent again gets the same."""
    if action is MovementAction.INSERT:
        return f"{event}@{start.fhir_datetime()}"
    told = next((ts for at in (6, 2) if (ts := parse_ts(message.text("EVN", at), site.timezone)).instant is not None), start)
    prefix = NAMELESS_CANCEL if action is MovementAction.CANCEL else NAMELESS_CORRECTION
    return f"{prefix}{event}@{told.fhir_datetime()}"


def _facts(message: Message, site: Site, stay: ResourceChange, event: str, zbe: Zbe | None) -> Json:
    """What PV1, PV2, ZBE and the Z segments say of the stay, for `hub.record.stay`."""
    pv1 = line(message, "PV1")
    facts = {name: value for name, value in stay.body.items() if name not in ("status", "period")}
    if pv1 is None:
        return facts
    period: Json = {}
    for name, field in (("start", 44), ("end", 45)):
        if not pv1.raw(field):
            continue
        if pv1.is_null(field):
            period[name] = None
        elif text := parse_ts(pv1.text(field), site.timezone).fhir_datetime():
            period[name] = text
    if period:
        facts["period"] = period
    if zbe is not None:
        _put_units(facts, zbe, site)
    if pv1.raw(6) and (prior := place_of(pv1.one(6), site)):
        facts["_priorLocation"] = prior
    if event == "A15" and (pending := place_of(pv1.one(42), site) or place_of(pv1.one(3), site)):
        facts["_pendingLocation"] = pending
    if event == "A11" and pv1.text(51) != "V":
        facts["identifier"] = [_withdrawn(one) for one in facts.get("identifier", [])]
    return facts


def _put_units(facts: Json, zbe: Zbe, site: Site) -> None:
    """ZBE-7 and ZBE-8 at the place; without a place (PV1-3) the unit that cares is one."""
    units = [(_MEDICAL_UNIT, unit_of(zbe.one(7), site)), (_CARE_UNIT, unit_of(zbe.one(8), site))]
    extensions: list[Json] = [{"url": url, "valueCodeableConcept": unit} for url, unit in units if unit]
    if not extensions or facts.get("location", ()) is None:
        return
    places = facts.get("location")
    if not places:
        cares = extensions[-1]["valueCodeableConcept"]
        coding: Json = cares.get("coding", [{}])[0]
        place: Json = {"display": cares.get("text") or coding.get("code", "")}
        if coding:
            place["identifier"] = {"system": coding["system"], "value": coding["code"]}
        places = [{"location": place}]
    facts["location"] = [{**places[0], "extension": extensions}]


def _withdrawn(identifier: Json) -> Json:
    """An account's number after the cancellation of the account (PV1-51 is not V)."""
    return {**identifier, "use": "old"} if identifier["type"]["coding"][0]["code"] == "AN" else identifier
