"""Messages that the hub makes itself: kept like those that came, already routed, with one delivery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from hub.ledger.deliveries import NewDelivery, add, newest_open, occupied
from hub.ledger.messages import FORMAT_ER7
from hub.model.states import MESSAGE_STATES, AckState, MessageEvent, MessageState, advance
from hub.store import Transaction

HUB = "hub"  # the source that such messages show
_MADE = (
    "id",
    "source",
    "connection",
    "format",
    "type",
    "control_id",
    "sending_app",
    "charset",
    "size",
    "sha256",
    "in_file",
    "received_at",
    "state",
    "ack_code",
    "ack_state",
    "patient_id",
    "routed_at",
    "open_n",
)


@dataclass(frozen=True, slots=True, repr=False)
class Made:
    """A message to be sent to `destination`, in the lane `lane` (a whole key). `charset` is a Python codec."""

    id: int
    type: str
    control_id: str
    sending_app: str
    charset: str
    body: bytes
    patient_id: int | None
    destination: str
    lane: str
    blocked_reason: str = ""

    def __repr__(self) -> str:
        return f"Made({self.id})"


def keep_made(
    tx: Transaction, made: Made, now: int, *, next_id: Callable[[], int], seen: Callable[[int], None] | None = None
) -> None:
    """Keep it and queue its delivery at the end of its lane.

    `seen` tells the maker of numbers what other processes made, where there are any.
    """
    busy = occupied(tx, [made.lane])
    if seen is not None and busy:
        seen(newest_open(tx, [made.lane]))
    state = advance(MESSAGE_STATES, MessageState.RECEIVED, MessageEvent.ROUTE)
    tx.insert(
        "message",
        _MADE,
        [
            (
                made.id,
                HUB,
                HUB,
                FORMAT_ER7,
                made.type,
                made.control_id,
                made.sending_app[:200],
                made.charset,
                len(made.body),
                sha256(made.body).digest(),
                0,
                now,
                state.value,
                "AA",
                AckState.NOT_OWED.value,
                made.patient_id,
                now,
                1,
            )
        ],
    )
    tx.insert("body", ("message_id", "bytes"), [(made.id, made.body)])
    delivery = NewDelivery(next_id(), made.id, made.destination, made.lane, blocked_reason=made.blocked_reason)
    add(tx, [delivery], now, busy=busy)
