"""Reading a rule file with all that it includes.

Standard: ISO/IEC 19757-3:2016 §5 (elements), §6.3 (abstract patterns), §5.4.5 (extends), §5.4.6 (include), §5.4.10 (phases).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from lxml import etree

from hub.formats.schematron.schema import Check, Let, Level, Origin, Pattern, Rule, Schema
from hub.formats.schematron.sentences import constants, sentence
from hub.model.refusals import Misconfigured

Element = etree._Element

SCH = "{http://purl.oclc.org/dsdl/schematron}"
XSL = "{http://www.w3.org/1999/XSL/Transform}"
ALL = "#ALL"
MAX_DEPTH = 32  # of inclusions and of extended rules

_KEPT_XSLT = frozenset({f"{XSL}function", f"{XSL}key", f"{XSL}variable", f"{XSL}param"})
_WARNINGS = frozenset({"warning", "warn", "avertissement"})
_INFOS = frozenset({"info", "information", "informational", "hint", "note"})
_XML_LITERAL = re.compile(r"""(["'])([^"']+\.xml)\1""")


class RuleFiles(Protocol):
    """The files of a kit."""

    def read(self, name: str) -> bytes: ...
    def find(self, name: str, beside: str) -> str | None:
        """The file that `beside` calls `name`, letter case aside; None when there is none."""

    def uri(self, name: str) -> str: ...


def read_schema(file: str, files: RuleFiles) -> Schema:
    """The rule file with everything resolved, for its default phase.

    Raises:
        Misconfigured: file, `line N` and reason of what is not Schematron, or included and not there.
    """
    return _Reader(file, files).schema()


@dataclass(frozen=True, slots=True)
class _Node:
    """An element, the file it stands in, and the parameters of the abstract pattern around it."""

    element: Element
    file: str
    depth: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        return str(self.element.tag)

    @property
    def origin(self) -> Origin:
        line = self.element.sourceline
        return Origin(self.file, line if isinstance(line, int) else 0)

    def get(self, name: str) -> str:
        """An attribute, with parameters put in."""
        return self.fill(self.element.get(name, ""))

    def fill(self, expression: str) -> str:
        """An expression with parameters put in."""
        if not self.parameters or "$" not in expression:
            return expression
        names = "|".join(re.escape(one) for one in sorted(self.parameters, key=len, reverse=True))
        return re.sub(rf"\$({names})(?![\w.-])", lambda found: self.parameters[found[1]], expression)

    def needed(self, name: str) -> str:
        return self.get(name) or self.refuse(f"{etree.QName(self.tag).localname} without {name}")

    def refuse(self, reason: str) -> NoReturn:
        raise Misconfigured(self.file, f"line {self.origin.line}", reason)


class _Reader:
    def __init__(self, file: str, files: RuleFiles) -> None:
        self._file, self._files = file, files
        self._namespaces: dict[str, str] = {}
        self._lets: list[Let] = []
        self._patterns: list[_Node] = []
        self._abstract_patterns: dict[str, _Node] = {}
        self._abstract_rules: dict[str, _Node] = {}
        self._phases: dict[str, _Node] = {}
        self._diagnostics: dict[str, _Node] = {}
        self._xslt: list[tuple[str, Origin]] = []
        self._absent: list[tuple[str, Origin]] = []
        self._constants: dict[str, str] = {}

    def schema(self) -> Schema:
        root = self._root(self._file, 0)
        if root.tag != f"{SCH}schema":
            root.refuse("is not a Schematron schema")
        binding = root.get("queryBinding").lower()
        if binding not in ("xslt2", "xslt3", "xpath2", ""):
            root.refuse(f"queryBinding {binding[:20]!r}: only xslt2 is known")
        self._collect(root)
        active = self._active(root)
        lets = [self._let(child) for one in self._patterns for child in self._children(one) if child.tag == f"{SCH}let"]
        self._constants = constants([*self._lets, *lets])
        patterns = [self._pattern(one) for one in self._patterns if active is None or one.get("id") in active]
        known = {let.name for let in self._lets} | {let.name for one in patterns for let in one.lets}
        return Schema(
            file=self._file,
            namespaces=self._namespaces,
            lets=[*self._lets, *{let.name: let for let in reversed(lets) if let.name not in known}.values()],
            patterns=patterns,
            xslt=self._xslt,
            absent=self._absent,
        )

    # ---- files -----------------------------------------------------------------------------------------------------

    def _root(self, file: str, depth: int) -> _Node:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True)
        try:
            root = etree.fromstring(self._files.read(file), parser)
        except etree.XMLSyntaxError as error:
            raise Misconfigured(file, f"line {error.position[0]}", "not well-formed XML") from None
        except (OSError, ValueError, LookupError) as error:
            raise Misconfigured(file, "-", f"cannot be read ({type(error).__name__})") from None
        for element in root.iter(etree.Element):
            for prefix, uri in element.nsmap.items():
                if prefix:
                    self._namespaces.setdefault(prefix, uri)
        return _Node(root, file, depth)

    def _children(self, node: _Node) -> Iterator[_Node]:
        """Its child elements, with what it includes in place of each inclusion."""
        for element in node.element.iterchildren(etree.Element):
            child = _Node(element, node.file, node.depth, node.parameters)
            if child.tag != f"{SCH}include":
                yield child
                continue
            included = self._included(child)
            if included.tag == f"{SCH}schema":
                child.refuse("includes a whole schema, where a part of one is meant")
            yield included

    def _included(self, node: _Node) -> _Node:
        href, _, fragment = node.needed("href").partition("#")
        if node.depth >= MAX_DEPTH:
            node.refuse("inclusions are nested too deep, or in a circle")
        file = self._files.find(href, node.file) if href else node.file
        if file is None:
            node.refuse(f"includes {href}, which is not there")
        root = self._root(file, node.depth + 1)
        parts = (one for one in root.element.iter(etree.Element) if one.get("id") == fragment)
        element = next(parts, None) if fragment else root.element
        if element is None:
            node.refuse(f"includes {href}#{fragment}, which is not there")
        return _Node(element, file, node.depth + 1, node.parameters)

    # ---- the schema --------------------------------------------------------------------------------------------------

    def _collect(self, root: _Node) -> None:
        declared: dict[str, str] = {}
        for node in self._children(root):
            if node.tag == f"{SCH}ns":
                declared[node.needed("prefix")] = node.needed("uri")
            elif node.tag == f"{SCH}let":
                self._lets.append(self._let(node))
            elif node.tag == f"{SCH}phase":
                self._phases[node.needed("id")] = node
            elif node.tag == f"{SCH}pattern":
                self._collect_pattern(node)
            elif node.tag == f"{SCH}rule":  # a part that holds one abstract rule, included beside patterns
                self._abstract_rules[node.needed("id")] = node
            elif node.tag == f"{SCH}diagnostics":
                self._diagnostics |= {one.needed("id"): one for one in self._children(node)}
            elif node.tag in _KEPT_XSLT:
                self._xslt.append((etree.tostring(node.element, encoding="unicode", with_tail=False), node.origin))
            elif node.tag.startswith(XSL):
                node.refuse(f"xsl:{etree.QName(node.tag).localname} is not taken in a rule file")
        self._namespaces |= declared

    def _collect_pattern(self, node: _Node) -> None:
        if node.get("abstract") == "true":
            self._abstract_patterns[node.needed("id")] = node
        else:
            self._patterns.append(node)
        for child in self._children(node):
            if child.tag == f"{SCH}rule" and child.get("abstract") == "true":
                self._abstract_rules[child.needed("id")] = child

    def _active(self, root: _Node) -> set[str] | None:
        """The ids of the active patterns; None when all are."""
        name = root.get("defaultPhase")
        if not name or name == ALL:
            return None
        phase = self._phases.get(name)
        if phase is None:
            root.refuse(f"defaultPhase {name[:40]!r} is not there")
        active: set[str] = set()
        for node in self._children(phase):
            if node.tag == f"{SCH}active":
                active.add(node.needed("pattern"))
            elif node.tag == f"{SCH}let":
                self._lets.append(self._let(node))
        return active

    def _let(self, node: _Node) -> Let:
        value = node.get("value")
        if not value:
            text = "".join(str(piece) for piece in node.element.itertext())
            value = "'" + text.replace("'", "''") + "'"
        return Let(node.needed("name"), self._located(value, node), node.origin)

    def _located(self, xpath: str, node: _Node) -> str:
        """An expression whose value set files are called as they are on disk: the rule files differ in letter case."""
        if ".xml" not in xpath:
            return xpath

        def as_on_disk(found: re.Match[str]) -> str:
            quote, name = found[1], found[2]
            there = None if "://" in name else self._files.find(name, self._file)
            if there is None:
                if (name, node.origin) not in self._absent:
                    self._absent.append((name, node.origin))
                return found[0]
            as_called = posixpath.normpath(posixpath.join(posixpath.dirname(self._file), name))
            return found[0] if there == as_called else f"{quote}{self._files.uri(there)}{quote}"

        return _XML_LITERAL.sub(as_on_disk, xpath)

    # ---- patterns and rules --------------------------------------------------------------------------------------------

    def _pattern(self, node: _Node) -> Pattern:
        name, abstract = node.get("id"), node.get("is-a")
        if abstract:
            template = self._abstract_patterns.get(abstract)
            if template is None:
                node.refuse(f"is-a {abstract[:60]!r}, which is not there")
            parameters = {one.needed("name"): one.get("value") for one in self._children(node) if one.tag == f"{SCH}param"}
            node = _Node(template.element, template.file, template.depth, parameters)
        pattern = Pattern(name)
        children = list(self._children(node))
        pattern.lets = [self._let(child) for child in children if child.tag == f"{SCH}let"]
        for child in children:
            if child.tag == f"{SCH}rule" and child.get("abstract") != "true":
                context = self._located(child.needed("context"), child)
                pattern.rules.append(Rule(context, tuple(self._body(child, child, self._constants)), child.origin))
        return pattern

    def _body(self, rule: _Node, node: _Node, known: Mapping[str, str], depth: int = 0) -> Iterator[Let | Check]:
        """The variables and checks of a rule, those of the rules that it extends among them."""
        if depth > MAX_DEPTH:
            node.refuse("rules extend each other in a circle")
        own = dict(known)
        for child in self._children(node):
            if child.tag == f"{SCH}let":
                let = self._let(child)
                own.pop(let.name, None)
                yield let
            elif child.tag in (f"{SCH}assert", f"{SCH}report"):
                yield self._check(rule, child, own)
            elif child.tag == f"{SCH}extends":
                yield from self._body(rule, self._extended(child), own, depth + 1)

    def _extended(self, node: _Node) -> _Node:
        if node.get("href"):
            return self._included(node)
        name = node.needed("rule")
        found = self._abstract_rules.get(name)
        if found is None:
            node.refuse(f"extends {name[:60]!r}, which is not there")
        return _Node(found.element, found.file, found.depth, node.parameters)

    def _check(self, rule: _Node, node: _Node, known: Mapping[str, str]) -> Check:
        pieces = sentence(node.element, node.fill, known)
        for name in node.get("diagnostics").split():
            told = self._diagnostics.get(name)
            if told is None:
                node.refuse(f"diagnostics {name[:60]!r}, which is not there")
            pieces += (" ", *sentence(told.element, told.fill, known))
        role = node.get("role") or node.get("flag") or rule.get("role") or rule.get("flag")
        return Check(
            is_report=node.tag == f"{SCH}report",
            test=self._located(node.needed("test"), node),
            sentence=pieces,
            level=_level(role),
            id=node.get("id"),
            subject=node.get("subject") or rule.get("subject"),
            origin=node.origin,
        )


def _level(role: str) -> Level:
    word = role.strip().lower()
    return Level.WARNING if word in _WARNINGS else Level.INFO if word in _INFOS else Level.ERROR
