"""What the side process of the rules builds: Saxon, and the rule files of the kit as they are asked for.

A task is a document's bytes, answered with `Checked`; or EXAMINE, answered with a row for each rule file. Whatever Saxon
prints goes nowhere: it may hold a patient's data.
"""

from __future__ import annotations

import os
import re
import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.app.schematron_kit import DOCTYPE, HEADER, Kit
from hub.flow.rule_checks import Checked, NotRun, not_run_at_all
from hub.formats.schematron import Failed, Level, Stylesheet, document_with_choice, read_svrl
from hub.model.refusals import Finding, Misconfigured, Unreadable

EXAMINE = "examine"
MOST_FINDINGS = 100  # of one document; one more counts the rest
SENTENCE_CHARACTERS = 500
_GRAVEST = {Level.ERROR: 0, Level.WARNING: 1, Level.INFO: 2}
_PLACE = re.compile(r"on line (\d+)")
_REASON = re.compile(r"\b([A-Z]{4}\d{4})\s+(.*)")


@dataclass(frozen=True, slots=True)
class RuleFolder:
    """What a side process works with. `cache` empty: nothing is kept on disk."""

    folder: str
    checks: tuple[str, ...] = (HEADER, DOCTYPE)
    cache: str = ""
    memory_mb: int = 2048


@dataclass(frozen=True, slots=True)
class Examined:
    """What became of a rule file. `reason` empty: it can be run."""

    file: str
    checks: int
    reason: str = ""
    line: int = 0
    absent: tuple[str, ...] = ()


def build(folder: RuleFolder) -> Callable[[Any], Any]:
    """For `hub.flow.workshop.Bench`.

    Raises:
        ImportError: saxonche is not installed.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    checker = Checker(folder)
    _limit_memory(folder.memory_mb)
    return lambda task: checker.examine() if task == EXAMINE else checker.check(task)


def _limit_memory(memory_mb: int) -> None:
    """Saxon's heap lies in address space that it reserves at its start, so only what it writes to can be limited."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    used = int(status.partition("VmData:")[2].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (used + (memory_mb << 20), used + (memory_mb << 20)))


class Checker:
    """Runs rule files over documents; each is compiled at its first use."""

    def __init__(self, folder: RuleFolder) -> None:
        from saxonche import PySaxonApiError, PySaxonProcessor

        self._error = PySaxonApiError
        self._saxon = PySaxonProcessor(license=False)
        self._saxon.set_configuration_property("http://saxon.sf.net/feature/allowedProtocols", "file")
        self._xslt = self._saxon.new_xslt30_processor()
        self._kit = Kit(Path(folder.folder), Path(folder.cache) if folder.cache else None)
        self._checks = folder.checks
        self._compiled: dict[str, Any] = {}  # a stylesheet, or Misconfigured

    def check(self, xml: bytes) -> Checked:
        """What the rules say of one document, gravest first, with no value of it."""
        try:
            text, choice = document_with_choice(xml)
            document = self._saxon.parse_xml(xml_text=text)
        except (Unreadable, self._error):
            return Checked((not_run_at_all("not a CDA that can be read"),))
        failed: list[tuple[str, Failed]] = []
        not_run: list[NotRun] = []
        files = self._kit.chosen(self._checks, choice)
        if not files:
            return Checked(
                (Finding("SCHEMATRON_NOT_RUN", "/", "the rules were not run: none in the folder is for this document"),)
            )
        for file in files:
            stem = re.sub(r"[^A-Z0-9]+", "_", Path(file).stem.upper()).strip("_")
            try:
                report = self._stylesheet(file).transform_to_string(xdm_node=document)
                failed += [(stem, one) for one in read_svrl(report)]
            except Misconfigured as broken:
                not_run.append(NotRun(stem, broken.file, broken.key, broken.reason))
            except self._error as error:
                not_run.append(NotRun(stem, file, "-", f"stopped with {_reason(str(error)).partition(' ')[0]}"))
        return Checked((*(_of_broken(one) for one in not_run), *_findings(failed)), tuple(not_run))

    def examine(self) -> list[Examined]:
        """Every rule file that a document may meet."""
        files = [self._kit.header(), *self._kit.of_documents.values()]
        files += [self._kit.files.get(name.removesuffix(".sch").lower()) for name in self._checks]
        found: list[Examined] = []
        for file in dict.fromkeys(one for one in files if one is not None):
            try:
                translated = self._kit.translated(file)
                self._stylesheet(file)
                found.append(Examined(file, translated.checks, absent=translated.absent))
            except Misconfigured as broken:
                line = broken.key.removeprefix("line ")
                found.append(Examined(broken.file, 0, broken.reason, int(line) if line.isdecimal() else 0))
            self._compiled.pop(file, None)  # all of them would fill the memory
        missing = [name for name in self._checks if name not in (HEADER, DOCTYPE) and self._named(name) is None]
        if HEADER in self._checks and self._kit.header() is None:
            missing.append(HEADER)
        return [*found, *(Examined(name, 0, "no rule file of this name is in the folder") for name in missing)]

    def _named(self, name: str) -> str | None:
        return self._kit.files.get(name.removesuffix(".sch").lower())

    def _stylesheet(self, file: str) -> Any:
        """
        Raises:
            Misconfigured: with file, line and reason.
        """
        if file not in self._compiled:
            try:
                stylesheet = self._kit.translated(file).stylesheet
                self._compiled[file] = self._compile(file, stylesheet)
            except Misconfigured as broken:
                self._compiled[file] = broken
        compiled = self._compiled[file]
        if isinstance(compiled, Misconfigured):
            raise Misconfigured(compiled.file, compiled.key, compiled.reason)
        return compiled

    def _compile(self, file: str, stylesheet: Stylesheet) -> Any:
        try:
            return self._xslt.compile_stylesheet(stylesheet_text=stylesheet.text)
        except self._error as error:
            told = str(error)
            place = _PLACE.search(told)
            origin = stylesheet.origin(int(place[1])) if place is not None else None
            where = (origin.file, f"line {origin.line}") if origin is not None else (file, "-")
            raise Misconfigured(*where, _reason(told)) from None


def _reason(told: str) -> str:
    """`XPST0003 Unexpected token …` of what Saxon says."""
    found = _REASON.search(told)
    return " ".join(found[0].split())[:200] if found is not None else "Saxon refuses it"


def _of_broken(one: NotRun) -> Finding:
    return Finding(
        f"SCHEMATRON_{one.stem}_NOT_RUN", "/", f"these rules were not run: {Path(one.file).name} {one.key}: {one.reason}"
    )


def _findings(failed: list[tuple[str, Failed]]) -> list[Finding]:
    ordered = sorted(failed, key=lambda one: _GRAVEST[one[1].level])
    told = [_finding(stem, one) for stem, one in ordered[:MOST_FINDINGS]]
    more = Counter(one.level for _, one in ordered[MOST_FINDINGS:])
    if more:
        rest = ", ".join(f"{n} {level.lower()}" for level, n in more.items())
        told.append(Finding("SCHEMATRON_MORE", "/", f"{sum(more.values())} more failed rules are not listed ({rest})"))
    return told


def _finding(stem: str, one: Failed) -> Finding:
    if one.error:
        return Finding(f"SCHEMATRON_{stem}_NOT_RUN", one.at, f"a rule could not be evaluated here ({one.error})")
    return Finding(f"SCHEMATRON_{stem}_{one.level}", one.at, one.sentence[:SENTENCE_CHARACTERS])
