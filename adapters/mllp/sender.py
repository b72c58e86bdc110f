"""What `vaguemestre send` does: messages out of files, sent by the MLLP client, one result each in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace

from adapters.mllp.client import MllpDestination
from adapters.mllp.frames import FrameDecoder
from adapters.mllp.msa import read_acknowledgement
from adapters.mllp.options import MllpDestinationOptions
from hub.model.refusals import DeliveryFailed

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BATCH_SEGMENTS = (b"FHS", b"BHS", b"BTS", b"FTS")


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one message. `code` is MSA-1 of the answer, or the code of the failure (`NoAnswer` …)."""

    file: str
    number: int  # 1 = the first message of the file
    accepted: bool
    code: str
    sentence: str
    answer: bytes  # the acknowledgement, ER7, empty when none came
    duration_ms: float


def messages_in(content: bytes) -> list[bytes]:
    """The messages of a file, segments ended by CR: framed blocks, or ER7 text with CR, LF or CRLF, one or several MSH.

    Blank lines and batch segments (FHS, BHS, BTS, FTS) are left out.
    """
    if content.startswith(b"\x0b"):
        events = FrameDecoder(len(content)).feed(content + b"\x1c\r")
        return [message for event in events if isinstance(event, bytes) for message in messages_in(event.lstrip(b"\x0b"))]
    lines = content.removeprefix(_BYTE_ORDER_MARK).replace(b"\r\n", b"\r").replace(b"\n", b"\r").split(b"\r")
    messages: list[list[bytes]] = []
    for line in lines:
        if not line.strip() or line[:3] in _BATCH_SEGMENTS:
            continue
        if line.startswith(b"MSH") or not messages:
            messages.append([])
        messages[-1].append(line)
    return [b"\r".join(segments) + b"\r" for segments in messages]


async def send_messages(options: MllpDestinationOptions, files: Iterable[tuple[str, bytes]]) -> AsyncIterator[Sent]:
    """Send every message of `files` (name, content); at most `options.in_flight` wait for their answer at once.

    Never raises for an answer that is missing or negative: that is in the result.

    Raises:
        Misconfigured: the TLS files do not serve.
    """
    destination = MllpDestination(replace(options, lenient_msa=True))
    under_way: deque[asyncio.Task[Sent]] = deque()
    try:
        for file, number, body in _numbered(files):
            under_way.append(asyncio.create_task(_send(destination, file, number, body)))
            if len(under_way) >= destination.in_flight:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await destination.close()


def _numbered(files: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, int, bytes]]:
    for file, content in files:
        for number, body in enumerate(messages_in(content), start=1):
            yield file, number, body


async def _send(destination: MllpDestination, file: str, number: int, body: bytes) -> Sent:
    began = time.monotonic()
    accepted, code, sentence = True, "", ""
    try:
        reference = await destination.send(body, delivery_id=number, control_id="")
        answer = reference.answer
    except DeliveryFailed as failure:
        accepted, code, sentence, answer = False, failure.code, failure.sentence, failure.answer
    acknowledgement = read_acknowledgement(answer)
    if acknowledgement is not None and acknowledgement.code and code != "NoAnswer":
        code = acknowledgement.code
    return Sent(file, number, accepted, code, sentence, answer, (time.monotonic() - began) * 1000)
