"""Is it up, is it ready, how is it doing."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hub.web.access import is_open, needs, services_of
from hub.web.problems import json_response
from hub.web.tokens import Principal, Role

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="The process is up", dependencies=[is_open()])
async def healthz() -> Response:
    return json_response({"status": "up"})


@router.get("/readyz", summary="The store is writable and the listeners are bound", dependencies=[is_open()])
async def readyz(request: Request) -> Response:
    ready, reasons = services_of(request).ready()
    return json_response({"ready": ready, **reasons}, 200 if ready else 503)


@router.get("/metrics", summary="Figures for Prometheus", responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request, caller: Annotated[Principal, needs(Role.OPERATOR, Role.SYSTEM)]) -> Response:
    body, media_type = services_of(request).metrics()
    return Response(body, headers={"Content-Type": media_type, "Cache-Control": "no-store"})
