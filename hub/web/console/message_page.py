"""One message: where it stands, what happened, its deliveries, its segments, and what can be done about it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hub.ledger import queries
from hub.ledger.messages import body_of
from hub.model.uids import uid_number
from hub.store.port import Transaction
from hub.web.access import audit_entry, services_of, trail_of
from hub.web.bodies import form_fields
from hub.web.console import findings, ledger_view, segments, states, story
from hub.web.console.sessions import Session, from_here, needs_session, sessions_of, verify_form
from hub.web.ledger_api import BODY_HEADERS, act, kept_body, row_number
from hub.web.problems import Problem
from hub.web.rendering import Words, environment, page, words_of
from hub.web.tokens import Role

router = APIRouter(include_in_schema=False)
Operator = Annotated[Session, needs_session(Role.OPERATOR)]
MessageId = Annotated[str, Path(alias="id")]

DONE_NOTES = frozenset({"replay", "discard", "retry", "skip", "twice"})
ACTS = frozenset({"replay", "discard", "retry", "skip", "reveal"})
MIN_REASON, MAX_REASON = 5, 200


@router.get("/console/messages/{id}")
async def show(request: Request, session: Operator, uid: MessageId) -> Response:
    return await _page(request, session, uid)


async def _page(request: Request, session: Session, uid: str, *, error: str = "", status: int = 200) -> Response:
    number, services = row_number(uid), services_of(request)
    revealed_min = sessions_of(request).minutes_revealed(session, number)

    def look(tx: Transaction) -> dict[str, Any]:
        message = queries.show_message(tx, uid)
        if message is None:
            raise Problem(404, "NotFound", "There is no such message.")
        try:
            body: bytes | None = body_of(tx, number)
        except KeyError:
            body = None
        newer, older = ledger_view.neighbours(tx, number)
        patients = ledger_view.masked_patients(tx, {message["patient"]} if message["patient"] else set())
        return {
            "message": message,
            "body": body,
            "newer": newer,
            "older": older,
            "ipp": patients.get(message["patient"] or "", ""),
            "answers": ledger_view.peer_answers(tx, message),
            "behind": ledger_view.behind_in_lane(tx, message),
            "document": ledger_view.document_read(tx, number),
        }

    seen = await services.store.read(look)
    message, words = seen["message"], words_of(request)
    await trail_of(request).note(
        audit_entry(
            session.principal,
            "message.view",
            f"message/{uid}",
            masked=not revealed_min,
            patient_id=uid_number(message["patient"]) if message["patient"] else None,
        )
    )
    return page(
        request,
        "message.html",
        status=status,
        words=words,
        session=session,
        here="messages",
        now=services.store.now_us(),
        **await asyncio.to_thread(_told, message, seen, words, revealed=bool(revealed_min)),
        newer=seen["newer"],
        older=seen["older"],
        ipp=seen["ipp"],
        revealed_min=revealed_min,
        document=seen["document"],
        findings=findings.grouped(message["findings"]),
        error=error,
        form=_open_form(request, session, message),
        done=_done(request),
        message_acts=states.message_acts(message),
    )


@router.get("/console/messages/{id}/live")
async def live(request: Request, session: Operator, uid: MessageId) -> Response:
    """Story and deliveries alone, without a value of the message, for a page that stays open."""
    row_number(uid)

    def look(tx: Transaction) -> tuple[Any, Any]:
        message = queries.show_message(tx, uid)
        if message is None:
            raise Problem(404, "NotFound", "There is no such message.")
        return message, ledger_view.behind_in_lane(tx, message)

    message, behind = await services_of(request).store.read(look)
    words = words_of(request)
    told = _told(message, {"body": None, "answers": {}, "behind": behind}, words, revealed=False)
    html = environment().get_template("message_live.html").render(w=words, now=services_of(request).store.now_us(), **told)
    return Response(html, media_type="text/html; charset=utf-8", headers={"Cache-Control": "no-store"})


def _told(message: dict[str, Any], seen: dict[str, Any], words: Words, *, revealed: bool) -> dict[str, Any]:
    """What the page says about a message, in the reader's language."""
    for delivery in message["deliveries"]:
        delivery["name"] = states.shown_destination(delivery["destination"])
        delivery["updated"] = story.microseconds(delivery["updated_at"])
        delivery["acts"] = states.delivery_acts(delivery)
        lane = delivery["lane_state"] or {}
        delivery["reason"] = story.reason_text(words, lane.get("blocked_reason") or delivery["last_error"])
        delivery["until"] = story.microseconds(lane.get("not_before"))
        delivery["behind"] = seen["behind"].get(delivery["id"], 0)
        for attempt in delivery["attempt_list"]:
            attempt["start"] = story.microseconds(attempt["started_at"])
            attempt["took"] = words.gap(max(0, (story.microseconds(attempt["ended_at"]) or 0) - (attempt["start"] or 0)))
            attempt["reason"] = story.reason_text(words, attempt["error"])
            attempt["answer"] = _answer(seen["answers"].get((delivery["id"], attempt["n"]), b""), revealed=revealed)
    body = seen["body"]
    return {
        "message": message,
        "shown_state": states.shown_state(message),
        "sentence": story.sentence(message, words),
        "story": story.tell(message, words),
        "received": story.microseconds(message["received_at"]),
        "kind": words(f"type.{message['type']}") if words.has(f"type.{message['type']}") else "",
        "segments": segments.view(body, message["charset"], revealed=revealed) if body is not None else None,
        "pruned": body is None,
        "unfinished": message["state"] in ("RECEIVED", "ROUTED"),
    }


