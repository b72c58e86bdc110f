"""Reading the record: read, version read, history and search, each as one reader (`Viewer`) may see it.

What is hidden from the reader is not there: None, not in a page, not in a count.
Standard: FHIR R4 RESTful API; IHE MHD ITI-67; CI-SIS PDSm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hub.model.record_change import Json
from hub.record.binaries import BinaryContent, read_binary
from hub.record.by_date import Lead, of_patients
from hub.record.filing import COLUMNS, Stored
from hub.record.masking import Viewer, visible
from hub.record.merging import roots_of, same_person
from hub.record.page import Page, SearchRefused, cut
from hub.record.provenance import read_provenance, search_provenance
from hub.record.references import resolve
from hub.record.rendering import number_of, render
from hub.record.search_parameters import Condition, known_types, reader_of
from hub.store import Transaction

__all__ = ["MAX_COUNT", "BinaryContent", "Page", "SearchRefused", "Viewer", "history", "read", "read_binary", "search", "vread"]

MAX_COUNT = 500
# Parameters about the answer and not about what is searched.
_ABOUT_THE_ANSWER = frozenset({"_count", "_total", "_format", "_pretty", "_summary", "after", "_after"})
_NEWEST_FIRST = frozenset(("_sort", name) for name in ("-date", "-authored", "-authored-on", "-collected"))
_LAST = 1 << 62
# What a search leaves out unless `status` is asked for.
_LEFT_OUT = {
    "DocumentReference": ("entered-in-error",),
    "Observation": ("entered-in-error", "cancelled"),
    "DiagnosticReport": ("entered-in-error", "cancelled"),
    **dict.fromkeys(("ServiceRequest", "Task", "Specimen", "Appointment", "Consent"), ("entered-in-error",)),
}
MAX_OWNERS = 500
_ALSO_REPLACED = frozenset({"_id", "active"})  # who asks so, means the Patient that was merged into another too


def read(tx: Transaction, kind: str, logical_id: str, *, viewer: Viewer) -> Json | None:
    """The current version of one resource."""
    if kind == "Provenance":
        return read_provenance(tx, logical_id, viewer=viewer)
    stored = _current(tx, kind, logical_id, viewer)
    return None if stored is None else _rendered(tx, [stored], viewer)[0]


def vread(tx: Transaction, kind: str, logical_id: str, version: str, *, viewer: Viewer) -> Json | None:
    """One version; an earlier one is seen by who sees the current one and may see that one."""
    if kind == "Provenance":
        return read_provenance(tx, logical_id, viewer=viewer) if version == "1" else None
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        return None
    found = _versions(tx, kind, logical_id, viewer, sql="AND x.version = ?", values=(int(version),))
    return found[0] if found else None


def history(tx: Transaction, kind: str, logical_id: str, *, viewer: Viewer, count: int = 50, after: str = "") -> Page | None:
    """The versions of one resource, newest first; None when it is not there. `after` is a version number."""
    if after and not (after.isascii() and after.isdigit() and len(after) < 10):
        raise SearchRefused("after")
    if kind == "Provenance":
        one = read_provenance(tx, logical_id, viewer=viewer)
        return None if one is None else Page((one,), total=1)
    count = max(1, min(count, MAX_COUNT))
    if _current(tx, kind, logical_id, viewer) is None:
        return None
    sql, values = ("AND x.version < ?", (int(after),)) if after else ("", ())
    found = _versions(tx, kind, logical_id, viewer, sql=sql, values=values, limit=count + 1)
    return cut(found, count, lambda last: str(last["meta"]["versionId"]))


def search(
    tx: Transaction, kind: str, params: Sequence[tuple[str, str]], *, viewer: Viewer, count: int = 20, after: str = ""
) -> Page:
    """One page of a search. Repeated parameters narrow it, commas widen it.

    Newest first by the date of the resource when few are left (a patient, a number, a name), else by the time of filing.
    `_total=accurate` or `_summary=count` (or `count` 0) asks for the total; `count` is cut at 500. What was entered in error,
    and results that were cancelled, are left out unless `status` is asked for; so are Patients that were merged into another,
    unless `_id` or `active` is.

    Raises:
        SearchRefused: a known parameter with a value that it does not take, a wrong cursor, or a type without search.
    """
    count = max(0, min(count, MAX_COUNT))
    about = {name: value for name, value in params if name in _ABOUT_THE_ANSWER}
    asked = [(name, value) for name, value in params if name not in _ABOUT_THE_ANSWER and (name, value) not in _NEWEST_FIRST]
    counted = count == 0 or about.get("_total") == "accurate" or about.get("_summary") == "count"
    if kind == "Provenance":
        targets = [value for name, value in asked if name == "target"]
        page = search_provenance(tx, targets, viewer=viewer, count=count, after=after, counted=counted)
        return Page(page.entries, page.after, page.total, tuple(sorted({name for name, _ in asked if name != "target"})))
    if kind not in known_types():
        raise SearchRefused("type")
    conditions, unknown = _conditions(kind, asked)
    conditions = [_of_the_person(tx, one) for one in conditions]
    conditions, lead = of_patients(conditions, next((one.values for one in conditions if one.is_owner), ()))
    narrow = any(one.narrow for one in conditions)
    hiding = visible(viewer)
    where = " AND ".join([hiding.sql, *(one.sql for one in conditions)])
    values = (*hiding.values, *(value for one in conditions for value in one.values))
    total = None
    if counted:
        row = tx.row(f"SELECT count(*) FROM resource r WHERE r.type = ? AND {where}", kind, *values)  # noqa: S608
        total = int(row[0]) if row is not None else 0
    if count == 0 or about.get("_summary") == "count":
        return Page((), None, total, unknown)
    found = _page(tx, kind, where, values, narrow=narrow, count=count, after=after, lead=lead)
    last = f"{found[count - 1].sort_date if narrow else ''}~{found[count - 1].id}" if len(found) > count else None
    return Page(tuple(_rendered(tx, found[:count], viewer)), last, total, unknown)


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
    if kind == "Patient" and not any(name in _ALSO_REPLACED for name, _ in asked):
        conditions.append(Condition("r.status <> 'replaced'", ()))
    if kind in _LEFT_OUT and not any(name == "status" for name, _ in asked):
        conditions += [Condition("r.status <> ?", (status,)) for status in _LEFT_OUT[kind]]
    return conditions, tuple(dict.fromkeys(unknown))


def _page(
    tx: Transaction,
    kind: str,
    where: str,
    values: tuple[object, ...],
    *,
    narrow: bool,
    count: int,
    after: str,
    lead: Lead | None = None,
) -> list[Stored]:
    date, number = _cursor(after)
    if lead is not None:
        place = "AND (d.system < ? OR (d.system = ? AND d.resource_id < ?))" if after else ""
        rows = tx.rows(
            f"SELECT {COLUMNS} FROM token_index d CROSS JOIN resource r"  # noqa: S608 - our names
            f" WHERE d.param = ? AND d.value = ? AND r.id = d.resource_id AND r.type = ?"
            f" AND {where.replace('r.sort_date', 'd.system')} {place} ORDER BY d.system DESC, d.resource_id DESC LIMIT ?",
            lead.param,
            lead.value,
            kind,
            *values,
            *((date, date, number) if after else ()),
            count + 1,
        )
    elif narrow:
        # The comparison with the cursor is a range on the index (patient, type, date, id).
        place = "AND (r.sort_date < ? OR (r.sort_date = ? AND r.id < ?))" if after else ""
        rows = tx.rows(
            f"SELECT {COLUMNS} FROM resource r WHERE r.type = ? AND {where} {place} ORDER BY r.sort_date DESC, r.id DESC LIMIT ?",  # noqa: S608
            kind,
            *values,
            *((date, date, number) if after else ()),
            count + 1,
        )
    else:
        # `|| ''` keeps the planner on the primary key, which is already in the order asked for.
        rows = tx.rows(
            f"SELECT {COLUMNS} FROM resource r WHERE r.id < ? AND r.type || '' = ? AND {where} ORDER BY r.id DESC LIMIT ?",  # noqa: S608
            number,
            kind,
            *values,
            count + 1,
        )
    return [Stored(*row) for row in rows]


def _cursor(after: str) -> tuple[str, int]:
    if not after:
        return "", _LAST
    date, tilde, number = after.rpartition("~")
    if not tilde or not (number.isascii() and number.isdigit() and len(number) < 20) or len(date) > 20 or "\0" in date:
        raise SearchRefused("after")
    return date, min(int(number), _LAST)


def _current(tx: Transaction, kind: str, logical_id: str, viewer: Viewer) -> Stored | None:
    number = number_of(logical_id)
    if number is None:
        return None
    condition = visible(viewer)
    row = tx.row(
        f"SELECT {COLUMNS} FROM resource r WHERE r.id = ? AND r.type = ? AND {condition.sql}",  # noqa: S608 - our names
        number,
        kind,
        *condition.values,
    )
    return None if row is None else Stored(*row)


def _versions(
    tx: Transaction, kind: str, logical_id: str, viewer: Viewer, *, sql: str, values: tuple[int, ...], limit: int = 1
) -> list[Json]:
    number = number_of(logical_id)
    if number is None:
        return []
    now, then = visible(viewer), visible(viewer, mask="x.mask")
    rows = tx.rows(
        "SELECT x.version, r.patient_id, x.status, x.mask, x.updated_at, x.body FROM ("  # noqa: S608 - our names
        "SELECT id, version, status, mask, updated_at, body FROM resource WHERE id = ?"
        " UNION ALL SELECT id, version, status, mask, updated_at, body FROM resource_version WHERE id = ?"
        f") x JOIN resource r ON r.id = x.id WHERE r.type = ? AND {now.sql} AND {then.sql} {sql} ORDER BY x.version DESC LIMIT ?",
        number,
        number,
        kind,
        *now.values,
        *then.values,
        *values,
        limit,
    )
    roots = roots_of(tx, {patient_id or 0 for _, patient_id, *_ in rows})
    found = [
        render(
            kind,
            number,
            version=version,
            patient_id=roots.get(patient_id, patient_id),
            status=status,
            mask=mask,
            updated_at=updated_at,
            body=body,
        )
        for version, patient_id, status, mask, updated_at, body in rows
    ]
    resolve(tx, [(one, row[1]) for one, row in zip(found, rows, strict=True)], viewer)
    return found


def _rendered(tx: Transaction, stored: Sequence[Stored], viewer: Viewer) -> list[Json]:
    """As FHIR JSON: under the number that stands for the person, references with their addresses."""
    roots = roots_of(tx, {one.patient_id or 0 for one in stored})
    found = [_one_rendered(one, roots) for one in stored]
    resolve(tx, [(rendered, one.patient_id) for rendered, one in zip(found, stored, strict=True)], viewer)
    return found


def _one_rendered(one: Stored, roots: Mapping[int, int]) -> Json:
    return render(
        one.type,
        one.id,
        version=one.version,
        patient_id=roots.get(one.patient_id or 0, one.patient_id),
        status=one.status,
        mask=one.mask,
        updated_at=one.updated_at,
        body=one.body,
    )
