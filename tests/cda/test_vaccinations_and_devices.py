"""Vaccinations and devices, and what is wrong in any of these entries: CI-SIS VAC, FR-Dispositif-medical; IHE PCC."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.model.refusals import Unreadable
from mappings.cda.translate import translate_cda


def _beside(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = _beside("medicine_documents")
UNITS = made.UNITS
FR = made.FR
PCC = made.PCC
CONSUMABLE = made.CONSUMABLE
NAMELESS = made.NAMELESS
MATERIAL = made.MATERIAL
templates = made.templates
under = made.under
observation = made.observation
administration = made.administration
supply = made.supply
document = made.document
read = made.read
one = made.one
valid = made.valid
codes = made.codes
PRESCRIBED = made.PRESCRIBED
LINE = made.LINE
ALL_OF_IT = made.ALL_OF_IT
LINE_OF_PRESCRIPTION = made.LINE_OF_PRESCRIPTION
DISPENSED = made.DISPENSED
VACCINE = made.VACCINE
RANK = made.RANK
DEVICE = made.DEVICE
UDI = made.UDI


SECOND = {"series": "INITIMMUNIZ", "doseNumberPositiveInt": 2}
SOME = {"series": "BOOSTER", "doseNumberString": "unknown"}


@pytest.mark.parametrize(
    ("series", "rank", "time", "more", "status", "when", "protocol"),
    [
        ("INITIMMUNIZ", "2", '<effectiveTime value="2019"/>', "", "completed", "2019", SECOND),
        ("BOOSTER", "x", '<effectiveTime nullFlavor="NAV"/>', "", "completed", "unknown", SOME),
        ("IMMUNIZ", "", "", 'negationInd="true"', "not-done", "unknown", None),
        ("IMMUNIZ", "0", '<effectiveTime value="20261399"/>', "", "completed", "unknown", None),
    ],
)  # fmt: skip
def test_a_vaccination(series: str, rank: str, time: str, more: str, status: str, when: str, protocol: Any) -> None:
    inner = VACCINE.format(series=series, time=time) + (under("SUBJ", RANK.format(rank)) if rank else "")
    body = one(administration((PCC + "12", FR + "45"), inner, "EVN", more))
    assert body["status"] == status
    assert body.get("occurrenceDateTime", body.get("occurrenceString")) == when
    assert body.get("protocolApplied", [None])[0] == protocol
    assert (body["lotNumber"], body["expirationDate"]) == ("L7", "2027-01-31")


def test_a_vaccine_is_not_called_by_the_answer_of_a_certificate() -> None:
    inner = CONSUMABLE.replace('<reference value="#m"/>', '<reference value="#dose"/>')
    assert one(administration((FR + "45",), inner))["vaccineCode"]["text"] == "ESSAIMYCINE"


def test_a_reaction_is_an_observation_that_the_vaccination_names() -> None:
    reaction = f'<observation moodCode="EVN">{templates(PCC + "5", FR + "37")}<id root="1.2.250.1.999.3" extension="R"/>'
    reaction += (
        '<code code="418799008" codeSystem="2.16.840.1.113883.6.96"/><effectiveTime><low value="20260302"/></effectiveTime>'
    )
    reaction += '<value xsi:type="CD" code="R50.2" codeSystem="2.16.840.1.113883.6.3"/></observation>'
    found = read(administration((FR + "45",), CONSUMABLE + under("CAUS", reaction)))
    assert Counter(fact.type for fact in found.facts) == {"Observation": 1, "Immunization": 1}
    observed, vaccination = valid(found)
    assert vaccination["reaction"][0]["detail"]["identifier"] == observed["identifier"][-1]
    assert vaccination["reaction"][0]["date"] == "2026-03-02"


def test_a_vaccination_that_is_to_come() -> None:
    inner = VACCINE.format(series="BOOSTER", time='<effectiveTime><low value="20270101"/><high value="202702"/></effectiveTime>')
    body = one(administration((PCC + "12.2", FR + "47"), inner, "INT"))
    (advice,) = body["recommendation"]
    assert [(due["code"]["coding"][0]["code"], due["value"]) for due in advice["dateCriterion"]] == [
        ("30981-5", "2027-01-01"),
        ("59777-3", "2027-02"),
    ]
    assert (body["date"], advice["series"]) == ("2026-03-01T10:00:00+01:00", "BOOSTER")
    assert codes(read(administration((FR + "47",), inner, "INT", 'negationInd="true"'))) == {"LEFT_IN_DOCUMENT"}


def test_a_device_that_is_worn() -> None:
    measured = under("RSON", observation("1.2", "L0065", '<value xsi:type="PQ" value="2.5" unit="V"/>'))
    site = under("RSON", observation("1.2", "39111-0", '<value xsi:type="ST">bras gauche</value>'))
    found = read(supply((FR + "20",), DEVICE.format(ids=UDI) + measured + site))
    observed, body = valid(found)
    assert body["derivedFrom"][0]["identifier"] == observed["identifier"][-1]
    assert (body["bodySite"]["text"], body["timingPeriod"], body["status"]) == ("bras gauche", {"start": "2019-08-11"}, "active")
    made = body["contained"][0]
    assert [coding["code"] for coding in made["type"]["coding"]] == ["J010104", "3400000"]
    assert made["udiCarrier"][0]["deviceIdentifier"] == "00000000000017"
    assert (made["lotNumber"], made["serialNumber"], made["expirationDate"]) == ("LOT7", "S7", "2027-05")
    assert (made["manufacturer"], made["deviceName"][0]["name"]) == ("Marque E", "Modèle E")
    assert made["identifier"] == [{"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.250.1.999.8"}]


def test_a_device_that_is_prescribed() -> None:
    inner = DEVICE.format(ids="") + under("COMP", observation(FR + "48.15", "GEN-181", '<value xsi:type="BL" value="false"/>'))
    body = one(supply((FR + "20",), inner, "INT"))
    assert [coding["code"] for coding in body["codeCodeableConcept"]["coding"]] == ["J010104", "3400000"]
    assert (body["status"], body["intent"], body["groupIdentifier"]["value"]) == ("active", "order", "01ESSAI")
    marks = {part["url"].rpartition(":")[2]: part for part in body["extension"]}
    assert marks["expected-use"]["valueDuration"]["value"] == 60
    assert marks["not-reimbursable"]["valueBoolean"] is False


NO_DEVICE = '<participant typeCode="DEV"><participantRole><playingDevice/></participantRole></participant>'


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (administration(PRESCRIBED, NAMELESS, "INT"), {"CODE_MISSING"}),
        (administration((FR + "42",), NAMELESS), {"CODE_MISSING"}),
        (administration((FR + "45",), NAMELESS), {"CODE_MISSING"}),
        (supply((FR + "204",), LINE_OF_PRESCRIPTION), {"CODE_MISSING"}),
        (supply((FR + "20",), NO_DEVICE), {"CODE_MISSING"}),
        (supply((FR + "44",), f"<product>{MATERIAL}</product>", "RQO"), {"LEFT_IN_DOCUMENT"}),
        (administration((FR + "90",), CONSUMABLE, "INT"), {"LEFT_IN_DOCUMENT"}),
        (administration(PRESCRIBED, LINE.replace('"completed"', '"nullified"'), "INT"), set()),
        (administration((FR + "42",), f'<statusCode code="nullified"/>{CONSUMABLE}'), set()),
        (administration((FR + "45",), f'<statusCode code="nullified"/>{CONSUMABLE}'), set()),
        (supply((FR + "20",), '<statusCode code="nullified"/>' + DEVICE.format(ids=UDI)), set()),
    ],
)
def test_what_makes_no_fact_is_told_unless_it_was_withdrawn(entry: str, expected: set[str]) -> None:
    found = read(entry)
    assert (found.facts, codes(found)) == ((), expected)


WHOLE = document(
    administration(PRESCRIBED, ALL_OF_IT, "INT"),
    supply((FR + "204",), DISPENSED),
    administration((FR + "45",), VACCINE.format(series="BOOSTER", time="") + under("SUBJ", RANK.format(2))),
    administration((FR + "47",), VACCINE.format(series="BOOSTER", time=""), "INT"),
    supply((FR + "20",), DEVICE.format(ids=UDI)),
    supply((FR + "20",), DEVICE.format(ids=UDI), "INT"),
    code="57833-6",
)
PLACES = [match.span() for match in re.finditer(rb'"[^"<>]*"|<[a-z][^<>]*/>', WHOLE)]


BAD = [b'""', b'"x"', b'"-1"', b'"1e999"', b'"99999999999"', b'"20261399"', b""]


@settings(max_examples=80, deadline=None)
@given(
    cuts=st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(BAD)),
        min_size=1,
        max_size=4,
        unique_by=lambda cut: cut[0],
    )
)  # fmt: skip
def test_whatever_is_wrong_in_an_entry_nothing_invalid_is_filed(cuts: list[tuple[tuple[int, int], bytes]]) -> None:
    xml = WHOLE
    for (start, end), replacement in sorted(cuts, reverse=True):
        empty = b'""' if xml[start:end].startswith(b'"') else b""
        xml = xml[:start] + (replacement if empty and replacement else empty) + xml[end:]
    try:
        found = translate_cda(xml, tz=ZoneInfo("Europe/Paris"), units=UNITS)
    except Unreadable:
        return
    assert "NOT_TRANSLATED" not in codes(found)
    valid(found)
