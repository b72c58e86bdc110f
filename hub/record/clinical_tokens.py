"""Search rows of a patient's resources, from the table of `definitions`.

Beside its plain row (`Observation.code`, code, system), a coded value that is asked for as a trend gets a row by date:
(`Observation.code/date`, `<patient number>|<code>`, date). These stand in the order in which they are asked for, so the newest
results of one analysis are read without a look at the patient's other ones.

An Observation about somebody else in the patient's record (`focus`: the mother, a donor) has no rows of codes: what is asked by
code is about the patient.

Standard: FHIR R4 search parameters of these resources.
"""

from __future__ import annotations

from collections.abc import Iterator

from hub.model.record_change import Json
from hub.record.body_filters import codes
from hub.record.dates import sort_date
from hub.record.definitions import PARAMETERS, WITH_ROWS, Parameter, values_at

Token = tuple[str, str, str]  # param, value, system

BY_DATE = "/date"
KINDS = frozenset(PARAMETERS) - {"Encounter", "DocumentReference"}
_ROWS = {kind: [one for one in PARAMETERS[kind].values() if one.kind in WITH_ROWS] for kind in KINDS}


def clinical_tokens(kind: str, body: Json, patient_id: int | None) -> Iterator[Token]:
    """The search rows of one resource."""
    date = sort_date(body) if patient_id is not None else ""
    about_another = kind == "Observation" and bool(body.get("focus"))
    for parameter in _ROWS[kind]:
        if about_another and parameter.kind in ("coded", "dated"):
            continue
        for path in parameter.paths:
            for value in values_at(body, path):
                if isinstance(value, dict):
                    yield from _rows(kind, parameter, value, patient_id, date)


def _rows(kind: str, parameter: Parameter, value: Json, patient_id: int | None, date: str) -> Iterator[Token]:
    param = f"{kind}.{parameter.name}"
    if parameter.kind == "identifier":
        if number := value.get("value"):
            yield param, str(number), str(value.get("system", ""))
    elif parameter.kind == "reference":
        number = value.get("identifier") or {}
        if number.get("system") and number.get("value"):
            yield param, f"{number['system']}|{number['value']}", str(value.get("type", ""))
    else:
        for system, code in codes(value):
            yield param, code, system
            if parameter.kind == "dated" and patient_id is not None and code != parameter.but:
                yield param + BY_DATE, f"{patient_id}|{code}", date
