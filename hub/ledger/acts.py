"""What an operator does to kept messages: replay, discard, retry, skip, file a receipt. Each is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hub.ledger.barriers import lift
from hub.ledger.deliveries import NewDelivery, add, occupied
from hub.ledger.outcomes import settle
from hub.model.refusals import HubError
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


class NotFound(HubError, LookupError):
    """No such message or delivery."""

    code = "NotFound"


class NotPossible(HubError):
    """The thing is not in a state that allows this."""

    code = "NotPossible"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt for a delivery. `kind` is ACK, DMP, DSN or MDN; `at` UTC microseconds; `code` why it is negative.

    `detail` tells receipts of one kind apart where a delivery may have several (the mailbox); else it is for people.
    """

    kind: str
    positive: bool
    at: int
    code: str = ""
    detail: str = ""


def message_state(tx: Transaction, message_id: int) -> tuple[MessageState, int, int]:
    """State, open deliveries, failed deliveries.

    Raises:
        NotFound: no such message.
    """
    row = tx.row(f"SELECT state, open_n, failed_n FROM message WHERE id = ?{tx.locked}", message_id)  # noqa: S608
    if row is None:
        raise NotFound("no such message")
    return MessageState(row[0]), row[1], row[2]


def discard(tx: Transaction, message_id: int, now: int) -> None:
    """Close a message: its open deliveries are cancelled, its bytes stay.

    Raises:
        NotFound, NotPossible.
    """
    occupied(tx, [lane for (lane,) in tx.rows("SELECT DISTINCT lane FROM delivery WHERE message_id = ?", message_id)])
    state, _, failed_n = message_state(tx, message_id)
    if (state, MessageEvent.DISCARD) not in MESSAGE_STATES:
        raise NotPossible(f"a message in state {state.value} cannot be discarded")
    for delivery_id, delivery_state, lane in tx.rows(
        "SELECT id, state, lane FROM delivery WHERE message_id = ? AND state IN ('QUEUED','WAITING','SENDING','UNSURE')",
        message_id,
    ):
        if delivery_state == DeliveryState.SENDING.value:
            raise NotPossible("a delivery of this message is under way: try again in a moment")
        after = advance(DELIVERY_STATES, DeliveryState(delivery_state), DeliveryEvent.SKIP)
        tx.run("UPDATE delivery SET state = ?, updated_at = ? WHERE id = ?", after.value, now, delivery_id)
        _close_lane(tx, lane)
    after_message = advance(MESSAGE_STATES, state, MessageEvent.DISCARD)
    tx.run("UPDATE message SET state = ?, open_n = 0, failed_n = ? WHERE id = ?", after_message.value, failed_n, message_id)


def skip(tx: Transaction, delivery_id: int, now: int) -> None:
    """Never make this delivery; the lane goes on with the next one.

    Raises:
        NotFound, NotPossible.
    """
    message_id, state, lane = _delivery(tx, delivery_id)
    if (state, DeliveryEvent.SKIP) not in DELIVERY_STATES:
        raise NotPossible(f"a delivery in state {state.value} cannot be skipped")
    after = advance(DELIVERY_STATES, state, DeliveryEvent.SKIP)
    tx.run("UPDATE delivery SET state = ?, updated_at = ? WHERE id = ?", after.value, now, delivery_id)
    message, open_n, failed_n = message_state(tx, message_id)
    open_n -= state in OPEN_DELIVERIES
    failed_n -= state in FAILED_DELIVERIES
    settled = settle(message, open_n=open_n, failed_n=failed_n)
    tx.run("UPDATE message SET state = ?, open_n = ?, failed_n = ? WHERE id = ?", settled.value, open_n, failed_n, message_id)
    tx.run(
        "UPDATE lane SET blocked_reason = NULL, not_before = 0 WHERE key = ? AND blocked_reason IS NOT NULL AND owner IS NULL",
        lane,
    )
    _close_lane(tx, lane)


def retry(tx: Transaction, delivery_id: int, now: int) -> str:
    """Make this delivery again at its place in the lane, under the same id; the destination's name.

    Raises:
        NotFound, NotPossible.
    """
    message_id, state, lane = _delivery(tx, delivery_id)
    if state in (DeliveryState.QUEUED, DeliveryState.WAITING):
        tx.run("UPDATE lane SET not_before = 0 WHERE key = ? AND owner IS NULL", lane)
        return _destination(tx, delivery_id)
    if (state, DeliveryEvent.RETRY) not in DELIVERY_STATES:
        raise NotPossible(f"a delivery in state {state.value} cannot be retried")
    after = advance(DELIVERY_STATES, state, DeliveryEvent.RETRY)
    tx.run("UPDATE delivery SET state = ?, first_try_at = NULL, updated_at = ? WHERE id = ?", after.value, now, delivery_id)
    if state not in OPEN_DELIVERIES:
        message, open_n, failed_n = message_state(tx, message_id)
        if (message, MessageEvent.REOPEN) not in MESSAGE_STATES:
            raise NotPossible(f"a delivery of a message in state {message.value} cannot be retried")
        reopened = advance(MESSAGE_STATES, message, MessageEvent.REOPEN)
        tx.run(
            "UPDATE message SET state = ?, open_n = ?, failed_n = ? WHERE id = ?",
            reopened.value,
            open_n + 1,
            max(0, failed_n - 1),
            message_id,
        )
    destination = _destination(tx, delivery_id)
    tx.insert(
        "lane",
        ("key", "destination", "head", "not_before", "epoch"),
        [(lane, destination, delivery_id, 0, 0)],
        suffix="ON CONFLICT (key) DO UPDATE SET not_before = 0, blocked_reason = NULL",
    )
    return destination


