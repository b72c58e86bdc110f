"""ADT messages: what they say of the patient and the stay, field by field, and what stays unsaid."""

from pathlib import Path

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.er7 import read, splice
from hub.model.record_change import merged
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.registry import builtin

REGISTRY = builtin()
SITE = Site(source="his")
ADT = (Path(__file__).parent.parent / "vectors" / "hl7v2" / "adt_pam.hl7").read_text("utf-8").replace("\n", "\r").encode()
AUTHORITY = "urn:vaguemestre:authority:290000017"


def adt(changes=None, *, drop=(), event="A01"):
    message = read(splice(read(ADT), {"MSH-9": f"ADT^{event}".encode(), **{k: v.encode() for k, v in (changes or {}).items()}}))
    return read(b"\r".join(segment.line() for segment in message.segments() if segment.name not in drop) + b"\r")


def translated(changes=None, site=SITE, **kwargs):
    message = adt(changes, **kwargs)
    return REGISTRY.find(message).translate(message, site)


def findings(changes=None, site=SITE, **kwargs):
    message = adt(changes, **kwargs)
    structure = REGISTRY.find(message)
    structure.judge(message, site)
    return {(finding.code, finding.at) for finding in structure.remarks(message, site)}


def refusal(changes=None, **kwargs):
    with pytest.raises(MessageRefused) as caught:
        findings(changes, **kwargs)
    return caught.value.condition, caught.value.at


def valid(kind, body, **required):
    get_fhir_model_class(kind).model_validate({"resourceType": kind, **required, **body})


# ---- the patient ----------------------------------------------------------------------------------------------------


def test_identity():
    identity = translated().identity
    assert [(one.system, one.value, one.kind) for one in identity.local] == [(AUTHORITY, "4711", "PI")]
    assert [ins.value for ins in identity.ins] == ["284057512345672"]  # the billing NIR is not an INS
    assert identity.usable_ins is not None and identity.usable_ins.key_is_right
    assert identity.statuses == ("VALI", "HOMA")
    assert identity.traits == ("LACAILLE", "19840512", "F")
    assert (identity.first_given_name, identity.birth_given_names, identity.used_name) == ("Odette", "Odette Berthe", "BRIAND")
    assert identity.birth_place == "29042"
    assert findings() == set()


def test_patient():
    patient = merged({}, translated().patient)
    valid("Patient", patient)
    extensions = {one["url"].rsplit("/", 1)[-1]: one for one in patient["extension"]}
    status = extensions["fr-core-identity-reliability"]["extension"]
    assert status.pop(1)["valueCodeableConcept"]["coding"][0]["code"] == "HOMA"
    assert [(one["url"], one.get("valueDate") or one["valueCoding"]["code"]) for one in status] == [
        ("identityStatus", "VALI"),
        ("methodCollection", "INSI"),
        ("dateCollection", "2025-12-01"),
    ]
    place = extensions["patient-birthPlace"]["valueAddress"]
    assert (place["city"], place["extension"][0]["valueCoding"]["code"]) == ("CROZON", "29042")
    official, usual = patient["name"]
    assert (official["use"], official["family"], official["given"]) == ("official", "LACAILLE", ["Odette"])
    assert official["extension"][0]["valueString"] == "Odette Berthe"
    assert (usual["use"], usual["family"], usual["given"]) == ("usual", "BRIAND", ["Odette"])
    assert (patient["gender"], patient["birthDate"], patient["deceasedBoolean"]) == ("female", "1984-05-12", False)
    (home,) = patient["address"]
    assert (home["use"], home["line"], home["postalCode"]) == ("home", ["3 quai des Brumes", "bât. C"], "29200")
    assert patient["telecom"] == [
        {"system": "phone", "value": "0611223344", "use": "mobile"},
        {"system": "email", "value": "odette@example.org", "use": "work"},
    ]
    assert patient["generalPractitioner"][0]["identifier"] == {"system": "https://rpps.esante.gouv.fr", "value": "10000000025"}


