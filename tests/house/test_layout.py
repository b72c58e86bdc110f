"""What the page on style promises and no linter checks."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_no_init_file_under_tests():
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize("name", ["hub", "adapters", "mappings", "hub.flow.receive", "hub.web.services"])
def test_the_packages_imported_are_ours(name):
    assert Path(importlib.import_module(name).__file__).is_relative_to(ROOT)


def test_log_takes_only_fields_of_the_closed_set():
    from hub.model import log

    with pytest.raises(log.UnknownLogField):
        log.event("x", patient="anything")


def test_every_log_call_uses_known_fields():
    from hub.model.log import FIELDS

    used = set()
    for path in [*(ROOT / "hub").rglob("*.py"), *(ROOT / "adapters").rglob("*.py")]:
        for call in re.findall(r"log\.event\(((?:[^()]|\([^()]*\))*)\)", path.read_text(encoding="utf-8")):
            used |= set(re.findall(r"(?<![\w.])(\w+)=", re.sub(r"\([^()]*\)", "", call)))
    assert used - FIELDS - {"level"} == set()


def test_every_document_that_the_readme_names_exists():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (ROOT / target).exists(), target


def test_no_large_file_is_kept_in_the_repository():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\0")
    assert [name for name in names if name and (ROOT / name).exists() and (ROOT / name).stat().st_size > 400_000] == []
