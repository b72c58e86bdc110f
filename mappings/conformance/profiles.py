"""The profiles: which tables make one, and which one a message follows.

A table may include others (`includes`), leave out rules of theirs by id (`without`) and weigh them otherwise (`[severity]`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import Any

from hub.formats.er7 import Message
from mappings.conformance.rules import Rule, Severity, rules_of
from mappings.tables import load

NAMES = ("cda-2.1", "cda-2.0", "cda-1.2", "lps-1.1", "lps-1.0", "tlr-1.0", "zam-2.1", "zam-2.0", "pam-fr", "ack", "fr")
"""In the order in which a message is offered to them."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile. A message follows it by its type and by MSH-21, or by the country that MSH-12.2 or MSH-17 names."""

    name: str
    title: str
    types: frozenset[str]
    msh_21: re.Pattern[str] | None
    country: str
    rules: tuple[Rule, ...]

    def takes(self, message: Message) -> bool:
        """Whether a message says that it follows this profile."""
        if message.type.partition("^")[0] not in self.types:
            return False
        if self.msh_21 is None and not self.country:
            return True
        if self.msh_21 is not None and any(self.msh_21.fullmatch("".join(one.split())) for one in message.profiles):
            return True
        return bool(self.country) and self.country in (message.text("MSH", 12, 2), message.text("MSH", 17))


def profile_named(name: str) -> Profile:
    """The profile of that name.

    Raises:
        KeyError: no such profile.
    """
    if name not in NAMES:
        raise KeyError(name)
    return _packaged(name)


def profile_of(message: Message) -> Profile | None:
    """The profile that a message follows; None when it names none of ours."""
    return next((profile for name in NAMES if (profile := _packaged(name)).takes(message)), None)


@lru_cache(maxsize=len(NAMES))
def _packaged(name: str) -> Profile:
    return read_profile(name, lambda one: load(_text(one)))


def _text(name: str) -> str:
    return resources.files("mappings.tables").joinpath("profiles", f"{name}.toml").read_text(encoding="utf-8")


def read_profile(name: str, table_of: Callable[[str], Mapping[str, Any]]) -> Profile:
    """A profile out of its tables.

    Raises:
        ValueError: a row that cannot be read, two rules of one id, or a `without` or `[severity]` that names no rule.
    """
    table = table_of(name)
    return Profile(
        name=name,
        title=table["title"],
        types=frozenset(table["types"]),
        msh_21=re.compile(table["msh_21"]) if "msh_21" in table else None,
        country=table.get("country", ""),
        rules=_rules(name, table_of),
    )


def _rules(name: str, table_of: Callable[[str], Mapping[str, Any]]) -> tuple[Rule, ...]:
    table = table_of(name)
    rules = [rule for included in table.get("includes", ()) for rule in _rules(included, table_of)]
    without, weights = set(table.get("without", ())), dict(table.get("severity", {}))
    unknown = (without | set(weights)) - {rule.id for rule in rules}
    if unknown:
        raise ValueError(f"{name}: no such rule: {', '.join(sorted(unknown))}")
    title = table.get("title", "")
    kept = [
        replace(rule, severity=Severity(weights.get(rule.id, rule.severity)), standard=rule.standard or title)
        for rule in rules
        if rule.id not in without
    ]
    kept += rules_of(table, table.get("standard", title))
    ids = [rule.id for rule in kept]
    twice = {one for one in ids if ids.count(one) > 1}
    if twice:
        raise ValueError(f"{name}: two rules: {', '.join(sorted(twice))}")
    return tuple(kept)
