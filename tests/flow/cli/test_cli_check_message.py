"""`vaguemestre check-message`: places, words, the hub's answer, and what the official samples are known for."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import tomllib
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.app.check_message import Checker, Report, check_messages
from hub.app.check_message_standard import check_standard
from hub.formats.er7 import read
from hub.formats.er7.xml import xml_of_er7
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.conformance.profiles import NAMES
from mappings.conformance.rules import Severity
from mappings.registry import packaged_table
from tests.warm import run

ROOT = Path(__file__).resolve().parents[3]


def _made():
    spec = importlib.util.spec_from_file_location("conformance_messages", ROOT / "tests/hl7v2/conformance_messages.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


made = _made()
STRUCTURES = tomllib.loads(packaged_table("message_structures"))
EVERY = [(name, text) for name, texts in made.MESSAGES.items() for text in texts]
ADMISSION = made.PAM[0]


@cache
def checker(profile: str = "", environment: str = "test") -> Checker:
    return Checker(profile, Site(environment=environment))


def report(text: str, profile: str = "", environment: str = "test") -> Report:
    found = checker(profile, environment).message("x.hl7", 1, text.encode() + b"\r")
    assert isinstance(found, Report)
    return found


def told(found: Report) -> set[tuple[str, str, str]]:
    return {(str(finding.severity), finding.at or finding.segment, finding.standard) for finding in found.findings}


# ---- the standard ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("profile", "text"), EVERY, ids=lambda value: value if value in NAMES else None)
def test_conformant_messages_have_nothing_and_are_taken(profile, text):
    found = report(text, environment="production")
    assert (found.profile.name, told(found)) == (profile, set())
    assert found.answer.words == ("nothing" if profile == "ack" else "AA"), found.answer


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("EVN||", "EVX||"), {("error", "EVN", "HL7 2.5 ADT_A01"), ("warning", "EVX[1]", "HL7 2.5 ADT_A01"),
                              ("warning", "EVX[1]", "HL7 2.5")}),
        (("ADT_A01|", "ADT_A05|"), {("warning", "MSH[1]-9.3", "HL7 2.5 table 0354")}),
        (("|20261124080000||ADT", "|2026-11-24||ADT"), {("error", "MSH[1]-7", "PAM France 2.11, MSH-7")}),
        (("PV1|1|I", "PV1|1|I~E"), {("error", "PV1[1]-2", "HL7 2.5 PV1-2")}),
        (("EVN||20261124080000|", "EVN|||"), {("error", "EVN[1]-2", "HL7 2.5 EVN-2")}),
        (("PV1|1|I", "OBX|1|XX|1^a^L||1||||||F\rPV1|1|I"), {("error", "PV1[1]", "HL7 2.5 ADT_A01"),
                                                          ("error", "OBX[1]-2", "HL7 2.5 table 0125")}),
        (("\rZFM", "\rOBX|1|NM|1^a^L||x||||||F\rZFM"), {("error", "OBX[1]-5", "HL7 2.5 OBX-5")}),
        (("\rZFM", "\rOBX|1|CE|1^a^L||||||||Q\rZFM"), {("warning", "OBX[1]-11", "HL7 2.5 table 0085")}),
        (("\rZFM", "\rDG1|1||A00^x^CIM10|||W\rZFM"), {("error", "ZFM[1]", "PAM France 2.11, § segment order"),
                                                    ("error", "ZFD[1]", "PAM France 2.11, § segment order")}),
        (("\rPV1", "\rPID|2||1^^^A&1.2&ISO^PI||B^^^^^^L\rPV1"), {("error", "PID[2]", "HL7 2.5 ADT_A01"),
                                                                   ("note", "PID[2]-18", "PAM France 2.11, PID-18")}),
    ],
    ids=["missing", "structure", "type", "repeated", "required", "place", "number", "table", "order", "twice"],
)  # fmt: skip
def test_what_the_standard_asks(change, expected):
    assert told(report(ADMISSION.replace(*change, 1))) == expected | told(report(ADMISSION))


def test_segments_that_hl7apy_drops_are_counted_in_places():
    """PRT and Z segments are read, the OBX behind them keep their numbers, and no document is too long."""
    oru = made.MESSAGES["cda-2.1"][3]
    assert oru.count("PRT|") == 4
    (finding,) = report(oru.replace("OBX|3|CE|", "OBX|3|QQ|"), "none").findings
    assert (finding.at, finding.standard, finding.line) == ("OBX[3]-2", "HL7 2.5 table 0125", 12)
    assert told(report(made.PAM[0].replace("|INSERT|", "|INSRT|"))) == {("error", "ZBE[1]-4", "PAM France 2.11, ZBE-4")} | told(
        report(made.PAM[0])
    )


def test_lengths_are_notes_and_unknown_versions_errors():
    plain = "MSH|^~\\&|A|B|C|D|20261124||ADT^A01^ADT_A01|1|P|2.5"
    long = f"{plain}\rEVN||20261124\rPID|||{'9' * 250}^^^A^PI||B\rPV1||I"
    found = report(long, "none")
    assert [(f.severity, f.at) for f in found.findings] == [(Severity.NOTE, "PID[1]-3.1")]
    found = report(plain.replace("|2.5", "|7.1"), "none")
    assert [(f.severity, f.at) for f in found.findings] == [(Severity.ERROR, "MSH[1]-12")]
    assert found.answer.words == "AE 203 at MSH-12"
    event = report(plain.replace("A01^ADT_A01", "Q99"), "none").findings
    assert ("MSH[1]-9.2", "HL7 2.5 table 0003") in {(f.at, f.standard) for f in event}
    assert not [f for f in report(plain.replace("A01^ADT_A01", "Z77"), "none").findings if f.field == 9]


ORDER = "ORC|NW|P{n}^A\rOBR|{n}|P{n}^A||2345-7^Glu^LN"
LAB = "MSH|^~\\&|A|B|C|D|20261124||OML^O21^OML_O21|1|P|2.5\rPID|1||9^^^A&1.2&ISO^PI||B^C^^^^^L"


def test_a_structure_that_can_be_read_two_ways_is_read_the_right_one():
    """An ORC of OML_O21 may begin the next order, or an earlier result of this one."""
    good = "\r".join((LAB, ORDER.format(n=1), ORDER.format(n=2), "SPM|1|S1^A||BLD^sang", ORDER.format(n=3)))
    assert not report(good).findings
    bad = report("\r".join((LAB, "OBR|1|P1^A||2345-7^Glu^LN", ORDER.format(n=2))))
    assert {finding.segment for finding in bad.findings if finding.severity is Severity.ERROR} & {"ORC", "OBR"}


def test_bytes_of_another_charset():
    text = ADMISSION.replace("ZELIE ROSE", "ZÉLIE ROSE")
    assert not report(text).findings
    found = checker().message("x", 1, text.encode("latin-1"))
    assert [(f.severity, f.at, "line 3" in f.sentence) for f in found.findings] == [(Severity.ERROR, "MSH[1]-18", True)]
    declared = text.replace("UNICODE UTF-8", "8859/15").encode("iso8859-15")
    assert not checker().message("x", 1, declared).findings


def test_huge_messages_are_told_in_good_time():
    began = time.monotonic()
    many = ADMISSION.replace("|VALI", "|VALI" + "~VALI" * 200_000).replace("900^^^CHU", "900^^^CHU~1" * 50_000 + "^^^CHU")
    assert report(many).findings
    assert len(report(ADMISSION + "\rOBX|1|ED|a^b||^text^XML^Base64^%|||||||" * 20_000).findings) < 1_000
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("version", ["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2"])
def test_every_version_is_known(version):
    text = f"MSH|^~\\&|A|B|C|D|20261124||ADT^A01|1|P|{version}\rEVN|A01|20261124\rPID|||9^^^A^PI||B^C\rNK1|1\rPV1||I|A"
    assert not [f for f in report(text, "none").findings if f.severity is Severity.ERROR and f.segment not in ("PID", "MSH")]
    broken = report(text.replace("\rPV1||I|A", ""), "none")
    assert ("PV1", "error") in {(f.segment, str(f.severity)) for f in broken.findings}


# ---- the answer ------------------------------------------------------------------------------------------------------


def test_the_answer_is_the_one_of_try(tmp_path, installed):
    text = ADMISSION.replace("|P|2.5", "|T|2.5").replace("MARQUEMOT^ZELIE", "^", 1).replace("MARQUEDEUX^ZELIE", "^")
    (path := installed.folder / "x.hl7").write_text(text)
    tried = installed.cli("try", path, "--json")
    assert tried.returncode == 1
    error = json.loads(tried.stdout)["error"]
    answer = report(text).answer
    assert (answer.code, answer.condition, answer.at) == ("AE", error["code"], error["at"]) == ("AE", "101", "PID-5")


def test_the_summary_counts_and_tells_the_answer():
    found = report(ADMISSION.replace("~MARQUEDEUX^ZELIE^^^^^D", "~MARQUEDEUX^ZELIE^^^^^Z").replace("|P|2.5", "|X|2.5"))
    assert found.summary == "2 errors, 1 note; the hub would answer AE 202 at MSH-11"


# ---- the command -----------------------------------------------------------------------------------------------------


def test_a_report_for_people_and_its_exit_codes(tmp_path):
    good, bad, both = tmp_path / "good.hl7", tmp_path / "bad.hl7", tmp_path / "both.hl7"
    good.write_text(ADMISSION)
    bad.write_text(ADMISSION.replace("|INSERT|N|", "|20261124|INSERT|N").replace("\r", "\n"))
    both.write_text(ADMISSION + "\r" + bad.read_text())
    done = run("check-message", good)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Profile: PAM France 2.11 (pam-fr)" in done.stdout
    assert done.stdout.rstrip().endswith("nothing found; the hub would answer AA")
    done = run("check-message", bad)
    assert done.returncode == 1
    assert "ERROR   ZBE[1]-4 (Action) is not the action, which stands in ZBE-5" in done.stdout
    assert "↳ PAM France 2.11, ZBE-3, ZBE-4" in done.stdout
    assert "on the wire they end with CR" in done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100 and "\033" not in done.stdout
    assert not any(value in done.stdout + done.stderr for value in ("MARQUEMOT", "ZELIE", "19930412", made.INS))
    done = run("check-message", both, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (1, False)
    assert [(one["number"], one["counts"]["error"]) for one in found["messages"]] == [(1, 0), (2, 1)]
    assert run("check-message", "-", stdin=ADMISSION).returncode == 0


def test_json_for_programs(tmp_path, capsys):
    (path := tmp_path / "x.hl7").write_text(ADMISSION.replace("|19930412|", "|12041993|"))
    assert check_messages([path], as_json=True) == 1
    found = json.loads(capsys.readouterr().out)
    (finding,) = [one for one in found["messages"][0]["findings"] if one["severity"] == "error"]
    assert finding == {
        "severity": "error",
        "at": "PID[1]-7",
        "segment": "PID",
        "occurrence": 1,
        "line": 3,
        "field": 7,
        "repetition": 1,
        "component": None,
        "subcomponent": None,
        "name": "Date/time of birth",
        "rule": "PID-7/type",
        "standard": "PAM France 2.11, PID-7",
        "sentence": "PID[1]-7 is not a date YYYYMMDD (00 for an unknown day or month).",
    }
    assert found["messages"][0]["profile"] == "pam-fr"
    assert check_messages([path], as_json=True, values=True) == 1
    out = capsys.readouterr().out
    assert '"value": "12041993"' in out
    assert check_messages([path], values=True) == 1
    assert "Found: 12041993" in capsys.readouterr().out


def test_every_form_of_file(tmp_path):
    lines = ADMISSION.split("\r")
    forms = {
        "cr": ADMISSION.encode(),
        "lf": "\n".join(lines).encode(),
        "crlf": ("\r\n".join(lines) + "\r\n\r\n").encode(),
        "bom": b"\xef\xbb\xbf" + ADMISSION.encode(),
        "mllp": b"\x0b" + ADMISSION.encode() + b"\r\x1c\r",
        "batch": b"FHS|^~\\&|A\rBHS|^~\\&|A\r" + ADMISSION.encode() + b"\rBTS|1\rFTS|1\r",
        "xml": xml_of_er7(read(ADMISSION.encode())),
    }
    whole = told(report(ADMISSION))
    for name, content in forms.items():
        reports = list(checker().file(name, content))
        assert len(reports) == 1 and isinstance(reports[0], Report), name
        assert told(reports[0]) == whole, name
    two = list(checker().file("two", b"\x0b" + ADMISSION.encode() + b"\r\x1c\r\x0b" + ADMISSION.encode() + b"\r\x1c\r"))
    assert [one.number for one in two] == [1, 2]


def test_wrong_use_and_what_cannot_be_read(tmp_path, capsys):
    (good := tmp_path / "good.hl7").write_text(ADMISSION)
    (junk := tmp_path / "junk.hl7").write_text("hello MARQUEMOT\n")
    (empty := tmp_path / "empty.hl7").write_text("\n")
    (broken := tmp_path / "broken.hl7").write_text("MSH|AAAA|x\r")
    for path in (tmp_path / "no.hl7", junk, empty, broken):
        assert check_messages([path]) == 2, path
        seen = capsys.readouterr()
        assert path.name in seen.err and "MARQUEMOT" not in seen.err + seen.out
    assert check_messages([good, junk]) == 2  # the good one is told all the same
    assert "the hub would answer" in capsys.readouterr().out
    assert check_messages([good], profile="pam") == 2
    assert check_messages([good], environment="prod") == 2
    assert "cda-2.1" in capsys.readouterr().err


def test_a_profile_may_be_chosen():
    mdm = made.MESSAGES["cda-2.1"][0]
    assert report(mdm, "cda-2.0").profile.name == "cda-2.0"
    assert {f.at for f in report(mdm, "cda-2.0").findings if f.severity is Severity.ERROR} == set()
    assert "MSH[1]-21" in {f.at for f in report(mdm, "lps-1.1").findings}
    plain = report(ADMISSION, "none")
    assert plain.profile is None and not plain.findings


def test_colours_only_where_somebody_looks(capsys, monkeypatch, tmp_path):
    (path := tmp_path / "x.hl7").write_text(ADMISSION.replace("|19930412|", "|12041993|"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    check_messages([path])
    assert "\033[31mERROR" in capsys.readouterr().out


# ---- official samples ------------------------------------------------------------------------------------------------

# What INDEX.md says of a file, as a finding: severity, place, end of the rule's name.
ODDITIES = [
    ("pam_sgl_a01.er7", "note", "PV1[1]-44", "PV1-44/RE"),
    ("v21_mdm_init.er7", "note", "TXA[1]-12.2", "TXA-12.2/X"),
    ("v21_mdm_init.er7", "note", "PRT[2]-15.2", "PRT-15.2/X"),
    ("v21_mdm_init.er7", "note", "OBX[8]-5.1", "routing_matrix"),
    ("v21_mdm_init_ph.er7", "error", "OBX[1]-5.5", "document_readable"),
    ("v21_mdm_del.er7", "warning", "OBX[1]-5.5", "base64_whole"),
    ("v21_mdm_del.er7", "note", "TXA[1]-13", "TXA-13/deletion"),
    ("v21_oru_n3_rplc.hl7", "warning", "OBX[1]-5.5", "base64_whole"),
    ("v21_oru_n3_rplc.hl7", "warning", "OBX[12]-5.5", "base64_whole"),
    ("v21_oru_n3_rplc.hl7", "note", "PID[1]-11.9", "PID-11{7=H}.9/X"),
    ("v21_oru_n3_rplc.hl7", "warning", "PRT[1]-8.10", "PRT-8{7=FINEJ|FINEG}.10/type"),
    ("v21_oru_n1n3_init_ph.hl7", "error", "OBX[2]-5.5", "document_readable"),
    ("v21_oru_n1n3_rplc.er7", "error", "PID[1]-3", "document_patient"),
    ("v21_oru_n1n3_rplc.er7", "error", "OBX[2]-5.5", "document_relation"),
    ("v21_oru_n1n3_del.er7", "error", "PID[1]-3", "document_patient"),
    ("v21_zam_z01_dmp_ko.hl7", "warning", "ERR[1]-5.3", "ERR-5.3/Z01"),
    ("v20_mdm_init.er7", "note", "PRT[1]-5.9.1", "PRT-5{13=RPPS|IDNPS}.9.1/table"),
    ("v20_oru_n1n3_init_ph.hl7", "error", "MSH[1]-2", "MSH-2/like"),
    ("v20_oru_n1n3_init_ph.hl7", "error", "PRT[3]-15.4", "patient_mailbox"),
    ("v12_mdm_init_ph.hl7", "error", "PID[1]-3.1", "ins_key"),
    ("v12_mdm_init_ph.hl7", "warning", "OBX[1]-5.5", "base64_whole"),
    ("lps11_mdm_init.er7", "note", "OBX[2]-3.1", "OBX{mail}-3.1/like"),
    ("lps11_mdm_del.er7", "note", "TXA[1]-13", "TXA-13/deletion"),
    ("lps10_mdm_bio.hl7", "error", "PID[1]-3", "document_patient"),
    ("lps10_mdm_bio.hl7", "error", "TXA[1]-12", "document_number"),
    ("lps10_mdm_bio_cut.hl7", "error", "OBX[1]-5.5", "document_readable"),
    ("tlr_f1_orm_nw.hl7", "note", "PV1[1]-1", "PV1-1/RE"),
    ("tlr_f3_oru_ok.hl7", "warning", "PV1", "PV1/R"),
    ("tlr_f3_oru_ok.hl7", "warning", "OBX[1]-5.5", "base64_whole"),
    ("tlr_f4_omi.hl7", "warning", "OBX[7]-2", "OBX-2/lot"),
]
CONFORMANT = (
    "pam_sgl_a01.er7", "pam_a01_ino_ic.er7", "pam_a01_ino_inc.er7", "pam_a01_na_na.er7", "v21_mdm_init.er7", "v21_mdm_del.er7",
    "v21_oru_n3_rplc.hl7", "v21_zam_z01_dmp_ko.hl7", "v21_zam_z02_mss_ok.hl7", "v20_zam_z01_dmp_ko.hl7", "v20_zam_z02_mss_ok.hl7",
    "v20_zam_z03_read_ok.hl7", "v21_mdm_del_ack.er7", "v12_mdm_init_ack.hl7", "lps11_mdm_init.er7", "lps11_mdm_init_ack.er7",
    "tlr_f1_orm_nw.hl7", "tlr_f3_oru_ok.hl7", "tlr_f4_omi.hl7",
)  # fmt: skip


@cache
def _sample(path: Path) -> Report:
    (found,) = checker().file(path.name, path.read_bytes())
    assert isinstance(found, Report)
    return found


@pytest.mark.parametrize(("file", "severity", "at", "rule"), ODDITIES, ids=lambda value: value)
def test_an_official_sample_shows_what_it_is_known_for(samples, file, severity, at, rule):
    found = _sample(samples / "hl7v2" / file)
    assert (severity, at, rule) in {(str(f.severity), f.at or f.segment, f.rule) for f in found.findings}


@pytest.mark.parametrize("file", CONFORMANT)
def test_a_conformant_official_sample_has_no_error(samples, file):
    found = _sample(samples / "hl7v2" / file)
    assert [(f.at, f.sentence) for f in found.findings if f.severity is Severity.ERROR] == []


def test_every_official_sample_gets_a_report_and_the_standard_alone_finds_no_error(samples):
    files = sorted(one for one in (samples / "hl7v2").iterdir() if one.suffix in (".hl7", ".er7"))
    assert len(files) >= 40
    for path in files:
        found = _sample(path)
        assert found.profile is not None, path.name
        standard = check_standard(found.message, STRUCTURES)
        assert [(f.at, f.sentence) for f in standard if f.severity is not Severity.NOTE] == [], path.name


# ---- anything --------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_reports_or_sentences(data):
    for content in (data, b"MSH|^~\\&|" + data, ADMISSION.encode() + b"\r" + data):
        for one in checker().file("x", content):
            assert isinstance(one, Report) or one["sentence"]


_NAMES = st.sampled_from(
    ["MSH", "EVN", "PID", "PD1", "NK1", "PV1", "PV2", "ROL", "OBX", "AL1", "DG1", "PR1", "IN1"]
) | st.sampled_from(["ORC", "OBR", "TXA", "NTE", "SPM", "SCH", "AIS", "RGS", "PRT", "ZBE", "ZZZ", "DSC"])


@given(
    st.lists(_NAMES, max_size=40), st.sampled_from(["ADT^A01^ADT_A01", "ORU^R01^ORU_R01", "SIU^S12^SIU_S12", "OML^O21^OML_O21"])
)
@settings(max_examples=200, deadline=None)
def test_any_order_of_segments_ends(names, kind):
    text = f"MSH|^~\\&|A|B|C|D|20261124||{kind}|1|P|2.5\r" + "\r".join(f"{name}|1" for name in names)
    try:
        message = read(text.encode())
    except MessageRefused:
        return
    check_standard(message, STRUCTURES)


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_example_of_the_page_is_what_the_command_prints(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "check-message.md").read_text(encoding="utf-8")
    message, output = (page.split(f"```{kind}\n")[1].split("\n```")[0] for kind in ("hl7", "text"))
    monkeypatch.chdir(tmp_path)
    Path("admission.hl7").write_text(message.replace("\n", "\r"), encoding="utf-8")
    assert check_messages([Path("admission.hl7")]) == 1
    assert capsys.readouterr().out.rstrip("\n") == output


def test_the_page_names_every_profile():
    page = (ROOT / "docs" / "check-message.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in NAMES)
