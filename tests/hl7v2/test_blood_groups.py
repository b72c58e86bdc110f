"""Blood groups in HL7 v2 results are found by their category (LOINC of OBX-3), as those of documents are."""

import pytest

from hub.formats.er7 import read
from hub.model.site import Site
from mappings.registry import builtin

REGISTRY = builtin()


@pytest.mark.parametrize(
    ("obx_3", "categories"),
    [
        ("882-1^Groupe^LN", ["laboratory", "blood-group"]),
        ("GRS^Groupe^L^883-9^ABO^LN", ["laboratory", "blood-group"]),
        ("882-1^Groupe^L", ["laboratory"]),
        ("718-7^Hb^LN", ["laboratory"]),
    ],
)
def test_a_blood_group_has_a_category_of_its_own(obx_3, categories):
    lines = (
        "MSH|^~\\&|LABO|Z|HUB|Z|20260302101500||ORU^R01|1|P|2.5||||||UNICODE UTF-8",
        "PID|||4712^^^Z^PI||SAULNIER^Odile||19790114|F",
        "ORC|RE|P1^DPI|F1^LABO",
        "OBR|1|P1^DPI|F1^LABO|GS^Groupe sanguin^L|||20260302080000",
        f"OBX|1|ST|{obx_3}||A POS||||||F",
    )
    taken = read(("\r".join(lines) + "\r").encode())
    changes = REGISTRY.find(taken).translate(taken, Site(source="lab")).resources
    (body,) = [one.body for one in changes if one.type == "Observation"]
    assert [one["coding"][0]["code"] for one in body["category"]] == categories
