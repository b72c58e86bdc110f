"""`/openapi.json`, and `/docs` as one page made here: nothing is loaded from another host."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from hub.web.access import NeedsRole, authenticate, nobody
from hub.web.console.sessions import NeedsSession, Session, session_of
from hub.web.problems import json_response
from hub.web.rendering import page
from hub.web.tokens import Role

router = APIRouter(include_in_schema=False)


class NeedsAnyRole(NeedsRole):
    """Whoever is known, by token or by session: a browser cannot send a token."""

    async def __call__(self, request: Request) -> Any:
        return await session_of(request) or await authenticate(request)


Anybody = Annotated[Any, Depends(NeedsAnyRole(*Role))]


@router.get("/openapi.json")
async def openapi(request: Request, caller: Anybody) -> Response:
    return json_response(request.app.openapi())


@router.get("/docs")
async def docs(request: Request, caller: Annotated[Session | None, Depends(NeedsSession(Role.OPERATOR))]) -> Response:
    roles = request.app.state.roles
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in request.app.openapi()["paths"].items():
        for method, operation in methods.items():
            needed = roles.get((method.upper(), path), frozenset())
            groups.setdefault(operation.get("tags", ["other"])[0], []).append(
                {
                    "method": method.upper(),
                    "path": path,
                    "summary": operation.get("summary", ""),
                    "description": operation.get("description", ""),
                    "parameters": operation.get("parameters", []),
                    "roles": sorted(needed),
                    "any_role": needed == frozenset(Role),
                    "open": not needed,
                }
            )
    return page(
        request, "api.html", session=caller, here="api", groups=groups, base=f"{request.url.scheme}://{request.url.netloc}"
    )


def roles_by_path(routes: list[APIRoute]) -> dict[tuple[str, str], frozenset[str]]:
    """Which roles each method and path takes; none for an open one."""
    found = {}
    for route in routes:
        calls = [dependant.call for dependant in route.dependant.dependencies]
        needed = next((call.roles for call in calls if isinstance(call, NeedsRole)), frozenset())
        if needed or nobody in calls:
            for method in route.methods or ():
                found[method, route.path] = frozenset(role.value for role in needed)
    return found
