"""What is hidden from a reader is nowhere: whatever is asked, the answer is that of a record in which it was never filed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from hub.model.identifiers import LocalIdentifier
from hub.model.identity import PatientIdentity
from hub.model.record_change import (
    CONFIDENTIALITY_VERY_RESTRICTED,
    INVISIBLE_PATIENT,
    INVISIBLE_REP_LEGAUX,
    MASQUE_PS,
    DocumentAction,
    DocumentChange,
    Json,
    RecordChange,
    ResourceChange,
)
from hub.model.uids import uid_text
from hub.record import queries
from hub.record.apply import apply
from hub.record.changes import changes_since
from hub.record.definitions import PARAMETERS
from hub.record.everything import everything, slice_of
from hub.record.identity import resolve
from hub.record.including import forward_includes, reverse_includes
from hub.record.lastn import lastn
from hub.record.masking import Viewer
from hub.record.summary import summary
from hub.store.schema import metadata
from hub.store.sqlite_transaction import SqliteTransaction

SYSTEM, LOINC = "urn:oid:1.2.250.1.999.7", "http://loinc.org"
RPPS, FINESS = "810001234567", "300017985"
LABELS = (MASQUE_PS, INVISIBLE_PATIENT, INVISIBLE_REP_LEGAUX, CONFIDENTIALITY_VERY_RESTRICTED)
EVERY_LABEL = sum(LABELS)
READERS = [
    *(Viewer(sees_masked=label) for label in (*LABELS, 0, EVERY_LABEL)),
    Viewer(rpps=RPPS),
    Viewer(rpps="810009999999"),
    Viewer(finess=FINESS, sees_masked=EVERY_LABEL),
    Viewer(rpps="810009999999", finess="750000001", sees_masked=EVERY_LABEL),
]


class Record:
    """A patient with three documents of facts that refer to each other; `absent` documents are not filed."""

    def __init__(self, masks: tuple[int, ...], absent: frozenset[int] = frozenset()) -> None:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        metadata.create_all(create_engine("sqlite://", creator=lambda: connection))
        self.tx: Any = SqliteTransaction(connection, None)  # type: ignore[arg-type]
        self._numbers = count(1_795_000_000_000 << 16)
        self.patient = ""
        for n, mask in enumerate(masks):
            self._file(n, mask, there=n not in absent)

    def _file(self, n: int, mask: int, *, there: bool) -> None:
        identity = PatientIdentity((LocalIdentifier("urn:x", "P"),), birth_name="ESSAI", birth_date="19800101", sex="F")
        more: dict[str, Any] = {"next_id": lambda: next(self._numbers), "now_us": 1_795_000_000_000_000 + n}
        message = (1_795_000_000_000 + 1_000 * (n + 1)) << 16  # the same numbers, whatever is absent
        self._numbers = count(message + 1)
        patient = resolve(self.tx, identity, message_id=message, **more).patient_id
        assert patient is not None
        self.patient = uid_text(patient)
        documents = (document(n, mask),) if there else ()
        change = RecordChange("test@1", identity, {"active": True} if n == 0 else None, documents=documents)
        apply(self.tx, change, patient_id=patient, message_id=message, source="dpi", **more)


def document(n: int, mask: int) -> DocumentChange:
    """The first is written by RPPS, the second within FINESS, the third by neither."""
    author = [
        {"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.1", "value": RPPS}},
        {"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": f"1{FINESS}"}},
        {"display": "Dr X"},
    ][n]
    body = {"type": coded(LOINC, "11502-2"), "date": f"2026-01-0{n + 1}", "author": [author], "description": f"d{n}"}
    return DocumentChange(
        DocumentAction.CREATE, f"urn:oid:1.2.3.{n}", "OBX", body=body, mask=mask, facts=tuple(facts(n)), facts_mapping="t@1"
    )


def coded(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def to(kind: str, n: int) -> Json:
    return {"type": kind, "identifier": {"system": SYSTEM, "value": f"{kind}-{n}"}}


def facts(n: int) -> Iterator[ResourceChange]:
    """One of each kind that refers to something; its neighbour in the next document, and in its own."""
    other = (n + 1) % 3
    bodies: dict[str, Json] = {
        "Observation": {
            "status": "final",
            "code": coded(LOINC, f"1000-{n % 2}"),
            "category": [coded("urn:c", "laboratory")],
            "effectiveDateTime": f"2026-01-0{n + 1}",
            "valueQuantity": {"value": n},
            "hasMember": [to("Observation", other)],
            "specimen": to("Specimen", other),
            "encounter": to("Encounter", other),
        },
        "DiagnosticReport": {
            "status": "final",
            "code": coded(LOINC, "2"),
            "result": [to("Observation", n), to("Observation", other)],
        },
        "Specimen": {"status": "available", "type": coded("urn:s", "B")},
        "Encounter": {"status": "finished", "class": {"code": "AMB"}, "period": {"start": f"2026-01-0{n + 1}"}},
        "Condition": {
            "code": coded("urn:icd", "I10"),
            "clinicalStatus": coded("urn:cs", "active"),
            "encounter": to("Encounter", other),
        },
        "MedicationRequest": {"status": "active", "intent": "order", "medicationCodeableConcept": coded("urn:atc", "C")},
        "MedicationDispense": {
            "status": "completed",
            "medicationCodeableConcept": coded("urn:atc", "C"),
            "authorizingPrescription": [to("MedicationRequest", other)],
        },
        "AllergyIntolerance": {"code": coded("urn:a", "P"), "criticality": "high"} if n else {"code": coded("urn:a", "P")},
    }
    for kind, body in bodies.items():
        number = [{"system": SYSTEM, "value": f"{kind}-{n}"}]
        yield ResourceChange(kind, f"{SYSTEM}|{kind}-{n}", {"identifier": number, **body}, f"entry[{kind}]")


KINDS = sorted({fact.type for fact in facts(0)} | {"DocumentReference", "Patient"})


def answers(record: Record, viewer: Viewer) -> Iterator[tuple[str, Any]]:
    """Every way of reading, with what it gives."""
    whose, tx = [("patient", record.patient)], record.tx
    for kind in KINDS:
        of = whose if kind != "Patient" else [("_id", record.patient)]
        includes = [("_include", one) for one in forward_includes(kind)] + [
            ("_revinclude", one) for one in reverse_includes(kind)
        ]
        for params in (
            of,
            [*of, *includes],
            [*of, ("_sort", "_lastUpdated")],
            [("_lastUpdated", "ge2020"), ("_sort", "_lastUpdated")],
            [],
        ):
            for size in (1, 100):
                page = queries.search(tx, kind, [*params, ("_total", "accurate")], viewer=viewer, count=size)
                yield (
                    f"{kind}?{params} by {size}",
                    (page.entries, page.included, page.total, page.after is None, page.more_included),
                )
        for parameter in PARAMETERS.get(kind, {}).values():
            value = "true" if parameter.kind != "flag" else "false"
            found = queries.search(
                tx, kind, [*whose, (f"{parameter.name}:missing", value), ("_total", "accurate")], viewer=viewer
            )
            yield f"{kind}?{parameter.name}:missing", (found.entries, found.total)
            if parameter.kind in ("token", "coded", "dated", "status", "identifier"):
                found = queries.search(
                    tx, kind, [*whose, (f"{parameter.name}:not", "final"), ("_total", "accurate")], viewer=viewer
                )
                yield f"{kind}?{parameter.name}:not", (found.entries, found.total)
    yield "lastn", lastn(tx, [*whose, ("max", "9")], viewer).entries
    yield "summary", summary(tx, record.patient, viewer, base="", document="1", at="", author="x")
    asked = everything(tx, record.patient, [], viewer)
    assert asked is not None
    yield "everything", slice_of(tx, asked, viewer, count=500).entries
    one = slice_of(tx, asked, viewer, count=1)
    yield "everything by one", (one.entries, one.after is None)
    yield "changes", changes_since(tx, "", types=frozenset(), viewer=viewer, limit=500, before_us=1 << 60)


def rows_of(record: Record) -> list[tuple[int, str]]:
    return [(row[0], row[1]) for row in record.tx.rows("SELECT id, type FROM resource ORDER BY id")]


def stands_by(record: Record, viewer: Viewer) -> dict[str, bool]:
    """Whether `viewer` sees each resource, read one by one."""
    return {
        uid_text(number): queries.read(record.tx, kind, uid_text(number), viewer=viewer) is not None
        for number, kind in rows_of(record)
    }


def may_see(n: int, mask: int, viewer: Viewer) -> bool:
    own = (n == 0 and viewer.rpps == RPPS) or (n == 1 and viewer.finess == FINESS)
    return not mask & viewer.sees_masked or own


@pytest.mark.parametrize("viewer", READERS, ids=lambda one: f"{one.sees_masked}-{one.rpps}-{one.finess}")
@given(masks=st.tuples(*[st.integers(0, EVERY_LABEL)] * 3))
@settings(max_examples=2, deadline=None)
def test_the_record_reads_as_if_it_was_never_filed(viewer: Viewer, masks: tuple[int, int, int]) -> None:
    hidden = frozenset(n for n, mask in enumerate(masks) if not may_see(n, mask, viewer))
    record, without = Record(masks), Record(masks, hidden)
    assert record.patient == without.patient
    expected = dict(answers(without, viewer))
    for path, answer in answers(record, viewer):
        assert answer == expected[path], path


@pytest.mark.parametrize("viewer", READERS, ids=lambda one: f"{one.sees_masked}-{one.rpps}-{one.finess}")
@pytest.mark.parametrize("label", LABELS)
def test_no_number_opens_what_is_hidden(viewer: Viewer, label: int) -> None:
    record = Record((label,) * 3)
    seen = {uid_text(number): kind for number, kind in rows_of(record)}
    for number, stands in stands_by(record, viewer).items():
        kind = seen[number]
        reads: list[Any] = [
            queries.vread(record.tx, kind, number, "1", viewer=viewer),
            queries.history(record.tx, kind, number, viewer=viewer),
            queries.search(record.tx, kind, [("_id", number)], viewer=viewer).entries,
            queries.search(record.tx, "Provenance", [("target", f"{kind}/{number}")], viewer=viewer).entries,
        ]
        assert [bool(one) for one in reads] == [stands] * 4, kind
        for holder, name in (
            ("Observation", "encounter"),
            ("Observation", "has-member"),
            ("DiagnosticReport", "result"),
            ("Condition", "encounter"),
            ("MedicationDispense", "prescription"),
        ):
            found = queries.search(record.tx, holder, [(name, f"{kind}/{number}"), ("_total", "accurate")], viewer=viewer)
            assert stands or found.total == 0, (kind, holder, name)
