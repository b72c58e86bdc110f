"""Which structure reads which message, what is refused at the door, and how a site adds its own."""

import types
from pathlib import Path

import pytest

from hub.app.mapping_worker import registry as site_registry
from hub.formats.er7 import read
from hub.model.record_change import RecordChange
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.registry import builtin, packaged_table, reads
from mappings.structure import AsksForNothing

REGISTRY = builtin()
EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "site_mapping"


def header(kind="ADT^A01", version="2.5", processing="P", control="1", profile="", charset=""):
    return read(f"MSH|^~\\&|A|B|C|D|20260302||{kind}|{control}|{processing}|{version}||||||{charset}|||{profile}\r".encode())


@pytest.mark.parametrize(
    ("kind", "profile", "name"),
    [
        *(
            (f"ADT^{event}", profile, "adt")
            for event in ("A01", "A02", "A03", "A08", "A28", "A31")
            for profile in ("", "2.11^IHE_FRANCE-2.11-PAM")
        ),
        ("ADT^A05", "", "adt"),
        ("ADT^A40", "", "adt"),
        ("ADT^A09", "", None),
        ("ADT^Z99", "2.11^IHE_FRANCE-2.11-PAM", "adt"),
        ("ADT", "", None),
        ("ORU^R01", "", "oru"),
        ("ORU^R01", "LAB-3^IHE", "oru"),
        ("ORU^R01", "1.0^CISIS_TLR_HL7_V2", "tlr"),
        ("ORM^O01", "1.0^CISIS_TLR_HL7_V2", "tlr"),
        ("OMI^O23", "1.0^CISIS_TLR_HL7_V2", "tlr"),
        ("ORU^R01^ORU_R01", "2.1^CISIS_CDA_HL7_V2", "pfi-oru-2.1"),
        ("ORU^R01", "2.1^ CISIS_CDA_HL7_V2", "pfi-oru-2.1"),
        ("ORU^R01", "2.0^CISIS_CDA_HL7_V2", "pfi-oru-2.0"),
        ("ORU^R01", "1.2^CISIS_CDA_HL7_V1", "pfi-oru-1.2"),
        ("MDM^T02", "", "mdm"),
        ("MDM^T10", "", "mdm"),
        ("MDM^T04", "", "mdm"),
        ("MDM^T04", "2.1^CISIS_CDA_HL7_V2", "pfi-mdm-2.1"),
        ("MDM^T04", "2.9^CISIS_CDA_HL7_V2", "pfi-mdm-2.1"),
        ("MDM^T10", "2.0^CISIS_CDA_HL7_V2", "pfi-mdm-2.0"),
        ("MDM^T02", "1.2^CISIS_CDA_HL7_V1", "pfi-mdm-1.2"),
        ("MDM^T02", "X^Y~2.1^CISIS_CDA_HL7_V2", "pfi-mdm-2.1"),
        ("MDM^T02", "1.0^CISIS_CDA_HL7_LPS", "lps-mdm-1.0"),
        ("MDM^T02", "1.1^CISIS_CDA_HL7_LPS", "lps-mdm-1.1"),
        ("ZAM^Z01", "", "zam"),
        ("SIU^S12", "", "siu"),
        ("SIU^S26", "", "siu"),
        ("SIU^S23", "", None),
        ("ORM^O01", "", "orders"),
        ("OML^O21", "", "orders"),
        ("OMG^O19", "", "orders"),
        ("OMI^O23", "", "orders"),
        ("ORR^O02", "", "order-answers"),
        ("ORL^O22", "", "order-answers"),
        ("OUL^R22", "", "oul"),
    ],
)
def test_find(kind, profile, name):
    message = header(kind, profile=profile)
    REGISTRY.admit(message, Site())
    structure = REGISTRY.find(message)
    assert (structure.name if structure else None) == name
    if structure is not None:
        assert REGISTRY.named(name) is structure


