"""ZFA ZFD ZFM ZFP ZFS ZFV, PV2, NK1 and PD1: what each becomes, and what is told when it is no value of its table."""

from __future__ import annotations

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.er7 import read
from hub.model.record_change import merged
from hub.model.site import Site
from mappings.hl7v2.adt import Adt

SITE = Site(source="his")
BASE = (
    "MSH|^~\\&|GAM|CH-Z|DPI|CH-Z|20260302101500||ADT^{event}|A1|P|2.5^FRA^2.11|||||FRA|UNICODE UTF-8|FR",
    "EVN||20260302101500||||20260302100000",
    "PID|1||4711^^^CH-Z&290000017&M^PI||LACAILLE^Odette^^^^^L||19840512|F",
)
STAY = (
    "PV1|1|I|NEPH^12^B^CH-Z&290000017&M|R|PRE1^^^CH-Z&290000017&M|||||||||7|||||000777^^^CH-Z&290000017&M^VN",
    "ZBE|9^CH-Z^290000017^M|20260302100000||INSERT|N|||Soins^^^^^CH-Z&290000017&M^UF^^^6270|HMS",
)


def adt(*segments, event="A01", stay=STAY):
    return read("\r".join([*(line.format(event=event) for line in BASE), *stay, *segments, ""]).encode())


def translated(*segments, **kwargs):
    return Adt().translate(adt(*segments, **kwargs), SITE)


def told(*segments, **kwargs):
    return {(one.code, one.at) for one in Adt().remarks(adt(*segments, **kwargs), SITE)}


def consents(*segments, **kwargs):
    found = [one for one in translated(*segments, **kwargs).resources if one.type == "Consent"]
    for one in found:
        get_fhir_model_class("Consent").model_validate({"resourceType": "Consent", **merged({}, one.body, one.defaults)})
    return found


def encounter(*segments, **kwargs):
    change = translated(*segments, **kwargs)
    body = merged({}, change.resources[0].body, change.resources[0].defaults)
    get_fhir_model_class("Encounter").model_validate({"resourceType": "Encounter", **body})
    facts = merged({}, change.movements[0].facts)
    assert all(facts.get(name) == body.get(name) for name in ("hospitalization", "extension", "priority", "reasonCode"))
    return body


def patient(*segments, **kwargs):
    body = merged({}, translated(*segments, **kwargs).patient)
    get_fhir_model_class("Patient").model_validate({"resourceType": "Patient", **body})
    return body


def extensions(body):
    return {
        one["url"].rpartition("/")[2].rpartition(":")[2]: next(value for name, value in one.items() if name != "url")
        for one in body.get("extension", ())
    }


# ---- ZFA -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [("IO", "active", "deny"), ("INO", "active", "permit"), ("NA", "draft", None), ("ino", "active", "permit")],
)
def test_feeding(code, status, kind):
    (feeding,) = consents(f"ZFA||||||||| {code} |20260301")
    assert (feeding.key, feeding.path) == ("{patient}|dmp-feeding", "ZFA")
    body = merged({}, feeding.body, feeding.defaults)
    assert (body["status"], body["provision"].get("type")) == (status, kind)
    assert body["provision"]["code"][0]["coding"][0]["code"] == code.upper()
    assert body["policyRule"]["coding"][0]["code"] == "OPTOUT"
    assert body["dateTime"] == "2026-03-01"
    assert feeding.event_time == 1_772_442_900_000_000


@pytest.mark.parametrize(
    ("code", "status", "kind"), [("IC", "active", "permit"), ("INC", "active", "deny"), ("NA", "draft", None)]
)
def test_consultation_is_of_the_visit(code, status, kind):
    (reading,) = consents(f"ZFA|||||||||||{code}|")
    assert reading.key == "urn:vaguemestre:authority:290000017|000777|dmp-consultation"
    body = merged({}, reading.body, reading.defaults)
    assert (body["status"], body["provision"].get("type")) == (status, kind)
    assert body["provision"]["code"][0]["coding"][0]["code"] == code
    assert body["provision"]["data"][0]["reference"]["identifier"]["value"] == "000777"
    assert "dateTime" not in body


def test_consultation_without_a_visit_is_the_patients():
    (reading,) = consents("ZFA|||||||||||IC|", event="A31", stay=())
    assert reading.key == "{patient}|dmp-consultation"


@pytest.mark.parametrize("state", ["ACTIF", "FERME", "INEXISTANT"])
def test_state_of_the_dmp(state):
    (feeding,) = consents(f"ZFA|{state}|20240101|20250101")
    parts = {one["url"]: one.get("valueCoding") or one["valueDateTime"] for one in feeding.body["extension"][0]["extension"]}
    assert (parts["state"]["code"], parts["since"], parts["closed"]) == (state, "2024-01-01", "2025-01-01")
    assert merged({}, feeding.body, feeding.defaults)["status"] == "draft"


