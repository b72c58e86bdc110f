"""Téléradiologie: the four flows, their states, and what does not go together."""

import base64

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.er7 import read
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.hl7v2.teleradiology import FLOWS
from mappings.hl7v2.teleradiology_states import FIRST, NEXT, REQUEST_STAYS, TaskEvent, TaskState, unmoved
from mappings.registry import builtin

REGISTRY = builtin()
SITE = Site(source="ris")
NUMBER = "T9^^1.2.250.9.77^ISO"
KEY = "urn:oid:1.2.250.9.77|T9"
DOCTOR = "10000000017^VASSEUR^Irma^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^^^^RPPS"
CENTRE = "Centre Nord^^^^^ASIP-SANTE-ST&1.2.250.1.71.4.2.2&ISO^FINEG^^^300017985"


def message(
    kind, control, procedure, *segments, reason="", number=NUMBER, obr_number=NUMBER, pv1="PV1||O|||||||||||||||||R7^^^RDV"
):
    lines = [
        f"MSH|^~\\&|RIS|Z|TLR|Z|20260302101500||{kind}|1|P|2.5.1|||||FRA|UNICODE UTF-8|||1.0^CISIS_TLR_HL7_V2",
        "PID|||4712^^^Z^PI||SAULNIER^Odile||19790114|F",
        *([pv1] if pv1 else []),
        f"ORC|{control}|{number}|||||||20260302100000|||{DOCTOR}||||{reason}|STRUCTURE_IMAGERIE^^TLR_TYPE_ORGANISATION||||{CENTRE}",
        f"OBR||{obr_number}||{procedure}^x^TLR_OBR_PROCEDURE|||||||||Chute",
        *segments,
    ]
    return read(("\r".join(lines) + "\r").encode())


def request(*segments, **more):
    return message("ORM^O01", "NW", "TRANSMISSION_DEMANDE", *segments, **more)


def complement(*segments, **more):
    return message("OMI^O23", "SR", "COMPLEMENT_POST_ACTE", *segments, **more)


def answer(control, *segments, **more):
    return message("ORU^R01", control, "REPONSE_DEMANDE", *segments, **{"pv1": "", **more})


def changes(taken):
    structure = REGISTRY.find(taken)
    structure.judge(taken, SITE)
    return structure.translate(taken, SITE).resources


def one(kind, taken):
    (found,) = [change for change in changes(taken) if change.type == kind]
    return found


def said(change):
    body = {name: value for name, value in {**change.defaults, **change.body, **change.adds}.items() if value is not None}
    subject = {"for": {"reference": "Patient/1"}} if change.type == "Task" else {"subject": {"reference": "Patient/1"}}
    get_fhir_model_class(change.type).model_validate({**body, **subject})
    return body


def codes(taken):
    return {finding.code for finding in REGISTRY.find(taken).remarks(taken, SITE)}


def obx(code, value, *, kind="CE", sub="", system="TLR_OBSERVATION", unit="", flag=""):
    return f"OBX|1|{kind}|{code}^{code}^{system}|{sub}|{value}|{unit}||{flag}|||F"


def b64(text):
    return f"^TEXT^^Base64^{base64.b64encode(text.encode()).decode()}"


def test_request():
    taken = request(
        "NTE|||Finalité|FINALITE_EXAMEN^^HL70364",
        obx("MODALITE_IMAGERIE", "MR^IRM^DCM"),
        "NTE|||Sans gadolinium|MODALITE_IMAGERIE^^HL70364",
        obx("REGION_ANATOMIQUE", "774007^tête et/ou cou^SCT", sub="1.1"),
        obx("REGION_ANATOMIQUE", "24028007^côté droit^SCT", sub="1.2"),
        obx("11322-5", "Antécédents", kind="FT", system="LN", flag="MAJEUR"),
        obx("8302-2", "170", kind="NM", system="LN", unit="cm"),
        obx("82810-3", "N^^expandedYes-NoIndicator", system="LN"),
    )
    order, task = one("ServiceRequest", taken), one("Task", taken)
    assert order.key == task.key == KEY
    body = said(order)
    assert body["status"] == "active" and "code" not in body
    assert body["orderDetail"][0]["coding"][0]["code"] == "MR"
    (site,) = body["bodySite"]
    assert site["coding"][0]["code"] == "774007" and site["extension"][0]["valueCodeableConcept"]["text"] == "côté droit"
    assert body["reasonCode"] == [{"text": "Chute"}]
    assert [note["text"] for note in body["note"]] == ["Finalité", "Sans gadolinium"]
    assert body["requester"]["identifier"]["value"] == "10000000017"
    kinds = [ref["type"] for ref in body["supportingInfo"]]
    assert kinds == ["Observation", "Observation", "Observation", "Appointment"]
    assert body["supportingInfo"][-1]["identifier"] == {"system": "urn:vaguemestre:authority:RDV", "value": "R7"}
    observations = [said(change) for change in changes(taken) if change.type == "Observation"]
    assert observations[0]["interpretation"][0]["coding"][0]["code"] == "MAJEUR"
    assert observations[1]["category"][0]["coding"][0]["code"] == "vital-signs"
    state = said(task)
    assert (state["status"], state["focus"]["identifier"]["value"]) == ("requested", "T9")
    assert state["requester"]["display"] == "Centre Nord" and state["authoredOn"] == "2026-03-02T10:00:00+01:00"
    assert [change.type for change in changes(taken)].count("Encounter") == 0


