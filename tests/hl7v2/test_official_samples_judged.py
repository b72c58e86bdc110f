"""The answer that each official sample gets, as its index and the reference say; `AA` with what the message asks for.

A refusal is its condition (table 0357), in flow 6 its application error (table 0533), and its place.
"""

import os
from pathlib import Path

import pytest

from hub.formats.content import document_bytes
from hub.formats.er7 import read
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.registry import builtin

FOLDER = os.environ.get("VAGUEMESTRE_SAMPLES")
SAMPLES = Path(FOLDER, "hl7v2") if FOLDER else None

pytestmark = pytest.mark.skipif(SAMPLES is None or not SAMPLES.is_dir(), reason="VAGUEMESTRE_SAMPLES names no folder with hl7v2/")

REGISTRY = builtin()
MAIL = "mssante:adam.hoda@test-ci-sis.mssante.fr"
PATIENT_MAIL = "mssante:279035121518989@patient.mssante.fr"
DELETED = "delete 1.2.250.1.71.4.2.2.120456789.71024000082 for 1.2.250.1.71.4.2.2.120456789.71024000081"
UNREAD = "AA, no structure"
NOT_A_CDA = "102 OBX-5"

# file: (structure or answer, requested, refused by a rule, documents). Environment test, as MSH-11 and the INS roots ask for.
EXPECTED = {
    "pam_sgl_a01.er7": ("adt", (), (), ()),
    "pam_a01_ino_ic.er7": ("adt", (), (), ()),
    "pam_a01_ino_inc.er7": ("adt", (), (), ()),
    "pam_a01_na_na.er7": ("adt", (), (), ()),
    "v21_mdm_init.er7": ("pfi-mdm-2.1", ("dmp", MAIL), (), ("create 1.2.250.1.71.4.2.2.120456789.71024000081",)),
    "v21_mdm_init_ph.er7": NOT_A_CDA,
    "v21_mdm_del.er7": ("pfi-mdm-2.1", ("dmp", MAIL), (), (DELETED,)),
    "v21_oru_n3_rplc.hl7": (
        "pfi-oru-2.1",
        ("dmp", MAIL, PATIENT_MAIL),
        (),
        ("replace 1.2.250.1.213.1.1.13 for 1.2.250.1.213.1.1.12",),
    ),
    "v21_oru_n1n3_init_ph.hl7": NOT_A_CDA,
    "v21_oru_n1n3_rplc.er7": "207 PID-3",
    "v21_oru_n1n3_rplc_ph.er7": NOT_A_CDA,
    "v21_oru_n1n3_del.er7": "207 PID-3",
    "v21_oru_n1n3_del_ph.er7": NOT_A_CDA,
    "v20_mdm_init.er7": (
        "pfi-mdm-2.0",
        ("dmp", MAIL),
        (("dmp", "INS_ENVIRONMENT"),),
        ("create 1.2.250.1.71.4.2.2.120456789.A71024000081",),
    ),
    "v20_mdm_init_ph.er7": NOT_A_CDA,
    "v20_mdm_del_ph.er7": NOT_A_CDA,
    "v20_oru_n1n3_init_ph.hl7": NOT_A_CDA,
    "v20_oru_n1n3_rplc_ph.er7": NOT_A_CDA,
    "v12_mdm_init_ph.hl7": NOT_A_CDA,
    "lps11_mdm_init.er7": ("lps-mdm-1.1", (), (), ("create 1.2.250.1.71.4.2.2.120456789.71024000081",)),
    "lps11_mdm_init_ph.er7": NOT_A_CDA,
    "lps11_mdm_del.er7": ("lps-mdm-1.1", (), (), (DELETED,)),
    "lps10_mdm_init.er7": ("lps-mdm-1.0", (), (), ("create 1.2.250.1.71.4.2.2.120456789.A71024000081",)),
    "lps10_mdm_rplc_ph.er7": NOT_A_CDA,
    "lps10_mdm_bio.hl7": "207 904 PID-3",
    "lps10_mdm_bio_cut.hl7": NOT_A_CDA,
    "tlr_f1_orm_nw.hl7": ("tlr", (), (), ()),
    "tlr_f3_oru_ok.hl7": ("tlr", (), (), ()),
    "tlr_f4_omi.hl7": ("tlr", (), (), ()),
    "v20_zam_z01_dmp_ko.hl7": ("zam", (), (), ()),
    "v20_zam_z02_mss_ok.hl7": ("zam", (), (), ()),
    "v20_zam_z03_read_ok.hl7": ("zam", (), (), ()),
    "v21_zam_z01_dmp_ko.hl7": ("zam", (), (), ()),
    "v21_zam_z02_mss_ok.hl7": ("zam", (), (), ()),
    "lps10_mdm_bio_ack.hl7": UNREAD,
    "lps11_mdm_init_ack.er7": UNREAD,
    "v12_mdm_init_ack.hl7": UNREAD,
    "v21_mdm_del_ack.er7": UNREAD,
    "v21_oru_n1n3_init_ack.hl7": UNREAD,
    "v21_oru_n1n3_rplc_ack.er7": UNREAD,
}


