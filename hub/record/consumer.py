"""What the record says against a document of flow 6, before it is acknowledged: error codes 900, 901, 902, 904, 906.

Nothing is changed here. A document that is not held is no reason to refuse, as long as nothing newer of it is held.
Standard: CI-SIS transmission au LPS d'un document CDA reçu par messagerie sécurisée, 1.1.2, table applicationErrorCondition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hub.model.consumer import ConsumerQuestion
from hub.model.identity import PatientIdentity, comparable
from hub.model.record_change import DocumentAction
from hub.model.refusals import ConsumerRefused
from hub.record.documents import DOCUMENT, document_number, set_of, version_of
from hub.record.facts import CURRENT, ENTERED_IN_ERROR
from hub.record.filing import COLUMNS, Stored
from hub.record.identity import identifier_keys
from hub.record.patients import patient_key
from hub.record.tokens import AUTHOR_FINESS, AUTHOR_RPPS
from hub.store import Transaction

_OWNERS = (
    "WITH v(s, n) AS (VALUES {values}) SELECT i.system, i.value, COALESCE(p.merged_into, p.id) FROM v"
    " CROSS JOIN patient_identifier i JOIN patient p ON p.id = i.patient_id WHERE i.system = v.s AND i.value = v.n"
)
_BIRTH_PLACE = "http://hl7.org/fhir/StructureDefinition/patient-birthPlace"
_GIVEN_NAMES = "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-patient-birth-list-given-name"
_INSEE_CODE = "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-address-insee-code"


@dataclass(frozen=True, slots=True)
class Owners:
    """Patients, after merges: who has the local number of a message, who has its INS, and whom the record would file it under."""

    by_number: int | None
    by_ins: int | None
    filed_under: int | None

    @property
    def known(self) -> frozenset[int]:
        return frozenset(one for one in (self.by_number, self.by_ins) if one is not None)


def owners_of(tx: Transaction, identity: PatientIdentity) -> Owners:
    """Whom the numbers of `identity` mean."""
    usable = identifier_keys(identity)
    every = list(dict.fromkeys([*usable, *((ins.system, ins.value) for ins in identity.ins)]))
    found = {(system, value): patient for system, value, patient in (tx.rows_values(_OWNERS, every) if every else ())}
    ins = {(one.system, one.value) for one in identity.ins}
    local = [found[key] for key in usable if key not in ins and key in found]
    by_ins = next((found[key] for key in every if key in ins and key in found), None)
    by_number = local[0] if local else None
    filed_under = by_number if by_number is not None else next((found[key] for key in usable if key in found), None)
    return Owners(by_number, by_ins, filed_under)


def objection(tx: Transaction, question: ConsumerQuestion, owners: Owners, *, must_know: bool) -> ConsumerRefused | None:
    """Why the document cannot be integrated; None when it can.

    `must_know`: a patient whom the record does not know is refused (902) and not created.
    """
    if must_know and owners.filed_under is None:
        return ConsumerRefused(at="PID-3", application="902", sentence="PID-3: a patient whom the record does not know")
    if question.identity.ins and _differs(tx, question.identity, owners):
        return ConsumerRefused(at="PID-3", application="904", sentence="PID-3: the INS or its traits are not those of the record")
    return _version_objection(tx, question, owners.filed_under)


# ---- who ----


def _differs(tx: Transaction, identity: PatientIdentity, owners: Owners) -> bool:
    if len(owners.known) > 1:
        return True
    patient = next(iter(owners.known), None)
    if patient is None:
        return False
    theirs = {ins.system: ins.value for ins in identity.ins}
    rows = tx.rows(
        "SELECT i.system, i.value FROM patient_identifier i JOIN patient p ON p.id = i.patient_id"
        " WHERE COALESCE(p.merged_into, p.id) = ? AND i.kind = 'INS' AND i.until IS NULL",
        patient,
    )
    held: dict[str, set[str]] = {}
    for system, value in rows:
        held.setdefault(system, set()).add(value)
    if any(system in held and value not in held[system] for system, value in theirs.items()):
        return True
    return owners.by_ins is not None and any(
        said and known and said != known for said, known in _traits(tx, identity, owners.by_ins)
    )


def _traits(tx: Transaction, identity: PatientIdentity, patient: int) -> Iterator[tuple[str, str]]:
    """Each of the five traits as (said, known); empty = not told."""
    row = tx.row("SELECT birth_name, birth_date, sex FROM patient WHERE id = ?", patient)
    if row is not None:
        yield from zip(identity.traits, row, strict=True)
    stored = _document(tx, *patient_key(patient))
    body: dict[str, Any] = stored.json if stored is not None else {}
    official: dict[str, Any] = next((one for one in body.get("name", ()) if one.get("use") == "official"), {})
    listed = _extension(official, _GIVEN_NAMES).get("valueString", "")
    first = next(iter(official.get("given", ())), "")
    if identity.birth_given_names and listed:
        yield comparable(identity.birth_given_names), comparable(listed)
    else:
        yield comparable(identity.first_given_name), comparable(first)
    place = _extension(_extension(body, _BIRTH_PLACE).get("valueAddress", {}), _INSEE_CODE)
    yield identity.birth_place, place.get("valueCoding", {}).get("code", "")


def _extension(element: dict[str, Any], url: str) -> dict[str, Any]:
    return next((one for one in element.get("extension", ()) if one.get("url") == url), {})


# ---- which version ----


def _version_objection(tx: Transaction, question: ConsumerQuestion, patient: int | None) -> ConsumerRefused | None:
    is_deletion = question.action is DocumentAction.DELETE
    own = _held(tx, question.master_id, patient)
    target = own if is_deletion else _held(tx, question.replaces, patient)
    for held in (own, target):
        if held is not None and not _may_be(tx, held, patient):
            return _refused("906", question, "a document of this number is another patient's")
    if own is not None and not is_deletion and own.status == CURRENT:
        return _author_objection(tx, question, own)  # the same version once more: its author may
    if question.action is DocumentAction.CREATE:
        return None
    newest = [one for one in _versions(tx, question.set_id, patient) if one.status == CURRENT and one != own]
    if target is not None:
        if target.status == CURRENT:
            return _author_objection(tx, question, target)
        if is_deletion and target.status == ENTERED_IN_ERROR and not newest:
            return None  # it is deleted already
        return _refused("900", question, "not the latest version that the record holds")
    parent = _held(tx, question.replaces, patient) if is_deletion else None
    if parent is not None and parent.status == CURRENT:
        return _author_objection(tx, question, parent)
    if newest and (is_deletion or any(version_of(one) >= question.version_number for one in newest)):
        return _refused("900", question, "not the latest version that the record holds")
    return _author_objection(tx, question, newest[0]) if newest else None


def _refused(code: str, question: ConsumerQuestion, sentence: str) -> ConsumerRefused:
    return ConsumerRefused(at=question.path, application=code, sentence=f"{question.path}: {sentence}")


def _author_objection(tx: Transaction, question: ConsumerQuestion, held: Stored) -> ConsumerRefused | None:
    """901, unless the requester wrote the document or is of its author's structure; nothing to compare is no objection."""
    rows = tx.rows(
        "SELECT param, value FROM token_index WHERE resource_id = ? AND param IN (?, ?)", held.id, AUTHOR_RPPS, AUTHOR_FINESS
    )
    people = {value for param, value in rows if param == AUTHOR_RPPS}
    structures = {value for param, value in rows if param == AUTHOR_FINESS}
    if question.people & people or question.structures & structures:
        return None
    if not (question.people and people) and not (question.structures and structures):
        return None
    return _refused("901", question, "the sender is neither the author nor of the author's structure")


