"""The sending half of the traffic: MLLP connections that send synthetic messages and keep a journal of the answers."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from bench.sink import END, START
from bench.synthetic import Traffic

MADE_BEFOREHAND_BYTES = 512 << 20
_MSA = re.compile(rb"\rMSA\|([A-Z]{2})\|([^|\r]*)")


@dataclass
class Load:
    """What to send. `rate` is messages a second in all, 0 = as fast as answers come; `pipeline` how many may be unanswered on one
    connection; `resend`: connect again after a lost connection or an AR and send what has no positive answer, for `patience_s`.
    """

    host: str
    port: int
    traffic: Traffic
    connections: int = 8
    messages: int = 1000
    pipeline: int = 1
    rate: float = 0.0
    resend: bool = False
    patience_s: float = 60.0
    first: int = 0  # number of the first connection, so that two loads do not share control ids


@dataclass
class Sent:
    """The sender's journal. `answers` holds the last answer of each control id: AA, AE, AR, …, empty when none came.

    `acked_at` is the moment (time.monotonic) of the first AA; `repeats` counts resent messages.
    """

    answers: dict[str, str] = field(default_factory=dict)
    acked_at: dict[str, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)  # every answer, also those that a later one replaced
    repeats: int = 0
    wrong: int = 0  # answers to nothing that was asked
    began_at: float = 0.0
    ended_at: float = 0.0

    @property
    def acked(self) -> list[str]:
        return list(self.acked_at)

    def summary(self) -> dict[str, Any]:
        seconds = max(1e-9, self.ended_at - self.began_at)
        ordered = sorted(self.latencies)
        return {
            "sent": len(self.answers),
            "acked": len(self.acked_at),
            "answers": dict(Counter(self.answers.values())),
            "repeats": self.repeats,
            "wrong_answers": self.wrong,
            "seconds": round(seconds, 3),
            "per_s": round(len(self.acked_at) / seconds, 1),
            "p50_ms": _ms(ordered, 50),
            "p99_ms": _ms(ordered, 99),
            "max_ms": _ms(ordered, 100),
        }


class _Client(asyncio.Protocol):
    """One connection of the sender: writes its next messages while fewer than `pipeline` are unanswered."""

    def __init__(self, line: _Line) -> None:
        self.line = line
        self.buffer = b""
        self.unanswered: dict[bytes, tuple[int, float]] = {}
        self.transport: asyncio.Transport | None = None
        self.gone = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.push()

    def push(self) -> None:
        line = self.line
        out = []
        while line.waiting and len(self.unanswered) < line.load.pipeline and self.transport is not None:
            number = line.waiting[0]
            due = line.due(number)
            if due > time.monotonic():
                line.wake_at(due, self)
                break
            line.waiting.popleft()
            control_id = line.load.traffic.control_id(line.connection, number)
            if control_id in line.sent.answers:
                line.sent.repeats += 1
            else:
                line.sent.answers[control_id] = ""
            self.unanswered[control_id.encode()] = (number, due if line.load.rate else time.monotonic())
            out += [START, line.message(number), END]
        if out and self.transport is not None:
            self.transport.write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        *answers, self.buffer = (self.buffer + data).split(END)
        now, again = time.monotonic(), False
        for answer in answers:
            msa = _MSA.search(answer)
            asked = self.unanswered.pop(msa[2], None) if msa else None
            if msa is None or asked is None:
                self.line.sent.wrong += 1
                continue
            code, control_id = msa[1].decode(), msa[2].decode()
            self.line.sent.answers[control_id] = code
            self.line.sent.codes[code] += 1
            if code in ("AA", "CA"):
                self.line.sent.acked_at.setdefault(control_id, now)
                self.line.sent.latencies.append(now - asked[1])
            elif code in ("AR", "CR") and self.line.load.resend:
                self.unanswered[msa[2]] = asked
                again = True
        if again and self.transport is not None:
            self.transport.abort()
        elif self.line.done(self.unanswered) and self.transport is not None:
            self.transport.close()
        else:
            self.push()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self.gone.done():
            self.gone.set_result(None)


class _Line:
    """All messages of one connection, over as many connections as it takes."""

    def __init__(self, load: Load, sent: Sent, connection: int, index: int) -> None:
        self.load, self.sent, self.connection, self.index = load, sent, connection, index
        self.waiting = deque(range(load.messages))
        self._timer: asyncio.TimerHandle | None = None
        self._made: list[bytes] = []

    def make(self) -> None:
        """Make all messages beforehand, so that making them does not slow the sending."""
        self._made = [self.load.traffic.message(self.connection, number) for number in range(self.load.messages)]

    def message(self, number: int) -> bytes:
        return self._made[number] if self._made else self.load.traffic.message(self.connection, number)

    def due(self, number: int) -> float:
        if not self.load.rate:
            return 0.0
        return self.sent.began_at + (number * self.load.connections + self.index) / self.load.rate

    def wake_at(self, due: float, client: _Client) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(max(0.0, due - time.monotonic()), client.push)

    def done(self, unanswered: dict[bytes, tuple[int, float]]) -> bool:
        return not self.waiting and not unanswered

    async def run(self) -> None:
        until = time.monotonic() + self.load.patience_s
        while self.waiting:
            try:
                _, client = await asyncio.get_running_loop().create_connection(
                    lambda: _Client(self), self.load.host, self.load.port
                )
            except OSError:
                if not self.load.resend or time.monotonic() > until:
                    return
                await asyncio.sleep(0.05)
                continue
            try:
                await asyncio.wait_for(client.gone, max(0.1, until - time.monotonic()))
            except TimeoutError:
                if client.transport is not None:
                    client.transport.abort()
                return
            finally:
                if self._timer is not None:
                    self._timer.cancel()
            if not self.load.resend:
                return
            if client.unanswered:
                self.waiting.extendleft(sorted((number for number, _ in client.unanswered.values()), reverse=True))
                await asyncio.sleep(0.05)


async def send(load: Load, sent: Sent | None = None) -> Sent:
    """Send everything; the journal, which fills while it runs."""
    sent = sent or Sent()
    lines = [_Line(load, sent, load.first + n, n) for n in range(load.connections)]
    if load.connections * load.messages * load.traffic.size <= MADE_BEFOREHAND_BYTES:
        for line in lines:
            line.make()
    sent.began_at = time.monotonic()
    await asyncio.gather(*(line.run() for line in lines))
    sent.ended_at = time.monotonic()
    return sent


def _ms(ordered: list[float], percent: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1e3, 2) if ordered else 0.0