def test_cancellation():
    taken = message("ORM^O01", "CA", "ANNULATION_DEMANDE", reason="ERR^Erreur de patient^L")
    assert said(one("ServiceRequest", taken))["status"] == "revoked"
    task = said(one("Task", taken))
    assert (task["status"], task["statusReason"]["text"]) == ("cancelled", "Erreur de patient")
    assert "REASON_MISSING" in codes(message("ORM^O01", "CA", "ANNULATION_DEMANDE"))


def test_answers():
    yes = answer("OK", obx("PROTOCOLE_IMAGERIE", b64("T1 puis T2"), kind="ED"))
    assert said(one("Task", yes))["status"] == "accepted" and said(one("Task", yes))["owner"]["display"] == "Centre Nord"
    assert said(one("Task", yes))["output"][0]["valueString"] == "T1 puis T2"
    assert "requester" not in one("ServiceRequest", yes).body and one("ServiceRequest", yes).body["status"] == "active"
    no = answer("OC", reason="^Machine en panne")
    assert (said(one("Task", no))["status"], said(one("Task", no))["statusReason"]["text"]) == ("rejected", "Machine en panne")
    assert said(one("ServiceRequest", no))["status"] == "revoked"
    text = answer("OK", obx("PROTOCOLE_IMAGERIE", "T1\\.br\\T2", kind="FT"))
    assert said(one("Task", text))["output"][0]["valueString"] == "T1\nT2"


def test_complement():
    taken = complement(
        "TQ1||||||730^jours|20260302184418",
        obx("URL_PARTIELLE_VIEWER", b64("drimbox.example/viewer?studyUID=1.2.3"), kind="ED"),
        obx("CODE_ACTE_IMAGERIE", "24590-2^IRM cérébrale^LN"),
        obx("PRODUIT_ADMINISTRE", "V09^^ATC", sub="1.1"),
        obx("PRODUIT_ADMINISTRE", "0123", kind="NM", sub="1.2"),
        obx("PRODUIT_ADMINISTRE", "1", kind="NM", sub="1.3", unit="ml"),
        obx("PRODUIT_ADMINISTRE", "V08^^ATC", sub="2.1"),
        obx("APPAREIL_IMAGERIE", "987", kind="TX", sub="1.1"),
        obx("APPAREIL_IMAGERIE", "Modèle X", kind="TX", sub="1.2"),
        "IPC|A7^^1.2.250.9.78^ISO|24590-2^^2.16.840.1.113883.6.1^ISO|1.2.250.9.9.7|24590-2",
    )
    body = said(one("ServiceRequest", taken))
    assert body["status"] == "completed" and body["code"]["coding"][0]["code"] == "24590-2"
    assert body["occurrenceDateTime"] == "2026-03-02T18:44:18+01:00"
    assert {"system": "urn:dicom:uid", "value": "urn:oid:1.2.250.9.9.7"} in body["identifier"]
    assert any(one["value"] == "A7" and one["system"] == "urn:oid:1.2.250.9.78" for one in body["identifier"])
    task = said(one("Task", taken))
    assert task["status"] == "completed"
    address, kept = task["output"]
    assert address["valueString"] == "drimbox.example/viewer?studyUID=1.2.3" and kept["valueDuration"]["value"] == 730
    first, second, device = [said(change) for change in changes(taken) if change.type == "Observation"]
    assert [part.get("valueString") for part in first["component"]] == [None, "0123", None]
    assert first["component"][0]["valueCodeableConcept"]["coding"][0]["code"] == "V09"
    assert len(second["component"]) == 1 and [part["valueString"] for part in device["component"]] == ["987", "Modèle X"]


