"""`check` and `doctor` of an installation with the rules of a kit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hub.app import schematron_rules
from hub.app.config import ConfigurationRefused, build

pytest.importorskip("saxonche")

KIT = Path(__file__).resolve().parents[2] / "vectors" / "cda" / "schematron" / "kit"


def installation(folder: Path, **cda: object):
    return build({"hub": {"data_dir": "data"}, "cda": {"schematron_dir": "kit", **cda}}, folder / "vaguemestre.toml")


@pytest.fixture
def kit(tmp_path) -> Path:
    return shutil.copytree(KIT, tmp_path / "kit")


def test_a_good_kit_is_counted_and_leaves_nothing_behind(tmp_path, kit):
    assert schematron_rules.remarks(installation(tmp_path)) == []
    [verdict] = schematron_rules.rules(installation(tmp_path), None)
    assert (verdict.level, verdict.says) == ("ok", "3 rule files, 27 rules")
    assert not (tmp_path / "data").exists()


def test_a_rule_file_that_does_not_compile_is_named_with_line_and_reason(tmp_path, kit):
    part = kit / "schematrons" / "include" / "Entete_TEST.sch"
    part.write_text(part.read_text("utf-8").replace("number(cda:v", "number((cda:v"), "utf-8")
    (kit / "jeuxDeValeurs" / "JDV_B.xml").unlink()
    installed = installation(tmp_path, schematron_checks=["header", "doctype", "IHE.sch"])
    told = schematron_rules.remarks(installed)
    assert [one for one in told if "Entete_TEST.sch: line 4: XPST0003" in one]
    assert "cda.schematron_dir: IHE.sch: no rule file of this name is in the folder" in told
    levels = [verdict.level for verdict in schematron_rules.rules(installed, None)]
    assert levels == ["warning"] * (len(levels) - 1) + ["ok"]


def test_without_the_library_it_is_a_mistake_and_no_rule_runs(tmp_path, kit, monkeypatch):
    monkeypatch.setattr(schematron_rules, "saxon_is_there", lambda: False)
    installed = installation(tmp_path)
    [mistake] = schematron_rules.library_mistakes(installed)
    assert mistake.key == "cda.schematron_dir"
    assert "vaguemestre[schematron]" in mistake.reason
    assert [verdict.level for verdict in schematron_rules.rules(installed, None)] == ["wrong"]
    assert schematron_rules.bench(installed) is None


def test_a_folder_that_is_not_there_and_names_with_a_folder_are_mistakes(tmp_path):
    for cda, key in (({}, "cda.schematron_dir"), ({"schematron_checks": ["../x.sch"]}, "cda.schematron_checks")):
        with pytest.raises(ConfigurationRefused) as refused:
            installation(tmp_path, **cda)
        assert [mistake.key for mistake in refused.value.mistakes] == [key]


def test_check_ends_well_with_a_remark(installed):
    shutil.copytree(KIT, installed.folder / "kit")
    (installed.folder / "kit" / "schematrons" / "abstract" / "inValueSet.sch").write_text("<pattern", "utf-8")
    installed.configure('[cda]\nschematron_dir = "kit"\n')
    done = installed.cli("check", "--json")
    assert done.returncode == 0, done.stderr
    assert any("inValueSet.sch: line 1: not well-formed XML" in one for one in json.loads(done.stdout)["remarks"])
