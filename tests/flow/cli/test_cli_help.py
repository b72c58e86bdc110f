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
        "heavy = {'sqlalchemy', 'fastapi', 'alembic', 'pydantic', 'uvicorn', 'structlog', 'lxml', 'sqlite3'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, cwd=ROOT, timeout=30)
    assert "HEAVY []" in done.stdout, done.stdout[-300:] + done.stderr


def test_the_page_of_commands_names_them_all():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    groups = {words[:1] for words in commands() if len(words) == 2}
    missing = [words for words in commands() if words and words not in groups and f"vaguemestre {' '.join(words)} " not in page]
    assert missing == []


def settings(model: type[BaseModel], section: str = "") -> list[tuple[str, str, object]]:
    """Section, name and default of every setting."""
    found = []
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if inner and name != "when":
            found += settings(inner[0], f"{section}.{name}" if section else name)
        else:
            found.append((section, name, field.default))
    return found


def documented() -> dict[tuple[str, str], list[str]]:
    """The cells of every row of the page's tables."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    found = {}
    for part in page.replace("### `", "## `").split("## `")[1:]:
        section = part.partition("]")[0].lstrip("[")
        found.update({(section, row.split("`")[1]): row.split("|") for row in part.splitlines() if row.startswith("| `")})
    return {key: cells for key, cells in found.items() if key[1] != "VAGUEMESTRE_CONFIG"}


def test_the_page_of_settings_has_each_in_its_section():
    known = {(section, name) for section, name, _ in settings(Configuration)}
    assert len(known) > 60
    assert known == documented().keys()


def test_a_default_of_the_page_is_the_default():
    rows = documented()
    numbers = [
        (section, name, default)
        for section, name, default in settings(Configuration)
        if isinstance(default, int | float | str) and not isinstance(default, bool) and default != ""
    ]
    assert len(numbers) > 25
    wrong = []
    for section, name, default in numbers:
        written = {f'`"{default}"`'} if isinstance(default, str) else {f"`{default:g}`", f"`{default}`"}
        if not any(text in rows[section, name][3] for text in written):
            wrong.append((section, name, default, rows[section, name][3]))
    assert wrong == []
