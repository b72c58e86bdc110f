"""The sentence of an assertion, without any value of the document that is checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from lxml import etree

from hub.formats.schematron.schema import ElementName, Let, Piece

SCH = "{http://purl.oclc.org/dsdl/schematron}"
LEFT_OUT = "…"

_LITERAL = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)')\s*""")
_VARIABLE = re.compile(r"\s*\$([\w.-]+)\s*")


def constants(lets: Iterable[Let]) -> dict[str, str]:
    """The variables that hold a text of the rule file itself, with that text; a name with two values has none.

    Of the path of a value set, the name of its file.
    """
    found: dict[str, str | None] = {}
    for let in lets:
        text = _literal(let.select)
        found[let.name] = text if found.get(let.name, text) == text else None
    return {name: text.rpartition("/")[2] if text.endswith(".xml") else text for name, text in found.items() if text is not None}


def _literal(expression: str) -> str | None:
    match = _LITERAL.fullmatch(expression)
    return None if match is None else match[1] if match[1] is not None else match[2]


def sentence(element: etree._Element, fill: Callable[[str], str], known: Mapping[str, str]) -> tuple[Piece, ...]:
    """The text of an assertion. `sch:value-of` becomes `…` unless what it selects is a text of the rule file itself.

    `fill` puts the parameters of an abstract pattern into an expression; `known` are variables that hold such a text.
    """
    pieces: list[Piece] = []
    for piece in _pieces(element, fill, known):
        if isinstance(piece, str) and pieces and isinstance(pieces[-1], str):
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return tuple(re.sub(r"\s+", " ", piece) if isinstance(piece, str) else piece for piece in pieces)


def _pieces(element: etree._Element, fill: Callable[[str], str], known: Mapping[str, str]) -> Iterator[Piece]:
    yield str(element.text or "")
    for child in element.iterchildren(etree.Element):
        if child.tag == f"{SCH}value-of":
            yield _value(fill(child.get("select", "")), known)
        elif child.tag == f"{SCH}name":
            yield ElementName(fill(child.get("path", ".")))
        else:
            yield from _pieces(child, fill, known)
        yield str(child.tail or "")


def _value(select: str, known: Mapping[str, str]) -> str:
    literal = _literal(select)
    if literal is not None:
        return literal
    variable = _VARIABLE.fullmatch(select)
    return known.get(variable[1], LEFT_OUT) if variable is not None else LEFT_OUT
