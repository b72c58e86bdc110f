"""A segment split once, for mappings that read many of its fields.

`Segment.text` looks up one field at a time without splitting; here the whole line is cut, which pays from some ten fields on.
HL7's null (`""`) reads as empty; `is_null` tells it from an absent value.
"""

from __future__ import annotations

from functools import lru_cache
from typing import cast

from hub.formats.er7 import Message, Segment, Separators, unescape
from hub.formats.er7.charset import decode


class Composite:
    """One repetition of a field: components and subcomponents count from 1, what is absent is empty."""

    __slots__ = ("_line", "_parts")

    def __init__(self, line: Line, value: str) -> None:
        self._line = line
        self._parts = value.split(line.component) if line.component and line.component in value else (value,)

    def text(self, component: int = 1, subcomponent: int = 1) -> str:
        """Decoded, unescaped, stripped; empty for null."""
        if component > len(self._parts):
            return ""
        value = self._parts[component - 1]
        if not value:
            return ""
        line = self._line
        if line.is_plain and value.isalnum() and subcomponent == 1:
            return value                 # nothing in it to cut, undo or strip
        if line.subcomponent and line.subcomponent in value:
            inner = value.split(line.subcomponent)
            value = inner[subcomponent - 1] if subcomponent <= len(inner) else ""
        elif subcomponent > 1:
            return ""
        if line.is_plain and (not line.escape or line.escape not in value):
            value = value.strip()
            return "" if value == '""' else value
        return line.leaf(value)

    def is_empty(self) -> bool:
        """Whether nothing at all stands in it."""
        return not any(self._parts)


class Line:
    """One segment, not MSH, as fields."""

    __slots__ = ("_all", "_codec", "_fields", "_separators", "component", "escape", "is_plain", "repetition", "subcomponent")

    def __init__(self, segment: Segment, message: Message) -> None:
        self._separators, self._codec = message.separators, message.charset
        field, self.component, self.repetition, self.escape, self.subcomponent, usual = _as_text(message.separators, message.charset)
        self._all: dict[int, list[Composite]] = {}
        raw = segment.line()
        try:
            text = raw.decode(self._codec)
            self.is_plain = usual
        except UnicodeDecodeError:
            text = raw.decode(self._codec, "surrogateescape")
            self.is_plain = False
        self._fields = text.split(field)

    def raw(self, field: int) -> str:
        """A whole field as written."""
        return self._fields[field] if field < len(self._fields) else ""

    def all(self, field: int) -> list[Composite]:
        """Every repetition, empty ones included."""
        found = self._all.get(field)
        if found is None:
            value = self._fields[field] if field < len(self._fields) else ""
            parts = value.split(self.repetition) if self.repetition and self.repetition in value else (value,)
            found = self._all[field] = [Composite(self, one) for one in parts] if value else []
        return found

    def one(self, field: int) -> Composite:
        """The first repetition."""
        found = self.all(field)
        return found[0] if found else Composite(self, "")

    def text(self, field: int, component: int = 1, subcomponent: int = 1) -> str:
        """Of the first repetition."""
        if field >= len(self._fields) or not self._fields[field]:
            return ""
        return self.one(field).text(component, subcomponent)

    def is_null(self, field: int) -> bool:
        """Whether the sender says that the value is removed."""
        return self.raw(field).strip() == '""'

    def leaf(self, value: str) -> str:
        """A value whose bytes need a look: escapes, or bytes that are not of the declared charset."""
        raw = value.encode(self._codec, "surrogateescape")
        text = decode(unescape(raw, self._separators), self._codec).strip()
        return "" if text == '""' else text


@lru_cache(maxsize=64)
def _as_text(separators: Separators, codec: str) -> tuple[str, str, str, str, str, bool]:
    """The separators as text, and whether they are such as no letter or digit is one."""
    field, component, repetition, escape, subcomponent = (
        one.decode(codec, "surrogateescape")
        for one in (separators.field, separators.component, separators.repetition, separators.escape, separators.subcomponent)
    )
    usual = not any(one.isalnum() for one in (field, component, repetition, escape, subcomponent))
    return field, component, repetition, escape, subcomponent, usual


def line(message: Message, name: str) -> Line | None:
    """The first segment of that name, cut once a message; None when there is none."""
    made = message.views.get(name)
    if made is None:
        segment = message.first(name)
        if segment is None:
            return None
        made = message.views[name] = Line(segment, message)
    return cast("Line", made)


def lines(message: Message, name: str) -> list[Line]:
    """All segments of that name."""
    return [Line(segment, message) for segment in message.segments(name)]
