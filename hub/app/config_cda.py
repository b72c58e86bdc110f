"""`[cda]`: which rules of a kit run over CDA documents after they were taken."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pydantic import Field, field_validator

from hub.app.strict import Strict


class CdaSection(Strict):
    """No `schematron_dir`: no rules run."""

    schematron_dir: Path | None = None
    schematron_checks: list[str] = Field(["header", "doctype"], min_length=1)

    @field_validator("schematron_checks")
    @classmethod
    def _names(cls, value: list[str]) -> list[str]:
        for one in value:
            if not one or "/" in one or "\\" in one:
                raise ValueError("holds header, doctype, or names of rule files without their folder")
        return value


def saxon_is_there() -> bool:
    """Whether the library that runs the rules is installed."""
    return importlib.util.find_spec("saxonche") is not None