def test_answer_that_is_taken_back():
    before, after = consents("ZFA|||||||||IO|20260301")[0], consents("ZFA|||||||||NA|")[0]
    body = merged(merged({}, before.body, before.defaults), after.body)
    assert (body["status"], "type" in body["provision"], "dateTime" in body) == ("draft", False, False)


def test_codes_and_times_of_zfa_that_are_none():
    wrong = "ZFA|OUVERT|hier|x||||||OUI|y|NON|z"
    assert consents(wrong) == []
    expected = {("ZFA_CODE", f"ZFA-{n}") for n in (1, 9, 11)} | {("TS_INVALID", f"ZFA-{n}") for n in (2, 3, 10, 12)}
    assert told(wrong) == expected
    assert consents("ZFA|") == []
    assert told("ZFA|") == set()


# ---- ZFM ZFV PV1 PV2 -------------------------------------------------------------------------------------------------


def test_hospitalization():
    body = encounter(
        "PV2|||NEPH^Insuffisance rénale|||||20260302090000|20260310",
        "ZFM|8||5||U",
        "ZFV|750000001^20260301|AMB^Ambulance||20260303|20260304|1 RUE A^^BREST^^29200^FRA^ORI~2 RUE B^^NANTES^^44000^FRA^DST"
        "|N77^^^CH-Y&290000018&M^AN|AR1^^^CH-Z&290000017&M^MR|||MED",
    )
    stay = body["hospitalization"]
    assert [(one["system"].rpartition(":")[2].rpartition("/")[2], one["code"]) for one in stay["admitSource"]["coding"]] == [
        ("v2-0023", "7"),
        ("ZFM-1", "8"),
        ("ZFM-3", "5"),
    ]
    assert stay["origin"]["identifier"] == {"system": "https://finess.esante.gouv.fr", "value": "750000001"}
    assert stay["preAdmissionIdentifier"]["value"] == "PRE1"
    assert body["priority"]["coding"][0]["code"] == "R"
    assert body["reasonCode"][0]["text"] == "Insuffisance rénale"
    found = extensions(body)
    assert found["emergency-passage"]["code"] == "U"
    assert (found["transport-out"]["code"], found["care-during-transport"]["code"]) == ("AMB", "MED")
    assert found["psychiatric-placement"] == {"start": "2026-03-03", "end": "2026-03-04"}
    assert (found["origin-address"]["city"], found["destination-address"]["city"]) == ("BREST", "NANTES")
    assert (found["origin-account"]["value"], found["archive-number"]["value"]) == ("N77", "AR1")
    assert found["expected-admission"] == "2026-03-02T09:00:00+01:00"
    assert found["fr-core-estimated-discharge-date"] == "2026-03-10"
    assert told("ZFM|8||5||U", "ZFV|750000001^20260301|AMB||20260303|20260304||||||MED") == set()


def test_discharge():
    stay = encounter("ZFM||7||R", "ZFV|||||||||SORTIE", event="A03")["hospitalization"]
    assert [one["code"] for one in stay["dischargeDisposition"]["coding"]] == ["7", "R", "SORTIE"]


def test_codes_of_zfm_and_zfv_that_are_none():
    segments = ("ZFM|X|Y|Z|0|W", "ZFV||||demain|x||||||SOINS", "PV2||||||||a|b")
    assert told(*segments) == {
        *(("ZFM", f"ZFM-{n}") for n in range(1, 6)),
        ("ZFV", "ZFV-11"),
        *(("TS_INVALID", f"ZFV-{n}") for n in (4, 5)),
        *(("TS_INVALID", f"PV2-{n}") for n in (8, 9)),
    }
    assert encounter(*segments)["hospitalization"]["admitSource"]["coding"][1]["code"] == "X"


# ---- ZFD ZFP NK1 PD1 -------------------------------------------------------------------------------------------------


def test_identity_details():
    body = patient("ZFD|32^13^1984|38|Y|N|CV|20260101|CN|20300101", "ZFP|3|42", event="A28", stay=())
    found = extensions(body)
    assert found["fr-core-lunar-date"] == "32/13/1984"
    assert found["gestation-at-birth"]["value"] == 38
    assert (found["sms-consent"], found["fr-core-patient-birthdate-update-indicator"]) == (True, False)
    assert found["identity-document-expiry"] == "2030-01-01"
    assert (found["socio-professional-activity"]["code"], found["socio-professional-category"]["code"]) == ("3", "42")
    parts = {one["url"]: one for one in found["fr-core-identity-reliability"]}
    assert parts["methodCollection"]["valueCoding"]["code"] == "CV"
    assert parts["validationMode"]["valueCoding"]["code"] == "CN"
    assert parts["dateCollection"]["valueDate"] == "2026-01-01"


