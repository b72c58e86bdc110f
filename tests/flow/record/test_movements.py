"""A stay is computed from its movements: any order and any repetition of its messages gives the same Encounter."""

from __future__ import annotations

from itertools import count
from typing import Any

import orjson
import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.formats.er7 import read
from hub.model.record_change import Json, RecordChange, ResourceChange
from hub.model.site import Site
from hub.record.apply import Applied, Arrival, apply_all
from hub.record.consents import dmp_refusal
from mappings.hl7v2.adt import Adt

SITE = Site(source="his")
PATIENT = 77
KEY = "urn:oid:1.2.250.1.999.2|V1"
DAY = "202603"


def adt(event: str, at: str, *, zbe: str = "", pv1: dict[int, str] | None = None, more: tuple[str, ...] = ()) -> RecordChange:
    """A message of a stay; `at` is `ddHHMM` of MSH-7. `zbe` is `number|start|action|original|nature`, start as `ddHHMM`."""
    fields = {1: "1", 2: "I", 3: "NEPH^12^B", 7: "10000000017^VASSEUR^Irma^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^RPPS"}
    fields |= {19: "V1^^^CHU&1.2.250.1.999.2&ISO^VN", **(pv1 or {})}
    lines = [
        f"MSH|^~\\&|GAM|CHU|HUB|HUB|{DAY}{at}||ADT^{event}|C{event}{at}|T|2.5^FRA^2.11|||||FRA|UNICODE UTF-8",
        f"EVN||{DAY}{at}||||{DAY}{at}",
        "PID|1||900001^^^CHU&1.2.250.1.999.1&ISO^PI||TESTUT^ZOE^^^^^L||19800102|F",
        "PV1|" + "|".join(fields.get(n, "") for n in range(1, max(fields) + 1)),
    ]
    if zbe:
        number, start, action, original, nature = (zbe + "||||").split("|")[:5]
        lines.append(f"ZBE|{number}^CHU^1.2.250.1.999.3^ISO|{DAY}{start}||{action}|N|{original}|||{nature}")
    return Adt().translate(read("\r".join([*lines, *more, ""]).encode()), SITE)


class Desk:
    """An empty record."""

    def __init__(self, engine: Any) -> None:
        self.tx = engine.empty()
        self.numbers = count(1_900_000_000_000 << 16)
        self.now = 1_795_000_000_000_000

    def apply(self, *changes: RecordChange, messages: list[int] | None = None, patient: int = PATIENT) -> list[Applied]:
        """File changes together, each as a message of its own unless `messages` are told."""
        self.now += 1_000_000
        numbers = messages or [next(self.numbers) for _ in changes]
        arrivals = [Arrival(change, patient, number, "his") for change, number in zip(changes, numbers, strict=True)]
        return apply_all(self.tx, arrivals, next_id=lambda: next(self.numbers), now_us=self.now)

    def stay(self, key: str = KEY) -> Json:
        row = self.tx.row("SELECT body, status, sort_date FROM resource WHERE type = 'Encounter' AND key = ?", key)
        assert row is not None
        body: Json = orjson.loads(row[0])
        assert body["status"] == row[1]
        get_fhir_model_class("Encounter").model_validate({"resourceType": "Encounter", **body})
        return body

    def versions(self) -> int:
        return self.tx.row("SELECT version FROM resource WHERE type = 'Encounter' AND key = ?", KEY)[0]

    def rows(self) -> int:
        return self.tx.row("SELECT count(*) FROM movement")[0]


@pytest.fixture
def desk(engine: Any) -> Desk:
    return Desk(engine)


only_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)  # where the engine is of no interest


def spans(body: Json, name: str, what: Any) -> list[tuple[Any, str, str]]:
    """Value, start and end of each stretch, the times as `dd HH:MM`."""

    def short(text: str) -> str:
        return f"{text[8:10]} {text[11:16]}".strip()

    return [
        (what(one), short(one.get("period", {}).get("start", "")), short(one.get("period", {}).get("end", "")))
        for one in body.get(name, ())
    ]


def places(body: Json) -> list[tuple[Any, str, str]]:
    return spans(body, "location", lambda one: (one["location"]["display"], one["status"]))


def statuses(body: Json) -> list[tuple[Any, str, str]]:
    return spans(body, "statusHistory", lambda one: one["status"])


def classes(body: Json) -> list[tuple[Any, str, str]]:
    return spans(body, "classHistory", lambda one: one["class"]["code"])


def doctors(body: Json) -> list[tuple[Any, str, str]]:
    return spans(body, "participant", lambda one: one["individual"]["display"])


