"""What is checked of a document when it is received: the rows of `header_rules`, and what joins several elements.

Nothing here refuses a document: what cannot be read safely was refused before (`hub.formats.cda_header`).
Standard: CI-SIS, volet Structuration minimale des documents de santé, rules 1.16; RNIV for names; ANS référentiel INS 2.0.
"""

from __future__ import annotations

import re
from functools import lru_cache

from hub.formats.ts import parse_ts
from hub.model.identifiers import INS_NIA, INS_NIR, INS_NIR_DEMO, INS_NIR_TEST, INS_ROOTS, InsMatricule
from mappings.cda import header_rules
from mappings.cda.contents import inline, is_cut
from mappings.cda.scope import Reading
from mappings.cda.xml import V3, Element, attribute, every, one, template_ids, text

FRANCE, CI_SIS, UNSTRUCTURED = "2.16.840.1.113883.2.8.2.1", "1.2.250.1.213.1.1.1.1", "1.3.6.1.4.1.19376.1.2.20"
_INS_C = "1.2.250.1.213.1.4.2"
_ENVIRONMENTS = {"production": {INS_NIR, INS_NIA}, "test": {INS_NIR_TEST, INS_NIR_DEMO}}
_N1_TYPES = {"application/pdf", "text/plain", "image/jpeg", "image/tiff", "text/rtf"}
_BIRTH_TIME = f"{V3}birthTime"
_TIMES = {V3 + name for name in ("effectiveTime", "time", "low", "high", "birthTime", "expectedUseTime")}
_ADDRESS_USES, _TELECOM_USES = {"H", "HP", "HV", "WP", "TMP"}, {"H", "HP", "HV", "WP", "DIR", "PUB", "EC", "MC", "PG"}
_ADDRESS_LINE = f"{V3}streetAddressLine"
_ADDRESS_PARTS = {V3 + name for name in ("houseNumber", "streetName", "streetNameType", "unitID", "postalCode", "city")}
_TELECOM = re.compile(r"(?:tel|fax|mailto|https?|ftp|mllp):.+", re.IGNORECASE)
_PREFIXES, _SUFFIXES = {"M", "MME"}, {"DR", "PR", "MC", "MG", "PC", "PG"}
_ts = lru_cache(maxsize=256)(parse_ts)  # the header of a document says one time often
_LOOKED_AT = (*sorted(_TIMES), *(V3 + name for name in ("addr", "telecom", "prefix", "suffix")))


def check(reading: Reading, environment: str = "") -> None:
    """Findings about the header and the frame of the body. `environment` (`production`, `test`) tells which INS are ours."""
    header_rules.run(reading)
    _templates(reading)
    _patient(reading, environment)
    _authors(reading)
    _versions(reading)
    _values(reading)
    _body(reading)


def _templates(reading: Reading) -> None:
    """Those of HL7 France and the CI-SIS once each, and the model; of a document of level 1 exactly three."""
    roots = template_ids(reading.root)
    for root, code in ((FRANCE, "CDA_TEMPLATE_FRANCE"), (CI_SIS, "CDA_TEMPLATE_CISIS")):
        if roots.count(root) != 1:
            reading.tell(code, "/ClinicalDocument/templateId", f"{root} must be there once")
    models = [root for root in roots if root not in {FRANCE, CI_SIS}]
    if reading.header.body_kind == "N1":
        if models != [UNSTRUCTURED]:
            reading.tell("CDA_TEMPLATE_N1", "/ClinicalDocument/templateId", f"level 1 has {UNSTRUCTURED} and no other model")
    elif not models or UNSTRUCTURED in models:
        reading.tell("CDA_TEMPLATE_MODEL", "/ClinicalDocument/templateId", "the model of a structured document is missing")


def _patient(reading: Reading, environment: str) -> None:
    role = one(reading.root, "recordTarget/patientRole")
    if role is None:
        return
    numbers = every(role, "id")
    marked = [number for number in numbers if attribute(number, "root") in INS_ROOTS]
    for number in numbers:
        if attribute(number, "root") == _INS_C:
            reading.find("CDA_INS_C", number, "an INS-C, which is no longer one")
    if not marked:
        reading.find("CDA_NO_INS", role, "the patient has no INS")
    for number in marked:
        _ins(reading, number, environment)
    if marked and not reading.header.has_all_traits:
        reading.find("CDA_INS_TRAITS", role, f"an INS comes with its traits; missing: {', '.join(_missing(reading))}")
    allowed = {"BR", "CL"}
    for part in (*every(role, "patient/name/family"), *every(role, "patient/name/given")):
        said = set(attribute(part, "qualifier").split())
        if not said <= allowed:
            reading.find("CDA_NAME_QUALIFIER", part, "a qualifier other than BR and CL")


def _ins(reading: Reading, number: Element, environment: str) -> None:
    root = attribute(number, "root")
    try:
        ins = InsMatricule(attribute(number, "extension"), root)
    except ValueError:
        reading.find("CDA_INS_SHAPE", number, "an INS without its 15 characters; it is not used")
        return
    if not ins.key_is_right:
        reading.find("CDA_INS_KEY", number, "the key of the INS is wrong")
    if environment and root not in _ENVIRONMENTS.get(environment, _ENVIRONMENTS["production"]):
        reading.find("CDA_INS_ENVIRONMENT", number, f"not an INS of the environment {environment}")


def _missing(reading: Reading) -> list[str]:
    header = reading.header
    traits = {
        "family BR": header.birth_name,
        "given BR": header.first_given_name,
        "given": header.birth_given_names,
        "birthTime": header.birth_time,
        "administrativeGenderCode": header.sex,
        "birthplace county": header.birth_place_code,
    }
    return [name for name, said in traits.items() if not said]


