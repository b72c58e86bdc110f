"""CDA messages of the CI-SIS profiles: the decision table row by row, and what becomes of a message that is taken."""

import base64
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.content import document_bytes
from hub.formats.er7 import Message, read, splice
from hub.model.receipts import ReceiptsWanted
from hub.model.record_change import DocumentAction
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.registry import builtin

VECTORS = Path(__file__).parent.parent / "vectors"
BASES = {name: (VECTORS / "hl7v2" / f"{name}.hl7").read_text("utf-8") for name in ("pfi_mdm", "pfi_oru")}
CDA = (VECTORS / "hl7v2" / "pfi_cda.xml").read_text("utf-8")
CASES = tomllib.loads((VECTORS / "pfi_decision.toml").read_text("utf-8"))["case"]
TYPE_CODE = {"pfi_mdm": "18748-4", "pfi_oru": "11502-2"}
REGISTRY = builtin()
INS = ("1.2.250.1.213.1.4.10", "284057512345672")


def cda(number: str, code: str, change: dict) -> bytes:
    if "raw" in change:
        return change["raw"].encode()
    root, extension = change.get("PATIENT", INS)
    related = change.get("RELATED", "")
    values = {
        "ID": change.get("ID", number),
        "CODE": code,
        "CONF": change.get("CONF", "N"),
        "VERSION": change.get("VERSION", "1"),
        "PATIENT": f'<id root="{root}" extension="{extension}"/>',
        "RELATED": f'<relatedDocument typeCode="RPLC"><parentDocument><id root="{related}"/></parentDocument></relatedDocument>'
        if related
        else "",
    }
    text = CDA
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text.encode()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def build(case: dict) -> Message:
    """The base message of a case with its changes; changes name places of the base message."""
    base = case.get("base", "pfi_mdm")
    text = BASES[base].replace("@CDA@", b64(cda("1.2.250.9.77.5.100", TYPE_CODE[base], case.get("cda", {}))))
    text = text.replace("@CDA2@", b64(cda("1.2.250.9.77.5.101", TYPE_CODE[base], case.get("cda2", {}))))
    message = read(text.replace("\n", "\r").encode())
    changes = {place: value.encode() for place, value in case.get("set", {}).items()}
    for obx in message.segments("OBX"):
        if obx.text(3) in case.get("flags", {}):
            changes[f"OBX[{obx.occurrence}]-5"] = case["flags"][obx.text(3)].encode() + b"^^expandedYes-NoIndicator"
    message = read(splice(message, changes))
    lines = []
    for segment in message.segments():
        names = {segment.name, f"{segment.name}[{segment.occurrence}]"}
        if not names & set(case.get("drop", ())):
            lines.append(segment.line())
            if segment.name == case.get("repeat") and segment.occurrence == 1:
                lines.append(segment.line())
    return read(b"\r".join(lines) + b"\r")


def site_of(case: dict) -> Site:
    return Site(source="ris", environment=case.get("environment", "test"), strict_matrix=case.get("strict_matrix", False))


def answer(message: Message, site: Site) -> str:
    REGISTRY.admit(message, site)
    structure = REGISTRY.find(message)
    assert structure is not None
    try:
        structure.judge(message, site)
    except MessageRefused as refused:
        assert refused.sentence
        return f"{refused.condition} {refused.at}"
    return "AA"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_decision(case):
    message, site = build(case), site_of(case)
    assert answer(message, site) == case["answer"]
    if case["answer"] != "AA":
        return
    structure = REGISTRY.find(message)
    if "requests" in case:
        assert list(structure.requests(message, site)) == case["requests"]
    assert [list(one) for one in structure.refused_requests(message, site)] == case.get("refused", [])
    assert {dest for dest, _ in structure.refused_requests(message, site)} <= set(structure.requests(message, site))
    findings = sorted(finding.code for finding in structure.remarks(message, site))
    if "findings" in case:
        assert findings == sorted(case["findings"])
    if "documents" in case:
        change = structure.translate(message, site)
        told = [" ".join(part for part in (d.action.value, d.master_id, d.replaces) if part) for d in change.documents]
        assert told == case["documents"]


def test_ids_of_the_table_are_unique():
    assert len({case["id"] for case in CASES}) == len(CASES)