def judged(raw: bytes, site: Site):
    message = read(raw)
    try:
        REGISTRY.admit(message, site)
        structure = REGISTRY.find(message)
        if structure is None:
            return UNREAD
        structure.judge(message, site)
        documents = tuple(
            f"{one.action.value} {one.master_id.removeprefix('urn:oid:')}"
            + (f" for {one.replaces.removeprefix('urn:oid:')}" if one.replaces else "")
            for one in structure.translate(message, site).documents
        )
        return structure.name, structure.requests(message, site), structure.refused_requests(message, site), documents
    except MessageRefused as refused:
        return " ".join(part for part in (refused.condition, refused.application, refused.at) if part)


@pytest.mark.parametrize("name", EXPECTED)
def test_answer(name):
    assert judged((SAMPLES / name).read_bytes(), Site(source="samples", environment="test")) == EXPECTED[name]


def test_no_sample_is_forgotten():
    assert {path.name for path in SAMPLES.iterdir() if path.suffix in {".er7", ".hl7"}} == set(EXPECTED)


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("pam_")])
def test_training_messages_are_refused_in_production(name):
    assert judged((SAMPLES / name).read_bytes(), Site(environment="production")) == "202 MSH-11"


def test_wrong_key_of_an_official_identity_is_a_finding():
    raw = (SAMPLES / "v12_mdm_init_ph.hl7").read_bytes().replace(b"1.2^CISIS_CDA_HL7_V1", b"")
    message, site = read(raw), Site(source="samples")
    structure = REGISTRY.find(message)
    assert structure.name == "mdm"
    assert "INS_KEY" in {finding.code for finding in structure.remarks(message, site)}


def test_unpadded_base64_and_its_exact_bytes():
    raw = (SAMPLES / "v21_oru_n3_rplc.hl7").read_bytes()
    (document,) = REGISTRY.find(read(raw)).translate(read(raw), Site(source="samples")).documents
    data = document_bytes(raw, document.content)
    assert len(data) == document.content.size
    assert b"\r\n" in data and data.lstrip().startswith(b"<?xml")
    assert document.body["context"]["period"]["start"]


def test_admission_of_the_official_patient():
    message, site = read((SAMPLES / "pam_a01_ino_ic.er7").read_bytes()), Site(source="samples")
    change = REGISTRY.find(message).translate(message, site)
    assert [ins.value for ins in change.identity.ins] == ["279035121518989"]
    assert change.identity.usable_ins.key_is_right
    assert [(one.system, one.value) for one in change.identity.local] == [("urn:vaguemestre:authority:000897406", "000003")]
    assert change.patient["name"][0]["family"] == "PAT-TROIS"
    assert change.patient["birthDate"] == "1979-03-28"
    stay = next(one for one in change.resources if one.type == "Encounter")
    assert stay.key == "urn:vaguemestre:authority:000897406|000897406"
    assert (stay.body["status"], stay.body["class"]["code"]) == ("in-progress", "IMP")
    assert stay.body["period"] == {"start": "2024-03-06T11:00:00+01:00"}
