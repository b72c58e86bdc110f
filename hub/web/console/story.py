"""What happened to one message, in the order of time and in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hub.ledger.made import HUB
from hub.web.console.states import FAILED, OPEN, shown_destination
from hub.web.rendering import Words

Json = dict[str, Any]
_SHAPES = {"DELIVER": "ok", "FAIL_FOR_NOW": "wait", "NO_ANSWER": "doubt", "REFUSE": "fail", "GIVE_UP": "fail", "HOLD": "wait"}
FOLD_ABOVE, FOLD_FIRST, FOLD_LAST = 6, 2, 2


@dataclass(slots=True)
class Event:
    """One step. `at` is UTC microseconds, None for what is so now; `gap` since the step before."""

    at: int | None
    shape: str
    title: str
    detail: str = ""
    note: str = ""
    gap: int | None = None


def microseconds(text: str | None) -> int | None:
    """UTC microseconds of an instant of the ledger API."""
    if not text:
        return None
    at = datetime.fromisoformat(text)
    return int(at.timestamp()) * 1_000_000 + at.microsecond


def reason_text(w: Words, reason: str | None) -> str:
    """A reason in the reader's language when it is one of the hub's fixed ones."""
    if not reason:
        return ""
    return w(f"reason.{reason}") if w.has(f"reason.{reason}") else reason


def error_text(error: Json) -> str:
    """Code, place and sentence of an `ack.error` or a finding; the sentence often begins with its place."""
    code, at, text = (str(error.get(key) or "") for key in ("code", "at", "text"))
    return " ".join(part for part in (code, "" if text.startswith(at) else at, text) if part)


def tell(message: Json, w: Words) -> list[Event]:
    """Received, kept, acknowledged, routed, each attempt and receipt, what it waits for now."""
    events = _arrival(message, w)
    later: list[Event] = []
    now: list[Event] = []
    for delivery in message["deliveries"]:
        later += _attempts(delivery, w) + _receipts(delivery, w)
        now += _present(delivery, w)
    events += sorted(later, key=lambda event: event.at or 0)
    if message["state"] == "SET_ASIDE":
        now.append(Event(None, "aside", w("message.set_aside")))
    if message["state"] == "DISCARDED":
        now.append(Event(None, "off", w("message.discarded")))
    before: int | None = None
    for event in events:
        event.gap = event.at - before if event.at is not None and before is not None else None
        before = event.at if event.at is not None else before
    return events + now


def _arrival(message: Json, w: Words) -> list[Event]:
    received, ack = microseconds(message["received_at"]), message["ack"]
    more = w("message.received_more", size=w.size(message["size"]), charset=message["charset"] or w("common.unknown"))
    events = [
        Event(received, "ok", w("message.received", source=message["source"]), more),
        Event(received, "ok", w("message.kept")),
    ]
    if message["source"] == HUB:
        events = [Event(received, "ok", w("message.made"), more)]
    handed = w(f"message.ack_{ack['state']}")
    if message["state"] == "REFUSED" or ack["error"]:
        error = ack["error"] or {}
        events.append(Event(received, "fail", w("message.refused", code=ack["code"]), handed, note=error_text(error)))
    elif message["source"] != HUB:
        events.append(Event(received, "aside" if ack["state"] == "LOST" else "ok", w("message.acked", code=ack["code"]), handed))
    routed = microseconds(message["routed_at"])
    if routed is not None:
        first = [delivery for delivery in message["deliveries"] if not delivery["replay_of"]]
        names = ", ".join(shown_destination(delivery["destination"]) for delivery in first)
        if message["state"] == "NO_ROUTE":
            events.append(Event(routed, "aside", w("message.routed_none")))
        else:
            events.append(Event(routed, "ok", w.plural("message.routed", len(first)), names))
    return events


def _attempts(delivery: Json, w: Words) -> list[Event]:
    name, attempts = shown_destination(delivery["destination"]), delivery["attempt_list"]
    if not attempts and delivery["state"] == "DELIVERED":
        title = w("message.in_record") if name == "record" else w("message.in_transaction", destination=name)
        return [Event(microseconds(delivery["updated_at"]), "ok", title)]
    events, folded = [], range(0)
    if len(attempts) > FOLD_ABOVE:
        folded = range(FOLD_FIRST, len(attempts) - FOLD_LAST)
    for n, attempt in enumerate(attempts):
        if n in folded:
            if n == folded.start:
                events.append(Event(microseconds(attempt["ended_at"]), "wait", w.plural("message.folded", len(folded)), name))
            continue
        started, ended = microseconds(attempt["started_at"]) or 0, microseconds(attempt["ended_at"]) or 0
        key = f"message.attempt_{attempt['outcome']}"
        key = key if w.has(key) else "message.attempt_other"
        events.append(
            Event(
                ended,
                _SHAPES.get(attempt["outcome"], "flow"),
                w(key, destination=name, outcome=attempt["outcome"]),
                w("message.attempt_n", n=attempt["n"], gap=w.gap(max(0, ended - started))),
                note=reason_text(w, attempt["error"]),
            )
        )
    return events


def _receipts(delivery: Json, w: Words) -> list[Event]:
    name = shown_destination(delivery["destination"])
    return [
        Event(
            microseconds(receipt["at"]),
            "ok" if receipt["positive"] else "fail",
            w("message.receipt_yes" if receipt["positive"] else "message.receipt_no", kind=receipt["kind"], destination=name),
            receipt["code"] or "",
        )
        for receipt in delivery["receipts"]
    ]


def _present(delivery: Json, w: Words) -> list[Event]:
    name, state, lane = shown_destination(delivery["destination"]), delivery["state"], delivery["lane_state"] or {}
    if state == "UNSURE":
        return [Event(None, "doubt", w("message.unsure_now", destination=name), reason_text(w, delivery["last_error"]))]
    if state in OPEN:
        reason = reason_text(w, lane.get("blocked_reason") or delivery["last_error"])
        title = w("message.waits_for", destination=name, reason=reason) if reason else w("message.waits", destination=name)
        until = microseconds(lane.get("not_before"))
        again = w("message.waits_retry", at=w.time(until)) if until else ""
        return [Event(None, "wait" if state == "WAITING" else "flow", title, again)]
    if state == "CANCELLED":
        return [Event(None, "off", w("message.cancelled", destination=name))]
    if state == "REFUSED" and not delivery["attempt_list"]:
        return [Event(None, "fail", w("message.refused_by_rule", destination=name), note=reason_text(w, delivery["last_error"]))]
    return []


def sentence(message: Json, w: Words) -> str:
    """Where the message stands, in one sentence."""
    state, deliveries = message["state"], _latest(message["deliveries"])
    if state in ("RECEIVED", "REFUSED", "NO_ROUTE", "SET_ASIDE", "DISCARDED"):
        return w(f"sentence.{state}")
    if not deliveries:
        return w("sentence.no_delivery")
    parts = []
    groups: list[tuple[str, list[Json]]] = [
        ("delivered", [d for d in deliveries if d["state"] == "DELIVERED"]),
        ("open", [d for d in deliveries if d["state"] in OPEN and d["state"] != "UNSURE"]),
        ("unsure", [d for d in deliveries if d["state"] == "UNSURE"]),
        ("failed", [d for d in deliveries if d["state"] in FAILED]),
        ("cancelled", [d for d in deliveries if d["state"] == "CANCELLED"]),
    ]
    for key, members in groups:
        elsewhere = [d for d in members if d["destination"] != "record" or key != "delivered"]
        if len(elsewhere) < len(members):
            parts.append(w("sentence.in_record"))
        if elsewhere:
            shown = (shown_destination(d["destination"]) for d in elsewhere)
            names = [w("sentence.record") if name == "record" else name for name in shown]
            text = w(f"sentence.{'open_n' if key == 'open' and len(names) > 1 else key}", names=_joined(names, w))
            reasons = sorted({_reason(d, w) for d in elsewhere} - {""}) if key in ("open", "failed") else []
            parts.append(text + (f" ({'; '.join(reasons)})" if reasons else ""))
    text = "\u00a0; ".join(parts) if w.language == "fr" else "; ".join(parts)
    return text[:1].upper() + text[1:] + "."


def _reason(delivery: Json, w: Words) -> str:
    return reason_text(w, (delivery.get("lane_state") or {}).get("blocked_reason") or delivery["last_error"])


def _latest(deliveries: list[Json]) -> list[Json]:
    """The last delivery to each destination: a replay stands for what it repeats."""
    return list({delivery["destination"]: delivery for delivery in deliveries}.values())


def _joined(names: list[str], w: Words) -> str:
    return w("sentence.and").join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
