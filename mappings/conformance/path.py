"""Where a rule looks: `PID`, `PID-3`, `PID-3.4.2`, `PID-3{5=INS}.4`, `OBX{3=DESTDMP}-5`, `OBX{document}-11`.

Braces select: behind a segment's name those whose field has a value (`{4=SB}`, `{8.7=UF|SRV}`) or that play a part
(`{document}`), behind a field those repetitions whose component has a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from hub.formats.er7 import Message, Segment

Parts = Mapping[str, Callable[[], tuple[Segment, ...]]]
"""Segments that play a part, by its name."""

MAX_REPETITIONS = 200
_LARGE = 65_536  # a document is not copied to see that it is there
_PATH = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\{(?P<chosen>[^}]+)\})?"
    r"(?:-(?P<field>\d+)(?:\{(?P<repetition>[^}]+)\})?(?:\.(?P<component>\d+)(?:\.(?P<subcomponent>\d+))?)?)?"
)
_CHOICE = re.compile(r"(?P<first>\d+)(?:\.(?P<second>\d+))?=(?P<values>.+)")


@dataclass(frozen=True, slots=True)
class Choice:
    """`{5=INS|NH}`: a field of the segment (or a component of the repetition), a deeper part of it, the values wanted."""

    first: int
    second: int
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class Value:
    """One value at a place. `repetition` counts from 1; `is_empty` tells of the whole part, `text` of its first piece."""

    segment: Segment
    repetition: int
    text: str
    is_empty: bool


@dataclass(frozen=True, slots=True)
class Path:
    """One place, read from a rule's `at`."""

    text: str
    segment: str
    part: str = ""
    choice: Choice | None = None
    field: int = 0
    repetition: Choice | None = None
    component: int = 0
    subcomponent: int = 0

    @classmethod
    def of(cls, text: str) -> Path:
        """The path that `text` writes.

        Raises:
            ValueError: not of that form.
        """
        found = _PATH.fullmatch(text)
        if found is None:
            raise ValueError(f"not a place: {text}")
        chosen = found["chosen"] or ""
        return cls(
            text,
            found["segment"],
            part="" if "=" in chosen else chosen,
            choice=_choice(chosen) if "=" in chosen else None,
            field=int(found["field"] or 0),
            repetition=_choice(found["repetition"]) if found["repetition"] else None,
            component=int(found["component"] or 0),
            subcomponent=int(found["subcomponent"] or 0),
        )

    def segments(self, message: Message, parts: Parts) -> tuple[Segment, ...]:
        """The segments that it speaks of, in their order."""
        if self.part:
            return parts[self.part]()
        every = message.segments(self.segment)
        if (choice := self.choice) is None:
            return every
        return tuple(one for one in every if one.text(choice.first, choice.second or 1) in choice.values)

    def values(self, segment: Segment) -> Iterator[Value]:
        """What stands there in one segment: one value a repetition that is written and chosen."""
        for repetition in range(1, repetitions(segment, self.field) + 1):
            if is_empty(segment, self.field, repetition):
                continue
            if self.repetition is not None and not _holds(segment, self.field, repetition, self.repetition):
                continue
            yield self.value(segment, repetition)

    def value(self, segment: Segment, repetition: int) -> Value:
        """What stands there in one repetition."""
        text = segment.text(self.field, self.component or 1, repetition=repetition, subcomponent=self.subcomponent or 1)
        return Value(segment, repetition, text, is_empty(segment, self.field, repetition, self.component, self.subcomponent))


def repetitions(segment: Segment, field: int) -> int:
    """How many repetitions are looked at: finding the last of a million takes a million steps for each of them."""
    return min(segment.repetitions(field), MAX_REPETITIONS)


def is_empty(segment: Segment, field: int, repetition: int, component: int = 0, subcomponent: int = 0) -> bool:
    """Whether nothing but separators and blanks stands there. HL7's null is something: the sender removes a value."""
    start, end = segment.component_span(field, component, repetition=repetition)
    if end - start > _LARGE:
        return False
    written = segment.text(field, component, repetition=repetition, subcomponent=subcomponent)
    return not written.strip(" ^&~")


def _choice(text: str) -> Choice:
    found = _CHOICE.fullmatch(text)
    if found is None:
        raise ValueError(f"not a choice: {text}")
    return Choice(int(found["first"]), int(found["second"] or 0), frozenset(found["values"].split("|")))


def _holds(segment: Segment, field: int, repetition: int, choice: Choice) -> bool:
    text = segment.text(field, choice.first, repetition=repetition, subcomponent=choice.second or 1)
    return text in choice.values
