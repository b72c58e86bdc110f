"""Home, the list of messages, sign-in, and the files the pages load."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hub.ledger import queries
from hub.model import log
from hub.model.states import MessageState
from hub.model.uids import uid_ms, uid_number
from hub.store.port import Transaction
from hub.web import tokens
from hub.web.access import audit_entry, is_open, refuse_failed, services_of, trail_of
from hub.web.bodies import form_fields
from hub.web.console import ledger_view, states
from hub.web.console.sessions import (
    Session,
    checked_form,
    cookie_name,
    from_here,
    needs_session,
    session_of,
    sessions_of,
    set_cookie,
)
from hub.web.console.story import error_text, microseconds, reason_text
from hub.web.problems import Problem, json_response
from hub.web.rendering import Words, environment, page, static_files, words_of
from hub.web.tokens import Principal, Role

router = APIRouter(include_in_schema=False)
Operator = Annotated[Session, needs_session(Role.OPERATOR)]

PAGE_ROWS = 50
PERIODS_S = {"1h": 3_600, "24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
TAB_STATES = ("ROUTED", "PARTIAL", "SET_ASIDE", "NO_ROUTE", "REFUSED", "DISCARDED")


# ---- files ---------------------------------------------------------------------------------------------------------


@router.get("/console/static/{name}", dependencies=[is_open()])
async def static_file(request: Request, name: str) -> Response:
    file = static_files().get(name)
    if file is None:
        raise Problem(404, "NotFound", "There is no such file.")
    kept = "public, max-age=31536000, immutable" if request.query_params.get("v") == file.digest else "no-cache"
    return Response(file.body, media_type=file.media_type, headers={"Cache-Control": kept, "ETag": f'"{file.digest}"'})


# ---- coming and going ----------------------------------------------------------------------------------------------


@router.get("/console", dependencies=[is_open()])
async def console() -> Response:
    return RedirectResponse("/console/", 307)


@router.get("/console/sign-in", dependencies=[is_open()])
async def sign_in_page(request: Request) -> Response:
    note = "signed_out" if request.query_params.get("out") else ""
    return page(request, "sign_in.html", note=note, error="", next=_safe_next(request.query_params.get("next", "")))


@router.post("/console/sign-in", dependencies=[is_open()])
async def sign_in(request: Request) -> Response:
    from_here(request)
    fields = dict(await form_fields(request))
    presented, wanted = fields.get("token", "").strip(), _safe_next(fields.get("next", ""))
    principal = await services_of(request).store.read(lambda tx: tokens.find(tx, presented))
    words, error, status = words_of(request), "", 401
    if principal is None:
        try:
            refuse_failed(request)
            error = words("sign_in.wrong")
        except Problem as too_many:
            error, status = words("sign_in.too_many", n=too_many.headers["Retry-After"]), 429
    elif principal.role is not Role.OPERATOR:
        error, status = words("sign_in.wrong_role"), 403
    if error or principal is None:
        return page(request, "sign_in.html", status=status, note="", error=error, next=wanted, words=words)
    return await _let_in(request, principal, RedirectResponse(wanted, 303))


@router.get("/console/enter/{ticket}", dependencies=[is_open()])
async def enter(request: Request, ticket: str) -> Response:
    """A page that leads on by itself: the strict cookie is not sent on a redirect that another site began."""
    redeemed = services_of(request).tickets.redeem(ticket)
    if redeemed is None:
        refuse_failed(request)
        error = words_of(request)("sign_in.ticket_used")
        return page(request, "sign_in.html", status=401, note="", error=error, next="/console/")
    principal = Principal(0, redeemed.name, Role(redeemed.role), redeemed.masked)
    return await _let_in(request, principal, page(request, "enter.html"))


async def _let_in(request: Request, principal: Principal, response: Response) -> Response:
    await trail_of(request).note(audit_entry(principal, "console.sign-in", "console"))
    log.event("console.sign_in", token_name=principal.name, role=principal.role.value)
    set_cookie(request, response, sessions_of(request).open(principal))
    response.headers["Cache-Control"] = "no-store"
    return response


@router.post("/console/sign-out", dependencies=[is_open()])
async def sign_out(request: Request) -> Response:
    session = await session_of(request)
    if session is not None:
        await checked_form(request, session)
        sessions_of(request).close(request.cookies.get(cookie_name(request), ""))
    response = RedirectResponse("/console/sign-in?out=1", 303, headers={"Clear-Site-Data": '"cache"'})
    response.delete_cookie(cookie_name(request), path="/")
    return response


def _safe_next(wanted: str) -> str:
    """A page of this console, never another site."""
    inside = wanted == "/docs" or wanted.startswith("/console/")
    inside = inside and "//" not in wanted and "\\" not in wanted and wanted.isprintable()
    return wanted if inside and not wanted.startswith(("/console/sign-", "/console/enter")) else "/console/"


# ---- home ----------------------------------------------------------------------------------------------------------


@router.get("/console/")
async def home(request: Request, session: Operator) -> Response:
    services = services_of(request)
    now = services.store.now_us()

    def look(tx: Transaction) -> dict[str, Any]:
        return {
            "counts": ledger_view.counts_by_state(tx),
            "hour": ledger_view.received_since(tx, now - 3_600_000_000),
            "day": ledger_view.received_since(tx, now - 86_400_000_000),
            "waiting": ledger_view.waiting(tx),
            "lanes": ledger_view.stuck_lanes(tx),
            "recent": ledger_view.page_of_messages(tx, queries.MessageFilter(limit=8)),
        }

    seen = await services.store.read(look)
    words = words_of(request)
    for entry in seen["waiting"]:
        entry["age"] = words.gap(max(0, now - uid_ms(entry["oldest"]) * 1000))
        entry["down"] = bool(entry["why"]) and entry["why"] != ledger_view.NOT_CONFIGURED
        entry["unconfigured"] = entry["why"] == ledger_view.NOT_CONFIGURED
        entry["why"] = reason_text(words, entry["why"])
        entry["shape"] = next(
            (
                shape
                for found, shape in (
                    (entry["states"].get("UNSURE"), "doubt"),
                    (entry["held"], "lock"),
                    (entry["down"], "fail"),
                    (entry["states"].get("WAITING"), "wait"),
                )
                if found
            ),
            "flow",
        )
    for lane in seen["lanes"]:
        head_at = microseconds(lane["head_at"])
        lane["age"] = words.gap(max(0, now - head_at)) if head_at else ""
        lane["why"] = reason_text(words, lane["blocked_reason"] or lane["last_error"])
        lane["until"] = microseconds(lane["not_before"])
        lane["held"] = bool(lane["blocked_reason"]) and lane["blocked_reason"] not in ledger_view.WHOLE_DESTINATION
    seen["counts"]["TO_DECIDE"] = sum(entry["states"].get("UNSURE", 0) for entry in seen["waiting"])
    need = sum(seen["counts"][state] for state in states.NEEDS_A_PERSON)
    held = sum(entry["held"] for entry in seen["waiting"])
    return page(
        request,
        "home.html",
        words=words,
        session=session,
        here="home",
        now=now,
        need=need,
        held=held,
        rows=rows_of(seen["recent"], words),
        **{key: seen[key] for key in ("counts", "hour", "day", "waiting", "lanes")},
    )


# ---- the list ------------------------------------------------------------------------------------------------------


@router.get("/console/messages")
async def list_messages(request: Request, session: Operator) -> Response:
    wanted, chosen = _filter(request)
    services, words = services_of(request), words_of(request)

    def look(tx: Transaction) -> tuple[Any, Any, Any]:
        return ledger_view.page_of_messages(tx, wanted), ledger_view.counts_by_state(tx), ledger_view.recent_sources(tx)

    found, counts, sources = await services.store.read(look)
    newest = uid_number(found["items"][0]["id"]) if found["items"] else 0
    patient = await _masked_patient(request, wanted.patient_id, chosen)
    without = {name: _url({key: value for key, value in chosen.items() if key != name}) for name in chosen}
    return page(
        request,
        "messages.html",
        words=words,
        session=session,
        here="messages",
        now=services.store.now_us(),
        rows=rows_of(found, words),
        counts=counts,
        sources=sorted({*sources, *([wanted.source] if wanted.source else [])}),
        chosen=chosen,
        without=without,
        patient=patient,
        first_page=wanted.after is None,
        newest=newest,
        tabs=[("", _url({**chosen, "state": ""})), *((state, _url({**chosen, "state": state})) for state in TAB_STATES)],
        older=_url({**chosen, "after": found["after"]}) if found["after"] else "",
        top=_url(chosen),
        live=f"/console/messages/new?{urlencode({**chosen, 'last': newest})}",
    )


@router.get("/console/messages/new")
async def new_messages(request: Request, session: Operator) -> Response:
    """How many messages came since the page was made, and the present state of its unfinished rows."""
    wanted, _ = _filter(request)
    last = request.query_params.get("last", "0")
    uids = [uid for uid in request.query_params.get("open", "").split(",") if uid][:PAGE_ROWS]
    if not (last.isascii() and last.isdigit()) or len(last) > 19:
        raise Problem(400, "WrongParameter", "last is a number.")
    services, words = services_of(request), words_of(request)

    def look(tx: Transaction) -> tuple[int, list[Any]]:
        shown = [queries.show_message(tx, uid) for uid in uids]
        return ledger_view.newer_than(tx, wanted, int(last)), [message for message in shown if message]

    new, changed = await services.store.read(look)
    row: Any = environment().get_template("row.html").module
    now = services.store.now_us()
    return json_response(
        {
            "new": new,
            "label": words.plural("list.new_one", new),
            "at": words.time(now),
            "rows": {
                message["id"]: {
                    "state": row.state_cell(words, message),
                    "deliveries": row.deliveries_cell(words, message),
                    "open": message["open"],
                }
                for message in rows_of({"items": changed}, words)
            },
        }
    )


@router.post("/console/search")
async def search(request: Request, session: Operator) -> Response:
    """Where a search word leads. It is posted, and the page it leads to carries numbers only: it may be a patient's."""
    fields = await checked_form(request, session)
    text = fields.get("q", "").strip()
    if not text:
        return RedirectResponse("/console/messages", 303)
    found = await services_of(request).store.read(lambda tx: ledger_view.find_anything(tx, text[:200]))
    if found is None:
        return page(request, "not_found.html", status=404, session=session, here="messages")
    if "message" in found:
        return RedirectResponse(f"/console/messages/{found['message']}", 303)
    if "patient" in found:
        await trail_of(request).note(
            audit_entry(
                session.principal, "console.search", f"Patient/{found['patient']}", patient_id=uid_number(found["patient"])
            )
        )
    return RedirectResponse(_url(found), 303)


