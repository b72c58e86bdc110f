"""Orders, results and appointments in the record: repeated, corrected, cancelled, out of order; how they are found and read."""

from __future__ import annotations

from itertools import count, permutations
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.er7 import read
from hub.model.identity import PatientIdentity
from hub.model.record_change import IdentityAct, IdentityActKind, Json, RecordChange, ResourceChange
from hub.model.site import Site
from hub.model.uids import uid_text
from hub.record import queries
from hub.record.apply import Applied, Arrival, apply_all
from hub.record.identity import resolve_all
from hub.record.masking import Viewer
from hub.record.rendering import patient_in
from mappings.registry import builtin

REGISTRY = builtin()
SITE = Site(source="his")
PROFESSIONAL = Viewer()
HB, LOINC = "718-7", "http://loinc.org|718-7"


class Desk:
    """An empty record, and raw messages that arrive at it."""

    def __init__(self, engine: Any, n: int = 0) -> None:
        self.tx = engine.empty(n)
        self.numbers = count(1_900_000_000_000 << 16)
        self.now = 1_795_000_000_000_000
        self.patients: dict[str, int] = {}

    def next_id(self) -> int:
        return next(self.numbers)

    def tell(self, *raws: str) -> list[Applied]:
        """All at once, as routing brings several."""
        arrivals, self.now = [], self.now + 1_000_000
        for raw in raws:
            message = read(raw.encode())
            structure = REGISTRY.find(message)
            assert structure is not None
            structure.judge(message, SITE)
            arrivals.append(self.arrival(structure.translate(message, SITE)))
        return apply_all(self.tx, arrivals, next_id=self.next_id, now_us=self.now)

    def arrival(self, change: RecordChange) -> Arrival:
        number, patient = self.next_id(), None
        if change.identity is not None and change.identity.local:
            (match,) = resolve_all(
                self.tx,
                [(number, change.identity)],
                next_id=self.next_id,
                now_us=self.now,
                acts={number: change.acts} if change.acts else {},
            )
            patient = match.patient_id
            self.patients[change.identity.local[0].value] = patient
        return Arrival(change, patient, number, "his")

    def find(self, kind: str, *, patient: str = "4711", **params: str) -> list[Json]:
        asked = [(name.replace("__", "-"), value) for name, value in params.items()]
        if patient:
            asked.append(("patient", uid_text(self.patients[patient])))
        found = list(queries.search(self.tx, kind, asked, viewer=PROFESSIONAL).entries)
        for one in found:
            get_fhir_model_class(kind).model_validate(one)
        return found

    def one(self, kind: str, **params: str) -> Json:
        (found,) = self.find(kind, **params)
        return found

    def versions(self, one: Json) -> list[Json]:
        page = queries.history(self.tx, one["resourceType"], one["id"], viewer=PROFESSIONAL)
        assert page is not None
        return list(page.entries)


@pytest.fixture
def desk(engine: Any) -> Desk:
    return Desk(engine)


def header(kind: str, at: str, profile: str = "") -> str:
    return f"MSH|^~\\&|LABO|Z|HUB|Z|{at}||{kind}|{at}|P|2.5||||||UNICODE UTF-8|||{profile}"


def message(kind: str, at: str, *segments: str, patient: str = "4711", profile: str = "", pv1: str = "") -> str:
    pid = [f"PID|||{patient}^^^Z^PI||SAULNIER^Odile||19790114|F"] if patient else []
    return "\r".join([header(kind, at, profile), *pid, *([pv1] if pv1 else []), *segments]) + "\r"


def oru(at: str, *results: str, filler: str = "F1", report: str = "F", **more: Any) -> str:
    """A report of some results, each `code|value|status`."""
    obx = [
        f"OBX|{n}|NM|{code}^x^LN||{value}|g/dL|||||{status}|||{more.pop('taken', '20260302080000')}"
        for n, (code, value, status) in enumerate((one.split("|") for one in results), 1)
    ]
    obr = f"OBR|1|P1^DPI|{filler}^LABO|58410-2^NFS^LN|||20260302080000{'|' * 18}{report}"
    return message("ORU^R01", at, "ORC|RE|P1^DPI", obr, *obx, **more)