OTHER = {7: "10000000025^QUERE^Malo^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^RPPS"}
NEPH, CARD, REA = {3: "NEPH^12^B"}, {3: "CARD^3^A"}, {3: "REA^1^A"}
URG = {2: "E", 3: "URG^1^A"}
ORU = RecordChange(
    "oru@1",
    event_time=1 << 60,
    resources=(
        ResourceChange(
            "Encounter",
            KEY,
            {
                "identifier": [{"type": {"coding": [{"code": "VN"}]}, "system": "urn:oid:1.2.250.1.999.2", "value": "V1"}],
                "class": {"code": "AMB"},
                "status": "finished",
                "location": [{"location": {"display": "LABO"}}],
            },
            "PV1",
            1 << 60,
            {"status": "unknown", "class": {"code": "UNK"}},
        ),
    ),
)
FRENCH = (
    adt("A05", "010900", zbe="1|020800|INSERT", more=("ZFM|8",)),
    adt("A04", "020805", zbe="2|020800|INSERT||HMS", pv1=URG),
    adt("A06", "021200", zbe="3|021200|INSERT||HMS", pv1={**NEPH, 44: "20260302080000"}),
    adt("A02", "030900", zbe="4|030900|INSERT||SH", pv1=CARD),
    adt("A54", "031000", zbe="5|031000|INSERT", pv1={**CARD, **OTHER}),
    adt("A21", "041400", zbe="6|041400|INSERT", pv1=CARD),
    adt("A22", "051800", zbe="7|051800|INSERT", pv1={**CARD, **OTHER}),
    adt("A02", "060100", zbe="8|060100|INSERT", pv1={**REA, **OTHER}),
    adt("A12", "060200", zbe="8|060100|CANCEL|A02", pv1={**CARD, **OTHER}),
    adt("Z99", "060300", zbe="4|030930|UPDATE|A02|SH", pv1={3: "CARD^4^A"}),
    adt("A03", "070900", zbe="9|070900|INSERT", pv1={**CARD, **OTHER, 45: "20260307090000"}, more=("ZFM||8",)),
    adt("A13", "070930", zbe="9|070900|CANCEL|A03", pv1={**CARD, **OTHER}),
    adt("A03", "081000", zbe="10|081000|INSERT", pv1={**CARD, **OTHER, 45: "20260308100500"}, more=("ZFM||7",)),
)
NAMELESS = (
    adt("A01", "020805", pv1={44: "20260302080000"}),
    adt("A08", "020900", pv1=OTHER),
    adt("A02", "030900", pv1={**CARD, **OTHER}),
    adt("A02", "040900", pv1={**REA, **OTHER}),
    adt("A12", "041000", pv1={**CARD, **OTHER}),
    adt("A03", "070900", pv1={**CARD, **OTHER, 45: "20260307090000"}),
    adt("A13", "070930", pv1={**CARD, **OTHER}),
    adt("A03", "081000", pv1={**CARD, **OTHER, 45: "20260308100500"}),
)


def in_order(engine: Any, changes: tuple[RecordChange, ...]) -> Json:
    desk = Desk(engine)
    for change in changes:
        desk.apply(change)
    return desk.stay()


def test_french_stay(engine: Any) -> None:
    body = in_order(engine, FRENCH)
    assert body["status"] == "finished"
    assert body["period"] == {"start": "2026-03-02T08:00:00+01:00", "end": "2026-03-08T10:05:00+01:00"}
    assert statuses(body) == [
        ("planned", "", "02 08:00"),
        ("in-progress", "02 08:00", "04 14:00"),
        ("onleave", "04 14:00", "05 18:00"),
        ("in-progress", "05 18:00", "08 10:00"),
        ("finished", "08 10:00", "08 10:05"),
    ]
    assert classes(body) == [("EMER", "02 08:00", "02 12:00"), ("IMP", "02 12:00", "08 10:05")]
    assert places(body) == [
        (("URG 1 A", "completed"), "02 08:00", "02 12:00"),
        (("NEPH 12 B", "completed"), "02 12:00", "03 09:30"),
        (("CARD 4 A", "completed"), "03 09:30", "03 10:00"),
        (("CARD 3 A", "completed"), "03 10:00", "08 10:05"),
    ]
    assert doctors(body) == [("Irma VASSEUR", "02 08:00", "03 10:00"), ("Malo QUERE", "03 10:00", "08 10:05")]
    stay = body["hospitalization"]
    assert [one["code"] for one in stay["dischargeDisposition"]["coding"]] == ["7"]
    assert [one["code"] for one in stay["admitSource"]["coding"]] == ["8"]


