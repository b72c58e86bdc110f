"""The rules of `[cda]` in this installation: what the side process is built with, and what an examination says of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hub.app.config import Installation, absolute
from hub.app.config_cda import saxon_is_there
from hub.app.doctor_running import Running
from hub.app.terminal import counted
from hub.flow.workshop import Bench, Limits, Workshop
from hub.model import log
from hub.model.refusals import HubError, Misconfigured
from hub.store.verdicts import OK, WARNING, WRONG, Verdict

if TYPE_CHECKING:
    from hub.app.schematron_worker import Examined

BUILDER = "hub.app.schematron_worker:build"
CACHE = "schematron"  # below the data folder
EXAMINATION = Limits(workers=1, time_s=600.0, memory_mb=4096, tasks=1)
_INSTALL = "pip install 'vaguemestre[schematron]'"
_MISSING = f"needs the library saxonche: {_INSTALL}"


def bench(installation: Installation) -> Bench | None:
    """How a side process for the rules is built; None when no folder is set, or the library is missing."""
    section = installation.configuration.cda
    folder = absolute(installation, section.schematron_dir)
    if folder is None or not saxon_is_there():
        return None
    from hub.app.schematron_worker import RuleFolder

    return Bench(BUILDER, RuleFolder(str(folder), tuple(section.schematron_checks), str(installation.data_dir / CACHE)))


def tell_missing(installation: Installation) -> None:
    """Log that the rules cannot run, when they are wanted and the library is missing."""
    for one in library_mistakes(installation):
        log.event("schematron.missing", level="error", key=one.key, reason=one.reason)


def library_mistakes(installation: Installation) -> list[Misconfigured]:
    """A folder of rules, and nothing to run them with."""
    if installation.configuration.cda.schematron_dir is None or saxon_is_there():
        return []
    return [Misconfigured(str(installation.file), "cda.schematron_dir", _MISSING)]


def examined(installation: Installation) -> list[Examined]:
    """Every rule file, compiled in a process of its own; nothing where none are set or can be run.

    Raises:
        TranslationFailed: it took too long or too much memory.
    """
    section = installation.configuration.cda
    folder = absolute(installation, section.schematron_dir)
    if folder is None or not saxon_is_there():
        return []
    from hub.app.schematron_worker import EXAMINE, RuleFolder

    cache = installation.data_dir / CACHE
    argument = RuleFolder(str(folder), tuple(section.schematron_checks), str(cache) if cache.is_dir() else "", 4096)
    workshop = Workshop(Bench(BUILDER, argument), EXAMINATION)

    async def ask() -> list[Examined]:
        found: list[Examined] = await workshop.do(EXAMINE)
        return found

    try:
        return list(dict.fromkeys(asyncio.run(ask())))  # one broken part breaks many
    finally:
        workshop.close()


def remarks(installation: Installation) -> list[str]:
    """For `vaguemestre check`: rule files that do not run, as file, line and reason."""
    try:
        found = examined(installation)
    except HubError as error:
        return [f"cda.schematron_dir: the rules could not be compiled: {error.sentence}"]
    return [f"cda.schematron_dir: {_says(one)}" for one in found if one.reason or one.absent]


def rules(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """For `vaguemestre doctor`."""
    if installation.configuration.cda.schematron_dir is None:
        return
    if library_mistakes(installation):
        yield Verdict("schematron", WRONG, f"schematron_dir {_MISSING.partition(':')[0]}", _INSTALL)
        return
    found = examined(installation)
    for one in found:
        if one.reason:
            yield Verdict("schematron", WARNING, _says(one), "documents that want these rules get a finding instead")
        elif one.absent:
            yield Verdict("schematron", WARNING, _says(one), "rules that look something up there fail or say nothing")
    good = [one for one in found if not one.reason]
    if good:
        yield Verdict("schematron", OK, f"{counted(len(good), 'rule file')}, {counted(sum(one.checks for one in good), 'rule')}")


def _says(one: Examined) -> str:
    name = f"{Path(one.file).name}{f': line {one.line}' if one.line else ''}"
    if one.reason:
        return f"{name}: {one.reason}"
    names = ", ".join(Path(absent).name for absent in one.absent[:5])
    return f"{name}: {counted(len(one.absent), 'value set')} not there: {names}{', …' if len(one.absent) > 5 else ''}"
