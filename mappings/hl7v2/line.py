"""A segment split once, for mappings that read many of its fields.

`Segment.text` looks up one field at a time without splitting; here the whole line is cut, which pays from some ten fields on.
HL7's null (`""`) reads as empty; `is_null` tells it from an absent value.
"""

from __future__ import annotations

from copy import copy
from functools import lru_cache
from typing import cast

from hub.formats.er7 import Message, Segment, Separators, unescape
from hub.formats.er7.charset import NUL, SUBSTITUTE, decode

SAME_PERSON = 64  # PID lines that are remembered, cut: messages about one patient come in bursts


class Manner:
    """How the values of a line are read: its separators as text, and whether values are taken as they are.

    Not `is_plain`: bytes that are not of the declared charset, or separators that are letters or digits.
    """

    __slots__ = ("codec", "component", "escape", "field", "is_plain", "repetition", "separators", "subcomponent")

    def __init__(self, separators: Separators, codec: str, *, is_plain: bool) -> None:
        self.separators, self.codec = separators, codec
        self.field, self.component, self.repetition, self.escape, self.subcomponent = (
            one.decode(codec, "surrogateescape")
            for one in (separators.field, separators.component, separators.repetition, separators.escape, separators.subcomponent)
        )
        marks = (self.field, self.component, self.repetition, self.escape, self.subcomponent)
        self.is_plain = is_plain and not any(mark.isalnum() for mark in marks)

    def leaf(self, value: str) -> str:
        """A value whose bytes need a look: escapes, or bytes that are not of the declared charset."""
        raw = value.encode(self.codec, "surrogateescape")
        text = decode(unescape(raw, self.separators), self.codec).strip()
        return "" if text == '""' else text


@lru_cache(maxsize=64)
def _manner(separators: Separators, codec: str, is_plain: bool) -> Manner:
    return Manner(separators, codec, is_plain=is_plain)


@lru_cache(maxsize=64)
def _inside(manner: Manner) -> Manner:
    inner = copy(manner)
    inner.component, inner.subcomponent = manner.subcomponent, ""
    return inner


class Composite:
    """One repetition of a field: components and subcomponents count from 1, what is absent is empty."""

    __slots__ = ("_manner", "_parts", "raw")

    def __init__(self, manner: Manner, value: str) -> None:
        self._manner, self.raw = manner, value
        self._parts = value.split(manner.component) if manner.component and manner.component in value else (value,)

    @property
    def written(self) -> tuple[str, Manner]:
        """What stands there and how it is read: two that are equal say the same, so what is made of them can be remembered."""
        return self.raw, self._manner

    def text(self, component: int = 1, subcomponent: int = 1) -> str:
        """Decoded, unescaped, stripped; empty for null."""
        if component > len(self._parts):
            return ""
        value = self._parts[component - 1]
        if not value:
            return ""
        manner = self._manner
        if manner.is_plain and value.isalnum():
            return value if subcomponent == 1 else ""  # nothing in it to cut, undo or strip
        if manner.subcomponent and manner.subcomponent in value:
            inner = value.split(manner.subcomponent)
            value = inner[subcomponent - 1] if subcomponent <= len(inner) else ""
        elif subcomponent > 1:
            return ""
        if manner.is_plain and (not manner.escape or manner.escape not in value):
            value = value.strip()
            return "" if value == '""' else value
        return manner.leaf(value)

    def is_null(self) -> bool:
        """Whether the sender says that the first component is removed."""
        return self._parts[0].strip() == '""'

    def inner(self, component: int) -> Composite:
        """A component that holds a data type of its own (EIP-1, NDL-1, SPS-1), its subcomponents read as components."""
        return Composite(_inside(self._manner), self._parts[component - 1] if component <= len(self._parts) else "")

    def is_empty(self) -> bool:
        """Whether nothing at all stands in it."""
        return not any(self._parts)


class Line:
    """One segment, not MSH, as fields."""

    __slots__ = ("_all", "_fields", "_manner")

    def __init__(self, raw: bytes, separators: Separators, charset: str) -> None:
        if NUL in raw:
            raw = raw.replace(NUL, SUBSTITUTE)
        try:
            text, is_plain = raw.decode(charset), True
        except UnicodeDecodeError:
            text, is_plain = raw.decode(charset, "surrogateescape"), False
        self._manner = _manner(separators, charset, is_plain)
        self._fields = text.split(self._manner.field)
        self._all: dict[int, list[Composite]] = {}

    @classmethod
    def of(cls, segment: Segment, message: Message) -> Line:
        """That segment of that message."""
        return cls(segment.line(), message.separators, message.charset)

    def raw(self, field: int) -> str:
        """A whole field as written."""
        return self._fields[field] if field < len(self._fields) else ""

    def all(self, field: int) -> list[Composite]:
        """Every repetition, empty ones included."""
        found = self._all.get(field)
        if found is None:
            manner = self._manner
            value = self._fields[field] if field < len(self._fields) else ""
            if not value:
                found = []
            elif manner.repetition and manner.repetition in value:
                found = [Composite(manner, one) for one in value.split(manner.repetition)]
            else:
                found = [Composite(manner, value)]
            self._all[field] = found
        return found

    def one(self, field: int) -> Composite:
        """The first repetition."""
        found = self.all(field)
        return found[0] if found else Composite(self._manner, "")

    def text(self, field: int, component: int = 1, subcomponent: int = 1) -> str:
        """Of the first repetition."""
        if field >= len(self._fields):
            return ""
        value = self._fields[field]
        if not value:
            return ""
        if value.isalnum() and self._manner.is_plain:
            return value if component == subcomponent == 1 else ""  # nothing in it to cut, undo or strip
        return self.all(field)[0].text(component, subcomponent)

    def is_null(self, field: int) -> bool:
        """Whether the sender says that the value is removed."""
        return self.raw(field).strip() == '""'


@lru_cache(maxsize=SAME_PERSON)
def _person_line(raw: bytes, separators: Separators, charset: str) -> Line:
    return Line(raw, separators, charset)


_UNSEEN = object()
_NAMES = ""  # under which a message's views hold the names of its segments


def has(message: Message, name: str) -> bool:
    """Whether there is a segment of that name; the names are gathered once a message."""
    names = message.views.get(_NAMES)
    if names is None:
        names = message.views[_NAMES] = frozenset(segment.name for segment in message.segments())
    return name in cast("frozenset[str]", names)


def line(message: Message, name: str) -> Line | None:
    """The first segment of that name, cut once a message; None when there is none."""
    views = message.views
    made = views.get(name, _UNSEEN)
    if made is _UNSEEN:
        segment = message.first(name) if has(message, name) else None
        cut = _person_line if name == "PID" else Line
        made = views[name] = cut(segment.line(), message.separators, message.charset) if segment is not None else None
    return cast("Line | None", made)


def lines(message: Message, name: str) -> list[Line]:
    """All segments of that name."""
    return [Line.of(segment, message) for segment in message.segments(name)] if has(message, name) else []
