"""One page of a search, and how many there are: rows by key, never by offset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hub.record.filing import COLUMNS, Stored
from hub.record.page import SearchRefused
from hub.record.questions import Question
from hub.store import Transaction

_LAST = 1 << 62
_AT_ONCE = 512


def rows_of(tx: Transaction, asked: Question, *, count: int, after: str = "") -> tuple[list[Stored], str | None]:
    """The first `count` rows after that cursor, and the cursor behind them when there are more.

    Raises:
        SearchRefused: a wrong cursor.
    """
    found: list[Stored] = []
    for one in _meant(tx, asked, after, count + 1):
        found.append(one)
        if len(found) > count:
            break
    return found[:count], _cursor_behind(asked, found[count - 1]) if len(found) > count else None


def total_of(tx: Transaction, asked: Question) -> int:
    """How many rows are meant."""
    if asked.keep:
        return sum(1 for _ in _meant(tx, asked, "", _AT_ONCE))
    sql = f"SELECT count(*) FROM resource r WHERE r.type = ? AND {asked.where}"  # noqa: S608 - our names
    row = tx.row(sql, asked.kind, *asked.values)
    return int(row[0]) if row is not None else 0


def _meant(tx: Transaction, asked: Question, after: str, at_once: int) -> Iterator[Stored]:
    """The rows in their order; what bodies tell is looked up here, in slices."""
    size = at_once if not asked.keep else max(64, min(4 * at_once, _AT_ONCE))
    while True:
        rows = _slice(tx, asked, after, size)
        for one in rows:
            if all(keep(one.json) for keep in asked.keep):
                yield one
        if len(rows) < size:
            return
        after, size = _cursor_behind(asked, rows[-1]), _AT_ONCE


def _slice(tx: Transaction, asked: Question, after: str, count: int) -> list[Stored]:
    value, number = _cursor(asked, after)
    first: tuple[str, ...] = ()
    if asked.order.by == "filed":
        # `|| ''` keeps the planner on the primary key, which is already in the order asked for.
        source, column, key = "resource r WHERE r.type || '' = ?", "", "r.id"
        where = asked.where
    elif asked.lead is not None:
        source = "token_index d CROSS JOIN resource r WHERE d.param = ? AND d.value = ? AND r.id = d.resource_id AND r.type = ?"
        column, key = "d.system", "d.resource_id"
        first = (asked.lead.param, asked.lead.value)
        where = asked.where.replace("r.sort_date", "d.system")
    else:
        column, kind = _ordering(asked)
        source, key, where = f"resource r WHERE {kind} = ?", "r.id", asked.where
    way, beyond = ("DESC", "<") if asked.order.descending else ("ASC", ">")
    behind, place = "", tuple[Any, ...]()
    if after and column:
        # Between one patient's rows this is a range on the index (patient, type, date, id).
        behind, place = f"AND {column} {beyond}= ? AND ({column} {beyond} ? OR {key} {beyond} ?)", (value, value, number)
    elif not column:
        behind, place = f"AND {key} {beyond} ?", (number,)
    by = f"{column} {way}, {key} {way}" if column else f"{key} {way}"
    sql = f"SELECT {COLUMNS} FROM {source} AND {where} {behind} ORDER BY {by} LIMIT ?"  # noqa: S608 - our names
    return [Stored(*row) for row in tx.rows(sql, *first, asked.kind, *asked.values, *place, count)]


def _ordering(asked: Question) -> tuple[str, str]:
    """The column that orders the rows, and how the type is compared so that the planner takes the right index."""
    if asked.order.by == "date":
        return "r.sort_date", "r.type"
    if asked.narrow:
        return "(r.updated_at + 0)", "r.type"  # a patient's rows are few: sort them
    return "r.updated_at", "r.type || ''"  # along the index (updated_at, id)


def _cursor_behind(asked: Question, one: Stored) -> str:
    value = {"date": one.sort_date, "updated": str(one.updated_at), "filed": ""}[asked.order.by]
    return f"{value}~{one.id}"


def _cursor(asked: Question, after: str) -> tuple[Any, int]:
    if not after:
        return "", _LAST
    value, tilde, number = after.rpartition("~")
    if not tilde or not (number.isascii() and number.isdigit() and len(number) < 20) or len(value) > 20 or "\0" in value:
        raise SearchRefused("after")
    if asked.order.by != "updated":
        return value, min(int(number), _LAST)
    if not (value.isascii() and value.isdigit()):
        raise SearchRefused("after")
    return min(int(value), _LAST), min(int(number), _LAST)
