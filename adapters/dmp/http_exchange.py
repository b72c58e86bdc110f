"""One HTTP POST and its answer: it is always known whether anything was sent."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from urllib.parse import SplitResult

import httptools

from hub.model.refusals import NoAnswer, PeerUnavailable

MAX_ANSWER_BYTES = 8 << 20
_READ_BYTES = 64 << 10


@dataclass(slots=True)
class HttpAnswer:
    """Status, content type and body of an answer."""

    status: int = 0
    content_type: str = ""
    body: bytearray = field(default_factory=bytearray)


class _Reading:
    """What httptools tells of an answer."""

    def __init__(self) -> None:
        self.answer = HttpAnswer()
        self.complete = self.headers_complete = self.is_framed = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.answer.content_type = value.decode("latin-1")
        self.is_framed = self.is_framed or name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        self.headers_complete = True

    def on_body(self, body: bytes) -> None:
        self.answer.body += body

    def on_message_complete(self) -> None:
        self.complete = True


async def connect(
    url: SplitResult, context: ssl.SSLContext | None, timeout_s: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the host of `url`.

    Raises:
        PeerUnavailable: none within `timeout_s`, or a certificate that is not trusted.
    """
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.open_connection(url.hostname, port, ssl=context)
    except ssl.SSLError as error:
        raise PeerUnavailable(f"no TLS connection to the DMP ({error.reason or type(error).__name__})") from None
    except (OSError, TimeoutError) as error:
        raise PeerUnavailable(f"no connection to the DMP ({type(error).__name__})") from None


async def post(
    url: SplitResult,
    body: bytes,
    content_type: str,
    *,
    context: ssl.SSLContext | None,
    connect_timeout_s: float,
    answer_timeout_s: float,
) -> HttpAnswer:
    """Send a request and read its whole answer, on a connection of its own.

    Raises:
        PeerUnavailable: nothing was sent.
        NoAnswer: the request left, and no whole answer came back in time.
    """
    reader, writer = await connect(url, context, connect_timeout_s)
    head = (
        f"POST {url.path or '/'} HTTP/1.1\r\nHost: {url.netloc.rpartition('@')[2]}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nAccept: application/soap+xml, multipart/related\r\nConnection: close\r\n\r\n"
    )
    try:
        async with asyncio.timeout(answer_timeout_s):
            writer.write(head.encode("ascii", "replace"))
            writer.write(body)
            await writer.drain()
            return await _answer(reader)
    except TimeoutError:
        raise NoAnswer("the DMP did not answer in time") from None
    except (OSError, ssl.SSLError) as error:
        raise NoAnswer(f"the connection to the DMP broke ({type(error).__name__})") from None
    finally:
        writer.transport.abort()


async def _answer(reader: asyncio.StreamReader) -> HttpAnswer:
    reading = _Reading()
    parser = httptools.HttpResponseParser(reading)
    while not reading.complete:
        chunk = await reader.read(_READ_BYTES)
        if not chunk:
            if reading.headers_complete and not reading.is_framed:
                break
            raise NoAnswer("the DMP closed the connection before its answer was whole")
        try:
            parser.feed_data(chunk)
        except httptools.HttpParserError:
            raise NoAnswer("what the DMP answered is not HTTP") from None
        if len(reading.answer.body) > MAX_ANSWER_BYTES:
            raise NoAnswer(f"the DMP answered more than {MAX_ANSWER_BYTES} bytes")
    reading.answer.status = parser.get_status_code()
    return reading.answer
