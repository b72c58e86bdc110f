"""Biology: the chapters of a report, their results, specimens and isolates; results in any other document.

Standard: CI-SIS volet Compte rendu d'examens de biologie médicale; IHE PaLM XD-LAB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mappings.cda.scope import Scope
from mappings.cda.templates.laboratory_observation import battery, isolate, result
from mappings.cda.templates.laboratory_report import chapter
from mappings.cda.templates.laboratory_specimen import reception, specimen
from mappings.cda.xml import Element

TRANSLATORS: dict[str, Callable[[Element, Scope], dict[str, Any] | None]] = {
    "1.2.250.1.213.1.1.3.21": chapter,
    "1.3.6.1.4.1.19376.1.3.1": chapter,
    "1.2.250.1.213.1.1.3.77": specimen,
    "1.3.6.1.4.1.19376.1.3.1.2": specimen,
    "1.2.250.1.213.1.1.3.107": reception,
    "1.3.6.1.4.1.19376.1.3.1.3": reception,
    "1.2.250.1.213.1.1.3.78": battery,
    "1.3.6.1.4.1.19376.1.3.1.4": battery,
    "1.2.250.1.213.1.1.3.79": isolate,
    "1.3.6.1.4.1.19376.1.3.1.5": isolate,
    "1.2.250.1.213.1.1.3.80": result,
    "1.3.6.1.4.1.19376.1.3.1.6": result,
}