def order(at: str, control: str = "NW", number: str = "P1", *, rest: str = "", kind: str = "ORM^O01", **more: Any) -> str:
    return message(kind, at, f"ORC|{control}|{number}^DPI{rest}", f"OBR|1|{number}^DPI||58410-2^NFS^LN", **more)


# ---- results ----


def test_the_same_result_three_times_is_one_version(desk: Desk) -> None:
    raw = oru("20260302100000", f"{HB}|12|F", "777-3|250|F")
    first = desk.tell(raw)[0]
    before = {one["id"] for kind in ("Observation", "DiagnosticReport") for one in desk.find(kind)}
    again, together = desk.tell(raw)[0], desk.tell(raw, raw)
    assert first.created and not any(one.created or one.updated for one in (again, *together))
    for kind in ("Observation", "DiagnosticReport"):
        for one in desk.find(kind):
            assert one["id"] in before and one["meta"]["versionId"] == "1" and len(desk.versions(one)) == 1


def test_a_corrected_result_is_the_second_version_and_the_only_one_in_the_trend(desk: Desk) -> None:
    desk.tell(oru("20260302100000", f"{HB}|12|P", report="P"))
    desk.tell(oru("20260302110000", f"{HB}|12.5|F"))
    desk.tell(oru("20260302120000", f"{HB}|13|C", report="C"))
    found = desk.one("Observation", code=LOINC)
    assert (found["status"], found["valueQuantity"]["value"], found["meta"]["versionId"]) == ("corrected", 13, "3")
    assert [one["valueQuantity"]["value"] for one in desk.versions(found)] == [13, 12.5, 12]
    report = desk.one("DiagnosticReport")
    assert report["status"] == "corrected" and [one["reference"] for one in report["result"]] == [f"Observation/{found['id']}"]


def test_an_earlier_state_that_comes_late_changes_nothing(desk: Desk) -> None:
    desk.tell(oru("20260302110000", f"{HB}|12.5|F"))
    applied = desk.tell(oru("20260302100000", f"{HB}|12|P", report="P"))[0]
    found = desk.one("Observation")
    assert (found["status"], found["valueQuantity"]["value"], found["meta"]["versionId"]) == ("final", 12.5, "1")
    assert "OLDER_THAN_RECORD" in {one.code for one in applied.findings}
    assert desk.one("DiagnosticReport")["status"] == "final"


@pytest.mark.parametrize(("status", "named"), [("X", "cancelled"), ("D", "entered-in-error"), ("W", "entered-in-error")])
def test_a_cancelled_result_is_hidden_and_its_history_kept(desk: Desk, status: str, named: str) -> None:
    desk.tell(oru("20260302100000", f"{HB}|12|F", "777-3|250|F"))
    desk.tell(oru("20260302110000", f"{HB}||{status}", "777-3|250|F"))
    assert [one["code"]["coding"][0]["code"] for one in desk.find("Observation")] == ["777-3"]
    assert desk.find("Observation", code=LOINC) == []
    hidden = desk.one("Observation", status=named)
    now, before = desk.versions(hidden)
    assert before["valueQuantity"]["value"] == 12 and before["status"] == "final"
    assert ("valueQuantity" in now) == (status != "X")  # what cannot be obtained has no value; what is deleted keeps its own
    (left,) = desk.one("DiagnosticReport")["result"]
    assert left["reference"].partition("/")[2] != hidden["id"]


def test_a_status_alone_makes_preliminary_values_final(desk: Desk) -> None:
    desk.tell(oru("20260302100000", f"{HB}|12|P"), oru("20260302110000", f"{HB}||U"))
    found = desk.one("Observation")
    assert (found["status"], found["valueQuantity"]["value"]) == ("final", 12)


