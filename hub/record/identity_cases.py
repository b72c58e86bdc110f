"""The work queue of doubtful identities: what the machine would not decide, looked at and decided by a person.

Two patients are linked, told apart, or the claim is refused. A case is decided once; the same evidence does not open it again.

Standard: RNIV (identitovigilance); no two identities are merged without a person or the identity's own authority.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hub.model.refusals import HubError
from hub.model.uids import uid_text
from hub.record.filing import Filing
from hub.record.identity import INS_CHANGED, TWO_PATIENTS
from hub.record.instants import instant
from hub.record.merging import ever_linked, merge, root_of, same_person, unmerge
from hub.record.patients import show_merges
from hub.store import Transaction

OPEN = "OPEN"
_COLUMNS = (
    "c.id, c.kind, c.patient_id, c.other_patient_id, c.system, c.value, c.message_id, c.state, c.created_at, c.closed_at, "
    "c.closed_by, c.reason"
)
MAPPING = "identity-desk@1"


class Decision(StrEnum):
    LINK = "link"  # one person: the two are merged; a changed INS is taken over
    SPLIT = "split"  # two persons: a merge between them is undone
    REFUSE = "refuse"  # the claim is not followed: all stays as it is


STATE_AFTER = {Decision.LINK: "LINKED", Decision.SPLIT: "SPLIT", Decision.REFUSE: "REFUSED"}


class NotDecidable(HubError):
    """The case is not there, is closed, or does not take this decision."""

    code = "NotDecidable"


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the queue. `patient` is the newcomer, `other` who holds the number that both claim."""

    id: int
    kind: str
    patient: int
    other: int | None
    system: str
    value: str = field(repr=False)
    message_id: int
    state: str
    created_at: int
    closed_at: int | None
    closed_by: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Decided:
    """What a decision changed: patients that are one person now (`joined`) or no longer (`parted`), as (stands, other)."""

    joined: tuple[int, int] | None = None
    parted: tuple[int, int] | None = None
    patients: tuple[int, ...] = ()


def find_case(tx: Transaction, number: int, *, lock: bool = False) -> Case:
    """One case.

    Raises:
        NotDecidable: there is none of that number.
    """
    row = tx.row(f"SELECT {_COLUMNS} FROM identity_case c WHERE c.id = ?{tx.locked if lock else ''}", number)  # noqa: S608
    if row is None:
        raise NotDecidable("no such case")
    return Case(*row)


def list_cases(tx: Transaction, *, state: str, limit: int, after: int = 0) -> list[Case]:
    """Cases of a state, the oldest first; every state when it is empty."""
    where, values = ("c.state = ? AND ", (state,)) if state else ("", ())
    rows = tx.rows(f"SELECT {_COLUMNS} FROM identity_case c WHERE {where}c.id > ? ORDER BY c.id LIMIT ?", *values, after, limit)  # noqa: S608
    return [Case(*row) for row in rows]


def shown(tx: Transaction, case: Case, *, values: bool) -> dict[str, Any]:
    """A case for people: who, which number, what of the traits agrees. The number itself only with `values`."""
    return {
        "id": uid_text(case.id),
        "kind": case.kind,
        "state": case.state,
        "message": uid_text(case.message_id),
        "created_at": instant(case.created_at),
        "closed_at": instant(case.closed_at) if case.closed_at else None,
        "closed_by": case.closed_by,
        "reason": case.reason,
        "identifier": {"system": case.system, **({"value": case.value} if values else {})},
        "patient": _patient(tx, case.patient),
        "other": _patient(tx, case.other) if case.other else None,
        "agree": _agreement(tx, case),
        "decisions": [decision.value for decision in Decision if not why_not(tx, case, decision)],
    }


def why_not(tx: Transaction, case: Case, decision: Decision) -> str:
    """Why a case does not take this decision; empty when it does."""
    if case.state != OPEN:
        return f"the case is closed ({case.state})"
    if decision is Decision.SPLIT and case.other is None:
        return "the case is about one patient: link takes the new number over, refuse leaves it"
    if decision is Decision.LINK and case.kind == INS_CHANGED:
        row = tx.row("SELECT patient_id FROM patient_identifier WHERE system = ? AND value = ?", case.system, case.value)
        if row is not None and row[0] not in same_person(tx, [case.patient]):
            return "the new INS is another patient's meanwhile"
    return ""


