"""Which results tell a blood group (`tables/blood_groups.toml`), whatever the format that brings them."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from mappings.code_systems import LOINC
from mappings.tables import load

Json = dict[str, Any]

CATEGORY = "urn:vaguemestre:category"


def blood_group_category(code: Json) -> Json | None:
    """The further category of an Observation whose code (CodeableConcept) is that of a blood group; None for any other."""
    known = _codes()
    if any(one.get("code") in known and one.get("system") == LOINC for one in code.get("coding", ())):
        return {"coding": [{"system": CATEGORY, "code": "blood-group"}]}
    return None


@cache
def _codes() -> frozenset[str]:
    table = load(resources.files("mappings.tables").joinpath("blood_groups.toml").read_text(encoding="utf-8"))
    return frozenset(table["loinc"])