def test_a_text_after_a_number_leaves_one_value(desk: Desk) -> None:
    desk.tell(oru("20260302100000", f"{HB}|en cours|P"), oru("20260302110000", f"{HB}|12|F"))
    found = desk.one("Observation")
    assert [name for name in found if name.startswith("value")] == ["valueQuantity"]


def test_results_that_come_one_by_one_add_up_in_the_report(desk: Desk) -> None:
    desk.tell(oru("20260302100000", f"{HB}|12|F", report="A"))
    desk.tell(oru("20260302110000", "777-3|250|F", report="F"))
    report = desk.one("DiagnosticReport")
    assert report["status"] == "final" and len(report["result"]) == 2
    assert {one["reference"] for one in report["result"]} == {f"Observation/{one['id']}" for one in desk.find("Observation")}


def test_provenance_leads_from_a_result_to_its_segment(desk: Desk) -> None:
    desk.tell(oru("20260302100000", f"{HB}|12|F", "777-3|250|F"))
    platelets = desk.one("Observation", code="777-3")
    params = [("target", f"Observation/{platelets['id']}")]
    (provenance,) = queries.search(desk.tx, "Provenance", params, viewer=PROFESSIONAL).entries
    assert provenance["entity"][0]["extension"][0]["valueString"] == "OBX[2]"


# ---- orders ----


def test_an_order_and_its_results_find_each_other_whichever_comes_first(engine: Any) -> None:
    told = [order("20260302090000"), oru("20260302100000", f"{HB}|12|F"), message("ADT^A01", "20260302080000", pv1=PV1)]
    told[1] = oru("20260302100000", f"{HB}|12|F", pv1=PV1)
    for raws in permutations(told):
        desk = Desk(engine)
        for raw in raws:
            desk.tell(raw)
        request, result, stay = desk.one("ServiceRequest"), desk.one("Observation"), desk.one("Encounter")
        assert result["basedOn"][0]["reference"] == f"ServiceRequest/{request['id']}"
        assert result["encounter"]["reference"] == f"Encounter/{stay['id']}"
        for kind in ("Observation", "DiagnosticReport"):
            assert len(desk.find(kind, based__on=f"ServiceRequest/{request['id']}")) == 1
            assert len(desk.find(kind, encounter=stay["id"], patient="")) == 1
        assert desk.find("Observation", based__on=f"ServiceRequest/{result['id']}") == []
        assert len(desk.find("DiagnosticReport", result=f"Observation/{result['id']}")) == 1


PV1 = "PV1||I|||||||||||||||||V9^^^Z"


def comparable(body: Json) -> Json:
    """A resource whose lists are sets, without what the order of arrival may decide."""
    left_out = {"id", "meta"}
    return {
        name: sorted(map(repr, value)) if isinstance(value, list) else value
        for name, value in body.items()
        if name not in left_out
    }


def test_an_order_is_the_same_whatever_the_order_of_its_messages(engine: Any) -> None:
    told = [
        message(
            "ORM^O01",
            "20260302090000",
            "ORC|NW|P1^DPI|||||||20260302085900|||17^VASSEUR^Irma",
            "OBR|1|P1^DPI||1^NFS^L",
            "NTE|1||À jeun",
        ),
        message("ORM^O01", "20260302093000", "ORC|SC|P1^DPI|F1^LABO||IP", "OBR|1|P1^DPI|F1^LABO|1^NFS^L"),
        message("ORM^O01", "20260302100000", "ORC|CA|P1^DPI|||||||||||||ERR^Erreur^L", "OBR|1|P1^DPI||1^NFS^L"),
    ]
    found = []
    for raws in permutations(told):
        desk = Desk(engine)
        for raw in (*raws, *raws):
            desk.tell(raw)
        found.append(comparable(desk.one("ServiceRequest")))
    assert found[0]["status"] == "revoked" and "Irma VASSEUR" in str(found[0]["requester"])
    assert len(found[0]["identifier"]) == 2 and "note" in found[0]
    assert all(one == found[0] for one in found)


