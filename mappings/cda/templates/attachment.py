"""Documents attached to a document, the copy of the document itself, and the bytes of a document of level 1.

Standard: CI-SIS FR-Document-attache (1.2.250.1.213.1.1.3.18), FR-Type-document-attache (….48.18), FR-Image-illustrative
(….103), section FR-Copie-du-document (1.2.250.1.213.1.1.2.243, LOINC 55108-5); HL7 CDA R2 §4.3.6.6 ObservationMedia.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any

from hub.formats.content import OCTETS
from hub.formats.ts import parse_ts
from hub.model.record_change import ContentRange
from mappings.cda import values
from mappings.cda.contents import Inline, inline, is_cut
from mappings.cda.scope import FACT, Reading, Scope
from mappings.cda.xml import V3, Element, attribute, every, has_template, one

Json = dict[str, Any]

_FR = "1.2.250.1.213.1.1.3."
COPY_SECTION, COPY_CODE = "1.2.250.1.213.1.1.2.243", "55108-5"
_CODE_2D_SECTION, _CODE_2D = "1.2.250.1.213.1.1.2.223", "57723-9"
_KIND_CODE = "69764-9"
_PDF = "application/pdf"
_SAME_TYPE = {
    "application/xml": "text/xml",
    "application/x-pdf": _PDF,
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/tif": "image/tiff",
    "text/rtf": "application/rtf",
}
_COPY = "copy of the document"


def attached_document(entry: Element, scope: Scope) -> Json | None:
    """FR-Document-attache: a DocumentReference with its bytes; the copy of the document itself makes none."""
    media = every(entry, "component/observationMedia")
    kind = next((part for part in every(entry, "component/observation") if _is_kind(part)), None)
    if attribute(entry, "code", "statusCode") == "nullified":
        scope.claim_all(entry)
        return None
    scope.claim(entry, kind, *media)
    if _is_copy(scope, kind):
        for element in media:
            _content(one(element, "value"), scope.reading)
        return None
    concept = values.concept(one(entry, "code"), scope)
    said = values.value(value, scope, "said") if (value := one(kind, "value")) is not None else {}
    named: Json = said.get("saidCodeableConcept", {})
    description = said.get("saidString") or named.get("text") or values.text_of(kind, scope)
    made = file_media(
        entry,
        media,
        scope,
        kind=named if named.get("coding") else concept,
        description=description,
        created=values.start(kind, scope) if kind is not None else "",
    )
    from mappings.cda.walk import translate_parts

    translate_parts(entry, scope)
    return made


def _is_kind(observation: Element) -> bool:
    return has_template(observation, _FR + "48.18") or attribute(observation, "code", "code") == _KIND_CODE


def _is_copy(scope: Scope, kind: Element | None) -> bool:
    return (
        COPY_SECTION in scope.section_templates
        or scope.section_code == COPY_CODE
        or attribute(kind, "code", "value") == COPY_CODE
    )


def file_media(
    holder: Element, media: Sequence[Element], scope: Scope, *, kind: Json | None = None, description: str = "", created: str = ""
) -> Json | None:
    """Bytes that stand in a document (observationMedia) as a DocumentReference; None when there are none.

    `holder` is the statement whose document it is, `kind` its type, `created` a FHIR dateTime. The media are claimed.
    Findings: CONTENT_EMPTY, CONTENT_BASE64, CONTENT_NOT_PDF, CONTENT_TYPE_LIES.
    """
    scope.claim(*media)
    contents: list[ContentRange] = []
    listed = [made for element in media if (made := _attachment(one(element, "value"), scope, contents)) is not None]
    if not media:
        scope.find("CONTENT_EMPTY", holder, "an attached document without content")
    if not listed:
        return None
    for attachment in listed:
        attachment |= {name: said for name, said in (("title", description), ("creation", created)) if said}
    body: Json = {"status": "current"}
    if kind is not None:
        body["type"] = kind
    if description:
        body["description"] = description
    if date := _instant(created) or parse_ts(scope.header.effective_time, scope.tz).fhir_instant():
        body["date"] = date
    places = (holder, scope.section, scope.reading.root)
    writer = next((made for part in places if part is not None and (made := values.author(part)) is not None), None)
    if writer is not None:
        body["author"] = [writer]
    body["content"] = [{"attachment": attachment} for attachment in listed]
    body["context"] = _context(scope)
    about = description or "|".join(attribute(element, "ID") for element in media)
    return scope.add("DocumentReference", holder, body, about=about, at=created, contents=tuple(contents))


def _context(scope: Scope) -> Json:
    """The document that holds it, and its stay."""
    header = scope.header
    made: Json = {"related": [{"type": "DocumentReference", "identifier": {"system": FACT, "value": header.master_id}}]}
    if header.encounter_ids:
        system, said = values.uri_of(*header.encounter_ids[0])
        made["encounter"] = [{"type": "Encounter", "identifier": {"system": system, "value": said}}]
    return made


def _instant(created: str) -> str:
    return created if "T" in created else ""


def _attachment(element: Element | None, scope: Scope, contents: list[ContentRange]) -> Json | None:
    """What an ED in Base64 holds as an Attachment; its range, when it can be found, goes to `contents`."""
    found = _content(element, scope.reading)
    if isinstance(found, ContentRange):
        contents.append(found)
        return {"contentType": found.content_type, "url": f"#content{len(contents) - 1}"}
    if found is None:
        return None
    return {"contentType": found.content_type, "size": found.size, "hash": b64encode(found.sha1).decode()}


def _content(element: Element | None, reading: Reading) -> ContentRange | Inline | None:
    """The bytes of an ED in Base64, and what is wrong with them; None when it holds none."""
    if element is None:
        return None
    if not (element.text or "").strip():
        reading.find("CONTENT_EMPTY", element, "no bytes")
        return None
    found = reading.contents(element) or inline(element)
    if found is None or not found.size:
        reading.find("CONTENT_BASE64", element, "not Base64; stays in the document")
        return None
    if is_cut(element):
        reading.find("CONTENT_BASE64", element, "cut: the last character stands for no whole byte")
    declared = attribute(element, "mediaType").lower().partition(";")[0].strip()
    declared, kind = _SAME_TYPE.get(declared, declared), found.content_type.partition(";")[0]
    if declared == _PDF != kind:
        reading.find("CONTENT_NOT_PDF", element, "says it is a PDF and is none")
    elif declared and kind not in {OCTETS, declared}:
        reading.find("CONTENT_TYPE_LIES", element, f"its bytes are {kind}, not what its media type says")
    return found


def document_copy(scope: Scope) -> tuple[Json, ContentRange] | None:
    """The copy of the document that stands in it, as an Attachment of url `#content0`, and its bytes; None without one."""
    shared = scope.reading.shared
    if _COPY not in shared:
        shared[_COPY] = _copy(scope.reading)
    found: ContentRange | None = shared[_COPY]
    if found is None:
        return None
    made: Json = {"contentType": found.content_type, "url": "#content0"}
    if scope.header.title:
        made["title"] = scope.header.title
    if creation := parse_ts(scope.header.effective_time, scope.tz).fhir_datetime():
        made["creation"] = creation
    return made, found


def body_content(reading: Reading) -> ContentRange | None:
    """The bytes that show a document: those of the body of a document of level 1, else its copy inside it.

    What is wrong with a body of level 1 is told by the checks of the document.
    """
    body = one(reading.root, "component/nonXMLBody/text")
    if body is None:
        return _copy(reading)
    return reading.contents(body) if attribute(body, "representation").upper() == "B64" else None


def _copy(reading: Reading) -> ContentRange | None:
    for section in reading.root.iter(f"{V3}section"):
        if has_template(section, COPY_SECTION) or attribute(section, "code", "code") == COPY_CODE:
            for media in section.iter(f"{V3}observationMedia"):
                value = one(media, "value")
                found = reading.contents(value) if value is not None else None
                if found is not None:
                    return found
    return None


def illustration(entry: Element, scope: Scope) -> Json | None:
    """FR-Image-illustrative: the 2D code of a prescription renders it and says nothing more; another image stays."""
    if _CODE_2D_SECTION in scope.section_templates or scope.section_code == _CODE_2D:
        scope.claim_all(entry)
    else:
        scope.left(entry, "an image of the text; stays in the document")
    return None


TRANSLATORS: dict[str, Callable[[Element, Scope], Json | None]] = {_FR + "18": attached_document, _FR + "103": illustration}
