"""A search as it is asked: which conditions, in which order, what is left out, what was not understood.

Standard: FHIR R4 search; result parameters _sort, _lastUpdated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.record.body_filters import Keep
from hub.record.by_date import Lead, of_patients
from hub.record.conditions import Condition
from hub.record.definitions import PARAMETERS
from hub.record.masking import Viewer, visible
from hub.record.merging import same_person
from hub.record.page import SearchRefused
from hub.record.referring import as_condition
from hub.record.rendering import ENTERED_IN_ERROR
from hub.record.search_parameters import known_types, reader_of
from hub.store import Transaction

MAX_OWNERS = 500
ABOUT_THE_ANSWER = frozenset(
    {"_count", "_total", "_format", "_pretty", "_summary", "_elements", "_sort", "_include", "_revinclude", "after", "_after"}
)
_ALSO_REPLACED = frozenset({"_id", "active"})  # who asks so, means the Patient that was merged into another too
# The parameter that asks for what was withdrawn too, where it is not `status`; "" = none does.
_STATE = {
    "Condition": "verification-status",
    "AllergyIntolerance": "verification-status",
    "Goal": "lifecycle-status",
    "ImmunizationRecommendation": "",
}
_ALSO_LEFT_OUT = {"Observation": ("cancelled",), "DiagnosticReport": ("cancelled",)}
# Dates that lists are ordered by, though the parameter itself is looked up in the body.
_DATED_BY = {"MedicationDispense": "whenhandedover", "Condition": "onset-date", "AllergyIntolerance": "date"}


@dataclass(frozen=True, slots=True)
class Order:
    """By `date` (of the resource), `updated` (time of the last change) or `filed` (time of filing)."""

    by: str = "date"
    descending: bool = True


@dataclass(frozen=True, slots=True)
class Question:
    """A search of one type: SQL over `resource r`, and what of its rows is meant.

    `patients` are the numbers of those whose the rows are, where that was asked.
    """

    kind: str
    where: str
    values: tuple[object, ...]
    order: Order
    keep: tuple[Keep, ...] = ()
    narrow: bool = False
    lead: Lead | None = None
    patients: tuple[int, ...] = ()
    unknown: tuple[str, ...] = ()


def question(tx: Transaction, kind: str, params: Sequence[tuple[str, str]], viewer: Viewer) -> Question:
    """What `params` ask for.

    Raises:
        SearchRefused: a known parameter with a value or a modifier that it does not take, or a type without search.
    """
    if kind not in known_types():
        raise SearchRefused("type")
    asked = [(name, value) for name, value in params if name.partition(":")[0] not in ABOUT_THE_ANSWER]
    conditions, unknown = _conditions(kind, asked)
    conditions = [as_condition(tx, one, one.refers, viewer) if one.refers is not None else one for one in conditions]
    conditions = [_of_the_person(tx, one) for one in conditions]
    narrow = any(one.narrow for one in conditions)
    order, understood = _order(kind, params, narrow=narrow)
    patients = next((one.values for one in conditions if one.is_owner), ())
    conditions, lead = of_patients(tx, conditions, patients, ordered=order.by == "date")
    narrow = narrow or any(one.narrow for one in conditions)
    for one in conditions:
        if one.keep is not None and not narrow:
            raise SearchRefused(one.name, "search it together with patient or another number")
    hiding = visible(viewer)
    return Question(
        kind,
        " AND ".join([hiding.sql, *(one.sql for one in conditions)]),
        (*hiding.values, *(value for one in conditions for value in one.values)),
        order,
        tuple(one.keep for one in conditions if one.keep is not None),
        narrow,
        lead,
        patients,
        unknown if understood else (*unknown, "_sort"),
    )


def sort_names(kind: str) -> tuple[str, ...]:
    """What `_sort` takes, each with and without a minus."""
    named = [one.name for one in PARAMETERS.get(kind, {}).values() if one.kind == "sorted"]
    return tuple(dict.fromkeys([*named, *filter(None, [_DATED_BY.get(kind)]), "_lastUpdated"]))


def _order(kind: str, params: Sequence[tuple[str, str]], *, narrow: bool) -> tuple[Order, bool]:
    """The order, and whether what was asked could be done: all resources of a type are not ordered by their dates."""
    wanted = [value for name, value in params if name == "_sort"]
    name = wanted[0].removeprefix("-") if wanted else ""
    descending = not wanted or wanted[0].startswith("-")
    if name == "_lastUpdated" and len(wanted) == 1:
        return Order("updated", descending), True
    by_date = name == "date" or name in sort_names(kind)
    if narrow:
        return (Order("date", descending), True) if by_date and len(wanted) == 1 else (Order(), not wanted)
    changed = any(name.partition(":")[0] == "_lastUpdated" for name, _ in params)
    return Order("updated" if changed else "filed"), not wanted


def _of_the_person(tx: Transaction, condition: Condition) -> Condition:
    """The condition on patients with every number of each person: what was filed before a merge is found under either."""
    if not condition.owners:
        return condition
    everyone = same_person(tx, [number for (number,) in tx.rows(f"{condition.owners} LIMIT {MAX_OWNERS}", *condition.values)])
    marks = ",".join("?" * max(1, len(everyone)))
    return Condition(f"r.patient_id IN ({marks})", tuple(everyone or [-1]), narrow=True, is_owner=True)


def _conditions(kind: str, asked: Sequence[tuple[str, str]]) -> tuple[list[Condition], tuple[str, ...]]:
    conditions, unknown = [], []
    for name, value in asked:
        reader = reader_of(kind, name)
        if reader is None:
            unknown.append(name)
        else:
            conditions.append(reader(name, value))
    if kind == "Patient":
        if not any(name in _ALSO_REPLACED for name, _ in asked):
            conditions.append(Condition("r.status <> 'replaced'", ()))
    elif not any(name == _STATE.get(kind, "status") for name, _ in asked):
        conditions += [Condition("r.status <> ?", (one,)) for one in (ENTERED_IN_ERROR, *_ALSO_LEFT_OUT.get(kind, ()))]
    return conditions, tuple(dict.fromkeys(unknown))