def test_stay_of_a_sender_without_zbe(engine: Any) -> None:
    body = in_order(engine, NAMELESS)
    assert body["status"] == "finished"
    assert body["period"] == {"start": "2026-03-02T08:00:00+01:00", "end": "2026-03-08T10:05:00+01:00"}
    assert [place for place, _, _ in places(body)] == [("NEPH 12 B", "completed"), ("CARD 3 A", "completed")]
    assert doctors(body) == [("Malo QUERE", "02 08:05", "08 10:05")]


@pytest.mark.parametrize("name", ["french", "nameless"])
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_and_repetition_gives_the_same_stay(engine: Any, name: str, data: st.DataObject) -> None:
    story = {"french": FRENCH, "nameless": NAMELESS}[name]
    cut = data.draw(st.integers(1, len(story)))
    wanted = in_order(engine, story[:cut])
    order = data.draw(st.permutations([*range(cut), *data.draw(st.lists(st.integers(0, cut - 1), max_size=3))]))
    changes = [story[n] for n in order]
    if data.draw(st.booleans()):
        changes.insert(data.draw(st.integers(0, len(changes))), ORU)
    desk = Desk(engine)
    together = data.draw(st.integers(1, 16))
    for start in range(0, len(changes), together):
        desk.apply(*changes[start : start + together])
    assert desk.stay() == wanted


def test_message_applied_again_changes_nothing(desk: Desk) -> None:
    numbers = [next(desk.numbers) for _ in FRENCH]
    desk.apply(*FRENCH, messages=numbers)
    before, rows = desk.stay(), desk.rows()
    assert rows == len(FRENCH)
    for change, number in zip(FRENCH, numbers, strict=True):
        assert desk.apply(change, messages=[number])[0].updated == 0
    assert (desk.stay(), desk.rows()) == (before, rows)


def test_messages_that_are_no_movement_do_not_disturb(desk: Desk) -> None:
    desk.apply(FRENCH[1])
    before, versions = desk.stay(), desk.versions()
    assert desk.apply(ORU)[0].updated == 0
    assert (desk.stay(), desk.versions()) == (before, versions)
    more = RecordChange(
        "x@1", resources=(ResourceChange("Encounter", KEY, {"length": {"value": 3}, "status": "planned"}, "X", 1 << 61),)
    )
    desk.apply(more)
    assert desk.stay() == {**before, "length": {"value": 3}}
    desk.apply(FRENCH[2])
    assert desk.stay()["length"] == {"value": 3}


@only_sqlite
def test_without_movements_other_messages_tell_the_stay(desk: Desk) -> None:
    desk.apply(ORU)
    assert (desk.stay()["status"], desk.stay()["class"]["code"]) == ("finished", "AMB")
    desk.apply(FRENCH[1])
    assert (desk.stay()["status"], desk.stay()["class"]["code"]) == ("in-progress", "EMER")


# ---- one rule each ---------------------------------------------------------------------------------------------------


@only_sqlite
def test_pre_admission(desk: Desk) -> None:
    desk.apply(adt("A05", "010900", zbe="1|050800|INSERT"))
    body = desk.stay()
    assert (body["status"], body["period"]) == ("planned", {"start": "2026-03-05T08:00:00+01:00"})
    assert places(body) == [(("NEPH 12 B", "planned"), "05 08:00", "")]
    desk.apply(adt("A01", "040700", zbe="2|040700|INSERT"))
    body = desk.stay()
    assert (body["status"], body["period"]) == ("in-progress", {"start": "2026-03-04T07:00:00+01:00"})
    assert statuses(body) == [("planned", "", "04 07:00"), ("in-progress", "04 07:00", "")]


@only_sqlite
def test_cancelled_pre_admission(desk: Desk) -> None:
    desk.apply(adt("A05", "010900", zbe="1|050800|INSERT"), adt("A38", "011000", zbe="1|050800|CANCEL|A05"))
    body = desk.stay()
    assert (body["status"], body["period"]) == ("cancelled", {"start": "2026-03-05T08:00:00+01:00"})


def test_cancellation_of_nothing_is_kept_and_told(desk: Desk) -> None:
    (applied,) = desk.apply(adt("A11", "020900", zbe="1|020800|CANCEL|A01"))
    assert [(one.code, one.at) for one in applied.findings] == [("MOVEMENT_UNKNOWN", "ZBE")]
    assert (desk.stay()["status"], desk.rows()) == ("cancelled", 1)
    (applied,) = desk.apply(adt("A01", "020805", zbe="1|020800|INSERT"))
    assert applied.findings == ()
    assert (desk.stay()["status"], desk.rows()) == ("cancelled", 2)
    desk.apply(adt("A01", "021000", zbe="1|021000|INSERT"))
    assert desk.stay()["status"] == "in-progress"