def _filter(request: Request) -> tuple[queries.MessageFilter, dict[str, str]]:
    """The list's filter, and the query parameters that it stands for."""
    asked = request.query_params
    names = ("state", "source", "type", "control_id", "since", "patient")
    chosen = {name: asked[name].strip() for name in names if asked.get(name, "").strip()}
    since, after, state = chosen.get("since", ""), asked.get("after", ""), chosen.get("state", "")
    wrong_cursor = after and not (after.isascii() and after.isdigit() and len(after) < 20)
    if (since and since not in PERIODS_S) or (state and state not in set(MessageState)) or wrong_cursor:
        raise Problem(400, "WrongParameter", "Not understood: state, since or after.")
    try:
        patient_id = uid_number(chosen["patient"]) if "patient" in chosen else None
    except ValueError:
        raise Problem(404, "NotFound", "There is no such patient.") from None
    return queries.MessageFilter(
        state=MessageState(state) if state else None,
        source=chosen.get("source", ""),
        type=chosen.get("type", "").upper(),
        control_id=chosen.get("control_id", ""),
        patient_id=patient_id,
        after=int(after) if after else None,
        limit=PAGE_ROWS,
        since=services_of(request).store.now_us() - PERIODS_S[since] * 1_000_000 if since else 0,
    ), chosen