def test_a_cancellation_alone_is_a_revoked_order(desk: Desk) -> None:
    desk.tell(order("20260302100000", "CA"))
    assert desk.one("ServiceRequest")["status"] == "revoked"


def test_an_answer_without_patient_changes_the_order_that_it_names(desk: Desk) -> None:
    desk.tell(order("20260302090000"))
    answer = message("ORR^O02", "20260302100000", "MSA|AA|1", "ORC|UA|P1^DPI|F7^LABO", patient="")
    desk.tell(answer, answer)
    found = desk.one("ServiceRequest")
    assert found["status"] == "revoked" and {one["value"] for one in found["identifier"]} == {"P1", "F7"}
    assert found["meta"]["versionId"] == "2"
    applied = desk.tell(message("ORR^O02", "20260302100000", "MSA|AA|1", "ORC|OK|P99^DPI", patient=""))[0]
    assert [one.code for one in applied.findings] == ["PATIENT_UNKNOWN"] and not applied.created


def test_a_number_that_two_patients_have_is_two_orders(desk: Desk) -> None:
    desk.tell(order("20260302090000"), order("20260302090000", patient="4712"))
    desk.tell(oru("20260302100000", f"{HB}|12|F"), oru("20260302100000", f"{HB}|99|F", patient="4712"))
    for patient, value in (("4711", 12), ("4712", 99)):
        request, result = desk.one("ServiceRequest", patient=patient), desk.one("Observation", patient=patient)
        assert result["valueQuantity"]["value"] == value
        assert result["basedOn"][0]["reference"] == f"ServiceRequest/{request['id']}"
        based = desk.find("Observation", patient="", based__on=request["id"])
        assert [one["id"] for one in based] == [result["id"]]
        (member,) = desk.one("DiagnosticReport", patient=patient)["result"]
        assert member["reference"] == f"Observation/{result['id']}"


# ---- appointments ----


def siu(event: str, at: str, *segments: str, start: str = "20260310090000", status: str = "") -> str:
    lines = [header(f"SIU^{event}", at), f"SCH|A1^DPI|R1^RDV|||||C^Contrôle^L||30|MIN|^^^{start}{'|' * 14}{status}"]
    return "\r".join([*lines, "PID|||4711^^^Z^PI||SAULNIER^Odile||19790114|F", *segments]) + "\r"


def test_an_appointment_is_its_patients(desk: Desk) -> None:
    desk.tell(siu("S12", "20260302100000", "RGS|1", "AIP|1||17^VASSEUR^Irma", "AIL|1||CS^12^^Z"))
    found = desk.one("Appointment", date="2026-03-10")
    assert found["participant"][0] == {"actor": {"reference": f"Patient/{uid_text(desk.patients['4711'])}"}, "status": "accepted"}
    assert len(found["participant"]) == 3 and "subject" not in found
    assert patient_in(found) == desk.patients["4711"]
    assert desk.find("Appointment", date="lt2026-03-10") == []
    assert desk.one("Appointment", identifier="urn:vaguemestre:authority:RDV|R1", patient="")["id"] == found["id"]


def test_cancelled_before_it_was_booked(engine: Any) -> None:
    told = [
        siu("S12", "20260302100000", "RGS|1", "AIP|1||17^VASSEUR^Irma"),
        siu("S13", "20260302110000", "RGS|1", "AIP|1||17^VASSEUR^Irma", start="20260311090000"),
        siu("S15", "20260302120000", start="20260311090000"),
    ]
    found = []
    for raws in permutations(told):
        desk = Desk(engine)
        for raw in raws:
            desk.tell(raw)
        found.append(comparable(desk.one("Appointment")))
    assert (found[0]["status"], found[0]["start"]) == ("cancelled", "2026-03-11T09:00:00+01:00")
    assert all(one == found[0] for one in found)


