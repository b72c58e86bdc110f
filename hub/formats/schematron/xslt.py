"""A schema as one XSLT 3.0 stylesheet that reports in SVRL.

A pattern is a mode, a rule a template whose priority is its place. A rule that meets a dynamic error is told as an
`svrl:error` at its node, with the code of the error only; the others go on.
Standard: ISO/IEC 19757-3:2016 §6, Annex D (SVRL); XSLT 3.0 §6.6 (modes), §8.3 (try).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hub.formats.schematron.schema import Check, ElementName, Let, Origin, Pattern, Rule, Schema

SVRL = "http://purl.oclc.org/dsdl/svrl"
XSLT = "http://www.w3.org/1999/XSL/Transform"
OURS = "urn:vaguemestre:schematron"
_RESERVED = {"svrl_": SVRL, "xslt_": XSLT, "vm_": OURS, "err_": "http://www.w3.org/2005/xqt-errors"}

# Local names, with a position where several siblings have one name: as provenance names elements.
_AT = (
    '<xslt_:function name="vm_:at"><xslt_:param name="node"/><xslt_:sequence select="concat(string-join('
    "for $e in $node/ancestor-or-self::* return concat('/', local-name($e), "
    "for $before in count($e/preceding-sibling::*[node-name(.) = node-name($e)]) return "
    "if ($before or $e/following-sibling::*[node-name(.) = node-name($e)]) then concat('[', $before + 1, ']') else ''), ''), "
    "if ($node instance of attribute()) then concat('/@', local-name($node)) "
    "else if ($node instance of text()) then '/text()' else if ($node instance of document-node()) then '/' else '')"
    '"/></xslt_:function>'
)

_CAUGHT = '<xslt_:catch><svrl_:error location="{vm_:at(.)}" code="{local-name-from-QName($err_:code)}"/></xslt_:catch>'


@dataclass(frozen=True, slots=True)
class Stylesheet:
    """The stylesheet, and where each of its lines comes from: `origins[n - 1]` for line n, None for our own."""

    text: str
    origins: tuple[Origin | None, ...]

    def origin(self, line: int) -> Origin | None:
        """Where line `line` comes from."""
        return self.origins[line - 1] if 0 < line <= len(self.origins) else None


def to_xslt(schema: Schema, base_uri: str) -> Stylesheet:
    """The stylesheet of a schema; `base_uri` is the rule file, to which `document()` is relative."""
    return _Writer(schema).stylesheet(base_uri)


class _Writer:
    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._lines: list[str] = []
        self._origins: list[Origin | None] = []

    def _put(self, line: str, origin: Origin | None = None) -> None:
        for part in line.split("\n"):
            self._lines.append(part)
            self._origins.append(origin)

    def stylesheet(self, base_uri: str) -> Stylesheet:
        names = {k: v for k, v in self._schema.namespaces.items() if k != "xml" and k not in _RESERVED} | _RESERVED
        declared = " ".join(f"xmlns:{prefix}={_attribute(uri)}" for prefix, uri in sorted(names.items()))
        self._put(f'<xslt_:stylesheet version="3.0" xml:base={_attribute(base_uri)} {declared}>')
        for text, origin in self._schema.xslt:
            self._put(text, origin)
        renamed = self._globals()
        self._walk()
        for n, pattern in enumerate(self._schema.patterns, 1):
            for place, rule in enumerate(pattern.rules):
                self._rule(rule, f"p{n}", len(pattern.rules) - place, renamed.get(n, {}), _further(pattern))
        self._put("</xslt_:stylesheet>")
        return Stylesheet("\n".join(self._lines), tuple(self._origins))

    def _globals(self) -> dict[int, dict[str, str]]:
        """Write the variables of schema and patterns; by pattern, those that another pattern has with another value."""
        there: dict[str, str] = {}
        renamed: dict[int, dict[str, str]] = {}
        for let in self._schema.lets:
            if let.name not in there:
                there[let.name] = let.select
                self._variable(let, let.name, {})
        for n, pattern in enumerate(self._schema.patterns, 1):
            for let in pattern.lets:
                others = renamed.get(n, {})
                if there.get(let.name) == let.select and not others:
                    continue
                name = let.name
                if name in there:
                    name = f"{let.name}-p{n}"
                    renamed.setdefault(n, {})[let.name] = name
                there[name] = let.select
                self._variable(let, name, others)
        return renamed

    def _variable(self, let: Let, name: str, renamed: Mapping[str, str]) -> None:
        self._put(f"<xslt_:variable name={_attribute(name)} select={_attribute(_rename(let.select, renamed))}/>", let.origin)

    def _walk(self) -> None:
        """The way through the document: one walk a pattern."""
        modes = [f"p{n}" for n in range(1, len(self._schema.patterns) + 1)]
        self._put(_AT)
        self._put('<xslt_:template match="/"><svrl_:schematron-output>')
        for mode in modes:
            self._put(f'<xslt_:apply-templates select="." mode="{mode}"/>')
        self._put("</svrl_:schematron-output></xslt_:template>")
        for mode, pattern in zip(modes, self._schema.patterns, strict=True):
            self._put(f'<xslt_:mode name="{mode}" on-no-match="deep-skip"/>')
            self._put(f'<xslt_:template match="/|*" mode="{mode}" priority="0">{_further(pattern)}</xslt_:template>')

    def _rule(self, rule: Rule, mode: str, priority: int, renamed: Mapping[str, str], further: str) -> None:
        self._put(
            f'<xslt_:template match={_attribute(_rename(rule.context, renamed))} mode="{mode}" priority="{priority}">',
            rule.origin,
        )
        self._put("<xslt_:try>")
        for one in rule.body:
            if isinstance(one, Let):
                self._variable(one, one.name, renamed)
                renamed = {name: new for name, new in renamed.items() if name != one.name}
            else:
                self._check(one, renamed)
        self._put(f"{_CAUGHT}</xslt_:try>{further}</xslt_:template>")

    def _check(self, check: Check, renamed: Mapping[str, str]) -> None:
        test = _rename(check.test, renamed)
        name = "successful-report" if check.is_report else "failed-assert"
        subject = f"({check.subject})[1]" if check.subject else "."
        condition = test if check.is_report else f"not({test})"
        self._put(f"<xslt_:try><xslt_:if test={_attribute(condition)}>", check.origin)
        identifier = f" id={_attribute(check.id, template=True)}" if check.id else ""
        location = _attribute("{vm_:at(" + _rename(subject, renamed) + ")}")
        self._put(f'<svrl_:{name} location={location} role="{check.level}"{identifier}><svrl_:text>')
        for piece in check.sentence:
            if isinstance(piece, ElementName):
                self._put(f"<xslt_:value-of select={_attribute(f'name({_rename(piece.path, renamed)})')}/>", check.origin)
            else:
                self._put(f"<xslt_:text>{_text(piece)}</xslt_:text>", check.origin)
        self._put(f"</svrl_:text></svrl_:{name}></xslt_:if>{_CAUGHT}</xslt_:try>")


def _further(pattern: Pattern) -> str:
    """Attributes, texts and comments are looked at only where a context may match one: most patterns want elements."""
    select = "*" if all(_is_of_elements(rule.context) for rule in pattern.rules) else "@*|node()"
    return f'<xslt_:apply-templates select="{select}" mode="#current"/>'


def _is_of_elements(context: str) -> bool:
    bare = context
    while True:
        shorter = re.sub(r"\[[^\[\]]*\]", "", bare)
        if shorter == bare:
            return not re.search(r"@|attribute::|text\(|comment\(|node\(|processing-instruction\(", bare)
        bare = shorter


def _rename(expression: str, names: Mapping[str, str]) -> str:
    if not names or "$" not in expression:
        return expression
    return re.sub(r"\$([\w.-]+)", lambda found: "$" + names.get(found[1], found[1]), expression)


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _attribute(value: str, *, template: bool = False) -> str:
    """A quoted attribute; `template`: of a literal result element, where braces would be an expression."""
    if template:
        value = value.replace("{", "{{").replace("}", "}}")
    escaped = _text(value).replace('"', "&quot;").replace("\n", "&#10;").replace("\r", "&#13;").replace("\t", "&#9;")
    return f'"{escaped}"'
