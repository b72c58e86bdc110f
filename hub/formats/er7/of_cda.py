"""A CDA that comes without HL7 v2 around it, as the message that would have brought it: MDM^T02, or T10 when it replaces one.

The same document gives the same bytes again, so it is known again. The document is in OBX-5, byte for byte; the segments
before it say what its header says.
Standard: HL7 v2.5.1 §9.5 (MDM), §3.4.2 (PID); IHE PAM France 2.11.2; CI-SIS structuration minimale, recordTarget.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable

from lxml import etree

from hub.formats.cda_header import MAX_BYTES, CdaHeader, Id, is_cda, read_document
from hub.formats.er7.escapes import escape
from hub.formats.er7.xml import er7_of_xml
from hub.model.identifiers import INS_NIA, INS_ROOTS, PROFESSIONALS, is_oid

_V3, _SDTC = "{urn:hl7-org:v3}", "{urn:hl7-org:sdtc}"
_INS_C, _BILLING_NIR = "1.2.250.1.213.1.4.2", "1.2.250.1.213.1.4.13"
_SEX = {"F": "F", "M": "M", "UN": "U"}
# encompassingEncounter/code (JDV_J142) → PV1-2
_CLASSES = {
    **dict.fromkeys(("IMP", "ACUTE", "NONAC", "SS"), "I"),
    "EMER": "E",
    **dict.fromkeys(("AMB", "EXTERNE", "HH", "FLD"), "O"),
    "SEANCE": "R",
    "VR": "V",
}
_CODE_SYSTEMS = {"2.16.840.1.113883.6.1": "LN", "1.2.250.1.213.1.1.4.12": "TRE_A05"}
_USES = {"H": "H", "HP": "H", "HV": "C", "WP": "O", "TMP": "C"}
_TELECOMS = {"tel": ("PRN", "PH"), "fax": ("PRN", "FX"), "mailto": ("NET", "Internet")}


def er7_of_document(document: bytes, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The message of an XML document: of a CDA as `er7_of_cda`, of anything else as `er7_of_xml`.

    Raises:
        Unreadable.
    """
    return er7_of_cda(document, max_bytes=max_bytes) if is_cda(document) else er7_of_xml(document, max_bytes=max_bytes)


