"""`/api/v1`: the ledger for operators, and ER7 over HTTP for systems."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from hub.ledger import queries
from hub.ledger.acts import Receipt
from hub.ledger.messages import body_of
from hub.model.states import DeliveryState, MessageState
from hub.model.uids import uid_number, uid_text
from hub.store.port import Transaction
from hub.web import hl7_in
from hub.web.access import audit_entry, needs, services_of, trail_of
from hub.web.bodies import limited_body
from hub.web.problems import Problem, json_response
from hub.web.tokens import Principal, Role

T = TypeVar("T")

router = APIRouter(prefix="/api/v1", tags=["ledger"])
Operator = Annotated[Principal, needs(Role.OPERATOR)]
System = Annotated[Principal, needs(Role.SYSTEM)]
MessageId = Annotated[str, Path(alias="id", description="Message id (UUID)")]
DeliveryId = Annotated[str, Path(alias="id", description="Delivery id (UUID)")]

RECEIPT_KINDS = ("ACK", "DMP", "DSN", "MDN")


@router.get("/messages", summary="Find messages, newest first")
async def list_messages(
    request: Request,
    caller: Operator,
    *,
    control_id: Annotated[str, Query(description="MSH-10")] = "",
    source: Annotated[str, Query(description="Name of the [[source]]")] = "",
    type: Annotated[str, Query(description="MSH-9: ADT^A01")] = "",
    state: Annotated[str | None, Query(description=" ".join(MessageState))] = None,
    since: Annotated[str | None, Query(description="Received at or after this instant, ISO 8601")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    after: Annotated[str | None, Query(description="The cursor of the page before")] = None,
) -> Response:
    only_known_parameters(request, "control_id", "source", "type", "state", "since", "limit", "after")
    if state is not None and state not in set(MessageState):
        raise Problem(400, "UnknownState", f"state is one of {', '.join(MessageState)}.")
    wanted = queries.MessageFilter(
        control_id=control_id,
        source=source,
        type=type,
        state=MessageState(state) if state else None,
        since=instant_of(since) or 0,
        limit=limit,
        after=cursor_of(after),
    )
    return json_response(await services_of(request).store.read(lambda tx: queries.find_messages(tx, wanted)))


@router.get("/messages/{id}", summary="One message with its deliveries and receipts")
async def show_message(request: Request, caller: Operator, uid: MessageId) -> Response:
    return json_response(found(await services_of(request).store.read(lambda tx: queries.show_message(tx, uid))))


@router.get(
    "/messages/{id}/body", summary="The exact bytes, audited", responses={200: {"content": {"application/octet-stream": {}}}}
)
async def message_body(request: Request, caller: Operator, uid: MessageId) -> Response:
    if caller.masked:
        raise Problem(403, "MaskedToken", "This token may see codes and structure, not the bytes of a message.")
    number, services = row_number(uid), services_of(request)
    body, patient_id = await services.store.read(lambda tx: kept_body(tx, number))
    await trail_of(request).note(audit_entry(caller, "message.body", f"message/{uid}", patient_id=patient_id, bytes=len(body)))
    return Response(
        body,
        media_type="application/octet-stream",
        headers=BODY_HEADERS | {"Content-Disposition": f'attachment; filename="{uid}.hl7"'},
    )


BODY_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


@router.post("/messages/{id}/replay", summary="Deliver a message again (new deliveries, end of the lane)")
async def replay_message(request: Request, caller: Operator, uid: MessageId) -> Response:
    """Body, optional: `{"destinations": ["lab-out"]}`. DMP and mail are redone only if they are named."""
    wished = await optional_json(request)
    only_known_keys(wished, "destinations", "reason")
    destinations = wished.get("destinations") or []
    if not isinstance(destinations, list) or not all(isinstance(name, str) and name for name in destinations):
        raise Problem(400, "WrongBody", "destinations is a list of destination names.")
    operations = services_of(request).operations
    made = await act(
        request,
        caller,
        "message.replay",
        f"message/{known_id(uid)}",
        lambda: operations.replay(uid, destinations),
        destinations=[name.partition(":")[0] for name in destinations],
        **reason_of(wished),
    )
    return json_response({"id": uid, "deliveries": made}, 202)


@router.post("/messages/{id}/discard", summary="Close a message for good; it stays kept")
async def discard_message(request: Request, caller: Operator, uid: MessageId) -> Response:
    wished = await optional_json(request)
    only_known_keys(wished, "reason")
    services = services_of(request)
    target, reason = f"message/{known_id(uid)}", reason_of(wished)
    await act(request, caller, "message.discard", target, lambda: services.operations.discard(uid), **reason)
    return json_response(found(await services.store.read(lambda tx: queries.show_message(tx, uid))))


@router.get("/deliveries", summary="Find deliveries by state")
async def list_deliveries(
    request: Request,
    caller: Operator,
    *,
    state: Annotated[str | None, Query(description=" ".join(DeliveryState))] = None,
    destination: Annotated[str, Query(description="record, dmp, mssante:<address>, or a [[destination]]")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    after: Annotated[str | None, Query()] = None,
) -> Response:
    only_known_parameters(request, "state", "destination", "limit", "after")
    if state is not None and state not in set(DeliveryState):
        raise Problem(400, "UnknownState", f"state is one of {', '.join(DeliveryState)}.")
    cursor = cursor_of(after)
    wanted = DeliveryState(state) if state else None
    return json_response(
        await services_of(request).store.read(
            lambda tx: queries.find_deliveries(tx, wanted, destination=destination, limit=limit, after=cursor)
        )
    )


@router.post("/deliveries/{id}/retry", summary="Try a delivery again now")
async def retry_delivery(request: Request, caller: Operator, uid: DeliveryId) -> Response:
    wished = await optional_json(request)
    only_known_keys(wished, "reason")
    target, reason = f"delivery/{known_id(uid)}", reason_of(wished)
    await act(request, caller, "delivery.retry", target, lambda: services_of(request).operations.retry(uid), **reason)
    return await _delivery(request, uid)


@router.post("/deliveries/{id}/skip", summary="Never deliver this one; its lane goes on")
async def skip_delivery(request: Request, caller: Operator, uid: DeliveryId) -> Response:
    wished = await optional_json(request)
    only_known_keys(wished, "reason")
    target, reason = f"delivery/{known_id(uid)}", reason_of(wished)
    await act(request, caller, "delivery.skip", target, lambda: services_of(request).operations.skip(uid), **reason)
    return await _delivery(request, uid)


@router.post("/deliveries/{id}/receipts", summary="File a receipt that came another way")
async def file_receipt(request: Request, caller: Operator, uid: DeliveryId) -> Response:
    """Body: `{"kind": "ACK"|"DMP"|"DSN"|"MDN", "positive": true, "code": …, "at": …}`.

    The creator of the document is told (ZAM) when its message asked for it; the same receipt again is not told again. At a
    delivery to an application `detail` names the mailbox of a DSN or MDN.
    """
    told = await optional_json(request)
    only_known_keys(told, "kind", "positive", "code", "at", "detail")
    kind, positive, code, detail = told.get("kind"), told.get("positive"), told.get("code"), told.get("detail")
    if kind not in RECEIPT_KINDS or not isinstance(positive, bool):
        raise Problem(400, "WrongBody", f"kind is one of {', '.join(RECEIPT_KINDS)}, positive is true or false.")
    if not all(text is None or (isinstance(text, str) and len(text) <= 200) for text in (code, detail)):
        raise Problem(400, "WrongBody", "code and detail are texts of at most 200 characters.")
    at_us = instant_of(told.get("at"))
    services, target = services_of(request), f"delivery/{known_id(uid)}"
    receipt = Receipt(kind, positive, services.store.now_us() if at_us is None else at_us, code or "", detail or "")
    await act(
        request,
        caller,
        "delivery.receipt",
        target,
        lambda: services.operations.file_receipt(uid, receipt),
        kind=kind,
        positive=positive,
        code=code,
    )
    return await _delivery(request, uid, 201)


@router.get("/lanes", summary="What waits, behind what")
async def list_lanes(
    request: Request,
    caller: Operator,
    *,
    blocked: Annotated[bool | None, Query(description="Only lanes that are held")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    only_known_parameters(request, "blocked", "limit")
    return json_response(await services_of(request).store.read(lambda tx: queries.find_lanes(tx, blocked=blocked, limit=limit)))


@router.post(
    "/hl7",
    tags=["messages in"],
    summary="Hand in HL7 v2 (a message in ER7 or XML, or a batch), get its acknowledgement",
    responses={
        200: {"content": {"application/hl7-v2": {}, "application/hl7-v2+xml": {}}, "description": "AA; of a batch: all AA"},
        422: {"description": "AE"},
        503: {"description": "AR"},
    },
)
async def take_hl7(request: Request, caller: System) -> Response:
    return await hl7_in.answered(request, caller)


# ---- what the routes share -----------------------------------------------------------------------------------------


def row_number(uid: str) -> int:
    """The row number of an id in a path.

    Raises:
        Problem: 404, because an id of another shape names nothing.
    """
    try:
        return uid_number(uid)
    except ValueError:
        raise Problem(404, "NotFound", "There is nothing under this id.") from None


def known_id(uid: str) -> str:
    """The id itself, when it has the shape of one."""
    return uid_text(row_number(uid))


def found(thing: Any) -> Any:
    if thing is None:
        raise Problem(404, "NotFound", "There is nothing under this id.")
    return thing


def kept_body(tx: Transaction, message_id: int) -> tuple[bytes, int | None]:
    """The exact bytes of a message, and its patient's number.

    Raises:
        Problem: 404 when there is no such message, 410 when its bytes were pruned.
    """
    row = tx.row("SELECT patient_id FROM message WHERE id = ?", message_id)
    if row is None:
        raise Problem(404, "NotFound", "There is nothing under this id.")
    try:
        return bytes(body_of(tx, message_id)), row[0]
    except KeyError:
        raise Problem(410, "Pruned", "The bytes of this message were pruned.") from None


def only_known_parameters(request: Request, *names: str) -> None:
    unknown = sorted(set(request.query_params) - set(names))
    if unknown:
        raise Problem(400, "UnknownParameter", f"Known parameters: {', '.join(names)}.")


def only_known_keys(told: dict[str, Any], *names: str) -> None:
    if told.keys() - set(names):
        raise Problem(400, "UnknownKey", f"Known keys: {', '.join(names)}.")


async def optional_json(request: Request) -> dict[str, Any]:
    """The JSON object of the request's body; empty when there is no body."""
    body = await limited_body(request, 64 << 10)
    if not body.strip():
        return {}
    if b"\\u0000" in body:
        raise Problem(400, "WrongBody", "A NUL is no text.")
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Problem(400, "NotJson", "The body is not JSON.") from None
    if not isinstance(told, dict):
        raise Problem(400, "WrongBody", "The body is one JSON object.")
    return told


