"""Search rows of orders, results, specimens, tasks, appointments and consents.

Beside its plain row (`Observation.code`, code, system), each coded value of a resource that has a patient gets a row by date:
(`Observation.code/date`, `<patient number>|<code>`, date). These stand in the order in which they are asked for, so the newest
results of one analysis are read without a look at the patient's other ones.

Standard: FHIR R4 search parameters of these resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hub.model.record_change import Json
from hub.record.dates import sort_date

Token = tuple[str, str, str]  # param, value, system

BY_DATE = "/date"

# Coded values: type → parameter → path of CodeableConcepts.
_CODED: dict[str, dict[str, tuple[str, ...]]] = {
    "ServiceRequest": {"code": ("code",), "category": ("category",)},
    "Task": {"code": ("code",)},
    "DiagnosticReport": {"code": ("code",), "category": ("category",)},
    "Observation": {"code": ("code",), "category": ("category",), "interpretation": ("interpretation",)},
    "Specimen": {"type": ("type",)},
    "Appointment": {"service-type": ("serviceType",), "appointment-type": ("appointmentType",)},
    "Consent": {"category": ("category",), "code": ("provision", "code"), "scope": ("scope",)},
}
# References: type → parameter → path.
_REFERENCES: dict[str, dict[str, tuple[str, ...]]] = {
    "ServiceRequest": {
        "encounter": ("encounter",),
        "based-on": ("basedOn",),
        "specimen": ("specimen",),
        "replaces": ("replaces",),
    },
    "Task": {"encounter": ("encounter",), "based-on": ("basedOn",), "focus": ("focus",)},
    "DiagnosticReport": {"encounter": ("encounter",), "based-on": ("basedOn",), "specimen": ("specimen",), "result": ("result",)},
    "Observation": {
        "encounter": ("encounter",),
        "based-on": ("basedOn",),
        "specimen": ("specimen",),
        "derived-from": ("derivedFrom",),
    },
    "Specimen": {"parent": ("parent",)},
    "Appointment": {"based-on": ("basedOn",)},
}

KINDS = frozenset(_CODED)


def coded_parameters(kind: str) -> tuple[str, ...]:
    """Parameters of coded values, which have rows by date."""
    return tuple(_CODED.get(kind, ()))


def reference_parameters(kind: str) -> tuple[str, ...]:
    return tuple(_REFERENCES.get(kind, ()))


def clinical_tokens(kind: str, body: Json, patient_id: int | None) -> Iterator[Token]:
    """The search rows of one resource."""
    for one in _every(body.get("identifier")):
        if value := one.get("value"):
            yield f"{kind}.identifier", str(value), str(one.get("system", ""))
    if kind == "ServiceRequest" and (value := (body.get("requisition") or {}).get("value")):
        yield "ServiceRequest.requisition", str(value), str(body["requisition"].get("system", ""))
    date = sort_date(body) if patient_id is not None else ""
    for name, path in _CODED[kind].items():
        for code, system in _codings(_at(body, path)):
            yield f"{kind}.{name}", code, system
            if patient_id is not None:
                yield f"{kind}.{name}{BY_DATE}", f"{patient_id}|{code}", date
    for name, path in _REFERENCES.get(kind, {}).items():
        for reference in _every(_at(body, path)):
            number = reference.get("identifier") or {}
            if number.get("system") and number.get("value"):
                yield f"{kind}.{name}", f"{number['system']}|{number['value']}", str(reference.get("type", ""))


def _codings(concepts: Any) -> Iterator[tuple[str, str]]:
    for concept in _every(concepts):
        for coding in concept.get("coding", ()):
            if code := coding.get("code"):
                yield str(code), str(coding.get("system", ""))


def _at(body: Json, path: tuple[str, ...]) -> Any:
    found: Any = body
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _every(found: Any) -> Iterable[Json]:
    return [found] if isinstance(found, dict) else (found or ())