def test_resources_are_added_and_taken_away(desk: Desk) -> None:
    def people() -> list[str]:
        return [one["actor"].get("display", "") for one in desk.one("Appointment")["participant"]][1:]

    desk.tell(siu("S12", "20260302100000", "RGS|1", "AIP|1||17^VASSEUR^Irma"))
    desk.tell(siu("S18", "20260302110000", "RGS|1", "AIP|2|A|18^NOIR^Eve"))
    assert people() == ["Irma VASSEUR", "Eve NOIR"]
    desk.tell(siu("S20", "20260302120000", "RGS|1", "AIP|1|D|17^VASSEUR^Irma"))
    assert people() == ["Eve NOIR"]
    desk.tell(siu("S26", "20260310093000"))
    assert desk.one("Appointment")["status"] == "noshow" and people() == ["Eve NOIR"]
    desk.tell(siu("S17", "20260311093000"))
    assert desk.find("Appointment") == [] and len(desk.versions(desk.one("Appointment", status="entered-in-error"))) == 5


# ---- téléradiologie ----


def tlr(kind: str, control: str, procedure: str, at: str, *segments: str) -> str:
    return message(
        kind,
        at,
        f"ORC|{control}|T9^^1.2.9^ISO|||||||{at}|||17^VASSEUR^Irma||||^Raison de {control}|||||Centre {control}",
        f"OBR||T9^^1.2.9^ISO||{procedure}",
        *segments,
        profile="1.0^CISIS_TLR_HL7_V2",
        pv1="PV1||O|||||||||||||||||R1^^^RDV",
    )


REQUEST = tlr("ORM^O01", "NW", "TRANSMISSION_DEMANDE", "20260302090000", "OBX|1|NM|8302-2^Taille^LN||170|cm|||||O")
CANCEL = tlr("ORM^O01", "CA", "ANNULATION_DEMANDE", "20260302100000")
ACCEPT = tlr("ORU^R01", "OK", "REPONSE_DEMANDE", "20260302110000")
REJECT = tlr("ORU^R01", "OC", "REPONSE_DEMANDE", "20260302110000")
COMPLEMENT = tlr("OMI^O23", "SR", "COMPLEMENT_POST_ACTE", "20260302120000", "IPC|A7^RIS|24590-2|1.2.3.4")


@pytest.mark.parametrize(
    ("told", "task", "request_"),
    [
        ((REQUEST,), "requested", "active"),
        ((REQUEST, ACCEPT), "accepted", "active"),
        ((REQUEST, REJECT), "rejected", "revoked"),
        ((REQUEST, CANCEL), "cancelled", "revoked"),
        ((REQUEST, CANCEL, ACCEPT), "cancelled", "revoked"),
        ((REQUEST, CANCEL, COMPLEMENT), "cancelled", "revoked"),
        ((REQUEST, ACCEPT, COMPLEMENT), "completed", "completed"),
        ((CANCEL,), "cancelled", "revoked"),
    ],
)
def test_a_request_is_the_same_whatever_the_order_of_its_messages(
    engine: Any, told: tuple[str, ...], task: str, request_: str
) -> None:
    found = []
    for raws in permutations(told):
        desk = Desk(engine)
        for raw in raws:
            desk.tell(raw)
        state, order_ = desk.one("Task"), desk.one("ServiceRequest")
        assert (state["status"], order_["status"]) == (task, request_), [raw[30:60] for raw in raws]
        assert state["focus"]["reference"] == f"ServiceRequest/{order_['id']}"
        assert patient_in(state) == desk.patients["4711"]
        assert len(desk.find("Task", focus=order_["id"])) == 1
        found.append((state["status"], state.get("requester"), state.get("owner"), sorted(map(repr, order_["identifier"]))))
    assert all(one == found[0] for one in found)


