"""`vaguemestre check-message` on a CDA: what is wrong with a document, by the hub's own checks and by the rules of a kit."""

from __future__ import annotations

import asyncio
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.app.config_cda import saxon_is_there
from hub.app.schematron_kit import DOCTYPE, HEADER
from hub.app.schematron_worker import RuleFolder
from hub.app.terminal import counted, printable
from hub.flow.rule_checks import TIME_S, Checked
from hub.flow.workshop import Bench, Limits, Workshop
from hub.model.refusals import Finding, HubError, Unreadable
from hub.model.site import Site
from hub.record.facts import UNREAD
from mappings.cda.translate import translate_cda
from mappings.hl7v2.ucum import Units
from mappings.registry import packaged_table
from mappings.tables import load

Json = dict[str, Any]
_ROOT = re.compile(rb"<(?:[\w.-]+:)?(?:ClinicalDocument|stylesheet|transform)[\s>]")
_REMARKS = ("_WARNING", "_INFO", "_NOT_RUN")
_NO_ERRORS = UNREAD | {"CDA_NO_INS", "MORE_FINDINGS"}


@dataclass(frozen=True, slots=True)
class DocumentReport:
    """One document and what was found. `refused`: it cannot be read, and why."""

    file: str
    findings: tuple[Finding, ...]
    refused: Finding | None = None

    @property
    def errors(self) -> int:
        return sum(not _is_remark(one) for one in self.every)

    @property
    def every(self) -> tuple[Finding, ...]:
        return (self.refused,) if self.refused is not None else self.findings

    def as_json(self) -> Json:
        told = [{"code": one.code, "at": one.at, "sentence": one.sentence} for one in self.every]
        return {"file": self.file, "ok": not self.errors, "findings": told}


def _is_remark(found: Finding) -> bool:
    return found.code.endswith(_REMARKS) or found.code in _NO_ERRORS


def looks_like_cda(content: bytes) -> bool:
    """Whether these bytes are an XML document whose root is a CDA, or a stylesheet that holds one."""
    head = content[: 1 << 16]
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") and _ROOT.search(head) is not None


def check_document(file: str, content: bytes, kit: Path | None, environment: str = "test") -> DocumentReport:
    """A document by what a hub of `environment` would find while it files it, and by the rules of `kit`."""
    units = Units(load(packaged_table("ucum_units")))
    try:
        found = translate_cda(content, tz=Site().timezone, units=units, environment=environment).findings
    except Unreadable as refused:
        return DocumentReport(file, (), Finding(refused.code, refused.at, refused.sentence))
    return DocumentReport(file, (*found, *(_by_rules(content, kit) if kit is not None else ())))


def _by_rules(content: bytes, kit: Path) -> tuple[Finding, ...]:
    if not saxon_is_there():
        return (Finding("SCHEMATRON_NOT_RUN", "/", "the rules were not run: pip install 'vaguemestre[schematron]'"),)
    bench = Bench("hub.app.schematron_worker:build", RuleFolder(str(kit.resolve()), (HEADER, DOCTYPE)))
    workshop = Workshop(bench, Limits(workers=1, time_s=TIME_S, memory_mb=2048))

    async def ask() -> Checked:
        checked: Checked = await workshop.do(content)
        return checked

    try:
        return asyncio.run(ask()).findings
    except HubError as error:
        return (Finding("SCHEMATRON_NOT_RUN", "/", f"the rules were not run: {error.sentence}"),)
    finally:
        workshop.close()


def told(report: DocumentReport, width: int) -> list[str]:
    """A report in lines for people."""
    lines = [f"{report.file}: CDA", ""]
    for one in report.every:
        mark = "WARNING " if _is_remark(one) else "ERROR   "
        text = printable(f"{one.at} {one.sentence.removeprefix(f'{one.at}: ')}")
        lines += textwrap.wrap(text, width, initial_indent=mark, subsequent_indent=" " * 8)
        lines += [f"        ↳ {one.code}", ""]
    others = len(report.every) - report.errors
    counts = [counted(n, word) for n, word in ((report.errors, "error"), (others, "remark")) if n]
    return [*lines, ", ".join(counts) or "nothing found"]
