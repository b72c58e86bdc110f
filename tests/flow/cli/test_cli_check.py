"""`vaguemestre check`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

LAB = """
[[destination]]
name = "lab-out"
kind = "mllp"
connect = "127.0.0.1:2999"
[[route]]
source = "his"
when = {type = "ORU", event = "R01"}
to = ["lab-out"]
"""


@pytest.mark.parametrize("file", sorted((ROOT / "config").glob("*.toml")), ids=lambda path: path.name)
def test_the_configurations_that_come_with_the_hub_are_valid(command, file):
    done = command("check", "--config", file)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_graph_is_drawn(installed):
    installed.configure(LAB)
    done = installed.cli("check")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"his  MLLP 127.0.0.1:{installed.mllp}, clear text" in lines
    assert "├── always ──▶ record  the patient record, here" in lines
    assert any(line.startswith("├── always ──▶ requested") and "destination not configured" in line for line in lines)
    assert "└── type = ORU and event = R01 ──▶ lab-out  MLLP 127.0.0.1:2999, clear text" in lines
    assert not installed.data.exists()


def test_the_graph_as_json(installed):
    installed.configure(LAB)
    graph = installed.json("check")
    his = next(source for source in graph["sources"] if source["name"] == "his")
    assert his["routes"] == [
        {"when": {}, "says": "always", "to": ["record", "requested"], "mapping": None},
        {"when": {"type": "ORU", "event": "R01"}, "says": "type = ORU and event = R01", "to": ["lab-out"], "mapping": None},
    ]
    assert {d["name"]: d["waits"] for d in graph["destinations"]} == {
        "record": None,
        "lab-out": None,
        "dmp": "destination not configured",
        "mssante:<address>": "destination not configured",
    }
    assert graph["remarks"] == []


def test_every_mistake_is_told_with_file_key_and_reason(installed):
    installed.configure(LAB.replace('"lab-out"]', '"lab-ou"]').replace('"mllp"', '"mlp"'), source="max_conections = 5")
    done = installed.cli("check")
    assert done.returncode == 2
    assert done.stdout == ""
    keys = [line.removeprefix(f"{installed.file}: ").split(": ")[0] for line in done.stderr.splitlines()]
    assert keys == ["source[his].max_conections", "destination[lab-out].kind"]
    document = json.loads(installed.cli("check", "--json").stdout)
    assert [m["key"] for m in document["mistakes"]] == keys
    assert {m["file"] for m in document["mistakes"]} == {str(installed.file)}


def test_a_name_that_leads_nowhere_is_a_mistake(installed):
    installed.configure(LAB.replace('to = ["lab-out"]', 'to = ["lab-ou"]'))
    done = installed.cli("check")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{installed.file}: route[1].to: names 'lab-ou', which is no [[destination]]")


@pytest.mark.parametrize("name", ["hub", "api"])
def test_a_source_does_not_take_a_name_of_the_hub_s_own(installed, name):
    installed.configure(LAB + f'[[source]]\nname = "{name}"\nkind = "mllp"\nlisten = "127.0.0.1:0"\n')
    done = installed.cli("check")
    assert done.returncode == 2
    assert f"source[{name}].name: is a name that the hub uses itself" in done.stderr


def test_no_file(command, tmp_path):
    done = command("check", "--config", tmp_path / "nothing.toml")
    assert done.returncode == 2
    assert "nothing.toml: -: cannot be read (No such file or directory)" in done.stderr


def test_what_is_probably_not_meant_is_remarked(installed):
    installed.configure(LAB.replace('to = ["lab-out"]', 'to = ["record"]'), routes="[]", hub="")
    installed.file.write_text(installed.file.read_text().replace(f"127.0.0.1:{installed.mllp}", f"0.0.0.0:{installed.mllp}"))
    done = installed.cli("check")
    assert done.returncode == 0
    remarks = [line for line in done.stdout.splitlines() if line.startswith("! ")]
    assert [remark.split(":")[0] for remark in remarks] == ["! source[his].listen", "! destination[lab-out]"]


# ---- mappings of the site --------------------------------------------------------------------------------------------


def with_mapping(installed, code: str) -> Path:
    folder = installed.folder / "site_mapping"
    folder.mkdir()
    (folder / "ours.py").write_text(code)
    installed.configure(LAB + 'mapping = "shout"\n[mappings]\nfolder = "site_mapping"\n')
    return folder / "ours.py"


def test_a_site_mapping_is_shown(installed):
    with_mapping(installed, "REWRITES = {'shout': lambda message, site: message.raw}\n")
    done = installed.cli("check")
    assert done.returncode == 0, done.stderr
    assert "──▶ lab-out rewritten by shout" in done.stdout
    assert "Site modules  ours.py" in done.stdout


def test_the_example_mapping_loads(installed):
    shutil.copytree(ROOT / "examples" / "site_mapping", installed.folder / "site_mapping")
    installed.configure(LAB + 'mapping = "local-to-loinc"\n[mappings]\nfolder = "site_mapping"\n')
    assert installed.cli("check").returncode == 0


@pytest.mark.parametrize(
    ("code", "key", "reason"),
    [
        ("x = 1\ny = (\n", "line 2", "cannot be imported (SyntaxError): '(' was never closed"),
        ("\n\nimport no_such_thing\n", "line 3", "cannot be imported (ModuleNotFoundError): No module named 'no_such_thing'"),
        ("STRUCTURES = [3]\n", "STRUCTURES[1]", "must be (reads(…), structure)"),
        ("REWRITES = {'shout': 3}\n", "REWRITES", "must be a dict of name: function(message, site)"),
    ],
)
def test_a_broken_site_module_is_a_mistake_with_its_place(installed, code, key, reason):
    module = with_mapping(installed, code)
    done = installed.cli("check")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{module}: {key}: {reason}")
    assert done.stderr.count("\n") == 1


def test_a_route_that_names_no_rewriting_is_a_mistake(installed):
    with_mapping(installed, "REWRITES = {'whisper': lambda message, site: message.raw}\n")
    done = installed.cli("check")
    assert done.returncode == 2
    assert done.stderr == (
        f"{installed.file}: route[1].mapping: names 'shout', which no mapping module provides (there are: whisper)\n"
    )


def test_files_that_are_no_certificate_are_a_mistake(installed):
    for name in ("cert.pem", "key.pem"):
        (installed.folder / name).write_text("not a certificate")
    installed.configure(source='tls_cert_file = "cert.pem"\ntls_key_file = "key.pem"')
    done = installed.cli("check")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{installed.file}: source[his].tls_cert_file: certificate and key not usable")
