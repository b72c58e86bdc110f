"""What pure code needs to know of this installation."""

from __future__ import annotations

from dataclasses import dataclass, field
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Site:
    """`name` and `organisation` are MSH-3 and MSH-4 of what the hub sends; `environment` is `test` or `production`."""

    name: str = "VAGUEMESTRE"
    organisation: str = "HUB"
    environment: str = "test"
    timezone: ZoneInfo = field(default_factory=lambda: ZoneInfo("Europe/Paris"))
    default_charset: str = "utf-8"
    strict_matrix: bool = False
    source: str = ""  # the source at hand: namespace of identifiers that name no authority
