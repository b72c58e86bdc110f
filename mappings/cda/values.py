"""CDA data types as FHIR R4 elements.

What an element does not say (absent, or with a nullFlavor) gives None or an empty text, never an invented value. What is
wrong in it (a date that is none, a unit outside UCUM) is told as a finding at its XPath.
Standard: HL7 v3 data types R1 (CD, CE, PQ, IVL, TS, RTO, ED, II, EN); FHIR R4 data types.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING, Any

from hub.formats.ts import parse_ts
from mappings.cda.xml import V3, XSI_TYPE, Element, attribute, every, local_name, names, one, text
from mappings.code_systems import system_of_oid
from mappings.national_identifiers import professional_identifier, structure_identifier

if TYPE_CHECKING:
    from mappings.cda.scope import Scope

Json = dict[str, Any]

URI = "urn:ietf:rfc:3986"
QUALIFIER = "urn:vaguemestre:qualifier"
_NULL_FLAVORS = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"
_NUMBER = re.compile(r"[+-]?\d{1,18}(?:\.\d{1,18})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_MAX_TEXT = 64_000  # characters of one text that goes into a resource
_PERSONS = ("assignedPerson", "associatedPerson", "relatedPerson", "playingEntity")


# ---- codes -----------------------------------------------------------------------------------------------------------


def coding(element: Element) -> Json | None:
    """One CD or CE as a Coding; None without a code."""
    code = " ".join(element.get("code", "").split())
    if not code:
        return None
    said = {"system": system_of_oid(element.get("codeSystem", "").strip()), "code": code, "display": _display(element)}
    return {name: value for name, value in said.items() if value}


def _display(element: Element) -> str:
    return " ".join(element.get("displayName", "").split())


def concept(element: Element | None, scope: Scope) -> Json | None:
    """A CD or CE with its translations as a CodeableConcept, originalText as text; None when it says nothing at all.

    A nullFlavor alone gives None: what is unknown is not coded as known. Qualifiers (a side, a kind) are extensions, and in
    the text when there is no originalText: without them the code may say another thing.
    """
    if element is None:
        return None
    codings: list[Json] = []
    for part in (element, *element.findall(f"{V3}translation")):
        made = coding(part)
        if made is not None and made not in codings:
            codings.append(made)
    said, qualified = original_text(element, scope), qualifiers(element, scope)
    found: Json = {}
    if qualified:
        found["extension"] = qualified
    if codings:
        found["coding"] = codings
    named = _display(element) or (codings[0].get("display") or codings[0]["code"] if codings else "")
    if said or named or qualified:
        found["text"] = said or with_qualifiers(named, qualified)
    return found or None


def qualifiers(element: Element, scope: Scope) -> list[Json]:
    """`qualifier` of a CD as extensions `urn:vaguemestre:qualifier`, each with the `value` and, where it is said, the `name`."""
    made: list[Json] = []
    for part in element.findall(f"{V3}qualifier"):
        said = {name: found for name in ("name", "value") if (found := concept(one(part, name), scope)) is not None}
        if "value" in said:
            parts = [{"url": name, "valueCodeableConcept": found} for name, found in said.items()]
            made.append({"url": QUALIFIER, "extension": parts})
    return made


def with_qualifiers(named: str, qualified: list[Json]) -> str:
    """A name and what qualifies it, as one text."""
    said = "; ".join(" : ".join(part["valueCodeableConcept"]["text"] for part in one_["extension"]) for one_ in qualified)
    return f"{named} ({said})" if named and said else named or said


def original_text(element: Element, scope: Scope) -> str:
    """`originalText`: what it says, or what its reference points to in the section's text."""
    return narrative(one(element, "originalText"), scope)


def null_flavor(element: Element | None) -> str:
    """The nullFlavor of an element; empty when it has none."""
    return attribute(element, "nullFlavor")


def absent_reason(element: Element | None) -> Json | None:
    """`dataAbsentReason` for an element with a nullFlavor: the v3 code itself; None when there is no nullFlavor."""
    flavor = null_flavor(element)
    return {"coding": [{"system": _NULL_FLAVORS, "code": flavor}]} if flavor else None


# ---- texts -----------------------------------------------------------------------------------------------------------