def reason_of(told: dict[str, Any]) -> dict[str, str]:
    reason = told.get("reason")
    if reason is None:
        return {}
    if not isinstance(reason, str) or len(reason) > 300:
        raise Problem(400, "WrongBody", "reason is a text of at most 300 characters.")
    return {"reason": reason}


async def act(request: Request, caller: Principal, name: str, target: str, deed: Callable[[], Awaitable[T]], **detail: Any) -> T:
    """Do what an operator asked, with an audit row before it and another when it did not succeed."""
    trail = trail_of(request)
    await trail.note(audit_entry(caller, name, target, **detail))
    try:
        return await deed()
    except Exception as error:
        await trail.note(audit_entry(caller, f"{name}.refused", target, error=type(error).__name__))
        raise


async def _delivery(request: Request, uid: str, status: int = 200) -> Response:
    number = row_number(uid)
    return json_response(found(await services_of(request).store.read(lambda tx: delivery_of(tx, number))), status)


def delivery_of(tx: Transaction, delivery_id: int) -> dict[str, Any] | None:
    """A delivery as its message shows it, with the message's id."""
    row = tx.row("SELECT message_id FROM delivery WHERE id = ?", delivery_id)
    message = queries.show_message(tx, uid_text(row[0])) if row else None
    if message is None:
        return None
    uid = uid_text(delivery_id)
    return next({**delivery, "message": {"id": message["id"]}} for delivery in message["deliveries"] if delivery["id"] == uid)


def cursor_of(after: str | None) -> int | None:
    if not after:
        return None
    if not after.isascii() or not after.isdigit() or len(after) > 19:
        raise Problem(400, "UnknownCursor", "after is the cursor of the page before, unchanged.")
    return min(int(after), (1 << 63) - 1)


def instant_of(text: object) -> int | None:
    """UTC microseconds of an ISO 8601 instant; without an offset it is UTC."""
    if text is None or text == "":
        return None
    try:
        at = datetime.fromisoformat(str(text).replace(" ", "+"))  # a plus sign that a form decoded
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return int(at.timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        raise Problem(400, "WrongInstant", "An instant is written 2026-11-21T23:04:22Z.") from None