def er7_of_cda(document: bytes, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The message of a bare CDA, as ER7 in UTF-8, segments ended by CR.

    PID-32 is VALI when the document gives an INS, its key right, with the five traits; otherwise it is empty.

    Raises:
        Unreadable: as `hub.formats.cda_header.read_header`.
    """
    root, header = read_document(document, max_bytes=min(max_bytes, MAX_BYTES))
    role = root.find(_path("recordTarget/patientRole"))
    kind = _composite(header.code, header.code_display, _CODE_SYSTEMS.get(header.code_system, header.code_system))
    event = "T10" if header.replaces else "T02"
    number = hashlib.sha256(document).hexdigest()[:19].upper()
    lines = [
        _msh(header, event, f"C{number}"),
        _segment("EVN", {2: _said(header.effective_time)}),
        _segment("PID", _pid(header, role)),
        _segment("PV1", _pv1(header, root.find(_path("componentOf/encompassingEncounter")))),
        _segment("TXA", _txa(header, root, kind)),
        _segment("OBX", {1: "1", 2: "ED", 3: kind, 5: f"^TEXT^XML^Base64^{b64encode(document).decode()}", 11: "F"}),
    ]
    return ("\r".join(lines) + "\r").encode()


def _msh(header: CdaHeader, event: str, number: str) -> str:
    fields = {
        3: "CDA",
        4: _said(header.custodian_id),
        7: _said(header.effective_time),
        9: f"MDM^{event}^MDM_T02",
        10: number,
        11: "P",
        12: "2.5.1",
        17: "FRA",
        18: "UNICODE UTF-8",
    }
    return "MSH|^~\\&" + _segment("", {place - 1: text for place, text in fields.items()})[1:]


def _pid(header: CdaHeader, role: etree._Element | None) -> dict[int, str]:
    patient = None if role is None else role.find(f"{_V3}patient")
    birth = None if patient is None else patient.find(_path("birthplace/place/addr"))
    city = _text(birth, "city")
    addresses = [] if role is None else [_address(one) for one in role.findall(f"{_V3}addr")]
    if header.birth_place_code or city:
        addresses.append(_composite("", "", city, "", "", _text(birth, "country"), "BDL", "", header.birth_place_code))
    telecoms = [] if role is None else [_telecom(one) for one in role.findall(f"{_V3}telecom")]
    died = _value(patient, f"{_SDTC}deceasedTime")
    dead = _value(patient, f"{_SDTC}deceasedInd").lower()
    return {
        3: _repeated(map(_number, header.patient_ids)),
        5: _repeated(_names(header, patient)),
        7: _said(header.birth_time),
        8: _SEX.get(header.sex, _said(header.sex)),
        11: _repeated(addresses),
        13: _repeated(telecoms),
        23: _said(city),
        29: _said(died),
        30: "Y" if died or dead == "true" else "N" if dead == "false" else "",
        32: "VALI" if header.has_all_traits and any(ins.key_is_right for ins in header.ins) else "",
    }


def _number(identifier: Id) -> str:
    """A CX: an INS, a number of social security (NH), an old INS-C, else a number of the authority that its root names."""
    root, extension = identifier
    if not extension:
        return ""
    if root in INS_ROOTS:
        name, kind = f"ASIP-SANTE-INS-{'NIA' if root == INS_NIA else 'NIR'}", "INS"
    else:
        name, kind = "", {_BILLING_NIR: "NH", _INS_C: "INS-C"}.get(root, "PI")
    return f"{_said(extension)}^^^{name}&{_said(root)}&{'ISO' if is_oid(root) else 'UUID'}^{kind}"


def _names(header: CdaHeader, patient: etree._Element | None) -> list[str]:
    """XPN: the birth name (L) with first and all given names, the used name (D); a name without qualifiers as it is (U)."""
    first = header.first_given_name or header.birth_given_names
    if not header.birth_name:
        return [_composite(header.used_name, first, header.birth_given_names, "", "", "", "U")]
    names = [_composite(header.birth_name, first, header.birth_given_names, "", "", "", "L")]
    if header.used_name:
        given = [] if patient is None else patient.findall(_path("name/given"))
        used = next((_all_text(one) for one in given if "CL" in one.get("qualifier", "").split()), "") or first
        names.append(_composite(header.used_name, used, "", "", "", "", "D"))
    return names


def _address(addr: etree._Element) -> str:
    """An XAD: the street in its first component, the rest in theirs."""
    lines = [_all_text(one) for one in addr.findall(f"{_V3}streetAddressLine")]
    street = " ".join(filter(None, (_text(addr, name) for name in ("houseNumber", "streetNameType", "streetName", "unitID"))))
    use = _USES.get(addr.get("use", "").strip(), "H")
    city, postal, country = (_text(addr, name) for name in ("city", "postalCode", "country"))
    if not (lines or street or city or postal or country):
        return ""
    return _composite(" ".join(lines) or street, "", city, "", postal, country, use)


def _telecom(telecom: etree._Element) -> str:
    scheme, _, rest = telecom.get("value", "").strip().partition(":")
    use, kind = _TELECOMS.get(scheme.lower(), ("", ""))
    if not use or not rest:
        return ""
    if scheme.lower() == "mailto":
        return _composite("", use, kind, rest)
    mobile = "MC" in telecom.get("use", "").split()
    return _composite(rest, use, "CP" if mobile and kind == "PH" else kind)


def _pv1(header: CdaHeader, encounter: etree._Element | None) -> dict[int, str]:
    """The stay when it has a number; without one there is none to file (N)."""
    number = next((_number(one) for one in header.encounter_ids if one[1]), "")
    if not number:
        return {2: "N"}
    low, high = _value(encounter, _path("effectiveTime/low")), _value(encounter, _path("effectiveTime/high"))
    return {
        2: _CLASSES.get(_value(encounter, f"{_V3}code", "code"), ""),
        19: f"{number.rpartition('^')[0]}^VN",
        44: _said(low or _value(encounter, f"{_V3}effectiveTime")),
        45: _said(high),
    }


def _txa(header: CdaHeader, root: etree._Element, kind: str) -> dict[int, str]:
    parent = next(
        (one.find(_path("parentDocument/id")) for one in root.findall(f"{_V3}relatedDocument") if one.get("typeCode") == "RPLC"),
        None,
    )
    author = next((one for one in header.authors if one.family), None)
    authority = f"&{_said(author.id_root)}&ISO" if author is not None and is_oid(author.id_root) else ""
    return {
        1: "1",
        2: kind,
        3: "TEXT",
        4: _said(header.event_start),
        6: _said(header.effective_time),
        9: ""
        if author is None
        else _composite(author.id_extension, author.family, author.given)
        + f"^^^^^^{authority}^D^^^{'IDNPS' if author.id_root == PROFESSIONALS else ''}",
        12: _instance(header.id_root, header.id_extension),
        13: "" if parent is None else _instance(parent.get("root", "").strip(), parent.get("extension", "").strip()),
        17: "LA" if header.signer is not None else "AU",
        18: {"V": "V", "R": "R"}.get(header.confidentiality, "U"),
    }


def _instance(root: str, extension: str) -> str:
    """An II as EI."""
    return f"{_said(extension)}^^{_said(root)}^ISO" if extension else _said(root)


def _segment(name: str, fields: dict[int, str]) -> str:
    last = max((place for place, text in fields.items() if text), default=0)
    return "|".join([name, *(fields.get(place, "") for place in range(1, last + 1))])


def _composite(*components: str) -> str:
    return "^".join(map(_said, components)).rstrip("^")


def _repeated(values: Iterable[str]) -> str:
    return "~".join(filter(None, values))


def _said(text: str) -> str:
    return escape(text).decode() if text else ""


def _path(names: str) -> str:
    return "/".join(_V3 + name for name in names.split("/"))


def _value(parent: etree._Element | None, path: str, attribute: str = "value") -> str:
    found = None if parent is None else parent.find(path)
    return "" if found is None else found.get(attribute, "").strip()


def _text(parent: etree._Element | None, name: str) -> str:
    return _all_text(None if parent is None else parent.find(_V3 + name))


def _all_text(element: etree._Element | None) -> str:
    return "" if element is None else " ".join("".join(map(str, element.itertext(tag=etree.Element))).split())
