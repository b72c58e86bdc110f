"""What results of biology take from what stands around them: their specimen, who made and validated them, with which device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.walk import statements
from mappings.cda.xml import V3, Element, attribute, every, has_template, local_name, one

Json = dict[str, Any]

COMMENTS = ("1.2.250.1.213.1.1.3.32", "1.3.6.1.4.1.19376.1.5.3.1.4.2", "2.16.840.1.113883.10.20.1.40")
SAMPLING = ("1.2.250.1.213.1.1.3.77", "1.3.6.1.4.1.19376.1.3.1.2")
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
DEVICE = "urn:vaguemestre:device"
NULLIFIED = "nullified"
_VALIDATES = frozenset({"AUTHEN", "RESP"})
_SHARED = "laboratory"
STATUSES = {
    "completed": "final",
    "active": "preliminary",
    "new": "registered",
    "held": "registered",
    "suspended": "registered",
    "aborted": "cancelled",
    "cancelled": "cancelled",
}


@dataclass(frozen=True, slots=True)
class Around:
    """What holds for every result inside an entry, a battery or an isolate.

    `specimens` are those taken here, by root and extension of their ids; `specimen` is the one when there is only one.
    `isolate` is what tells results of several isolates apart, `germ` the micro-organism.
    """

    code: Json | None = None
    specimens: dict[tuple[str, str], Json] = field(default_factory=dict)
    specimen: Json | None = None
    performers: tuple[Json, ...] = ()
    devices: tuple[Json, ...] = ()
    isolate: str = ""
    germ: Json | None = None


def around(scope: Scope) -> Around:
    """What holds where the walk stands."""
    found = scope.reading.shared.get(_SHARED)
    return found if isinstance(found, Around) else Around()


@contextmanager
def inside(scope: Scope, **changes: Any) -> Iterator[None]:
    """What holds changes for what is translated in this block."""
    before = around(scope)
    scope.reading.shared[_SHARED] = replace(before, **changes)
    try:
        yield
    finally:
        scope.reading.shared[_SHARED] = before


def told(entry: Element) -> frozenset[str]:
    """Local names of what stands right under a statement."""
    return frozenset(local_name(child) for child in entry if isinstance(child.tag, str))


def children(entry: Element, *relations: str) -> list[Element]:
    """The statements under `component` and, of these typeCodes (all when none is named), `entryRelationship`."""
    found = [child for part in entry.findall(f"{V3}component") for child in statements(part)]
    return found + values.related(entry, *relations)


def comments(found: list[Element], scope: Scope) -> list[str]:
    """Texts of the comments among statements, which are read by that."""
    texts = []
    for statement in found:
        if local_name(statement) == "act" and has_template(statement, *COMMENTS):
            scope.claim_all(statement)
            if said := values.text_of(statement, scope):
                texts.append(said)
    return texts


def people(entry: Element) -> list[Json]:
    """Who answers for results: performers with their laboratory, then those who validated them (AUTHEN, RESP)."""
    found: list[Json | None] = []
    for assigned in every(entry, "performer/assignedEntity"):
        found += [values.practitioner(assigned), values.organization(one(assigned, "representedOrganization"))]
    found += [
        values.practitioner(one(part, "participantRole"))
        for part in entry.findall(f"{V3}participant")
        if part.get("typeCode", "") in _VALIDATES
    ]
    return distinct(one_ for one_ in found if one_ is not None and one_["type"] != "Device")


def distinct(references: Iterator[Json] | list[Json]) -> list[Json]:
    """Each reference once, in their order."""
    found: list[Json] = []
    for one_ in references:
        if one_ not in found:
            found.append(one_)
    return found


def devices(entry: Element, scope: Scope) -> list[Json]:
    """Analysers, kits and consumables (`participant/participantRole/playingDevice`) as CodeableConcepts."""
    found = []
    for device in every(entry, "participant/participantRole/playingDevice"):
        made = values.concept(one(device, "code"), scope)
        model = values.narrative(one(device, "manufacturerModelName"), scope)
        if made is None and model:
            made = {"text": model}
        if made is not None:
            found.append(made)
    return found


def specimen_of(entry: Element, scope: Scope) -> Json | None:
    """The specimen that an entry names by its id, else the only one taken around it."""
    here = around(scope)
    for number in every(entry, "specimen/specimenRole/id"):
        found = here.specimens.get((attribute(number, "root"), attribute(number, "extension")))
        if found is not None:
            return found
    return here.specimen


def status_of(entry: Element) -> str:
    """Observation.status by `statusCode`; `nullified` when the statement says that it holds no more."""
    said = attribute(entry, "code", "statusCode").lower()
    return said if said == NULLIFIED else STATUSES.get(said, "unknown")


def laboratory_category(code: Json, further: Json | None = None) -> list[Json]:
    """Observation.category of a result of biology."""
    found: list[Json] = [{"coding": [{"system": CATEGORY, "code": "laboratory"}]}]
    return [*found, further] if further is not None else found
