"""What the ledger API, the console and the command line read. Shapes are those of the ledger API, JSON-ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from hub.ledger.holds import held, holds_of
from hub.ledger.instants import instant
from hub.model.states import DeliveryState, MessageState
from hub.model.uids import uid_number, uid_text
from hub.store import Transaction

Json = dict[str, Any]

_MESSAGE = (
    "m.id, m.source, m.control_id, m.type, m.state, m.received_at, m.size, m.sha256, m.ack_code, m.ack_error, m.ack_state, "
    "m.findings, m.sending_app, m.connection, m.patient_id, m.routed_at, m.charset, m.format"
)


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Criteria of a list; empty ones do not filter. `since` and `until` are UTC microseconds, `after` a cursor."""

    control_id: str = ""
    source: str = ""
    type: str = ""
    state: MessageState | None = None
    patient_id: int | None = None
    since: int = 0
    until: int = 0
    after: int | None = None
    limit: int = 50


def find_messages(tx: Transaction, wanted: MessageFilter) -> Json:
    """One page, newest first: `{"items": […], "after": cursor or null}`."""
    where, values = ["1 = 1"], list[Any]()
    for column, value in (("m.source", wanted.source), ("m.type", wanted.type), ("m.control_id", wanted.control_id)):
        if value:
            where.append(f"{column} = ?")
            values.append(value)
    if wanted.state is not None:
        where.append("m.state = ?")
        values.append(wanted.state.value)
        if wanted.state is not MessageState.DONE:
            where.append("m.state <> 'DONE'")  # lets the partial index of unfinished messages serve
    if wanted.patient_id is not None:
        where.append("m.patient_id = ?")
        values.append(wanted.patient_id)
    if wanted.since:
        where.append("m.id >= ?")
        values.append(_first_id_at(wanted.since))
    if wanted.until:
        where.append("m.id < ?")
        values.append(_first_id_at(wanted.until))
    if wanted.after is not None:
        where.append("m.id < ?")
        values.append(wanted.after)
    limit = max(1, min(500, wanted.limit))
    if wanted.control_id or wanted.type:
        # routed messages through the search index, the few that are not routed yet through the index of unfinished ones
        routed = tx.rows(_select([*where, "m.routed_at IS NOT NULL"]), *values, limit + 1)
        unrouted = tx.rows(_select([*where, "m.routed_at IS NULL", "m.state <> 'DONE'"]), *values, limit + 1)
        rows = sorted([*routed, *unrouted], key=lambda row: -int(row[0]))[: limit + 1]
    else:
        rows = tx.rows(_select(where), *values, limit + 1)
    more = len(rows) > limit
    rows = rows[:limit]
    return {"items": _with_deliveries(tx, rows), "after": str(rows[-1][0]) if more else None}


def _select(where: Sequence[str]) -> str:
    return f"SELECT {_MESSAGE} FROM message m WHERE {' AND '.join(where)} ORDER BY m.id DESC LIMIT ?"  # noqa: S608 - our columns


