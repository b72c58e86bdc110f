"""Coded parameters of a patient's resources, looked up by date: the newest results of one analysis are read without a look at
the patient's other ones.

One patient and one code lead the search (`Lead`): the rows of `token_index` stand in the order that is asked for. Several codes,
or several numbers of one person, are looked up as a list. What has no rows by date is checked while the patient's resources are
read in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hub.record.clinical_tokens import BY_DATE
from hub.record.conditions import Coded, Condition
from hub.store import Transaction

_PLAIN = "EXISTS (SELECT 1 FROM token_index t WHERE t.param = ? AND t.value = ? AND t.system = ? AND t.resource_id = r.id)"
_NEXT_SYSTEM = "SELECT min(system) FROM token_index WHERE param = ? AND value = ? AND system > ?"
_FIRST_SYSTEM = "SELECT min(system) FROM token_index WHERE param = ? AND value = ?"


@dataclass(frozen=True, slots=True)
class Lead:
    """The search rows that a search reads in their order: `param` and `value` of `token_index`."""

    param: str
    value: str


def of_patients(
    tx: Transaction, conditions: Sequence[Condition], patients: Sequence[int], *, ordered: bool = True
) -> tuple[list[Condition], Lead | None]:
    """The conditions of a search for these patients' resources, and what leads it, if anything does.

    `ordered`: the answer is ordered by date.
    """
    if not patients:
        return list(conditions), None
    dated = [one for one in conditions if one.coded is not None and one.coded.dated]
    lead = None
    if len(patients) == 1 and ordered:
        single = (one.coded for one in dated if one.coded is not None and len(one.coded.values) == 1)
        lead = next((Lead(one.param + BY_DATE, f"{patients[0]}|{one.values[0][1]}") for one in single), None)
    found = [_looked_up(tx, one, one.coded, patients) if one.coded is not None else one for one in conditions]
    return (found if lead is not None or not dated else [*found, _listed(dated[0], patients)]), lead


def _looked_up(tx: Transaction, condition: Condition, coded: Coded, patients: Sequence[int]) -> Condition:
    """The condition as a check of one row: by system, code and number, or by patient, code and date."""
    checks: list[str] = []
    values: list[object] = []
    for system, code in coded.values:
        if system is None and coded.dated:
            marks = ",".join("?" * len(patients))
            checks.append(
                f"EXISTS (SELECT 1 FROM token_index t WHERE t.param = ? AND t.value IN ({marks})"  # noqa: S608 - our names
                " AND t.system = r.sort_date AND t.resource_id = r.id)"
            )
            values += [coded.param + BY_DATE, *(f"{patient}|{code}" for patient in patients)]
            continue
        for one in [system] if system is not None else _systems(tx, coded.param, code):
            checks.append(_PLAIN)
            values += [coded.param, code, one]
    return replace(condition, sql=f"({' OR '.join(checks) or '1 = 0'})", values=tuple(values), coded=None)


def _systems(tx: Transaction, param: str, code: str) -> list[str]:
    """The systems under which a code was filed: few, each found by one step in the index."""
    found: list[str] = []
    row = tx.row(_FIRST_SYSTEM, param, code)
    while row is not None and row[0] is not None and len(found) < 50:
        found.append(str(row[0]))
        row = tx.row(_NEXT_SYSTEM, param, code, found[-1])
    return found


def _listed(condition: Condition, patients: Sequence[int]) -> Condition:
    assert condition.coded is not None
    codes = dict.fromkeys(code for _, code in condition.coded.values)
    values = [f"{patient}|{code}" for patient in patients for code in codes]
    marks = ",".join("?" * len(values))
    sql = f"r.id IN (SELECT d.resource_id FROM token_index d WHERE d.param = ? AND d.value IN ({marks}))"  # noqa: S608 - our names
    return Condition(sql, (condition.coded.param + BY_DATE, *values), narrow=True)