@pytest.mark.parametrize(
    ("event", "status"),
    [("A11", "cancelled"), ("A38", "cancelled"), ("A12", "in-progress"), ("A13", "in-progress"), ("A53", "onleave")],
)
@pytest.mark.parametrize("named", [True, False])
@only_sqlite
def test_stay_of_which_only_a_cancellation_is_known(desk: Desk, event: str, status: str, named: bool) -> None:
    (applied,) = desk.apply(adt(event, "020900", zbe="1|020800|CANCEL" if named else ""))
    assert [one.code for one in applied.findings] == ["MOVEMENT_UNKNOWN"]
    body = desk.stay()
    assert (body["status"], body["class"]["code"]) == (status, "IMP")
    assert body["location"][0]["location"]["display"] == "NEPH 12 B"


@only_sqlite
def test_correction_of_nothing_is_a_movement_of_its_own(desk: Desk) -> None:
    (applied,) = desk.apply(adt("Z99", "020900", zbe="1|020800|UPDATE|A04"))
    assert [one.code for one in applied.findings] == ["MOVEMENT_UNKNOWN"]
    assert desk.stay()["status"] == "in-progress"


@only_sqlite
def test_place_before_the_first_transfer_that_is_known(desk: Desk) -> None:
    desk.apply(adt("A02", "030900", zbe="4|030900|INSERT", pv1={**CARD, 6: "NEPH^12^B"}))
    assert places(desk.stay()) == [(("NEPH 12 B", "completed"), "", "03 09:00"), (("CARD 3 A", "active"), "03 09:00", "")]


@only_sqlite
def test_place_is_kept_during_leave(desk: Desk) -> None:
    desk.apply(FRENCH[2], FRENCH[5])
    assert places(desk.stay()) == [(("NEPH 12 B", "reserved"), "02 12:00", "")]
    assert desk.stay()["status"] == "onleave"


@only_sqlite
def test_place_to_come(desk: Desk) -> None:
    desk.apply(adt("A01", "020800", zbe="1|020800|INSERT"), adt("A15", "020900", zbe="2|031000|INSERT", pv1={42: "REA^1^A"}))
    assert places(desk.stay()) == [(("NEPH 12 B", "active"), "02 08:00", ""), (("REA 1 A", "planned"), "03 10:00", "")]
    cancelled = adt("A26", "021000", zbe="2|031000|CANCEL|A15")
    transferred = adt("A02", "031000", zbe="3|031000|INSERT", pv1=REA)
    desk.apply(transferred)
    assert places(desk.stay())[1] == (("REA 1 A", "active"), "03 10:00", "")
    assert len(places(desk.stay())) == 2
    desk.apply(cancelled)
    assert len(places(desk.stay())) == 2


@only_sqlite
def test_discharge_before_admission(desk: Desk) -> None:
    desk.apply(adt("A03", "070900", zbe="9|070900|INSERT", pv1={45: "20260307091000"}))
    body = desk.stay()
    assert (body["status"], body["period"]) == ("finished", {"end": "2026-03-07T09:10:00+01:00"})
    desk.apply(adt("A01", "020800", zbe="1|020800|INSERT"))
    assert desk.stay()["period"] == {"start": "2026-03-02T08:00:00+01:00", "end": "2026-03-07T09:10:00+01:00"}


@only_sqlite
def test_discharge_told_by_a_correction_only(desk: Desk) -> None:
    desk.apply(adt("A01", "020800"), adt("A08", "070900", pv1={45: "20260307090000"}))
    assert (desk.stay()["status"], desk.stay()["period"]["end"]) == ("finished", "2026-03-07T09:00:00+01:00")


@only_sqlite
def test_several_numbers_name_one_movement(desk: Desk) -> None:
    both = adt("A02", "030900", zbe="4^CHU^1.2.250.1.999.3^ISO~77|030900|INSERT", pv1=CARD)
    desk.apply(adt("A01", "020800", zbe="1|020800|INSERT"), both)
    (applied,) = desk.apply(adt("A12", "031000", zbe="77|030900|CANCEL|A02"))
    assert applied.findings == ()
    assert places(desk.stay()) == [(("NEPH 12 B", "active"), "02 08:00", "")]


