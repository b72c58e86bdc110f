"""The receiving half of the traffic: an MLLP receiver that behaves as badly as it is told, and keeps a journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

START, END = b"\x0b", b"\x1c\r"

# What a receiver may do with a message. `drop`: ends the connection after it took the message, before it answers.
AA, AE, AR, MUTE, DROP, WRONG_ID, TWICE, GARBAGE, HALF, LATE = (
    "AA",
    "AE",
    "AR",
    "mute",
    "drop",
    "wrong-id",
    "twice",
    "garbage",
    "half",
    "late",
)
FOR = "for:"  # for:<control id>: answers AA, but to that other message
Behaviour = Callable[[int, str], str]


@dataclass
class Got:
    """One arrival, in order: what came, over which connection, and what the receiver did."""

    at: float
    connection: int
    control_id: str
    patient: str
    event: str
    did: str


class Sink:
    """An MLLP receiver with a journal. `behaviour(n, control_id)` says what to do with the nth arrival, counted from 1."""

    def __init__(
        self, behaviour: Behaviour | None = None, *, delay_s: float | Callable[[], float] = 0.0, late_s: float = 2.0
    ) -> None:
        self.behaviour, self.late_s = behaviour, late_s
        self.delay_s = delay_s if callable(delay_s) else (lambda: delay_s) if delay_s else None
        self.journal: list[Got] = []
        self.connections = 0
        self.port = 0
        self.changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: set[_Receiver] = set()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Receiver(self), host, port or self.port, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and cut every connection; `start` takes the same port again."""
        if self._server is not None:
            self._server.close()
        for receiver in tuple(self._open):
            receiver.transport.abort()
        await asyncio.sleep(0)

    def opened(self, receiver: _Receiver) -> None:
        self.connections += 1
        self._open.add(receiver)

    def closed(self, receiver: _Receiver) -> None:
        self._open.discard(receiver)

    @property
    def ids(self) -> list[str]:
        return [got.control_id for got in self.journal]


class _Receiver(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.buffer = b""
        self.transport: Any = None
        self.number = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.sink.opened(self)
        self.number = self.sink.connections

    def connection_lost(self, exc: Exception | None) -> None:
        self.sink.closed(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if END not in data and END not in self.buffer[-len(data) - 1 :]:
            return
        *frames, self.buffer = self.buffer.split(END)
        for one in frames:
            if self.transport.is_closing():
                return
            self._take(one.lstrip(START))

    def _take(self, message: bytes) -> None:
        sink = self.sink
        header = message[: message.find(b"\r")].split(b"|")
        control_id, event = header[9].decode(), header[8].split(b"^")[1].decode()
        place = message.find(b"\rPID|")
        patient = message[place + 1 : place + 200].split(b"|")[3].split(b"^")[0].decode() if place >= 0 else ""
        did = sink.behaviour(len(sink.journal) + 1, control_id) if sink.behaviour else AA
        sink.journal.append(Got(time.monotonic(), self.number, control_id, patient, event, did))
        sink.changed.set()
        if sink.delay_s is not None or did == LATE:
            pause = sink.late_s if did == LATE or sink.delay_s is None else sink.delay_s()
            asyncio.get_running_loop().call_later(pause, self._answer, control_id, did)
        else:
            self._answer(control_id, did)

    def _answer(self, control_id: str, did: str) -> None:
        if self.transport.is_closing():
            return
        if did == DROP:
            self.transport.abort()
        elif did == WRONG_ID:
            self.transport.write(acknowledgement("AA", f"X{control_id}"))
        elif did.startswith(FOR):
            self.transport.write(acknowledgement("AA", did.removeprefix(FOR)))
        elif did == TWICE:
            self.transport.write(acknowledgement("AA", control_id) * 2)
        elif did == GARBAGE:
            self.transport.write(START + b"HTTP/1.1 400 Bad Request" + END)
        elif did == HALF:
            self.transport.write(acknowledgement("AA", control_id)[:-12])
            self.transport.close()
        elif did != MUTE:
            self.transport.write(acknowledgement("AA" if did == LATE else did, control_id))


def acknowledgement(code: str, control_id: str) -> bytes:
    """A framed answer."""
    text = f"MSH|^~\\&|SINK|SINK|HUB|HUB|20260302||ACK|A{control_id}|P|2.5\rMSA|{code}|{control_id}\r"
    return START + text.encode() + END


def every(**intervals: int) -> Behaviour:
    """A behaviour by counting: `every(drop=97, ae=53, mute=211)`."""
    words = {name: {"ae": AE, "ar": AR}.get(name, name.replace("_", "-")) for name in intervals}

    def behaviour(n: int, _control_id: str) -> str:
        return next((words[name] for name, k in intervals.items() if k and n % k == 0), AA)

    return behaviour
