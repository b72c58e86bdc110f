"""What one message changes in the record: versions, order of events, replays, documents and their replacement."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha1
from itertools import count
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.model.identifiers import INS_NIR_TEST, InsMatricule, LocalIdentifier
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
from hub.model.uids import uid_text
from hub.record import queries
from hub.record.apply import Applied, Arrival, apply, apply_all
from hub.record.identity import resolve
from hub.record.masking import Viewer
from hub.store import BlobDamaged

ALL_SEEING = Viewer(sees_masked=0)
NIR = "279035121518989"


class Desk:
    """An empty record and a stock of kept messages."""

    def __init__(self, engine: Any, n: int = 0) -> None:
        self.tx = engine.empty(n)
        self.numbers = count(1_900_000_000_000 << 16)
        self.bodies: dict[int, bytes] = {}
        self.now = 1_795_000_000_000_000

    def keep(self, body: bytes = b"") -> int:
        number = next(self.numbers)
        self.bodies[number] = body
        return number

    def apply(self, change: RecordChange, *, message: int | None = None) -> Applied:
        message = self.keep() if message is None else message
        self.now += 1_000_000
        match = resolve(
            self.tx, change.identity or PatientIdentity(), message_id=message, next_id=lambda: next(self.numbers), now_us=self.now
        )
        return apply(
            self.tx,
            change,
            patient_id=match.patient_id,
            message_id=message,
            source="his",
            next_id=lambda: next(self.numbers),
            now_us=self.now,
        )

    def all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.tx.rows(sql, *values)

    def everything(self) -> list[list[tuple[Any, ...]]]:
        tables = ("patient", "patient_identifier", "resource", "resource_version", "token_index", "provenance", "binary_content")
        return [sorted(self.all(f"SELECT * FROM {table}"), key=repr) for table in tables]

    def one(self, kind: str, **params: str) -> Json:
        page = queries.search(self.tx, kind, list(params.items()), viewer=ALL_SEEING)
        assert len(page.entries) == 1, [entry["resourceType"] for entry in page.entries]
        return page.entries[0]

    def document(self, master: str) -> Json:
        anyhow = ("status", "current,superseded,entered-in-error")
        page = queries.search(self.tx, "DocumentReference", [("identifier", master), anyhow], viewer=ALL_SEEING)
        found = [entry for entry in page.entries if entry["masterIdentifier"]["value"] == master]
        assert len(found) == 1
        return found[0]

    def history(self, resource: Json) -> list[Json]:
        page = queries.history(self.tx, resource["resourceType"], resource["id"], viewer=ALL_SEEING)
        assert page is not None
        return list(page.entries)


@pytest.fixture
def desk(engine: Any) -> Desk:
    return Desk(engine)


def identity(ipp: str = "A1", *, ins: bool = False) -> PatientIdentity:
    return PatientIdentity(
        local=(LocalIdentifier("urn:oid:1.2.250.1.999.1", ipp),),
        ins=(InsMatricule(NIR, INS_NIR_TEST),) if ins else (),
        statuses=("VALI",),
        birth_name="NESSI",
        birth_date="19790410",
        sex="F",
    )


def patient(**more: Any) -> Json:
    name = {"use": "official", "family": "NESSI", "given": ["RUTH"]}
    return {"name": [name], "gender": "female", "birthDate": "1979-04-10", **more}


def stay(number: str = "V1", *, time: int = 0, status: str = "in-progress", **more: Any) -> ResourceChange:
    body = {
        "status": status,
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "identifier": [{"system": "urn:oid:1.2.250.1.999.3", "value": number}],
        "period": {"start": "2026-11-24T08:00:00+01:00"},
        **more,
    }
    return ResourceChange("Encounter", f"urn:oid:1.2.250.1.999.3|{number}", body, "PV1", time)


def adt(*stays: ResourceChange, who: PatientIdentity | None = None, said: Json | None = None, time: int = 0) -> RecordChange:
    return RecordChange("adt@1.0", who or identity(), said or patient(), event_time=time, resources=stays)


def document(
    master: str = "urn:oid:1.2.3.1",
    *,
    content: bytes = b"%PDF-1",
    action: DocumentAction = DocumentAction.CREATE,
    offset: int = 0,
    body: Json | None = None,
    **more: Any,
) -> DocumentChange:
    encoded = b64encode(content)
    return DocumentChange(
        action,
        master,
        "OBX[1]-5",
        body={
            "type": {"coding": [{"system": "http://loinc.org", "code": "11502-2", "display": "CR d'examens biologiques"}]},
            "date": "2026-11-24T09:30:00+01:00",
            "docStatus": "final",
            "author": [{"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.1", "value": "810001234567"}, "display": "Dr A"}],
            **(body or {}),
        },
        content=ContentRange(
            offset, len(encoded), "base64", "application/pdf", len(content), sha1(content, usedforsecurity=False).digest()
        ),
        **more,
    )


def filed(*documents: DocumentChange, who: PatientIdentity | None = None) -> RecordChange:
    return RecordChange("oru@1.0", who or identity(), patient(), documents=documents)


def codes(applied: Applied) -> list[str]:
    return [finding.code for finding in applied.findings]


# ---- patients and stays ----


def test_first_message_creates_patient_and_stay(desk: Desk) -> None:
    assert desk.apply(adt(stay(), who=identity(ins=True))) == Applied(created=2)
    found = desk.one("Patient", identifier=f"urn:oid:{INS_NIR_TEST}|{NIR}")
    assert found["identifier"] == [
        {
            "use": "official",
            "system": f"urn:oid:{INS_NIR_TEST}",
            "value": NIR,
            "type": {"coding": [{"system": "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203", "code": "INS-NIR-TEST"}]},
        },
        {
            "use": "usual",
            "system": "urn:oid:1.2.250.1.999.1",
            "value": "A1",
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "PI"}]},
        },
    ]
    assert found["meta"]["versionId"] == "1"
    encounter = desk.one("Encounter", identifier="V1")
    assert encounter["subject"] == {"reference": f"Patient/{found['id']}"}


def test_unchanged_resources_get_no_version(desk: Desk) -> None:
    desk.apply(adt(stay()))
    before = desk.everything()
    assert desk.apply(adt(stay())) == Applied(unchanged=2)
    assert desk.everything() == before


def test_order_of_keys_is_no_change(desk: Desk) -> None:
    desk.apply(adt(said=patient()))
    assert desk.apply(adt(said=dict(reversed(patient().items())))) == Applied(unchanged=1)


def test_changed_stay_keeps_its_old_version(desk: Desk) -> None:
    desk.apply(adt(stay(time=10), time=10))
    assert desk.apply(adt(stay(time=20, status="finished"), time=20)) == Applied(updated=1, unchanged=1)
    now = desk.one("Encounter", identifier="V1")
    assert [(one["meta"]["versionId"], one["status"]) for one in desk.history(now)] == [("2", "finished"), ("1", "in-progress")]
    old = queries.vread(desk.tx, "Encounter", now["id"], "1", viewer=ALL_SEEING)
    assert old is not None and old["status"] == "in-progress"


def test_older_event_does_not_overwrite_a_newer_one(desk: Desk) -> None:
    desk.apply(adt(stay(time=20, status="finished"), time=20))
    late = desk.apply(adt(stay(time=10), said=patient(active=False), time=10))
    assert codes(late) == ["OLDER_THAN_RECORD", "OLDER_THAN_RECORD"]
    assert {finding.at for finding in late.findings} == {"PID", "PV1"}
    assert desk.one("Encounter", identifier="V1")["status"] == "finished"
    assert "active" not in desk.one("Patient", identifier="A1")


def test_older_message_still_shows_the_identifier_it_brings(desk: Desk) -> None:
    desk.apply(adt(time=20))
    desk.apply(adt(who=identity(ins=True), said=patient(active=False), time=10))
    found = desk.one("Patient", identifier=NIR)
    assert len(found["identifier"]) == 2
    assert "active" not in found


def test_message_that_says_nothing_of_the_person_keeps_what_is_known(desk: Desk) -> None:
    desk.apply(adt())
    desk.apply(RecordChange("oru@1.0", identity(ins=True)))
    found = desk.one("Patient", identifier=NIR)
    assert found["birthDate"] == "1979-04-10"


def test_renamed_patient_is_found_under_the_new_name_only(desk: Desk) -> None:
    desk.apply(adt())
    desk.apply(adt(said=patient(name=[{"use": "official", "family": "Lœwe-Noël", "given": ["RUTH"]}])))
    assert queries.search(desk.tx, "Patient", [("family", "Nessi")], viewer=ALL_SEEING).entries == ()
    assert desk.one("Patient", family="lœwe noel")["birthDate"] == "1979-04-10"


def test_visit_number_of_another_patient_is_filed_beside(desk: Desk) -> None:
    desk.apply(adt(stay(), who=identity("A1")))
    second = adt(stay(status="finished"), who=identity("A2"))
    message = desk.keep()
    assert codes(desk.apply(second, message=message)) == ["NUMBER_OF_ANOTHER_PATIENT"]
    page = queries.search(desk.tx, "Encounter", [("identifier", "V1")], viewer=ALL_SEEING)
    assert sorted(one["status"] for one in page.entries) == ["finished", "in-progress"]
    assert len({one["subject"]["reference"] for one in page.entries}) == 2
    before = desk.everything()
    desk.apply(second, message=message)
    assert desk.everything() == before


def test_event_times_equal_or_unknown_the_later_message_wins_and_a_replay_does_not(desk: Desk) -> None:
    first, second = desk.keep(), desk.keep()
    one, two = adt(stay(status="planned")), adt(stay(status="in-progress"))
    desk.apply(one, message=first)
    desk.apply(two, message=second)
    before = desk.everything()
    for message, change in ((first, one), (second, two), (first, one)):
        desk.apply(change, message=message)
    assert desk.everything() == before
    assert desk.one("Encounter", identifier="V1")["status"] == "in-progress"


# ---- documents ----


def test_document_says_what_it_is(desk: Desk) -> None:
    desk.apply(filed(document("urn:oid:1.2.3.1", set_id="urn:oid:1.2.3", version_number=1, mask=INVISIBLE_PATIENT)))
    found = desk.document("urn:oid:1.2.3.1")
    attachment = found["content"][0]["attachment"]
    assert found["status"] == "current"
    assert found["masterIdentifier"] == {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3.1"}
    assert found["identifier"] == [{"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"}]
    assert [one["valueString"] for one in found["extension"]] == ["1"]
    assert attachment["hash"] == b64encode(sha1(b"%PDF-1", usedforsecurity=False).digest()).decode()
    assert attachment["size"] == 6
    assert attachment["title"] == "CR d'examens biologiques"
    assert [label["coding"][0]["code"] for label in found["securityLabel"]] == ["N", "INVISIBLE_PATIENT"]
    assert found["meta"]["security"] == [{"system": "urn:oid:1.2.250.1.213.1.1.4.13", "code": "INVISIBLE_PATIENT"}]


@pytest.mark.parametrize(
    "asked",
    [
        "urn:oid:1.2.3.1",
        "1.2.3.1",
        "urn:ietf:rfc:3986|urn:oid:1.2.3.1",
        "urn:oid:1.2.3",
        "1.2.3",
        "urn:ietf:rfc:3986|urn:oid:1.2.3",
    ],
)
def test_document_is_found_by_its_numbers(desk: Desk, asked: str) -> None:
    desk.apply(filed(document("urn:oid:1.2.3.1", set_id="urn:oid:1.2.3")))
    assert desk.one("DocumentReference", identifier=asked)["masterIdentifier"]["value"] == "urn:oid:1.2.3.1"


def test_binary_is_the_exact_bytes(desk: Desk) -> None:
    content = bytes(range(256)) * 5
    encoded = b64encode(content)
    raw = b"MSH|^~\\&|X\rOBX|1|ED|||^A^B^Base64^" + encoded[:70] + b" \n" + encoded[70:] + b"\r"
    start = raw.index(encoded[:70])
    change = document(content=content, offset=start)
    assert change.content is not None
    span = ContentRange(start, len(encoded) + 2, "base64", "application/pdf", len(content), change.content.sha1)
    message = desk.keep(raw)
    desk.apply(filed(DocumentChange(change.action, change.master_id, change.path, change.body, span)), message=message)
    url = desk.document("urn:oid:1.2.3.1")["content"][0]["attachment"]["url"]
    binary = queries.read_binary(desk.tx, url.removeprefix("Binary/"), viewer=ALL_SEEING, body_of=desk.bodies.__getitem__)
    assert binary is not None
    assert (binary.data, binary.content_type) == (content, "application/pdf")
    desk.bodies[message] = raw.replace(b"AAEC", b"AAED")
    with pytest.raises(BlobDamaged):
        queries.read_binary(desk.tx, binary.id, viewer=ALL_SEEING, body_of=desk.bodies.__getitem__)


def test_text_document_is_unescaped_utf_8(desk: Desk) -> None:
    raw = b"MSH|^~\\&|A|B|C|D|20261124||ORU^R01|1|P|2.5|||||||8859/15\rOBX|1|TX|||Na\xefve \\T\\ \\F\\|\r"
    part = b"Na\xefve \\T\\ \\F\\"
    content = "Naïve & |".encode()
    digest = sha1(content, usedforsecurity=False).digest()
    span = ContentRange(raw.index(part), len(part), "text", "text/plain", len(content), digest)
    base = document()
    desk.apply(filed(DocumentChange(base.action, base.master_id, base.path, base.body, span)), message=desk.keep(raw))
    url = desk.document("urn:oid:1.2.3.1")["content"][0]["attachment"]["url"]
    binary = queries.read_binary(desk.tx, url.removeprefix("Binary/"), viewer=ALL_SEEING, body_of=desk.bodies.__getitem__)
    assert binary is not None and binary.data == content


def test_replayed_three_times_is_one_version(desk: Desk) -> None:
    message = desk.keep()
    change = RecordChange("oru@1.0", identity(), patient(), resources=(stay(),), documents=(document(),))
    desk.apply(change, message=message)
    before = desk.everything()
    for _ in range(3):
        assert desk.apply(change, message=message) == Applied(unchanged=3)
    assert desk.everything() == before


def test_same_document_in_another_message_is_nothing_new(desk: Desk) -> None:
    desk.apply(filed(document(event_time=10)))
    later = document(event_time=20, body={"date": "2026-11-25T10:00:00+01:00"})
    assert desk.apply(filed(later)) == Applied(unchanged=2)


def test_same_number_with_other_bytes_is_a_version_and_a_finding(desk: Desk) -> None:
    desk.apply(filed(document(content=b"one")))
    applied = desk.apply(filed(document(content=b"two")))
    assert codes(applied) == ["DOCUMENT_ID_REUSED"]
    versions = desk.history(desk.document("urn:oid:1.2.3.1"))
    assert [one["meta"]["versionId"] for one in versions] == ["2", "1"]
    assert len({one["content"][0]["attachment"]["url"] for one in versions}) == 2


def test_final_after_preliminary_with_the_same_bytes_is_a_version(desk: Desk) -> None:
    desk.apply(filed(document(body={"docStatus": "preliminary"})))
    assert desk.apply(filed(document())) == Applied(updated=1, unchanged=1)
    assert desk.document("urn:oid:1.2.3.1")["docStatus"] == "final"


def test_mask_of_the_same_bytes_changes(desk: Desk) -> None:
    desk.apply(filed(document(mask=INVISIBLE_PATIENT)))
    desk.apply(filed(document(mask=INVISIBLE_PATIENT | MASQUE_PS)))
    assert [one["code"] for one in desk.document("urn:oid:1.2.3.1")["meta"]["security"]] == ["MASQUE_PS", "INVISIBLE_PATIENT"]
    desk.apply(filed(document(mask=0)))
    assert "security" not in desk.document("urn:oid:1.2.3.1")["meta"]


def test_what_the_patient_may_see_stays_visible(desk: Desk) -> None:
    desk.apply(filed(document()))
    assert codes(desk.apply(filed(document(mask=INVISIBLE_PATIENT)))) == ["VISIBLE_IS_FINAL"]
    assert "security" not in desk.document("urn:oid:1.2.3.1")["meta"]


def test_replacement_supersedes_by_number(desk: Desk) -> None:
    desk.apply(filed(document("urn:oid:1.1")))
    applied = desk.apply(filed(document("urn:oid:1.2", action=DocumentAction.REPLACE, replaces="urn:oid:1.1", content=b"two")))
    assert codes(applied) == []
    old, new = desk.document("urn:oid:1.1"), desk.document("urn:oid:1.2")
    assert (old["status"], new["status"]) == ("superseded", "current")
    assert new["relatesTo"] == [
        {
            "code": "replaces",
            "target": {
                "reference": f"DocumentReference/{old['id']}",
                "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.1"},
            },
        }
    ]
    assert desk.history(old)[0]["meta"]["versionId"] == "2"


@pytest.mark.parametrize("action", [DocumentAction.REPLACE, DocumentAction.CREATE])
def test_replacement_supersedes_by_set_and_version(desk: Desk, action: DocumentAction) -> None:
    desk.apply(filed(document("urn:oid:9.1", set_id="urn:oid:9", version_number=1)))
    applied = desk.apply(filed(document("urn:oid:9.2", set_id="urn:oid:9", version_number=2, action=action)))
    assert codes(applied) == []
    assert desk.document("urn:oid:9.1")["status"] == "superseded"
    assert desk.document("urn:oid:9.2")["relatesTo"][0]["target"]["identifier"]["value"] == "urn:oid:9.1"


def test_both_in_one_message(desk: Desk) -> None:
    desk.apply(
        filed(
            document("urn:oid:9.1", set_id="urn:oid:9", version_number=1),
            document("urn:oid:9.2", set_id="urn:oid:9", version_number=2, action=DocumentAction.REPLACE),
        )
    )
    assert [desk.document(f"urn:oid:9.{n}")["status"] for n in (1, 2)] == ["superseded", "current"]


def test_first_version_whose_id_is_the_set_id(desk: Desk) -> None:
    desk.apply(filed(document("urn:oid:9", set_id="urn:oid:9", version_number=1)))
    desk.apply(filed(document("urn:oid:9.2", set_id="urn:oid:9", version_number=2, action=DocumentAction.REPLACE)))
    assert desk.document("urn:oid:9")["status"] == "superseded"


def test_unknown_predecessor_is_told_and_the_document_filed(desk: Desk) -> None:
    applied = desk.apply(filed(document("urn:oid:1.2", action=DocumentAction.REPLACE, replaces="urn:oid:1.1")))
    assert codes(applied) == ["PREDECESSOR_UNKNOWN"]
    assert desk.document("urn:oid:1.2")["status"] == "current"


@pytest.mark.parametrize("linked", [{"replaces": "urn:oid:9.1"}, {"set_id": "urn:oid:9", "version_number": 2}])
def test_first_version_after_the_second_does_not_become_current(desk: Desk, linked: dict[str, Any]) -> None:
    desk.apply(filed(document("urn:oid:9.2", action=DocumentAction.REPLACE, **linked)))
    desk.apply(filed(document("urn:oid:9.1", set_id="urn:oid:9", version_number=1)))
    assert [desk.document(f"urn:oid:9.{n}")["status"] for n in (1, 2)] == ["superseded", "current"]


def test_another_patients_document_is_never_replaced_or_deleted(desk: Desk) -> None:
    desk.apply(filed(document("urn:oid:1.1"), who=identity("A1")))
    other = identity("A2")
    applied = desk.apply(filed(document("urn:oid:1.2", action=DocumentAction.REPLACE, replaces="urn:oid:1.1"), who=other))
    assert codes(applied) == ["PREDECESSOR_OF_ANOTHER_PATIENT"]
    assert codes(desk.apply(filed(document("urn:oid:1.1", action=DocumentAction.DELETE), who=other))) == ["DOCUMENT_UNKNOWN"]
    assert desk.document("urn:oid:1.1")["status"] == "current"
    assert codes(desk.apply(filed(document("urn:oid:1.1"), who=other))) == ["DOCUMENT_ID_OF_ANOTHER_PATIENT"]
    page = queries.search(desk.tx, "DocumentReference", [("identifier", "urn:oid:1.1")], viewer=ALL_SEEING)
    owners = [one["subject"]["reference"] for one in page.entries if one["masterIdentifier"]["value"] == "urn:oid:1.1"]
    assert len(owners) == len(set(owners)) == 2


def test_deleted_document_leaves_the_search_and_keeps_its_bytes(desk: Desk) -> None:
    raw = b64encode(b"%PDF-1")
    desk.apply(filed(document()), message=desk.keep(raw))
    desk.apply(filed(document(action=DocumentAction.DELETE)))
    assert queries.search(desk.tx, "DocumentReference", [("identifier", "1.2.3.1")], viewer=ALL_SEEING).entries == ()
    found = desk.document("urn:oid:1.2.3.1")
    assert found["status"] == "entered-in-error"
    url = found["content"][0]["attachment"]["url"]
    binary = queries.read_binary(desk.tx, url.removeprefix("Binary/"), viewer=ALL_SEEING, body_of=desk.bodies.__getitem__)
    assert binary is not None and binary.data == b"%PDF-1"
    assert [one["status"] for one in desk.history(found)] == ["entered-in-error", "current"]


def test_deletion_replayed_and_creation_replayed_after_it(desk: Desk) -> None:
    first, second = desk.keep(), desk.keep()
    desk.apply(filed(document()), message=first)
    desk.apply(filed(document(action=DocumentAction.DELETE)), message=second)
    before = desk.everything()
    desk.apply(filed(document(action=DocumentAction.DELETE)), message=second)
    desk.apply(filed(document()), message=first)
    assert desk.everything() == before


def test_unknown_document_to_delete(desk: Desk) -> None:
    assert codes(desk.apply(filed(document(action=DocumentAction.DELETE)))) == ["DOCUMENT_UNKNOWN"]


def test_document_points_to_the_stay_it_names(desk: Desk) -> None:
    named = {"identifier": {"system": "urn:oid:1.2.250.1.999.3", "value": "V1"}}
    change = RecordChange(
        "oru@1.0", identity(), patient(), resources=(stay(),), documents=(document(body={"context": {"encounter": [named]}}),)
    )
    desk.apply(change)
    encounter = desk.one("Encounter", identifier="V1")
    assert desk.document("urn:oid:1.2.3.1")["context"]["encounter"][0]["reference"] == f"Encounter/{encounter['id']}"


def test_provenance_leads_to_message_and_place(desk: Desk) -> None:
    message = desk.keep()
    desk.apply(filed(document()), message=message)
    found = desk.document("urn:oid:1.2.3.1")
    page = queries.search(desk.tx, "Provenance", [("target", f"DocumentReference/{found['id']}")], viewer=ALL_SEEING)
    (told,) = page.entries
    assert told["id"] == f"{found['id']}.1"
    assert told["entity"][0]["what"]["reference"] == f"urn:uuid:{uid_text(message)}"
    assert told["entity"][0]["extension"][0]["valueString"] == "OBX[1]-5"
    assert told["agent"][0]["who"]["display"] == "his"
    assert told["policy"] == ["urn:vaguemestre:mapping:oru@1.0"]
    assert queries.read(desk.tx, "Provenance", told["id"], viewer=ALL_SEEING) == told


# ---- any sequence ----

_DOCUMENTS = st.builds(
    document,
    master=st.sampled_from([f"urn:oid:9.{n}" for n in range(1, 5)]),
    content=st.sampled_from([b"one", b"two"]),
    action=st.sampled_from(list(DocumentAction)),
    set_id=st.sampled_from(["", "urn:oid:9"]),
    version_number=st.integers(0, 3),
    replaces=st.sampled_from(["", *(f"urn:oid:9.{n}" for n in range(1, 5))]),
    mask=st.integers(0, 7),
    event_time=st.sampled_from([0, 1, 2, 3]),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["A1", "A2"]), st.lists(_DOCUMENTS, min_size=1, max_size=2)), max_size=10))
def test_any_messages_twice_leave_the_record_as_once(engine: Any, messages: list[tuple[str, list[DocumentChange]]]) -> None:
    desk = Desk(engine)
    kept = [(desk.keep(), filed(*documents, who=identity(ipp))) for ipp, documents in messages]
    for message, change in kept:
        desk.apply(change, message=message)
        before = desk.everything()
        desk.apply(change, message=message)
        assert desk.everything() == before
    rows = desk.all("SELECT id, version, body FROM resource")
    for number, version, body in rows:
        assert [row[0] for row in desk.all("SELECT version FROM resource_version WHERE id = ? ORDER BY version", number)] == list(
            range(1, version)
        )
        assert len(desk.all("SELECT DISTINCT version FROM provenance WHERE resource_id = ?", number)) == version
        assert orjson.loads(body)
    for sha, size in desk.all("SELECT sha1, size FROM binary_content"):
        assert len(sha) == 20 and size == 3


_STAYS = st.builds(
    stay,
    number=st.sampled_from(["V1", "V2"]),
    time=st.sampled_from([0, 1, 2, 3]),
    status=st.sampled_from(["planned", "finished"]),
)
_CHANGES = st.builds(
    lambda ipp, stays, documents, time, active: RecordChange(
        "any@1", identity(ipp), patient(active=active), event_time=time, resources=tuple(stays), documents=tuple(documents)
    ),
    st.sampled_from(["A1", "A2"]),
    st.lists(_STAYS, max_size=2),
    st.lists(_DOCUMENTS, max_size=2),
    st.integers(0, 3),
    st.booleans(),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(_CHANGES, max_size=10), st.integers(1, 5))
def test_many_at_once_are_applied_as_one_after_another(engine: Any, changes: list[RecordChange], together: int) -> None:
    singly, batched = Desk(engine, 0), Desk(engine, 1)
    for desk in (singly, batched):
        for ipp in ("A1", "A2"):
            resolve(desk.tx, identity(ipp), message_id=0, next_id=lambda: next(desk.numbers), now_us=1)
    expected, found = [], []
    for one in changes:
        expected.append(singly.apply(one))
    first = next(batched.numbers)
    messages = [first + 10_000 * n for n in range(len(changes))]
    for start in range(0, len(changes), together):
        arrivals = [
            Arrival(change, 1_900_000_000_000 * 65_536 + (0 if change.identity == identity("A1") else 1), message, "his")
            for change, message in zip(changes[start : start + together], messages[start : start + together], strict=True)
        ]
        found += apply_all(batched.tx, arrivals, next_id=lambda: next(batched.numbers), now_us=5)
    assert found == expected

    def content(desk: Desk) -> list[tuple[Any, ...]]:
        """What the record says, without the numbers that the two runs gave differently."""
        names = {row[0]: f"{row[1]} {row[2]}" for row in desk.all("SELECT id, type, key FROM resource")}
        rows = [
            (names[row[0]], *row[1:-1], _without_numbers(row[-1], names))
            for row in desk.all("SELECT id, version, patient_id, status, mask, event_time, sort_date, body FROM resource")
        ]
        rows += [
            (names[row[0]], *row[1:-1], _without_numbers(row[-1], names))
            for row in desk.all("SELECT id, version, status, mask, body FROM resource_version")
        ]
        rows += [(names[row[3]], *row[:3]) for row in desk.all("SELECT param, value, system, resource_id FROM token_index")]
        rows += [(names[row[0]], *row[1:]) for row in desk.all("SELECT resource_id, version, path FROM provenance")]
        rows += [(names[row[0]], row[1]) for row in desk.all("SELECT resource_id, sha1 FROM binary_content")]
        return sorted(rows, key=repr)

    assert content(batched) == content(singly)


def _without_numbers(body: bytes, names: dict[int, str]) -> str:
    text = body.decode()
    for number, name in names.items():
        text = text.replace(uid_text(number), name)
    return re.sub(r"Binary/[0-9a-f-]{36}", "Binary/…", text)


# ---- what a message does not say ----


def test_what_a_message_does_not_say_stays_and_none_removes(desk: Desk) -> None:
    phone = patient(telecom=[{"system": "phone", "value": "01"}])
    desk.apply(adt(stay(location=[{"location": {"display": "UF 1"}}]), said=phone))
    poorer = ResourceChange(
        "Encounter", "urn:oid:1.2.250.1.999.3|V1", {"period": {"end": "2026-11-25"}}, "PV1", defaults={"status": "unknown"}
    )
    desk.apply(RecordChange("mdm@1", identity(), {"gender": "unknown"}, resources=(poorer,)))
    encounter, found = desk.one("Encounter", identifier="V1"), desk.one("Patient", identifier="A1")
    assert encounter["status"] == "in-progress"
    assert encounter["period"] == {"start": "2026-11-24T08:00:00+01:00", "end": "2026-11-25"}
    assert encounter["location"] == [{"location": {"display": "UF 1"}}]
    assert (found["gender"], found["telecom"][0]["value"]) == ("unknown", "01")
    desk.apply(adt(stay(location=None), said={"telecom": None}))
    assert "location" not in desk.one("Encounter", identifier="V1")
    assert "telecom" not in desk.one("Patient", identifier="A1")


def test_defaults_fill_what_fhir_requires(desk: Desk) -> None:
    new = ResourceChange(
        "Encounter", "urn:x|V9", {"identifier": [{"system": "urn:x", "value": "V9"}]}, "PV1", defaults={"status": "unknown"}
    )
    desk.apply(adt(new))
    assert desk.one("Encounter", identifier="V9")["status"] == "unknown"
    assert desk.one("Encounter", status="unknown")["identifier"][0]["value"] == "V9"


def test_set_of_another_patient_is_another_set(desk: Desk) -> None:
    desk.apply(filed(document("urn:oid:9.1", set_id="urn:oid:9", version_number=1), who=identity("A1")))
    applied = desk.apply(
        filed(document("urn:oid:9.2", set_id="urn:oid:9", version_number=2, action=DocumentAction.REPLACE), who=identity("A2"))
    )
    assert codes(applied) == ["PREDECESSOR_UNKNOWN"]
    assert desk.document("urn:oid:9.1")["status"] == "current"
    desk.apply(filed(document("urn:oid:9.0", set_id="urn:oid:9", version_number=1), who=identity("A1")))
    assert desk.document("urn:oid:9.0")["status"] == "current"


def test_document_that_another_patients_document_claims_to_replace_is_current(desk: Desk) -> None:
    desk.apply(filed(document("urn:oid:1.2", action=DocumentAction.REPLACE, replaces="urn:oid:1.1"), who=identity("A2")))
    desk.apply(filed(document("urn:oid:1.1"), who=identity("A1")))
    assert desk.document("urn:oid:1.1")["status"] == "current"
