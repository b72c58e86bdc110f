"""`/api/v1/identity-cases` and `/api/v1/merges`: doubtful identities, looked at and decided by operators."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from hub.record.identity_cases import Decision
from hub.web.access import audit_entry, services_of, trail_of
from hub.web.ledger_api import (
    Operator,
    act,
    cursor_of,
    known_id,
    only_known_keys,
    only_known_parameters,
    optional_json,
    row_number,
)
from hub.web.problems import Problem, json_response

router = APIRouter(prefix="/api/v1", tags=["identities"])
CaseId = Annotated[str, Path(alias="id", description="Case id (UUID)")]
STATES = ("OPEN", "LINKED", "SPLIT", "REFUSED", "CLOSED")


@router.get("/identity-cases", summary="Doubtful identities, the oldest first")
async def list_cases(
    request: Request,
    caller: Operator,
    *,
    state: Annotated[str, Query(description=" ".join(STATES))] = "OPEN",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    after: Annotated[str | None, Query(description="The cursor of the page before")] = None,
) -> Response:
    """Numbers of patients are shown to tokens that are not masked; such a reading is audited."""
    only_known_parameters(request, "state", "limit", "after")
    if state not in STATES:
        raise Problem(400, "UnknownState", f"state is one of {', '.join(STATES)}.")
    page = await services_of(request).identities.cases(
        state=state, limit=limit, after=cursor_of(after) or 0, values=not caller.masked
    )
    if not caller.masked:
        await trail_of(request).note(audit_entry(caller, "identity.list", "identity-case", count=len(page["items"])))
    return json_response(page)


@router.get("/identity-cases/{id}", summary="One doubtful identity")
async def show_case(request: Request, caller: Operator, uid: CaseId) -> Response:
    case = await services_of(request).identities.show(uid, values=not caller.masked)
    if not caller.masked:
        patient = row_number(case["patient"]["id"])
        await trail_of(request).note(audit_entry(caller, "identity.read", f"identity-case/{known_id(uid)}", patient_id=patient))
    return json_response(case)


@router.get("/identity-cases/{id}/preview", summary="What a decision would change; nothing is changed")
async def preview_case(
    request: Request, caller: Operator, uid: CaseId, action: Annotated[str, Query(description="link, split or refuse")]
) -> Response:
    only_known_parameters(request, "action")
    if action not in set(Decision):
        raise Problem(400, "UnknownAction", f"action is one of {', '.join(Decision)}.")
    return json_response(await services_of(request).identities.preview(uid, Decision(action)))


@router.post("/identity-cases/{id}/link", summary="One person: merge the two, or take the new INS over")
async def link_case(request: Request, caller: Operator, uid: CaseId) -> Response:
    return await _decide(request, caller, uid, Decision.LINK)


@router.post("/identity-cases/{id}/split", summary="Two persons: undo a merge between them, close the case")
async def split_case(request: Request, caller: Operator, uid: CaseId) -> Response:
    return await _decide(request, caller, uid, Decision.SPLIT)


@router.post("/identity-cases/{id}/refuse", summary="Do not follow the claim: nothing changes, the case is closed")
async def refuse_case(request: Request, caller: Operator, uid: CaseId) -> Response:
    return await _decide(request, caller, uid, Decision.REFUSE)


@router.get("/merges", summary="The merges that a patient had part in, undone ones too")
async def list_merges(
    request: Request, caller: Operator, patient: Annotated[str, Query(description="Patient id (UUID)")]
) -> Response:
    only_known_parameters(request, "patient")
    return json_response({"items": await services_of(request).identities.merges(patient)})


@router.post("/merges/{id}/undo", summary="Undo one merge: each patient has again what came under its own numbers")
async def undo_merge(request: Request, caller: Operator, uid: CaseId) -> Response:
    """Body: `{"reason": "…"}`."""
    reason = await _reason(request)
    identities = services_of(request).identities
    await act(
        request,
        caller,
        "merge.undo",
        f"merge/{known_id(uid)}",
        lambda: identities.undo_merge(uid, actor=caller.name),
        reason=reason,
    )
    return json_response({"id": known_id(uid), "undone": True})


async def _decide(request: Request, caller: Operator, uid: str, decision: Decision) -> Response:
    """Body: `{"reason": "…"}`."""
    reason = await _reason(request)
    identities = services_of(request).identities
    await act(
        request,
        caller,
        f"identity.{decision.value}",
        f"identity-case/{known_id(uid)}",
        lambda: identities.decide(uid, decision, actor=caller.name, reason=reason),
        reason=reason,
    )
    return json_response(await identities.show(uid, values=False))


async def _reason(request: Request) -> str:
    told: dict[str, Any] = await optional_json(request)
    only_known_keys(told, "reason")
    reason = told.get("reason")
    if not isinstance(reason, str) or not 3 <= len(reason.strip()) <= 300:
        raise Problem(400, "ReasonMissing", "reason is a text of 3 to 300 characters: it stays in the audit trail.")
    return reason.strip()
