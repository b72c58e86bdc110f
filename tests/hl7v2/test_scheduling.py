"""SIU: an appointment with its state, times, people, places and services."""

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.er7 import read
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.hl7v2.siu import EVENTS, FILLER_STATUSES
from mappings.registry import builtin

REGISTRY = builtin()
SITE = Site(source="agenda")
PID = "PID|||4712^^^Z^PI||SAULNIER^Odile||19790114|F"
RDV = "urn:vaguemestre:authority:RDV"


def message(event, *segments, pid=PID):
    lines = [f"MSH|^~\\&|AGENDA|Z|HUB|Z|20260302101500||SIU^{event}|1|P|2.5||||||UNICODE UTF-8", *segments[:1]]
    lines += [*([pid] if pid else []), *segments[1:]]
    return read(("\r".join(lines) + "\r").encode())


def sch(
    *,
    placer="A1^DPI",
    filler="R1^RDV",
    reason="",
    why="CONTROLE^Contrôle^L",
    duration="30",
    unit="MIN",
    timing="^^^20260310090000",
    status="",
):
    return f"SCH|{placer}|{filler}||||{reason}|{why}|CONSULT^Consultation^L|{duration}|{unit}|{timing}{'|' * 14}{status}|O1^DPI"


def changes(taken):
    structure = REGISTRY.find(taken)
    structure.judge(taken, SITE)
    return structure.translate(taken, SITE).resources


def said(change):
    body = {name: value for name, value in {**change.defaults, **change.body}.items() if value is not None}
    patient = {"actor": {"reference": "Patient/1"}, "status": "accepted"}
    get_fhir_model_class("Appointment").model_validate({**body, "participant": [patient, *body.get("participant", ())]})
    return body


def appointment(event, *segments, **more):
    (change,) = changes(message(event, *segments, **more))
    return change


def refusal(taken):
    with pytest.raises(MessageRefused) as caught:
        changes(taken)
    return f"{caught.value.condition} {caught.value.at}"


def codes(taken):
    return {finding.code for finding in REGISTRY.find(taken).remarks(taken, SITE)}


RESOURCES = (
    "RGS|1",
    "AIS|1||ECHO^Échographie^L|20260310090000",
    "AIG|1||MACHINE2^Échographe 2^L|EQ^Équipement^L",
    "AIL|1||CS^12^^Z|CONS",
    "AIP|1||10000000017^VASSEUR^Irma^^^^^^&1.2.250.1.71.4.2.1&ISO^^^^RPPS|MED^Médecin^L||||||||Pending",
)


def test_an_appointment():
    change = appointment("S12", sch(), "PV1||O|||||||||||||||||V9", "NTE|1||Venir à jeun", *RESOURCES)
    assert (change.type, change.key, change.path, change.gathers) == ("Appointment", f"{RDV}|R1", "SCH", True)
    body = said(change)
    assert (body["status"], body["start"], body["end"]) == ("booked", "2026-03-10T09:00:00+01:00", "2026-03-10T09:30:00+01:00")
    assert body["minutesDuration"] == 30 and body["comment"] == "Venir à jeun"
    assert {one["type"]["coding"][0]["code"]: one["value"] for one in body["identifier"]} == {"FILL": "R1", "PLAC": "A1"}
    assert body["reasonCode"][0]["text"] == "Contrôle" and body["appointmentType"]["text"] == "Consultation"
    assert body["serviceType"][0]["text"] == "Échographie"
    machine, place, person = body["participant"]
    assert machine["actor"] == {"type": "Device", "display": "Échographe 2"} and machine["type"][0]["text"] == "Équipement"
    assert place["actor"]["identifier"] == {"system": "urn:vaguemestre:authority:Z", "value": "CS-12"}
    assert person["actor"]["identifier"]["value"] == "10000000017" and person["status"] == "needs-action"
    assert body["basedOn"][0] == {
        "type": "ServiceRequest",
        "identifier": {"system": "urn:vaguemestre:authority:DPI", "value": "O1"},
    }
    assert body["supportingInformation"][0]["identifier"]["value"] == "V9"


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("status", ["", "Pending", "Complete", "???", *FILLER_STATUSES])
def test_every_event_with_every_status(event, status):
    body = appointment(event, sch(status=status)).body
    if EVENTS[event] in ("cancelled", "entered-in-error", "noshow"):
        expected = EVENTS[event]
    else:
        expected = FILLER_STATUSES.get(status.upper(), EVENTS[event])
    assert body.get("status") == expected


def test_why_it_was_cancelled():
    body = said(appointment("S15", sch(reason="PAT^Annulé par le patient^L")))
    assert body["cancelationReason"]["text"] == "Annulé par le patient"
    assert "cancelationReason" not in said(appointment("S13", sch(reason="PAT^Déplacé^L")))


