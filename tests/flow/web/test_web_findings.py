"""Findings on a message's page: by what they are about and by code, long lists folded; what its document gave."""

from __future__ import annotations

import json
import re

import pytest

from hub.model.uids import uid_number
from hub.web.console.findings import KINDS, SHOWN, grouped, kind_of

BODY = "/ClinicalDocument/component/structuredBody/component"


@pytest.mark.parametrize(
    ("code", "at", "kind"),
    [
        ("OBX_WITHOUT_CODE", "OBX[2]-3", "message"),
        ("DOCUMENT_FILED_AGAIN", "", "message"),
        ("NOT_READ", f"{BODY}/section/entry/observation", "left"),
        ("MORE_FINDINGS", "/ClinicalDocument", "left"),
        ("UNIT_NOT_UCUM", f"{BODY}/section/entry/observation/value", "values"),
        ("CONTENT_NOT_PDF", "/ClinicalDocument/component/nonXMLBody/text", "contents"),
        ("SECTION_CODE", f"{BODY}/section", "sections"),
        ("CDA_NO_INS", "/ClinicalDocument/recordTarget/patientRole", "header"),
        ("TS_INVALID", "/ClinicalDocument/effectiveTime", "header"),
        ("SCHEMATRON_HEADER_ERROR", "/ClinicalDocument/author", "rules"),
    ],
)
def test_a_finding_is_about_a_part(code, at, kind):
    assert kind_of(code, at) == kind


def finding(code: str, at: str) -> dict[str, str]:
    return {"code": code, "at": at, "text": f"{at}: a sentence"}


def test_long_lists_are_folded_and_lose_nothing():
    many = [finding("VALUE_INVALID", f"{BODY}[{n}]/section") for n in range(200)] + [finding("PID_X", "PID-3")]
    many += [finding(f"CDA_{n}", "/ClinicalDocument/author") for n in range(30)]
    found = grouped(many)
    assert [kind for kind, _ in found] == ["message", "values", "header"]
    (message,), (values,), header = (codes for _, codes in found)
    assert (len(values.first), len(values.rest)) == (SHOWN, 200 - SHOWN)
    assert message.open and values.open and not any(code.open for code in header)
    assert (message.rows[0].sentence, message.rows[0].place) == ("a sentence", ("PID-3",))
    assert sum(len(code.rows) for _, codes in found for code in codes) == len(many)
    assert grouped([]) == []


@pytest.mark.parametrize("new_url", ["sqlite"], indirect=True)
def test_the_page_lists_them_and_says_what_its_document_gave(own_house):
    uid = own_house.uids["LAB1001"]
    told = [finding("NOT_READ", f"{BODY}[{n}]/section") for n in range(200)] + [
        finding("CDA_NO_INS", "/ClinicalDocument/recordTarget")
    ]

    def write(tx):
        number = uid_number(uid)
        tx.run("UPDATE message SET findings = ? WHERE id = ?", json.dumps(told), number)
        (document,) = tx.row("SELECT resource_id FROM binary_content WHERE message_id = ?", number)
        tx.run("INSERT INTO translated (document_id, mapping, at, facts, unread) VALUES (?, 'cda@1', 0, 1234, 1)", document)

    client = own_house.signed_in()
    before = client.get(f"/console/messages/{uid}", params={"lang": "en"}).text
    assert "No finding." in before and "facts filed" not in before
    own_house.write(write)
    for language, words in (
        ("en", ("1,234 facts filed, 1 entry left in the document", "Document: left unread", "180 more findings of this code")),
        ("fr", ("faits portés au dossier, 1 élément laissé dans le document", "laissé sans être lu", "180 autres constats")),
    ):
        page = client.get(f"/console/messages/{uid}", params={"lang": language}).text
        assert not [said for said in words if said not in page]
        assert page.count("a sentence") == len(told) and len(re.findall(r'<details class="found" open>', page)) == 1


def test_every_kind_has_its_words():
    from hub.web.rendering import Words

    for language in ("fr", "en"):
        words = Words(language, None)
        assert len({words(f"finding.{kind}") for kind in KINDS}) == len(KINDS)
