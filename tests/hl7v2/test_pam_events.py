"""Every event of PAM France: which movement or act it becomes, and what is refused or told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.er7 import read, splice
from hub.model.movement_events import CANCELS
from hub.model.record_change import IdentityActKind, MovementAction
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.hl7v2 import adt
from mappings.hl7v2.adt import Adt
from mappings.registry import builtin

SITE = Site(source="his")
AUTHORITY = "urn:vaguemestre:authority:290000017"
INS = "^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS"
NIA = "^^^ASIP-SANTE-INS-NIA&1.2.250.1.213.1.4.9&ISO^INS"
LINES = {
    "MSH": "MSH|^~\\&|GAM|CH-Z|DPI|CH-Z|20260302101500||ADT^{event}^ADT_A01|A1|P|2.5^FRA^2.11|||||FRA|UNICODE UTF-8|FR",
    "EVN": "EVN||20260302101400||||20260302101300",
    "PID": f"PID|1||4711^^^CH-Z&290000017&M^PI~284057512345672{INS}||LACAILLE^Odette^^^^^L||19840512|F" + "|" * 24 + "VALI",
    "PV1": "PV1|1|I|NEPH^12^B^CH-Z&290000017&M||||10000000017^VASSEUR^Irma^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^RPPS"
    "||||||||||||000777^^^CH-Z&290000017&M^VN",
    "ZBE": "ZBE|9^CH-Z^290000017^M|20260302100000||INSERT|N||Néphrologie^^^^^CH-Z&290000017&M^UF^^^6268|"
    "Soins^^^^^CH-Z&290000017&M^UF^^^6270|HMS",
}
STAY_EVENTS = ("A01", "A02", "A03", "A04", "A05", "A06", "A07", "A14", "A15", "A16", "A21", "A22", "A54")


def message(event="A01", changes=None, *, drop=(), more=()):
    lines = [text.format(event=event) for name, text in LINES.items() if name not in drop]
    raw = read("\r".join([*lines, *more, ""]).encode())
    return read(splice(raw, {name: text.encode() for name, text in (changes or {}).items()}))


def translated(*args, **kwargs):
    return Adt().translate(message(*args, **kwargs), SITE)


def movement(*args, **kwargs):
    (found,) = translated(*args, **kwargs).movements
    return found


def told(*args, **kwargs):
    one = message(*args, **kwargs)
    Adt().judge(one, SITE)
    return {(finding.code, finding.at) for finding in Adt().remarks(one, SITE)}


def refusal(*args, **kwargs):
    with pytest.raises(MessageRefused) as caught:
        told(*args, **kwargs)
    return caught.value.condition, caught.value.at, caught.value.ack_code


# ---- which structure reads what --------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", adt.EVENTS)
@pytest.mark.parametrize("structure", ["", "^ADT_A39", "^NONSENSE"])
def test_every_event_is_read_whatever_msh_9_3_says(event, structure):
    registry = builtin()
    found = registry.find(message(event, {"MSH-9": f"ADT^{event}{structure}"}))
    assert isinstance(found, Adt)


@pytest.mark.parametrize("event", ["A09", "A17", "A29", "A60", "Z01", "Z98"])
def test_other_events_are_left_without_route(event):
    assert builtin().find(message(event)) is None


# ---- movements -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", STAY_EVENTS)
def test_insertion(event):
    found = movement(event)
    assert (found.encounter, found.key) == (f"{AUTHORITY}|000777", f"{AUTHORITY}|9")
    assert (found.action, found.event, found.original_event) == (MovementAction.INSERT, event, "")
    assert (found.start, found.nature, found.historic, found.path) == ("2026-03-02T10:00:00+01:00", "HMS", False, "ZBE")
    assert found.facts["class"]["code"] == "IMP"
    (place,) = found.facts["location"]
    assert place["location"]["display"] == "NEPH 12 B"
    assert [one["valueCodeableConcept"]["coding"][0]["code"] for one in place["extension"]] == ["6268", "6270"]
    assert found.facts["serviceType"]["text"] == "Néphrologie"
    assert found.facts["participant"][0]["individual"]["identifier"]["value"] == "10000000017"
    assert told(event) == set()


@pytest.mark.parametrize(("event", "originals"), CANCELS.items())
@pytest.mark.parametrize("said", ["CANCEL", "INSERT", ""])
def test_cancellation(event, originals, said):
    found = movement(event, {"ZBE-4": said})
    assert (found.action, found.original_event, found.key) == (MovementAction.CANCEL, originals[0], f"{AUTHORITY}|9")
    codes = {code for code, _ in told(event, {"ZBE-4": said, "ZBE-6": originals[0]})}
    assert codes == (set() if said == "CANCEL" else {"ZBE_ACTION"})


@pytest.mark.parametrize(("event", "undone"), [("A06", "A07"), ("A07", "A06")])
def test_change_of_class_is_cancelled_by_its_opposite(event, undone):
    found = movement(event, {"ZBE-4": "CANCEL"})
    assert (found.action, found.original_event) == (MovementAction.CANCEL, undone)
    assert movement(event).action is MovementAction.INSERT
    assert movement(event, drop=["ZBE"]).action is MovementAction.INSERT


@pytest.mark.parametrize("said", ["A02", "ADT^A02"])
def test_original_event(said):
    found = movement("Z99", {"ZBE-4": "UPDATE", "ZBE-6": said})
    assert (found.action, found.event, found.original_event) == (MovementAction.UPDATE, "Z99", "A02")
    assert movement("Z99", {"ZBE-4": "CANCEL", "ZBE-6": said}).action is MovementAction.CANCEL
    assert movement("Z99", {"ZBE-4": "INSERT"}).action is MovementAction.UPDATE
    assert told("Z99", {"ZBE-4": "UPDATE"}) == {("ZBE_ORIGINAL", "ZBE-6")}


def test_movement_one_field_late():
    late = {
        "ZBE-3": "20260302100000",
        "ZBE-4": "20260302100000",
        "ZBE-5": "UPDATE",
        "ZBE-6": "Y",
        "ZBE-7": "A02",
        "ZBE-8": "Dialyse^^^^^CH-Z&290000017&M^UF^^^6300",
        "ZBE-9": "Soins^^^^^CH-Z&290000017&M^UF^^^6310",
    }
    found = movement("Z99", {**late, "ZBE-10": "SM"})
    assert (found.action, found.historic, found.original_event, found.nature) == (MovementAction.UPDATE, True, "A02", "SM")
    assert found.facts["serviceType"]["coding"][0]["code"] == "6300"
    assert [one["valueCodeableConcept"]["text"] for one in found.facts["location"][0]["extension"]] == ["Dialyse", "Soins"]
    assert told("Z99", {**late, "ZBE-10": "SM"}) == {("ZBE_SHIFTED", "ZBE-4")}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ZBE-1": ""}, ("ZBE_ID", "ZBE-1")),
        ({"ZBE-2": ""}, ("ZBE_START", "ZBE-2")),
        ({"ZBE-2": "demain"}, ("TS_INVALID", "ZBE-2")),
        ({"ZBE-4": "NEW"}, ("ZBE_ACTION", "ZBE-4")),
        ({"ZBE-9": "XX"}, ("ZBE_NATURE", "ZBE-9")),
        ({"PV1-19": ""}, ("NO_VISIT_NUMBER", "PV1-19")),
    ],
)
def test_what_is_told(changes, code):
    assert told("A02", changes) == {code}


def test_several_numbers_of_one_movement():
    found = movement("A02", {"ZBE-1": "9^CH-Z^290000017^M~77^EAI^1.2.3^ISO~9^CH-Z^290000017^M"})
    assert found.key == f"{AUTHORITY}|9"
    assert found.facts["_keys"] == [f"{AUTHORITY}|9", "urn:oid:1.2.3|77"]


@pytest.mark.parametrize(
    ("event", "changes", "start"),
    [
        ("A01", {"ZBE-2": "20260301", "EVN-6": "20260302"}, "2026-03-01"),
        ("A01", {"ZBE-2": "", "EVN-6": "20260302"}, "2026-03-02"),
        ("A01", {"ZBE-2": "", "EVN-6": "", "PV1-44": "20260303"}, "2026-03-03"),
        ("A03", {"ZBE-2": "", "EVN-6": "", "PV1-45": "20260304"}, "2026-03-04"),
        ("A05", {"ZBE-2": "", "EVN-3": "20260305"}, "2026-03-05"),
        ("A02", {"ZBE-2": "", "EVN-6": "", "EVN-2": "20260306"}, "2026-03-06"),
        ("A02", {"ZBE-2": "x", "EVN-6": "y", "EVN-2": "z"}, "2026-03-02T10:15:00+01:00"),
    ],
)
def test_start(event, changes, start):
    assert movement(event, changes).start == start


def test_places_before_and_to_come():
    changes = {"PV1-6": "URG^1^A^CH-Z&290000017&M", "PV1-42": "REA^4^C^CH-Z&290000017&M"}
    assert movement("A02", changes).facts["_priorLocation"]["location"]["display"] == "URG 1 A"
    assert "_pendingLocation" not in movement("A02", changes).facts
    assert movement("A15", changes).facts["_pendingLocation"]["location"]["display"] == "REA 4 C"
    assert movement("A15").facts["_pendingLocation"]["location"]["display"] == "NEPH 12 B"


def test_unit_that_cares_is_the_place_when_no_place_is_told():
    (place,) = movement("A01", {"PV1-3": "^^^CH-Z&290000017&M"}).facts["location"]
    assert place["location"] == {"display": "Soins", "identifier": {"system": AUTHORITY, "value": "6270"}}


@pytest.mark.parametrize(("indicator", "use"), [("V", None), ("A", "old"), ("", "old")])
def test_cancelled_admission_takes_the_account_with_it_unless_it_is_of_the_visit(indicator, use):
    changes = {"PV1-51": indicator, "PID-18": "5500^^^CH-Z&290000017&M^AN", "ZBE-4": "CANCEL"}
    visit, account = movement("A11", changes).facts["identifier"]
    assert (visit.get("use"), account.get("use")) == (None, use)


# ---- without ZBE -----------------------------------------------------------------------------------------------------


def test_movement_without_number():
    one = movement("A02", drop=["ZBE"])
    assert (one.key, one.path) == ("A02@2026-03-02T10:13:00+01:00", "PV1")
    assert one.key == movement("A02", {"MSH-7": "20260302120000", "MSH-10": "A2"}, drop=["ZBE"]).key
    assert movement("A12", drop=["ZBE"]).key == "cancel:A12@2026-03-02T10:13:00+01:00"


def test_a08_corrects_unless_zbe_inserts():
    bare = movement("A08", drop=["ZBE"])
    assert (bare.action, bare.key) == (MovementAction.UPDATE, "correct:A08@2026-03-02T10:13:00+01:00")
    assert movement("A08").action is MovementAction.INSERT
    assert movement("A08", {"ZBE-4": "?"}).action is MovementAction.UPDATE


@pytest.mark.parametrize("event", ["A28", "A31", "A40", "A47", "A44"])
def test_identity_events_are_no_movements(event):
    assert translated(event, more=["MRG|1^^^CH-Z&290000017&M^PI"]).movements == ()


# ---- identities ------------------------------------------------------------------------------------------------------


def test_merge():
    change = translated(
        "A40", drop=["PV1", "ZBE"], more=[f"MRG|4712^^^CH-Z&290000017&M^PI~284057512345699{INS}||||||LACAYE^Odette"]
    )
    (act,) = change.acts
    assert (act.kind, act.path, act.removes_ins) == (IdentityActKind.MERGE, "MRG-1", False)
    assert [(one.system, one.value) for one in act.prior.local] == [(AUTHORITY, "4712")]
    assert [one.value for one in act.prior.ins] == ["284057512345699"]
    assert act.prior.birth_name == "LACAYE"
    assert change.resources == ()
    assert change.identity.local[0].value == "4711"


def test_several_merges_of_one_patient_and_a_second_patient_that_is_not_read():
    mrgs = ["MRG|4712^^^CH-Z&290000017&M^PI", "MRG|", "MRG|4713^^^CH-Z&290000017&M^PI"]
    second = ["PID|2||999^^^CH-Z&290000017&M^PI||AUTRE^A^^^^^L", "MRG|998^^^CH-Z&290000017&M^PI"]
    change = translated("A40", drop=["PV1", "ZBE"], more=[*mrgs, *second])
    assert [(act.path, act.prior.local[0].value) for act in change.acts] == [("MRG-1", "4712"), ("MRG[3]-1", "4713")]
    found = told("A40", drop=["PV1", "ZBE"], more=[*mrgs, *second])
    assert found == {("ONE_PATIENT_A_MESSAGE", "PID[2]"), ("MRG_EMPTY", "MRG-1")}


@pytest.mark.parametrize("event", ["A40", "A47"])
def test_mrg_is_required(event):
    assert refusal(event) == ("100", "MRG", "AE")
    for empty in ("MRG|", 'MRG|""', "MRG|^^^X"):
        assert refusal(event, more=[empty]) == ("101", "MRG-1", "AE")


def test_renumbering():
    (act,) = translated("A47", drop=["PV1", "ZBE"], more=["MRG|4712^^^CH-Z&290000017&M^PI"]).acts
    assert (act.kind, act.prior.local[0].value, act.removes_ins) == (IdentityActKind.RENUMBER, "4712", False)
    (act,) = translated("A47", drop=["PV1", "ZBE"], more=[f"MRG|284057512345699{INS}"]).acts
    assert (act.prior.local, act.prior.ins[0].value) == ((), "284057512345699")


@pytest.mark.parametrize("null", [f'""{INS}', f'""{NIA}', '""^^^&1.2.250.1.213.1.4.10&ISO^INS'])
def test_removed_ins(null):
    changes = {"PID-3": f"4711^^^CH-Z&290000017&M^PI~{null}", "PID-32": "PROV"}
    more = [f"MRG|284057512345672{INS}"]
    change = translated("A47", changes, drop=["PV1", "ZBE"], more=more)
    assert change.acts[0].removes_ins
    assert (change.identity.ins, change.identity.statuses) == ((), ("PROV",))
    assert told("A47", changes, drop=["PV1", "ZBE"], more=more) == {("INS_REMOVED", "PID-3")}
    assert not translated("A40", changes, more=more).acts[0].removes_ins


def test_parting():
    second = f"PID|2||4712^^^CH-Z&290000017&M^PI~284057512345699{INS}||LACAYE^Odette^^^^^L||19840513|F"
    (act,) = translated("A37", drop=["PV1", "ZBE"], more=[second]).acts
    assert (act.kind, act.path, act.prior.local[0].value) == (IdentityActKind.UNMERGE, "PID[2]", "4712")
    assert act.prior.traits == ("LACAYE", "19840513", "F")
    assert refusal("A37") == ("100", "PID[2]", "AE")
    assert refusal("A37", more=["PID|2||^^^X||LACAYE"]) == ("101", "PID[2]-3", "AE")


def test_moved_account_is_left_aside():
    change = translated("A44", more=["MRG|4712^^^CH-Z&290000017&M^PI"])
    assert (change.patient, change.resources, change.movements, change.acts) == (None, (), (), ())
    assert told("A44") == {("EVENT_LEFT_ASIDE", "MSH-9.2")}


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ("VALI", None),
        ("VALI~HOMA", None),
        ("VALI~DOUT", ("INS_DOUBTFUL", "PID-32")),
        ("FICT~VALI", ("INS_DOUBTFUL", "PID-32")),
        ("PROV", ("INS_NOT_QUALIFIED", "PID-32")),
        ("DESA", ("INS_NOT_QUALIFIED", "PID-32")),
    ],
)
def test_status_decides_whether_the_ins_is_used(statuses, code):
    assert told("A31", {"PID-32": statuses}) == ({code} if code else set())
    assert (translated("A31", {"PID-32": statuses}).identity.usable_ins is None) is (code is not None)


def test_unknown_status_is_told():
    assert told("A31", {"PID-32": "VALI~XYZ"}) == {("IDENTITY_STATUS", "PID-32")}


def test_corrected_birth_date_cannot_be_qualified():
    for said, usable in (("Y", False), ("N", True), ("", True)):
        change = translated("A31", more=[f"ZFD||||{said}"])
        assert (change.identity.usable_ins is not None) is usable
        assert (("BIRTH_DATE_CORRECTED", "ZFD-4") in told("A31", more=[f"ZFD||||{said}"])) is not usable


# ---- anything --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(
    event=st.sampled_from(adt.EVENTS),
    fields=st.dictionaries(
        st.sampled_from(
            [f"ZBE-{n}" for n in range(1, 11)] + ["EVN-2", "EVN-6", "PV1-3", "PV1-6", "PV1-19", "PV1-42", "PV1-44", "MSH-7"]
        ),
        st.text('^~&\\0129AZé"\x00-:+. INSERTCANCL', max_size=20),
        max_size=5,
    ),
    mrg=st.text('^~&0123|"INS', max_size=30),
)
def test_no_movement_breaks_the_mapping(event, fields, mrg):
    one = message(event, fields, more=[f"MRG|{mrg}", "PID|2|||"])
    try:
        Adt().judge(one, SITE)
    except MessageRefused as refused:
        assert refused.at
        return
    change = Adt().translate(one, SITE)
    for found in change.movements:
        assert found.key and found.action in MovementAction
    values = [text for text in fields.values() if len(text) > 5]
    assert not any(value in str(Adt().remarks(one, SITE)) for value in values if value not in ("INSERT", "CANCEL"))
