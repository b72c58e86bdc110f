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


def test_documents_and_messages_are_told_together(tmp_path, capsys):
    pytest.importorskip("saxonche")
    file = tmp_path / "x.xml"
    file.write_bytes(CDA)
    assert check_messages([file], as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == [{"file": str(file), "ok": True, "findings": []}]
    assert check_messages([file], schematron=KIT) == 1
    told = capsys.readouterr().out
    assert "ERROR   /ClinicalDocument realm-1: realmCode is FR" in told
    assert "\n2 errors, 1 remark\n" in told
