"""Ports: what the flow asks of transports and clocks. Adapters implement them; `hub.app` wires both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Origin:
    """Where bytes came in: the source's name in the configuration, a number for the connection, the peer's address."""

    source: str
    connection: str
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What to write back for one message: the acknowledgement in ER7 without framing, empty when none is owed.

    A source that could not write it (the peer is gone) calls `lost`. `close` asks to end the connection afterwards.
    """

    body: bytes
    lost: Callable[[], None] | None = None
    close: bool = False


class Receive(Protocol):
    """Takes one whole message and calls `reply` once, on the event loop, when it is durable or refused.

    Never raises for bad input. Calls made in a row are committed together; a source writes the answers of one
    connection in the order of its messages.
    """

    def __call__(self, body: bytes, origin: Origin, reply: Callable[[Answer], None]) -> None: ...


class Source(Protocol):
    """A way in. `start` returns once it listens; `drain` stops taking messages and ends those in hand."""

    name: str

    async def start(self) -> None: ...
    async def drain(self, timeout_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class PeerReference:
    """What the peer said when it took charge: its reference for us, and its exact answer for the attempt row."""

    external_ref: str = ""
    answer: bytes = b""


class Destination(Protocol):
    """Where a delivery goes.

    `in_flight` deliveries may be under way at once; the caller keeps one patient's in order.
    Raises (send): PeerUnavailable, NoAnswer, PeerBusy, PeerRefused.
    """

    name: str
    in_flight: int

    async def send(self, body: bytes, *, delivery_id: int, control_id: str) -> PeerReference: ...
    async def probe(self) -> None: ...
    async def close(self) -> None: ...


class CanBeAsked(Destination, Protocol):
    """A destination whose peer says whether it has a delivery already: `on_unsure = "ask"`.

    `ask` gets what `send` got, and gives what it would have given, or None when the peer has nothing of it.
    Raises (ask): as send.
    """

    async def ask(self, body: bytes, *, delivery_id: int, control_id: str) -> PeerReference | None: ...
