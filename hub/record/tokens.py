"""What of a resource can be searched, as rows of `token_index`, derived from its body and its patient's number.

Standard: FHIR R4 search parameters of Patient, Encounter, DocumentReference; other types in `clinical_tokens`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hub.model.identity import comparable
from hub.model.record_change import Json
from hub.record.clinical_tokens import KINDS, Token, clinical_tokens

AUTHOR_RPPS, AUTHOR_FINESS = "DocumentReference.author-rpps", "DocumentReference.author-finess"
SET, RELATES_TO = "DocumentReference.set", "DocumentReference.relatesto"
URI = "urn:ietf:rfc:3986"

_RPPS_SYSTEMS = frozenset({"urn:oid:1.2.250.1.71.4.2.1", "https://rpps.esante.gouv.fr"})
_FINESS_SYSTEMS = frozenset({"urn:oid:1.2.250.1.71.4.2.2", "https://finess.esante.gouv.fr"})


def tokens(kind: str, body: Json, patient_id: int | None = None) -> set[Token]:
    """The search rows of one resource of that patient."""
    if kind in KINDS:
        return set(clinical_tokens(kind, body, patient_id))
    reader = _READERS.get(kind)
    return set(reader(body)) if reader is not None else set()


def _patient(body: Json) -> Iterator[Token]:
    for one in body.get("identifier", ()):
        yield "Patient.identifier", one["value"], one["system"]
    for name in body.get("name", ()):
        if family := comparable(name.get("family", "")):
            yield "Patient.family", family, ""
        for given in name.get("given", ()):
            if given := comparable(given):
                yield "Patient.given", given, ""
    if birth := body.get("birthDate"):
        yield "Patient.birthdate", birth, ""


def _encounter(body: Json) -> Iterator[Token]:
    for one in body.get("identifier", ()):
        if value := one.get("value"):
            yield "Encounter.identifier", value, one.get("system", "")


def _document(body: Json) -> Iterator[Token]:
    for one in [body.get("masterIdentifier", {}), *body.get("identifier", ())]:
        for value, system in identifier_forms(one.get("system", ""), one.get("value", "")):
            yield "DocumentReference.identifier", value, system
    for relation in body.get("relatesTo", ()):
        target = relation.get("target", {}).get("identifier", {})
        if value := target.get("value"):
            yield RELATES_TO, value, target.get("system", "")
    for coding in body.get("type", {}).get("coding", ()):
        if code := coding.get("code"):
            yield "DocumentReference.type", code, coding.get("system", "")
    for category in body.get("category", ()):
        for coding in category.get("coding", ()):
            if code := coding.get("code"):
                yield "DocumentReference.category", code, coding.get("system", "")
    yield from _authors(body)


def _authors(body: Json) -> Iterator[Token]:
    """Numbers of who wrote the document and of their structure: identifiers of `author` and of what it points to inside."""
    contained = {"#" + one.get("id", ""): one for one in body.get("contained", ())}
    seen: list[Any] = []
    todo: list[Json] = list(body.get("author", ()))
    while todo and len(seen) < 100:
        part = todo.pop()
        if not isinstance(part, dict) or any(part is one for one in seen):
            continue
        seen.append(part)
        identifiers = part.get("identifier", ())
        for one in [identifiers] if isinstance(identifiers, dict) else identifiers:
            yield from _author_token(one.get("system", ""), one.get("value", ""))
        todo += [part[name] for name in ("practitioner", "organization", "onBehalfOf", "owner") if name in part]
        if (inside := contained.get(part.get("reference", ""))) is not None:
            todo.append(inside)


def _author_token(system: str, value: str) -> Iterator[Token]:
    if system in _RPPS_SYSTEMS and value:
        yield AUTHOR_RPPS, value, ""
        if len(value) == 12 and value[0] == "8":  # PS_IdNat: the kind of number, then the RPPS
            yield AUTHOR_RPPS, value[1:], ""
    elif system in _FINESS_SYSTEMS and value:
        yield AUTHOR_FINESS, value, ""
        if len(value) == 10 and value[0] == "1":  # Struct_IdNat: the kind of number, then the FINESS
            yield AUTHOR_FINESS, value[1:], ""


def identifier_forms(system: str, value: str) -> Iterator[tuple[str, str]]:
    """Each (value, system) under which a document's number may be asked for: as a URN, and bare.

    A CDA id with an extension is `urn:oid:root^extension` and is found as `urn:oid:root|extension` too.
    """
    if not value:
        return
    yield value, system
    if system == URI and value.startswith("urn:oid:"):
        bare = value[8:]
        yield bare, ""
        root, hat, extension = bare.partition("^")
        if hat and extension:
            yield extension, f"urn:oid:{root}"


_READERS: dict[str, Callable[[Json], Iterator[Token]]] = {
    "Patient": _patient,
    "Encounter": _encounter,
    "DocumentReference": _document,
}
