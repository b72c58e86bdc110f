"""States of a message, of a delivery and of an acknowledgement, as tables.

`advance` is the only thing that moves a state: what a table does not list is forbidden. The words are those of the ledger
API (`GET /api/v1/messages`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class MessageState(StrEnum):
    RECEIVED = "RECEIVED"
    ROUTED = "ROUTED"
    DONE = "DONE"
    PARTIAL = "PARTIAL"
    REFUSED = "REFUSED"
    SET_ASIDE = "SET_ASIDE"
    NO_ROUTE = "NO_ROUTE"
    DISCARDED = "DISCARDED"


class MessageEvent(StrEnum):
    ROUTE = "ROUTE"  # deliveries were made
    NO_ROUTE = "NO_ROUTE"  # nothing in the configuration wants this message
    BREAK = "BREAK"  # answered AA, then the hub itself failed on it
    ALL_DELIVERED = "ALL_DELIVERED"
    ENDED_WITH_FAILURE = "ENDED_WITH_FAILURE"
    REOPEN = "REOPEN"  # replay, retry: a delivery is open again
    JUDGE_AFRESH = "JUDGE_AFRESH"  # the same bytes came again after AE or AR, and are accepted now
    DISCARD = "DISCARD"  # by an operator


_M, _ME = MessageState, MessageEvent
MESSAGE_STATES: Mapping[tuple[MessageState, MessageEvent], MessageState] = {
    (_M.RECEIVED, _ME.ROUTE): _M.ROUTED,
    (_M.RECEIVED, _ME.NO_ROUTE): _M.NO_ROUTE,
    (_M.RECEIVED, _ME.BREAK): _M.SET_ASIDE,
    (_M.RECEIVED, _ME.DISCARD): _M.DISCARDED,
    (_M.ROUTED, _ME.ALL_DELIVERED): _M.DONE,
    (_M.ROUTED, _ME.ENDED_WITH_FAILURE): _M.PARTIAL,
    (_M.ROUTED, _ME.BREAK): _M.SET_ASIDE,
    (_M.ROUTED, _ME.REOPEN): _M.ROUTED,
    (_M.ROUTED, _ME.DISCARD): _M.DISCARDED,
    (_M.DONE, _ME.REOPEN): _M.ROUTED,
    (_M.DONE, _ME.ENDED_WITH_FAILURE): _M.PARTIAL,  # a negative receipt after delivery
    (_M.PARTIAL, _ME.REOPEN): _M.ROUTED,
    (_M.PARTIAL, _ME.ENDED_WITH_FAILURE): _M.PARTIAL,
    (_M.PARTIAL, _ME.DISCARD): _M.DISCARDED,
    (_M.REFUSED, _ME.JUDGE_AFRESH): _M.RECEIVED,
    (_M.REFUSED, _ME.DISCARD): _M.DISCARDED,
    (_M.SET_ASIDE, _ME.REOPEN): _M.ROUTED,
    (_M.SET_ASIDE, _ME.DISCARD): _M.DISCARDED,
    (_M.NO_ROUTE, _ME.REOPEN): _M.ROUTED,
    (_M.NO_ROUTE, _ME.DISCARD): _M.DISCARDED,
}


class DeliveryState(StrEnum):
    QUEUED = "QUEUED"
    WAITING = "WAITING"
    SENDING = "SENDING"
    UNSURE = "UNSURE"
    DELIVERED = "DELIVERED"
    REFUSED = "REFUSED"
    DEAD = "DEAD"
    CANCELLED = "CANCELLED"


class DeliveryEvent(StrEnum):
    CLAIM = "CLAIM"  # a worker takes it up
    DELIVER = "DELIVER"  # the peer took charge
    FAIL_FOR_NOW = "FAIL_FOR_NOW"  # transient: tried again later
    NO_ANSWER = "NO_ANSWER"  # sent, nothing came back
    REFUSE = "REFUSE"  # by the peer for good, or by a rule
    GIVE_UP = "GIVE_UP"  # too old, or broken
    HOLD = "HOLD"  # destination not configured, or its breaker is open
    RELEASE = "RELEASE"  # the destination is there again
    RETRY = "RETRY"  # by an operator, or by on_unsure
    SKIP = "SKIP"  # by an operator: this delivery never


_D, _DE = DeliveryState, DeliveryEvent
DELIVERY_STATES: Mapping[tuple[DeliveryState, DeliveryEvent], DeliveryState] = {
    (_D.QUEUED, _DE.CLAIM): _D.SENDING,
    (_D.QUEUED, _DE.HOLD): _D.WAITING,
    (_D.QUEUED, _DE.REFUSE): _D.REFUSED,
    (_D.QUEUED, _DE.GIVE_UP): _D.DEAD,
    (_D.QUEUED, _DE.SKIP): _D.CANCELLED,
    (_D.WAITING, _DE.RELEASE): _D.QUEUED,
    (_D.WAITING, _DE.GIVE_UP): _D.DEAD,
    (_D.WAITING, _DE.SKIP): _D.CANCELLED,
    (_D.SENDING, _DE.DELIVER): _D.DELIVERED,
    (_D.SENDING, _DE.FAIL_FOR_NOW): _D.QUEUED,
    (_D.SENDING, _DE.NO_ANSWER): _D.UNSURE,
    (_D.SENDING, _DE.REFUSE): _D.REFUSED,
    (_D.SENDING, _DE.GIVE_UP): _D.DEAD,
    (_D.SENDING, _DE.HOLD): _D.WAITING,
    (_D.UNSURE, _DE.RETRY): _D.QUEUED,
    (_D.UNSURE, _DE.DELIVER): _D.DELIVERED,  # asked of the peer: it has it
    (_D.UNSURE, _DE.GIVE_UP): _D.DEAD,
    (_D.UNSURE, _DE.SKIP): _D.CANCELLED,
    (_D.DELIVERED, _DE.REFUSE): _D.DELIVERED,  # a late negative receipt is kept as a receipt
    (_D.REFUSED, _DE.RETRY): _D.QUEUED,
    (_D.REFUSED, _DE.SKIP): _D.CANCELLED,
    (_D.DEAD, _DE.RETRY): _D.QUEUED,
    (_D.DEAD, _DE.SKIP): _D.CANCELLED,
}

OPEN_DELIVERIES = frozenset({_D.QUEUED, _D.WAITING, _D.SENDING, _D.UNSURE})
FAILED_DELIVERIES = frozenset({_D.REFUSED, _D.DEAD})


class AckState(StrEnum):
    OWED = "OWED"
    SENT = "SENT"
    LOST = "LOST"
    NOT_OWED = "NOT_OWED"


class AckEvent(StrEnum):
    SEND = "SEND"
    LOSE = "LOSE"
    ASK_AGAIN = "ASK_AGAIN"  # the sender repeats the same bytes


_A, _AE = AckState, AckEvent
ACK_STATES: Mapping[tuple[AckState, AckEvent], AckState] = {
    (_A.OWED, _AE.SEND): _A.SENT,
    (_A.OWED, _AE.LOSE): _A.LOST,
    (_A.OWED, _AE.ASK_AGAIN): _A.OWED,
    (_A.SENT, _AE.ASK_AGAIN): _A.OWED,
    (_A.LOST, _AE.ASK_AGAIN): _A.OWED,
    (_A.SENT, _AE.LOSE): _A.LOST,
}


class ForbiddenMove(Exception):
    """A state table has no cell for this (state, event)."""

    def __init__(self, state: StrEnum, event: StrEnum) -> None:
        super().__init__(f"{type(state).__name__} {state.value} takes no {event.value}")
        self.state, self.event = state, event


S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


def advance(table: Mapping[tuple[S, E], S], state: S, event: E) -> S:
    """The state after `event`.

    Raises:
        ForbiddenMove: the table has no such cell.
    """
    try:
        return table[state, event]
    except KeyError:
        raise ForbiddenMove(state, event) from None
