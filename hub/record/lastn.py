"""The newest observations of each code, without a look at the older ones: the distinct codes are steps in the rows by date.

Standard: FHIR R4 Observation/$lastn (patient, category, code, max).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from hub.model.record_change import Json
from hub.record.by_date import Lead
from hub.record.clinical_tokens import BY_DATE
from hub.record.conditions import alternatives
from hub.record.definitions import patient_names
from hub.record.filing import Stored
from hub.record.masking import Viewer
from hub.record.merging import root_of
from hub.record.page import Page, SearchRefused
from hub.record.paging import rows_of
from hub.record.questions import Question, question
from hub.record.showing import shown
from hub.store import Transaction

MAX_OF_A_CODE, MAX_CODES, MAX_ENTRIES, FEW = 100, 2_000, 5_000, 1_000
_KIND, _PARAM = "Observation", "Observation.code" + BY_DATE
_CODES = (
    "WITH RECURSIVE c(v) AS (SELECT min(value) FROM token_index WHERE param = ? AND value > ? AND value < ?"
    " UNION ALL SELECT (SELECT min(t.value) FROM token_index t WHERE t.param = ? AND t.value > c.v AND t.value < ?)"
    " FROM c WHERE c.v IS NOT NULL) SELECT v FROM c WHERE v IS NOT NULL LIMIT ?"
)


def lastn(tx: Transaction, params: Sequence[tuple[str, str]], viewer: Viewer) -> Page:
    """The newest `max` (1) Observations of each code of one patient, newest first within their code.

    An Observation with several codings counts under its first. The other parameters are those of a search of Observations.

    Raises:
        SearchRefused: no patient or more than one, a wrong `max`, or what a search refuses.
    """
    most = _most(params)
    asked = [(name, value) for name, value in params if name not in ("max", "_sort", "after")]
    codes = [one for name, value in asked if name == "code" for one in alternatives(name, value)]
    rest = [(name, value) for name, value in asked if name != "code"]
    found = question(tx, _KIND, rest, viewer)
    if sum(name.partition(".")[0] in patient_names(_KIND) for name, _ in rest) != 1:
        raise SearchRefused("patient", "one patient is needed")
    if len({root_of(tx, one) for one in found.patients}) > 1:
        raise SearchRefused("patient", "one patient at a time")
    newest: dict[int, Stored] = {}
    if found.lead is not None and not codes:  # a category with rows by date: when they are few, all codes of it are among them
        rows, more = rows_of(tx, found, count=FEW)
        if more is None:
            return Page(tuple(shown(tx, _grouped(rows, most), viewer)), unknown=found.unknown)
    for one in _questions(tx, found, rest, codes, viewer):
        rows, _ = rows_of(tx, one, count=most)
        newest.update((row.id, row) for row in rows)
    return Page(tuple(shown(tx, _grouped(newest.values(), most)[:MAX_ENTRIES], viewer)), unknown=found.unknown)


def _questions(
    tx: Transaction, found: Question, rest: Sequence[tuple[str, str]], codes: Sequence[str], viewer: Viewer
) -> Iterator[Question]:
    """One question for each code."""
    if codes:
        yield from (question(tx, _KIND, [*rest, ("code", code)], viewer) for code in codes)
        return
    for number in found.patients:
        for (value,) in tx.rows(_CODES, _PARAM, f"{number}|", f"{number}}}", _PARAM, f"{number}}}", MAX_CODES):
            yield replace(found, lead=Lead(_PARAM, value))


def _most(params: Sequence[tuple[str, str]]) -> int:
    text = dict(params).get("max", "1")
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 5 and 0 < int(text) <= MAX_OF_A_CODE):
        raise SearchRefused("max", f"a number from 1 to {MAX_OF_A_CODE}")
    return int(text)


def _grouped(rows: Iterable[Stored], most: int) -> list[Stored]:
    """The newest of each first coding; the code with the newest of all comes first."""
    groups: dict[tuple[str, str], list[Stored]] = {}
    for one in sorted(rows, key=lambda row: (row.sort_date, row.id), reverse=True):
        coding: Json = next(iter(one.json.get("code", {}).get("coding", ())), {})
        groups.setdefault((str(coding.get("system", "")), str(coding.get("code", ""))), []).append(one)
    return [one for group in groups.values() for one in group[:most]]
