"""What an examination says of one thing."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, WRONG = "ok", "warning", "wrong"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`level` is OK, WARNING (it works, and somebody should know) or WRONG; `next` is the step that mends it."""

    check: str
    level: str
    says: str
    next: str = ""
