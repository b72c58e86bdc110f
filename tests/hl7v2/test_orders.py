"""Orders and the answers to them: ORC and OBR as ServiceRequest, known by the placer's number."""

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.er7 import read
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.registry import builtin, packaged_table
from mappings.tables import load

REGISTRY = builtin()
SITE = Site(source="dpi")
DPI = "urn:vaguemestre:authority:DPI"
PID = "PID|||4712^^^Z^PI||SAULNIER^Odile||19790114|F"


def message(kind, *segments, pid=PID):
    lines = [f"MSH|^~\\&|DPI|Z|HUB|Z|20260302101500||{kind}|1|P|2.5||||||UNICODE UTF-8", *([pid] if pid else []), *segments]
    return read(("\r".join(lines) + "\r").encode())


def changes(taken):
    structure = REGISTRY.find(taken)
    structure.judge(taken, SITE)
    return structure.translate(taken, SITE).resources


def orders(taken):
    return [one for one in changes(taken) if one.type == "ServiceRequest"]


def said(change):
    body = {name: value for name, value in {**change.defaults, **change.body, **change.adds}.items() if value is not None}
    get_fhir_model_class(change.type).model_validate({**body, "subject": {"reference": "Patient/1"}})
    return body


def refusal(taken):
    with pytest.raises(MessageRefused) as caught:
        changes(taken)
    return f"{caught.value.condition} {caught.value.at}"


def codes(taken):
    return {finding.code for finding in REGISTRY.find(taken).remarks(taken, SITE)}


ORC = (
    "ORC|NW|P1^DPI|F1^LABO|G1^DPI||||^^|20260302100000|||10000000017^VASSEUR^Irma^^^^^^&1.2.250.1.71.4.2.1&ISO^^^^RPPS"
    "||||URG^Urgence clinique^L"
)
TQ1 = "TQ1|1||Q6H||||20260302120000|20260304120000|S"
OBR = "OBR|1|P1^DPI|F1^LABO|58410-2^NFS^LN^NFS^Numération^L|||||||||Fièvre au retour de voyage||||||||||||||||||R50.9^Fièvre^I10"


def test_an_order():
    (change,) = orders(message("OML^O21", "PV1||I|||||||||||||||||V9", ORC, TQ1, OBR, "NTE|1||À jeun"))
    assert (change.key, change.gathers, change.path) == (f"{DPI}|P1", True, "OBR")
    body = said(change)
    assert (body["status"], body["intent"], body["priority"]) == ("active", "order", "stat")
    assert {one["type"]["coding"][0]["code"]: one["value"] for one in body["identifier"]} == {
        "PLAC": "P1",
        "FILL": "F1",
        "PGN": "G1",
    }
    assert body["requisition"]["value"] == "G1" and body["authoredOn"] == "2026-03-02T10:00:00+01:00"
    assert [one["code"] for one in body["code"]["coding"]] == ["58410-2", "NFS"]
    assert body["requester"]["identifier"] == {"system": "https://rpps.esante.gouv.fr", "value": "10000000017"}
    assert body["occurrenceTiming"] == {
        "code": {"text": "Q6H"},
        "repeat": {"boundsPeriod": {"start": "2026-03-02T12:00:00+01:00", "end": "2026-03-04T12:00:00+01:00"}},
    }
    assert [one["text"] for one in body["reasonCode"]] == ["Fièvre", "Fièvre au retour de voyage"]
    assert body["note"] == [{"text": "À jeun"}] and body["encounter"]["identifier"]["value"] == "V9"
    assert body["category"][0]["coding"][0]["code"] == "108252007"
    assert body["extension"][0]["valueCodeableConcept"]["text"] == "Urgence clinique"


@pytest.mark.parametrize(
    ("segments", "occurrence"),
    [
        (("TQ1|1||||||20260302120000",), {"occurrenceDateTime": "2026-03-02T12:00:00+01:00"}),
        (("TQ1|1||||||20260302|20260303",), {"occurrencePeriod": {"start": "2026-03-02", "end": "2026-03-03"}}),
        ((), {}),
    ],
)
def test_when(segments, occurrence):
    (change,) = orders(message("ORM^O01", "ORC|NW|P1^DPI", *segments, "OBR|1|P1^DPI||1^X^L"))
    assert {name: value for name, value in said(change).items() if name.startswith("occurrence")} == occurrence