def test_document_is_the_exact_bytes_of_the_message():
    message = build({"base": "pfi_oru"})
    site = Site(source="lab")
    first, second = REGISTRY.find(message).translate(message, site).documents
    for document, number in ((first, "100"), (second, "101")):
        data = document_bytes(message.raw, document.content)
        assert data == cda(f"1.2.250.9.77.5.{number}", "11502-2", {})
        assert document.content.size == len(data)
    assert (first.path, second.path) == ("OBX-5", "OBX[2]-5")
    assert first.mask == second.mask == 2


def test_document_reference_tells_what_the_header_tells():
    message = build({"flags": {"MASQUE_PS": "Y", "INVISIBLE_REP_LEGAUX": "Y"}, "cda": {"CONF": "V"}})
    site = Site(source="ris")
    change = REGISTRY.find(message).translate(message, site)
    assert change.mapping == "pfi-mdm-2.1@1"
    (document,) = change.documents
    body = document.body
    assert document.action is DocumentAction.CREATE
    assert (document.set_id, document.version_number, document.mask) == ("urn:oid:1.2.250.9.77.5", 1, 1 | 4 | 8)
    assert body["type"]["coding"] == [{"system": "http://loinc.org", "code": "18748-4", "display": "Compte rendu"}]
    assert body["category"][0]["coding"][0]["code"] == "31"
    assert body["date"] == "2026-03-02T09:30:00+01:00"
    assert body["contained"] == [
        {
            "resourceType": "PractitionerRole",
            "id": "author1",
            "practitioner": {
                "type": "Practitioner",
                "identifier": {"system": "https://rpps.esante.gouv.fr", "value": "10000000017"},
                "display": "Irma VASSEUR",
            },
            "organization": {
                "type": "Organization",
                "identifier": {"system": "https://finess.esante.gouv.fr", "value": "290000017"},
                "display": "CLINIQUE-Z",
            },
            "code": [{"coding": [{"system": "urn:oid:1.2.250.1.213.1.1.4.5", "code": "G15_10/SM44"}]}],
        }
    ]
    assert body["author"] == [{"reference": "#author1"}]
    assert body["custodian"]["identifier"]["value"] == "290000017"
    labels = {label["coding"][0]["code"] for label in body["securityLabel"]}
    assert labels == {"V", "MASQUE_PS", "INVISIBLE_REPRESENTANTS_LEGAUX"}
    assert body["context"]["period"] == {"start": "2026-03-02T09:00:00+01:00"}
    assert body["context"]["encounter"][0]["identifier"] == {"system": "urn:oid:1.2.250.9.78", "value": "000777"}
    assert body["content"][0]["format"]["code"] == "urn:ihe:iti:xds-sd:pdf:2008"
    assert body["content"][0]["attachment"]["language"] == "fr-FR"
    assert "Odette" in str(change.patient["name"])
    (stay,) = change.resources
    assert (stay.key, "status" in stay.body, stay.defaults["status"]) == ("urn:oid:1.2.250.9.78|000777", False, "unknown")


def test_a_message_is_read_anew_when_another_came_between():
    structure, site = REGISTRY.find(build({})), Site(source="ris")
    one, other = build({}), build({"flags": {"DESTDMP": "N"}})
    assert "dmp" in structure.requests(one, site)
    assert "dmp" not in structure.requests(other, site)
    assert "dmp" in structure.requests(one, site)


# ---- against a naive oracle -----------------------------------------------------------------------------------------

FLAG = st.sampled_from(["Y", "N", "Y", "N", "X"])
ACTIONS = {"T02": ("NW", "F"), "T10": ("RO", "C"), "T04": ("CA", "D")}


def expected(values: dict, event: str, orc: str, obx: str, related: bool, statuses: str, patient_ok: bool) -> str:
    """The decision table once more, said flat: which rows refuse, in order."""
    y = {flag for flag, value in values.items() if value == "Y"}
    if event == "T10" and not related:
        return "101"  # TXA-13 goes with RPLC in these messages
    if (orc, obx) != ACTIONS[event]:
        return "207"
    if not patient_ok:
        return "207"
    dests = [values[flag] for flag in ("DESTDMP", "DESTMSSANTEPS", "DESTMSSANTEPAT")]
    if "DESTDMP" in y and not y & {"DESTMSSANTEPS", "DESTMSSANTEPAT"} and statuses != "VALI":
        return "207"
    if {"INVISIBLE_PATIENT", "DESTMSSANTEPAT"} <= y or dests == ["N", "N", "N"]:
        return "207"
    if "X" in values.values():
        return "103"
    if related and event == "T02":
        return "207"
    return "AA"


