"""MLLP blocks: bytes of a stream in, whole messages out. Pure, no I/O.

What real senders do and what becomes of it:

| on the wire | becomes |
|---|---|
| VT data FS CR, in any number of pieces, any number in one piece | one message each |
| CR or LF between blocks | skipped |
| other bytes between blocks | NO_START_BLOCK, once a run; more than `max_stray_bytes` without a good block between is fatal |
| FS VT | the CR was forgotten: the block ends, the next one begins |
| FS and any other byte | data |
| VT inside a block | data, unless `MSH` follows: then what stood before had no end, NO_END_BLOCK, and the block begins anew |
| VT VT MSH | the second VT is dropped |
| more than `max_bytes` before the end | FRAME_TOO_LONG, fatal |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

START_BLOCK = b"\x0b"
END_BLOCK = b"\x1c\r"
HEAD_BYTES = 1024  # enough of a refused block to find its MSH
MAX_FRAME_BYTES = 64 << 20
MAX_STRAY_BYTES = 4096

_VT, _FS, _CR = 0x0B, 0x1C, 0x0D
_END = re.compile(b"\x1c[\r\x0b]")
_BLOCK_SIGN = re.compile(b"[\x0b\x1c]")


class FrameReason(StrEnum):
    FRAME_TOO_LONG = "FrameTooLong"
    NO_START_BLOCK = "NoStartBlock"
    NO_END_BLOCK = "NoEndBlock"
    FRAME_TIMEOUT = "FrameTimeout"  # given by the listener, which holds the clock


@dataclass(frozen=True, slots=True)
class FrameRefused:
    """Bytes that are no message. `head` (its first bytes, at most HEAD_BYTES) is for the acknowledgement, never for a log.

    `size` counts bytes, up to the limit that was passed. After a `fatal` one the decoder reads nothing more.
    """

    reason: FrameReason
    size: int
    head: bytes
    fatal: bool = False


FrameEvent = bytes | FrameRefused


def frame(body: bytes) -> bytes:
    """`body` as one block.

    Standard: MLLP Release 1, block format.
    """
    return b"\x0b%b\x1c\r" % body


class FrameDecoder:
    """One stream's blocks. The events depend on the bytes only, never on how they were cut.

    Memory stays under `max_bytes` + one chunk; a chunk is scanned once.
    Standard: MLLP Release 1, block format.
    """

    __slots__ = (
        "_buffer",
        "_dead",
        "_max_bytes",
        "_max_stray_bytes",
        "_open",
        "_scanned",
        "_stray_head",
        "_stray_run",
        "_stray_total",
    )

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES, max_stray_bytes: int = MAX_STRAY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._max_stray_bytes = max_stray_bytes
        self._buffer = bytearray()  # the open block, after its VT
        self._scanned = 0  # no end begins before this offset of the buffer
        self._open = False
        self._dead = False
        self._stray_head = bytearray()
        self._stray_run = 0  # bytes of the current run between blocks, CR and LF not counted
        self._stray_total = 0  # the same since the last good block

    @property
    def unfinished(self) -> bool:
        """Whether bytes came that do not make a message yet."""
        return self._open or self._stray_run > 0

    @property
    def buffered(self) -> int:
        """Bytes held of the open block."""
        return len(self._buffer)

    @property
    def head(self) -> bytes:
        """First bytes of what is unfinished."""
        return bytes(self._buffer[:HEAD_BYTES] if self._open else self._stray_head)

    def feed(self, chunk: bytes) -> Sequence[FrameEvent]:
        """The messages (without VT, FS, CR) and refusals that `chunk` completes, in order."""
        if chunk and chunk[0] == _VT and not self._open and not self._stray_total and not self._dead:
            end = chunk.find(_FS, 1)
            if end == len(chunk) - 2 and chunk[-1] == _CR and end <= self._max_bytes and chunk.find(_VT, 1) < 0:
                return (chunk[1:end],)
        return self._feed(chunk)

    def _feed(self, chunk: bytes) -> list[FrameEvent]:
        events: list[FrameEvent] = []
        if self._dead:
            return events
        data: bytes | bytearray = chunk
        at = scan = 0
        if self._open:
            self._buffer += chunk
            data, scan = self._buffer, self._scanned
        while True:
            if not self._open:
                at = scan = self._between_blocks(data, at, events)
                if at < 0 or self._dead:
                    at = len(data)
                    break
                self._open = True
            end, next_scan = _find_end(data, scan)
            if end < 0:
                self._scanned = next_scan - at
                self._check_unfinished(data, at, events)
                break
            if end - at > self._max_bytes:
                self._too_long(data, at, events)
                break
            self._end_block(data, at, end, events)
            self._open = data[end + 1] == _VT
            at = scan = end + 2
        self._keep(data, at)
        return events

    def _keep(self, data: bytes | bytearray, at: int) -> None:
        """Hold what the open block has so far."""
        if self._dead:
            self._buffer = bytearray()
        elif data is self._buffer:
            del self._buffer[:at]
        elif self._open:
            self._buffer += memoryview(data)[at:]

    def _check_unfinished(self, data: bytes | bytearray, at: int, events: list[FrameEvent]) -> None:
        pending_fs = 1 if len(data) > at and data[-1] == _FS else 0
        if len(data) - at - pending_fs > self._max_bytes:
            self._too_long(data, at, events)

    def _too_long(self, data: bytes | bytearray, at: int, events: list[FrameEvent]) -> None:
        head = bytes(data[at : at + min(HEAD_BYTES, self._max_bytes)])
        self._die(FrameRefused(FrameReason.FRAME_TOO_LONG, self._max_bytes, head, fatal=True), events)

    def _die(self, refused: FrameRefused, events: list[FrameEvent]) -> None:
        events.append(refused)
        self._dead, self._open = True, False
        self._stray_run = 0

    def _end_block(self, data: bytes | bytearray, at: int, end: int, events: list[FrameEvent]) -> None:
        with memoryview(data) as view:
            body = bytes(view[at:end])
        if body.find(_VT) >= 0:
            again = body.rfind(b"\x0bMSH")
            if again >= 0:
                lost = body[:again].strip(START_BLOCK)
                if lost:
                    events.append(FrameRefused(FrameReason.NO_END_BLOCK, len(lost), lost[:HEAD_BYTES]))
                body = body[again + 1 :]
        self._stray_total = 0
        events.append(body)

    def _between_blocks(self, data: bytes | bytearray, at: int, events: list[FrameEvent]) -> int:
        """The place after the next VT, -1 when there is none; what is skipped is counted."""
        while True:
            sign = _BLOCK_SIGN.search(data, at)
            stop = sign.start() if sign else len(data)
            if stop > at:
                self._stray(bytes(data[at:stop]), events)
            if sign is None or self._dead:
                return -1
            if self._stray_run:
                events.append(FrameRefused(FrameReason.NO_START_BLOCK, self._stray_run, bytes(self._stray_head)))
                self._stray_run = 0
                self._stray_head.clear()
            if data[stop] == _VT:
                return stop + 1
            at = stop + 1

    def _stray(self, run: bytes, events: list[FrameEvent]) -> None:
        if not self._stray_run:
            run = run.lstrip(b"\r\n")
        room = HEAD_BYTES - len(self._stray_head)
        if room > 0:
            self._stray_head += run[:room]
        counted = len(run) - run.count(b"\r") - run.count(b"\n")
        before = self._stray_total - self._stray_run
        self._stray_run += counted
        self._stray_total += counted
        if self._stray_total > self._max_stray_bytes:
            size = self._max_stray_bytes - before
            head = _cut_after(bytes(self._stray_head), size)
            self._die(FrameRefused(FrameReason.NO_START_BLOCK, size, head, fatal=True), events)


def _find_end(data: bytes | bytearray, scan: int) -> tuple[int, int]:
    """Where the FS of the block's end stands, or -1 and where to look from next time."""
    fs = data.find(_FS, scan)
    if fs < 0:
        return -1, len(data)
    if fs + 1 < len(data):
        if data[fs + 1] in (_CR, _VT):
            return fs, 0
        found = _END.search(data, fs + 1)
        if found:
            return found.start(), 0
    return -1, len(data) - (data[-1] == _FS)


def _cut_after(head: bytes, counted: int) -> bytes:
    """`head` up to `counted` bytes that are neither CR nor LF."""
    for place, byte in enumerate(head):
        if byte not in b"\r\n":
            if counted == 0:
                return head[:place]
            counted -= 1
    return head
