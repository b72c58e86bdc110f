"""The findings of a message as its page lists them: by what they are about, then by code; long lists are folded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hub.ledger.messages import RULES
from hub.record.facts import UNREAD

SHOWN = 20
KINDS = ("message", "left", "values", "contents", "sections", "header", "rules")
"""In the order of the page; the words of each are `finding.<kind>`."""

_LEFT = UNREAD | {"MORE_FINDINGS", "TOO_MANY_FACTS"}
_CONTENTS = frozenset({"CDA_MEDIA_TYPE", "CDA_REPRESENTATION"})
_BODY = "/ClinicalDocument/component"


@dataclass(frozen=True, slots=True)
class Row:
    """One finding: the steps of its place, and its sentence without it."""

    place: tuple[str, ...]
    sentence: str


@dataclass(slots=True)
class Code:
    """The findings of one code. `rest` is folded away; `open` says whether the group shows itself unasked."""

    code: str
    rows: list[Row] = field(default_factory=list)
    open: bool = True

    @property
    def first(self) -> list[Row]:
        return self.rows[:SHOWN]

    @property
    def rest(self) -> list[Row]:
        return self.rows[SHOWN:]


def grouped(findings: Iterable[dict[str, Any]]) -> list[tuple[str, list[Code]]]:
    """Kinds with their codes, in the order of `KINDS`, codes as they came. Codes after the first `SHOWN` findings are closed."""
    found: dict[str, dict[str, Code]] = {kind: {} for kind in KINDS}
    for one in findings:
        code, at, text = (str(one.get(key) or "") for key in ("code", "at", "text"))
        of_kind = found[kind_of(code, at)]
        of_kind.setdefault(code, Code(code)).rows.append(Row(tuple(at.split("/")), text.removeprefix(f"{at}: ")))
    shown = 0
    for codes in found.values():
        for group in codes.values():
            group.open = shown < SHOWN
            shown += len(group.first)
    return [(kind, list(codes.values())) for kind, codes in found.items() if codes]


def kind_of(code: str, at: str) -> str:
    """What a finding is about: the message, or a part of its document; or a rule of the site's kit."""
    if code.startswith(RULES):
        return "rules"
    if not at.startswith("/"):
        return "message"
    if code in _LEFT:
        return "left"
    if code in _CONTENTS or code.startswith("CONTENT_"):
        return "contents"
    if code.startswith("SECTION_"):
        return "sections"
    return "values" if at.startswith(_BODY + "/") else "header"
