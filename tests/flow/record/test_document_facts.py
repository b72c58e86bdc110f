"""Facts of documents: corrected, withdrawn and hidden with the documents that say them; where each came from."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from hub.model.identifiers import LocalIdentifier
from hub.model.identity import PatientIdentity
from hub.model.record_change import (
    INVISIBLE_PATIENT,
    MASQUE_PS,
    ContentRange,
    DocumentAction,
    DocumentChange,
    Json,
    RecordChange,
    ResourceChange,
)
from hub.model.refusals import Finding
from hub.model.uids import uid_number, uid_text
from hub.record import queries
from hub.record.apply import Applied, apply
from hub.record.identity import resolve
from hub.record.masking import Viewer

ALL_SEEING, DOCTOR = Viewer(sees_masked=0), Viewer(rpps="10001234567")
PATIENT = Viewer(role="patient", sees_masked=INVISIBLE_PATIENT)
SECOND = 1_000_000


class Desk:
    """An empty record, and messages that each file one document."""

    def __init__(self, engine: Any) -> None:
        self.tx = engine.empty()
        self.numbers = count(1_900_000_000_000 << 16)
        self.now = 1_795_000_000 * SECOND
        self.last = 0

    def file(self, document: DocumentChange, *, patient: str = "1", message: int = 0, findings: int = 0) -> Applied:
        self.now += SECOND
        self.last = message or next(self.numbers)
        identity = PatientIdentity(local=(LocalIdentifier(patient, "urn:oid:1.2.3", "PI"),))
        match = resolve(self.tx, identity, message_id=self.last, next_id=lambda: next(self.numbers), now_us=self.now)
        told = tuple(Finding("NOT_READ", f"/ClinicalDocument/x[{n}]", "not translated") for n in range(findings))
        change = RecordChange("mdm@1", identity=identity, documents=(document,), findings=told)
        return apply(
            self.tx,
            change,
            patient_id=match.patient_id,
            message_id=self.last,
            source="lab",
            next_id=lambda: next(self.numbers),
            now_us=self.now,
        )

    def facts(self, kind: str = "Observation", *, viewer: Viewer = ALL_SEEING, status: str = "") -> list[Json]:
        params = [("status", status)] if status else []
        return list(queries.search(self.tx, kind, params, viewer=viewer).entries)

    def versions(self, one: Json) -> int:
        return int(one["meta"]["versionId"])

    def provenance(self, one: Json, viewer: Viewer = ALL_SEEING) -> list[Json]:
        target = f"{one['resourceType']}/{one['id']}"
        return list(queries.search(self.tx, "Provenance", [("target", target)], viewer=viewer).entries)


@pytest.fixture
def desk(engine: Any) -> Desk:
    return Desk(engine)


def observation(name: str, value: float, *, code: str = "718-7", at: int = 1, kind: str = "Observation") -> ResourceChange:
    key = f"urn:ietf:rfc:3986|urn:uuid:{name}"
    body: Json = {
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "valueQuantity": {"value": value},
        "effectiveDateTime": "2026-11-01",
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{name}"}],
    }
    if kind == "Condition":
        body = {"code": body["code"], "clinicalStatus": {"coding": [{"code": "active"}]}, "identifier": body["identifier"]}
    return ResourceChange(kind, key, body, f"/ClinicalDocument/{name}", at * SECOND)


def document(number: int, *facts: ResourceChange, **more: Any) -> DocumentChange:
    """Version `number` of one set."""
    content = ContentRange(0, 4, "base64", "text/xml", 3, hashlib.sha1(str(number).encode()).digest())
    change = DocumentChange(
        DocumentAction.CREATE if number == 1 else DocumentAction.REPLACE,
        f"urn:oid:1.2.{number}",
        "OBX[1]-5",
        {"author": [{"identifier": {"system": "https://rpps.esante.gouv.fr", "value": "10001234567"}}]},
        content,
        set_id="urn:oid:1.2",
        version_number=number,
        replaces=f"urn:oid:1.2.{number - 1}" if number > 1 else "",
        event_time=number * SECOND,
        facts=facts,
        facts_mapping="cda@1",
    )
    return replace(change, **more)


def test_the_same_report_three_times_makes_one_version(desk: Desk) -> None:
    for _ in range(3):
        desk.file(document(1, observation("a", 12.5)))
    [one] = desk.facts()
    assert desk.versions(one) == 1
    assert one["valueQuantity"]["value"] == 12.5


def test_a_replacement_corrects_what_it_says_again_and_withdraws_the_rest(desk: Desk) -> None:
    desk.file(document(1, observation("a", 12.5), observation("b", 3), observation("same", 1)))
    desk.file(document(2, observation("a", 13.5, at=2), observation("same", 1, at=2), observation("new", 7, at=2)))
    found = {one["identifier"][0]["value"][9:]: one for one in desk.facts()}
    assert found.keys() == {"a", "same", "new"}
    assert (found["a"]["status"], found["a"]["valueQuantity"]["value"], desk.versions(found["a"])) == ("corrected", 13.5, 2)
    assert (found["same"]["status"], desk.versions(found["same"])) == ("final", 1)
    [gone] = desk.facts(status="entered-in-error")
    assert gone["identifier"][0]["value"] == "urn:uuid:b"
    history = queries.history(desk.tx, "Observation", gone["id"], viewer=ALL_SEEING)
    assert history is not None and [one["status"] for one in history.entries] == ["entered-in-error", "final"]


def test_a_version_that_comes_late_says_nothing(desk: Desk) -> None:
    desk.file(document(2, observation("a", 13.5, at=2)))
    desk.file(document(1, observation("a", 12.5), observation("b", 3)))
    [one] = desk.facts()
    assert (one["valueQuantity"]["value"], desk.versions(one)) == (13.5, 1)


def test_deleted_with_its_document_and_there_again_with_it(desk: Desk) -> None:
    desk.file(document(1, observation("a", 12.5), observation("c", 1, kind="Condition")))
    desk.file(document(1, action=DocumentAction.DELETE, facts=(), event_time=3 * SECOND))
    assert desk.facts() == [] == desk.facts("Condition")
    desk.file(document(1, observation("a", 12.5), observation("c", 1, kind="Condition"), event_time=4 * SECOND))
    [one], [condition] = desk.facts(), desk.facts("Condition")
    assert one["status"] == "final"
    assert condition["clinicalStatus"]["coding"][0]["code"] == "active"
    assert "verificationStatus" not in condition


def test_a_fact_of_two_documents_outlives_one(desk: Desk) -> None:
    desk.file(document(1, observation("a", 12.5)))
    other = document(1, observation("a", 12.5), master_id="urn:oid:9.9", set_id="urn:oid:9")
    desk.file(other)
    desk.file(document(1, action=DocumentAction.DELETE, facts=(), event_time=9 * SECOND))
    [one] = desk.facts()
    assert desk.versions(one) == 1
    desk.file(replace(other, action=DocumentAction.DELETE, facts=(), event_time=10 * SECOND))
    assert desk.facts() == []


def test_as_hidden_as_the_least_hidden_document(desk: Desk) -> None:
    stranger = Viewer(rpps="10009999999")
    masked = document(1, observation("a", 12.5), mask=MASQUE_PS)
    desk.file(masked)
    assert desk.facts(viewer=stranger) == []
    [mine] = desk.facts(viewer=DOCTOR)
    assert mine["meta"]["security"][0]["code"] == "MASQUE_PS"
    desk.file(document(1, observation("a", 12.5), master_id="urn:oid:9.9", set_id="urn:oid:9", mask=INVISIBLE_PATIENT))
    [seen] = desk.facts(viewer=stranger)
    assert "security" not in seen["meta"]
    entities = [entity["what"]["reference"] for one in desk.provenance(seen, stranger) for entity in one["entity"]]
    hidden = [entity["what"]["reference"] for one in desk.provenance(seen) for entity in one["entity"]]
    assert len(hidden) == len(entities) + 2  # the masked document and its message
    assert desk.facts(viewer=PATIENT) != []


def test_what_only_a_hidden_document_says_is_not_shown_by_another_that_says_otherwise(desk: Desk) -> None:
    stranger = Viewer(rpps="10009999999")
    desk.file(document(1, observation("a", 12.5)))
    hidden = document(1, observation("a", 99, at=5), master_id="urn:oid:9.9", set_id="urn:oid:9", mask=MASQUE_PS)
    for _ in range(2):
        desk.file(hidden)
    assert [one["valueQuantity"]["value"] for one in desk.facts(viewer=stranger)] == [12.5]
    assert sorted(one["valueQuantity"]["value"] for one in desk.facts()) == [12.5, 99]
    desk.file(replace(hidden, action=DocumentAction.DELETE, facts=(), event_time=9 * SECOND))
    assert [one["valueQuantity"]["value"] for one in desk.facts()] == [12.5]


def test_what_a_document_unmasks_is_seen_and_what_replaces_it_hides_again(desk: Desk) -> None:
    stranger = Viewer()
    desk.file(document(1, observation("a", 12.5), mask=MASQUE_PS))
    desk.file(document(1, observation("a", 12.5), event_time=2 * SECOND))
    assert len(desk.facts(viewer=stranger)) == 1
    desk.file(document(2, observation("a", 12.5, at=3), mask=MASQUE_PS, event_time=3 * SECOND))
    assert desk.facts(viewer=stranger) == []


def test_from_a_fact_to_its_element_and_its_message(desk: Desk) -> None:
    desk.file(document(1, observation("a", 12.5)), findings=2)
    [one] = desk.facts()
    [provenance] = desk.provenance(one)
    source, message = provenance["entity"]
    [filed] = desk.facts("DocumentReference")
    assert source["what"]["reference"] == f"DocumentReference/{filed['id']}"
    assert source["extension"][0]["valueString"] == "/ClinicalDocument/a"
    assert message["what"]["reference"] == f"urn:uuid:{uid_text(desk.last)}"
    assert message["extension"][0]["valueString"] == "OBX[1]-5"
    assert provenance["policy"] == ["urn:vaguemestre:mapping:cda@1"]
    row = desk.tx.row("SELECT mapping, facts, unread FROM translated WHERE document_id = ?", uid_number(filed["id"]))
    assert row == ("cda@1", 1, 2)


def test_the_number_of_another_patients_fact_makes_one_beside_it(desk: Desk) -> None:
    desk.file(document(1, observation("a", 12.5)))
    other = document(1, observation("a", 99), master_id="urn:oid:9.9", set_id="urn:oid:9")
    applied = desk.file(other, patient="2")
    assert [one.code for one in applied.findings] == ["NUMBER_OF_ANOTHER_PATIENT"]
    assert len({one["subject"]["reference"] for one in desk.facts()}) == 2


def test_bytes_inside_a_document_are_filed_once_and_read_back(desk: Desk) -> None:
    inside = b64encode(b"%PDF-1.4 inside")
    xml = b"<doc>" + inside + b"</doc>"
    raw = b"MSH|" + b64encode(xml)
    content = ContentRange(
        4, len(raw) - 4, "base64", "application/pdf", 15, hashlib.sha1(b"%PDF-1.4 inside").digest(), inner=(5, len(inside))
    )
    attached = ResourceChange(
        "DocumentReference",
        "urn:ietf:rfc:3986|urn:uuid:d",
        {"status": "current", "content": [{"attachment": {"url": "#content0", "title": "Annexe"}}]},
        "/ClinicalDocument/d",
        SECOND,
        contents=(content,),
    )
    desk.file(document(1, attached))
    desk.file(document(2, replace(attached, event_time=2 * SECOND), event_time=2 * SECOND))
    [one] = [one for one in desk.facts("DocumentReference") if "masterIdentifier" not in one]
    attachment = one["content"][0]["attachment"]
    assert (attachment["contentType"], attachment["size"], attachment["title"]) == ("application/pdf", 15, "Annexe")
    assert desk.versions(one) == 1
    binary = queries.read_binary(desk.tx, attachment["url"][7:], viewer=ALL_SEEING, body_of=lambda _message: raw)
    assert binary is not None and binary.data == b"%PDF-1.4 inside"
