"""`--help` of everything, and the two pages that say the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from typer.main import get_command

from hub.app.cli import app
from hub.app.config import Configuration

ROOT = Path(__file__).resolve().parents[3]


def commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    waiting = [((), get_command(app))]
    while waiting:
        words, group = waiting.pop()
        for name, one in getattr(group, "commands", {}).items():
            found.append((*words, name))
            waiting.append(((*words, name), one))
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_help_has_an_example(words):
    one = get_command(app)
    for word in words:
        one = one.commands[word]
    assert "Example: vaguemestre" in one.help, words
    described = [parameter for parameter in one.params if parameter.name != "help" and parameter.param_type_name == "option"]
    assert all(parameter.help for parameter in described), [p.name for p in described if not p.help]


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['vaguemestre', '--help']\nfrom hub.app.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'sqlalchemy', 'fastapi', 'alembic', 'pydantic', 'uvicorn', 'structlog', 'lxml', 'prometheus_client', 'sqlite3', 'asyncio'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, cwd=ROOT, timeout=30)
    assert "HEAVY []" in done.stdout, done.stdout[-300:] + done.stderr


def test_the_page_of_commands_names_them_all():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    missing = [words for words in commands() if words and f"vaguemestre {' '.join(words)}" not in page and words[0] + " " not in page]
    assert missing == []
    for words in commands():
        if len(words) == 2:
            assert f"vaguemestre {' '.join(words)}" in page


def settings(model: type[BaseModel], section: str = "") -> list[tuple[str, str]]:
    found = []
    for name, field in model.model_fields.items():
        inner = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if inner and name != "when":
            found += settings(inner[0], f"{section}.{name}" if section else name)
        else:
            found.append((section, name))
    return found


def test_the_page_of_settings_has_each_in_its_section():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    sections = {part.partition("]")[0].lstrip("[").strip("`["): part for part in page.replace("### `", "## `").split("## `")[1:]}
    known = settings(Configuration)
    assert len(known) > 60
    missing = [(section, name) for section, name in known if f"\n| `{name}` |" not in sections.get(section, "")]
    assert missing == []
    documented = [
        (section, row.split("`")[1]) for section, text in sections.items() for row in text.splitlines() if row.startswith("| `")
    ]
    assert [one for one in documented if one not in known and one[1] != "VAGUEMESTRE_CONFIG"] == []


def test_a_table_default_of_the_page_is_the_default():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = {row.split("`")[1]: row.split("|")[3] for row in page.splitlines() if row.startswith("| `")}
    flat = {}

    def walk(model):
        for name, field in model.model_fields.items():
            inner = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type) and issubclass(kind, BaseModel)]
            if inner and name != "when":
                walk(inner[0])
            elif isinstance(field.default, int | float) and not isinstance(field.default, bool):
                flat[name] = field.default
    walk(Configuration)
    assert len(flat) > 15
    wrong = {name: (default, rows[name]) for name, default in flat.items() if f"`{default:g}`" not in rows[name] and f"`{default}`" not in rows[name]}
    assert wrong == {}