@pytest.mark.parametrize(
    ("segment", "places"),
    [
        ("ZFD|32^13^1984|38|Y|N|INSI|20260101|CN|20300101", []),
        ("ZFD|1984|99999|O|X|TEL|x|ZZ|y", [f"ZFD-{n}" for n in range(1, 9)]),
        ('ZFD|""|||', []),
        ("ZFD", []),
        ("ZFP|9|87", ["ZFP-1", "ZFP-2"]),
        ("ZFP|8|11", []),
        ("ZFP|²|²²", ["ZFP-1", "ZFP-2"]),
        ("ZFP", []),
    ],
)
def test_values_of_zfd_and_zfp(segment, places):
    assert sorted(at for _, at in told(segment)) == places
    patient(segment)


def test_people_around_the_patient():
    body = patient(
        "PD1||||10000000033^MARC^Line^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^L^^^RPPS",
        "NK1|1|BRIAND^Yann|SPO^Conjoint|4 RUE C^^BREST^^29200^FRA|^PRN^PH^^^^^^^^^0298000000|^WPN^PH^^^^^^^^^0298000001|C",
        "NK1|2||^Tutelle||||||||||ASSOCIATION X",
        "NK1|3",
    )
    first, second = body["contact"]
    assert first["name"] == {"family": "BRIAND", "given": ["Yann"]}
    assert [one["coding"][0]["code"] for one in first["relationship"]] == ["SPO", "C"]
    assert [(one["use"], one["value"]) for one in first["telecom"]] == [("home", "0298000000"), ("work", "0298000001")]
    assert first["address"]["city"] == "BREST"
    assert second == {"organization": {"type": "Organization", "display": "ASSOCIATION X"}, "relationship": [{"text": "Tutelle"}]}
    assert body["generalPractitioner"][0]["identifier"]["value"] == "10000000033"


def test_attending_doctor_of_rol_counts_before_pd1():
    rol = "ROL||UC|ODRP|810000000025^QUERE^Malo^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^L^^^IDNPS"
    body = patient(rol, "PD1||||10000000033^MARC^Line^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^L^^^RPPS")
    assert [one["display"] for one in body["generalPractitioner"]] == ["Malo QUERE"]


# ---- ZFS -------------------------------------------------------------------------------------------------------------


def test_legal_modes_are_entries_of_their_own():
    first, second = consents(
        "ZFS|1|77^CH-Z^290000017^M|20260301|20260320|UPDATE|SDT^Sur demande d'un tiers|02|prolongé",
        "ZFS|2|78^CH-Z^290000017^M|20260320||INSERT|SDRE^Sur décision du représentant de l'État",
        event="A31",
        stay=(),
    )
    assert (first.key, first.path) == ("urn:vaguemestre:authority:290000017|77|legal-mode", "ZFS")
    assert (second.key, second.path) == ("urn:vaguemestre:authority:290000017|78|legal-mode", "ZFS[2]")
    assert (first.body["status"], second.body["status"]) == ("inactive", "active")
    assert first.body["provision"]["period"] == {"start": "2026-03-01", "end": "2026-03-20"}
    assert [one["code"] for one in first.body["provision"]["code"][0]["coding"]] == ["SDT", "02"]
    (cancelled,) = consents("ZFS|1|77^CH-Z^290000017^M|20260301||CANCEL", event="A31", stay=())
    assert (cancelled.key, cancelled.body["status"]) == (first.key, "entered-in-error")


def test_legal_modes_that_are_wrong():
    segments = ("ZFS|1||20260301||INSERT|SDT", "ZFS|2|78^CH-Z|x|y|SUPPR|SDT", "ZFS|3|79^CH-Z|||INSERT|SDT")
    assert told(*segments, event="A31", stay=()) == {
        ("ZFS_ID", "ZFS-2"),
        ("ZFS_ACTION", "ZFS[2]-5"),
        ("TS_INVALID", "ZFS[2]-3"),
        ("TS_INVALID", "ZFS[2]-4"),
    }
    assert [one.path for one in consents(*segments, event="A31", stay=())] == ["ZFS[2]", "ZFS[3]"]


# ---- anything --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(
    name=st.sampled_from(["ZFA", "ZFD", "ZFM", "ZFP", "ZFS", "ZFV", "PV2", "NK1", "PD1"]),
    fields=st.lists(st.text('^~&\\0129AZé"\x00-:+. INOC', max_size=24), min_size=1, max_size=14),
)
def test_any_z_segment_gives_valid_fhir_and_tells_no_value(name, fields):
    segment = "|".join([name, *fields])
    change = translated(segment)
    patient(segment)
    for one in change.resources:
        body = merged({}, one.body, one.defaults)
        get_fhir_model_class(one.type).model_validate({"resourceType": one.type, **body})
    sentences = str(Adt().remarks(adt(segment), SITE))
    assert not any(text in sentences for text in fields if len(text) > 4)
