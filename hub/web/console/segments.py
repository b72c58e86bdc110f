"""A message as segments with field names, its values masked unless they may be seen.

Masking is a list of what is shown (`fields.toml`): codes and structure. Everything else becomes dots, of a number that says
nothing of the value, and never reaches the page. Read with python-hl7, a reader other than the one the hub works with.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

MASK = "•••"
MAX_SEGMENTS, MAX_SHOWN, MAX_FIELD = 150, 400, 8_192
_ELIDED = re.compile("\ue000([0-9]+)\ue001")
_SEGMENT_NAME = re.compile("[A-Z][A-Z0-9]{2}")
_YES_NO = frozenset({"Y", "N"})


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of characters: `mask` dots, `mark` for a part left out, `sep` a separator, or plain text."""

    text: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class FieldView:
    number: int
    place: str  # PID-3, PID-3 [2]
    name: tuple[str, str]  # français, English
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class SegmentView:
    name: str
    rank: str  # "2" for the second OBX, empty when there is one
    title: tuple[str, str]
    summary: str
    fields: tuple[FieldView, ...]
    line: tuple[Piece, ...]  # the same segment as it was written


@dataclass(frozen=True, slots=True)
class MessageView:
    segments: tuple[SegmentView, ...]
    left_out: int


def view(body: bytes, charset: str, *, revealed: bool) -> MessageView | None:
    """The segments of a message, None when the bytes do not read as HL7 v2.

    Long fields are cut before the message is parsed, so that a document in OBX-5 costs nothing.
    """
    import hl7

    lines = [line for line in re.split(b"[\r\n]+", body) if line.strip()]
    if not lines or not lines[0].lstrip(b"\xef\xbb\xbf").startswith(b"MSH"):
        return None
    text = "\r".join(_shortened(line, charset) for line in lines[:MAX_SEGMENTS]).lstrip("\ufeff")
    try:
        parsed = hl7.parse(text)
        separators = _Separators(*(parsed.separators[level] for level in (1, 2, 3, 4)))
        names = [_name(segment) for segment in parsed]
        seen: dict[str, int] = {}
        views = []
        for name, segment in zip(names, parsed, strict=True):
            seen[name] = seen.get(name, 0) + 1
            rank = str(seen[name]) if names.count(name) > 1 else ""
            views.append(_segment(name, rank, segment, separators, revealed))
    except (hl7.HL7Exception, LookupError, ValueError, TypeError, AttributeError, AssertionError):
        return None
    return MessageView(tuple(views), max(0, len(lines) - MAX_SEGMENTS))


def _shortened(line: bytes, charset: str) -> str:
    if len(line) > MAX_FIELD:
        separator = b"|" if b"|" in line[:8] else line[3:4]
        line = separator.join(
            part if len(part) <= MAX_FIELD else b"^".join(_elided(piece) for piece in part.split(b"^"))
            for part in line.split(separator)
        )
        line = line[: 8 * MAX_FIELD]
    try:
        return line.decode(charset or "utf-8")
    except (UnicodeDecodeError, LookupError):
        return line.decode("latin-1")


def _elided(piece: bytes) -> bytes:
    return piece if len(piece) <= MAX_SHOWN else f"\ue000{len(piece)}\ue001".encode()


def _name(segment: Any) -> str:
    """The segment's name, dots when it is not one: the rest of a broken line may be anything."""
    name = str(segment[0])
    return name if len(segment) > 1 and _SEGMENT_NAME.fullmatch(name) else MASK


@dataclass(frozen=True, slots=True)
class _Separators:
    field: str
    repetition: str
    component: str
    subcomponent: str


def _segment(name: str, rank: str, segment: Any, separators: _Separators, revealed: bool) -> SegmentView:
    names = field_names(name)
    line: list[Piece] = [Piece(str(segment[0]) if revealed else name, "name")]
    fields: list[FieldView] = []
    short: dict[str, str] = {}
    for number in range(1, len(segment)):
        raw = str(segment[number])
        if name != "MSH" or number > 1:
            line.append(Piece(separators.field, "sep"))
        if not raw:
            continue
        if name == "MSH" and number <= 2:
            pieces_of_field: list[tuple[Piece, ...]] = [(Piece(raw),)]
        else:
            pieces_of_field = [
                _repetition(name, number, repetition, segment, separators, revealed=revealed)
                for repetition in raw.split(separators.repetition)
            ]
        for n, pieces in enumerate(pieces_of_field, 1):
            many = len(pieces_of_field) > 1
            if n > 1:
                line.append(Piece(separators.repetition, "sep"))
            if name != "MSH" or number > 1:
                line.extend(pieces)
            place = f"{name}-{number}" + (f" [{n}]" if many else "")
            fields.append(FieldView(number, place, names.get(number, ("", "")), _readable(pieces)))
        first = [piece.text for piece in _first_components(pieces_of_field[0]) if piece.kind == ""]
        short[f"{number}.1"] = first[0] if first else ""
        short[str(number)] = separators.component.join(first) if name == "MSH" else first[-1] if first else ""
    if name == "MSH":
        line[1:2] = [Piece(separators.field, "sep")]
    summary = " · ".join(short[place] for place in _summary(name) if short.get(place))
    return SegmentView(name, rank, _title(name), summary, tuple(fields), tuple(line))