def test_a_request_leads_to_its_appointment(desk: Desk) -> None:
    desk.tell(REQUEST, siu("S12", "20260302080000"))
    references = desk.one("ServiceRequest")["supportingInfo"]
    assert f"Appointment/{desk.one('Appointment')['id']}" in {one.get("reference") for one in references}


# ---- search ----


def test_parameters(desk: Desk) -> None:
    desk.tell(order("20260302090000", rest="|||||||20260302085900", kind="OML^O21"))
    desk.tell(oru("20260302100000", f"{HB}|12|F", "777-3|250|P"))
    desk.tell(message("ORU^R01", "20260303100000", "OBR|1|P2|F2^LABO|1^X^L", "OBX|1|NM|718-7^Hb^LN||9|g/dL||LL|||F|||20260303"))
    number = f"urn:oid:1.2.9|{HB}"

    def values(**params: str) -> list[float]:
        return [one["valueQuantity"]["value"] for one in desk.find("Observation", **params)]

    assert values() == [9, 250, 12] or values() == [9, 12, 250]
    for asked in (LOINC, HB, f"{LOINC},http://loinc.org|absent", f"{HB},absent"):
        assert values(code=asked) == [9, 12], asked
        assert sorted(values(code=asked, patient="")) == [9, 12], asked
    assert values(code=number) == [] and values(code=f"|{HB}") == []
    assert values(code=LOINC, date="2026-03-02") == [12] and values(code=LOINC, date="ge2026-03-03") == [9]
    assert values(code=LOINC, category="laboratory") == [9, 12] and values(category="vital-signs") == []
    assert values(interpretation="L,LL") == [9] and values(code=LOINC, interpretation="HH") == []
    assert values(status="preliminary") == [250] and values(code=LOINC, status="preliminary") == []
    assert len(desk.find("ServiceRequest", authored="2026-03-02", code="58410-2", category="108252007", status="active")) == 1
    assert desk.find("ServiceRequest", authored="lt2026-03-02") == []
    assert len(desk.find("DiagnosticReport", code="http://loinc.org|58410-2", identifier="F1")) == 1
    assert len(desk.find("DiagnosticReport", category="LAB", date="2026-03")) == 1


def test_pages_led_by_a_code_hold_everything_once(desk: Desk) -> None:
    for n in range(25):
        desk.tell(oru(f"202603{n // 3 + 1:02d}100000", f"{HB}|{n}|F", filler=f"F{n}", taken=f"202603{n // 3 + 1:02d}080000"))
    params = [("patient", uid_text(desk.patients["4711"])), ("code", LOINC), ("_sort", "-date"), ("_total", "accurate")]
    seen: list[Json] = []
    after = ""
    while True:
        page = queries.search(desk.tx, "Observation", params, viewer=PROFESSIONAL, count=4, after=after)
        assert page.total == 25 and page.unknown == ()
        seen += page.entries
        if page.after is None:
            break
        after = page.after
    assert len({one["id"] for one in seen}) == 25
    dates = [one["effectiveDateTime"] for one in seen]
    assert dates == sorted(dates, reverse=True)


def test_a_trend_goes_over_a_merge(desk: Desk) -> None:
    desk.tell(oru("20260301100000", f"{HB}|10|F", filler="F0", taken="20260301080000", patient="4712"))
    desk.tell(order("20260302090000", patient="4712"), oru("20260302100000", f"{HB}|12|F"))
    prior = REGISTRY.identity(read(message("ADT^A40", "1", patient="4712").encode()), SITE)
    survivor = REGISTRY.identity(read(message("ADT^A40", "1").encode()), SITE)
    arrival = desk.arrival(RecordChange("t@1", survivor, {}, acts=(IdentityAct(IdentityActKind.MERGE, prior),)))
    apply_all(desk.tx, [arrival], next_id=desk.next_id, now_us=desk.now)
    for patient in ("4711", "4712"):
        assert [one["valueQuantity"]["value"] for one in desk.find("Observation", code=LOINC, patient=patient)] == [12, 10]
    request = desk.one("ServiceRequest", patient="4711")
    based = desk.find("Observation", patient="", based__on=request["id"])
    assert {one["valueQuantity"]["value"] for one in based} == {10, 12}
    assert all(one["basedOn"][0]["reference"] == f"ServiceRequest/{request['id']}" for one in based)


