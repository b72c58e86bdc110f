"""The two ends of the traffic: senders that never give up and keep a journal, receivers that behave badly and keep one too."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chaos_history import Arrival, Message

from bench.sink import AA, AR, DROP, END, MUTE, START, acknowledgement
from bench.synthetic import Traffic

ANSWER_S = 8.0  # a sender that waits longer for an answer connects again
READ_S = 1.5  # an answer that a connection's end follows sooner may never have been read
CHANGES = {"adt": "Encounter", "mdm": "DocumentReference"}


def digests(message: bytes) -> tuple[bytes, bytes]:
    """SHA-256 of the bytes, and of the bytes without MSH-10."""
    header, _, rest = message.partition(b"\r")
    fields = header.split(b"|")
    fields[9] = b""
    return hashlib.sha256(message).digest(), hashlib.sha256(b"|".join(fields) + b"\r" + rest).digest()


# ---- senders -------------------------------------------------------------------------------------------------------


@dataclass
class Post:
    """One message of a line, as far as it has come."""

    number: int
    body: bytes
    sent_at: float = 0.0
    acked_at: float | None = None
    code: str = ""
    sends: int = 0


@dataclass
class Line:
    """What one connection has to say, over as many connections as it takes. Message `n` is due `n * every_s` after the start.

    `pipeline` messages may be unanswered; what is, when the connection ends, is sent again over the next one, in order. After
    each `roam` answers or so the line connects anew, to whichever edge that leads.
    """

    traffic: Traffic
    connection: int
    messages: int
    every_s: float
    port: int
    source: str = "his"
    pipeline: int = 1
    roam: int = 40
    seed: int = 0
    posts: list[Post] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.seed}/{self.connection}")
        self.posts = [Post(n, self.traffic.message(self.connection, n)) for n in range(self.messages)]
        self.waiting = deque(self.posts)
        self.began_at = 0.0

    def due(self) -> float:
        """Seconds until the next message is due."""
        if not self.waiting:
            return float("inf")
        return self.began_at + self.waiting[0].number * self.every_s - time.monotonic()

    def journal(self) -> list[Message]:
        """What was sent at least once."""
        made = []
        for post in self.posts:
            if post.sends:
                kind, n = self.traffic.kind_of(post.number), post.number
                digest, rest = digests(post.body)
                made.append(
                    Message(
                        self.source,
                        self.connection,
                        self.traffic.control_id(self.connection, n),
                        self.traffic.patient(self.connection, n),
                        digest,
                        rest,
                        post.sent_at,
                        post.acked_at,
                        post.code,
                        post.sends,
                        CHANGES.get(kind, ""),
                        self.traffic.visit(self.connection, n) if kind == "adt" else "",
                    )
                )
        return made

    async def run(self) -> None:
        """Send everything until everything has an answer; ended from outside when that takes too long."""
        self.began_at = time.monotonic()
        while self.waiting:
            await asyncio.sleep(max(0.0, self.due()))
            unanswered: dict[bytes, Post] = {}
            try:
                await self._talk(unanswered)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                await asyncio.sleep(self.rng.uniform(0.03, 0.2))
            finally:
                self.waiting.extendleft(sorted(unanswered.values(), key=lambda post: -post.number))

    async def _talk(self, unanswered: dict[bytes, Post]) -> None:
        """One connection, until it is lost, refuses, or has said enough."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
        left, moved_at = self.rng.randint(1, 2 * self.roam), time.monotonic()
        try:
            while unanswered or (self.waiting and left):
                if not unanswered:
                    await asyncio.sleep(max(0.0, self.due()))
                    moved_at = time.monotonic()
                while left and len(unanswered) < self.pipeline and self.due() <= 0:
                    post = self.waiting.popleft()
                    unanswered[self.traffic.control_id(self.connection, post.number).encode()] = post
                    left -= 1
                    _sending(post)
                    writer.write(START + post.body + END)
                patience_s = moved_at + ANSWER_S - time.monotonic()
                next_s = self.due() if left and len(unanswered) < self.pipeline else ANSWER_S
                try:
                    answer = await asyncio.wait_for(reader.readuntil(END), max(0.001, min(patience_s, next_s)))
                except TimeoutError:
                    if next_s > patience_s:
                        raise
                    continue
                moved_at = time.monotonic()
                if self._answered(answer, unanswered) in ("AR", "CR"):
                    raise ConnectionAbortedError("refused for now")
        finally:
            writer.transport.abort()

    def _answered(self, answer: bytes, unanswered: dict[bytes, Post]) -> str:
        msa = answer.partition(b"\rMSA|")[2].split(b"\r")[0].split(b"|")
        post = unanswered.get(msa[1]) if len(msa) > 1 else None
        if post is None:
            raise ConnectionAbortedError("an answer to nothing that was asked")
        if _note(post, msa[0].decode()) not in ("AR", "CR"):
            del unanswered[msa[1]]
        return post.code


