"""`vaguemestre simulate`: national services for training and tests, each a small server that answers as it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from adapters.dmp.simulated import SimulatedDmp
from hub.app.config import Installation
from hub.app.strict import address
from hub.app.terminal import remark

MAX_REQUEST_BYTES = 128 << 20
_SILENT_S = 3600.0  # longer than anybody waits


def run_dmp(listen: str, installation: Installation | None, *, answer: str, fail_every: int, delay_s: float) -> int:
    """Serve a DMP until Ctrl-C or SIGTERM, a line for each request; 2 for wrong arguments, 1 when it cannot listen."""
    listen = listen or (listen_of(installation) if installation is not None else "")
    try:
        host, port = _place(listen)
        dmp = SimulatedDmp(answer, fail_every=fail_every)
    except ValueError as error:
        remark(str(error))
        return 2
    print(f'[dmp] url = "http://{host}:{port}/"   answers: {answer}   counts: GET http://{host}:{port}/', flush=True)
    return _serve(dmp_application(dmp, delay_s=delay_s, tell=_line), host.strip("[]"), port)


def _place(listen: str) -> tuple[str, int]:
    if not listen:
        raise ValueError("--listen HOST:PORT is missing, and no configuration names a [dmp] on this machine")
    try:
        address(listen)
    except ValueError as error:
        raise ValueError(f"--listen {error}") from None
    host, _, port = listen.rpartition(":")
    return host, int(port)


def dmp_application(dmp: SimulatedDmp, *, delay_s: float = 0.0, tell: Callable[[str], None] = lambda _line: None) -> Starlette:
    """The application: POST anywhere is a request, GET / gives the counts."""

    async def take(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_REQUEST_BYTES:
                return PlainTextResponse("too large", 413)
        reply = await asyncio.to_thread(dmp.handle, bytes(body), request.headers.get("content-type", ""))
        tell(reply.line)
        await asyncio.sleep(delay_s)
        if reply.body is None:
            await _until_gone(request)
            return Response(status_code=504)
        return Response(reply.body, reply.status, media_type="application/soap+xml; charset=UTF-8")

    async def counts(_request: Request) -> Response:
        return JSONResponse(dmp.counts)

    return Starlette(routes=[Route("/", counts, methods=["GET"]), Route("/{path:path}", take, methods=["POST"])])


async def _until_gone(request: Request) -> None:
    """Say nothing until the other side has had enough."""
    end = time.monotonic() + _SILENT_S
    while time.monotonic() < end and not await request.is_disconnected():  # noqa: ASYNC110 - it is the client's to say
        await asyncio.sleep(0.1)


def listen_of(installation: Installation) -> str:
    """HOST:PORT of `[dmp] url`; empty when there is none on this machine without TLS."""
    section = installation.configuration.dmp
    if section is None or not section.url.startswith("http://"):
        return ""
    return section.host_and_port


def _serve(application: Any, host: str, port: int) -> int:
    settings = uvicorn.Config(application, host=host, port=port, log_level="error", timeout_graceful_shutdown=1, lifespan="off")
    server = uvicorn.Server(settings)
    try:
        server.run()
    except SystemExit:  # uvicorn ends so when it cannot bind
        remark(f"{host}:{port} cannot be listened at")
        return 1
    except KeyboardInterrupt:
        return 0
    return 0 if server.started else 1


def _line(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)
