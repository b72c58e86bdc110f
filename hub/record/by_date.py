"""Coded parameters of a patient's resources, looked up by date: the newest results of one analysis are read without a look at
the patient's other ones.

One patient and one code lead the search (`Lead`): the rows of `token_index` stand in the order that is asked for. Several codes,
or several numbers of one person, are looked up as a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hub.record.clinical_tokens import BY_DATE
from hub.record.search_parameters import Condition

_PLAIN = "EXISTS (SELECT 1 FROM token_index t WHERE t.param = ? AND t.value = ? AND t.system = ? AND t.resource_id = r.id)"


@dataclass(frozen=True, slots=True)
class Lead:
    """The search rows that a search reads in their order: `param` and `value` of `token_index`."""

    param: str
    value: str


def of_patients(conditions: Sequence[Condition], patients: Sequence[int]) -> tuple[list[Condition], Lead | None]:
    """The conditions of a search for these patients' resources, and what leads it, if anything does."""
    coded = [one for one in conditions if one.coded is not None]
    if not coded or not patients:
        return list(conditions), None
    lead = None
    if len(patients) == 1:
        for one in coded:
            assert one.coded is not None
            if len(one.coded.values) == 1:
                lead = Lead(one.coded.param + BY_DATE, f"{patients[0]}|{one.coded.values[0][1]}")
                break
    found = [_looked_up(one, patients) if one.coded is not None else one for one in conditions]
    return (found if lead is not None else [*found, _listed(coded[0], patients)]), lead


def _looked_up(condition: Condition, patients: Sequence[int]) -> Condition:
    """The condition as a check of one row: by system, code and number, or by patient, code and date."""
    assert condition.coded is not None
    param, checks, values = condition.coded.param, [], []
    for system, code in condition.coded.values:
        if system is not None:
            checks.append(_PLAIN)
            values += [param, code, system]
        else:
            marks = ",".join("?" * len(patients))
            checks.append(
                f"EXISTS (SELECT 1 FROM token_index t WHERE t.param = ? AND t.value IN ({marks})"  # noqa: S608 - our names
                " AND t.system = r.sort_date AND t.resource_id = r.id)"
            )
            values += [param + BY_DATE, *(f"{patient}|{code}" for patient in patients)]
    return replace(condition, sql=f"({' OR '.join(checks)})", values=tuple(values), coded=None)


def _listed(condition: Condition, patients: Sequence[int]) -> Condition:
    assert condition.coded is not None
    codes = dict.fromkeys(code for _, code in condition.coded.values)
    values = [f"{patient}|{code}" for patient in patients for code in codes]
    marks = ",".join("?" * len(values))
    sql = f"r.id IN (SELECT d.resource_id FROM token_index d WHERE d.param = ? AND d.value IN ({marks}))"  # noqa: S608 - our names
    return Condition(sql, (condition.coded.param + BY_DATE, *values), narrow=True)
