"""Keep a message before it is acknowledged, and know it again when it comes twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import orjson

from hub.model.refusals import AlreadyReceived, Finding, MessageRefused
from hub.model.states import ACK_STATES, MESSAGE_STATES, AckEvent, AckState, MessageEvent, MessageState, advance
from hub.store import BlobDamaged, Transaction
from hub.store.blob_names import name

FORMAT_ER7 = "hl7v2-er7"
RULES = "SCHEMATRON_"  # begin of the codes of what a site's rule files found
INLINE_BYTES = 256 << 10  # larger bodies are files

_MESSAGE = (
    "id",
    "source",
    "connection",
    "format",
    "type",
    "control_id",
    "sending_app",
    "charset",
    "size",
    "sha256",
    "in_file",
    "received_at",
    "state",
    "ack_code",
    "ack_error",
    "ack_state",
    "findings",
    "shard",
)


# The message that holds a dedupe key: the one that was there, or the new one when the key is new or older than the window.
_HOLDER = (
    "ON CONFLICT (source, control_id, sha256) DO UPDATE SET "
    "message_id = CASE WHEN dedupe.at < ? THEN excluded.message_id ELSE dedupe.message_id END, "
    "at = CASE WHEN dedupe.at < ? THEN excluded.at ELSE dedupe.at END RETURNING source, control_id, sha256, message_id"
)
_Key = tuple[str, str, bytes]


@dataclass(slots=True)
class NewMessage:
    """A message as it came in and was judged. `refusal` None means: taken, to be answered AA."""

    id: int
    source: str
    connection: str
    type: str
    control_id: str
    sending_app: str
    charset: str
    body: bytes
    sha256: bytes
    received_at: int
    refusal: MessageRefused | None = None
    findings: tuple[Finding, ...] = ()
    in_file: bool = False
    strict_control_id: bool = False
    ack_owed: bool = True
    shard: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of it: `message_id` is that of the first copy when `again`; `refusal` is what to answer."""

    message_id: int
    refusal: MessageRefused | None
    again: bool = False


def findings_json(findings: Sequence[Finding]) -> str | None:
    """Findings as the ledger holds them."""
    if not findings:
        return None
    return orjson.dumps([{"code": f.code, "at": f.at, "text": f.sentence} for f in findings]).decode()


def error_json(refusal: MessageRefused | None) -> str | None:
    """The `ack.error` of the ledger API."""
    if refusal is None:
        return None
    return orjson.dumps({"code": refusal.condition, "at": refusal.at, "text": refusal.sentence}).decode()


def keep(tx: Transaction, items: Sequence[NewMessage], *, dedupe_since: int) -> list[Kept]:
    """Write messages and their dedupe keys; the same bytes from the same source since `dedupe_since` are one message.

    Only a stored AA is answered again. After AE or AR the same bytes are judged afresh on the same row. A source that is
    `strict_control_id` is refused a control id that it has used for other bytes since then.

    Raises:
        BlobGoing: a large body like one of these is being removed in this moment.
    """
    first: dict[_Key, NewMessage] = {}
    for item in items:
        first.setdefault((item.source, item.control_id, item.sha256), item)
    holders = {
        (source, control_id, sha256): message_id
        for source, control_id, sha256, message_id in tx.insert(
            "dedupe",
            ("source", "control_id", "sha256", "message_id", "at"),
            [(item.source, item.control_id, item.sha256, item.id, item.received_at) for item in first.values()],
            suffix=_HOLDER,
            suffix_values=(dedupe_since, dedupe_since),
        )
    }
    fresh: dict[_Key, Kept] = {}
    for key, item in first.items():
        if holders[key] == item.id:
            if item.strict_control_id and item.refusal is None and _used_before(tx, item, dedupe_since):
                item.refusal = AlreadyReceived(at="MSH-10", sentence="MSH-10: this control id was used for another message")
            fresh[key] = Kept(item.id, item.refusal)
    if fresh:
        _write(tx, [first[key] for key in fresh])
    kept: list[Kept] = []
    for item in items:
        key = (item.source, item.control_id, item.sha256)
        result = fresh.get(key)
        if result is None:
            kept.append(_judge_again(tx, item, holders[key]))
        elif item is first[key]:
            kept.append(result)
        else:
            kept.append(Kept(result.message_id, result.refusal, again=True))
    return kept


def _write(tx: Transaction, items: Sequence[NewMessage]) -> None:
    name(tx, [item.sha256 for item in items if item.in_file])
    tx.insert(
        "message",
        _MESSAGE,
        [
            (
                item.id,
                item.source,
                item.connection,
                FORMAT_ER7,
                item.type,
                item.control_id,
                item.sending_app,
                item.charset,
                len(item.body),
                item.sha256,
                int(item.in_file),
                item.received_at,
                (MessageState.RECEIVED if item.refusal is None else MessageState.REFUSED).value,
                "AA" if item.refusal is None else item.refusal.ack_code,
                error_json(item.refusal),
                (AckState.OWED if item.ack_owed else AckState.NOT_OWED).value,
                findings_json(item.findings),
                item.shard,
            )
            for item in items
        ],
    )
    tx.insert("body", ("message_id", "bytes"), [(item.id, item.body) for item in items if not item.in_file])