def _answer(answer: bytes, *, revealed: bool) -> list[tuple[segments.Piece, ...]]:
    """What a peer said, as lines of pieces: codes stay, words are masked."""
    if not answer:
        return []
    read = segments.view(answer, "utf-8", revealed=revealed)
    if read is not None:
        return [segment.line for segment in read.segments]
    text = answer.decode("utf-8", "replace")[:2_000]
    if revealed:
        return [(segments.Piece(line),) for line in text.splitlines()]
    code = text[:3]
    shown = [segments.Piece(code + " ")] if code.isdigit() and len(code) == 3 else []
    return [(*shown, segments.Piece(segments.MASK, "mask"))]


def _open_form(request: Request, session: Session, message: dict[str, Any]) -> dict[str, Any] | None:
    """The confirmation that the address asks for, when the state allows the act."""
    name = request.query_params.get("act", "")
    if name not in ACTS or request.method != "GET":
        return None
    target = next((d for d in message["deliveries"] if d["id"] == request.query_params.get("delivery")), None)
    allowed = {
        "replay": "replay" in states.message_acts(message),
        "discard": "discard" in states.message_acts(message),
        "reveal": not session.principal.masked,
        "retry": bool(target and "retry" in target["acts"]),
        "skip": bool(target and "skip" in target["acts"]),
    }[name]
    if not allowed:
        return None
    return {
        "name": name,
        "key": session.new_form(),
        "delivery": target,
        "destinations": [
            {"key": delivery["id"], "name": delivery["name"], "leaves": states.leaves_the_house(delivery["destination"])}
            for delivery in {one["destination"]: one for one in message["deliveries"]}.values()
        ]
        if name == "replay"
        else [],
    }


def _done(request: Request) -> str:
    done = request.query_params.get("done", "")
    return done if done in DONE_NOTES else ""


# ---- acts ----------------------------------------------------------------------------------------------------------


