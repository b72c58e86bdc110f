"""Deliveries and their lanes: one lane a destination and patient, only its head may leave.

A lane row exists while it has open deliveries. Whoever works on it owns it under an epoch; a mark made under another epoch
is fenced off and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.model.states import DELIVERY_STATES, OPEN_DELIVERIES, DeliveryEvent, DeliveryState, advance
from hub.store import Transaction

_DELIVERY = (
    "id",
    "message_id",
    "destination",
    "mapping",
    "replay",
    "replay_of",
    "lane",
    "state",
    "attempts",
    "last_error",
    "updated_at",
    "document",
    "follows",
    "first_try_at",
)
_HEAD = (
    "SELECT d.id, d.message_id, d.destination, d.mapping, d.lane, d.state, d.attempts, d.first_try_at, d.replay, "
    "m.source, m.control_id, m.in_file, m.sha256, m.charset, d.follows FROM delivery d JOIN message m ON m.id = d.message_id "
    "WHERE d.lane = ? AND d.state IN ('QUEUED','WAITING','SENDING','UNSURE') ORDER BY d.id LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Claim:
    """Under what a worker takes lanes: its name, an epoch that only grows, and until when (UTC microseconds)."""

    owner: str
    epoch: int
    lease_until: int


@dataclass(slots=True)
class NewDelivery:
    """A delivery that routing makes. `blocked_reason` set: it waits, visibly; `refused` set: a rule ends it."""

    id: int
    message_id: int
    destination: str
    lane: str
    mapping: str = ""
    replay: int = 0
    replay_of: int | None = None
    blocked_reason: str = ""
    held: str = ""  # its destination is down: it waits, and its lane is free to be claimed later
    refused: str = ""
    delivered: bool = False  # its effect is part of this same transaction
    claim: Claim | None = None  # a worker takes it up at once, with its lane that was empty
    document: str | None = None  # id of the document that it carries
    follows: str | None = None  # id of the document that it replaces or deletes


@dataclass(frozen=True, slots=True)
class Head:
    """A delivery that a worker holds: the oldest open one of its lane, SENDING under `epoch`.

    `unsure` means that an earlier attempt was under way when its worker vanished.
    """

    id: int
    message_id: int
    destination: str
    mapping: str
    lane: str
    attempts: int
    first_try_at: int | None
    replay: int
    source: str
    control_id: str
    in_file: bool
    sha256: bytes
    charset: str
    epoch: int
    unsure: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """The oldest open delivery of a lane may not leave now, and the lane waits with it."""

    reason: str


def add(tx: Transaction, deliveries: Sequence[NewDelivery], now: int) -> None:
    """Write deliveries and make sure that the lane of each open one exists."""
    rows, lanes = [], {}
    for d in deliveries:
        state = DeliveryState.QUEUED
        if d.refused:
            state = advance(DELIVERY_STATES, state, DeliveryEvent.REFUSE)
        elif d.delivered:
            state = advance(DELIVERY_STATES, advance(DELIVERY_STATES, state, DeliveryEvent.CLAIM), DeliveryEvent.DELIVER)
        elif d.blocked_reason or d.held:
            state = advance(DELIVERY_STATES, state, DeliveryEvent.HOLD)
        elif d.claim is not None:
            state = advance(DELIVERY_STATES, state, DeliveryEvent.CLAIM)
        rows.append(
            (
                d.id,
                d.message_id,
                d.destination,
                d.mapping,
                d.replay,
                d.replay_of,
                d.lane,
                state.value,
                int(d.delivered),
                d.refused or d.blocked_reason or d.held or None,
                now,
                d.document,
                d.follows,
                now if d.claim is not None else None,
            )
        )
        if state in OPEN_DELIVERIES and d.lane not in lanes:
            owner, epoch, until = (d.claim.owner, d.claim.epoch, d.claim.lease_until) if d.claim is not None else (None, 0, None)
            lanes[d.lane] = (d.lane, d.destination, d.id, 0, owner, epoch, until, d.blocked_reason or None)
    tx.insert("delivery", _DELIVERY, rows)
    tx.insert(
        "lane",
        ("key", "destination", "head", "not_before", "owner", "epoch", "lease_until", "blocked_reason"),
        list(lanes.values()),
        suffix="ON CONFLICT (key) DO NOTHING",
    )


def occupied(tx: Transaction, lanes: Sequence[str]) -> set[str]:
    """Which of these lanes have open deliveries."""
    return {key for (key,) in tx.rows_in("SELECT key FROM lane WHERE key IN ({keys})", lanes)} if lanes else set()


def claim(tx: Transaction, destination: str, *, owner: str, epoch: int, now: int, lease_until: int, at_most: int) -> list[Head]:
    """Take up to `at_most` lanes that are due, oldest first, and mark their heads SENDING. Empty lanes vanish."""
    keys = [
        key
        for (key,) in tx.rows(
            "SELECT key FROM lane WHERE destination = ? AND owner IS NULL AND blocked_reason IS NULL AND not_before <= ? "
            "ORDER BY not_before, head LIMIT ?",
            destination,
            now,
            at_most,
        )
    ]
    if not keys:
        return []
    heads: list[Head] = []
    empty: list[str] = []
    held: list[tuple[str, str]] = []
    for key in keys:
        head = oldest_open(tx, key, epoch)
        if head is None:
            empty.append(key)
        elif isinstance(head, Held):
            held.append((key, head.reason))
        else:
            heads.append(head)
    tx.update("lane", "key", ("blocked_reason",), held)
    tx.update("lane", "key", ("owner", "epoch", "lease_until"), [(head.lane, owner, epoch, lease_until) for head in heads])
    tx.update(
        "delivery",
        "id",
        ("state", "updated_at", "first_try_at"),
        [(head.id, DeliveryState.SENDING.value, now, head.first_try_at or now) for head in heads],
    )
    tx.run_in("DELETE FROM lane WHERE key IN ({keys})", empty)
    return sorted(heads, key=lambda head: head.id)


def oldest_open(tx: Transaction, lane: str, epoch: int) -> Head | Held | None:
    """The head of a lane as a worker with `epoch` would hold it; None when nothing is open."""
    row = tx.row(_HEAD, lane)
    if row is None:
        return None
    if (
        row[14] is not None
        and tx.row(
            "SELECT 1 FROM delivery WHERE destination = ? AND document = ? AND state = 'DEAD' AND document IS NOT NULL LIMIT 1",
            row[2],
            row[14],
        )
        is not None
    ):
        return Held("the document that it replaces or deletes was given up")
    state = DeliveryState(row[5])
    unsure = state in (DeliveryState.SENDING, DeliveryState.UNSURE)
    if state is DeliveryState.SENDING:
        state = advance(DELIVERY_STATES, state, DeliveryEvent.NO_ANSWER)
    if state is DeliveryState.UNSURE:
        state = advance(DELIVERY_STATES, state, DeliveryEvent.RETRY)
    if state is DeliveryState.WAITING:
        state = advance(DELIVERY_STATES, state, DeliveryEvent.RELEASE)
    advance(DELIVERY_STATES, state, DeliveryEvent.CLAIM)
    return Head(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        row[6],
        row[7],
        row[8],
        row[9],
        row[10],
        bool(row[11]),
        row[12],
        row[13],
        epoch,
        unsure,
    )


def give_back(tx: Transaction, heads: Sequence[Head], *, owner: str, now: int) -> None:
    """Release lanes whose heads were claimed and never sent (drain, breaker)."""
    for head in heads:
        if tx.run(
            "UPDATE lane SET owner = NULL, lease_until = NULL WHERE key = ? AND owner = ? AND epoch = ?",
            head.lane,
            owner,
            head.epoch,
        ):
            tx.run("UPDATE delivery SET state = 'QUEUED', updated_at = ? WHERE id = ? AND state = 'SENDING'", now, head.id)


def renew(tx: Transaction, *, owner: str, lease_until: int, now: int) -> int:
    """Renew our leases and free those that ran out; how many lanes were freed."""
    tx.run("UPDATE lane SET lease_until = ? WHERE owner = ?", lease_until, owner)
    return tx.run("UPDATE lane SET owner = NULL, lease_until = NULL WHERE owner IS NOT NULL AND lease_until < ?", now)


def free_all(tx: Transaction) -> int:
    """Free every lane: only the one process that holds the data folder may do this, at its start.

    Pauses end too: they were reckoned by a clock that may have been set back since.
    """
    tx.run("UPDATE lane SET not_before = 0 WHERE not_before > 0")
    return tx.run("UPDATE lane SET owner = NULL, lease_until = NULL WHERE owner IS NOT NULL")


def set_blocked(tx: Transaction, destination: str, reason: str | None) -> None:
    """Hold or free all lanes of a destination that the configuration lost or found."""
    if reason is None:
        tx.run(
            "UPDATE lane SET blocked_reason = NULL WHERE destination = ? AND blocked_reason = 'destination not configured'",
            destination,
        )
    else:
        tx.run("UPDATE lane SET blocked_reason = ? WHERE destination = ? AND blocked_reason IS NULL", reason, destination)


def hold(tx: Transaction, heads: Sequence[Head], now: int, *, reason: str = "no answer") -> None:
    """Leave deliveries whose outcome is unknown to an operator: UNSURE, and their lanes held."""
    for head in heads:
        if tx.run(
            "UPDATE lane SET owner = NULL, lease_until = NULL, blocked_reason = ? WHERE key = ? AND epoch = ?",
            f"{reason}: an operator decides",
            head.lane,
            head.epoch,
        ):
            tx.run(
                "UPDATE delivery SET state = ?, last_error = ?, updated_at = ? WHERE id = ?",
                DeliveryState.UNSURE.value,
                reason,
                now,
                head.id,
            )