@pytest.mark.parametrize(
    ("segments", "times"),
    [
        ((sch(timing="^^^20260310090000^20260310094500", duration=""),), ("09:00:00", "09:45:00", None)),
        ((sch(duration="2", unit="HR"),), ("09:00:00", "11:00:00", 120)),
        ((sch(duration="900", unit="S"),), ("09:00:00", "09:15:00", 15)),
        ((sch(duration=""),), ("09:00:00", None, None)),
        ((sch(duration="0"),), ("09:00:00", None, None)),
        ((sch(timing=""), "TQ1|1||||||20260310100000|20260310103000"), ("10:00:00", "10:30:00", 30)),
        ((sch(timing="", duration=""), "AIS|1||E^E^L|20260310110000|||20|MIN"), ("11:00:00", "11:20:00", 20)),
        ((sch(timing=""), "AIP|1||1^A|||20260310120000"), ("12:00:00", "12:30:00", 30)),
    ],
)
def test_times(segments, times):
    body = said(appointment("S12", *segments))
    found = [body.get(name, "T") and body[name][11:19] if name in body else None for name in ("start", "end")]
    assert (*found, body.get("minutesDuration")) == times


def test_a_moved_appointment_says_all_its_times():
    body = appointment("S13", sch(duration="")).body
    assert body["end"] is None and body["minutesDuration"] is None
    assert "start" not in appointment("S15", sch(timing="")).body


def test_the_end_across_the_spring_change():
    body = said(appointment("S12", sch(timing="^^^20260329013000", duration="60")))
    assert (body["start"], body["end"]) == ("2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00")


@pytest.mark.parametrize(
    ("event", "action", "adds", "removes"),
    [
        ("S18", "", 1, 0),
        ("S18", "A", 1, 0),
        ("S19", "", 1, 0),
        ("S19", "D", 0, 1),
        ("S20", "", 0, 1),
        ("S21", "", 0, 1),
        ("S22", "", 0, 1),
        ("S22", "A", 1, 0),
    ],
)
def test_single_resources(event, action, adds, removes):
    change = appointment(event, sch(), f"AIP|1|{action}|17^MARTEL^Luc", f"AIS|1|{action}|X^Radio^L")
    for name in ("participant", "serviceType"):
        assert (len(change.adds.get(name, ())), len(change.removes.get(name, ()))) == (adds, removes)
        assert name not in change.body


def test_a_whole_appointment_leaves_out_what_it_takes_away():
    change = appointment("S14", sch(), "AIP|1|D|17^MARTEL^Luc", "AIP|2|A|18^NOIR^Eve")
    assert [one["actor"]["display"] for one in change.body["participant"]] == ["Eve NOIR"]
    assert not change.adds and not change.removes


def test_known_by_its_placer_when_the_filler_gives_no_number():
    assert appointment("S12", sch(filler="")).key == "urn:vaguemestre:authority:DPI|A1"


def test_without_patient():
    taken = message("S15", sch(), pid="")
    assert codes(taken) == {"NO_PATIENT"} and changes(taken)[0].gathers
    assert REGISTRY.find(taken).translate(taken, SITE).patient is None


@pytest.mark.parametrize(
    ("taken", "answer"),
    [
        (message("S12", "NTE|1"), "100 SCH"),
        (message("S12", sch(placer="", filler="")), "101 SCH-2"),
        (message("S12", sch(timing="")), "101 SCH-11.4"),
        (message("S13", sch(timing="")), "101 SCH-11.4"),
        (message("S12", sch(timing="^^^demain")), "102 SCH-11.4"),
        (message("S12", sch(timing=""), "TQ1|1||||||demain"), "102 TQ1-7"),
        (message("S12", sch(), PID), "198 PID[2]"),
        (message("S12", sch(), pid="PID|||||SANS^Numéro"), "101 PID-3"),
    ],
)
def test_refused(taken, answer):
    assert refusal(taken) == answer


def test_findings():
    assert codes(message("S14", sch(status="Bizarre"))) == {"SCH_STATUS"}
    assert codes(message("S14", sch(timing="^^^demain"))) == {"TS_INVALID"}
    assert codes(message("S12", sch())) == set()


_TEXT = st.text('|^~\\&AZaz019<>=.-:/ "é\x00', max_size=40)
_SEGMENTS = st.sampled_from(["SCH|", "SCH|A|", "AIS|1|", "AIG|1|", "AIL|1||", "AIP|1||", "TQ1|1||||||", "NTE|1||", "RGS|"])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(_SEGMENTS, _TEXT), max_size=8), st.sampled_from(sorted(EVENTS)), st.booleans())
def test_nothing_crashes_a_mapping(parts, event, ordinary):
    taken = message(event, *([sch()] if ordinary else []), *(name + text for name, text in parts))
    structure = REGISTRY.find(taken)
    try:
        structure.judge(taken, SITE)
    except MessageRefused as refused:
        assert refused.at
        return
    structure.remarks(taken, SITE)
    for one in structure.translate(taken, SITE).resources:
        said(one)