@router.post("/console/messages/{id}/{name}")
async def message_act(request: Request, session: Operator, uid: MessageId, name: str) -> Response:
    """replay, discard or reveal, with a reason; `retry` and `skip` name a delivery of the message."""
    if name not in ACTS:
        raise Problem(404, "NotFound", "There is no such act.")
    number, services = row_number(uid), services_of(request)
    from_here(request)
    sent = await form_fields(request)
    fields = dict(sent)
    verify_form(session, fields.get("csrf", ""))
    message = await services.store.read(lambda tx: queries.show_message(tx, uid))
    if message is None:
        raise Problem(404, "NotFound", "There is no such message.")
    words, reason = words_of(request), " ".join(fields.get("reason", "").split())
    # The page offers delivery ids: a mail address, which may hold an INS, stays off it.
    offered = {delivery["id"]: delivery["destination"] for delivery in message["deliveries"]}
    ticked = [value for key, value in sent if key == "destination"]
    chosen = [offered[key] for key in ticked if key in offered]
    if not MIN_REASON <= len(reason) <= MAX_REASON:
        return await _page(request, session, uid, error=words("act.reason_missing"), status=400)
    if name == "replay" and ((offered and not chosen) or len(chosen) != len(ticked)):
        return await _page(request, session, uid, error=words("act.no_destination"), status=400)
    if not session.take_form(fields.get("form", "")):
        return _back(uid, "twice")
    if name == "reveal":
        return await _reveal(request, session, message, number, reason)
    await _do(request, session, message, name, delivery=fields.get("delivery", ""), destinations=chosen, reason=reason)
    return _back(uid, name)


async def _do(
    request: Request,
    session: Session,
    message: dict[str, Any],
    name: str,
    *,
    delivery: str,
    destinations: Sequence[str],
    reason: str,
) -> None:
    operations, uid = services_of(request).operations, message["id"]
    if name == "replay":
        shown = [states.shown_destination(destination) for destination in destinations]
        await act(
            request,
            session.principal,
            "message.replay",
            f"message/{uid}",
            lambda: operations.replay(uid, destinations),
            destinations=shown,
            reason=reason,
        )
    elif name == "discard":
        await act(request, session.principal, "message.discard", f"message/{uid}", lambda: operations.discard(uid), reason=reason)
    else:
        if delivery not in {one["id"] for one in message["deliveries"]}:
            raise Problem(404, "NotFound", "There is no such delivery.")
        deed = operations.retry if name == "retry" else operations.skip
        await act(request, session.principal, f"delivery.{name}", f"delivery/{delivery}", lambda: deed(delivery), reason=reason)


async def _reveal(request: Request, session: Session, message: dict[str, Any], number: int, reason: str) -> Response:
    if session.principal.masked:
        raise Problem(403, "MaskedToken", "A masked token cannot see values.")
    await trail_of(request).note(
        audit_entry(
            session.principal,
            "message.reveal",
            f"message/{message['id']}",
            reason=reason,
            patient_id=uid_number(message["patient"]) if message["patient"] else None,
        )
    )
    sessions_of(request).reveal(session, number)
    return RedirectResponse(f"/console/messages/{message['id']}#segments", 303)


@router.get("/console/messages/{id}/bytes")
async def download(request: Request, session: Operator, uid: MessageId) -> Response:
    """The exact bytes, for who asked to see the values first."""
    number = row_number(uid)
    if session.principal.masked:
        raise Problem(403, "MaskedToken", "A masked token cannot see values.")
    if not sessions_of(request).minutes_revealed(session, number):
        raise Problem(403, "RevealFirst", "Ask for the values first, with a reason.")
    body, patient_id = await services_of(request).store.read(lambda tx: kept_body(tx, number))
    await trail_of(request).note(
        audit_entry(session.principal, "message.body", f"message/{uid}", patient_id=patient_id, bytes=len(body))
    )
    return Response(
        body,
        media_type="application/octet-stream",
        headers=BODY_HEADERS | {"Content-Disposition": f'attachment; filename="{uid}.hl7"'},
    )


def _back(uid: str, done: str) -> Response:
    return RedirectResponse(f"/console/messages/{uid}?done={done}", 303)
