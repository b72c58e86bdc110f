"""One module a family of templates; each names its translators in `TRANSLATORS`: templateId root → function(element, scope).

What a whole document becomes, once its sections are read, is in `DOCUMENTS` of a family: the document's templateId → function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

# The most particular families first: of several templates of one statement, the first that is known here translates it.
ORDER = (
    "laboratory",
    "imaging",
    "prescription",
    "dispensation",
    "immunization",
    "medication",
    "device",
    "allergy",
    "problem",
    "procedure",
    "plan",
    "encounter",
    "family_history",
    "vital_signs",
    "attachment",
    "observation",
)


@cache
def translators() -> Mapping[str, tuple[int, Callable[..., Any]]]:
    """templateId root → (rank, translator). Within a family the order of its table counts."""
    found: dict[str, tuple[int, Callable[..., Any]]] = {}
    for family in ORDER:
        for root, translate in import_module(f"mappings.cda.templates.{family}").TRANSLATORS.items():
            found.setdefault(root, (len(found), translate))
    return found


@cache
def document_translators() -> Mapping[str, Callable[..., Any]]:
    """templateId root of a document → what is done at its end, with the ClinicalDocument and a scope outside any section."""
    found: dict[str, Callable[..., Any]] = {}
    for family in ORDER:
        for root, translate in getattr(import_module(f"mappings.cda.templates.{family}"), "DOCUMENTS", {}).items():
            found.setdefault(root, translate)
    return found