def _held(tx: Transaction, master_id: str, patient: int | None) -> Stored | None:
    """The document of a number: this patient's if there is one, else whoever's."""
    if not master_id:
        return None
    return _document(tx, DOCUMENT, f"{master_id}#{patient or 0}") or _document(tx, DOCUMENT, master_id)


def _may_be(tx: Transaction, held: Stored, patient: int | None) -> bool:
    """Whether a document can be this patient's: it is, or one of the two is not known."""
    if held.patient_id is None or patient is None or held.patient_id == patient:
        return True
    return tx.row("SELECT 1 FROM patient WHERE id = ? AND merged_into = ?", held.patient_id, patient) is not None


def _versions(tx: Transaction, set_id: str, patient: int | None) -> list[Stored]:
    if not set_id:
        return []
    value, system = document_number(set_id)
    rows: Iterable[tuple[Any, ...]] = tx.rows(
        f"SELECT {COLUMNS} FROM token_index t JOIN resource r ON r.id = t.resource_id"  # noqa: S608 - our names
        " WHERE t.param = 'DocumentReference.identifier' AND t.value = ? AND t.system = ? ORDER BY r.id",
        value,
        system,
    )
    found = [Stored(*row) for row in rows]
    return [one for one in found if set_of(one) == (value, system) and _may_be(tx, one, patient)]


def _document(tx: Transaction, kind: str, key: str) -> Stored | None:
    row = tx.row(f"SELECT {COLUMNS} FROM resource r WHERE r.type = ? AND r.key = ?", kind, key)  # noqa: S608 - our names
    return Stored(*row) if row is not None else None
