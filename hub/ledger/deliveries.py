"""Deliveries and their lanes: one lane a destination and patient, only its head may leave.

A lane row exists while it has open deliveries. Whoever works on it owns it under an epoch; a mark made under another epoch
is fenced off and changes nothing. Whoever changes a delivery locks its lane first: a lane does not vanish under a delivery
that is being added, nor is it taken by two.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from hub.model.states import DELIVERY_STATES, OPEN_DELIVERIES, DeliveryEvent, DeliveryState, advance
from hub.store import Transaction
from hub.store.port import Row

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
_HEADS = (
    "WITH v(k) AS (VALUES {values}) "
    "SELECT d.id, d.message_id, d.destination, d.mapping, d.lane, d.state, d.attempts, d.first_try_at, d.replay, "
    "m.source, m.control_id, m.in_file, m.sha256, m.charset, d.follows, "
    "EXISTS (SELECT 1 FROM barrier b WHERE b.lane = v.k AND b.at <= d.id AND EXISTS (SELECT 1 FROM delivery o "
    "WHERE o.lane = b.other AND o.id < b.at AND o.state IN ('QUEUED','WAITING','SENDING','UNSURE'))) "
    "FROM v JOIN delivery d ON d.id = "
    "(SELECT o.id FROM delivery o WHERE o.lane = v.k AND o.state IN ('QUEUED','WAITING','SENDING','UNSURE') "
    "ORDER BY o.id LIMIT 1) "
    "JOIN message m ON m.id = d.message_id"
)


BARRED = "waits for another number of the same patient"  # why a lane is blocked; see `hub.ledger.barriers`


@dataclass(frozen=True, slots=True)
class Claim:
    """Under what a worker takes lanes: its name, and an epoch that only grows."""

    owner: str
    epoch: int


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


def add(tx: Transaction, deliveries: Sequence[NewDelivery], now: int, *, busy: Collection[str]) -> None:
    """Write deliveries, and the lanes of open ones that are not `busy` (what `occupied` told in this transaction)."""
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
        if state in OPEN_DELIVERIES and d.lane not in busy and d.lane not in lanes:
            owner, epoch = (d.claim.owner, d.claim.epoch) if d.claim is not None else (None, 0)
            lanes[d.lane] = (d.lane, d.destination, d.id, 0, owner, epoch, d.blocked_reason or None)
    tx.insert("delivery", _DELIVERY, rows)
    tx.insert(
        "lane",
        ("key", "destination", "head", "not_before", "owner", "epoch", "blocked_reason"),
        sorted(lanes.values(), key=lambda lane: lane[0]),
    )


def occupied(tx: Transaction, lanes: Sequence[str]) -> set[str]:
    """Which of these lanes have open deliveries; they stay so until the commit."""
    if not lanes:
        return set()
    return {key for (key,) in tx.rows_in(f"SELECT key FROM lane WHERE key IN ({{keys}}) ORDER BY key{tx.locked}", lanes)}  # noqa: S608


def newest_open(tx: Transaction, lanes: Sequence[str]) -> int:
    """The highest number of an open delivery in these lanes: what is added to them must be higher."""
    row = tx.rows_values(
        "WITH v(k) AS (VALUES {values}) SELECT max((SELECT max(o.id) FROM delivery o WHERE o.lane = v.k AND "
        "o.state IN ('QUEUED','WAITING','SENDING','UNSURE'))) FROM v",
        [(lane,) for lane in lanes],
    )
    return max((number for (number,) in row if number is not None), default=0)


def claim(tx: Transaction, destination: str, claim: Claim, *, now: int, at_most: int) -> list[Head]:
    """Take up to `at_most` lanes that are due, oldest first, and mark their heads SENDING. Empty lanes vanish."""
    keys = [
        key
        for (key,) in tx.rows(
            "SELECT key FROM lane WHERE destination = ? AND owner IS NULL AND blocked_reason IS NULL AND not_before <= ? "  # noqa: S608
            f"ORDER BY not_before, head LIMIT ?{tx.skip_locked}",
            destination,
            now,
            at_most,
        )
    ]
    if not keys:
        return []
    heads: list[Head] = []
    held: list[tuple[str, str]] = []
    found = heads_of(tx, keys, claim.epoch)
    for key, head in found.items():
        if isinstance(head, Held):
            held.append((key, head.reason))
        else:
            heads.append(head)
    tx.update("lane", "key", ("blocked_reason",), held)
    tx.update("lane", "key", ("owner", "epoch"), [(head.lane, claim.owner, claim.epoch) for head in heads])
    tx.update(
        "delivery",
        "id",
        ("state", "updated_at", "first_try_at"),
        [(head.id, DeliveryState.SENDING.value, now, head.first_try_at or now) for head in heads],
    )
    tx.run_in("DELETE FROM lane WHERE key IN ({keys})", [key for key in keys if key not in found])
    return sorted(heads, key=lambda head: head.id)


def heads_of(tx: Transaction, lanes: Collection[str], epoch: int | Mapping[str, int]) -> dict[str, Head | Held]:
    """The heads of lanes as a worker under `epoch` (one for all, or each lane's) would hold them; empty lanes are left out."""
    rows = tx.rows_values(_HEADS, [(lane,) for lane in lanes]) if lanes else []
    return {row[4]: _head(tx, row, epoch if isinstance(epoch, int) else epoch[row[4]]) for row in rows}


def _head(tx: Transaction, row: Row, epoch: int) -> Head | Held:
    if row[15]:
        return Held(BARRED)
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


def give_back(tx: Transaction, heads: Sequence[Head], *, now: int) -> None:
    """Release lanes whose heads were claimed and never sent (drain, breaker). What was unsure before stays so."""
    epochs = {head.lane: head.epoch for head in heads}
    ours = {key for key, epoch in _locked_lanes(tx, list(epochs)) if epochs[key] == epoch}
    tx.run_in("UPDATE lane SET owner = NULL WHERE key IN ({keys})", sorted(ours))
    tx.update(
        "delivery",
        "id",
        ("state", "updated_at"),
        [
            (head.id, (DeliveryState.UNSURE if head.unsure else DeliveryState.QUEUED).value, now)
            for head in heads
            if head.lane in ours
        ],
    )


def forget(tx: Transaction, claims: Sequence[Claim], *, now: int, ask: bool = False) -> None:
    """Release lanes that were taken under these claims, if they were: nothing was sent under them.

    Whether a delivery was unsure before is not known any more: with `ask` it is taken for so.
    """
    taken = f"SELECT key FROM lane WHERE owner = ? AND epoch = ? ORDER BY key{tx.locked}"  # noqa: S608
    lanes = [key for claim in claims for (key,) in tx.rows(taken, claim.owner, claim.epoch)]
    tx.run_in("UPDATE lane SET owner = NULL WHERE key IN ({keys})", lanes)
    after = DeliveryState.UNSURE if ask else DeliveryState.QUEUED
    sending = tx.rows_in("SELECT id FROM delivery WHERE lane IN ({keys}) AND state IN ('SENDING')", lanes) if lanes else []
    tx.update("delivery", "id", ("state", "updated_at"), [(number, after.value, now) for (number,) in sending])


def free_all(tx: Transaction) -> None:
    """Free every lane: only the one process that holds the data folder may do this, at its start.

    Pauses end too: they were reckoned by a clock that may have been set back since.
    """
    tx.run("UPDATE lane SET not_before = 0 WHERE not_before > 0")
    tx.run("UPDATE lane SET owner = NULL WHERE owner IS NOT NULL")


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
    epochs = {head.lane: head.epoch for head in heads}
    ours = {key for key, epoch in _locked_lanes(tx, list(epochs)) if epochs[key] == epoch}
    tx.update("lane", "key", ("owner", "blocked_reason"), [(key, None, f"{reason}: an operator decides") for key in sorted(ours)])
    tx.update(
        "delivery",
        "id",
        ("state", "last_error", "updated_at"),
        [(head.id, DeliveryState.UNSURE.value, reason, now) for head in heads if head.lane in ours],
    )


def _locked_lanes(tx: Transaction, lanes: Sequence[str]) -> list[Row]:
    """Key and epoch of those that are there; nobody else changes them until the commit."""
    if not lanes:
        return []
    return tx.rows_in(f"SELECT key, epoch FROM lane WHERE key IN ({{keys}}) ORDER BY key{tx.locked}", lanes)  # noqa: S608