def test_procedure_of_ipc_when_no_observation_codes_it():
    body = said(one("ServiceRequest", complement("IPC|A7|24590-2^^2.16.840.1.113883.6.1^ISO|1.2.3")))
    assert body["code"]["coding"] == [{"system": "http://loinc.org", "code": "24590-2"}]


@pytest.mark.parametrize("procedure", [*FLOWS, "AUTRE"])
@pytest.mark.parametrize("control", ["NW", "CA", "OK", "OC", "SR", "XO"])
@pytest.mark.parametrize("kind", ["ORM^O01", "ORU^R01", "OMI^O23"])
def test_every_flow_with_every_control(kind, control, procedure):
    taken = message(kind, control, procedure)
    expected = None
    if procedure not in FLOWS:
        expected = "103 OBR-4"
    elif FLOWS[procedure][0] != kind or control not in FLOWS[procedure][1]:
        expected = "207 OBR-4"
    if expected is None:
        assert {change.type for change in changes(taken)} == {"ServiceRequest", "Task"}
        return
    with pytest.raises(MessageRefused) as refused:
        changes(taken)
    assert f"{refused.value.condition} {refused.value.at}" == expected


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        (request(number=""), "101 ORC-2"),
        (request(obr_number=""), "101 OBR-2"),
        (request(obr_number="T8^^1.2.250.9.77^ISO"), "207 OBR-2"),
        (request(obr_number="T9^^1.2.250.9.99^ISO"), "207 OBR-2"),
        (message("ORM^O01", "", "TRANSMISSION_DEMANDE"), "101 ORC-1"),
        (message("ORM^O01", "NW", ""), "101 OBR-4"),
        (read(request().raw.replace(b"\rOBR|", b"\rZZZ|")), "100 OBR"),
        (read(request().raw.replace(b"\rORC|", b"\rZZZ|")), "100 ORC"),
        (read(request().raw.replace(b"\rPID|", b"\rZZZ|")), "100 PID"),
    ],
)
def test_refused(taken, expected):
    with pytest.raises(MessageRefused) as refused:
        changes(taken)
    assert f"{refused.value.condition} {refused.value.at}" == expected


def test_findings():
    assert codes(answer("OK", obx("PROTOCOLE_IMAGERIE", "^TEXT^^Base64^*!*", kind="ED"))) == {"BASE64_INVALID"}
    assert codes(request(obx("AUTRE_CHOSE", "X"))) == {"TLR_OBSERVATION"}
    assert codes(request()) == set()
    assert "output" not in one("Task", answer("OK", obx("PROTOCOLE_IMAGERIE", "^TEXT^^Base64^*!*", kind="ED"))).adds


@pytest.mark.parametrize("event", TaskEvent)
@pytest.mark.parametrize("state", TaskState)
def test_every_cell_of_the_states(state, event):
    moved = NEXT.get((state, event))
    assert (state.value in unmoved(event)) == (moved is None)
    final = {TaskState.REJECTED, TaskState.CANCELLED, TaskState.COMPLETED}
    if state in final:
        assert moved in (None, state)
    if moved is not None:
        assert moved is FIRST[event]
    if moved is None:  # the request stays as it is too
        stands, would_be = ORDERS.get(state, "active"), ORDERS.get(FIRST[event], "active")
        assert stands in REQUEST_STAYS[event] or stands == would_be


ORDERS = {TaskState.REJECTED: "revoked", TaskState.CANCELLED: "revoked", TaskState.COMPLETED: "completed"}
_TEXT = st.text('|^~\\&AZ019<>=.-:/ "é\x00', max_size=40)
_SEGMENTS = st.sampled_from(
    [
        *(f"OBX|1|CE|{code}^x^TLR_OBSERVATION|1.1|" for code in ("REGION_ANATOMIQUE", "PRODUIT_ADMINISTRE", "AUTRE")),
        "OBX|1|ED|URL_PARTIELLE_VIEWER||",
        "OBX|",
        "IPC|",
        "TQ1|",
        "NTE|",
        "ORC|",
        "OBR|",
    ]
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(_SEGMENTS, _TEXT), max_size=8), st.sampled_from([request, complement, lambda *s: answer("OK", *s)]))
def test_nothing_crashes_a_mapping(parts, make):
    taken = make(*(name + text for name, text in parts))
    structure = REGISTRY.find(taken)
    structure.judge(taken, SITE)
    structure.remarks(taken, SITE)
    found = structure.translate(taken, SITE).resources
    assert len({(change.type, change.key) for change in found}) == len(found)
    for change in found:
        said(change)
