"""`/api/v1`: legal holds, and totals that retention does not change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from hub.ledger import holds, queries, retention
from hub.ledger.instants import instant
from hub.store.port import Transaction
from hub.web.access import needs, services_of
from hub.web.ledger_api import act, found, instant_of, known_id, only_known_keys, only_known_parameters, optional_json, reason_of
from hub.web.problems import Problem, json_response
from hub.web.tokens import Principal, Role

router = APIRouter(prefix="/api/v1", tags=["retention"])
Operator = Annotated[Principal, needs(Role.OPERATOR)]
MessageId = Annotated[str, Path(alias="id", description="Message id (UUID)")]
PatientId = Annotated[str, Path(alias="id", description="Patient id (UUID)")]
SourceName = Annotated[str, Path(alias="name", description="Name of a source", max_length=200)]


@router.post("/messages/{id}/hold", summary="Keep a message whatever its age; a reason is needed")
async def hold_message(request: Request, caller: Operator, uid: MessageId) -> Response:
    await _hold(request, caller, "message", uid)
    return await _message(request, uid)


@router.post("/messages/{id}/release", summary="End the hold on a message; a reason is needed")
async def release_message(request: Request, caller: Operator, uid: MessageId) -> Response:
    await _release(request, caller, "message", uid)
    return await _message(request, uid)


@router.post("/patients/{id}/hold", summary="Keep all messages of a patient, those to come too")
async def hold_patient(request: Request, caller: Operator, uid: PatientId) -> Response:
    return await _hold(request, caller, "patient", uid)


@router.post("/patients/{id}/release", summary="End the hold on a patient's messages")
async def release_patient(request: Request, caller: Operator, uid: PatientId) -> Response:
    return await _release(request, caller, "patient", uid)


@router.post("/sources/{name}/hold", summary="Keep all messages of a source, those to come too")
async def hold_source(request: Request, caller: Operator, name: SourceName) -> Response:
    return await _hold(request, caller, "source", name)


@router.post("/sources/{name}/release", summary="End the hold on a source's messages")
async def release_source(request: Request, caller: Operator, name: SourceName) -> Response:
    return await _release(request, caller, "source", name)


@router.get("/holds", summary="What is held, by whom, and why; newest first")
async def list_holds(
    request: Request,
    caller: Operator,
    *,
    kind: Annotated[str, Query(description="message, patient or source")] = "",
    released: Annotated[bool, Query(description="Also those that ended")] = False,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    only_known_parameters(request, "kind", "released", "limit")
    if kind and kind not in holds.KINDS:
        raise Problem(400, "UnknownKind", f"kind is one of {', '.join(holds.KINDS)}.")
    items = await services_of(request).store.read(lambda tx: holds.find_holds(tx, kind=kind, released=released, limit=limit))
    return json_response({"items": items})


_LAST_DAY = (date.max - date(1970, 1, 1)).days  # that an instant can name


@router.get("/totals", summary="Messages of whole days by source, type and state, kept or pruned")
async def totals(
    request: Request,
    caller: Operator,
    *,
    since: Annotated[str | None, Query(description="An instant of the first day (UTC); 30 days ago when absent")] = None,
    until: Annotated[str | None, Query(description="An instant of the last day (UTC); today when absent")] = None,
    source: Annotated[str, Query(description="Only this source")] = "",
) -> Response:
    only_known_parameters(request, "since", "until", "source")
    store, day = services_of(request).store, retention.DAY_US
    last, first = instant_of(until), instant_of(since)
    end = min((store.now_us() if last is None else last) // day + 1, _LAST_DAY) * day
    begin = end - 31 * day if first is None else first // day * day
    if not begin < end:
        raise Problem(400, "WrongInstant", "since is not after until.")
    items = await store.read(lambda tx: retention.totals(tx, since=begin, until=end, source=source))
    return json_response({"since": instant(begin), "until": instant(end), "items": items})


# ---- what the routes share -----------------------------------------------------------------------------------------


async def _hold(request: Request, caller: Principal, kind: str, target: str) -> Response:
    return await _act(request, caller, kind, target, holds.hold)


async def _release(request: Request, caller: Principal, kind: str, target: str) -> Response:
    return await _act(request, caller, kind, target, holds.release)


async def _act(request: Request, caller: Principal, kind: str, target: str, deed: Callable[..., str]) -> Response:
    store, reason = services_of(request).store, await _reason(request)
    shown = target if kind == "source" else known_id(target)

    def job(tx: Transaction) -> str:
        return deed(tx, kind, target, actor=caller.name, reason=reason, now=store.now_us())

    verb = deed.__name__
    named = await act(request, caller, f"{kind}.{verb}", f"{kind}/{shown}", lambda: store.write(job), reason=reason)
    return json_response({"kind": kind, "target": named, "held": verb == "hold"})


async def _reason(request: Request) -> str:
    wished = await optional_json(request)
    only_known_keys(wished, "reason")
    reason = " ".join(reason_of(wished).get("reason", "").split())
    if len(reason) < holds.MIN_REASON:
        raise Problem(400, "ReasonMissing", f"reason is a text of {holds.MIN_REASON} to {holds.MAX_REASON} characters.")
    return reason


async def _message(request: Request, uid: str) -> Response:
    return json_response(found(await services_of(request).store.read(lambda tx: queries.show_message(tx, uid))))