def narrative(element: Element | None, scope: Scope) -> str:
    """Text of an ED: its own, or that of the element its `reference/@value` names in the narrative (a leading # may miss).

    An element that is empty marks the text behind it.
    """
    if element is None:
        return ""
    reference = attribute(element, "value", "reference")
    found = scope.anchored(reference) if reference else None
    said = text(element) if found is None else text(found) or " ".join((found.tail or "").split())
    return said[:_MAX_TEXT]


def text_of(entry: Element | None, scope: Scope) -> str:
    """What `entry/text` says."""
    return narrative(one(entry, "text"), scope)


# ---- numbers ---------------------------------------------------------------------------------------------------------


def number(said: str) -> int | float | None:
    """A REAL or INT as a JSON number; None when it is none."""
    said = said.strip().replace(",", ".")
    if not _NUMBER.fullmatch(said):
        return None
    found = float(said) if any(sign in said for sign in ".eE") else int(said)
    return found if isfinite(found) else None


def quantity(element: Element | None, scope: Scope, comparator: str = "") -> Json | None:
    """A PQ as a Quantity, its unit as a UCUM code where it is one; None when it holds no number.

    Findings: VALUE_INVALID (no number), UNIT_NOT_UCUM.
    """
    if element is None:
        return None
    said = attribute(element, "value")
    value = number(said)
    if value is None:
        if said:
            scope.find("VALUE_INVALID", element, "not a number; left out")
        return None
    unit = attribute(element, "unit")
    if unit == "1":
        unit = ""
    made: Json = scope.units.quantity(value, unit)
    if unit and "code" not in made:
        scope.find("UNIT_NOT_UCUM", element, "a unit that UCUM does not know; kept as text")
    if comparator:
        made = {"value": value, "comparator": comparator, **{name: one for name, one in made.items() if name != "value"}}
    return made


def simple_quantity(element: Element | None, scope: Scope) -> Json | None:
    """`quantity` of an element that is a PQ, or an IVL_PQ of one value (low = high, or only `center`)."""
    if element is None:
        return None
    for part in (element, one(element, "center"), one(element, "low"), one(element, "high")):
        if part is not None and attribute(part, "value"):
            return quantity(part, scope)
    return None


def range_(element: Element | None, scope: Scope) -> Json | None:
    """An IVL_PQ as a Range; None when it has neither end."""
    found = {
        end: made for end, name in (("low", "low"), ("high", "high")) if (made := quantity(one(element, name), scope)) is not None
    }
    return found or None


def value(element: Element, scope: Scope, name: str = "value") -> Json:
    """A `value` by its xsi:type as the one element `name[x]` that FHIR has for it (`{"valueQuantity": …}`); {} when it is empty.

    PQ; IVL_PQ with one end (a Quantity with comparator) or two (Range); CD, CE, CV, CO; ST, ED with text; INT; REAL; BL; TS;
    IVL_TS (Period); RTO (Ratio). Findings: VALUE_INVALID, VALUE_TYPE (another type; its text is kept as valueString).
    """
    kind = element.get(XSI_TYPE, "").strip().rpartition(":")[2]
    reader = _VALUES.get(kind)
    if reader is not None:
        found: Json = reader(element, scope, name)
        return found
    said = text(element) or attribute(element, "value") or attribute(element, "displayName")
    if said:
        scope.find("VALUE_TYPE", element, "a value of a type that is not known; kept as text")
    return {f"{name}String": said[:_MAX_TEXT]} if said else {}


def _value_quantity(element: Element, scope: Scope, name: str) -> Json:
    made = quantity(element, scope)
    return {f"{name}Quantity": made} if made is not None else {}


def _value_interval(element: Element, scope: Scope, name: str) -> Json:
    low, high = one(element, "low"), one(element, "high")
    low_says, high_says = (end is not None and bool(attribute(end, "value")) for end in (low, high))
    if low_says and high_says:
        made = range_(element, scope)
        return {f"{name}Range": made} if made is not None else {}
    if low_says:
        bound = quantity(low, scope, ">=" if _inclusive(low) else ">")
    elif high_says:
        bound = quantity(high, scope, "<=" if _inclusive(high) else "<")
    else:
        bound = quantity(one(element, "center"), scope) or quantity(element, scope)
    return {f"{name}Quantity": bound} if bound is not None else {}


def _inclusive(end: Element | None) -> bool:
    """`inclusive` of one end; unsaid it is true of a high and false of a low, as French results mean it."""
    said = attribute(end, "inclusive").lower()
    return said == "true" if said else end is not None and local_name(end) == "high"