def preview(tx: Transaction, case: Case, decision: Decision) -> dict[str, Any]:
    """What a decision would change, without changing it."""
    reason = why_not(tx, case, decision)
    would: list[str] = []
    if not reason:
        together = case.other is not None and root_of(tx, case.patient) == root_of(tx, case.other)
        would = _sentences(case, decision, together=together)
    return {
        "decision": decision.value,
        "possible": not reason,
        "why_not": reason or None,
        "would": would,
        "patient": _patient(tx, case.patient),
        "other": _patient(tx, case.other) if case.other else None,
        "agree": _agreement(tx, case),
    }


def decide(
    tx: Transaction, number: int, decision: Decision, *, actor: str, reason: str, next_id: Callable[[], int], now_us: int
) -> Decided:
    """Close a case with a decision, and do what it says.

    Raises:
        NotDecidable: no such case, closed already, or the decision does not fit it.
    """
    case = find_case(tx, number, lock=True)
    refused = why_not(tx, case, decision)
    if refused:
        raise NotDecidable(refused)
    done = Decided()
    if decision is Decision.LINK and case.kind == INS_CHANGED:
        _take_over_ins(tx, case, now_us)
        done = Decided(patients=(case.patient,))
    elif decision is Decision.LINK and case.other is not None:
        # who holds the number was there first; of two numbers in one message the message's own patient stands
        stands, other = (case.patient, case.other) if case.kind == TWO_PATIENTS else (case.other, case.patient)
        merge(tx, stands, other, actor=actor, message_id=None, next_id=next_id, now_us=now_us)
        done = Decided(joined=(stands, other), patients=tuple(ever_linked(tx, (stands, other))))
    elif decision is Decision.SPLIT and case.other is not None:
        parted = unmerge(tx, case.patient, case.other, actor=actor, message_id=None, now_us=now_us)
        everyone = tuple(ever_linked(tx, (case.patient, case.other)))
        if parted:
            done = Decided(parted=(root_of(tx, case.other), root_of(tx, case.patient)), patients=everyone)
    tx.run(
        "UPDATE identity_case SET state = ?, closed_at = ?, closed_by = ?, reason = ? WHERE id = ?",
        STATE_AFTER[decision],
        now_us,
        actor,
        reason,
        number,
    )
    _show(tx, done.patients, message_id=case.message_id, number=number, next_id=next_id, now_us=now_us)
    return done


# ---- merges by themselves ----


def merges_of(tx: Transaction, patient: int) -> list[dict[str, Any]]:
    """Every merge that a patient had part in, undone ones too, in their order."""
    everyone = same_person(tx, [patient])
    seen = {}
    for column in ("survivor", "prior"):
        for row in tx.rows_in(
            "SELECT id, survivor, prior, message_id, actor, at, undone_at, undone_by FROM patient_merge "  # noqa: S608 - our names
            f"WHERE {column} IN ({{keys}})",
            everyone,
        ):
            seen[row[0]] = row
    return [
        {
            "id": uid_text(number),
            "survivor": uid_text(survivor),
            "prior": uid_text(prior),
            "message": uid_text(message) if message else None,
            "by": actor,
            "at": instant(at),
            "undone_at": instant(undone_at) if undone_at else None,
            "undone_by": undone_by,
        }
        for number, survivor, prior, message, actor, at, undone_at, undone_by in (seen[one] for one in sorted(seen))
    ]


