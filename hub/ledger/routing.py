"""What routing reads and writes: messages that are kept and not yet routed, and the row of one that now is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from hub.ledger.messages import findings_json
from hub.model.refusals import Finding
from hub.model.states import ACK_STATES, MESSAGE_STATES, AckEvent, AckState, MessageEvent, MessageState, advance
from hub.store import Transaction


@dataclass(frozen=True, slots=True)
class Unrouted:
    """A kept message that waits to be routed."""

    id: int
    source: str
    connection: str
    charset: str
    in_file: bool
    sha256: bytes
    shard: int = 0


@dataclass(frozen=True, slots=True)
class Routed:
    """What routing decided about one message; `findings` are added to those of its judgement."""

    message_id: int
    patient_id: int | None
    open_n: int
    failed_n: int
    made: int  # deliveries in all
    taken: bool = False  # it had its effect without a delivery
    findings: tuple[Finding, ...] = ()
    broke: bool = False


def unrouted(
    tx: Transaction, *, limit: int, known: Callable[[int], object], shards: Sequence[int] | None = None
) -> tuple[list[Unrouted], dict[int, bytes]]:
    """The oldest messages that wait to be routed, in order of arrival; and inline bodies of those `known` does not know.

    `shards`: only those of these; None for all.
    """
    sql = "SELECT id, source, connection, charset, in_file, sha256 FROM message WHERE state = 'RECEIVED' AND state <> 'DONE'"
    last = f" ORDER BY {tx.arrival} LIMIT {limit}"
    rows = tx.rows(sql + last) if shards is None else tx.rows_in(f"{sql} AND shard IN ({{keys}}){last}", shards)
    found = [Unrouted(row[0], row[1], row[2], row[3], bool(row[4]), row[5]) for row in rows]
    unknown = [one for one in found if not one.in_file and known(one.id) is None]
    if not unknown:
        return found, {}
    digests = {one.id: one.sha256 for one in unknown}
    rows = tx.rows_in("SELECT message_id, bytes FROM body WHERE message_id IN ({keys})", list(digests))
    return found, {number: body for number, body in rows if sha256(body).digest() == digests[number]}


def still_received(tx: Transaction, message_ids: Sequence[int]) -> dict[int, tuple[str, str | None]]:
    """Acknowledgement state and findings of those that nobody discarded in between."""
    return {
        message_id: (ack_state, findings)
        for message_id, state, ack_state, findings in tx.rows_in(
            f"SELECT id, state, ack_state, findings FROM message WHERE id IN ({{keys}}) ORDER BY id{tx.locked}",  # noqa: S608
            message_ids,
        )
        if state == MessageState.RECEIVED.value
    }


def file_routed(tx: Transaction, routed: Sequence[Routed], before: dict[int, tuple[str, str | None]], now: int) -> None:
    """Move messages on: ROUTED, or at once DONE, PARTIAL, NO_ROUTE, SET_ASIDE. An answer still OWED left before routing: SENT."""
    rows = []
    for r in routed:
        ack_state, findings = before[r.message_id]
        state = MessageState.RECEIVED
        if r.broke:
            state = advance(MESSAGE_STATES, state, MessageEvent.BREAK)
        elif not r.made and not r.taken:
            state = advance(MESSAGE_STATES, state, MessageEvent.NO_ROUTE)
        else:
            state = advance(MESSAGE_STATES, state, MessageEvent.ROUTE)
            if not r.open_n:
                state = advance(
                    MESSAGE_STATES, state, MessageEvent.ENDED_WITH_FAILURE if r.failed_n else MessageEvent.ALL_DELIVERED
                )
        ack = AckState(ack_state)
        ack = ACK_STATES.get((ack, AckEvent.SEND), ack) if ack is AckState.OWED else ack
        rows.append(
            (r.message_id, state.value, ack.value, r.patient_id, now, r.open_n, r.failed_n, _joined(findings, r.findings))
        )
    tx.update("message", "id", ("state", "ack_state", "patient_id", "routed_at", "open_n", "failed_n", "findings"), rows)


def _joined(before: str | None, more: tuple[Finding, ...]) -> str | None:
    if not more:
        return before
    added = findings_json(more) or "[]"
    return added if not before else before[:-1] + "," + added[1:]
