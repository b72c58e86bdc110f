"""Reading the record: read, version read, history and search, each as one reader (`Viewer`) may see it.

What is hidden from the reader is not there: None, not in a page, not in a count, not among what is included.
Standard: FHIR R4 RESTful API; IHE MHD ITI-67; CI-SIS PDSm.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.model.record_change import Json
from hub.record.binaries import BinaryContent, read_binary
from hub.record.filing import Stored
from hub.record.including import included, includes_of
from hub.record.masking import Viewer, visible
from hub.record.merging import roots_of
from hub.record.page import Page, SearchRefused, cut
from hub.record.paging import rows_of, total_of
from hub.record.provenance import read_provenance, search_provenance
from hub.record.questions import ABOUT_THE_ANSWER, question
from hub.record.references import resolve
from hub.record.rendering import number_of, render
from hub.record.showing import seen, shown
from hub.store import Transaction

__all__ = ["MAX_COUNT", "BinaryContent", "Page", "SearchRefused", "Viewer", "history", "read", "read_binary", "search", "vread"]

MAX_COUNT = 500
TOTALS = frozenset({"none", "accurate", "estimate"})


def read(tx: Transaction, kind: str, logical_id: str, *, viewer: Viewer) -> Json | None:
    """The current version of one resource."""
    if kind == "Provenance":
        return read_provenance(tx, logical_id, viewer=viewer)
    stored = _current(tx, kind, logical_id, viewer)
    return None if stored is None else shown(tx, [stored], viewer)[0]


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

    Newest first by the date of the resource when few are left (a patient, a number, a name), else by the time of filing or of
    the last change; `_sort` changes that. `_total=accurate` (or `estimate`, which is counted too), `_summary=count` or `count` 0
    asks for the total; `count` is cut at 500. What was entered in error, and results that were cancelled, are left out unless
    their status is asked for; so are Patients that were merged into another, unless `_id` or `active` is.

    Raises:
        SearchRefused: a known parameter with a value or modifier that it does not take, a wrong cursor, or a type without search.
    """
    count = max(0, min(count, MAX_COUNT))
    about = {name: value for name, value in params if name in ABOUT_THE_ANSWER}
    if about.get("_total", "none") not in TOTALS:
        raise SearchRefused("_total")
    only_counted = count == 0 or about.get("_summary") == "count"
    counted = only_counted or about.get("_total") in ("accurate", "estimate")
    includes = includes_of(kind, params)
    if kind == "Provenance":
        page = _provenance(tx, params, viewer=viewer, count=count, after=after, counted=counted)
    else:
        asked = question(tx, kind, params, viewer)
        total = total_of(tx, asked) if counted else None
        if only_counted:
            return Page((), None, total, asked.unknown)
        found, last = rows_of(tx, asked, count=count, after=after)
        page = Page(tuple(shown(tx, found, viewer)), last, total, asked.unknown)
    if not includes or not page.entries:
        return page
    more, cut_off = included(tx, page.entries, includes, viewer)
    return Page(page.entries, page.after, page.total, page.unknown, tuple(more), cut_off)


def _provenance(
    tx: Transaction, params: Sequence[tuple[str, str]], *, viewer: Viewer, count: int, after: str, counted: bool
) -> Page:
    asked = [(name, value) for name, value in params if name not in ABOUT_THE_ANSWER]
    targets = [value for name, value in asked if name == "target"]
    page = search_provenance(tx, targets, viewer=viewer, count=count, after=after, counted=counted)
    return Page(page.entries, page.after, page.total, tuple(sorted({name for name, _ in asked if name != "target"})))


def _current(tx: Transaction, kind: str, logical_id: str, viewer: Viewer) -> Stored | None:
    number = number_of(logical_id)
    found = seen(tx, [number], viewer) if number is not None else []
    return found[0] if found and found[0].type == kind else None


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
