"""A stay computed from its movements: the same rows give the same Encounter, whatever the order in which they came.

A movement is the last word of all rows with its key. Those that are not cancelled, in the order in which they begin, make the
stay: its statuses, classes, places and doctors, one stretch after the other.

Standard: IHE PAM France 2.11.2 (ITI-31, ZBE); FHIR R4 Encounter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hub.model.movement_events import (
    CANCELS,
    NAMELESS_CANCEL,
    NAMELESS_CORRECTION,
    OPENING,
    ORDER,
    PENDING,
    PLANNED,
    STATUS_AFTER,
    STATUS_WITHOUT,
)
from hub.model.record_change import Json, MovementAction, merged
from hub.record.instants import begins

# Facts that hold from a movement to the next; all others are said of the whole stay.
OF_THE_MOVEMENT = ("class", "location", "participant", "serviceType", "serviceProvider")
# Facts that are no element of an Encounter: other keys of the movement (ZBE-1 repeats), PV1-6, PV1-42.
KEYS, PRIOR_LOCATION, PENDING_LOCATION = "_keys", "_priorLocation", "_pendingLocation"
# What is computed, and so said by movements alone once there are some.
COMPUTED = frozenset(
    {
        *OF_THE_MOVEMENT,
        "status",
        "statusHistory",
        "classHistory",
        "period",
        "identifier",
        "hospitalization",
        "extension",
        "reasonCode",
        "priority",
        "type",
    }
)

_OF_THE_STAY = COMPUTED - {*OF_THE_MOVEMENT, "identifier", "period"}
_NOT_YET = PLANNED | PENDING
_RANK = {"INSERT": 0, "UPDATE": 1, "CANCEL": 2}
_CANCEL, _INSERT = MovementAction.CANCEL.value, MovementAction.INSERT.value
_ORDER = {event: rank for rank, event in enumerate(ORDER)}


@dataclass(slots=True)
class Row:
    """A row of `movement`, but for its number and its stay; `start` is a FHIR dateTime."""

    key: str
    action: str
    event: str
    original_event: str
    start: str
    historic: int
    nature: str
    event_time: int
    message_id: int
    path: str
    facts: Json

    @property
    def order(self) -> tuple[int, int, int]:
        """Rows in the order in which their messages were made; of one instant a cancellation comes last."""
        return self.event_time, _RANK[self.action] if self.event_time else 0, self.message_id


@dataclass(slots=True)
class Movement:
    """What all rows of one movement say together. `event` is empty while only corrections or a cancellation came."""

    key: str
    event: str = ""
    start: str = ""
    historic: bool = False
    nature: str = ""
    is_live: bool = False
    is_known: bool = False  # it was inserted or updated, not only cancelled
    inserted_at: int = 0  # event times of its insertion, and of its latest row
    said_at: int = 0
    facts: Json = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def take(self, row: Row) -> None:
        """The next row, in order."""
        self.rows.append(row)
        self.said_at = row.event_time
        if row.action == _CANCEL:
            self.is_live = False
            self.event = self.event or row.original_event
            self.start = self.start or row.start
            return
        said = row.facts
        if row.action == _INSERT:
            self.event, self.facts, self.inserted_at = row.event, said, row.event_time
        else:
            self.event = row.original_event or self.event
            self.facts = {**self.facts, **said}
        self.start = row.start or self.start
        self.nature = row.nature or self.nature
        self.historic = bool(row.historic)
        self.is_live = self.is_known = True


@dataclass(slots=True)
class Stay:
    """`movements` by key, cancelled ones included; `corrections` are rows that are no movement (A08 without ZBE)."""

    movements: dict[str, Movement]
    corrections: list[Row]
    cancellations: list[Row]  # by senders without ZBE
    unmatched: set[str] = field(default_factory=set)  # keys of `cancellations` that found nothing to cancel

    def movement(self, key: str) -> Movement | None:
        """The movement that a row's key names."""
        found = self.movements.get(key)
        return found or next((one for one in self.movements.values() if any(row.key == key for row in one.rows)), None)


def movements_of(rows: Sequence[Row]) -> Stay:
    """The movements that rows make."""
    ordered = sorted(rows, key=_order)
    canonical = _aliases(ordered)
    stay = Stay({}, [], [])
    for row in ordered:
        if row.key.startswith(NAMELESS_CORRECTION):
            stay.corrections.append(row)
        elif row.key.startswith(NAMELESS_CANCEL):
            stay.cancellations.append(row)
        else:
            key = canonical.get(row.key, row.key) if canonical else row.key
            found = stay.movements.get(key)
            if found is None:
                found = stay.movements[key] = Movement(key)
            found.take(row)
    done: set[str] = set()
    for row in stay.cancellations:
        if row.key not in done and not _cancel(stay, row):
            stay.unmatched.add(row.key)
        done.add(row.key)
    return stay