def test_absent_says_nothing_and_null_removes():
    before = merged({}, translated().patient)
    silent = translated(
        {"PID-7": "", "PID-8": "", "PID-11": "", "PID-13": "", "PID-14": "", "PID-30": "", "PID-32": ""}, drop=("ROL", "ZFD")
    ).patient
    assert merged(before, silent) == before
    said = translated({"PID-7": '""', "PID-11": '""', "PID-13": '""', "PID-14": '""'}).patient
    after = merged(before, said)
    assert not after.keys() & {"birthDate", "address", "telecom"}
    assert after["gender"] == "female"


def test_used_name_removed_by_null():
    changed = translated({"PID-5": 'LACAILLE^Odette^Odette Berthe^^^^L~""^^^^^^D'})
    assert changed.identity.used_name == ""
    assert [name["use"] for name in changed.patient["name"]] == ["official"]


@pytest.mark.parametrize(
    ("died", "said", "expected"),
    [
        ("20260301", "Y", {"deceasedDateTime": "2026-03-01"}),
        ("202603011215", "", {"deceasedDateTime": "2026-03-01T12:15:00+01:00"}),
        ("", "Y", {"deceasedBoolean": True}),
        ("", "N", {"deceasedBoolean": False}),
        ("20260301", "N", {"deceasedBoolean": False}),
        ("", "", {}),
        ('""', '""', {}),
    ],
)
def test_deceased(died, said, expected):
    patient = merged({}, translated({"PID-29": died, "PID-30": said}).patient)
    assert {name: value for name, value in patient.items() if name.startswith("deceased")} == expected


@pytest.mark.parametrize(
    ("sent", "shown", "told"),
    [
        ("19840512", "1984-05-12", False),
        ("198405", "1984-05", False),
        ("1984", "1984", False),
        ("19840512103000", "1984-05-12", False),
        ("19840500", "1984-05", False),
        ("19840000", "1984", False),
        ("19841352", None, True),
        ("19840230", None, True),
        ("20000229", "2000-02-29", False),
        ("19000229", None, True),
        ("mai 1984", None, True),
    ],
)
def test_birth_date(sent, shown, told):
    assert translated({"PID-7": sent}).patient.get("birthDate") == shown
    assert (("BIRTH_DATE", "PID-7") in findings({"PID-7": sent})) is told


@pytest.mark.parametrize(
    ("sent", "system"),
    [
        ("1^^^&1.2.250.9.1&ISO^PI", "urn:oid:1.2.250.9.1"),
        ("1^^^X&1.2.250.9.1^PI", "urn:oid:1.2.250.9.1"),
        ("1^^^1.2.250.9.1^PI", "urn:oid:1.2.250.9.1"),
        ("1^^^X&290000017&N^PI", AUTHORITY),
        ("1^^^X^PI", "urn:vaguemestre:authority:X"),
        ("1^^^Hôp Z^PI", "urn:vaguemestre:authority:H%C3%B4p%20Z"),
        ("1^^^^PI", "urn:vaguemestre:source:his"),
        ("1", "urn:vaguemestre:source:his"),
        ("1^^^X&AB-12&UUID^MR", "urn:uuid:ab-12"),
    ],
)
def test_one_naming_of_authorities(sent, system):
    (number,) = translated({"PID-3": sent}).identity.local
    assert (number.system, number.value) == (system, "1")


@pytest.mark.parametrize("kind", ["AN", "VN", "NDP", "INS-C", "NH", "PPN"])
def test_other_numbers_are_no_ipp(kind):
    assert translated({"PID-3": f"1^^^X^{kind}"}).identity.local == ()


INS = "^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS"


