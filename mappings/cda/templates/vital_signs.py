"""Vital signs: the panel and its measures.

Standard: CI-SIS FR-Organizer-Signes-vitaux (1.2.250.1.213.1.1.3.49), FR-Signe-vital-observe (….50); IHE PCC Vital Signs
(1.3.6.1.4.1.19376.1.5.3.1.4.13.1, .13.2); FHIR R4 vital signs panel (LOINC 85353-1).
"""

from __future__ import annotations

from typing import Any

from mappings.cda.scope import Scope
from mappings.cda.templates.clinical import known_as
from mappings.cda.templates.observation import Translate, observe, panel
from mappings.cda.xml import Element
from mappings.code_systems import LOINC

Json = dict[str, Any]

_PANEL: Json = {"coding": [{"system": LOINC, "code": "85353-1", "display": "Vital signs panel"}]}


def vital_signs(entry: Element, scope: Scope) -> Json | None:
    """The organizer: an Observation that has its measures as members."""
    return panel(entry, scope, "vital-signs", _PANEL)


def vital_sign(entry: Element, scope: Scope) -> Json | None:
    """One measure."""
    return observe(entry, scope, "vital-signs")


TRANSLATORS: dict[str, Translate] = {
    **dict.fromkeys(known_as("fr:49", "ihe:13.1", "ccd:35"), vital_signs),
    **dict.fromkeys(known_as("fr:50", "ihe:13.2"), vital_sign),
}