def _aliases(rows: Sequence[Row]) -> dict[str, str]:
    """Key → one key for all that name the same movement, as far as rows with several numbers say so."""
    groups: list[set[str]] = []
    for row in rows:
        if KEYS in row.facts:
            names = {row.key, *row.facts[KEYS]}
            for group in [group for group in groups if group & names]:
                names |= group
                groups.remove(group)
            groups.append(names)
    return {name: min(group) for group in groups for name in group}


def _cancel(stay: Stay, row: Row) -> bool:
    """Take back what a cancellation without number means: every admission of the stay, else the latest movement of its kind."""
    kinds = CANCELS.get(row.event, ())
    found = [one for one in stay.movements.values() if one.event in kinds and one.inserted_at <= row.event_time]
    live = [one for one in found if one.is_live]
    if not {"A01", "A03", "A05", "A14"}.intersection(kinds):
        live = sorted(live, key=lambda one: (one.inserted_at, begins(one.start), one.key))[-1:]
    for one in live:
        one.is_live = False
        one.said_at = max(one.said_at, row.event_time)
    return bool(found)


def encounter_of(stay: Stay) -> Json:
    """The elements of the Encounter that the movements say (`COMPUTED`), without those that nobody said."""
    live = [one for one in stay.movements.values() if one.is_live]
    if len(live) > 1:
        live.sort(key=_sequence)
    happened = [one for one in live if one.event not in _NOT_YET]
    planned = [one for one in live if one.event in PLANNED] if len(happened) < len(live) else []
    timeline = happened or planned
    if stay.corrections:
        _correct(timeline, stay.corrections)
    body, said = _of_the_stay(stay)
    statuses = _statuses(stay, timeline, said)
    status = body["status"] = statuses[-1][0]
    period = _period(stay, timeline, status, said)
    if period:
        body["period"] = period
    end = period.get("end", "")
    if happened and planned:
        statuses.insert(0, ("planned", ""))
    if len(statuses) > 1:
        body["statusHistory"] = _history("status", statuses, end)
    _put_classes(body, timeline, end)
    _put_places(body, timeline, live, status, end)
    _put_doctors(body, timeline, end)
    for name in ("serviceType", "serviceProvider"):
        for one in reversed(timeline):
            if name in one.facts:
                if one.facts[name]:
                    body[name] = one.facts[name]
                break
    if not timeline:
        body.update({name: value for name, value in _last_seen(stay).items() if value})
    return body


def in_sequence(movements: Iterable[Movement]) -> list[Movement]:
    """Movements in the order in which they begin."""
    return sorted(movements, key=_sequence)


def _sequence(one: Movement) -> tuple[str, int, int, str]:
    return begins(one.start), _ORDER.get(one.event, _ORDER["A02"]), one.inserted_at, one.key


def _correct(timeline: Sequence[Movement], corrections: Sequence[Row]) -> None:
    """Let each A08 say more of the movement that was current when it was made, unless that one was told of later."""
    for row in corrections:
        at = begins(row.start)
        current = next((one for one in reversed(timeline) if begins(one.start) <= at), None)
        if current is not None and current.said_at <= row.event_time:
            current.facts = {**current.facts, **{name: row.facts[name] for name in OF_THE_MOVEMENT if name in row.facts}}


def _of_the_stay(stay: Stay) -> tuple[Json, Json]:
    """What live rows say of the whole stay, the latest message last; and its period as PV1-44 and PV1-45 say it.

    Numbers of the stay are kept from cancelled rows too.
    """
    spoken = [row for one in stay.movements.values() if one.is_live for row in one.rows if row.action != _CANCEL]
    spoken += stay.corrections
    if len(spoken) > 1:
        spoken.sort(key=_order)
    said: Json = {}
    period: Json = {}
    for row in spoken:
        of_the_stay = {name: row.facts[name] for name in row.facts.keys() & _OF_THE_STAY}
        if of_the_stay:
            said = merged(said, of_the_stay)
        period.update(row.facts.get("period", ()))
    every = [row for one in stay.movements.values() for row in one.rows]
    if stay.corrections or stay.cancellations:
        every += stay.corrections + stay.cancellations
    lists = [row.facts["identifier"] for row in every if row.facts.get("identifier")]
    if lists and all(one == lists[0] for one in lists[1:]):
        said["identifier"] = lists[0]
    elif lists:
        every.sort(key=_order)
        numbers = {_kind(one): one for row in every for one in row.facts.get("identifier", ())}
        said["identifier"] = [numbers[kind] for kind in sorted(numbers, reverse=True)]  # VN before AN
    return said, period


def _order(row: Row) -> tuple[int, int, int]:
    return row.order


def _kind(identifier: Json) -> str:
    return str(identifier["type"]["coding"][0]["code"])


