"""What stands under a medicine, a vaccine or a device and only qualifies it: comments, instructions, reasons, yes-or-no marks.

Standard: CI-SIS FR-Commentaire-ER (1.2.250.1.213.1.1.3.32), FR-Instruction-au-patient (….33), FR-Instruction-au-dispensateur
(….34), FR-Note-du-dispensateur (….207), FR-Reference-interne (….36), FR-Simple-Observation (….48, .48.12 to .15, .48.34).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.walk import translate_statement
from mappings.cda.xml import V3, Element, attribute, has_template, local_name, one, template_ids

Json = dict[str, Any]

_FR = "1.2.250.1.213.1.1.3."
_IHE = "1.3.6.1.4.1.19376.1.5.3.1.4."
COMMENT = (_FR + "32", _IHE + "2")
PATIENT_INSTRUCTION = (_FR + "33", _IHE + "3")
DISPENSER_NOTE = (_FR + "34", _FR + "207", _IHE + "3.1")
INTERNAL_REFERENCE = (_FR + "36", _IHE + "4.1")
PROBLEM = (_FR + "37", _IHE + "5")
SIMPLE_OBSERVATION = (_FR + "48", _IHE + "13")
_MARKS = {
    "48.12": ("GEN-179", "off-label"),
    "48.13": ("MED-574", "long-term-condition"),
    "48.14": ("GEN-180", "work-related"),
    "48.15": ("GEN-181", "not-reimbursable"),
    "48.34": ("GEN-295", "prevention"),
}
_MARK_OF = {_FR + part: name for part, (_code, name) in _MARKS.items()} | dict(_MARKS.values())
_NOTHING = frozenset({"-", "--", "–", "—", "/", "."})


@dataclass(slots=True)
class Qualifiers:
    """What `qualifiers` found; `observations` and `rest` are for who asked."""

    notes: list[Json] = field(default_factory=list)
    instructions: list[str] = field(default_factory=list)
    reasons: list[Json] = field(default_factory=list)
    reason_references: list[Json] = field(default_factory=list)
    marks: list[Json] = field(default_factory=list)
    observations: list[Element] = field(default_factory=list)
    rest: list[Element] = field(default_factory=list)

    def put(self, body: Json) -> None:
        """Notes, reasons and marks into a resource that has `note`, `reasonCode`, `reasonReference`."""
        for name, found in (("note", self.notes), ("reasonCode", self.reasons), ("reasonReference", self.reason_references)):
            if found:
                body[name] = found
        if self.marks:
            body["extension"] = [*body.get("extension", ()), *self.marks]


def said(text: str) -> str:
    """A text, or nothing where it only fills the cell of a table."""
    return "" if text in _NOTHING else text


def qualifiers(entry: Element, scope: Scope) -> Qualifiers:
    """Read what stands under an entry and claim what is part of it."""
    found = Qualifiers()
    for relation in entry.findall(f"{V3}entryRelationship"):
        for part in relation:
            if isinstance(part.tag, str) and local_name(part) in values.STATEMENTS:
                _read(part, attribute(relation, "typeCode"), scope, found)
    return found


def _read(part: Element, kind: str, scope: Scope, found: Qualifiers) -> None:
    if has_template(part, *COMMENT, *DISPENSER_NOTE):
        if text := said(values.text_of(part, scope)):
            found.notes.append({"text": text})
    elif has_template(part, *PATIENT_INSTRUCTION):
        if text := said(values.text_of(part, scope)):
            found.instructions.append(text)
    elif kind == "RSON" and has_template(part, *INTERNAL_REFERENCE):
        _reason(part, scope, found)
    elif kind == "RSON" and has_template(part, *PROBLEM):
        reference = translate_statement(part, scope)
        if reference is not None:
            found.reason_references.append(reference)
        return
    elif name := _mark_name(part):
        mark = values.value(value, scope) if (value := one(part, "value")) is not None else {}
        if mark:
            found.marks.append({"url": f"urn:vaguemestre:{name}", **mark})
    else:
        (found.observations if has_template(part, *SIMPLE_OBSERVATION) else found.rest).append(part)
        return
    scope.claim(part)


def _mark_name(part: Element) -> str:
    if local_name(part) != "observation":
        return ""
    named = (_MARK_OF.get(root, "") for root in (*template_ids(part), attribute(part, "code", "code")))
    return next((name for name in named if name), "")


def _reason(part: Element, scope: Scope, found: Qualifiers) -> None:
    """FR-Reference-interne: its code in clear, and the problem of this document that it names, when it stands there."""
    concept = values.concept(one(part, "code"), scope)
    if concept is not None:
        found.reasons.append(concept)
    for element in part.findall(f"{V3}id"):
        if (attribute(element, "root"), attribute(element, "extension")) in _problems(scope):
            found.reason_references.append({"type": "Condition", "identifier": values.identifier(element)})


def _problems(scope: Scope) -> frozenset[tuple[str, str]]:
    shared = scope.reading.shared
    if "problem ids" not in shared:
        shared["problem ids"] = frozenset(
            (attribute(element, "root"), attribute(element, "extension"))
            for observation in scope.reading.root.iter(f"{V3}observation")
            if has_template(observation, *PROBLEM)
            for element in observation.findall(f"{V3}id")
            if attribute(element, "root")
        )
    known: frozenset[tuple[str, str]] = shared["problem ids"]
    return known


def qualifier(url: str, code: Element, value: Element, scope: Scope) -> Json | None:
    """A code and its value as one extension; None unless both say something."""
    concept, found = values.concept(code, scope), values.value(value, scope)
    if concept is None or not found:
        return None
    return {"url": url, "extension": [{"url": "code", "valueCodeableConcept": concept}, {"url": "value", **found}]}


def fold_observations(observations: list[Element], scope: Scope) -> list[Json]:
    """Simple observations under an entry as `urn:vaguemestre:observation` extensions; what cannot be one is left unread."""
    made = []
    for observation in observations:
        code, value = one(observation, "code"), one(observation, "value")
        if code is not None and value is not None and (found := qualifier("urn:vaguemestre:observation", code, value, scope)):
            made.append(found)
            scope.claim(observation)
    return made


def is_void(entry: Element, scope: Scope) -> bool:
    """Whether a statement was nullified: then it says nothing, and is read."""
    if attribute(entry, "code", "statusCode") != "nullified":
        return False
    scope.claim_all(entry)
    return True
