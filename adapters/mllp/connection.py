"""One accepted MLLP connection: frames in, answers out in the order of the frames."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from adapters.mllp.accept import peer_name
from adapters.mllp.frames import END_BLOCK, START_BLOCK, FrameDecoder, FrameReason, FrameRefused, frame
from adapters.mllp.inflight import InflightBudget
from adapters.mllp.options import MllpSourceOptions
from hub.model import log
from hub.model.ports import Answer, Origin, Receive

OnRefused = Callable[[Origin, str, bytes], Answer | None]
_BETWEEN = END_BLOCK + START_BLOCK


class Listener(Protocol):
    """What a connection needs of the listener that accepted it."""

    options: MllpSourceOptions
    budget: InflightBudget
    receive: Receive
    on_refused: OnRefused | None
    draining: bool

    def admit(self, connection: MllpConnection) -> bool: ...
    def forget(self, connection: MllpConnection) -> None: ...
    def write_soon(self, connection: MllpConnection) -> None: ...
    def watch(self, connection: MllpConnection) -> None: ...
    def unwatch(self, connection: MllpConnection) -> None: ...


class _Slot:
    """The place of one answer among those of its connection. Calling it is the `reply` of its message."""

    __slots__ = ("answer", "connection", "size")

    def __init__(self, connection: MllpConnection, size: int) -> None:
        self.connection = connection
        self.size = size
        self.answer: Answer | None = None

    def __call__(self, answer: Answer) -> None:
        if self.answer is None:
            self.answer = answer
            self.connection.answered(self)


class MllpConnection(asyncio.Protocol):
    """Reads until the peer, a fatal refusal or a drain ends it.

    `_reading` is the ordinary state. Afterwards bytes are thrown away, owed answers are still written, and the socket
    is half closed and kept for `linger_s`, because closing it over unread bytes would reset the connection and could
    take the last answer with it.
    """

    def __init__(self, listener: Listener, number: int) -> None:
        self.origin = Origin(listener.options.name, str(number))
        self.last_read_at = 0.0
        self._listener = listener
        self._options = listener.options
        self._budget = listener.budget
        self._receive = listener.receive
        self._feed_decoder = FrameDecoder(listener.options.max_frame_bytes)
        self._feed = self._feed_decoder.feed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._slots: deque[_Slot] = deque()
        self._out: list[Answer] = []
        self._told: set[str] = set()
        self._reading = self._lost = self._finished = self._peer_done = False
        self._paused = self._over_budget = self._over_pipeline = self._peer_slow = False
        self._paused_at = self._slow_since = self._linger_until = 0.0
        self._held = 0  # bytes of the open frame, as counted in the budget
        self._frame_open = False
        self._frame_began_at = 0.0

    @property
    def transport(self) -> asyncio.BaseTransport:
        assert self._transport is not None
        return self._transport

    # ---- transport ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.origin = Origin(self.origin.source, self.origin.connection, peer_name(transport.get_extra_info("peername")))
        if not self._listener.admit(self):
            self._transport.abort()
            return
        self.last_read_at = self._loop.time()
        self._reading = True

    def data_received(self, data: bytes) -> None:
        if not self._reading:
            return
        events = self._feed(data)
        if events:
            slots, receive, budget = self._slots, self._receive, self._budget
            for event in events:
                if type(event) is bytes:
                    size = len(event)
                    slot = _Slot(self, size)
                    slots.append(slot)
                    budget.take(size)
                    receive(event, self.origin, slot)
                else:
                    self._refuse_frame(cast(FrameRefused, event))
        if self._frame_open or self._feed_decoder.unfinished:
            self._follow_frame(ended=bool(events))
        if self._options.idle_timeout_s:
            self.last_read_at = self._loop.time()
        if len(self._slots) > self._options.max_pipelined or self._budget.exhausted:
            self._hold_back()

    def eof_received(self) -> bool:
        self._peer_done = True
        if self._reading and self._feed_decoder.unfinished:
            self._log_refused(FrameReason.NO_END_BLOCK, self._feed_decoder.buffered)
        self._stop_reading()
        transport = self._transport
        return transport is not None and transport.can_write_eof() and self.owes

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._stop_reading()
        self._listener.unwatch(self)
        self._listener.forget(self)
        answered = [slot.answer for slot in self._slots if slot.answer is not None]
        out, self._out = self._out, []
        self._slots.clear()
        for answer in (*out, *answered):
            _tell_lost(answer)

    def pause_writing(self) -> None:
        self._peer_slow = True
        self._slow_since = self._loop.time()
        self._listener.watch(self)
        self._balance()

    def resume_writing(self) -> None:
        self._peer_slow = False
        if not self._frame_open and not self._finished:
            self._listener.unwatch(self)
        self._balance()

    # ---- answers -----------------------------------------------------------------------------------------------------

    @property
    def owes(self) -> bool:
        """Whether an answer is still to come or to be written."""
        return bool(self._slots or self._out)

    def answered(self, slot: _Slot) -> None:
        """`slot` has its answer: what is ready in order goes out at the end of this loop iteration."""
        self._budget.give(slot.size)
        if self._lost or self._finished:
            if slot.answer is not None:
                _tell_lost(slot.answer)
            return
        slots = self._slots
        if slots[0] is not slot:
            return
        out = self._out
        if not out:
            self._listener.write_soon(self)
        while slots and (answer := slots[0].answer) is not None:
            out.append(answer)
            slots.popleft()

    def write(self) -> None:
        """Write what is ready, in one piece."""
        out, self._out = self._out, []
        transport = self._transport
        if not out:
            return
        if transport is None or self._lost or transport.is_closing():
            for answer in out:
                _tell_lost(answer)
            return
        if len(out) == 1 and not out[0].close:
            if out[0].body:
                transport.write(frame(out[0].body))
        else:
            self._write_several(transport, out)
        if not self._slots and (not self._reading or self._listener.draining):
            self.finish()
        if self._options.idle_timeout_s:
            self.last_read_at = self._loop.time()
        if self._over_pipeline and len(self._slots) <= self._options.max_pipelined // 2:
            self._over_pipeline = False
            self._balance()

    def _write_several(self, transport: asyncio.Transport, out: list[Answer]) -> None:
        last = next((place for place, answer in enumerate(out) if answer.close), None)
        written = out if last is None else out[: last + 1]
        bodies = [answer.body for answer in written if answer.body]
        if bodies:
            transport.write(b"".join((START_BLOCK, _BETWEEN.join(bodies), END_BLOCK)))
        if last is not None:
            unwritten = [*out[last + 1 :], *(slot.answer for slot in self._slots if slot.answer is not None)]
            self._slots.clear()
            self.finish()
            for answer in unwritten:
                _tell_lost(answer)

    # ---- ends --------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Nothing more is read or written; the peer has `linger_s` to take what was written."""
        transport = self._transport
        if self._finished or transport is None or self._lost:
            return
        self._stop_reading()
        self._finished = True
        self._linger_until = self._loop.time() + self._options.linger_s
        if transport.is_closing():
            return
        if self._peer_done or not self._options.linger_s:
            transport.close()
            return
        self._balance()
        self._listener.watch(self)
        if transport.can_write_eof():
            transport.write_eof()

    def drain(self) -> None:
        """Read nothing more, end once the owed answers are written."""
        self._stop_reading()
        if not self.owes:
            self.finish()
        else:
            self._balance()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def check(self, now: float) -> None:
        """Called now and then while a frame is open, the peer reads too slowly, or the connection lingers."""
        transport = self._transport
        if transport is None or self._lost:
            return
        limit_s = self._options.frame_timeout_s
        if self._finished:
            if now >= self._linger_until:
                transport.abort() if transport.get_write_buffer_size() else transport.close()
        elif self._peer_slow and now - self._slow_since > limit_s:
            self._log_refused("PeerNotReading", transport.get_write_buffer_size())
            transport.abort()
        elif self._frame_open and not self._paused:
            earned_s = self._feed_decoder.buffered / self._options.min_bytes_per_s
            if now - self.last_read_at > limit_s or now - self._frame_began_at > limit_s + earned_s:
                self._refuse(FrameReason.FRAME_TIMEOUT, self._feed_decoder.buffered, self._feed_decoder.head, fatal=True)

    def refuse_idle(self) -> None:
        """Nothing came for `idle_timeout_s` between frames."""
        if self._reading and not self.owes and not self._frame_open:
            self._log_refused("IdleTimeout", 0)
            self.finish()

    # ---- frames ------------------------------------------------------------------------------------------------------

    @property
    def in_frame(self) -> bool:
        return self._frame_open

    def resume(self, *, favoured: bool) -> None:
        self._over_budget = False
        self._balance()

    def _follow_frame(self, *, ended: bool) -> None:
        """Keep the clock and the budget of the open frame."""
        decoder, now = self._feed_decoder, self._loop.time()
        unfinished = decoder.unfinished and self._reading
        if unfinished:
            self.last_read_at = now
            if ended or not self._frame_open:
                self._frame_began_at = now
            if not self._frame_open:
                self._frame_open = True
                self._listener.watch(self)
        elif self._frame_open:
            self._frame_open = False
            if not self._peer_slow and not self._finished:
                self._listener.unwatch(self)
        held = decoder.buffered if unfinished else 0
        change, self._held = held - self._held, held
        if change:
            self._budget.hold(change)
        if ended or not unfinished:
            self._budget.frame_ended(self)

    def _refuse_frame(self, refused: FrameRefused) -> None:
        self._refuse(refused.reason, refused.size, refused.head, fatal=refused.fatal)

    def _refuse(self, reason: FrameReason, size: int, head: bytes, *, fatal: bool) -> None:
        self._log_refused(reason, size)
        tell = self._listener.on_refused
        answer = tell(self.origin, str(reason), head) if tell is not None else None
        if fatal:
            self._stop_reading()
            answer = Answer(b"", close=True) if answer is None else Answer(answer.body, answer.lost, close=True)
        if answer is not None:
            slot = _Slot(self, 0)
            self._slots.append(slot)
            slot(answer)

    def _log_refused(self, reason: str, size: int) -> None:
        if reason not in self._told:
            self._told.add(reason)
            log.event(
                "mllp.refused",
                level="warning",
                source=self.origin.source,
                connection=self.origin.connection,
                peer=self.origin.peer,
                reason=str(reason),
                bytes=size,
            )

    # ---- reading and not reading -------------------------------------------------------------------------------------

    def _hold_back(self) -> None:
        if not self._reading:
            return
        self._over_pipeline = len(self._slots) > self._options.max_pipelined
        if self._budget.exhausted and not self._over_budget and not self._budget.favours(self):
            self._over_budget = True
            self._balance()
            self._budget.wait(self)
        else:
            self._balance()

    def _balance(self) -> None:
        """Pause or resume the transport as the reasons to pause stand now."""
        transport = self._transport
        if transport is None or self._lost or transport.is_closing():
            return
        if self._reading:
            paused = self._over_budget or self._over_pipeline or self._peer_slow
        else:
            paused = not self._finished and self._listener.draining
        if paused == self._paused:
            return
        self._paused = paused
        if paused:
            self._paused_at = self._loop.time()
            transport.pause_reading()
            return
        waited_s = self._loop.time() - self._paused_at
        self._frame_began_at += waited_s
        self.last_read_at += waited_s
        transport.resume_reading()

    def _stop_reading(self) -> None:
        self._reading = False
        self._over_budget = self._over_pipeline = False
        self._frame_open = False
        if self._held:
            held, self._held = self._held, 0
            self._budget.hold(-held)
        self._feed_decoder = FrameDecoder(self._options.max_frame_bytes)
        self._budget.forget(self)


def _tell_lost(answer: Answer) -> None:
    if answer.lost is not None:
        answer.lost()
