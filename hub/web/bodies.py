"""Reading a request's body with a limit that holds before the bytes are in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import NoReturn
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from hub.web.problems import Problem

DISCARDED_BYTES, DISCARDED_S = 8 << 20, 0.5
FORM = "application/x-www-form-urlencoded"


async def limited_body(request: Request, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        Problem: 413 as soon as more than `max_bytes` are announced or came.
    """
    announced, pieces, size = request.headers.get("content-length", ""), list[bytes](), 0
    stream = request.stream()
    if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > max_bytes):
        await _refuse(stream, max_bytes)
    async for piece in stream:
        size += len(piece)
        if size > max_bytes:
            await _refuse(stream, max_bytes)
        pieces.append(piece)
    return b"".join(pieces)


async def _refuse(stream: AsyncGenerator[bytes, None], max_bytes: int) -> NoReturn:
    """Throw away a little more: a caller that is still sending would see a reset and not the answer."""
    left = DISCARDED_BYTES
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(DISCARDED_S):
            async for piece in stream:
                left -= len(piece)
                if left < 0:
                    break
    raise Problem(413, "BodyTooLarge", f"The body is larger than {max_bytes} bytes.", headers={"Connection": "close"})


async def form_fields(request: Request, *, max_bytes: int = 64 << 10) -> list[tuple[str, str]]:
    """The fields of an HTML form, in order.

    Raises:
        Problem: 415 for another media type, 413 or 400 when the form is too large or not one.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise Problem(415, "NotAForm", f"Send {FORM}.")
    body = await limited_body(request, max_bytes)
    if b"%00" in body or b"\0" in body:
        raise Problem(400, "WrongForm", "A NUL is no text.")
    try:
        return parse_qsl(body.decode("utf-8"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=100)
    except ValueError:
        raise Problem(400, "WrongForm", "The form fields cannot be read.") from None
