"""What the clinical entries of a CDA share: their templates, their parts, their comments, who wrote them, what negates them.

Standard: CI-SIS entries 1.2.250.1.213.1.1.3.N; IHE PCC 6.3.4 (1.3.6.1.4.1.19376.1.5.3.1.4.N); CCD (2.16.840.1.113883.10.20.1.N).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates.attachment import file_media
from mappings.cda.walk import statements, translate_parts, translate_statement
from mappings.cda.xml import V3, Element, attribute, every, has_template, local_name, names, one, text

Json = dict[str, Any]

FR = "1.2.250.1.213.1.1.3."
IHE = "1.3.6.1.4.1.19376.1.5.3.1.4."
FUNCTIONAL = "1.3.6.1.4.1.19376.1.5.3.1.1.12.3."
CCD = "2.16.840.1.113883.10.20.1."
COMMENT = (FR + "32", IHE + "2", CCD + "40")
INTERNAL_REFERENCE = (FR + "36", IHE + "4.1")
EXTERNAL_REFERENCE = (FR + "35", IHE + "4")
PROBLEM = (FR + "37", IHE + "5", CCD + "28")
SEVERITY = (FR + "29", IHE + "1", CCD + "55")
STATUS = (FR + "30", IHE + "1.1", CCD + "57", CCD + "50")
HEALTH_STATUS = (FR + "31", IHE + "1.2", CCD + "51")
CERTAINTY, CRITICALITY = (FR + "171",), (FR + "172",)
CERTAINTY_CODE, CRITICALITY_CODE = "66455-7", "82606-5"

NEGATED = "urn:vaguemestre:negated"
_ABSENT_SYSTEM = "http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips"
_ABSENT_SNOMED = frozenset(
    {"160244002", "160245001", "373572006", "409137002", "428607008", "429625007", "716186003", "787480003", "787481004"}
)
_YES, _NO = frozenset({"oui", "yes"}), frozenset({"non", "no"})
_NOTHING = frozenset({"", "-", "--", "–", "—", "/", "n/a", "na"})
PERSONS = frozenset({"Practitioner", "PractitionerRole", "RelatedPerson", "Patient"})


def known_as(*roots: str) -> tuple[str, ...]:
    """`fr:37`, `ihe:5`, `ccd:28`, `functional:6` → the templateId roots."""
    prefixes = {"fr": FR, "ihe": IHE, "ccd": CCD, "functional": FUNCTIONAL}
    return tuple(prefixes[kind] + number for kind, _, number in (root.partition(":") for root in roots))


# ---- what holds of a whole entry -----------------------------------------------------------------------------------------


def says_nothing(entry: Element, scope: Scope) -> bool:
    """Whether an entry was taken back (statusCode nullified) or is itself a nullFlavor: claimed, and no fact."""
    if attribute(entry, "code", "statusCode") != "nullified" and not values.null_flavor(entry):
        return False
    scope.claim_all(entry)
    return True


def mood(entry: Element) -> str:
    """`moodCode`; EVN when it is unsaid."""
    return attribute(entry, "moodCode") or "EVN"


def status_code(entry: Element) -> str:
    """`statusCode`; empty when it is unsaid."""
    return attribute(entry, "code", "statusCode")


def is_negated(entry: Element | None) -> bool:
    """`negationInd` of an entry, or of the relationship by which it stands in another one."""
    relation = None if entry is None else entry.getparent()
    return any(attribute(part, "negationInd") in {"true", "1"} for part in (entry, relation) if part is not None)


def says_absence(concept: Json | None) -> bool:
    """Whether a code says that nothing is known, or that nothing is there (IPS absent-unknown, SNOMED CT « no known … »)."""
    return any(
        part.get("system") == _ABSENT_SYSTEM or (part["code"] in _ABSENT_SNOMED and "snomed" in part.get("system", ""))
        for part in (concept or {}).get("coding", ())
    )


def code_of(entry: Element, scope: Scope, path: str = "code") -> Json | None:
    """`code` of an entry as a CodeableConcept, else what its `text` says; None with the finding CODE_MISSING."""
    element = one(entry, path)
    found = values.concept(element, scope)
    if element is not None and found is not None and "coding" in found:
        return _named(found, element, entry, scope)
    if found is not None and not says_little(found["text"]):
        return found
    said = values.text_of(entry, scope)
    said = "" if says_little(said) else said
    scope.find("CODE_MISSING", entry, "without a code" + ("; its text stands for it" if said else "; stays in the document"))
    return {"text": said} if said else None


def _named(found: Json, element: Element, entry: Element, scope: Scope) -> Json:
    """A code whose originalText leads to the cell of the answer keeps its own name as text.

    French documents often point from the code to the cell that answers (« Oui », « 2.5 V »), which is that of the whole entry.
    """
    own, said = found["coding"][0].get("display", ""), values.original_text(element, scope)
    is_other = own.casefold().startswith("autre") or "Autre " in own
    cell = attribute(element, "value", "originalText/reference").removeprefix("#")
    is_answer = bool(cell) and cell == attribute(entry, "value", "text/reference").removeprefix("#") and not is_other
    if own and said and (is_answer or says_little(said)):
        found["text"] = values.with_qualifiers(own, found.get("extension", []))
    return found


def says_little(said: str) -> bool:
    """Whether a text names nothing: an answer, or what fills a cell."""
    return said.casefold().strip(" .:") in _YES | _NO | _NOTHING


def is_denied(entry: Element, act: Element | None, scope: Scope) -> bool:
    """Whether a problem is denied: by negationInd, unless the cell that its value points to says « oui » or « non ».

    The text is what was signed. Finding: TEXT_SAYS_OTHERWISE when negationInd says the contrary.
    """
    negated = is_negated(entry) or is_negated(act)
    value = one(entry, "value")
    said = "" if value is None else values.original_text(value, scope).casefold().strip(" .:")
    answered = False if said in _YES else True if said in _NO else negated
    if answered != negated:
        scope.find("TEXT_SAYS_OTHERWISE", entry, "negationInd contradicts the text of the section; the text counts")
    return answered


def coded(system: str, code: str, display: str = "") -> Json:
    """A CodeableConcept of one code of FHIR."""
    return {"coding": [{"system": system, "code": code, **({"display": display} if display else {})}]}


def codes_in(concept: Json | None) -> list[str]:
    """The codes of a CodeableConcept, its own first."""
    return [part["code"] for part in (concept or {}).get("coding", ())]


def extend(body: Json, url: str, kind: str, value: Any) -> None:
    """An extension of a body, unless there is no value."""
    if value is not None and value != "":
        body.setdefault("extension", []).append({"url": url, f"value{kind}": value})


def written_on(scope: Scope) -> str:
    """The day of the document, as a FHIR date."""
    return values.moment(one(scope.reading.root, "effectiveTime"), scope)[:10]


def sites(entry: Element, scope: Scope, path: str = "targetSiteCode") -> list[Json]:
    """Every `targetSiteCode` (or another site) of an entry."""
    return [made for part in entry.findall(names(path)) if (made := values.concept(part, scope)) is not None]


def devices(entry: Element, scope: Scope) -> list[Json]:
    """Devices that took part: their codes, else the name of their model."""
    found = []
    for part in every(entry, "participant"):
        device = one(part, "participantRole/playingDevice")
        if device is None:
            continue
        code = values.concept(one(device, "code"), scope) or values.concept(one(part, "participantRole/code"), scope)
        name = text(one(device, "manufacturerModelName"))
        if code is not None or name:
            found.append({**(code or {}), **({"text": name} if name else {})})
    return found


def who_wrote(entry: Element, types: frozenset[str] = PERSONS) -> Json | None:
    """Author of an entry when it is one of these types of FHIR."""
    found = values.author(entry)
    return found if found is not None and found["type"] in types else None


def enclosing(entry: Element) -> Element | None:
    """The statement that a statement stands in."""
    relation = entry.getparent()
    outer = None if relation is None else relation.getparent()
    return outer if outer is not None and local_name(outer) in values.STATEMENTS else None


# ---- what stands in it ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Parts:
    """Statements inside one: comments; mentions of other entries (typeCode, code); what became facts (typeCode, reference)."""

    notes: list[Json] = field(default_factory=list)
    mentions: list[tuple[str, Json]] = field(default_factory=list)
    facts: list[tuple[str, Json]] = field(default_factory=list)

    def references(self, *kinds: str, only: frozenset[str] | None = None) -> list[Json]:
        """References to facts, of these typeCodes (all when none is named) and types."""
        return [fact for kind, fact in self.facts if (not kinds or kind in kinds) and (only is None or fact["type"] in only)]

    def reasons(self) -> list[Json]:
        """Codes that are said to be the reason."""
        return [concept for kind, concept in self.mentions if kind in {"RSON", "CAUS"}]

    def put(self, body: Json, **more: list[Json]) -> None:
        """`note`, and other lists, into a body: those that are not empty."""
        for name, found in {"note": self.notes, **more}.items():
            if found:
                body[name] = [*body.get(name, ()), *found]


def nested(entry: Element) -> list[tuple[str, Element]]:
    """Statements under `component` and `entryRelationship`, with the typeCode of what relates them (COMP when unsaid)."""
    return [
        (attribute(relation, "typeCode") or "COMP", child)
        for relation in entry
        if relation.tag in _RELATIONS
        for child in statements(relation)
    ]


def parts(entry: Element, scope: Scope) -> Parts:
    """What stands in an entry and nobody claimed: comments and mentions are read, everything else is translated."""
    found = Parts()
    for kind, child in nested(entry):
        if child in scope.reading.claimed:
            continue
        if has_template(child, *COMMENT):
            scope.claim_all(child)
            found.notes += comment(child, scope)
        elif has_template(child, *INTERNAL_REFERENCE):
            scope.claim_all(child)
            concept = values.concept(one(child, "code"), scope)
            found.mentions += [(kind, concept)] if concept is not None else []
        elif has_template(child, *EXTERNAL_REFERENCE):
            scope.claim_all(child)
        elif local_name(child) == "observationMedia":
            document = file_media(child, [child], scope, kind=values.concept(one(entry, "code"), scope))
            found.facts += [(kind, document)] if document is not None else []
        elif (reference := translate_statement(child, scope)) is not None:
            found.facts.append((kind, reference))
    return found


def comment(entry: Element, scope: Scope) -> list[Json]:
    """A comment (FR-Commentaire-ER) as one Annotation, or none when it says nothing."""
    said = values.text_of(entry, scope)
    made: Json = {"text": said}
    if time := values.start(entry, scope):
        made["time"] = time
    author = who_wrote(entry, PERSONS | {"Organization"})
    if author is not None:
        made["authorReference"] = author
    return [] if says_little(said) else [made]


def qualifier(entry: Element, scope: Scope, templates: tuple[str, ...], code: str = "") -> Json | None:
    """The value of the first nested observation of these templates, or of this code: claimed, as part of its parent."""
    for _, child in nested(entry):
        if has_template(child, *templates) or (code and attribute(child, "code", "code") == code):
            scope.claim(child)
            found = values.concept(one(child, "value"), scope)
            if found is not None:
                return found
    return None


def concern(entry: Element, scope: Scope) -> Json | None:
    """A concern act (problems, allergies): no fact of its own; what it holds is read, and asks it for its state."""
    if says_nothing(entry, scope):
        return None
    scope.claim(entry, *(child for _, child in nested(entry) if has_template(child, *COMMENT)))
    translate_parts(entry, scope)
    return None


def concern_of(entry: Element) -> Element | None:
    """The concern act that an entry stands in."""
    outer = enclosing(entry)
    return outer if outer is not None and local_name(outer) == "act" else None


def concern_notes(act: Element | None, scope: Scope) -> list[Json]:
    """Comments on the whole concern."""
    found = [] if act is None else nested(act)
    return [note for _, child in found if has_template(child, *COMMENT) for note in comment(child, scope)]


_RELATIONS = frozenset({V3 + "component", V3 + "entryRelationship"})