def _first_components(pieces: tuple[Piece, ...]) -> list[Piece]:
    """The first two components: code and label."""
    kept: list[Piece] = []
    separators = 0
    for piece in pieces:
        separators += piece.kind == "sep"
        if separators > 1:
            break
        kept.append(piece)
    return kept


def _repetition(name: str, number: int, raw: str, segment: Any, separators: _Separators, *, revealed: bool) -> tuple[Piece, ...]:
    components = raw.split(separators.component)
    if revealed or raw == '""':
        shown = frozenset(range(1, len(components) + 1))
    else:
        shown = _shown(name, number, components, segment, separators)
    pieces: list[Piece] = []
    is_document = name == "OBX" and number == 5 and _text(segment, 2) == "ED"
    for n, component in enumerate(components, 1):
        if n > 1:
            pieces.append(Piece(separators.component, "sep"))
        if not component:
            continue
        elided = _ELIDED.fullmatch(component)
        if elided or (is_document and n == 5):
            pieces.append(Piece(elided[1] if elided else str(len(component)), "size"))
        elif n in shown:
            pieces.append(Piece(component if len(component) <= MAX_SHOWN else component[:MAX_SHOWN] + "…"))
        elif name == "PID" and number == 3 and n == 1 and components[4:5] == ["PI"]:
            pieces.append(Piece(tail(component), "mask"))
        else:
            pieces.append(Piece(MASK, "mask"))
    return tuple(pieces)


def tail(number: str) -> str:
    """A patient number with its last four characters kept, fewer when it is short."""
    kept = min(4, len(number) // 2)
    return "••••" + (number[-kept:] if kept else "")


def _shown(name: str, number: int, components: list[str], segment: Any, separators: _Separators) -> frozenset[int]:
    everything = frozenset(range(1, len(components) + 1))
    if name == "OBX" and number == 5:
        value_type, observation = _text(segment, 2), _text(segment, 3).split(separators.component)
        if value_type == "ED":
            return everything & {2, 3, 4}
        if observation[2:3] == ["MetaDMPMSS"] and components[0] in _YES_NO:
            return everything
        return frozenset()
    rule = _rules(name).get(number, "")
    return everything if rule == "*" else everything & {int(n) for n in rule.split(",") if n}


def _text(segment: Any, number: int) -> str:
    return str(segment[number]) if number < len(segment) else ""


def _readable(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """Pieces without the runs of separators at both ends."""
    kept = [piece for n, piece in enumerate(pieces) if piece.kind != "sep" or pieces[n - 1 : n] != (piece,)]
    while kept and kept[-1].kind == "sep":
        kept.pop()
    while kept and kept[0].kind == "sep":
        kept.pop(0)
    return tuple(kept)


# ---- the table -----------------------------------------------------------------------------------------------------


@cache
def _table() -> dict[str, dict[str, Any]]:
    return tomllib.loads(resources.files("hub.web").joinpath("fields.toml").read_text("utf-8"))


@cache
def field_names(segment: str) -> dict[int, tuple[str, str]]:
    """Names of a segment's fields, français and English, by number."""
    return {int(key): (row[0], row[1]) for key, row in _table().get(segment, {}).items() if key.isdigit()}


@cache
def _rules(segment: str) -> dict[int, str]:
    return {int(key): row[2] for key, row in _table().get(segment, {}).items() if key.isdigit() and len(row) > 2}


def _title(segment: str) -> tuple[str, str]:
    title = _table().get(segment, {}).get("title", ["", ""])
    return title[0], title[1]


def _summary(segment: str) -> list[str]:
    return list(_table().get(segment, {}).get("summary", []))