def _first_id_at(us: int) -> int:
    return min(us // 1000 << 16, (1 << 63) - 1)


def show_message(tx: Transaction, uid: str) -> Json | None:
    """One element of `items`, with attempts; None when there is no such message."""
    try:
        number = uid_number(uid)
    except ValueError:
        return None
    rows = tx.rows(f"SELECT {_MESSAGE} FROM message m WHERE m.id = ?", number)  # noqa: S608 - our columns
    if not rows:
        return None
    found = _with_deliveries(tx, rows)[0]
    found["holds"] = holds_of(tx, number) if found["held"] else []
    for delivery in found["deliveries"]:
        delivery["attempt_list"] = [
            {
                "n": n,
                "started_at": instant(started),
                "ended_at": instant(ended),
                "outcome": outcome,
                "error": error,
                "answer_size": len(answer or b""),
            }
            for n, started, ended, outcome, error, answer in tx.rows(
                "SELECT n, started_at, ended_at, outcome, error, answer FROM attempt WHERE delivery_id = ? ORDER BY n",
                uid_number(delivery["id"]),
            )
        ]
        lane = tx.row("SELECT key, not_before, owner, blocked_reason FROM lane WHERE key = ?", delivery["lane"])
        delivery["lane_state"] = _lane(lane) if lane is not None else None
    return found


def attempt_answer(tx: Transaction, delivery_uid: str, n: int) -> bytes:
    """What the peer said at one attempt, at most 4 KiB."""
    row = tx.row("SELECT answer FROM attempt WHERE delivery_id = ? AND n = ?", uid_number(delivery_uid), n)
    return bytes(row[0]) if row is not None and row[0] is not None else b""


def _with_deliveries(tx: Transaction, rows: Sequence[tuple[Any, ...]]) -> list[Json]:
    deliveries: dict[int, list[Json]] = {row[0]: [] for row in rows}
    receipts: dict[int, list[Json]] = {}
    if rows:
        found = tx.rows_in(
            "SELECT id, message_id, destination, state, attempts, last_error, external_ref, lane, replay_of, updated_at, "
            "mapping, replay FROM delivery WHERE message_id IN ({keys}) ORDER BY message_id, id",
            list(deliveries),
        )
        for delivery_id, kind, positive, at, code, detail in (
            tx.rows_in(
                "SELECT delivery_id, kind, positive, at, code, detail FROM receipt WHERE delivery_id IN ({keys}) "
                "ORDER BY delivery_id, n",
                [row[0] for row in found],
            )
            if found
            else ()
        ):
            receipts.setdefault(delivery_id, []).append(
                {"kind": kind, "positive": bool(positive), "at": instant(at), "code": code, "detail": detail}
            )
        for row in sorted(found, key=lambda row: int(row[0])):
            deliveries[row[1]].append(_delivery(row, receipts.get(row[0], [])))
    kept = held(tx, [(row[0], row[1], row[14]) for row in rows])
    return [{**_message(row, deliveries[row[0]]), "held": row[0] in kept} for row in rows]


def _delivery(row: tuple[Any, ...], receipts: list[Json]) -> Json:
    return {
        "id": uid_text(row[0]),
        "destination": row[2],
        "state": row[3],
        "attempts": row[4],
        "last_error": row[5],
        "external_ref": row[6],
        "lane": row[7],
        "replay_of": uid_text(row[8]) if row[8] is not None else None,
        "updated_at": instant(row[9]),
        "mapping": row[10] or None,
        "receipts": receipts,
    }


def _message(row: tuple[Any, ...], deliveries: list[Json]) -> Json:
    return {
        "id": uid_text(row[0]),
        "source": row[1],
        "control_id": row[2],
        "type": row[3],
        "state": row[4],
        "received_at": instant(row[5]),
        "size": row[6],
        "sha256": row[7].hex(),
        "ack": {"code": row[8], "error": orjson.loads(row[9]) if row[9] else None, "state": row[10]},
        "findings": orjson.loads(row[11]) if row[11] else [],
        "sending_app": row[12],
        "connection": row[13],
        "patient": uid_text(row[14]) if row[14] is not None else None,
        "routed_at": instant(row[15]),
        "charset": row[16],
        "format": row[17],
        "deliveries": deliveries,
    }


def find_deliveries(
    tx: Transaction, state: DeliveryState | None, *, destination: str = "", after: int | None = None, limit: int = 50
) -> Json:
    """One page of deliveries, newest first, each with its message's id, source, type and control id."""
    where, values = ["1 = 1"], list[Any]()
    if state is not None:
        where.append("d.state = ?")
        values.append(state.value)
        if state is not DeliveryState.DELIVERED:
            where.append("d.state <> 'DELIVERED'")
    if destination:
        where.append("d.destination = ?")
        values.append(destination)
    if after is not None:
        where.append("d.id < ?")
        values.append(after)
    limit = max(1, min(500, limit))
    rows = tx.rows(
        "SELECT d.id, d.message_id, d.destination, d.state, d.attempts, d.last_error, d.external_ref, d.lane, d.replay_of, "  # noqa: S608
        "d.updated_at, d.mapping, d.replay, m.source, m.type, m.control_id FROM delivery d JOIN message m ON m.id = d.message_id "
        f"WHERE {' AND '.join(where)} ORDER BY d.id DESC LIMIT ?",
        *values,
        limit + 1,
    )
    more, rows = len(rows) > limit, rows[:limit]
    items = [
        {**_delivery(row, []), "message": {"id": uid_text(row[1]), "source": row[12], "type": row[13], "control_id": row[14]}}
        for row in rows
    ]
    return {"items": items, "after": str(rows[-1][0]) if more else None}


def find_lanes(tx: Transaction, *, blocked: bool | None = None, limit: int = 200) -> Json:
    """Lanes that hold open deliveries, with what their head waits for; `blocked` keeps those held or delayed."""
    where = {
        None: "1 = 1",
        True: "(blocked_reason IS NOT NULL OR not_before > 0)",
        False: "blocked_reason IS NULL AND not_before = 0",
    }[blocked]
    rows = tx.rows(
        f"SELECT key, not_before, owner, blocked_reason, destination, head FROM lane WHERE {where} ORDER BY head LIMIT ?",  # noqa: S608
        max(1, min(500, limit)),
    )
    items = []
    for row in rows:
        depth = tx.row(
            "SELECT count(*), min(id) FROM (SELECT id FROM delivery WHERE lane = ? AND state IN "
            "('QUEUED','WAITING','SENDING','UNSURE') LIMIT 10000) t",
            row[0],
        )
        assert depth is not None
        items.append(
            {
                **_lane(row[:4]),
                "destination": row[4],
                "depth": depth[0],
                "head": uid_text(depth[1]) if depth[1] is not None else None,
                "head_at": instant((depth[1] >> 16) * 1000) if depth[1] is not None else None,
            }
        )
    return {"items": items}


def _lane(row: tuple[Any, ...]) -> Json:
    return {
        "lane": row[0],
        "not_before": instant(row[1]) if row[1] else None,
        "owned": row[2] is not None,
        "blocked_reason": row[3],
    }


def counts(tx: Transaction) -> Json:
    """Unfinished messages by state, open deliveries by destination and state, age of the oldest lane, processes by role: for
    pages and metrics.

    Reads only the small indexes of what is not finished, never all messages.
    """
    lanes = tx.rows("SELECT destination, count(*), min(head), count(blocked_reason) FROM lane GROUP BY destination")
    return {
        "messages": dict(tx.rows("SELECT state, count(*) FROM message WHERE state <> 'DONE' GROUP BY state")),
        "deliveries": [
            {"destination": destination, "state": state, "count": n}
            for destination, state, n in tx.rows(
                "SELECT destination, state, count(*) FROM delivery WHERE state <> 'DELIVERED' GROUP BY destination, state"
            )
        ],
        "lanes": [
            {"destination": destination, "count": n, "oldest_at": instant((head >> 16) * 1000), "blocked": int(blocked or 0)}
            for destination, n, head, blocked in lanes
        ],
        "members": dict(tx.rows("SELECT role, count(*) FROM member GROUP BY role")),
    }
