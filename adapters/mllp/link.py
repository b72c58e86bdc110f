"""One connection to a receiver: messages out, each acknowledgement matched by MSA-2."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from adapters.mllp.accept import tune
from adapters.mllp.frames import FrameDecoder, frame
from adapters.mllp.msa import Acknowledgement, read_acknowledgement
from adapters.mllp.options import MllpDestinationOptions
from hub.model import log
from hub.model.ports import PeerReference
from hub.model.refusals import CONDITIONS_0357, DeliveryFailed, NoAnswer, PeerBusy, PeerRefused, PeerUnavailable

KEPT_ANSWER_BYTES = 4096


class _Pending:
    """A message on its way: `left` once its bytes were handed to the socket."""

    __slots__ = ("answer", "body", "left")

    def __init__(self, body: bytes, answer: asyncio.Future[PeerReference]) -> None:
        self.body = body
        self.answer = answer
        self.left = False


class MllpLink(asyncio.Protocol):
    """In flight are at most as many messages as the caller sends; no two share a control id.

    The first doubt about what the peer says (silence, half a frame, bytes that are no acknowledgement) ends the
    connection: an answer that comes late can then never be taken for the answer to another message.
    """

    def __init__(self, options: MllpDestinationOptions, on_room: Callable[[], None]) -> None:
        self._options = options
        self._on_room = on_room
        self._loop = asyncio.get_running_loop()
        self._decoder = FrameDecoder(options.max_ack_bytes)
        self._transport: asyncio.Transport | None = None
        self._in_flight: dict[bytes, _Pending] = {}
        self._outbox: list[_Pending] = []
        self._oldest_since = 0.0  # when the oldest message in flight became the oldest
        self._timer: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0
        self._heard = self._told_unmatched = self._closed = False

    # ---- asked by the destination ------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        return not self._closed and self._transport is not None and not self._transport.is_closing()

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def holds(self, control_id: bytes) -> bool:
        return control_id in self._in_flight

    def send(self, body: bytes, control_id: bytes) -> asyncio.Future[PeerReference]:
        """The answer to come. What is sent in one loop iteration leaves in one write."""
        pending = _Pending(body, self._loop.create_future())
        if not self._in_flight:
            self._start_clock()
        self._in_flight[control_id] = pending
        if not self._outbox:
            self._loop.call_soon(self._write)
        self._outbox.append(pending)
        return pending.answer

    def close(self, reason: str = "closed", answer: bytes = b"") -> None:
        """End the connection: what left raises NoAnswer, what did not raises PeerUnavailable."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        in_flight, self._in_flight, self._outbox = self._in_flight, {}, []
        for pending in in_flight.values():
            if not pending.answer.done():
                error = NoAnswer(reason, answer=answer) if pending.left else PeerUnavailable(reason)
                pending.answer.set_exception(error)
        self._on_room()

    # ---- transport ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        tune(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        self._heard = True
        for event in self._decoder.feed(data):
            if self._closed:
                return
            if not isinstance(event, bytes):
                self._give_up(event.reason, event.head)
                return
            acknowledgement = read_acknowledgement(event)
            if acknowledgement is None:
                self._give_up("NotAnAcknowledgement", event)
                return
            self._take(acknowledgement, event)

    def eof_received(self) -> bool:
        if self._decoder.unfinished:
            self._give_up("HalfFrame", self._decoder.head)
        else:
            self.close("connection ended by the peer")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ssl.SSLError) and not self._heard:
            # TLS 1.3: the server judges our certificate after our first bytes left; it has read none of them.
            for pending in self._in_flight.values():
                pending.left = False
            self.close(f"no connection: {exc.reason or type(exc).__name__}")
        else:
            self.close("connection lost")

    def resume_writing(self) -> None:
        """A large message has left: the receiver's time begins now."""
        self._oldest_since = self._loop.time()

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        outbox, self._outbox = self._outbox, []
        if self._closed or self._transport is None or not outbox:
            return
        if self._transport.is_closing():
            self.close("connection lost")
            return
        for pending in outbox:
            pending.left = True
        if len(outbox) == 1:
            self._transport.write(frame(outbox[0].body))
        else:
            self._transport.write(b"".join([frame(pending.body) for pending in outbox]))
        for pending in outbox:
            pending.body = b""
        self._unsent_bytes = self._transport.get_write_buffer_size()

    def _take(self, acknowledgement: Acknowledgement, raw: bytes) -> None:
        control_id = acknowledgement.msa_2
        if not control_id and self._options.lenient_msa and len(self._in_flight) == 1:
            control_id = next(iter(self._in_flight))
        pending = self._in_flight.get(control_id)
        if pending is None or not pending.left:
            self._ignore_unmatched()
            return
        outcome = _outcome(acknowledgement, raw)
        if outcome is None:
            self._give_up("AcknowledgementCodeUnknown", raw)
            return
        was_oldest = next(iter(self._in_flight)) == control_id
        del self._in_flight[control_id]
        if was_oldest:
            self._oldest_since = self._loop.time()
        if not pending.answer.done():
            if isinstance(outcome, PeerReference):
                pending.answer.set_result(outcome)
            else:
                pending.answer.set_exception(outcome)
        self._on_room()

    def _ignore_unmatched(self) -> None:
        """A second or late acknowledgement, or one for somebody else: told once a connection."""
        if not self._told_unmatched:
            self._told_unmatched = True
            log.event("mllp.ack_unmatched", level="warning", destination=self._options.name)

    def _give_up(self, reason: str, answer: bytes) -> None:
        log.event(
            "mllp.answer_unusable",
            level="warning",
            destination=self._options.name,
            reason=str(reason),
            size=len(answer),
            count=len(self._in_flight),
        )
        self.close(str(reason), answer[:KEPT_ANSWER_BYTES])

    def _start_clock(self) -> None:
        self._oldest_since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._options.ack_timeout_s, self._check_clock)

    def _check_clock(self) -> None:
        self._timer = None
        if self._closed or not self._in_flight:
            return
        unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
        if 0 < unsent < self._unsent_bytes:  # a large message is still moving
            self._unsent_bytes = unsent
            self._oldest_since = self._loop.time()
        due = self._oldest_since + self._options.ack_timeout_s
        if due <= self._loop.time() + 0.001:
            self._give_up("AckTimeout", b"")
        else:
            self._timer = self._loop.call_at(due, self._check_clock)


def _outcome(acknowledgement: Acknowledgement, raw: bytes) -> PeerReference | DeliveryFailed | None:
    """What the acknowledgement means for its message, None when MSA-1 is no code of table 0008.

    Standard: HL7 v2.5.1 table 0008.
    """
    code = acknowledgement.code
    if code in {"AA", "CA"}:
        return PeerReference(acknowledgement.msh_10, raw)
    sentence = f"MSA-1 {code}"
    if acknowledgement.err_3:
        condition = CONDITIONS_0357.get(acknowledgement.err_3)
        sentence += f", ERR-3 {acknowledgement.err_3}" + (f" ({condition})" if condition else "")
    if code in {"AR", "CR"}:
        return PeerBusy(sentence, answer=raw[:KEPT_ANSWER_BYTES])
    if code in {"AE", "CE"}:
        return PeerRefused(sentence, answer=raw[:KEPT_ANSWER_BYTES])
    return None