def test_one_movement_number_under_three_visits_makes_three_stays(desk: Desk) -> None:
    changes = [
        adt("A01", f"0{n}0800", zbe="312|020800|INSERT", pv1={19: f"V{n}^^^CHU&1.2.250.1.999.2&ISO^VN"}) for n in (1, 2, 3)
    ]
    desk.apply(*changes)
    desk.apply(adt("A11", "040800", zbe="312|020800|CANCEL|A01", pv1={19: "V2^^^CHU&1.2.250.1.999.2&ISO^VN"}))
    found = [desk.stay(KEY[:-1] + str(n))["status"] for n in (1, 2, 3)]
    assert found == ["in-progress", "cancelled", "in-progress"]


@only_sqlite
def test_account_of_a_cancelled_admission(desk: Desk) -> None:
    account = RecordChange("x@1")
    admitted = adt("A01", "020800", zbe="1|020800|INSERT", pv1={51: "A"})
    assert account.movements == ()
    facts = admitted.movements[0].facts
    facts["identifier"].append({"type": {"coding": [{"code": "AN"}]}, "system": "urn:x", "value": "5"})
    desk.apply(admitted)
    assert [one.get("use") for one in desk.stay()["identifier"]] == [None, None]


@only_sqlite
def test_stay_that_was_filed_before_movements_were_kept(desk: Desk) -> None:
    """Its first movement does not erase when it began."""
    before = FRENCH[2]
    desk.apply(RecordChange("adt@1", event_time=before.event_time, resources=before.resources))
    assert desk.stay()["status"] == "in-progress"
    desk.apply(adt("A03", "080900", zbe="9|080900|INSERT"))
    body = desk.stay()
    assert (body["status"], body["period"]["start"], body["class"]["code"]) == ("finished", "2026-03-02T08:00:00+01:00", "IMP")


def test_visit_number_of_another_patient_makes_a_stay_beside(desk: Desk) -> None:
    desk.apply(FRENCH[1], FRENCH[2])
    before = desk.stay()
    for change in (FRENCH[1], FRENCH[12]):
        (applied,) = desk.apply(change, patient=78)
        assert [one.code for one in applied.findings] == ["NUMBER_OF_ANOTHER_PATIENT"]
    assert desk.stay() == before
    assert desk.stay(f"{KEY}#78")["status"] == "finished"
    assert statuses(desk.stay(f"{KEY}#78"))[0] == ("in-progress", "02 08:00", "08 10:00")


CONSENTS = (
    adt("A01", "020800", zbe="1|020800|INSERT", more=("ZFA|ACTIF|20240101|||||||INO|20260302|IC|20260302",)),
    adt("A01", "030800", zbe="1|020800|INSERT", more=("ZFA||||||||| IO|20260303|INC|20260303",)),
    adt("A01", "040800", zbe="1|020800|INSERT", more=("ZFA|FERME|20260304|20260304",)),
)


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(2)))
def test_latest_word_on_consent_counts(engine: Any, order: list[int]) -> None:
    desk = Desk(engine)
    desk.tx.insert("patient", ("id", "birth_name", "birth_date", "sex", "status", "created_at"), [(PATIENT, "", "", "", "", 0)])
    for n in order:
        desk.apply(CONSENTS[n])
    rows = desk.tx.rows("SELECT key, body FROM resource WHERE type = 'Consent' ORDER BY key")
    bodies = {key: orjson.loads(body) for key, body in rows}
    assert list(bodies) == [f"{PATIENT}|dmp-feeding", f"{KEY}|dmp-consultation"]
    for body in bodies.values():
        get_fhir_model_class("Consent").model_validate({"resourceType": "Consent", **body})
    assert [body["provision"]["code"][0]["coding"][0]["code"] for body in bodies.values()] == ["IO", "INC"]
    assert dmp_refusal(desk.tx, [PATIENT]) == {PATIENT: "ConsentOpposed"}
    desk.apply(adt("A01", "050800", zbe="1|020800|INSERT", more=("ZFA|||||||||INO|20260305",)), CONSENTS[2])
    assert dmp_refusal(desk.tx, [PATIENT]) == {}
    desk.apply(adt("A31", "060800", more=("ZFA|FERME|20260306",)))
    assert dmp_refusal(desk.tx, [PATIENT]) == {PATIENT: "DMPClosed"}


@only_sqlite
def test_consent_of_nobody_is_not_filed(desk: Desk) -> None:
    (arrival,) = [Arrival(CONSENTS[0], None, next(desk.numbers), "his")]
    (applied,) = apply_all(desk.tx, [arrival], next_id=lambda: next(desk.numbers), now_us=desk.now)
    assert [one.code for one in applied.findings] == ["PATIENT_UNKNOWN"]
    assert desk.tx.rows("SELECT key FROM resource WHERE type = 'Consent'") == [(f"{KEY}|dmp-consultation",)]
