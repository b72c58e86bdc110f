"""What the pages read from the ledger besides the queries it offers: masked patients, capped counts."""

from __future__ import annotations

from typing import Any

from hub.ledger import queries
from hub.model.uids import uid_number, uid_text
from hub.store.port import Transaction
from hub.web.console.segments import tail

Json = dict[str, Any]
CAP = 10_000
NOT_CONFIGURED = "destination not configured"
WHOLE_DESTINATION = frozenset({NOT_CONFIGURED, "destination unavailable", "destination does not answer"})


def masked_patients(tx: Transaction, patients: set[str]) -> dict[str, str]:
    """`IPP ••••4711` by patient id, for those that have a local number."""
    numbers = [uid_number(uid) for uid in sorted(patients)]
    shown: dict[str, str] = {}
    if numbers:
        for patient_id, value in tx.rows_in(
            "SELECT patient_id, value FROM patient_identifier WHERE patient_id IN ({keys}) AND kind <> 'INS' ORDER BY since DESC",
            numbers,
        ):
            shown[uid_text(patient_id)] = tail(str(value))
    return shown


def page_of_messages(tx: Transaction, wanted: queries.MessageFilter) -> Json:
    """A page of messages, each with its masked patient."""
    page = queries.find_messages(tx, wanted)
    patients = masked_patients(tx, {item["patient"] for item in page["items"] if item["patient"]})
    for item in page["items"]:
        item["ipp"] = patients.get(item["patient"] or "", "")
    return page


def newer_than(tx: Transaction, wanted: queries.MessageFilter, last: int) -> int:
    """How many messages of the filter came after row `last`, counted up to 500."""
    if wanted == queries.MessageFilter(limit=wanted.limit):
        row = tx.row("SELECT count(*) FROM (SELECT 1 FROM message WHERE id > ? LIMIT 500) t", last)
        return int(row[0]) if row else 0
    items = queries.find_messages(tx, wanted)["items"]
    return sum(uid_number(item["id"]) > last for item in items)


def counts_by_state(tx: Transaction) -> dict[str, int]:
    """Unfinished messages by state, each counted to just above the cap; reads the small index of unfinished ones."""
    counted = {}
    for state in ("RECEIVED", "ROUTED", "PARTIAL", "REFUSED", "SET_ASIDE", "NO_ROUTE", "DISCARDED"):
        row = tx.row("SELECT count(*) FROM (SELECT 1 FROM message WHERE state = ? AND state <> 'DONE' LIMIT ?) t", state, CAP + 1)
        counted[state] = int(row[0]) if row else 0
    return counted


def recent_sources(tx: Transaction) -> list[str]:
    """The sources of the latest messages, for the filter."""
    return sorted({row[0] for row in tx.rows("SELECT source FROM message ORDER BY id DESC LIMIT 500")})


