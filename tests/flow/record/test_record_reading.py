"""Reading the record: search parameters, paging, FHIR validity, and that what is hidden leaks on no path."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.model.identifiers import INS_NIR_TEST, InsMatricule, LocalIdentifier
from hub.model.identity import PatientIdentity
from hub.model.record_change import (
    CONFIDENTIALITY_VERY_RESTRICTED,
    INVISIBLE_PATIENT,
    INVISIBLE_REP_LEGAUX,
    MASQUE_PS,
    ContentRange,
    DocumentAction,
    DocumentChange,
    Json,
    RecordChange,
    ResourceChange,
)
from hub.record import queries
from hub.record.apply import apply
from hub.record.identity import resolve
from hub.record.instants import span
from hub.record.masking import Viewer
from hub.store import Transaction

AUTHOR, COLLEAGUE, STRANGER = "810001234567", "810007654321", "810009999999"
STRUCTURE, ELSEWHERE = "300017985", "750000001"
NIR = "279035121518989"
ALL_SEEING = Viewer(sees_masked=0)
CONTENT = b"%PDF-1.7 synthetic"


class Desk:
    """A record and the statements that read it."""

    def __init__(self, engine: Any, n: int = 0) -> None:
        self.tx = engine.empty(n)
        self.numbers = count(1_795_000_000_000 << 16)
        self.raw = b64encode(CONTENT)
        self.now = 1_795_000_000_000_000

    def apply(self, ipp: str = "A1", *, said: Json | None = None, **more: Any) -> int:
        identity = PatientIdentity(
            (LocalIdentifier("urn:oid:1.2.250.1.999.1", ipp),),
            (InsMatricule(NIR, INS_NIR_TEST),) if ipp == "A1" else (),
            ("VALI",),
            "NESSI",
            birth_date="19790410",
            sex="F",
        )
        message = next(self.numbers)
        self.now += 1_000_000
        match = resolve(self.tx, identity, message_id=message, next_id=lambda: next(self.numbers), now_us=self.now)
        change = RecordChange("test@1", identity, said or PATIENT, **more)
        apply(
            self.tx,
            change,
            patient_id=match.patient_id,
            message_id=message,
            source="his",
            next_id=lambda: next(self.numbers),
            now_us=self.now,
        )
        return message

    def find(self, kind: str, viewer: Viewer = ALL_SEEING, **params: str) -> list[Json]:
        asked = [(name.replace("__", "."), value) for name, value in params.items()]
        return list(queries.search(self.tx, kind, asked, viewer=viewer).entries)

    def binary(self, url: str, viewer: Viewer) -> queries.BinaryContent | None:
        return queries.read_binary(self.tx, url.removeprefix("Binary/"), viewer=viewer, body_of=lambda _: self.raw)


PATIENT: Json = {
    "active": True,
    "gender": "female",
    "birthDate": "1979-04-10",
    "name": [{"use": "official", "family": "Nessi", "given": ["Ruth"]}, {"use": "usual", "family": "L'Ébène"}],
}


def stay(number: str, start: str, **more: Any) -> ResourceChange:
    return ResourceChange(
        "Encounter",
        f"urn:oid:1.2.250.1.999.3|{number}",
        {
            "status": "in-progress",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "identifier": [{"system": "urn:oid:1.2.250.1.999.3", "value": number}],
            "period": {"start": start},
            **more,
        },
        "PV1",
    )


def document(master: str, *, mask: int = 0, content: bytes = CONTENT, **more: Any) -> DocumentChange:
    encoded = b64encode(content)
    body = {
        "type": {"coding": [{"system": "http://loinc.org", "code": "11502-2", "display": "CR d'examens biologiques"}]},
        "category": [{"coding": [{"system": "urn:oid:1.2.250.1.213.1.1.4.1", "code": "10"}]}],
        "date": "2026-11-24T09:30:00+01:00",
        "docStatus": "final",
        "contained": [
            {
                "resourceType": "PractitionerRole",
                "id": "author",
                "practitioner": {"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.1", "value": AUTHOR}},
                "organization": {"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": f"1{STRUCTURE}"}},
            }
        ],
        "author": [{"reference": "#author", "display": "Dr Ada"}],
        "custodian": {"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": f"1{ELSEWHERE}"}},
        "context": {"period": {"start": "2026-11-24T09:00:00+01:00"}},
        **more.pop("body", {}),
    }
    digest = sha1(content, usedforsecurity=False).digest()
    return DocumentChange(
        more.pop("action", DocumentAction.CREATE),
        master,
        "OBX[1]-5",
        body=body,
        mask=mask,
        content=ContentRange(0, len(encoded), "base64", "application/pdf", len(content), digest),
        **more,
    )


@pytest.fixture
def desk(engine: Any) -> Desk:
    return Desk(engine)


# ---- search ----


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"identifier": f"urn:oid:{INS_NIR_TEST}|{NIR}"}, 1),
        ({"identifier": f"{INS_NIR_TEST}|{NIR}"}, 1),
        ({"identifier": f"urn:oid:1.2.250.1.213.1.4.8|{NIR}"}, 0),
        ({"identifier": NIR}, 1),
        ({"identifier": f"|{NIR}"}, 0),
        ({"identifier": "urn:oid:1.2.250.1.999.1|A1,urn:oid:1.2.250.1.999.1|A2"}, 2),
        ({"family": "NESSI"}, 2),
        ({"family": "l ebene", "given": "RUTH"}, 2),
        ({"family": "Ness"}, 0),
        ({"birthdate": "1979-04-10", "gender": "female"}, 2),
        ({"birthdate": "1979-04-10", "gender": "male"}, 0),
        ({"birthdate": "1980-01-01"}, 0),
        ({"_id": "not-an-id"}, 0),
        ({"_lastUpdated": "gt2026-11-01"}, 0),
        ({"_lastUpdated": "lt2026-11-24,gt2026-11-01"}, 2),
    ],
)
def test_patient_search(desk: Desk, params: dict[str, str], found: int) -> None:
    desk.now = 1_600_000_000_000_000
    desk.apply("A1")
    desk.apply("A2")
    assert len(desk.find("Patient", **params)) == found


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"identifier": "urn:oid:1.2.250.1.999.3|V1"}, ["V1"]),
        ({"patient__identifier": f"urn:oid:{INS_NIR_TEST}|{NIR}"}, ["V3", "V2", "V1"]),
        ({"patient__identifier": "A2"}, []),
        ({"status": "finished"}, ["V3"]),
        ({"date": "2026-11-24"}, ["V2", "V1"]),
        ({"date": "ge2026-11-24T10:00:00+01:00"}, ["V3", "V2"]),
        ({"date": "gt2026-11-24"}, ["V3"]),
        ({"date": "lt2026-11-24"}, []),
        ({"date": "le2026-11-24", "status": "in-progress"}, ["V2", "V1"]),
        ({"date": "2026-11"}, ["V3", "V2", "V1"]),
        ({"date": "ne2026-11-25"}, ["V2", "V1"]),
    ],
)
def test_encounter_search(desk: Desk, params: dict[str, str], found: list[str]) -> None:
    desk.apply(
        resources=(
            stay("V1", "2026-11-24T00:10:00+01:00"),
            stay("V2", "2026-11-24T10:00:00+01:00"),
            stay("V3", "2026-11-25", status="finished"),
        )
    )
    wanted = {"patient__identifier": NIR, **params}
    assert [one["identifier"][0]["value"] for one in desk.find("Encounter", **wanted)] == found
    assert {one["identifier"][0]["value"] for one in desk.find("Encounter", **params)} == set(found)


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"type": "http://loinc.org|11502-2"}, 2),
        ({"type": "11502-2", "category": "10"}, 2),
        ({"type": "34112-3"}, 0),
        ({"status": "current"}, 1),
        ({"status": "superseded,current"}, 2),
        ({"status": "entered-in-error"}, 1),
        ({"identifier": "urn:oid:1.9"}, 0),
        ({"identifier": "urn:oid:1.9", "status": "entered-in-error"}, 1),
    ],
)
def test_document_search(desk: Desk, params: dict[str, str], found: int) -> None:
    desk.apply(
        documents=(
            document("urn:oid:1.1"),
            document("urn:oid:1.2", action=DocumentAction.REPLACE, replaces="urn:oid:1.1"),
            document("urn:oid:1.9"),
            document("urn:oid:1.9", action=DocumentAction.DELETE),
        )
    )
    assert len(desk.find("DocumentReference", **params)) == found
    who = desk.find("Patient", identifier=NIR)[0]["id"]
    assert len(desk.find("DocumentReference", patient=f"Patient/{who}", **params)) == found
    assert len(desk.find("DocumentReference", subject=who, **params)) == found


def test_unknown_parameters_are_reported_and_restrict_nothing(desk: Desk) -> None:
    desk.apply()
    page = queries.search(desk.tx, "Patient", [("shoe-size", "41"), ("_sort", "name"), ("_count", "5")], viewer=ALL_SEEING)
    assert len(page.entries) == 1
    assert page.unknown == ("shoe-size", "_sort")


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("Encounter", "date", "yesterday"),
        ("Encounter", "date", "2026-13-01"),
        ("Patient", "identifier", "urn:oid:1.2|"),
        ("Patient", "gender", "f"),
        ("Patient", "birthdate", "1979"[:3]),
        ("Encounter", "patient", "Group/1"),
        ("Patient", "identifier", ",,,"),
        ("Patient", "identifier", "a|\0"),
        ("Encounter", "status", "a\0"),
        ("Patient", "_id", ",".join(["x"] * 51)),
        ("Provenance", "status", "x"),
        ("Medication", "code", "x"),
    ],
)
def test_wrong_values_are_refused_by_name(desk: Desk, kind: str, name: str, value: str) -> None:
    with pytest.raises(queries.SearchRefused) as refused:
        queries.search(desk.tx, kind, [(name, value)], viewer=ALL_SEEING)
    assert value not in str(refused.value)


_NAMES = [
    "_id",
    "identifier",
    "patient",
    "patient.identifier",
    "date",
    "_lastUpdated",
    "status",
    "type",
    "target",
    "family",
    "birthdate",
]
_TEXTS = ["ge2026", "2026-11-24T10:00:00.5Z", "a|b", "\\|", "|", "0001", "9999-12-31"]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["Patient", "Encounter", "DocumentReference", "Provenance"]),
    st.lists(st.tuples(st.sampled_from(_NAMES), st.text(max_size=12) | st.sampled_from(_TEXTS)), max_size=3),
    st.text(max_size=8),
)
def test_no_search_text_does_more_than_be_refused(engine: Any, kind: str, params: list[tuple[str, str]], after: str) -> None:
    tx = engine.empty()
    try:
        page = queries.search(tx, kind, params, viewer=Viewer(rpps=AUTHOR), after=after)
        assert page.entries == ()
    except queries.SearchRefused:
        pass
    assert queries.read(tx, kind, after, viewer=ALL_SEEING) is None
    assert queries.vread(tx, kind, after, after, viewer=ALL_SEEING) is None


def test_pages_hold_everything_once_and_the_total_is_right(desk: Desk) -> None:
    desk.apply(resources=tuple(stay(f"V{n}", f"2026-11-{1 + n % 9:02d}") for n in range(25)))
    for params in ([("patient.identifier", NIR)], [("status", "in-progress")]):
        seen: list[str] = []
        after = ""
        for _ in range(20):
            page = queries.search(
                desk.tx, "Encounter", [*params, ("_total", "accurate")], viewer=ALL_SEEING, count=4, after=after
            )
            assert page.total == 25
            seen += [one["identifier"][0]["value"] for one in page.entries]
            if page.after is None:
                break
            after = page.after
        assert len(seen) == len(set(seen)) == 25
    assert queries.search(desk.tx, "Encounter", params, viewer=ALL_SEEING, count=0).total == 25
    assert len(queries.search(desk.tx, "Encounter", params, viewer=ALL_SEEING, count=10_000).entries) == 25


def test_searches_use_an_index(engine: Any) -> None:
    plans: list[str] = []

    class Explaining:
        def __init__(self, tx: Transaction) -> None:
            self._tx = tx

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tx, name)

        def rows(self, sql: str, *values: Any) -> list[Any]:
            plans.append(engine.plan(self._tx, sql, *values))
            return self._tx.rows(sql, *values)

    tx: Any = Explaining(engine.empty())
    viewer = Viewer(rpps=AUTHOR, finess=STRUCTURE)
    for kind, params in (
        ("Patient", [("identifier", "urn:oid:1.2|A")]),
        ("Patient", [("identifier", "A")]),
        ("Patient", [("family", "A"), ("gender", "male")]),
        ("Encounter", [("patient.identifier", "A"), ("status", "finished")]),
        ("DocumentReference", [("patient", queries_id()), ("status", "current")]),
        ("DocumentReference", [("status", "current")]),
        ("Encounter", []),
        ("Observation", [("_lastUpdated", "ge2026"), ("_sort", "_lastUpdated")]),
    ):
        queries.search(tx, kind, params, viewer=viewer)
    assert "resource_by_update" in plans[-1]
    assert len(plans) == 10  # those of a patient first ask whose numbers are meant
    for plan in plans:
        assert "SCAN r" not in plan and "Seq Scan on resource" not in plan, plan


def queries_id() -> str:
    from hub.model.uids import uid_text

    return uid_text(1_795_000_000_000 << 16)


@pytest.mark.parametrize(
    ("text", "first", "after"),
    [
        ("2026", "2025-12-31T23:00:00Z", "2026-12-31T23:00:00Z"),
        ("2026-12", "2026-11-30T23:00:00Z", "2026-12-31T23:00:00Z"),
        ("2026-11-24", "2026-11-23T23:00:00Z", "2026-11-24T23:00:00Z"),
        ("2026-07-01T10:00", "2026-07-01T08:00:00Z", "2026-07-01T08:01:00Z"),
        ("2026-07-01T10:00:00Z", "2026-07-01T10:00:00Z", "2026-07-01T10:00:01Z"),
        ("2026-07-01T10:00:00.123+04:00", "2026-07-01T06:00:00Z", "2026-07-01T06:00:01Z"),
    ],
)
def test_dates_are_spans_of_local_time(text: str, first: str, after: str) -> None:
    assert span(text) == (first, after)


@pytest.mark.parametrize("text", ["", "2026-13", "2026-02-30", "24/11/2026", "2026-11-24T25:00:00", "9999", "２０２６"])
def test_what_is_no_date(text: str) -> None:
    assert span(text) is None


# ---- validity ----


def test_every_rendered_resource_is_valid_fhir(desk: Desk) -> None:
    from fhir.resources.R4B import get_fhir_model_class

    desk.apply(
        resources=(stay("V1", "2026-11-24T08:00:00+01:00"),),
        documents=(
            document("urn:oid:1.1", set_id="urn:oid:1", version_number=1, mask=15),
            document("urn:oid:1.2", set_id="urn:oid:1", version_number=2, action=DocumentAction.REPLACE),
            document(
                "urn:oid:1.3",
                action=DocumentAction.REPLACE,
                replaces="urn:oid:7",
                body={"context": {"encounter": [{"identifier": {"system": "urn:oid:1.2.250.1.999.3", "value": "V1"}}]}},
            ),
            document("urn:oid:1.4"),
            document("urn:oid:1.4", action=DocumentAction.DELETE),
            DocumentChange(DocumentAction.CREATE, "urn:lab|42", "OBX[9]", body={"date": "2026"}),
            DocumentChange(DocumentAction.CREATE, "urn:lab|43", "OBX[10]"),
        ),
    )
    found: list[Json] = []
    for kind in ("Patient", "Encounter", "DocumentReference"):
        anyhow = {"status": "current,superseded,entered-in-error"} if kind == "DocumentReference" else {}
        current = desk.find(kind, **anyhow)
        for one in current:
            page = queries.history(desk.tx, kind, one["id"], viewer=ALL_SEEING)
            assert page is not None
            found += [*page.entries, *desk.find("Provenance", target=f"{kind}/{one['id']}")]
            for content in one.get("content", ()):
                if "url" in content["attachment"]:
                    binary = desk.binary(content["attachment"]["url"], ALL_SEEING)
                    assert binary is not None
                    found.append(binary.as_fhir())
    assert {one["resourceType"] for one in found} == {"Patient", "Encounter", "DocumentReference", "Provenance", "Binary"}
    assert len(found) >= 18
    for one in found:
        get_fhir_model_class(one["resourceType"]).model_validate(one)


# ---- masking ----

_VIEWERS = st.builds(
    Viewer,
    role=st.just("professional"),
    sees_masked=st.sampled_from([0, MASQUE_PS, INVISIBLE_PATIENT, INVISIBLE_PATIENT | INVISIBLE_REP_LEGAUX, 15]),
    rpps=st.sampled_from(["", AUTHOR, COLLEAGUE, STRANGER]),
    finess=st.sampled_from(["", STRUCTURE, ELSEWHERE]),
)
_MASKS = st.integers(0, MASQUE_PS | INVISIBLE_PATIENT | INVISIBLE_REP_LEGAUX | CONFIDENTIALITY_VERY_RESTRICTED)


def _sees(viewer: Viewer, mask: int) -> bool:
    return not mask & viewer.sees_masked or viewer.rpps == AUTHOR or viewer.finess == STRUCTURE


@settings(max_examples=100, deadline=None)
@given(st.lists(_MASKS, min_size=1, max_size=5), st.sampled_from(list(DocumentAction)), _VIEWERS)
def test_nothing_hidden_leaks_on_any_path(engine: Any, masks: list[int], last: DocumentAction, viewer: Viewer) -> None:
    desk = Desk(engine)
    numbers = [f"urn:oid:1.{n}" for n in range(len(masks))]
    desk.apply(documents=tuple(document(number, mask=mask) for number, mask in zip(numbers, masks, strict=True)))
    for number, mask in zip(numbers, masks, strict=True):
        if last is DocumentAction.DELETE:
            desk.apply(documents=(document(number, action=last),))
        elif last is DocumentAction.REPLACE:
            desk.apply(documents=(document(f"{number}.9", mask=mask, action=last, replaces=number),))
    anyhow = ("status", "current,superseded,entered-in-error")
    everything = queries.search(desk.tx, "DocumentReference", [anyhow], viewer=ALL_SEEING).entries
    mask_of = {
        one["id"]: row[0]
        for one in everything
        for row in desk.tx.rows(
            "SELECT mask FROM resource r JOIN token_index t ON t.resource_id = r.id AND t.param = 'DocumentReference.identifier'"
            " WHERE t.value = ?",
            one["masterIdentifier"]["value"],
        )
    }
    allowed = {number for number, mask in mask_of.items() if _sees(viewer, mask)}
    who = desk.find("Patient", identifier=NIR)[0]["id"]
    for params in (
        [],
        [("patient", who)],
        [("patient.identifier", NIR)],
        [("type", "11502-2")],
        [("date", "2026-11-24")],
        [("_lastUpdated", "gt2026-01-01")],
        [("_id", ",".join(mask_of))],
        [("identifier", ",".join(one["masterIdentifier"]["value"] for one in everything))],
    ):
        page = queries.search(desk.tx, "DocumentReference", [*params, anyhow, ("_total", "accurate")], viewer=viewer)
        assert {one["id"] for one in page.entries} == allowed
        assert page.total == len(allowed)
        assert queries.search(desk.tx, "DocumentReference", [*params, anyhow], viewer=viewer, count=0).total == len(allowed)
        walked, after = set(), ""
        while True:
            step = queries.search(desk.tx, "DocumentReference", [*params, anyhow], viewer=viewer, count=1, after=after)
            walked |= {one["id"] for one in step.entries}
            if step.after is None:
                break
            after = step.after
        assert walked == allowed
    for one in everything:
        name, seen = one["id"], one["id"] in allowed
        versions = int(one["meta"]["versionId"])
        assert (queries.read(desk.tx, "DocumentReference", name, viewer=viewer) is not None) is seen
        for version in range(1, versions + 1):
            assert (queries.vread(desk.tx, "DocumentReference", name, str(version), viewer=viewer) is not None) is seen
            assert (queries.read(desk.tx, "Provenance", f"{name}.{version}", viewer=viewer) is not None) is seen
        page_of_versions = queries.history(desk.tx, "DocumentReference", name, viewer=viewer)
        assert (page_of_versions is not None) is seen
        assert page_of_versions is None or len(page_of_versions.entries) == versions
        told = queries.search(desk.tx, "Provenance", [("target", f"DocumentReference/{name}")], viewer=viewer)
        assert len(told.entries) == (versions if seen else 0)
        counted = queries.search(desk.tx, "Provenance", [("target", name)], viewer=viewer, count=0)
        assert counted.total == (versions if seen else 0)
        assert (desk.binary(one["content"][0]["attachment"]["url"], viewer) is not None) is seen


def test_custodian_alone_is_no_author(desk: Desk) -> None:
    desk.apply(documents=(document("urn:oid:1.1", mask=MASQUE_PS),))
    assert desk.find("DocumentReference", Viewer(finess=ELSEWHERE)) == []
    assert len(desk.find("DocumentReference", Viewer(finess=STRUCTURE))) == 1
    assert len(desk.find("DocumentReference", Viewer(rpps=AUTHOR))) == 1


def test_bytes_that_only_a_hidden_version_held_stay_hidden(desk: Desk) -> None:
    desk.apply(documents=(document("urn:oid:1.1", mask=MASQUE_PS, content=b"first"),))
    (hidden,) = desk.find("DocumentReference")
    desk.raw = b64encode(b"first")
    old = hidden["content"][0]["attachment"]["url"]
    desk.apply(documents=(document("urn:oid:1.1", content=b"second"),))
    stranger = Viewer(rpps=STRANGER)
    assert len(desk.find("DocumentReference", stranger)) == 1
    assert desk.binary(old, stranger) is None
    assert queries.vread(desk.tx, "DocumentReference", hidden["id"], "1", viewer=stranger) is None
    page = queries.history(desk.tx, "DocumentReference", hidden["id"], viewer=stranger)
    assert page is not None and [one["meta"]["versionId"] for one in page.entries] == ["2"]
    assert queries.read(desk.tx, "Provenance", f"{hidden['id']}.1", viewer=stranger) is None
    binary = desk.binary(old, Viewer(rpps=AUTHOR))
    assert binary is not None and binary.data == b"first"


def test_a_visible_document_gives_no_address_of_the_hidden_one_it_replaces(desk: Desk) -> None:
    desk.apply(documents=(document("urn:oid:1.1", mask=MASQUE_PS),))
    desk.apply(documents=(document("urn:oid:1.2", action=DocumentAction.REPLACE, replaces="urn:oid:1.1"),))
    (seen,) = desk.find("DocumentReference", Viewer(rpps=STRANGER))
    assert "reference" not in seen["relatesTo"][0]["target"]


def test_one_type_is_not_read_as_another(desk: Desk) -> None:
    desk.apply(documents=(document("urn:oid:1.1", mask=MASQUE_PS),))
    (hidden,) = desk.find("DocumentReference")
    for kind in ("Patient", "Encounter", "Binary", "Observation"):
        assert queries.read(desk.tx, kind, hidden["id"], viewer=ALL_SEEING) is None
        assert queries.history(desk.tx, kind, hidden["id"], viewer=ALL_SEEING) is None