def test_timing_of_older_senders():
    (change,) = orders(message("ORM^O01", "ORC|NW|P1^DPI|||||^^^20260302120000^^A", "OBR|1|P1^DPI||1^X^L"))
    assert (said(change)["occurrenceDateTime"], said(change)["priority"]) == ("2026-03-02T12:00:00+01:00", "asap")


CONTROLS = load(packaged_table("order_control"))


@pytest.mark.parametrize("control", [code for code in CONTROLS if code != "ORC-5"])
@pytest.mark.parametrize("orc_5", ["", "CM", "??"])
def test_every_order_control(control, orc_5):
    (change,) = orders(message("ORM^O01", f"ORC|{control}|P1^DPI|||{orc_5}", "OBR|1|P1^DPI||1^X^L"))
    row = CONTROLS[control]
    expected = CONTROLS["ORC-5"].get(orc_5) if row.get("by_status") else row.get("status")
    assert change.body.get("status") == expected
    assert said(change)["status"] == (expected or "unknown")


@pytest.mark.parametrize(("orc_5", "status"), CONTROLS["ORC-5"].items())
def test_every_order_status(orc_5, status):
    (change,) = orders(message("ORM^O01", f"ORC|SC|P1^DPI|||{orc_5}", "OBR|1|P1^DPI||1^X^L"))
    assert said(change)["status"] == status


def test_a_replaced_order_and_its_replacement():
    old, new = orders(message("ORM^O01", "ORC|RP|P1^DPI", "OBR|1|P1^DPI||1^X^L", "ORC|RO|P2^DPI", "OBR|1|P2^DPI||2^Y^L"))
    assert (said(old)["status"], said(new)["status"]) == ("revoked", "active")
    assert said(new)["replaces"][0]["identifier"] == {"system": DPI, "value": "P1"} and "replaces" not in said(old)
    (alone,) = orders(message("ORM^O01", "ORC|RO|P2^DPI||||||P1&DPI", "OBR|1|P2^DPI||2^Y^L"))
    assert said(alone)["replaces"] == said(new)["replaces"]


def test_a_child_order_is_based_on_its_parent():
    (change,) = orders(message("ORM^O01", "ORC|CH|P1.1^DPI||||||P1&DPI", "OBR|1|P1.1^DPI||2^Y^L"))
    assert said(change)["basedOn"][0]["identifier"]["value"] == "P1" and "replaces" not in said(change)


def test_several_orders_and_one_number_for_two():
    found = orders(
        message("ORM^O01", "ORC|NW|P1^DPI", "OBR|1|P1^DPI||1^X^L", "OBR|2|P2^DPI||2^Y^L", "ORC|NW|P1^DPI", "OBR|3|P1^DPI||3^Z^L")
    )
    assert [one.key for one in found] == [f"{DPI}|P1", f"{DPI}|P2", f"{DPI}|P1/3"]


def test_an_order_that_only_its_filler_numbers():
    (change,) = orders(message("ORM^O01", "ORC|SC||F1^LABO||CM", "OBR|1||F1^LABO|1^X^L"))
    assert change.key == "urn:vaguemestre:authority:LABO|F1" and said(change)["status"] == "completed"


def test_specimens_and_what_supports_the_order():
    taken = message(
        "OML^O21",
        "ORC|NW|P1^DPI",
        "OBR|1|P1^DPI||1^X^L",
        "OBX|1|NM|29463-7^Poids^LN||68|kg|||||O",
        "SPM|1|S1&DPI||BLD",
        "DG1|1||R50.9^Fièvre^I10",
    )
    (change,) = orders(taken)
    body = said(change)
    observation = next(one for one in changes(taken) if one.type == "Observation")
    assert body["supportingInfo"][0]["identifier"]["value"] == observation.body["identifier"][0]["value"]
    assert said(observation)["valueQuantity"]["value"] == 68 and "basedOn" not in said(observation)
    assert body["specimen"][0]["identifier"]["value"] == "S1" and body["reasonCode"][0]["coding"][0]["code"] == "R50.9"


