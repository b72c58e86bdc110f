"""From the body to its entries: sections in their order, the translator of each entry by its templates, and what nobody read.

A document type is never asked for: a template means the same wherever it stands, so an unknown type yields what its known
templates say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lxml import etree

from hub.model.identifiers import is_oid
from hub.model.refusals import HubError
from mappings.cda.scope import Reading, Scope
from mappings.cda.templates import document_translators, translators
from mappings.cda.values import STATEMENTS
from mappings.cda.xml import V3, Element, local_name, names, template_ids

Json = dict[str, Any]
Translate = Callable[[Element, Scope], "Json | None"]
"""One statement → the reference to what it became, or None when it became part of something else or nothing."""
_MISTAKES = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError, etree.LxmlError)
_ENTRY = f"{V3}entry"


def walk(reading: Reading) -> None:
    """Translate every entry of a document's sections."""
    scope = Scope(reading)
    for section in reading.root.findall(names("component/structuredBody/component/section")):
        _section(section, scope)
    _document(scope)
    _tell_what_is_left(reading)


def _document(scope: Scope) -> None:
    """What the document as a whole becomes, by its own templates."""
    root, known = scope.reading.root, document_translators()
    for translate in dict.fromkeys(known[template] for template in template_ids(root) if template in known):
        try:
            translate(root, scope)
        except HubError:
            raise
        except _MISTAKES as error:
            scope.find("NOT_TRANSLATED", root, f"the whole could not be translated ({type(error).__name__})")


def _section(section: Element, outside: Scope) -> None:
    scope = outside.at_section(section)
    for entry in section.findall(f"{V3}entry"):
        for statement in statements(entry):
            translate_statement(statement, scope)
    for inner in section.findall(names("component/section")):
        _section(inner, scope)


def statements(parent: Element) -> list[Element]:
    """The statements that stand right under an entry, a component or an entryRelationship."""
    return [child for child in parent if isinstance(child.tag, str) and local_name(child) in STATEMENTS]


def translate_statement(statement: Element, scope: Scope) -> Json | None:
    """Translate one statement by the first of its templates that is known, else what stands in it.

    A translator that fails on what it met leaves a finding, and its entry in the document.
    """
    if statement in scope.reading.claimed:
        return None
    found = translator_of(statement)
    if found is None:
        translate_parts(statement, scope)
        return None
    facts = len(scope.reading.facts)
    try:
        return found(statement, scope.at_entry(statement))
    except HubError:
        raise
    except _MISTAKES as error:
        del scope.reading.facts[facts:]
        scope.find("NOT_TRANSLATED", statement, f"could not be translated ({type(error).__name__}); stays in the document")
        scope.claim_all(statement)
        return None


def translate_parts(statement: Element, scope: Scope) -> list[Json]:
    """Translate what stands under `component` and `entryRelationship` of a statement; references to what it became."""
    return translate_each((child for part in statement.findall(f"{V3}component") for child in statements(part)), scope) + (
        translate_each((child for part in statement.findall(f"{V3}entryRelationship") for child in statements(part)), scope)
    )


def translate_each(found: Iterable[Element], scope: Scope) -> list[Json]:
    """`translate_statement` for each; references to what they became."""
    return [reference for one in found if (reference := translate_statement(one, scope)) is not None]


def translator_of(statement: Element) -> Translate | None:
    """The translator of a statement's most particular known template (`mappings.cda.templates.ORDER`).

    A statement without one is known by those of its entry (IHE Laboratory Report Data Processing Entry).
    """
    table: Mapping[str, tuple[int, Translate]] = translators()
    known = [table[root] for root in template_ids(statement) if root in table]
    if not known and (entry := statement.getparent()) is not None and entry.tag == _ENTRY:
        known = [table[root] for root in template_ids(entry) if root in table]
    return min(known, key=lambda row: row[0])[1] if known else None


def _tell_what_is_left(reading: Reading) -> None:
    """A finding for each outermost statement that no translator read."""
    told: set[Element] = set()
    for statement in reading.root.iter(*(V3 + name for name in sorted(STATEMENTS))):
        if statement in reading.claimed or any(parent in told for parent in statement.iterancestors()):
            continue
        if translator_of(statement) is None and any(part in reading.claimed for part in statement.iterdescendants()):
            continue
        told.add(statement)
        # Which act or analysis it is says something of the patient: its place and its templates are enough to find it.
        templates = ", ".join([root for root in template_ids(statement) if is_oid(root)][:3]) or "none"
        reading.find("NOT_READ", statement, f"not translated (templates {templates}); stays in the document")
