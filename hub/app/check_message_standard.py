"""What the HL7 standard itself asks of a message, by the tables that hl7apy holds of each version.

hl7apy's own parser loses segments that it does not know (PRT before 2.7, every Z segment) and then misses what followed them,
so that only its knowledge is used: structures, segments, types, tables. The message is read by our reader, which loses nothing.
PRT and Z segments are left out of the structure; PRT is read as 2.7 has it.
Standard: HL7 v2.1 to v2.8.2, chapters 2 and 2A and the segment tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hl7apy import load_library
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import ChildNotFound, HL7apyException, MaxLengthReached
from hl7apy.factories import datatype_factory

from hub.app.check_message_structure import Reference, finding_at, names_of, placed
from hub.formats.er7 import Message, Segment
from mappings.conformance.evaluate import ConformanceFinding
from mappings.conformance.path import is_empty
from mappings.conformance.rules import Severity

VERSIONS = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2")

MAX_FINDINGS = 200  # of one message
_CHECKED_TYPES = frozenset({"DT", "TM", "DTM", "NM", "SI"})
_TEXT_TYPES = frozenset({"TX", "FT"})
_PRT_VERSION = "2.7"
# Tables whose codes nations and hospitals add to, or that describe texts of any origin: no finding.
_OPEN_TABLES = frozenset(
    {"HL70104", "HL70125", "HL70190", "HL70191", "HL70200", "HL70203"}
    | {"HL70211", "HL70291", "HL70301", "HL70354", "HL70363", "HL70396", "HL70399"}
)
_EVENT_TABLES = frozenset({"HL70003", "HL70076"})  # types and events of one's own begin with Z
_WORDS = {
    "DT": "a date YYYY[MM[DD]]",
    "TM": "a time HH[MM[SS]][±ZZZZ]",
    "DTM": "a time stamp YYYY[MM[DD[HH[MM[SS]]]]][±ZZZZ]",
    "NM": "a number",
    "SI": "a whole number",
}
_RANGE = re.compile(r"\.\.|,| [-_]| and | or |…")  # a table that writes several values as one is not compared
_ZERO_DAY = re.compile(r"[12][0-9]{3}(00|0[1-9]|1[0-2])00")


def check_standard(message: Message, structures: Mapping[str, Sequence[str]]) -> list[ConformanceFinding]:
    """What breaks the standard, in the order of the segments; `structures` is table 0354: the events of each structure."""
    version = message.version
    if version not in VERSIONS:
        at = message.segments("MSH")[0]
        return [finding_at(at, Severity.ERROR, "HL7, MSH-12", "is no version of HL7 that we know.", field=12)]
    library = load_library(version)
    found: list[ConformanceFinding] = []
    for one in _all(message, version, library, structures):
        if len(found) == MAX_FINDINGS:
            break
        found.append(one)
    return found


def _all(message: Message, version: str, library: Any, structures: Mapping[str, Sequence[str]]) -> Iterator[ConformanceFinding]:
    yield from _charset(message)
    yield from _structure(message, version, library, structures)
    for segment in message.segments():
        yield from _Fields(segment, version, library).findings()


def _charset(message: Message) -> Iterator[ConformanceFinding]:
    """Bytes that are not of the charset that MSH-18 names (UTF-8 when it names none)."""
    try:
        message.raw.decode(message.charset)
    except UnicodeDecodeError as error:
        line = next((one for one in message.segments() if one.line_span()[1] > error.start), message.segments("MSH")[0])
        sentence = f"does not name the charset of the message: line {line.index + 1} holds other bytes."
        yield finding_at(message.segments("MSH")[0], Severity.ERROR, "HL7 §2.15.9.18 table 0211", sentence, field=18)


# ---- structure -------------------------------------------------------------------------------------------------------


def structure_of(message: Message, structures: Mapping[str, Sequence[str]]) -> str:
    """The structure that table 0354 gives the event, else what MSH-9.3 says, else the type and event themselves."""
    kind, _, event = message.type.partition("^")
    for name, events in structures.items():
        if name.startswith(kind + "_") and event in events:
            return name
    return message.structure or (f"{kind}_{event}" if event else kind)


def _structure(
    message: Message, version: str, library: Any, structures: Mapping[str, Sequence[str]]
) -> Iterator[ConformanceFinding]:
    name = structure_of(message, structures)
    header = message.segments("MSH")[0]
    if message.structure and message.structure != name:
        yield finding_at(
            header,
            Severity.WARNING,
            f"HL7 {version} table 0354",
            f"is not the structure of the event: {name}.",
            field=9,
            component=3,
        )
    try:
        reference = library.get(name, "Message")
    except (ChildNotFound, KeyError):
        return
    standard = f"HL7 {version} {name}"
    known = names_of(reference)
    segments: list[Segment] = []
    for segment in message.segments():
        if segment.name in known:
            segments.append(segment)
        elif not segment.name.startswith("Z") and segment.name != "PRT":
            yield finding_at(segment, Severity.WARNING, standard, "is no segment of this message.")
    yield from placed(segments, reference, standard)


# ---- fields ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fields:
    """One segment against the fields, types and tables of its version."""

    segment: Segment
    version: str
    library: Any

    def findings(self) -> Iterator[ConformanceFinding]:
        segment, version, library = self.segment, self.version, self.library
        if segment.name.startswith("Z") and segment.name != "???":
            return
        if segment.name == "PRT" and version < _PRT_VERSION:
            version = _PRT_VERSION
            library = load_library(version)
        try:
            fields = library.get(segment.name, "Segment")[1]
        except (ChildNotFound, KeyError):
            yield finding_at(segment, Severity.WARNING, f"HL7 {version}", "is no segment of this version.")
            return
        one = _Fields(segment, version, library)
        for name, reference, (least, most), _ in fields:
            number = int(name.rpartition("_")[2])
            if segment.name == "MSH" and number <= 2:
                continue
            yield from one._field(number, reference, least, most)
        last = int(fields[-1][0].rpartition("_")[2])
        if segment.field_count() > last and any(not _blank(segment, n) for n in range(last + 1, segment.field_count() + 1)):
            yield finding_at(segment, Severity.WARNING, f"HL7 {version} {segment.name}", f"has more than its {last} fields.")

    def _field(self, number: int, reference: Reference, least: int, most: int) -> Iterator[ConformanceFinding]:
        segment, count = self.segment, self.segment.repetitions(number)
        if _blank(segment, number):
            if least:
                yield self._said(Severity.ERROR, "is empty, and is required.", number)
            return
        if most > 0 and count > most:
            yield self._said(
                Severity.ERROR, "is repeated, and may come once only." if most == 1 else "is repeated too often.", number
            )
        if (segment.name, number) == ("OBX", 2) and not self._knows(segment.text(2)):
            rule = f"HL7 {self.version} table 0125"
            yield finding_at(segment, Severity.ERROR, rule, "is no type of this version.", field=2, value=segment.text(2))
        if (segment.name, number) == ("OBX", 5):
            reference = self._datatype(segment.text(2).upper())
        for repetition in range(1, min(count, 20) + 1):
            yield from self._repetition(number, repetition, reference)

    def _knows(self, datatype: str) -> bool:
        return datatype in self.library.BASE_DATATYPES or datatype in self.library.DATATYPES_STRUCTS or datatype == "RP"

    def _datatype(self, name: str) -> Reference:
        """The reference of the type that OBX-2 names; a document (ED) is looked at by the profiles alone."""
        parts = self.library.DATATYPES_STRUCTS.get(name)
        if name == "ED" or (parts is None and name not in _CHECKED_TYPES):
            return ("leaf", None, "ST", "", None, -1)
        return ("sequence", parts, name, "", None, -1) if parts else ("leaf", None, name, "", None, -1)

    def _repetition(self, number: int, repetition: int, reference: Reference) -> Iterator[ConformanceFinding]:
        if reference[0] != "sequence" or not reference[1]:
            text = self.segment.text(number, repetition=repetition)
            yield from self._leaf(text, reference, number, repetition)
            return
        for name, inner, _, _ in reference[1]:
            component = int(name.rpartition("_")[2])
            if inner[0] != "sequence" or not inner[1]:
                text = self.segment.text(number, component, repetition=repetition)
                yield from self._leaf(text, inner, number, repetition, component)
                continue
            for part, leaf, _, _ in inner[1]:
                subcomponent = int(part.rpartition("_")[2])
                text = self.segment.text(number, component, repetition=repetition, subcomponent=subcomponent)
                if leaf[0] != "sequence":
                    yield from self._leaf(text, leaf, number, repetition, component, subcomponent)

    def _leaf(  # noqa: PLR0917 - a place in a message has so many numbers
        self, text: str, reference: Reference, field: int, repetition: int, component: int = 0, subcomponent: int = 0
    ) -> Iterator[ConformanceFinding]:
        if not text or text == '""':
            return
        datatype, table = reference[2], reference[4] if len(reference) > 4 else None
        place: dict[str, Any] = {
            "field": field,
            "repetition": repetition,
            "component": component,
            "subcomponent": subcomponent,
            "value": text,
        }
        if datatype in _CHECKED_TYPES or (len(text) > 199 and datatype not in _TEXT_TYPES):
            trouble = self._trouble(text, datatype)
            is_birth_date = (self.segment.name, field) == ("PID", 7) and _ZERO_DAY.fullmatch(text)
            if trouble == "length":
                yield self._said(Severity.NOTE, f"is longer than the standard's type {datatype} allows.", **place)
            elif trouble and not is_birth_date:
                yield self._said(Severity.ERROR, f"is not {_WORDS[datatype]}.", **place)
        if datatype == "ID" and table and table not in _OPEN_TABLES:
            title, values = getattr(self.library, "TABLES", {}).get(table, ("", ()))
            is_own = text.startswith("Z") and table in _EVENT_TABLES
            is_closed = bool(values) and not any(len(value) > 1 and _RANGE.search(value) for value in values)
            if is_closed and not is_own and text not in values:
                rule = f"HL7 {self.version} table {table.removeprefix('HL7')}"
                yield finding_at(self.segment, Severity.WARNING, rule, f"is no value of the table ({title}).", **place)

    def _trouble(self, text: str, datatype: str) -> str:
        try:
            datatype_factory(datatype, text, self.version, VALIDATION_LEVEL.STRICT)
        except MaxLengthReached:
            return "length"
        except (ValueError, HL7apyException):
            return "value" if datatype in _CHECKED_TYPES else ""
        return ""

    def _said(self, severity: Severity, sentence: str, field: int, **place: Any) -> ConformanceFinding:
        return finding_at(
            self.segment, severity, f"HL7 {self.version} {self.segment.name}-{field}", sentence, field=field, **place
        )


def _blank(segment: Segment, field: int) -> bool:
    return all(is_empty(segment, field, n) for n in range(1, min(segment.repetitions(field), 20) + 1))
