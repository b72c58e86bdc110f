"""Ports: what the flow asks of transports and clocks. Adapters implement them; `hub.app` wires both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from hub.model.refusals import HubError


@dataclass(frozen=True, slots=True)
class Origin:
    """Where bytes came in: the source's name in the configuration, a number for the connection, the peer's address."""

    source: str
    connection: str
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What to write back for one message: the acknowledgement in ER7 without framing, empty when none is owed.

    A source that could not write it (the peer is gone) calls `lost`. `close` asks to end the connection afterwards. `code` is
    what became of the message, AA, AE or AR, also where no acknowledgement is owed.
    """

    body: bytes
    lost: Callable[[], None] | None = None
    close: bool = False
    code: str = ""


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


# ---- files -----------------------------------------------------------------------------------------------------------


class FileUnusable(HubError):
    """This one file cannot be read, and others can: it is put aside with the sentence."""

    code = "FileUnusable"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a folder. `changed` is any number that differs after a change; bytes of a name that are no UTF-8 are
    surrogates. `quiet` says that its folder's own clock knows it unchanged for the time that was asked for.
    """

    name: str
    size: int
    changed: int
    is_file: bool
    is_folder: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """A file that is ours: its own name, and the one it has while it is."""

    name: str
    claim: str


class Inbox(Protocol):
    """A folder that files come into, on this machine or a server. Every method blocks: call it from a thread, one at a time.

    Raises (all): PeerUnavailable.
    """

    peer: str

    def prepare(self) -> None:
        """Make the folders of our own."""

    def entries(self, settle_s: float) -> Iterator[Entry]:
        """What stands in the folder, in no order."""

    def claimed(self) -> list[Claimed]:
        """What this hub claimed and did not end, whichever process it was."""

    def claim(self, file: str | Claimed) -> Claimed | None:
        """Make a file ours by a rename that succeeds for one only; None when it is gone."""

    def read(self, file: Claimed, max_bytes: int) -> BinaryIO:
        """Its bytes, from their begin; may be read twice.

        Raises:
            FileUnusable: larger than `max_bytes`, no file any more, or not readable by us.
        """

    def answer(self, file: Claimed, acknowledgement: bytes) -> None:
        """Give the sender its answer, where it is to have one."""

    def end(self, file: Claimed, *, failed: bool, acknowledgement: bytes = b"") -> None:
        """Put it where ended files go; a failed one with its acknowledgement beside it."""

    def close(self) -> None: ...


class Outbox(Protocol):
    """A folder that files go to. Every method blocks; `put` may be called from several threads.

    Raises (put): PeerUnavailable, NoAnswer, PeerRefused. Raises (probe): PeerUnavailable.
    """

    def put(self, name: str, body: bytes, *, unsure: bool) -> None:
        """Make the file appear under `name`, whole or not at all. One of that name and size that is there is this one, sent
        before. `unsure`: an earlier `put` of this process ended with NoAnswer."""

    def probe(self) -> None: ...
    def close(self) -> None: ...