@dataclass
class WebLine(Line):
    """The same over HTTP: POST /api/v1/hl7, one after the other, to one of several ports."""

    ports: tuple[int, ...] = ()
    token: str = ""

    async def _talk(self, unanswered: dict[bytes, Post]) -> None:
        post = self.waiting.popleft()
        unanswered[self.traffic.control_id(self.connection, post.number).encode()] = post
        _sending(post)
        port = self.rng.choice(self.ports)
        try:
            answer = await asyncio.to_thread(self._post, port, post.body)
        except http.client.HTTPException as error:
            raise ConnectionAbortedError("the answer was cut") from error
        if b"\rMSA|" not in answer or self._answered(answer, unanswered) in ("AR", "CR"):
            raise ConnectionAbortedError("refused for now")

    def _post(self, port: int, body: bytes) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
        try:
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/hl7-v2"}
            connection.request("POST", "/api/v1/hl7", body, headers)
            return connection.getresponse().read()
        finally:
            connection.close()


def _sending(post: Post) -> None:
    post.sends += 1
    if post.sends == 1:
        post.sent_at = time.monotonic()


def _note(post: Post, code: str) -> str:
    post.code = code
    if code in ("AA", "CA") and post.acked_at is None:
        post.acked_at = time.monotonic()
    return code


# ---- receivers -----------------------------------------------------------------------------------------------------


@dataclass
class Came:
    """An arrival, and the receiver's side of its connection."""

    at: float
    door: _Door
    control_id: str
    patient: str
    digest: bytes
    rest: bytes
    did: str


class Receiver:
    """A destination with a journal. `behaviour()` says what to do with an arrival: AA, AR, drop, mute; answers take `delay_s`."""

    def __init__(self, behaviour: Callable[[], str] | None = None, *, delay_s: float = 0.0) -> None:
        self.behaviour, self.delay_s = behaviour, delay_s
        self.journal: list[Came] = []
        self.port = 0
        self.connections = 0
        self._server: asyncio.Server | None = None
        self.doors: set[_Door] = set()

    async def start(self) -> None:
        """Listen; a second start takes the same port."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Door(self), "127.0.0.1", self.port, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
        for door in tuple(self.doors):
            door.transport.abort()
        await asyncio.sleep(0)

    def arrivals(self) -> list[Arrival]:
        return [
            Arrival(
                came.door.number,
                came.control_id,
                came.patient,
                came.digest,
                came.rest,
                came.at,
                came.did == AA and came.door.ended_at - came.at > READ_S + self.delay_s,
            )
            for came in self.journal
        ]


class _Door(asyncio.Protocol):
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.buffer = b""
        self.transport: Any = None
        self.number = 0
        self.ended_at = float("inf")

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.receiver.connections += 1
        self.number = self.receiver.connections
        self.receiver.doors.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended_at = time.monotonic()
        self.receiver.doors.discard(self)

    def data_received(self, data: bytes) -> None:
        *frames, self.buffer = (self.buffer + data).split(END)
        for frame in frames:
            if self.transport.is_closing():
                return
            self._take(frame.lstrip(START))

    def _take(self, message: bytes) -> None:
        receiver = self.receiver
        control_id = message.partition(b"\r")[0].split(b"|")[9].decode()
        patient = message.partition(b"\rPID|")[2].split(b"|", 3)[2].partition(b"^")[0].decode()
        did = receiver.behaviour() if receiver.behaviour else AA
        receiver.journal.append(Came(time.monotonic(), self, control_id, patient, *digests(message), did))
        if receiver.delay_s:
            asyncio.get_running_loop().call_later(receiver.delay_s, self._answer, control_id, did)
        else:
            self._answer(control_id, did)

    def _answer(self, control_id: str, did: str) -> None:
        if self.transport.is_closing():
            return
        if did == DROP:
            self.transport.abort()
        elif did != MUTE:
            self.transport.write(acknowledgement(did, control_id))


def sometimes(rng: random.Random, **shares: float) -> Callable[[], str]:
    """A behaviour: `sometimes(rng, drop=0.01, ar=0.02)`, AA else."""
    words = {"drop": DROP, "ar": AR, "mute": MUTE}

    def behaviour() -> str:
        at = rng.random()
        for name, share in shares.items():
            at -= share
            if at < 0:
                return words[name]
        return AA

    return behaviour


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
