"""A schema with everything resolved: no inclusion, abstract pattern, abstract rule, or inactive pattern is left."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Level(StrEnum):
    """How grave a failed rule is, from `@role` or `@flag`."""

    ERROR = "ERROR"
    WARNING = "WARNING"
    INFO = "INFO"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something stands in the rule files; lines count from 1."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Let:
    """`sch:let`: a variable."""

    name: str
    select: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class ElementName:
    """`sch:name` in a sentence: the name of the node that `path` selects."""

    path: str


Piece = str | ElementName


@dataclass(frozen=True, slots=True)
class Check:
    """`sch:assert`, which fails when `test` is false, or `sch:report`, when it is true. Its sentence holds no value."""

    is_report: bool
    test: str
    sentence: tuple[Piece, ...]
    level: Level
    id: str
    subject: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Rule:
    """`sch:rule`: what is checked of each node that matches `context` and no earlier rule of its pattern."""

    context: str
    body: tuple[Let | Check, ...]
    origin: Origin


@dataclass(slots=True)
class Pattern:
    """`sch:pattern`: its rules, in order."""

    id: str
    lets: list[Let] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)


@dataclass(slots=True)
class Schema:
    """The active patterns of a rule file."""

    file: str
    namespaces: dict[str, str]
    lets: list[Let]
    patterns: list[Pattern]
    xslt: list[tuple[str, Origin]]  # functions and keys, as they stand
    absent: list[tuple[str, Origin]] = field(default_factory=list)  # value sets that are named and not there

    @property
    def checks(self) -> int:
        """How many assertions and reports there are."""
        return sum(isinstance(one, Check) for pattern in self.patterns for rule in pattern.rules for one in rule.body)