def test_searches_by_code_and_reference_read_no_table_whole(engine: Any) -> None:
    plans: list[str] = []
    real = engine.empty()

    class Explaining:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def rows(self, sql: str, *values: Any) -> list[Any]:
            plans.append(engine.plan(real, sql, *values))
            return list(real.rows(sql, *values))

    desk = Desk(engine)
    desk.tx = real
    desk.tell(oru("20260302100000", f"{HB}|12|F"))
    me = uid_text(desk.patients["4711"])
    tx: Any = Explaining()
    for params in (
        [("patient", me), ("code", LOINC)],
        [("patient", me), ("code", HB), ("date", "ge2026")],
        [("patient", me), ("code", f"{HB},x")],
        [("patient", me), ("category", "laboratory")],
        [("encounter", me)],
        [("based-on", me)],
    ):
        queries.search(tx, "Observation", params, viewer=PROFESSIONAL)
    assert len(plans) >= 6
    for plan in plans:
        assert "SCAN r" not in plan and "Seq Scan on resource" not in plan and "Seq Scan on token_index" not in plan, plan


def test_consents_are_found_by_their_code(desk: Desk) -> None:
    body: Json = {
        "status": "active",
        "scope": {"coding": [{"system": "urn:x", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "urn:y", "code": "INFA"}]}],
        "policyRule": {"text": "x"},
        "dateTime": "2026-03-02",
        "provision": {"type": "deny", "code": [{"coding": [{"system": "urn:vaguemestre:pam-fr:ZFA-9", "code": "IO"}]}]},
    }
    identity = REGISTRY.identity(read(message("ADT^A31", "1").encode()), SITE)
    change = RecordChange("t@1", identity, {}, resources=(ResourceChange("Consent", "urn:z|1", body, "ZFA"),))
    apply_all(desk.tx, [desk.arrival(change)], next_id=desk.next_id, now_us=desk.now)
    assert desk.one("Consent", code="IO", category="INFA", date="2026-03", status="active")["patient"]["reference"]
    assert desk.find("Consent", code="INO") == []


def test_nobody_owns_what_has_no_patient() -> None:
    assert patient_in({"resourceType": "Observation"}) is None
    assert patient_in({"resourceType": "Appointment", "participant": [{"actor": {"display": "x"}}]}) is None
    assert PatientIdentity().local == ()


# ---- any history ----

_STATES = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([HB, "777-3"]), st.integers(1, 20), st.sampled_from("PFCXDU")),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(_STATES, st.integers(0, 5))
def test_any_messages_twice_leave_the_record_as_once(engine: Any, told: list[tuple[int, str, int, str]], together: int) -> None:
    raws = [oru(f"2026030210{hour:02d}00", f"{code}|{value}|{status}") for hour, code, value, status in told]

    def everything(desk: Desk) -> list[tuple[Any, ...]]:
        sql = "SELECT key, version, status, body FROM resource WHERE type <> 'Patient' ORDER BY key"
        return [tuple(row) for row in desk.tx.rows(sql)]

    desk, other = Desk(engine), Desk(engine, 1)
    for raw in raws:
        desk.tell(raw)
    other.tell(*raws[:together])
    for raw in raws[together:]:
        other.tell(raw)
    once = everything(desk)
    assert everything(other) == once
    other.tell(raws[-1])
    assert everything(other) == once