@settings(deadline=None)
@given(
    values=st.fixed_dictionaries(
        dict.fromkeys(
            (
                "MASQUE_PS",
                "INVISIBLE_PATIENT",
                "INVISIBLE_REP_LEGAUX",
                "CONNEXION_SECRETE",
                "MODIF_CONF_CODE",
                "DESTDMP",
                "DESTMSSANTEPS",
                "DESTMSSANTEPAT",
            ),
            FLAG,
        )
    ),
    event=st.sampled_from(["T02", "T10", "T04"]),
    coherent=st.booleans(),
    orc=st.sampled_from(["NW", "RO", "CA", "SC"]),
    obx=st.sampled_from(["F", "C", "D", "P"]),
    related=st.booleans(),
    statuses=st.sampled_from(["VALI", "PROV", ""]),
    patient_ok=st.booleans(),
)
def test_decision_as_the_oracle(values, event, coherent, orc, obx, related, statuses, patient_ok):
    if coherent:
        orc, obx = ACTIONS[event]
    case = {
        "flags": values,
        "set": {
            "MSH-9": f"MDM^{event}^MDM_T02",
            "ORC-1": orc,
            "OBX-11": obx,
            "PID-32": statuses,
            "TXA-13": "1.2.250.9.77.5.99" if related else "",
        },
        "cda": {
            **({"RELATED": "1.2.250.9.77.5.99"} if related else {}),
            **({} if patient_ok else {"PATIENT": ("1.2.250.1.213.1.4.10", "179026345678920")}),
        },
    }
    message, site = build(case), Site(source="ris")
    assert answer(message, site).split()[0] == expected(values, event, orc, obx, related, statuses, patient_ok)
    structure = REGISTRY.find(message)
    if answer(message, site) == "AA":
        asked = set(structure.requests(message, site))
        assert ("dmp" in asked) == (values["DESTDMP"] == "Y")
        refused = dict(structure.refused_requests(message, site))
        assert set(refused) <= asked
        if statuses != "VALI":
            assert {one for one in asked if one == "dmp" or "@patient." in one} == set(refused)


@settings(deadline=None)
@given(data=st.data())
def test_mutated_messages_are_refused_or_taken_never_crash(data):
    base = data.draw(st.sampled_from(["pfi_mdm", "pfi_oru"]))
    raw = bytearray(build({"base": base}).raw)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(60, len(raw) - 1))
        raw[at] = data.draw(st.sampled_from(b'|^~\\&\rA0"\xff.='))
    cut = data.draw(st.integers(0, 3))
    if cut == 0:
        del raw[data.draw(st.integers(60, len(raw) - 1)) :]
    site = Site(source="x")
    try:
        message = read(bytes(raw))
        REGISTRY.admit(message, site)
        structure = REGISTRY.find(message)
        if structure is not None:
            structure.judge(message, site)
            structure.requests(message, site)
            structure.refused_requests(message, site)
            structure.translate(message, site)
    except MessageRefused as refused:
        assert refused.at


@pytest.mark.parametrize("received", ["Y", "N", ""])
@pytest.mark.parametrize("read_by", ["Y", "N", ""])
@pytest.mark.parametrize("profile", ["2.1^CISIS_CDA_HL7_V2", "1.1^CISIS_CDA_HL7_LPS"])
def test_receipts_that_the_creator_wants(received, read_by, profile):
    flags = [("ACK_RECEPTION", received), ("ACK_LECTURE_MSS", read_by)]
    lines = [f"OBX|{n}|CWE|{code}||{value}||||||F" for n, (code, value) in enumerate(flags, 10) if value]
    raw = build({"set": {"MSH-21": profile}}).raw + "".join(f"{line}\r" for line in lines).encode()
    message = read(raw)
    wanted = REGISTRY.find(message).receipts_wanted(message, Site())
    asked = "LPS" not in profile
    assert wanted == ReceiptsWanted(
        dmp=asked and received == "Y", reception=asked and received == "Y", reading=asked and read_by == "Y"
    )


def test_other_messages_want_no_receipt():
    message = build({"set": {"MSH-21": ""}})
    assert REGISTRY.find(message).receipts_wanted(message, Site()) == ReceiptsWanted()