async def _masked_patient(request: Request, patient_id: int | None, chosen: dict[str, str]) -> str:
    if patient_id is None:
        return ""
    shown = await services_of(request).store.read(lambda tx: ledger_view.masked_patients(tx, {chosen["patient"]}))
    return shown.get(chosen["patient"], "")


def _url(chosen: dict[str, Any]) -> str:
    kept = {name: value for name, value in chosen.items() if value}
    return "/console/messages" + (f"?{urlencode(kept, quote_via=quote)}" if kept else "")


def rows_of(found: dict[str, Any], w: Words) -> list[dict[str, Any]]:
    """The messages of a page as its rows show them."""
    rows = []
    for message in found["items"]:
        error = message["ack"]["error"]
        failing = [
            delivery
            for delivery in message["deliveries"]
            if delivery["state"] not in ("DELIVERED", "CANCELLED") and delivery["last_error"]
        ]
        if error:
            reason = f"{message['ack']['code']} {error_text(error)}"
        elif failing:
            reason = f"{failing[-1]['destination'].partition(':')[0]} : {reason_text(w, failing[-1]['last_error'])}"
        elif message["findings"]:
            reason = error_text({**message["findings"][0], "code": ""})
        else:
            reason = ""
        received = microseconds(message["received_at"]) or 0
        rows.append(
            {
                **message,
                "shown_state": states.shown_state(message),
                "received": received,
                "reason": reason,
                "kind": w(f"type.{message['type']}") if w.has(f"type.{message['type']}") else "",
                "replayed": any(delivery["replay_of"] for delivery in message["deliveries"]),
                "open": message["state"] in ("RECEIVED", "ROUTED"),
                "ipp": message.get("ipp", ""),
                "chips": [
                    {**delivery, "name": states.shown_destination(delivery["destination"])}
                    for delivery in {one["destination"]: one for one in message["deliveries"]}.values()
                ],
            }
        )
    return rows