def _statuses(stay: Stay, timeline: Sequence[Movement], period: Json) -> list[tuple[str, str]]:
    """Each status and when it began."""
    found: list[tuple[str, str]] = []
    for one in timeline:
        status = STATUS_AFTER.get(one.event) or (found[-1][0] if found else "in-progress")
        if not found or found[-1][0] != status:
            found.append((status, one.start))
    has_discharge = any(one.event == "A03" for one in stay.movements.values())
    if period.get("end") and not has_discharge and (not found or found[-1][0] not in ("planned", "finished")):
        found.append(("finished", period["end"]))
    if not found:
        dead = [one for one in stay.movements.values() if one.event]
        last = max(dead, key=lambda one: (one.said_at, one.key), default=None)
        if last is None:
            events = [kind for row in stay.cancellations for kind in CANCELS.get(row.event, ())[:1]]
            found.append(
                (STATUS_WITHOUT.get(events[-1], "in-progress") if events and not stay.corrections else "in-progress", "")
            )
        else:
            opened = any(one.event in OPENING or one.event in PLANNED for one in dead)
            found.append(("cancelled" if opened else STATUS_WITHOUT.get(last.event, "in-progress"), ""))
    return found


def _period(stay: Stay, timeline: Sequence[Movement], status: str, said: Json) -> Json:
    """From PV1-44, else the admission; to PV1-45, else the discharge."""
    period: Json = {}
    opened = timeline or sorted(stay.movements.values(), key=_sequence)
    start = said.get("start") or next((one.start for one in opened if one.event in OPENING or one.event in PLANNED), "")
    if start:
        period["start"] = start
    if status == "finished":
        left = next((one for one in reversed(timeline) if one.event == "A03"), None)
        ends = [row.facts["period"]["end"] for row in left.rows if row.facts.get("period", {}).get("end")] if left else []
        end = ends[-1] if ends else left.start if left else said.get("end", "")
        if end:
            period["end"] = end
    return period


def _history(name: str, spans: Sequence[tuple[object, str]], end: str) -> list[Json]:
    """Stretches one after the other."""
    ends = [begin for _, begin in spans[1:]] + [end]
    return [{name: value, "period": _span(start, until)} for (value, start), until in zip(spans, ends, strict=True)]


def _span(start: str, end: str) -> Json:
    return {name: text for name, text in (("start", start), ("end", end)) if text}


def _stretches(timeline: Sequence[Movement], name: str) -> Iterator[tuple[Any, str, str]]:
    """Each value of a fact with its first instant and that after it; a discharge and a departure on leave begin none."""
    if len(timeline) == 1:
        if value := timeline[0].facts.get(name):
            yield value, timeline[0].start, ""
        return
    value, since = None, ""
    for n, one in enumerate(timeline):
        if name not in one.facts or (n and one.event in ("A03", "A21")) or one.facts[name] == value:
            continue
        if value:
            yield value, since, one.start
        value, since = one.facts[name], one.start
    if value:
        yield value, since, ""


def _put_classes(body: Json, timeline: Sequence[Movement], end: str) -> None:
    spans = [(value, start) for value, start, _ in _stretches(timeline, "class")]
    if spans:
        body["class"] = spans[-1][0]
        if len(spans) > 1:
            body["classHistory"] = _history("class", spans, end)


def _put_places(body: Json, timeline: Sequence[Movement], live: Sequence[Movement], status: str, end: str) -> None:
    """Where the patient was, is, and is expected (A15 not yet followed by a transfer)."""
    now = {"planned": "planned", "onleave": "reserved", "finished": "completed"}.get(status, "active")
    places: list[Json] = []
    for value, start, until in _stretches(timeline, "location"):
        for place in value:
            span = _span(start, until or end)
            places.append({**place, "status": "completed" if until else now, **({"period": span} if span else {})})
    first = next((one for one in timeline if "location" in one.facts), None)
    if first is not None and first.event not in OPENING and PRIOR_LOCATION in first.facts:
        before = {**first.facts[PRIOR_LOCATION], "status": "completed", "period": _span("", first.start)}
        places.insert(0, before if first.start else {**first.facts[PRIOR_LOCATION], "status": "completed"})
    transferred_at = max((one.said_at for one in live if one.event == "A02"), default=-1)
    if status != "finished":
        for one in live:
            if one.event == "A15" and PENDING_LOCATION in one.facts and one.said_at > transferred_at:
                places.append({**one.facts[PENDING_LOCATION], "status": "planned", "period": _span(one.start, "")})
    if places:
        body["location"] = places


def _put_doctors(body: Json, timeline: Sequence[Movement], end: str) -> None:
    """Attending doctors, each as long as movements name them."""
    found: list[Json] = []
    for value, start, until in _stretches(timeline, "participant"):
        span = _span(start, until or end)
        found += [{**doctor, **({"period": span} if span else {})} for doctor in value]
    if found:
        body["participant"] = found


def _last_seen(stay: Stay) -> Json:
    """When no movement is left: what the last message said of class, place and doctor."""
    rows = [row for one in stay.movements.values() for row in one.rows] + stay.corrections + stay.cancellations
    said: Json = {}
    for row in sorted(rows, key=_order):
        said.update({name: row.facts[name] for name in OF_THE_MOVEMENT if name in row.facts})
    return said
