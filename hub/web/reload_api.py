"""`POST /api/v1/reload`: the configuration file read again by the process that answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hub.web.access import audit_entry, needs, services_of, trail_of
from hub.web.problems import Problem, json_response
from hub.web.tokens import Principal, Role

router = APIRouter(prefix="/api/v1", tags=["operation"])
Operator = Annotated[Principal, needs(Role.OPERATOR)]


@router.post("/reload", summary="Read the configuration again; a file with mistakes changes nothing")
async def reload(request: Request, caller: Operator) -> Response:
    """200 says what changed. 422 has every mistake with file, key and reason; the hub goes on as before."""
    again = services_of(request).reload
    if again is None:
        raise Problem(409, "NotReloaded", "This process does not read its configuration again.")
    in_force, said = await again()
    await trail_of(request).note(
        audit_entry(caller, "configuration.reload", "configuration", done=in_force, configuration=said.get("configuration", ""))
    )
    if in_force:
        return json_response(said)
    problem = {
        "type": "about:blank",
        "title": "Configuration refused",
        "status": 422,
        "code": "ConfigurationRefused",
        "detail": "The file has mistakes: nothing changed.",
        **said,
    }
    return json_response(problem, 422, media_type="application/problem+json")