def received_since(tx: Transaction, since_us: int) -> int:
    """Messages that came in since then, counted to just above the cap."""
    row = tx.row("SELECT count(*) FROM (SELECT 1 FROM message WHERE id >= ? LIMIT ?) t", since_us // 1000 << 16, CAP + 1)
    return int(row[0]) if row else 0


def waiting(tx: Transaction) -> list[Json]:
    """Open deliveries by kind of destination (all mail together): how many in which state, since when, held by what.

    `why` is what stops the whole destination, `held` counts lanes that wait for a person.
    """
    found: dict[str, Json] = {}
    for destination, state, n, oldest in tx.rows(
        "SELECT destination, state, count(*), min(id) FROM (SELECT destination, state, id FROM delivery "
        "WHERE state <> 'DELIVERED' AND state IN ('QUEUED','WAITING','SENDING','UNSURE') LIMIT ?) t GROUP BY destination, state",
        CAP + 1,
    ):
        kind = destination.partition(":")[0]
        entry = found.setdefault(
            kind, {"destination": kind, "count": 0, "states": {}, "oldest": oldest, "held": 0, "lanes": 0, "why": ""}
        )
        entry["count"] += n
        entry["states"][state] = entry["states"].get(state, 0) + n
        entry["oldest"] = min(entry["oldest"], oldest)
    for destination, reason, lanes in tx.rows(
        "SELECT destination, blocked_reason, count(*) FROM lane GROUP BY destination, blocked_reason"
    ):
        lane_of = found.get(destination.partition(":")[0])
        if lane_of is not None:
            lane_of["lanes"] += lanes
            if reason in WHOLE_DESTINATION:
                lane_of["why"] = reason
            elif reason:
                lane_of["held"] += lanes
    return sorted(found.values(), key=lambda entry: -int(entry["count"]))


def stuck_lanes(tx: Transaction, limit: int = 8) -> list[Json]:
    """Lanes that are held or delayed, oldest first, each with the message of its head."""
    lanes: list[Json] = queries.find_lanes(tx, blocked=True, limit=limit)["items"]
    for lane in lanes:
        head = uid_number(lane["head"]) if lane["head"] else 0
        row = tx.row("SELECT message_id, last_error FROM delivery WHERE id = ?", head)
        lane["message"] = uid_text(row[0]) if row else None
        lane["last_error"] = row[1] if row else None
    return lanes


def neighbours(tx: Transaction, number: int) -> tuple[str | None, str | None]:
    """The ids of the message before and after this one."""
    newer = tx.row("SELECT id FROM message WHERE id > ? ORDER BY id LIMIT 1", number)
    older = tx.row("SELECT id FROM message WHERE id < ? ORDER BY id DESC LIMIT 1", number)
    return uid_text(newer[0]) if newer else None, uid_text(older[0]) if older else None


def peer_answers(tx: Transaction, message: Json, at_most: int = 40) -> dict[tuple[str, int], bytes]:
    """What the peers said, by delivery id and attempt: the first and last attempts of each delivery."""
    answers = {}
    for delivery in message["deliveries"]:
        attempts = delivery["attempt_list"]
        for attempt in attempts if len(attempts) <= at_most else attempts[:5] + attempts[-at_most + 5 :]:
            if attempt["answer_size"]:
                answers[delivery["id"], attempt["n"]] = queries.attempt_answer(tx, delivery["id"], attempt["n"])
    return answers


def document_read(tx: Transaction, number: int) -> Json | None:
    """How many facts a message's documents gave the record, and how many of their entries stay unread; None without a document
    that was read.
    """
    row = tx.row(
        "SELECT count(*), sum(facts), sum(unread) FROM translated WHERE document_id IN"
        " (SELECT resource_id FROM binary_content WHERE message_id = ?)",
        number,
    )
    return {"facts": int(row[1]), "unread": int(row[2])} if row is not None and row[0] else None


def behind_in_lane(tx: Transaction, message: Json) -> dict[str, int]:
    """How many open deliveries stand before each open one of this message in its lane."""
    waits = {}
    for delivery in message["deliveries"]:
        if delivery["state"] in ("QUEUED", "WAITING"):
            row = tx.row(
                "SELECT count(*) FROM (SELECT 1 FROM delivery WHERE lane = ? AND id < ? "
                "AND state IN ('QUEUED','WAITING','SENDING','UNSURE') LIMIT 1000) t",
                delivery["lane"],
                uid_number(delivery["id"]),
            )
            waits[delivery["id"]] = int(row[0]) if row else 0
    return waits


def find_anything(tx: Transaction, text: str) -> Json | None:
    """Where a search word leads: `message`, `control_id`, `type` or `patient`; None when it is known as nothing."""
    try:
        number = uid_number(text)
        if tx.row("SELECT 1 FROM message WHERE id = ?", number):
            return {"message": uid_text(number)}
        row = tx.row("SELECT message_id FROM delivery WHERE id = ?", number)
        if row:
            return {"message": uid_text(row[0])}
    except ValueError:
        pass
    patients = {
        row[0]
        for row in tx.rows(
            "SELECT DISTINCT r.patient_id FROM token_index t JOIN resource r ON r.id = t.resource_id "
            "WHERE t.param IN ('Patient.identifier', 'Encounter.identifier') AND t.value = ?",
            text,
        )
    }
    if len(patients) == 1:
        return {"patient": uid_text(patients.pop())}
    if queries.find_messages(tx, queries.MessageFilter(control_id=text, limit=1))["items"]:
        return {"control_id": text}
    if queries.find_messages(tx, queries.MessageFilter(type=text.upper(), limit=1))["items"]:
        return {"type": text.upper()}
    return None
