"""The order groups of a message, flat: each ORC and OBR with the segments that belong to it.

One walk serves all structures, because real senders leave groups incomplete and put segments in other orders than printed.

| structure | order of segments |
|---|---|
| ORU^R01, ORM^O01, OML^O21, OMG^O19, OMI^O23 | ORC OBR (TQ1) (NTE) (DG1) {OBX (NTE)} {SPM} {IPC} |
| OUL^R22 | SPM { OBR ORC (TQ1) {OBX (NTE)} } |
| OML^O33, OML^O35 | SPM (SAC) { ORC (TQ1) OBR … } |

Standard: HL7 v2.5.1 chapters 4, 7 and 13.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, cast

from hub.formats.er7 import Message, Segment
from hub.model.refusals import Cardinality
from mappings.hl7v2.line import Line

_SPECIMEN_FIRST = frozenset({"OUL^R22", "OML^O33", "OML^O35", "ORL^O34", "ORL^O36"})
_OF_AN_ORDER = frozenset({"TQ1", "DG1", "IPC", "SPM", "OBX"})
_WALKED = (
    _OF_AN_ORDER | {"ORC", "OBR", "NTE"} | {"PV1", "PD1", "NK1", "AL1", "SAC", "TCD", "CTD", "FT1", "PRT"}
)  # notes follow these too


class Note(NamedTuple):
    """NTE: its text (NTE-3) and kind (NTE-4)."""

    text: str
    kind: str


@dataclass(slots=True)
class Part:
    """One segment, cut, with the notes that follow it."""

    segment: Segment
    fields: Line
    notes: list[Note] = field(default_factory=list)

    def at(self, number: int | None = None, component: int | None = None) -> str:
        return self.segment.at(number, component)


@dataclass(slots=True)
class OrderGroup:
    """One order or one report. `orc` is that of an earlier group when several OBR follow one ORC."""

    orc: Part | None = None
    obr: Part | None = None
    timings: list[Part] = field(default_factory=list)
    diagnoses: list[Part] = field(default_factory=list)
    images: list[Part] = field(default_factory=list)
    specimens: list[Part] = field(default_factory=list)
    observations: list[Part] = field(default_factory=list)

    def at(self) -> str:
        """The place of the group: its OBR, else its ORC, else its first OBX."""
        part = self.obr or self.orc or next(iter(self.observations), None)
        return part.at() if part is not None else "OBR"

    def notes(self) -> list[Note]:
        """Notes on the order itself."""
        return [note for part in (self.orc, self.obr) if part is not None for note in part.notes]


def order_groups(message: Message) -> list[OrderGroup]:
    """The groups in their order, cut once a message. What stands behind a second PID (earlier results) is left out."""
    made = message.views.get("order groups")
    if made is None:
        made = message.views["order groups"] = _walk(message)
    return cast("list[OrderGroup]", made)


def judge_one_patient(message: Message) -> None:
    """Refuse several patients in one message: the second one's results would be filed under the first one.

    Raises:
        Cardinality: more than one PID; OML may repeat it before earlier results.
    """
    if not message.type.startswith("OML") and len(message.segments("PID")) > 1:
        raise Cardinality(at="PID[2]", sentence="PID[2]: several patients in one message")


def has_earlier_results(message: Message) -> bool:
    """Whether something stands behind a second PID."""
    return len(message.segments("PID")) > 1


class _Walk:
    def __init__(self, *, specimen_first: bool) -> None:
        self.groups: list[OrderGroup] = []
        self._specimen_first = specimen_first
        self._waiting: list[Part] = []  # specimens whose orders follow
        self._group: OrderGroup | None = None
        self._last: Part | None = None

    def take(self, segment: Segment, message: Message) -> None:
        name = segment.name
        if name == "NTE":
            if self._last is not None:
                self._last.notes.append(_note(Line.of(segment, message)))
            return
        part = self._last = Part(segment, Line.of(segment, message))
        if name == "ORC":
            self._orc(part)
        elif name == "OBR":
            self._obr(part)
        elif name == "SPM" and self._specimen_first:
            self._waiting, self._group = [part], None
        elif name in _OF_AN_ORDER:
            self._add(name, part)

    def _open(self, orc: Part | None, obr: Part | None) -> None:
        self._group = OrderGroup(orc=orc, obr=obr, specimens=list(self._waiting))
        self.groups.append(self._group)

    def _orc(self, part: Part) -> None:
        group = self._group
        if self._specimen_first and group is not None and group.orc is None and group.obr is not None and not group.observations:
            group.orc = part
        else:
            self._open(part, None)

    def _obr(self, part: Part) -> None:
        group = self._group
        if group is not None and group.obr is None and not group.observations:
            group.obr = part
        else:
            self._open(group.orc if group is not None and not self._specimen_first else None, part)

    def _add(self, name: str, part: Part) -> None:
        if self._group is None:
            self._open(None, None)
        group = self._group
        assert group is not None
        {"TQ1": group.timings, "DG1": group.diagnoses, "IPC": group.images, "SPM": group.specimens, "OBX": group.observations}[
            name
        ].append(part)


def _walk(message: Message) -> list[OrderGroup]:
    walk, patients = _Walk(specimen_first=message.type in _SPECIMEN_FIRST), 0
    for segment in message.segments():
        if segment.name == "PID":
            patients += 1
            if patients > 1:
                break
        elif segment.name in _WALKED:
            walk.take(segment, message)
    return walk.groups


def _note(nte: Line) -> Note:
    return Note("\n".join(text for one in nte.all(3) if (text := one.text())), nte.text(4).upper())
