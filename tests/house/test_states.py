"""Every cell of the state tables, allowed and forbidden, against the tables written out here."""

from __future__ import annotations

import itertools

import pytest

from hub.model.states import (
    ACK_STATES,
    DELIVERY_STATES,
    FAILED_DELIVERIES,
    MESSAGE_STATES,
    OPEN_DELIVERIES,
    AckEvent,
    AckState,
    DeliveryEvent,
    DeliveryState,
    ForbiddenMove,
    MessageEvent,
    MessageState,
    advance,
)

# rows: state; columns: event; a dot is a forbidden cell
MESSAGES = """
            ROUTE   NO_ROUTE  BREAK      ALL_DELIVERED  ENDED_WITH_FAILURE  REOPEN  JUDGE_AFRESH  DISCARD
RECEIVED    ROUTED  NO_ROUTE  SET_ASIDE  .              .                   .       .             DISCARDED
ROUTED      .       .         SET_ASIDE  DONE           PARTIAL             ROUTED  .             DISCARDED
DONE        .       .         .          .              PARTIAL             ROUTED  .             .
PARTIAL     .       .         .          .              PARTIAL             ROUTED  .             DISCARDED
REFUSED     .       .         .          .              .                   .       RECEIVED      DISCARDED
SET_ASIDE   .       .         .          .              .                   ROUTED  .             DISCARDED
NO_ROUTE    .       .         .          .              .                   ROUTED  .             DISCARDED
DISCARDED   .       .         .          .              .                   .       .             .
"""
DELIVERIES = """
            CLAIM    DELIVER    FAIL_FOR_NOW  NO_ANSWER  REFUSE     GIVE_UP  HOLD     RELEASE  RETRY   SKIP
QUEUED      SENDING  .          .             .          REFUSED    DEAD     WAITING  .        .       CANCELLED
WAITING     .        .          .             .          .          DEAD     .        QUEUED   .       CANCELLED
SENDING     .        DELIVERED  QUEUED        UNSURE     REFUSED    DEAD     WAITING  .        .       .
UNSURE      .        DELIVERED  .             .          .          DEAD     .        .        QUEUED  CANCELLED
DELIVERED   .        .          .             .          DELIVERED  .        .        .        .       .
REFUSED     .        .          .             .          .          .        .        .        QUEUED  CANCELLED
DEAD        .        .          .             .          .          .        .        .        QUEUED  CANCELLED
CANCELLED   .        .          .             .          .          .        .        .        .       .
"""
ACKS = """
            SEND  LOSE  ASK_AGAIN
OWED        SENT  LOST  OWED
SENT        .     LOST  OWED
LOST        .     .     OWED
NOT_OWED    .     .     .
"""


def _cells(text: str) -> dict[tuple[str, str], str]:
    header, *rows = [line.split() for line in text.strip().splitlines()]
    return {(row[0], event): after for row in rows for event, after in zip(header, row[1:], strict=True)}


@pytest.mark.parametrize(
    ("written", "table", "states", "events"),
    [
        (MESSAGES, MESSAGE_STATES, MessageState, MessageEvent),
        (DELIVERIES, DELIVERY_STATES, DeliveryState, DeliveryEvent),
        (ACKS, ACK_STATES, AckState, AckEvent),
    ],
    ids=["message", "delivery", "acknowledgement"],
)
def test_every_cell(written, table, states, events):
    cells = _cells(written)
    assert set(cells) == {(s.value, e.value) for s, e in itertools.product(states, events)}
    for (state, event), after in cells.items():
        if after == ".":
            with pytest.raises(ForbiddenMove):
                advance(table, states(state), events(event))
        else:
            assert advance(table, states(state), events(event)) is states(after), (state, event)


def test_a_delivery_is_open_or_ended():
    ended = {DeliveryState.DELIVERED, DeliveryState.CANCELLED} | FAILED_DELIVERIES
    assert not OPEN_DELIVERIES & ended
    assert OPEN_DELIVERIES | ended == set(DeliveryState)