def undo_merge(tx: Transaction, number: int, *, actor: str, next_id: Callable[[], int], now_us: int) -> Decided:
    """Undo one merge; the record of each of the two is what it was, with what came since under its own numbers.

    Raises:
        NotDecidable: no such merge, or undone before.
    """
    row = tx.row(f"SELECT survivor, prior, undone_at, message_id FROM patient_merge WHERE id = ?{tx.locked}", number)  # noqa: S608
    if row is None:
        raise NotDecidable("no such merge")
    survivor, prior, undone_at, message_id = row
    if undone_at is not None or not unmerge(tx, survivor, prior, actor=actor, message_id=None, now_us=now_us):
        raise NotDecidable("this merge is undone already")
    everyone = tuple(ever_linked(tx, (survivor, prior)))
    _show(tx, everyone, message_id=message_id or number, number=number, next_id=next_id, now_us=now_us)
    return Decided(parted=(root_of(tx, survivor), root_of(tx, prior)), patients=everyone)


def _show(
    tx: Transaction, patients: Sequence[int], *, message_id: int, number: int, next_id: Callable[[], int], now_us: int
) -> None:
    if not patients:
        return
    filing = Filing(tx, next_id, now_us)
    filing.begin(message_id, MAPPING, "operator")
    show_merges(filing, patients, path=f"decision/{uid_text(number)}")
    filing.flush()


def _take_over_ins(tx: Transaction, case: Case, now_us: int) -> None:
    tx.run("DELETE FROM patient_identifier WHERE patient_id = ? AND kind = 'INS' AND system = ?", case.patient, case.system)
    tx.insert(
        "patient_identifier",
        ("system", "value", "kind", "patient_id", "since"),
        [(case.system, case.value, "INS", case.patient, now_us)],
        suffix="ON CONFLICT (system, value) DO NOTHING",
    )


def _patient(tx: Transaction, patient: int) -> dict[str, Any]:
    counts: dict[str, int] = dict(tx.rows("SELECT type, count(*) FROM resource WHERE patient_id = ? GROUP BY type", patient))
    counts.pop("Patient", None)
    numbers = tx.row("SELECT count(*) FROM patient_identifier WHERE patient_id = ?", patient)
    messages = tx.row(
        "SELECT count(*), sum(CASE WHEN state = 'ROUTED' THEN 1 ELSE 0 END) FROM message WHERE patient_id = ?", patient
    )
    row = tx.row("SELECT status, merged_into, created_at FROM patient WHERE id = ?", patient)
    return {
        "id": uid_text(patient),
        "status": row[0].split("~") if row and row[0] else [],
        "merged_into": uid_text(row[1]) if row and row[1] else None,
        "known_since": instant(row[2]) if row else None,
        "identifiers": numbers[0] if numbers else 0,
        "resources": {kind: int(n) for kind, n in sorted(counts.items())},
        "messages": int(messages[0]) if messages else 0,
        "waiting": int(messages[1] or 0) if messages else 0,
    }


def _agreement(tx: Transaction, case: Case) -> dict[str, bool] | None:
    if case.other is None:
        return None
    traits = "SELECT id, birth_name, birth_date, sex FROM patient WHERE id IN ({keys})"
    rows = {row[0]: row[1:] for row in tx.rows_in(traits, [case.patient, case.other])}
    ours, theirs = rows.get(case.patient, ("", "", "")), rows.get(case.other, ("", "", ""))
    names = ("birth_name", "birth_date", "sex")
    return {name: bool(one) and one == other for name, one, other in zip(names, ours, theirs, strict=True)}


def _sentences(case: Case, decision: Decision, *, together: bool) -> list[str]:
    if decision is Decision.REFUSE:
        return ["nothing changes; the number stays with who holds it, and the case is closed"]
    if decision is Decision.SPLIT:
        undo = ["their merge is undone; each has again what came under its own numbers"] if together else []
        return [*undo, "the number stays with who holds it", "the same evidence opens no case again"]
    if case.kind == INS_CHANGED:
        return ["the patient's INS of this kind is replaced by the new one"]
    stands = "the message's own patient" if case.kind == TWO_PATIENTS else "who holds the number"
    return [
        f"both are one person; {stands} stands for both",
        "everything of the other is found under it, and stays filed where it is: the link can be undone",
        "what waits for delivery under either number leaves before what comes after",
    ]