@pytest.mark.parametrize(
    ("changes", "environment", "answer"),
    [
        ({}, "production", None),
        ({"processing": "T"}, "test", None),
        ({"processing": "D"}, "test", None),
        ({"processing": "P^T"}, "production", None),
        ({"processing": "T"}, "production", "202 MSH-11"),
        ({"processing": "D"}, "production", "202 MSH-11"),
        ({"processing": "X"}, "test", "202 MSH-11"),
        ({"processing": ""}, "test", "101 MSH-11"),
        *(
            ({"version": version}, "test", None)
            for version in ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5^FRA^2.11", "2.5.1", "2.6", "2.7", "2.8")
        ),
        *(({"version": version}, "test", "203 MSH-12") for version in ("", "2", "2.0", "2.9", "3.0", "2.51", "two")),
        ({"kind": ""}, "test", "101 MSH-9"),
        ({"kind": "^A01"}, "test", "101 MSH-9"),
        ({"kind": "XYZ^Z01"}, "test", "200 MSH-9.1"),
        *(({"kind": kind}, "test", "201 MSH-9.2") for kind in ("MDM^T11", "MDM^T01", "MDM", "ORU^R30")),
        ({"kind": "ADT^A99"}, "test", None),
        ({"control": ""}, "test", "101 MSH-10"),
        ({"version": "3", "kind": "XYZ", "processing": "X"}, "test", "203 MSH-12"),
        ({"kind": "XYZ", "processing": "X"}, "test", "200 MSH-9.1"),
    ],
)
def test_admission(changes, environment, answer):
    try:
        assert REGISTRY.admit(header(**changes), Site(environment=environment)) == ()
        told = None
    except MessageRefused as refused:
        told = f"{refused.condition} {refused.at}"
        assert refused.ack_code == "AE"
    assert told == answer


def test_unknown_charset_is_a_finding():
    assert [finding.code for finding in REGISTRY.admit(header(charset="EBCDIC"), Site())] == ["CHARSET_UNKNOWN"]


def test_names_are_unique_and_tables_come_from_outside():
    names = REGISTRY.names()
    assert len(set(names)) == len(names) and {"adt", "oru", "mdm", "pfi-mdm-2.1", "pfi-oru-2.1"} <= set(names)
    asked = []
    builtin(lambda name: asked.append(name) or packaged_table(name))
    assert sorted(asked) == ["document_types", "message_types", "meta_dmpmss", "order_control", "ucum_units"]


class Stock(AsksForNothing):
    """A site's own structure."""

    name, version, heavy, parses_document = "site-stock", "7", True, False

    def judge(self, message, site):
        return ()

    def translate(self, message, site):
        return RecordChange(mapping=f"{self.name}@{self.version}")


def test_a_site_is_asked_first():
    module = types.ModuleType("site")
    module.STRUCTURES = [(reads("ORU^R01", profile="STOCK"), Stock())]
    extended = REGISTRY.with_module(module)
    assert extended.find(header("ORU^R01", profile="STOCK")).name == "site-stock"
    assert extended.find(header("ORU^R01")).name == "oru"
    assert REGISTRY.find(header("ORU^R01", profile="STOCK")).name == "oru"


def test_example_of_a_site_mapping():
    found = site_registry(str(EXAMPLE))
    raw = (
        "MSH|^~\\&|LABO|Z|C|D|20260302||ORU^R01|1|P|2.5||||||8859/15\rPID|||1^^^Z^PI||DUPR\u00c9^Zo\u00e9\r"
        "OBX|1|NM|GLU^Glyc\u00e9mie^L||5.1|mmol/L\rOBX|2|NM|2951-2^Sodium^LN||140\rOBX|3|NM|XX^Inconnu^L||1\rOBX|4|NM|K^K\\T\\^L||4\r"
    ).encode("iso8859-15")
    message = read(raw)
    rewritten = found.rewrite("local-to-loinc")(message, Site())
    after = read(rewritten)
    codes = [tuple(obx.text(3, n) for n in (1, 3, 4, 5, 6)) for obx in after.segments("OBX")]
    assert codes == [
        ("14749-6", "LN", "GLU", "Glyc\u00e9mie", "L"),
        ("2951-2", "LN", "", "", ""),
        ("XX", "L", "", "", ""),
        ("2823-3", "LN", "K", "K&", "L"),
    ]
    assert after.first("OBX").text(3, 2) == "Glucose [Moles/Volume] S\u00e9rum/Plasma ; Num\u00e9rique"
    untouched = [
        (mine.line(), other.line())
        for mine, other in zip(message.segments(), after.segments(), strict=True)
        if mine.index not in (2, 5)
    ]
    assert all(before == now for before, now in untouched)
    assert found.rewrite("local-to-loinc")(header("ORU^R01"), Site()) == header("ORU^R01").raw
