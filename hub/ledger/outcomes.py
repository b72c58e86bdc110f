"""The ends of attempts: what each makes of its delivery, its message, and its lane.

A mark made under another epoch than the lane's is fenced off and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hub.ledger.deliveries import Head, Held, oldest_open
from hub.model.states import (
    DELIVERY_STATES,
    FAILED_DELIVERIES,
    MESSAGE_STATES,
    OPEN_DELIVERIES,
    DeliveryEvent,
    DeliveryState,
    MessageEvent,
    MessageState,
    advance,
)
from hub.store import Transaction

ANSWER_BYTES = 4096


@dataclass(slots=True)
class Outcome:
    """The end of one attempt. `also` runs in the same transaction (the record's change) before the mark.

    `not_before` delays the whole lane; `block` holds it until an operator acts.
    """

    head: Head
    event: DeliveryEvent
    started_at: int
    ended_at: int
    error: str = ""
    answer: bytes = b""
    external_ref: str = ""
    not_before: int = 0
    block: str = ""
    breaks_message: bool = False  # the hub's own failure: the message is set aside
    keep_lane: bool = True  # go on with the lane's next delivery
    also: Callable[[Transaction], None] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Marked:
    """`fenced`: somebody else owns the lane now. `next`: the lane's next head, already SENDING."""

    fenced: bool = False
    next: Head | None = None


def mark(tx: Transaction, outcomes: Sequence[Outcome], *, owner: str) -> list[Marked]:
    """File the ends of attempts: delivery, attempt row, message state, and the lane's next head or its release."""
    lanes = {
        key: (lane_owner, epoch)
        for key, lane_owner, epoch in tx.rows_in(
            "SELECT key, owner, epoch FROM lane WHERE key IN ({keys})", [o.head.lane for o in outcomes]
        )
    }
    results: list[Marked] = []
    valid: list[Outcome] = []
    for outcome in outcomes:
        fenced = lanes.get(outcome.head.lane) != (owner, outcome.head.epoch)
        results.append(Marked(fenced=fenced))
        if not fenced:
            if outcome.also is not None:
                outcome.also(tx)
            valid.append(outcome)
    _mark_deliveries(tx, valid)
    _settle_messages(tx, valid)
    following = _go_on(tx, valid)
    return [
        Marked(next=following.get(outcome.head.id)) if not result.fenced else result
        for outcome, result in zip(outcomes, results, strict=True)
    ]


def _mark_deliveries(tx: Transaction, outcomes: Sequence[Outcome]) -> None:
    rows = [
        (
            o.head.id,
            advance(DELIVERY_STATES, DeliveryState.SENDING, o.event).value,
            o.head.attempts + 1,
            o.external_ref or None,
            o.error or None,
            o.ended_at,
        )
        for o in outcomes
    ]
    tx.update("delivery", "id", ("state", "attempts", "external_ref", "last_error", "updated_at"), rows)
    tx.insert(
        "attempt",
        ("delivery_id", "n", "started_at", "ended_at", "outcome", "error", "answer"),
        [
            (
                o.head.id,
                o.head.attempts + 1,
                o.started_at,
                o.ended_at,
                o.event.value,
                o.error or None,
                o.answer[:ANSWER_BYTES] or None,
            )
            for o in outcomes
        ],
    )


def _settle_messages(tx: Transaction, outcomes: Sequence[Outcome]) -> None:
    ended: dict[int, list[Outcome]] = {}
    for o in outcomes:
        if DELIVERY_STATES[DeliveryState.SENDING, o.event] not in OPEN_DELIVERIES:
            ended.setdefault(o.head.message_id, []).append(o)
    if not ended:
        return
    rows = []
    for message_id, state, open_n, failed_n in tx.rows_in(
        "SELECT id, state, open_n, failed_n FROM message WHERE id IN ({keys})", list(ended)
    ):
        of_message = ended[message_id]
        failed = sum(DELIVERY_STATES[DeliveryState.SENDING, o.event] in FAILED_DELIVERIES for o in of_message)
        after = settle(
            MessageState(state),
            open_n=open_n - len(of_message),
            failed_n=failed_n + failed,
            broke=any(o.breaks_message for o in of_message),
        )
        rows.append((message_id, after.value, open_n - len(of_message), failed_n + failed))
    tx.update("message", "id", ("state", "open_n", "failed_n"), rows)


def settle(state: MessageState, *, open_n: int, failed_n: int, broke: bool = False) -> MessageState:
    """The state of a message whose deliveries now stand so."""
    if broke and (state, MessageEvent.BREAK) in MESSAGE_STATES:
        return advance(MESSAGE_STATES, state, MessageEvent.BREAK)
    if open_n or state is not MessageState.ROUTED:
        return state
    return advance(MESSAGE_STATES, state, MessageEvent.ENDED_WITH_FAILURE if failed_n else MessageEvent.ALL_DELIVERED)


def _go_on(tx: Transaction, outcomes: Sequence[Outcome]) -> dict[int, Head]:
    following: dict[int, Head] = {}
    gone: list[str] = []
    sending = []
    released: list[tuple[str, None, None, int, str | None]] = []
    ended = {
        o.head.lane
        for o in outcomes
        if DELIVERY_STATES[DeliveryState.SENDING, o.event] not in OPEN_DELIVERIES and o.keep_lane and not o.block
    }
    filled = _with_open_deliveries(tx, ended)
    for o in outcomes:
        head = oldest_open(tx, o.head.lane, o.head.epoch) if o.head.lane in filled else None
        if head is None and o.head.lane in ended:
            gone.append(o.head.lane)
            continue
        if isinstance(head, Held):
            released.append((o.head.lane, None, None, 0, head.reason))
        elif head is not None:
            following[o.head.id] = head
            sending.append((head.id, DeliveryState.SENDING.value, o.ended_at, head.first_try_at or o.ended_at))
        else:
            released.append((o.head.lane, None, None, o.not_before, o.block or None))
    tx.run_in("DELETE FROM lane WHERE key IN ({keys})", gone)
    tx.update("lane", "key", ("owner", "lease_until", "not_before", "blocked_reason"), released)
    tx.update("delivery", "id", ("state", "updated_at", "first_try_at"), sending)
    return following


def _with_open_deliveries(tx: Transaction, lanes: set[str]) -> set[str]:
    found = tx.rows_values(
        "WITH v(k) AS (VALUES {values}) SELECT v.k FROM v WHERE EXISTS (SELECT 1 FROM delivery d WHERE d.lane = v.k AND "
        "d.state IN ('QUEUED','WAITING','SENDING','UNSURE'))",
        [(lane,) for lane in lanes],
    )
    return {lane for (lane,) in found}