@pytest.mark.parametrize(
    ("pid_3", "pid_32", "told"),
    [
        (f"284057512345672{INS}", "VALI", set()),
        (f"284057512345600{INS}", "VALI", {("INS_KEY", "PID-3")}),
        (f"284057512345672{INS}", "PROV", {("INS_NOT_QUALIFIED", "PID-32")}),
        (f"284057512345672{INS}", "", {("INS_NOT_QUALIFIED", "PID-32")}),
        (f"28405751234567{INS}", "VALI", {("INS_SHAPE", "PID-3")}),
        ("284057512345672^^^X&1.2.3&ISO^INS", "VALI", {("INS_SHAPE", "PID-3")}),
        (f"184062A12345601{INS}", "VALI", set()),
        (f"184062b12345628{INS}", "VALI", set()),
        ("4711^^^X^PI", "PROV", set()),
    ],
)
def test_ins_findings(pid_3, pid_32, told):
    found = findings({"PID-3": pid_3, "PID-32": pid_32})
    assert found == told
    usable = translated({"PID-3": pid_3, "PID-32": pid_32}).identity.usable_ins
    if pid_32 != "VALI":
        assert usable is None


def test_required():
    assert refusal(drop=("PID",)) == ("100", "PID")
    assert refusal({"PID-3": ""}) == ("101", "PID-3")
    assert refusal({"PID-3": '""'}) == ("101", "PID-3")
    assert refusal({"PID-5": ""}) == ("101", "PID-5")


def test_refusals_and_findings_tell_no_value():
    message = adt({"PID-3": f"284057512345600{INS}", "PID-7": "19841352", "PID-32": "PROV", "ZBE-4": "ODETTE"})
    told = str(REGISTRY.find(message).remarks(message, SITE))
    assert not any(value in told for value in ("2840575", "LACAILLE", "Odette", "19841352", "ODETTE"))


# ---- the stay -------------------------------------------------------------------------------------------------------


def test_encounter():
    (stay,) = translated().resources
    assert (stay.type, stay.key, stay.path) == ("Encounter", f"{AUTHORITY}|000777", "PV1")
    body = merged({}, stay.body, stay.defaults)
    valid("Encounter", body)
    assert [(one["type"]["coding"][0]["code"], one["value"]) for one in body["identifier"]] == [("VN", "000777"), ("AN", "5500")]
    assert (body["status"], body["class"]["code"]) == ("in-progress", "IMP")
    assert body["period"] == {"start": "2026-03-02T10:00:00+01:00"}
    assert body["location"][0]["location"]["display"] == "NEPH 12 B"
    assert body["serviceProvider"] == {"display": "CH-Z", "identifier": {"system": AUTHORITY, "value": "290000017"}}
    assert body["serviceType"] == {"coding": [{"system": AUTHORITY, "code": "6268"}], "text": "Néphrologie"}
    assert body["participant"][0]["individual"]["identifier"]["value"] == "10000000017"
    assert stay.event_time == 1_772_442_900_000_000


@pytest.mark.parametrize(
    ("event", "end", "status"),
    [
        ("A01", "", "in-progress"),
        ("A02", "", "in-progress"),
        ("A08", "", "in-progress"),
        ("A03", "202603051100", "finished"),
        ("A03", "", "finished"),
        ("A08", "202603051100", "finished"),
        ("A31", "", None),
        ("A28", "", None),
    ],
)
def test_status_by_event(event, end, status):
    (stay,) = translated({"PV1-45": end}, event=event).resources
    assert stay.body.get("status") == status
    assert stay.defaults["status"] == "unknown"


def test_discharge_keeps_the_start():
    admitted = translated().resources[0]
    left = translated({"PV1-44": "", "PV1-45": "20260305110000", "MSH-7": "20260305110500"}, event="A03").resources[0]
    period = merged(admitted.body, left.body)["period"]
    assert period == {"start": "2026-03-02T10:00:00+01:00", "end": "2026-03-05T11:00:00+01:00"}


