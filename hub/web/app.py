"""The HTTP application, put together. Importing this module imports FastAPI and everything behind the pages."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.ledger.acts import NotFound
from hub.model import log
from hub.model.refusals import HubError
from hub.model.states import ForbiddenMove
from hub.store.port import BlobDamaged, ReadTooLong, StoreUnavailable
from hub.web import (
    docs_page,
    fhir_api,
    fhir_operations,
    health,
    identity_api,
    ledger_api,
    movements_api,
    reload_api,
    retention_api,
)
from hub.web.access import AuditTrail, NeedsRole, nobody
from hub.web.console import error_page, message_page, pages
from hub.web.console.sessions import NeedsSession, Sessions
from hub.web.problems import Problem, problem_response
from hub.web.services import Services
from hub.web.throttle import FailedSignIns

# `/console/messages/new` stands before `/console/messages/{id}`, and the record's catch-all last in its own router.
ROUTERS = (
    health.router,
    ledger_api.router,
    identity_api.router,
    movements_api.router,
    retention_api.router,
    reload_api.router,
    fhir_operations.router,  # before the paths that take any type and id
    fhir_api.router,
    docs_page.router,
    pages.router,
    message_page.router,
)


STATUS_ROUTERS = (health.router,)  # what a process answers that serves no pages


def create_app(services: Services, *, status_only: bool = False) -> FastAPI:
    """The application over `services`; with `status_only` no more than `/healthz`, `/readyz` and `/metrics`.

    Raises:
        TypeError: a path says neither which role it needs nor that it is open.
    """
    app = FastAPI(
        title="Vaguemestre",
        version=services.version,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        description="The interoperability hub: ledger, patient record, console.",
    )
    app.state.services = services
    app.state.failures = FailedSignIns()
    app.state.trail = AuditTrail(services.store)
    app.state.sessions = Sessions()
    app.state.roles = docs_page.roles_by_path(routes())
    for router in STATUS_ROUTERS if status_only else ROUTERS:
        app.include_router(router)
    for kind, answer in (
        (Problem, _problem),
        (RequestValidationError, _wrong_request),
        (HTTPException, _http_exception),
        (ForbiddenMove, _forbidden_move),
        (HubError, _hub_error),
        (Exception, _failed),
    ):
        app.add_exception_handler(kind, answer)
    app.add_middleware(NoNul)
    app.add_middleware(SafeHeaders)
    return app


def routes() -> list[APIRoute]:
    """Every path that the application answers, as its module wrote it.

    Raises:
        TypeError: a path says neither which role it needs nor that it is open.
    """
    found: list[APIRoute] = []
    for route in (route for router in ROUTERS for route in router.routes):
        calls = [dependant.call for dependant in _flattened(route.dependant)] if isinstance(route, APIRoute) else []
        if not any(call is nobody or isinstance(call, NeedsRole | NeedsSession) for call in calls):
            raise TypeError(f"{getattr(route, 'path', route)} says neither which role it needs nor that it is open")
        assert isinstance(route, APIRoute)
        found.append(route)
    return found


def _flattened(dependant: Any) -> list[Any]:
    return [dependant, *(deeper for nearer in dependant.dependencies for deeper in _flattened(nearer))]


class SafeHeaders:
    """Headers that every answer carries unless its path set its own."""

    ALWAYS = (
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    )

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in self.ALWAYS if pair[0] not in present)]
            await send(message)

        await self._app(scope, receive, with_headers)


class NoNul:
    """Refuses a NUL in path and query: nothing that is kept holds one in its text, and not every database takes the question."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            await _answer(Request(scope), Problem(400, "WrongParameter", "A NUL is no text."))(scope, receive, send)
            return
        await self._app(scope, receive, send)


# ---- errors --------------------------------------------------------------------------------------------------------


def _answer(request: Request, problem: Problem) -> Response:
    if request.url.path in ("/console", "/docs") or request.url.path.startswith("/console/"):
        return error_page.render(request, problem)
    return problem_response(request, problem)


async def _problem(request: Request, error: Any) -> Response:
    return _answer(request, error)


async def _wrong_request(request: Request, error: Any) -> Response:
    places = sorted({".".join(str(part) for part in item["loc"][1:]) for item in error.errors()})
    return _answer(request, Problem(400, "WrongParameter", f"Not understood: {', '.join(places) or 'the request'}."))


async def _http_exception(request: Request, error: Any) -> Response:
    words = {404: "There is no such path.", 405: "This path does not take that method."}
    code = "NotFound" if error.status_code == 404 else "Refused"
    problem = Problem(error.status_code, code, words.get(error.status_code, "Refused."))
    problem.headers.update(error.headers or {})
    return _answer(request, problem)


async def _forbidden_move(request: Request, error: Any) -> Response:
    return _answer(request, Problem(409, "ForbiddenMove", f"{error.state.value} does not take {error.event.value}."))


async def _hub_error(request: Request, error: Any) -> Response:
    if isinstance(error, StoreUnavailable):
        return _answer(request, Problem(503, error.code, "The store does not take this now.", headers={"Retry-After": "5"}))
    if isinstance(error, NotFound):
        return _answer(request, Problem(404, error.code, "There is nothing under this id."))
    if isinstance(error, ReadTooLong):
        return _answer(request, Problem(503, error.code, "The search took too long and was stopped: narrow the period."))
    if isinstance(error, BlobDamaged):
        return _answer(request, Problem(500, error.code, "The stored bytes are damaged; an operator must look."))
    return _answer(request, Problem(409, error.code, error.sentence))


async def _failed(request: Request, error: Any) -> Response:
    last = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    at = f"{Path(last.filename).name}:{last.lineno}" if last else ""
    log.event("web.failed", level="error", error=type(error).__name__, method=request.method, at=at)
    response = _answer(request, Problem(500, "HubFailed", "The hub failed on this request; its log says where."))
    for name, value in SafeHeaders.ALWAYS:  # this answer is made outside that middleware
        response.headers.setdefault(name.decode(), value.decode())
    return response
