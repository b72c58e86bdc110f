"""Legal holds: a message, a patient's messages, or a source's are kept until somebody releases them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from hub.ledger.acts import NotFound, NotPossible
from hub.ledger.instants import instant
from hub.model.uids import uid_number, uid_text
from hub.store import Transaction

KINDS = ("message", "patient", "source")
MIN_REASON, MAX_REASON = 5, 300
LOCK = "legal_hold"  # who prunes and who holds wait for each other
_SOURCE_SEEN = ("SELECT 1 FROM dedupe WHERE source = ? LIMIT 1", "SELECT 1 FROM pruned WHERE source = ? LIMIT 1")
_SURVIVOR = "SELECT coalesce(merged_into, id) FROM patient WHERE id = ?"
_ONE_PERSON = "SELECT id FROM patient WHERE id = ? OR merged_into = ?"


def hold(tx: Transaction, kind: str, target: str, *, actor: str, reason: str, now: int, sources: Collection[str] = ()) -> str:
    """Hold what `target` names: the UUID of a message or of a patient, the name of a source; its comparable form.

    `sources` are those of the configuration; one that sent something earlier is known too.

    Raises:
        NotFound: there is no such thing. NotPossible: no reason, or it is held already.
    """
    tx.exclusive(LOCK)
    named, reason = _known(tx, kind, target, sources), _reason(reason)
    if _active(tx, kind, named):
        raise NotPossible(f"this {kind} is held already")
    tx.insert("legal_hold", ("kind", "target", "at", "actor", "reason"), [(kind, named, now, actor, reason)])
    return named


def release(tx: Transaction, kind: str, target: str, *, actor: str, reason: str, now: int) -> str:
    """End a hold; what it kept is looked at again by the next round.

    Raises:
        NotFound: no such hold. NotPossible: no reason.
    """
    tx.exclusive(LOCK)
    named, reason = _form(kind, target), _reason(reason)
    if not _active(tx, kind, named):
        raise NotFound(f"this {kind} is not held")
    tx.run(
        "UPDATE legal_hold SET released_at = ?, released_by = ?, release_reason = ? "
        "WHERE kind = ? AND target = ? AND released_at IS NULL",
        now,
        actor,
        reason,
        kind,
        named,
    )
    return named


def held(tx: Transaction, messages: Sequence[tuple[int, str, int | None]]) -> set[int]:
    """Which of these messages (number, source, patient) are held, in whichever way."""
    some = tx.row("SELECT 1 FROM legal_hold WHERE kind = 'patient' AND released_at IS NULL LIMIT 1") is not None
    people = people_of(tx, [patient for _, _, patient in messages if patient is not None]) if some else {}
    targets = {uid_text(number) for number, _, _ in messages} | {source for _, source, _ in messages}
    targets |= {uid_text(one) for same in people.values() for one in same}
    sql = "SELECT kind, target FROM legal_hold WHERE released_at IS NULL AND target IN ({keys})"
    active = {tuple(row) for row in tx.rows_in(sql, sorted(targets))}
    if not active:
        return set()
    return {
        number
        for number, source, patient in messages
        if ("message", uid_text(number)) in active
        or ("source", source) in active
        or any(("patient", uid_text(one)) in active for one in people.get(patient or 0, ()))
    }


def people_of(tx: Transaction, patients: Sequence[int]) -> dict[int, set[int]]:
    """Each patient's number with those that turned out to be the same person."""
    found = {}
    for patient in set(patients):
        row = tx.row(_SURVIVOR, patient)
        survivor = row[0] if row is not None else patient
        found[patient] = {patient, survivor, *(one for (one,) in tx.rows(_ONE_PERSON, survivor, survivor))}
    return found


def find_holds(tx: Transaction, *, kind: str = "", released: bool = False, limit: int = 200) -> list[dict[str, Any]]:
    """Holds, newest first; those that were `released` too when asked for."""
    where, values = ["1 = 1"], list[Any]()
    if kind:
        where.append("kind = ?")
        values.append(kind)
    if not released:
        where.append("released_at IS NULL")
    rows = tx.rows(
        "SELECT kind, target, at, actor, reason, released_at, released_by, release_reason FROM legal_hold "  # noqa: S608 - ours
        f"WHERE {' AND '.join(where)} ORDER BY at DESC, kind, target LIMIT ?",
        *values,
        max(1, min(500, limit)),
    )
    return [_as_json(row) for row in rows]


def holds_of(tx: Transaction, message_id: int) -> list[dict[str, Any]]:
    """The active holds that keep one message."""
    row = tx.row("SELECT source, patient_id FROM message WHERE id = ?", message_id)
    if row is None:
        return []
    source, patient = row
    pairs = [("message", uid_text(message_id)), ("source", source)]
    if patient is not None:
        pairs += [("patient", uid_text(one)) for one in sorted(people_of(tx, [patient])[patient])]
    found = []
    for kind, target in pairs:
        found += tx.rows(
            "SELECT kind, target, at, actor, reason, released_at, released_by, release_reason FROM legal_hold "
            "WHERE kind = ? AND target = ? AND released_at IS NULL",
            kind,
            target,
        )
    return [_as_json(row) for row in found]


def _as_json(row: Sequence[Any]) -> dict[str, Any]:
    kind, target, at, actor, reason, released_at, released_by, release_reason = row
    return {
        "kind": kind,
        "target": target,
        "at": instant(at),
        "by": actor,
        "reason": reason,
        "released_at": instant(released_at),
        "released_by": released_by,
        "release_reason": release_reason,
    }


def _active(tx: Transaction, kind: str, target: str) -> bool:
    sql = "SELECT 1 FROM legal_hold WHERE kind = ? AND target = ? AND released_at IS NULL"
    return tx.row(sql, kind, target) is not None


def _known(tx: Transaction, kind: str, target: str, sources: Collection[str]) -> str:
    named = _form(kind, target)
    if kind == "source":
        if named not in sources and not any(tx.row(sql, named) for sql in _SOURCE_SEEN):
            raise NotFound("no such source")
        return named
    if tx.row(f"SELECT 1 FROM {kind} WHERE id = ?", uid_number(named)) is None:  # noqa: S608 - one of our tables
        raise NotFound(f"no such {kind}")
    return named


def _form(kind: str, target: str) -> str:
    if kind not in KINDS:
        raise NotFound("a hold is on a message, a patient or a source")
    if kind == "source":
        return target
    try:
        return uid_text(uid_number(target))
    except ValueError:
        raise NotFound(f"no such {kind}") from None


def _reason(text: str) -> str:
    told = " ".join(text.split())
    if not MIN_REASON <= len(told) <= MAX_REASON:
        raise NotPossible(f"a reason of {MIN_REASON} to {MAX_REASON} characters is needed")
    return told
