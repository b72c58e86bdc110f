"""Rewriting single fields of a message and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from hub.formats.er7.escapes import escape
from hub.formats.er7.message import Message, Segment

Place = str | tuple[str, int] | tuple[str, int, int]

_PLACE = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[([1-9][0-9]{0,5})\])?-([1-9][0-9]{0,3})")


def splice(message: Message, changes: Mapping[Place, bytes | str] | Mapping[str, bytes | str]) -> bytes:
    """The message's bytes with these fields replaced; every other byte is the same.

    A place is `"MSH-3"`, `"OBX[2]-5"`, `("MSH", 3)` or `("OBX", 5, 2)` (the occurrence last). Text is escaped and put in
    the message's charset; bytes are a field in ER7 already, and go in as they are. A segment that is too short grows.

    Raises:
        ValueError: MSH-1 or MSH-2, no such segment, or bytes that would end the field or the segment.
    """
    by_segment: dict[int, dict[int, bytes]] = {}
    for place, value in changes.items():
        segment, field = _found(message, place)
        by_segment.setdefault(segment.index, {})[field] = _content(message, value)
    raw, segments = message.raw, message.segments()
    pieces: list[bytes] = []
    reached = 0
    for index in sorted(by_segment):
        for start, end, content in _edits(segments[index], by_segment[index], message.separators.field):
            pieces += raw[reached:start], content
            reached = end
    pieces.append(raw[reached:])
    return b"".join(pieces)


def _found(message: Message, place: Place) -> tuple[Segment, int]:
    if isinstance(place, str):
        words = _PLACE.fullmatch(place)
        if words is None:
            raise ValueError("a place is written MSH-3 or OBX[2]-5")
        name, occurrence, field = words[1], int(words[2] or 1), int(words[3])
    else:
        name, field, occurrence = place if len(place) == 3 else (*place, 1)
    if field < 1 or (name == "MSH" and field <= 2):
        raise ValueError(f"{name}-{field} is not a field to replace")
    found = message.segments(name)
    if not 1 <= occurrence <= len(found):
        raise ValueError(f"no segment {name}[{occurrence}]")
    return found[occurrence - 1], field


def _content(message: Message, value: bytes | str) -> bytes:
    if isinstance(value, str):
        return escape(value, message.separators, message.charset)
    if message.separators.field in value or b"\r" in value or b"\n" in value:
        raise ValueError("bytes that hold a field separator or a line end are not one field")
    return value


def _edits(segment: Segment, contents: dict[int, bytes], separator: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(start, end, new bytes) in the order of the line; fields past its end come as separators and content at that end."""
    last = segment.field_count()
    for field in sorted(contents):
        if field <= last:
            yield *segment.span(field), contents[field]
        elif contents[field]:
            end = segment.line_span()[1]
            yield end, end, separator * (field - last) + contents[field]
            last = field
