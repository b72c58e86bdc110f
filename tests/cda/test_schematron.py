"""ISO Schematron rules over synthetic documents, with a kit of our own that is built as the national one is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.app import schematron_kit
from hub.app.schematron_kit import Kit
from hub.app.schematron_worker import MOST_FINDINGS, Checker, RuleFolder
from hub.formats.schematron import RuleChoice, document_with_choice, read_schema, to_xslt
from hub.formats.schematron.choice import model_of
from hub.model.refusals import Misconfigured, Unreadable

pytest.importorskip("saxonche")

VECTORS = Path(__file__).parents[1] / "vectors" / "cda" / "schematron"
HEADER, DOCTYPE_2024 = "ASIP_STRUCT_MIN_STRUCMIN", "CI_SIS_TEST_2024_01"
SOUND = {
    "INSTRUCTION": "",
    "REALM": "FR",
    "CODE": "A1",
    "IPP": "900001",
    "FAMILY": "TESTUT",
    "GIVEN": "<given>ZOE</given>",
    "TIME": "20261124",
    "SECTIONS": "<component><section><title>t</title></section></component>",
}
NAMED = '<?oxygen SCHSchema="../schematrons/profils/IHE.sch"?><?oxygen SCHSchema="../schematrons/ci-sis_test_2023.01.sch"?>'
DISPLAY = '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">{}</xsl:stylesheet>'
SCHEMA = '<schema xmlns="http://purl.oclc.org/dsdl/schematron" queryBinding="xslt2">{}</schema>'
PARAMETERS = '<param name="a" value="x"/><param name="ab" value="y"/><param name="b" value="$a"/>'


def document(**changed: str) -> bytes:
    text = (VECTORS / "document.xml").read_text("utf-8")
    for name, value in (SOUND | {name.upper(): value for name, value in changed.items()}).items():
        text = text.replace(f"@{name}@", value)
    return text.encode()


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Path:
    return shutil.copytree(VECTORS / "kit", tmp_path_factory.mktemp("rules") / "kit")


@pytest.fixture(scope="module")
def checker(kit) -> Checker:
    return Checker(RuleFolder(str(kit), cache=str(kit.parent / "cache")))


def found(checker: Checker, xml: bytes) -> list[tuple[str, str, str]]:
    return [(one.code.removeprefix("SCHEMATRON_"), one.at, one.sentence) for one in checker.check(xml).findings]


def test_a_sound_document_has_no_finding(checker):
    assert found(checker, document()) == []


CASES = {
    "assert with diagnostics": (
        {"realm": "DE"},
        [(f"{HEADER}_ERROR", "/ClinicalDocument", "realm-1: realmCode is FR Realm is FR.")],
    ),
    "value set by doc() and by is-a with parameters": (
        {"code": "Z9"},
        [
            (f"{HEADER}_ERROR", "/ClinicalDocument", "code-1: in the value set"),
            (f"{DOCTYPE_2024}_ERROR", "/ClinicalDocument/code", "[JDV] ClinicalDocument/code […] is not in JDV_A.xml"),
        ],
    ),
    "extended rule, no value of the document": (
        {"family": "MARQUETESTEUR"},
        [(f"{HEADER}_ERROR", "/ClinicalDocument/recordTarget/patientRole/patient/name", "name-1: … (…) is long")],
    ),
    "report with a role": (
        {"given": ""},
        [(f"{HEADER}_WARNING", "/ClinicalDocument/recordTarget/patientRole/patient/name", "name-2: no given name beside …")],
    ),
    "context of an attribute, subject, rule of an extended rule with sch:name": (
        {"ipp": "12"},
        [(f"{HEADER}_INFO", "/ClinicalDocument/recordTarget/patientRole/id", "id-1: short identifier …")],
    ),
    "a rule that meets a dynamic error": (
        {"time": "MARQUE"},
        [(f"{DOCTYPE_2024}_NOT_RUN", "/ClinicalDocument/author", "a rule could not be evaluated here (FORG0001)")],
    ),
    "rules by the template and the version of the document": (
        {"sections": ""},
        [(f"{DOCTYPE_2024}_ERROR", "/ClinicalDocument/component/structuredBody", "[TEST 2024] a section is needed")],
    ),
    "rules by the processing instruction, in another letter case": (
        {"sections": "", "instruction": NAMED},
        [("CI_SIS_TEST_2023_01_ERROR", "/ClinicalDocument/component/structuredBody", "[TEST] a section is needed")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_fails_is_told_with_its_place_and_no_value(checker, name):
    changed, expected = CASES[name]
    assert found(checker, document(**changed)) == expected


def test_an_element_is_named_in_a_sentence(checker):
    xml = document().replace(b"<name>", b'<name nullFlavor="UNK" extension="MARQUE">')
    assert [one[2] for one in found(checker, xml)] == ["any-1: name has nullFlavor and a value"]


def test_one_check_that_cannot_be_evaluated_leaves_the_others_and_siblings_are_told_by_position(checker):
    one = b"<author><time value='x'/></author>"
    told = found(checker, document().replace(b"<author>", one + b"<author>"))
    assert told == [
        (f"{DOCTYPE_2024}_ERROR", "/ClinicalDocument/author[1]", "[TEST] assignedAuthor"),
        (f"{DOCTYPE_2024}_NOT_RUN", "/ClinicalDocument/author[1]", "a rule could not be evaluated here (FORG0001)"),
    ]


def test_a_document_inside_a_stylesheet_is_taken_out(checker):
    inside = document(realm="DE", instruction="").partition(b"?>")[2].strip().decode()
    assert [one[:2] for one in found(checker, DISPLAY.format(inside).encode())] == [(f"{HEADER}_ERROR", "/ClinicalDocument")]


def test_the_hundredth_finding_is_followed_by_a_count(checker):
    authors = b"<author><time value='1'/></author>" * (MOST_FINDINGS + 20)
    findings = found(checker, document(ipp="1").replace(b"<author>", authors + b"<author>"))
    assert len(findings) == MOST_FINDINGS + 1
    assert findings[0][0] == f"{DOCTYPE_2024}_ERROR"
    assert findings[-1] == ("MORE", "/", "21 more failed rules are not listed (20 error, 1 info)")


@pytest.mark.parametrize("xml", [b"", b"<a/>", b"\xff\xfe", b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>"])
def test_what_is_no_cda_is_told_and_not_parsed(checker, xml):
    assert [one[0] for one in found(checker, xml)] == ["NOT_RUN"]


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(0, 2500), put=st.binary(max_size=6))
def test_no_document_raises_anything(checker, cut, put):
    whole = document()
    checker.check(whole[:cut] + put + whole[cut + len(put) :])


# ---- which rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (RuleChoice((), (("1.2.250.1.213.1.1.1.999", "2023.01"),), True), "CI-SIS_TEST_2023.01"),
        (RuleChoice((), (("1.2.250.1.213.1.1.1.999", ""),), True), "CI-SIS_TEST_2024.01"),
        (RuleChoice((), (("1.2.250.1.213.1.1.1.999", ""),), False), "ASIP-STRUCT-MIN-StrucMin"),
        (RuleChoice(("../../x.sch",), (("1.2.250.1.213.1.1.1.7", ""),), True), "ASIP-STRUCT-MIN-StrucMin"),
    ],
)
def test_the_rules_of_a_document(kit, choice, expected):
    assert [Path(file).stem for file in Kit(kit, None).chosen(("doctype",), choice)] == [expected]


def test_the_model_that_rules_ask_for_is_no_generic_template():
    asked = "templateId[@root='1.2.250.1.213.1.1.1.1'] templateId[@root=\"1.2.250.1.213.1.1.1.55\"] templateId[@root='1.2.3']"
    assert model_of([asked, "templateId[ @root = '1.2.250.1.213.1.1.1.1']"]) == "1.2.250.1.213.1.1.1.55"


def test_a_choice_is_read_only_of_a_cda():
    text, choice = document_with_choice(document(instruction=NAMED))
    assert text.startswith("<ClinicalDocument")
    assert choice.named == ("IHE.sch", "ci-sis_test_2023.01.sch")
    assert choice.models == (("1.2.250.1.213.1.1.1.999", "2024.01"),)
    with pytest.raises(Unreadable):
        document_with_choice(b"<ClinicalDocument/>")


# ---- rule files that are wrong, and the cache ------------------------------------------------------------------------------


class Files:
    def __init__(self, **texts: str) -> None:
        self._texts = {f"/{name}.sch": text for name, text in texts.items()}

    def read(self, name: str) -> bytes:
        return self._texts[name].encode()

    def find(self, name: str, beside: str) -> str | None:
        return f"/{name}" if f"/{name}" in self._texts else None

    def uri(self, name: str) -> str:
        return f"file://{name}"


BROKEN = {
    "not well-formed": ("<schema>", "line 1", "not well-formed XML"),
    "another document": ("<a/>", "line 1", "is not a Schematron schema"),
    "no inclusion": (SCHEMA.format('\n<include href="x.sch"/>'), "line 2", "includes x.sch, which is not there"),
    "a circle": (SCHEMA.format('<include href="a.sch"/>'), "line 1", "includes a whole schema, where a part of one is meant"),
    "is-a": (SCHEMA.format('<pattern is-a="p"/>'), "line 1", "is-a 'p', which is not there"),
    "extends": (
        SCHEMA.format('<pattern>\n<rule context="a">\n<extends rule="r"/></rule></pattern>'),
        "line 3",
        "extends 'r', which is not there",
    ),
    "a rule that extends itself": (
        SCHEMA.format(
            '<pattern><rule abstract="true" id="r"><extends rule="r"/></rule>'
            '<rule context="a"><extends rule="r"/></rule></pattern>'
        ),
        "line 1",
        "rules extend each other in a circle",
    ),
    "phase": (
        '<schema xmlns="http://purl.oclc.org/dsdl/schematron" defaultPhase="p"/>',
        "line 1",
        "defaultPhase 'p' is not there",
    ),
    "no test": (SCHEMA.format('<pattern><rule context="a"><assert>x</assert></rule></pattern>'), "line 1", "assert without test"),
    "binding": ('<schema xmlns="http://purl.oclc.org/dsdl/schematron" queryBinding="stx"/>', "line 1", "only xslt2 is known"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_file_is_told_with_its_line(name):
    text, line, reason = BROKEN[name]
    with pytest.raises(Misconfigured) as refused:
        read_schema("/a.sch", Files(a=text))
    assert (refused.value.file, refused.value.key) == ("/a.sch", line)
    assert reason in refused.value.reason


def test_parameters_are_put_in_once_and_by_their_whole_name():
    text = SCHEMA.format(
        '<pattern abstract="true" id="t"><rule context="$a"><assert test="$ab = $b or $abc">x</assert></rule></pattern>'
        f'<pattern is-a="t">{PARAMETERS}</pattern>'
    )
    [pattern] = read_schema("/a.sch", Files(a=text)).patterns
    assert pattern.rules[0].context == "x"
    assert pattern.rules[0].body[0].test == "y = $a or $abc"


def test_two_patterns_may_give_one_name_to_two_values():
    rule = '<rule context="a"><assert test="$v">x</assert></rule>'
    text = SCHEMA.format(f'<pattern><let name="v" value="1"/>{rule}</pattern><pattern><let name="v" value="2"/>{rule}</pattern>')
    xslt = to_xslt(read_schema("/a.sch", Files(a=text)), "file:///a.sch").text
    assert '<xslt_:variable name="v" select="1"/>' in xslt
    assert '<xslt_:variable name="v-p2" select="2"/>' in xslt
    assert 'test="not($v-p2)"' in xslt


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 3000), put=st.text("<>/=\"'abt ", max_size=5))
def test_a_rule_file_is_read_or_refused(cut, put):
    whole = (VECTORS / "kit" / "schematrons" / "CI-SIS_TEST_2024.01.sch").read_text("utf-8")
    parts = {path.name.removesuffix(".sch"): path.read_text("utf-8") for path in (VECTORS / "kit").rglob("*.sch")}
    files = Files(a=whole[:cut] + put + whole[cut + len(put) :], **{f"include/{name}": text for name, text in parts.items()})
    try:
        to_xslt(read_schema("/a.sch", files), "file:///a.sch")
    except Misconfigured as refused:
        assert refused.key.startswith(("line ", "-"))


def test_an_expression_that_does_not_compile_is_told_with_file_and_line(tmp_path):
    kit = shutil.copytree(VECTORS / "kit", tmp_path / "kit")
    part = kit / "schematrons" / "include" / "Entete_TEST.sch"
    part.write_text(part.read_text("utf-8").replace("number(cda:versionNumber", "number(cda:versionNumber]"), "utf-8")
    checker = Checker(RuleFolder(str(kit), checks=("header", "doctype", "absent.sch")))
    broken = {Path(one.file).name: (one.line, one.reason) for one in checker.examine() if one.reason}
    assert broken.keys() == {"Entete_TEST.sch", "absent.sch"}
    assert broken["Entete_TEST.sch"][0] == 4
    assert broken["Entete_TEST.sch"][1].startswith("XPST0003")
    checked = checker.check(document(realm="DE"))
    assert [one.code for one in checked.findings] == [f"SCHEMATRON_{DOCTYPE_2024}_NOT_RUN", f"SCHEMATRON_{HEADER}_ERROR"]
    assert [(Path(one.file).name, one.key) for one in checked.not_run] == [("Entete_TEST.sch", "line 4")]


def test_a_translation_is_kept_until_one_of_its_files_changes(tmp_path, monkeypatch):
    kit = shutil.copytree(VECTORS / "kit", tmp_path / "kit")
    times = []
    monkeypatch.setattr(schematron_kit, "read_schema", lambda *given: times.append(1) or read_schema(*given))

    def translated():
        one = Kit(kit, tmp_path / "cache")
        return one.translated(one.header())

    first = translated()
    assert translated() == first
    assert len(times) == 1
    part = kit / "schematrons" / "profils" / "structurationMinimale" / "include" / "DTr1_ANY.sch"
    part.write_text(part.read_text("utf-8").replace("any-1", "any-2"), "utf-8")
    assert "any-2" in translated().stylesheet.text
    assert len(times) == 2
    for kept in (tmp_path / "cache").glob("*.json"):
        kept.write_text("{", "utf-8")
    assert translated().stylesheet.text.count("any-2") == 1


def test_a_value_set_that_is_nowhere_is_named(tmp_path):
    kit = shutil.copytree(VECTORS / "kit", tmp_path / "kit")
    (kit / "jeuxDeValeurs" / "JDV_A.xml").unlink()
    one = Kit(kit, tmp_path / "cache")
    assert one.translated(one.header()).absent == ("include/voc-1.2.3-DYNAMIC.xml",)
