"""Reading the header of a CDA R2 document without a tree of its body.

Standard: HL7 CDA R2; CI-SIS volet Structuration minimale des documents de santé, rules 1.16.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NoReturn, TypedDict, cast

from lxml import etree

from hub.formats.cda_header.header import CdaAuthor, CdaHeader, Code, Id, canonical
from hub.model.identifiers import PROFESSIONALS, STRUCTURES, InsMatricule
from hub.model.refusals import Unreadable

MAX_BYTES = 64 << 20
MAX_HEADER_BYTES = 2 << 20
HUGE_BYTES = 8 << 20  # from here on a text of a document may be larger than libxml2 takes by itself
MAX_TAGS = 1_000_000  # the parser keeps every name it ever saw

_V3 = "{urn:hl7-org:v3}"
_DOCUMENT = f"{_V3}ClinicalDocument"
_BODIES = {f"{_V3}nonXMLBody": "N1", f"{_V3}structuredBody": "N3"}
_TEXT = f"{_V3}text"
_STYLESHEETS = frozenset({"{http://www.w3.org/1999/XSL/Transform}stylesheet", "{http://www.w3.org/1999/XSL/Transform}transform"})
_FRENCH_MODELS = "1.2.250.1.213.1.1.1."
_GENERIC_TEMPLATES = frozenset({"2.16.840.1.113883.2.8.2.1", "1.2.250.1.213.1.1.1.1"})
_N1_FORMATS = {"application/pdf": "urn:ihe:iti:xds-sd:pdf:2008", "text/plain": "urn:ihe:iti:xds-sd:text:2008"}
_ACCESSION = "{urn:dicom-org:ps3-20}accessionNumber"
_CHUNK_BYTES = 16384
_UTF_16 = (b"\xff\xfe", b"\xfe\xff", b"<\x00", b"\x00<")
_PROLOG = re.compile(
    rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?(?:\s|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>)*", re.DOTALL
)
_NAME = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)")
_INSIDE = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?ClinicalDocument[\s/>]")


class _Patient(TypedDict):
    patient_ids: tuple[Id, ...]
    ins: tuple[InsMatricule, ...]
    birth_name: str
    birth_given_names: str
    first_given_name: str
    used_name: str
    birth_time: str
    sex: str
    birth_place_code: str


def read_header(xml: bytes, *, max_bytes: int = MAX_BYTES) -> CdaHeader:
    """The header of the CDA document `xml`.

    Raises:
        Unreadable: as `read_document`.
    """
    return read_document(xml, max_bytes=max_bytes)[1]


def read_document(xml: bytes, *, max_bytes: int = MAX_BYTES) -> tuple[etree._Element, CdaHeader]:
    """The ClinicalDocument of `xml` with its children before the body, and its header.

    The whole document is checked to be well-formed, its body is never built. A document inside a stylesheet that displays
    it is taken out; nothing is executed, fetched or expanded.

    Raises:
        Unreadable: too large, too deep, not well-formed, with a DOCTYPE, not a CDA, without id, or of two patients.
    """
    if len(xml) > max_bytes:
        _refuse("/", f"document of more than {max_bytes} bytes")
    if xml.count(b"<") > MAX_TAGS:
        _refuse("/", f"more than {MAX_TAGS} tags")
    try:
        _check(xml)
        document, body_kind, media_type = _document(xml)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        _refuse("/", f"not well-formed XML (line {line}, column {column})")
    except (etree.LxmlError, LookupError, ValueError):
        _refuse("/", "not XML that can be read")
    return document, _header(document, body_kind, media_type)


def read_whole(xml: bytes, *, max_bytes: int = MAX_BYTES) -> tuple[etree._Element, CdaHeader]:
    """The ClinicalDocument of `xml` with its body, without comments and processing instructions, and its header.

    For who reads the body too: nothing is parsed twice, but for a document so large that one text may be too long for libxml2.

    Raises:
        Unreadable: as `read_document`.
    """
    if len(xml) > HUGE_BYTES:
        read_document(xml, max_bytes=max_bytes)
    elif xml.count(b"<") > MAX_TAGS:
        _refuse("/", f"more than {MAX_TAGS} tags")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
        huge_tree=len(xml) > HUGE_BYTES,
    )
    try:
        root = etree.fromstring(xml, parser)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        _refuse("/", f"not well-formed XML (line {line}, column {column})")
    except (etree.LxmlError, LookupError, ValueError):
        _refuse("/", "not XML that can be read")
    if root.getroottree().docinfo.internalDTD is not None:
        _refuse("/", "DOCTYPE is not allowed")
    document = root if root.tag == _DOCUMENT else next(root.iter(_DOCUMENT), None) if root.tag in _STYLESHEETS else None
    if document is None:
        _refuse("/", "not a ClinicalDocument")
    for component in document.findall(f"{_V3}component"):
        for body in component:
            if body.tag in _BODIES:
                kind = _BODIES[str(body.tag)]
                return document, _header(document, kind, _value(body, "text", "mediaType") if kind == "N1" else "")
    return document, _header(document, "", "")


def is_cda(xml: bytes) -> bool:
    """Whether the root of an XML document is a ClinicalDocument, of whatever namespace, or a stylesheet that holds one.

    Nothing is parsed: whether it can be read, `read_header` says.
    """
    if xml.startswith(_UTF_16):
        xml = xml.replace(b"\0", b"")
    start = _PROLOG.match(xml)
    name = _NAME.match(xml, start.end() if start is not None else 0)
    if name is None:
        return False
    return name[1] == b"ClinicalDocument" or (name[1] in {b"stylesheet", b"transform"} and _INSIDE.search(xml) is not None)


def _refuse(at: str, why: str) -> NoReturn:
    raise Unreadable(at=at, condition="102", sentence=f"{at}: {why}") from None


def _check(xml: bytes) -> None:
    guard = cast("etree.ParserTarget", _Guard())
    parser = etree.XMLParser(target=guard, resolve_entities=False, no_network=True, load_dtd=False)
    etree.fromstring(xml, parser)
    # A parser that builds no tree only notes what is wrong with namespaces, where one that does would stop.
    for error in parser.error_log.filter_from_errors():
        _refuse("/", f"not well-formed XML (line {error.line}, column {error.column})")


class _Guard:
    """A parser target that builds nothing, so that checking a body costs no Python at all, and refuses any DOCTYPE.

    libxml2 itself refuses more than 256 levels of elements as long as `huge_tree` is off; text that is not built may be longer
    than its 10 MB.
    """

    def doctype(self, _name: str, _public: str, _system: str) -> None:
        _refuse("/", "DOCTYPE is not allowed")

    def close(self) -> None:
        return None


def _document(xml: bytes) -> tuple[etree._Element, str, str]:
    """The ClinicalDocument with its children before the body, the kind of the body and its media type."""
    parser = etree.XMLPullParser(
        events=("start",), tag=(_DOCUMENT, *_BODIES, _TEXT), resolve_entities=False, no_network=True, load_dtd=False
    )
    document = body = None
    for element in _starts(parser, xml):
        parent = element.getparent()
        if document is None:
            if element.tag != _DOCUMENT:
                continue
            if parent is not None and element.getroottree().getroot().tag not in _STYLESHEETS:
                _refuse("/", "not a ClinicalDocument")
            document = element
        elif body is not None:
            if parent is body and element.tag == _TEXT:
                return document, "N1", _attribute(element, "mediaType")
        elif element.tag in _BODIES and parent is not None and parent.getparent() is document:
            if _BODIES[element.tag] == "N3":
                return document, "N3", ""
            body = element
    if document is None:
        _refuse("/", "not a ClinicalDocument")
    return document, "" if body is None else "N1", ""


def _starts(parser: etree.XMLPullParser, xml: bytes) -> Iterator[etree._Element]:
    """Elements of interest as they open, fed so little at a time that a body is not in memory when its start is told."""
    for offset in range(0, len(xml), _CHUNK_BYTES):
        if offset > MAX_HEADER_BYTES:
            _refuse("/", f"a header of more than {MAX_HEADER_BYTES} bytes")
        parser.feed(xml[offset : offset + _CHUNK_BYTES])
        for _, element in parser.read_events():
            yield cast(etree._Element, element)


def _header(document: etree._Element, body_kind: str, media_type: str) -> CdaHeader:
    root, extension = _id(document.find(f"{_V3}id"))
    if not root:
        _refuse("/ClinicalDocument/id", "missing")
    if len(document.findall(f"{_V3}recordTarget")) > 1:
        _refuse("/ClinicalDocument/recordTarget", "more than one patient")
    templates = _ids(document, "templateId")
    code = document.find(f"{_V3}code")
    version = _value(document, "versionNumber", "value")
    custodian = document.find(_path("custodian/assignedCustodian/representedCustodianOrganization"))
    custodian_root, custodian_id = _first_id(custodian)
    event = document.find(_path("documentationOf/serviceEvent"))
    event_start, event_stop = _interval(event)
    encounter = document.find(_path("componentOf/encompassingEncounter"))
    signer = document.find(f"{_V3}legalAuthenticator")
    practice = _find(event, "performer/assignedEntity/representedOrganization/standardIndustryClassCode")
    facility = _find(encounter, "location/healthCareFacility/code")
    return CdaHeader(
        id=canonical(root, extension),
        id_root=root,
        id_extension=extension,
        set_id=canonical(*_id(document.find(f"{_V3}setId"))),
        version_number=int(version) if version.isascii() and version.isdigit() and len(version) <= 9 else 0,
        code=_attribute(code, "code"),
        code_system=_attribute(code, "codeSystem"),
        code_display=_attribute(code, "displayName"),
        title=_text(document, "title"),
        effective_time=_value(document, "effectiveTime", "value"),
        confidentiality=_value(document, "confidentialityCode", "code"),
        language=_value(document, "languageCode", "code"),
        template_ids=templates,
        replaces=_replaced(document),
        authors=tuple(_author(author, "assignedAuthor") for author in document.findall(f"{_V3}author")),
        custodian_id=custodian_id or custodian_root,
        custodian_root=custodian_root,
        custodian_name=_text(custodian, "name"),
        encounter_ids=tuple(one for one in _ids(encounter, "id") if one[0] not in {PROFESSIONALS, STRUCTURES}),
        event_start=event_start,
        event_stop=event_stop,
        events=_events(document),
        practice_setting=_attribute(practice, "code"),
        practice_setting_code=_code(practice),
        facility_type=_attribute(facility, "code"),
        facility_type_code=_code(facility),
        orders=tuple(one for order in document.findall(_path("inFulfillmentOf/order")) for one in _ids(order, "id")),
        accessions=tuple(one for one in map(_id, document.findall(f"{_path('inFulfillmentOf/order')}/{_ACCESSION}")) if one[0]),
        signer=_author(signer, "assignedEntity") if signer is not None else None,
        body_kind=body_kind,
        media_type=media_type,
        fmt=_format(body_kind, media_type, templates),
        **_patient(document.find(_path("recordTarget/patientRole"))),
    )


def _patient(role: etree._Element | None) -> _Patient:
    """Identifiers and traits of the patient.

    Standard: CI-SIS structuration minimale, recordTarget; RNIV for the qualifiers of names.
    """
    ids = _ids(role, "id")
    patient = None if role is None else role.find(f"{_V3}patient")
    families, givens = _names(patient, "family"), _names(patient, "given")
    birth_place = None if patient is None else patient.find(_path("birthplace/place/addr"))
    return {
        "patient_ids": ids,
        "ins": tuple(ins for ins in map(_ins, ids) if ins is not None),
        "birth_name": _qualified(families, "BR"),
        "birth_given_names": _qualified(givens, ""),
        "first_given_name": _qualified(givens, "BR"),
        "used_name": _qualified(families, "CL") or _qualified(families, "SP") or _qualified(families, ""),
        "birth_time": _value(patient, "birthTime", "value"),
        "sex": _value(patient, "administrativeGenderCode", "code"),
        "birth_place_code": _text(birth_place, "county"),
    }


def _ins(identifier: Id) -> InsMatricule | None:
    root, extension = identifier
    try:
        return InsMatricule(extension, root)
    except ValueError:
        return None


def _names(patient: etree._Element | None, part: str) -> list[tuple[frozenset[str], str]]:
    found = [] if patient is None else patient.findall(_path(f"name/{part}"))
    return [(frozenset(_attribute(one, "qualifier").split()), _all_text(one)) for one in found]


def _qualified(parts: list[tuple[frozenset[str], str]], qualifier: str) -> str:
    """Parts of a name with this qualifier (`""`: with none), in the order written."""
    return " ".join(text for qualifiers, text in parts if text and (qualifier in qualifiers if qualifier else not qualifiers))


def _author(author: etree._Element, role: str) -> CdaAuthor:
    assigned = author.find(_V3 + role)
    root, extension = _first_id(assigned)
    organisation = None if assigned is None else assigned.find(f"{_V3}representedOrganization")
    organisation_root, organisation_extension = _first_id(organisation)
    code_system, code, code_display = _code(_find(assigned, "code"))
    return CdaAuthor(
        id_root=root,
        id_extension=extension,
        family=_text(assigned, "assignedPerson/name/family"),
        given=_text(assigned, "assignedPerson/name/given"),
        organisation_id=organisation_extension or organisation_root,
        organisation_root=organisation_root,
        organisation_name=_text(organisation, "name"),
        device_name=_text(assigned, "assignedAuthoringDevice/softwareName")
        or _text(assigned, "assignedAuthoringDevice/manufacturerModelName"),
        time=_value(author, "time", "value"),
        code=code,
        code_system=code_system,
        code_display=code_display,
        function=_code(author.find(f"{_V3}functionCode")),
    )


def _events(document: etree._Element) -> tuple[Code, ...]:
    """Codes of all serviceEvents and their translations, each once.

    Standard: CI-SIS volet « transmission », eventCodeList.
    """
    found: dict[Code, None] = {}
    for code in document.findall(_path("documentationOf/serviceEvent/code")):
        for one in (code, *code.findall(f"{_V3}translation")):
            if (said := _code(one))[1]:
                found[said] = None
    return tuple(found)


def _replaced(document: etree._Element) -> str:
    for related in document.findall(f"{_V3}relatedDocument"):
        if _attribute(related, "typeCode") == "RPLC":
            return canonical(*_id(related.find(_path("parentDocument/id"))))
    return ""


def _interval(event: etree._Element | None) -> tuple[str, str]:
    low, high = _value(event, "effectiveTime/low", "value"), _value(event, "effectiveTime/high", "value")
    return low or _value(event, "effectiveTime", "value"), high


def _format(body_kind: str, media_type: str, templates: tuple[Id, ...]) -> str:
    if body_kind == "N1":
        return _N1_FORMATS.get(media_type, "")
    models = [root for root, _ in templates if root not in _GENERIC_TEMPLATES]
    french = [root for root in models if root.startswith(_FRENCH_MODELS)]
    return max(french, key=lambda root: root.count(".")) if french else models[0] if models else ""


@lru_cache(maxsize=128)
def _path(names: str) -> str:
    return "/".join(_V3 + name for name in names.split("/"))


def _id(element: etree._Element | None) -> Id:
    return _attribute(element, "root"), _attribute(element, "extension")


def _find(parent: etree._Element | None, names: str) -> etree._Element | None:
    return None if parent is None else parent.find(_path(names))


def _code(element: etree._Element | None) -> Code:
    return _attribute(element, "codeSystem"), _attribute(element, "code"), _attribute(element, "displayName")


def _ids(parent: etree._Element | None, name: str) -> tuple[Id, ...]:
    found = [] if parent is None else parent.findall(_V3 + name)
    return tuple(one for one in map(_id, found) if one[0])


def _first_id(parent: etree._Element | None) -> Id:
    return next(iter(_ids(parent, "id")), ("", ""))


def _attribute(element: etree._Element | None, name: str) -> str:
    return "" if element is None else element.get(name, "").strip()


def _value(parent: etree._Element | None, names: str, attribute: str) -> str:
    return "" if parent is None else _attribute(parent.find(_path(names)), attribute)


def _text(parent: etree._Element | None, names: str) -> str:
    return "" if parent is None else _all_text(parent.find(_path(names)))


def _all_text(element: etree._Element | None) -> str:
    """Text of an element and what is inside it, each run of blanks as one."""
    if element is None:
        return ""
    said = (element.text or "") if not len(element) else "".join(cast(Iterator[str], element.itertext(tag=etree.Element)))
    return " ".join(said.split())
