"""`--help` of everything, and the two pages that say the same."""

from __future__ import annotations

import re
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


def models(annotation: object) -> list[type[BaseModel]]:
    """The sections that a setting holds: one, or one of each kind."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models(part)]


def settings(model: type[BaseModel], section: str = "", kind: str = "") -> dict[tuple[str, str, str], object]:
    """The default of every setting, by section, kind (where a section has kinds) and name."""
    found = {}
    for name, field in model.model_fields.items():
        inner = models(field.annotation) if name != "when" else []
        for one in inner:
            kinds = get_args(one.model_fields["kind"].annotation) if "kind" in one.model_fields else ("",)
            found |= settings(one, f"{section}.{name}" if section else name, kinds[0])
        if not inner:
            found[section, kind, name] = field.default
    return found


def documented() -> dict[tuple[str, str, str], list[str]]:
    """The cells of every row of the page's tables, by section, kind and name. What stands under no kind is of each."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    known = settings(Configuration)
    found = {}
    for part in re.split(r"^#+ ", page, flags=re.MULTILINE)[1:]:
        heading = part.partition("\n")[0]
        rows = {row.split("`")[1]: row.split("|") for row in part.splitlines() if row.startswith("| `")}
        for section in re.findall(r"`\[+([a-z._]+)\]+`", heading):
            every = {kind for where, kind, _ in known if where == section}
            for kind in re.findall(r'`"([a-z]+)"`', heading) or every:
                found |= {(section, kind, name): cells for name, cells in rows.items()}
    return found


def test_the_page_of_settings_has_each_in_its_section():
    known = settings(Configuration).keys()
    assert len(known) > 100
    assert known == documented().keys()


def test_a_default_of_the_page_is_the_default():
    rows = documented()
    numbers = {
        key: default
        for key, default in settings(Configuration).items()
        if isinstance(default, int | float | str) and not isinstance(default, bool) and default != ""
    }
    assert len(numbers) > 50
    wrong = []
    for key, default in numbers.items():
        written = {f'`"{default}"`'} if isinstance(default, str) else {f"`{default:g}`", f"`{default}`"}
        if not any(text in rows[key][3] for text in written):
            wrong.append((*key, default, rows[key][3]))
    assert wrong == []