def _authors(reading: Reading) -> None:
    """A person or a device, not both and not neither."""
    for assigned in every(reading.root, "author/assignedAuthor"):
        person, device = one(assigned, "assignedPerson"), one(assigned, "assignedAuthoringDevice")
        if (person is None) == (device is None):
            reading.find("CDA_AUTHOR_KIND", assigned, "either a person or a device")


def _versions(reading: Reading) -> None:
    """A later version names the one it replaces, and a document never itself."""
    header = reading.header
    if header.replaces and header.replaces == header.id:
        reading.find("CDA_REPLACES_ITSELF", reading.root, "names itself as the document it replaces")
    if header.version_number > 1 and not header.replaces:
        reading.tell("CDA_VERSION_ALONE", "/ClinicalDocument/versionNumber", "a later version names no document it replaces")
    if header.version_number == 1 and header.replaces:
        reading.tell("CDA_VERSION_FIRST", "/ClinicalDocument/versionNumber", "a first version replaces another document")


def _values(reading: Reading) -> None:
    """Times, addresses, telecoms and titles, wherever in the header."""
    for part in reading.root:
        if part.tag == f"{V3}component":
            continue
        for element in part.iter(*_LOOKED_AT):
            if element.tag in _TIMES:
                _time(reading, element)
            else:
                _VALUES[element.tag](reading, element)


def _time(reading: Reading, element: Element) -> None:
    said = element.get("value", "").strip()
    if said and element.tag != _BIRTH_TIME and _ts(said, reading.tz).problem == "TS_INVALID":
        reading.find("TS_INVALID", element, "not a date that the calendar has")
    if len(element) > 1:
        low, high = (parse_ts(attribute(element, "value", end), reading.tz) for end in ("low", "high"))
        if (
            low.instant is not None
            and high.instant is not None
            and high.instant < low.instant
            and high.precision >= low.precision
        ):
            reading.find("CDA_PERIOD", element, "ends before it begins")


def _addr(reading: Reading, element: Element) -> None:
    if not set(element.get("use", "").split()) <= _ADDRESS_USES:
        reading.find("CDA_ADDR_USE", element, "a use outside H HP HV WP TMP")
    parts = {part.tag for part in element}
    if _ADDRESS_LINE in parts and not parts.isdisjoint(_ADDRESS_PARTS):
        reading.find("CDA_ADDR_MIXED", element, "lines and parts of an address exclude each other")


def _telecom(reading: Reading, element: Element) -> None:
    said = element.get("value", "").strip()
    if not set(element.get("use", "").split()) <= _TELECOM_USES:
        reading.find("CDA_TELECOM_USE", element, "a use outside its table")
    if bool(said) == ("nullFlavor" in element.attrib):
        reading.find("CDA_TELECOM", element, "either a value or a nullFlavor")
    elif said and not _TELECOM.fullmatch(said):
        reading.find("CDA_TELECOM", element, "no address of tel, fax, mailto, http, ftp or mllp")


def _prefix(reading: Reading, element: Element) -> None:
    if (said := text(element).upper()) and said not in _PREFIXES:
        reading.find("CDA_PREFIX", element, "a title outside JDV_J245")


def _suffix(reading: Reading, element: Element) -> None:
    if (said := text(element).upper()) and said not in _SUFFIXES:
        reading.find("CDA_SUFFIX", element, "a title outside JDV_J246")


_VALUES = {V3 + name: look for name, look in (("addr", _addr), ("telecom", _telecom), ("prefix", _prefix), ("suffix", _suffix))}


def _body(reading: Reading) -> None:
    """The bytes of level 1; codes and texts of the sections of level 3."""
    shown = one(reading.root, "component/nonXMLBody/text")
    if shown is not None:
        _shown(reading, shown)
    elif not reading.header.body_kind:
        reading.tell("CDA_BODY", "/ClinicalDocument/component", "neither nonXMLBody nor structuredBody")
    structured = one(reading.root, "component/structuredBody")
    for section in () if structured is None else structured.iter(f"{V3}section"):
        parts = {part.tag: part for part in section}
        code = parts.get(f"{V3}code")
        if code is None or not code.get("code", "").strip():
            reading.find("SECTION_CODE", section, "a section without a code")
        if f"{V3}text" not in parts and f"{V3}component" not in parts:
            reading.find("SECTION_TEXT", section, "a section without a text")


def _shown(reading: Reading, shown: Element) -> None:
    kind = attribute(shown, "mediaType")
    if kind not in _N1_TYPES:
        reading.find("CDA_MEDIA_TYPE", shown, "a media type that no format of level 1 has")
    if attribute(shown, "representation") == "B64":
        _bytes(reading, shown, kind)
    elif kind != "text/plain":
        reading.find("CDA_REPRESENTATION", shown, "@representation is not B64")


def _bytes(reading: Reading, shown: Element, kind: str) -> None:
    found = inline(shown)
    if found is None or is_cut(shown):
        reading.find("CONTENT_BASE64", shown, "cut, or not Base64")
    elif not found.size:
        reading.find("CONTENT_EMPTY", shown, "no bytes")
    elif kind == "application/pdf" != found.content_type:
        reading.find("CONTENT_NOT_PDF", shown, "says it is a PDF and is none")
    elif found.content_type.startswith("image/") and kind != found.content_type:
        reading.find("CONTENT_TYPE_LIES", shown, f"its bytes are {found.content_type}, not what its media type says")