def test_specimen_first():
    first, second = orders(
        message(
            "OML^O33",
            "SPM|1|S1&DPI||BLD",
            "ORC|NW|P1^DPI",
            "OBR|1|P1^DPI||1^X^L",
            "SPM|2|S2&DPI||UR",
            "ORC|NW|P2^DPI",
            "OBR|1|P2^DPI||2^Y^L",
        )
    )
    assert [said(one)["specimen"][0]["identifier"]["value"] for one in (first, second)] == ["S1", "S2"]


def test_imaging_numbers():
    (change,) = orders(message("OMI^O23", "ORC|NW|P1^DPI", "OBR|1|P1^DPI||1^X^L", "IPC|A7^RIS|R1|1.2.250.9.9.7"))
    numbers = said(change)["identifier"]
    assert {"system": "urn:dicom:uid", "value": "urn:oid:1.2.250.9.9.7"} in numbers
    assert any(one["value"] == "A7" and one["type"]["coding"][0]["code"] == "ACSN" for one in numbers)
    assert said(change)["category"][0]["coding"][0]["code"] == "363679005"


def test_an_answer_needs_no_patient():
    taken = message("ORR^O02", "MSA|AA|77", "ORC|OK|P1^DPI|F1^LABO", pid="")
    (change,) = changes(taken)
    assert (change.type, change.body["status"], change.gathers) == ("ServiceRequest", "active", True)
    assert changes(message("ORL^O22", "MSA|AA|77", pid="")) == ()
    only = changes(message("ORL^O22", "ORC|OK|P1^DPI", "OBR|1|P1^DPI||1^X", "OBX|1|NM|1^X||1", "SPM|1|S1", pid=""))
    assert [one.type for one in only] == ["ServiceRequest"]


@pytest.mark.parametrize(
    ("segments", "answer"),
    [
        (("OBR|1|P1",), "100 ORC"),
        ((), "100 ORC"),
        (("ORC||P1",), "101 ORC-1"),
        (("ORC|ZZ|P1",), "103 ORC-1"),
        (("ORC|NW", "OBR|1|||X"), "101 ORC-2"),
        (("ORC|NW|P1", "OBR|1|P1", "ORC|QQ|P2"), "103 ORC[2]-1"),
        (("ORC|NW|P1", "PID|||4^^^Z^PI||AUTRE^Nom"), "198 PID[2]"),
    ],
)
def test_refused(segments, answer):
    assert refusal(message("ORM^O01", *segments)) == answer


def test_without_patient_an_order_is_refused():
    assert refusal(message("ORM^O01", "ORC|NW|P1", pid="")) == "100 PID"


def test_findings():
    earlier = message("OML^O21", "ORC|NW|P1", "OBR|1|P1||1^X", PID, "ORC|NW|P0", "OBR|1|P0||1^X", "OBX|1|NM|1^X||9")
    assert "EARLIER_RESULTS_LEFT" in codes(earlier) and [one.key for one in orders(earlier)] == ["urn:vaguemestre:source:dpi|P1"]
    drug = message("ORM^O01", "ORC|NW|P1", "RXO|DRUG")
    assert "ORDER_DETAIL_LEFT" in codes(drug) and orders(drug) == []


_TEXT = st.text('|^~\\&AZ019<>=.-:/ "é\x00', max_size=40)
_SEGMENTS = st.sampled_from(
    ["ORC|NW|", "ORC|RP|P|", "ORC|RO|Q|", "OBR|1|", "TQ1|1|", "OBX|1|NM|", "SPM|1|", "IPC|", "DG1|", "NTE|", "RXO|"]
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(_SEGMENTS, _TEXT), max_size=8), st.sampled_from(["ORM^O01", "OML^O21", "OML^O33", "OMI^O23", "ORR^O02"])
)
def test_nothing_crashes_a_mapping(parts, kind):
    taken = message(kind, *(name + text for name, text in parts))
    structure = REGISTRY.find(taken)
    try:
        structure.judge(taken, SITE)
    except MessageRefused as refused:
        assert refused.at
        return
    structure.remarks(taken, SITE)
    found = structure.translate(taken, SITE).resources
    assert len({(one.type, one.key) for one in found}) == len(found)
    for one in found:
        if one.type != "Encounter":
            said(one)
