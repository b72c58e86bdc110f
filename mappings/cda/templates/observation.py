"""Simple observations: one code, one value.

Standard: IHE PCC Simple Observations (1.3.6.1.4.1.19376.1.5.3.1.4.13); CI-SIS FR-Simple-Observation (1.2.250.1.213.1.1.3.48).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.xml import Element, one

Json = dict[str, Any]


def simple_observation(entry: Element, scope: Scope) -> Json | None:
    """One observation."""
    body: Json = {"status": "final"}
    code = values.concept(one(entry, "code"), scope)
    if code is None:
        scope.find("CODE_MISSING", entry, "an observation without a code; stays in the document")
        scope.claim_all(entry)
        return None
    body["code"] = code
    body |= values.when(entry, scope)
    value = one(entry, "value")
    if value is not None:
        body |= values.value(value, scope)
    return scope.add("Observation", entry, body)


TRANSLATORS: dict[str, Callable[[Element, Scope], Json | None]] = {
    "1.2.250.1.213.1.1.3.48": simple_observation,
    "1.3.6.1.4.1.19376.1.5.3.1.4.13": simple_observation,
}
