"""The rows of `tables/cda_header_rules.toml`, run on the header of a document: a finding at the element for each that is broken.

Standard: CI-SIS, volet Structuration minimale des documents de santé, rules 1.16.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import groupby
from typing import Any

from mappings.cda.scope import Reading
from mappings.cda.xml import Element, names, text
from mappings.tables import load

UID = r"[0-2](?:\.(?:0|[1-9][0-9]*))+|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_PATTERNS = {
    "UID": UID,
    "INSTANT": r"[0-9]{12,14}(?:\.[0-9]+)?[+-][0-9]{4}",
    "DATE": r"[0-9]{4,14}(?:[+-][0-9]{4})?",
    "LANGUAGE": r"[a-z]{2}-[A-Z]{2}",
    "POSITIVE": r"0*[1-9][0-9]*",
    "INSEE": r"[0-9](?:[0-9]|[AB])[0-9]{3}",
}
Wrong = Callable[[Element], str]
"""What is wrong with an element, as the end of a sentence; empty when nothing is."""


@dataclass(frozen=True, slots=True)
class ValueSet:
    """Codes by code system."""

    name: str
    codes: Mapping[str, frozenset[str]]

    def holds(self, code: str, system: str) -> bool:
        return code in self.codes.get(system, ())


@dataclass(frozen=True, slots=True)
class Rule:
    """The rows of one element, ready to run.

    `steps` are the names on the way to it, `least` and `most` its cardinality (`most` 0 for any number), `wrongs` what may be
    wrong with it and the code of the finding.
    """

    code: str
    at: str
    steps: tuple[str, ...]
    least: int
    most: int
    wrongs: tuple[tuple[str, Wrong], ...]
    may_be_null: bool


@dataclass(frozen=True, slots=True)
class Group:
    steps: tuple[str, ...]
    first: bool
    rules: tuple[Rule, ...]


class _Children(dict[Element, dict[Any, list[Element]]]):
    """The children of elements by name, gathered once a document: rules ask for the same ones again and again."""

    def __missing__(self, element: Element) -> dict[Any, list[Element]]:
        found: dict[Any, list[Element]] = {}
        for child in element:
            found.setdefault(child.tag, []).append(child)
        self[element] = found
        return found


def run(reading: Reading) -> None:
    """Every rule of the table, on one document."""
    children = _Children()
    for group in groups():
        places = _below(reading.root, group.steps, children)
        for place in places[:1] if group.first else places:
            for rule in group.rules:
                _run(rule, place, reading, children)


def _below(place: Element, steps: tuple[str, ...], children: _Children) -> list[Element]:
    found = [place]
    for step in steps:
        if len(found) == 1:
            found = children[found[0]].get(step, [])
        else:
            found = [child for parent in found for child in children[parent].get(step, ())]
    return found


def _run(rule: Rule, place: Element, reading: Reading, children: _Children) -> None:
    found = _below(place, rule.steps, children)
    if len(found) < rule.least:
        reading.tell(rule.code, f"{reading.paths.of(place)}/{rule.at}", "missing")
    if rule.most and len(found) > rule.most:
        reading.find(rule.code, found[rule.most], "more often than once")
    for element in found:
        if rule.may_be_null and element.get("nullFlavor") is not None:
            continue
        for code, wrong in rule.wrongs:
            if told := wrong(element):
                reading.find(code, element, told)


@cache
def groups() -> tuple[Group, ...]:
    """The table; rows of one element that stand behind each other are one rule."""
    found = []
    for group in load(_read("cda_header_rules"))["group"]:
        rules = tuple(_rule(at, list(rows)) for at, rows in groupby(group["rules"], _at))
        found.append(Group(_steps(group["in"]), group.get("first", False), rules))
    return tuple(found)


@cache
def value_sets() -> Mapping[str, ValueSet]:
    """Value sets by the name that rules give them."""
    return {
        name: ValueSet(row["name"], {system: frozenset(codes.split()) for system, codes in row["codes"].items()})
        for name, row in load(_read("value_sets")).items()
    }


def _read(table: str) -> str:
    return resources.files("mappings.tables").joinpath(f"{table}.toml").read_text(encoding="utf-8")


def _at(row: Mapping[str, Any]) -> str:
    return str(row["at"])


def _steps(path: str) -> tuple[str, ...]:
    return tuple(names(step) for step in path.split("/") if step != ".")


def _rule(at: str, rows: list[Mapping[str, Any]]) -> Rule:
    first = rows[0]
    least, _, most = first.get("card", "0..n").partition("..")
    wrongs = tuple((row["code"], wrong) for row in rows for wrong in _wrongs(row))
    return Rule(first["code"], at, _steps(at), int(least), 0 if most == "n" else int(most), wrongs, first.get("null", False))


def _wrongs(row: Mapping[str, Any]) -> Iterator[Wrong]:
    if "values" in row:
        yield _in_set(value_sets()[row["values"]])
    elif "child" in row:
        yield _child(row["child"])
    elif row.get("text"):
        yield _text(row.get("like", ""), row.get("is", ""))
    elif "attribute" in row:
        yield _attribute(row["attribute"], _allowed(row), row.get("like", ""), row.get("is", ""))


def _allowed(row: Mapping[str, Any]) -> frozenset[str]:
    return frozenset([row["equals"]] if "equals" in row else row.get("one_of", ()))


def _attribute(name: str, allowed: frozenset[str], like: str, meaning: str) -> Wrong:
    pattern = re.compile(_PATTERNS[like], re.ASCII) if like else None
    wanted = " or ".join(sorted(allowed))

    def wrong(element: Element) -> str:
        said = element.get(name, "").strip()
        if not said:
            return f"@{name} is missing"
        if allowed and said not in allowed:
            return f"@{name} is not {wanted}"
        return f"@{name} is not {meaning}" if pattern is not None and not pattern.fullmatch(said) else ""

    return wrong


def _text(like: str, meaning: str) -> Wrong:
    pattern = re.compile(_PATTERNS[like], re.ASCII) if like else None

    def wrong(element: Element) -> str:
        said = text(element)
        if not said:
            return "" if element.get("nullFlavor") is not None else "empty"
        return f"not {meaning}" if pattern is not None and not pattern.fullmatch(said) else ""

    return wrong


def _child(path: str) -> Wrong:
    where = names(path)

    def wrong(element: Element) -> str:
        return f"{path} is missing" if element.find(where) is None and element.get("nullFlavor") is None else ""

    return wrong


def _in_set(values: ValueSet) -> Wrong:
    def wrong(element: Element) -> str:
        code = element.get("code", "").strip()
        if not code or values.holds(code, element.get("codeSystem", "").strip()):
            return ""
        return f"a code or code system outside {values.name}"

    return wrong
