"""`vaguemestre check-message`: what is wrong with messages, in words that can be handed to who made them.

Three judges speak: the HL7 standard (`check_message_standard`), the French profile that the message names
(`mappings.conformance`), and the hub itself, whose answer is told beside. No value of a message is shown unless asked for.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.app.check_document import DocumentReport, check_document, looks_like_cda
from hub.app.check_document import told as document_told
from hub.app.check_message_standard import check_standard
from hub.app.terminal import counted, print_json, printable, remark
from hub.formats.er7 import Message, read
from hub.formats.er7.batch import BatchReader
from hub.formats.er7.xml import er7_of_xml, looks_like_xml
from hub.model.refusals import MessageRefused, Unreadable
from hub.model.site import Site
from hub.web.console.segments import field_names
from mappings.conformance.checks import CHECKS
from mappings.conformance.evaluate import ConformanceFinding, evaluate
from mappings.conformance.profiles import NAMES, Profile, profile_named, profile_of
from mappings.conformance.rules import Severity
from mappings.registry import Registry, builtin, packaged_table
from mappings.tables import load

Json = dict[str, Any]

WIDTH = 100
ENVIRONMENTS = ("test", "production")
_RANKS = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}
_COLOURS = {Severity.ERROR: "31", Severity.WARNING: "33", Severity.NOTE: "36"}
_SHOWN_PLACES = 6


@dataclass(frozen=True, slots=True)
class Answer:
    """What the hub would answer: MSA-1, and for a refusal condition (table 0357), place and sentence. `code` is empty when the
    message wants no answer: an acknowledgement, or NE in MSH-15."""

    code: str
    condition: str = ""
    at: str = ""
    sentence: str = ""
    structure: str = ""

    @property
    def words(self) -> str:
        """`AE 207 at PID-3`."""
        if not self.code:
            return "nothing"
        return " ".join(part for part in (self.code, self.condition, f"at {self.at}" if self.at else "") if part)


@dataclass(frozen=True, slots=True)
class Report:
    """One message and what was found."""

    file: str
    number: int
    message: Message
    profile: Profile | None
    findings: tuple[ConformanceFinding, ...]
    answer: Answer

    def count(self, severity: Severity) -> int:
        return sum(finding.severity is severity for finding in self.findings)

    @property
    def summary(self) -> str:
        """`3 errors, 2 warnings; the hub would answer AE 207 at PID-3`."""
        counts = [counted(n, str(severity)) for severity in Severity if (n := self.count(severity))]
        return f"{', '.join(counts) or 'nothing found'}; the hub would answer {self.answer.words}"


def check_messages(
    files: Sequence[Path],
    *,
    profile: str = "",
    environment: str = "test",
    values: bool = False,
    schematron: Path | None = None,
    as_json: bool = False,
) -> int:
    """Print a report of every message and CDA document; `schematron` is a kit whose rules are run over the latter.

    0 when none has an error, 1 when one has, 2 for wrong use or what cannot be read.
    """
    if profile and profile not in (*NAMES, "none"):
        remark(f"--profile: {profile!r} is none of {', '.join((*NAMES, 'none'))}")
        return 2
    if environment not in ENVIRONMENTS:
        remark(f"--environment: {environment!r} is none of {', '.join(ENVIRONMENTS)}")
        return 2
    checker = Checker(profile, Site(environment=environment))
    reports: list[Report] = []
    unreadable: list[Json] = []
    documents: list[DocumentReport] = []
    for path in files:
        try:
            content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        except OSError as error:
            unreadable.append({"file": str(path), "number": 0, "sentence": f"cannot be read ({error.strerror})"})
            continue
        if looks_like_cda(content):
            documents.append(check_document(str(path), content, schematron, environment))
            continue
        for one in checker.file(str(path), content):
            (reports if isinstance(one, Report) else unreadable).append(one)  # type: ignore[arg-type]
    if as_json:
        print_json(_document(reports, documents, unreadable, values=values))
    else:
        _print(reports, unreadable, values=values)
        for document in documents:
            print("\n".join((*document_told(document, WIDTH), "")))
    if unreadable:
        return 2
    wrong = any(report.count(Severity.ERROR) for report in reports) or any(one.errors for one in documents)
    return 1 if wrong else 0


class Checker:
    """Checks messages against the standard, a profile (by name, else the one that each message names) and the hub."""

    def __init__(self, profile: str, site: Site, registry: Registry | None = None) -> None:
        self._profile, self._site = profile, site
        self._registry = registry or builtin()
        self._structures = load(packaged_table("message_structures"))

    def file(self, name: str, content: bytes) -> Iterable[Report | Json]:
        """A report of every message of a file, and a sentence of everything that is none."""
        reader, number = BatchReader(), 0
        try:
            if looks_like_xml(content):
                content = er7_of_xml(content)
            elif _has_line_feeds(content):
                remark(f"{name}: segments end with LF; on the wire they end with CR (HL7 v2.5.1 §2.5.4)")
            for part in (reader.feed(content), reader.end()):
                for body in part:
                    number += 1
                    yield self.message(name, number, body)
        except Unreadable as refused:
            yield {"file": name, "number": number + 1, "sentence": refused.sentence}
        for finding in reader.shape.findings:
            remark(f"{name}: {finding.sentence}")

    def message(self, file: str, number: int, body: bytes) -> Report | Json:
        """A report of one message, or why it cannot be read."""
        try:
            message = read(body)
            message.segments()
        except MessageRefused as refused:
            return {"file": file, "number": number, "sentence": refused.sentence}
        profile = None if self._profile == "none" else profile_named(self._profile) if self._profile else profile_of(message)
        of_profile = evaluate(profile.rules, CHECKS, message, self._site) if profile is not None else ()
        told = {(finding.segment, finding.line, finding.field) for finding in of_profile}
        missing = {finding.segment for finding in of_profile if not finding.line}
        of_standard = [
            finding
            for finding in check_standard(message, self._structures)
            if (finding.segment, finding.line, finding.field) not in told and (finding.line or finding.segment not in missing)
        ]
        found = sorted((*of_profile, *of_standard), key=lambda f: (_RANKS[f.severity], f.line or 1 << 30, f.field, f.component))
        return Report(file, number, message, profile, tuple(found), self._answer(message))

    def _answer(self, message: Message) -> Answer:
        if message.type.startswith("ACK") or message.text("MSH", 15).upper() == "NE":
            return Answer("")
        try:
            self._registry.admit(message, self._site)
            structure = self._registry.find(message)
            if structure is not None:
                structure.judge(message, self._site)
        except MessageRefused as refused:
            return Answer(refused.ack_code, refused.condition, refused.at, refused.sentence)
        return Answer("AA", structure=f"{structure.name}@{structure.version}" if structure is not None else "")


def _has_line_feeds(content: bytes) -> bool:
    return b"\n" in content[:4096] and b"\r" not in content[:4096]


def _names(finding: ConformanceFinding) -> str:
    names = field_names(finding.segment).get(finding.field)
    return names[1] if names else ""


# ---- for programs ----------------------------------------------------------------------------------------------------


def _document(
    reports: Sequence[Report], documents: Sequence[DocumentReport], unreadable: Sequence[Json], *, values: bool
) -> Json:
    wrong = any(report.count(Severity.ERROR) for report in reports) or any(one.errors for one in documents)
    return {
        "ok": not unreadable and not wrong,
        "messages": [_message(report, values=values) for report in reports],
        "documents": [one.as_json() for one in documents],
        "unreadable": list(unreadable),
    }


def _message(report: Report, *, values: bool) -> Json:
    message, answer = report.message, report.answer
    return {
        "file": report.file,
        "number": report.number,
        "type": message.type,
        "version": message.version,
        "control_id": message.control_id,
        "profile": report.profile.name if report.profile is not None else None,
        "summary": report.summary,
        "counts": {str(severity): report.count(severity) for severity in Severity},
        "answer": {
            "code": answer.code or None,
            "condition": answer.condition or None,
            "at": answer.at or None,
            "sentence": answer.sentence or None,
            "structure": answer.structure or None,
        },
        "findings": [_finding(finding, values=values) for finding in report.findings],
    }


def _finding(finding: ConformanceFinding, *, values: bool) -> Json:
    told: Json = {
        "severity": str(finding.severity),
        "at": finding.at or finding.segment,
        "segment": finding.segment,
        "occurrence": finding.occurrence or None,
        "line": finding.line or None,
        "field": finding.field or None,
        "repetition": finding.repetition or None,
        "component": finding.component or None,
        "subcomponent": finding.subcomponent or None,
        "name": _names(finding) or None,
        "rule": finding.rule,
        "standard": finding.standard,
        "sentence": f"{finding.at or finding.segment} {finding.sentence}".strip(),
    }
    return told | ({"value": finding.value or None} if values else {})


# ---- for people ------------------------------------------------------------------------------------------------------


def _print(reports: Sequence[Report], unreadable: Sequence[Json], *, values: bool) -> None:
    is_terminal = sys.stdout.isatty()
    width = min(WIDTH, shutil.get_terminal_size().columns) if is_terminal else WIDTH
    for report in reports:
        print("\n".join((*_told(report, width, values=values, coloured=is_terminal), "")))
    for one in unreadable:
        where = f"{one['file']}[{one['number']}]" if one["number"] > 1 else one["file"]
        remark(f"{where}: {one['sentence']}")
    if len(reports) > 1:
        wrong = sum(bool(report.count(Severity.ERROR)) for report in reports)
        print(f"{counted(len(reports), 'message')}, {wrong} with errors")


def _told(report: Report, width: int, *, values: bool, coloured: bool) -> list[str]:
    message, profile = report.message, report.profile
    name = f"{report.file}[{report.number}]" if report.number > 1 else report.file
    control_id = f"control id {message.control_id}" if message.control_id else "no control id"
    asked = f"{profile.title} ({profile.name})" if profile is not None else "none that we know: the HL7 standard alone"
    lines = [
        *textwrap.wrap(printable(f"{name}: {message.type or 'no type'}, HL7 {message.version or '?'}, {control_id}"), width),
        f"Profile: {asked}",
        "",
    ]
    for findings in _grouped(report.findings, values=values):
        first = findings[0]
        mark = f"{first.severity.upper():<8}"
        lines += _wrapped(mark, _sentence(findings, values=values), width, _COLOURS[first.severity] if coloured else "")
        lines += [*textwrap.wrap(first.standard, width, initial_indent=" " * 8 + "↳ ", subsequent_indent=" " * 10), ""]
    if report.answer.sentence:
        lines += [*textwrap.wrap(f"The hub: {report.answer.words}. {report.answer.sentence}.", width), ""]
    return [*lines, report.summary]


def _grouped(findings: Iterable[ConformanceFinding], *, values: bool) -> list[list[ConformanceFinding]]:
    """Findings of one rule and one sentence together, as long as no value tells them apart."""
    groups: dict[object, list[ConformanceFinding]] = {}
    for n, finding in enumerate(findings):
        key = (
            n
            if values and finding.value
            else (finding.severity, finding.rule, finding.standard, finding.sentence, finding.segment)
        )
        groups.setdefault(key, []).append(finding)
    return list(groups.values())


def _sentence(findings: Sequence[ConformanceFinding], *, values: bool) -> str:
    first = findings[0]
    places = list(dict.fromkeys(finding.at or finding.segment for finding in findings))
    more = len(places) - _SHOWN_PLACES
    where = ", ".join(places[:_SHOWN_PLACES]) + (f" and {more} more" if more > 0 else "")
    name = _names(first)
    value = f" Found: {printable(first.value[:80])}" if values and first.value else ""
    return f"{where}{f' ({name})' if name else ''} {first.sentence}{value}"


def _wrapped(mark: str, text: str, width: int, colour: str) -> list[str]:
    lines = textwrap.wrap(printable(text), width, initial_indent=mark, subsequent_indent=" " * len(mark))
    if colour and lines:
        lines[0] = f"\033[{colour}m{mark}\033[0m{lines[0][len(mark) :]}"
    return lines
