"""The Patient resource: what the message says of the person, under the identifiers that matching gave them.

Standard: FR Core 2.1.0, fr-core-patient and fr-core-patient-ins.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.model.identifiers import INS_NIA, INS_NIR, INS_NIR_DEMO, INS_NIR_TEST
from hub.model.record_change import Json, merged
from hub.model.uids import uid_text
from hub.record.filing import Draft, Filing
from hub.record.merging import members_of
from hub.store import Transaction

_TYPES = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203"
_TABLE_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"
_INS = {
    f"urn:oid:{INS_NIR}": ("official", "INS-NIR"),
    f"urn:oid:{INS_NIA}": ("temp", "INS-NIA"),
    f"urn:oid:{INS_NIR_TEST}": ("official", "INS-NIR-TEST"),
    f"urn:oid:{INS_NIR_DEMO}": ("official", "INS-NIR-DEMO"),
}


ACTIVE, REPLACED = "active", "replaced"


def patient_key(patient_id: int) -> tuple[str, str]:
    """Where the Patient of a number stands."""
    return "Patient", str(patient_id)


def identifiers_of(tx: Transaction, patients: Sequence[int]) -> dict[int, list[Json]]:
    """`Patient.identifier` of each patient: INS first, then the IPPs in the order in which they became known, old ones last.

    Numbers of those who were merged into a patient stand there as old ones.
    """
    found: dict[int, list[Json]] = {number: [] for number in patients}
    holders = {member: root for root, members in members_of(tx, patients).items() for member in members}
    rows = tx.rows_in(
        "SELECT patient_id, kind, since, system, value, until FROM patient_identifier WHERE patient_id IN ({keys})",
        sorted({*patients, *holders}),
    )
    listed = [
        (whole, until is not None or not own, kind != "INS", since, system, value, kind)
        for number, kind, since, system, value, until in rows
        for whole, own in ((number, True), (holders.get(number), False))
        if whole in found
    ]
    for whole, old, _, _, system, value, kind in sorted(listed):
        found[whole].append(_identifier(system, value, kind, old=old))
    return found


def _identifier(system: str, value: str, kind: str, *, old: bool) -> Json:
    if system in _INS and kind == "INS":
        use, code = _INS[system]
        use = "old" if old else use
        return {"use": use, "type": {"coding": [{"system": _TYPES, "code": code}]}, "system": system, "value": value}
    use = "old" if old else "secondary" if kind == "RRI" else "usual"
    return {"use": use, "type": {"coding": [{"system": _TABLE_0203, "code": kind}]}, "system": system, "value": value}


def file_patient(
    filing: Filing,
    patient_id: int,
    said: Json | None,
    *,
    came_with: Sequence[tuple[str, str]],
    known: list[Json] | None = None,
    path: str,
    event_time: int,
) -> bool:
    """Create or update the Patient of `patient_id`; False when the message is older than what is filed.

    `came_with` are the identifiers of the message: those already listed need no look; `known` is the whole list, when it was
    already read. An older message, or one that says
    nothing of the person, still shows identifiers that came with it.
    """
    stored = filing.get(*patient_key(patient_id))
    if stored is None:
        listed = known if known is not None else identifiers_of(filing.tx, [patient_id])[patient_id]
        body = _named(merged({}, _without_meta(said or {})), listed)
        filing.create(*patient_key(patient_id), patient_id, Draft(body, "active", path, event_time=event_time), number=patient_id)
        return True
    before = stored.json
    listed = before.get("identifier", [])
    if not {(one["system"], one["value"]) for one in listed}.issuperset(came_with):
        listed = identifiers_of(filing.tx, [patient_id])[patient_id]
    body = _named(before if said is None else merged(before, _without_meta(said)), listed)
    older = body != before and said is not None and filing.is_older(stored, event_time)
    if older:
        body = _named(before, listed)
    filing.change(stored, Draft(body, stored.status, path, event_time=event_time))
    return not older


def show_merges(filing: Filing, patients: Sequence[int], *, path: str) -> None:
    """Let each Patient say what merges made of it: its identifiers, whom it replaces, or by whom it is replaced.

    A Patient whose merge was undone is what it was before.
    Standard: FHIR R4 Patient.link, Patient.active.
    """
    roots = {number: root for number, root in filing.roots_of(patients).items() if root != number}
    members = members_of(filing.tx, patients)
    listed = identifiers_of(filing.tx, patients)
    for number in patients:
        stored = filing.get(*patient_key(number))
        body = {name: value for name, value in (stored.json if stored else {}).items() if name not in ("active", "link")}
        if number in roots:
            body["active"] = False
            body["link"] = [_link(roots[number], "replaced-by")]
        elif number in members:
            body["link"] = [_link(member, "replaces") for member in members[number]]
        status = REPLACED if number in roots else ACTIVE
        draft = Draft(_named(body, listed[number]), status, path, event_time=stored.event_time if stored else 0)
        if stored is None:
            filing.create(*patient_key(number), number, draft, number=number)
        else:
            filing.change(stored, draft)


def _link(other: int, kind: str) -> Json:
    return {"other": {"reference": f"Patient/{uid_text(other)}"}, "type": kind}


def _named(body: Json, listed: list[Json]) -> Json:
    named = {name: value for name, value in body.items() if name != "identifier"}
    if listed:
        named["identifier"] = listed
    return named


def _without_meta(body: Json) -> Json:
    return {name: value for name, value in body.items() if name not in {"resourceType", "id", "meta"}}