def replay(
    tx: Transaction,
    message_id: int,
    destinations: Sequence[tuple[str, str, str]],
    *,
    next_id: Callable[[], int],
    now: int,
    blocked: Callable[[str], str],
) -> list[int]:
    """New deliveries of a kept message, at the end of their lanes, each marked with the one that it repeats.

    `destinations` are (destination, mapping, lane); their numbers are returned. `blocked` says why a destination waits.

    Raises:
        NotFound, NotPossible: the message was refused, discarded, or is not routed yet.
    """
    busy = occupied(tx, [lane for _, _, lane in destinations])
    state, open_n, failed_n = message_state(tx, message_id)
    if (state, MessageEvent.REOPEN) not in MESSAGE_STATES:
        raise NotPossible(f"a message in state {state.value} cannot be replayed")
    earlier: dict[str, tuple[int, int, DeliveryState]] = {}
    for delivery_id, destination, n, delivery_state in tx.rows(
        "SELECT id, destination, replay, state FROM delivery WHERE message_id = ? ORDER BY replay", message_id
    ):
        earlier[destination] = (delivery_id, n, DeliveryState(delivery_state))
    made = []
    for destination, mapping, lane in destinations:
        before = earlier.get(destination)
        if before is not None and before[2] in OPEN_DELIVERIES:
            raise NotPossible(f"a delivery to {destination} is still open: retry it instead")
        failed_n -= before is not None and before[2] in FAILED_DELIVERIES
        made.append(
            NewDelivery(
                next_id(),
                message_id,
                destination,
                lane,
                mapping,
                replay=before[1] + 1 if before else 1,
                replay_of=before[0] if before else None,
                blocked_reason=blocked(destination),
            )
        )
    add(tx, made, now, busy=busy)
    reopened = advance(MESSAGE_STATES, state, MessageEvent.REOPEN)
    tx.run(
        "UPDATE message SET state = ?, open_n = ?, failed_n = ? WHERE id = ?",
        reopened.value,
        open_n + len(made),
        max(0, failed_n),
        message_id,
    )
    return [d.id for d in made]


def file_receipt(tx: Transaction, delivery_id: int, receipt: Receipt) -> bool:
    """Keep a receipt; False when the delivery has the same one already: kind, sign, code and detail.

    A negative one makes the message PARTIAL; that of a delivery which failed anyway adds nothing.

    Raises:
        NotFound: no such delivery.
    """
    message_id, state, _ = _delivery(tx, delivery_id)
    told = (receipt.kind, int(receipt.positive), receipt.code, receipt.detail)
    filed = tx.rows(
        "SELECT n, kind, positive, coalesce(code, ''), coalesce(detail, '') FROM receipt WHERE delivery_id = ?", delivery_id
    )
    if any(row[1:] == told for row in filed):
        return False
    tx.insert(
        "receipt",
        ("delivery_id", "n", "kind", "positive", "at", "code", "detail"),
        [
            (
                delivery_id,
                max((row[0] for row in filed), default=0) + 1,
                receipt.kind,
                int(receipt.positive),
                receipt.at,
                receipt.code or None,
                receipt.detail or None,
            )
        ],
    )
    if not receipt.positive and state not in FAILED_DELIVERIES:
        message, open_n, failed_n = message_state(tx, message_id)
        after = message
        if not open_n and (message, MessageEvent.ENDED_WITH_FAILURE) in MESSAGE_STATES:
            after = advance(MESSAGE_STATES, message, MessageEvent.ENDED_WITH_FAILURE)
        tx.run("UPDATE message SET state = ?, failed_n = ? WHERE id = ?", after.value, failed_n + 1, message_id)
    return True


def _delivery(tx: Transaction, delivery_id: int) -> tuple[int, DeliveryState, str]:
    lane = tx.row("SELECT lane FROM delivery WHERE id = ?", delivery_id)
    if lane is None:
        raise NotFound("no such delivery")
    occupied(tx, [lane[0]])
    row = tx.row(f"SELECT message_id, state, lane FROM delivery WHERE id = ?{tx.locked}", delivery_id)  # noqa: S608
    if row is None:  # pruned in between
        raise NotFound("no such delivery")
    return row[0], DeliveryState(row[1]), row[2]


def _destination(tx: Transaction, delivery_id: int) -> str:
    row = tx.row("SELECT destination FROM delivery WHERE id = ?", delivery_id)
    assert row is not None
    return str(row[0])


def _close_lane(tx: Transaction, lane: str) -> None:
    tx.run(
        "DELETE FROM lane WHERE key = ? AND owner IS NULL AND NOT EXISTS "
        "(SELECT 1 FROM delivery WHERE lane = ? AND state IN ('QUEUED','WAITING','SENDING','UNSURE'))",
        lane,
        lane,
    )
    lift(tx, [lane])
