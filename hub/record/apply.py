"""What one message changes in the record, applied inside the caller's transaction: all of it, and only once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hub.model.consent_codes import PATIENT, key_for
from hub.model.record_change import Json, MovementChange, RecordChange, ResourceChange, merged
from hub.model.refusals import Finding
from hub.record.dates import sort_date
from hub.record.documents import DocumentFiler
from hub.record.facts import unread
from hub.record.filing import Draft, Filing, Stored
from hub.record.gathering import filled, gathered
from hub.record.identity import concerned, identifier_keys
from hub.record.movements import Stays, computed_only
from hub.record.patients import file_patient, identifiers_of, patient_key, show_merges
from hub.store import Transaction

_WRITTEN_HERE = frozenset({"resourceType", "id", "meta", "subject"})
_OWNERS = "WITH v(t, k) AS (VALUES {values}) SELECT r.patient_id FROM v CROSS JOIN resource r WHERE r.type = v.t AND r.key = v.k"


@dataclass(frozen=True, slots=True)
class Applied:
    """How many resources were created, got a new version, or were left alone; and what is worth telling."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message's change, and whom matching found for it."""

    change: RecordChange
    patient_id: int | None
    message_id: int
    source: str


def apply(
    tx: Transaction,
    change: RecordChange,
    *,
    patient_id: int | None,
    message_id: int,
    source: str,
    next_id: Callable[[], int],
    now_us: int,
) -> Applied:
    """File everything that `change` says, under the patient number that matching gave.

    Applying a message again changes nothing; an older event never overwrites a newer one. When it raises, nothing was
    written.
    """
    return apply_all(tx, [Arrival(change, patient_id, message_id, source)], next_id=next_id, now_us=now_us)[0]


def apply_all(tx: Transaction, arrivals: Sequence[Arrival], *, next_id: Callable[[], int], now_us: int) -> list[Applied]:
    """`apply` for many messages in their order, in few statements. One transaction at a time changes a patient's record."""
    filing = Filing(tx, next_id, now_us)
    patients = {one.patient_id for one in arrivals if one.patient_id is not None}
    if tx.locked:
        whose = sorted(patients | _owners(tx, arrivals))
        tx.run_in(f"SELECT id FROM patient WHERE id IN ({{keys}}) ORDER BY id{tx.locked}", whose)  # noqa: S608
    filing.load(
        [
            *(patient_key(number) for number in patients),
            *((one.type, key_for(one.key, arrival.patient_id)) for arrival in arrivals for one in arrival.change.resources),
            *(("DocumentReference", one.master_id) for arrival in arrivals for one in arrival.change.documents),
            *((f.type, f.key) for arrival in arrivals for one in arrival.change.documents for f in one.facts),
        ]
    )
    known = identifiers_of(tx, [number for number in patients if filing.get(*patient_key(number)) is None])
    stays = Stays(tx)
    moved = {("Encounter", one.encounter) for arrival in arrivals for one in arrival.change.movements}
    stays.load(stored.id for key in moved if (stored := filing.get(*key)) is not None)
    applied = [_apply(filing, arrival, known, stays) for arrival in arrivals]
    filing.flush()
    stays.flush(next_id)
    return applied


def _owners(tx: Transaction, arrivals: Sequence[Arrival]) -> set[int]:
    """Whose things are spoken of by messages that name no patient."""
    nameless = [arrival.change for arrival in arrivals if arrival.patient_id is None]
    keys = {(one.type, one.key) for change in nameless for one in change.resources if one.gathers}
    rows = tx.rows_values(_OWNERS, sorted(keys)) if keys else []
    return {patient for (patient,) in rows if patient is not None}