def _used_before(tx: Transaction, item: NewMessage, dedupe_since: int) -> bool:
    return (
        tx.row(
            "SELECT 1 FROM dedupe WHERE source = ? AND control_id = ? AND sha256 <> ? AND at >= ? AND message_id < ? LIMIT 1",
            item.source,
            item.control_id,
            item.sha256,
            dedupe_since,
            item.id,
        )
        is not None
    )


def _judge_again(tx: Transaction, item: NewMessage, message_id: int) -> Kept:
    row = tx.row(f"SELECT state, ack_code, ack_state FROM message WHERE id = ?{tx.locked}", message_id)  # noqa: S608
    if row is None or row[1] == "AA":
        return Kept(message_id, None, again=True)
    before = AckState(row[2])
    owed = ACK_STATES.get((before, AckEvent.ASK_AGAIN), before)
    state = MessageState(row[0])
    if item.refusal is not None or state is not MessageState.REFUSED:
        tx.run(
            "UPDATE message SET ack_code = ?, ack_error = ?, ack_state = ? WHERE id = ?",
            item.refusal.ack_code if item.refusal else "AA",
            error_json(item.refusal),
            owed.value,
            message_id,
        )
        return Kept(message_id, item.refusal, again=True)
    state = advance(MESSAGE_STATES, state, MessageEvent.JUDGE_AFRESH)
    tx.run(
        "UPDATE message SET state = ?, ack_code = 'AA', ack_error = NULL, ack_state = ?, findings = ?, connection = ? "
        "WHERE id = ?",
        state.value,
        owed.value,
        findings_json(item.findings),
        item.connection,
        message_id,
    )
    return Kept(message_id, None)


def add_findings(tx: Transaction, message_id: int, findings: Sequence[Finding], *, instead_of: str = "") -> None:
    """List more findings with a kept message; those that are listed already are not listed again.

    `instead_of`: the begin of XPaths whose findings are told anew; what rules of a site found there stays.
    """
    row = tx.row("SELECT findings FROM message WHERE id = ?", message_id) if findings or instead_of else None
    if row is None:
        return
    listed = orjson.loads(row[0]) if row[0] else []
    kept = [one for one in listed if not instead_of or not one["at"].startswith(instead_of) or one["code"].startswith(RULES)]
    told = [{"code": one.code, "at": one.at, "text": one.sentence} for one in findings]
    every = kept + [one for one in told if one not in kept]
    if every != listed:
        tx.run("UPDATE message SET findings = ? WHERE id = ?", orjson.dumps(every).decode(), message_id)


def mark_acks(tx: Transaction, items: Sequence[tuple[int, AckEvent]]) -> list[None]:
    """Move acknowledgement states of messages that routing does not touch: refused ones, and lost answers."""
    states: dict[int, str] = dict(
        tx.rows_in(
            f"SELECT id, ack_state FROM message WHERE id IN ({{keys}}) ORDER BY id{tx.locked}",  # noqa: S608
            [message_id for message_id, _ in items],
        )
    )
    for message_id, event in items:
        before = AckState(states[message_id])
        if (before, event) in ACK_STATES:
            tx.run("UPDATE message SET ack_state = ? WHERE id = ?", ACK_STATES[before, event].value, message_id)
    return [None] * len(items)


def reused_control_ids(tx: Transaction, messages: Sequence[tuple[int, str, str]]) -> set[int]:
    """Which of these messages (number, source, MSH-10) carry a control id that an earlier one of their source carried.

    Worth a finding, since receipts name it.
    """
    return (
        {
            number
            for (number,) in tx.rows_values(
                "WITH v(m, s, c) AS (VALUES {values}) SELECT v.m FROM v WHERE EXISTS "
                "(SELECT 1 FROM dedupe d WHERE d.source = v.s AND d.control_id = v.c AND d.message_id < v.m)",
                messages,
            )
        }
        if messages
        else set()
    )


def body_of(tx: Transaction, message_id: int) -> bytes:
    """The exact bytes of a kept message.

    Raises:
        BlobDamaged: what is stored is not what came, or the file of a large body is missing.
        KeyError: no such message, or pruned.
    """
    row = tx.row(
        "SELECT m.sha256, m.in_file, b.bytes FROM message m LEFT JOIN body b ON b.message_id = m.id WHERE m.id = ?", message_id
    )
    if row is None or (not row[1] and row[2] is None):
        raise KeyError(message_id)
    if row[1]:
        return tx.blob(row[0])
    kept: bytes = row[2]
    if sha256(kept).digest() != row[0]:
        raise BlobDamaged("a stored body is not the bytes it was")
    return kept
