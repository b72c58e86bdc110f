"""The XML encoding of HL7 v2: from XML to ER7, which is what the hub keeps and routes, and back for answers.

Groups are left out on reading, in the order of the document; none are written. Delimiters of what is made are `|^~\\&`, its
charset is UTF-8, whatever MSH-1, MSH-2 and MSH-18 of the XML say.
Standard: HL7 Version 2: XML Encoding Syntax, release 2 (namespace urn:hl7-org:v2xml).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from typing import NoReturn, cast

from lxml import etree

from hub.formats.er7.charset import decode
from hub.formats.er7.escapes import escape
from hub.formats.er7.message import MAX_SEGMENTS, NAMELESS, Message, Segment
from hub.formats.er7.separators import STANDARD, Separators
from hub.model.refusals import Unreadable

NAMESPACE = "urn:hl7-org:v2xml"
MAX_BYTES = 64 << 20
MAX_TAGS = 1_000_000
MAX_DEPTH = 24  # groups in groups, and at most four levels of a segment
MAX_FIELD, MAX_REPETITIONS = 999, 10_000

_HUGE_BYTES = 8 << 20  # from here on one text may be longer than libxml2's 10 MB
_ROOT = re.compile(r"[A-Z][A-Z0-9]{2}(_[A-Z0-9]{2,4})?")
_SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}")
_PLACE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:\.[0-9]+)*\.([1-9][0-9]{0,2})")
_ESCAPE = re.compile(r"[.A-Za-z0-9+-]{1,80}")
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def looks_like_xml(body: bytes) -> bool:
    """Whether these bytes can only be XML: after a byte order mark and blanks they begin with `<`."""
    return body[:64].lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n").startswith(b"<")


# ---- XML to ER7 ------------------------------------------------------------------------------------------------------


def er7_of_xml(document: bytes, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The message of an XML document, as ER7 in UTF-8, segments ended by CR.

    Raises:
        Unreadable: too large, too deep, not well-formed, with a DOCTYPE, of another namespace, or not a message: `at` is the
            segment or field where it went wrong, `/` for the document.
    """
    root = _parsed(document, max_bytes)
    name = _local(root, "/")
    if not _ROOT.fullmatch(name):
        _refuse("/", "the root element is no message structure such as ADT_A01")
    lines: list[str] = []
    seen: dict[str, int] = {}
    for segment in _segments(root, 1):
        if len(lines) == MAX_SEGMENTS:
            _refuse("MSH", f"more than {MAX_SEGMENTS} segments")
        lines.append(_line(segment, seen))
    if not lines or not lines[0].startswith("MSH|"):
        _refuse("MSH", "the first segment is not MSH")
    return ("\r".join(lines) + "\r").encode()


def _parsed(document: bytes, max_bytes: int) -> etree._Element:
    if len(document) > max_bytes:
        _refuse("/", f"document of more than {max_bytes} bytes")
    if document.count(b"<") > MAX_TAGS:
        _refuse("/", f"more than {MAX_TAGS} tags")
    huge = len(document) > _HUGE_BYTES
    try:
        guard = cast("etree.ParserTarget", _Guard())
        etree.fromstring(
            document, etree.XMLParser(target=guard, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=huge)
        )
        parser = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, huge_tree=huge, remove_comments=True, remove_pis=True
        )
        return etree.fromstring(document, parser)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        _refuse("/", f"not well-formed XML (line {line}, column {column})")
    except (etree.LxmlError, LookupError, ValueError):
        _refuse("/", "not XML that can be read")