def _apply(filing: Filing, arrival: Arrival, known: dict[int, list[Json]], stays: Stays) -> Applied:
    change, patient_id = arrival.change, arrival.patient_id
    filing.begin(arrival.message_id, change.mapping, arrival.source)
    findings = list(change.findings)
    if patient_id is not None and not file_patient(
        filing,
        patient_id,
        change.patient,
        path=change.patient_path,
        event_time=change.event_time,
        known=known.get(patient_id),
        came_with=identifier_keys(change.identity) if change.identity is not None else (),
    ):
        findings.append(_older(change.patient_path))
    if change.acts and patient_id is not None:
        show_merges(filing, concerned(filing.tx, change.acts, patient_id), path=change.acts[0].path)
    for one in {(one.type, one.key): one for one in change.resources}.values():
        if patient_id is None and one.key.startswith(PATIENT):
            findings.append(Finding("PATIENT_UNKNOWN", one.path, f"{one.path}: whose it is is not known, so it is not filed"))
            continue
        key = key_for(one.key, patient_id)
        movements = [movement for movement in change.movements if one.type == "Encounter" and movement.encounter == one.key]
        findings += _file_resource(filing, replace(one, key=key) if key != one.key else one, patient_id, stays, movements)
    if change.documents:
        filer = DocumentFiler(filing, patient_id, unread(change.findings))
        for document in change.documents:
            filer.file(document)
        findings += filer.findings
    return Applied(filing.created, filing.updated, filing.unchanged, tuple(findings))


def _file_resource(
    filing: Filing, change: ResourceChange, patient_id: int | None, stays: Stays, movements: Sequence[MovementChange]
) -> list[Finding]:
    findings = []
    stored, key = filing.get(change.type, change.key), change.key
    if patient_id is None and change.gathers:
        if stored is None:
            return [Finding("PATIENT_UNKNOWN", change.path, f"{change.path}: whose it is is not known, so it is not filed")]
        patient_id = stored.patient_id
    if stored is not None and not filing.same_person(stored.patient_id, patient_id):
        findings.append(
            Finding(
                "NUMBER_OF_ANOTHER_PATIENT",
                change.path,
                f"this number is already another patient's {change.type}: filed beside it",
            )
        )
        key = f"{change.key}#{patient_id or 0}"
        stored = filing.get(change.type, key)
    if movements:
        return findings + _file_stay(filing, stays, change, movements, stored=stored, key=key, patient_id=patient_id)
    said = {name: value for name, value in change.body.items() if name not in _WRITTEN_HERE}
    before = stored.json if stored is not None else {}
    body = gathered(before, change, said) if change.gathers else merged(before, said, change.defaults)
    if stored is not None and change.type == "Encounter" and body != before and stays.has_movements(stored.id):
        body = merged(before, computed_only(said), change.defaults)
    draft = Draft(body, str(body.get("status", "")), change.path, sort_date=sort_date(body), event_time=change.event_time)
    if stored is None:
        filing.create(change.type, key, patient_id, draft)
    elif (body != before or before.get("status") in change.status_wins) and filing.is_older(stored, change.event_time):
        findings.append(_older(change.path))
        if change.gathers:
            body = filled(before, change, said)
            filing.change(stored, replace(draft, body=body, sort_date=sort_date(body), status=str(body.get("status", ""))))
        else:
            filing.unchanged += 1
    else:
        filing.change(stored, draft)
    return findings


def _file_stay(
    filing: Filing,
    stays: Stays,
    change: ResourceChange,
    movements: Sequence[MovementChange],
    *,
    stored: Stored | None,
    key: str,
    patient_id: int | None,
) -> list[Finding]:
    """The Encounter as all its movements say, those of this message among them; their order of arrival does not matter."""
    number = stored.id if stored is not None else filing.next_id()
    stays.add(number, movements, filing.message_id, stored)
    body = stays.encounter(number, stored.json if stored is not None else {}, change.defaults)
    draft = Draft(body, str(body["status"]), change.path, sort_date=sort_date(body), event_time=change.event_time)
    if stored is None:
        filing.create(change.type, key, patient_id, draft, number=number)
    else:
        filing.change(stored, draft)
    return stays.findings(number, movements)


def _older(path: str) -> Finding:
    return Finding("OLDER_THAN_RECORD", path, "the record already holds a later state")