@pytest.mark.parametrize(
    ("kind", "code"), [("I", "IMP"), ("E", "EMER"), ("O", "AMB"), ("R", "AMB"), ("V", "VR"), ("", "UNK"), ("Q", "UNK")]
)
def test_class(kind, code):
    (stay,) = translated({"PV1-2": kind}).resources
    assert merged({}, stay.body, stay.defaults)["class"]["code"] == code


@pytest.mark.parametrize("changes", [{"PV1-2": "N"}, {"PV1-19": ""}, {"PV1-19": '""'}])
def test_no_stay(changes):
    assert translated(changes).resources == ()


def test_no_visit_number_is_told():
    assert findings({"PV1-19": ""}) == {("NO_VISIT_NUMBER", "PV1-19")}
    assert translated(drop=("PV1", "ZBE"), event="A31").resources == ()


def test_movement_shifted_by_one_field():
    shifted = {
        "ZBE-3": "20260302100000",
        "ZBE-4": "20260302100000",
        "ZBE-5": "INSERT",
        "ZBE-6": "N",
        "ZBE-7": "",
        "ZBE-8": "Néphrologie^^^^^CH-Z&290000017&M^UF^^^6268",
    }
    assert findings(shifted) == {("ZBE_SHIFTED", "ZBE-4")}
    assert translated(shifted).resources[0].body["serviceType"]["text"] == "Néphrologie"
    assert findings({"ZBE-4": "NEW"}) == {("ZBE_ACTION", "ZBE-4")}


def test_hour_that_autumn_doubles():
    changes = {"PV1-44": "20261025023000"}
    assert findings(changes) == {("TS_AMBIGUOUS", "PV1-44")}
    assert translated(changes).resources[0].body["period"]["start"] == "2026-10-25T02:30:00+02:00"


def test_other_separators_and_charset():
    text = ADT.decode().replace("UNICODE UTF-8", "8859/15")
    odd = text.replace("|^~\\&|", "\0").replace("~", "˜").replace("\0", "|^˜\\&|").replace("8859/15", "UNICODE UTF-8").encode()
    for raw in (text.encode("iso8859-15"), odd):
        message = read(raw)
        change = REGISTRY.find(message).translate(message, SITE)
        assert change.patient == translated().patient
        assert change.resources[0].body["serviceType"]["text"] == "Néphrologie"


def test_escapes_and_bytes_of_another_charset():
    message = read(splice(read(ADT), {"PID-5": b"O\\T\\BRIEN\\S\\X^Th\xe9o^^^^^L"}))
    identity = REGISTRY.identity(message, SITE)
    assert (identity.birth_name, identity.first_given_name) == ("O&BRIEN^X", "Théo")


@settings(deadline=None)
@given(data=st.data())
def test_mutated_messages_never_crash(data):
    raw = bytearray(ADT)
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.sampled_from(b'|^~\\&\r\nA0"\xff\x00.-+'))
    try:
        message = read(bytes(raw))
        REGISTRY.admit(message, SITE)
        structure = REGISTRY.find(message)
        if structure is not None:
            structure.judge(message, SITE)
            structure.translate(message, SITE)
    except MessageRefused as refused:
        assert refused.at


@settings(deadline=None)
@given(
    field=st.sampled_from(
        ["PID-3", "PID-5", "PID-7", "PID-11", "PID-13", "PID-29", "PV1-3", "PV1-7", "PV1-19", "PV1-44", "ZBE-7"]
    ),
    value=st.text('^~&\\|0129AZé"\x00-:+. ', max_size=40),
)
def test_any_field_gives_valid_fhir_or_a_refusal(field, value):
    message = read(splice(read(ADT), {field: value.replace("|", "").encode()}))
    structure = REGISTRY.find(message)
    try:
        structure.judge(message, SITE)
    except MessageRefused:
        return
    change = structure.translate(message, SITE)
    valid("Patient", merged({}, change.patient))
    for stay in change.resources:
        valid("Encounter", merged({}, stay.body, stay.defaults))