class _Guard:
    """A parser target that builds nothing: a DOCTYPE or a document that is too deep ends before anything is made of it."""

    def __init__(self) -> None:
        self._depth = 0

    def doctype(self, _name: str, _public: str, _system: str) -> None:
        _refuse("/", "DOCTYPE is not allowed")

    def start(self, _tag: str, _attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            _refuse("/", f"elements nest deeper than {MAX_DEPTH}")

    def end(self, _tag: str) -> None:
        self._depth -= 1

    def data(self, _text: str) -> None:
        """Read in the second pass."""

    def close(self) -> None:
        return None


def _segments(element: etree._Element, depth: int) -> Iterator[etree._Element]:
    """The segments below an element, groups opened."""
    _no_text(element, "/")
    for child in element:
        name = _local(child, "/")
        if _SEGMENT.fullmatch(name):
            yield child
        elif "." in name and depth < MAX_DEPTH:
            yield from _segments(child, depth + 1)
        else:
            _refuse("/", "an element that is neither a segment nor a group")


def _line(segment: etree._Element, seen: dict[str, int]) -> str:
    name = _local(segment, "/")
    occurrence = seen[name] = seen.get(name, 0) + 1
    at = name if occurrence == 1 else f"{name}[{occurrence}]"
    fields: dict[int, list[str]] = {}
    _no_text(segment, at)
    for element in segment:
        number = _number(element, at)
        place = f"{at}-{number}"
        repetitions = fields.setdefault(number, [])
        if len(repetitions) == MAX_REPETITIONS:
            _refuse(place, f"more than {MAX_REPETITIONS} repetitions")
        if not _local(element, at).startswith(f"{name}."):
            _refuse(at, "a field of another segment")
        if name != "MSH" or number > 2:
            repetitions.append(_value(element, 0, place))
    if name == "MSH":
        fields.pop(1, None)
        fields.pop(2, None)
        fields[18] = ["UNICODE UTF-8"]
    first = 3 if name == "MSH" else 1
    texts = ["~".join(fields.get(number, ())) for number in range(first, max(fields, default=0) + 1)]
    return "|".join(["MSH|^~\\&" if name == "MSH" else name, *texts])


def _value(element: etree._Element, level: int, at: str) -> str:
    """A field (level 0), a component (1) or a subcomponent (2) as ER7."""
    children = [child for child in element if _local(child, at) != "escape"]
    if not children:
        return _leaf(element, at)
    if len(children) != len(element):
        _refuse(at, "text and components in one element")
    _no_text(element, at)
    parts: dict[int, str] = {}
    for child in children:
        number = _number(child, at)
        if number in parts:
            _refuse(at, "a component stands there twice")
        if level == 2 and number != 1:
            _refuse(at, "components nest deeper than ER7 can say")
        parts[number] = _value(child, min(level + 1, 2), at)
    if level == 2:
        return parts[1]
    separator = "^" if level == 0 else "&"
    return separator.join(parts.get(number, "") for number in range(1, max(parts) + 1))


def _leaf(element: etree._Element, at: str) -> str:
    texts = [_escaped(element.text)]
    for child in element:
        sequence = child.get("V", "")
        if not _ESCAPE.fullmatch(sequence) or len(child):
            _refuse(at, "an escape element that names no escape sequence")
        texts += [f"\\{sequence}\\", _escaped(child.tail)]
    return "".join(texts)


def _escaped(text: str | None) -> str:
    return escape(text, STANDARD, "utf-8").decode() if text else ""


def _number(element: etree._Element, at: str) -> int:
    found = _PLACE.fullmatch(_local(element, at))
    if found is None:
        _refuse(at, "an element that is no field or component")
    return int(found[1])


def _local(element: etree._Element, at: str) -> str:
    if not isinstance(element.tag, str):
        _refuse(at, "an entity reference")
    namespace, _, name = element.tag.rpartition("}")
    if namespace != f"{{{NAMESPACE}":
        _refuse(at, f"an element outside the namespace {NAMESPACE}")
    return name


def _no_text(element: etree._Element, at: str) -> None:
    if (element.text and element.text.strip()) or any(child.tail and child.tail.strip() for child in element):
        _refuse(at, "text between elements")


def _refuse(at: str, why: str) -> NoReturn:
    raise Unreadable(at=at, condition="102", sentence=f"{at}: {why}") from None


# ---- ER7 to XML ------------------------------------------------------------------------------------------------------


def xml_of_er7(message: Message) -> bytes:
    """The XML encoding of a message, in UTF-8 with its declaration. Components are named after the datatypes of v2.5.1; where
    these are not known (a segment of one's own) after the field.

    Raises:
        Unreadable: a segment or a structure whose name cannot be an element's name.
    """
    structure = message.structure or message.type.replace("^", "_")
    if not _ROOT.fullmatch(structure):
        _refuse("MSH-9", "no message structure that an element could be named after")
    root = etree.Element(f"{{{NAMESPACE}}}{structure}", nsmap=cast("dict[str, str]", {None: NAMESPACE}))
    for segment in message.segments():
        if segment.name == NAMELESS or not _SEGMENT.fullmatch(segment.name):
            _refuse(f"segment {segment.index + 1}", "no segment name")
        element = etree.SubElement(root, f"{{{NAMESPACE}}}{segment.name}")
        for number in range(1, segment.field_count() + 1):
            if number > MAX_FIELD:
                _refuse(segment.at(), f"more than {MAX_FIELD} fields")
            _write_field(element, segment, number, message)
    document: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return document


def _write_field(parent: etree._Element, segment: Segment, number: int, message: Message) -> None:
    raw, repetition = segment.raw(number), message.separators.repetition
    if not raw:
        return
    name = f"{{{NAMESPACE}}}{segment.name}.{number}"
    if segment.name in ("MSH", "FHS", "BHS") and number <= 2:
        etree.SubElement(parent, name).text = _xml_text(decode(raw, message.charset))
        return
    if segment.name == "MSH" and number == 18:
        etree.SubElement(parent, name).text = "UNICODE UTF-8"
        return
    kind = segment.text(2) if (segment.name, number) == ("OBX", 5) else _type_of_field(segment.name, number)
    for one in raw.split(repetition) if repetition else [raw]:
        _write(etree.SubElement(parent, name), one, kind, 0, message)


def _write(element: etree._Element, raw: bytes, kind: str, level: int, message: Message) -> None:
    """A field (level 0), a component (1) or a subcomponent (2)."""
    components = _datatypes()[1].get(kind)
    separator = (message.separators.component, message.separators.subcomponent, b"")[level]
    split = bool(separator) and separator in raw
    if not raw or (components is None and not split):
        _write_leaf(element, raw, message.separators, message.charset)
        return
    name = kind if components is not None else etree.QName(element).localname
    for number, part in enumerate(raw.split(separator) if split else [raw], 1):
        if part:
            child = etree.SubElement(element, f"{{{NAMESPACE}}}{name}.{number}")
            inner = components[number - 1] if components is not None and number <= len(components) else ""
            _write(child, part, inner, min(level + 1, 2), message)


def _write_leaf(element: etree._Element, raw: bytes, separators: Separators, codec: str) -> None:
    """Text with its escape sequences: those of separators undone, the others as elements."""
    mark = separators.escape
    pieces = raw.split(mark) if mark else [raw]
    meanings = {b"E": mark, b"F": separators.field, b"S": separators.component, b"T": separators.subcomponent}
    meanings[b"R"] = separators.repetition
    texts: list[bytes] = [pieces[0]]
    sequences: list[str] = []
    at = 1
    while at < len(pieces):
        sequence = pieces[at]
        closed = at + 1 < len(pieces)
        if closed and sequence in meanings:
            texts[-1] += meanings[sequence] + pieces[at + 1]
            at += 2
        elif closed and _ESCAPE.fullmatch(sequence.decode("latin-1")):
            sequences.append(sequence.decode())
            texts.append(pieces[at + 1])
            at += 2
        else:
            texts[-1] += mark + sequence
            at += 1
    element.text = _xml_text(decode(texts[0], codec))
    for sequence_name, text in zip(sequences, texts[1:], strict=True):
        child = etree.SubElement(element, f"{{{NAMESPACE}}}escape", V=sequence_name)
        child.tail = _xml_text(decode(text, codec))


def _xml_text(text: str) -> str:
    """`text` without characters that XML has no way to write."""
    return _NOT_XML.sub(" ", text)


def _type_of_field(segment: str, number: int) -> str:
    types = _datatypes()[0].get(segment, ())
    return types[number - 1] if number <= len(types) else ""


@lru_cache(maxsize=1)
def _datatypes() -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """The types of each segment's fields and of each datatype's components."""
    table = tomllib.loads(files("hub.formats.er7").joinpath("datatypes.toml").read_text(encoding="utf-8"))
    segments, datatypes = (
        {name: tuple(types.split()) for name, types in table[part].items()} for part in ("segments", "datatypes")
    )
    return segments, datatypes
