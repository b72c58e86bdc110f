"""Running the rules of a profile over one message."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hub.formats.er7 import Message, Segment
from hub.formats.ts import parse_ts
from hub.model.identifiers import is_oid
from hub.model.site import Site
from mappings.conformance.path import Path, Value, is_empty
from mappings.conformance.rules import Condition, Rule, Severity
from mappings.conformance.view import Hit, View
from mappings.hl7v2.fhir_date import fhir_birth_date

MAX_HITS = 50  # of one rule: a file of a hundred thousand bad segments is told in fifty

Check = Callable[[View], Iterator[Hit]]


@dataclass(frozen=True, slots=True)
class ConformanceFinding:
    """One thing that is wrong, or worth knowing. Numbers count from 1, 0 = the whole; `line` is 0 when no segment is meant.

    `sentence` holds no value of the message; `value` does, for readers who may see it.
    """

    severity: Severity
    rule: str
    standard: str
    sentence: str
    segment: str = ""
    occurrence: int = 0
    line: int = 0
    field: int = 0
    repetition: int = 0
    component: int = 0
    subcomponent: int = 0
    value: str = ""

    @property
    def at(self) -> str:
        """`PID[1]-3[2].4.2`: the second repetition of PID-3; empty when no segment is meant."""
        place = f"{self.segment}[{self.occurrence}]" if self.occurrence else self.segment
        if self.field:
            place += f"-{self.field}" + (f"[{self.repetition}]" if self.repetition > 1 else "")
        if self.component:
            place += f".{self.component}" + (f".{self.subcomponent}" if self.subcomponent else "")
        return place


def evaluate(rules: Iterable[Rule], checks: dict[str, Check], message: Message, site: Site) -> tuple[ConformanceFinding, ...]:
    """What the rules find, in the order of the rules."""
    view = View(message, site)
    found: list[tuple[Rule, Hit]] = []
    for rule in rules:
        hits = _named(rule, checks, view) if rule.kind == "check" else _KINDS[rule.kind](rule, view)
        for n, hit in enumerate(hits):
            if n == MAX_HITS:
                break
            found.append((rule, hit))
    covered = [(rule.covers, hit.segment.index) for rule, hit in found if rule.covers and hit.segment is not None]
    return tuple(_finding(rule, hit) for rule, hit in found if not _is_covered(rule, hit, covered))


def _is_covered(rule: Rule, hit: Hit, covered: list[tuple[tuple[str, ...], int]]) -> bool:
    index = hit.segment.index if hit.segment is not None else -1
    return any(index == line and any(fnmatchcase(rule.id, one) for one in ids) for ids, line in covered)


def _finding(rule: Rule, hit: Hit) -> ConformanceFinding:
    segment = hit.segment
    return ConformanceFinding(
        severity=hit.severity or rule.severity,
        rule=rule.id,
        standard=f"{rule.standard}, {rule.clause}" if rule.clause else rule.standard,
        sentence=" ".join(part for part in (hit.sentence, rule.says) if part),
        segment=segment.name if segment is not None else hit.name,
        occurrence=segment.occurrence if segment is not None else 0,
        line=segment.index + 1 if segment is not None else 0,
        field=hit.field,
        repetition=hit.repetition,
        component=hit.component,
        subcomponent=hit.subcomponent,
        value=hit.value,
    )


# ---- conditions ------------------------------------------------------------------------------------------------------


def _holds(conditions: tuple[Condition, ...], view: View, segment: Segment | None) -> bool:
    return all(_condition_holds(one, view, segment) for one in conditions)


def _condition_holds(condition: Condition, view: View, segment: Segment | None) -> bool:
    path, op = condition.path, condition.op
    own = segment is not None and segment.name == path.segment and not path.part and path.choice is None
    segments = (segment,) if own and segment is not None else path.segments(view.message, view.parts)
    if not path.field:
        return bool(segments) is (op == "present")
    values = [value for one in segments for value in path.values(one) if not value.is_empty and value.text != '""']
    if op in ("present", "absent"):
        return bool(values) is (op == "present")
    if op == "like":
        return any(condition.pattern is not None and condition.pattern.fullmatch(value.text) for value in values)
    return any(value.text in condition.values for value in values) is (op == "in")


def _active(rule: Rule, view: View) -> Iterator[Segment]:
    """The segments that a rule looks at."""
    assert rule.at is not None
    for segment in rule.at.segments(view.message, view.parts):
        if _holds(rule.when, view, segment):
            yield segment


# ---- kinds of rules --------------------------------------------------------------------------------------------------


def _usage(rule: Rule, view: View) -> Iterator[Hit]:
    assert rule.at is not None
    if not rule.at.field:
        yield from _usage_of_segment(rule, rule.at, view)
        return
    for segment in _active(rule, view):
        values = list(rule.at.values(segment))
        if rule.wanted == "X":
            for value in values:
                if not value.is_empty:
                    yield _hit(rule.at, value, "is filled, and stays empty here.")
        elif not rule.at.component:
            if not values:
                what = "is empty" if rule.at.repetition is None else "lacks a repetition"
                yield Hit(segment, rule.at.field, sentence=_missing(rule, what))
        else:
            for value in values:
                has_place = not rule.at.subcomponent or not is_empty(segment, rule.at.field, value.repetition, rule.at.component)
                if value.is_empty and has_place:
                    yield _hit(rule.at, value, _missing(rule, "is empty"))


def _missing(rule: Rule, what: str) -> str:
    return f"{what}, and is required." if rule.wanted == "R" else f"{what}: required when the sender knows it."


def _usage_of_segment(rule: Rule, path: Path, view: View) -> Iterator[Hit]:
    if not _holds(rule.when, view, None):
        return
    segments = path.segments(view.message, view.parts)
    if rule.wanted == "X":
        yield from (Hit(segment, sentence="has no place in this message.") for segment in segments)
    elif not segments:
        sentence = "is missing." if path.part == "" and path.choice is None else "is missing: none is of that kind."
        yield Hit(None, name=path.segment, sentence=sentence)


def _table(rule: Rule, view: View) -> Iterator[Hit]:
    allowed = frozenset(rule.wanted)
    words = f"is none of the allowed values: {', '.join(rule.wanted)}." if len(allowed) > 1 else f"is not {rule.wanted[0]}."
    yield from _each(rule, view, lambda text: text in allowed, words)


def _never(rule: Rule, view: View) -> Iterator[Hit]:
    banned = frozenset(rule.wanted)
    yield from _each(rule, view, lambda text: text not in banned, f"may not be {' or '.join(rule.wanted)} here.")


def _type(rule: Rule, view: View) -> Iterator[Hit]:
    test, words = TYPES[rule.wanted]
    yield from _each(rule, view, test, f"is not {words}.")


def _like(rule: Rule, view: View) -> Iterator[Hit]:
    yield from _each(rule, view, lambda text: rule.wanted.fullmatch(text) is not None, "has not the expected form.")


def _length(rule: Rule, view: View) -> Iterator[Hit]:
    yield from _each(rule, view, lambda text: len(text) <= rule.wanted, f"is longer than {rule.wanted} characters.")


def _each(rule: Rule, view: View, holds: Callable[[str], bool], words: str) -> Iterator[Hit]:
    assert rule.at is not None
    for segment in _active(rule, view):
        for value in rule.at.values(segment):
            if value.text and value.text != '""' and not holds(value.text):
                yield _hit(rule.at, value, words)


def _max(rule: Rule, view: View) -> Iterator[Hit]:
    assert rule.at is not None
    if not rule.at.field:
        for segment in list(_active(rule, view))[rule.wanted :]:
            yield Hit(segment, sentence=f"comes more than {_times(rule.wanted)}.")
        return
    for segment in _active(rule, view):
        for value in list(rule.at.values(segment))[rule.wanted :]:
            yield Hit(segment, rule.at.field, value.repetition, sentence=f"comes more than {_times(rule.wanted)}.")


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _order(rule: Rule, view: View) -> Iterator[Hit]:
    if not _holds(rule.when, view, None):
        return
    ranks = {name: n for n, name in enumerate(rule.wanted)}
    highest, before = -1, ""
    for segment in view.message.segments():
        rank = ranks.get(segment.name)
        if rank is None:
            continue
        if rank < highest:
            yield Hit(segment, sentence=f"comes after {before}, and belongs before it.")
        elif rank > highest:
            highest, before = rank, segment.name


def _named(rule: Rule, checks: dict[str, Check], view: View) -> Iterator[Hit]:
    if _holds(rule.when, view, None):
        yield from checks[rule.wanted](view)


_KINDS: dict[str, Callable[[Rule, View], Iterator[Hit]]] = {
    "usage": _usage,
    "table": _table,
    "never": _never,
    "type": _type,
    "like": _like,
    "length": _length,
    "max": _max,
    "order": _order,
}


def _hit(path: Path, value: Value, sentence: str) -> Hit:
    return Hit(
        value.segment,
        path.field,
        value.repetition,
        path.component,
        path.subcomponent,
        sentence=sentence,
        value="" if value.is_empty else value.text,
    )


# ---- types -----------------------------------------------------------------------------------------------------------


def _is_ts(text: str) -> bool:
    return parse_ts(text, Site().timezone).is_valid


TYPES: dict[str, tuple[Callable[[str], bool], str]] = {
    "TS": (_is_ts, "a time stamp YYYY[MM[DD[HH[MM[SS]]]]][±ZZZZ]"),
    "birth date": (
        lambda text: len(text) == 8 and bool(fhir_birth_date(text)),
        "a date YYYYMMDD (00 for an unknown day or month)",
    ),
    "SI": (lambda text: re.fullmatch(r"[0-9]{1,4}", text) is not None, "a number of at most four digits"),
    "NM": (lambda text: re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", text) is not None, "a number"),
    "OID": (is_oid, "an object identifier in dotted form"),
    "FINESS": (lambda text: re.fullmatch(r"[0-9][0-9AB][0-9]{7}", text) is not None, "a FINESS number of nine characters"),
    "INS": (lambda text: re.fullmatch(r"[0-9]{6}[0-9AB][0-9]{8}", text) is not None, "13 characters and a key of two digits"),
    "INSEE": (lambda text: re.fullmatch(r"[0-9][0-9AB][0-9]{3}", text) is not None, "an INSEE code of five characters"),
    "mail address": (lambda text: re.fullmatch(r"[^@\s,;<>\"]+@[^@\s,;<>\"]+", text) is not None, "one mail address"),
}
