"""The segments of a message against the structure of its version: missing ones, those out of place.

Standard: HL7 v2.5.1 §2.12, abstract message syntax.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hub.formats.er7 import Segment
from mappings.conformance.evaluate import ConformanceFinding
from mappings.conformance.rules import Severity

_MAX_OUT_OF_PLACE = 10
_MAX_WALKED = 20_000  # segments

Reference = Any
"""A message or group as hl7apy's tuples: (`sequence` or `choice`, ((name, reference, (least, most), `SEG` or `GRP`), …))."""


def finding_at(segment: Segment, severity: Severity, standard: str, sentence: str, **place: Any) -> ConformanceFinding:
    """A finding of the standard at a segment, or at a place in it."""
    return ConformanceFinding(
        severity, "standard", standard, sentence, segment.name, segment.occurrence, segment.index + 1, **place
    )


def placed(segments: list[Segment], reference: Reference, standard: str) -> Iterator[ConformanceFinding]:
    """Missing segments, and those out of place: what could not be matched is taken out and the rest matched again."""
    if _Automaton(reference).takes([segment.name for segment in segments[:_MAX_WALKED]]):
        return
    astray: list[Segment] = []
    while True:
        walk = _Walk([segment.name for segment in segments])
        end = walk.match(reference, 0)
        if end == len(segments) or len(astray) == _MAX_OUT_OF_PLACE:
            break
        astray.append(segments[end])
        segments = [*segments[:end], *segments[end + 1 :]]
    strays = {segment.name for segment in astray}
    for name, at in walk.missing:
        if name not in strays:
            before = f" before line {segments[at].index + 1}" if at < len(segments) else ""
            yield ConformanceFinding(Severity.ERROR, "structure", standard, f"is missing{before}.", segment=name)
    due = {name: f"line {segments[at].index + 1}" for name, at in walk.missing if at < len(segments)}
    for segment in astray:
        where = due.get(segment.name)
        trouble = f"stands out of place: it belongs before {where}." if where else "stands out of place, or comes too often."
        yield finding_at(segment, Severity.ERROR, standard, trouble)


class _Automaton:
    """A structure as an automaton over names of segments: tells whether any reading of a message is right.

    A walk from left to right cannot: in OML_O21 an ORC begins the next order, or an earlier result of this one.
    """

    def __init__(self, reference: Reference) -> None:
        self._on: list[tuple[str, int]] = []  # per state: the name that it waits for, and the state after it
        self._free: list[list[int]] = []  # per state: states that it is at the same time
        self._end = self._state()
        self._begin = self._group(reference, self._end)

    def takes(self, names: Sequence[str]) -> bool:
        """Whether the names, in their order, are a message of the structure."""
        states = self._closed({self._begin})
        for name in names:
            states = self._closed({self._on[state][1] for state in states if self._on[state][0] == name})
            if not states:
                return False
        return self._end in states

    def _state(self, name: str = "", after: int = 0, free: Sequence[int] = ()) -> int:
        self._on.append((name, after))
        self._free.append(list(free))
        return len(self._on) - 1

    def _group(self, reference: Reference, after: int) -> int:
        """The state in which a group begins whose end is `after`."""
        if reference[0] == "choice":
            return self._state(free=[self._part(child, after) for child in reference[1]])
        for child in reversed(reference[1]):
            after = self._part(child, after)
        return after

    def _part(self, child: Reference, after: int) -> int:
        name, inner, (least, most), kind = child

        def once(then: int) -> int:
            return self._state(name, then) if kind == "SEG" else self._group(inner, then)

        begin = after
        if most < 0:
            again = self._state(free=[after])
            self._free[again].append(once(again))
            begin = again
        else:
            for _ in range(most - least):
                begin = self._state(free=[once(begin), after])
        for _ in range(least):
            begin = once(begin)
        return begin

    def _closed(self, states: set[int]) -> set[int]:
        found, waiting = set(states), list(states)
        while waiting:
            for state in self._free[waiting.pop()]:
                if state not in found:
                    found.add(state)
                    waiting.append(state)
        return found


class _Walk:
    """One walk of a structure along the names of a message's segments; `missing` are required names and where they were due."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self.missing: list[tuple[str, int]] = []

    def match(self, reference: Reference, at: int) -> int:
        """Where the first segment stands that does not belong to `reference`."""
        if reference[0] == "choice":
            return self._choice(reference, at)
        for name, inner, (least, most), kind in reference[1]:
            count = 0
            while at < len(self._names) and (most < 0 or count < most) and self._names[at] in _first(name, inner, kind):
                after = at + 1 if kind == "SEG" else self.match(inner, at)
                if after == at:
                    break
                at, count = after, count + 1
            if count < least:
                self.missing.append((name if kind == "SEG" else _needed(inner), at))
        return at

    def _choice(self, reference: Reference, at: int) -> int:
        for name, inner, _, kind in reference[1]:
            if at < len(self._names) and self._names[at] in _first(name, inner, kind):
                return at + 1 if kind == "SEG" else self.match(inner, at)
        return at


def _first(name: str, reference: Reference, kind: str) -> frozenset[str]:
    """Names with which a segment or group may begin."""
    if kind == "SEG":
        return frozenset({name})
    found: set[str] = set()
    for child, inner, (least, _), child_kind in reference[1]:
        found |= _first(child, inner, child_kind)
        if least and reference[0] != "choice":
            break
    return frozenset(found)


def _needed(reference: Reference) -> str:
    """The segment that a missing group would at least hold."""
    for name, inner, (least, _), kind in reference[1]:
        if least:
            return name if kind == "SEG" else _needed(inner)
    return str(reference[1][0][0])


def names_of(reference: Reference) -> frozenset[str]:
    """The names of all segments of a structure."""
    found: set[str] = set()
    for name, inner, _, kind in reference[1]:
        found |= {name} if kind == "SEG" else names_of(inner)
    return frozenset(found)
