"""What a translator is given beside its entry: where it stands, what holds there, and where it puts what it made.

A `Reading` is one document being read; a `Scope` is one place in it (a section, an entry). Facts are known by numbers made of
what they say, so that the same document read again, or a later version of it, speaks of the same facts (ADR 19).
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from typing import Any

from hub.formats.cda_header import CdaHeader
from hub.model.record_change import ContentRange, ResourceChange
from hub.model.refusals import Finding
from mappings.cda import values
from mappings.cda.xml import V3, Element, Paths, attribute, every, one, text
from mappings.hl7v2.ucum import Units

Json = dict[str, Any]

FACT = "urn:ietf:rfc:3986"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:vaguemestre:cda-fact")
MAX_FACTS, MAX_FINDINGS = 20_000, 200
_PATIENT = frozenset({"SELF", "ONESELF"})
_CODES = ("code", "vaccineCode", "medicationCodeableConcept", "codeCodeableConcept", "type", "relationship", "description")
# Where a resource names the stay it belongs to.
_ENCOUNTER = {
    **dict.fromkeys(
        (
            "AllergyIntolerance",
            "Condition",
            "DeviceRequest",
            "DiagnosticReport",
            "ImagingStudy",
            "Immunization",
            "MedicationRequest",
            "Observation",
            "Procedure",
            "ServiceRequest",
        ),
        "encounter",
    ),
    "MedicationDispense": "context",
    "MedicationStatement": "context",
}


@dataclass(eq=False)
class Reading:
    """One document on its way into facts.

    `contents` finds where bytes that stand in the document (Base64 of an observationMedia) are in the kept message.
    """

    root: Element
    header: CdaHeader
    tz: tzinfo
    units: Units
    event_time: int = 0
    contents: Callable[[Element], ContentRange | None] = lambda _element: None
    facts: list[ResourceChange] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    claimed: set[Element] = field(default_factory=set)
    paths: Paths = field(default_factory=Paths)
    shared: dict[str, Any] = field(default_factory=dict)  # what translators tell each other of this document
    _anchors: dict[str, Element] | None = None
    _ids: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _ranks: Counter[str] = field(default_factory=Counter)
    _told: int = 0

    def find(self, code: str, element: Element, sentence: str) -> None:
        """A finding at an element. The sentence holds no value of the document."""
        self.tell(code, self.paths.of(element), sentence)

    def tell(self, code: str, at: str, sentence: str) -> None:
        """A finding at an XPath: where an element is missing."""
        self._told += 1
        if self._told <= MAX_FINDINGS:
            self.findings.append(Finding(code, at, f"{at}: {sentence}"))

    def all_findings(self) -> tuple[Finding, ...]:
        """What was found; when it was too much to list, one more that counts the rest."""
        rest = self._told - MAX_FINDINGS
        if rest > 0:
            return (*self.findings, Finding("MORE_FINDINGS", "/ClinicalDocument", f"/ClinicalDocument: {rest} more findings"))
        return tuple(self.findings)

    def anchored(self, reference: str) -> Element | None:
        """The element of the narrative with this ID."""
        if self._anchors is None:
            self._anchors = {}
            for section in self.root.iter(f"{V3}section"):
                said = section.find(f"{V3}text")
                for part in () if said is None else said.iter():
                    if isinstance(part.tag, str) and (name := part.get("ID")):
                        self._anchors.setdefault(name.strip(), part)
        return self._anchors.get(reference.strip().removeprefix("#"))

    @property
    def set_id(self) -> str:
        """What all versions of the document share, else its own id."""
        return self.header.set_id or self.header.id

    def number_of(self, kind: str, element: Element, about: str, at: str, ids: Iterable[Element]) -> str:
        """The number of a fact: made of its own id when that is the only one of its kind in the document, else of the document's
        set; and of its code, its time, and its rank among those that are alike. A `urn:uuid:`.
        """
        own = ""
        for one_ in ids:
            root, extension = attribute(one_, "root"), attribute(one_, "extension")
            if root:
                self._ids[kind, root, extension] += 1
                own = own or (f"{root}^{extension}" if self._ids[kind, root, extension] == 1 else "")
        name = "\n".join((own or f"set {self.set_id}", kind, about, at))
        self._ranks[name] += 1
        rank = self._ranks[name]
        return f"urn:uuid:{uuid.uuid5(_NAMESPACE, name if rank == 1 else name + chr(10) + str(rank))}"


@dataclass(frozen=True, eq=False)
class Scope:
    """One place in a document. `section` is the element (None outside any), `subject` whom it speaks of when not the patient."""

    reading: Reading
    section: Element | None = None
    section_code: str = ""
    section_title: str = ""
    section_templates: frozenset[str] = frozenset()
    subject: Element | None = None

    # ---- what translators read ----

    @property
    def header(self) -> CdaHeader:
        return self.reading.header

    @property
    def tz(self) -> tzinfo:
        return self.reading.tz

    @property
    def units(self) -> Units:
        return self.reading.units

    def anchored(self, reference: str) -> Element | None:
        return self.reading.anchored(reference)

    def find(self, code: str, element: Element, sentence: str) -> None:
        self.reading.find(code, element, sentence)

    def claim(self, *elements: Element | None) -> None:
        """These statements are read, as part of another one or because nothing is to be made of them."""
        self.reading.claimed.update(element for element in elements if element is not None)

    def claim_all(self, element: Element) -> None:
        """A statement and all that stands in it is read."""
        self.reading.claimed.update(part for part in element.iter(*_STATEMENT_TAGS))

    def left(self, element: Element, why: str) -> None:
        """A statement that is known and stays in the document: told, with all that stands in it."""
        self.find("LEFT_IN_DOCUMENT", element, why)
        self.claim_all(element)

    # ---- what they make ----

    def add(
        self,
        kind: str,
        element: Element,
        body: Json,
        *,
        about: str | None = None,
        at: str | None = None,
        ids: Iterable[Element] | None = None,
        contents: tuple[ContentRange, ...] = (),
    ) -> Json:
        """File a resource made of `element` and give the logical reference by which others name it.

        `body` is FHIR R4 JSON without id, meta, subject; identifiers of the entry and the encounter of the header are added.
        `about` and `at` tell facts of one kind apart (default: the first coding, the date); `ids` are the `id` elements to know
        it by (default: the entry's own). `contents` are bytes that `{"url": "#content0"}` of an attachment stands for.
        """
        reading = self.reading
        reading.claimed.add(element)
        own = element.findall(f"{V3}id") if ids is None else list(ids)
        number = reading.number_of(
            kind, element, _about(body) if about is None else about, _time_of(body) if at is None else at, own
        )
        if self.subject is not None and not self._speaks_of_another(kind, element, body):
            return {"type": kind, "identifier": {"system": FACT, "value": number}}
        if len(reading.facts) >= MAX_FACTS:
            if len(reading.facts) == MAX_FACTS:
                self.find("TOO_MANY_FACTS", element, f"more than {MAX_FACTS} facts; the rest stays in the document")
            return {"type": kind, "identifier": {"system": FACT, "value": number}}
        listed = [made for part in own if (made := values.identifier(part)) is not None]
        body["identifier"] = [*body.get("identifier", ()), *listed, {"system": FACT, "value": number}]
        stay = _ENCOUNTER.get(kind)
        if stay is not None and stay not in body and self.header.encounter_ids:
            system, said = values.uri_of(*self.header.encounter_ids[0])
            body[stay] = {"type": "Encounter", "identifier": {"system": system, "value": said}}
        path = reading.paths.of(element)
        reading.facts.append(ResourceChange(kind, f"{FACT}|{number}", body, path, reading.event_time, contents=contents))
        return {"type": kind, "identifier": {"system": FACT, "value": number}}

    def _speaks_of_another(self, kind: str, element: Element, body: Json) -> bool:
        """Whether a fact about somebody else (the mother) may be filed: an Observation, with whom it is about in `focus`."""
        if kind != "Observation":
            self.find("ABOUT_ANOTHER_PERSON", element, "speaks of another person than the patient; stays in the document")
            return False
        code = one(self.subject, "relatedSubject/code")
        said = (values.concept(code, self) or {}).get("text") or "related person"
        body["focus"] = [{"type": "RelatedPerson", "display": said}]
        return True

    # ---- going down ----

    def at_section(self, section: Element) -> Scope:
        """The scope inside a section."""
        return replace(
            self,
            section=section,
            section_code=attribute(section, "code", "code"),
            section_title=text(one(section, "title")),
            section_templates=frozenset(attribute(part, "root") for part in every(section, "templateId")),
            subject=_subject(section, self.subject),
        )

    def at_entry(self, entry: Element) -> Scope:
        """The scope of one statement, which may speak of another subject than its section."""
        subject = _subject(entry, self.subject)
        return self if subject is self.subject else replace(self, subject=subject)


def _subject(element: Element, before: Element | None) -> Element | None:
    """`subject` of a section or statement when it names a related person; the one before when it names none."""
    said = one(element, "subject")
    if said is None or one(said, "relatedSubject") is None:
        return before
    return None if attribute(said, "code", "relatedSubject/code") in _PATIENT else said


def _about(body: Json) -> str:
    for name in _CODES:
        found = body.get(name)
        found = found[0] if isinstance(found, list) and found else found
        if isinstance(found, dict):
            first = (found.get("coding") or [{}])[0]
            if first:
                qualified = f"|{found.get('text', '')}" if "extension" in found else ""
                return f"{first.get('system', '')}|{first.get('code', '')}{qualified}"
            if found.get("text"):
                return str(found["text"])
    return ""


def _time_of(body: Json) -> str:
    for name, found in body.items():
        if name.endswith("DateTime") or name in {"authoredOn", "date", "started", "recordedDate", "whenHandedOver"}:
            return str(found)
        if name.endswith("Period") and isinstance(found, dict):
            return str(found.get("start") or found.get("end") or "")
    return ""


_STATEMENT_TAGS = tuple(V3 + name for name in sorted(values.STATEMENTS))