def _value_concept(element: Element, scope: Scope, name: str) -> Json:
    made = concept(element, scope)
    return {f"{name}CodeableConcept": made} if made is not None else {}


def _value_string(element: Element, scope: Scope, name: str) -> Json:
    said = narrative(element, scope)
    return {f"{name}String": said} if said else {}


def _value_integer(element: Element, scope: Scope, name: str) -> Json:
    made = number(attribute(element, "value"))
    if isinstance(made, int) and abs(made) < 1 << 31:
        return {f"{name}Integer": made}
    if made is not None:
        return {f"{name}Quantity": {"value": made}}
    if attribute(element, "value"):
        scope.find("VALUE_INVALID", element, "not a number; left out")
    return {}


def _value_real(element: Element, scope: Scope, name: str) -> Json:
    made = quantity(element, scope)
    return {f"{name}Quantity": made} if made is not None else {}


def _value_boolean(element: Element, scope: Scope, name: str) -> Json:
    said = attribute(element, "value").lower()
    if said in {"true", "1", "false", "0"}:
        return {f"{name}Boolean": said in {"true", "1"}}
    if said:
        scope.find("VALUE_INVALID", element, "neither true nor false; left out")
    return {}


def _value_time(element: Element, scope: Scope, name: str) -> Json:
    made = moment(element, scope)
    return {f"{name}DateTime": made} if made else {}


def _value_period(element: Element, scope: Scope, name: str) -> Json:
    made = period(element, scope)
    return {f"{name}Period": made} if made else {}


def _value_ratio(element: Element, scope: Scope, name: str) -> Json:
    made = {part: found for part in ("numerator", "denominator") if (found := quantity(one(element, part), scope)) is not None}
    return {f"{name}Ratio": made} if len(made) == 2 else {}


_VALUES = {
    "PQ": _value_quantity,
    "IVL_PQ": _value_interval,
    "CD": _value_concept,
    "CE": _value_concept,
    "CV": _value_concept,
    "CO": _value_concept,
    "ST": _value_string,
    "ED": _value_string,
    "INT": _value_integer,
    "REAL": _value_real,
    "BL": _value_boolean,
    "BN": _value_boolean,
    "TS": _value_time,
    "EIVL_TS": _value_time,
    "IVL_TS": _value_period,
    "RTO": _value_ratio,
    "RTO_PQ_PQ": _value_ratio,
}


# ---- times -----------------------------------------------------------------------------------------------------------


def moment(element: Element | None, scope: Scope) -> str:
    """A TS as a FHIR dateTime, as precise as it is; empty when it says nothing. Finding: TS_INVALID."""
    said = attribute(element, "value")
    if not said or element is None:
        return ""
    ts = parse_ts(said, scope.tz)
    if ts.problem:
        scope.find(
            ts.problem,
            element,
            "not a date that the calendar has; left out" if not ts.is_valid else "an hour of the clock change",
        )
    return ts.fhir_datetime()


def period(element: Element | None, scope: Scope) -> Json:
    """An IVL_TS as a Period; {} when it has neither end (`value` alone is both).

    Finding: VALUE_INVALID when it ends on a day before it begins: the end is left out.
    """
    if element is None:
        return {}
    start, end = moment(one(element, "low"), scope), moment(one(element, "high"), scope)
    if not start and not end:
        start = end = moment(element, scope)
    days = min(len(start), len(end), len("2026-11-24"))
    if start[:days] > end[:days]:
        scope.find("VALUE_INVALID", element, "ends before it begins; the end is left out")
        end = ""
    return {name: said for name, said in (("start", start), ("end", end)) if said}


def when(entry: Element, scope: Scope, name: str = "effective", path: str = "effectiveTime") -> Json:
    """`effectiveTime` as `{"<name>DateTime": …}`, or `{"<name>Period": …}` when it has `low` or `high`; {} if unsaid."""
    element = one(entry, path)
    if element is None:
        return {}
    said = moment(element, scope) or moment(one(element, "center"), scope)
    if said:
        return {f"{name}DateTime": said}
    if attribute(element, "value"):  # no date, and told
        return {}
    found = period(element, scope)
    if found and found.get("start") == found.get("end"):
        return {f"{name}DateTime": found["start"]}
    return {f"{name}Period": found} if found else {}


