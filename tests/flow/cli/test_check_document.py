"""`check-message` on CDA documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub.app.check_document import check_document, looks_like_cda
from hub.app.check_message import check_messages

CDA = (
    b'<?xml version="1.0"?>\n<ClinicalDocument xmlns="urn:hl7-org:v3">'
    b'<realmCode code="DE"/><id root="1.2.250.9.77"/></ClinicalDocument>'
)
KIT = Path(__file__).resolve().parents[2] / "vectors" / "cda" / "schematron" / "kit"


@pytest.mark.parametrize(
    ("content", "is_cda"),
    [
        (CDA, True),
        (b"\xef\xbb\xbf\r\n" + CDA, True),
        (b"<xsl:stylesheet xmlns:xsl='x'>" + CDA[22:], True),
        (b'<ORU_R01 xmlns="urn:hl7-org:v2xml"><MSH/></ORU_R01>', False),
        (b"MSH|^~\\&|<ClinicalDocument >", False),
        (b"", False),
    ],
)
def test_a_cda_is_known_by_its_root(content, is_cda):
    assert looks_like_cda(content) is is_cda


def test_a_document_that_is_not_safe_to_read_is_refused():
    report = check_document("x.xml", b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + CDA[22:], None)
    assert report.errors == 1
    assert "DOCTYPE" in report.every[0].sentence


def test_a_document_is_checked_as_a_hub_would_file_it(tmp_path, capsys):
    example = Path(__file__).resolve().parents[3] / "examples" / "cda" / "blood_count.xml"
    assert check_messages([example]) == 0
    told = capsys.readouterr().out
    assert "CDA_NO_INS" in told and "NOT_READ" in told and "\n2 remarks\n" in told
    wrong = tmp_path / "wrong.xml"
    wrong.write_bytes(
        example.read_bytes().replace(b'<realmCode code="FR"/>', b'<realmCode code="DE"/>').replace(b'"11.2"', b'"much"')
    )
    assert check_messages([wrong], as_json=True) == 1
    (document,) = json.loads(capsys.readouterr().out)["documents"]
    found = {one["code"]: one["at"] for one in document["findings"]}
    assert found["CDA_REALM"] == "/ClinicalDocument/realmCode" and found["VALUE_INVALID"].endswith("/observation/value")
    assert not document["ok"]


def test_rules_of_a_kit_are_told_beside_its_own_findings(tmp_path, capsys):
    pytest.importorskip("saxonche")
    file = tmp_path / "x.xml"
    file.write_bytes(CDA)
    assert check_messages([file], schematron=KIT) == 1
    told = capsys.readouterr().out
    assert "ERROR   /ClinicalDocument realm-1: realmCode is FR" in told and "CDA_REALM" in told
