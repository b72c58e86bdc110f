"""How the pages show states: a shape, a word and a colour for each, never colour alone."""

from __future__ import annotations

from typing import Any

from hub.model.states import DELIVERY_STATES, MESSAGE_STATES, DeliveryEvent, DeliveryState, MessageEvent, MessageState

Json = dict[str, Any]

OPEN = frozenset({"QUEUED", "WAITING", "SENDING", "UNSURE"})
FAILED = frozenset({"REFUSED", "DEAD"})
NEEDS_A_PERSON = ("TO_DECIDE", "SET_ASIDE", "NO_ROUTE", "PARTIAL")


def shown_state(message: Json) -> str:
    """The message's state, or TO_DECIDE when one of its deliveries is held with an unknown outcome."""
    if message["state"] == "ROUTED" and any(delivery["state"] == "UNSURE" for delivery in message["deliveries"]):
        return "TO_DECIDE"
    return str(message["state"])


def shown_destination(name: str) -> str:
    """A destination without the name part of a mail address: it may be a patient's INS."""
    kind, colon, address = name.partition(":")
    return f"{kind}:•••@{address.rpartition('@')[2]}" if colon and "@" in address else name


def leaves_the_house(destination: str) -> bool:
    return destination == "dmp" or destination.startswith("mssante")


def message_acts(message: Json) -> list[str]:
    """What an operator may do with the message in this state."""
    state = MessageState(message["state"])
    acts = []
    if (state, MessageEvent.REOPEN) in MESSAGE_STATES:
        acts.append("replay")
    if (state, MessageEvent.DISCARD) in MESSAGE_STATES:
        acts.append("discard")
    return acts


def delivery_acts(delivery: Json) -> list[str]:
    """What an operator may do with the delivery in this state; a waiting one may be tried now."""
    state = DeliveryState(delivery["state"])
    acts = []
    if (state, DeliveryEvent.RETRY) in DELIVERY_STATES or state in (DeliveryState.QUEUED, DeliveryState.WAITING):
        acts.append("retry")
    if (state, DeliveryEvent.SKIP) in DELIVERY_STATES:
        acts.append("skip")
    return acts