def start(entry: Element, scope: Scope, path: str = "effectiveTime") -> str:
    """When it began: `value`, else `low`; empty when unsaid."""
    element = one(entry, path)
    return moment(element, scope) or moment(one(element, "low"), scope)


def end(entry: Element, scope: Scope, path: str = "effectiveTime") -> str:
    """`effectiveTime/high`; empty when unsaid."""
    return moment(one(one(entry, path), "high"), scope)


# ---- who and which -----------------------------------------------------------------------------------------------------


def uri_of(root: str, extension: str = "") -> tuple[str, str]:
    """System and value of an II as FHIR writes it: an OID alone or a UUID is a URN of RFC 3986."""
    root, extension = root.strip(), extension.strip()
    if extension:
        return (f"urn:uuid:{root.lower()}" if _UUID.fullmatch(root) else f"urn:oid:{root}"), extension
    return URI, f"urn:uuid:{root.lower()}" if _UUID.fullmatch(root) else f"urn:oid:{root}"


def identifier(element: Element) -> Json | None:
    """An II as an Identifier; None without root."""
    root = attribute(element, "root")
    if not root:
        return None
    system, said = uri_of(root, attribute(element, "extension"))
    return {"system": system, "value": said}


def identifiers(entry: Element) -> list[Json]:
    """All `id` of an entry as Identifiers."""
    return [made for element in entry.findall(V3 + "id") if (made := identifier(element)) is not None]


def person_name(person: Element | None) -> str:
    """`name` of a person as one text: prefix, given, family."""
    name = one(person, "name")
    if name is None:
        return ""
    parts = [text(part) for kind in ("prefix", "given", "family") for part in name.findall(V3 + kind)]
    return " ".join(part for part in parts if part) or text(name)


def practitioner(assigned: Element | None) -> Json | None:
    """assignedEntity, assignedAuthor, associatedEntity, participantRole → a reference to who it is, else to the structure."""
    if assigned is None:
        return None
    person = next((found for kind in _PERSONS if (found := one(assigned, kind)) is not None), None)
    name, device = person_name(person), text(one(assigned, "assignedAuthoringDevice/softwareName"))
    first = one(assigned, "id")
    number_ = None
    if first is not None and attribute(first, "root"):
        number_ = professional_identifier(attribute(first, "extension") or attribute(first, "root"), attribute(first, "root"))
    if number_ is None and not name and not device:
        return organization(one(assigned, "representedOrganization"))
    made: Json = {"type": "Device" if device and not name else "Practitioner"}
    if number_ is not None:
        made["identifier"] = number_
    if name or device:
        made["display"] = name or device
    return made


def organization(element: Element | None) -> Json | None:
    """representedOrganization (or any with id and name) → a reference to a structure."""
    if element is None:
        return None
    first = one(element, "id")
    made: Json = {"type": "Organization"}
    if first is not None and attribute(first, "root"):
        found = structure_identifier(attribute(first, "extension") or attribute(first, "root"), attribute(first, "root"))
        if found is not None:
            made["identifier"] = found
    if name := text(one(element, "name")):
        made["display"] = name
    return made if len(made) > 1 else None


def performers(entry: Element) -> list[Json]:
    """`performer/assignedEntity` of an entry as references, each once."""
    found: list[Json] = []
    for element in entry.findall(names("performer/assignedEntity")):
        made = practitioner(element)
        if made is not None and made not in found:
            found.append(made)
    return found


def author(entry: Element) -> Json | None:
    """The first `author/assignedAuthor` of an entry as a reference."""
    return practitioner(one(entry, "author/assignedAuthor"))


# ---- relationships -----------------------------------------------------------------------------------------------------


def related(entry: Element, *kinds: str) -> list[Element]:
    """Statements under `entryRelationship` with one of these typeCodes (all when none is named): the statement elements."""
    found = []
    for relation in every(entry, "entryRelationship"):
        if not kinds or relation.get("typeCode", "") in kinds:
            found += [child for child in relation if isinstance(child.tag, str) and local_name(child) in STATEMENTS]
    return found


STATEMENTS = frozenset(
    {
        "act",
        "encounter",
        "observation",
        "observationMedia",
        "organizer",
        "procedure",
        "regionOfInterest",
        "substanceAdministration",
        "supply",
    }
)
