"""The ends of attempts: what each makes of its delivery, its message, and its lane.

A mark made under another epoch than the lane's is fenced off and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from hub.ledger.barriers import lift
from hub.ledger.deliveries import Head, Held, heads_of
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
    """The end of one attempt. `also` runs in the same transaction (the record's change) before the mark, `after` at its end
    (receipts): it gives the destination to wake, or nothing.

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
    after: Callable[[Transaction], str] | None = field(default=None, repr=False)
    again: bool = False  # the answer to an earlier commit of this end was lost


@dataclass(frozen=True, slots=True)
class Marked:
    """`fenced`: somebody else took the lane since. `next`: the lane's next head, already SENDING. `ring`: a destination that got
    a delivery by it, or whose lanes are free by it.
    """

    fenced: bool = False
    next: Head | None = None
    ring: str = ""


def mark(tx: Transaction, outcomes: Sequence[Outcome], *, owner: str) -> list[Marked]:
    """File the ends of attempts: delivery, attempt row, message state, and the lane's next head or its release.

    A lane that was freed and not taken again still takes the mark, unless somebody changed the delivery since; but it gives no
    next head: it is not ours any more.
    """
    lanes = {
        key: (lane_owner, epoch)
        for key, lane_owner, epoch in tx.rows_in(
            f"SELECT key, owner, epoch FROM lane WHERE key IN ({{keys}}) ORDER BY key{tx.locked}",  # noqa: S608
            [o.head.lane for o in outcomes],
        )
    }
    filed = _filed_before(tx, [o for o in outcomes if o.again])
    freed = [o.head for o in outcomes if (lane := lanes.get(o.head.lane)) is not None and lane[0] != owner]
    under_way = _under_way(tx, freed)
    results: list[Marked] = []
    valid: list[Outcome] = []
    for outcome in outcomes:
        lane = lanes.get(outcome.head.lane)
        fenced = lane is None or lane[1] != outcome.head.epoch or (lane[0] != owner and outcome.head.id not in under_way)
        results.append(Marked(fenced=fenced and outcome.head.id not in filed))
        if fenced or outcome.head.id in filed:
            continue
        if outcome.also is not None:
            outcome.also(tx)
        valid.append(outcome)
    _mark_deliveries(tx, valid)
    _settle_messages(tx, valid)
    following = _go_on(tx, valid, {key for key, (lane_owner, _) in lanes.items() if lane_owner == owner})
    lifted = lift(tx, {o.head.lane for o in valid if DELIVERY_STATES[DeliveryState.SENDING, o.event] not in OPEN_DELIVERIES})
    rings = {outcome.head.id: outcome.head.destination for outcome in valid[:1] if lifted}
    rings |= {outcome.head.id: ring for outcome in valid if outcome.after is not None and (ring := outcome.after(tx))}
    for outcome in outcomes:  # filed before: what its lane's next head is, was in the answer that got lost
        lane = lanes.get(outcome.head.lane)
        if outcome.head.id in filed and lane == (owner, outcome.head.epoch):
            head = heads_of(tx, [outcome.head.lane], outcome.head.epoch).get(outcome.head.lane)
            if isinstance(head, Head):
                following[outcome.head.id] = replace(head, unsure=False)
    return [
        Marked(next=following.get(outcome.head.id), ring=rings.get(outcome.head.id, "")) if not result.fenced else result
        for outcome, result in zip(outcomes, results, strict=True)
    ]


def _under_way(tx: Transaction, heads: Sequence[Head]) -> set[int]:
    """Those that are still SENDING: neither given back nor decided on by an operator since their lane was freed."""
    if not heads:
        return set()
    rows = tx.rows_in("SELECT id, state FROM delivery WHERE id IN ({keys})", [head.id for head in heads])
    return {number for number, state in rows if state == DeliveryState.SENDING.value}


def _filed_before(tx: Transaction, outcomes: Sequence[Outcome]) -> set[int]:
    """Deliveries whose end was filed by a commit whose answer was lost."""
    found = (
        tx.rows_in("SELECT delivery_id, n, started_at FROM attempt WHERE delivery_id IN ({keys})", [o.head.id for o in outcomes])
        if outcomes
        else []
    )
    ends = {(o.head.id, o.head.attempts + 1, o.started_at) for o in outcomes}
    return {row[0] for row in found if tuple(row) in ends}


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
        f"SELECT id, state, open_n, failed_n FROM message WHERE id IN ({{keys}}) ORDER BY id{tx.locked}",  # noqa: S608
        list(ended),
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


def _go_on(tx: Transaction, outcomes: Sequence[Outcome], ours: set[str]) -> dict[int, Head]:
    """What becomes of the lanes; the next heads of those that are `ours`, by the delivery that ended."""
    following: dict[int, Head] = {}
    gone: list[str] = []
    sending = []
    released: list[tuple[str, None, int, str | None]] = []
    ended = {
        o.head.lane: o.head.epoch
        for o in outcomes
        if DELIVERY_STATES[DeliveryState.SENDING, o.event] not in OPEN_DELIVERIES and o.keep_lane and not o.block
    }
    heads = heads_of(tx, ended, ended)
    for o in outcomes:
        head = heads.get(o.head.lane)
        if head is None and o.head.lane in ended:
            gone.append(o.head.lane)
        elif isinstance(head, Held):
            released.append((o.head.lane, None, 0, head.reason))
        elif head is not None and o.head.lane in ours:
            following[o.head.id] = head
            sending.append((head.id, DeliveryState.SENDING.value, o.ended_at, head.first_try_at or o.ended_at))
        else:
            released.append((o.head.lane, None, o.not_before, o.block or None))
    tx.run_in("DELETE FROM lane WHERE key IN ({keys})", gone)
    tx.update("lane", "key", ("owner", "not_before", "blocked_reason"), released)
    tx.update("delivery", "id", ("state", "updated_at", "first_try_at"), sending)
    return following
