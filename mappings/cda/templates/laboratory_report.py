"""FR-Resultats-examens-de-biologie-medicale: the results of one chapter → DiagnosticReport.

Standard: CI-SIS 1.2.250.1.213.1.1.3.21; IHE PaLM XD-LAB 1.3.6.1.4.1.19376.1.3.1; FHIR R4 DiagnosticReport.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hub.model.record_change import ContentRange
from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import attachment
from mappings.cda.templates import laboratory_context as context
from mappings.cda.templates.laboratory_observation import sorted_out
from mappings.cda.templates.laboratory_values import examination
from mappings.cda.walk import translate_each
from mappings.cda.xml import V3, Element, attribute, every, has_template, names, one, text

Json = dict[str, Any]

CR_BIO, CR_TROD = "11502-2", "96173-0"
_LABORATORY = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "LAB"}]}
_VALIDATOR = "1.3.6.1.4.1.19376.1.3.3.1.5"
_COMMENT_SECTION = "1.2.250.1.213.1.1.2.73"
_SHARED, _SHARED_REPORT = "laboratory.document", "laboratory.report"


@dataclass(slots=True)
class ReportDocument:
    """What the header of a biology report says for all of its chapters; empty in documents of another kind."""

    events: list[tuple[frozenset[str], Json, str]] = field(default_factory=list)  # codes, effective[x], lab:statusCode
    orders: list[Json] = field(default_factory=list)
    laboratories: list[Json] = field(default_factory=list)
    validators: list[Json] = field(default_factory=list)
    comment: str = ""
    issued: str = ""
    copy: tuple[Json, ContentRange] | None = None

    def event(self, code: Json) -> tuple[Json, str]:
        """Period and status of the act that a chapter belongs to: by its code, else the main act."""
        codes = {one_["code"] for one_ in code.get("coding", ())}
        main = self.events[0] if self.events else (frozenset(), {}, "")
        _, when, status = next((event for event in self.events if event[0] & codes), main)
        return when or main[1], status or main[2]


def chapter(act: Element, scope: Scope) -> Json | None:
    """One report of its results; in a TROD all chapters make one."""
    if attribute(act, "code", "statusCode").lower() == context.NULLIFIED:
        scope.claim_all(act)
        return None
    scope.claim(act)
    header = _document(scope)
    code = examination(one(act, "code"), scope) or examination(one(scope.section, "code"), scope)
    code = code or {"text": scope.section_title or scope.header.title or "Biologie médicale"}
    found = context.children(act)
    conclusion = context.comments(found, scope)
    people = context.people(act)
    body = _translated(act, found, code, people, scope)
    if scope.header.code == CR_TROD:
        earlier = scope.reading.shared.get(_SHARED_REPORT)
        if isinstance(earlier, dict):
            _join(earlier, body, conclusion)
            return None
        code = _document_code(scope) or code
        scope.reading.shared[_SHARED_REPORT] = body
    when, event_status = header.event(code)
    status = event_status or attribute(act, "code", "statusCode").lower()
    body |= {"status": context.STATUSES.get(status, "unknown"), "category": [_LABORATORY], "code": code}
    body |= when or _time_of_results(body, scope)
    _put_document(body, header, people)
    said = [*conclusion, header.comment] if header.comment else conclusion
    if said:
        body["conclusion"] = "\n".join(said)
    if header.copy is None:
        return scope.add("DiagnosticReport", act, body)
    body["presentedForm"] = [dict(header.copy[0])]
    return scope.add("DiagnosticReport", act, body, contents=(header.copy[1],))


def _translated(act: Element, found: list[Element], code: Json, people: list[Json], scope: Scope) -> Json:
    """`specimen` and `result`: references to what the statements of the act became."""
    samplings, results = sorted_out(found, scope)
    devices = tuple(context.devices(act, scope))
    with context.inside(scope, code=code, specimens={}, specimen=None, performers=tuple(people), devices=devices):
        specimens = translate_each(samplings, scope)
        with context.inside(scope, specimen=specimens[0] if len(specimens) == 1 else None):
            made = translate_each(results, scope)
    body: Json = {}
    if specimens:
        body["specimen"] = specimens
    if members := [reference for reference in made if reference["type"] == "Observation"]:
        body["result"] = members
    return body


def _join(report: Json, body: Json, conclusion: list[str]) -> None:
    """Put what a further chapter says into the report that is made already."""
    for name in ("specimen", "result"):
        if name in body:
            report[name] = [*report.get(name, ()), *body[name]]
    if conclusion:
        report["conclusion"] = "\n".join([*([report["conclusion"]] if "conclusion" in report else ()), *conclusion])


def _put_document(body: Json, header: ReportDocument, people: list[Json]) -> None:
    """Who made it and answers for it, what it answers to, when it was issued."""
    validators = context.distinct([*(one_ for one_ in people if one_["type"] == "Practitioner"), *header.validators])
    performers = context.distinct([*(one_ for one_ in people if one_["type"] == "Organization"), *header.laboratories])
    lists = {"performer": performers, "resultsInterpreter": validators, "basedOn": header.orders}
    body |= {name: list(found) for name, found in lists.items() if found}
    if header.issued:
        body["issued"] = header.issued


def _time_of_results(body: Json, scope: Scope) -> Json:
    """The time that all results of the report share, when they do."""
    numbers = {reference["identifier"]["value"] for reference in body.get("result", ())}
    facts = scope.reading.facts
    times = {fact.body.get("effectiveDateTime") for fact in facts if fact.key.rpartition("|")[2] in numbers}
    only = times.pop() if len(times) == 1 else None
    return {"effectiveDateTime": only} if only else {}


def _document_code(scope: Scope) -> Json | None:
    return examination(one(scope.reading.root, "code"), scope)


def _document(scope: Scope) -> ReportDocument:
    """The header's part, read once a document."""
    found = scope.reading.shared.get(_SHARED)
    if not isinstance(found, ReportDocument):
        is_report = scope.header.code in {CR_BIO, CR_TROD}
        found = scope.reading.shared[_SHARED] = _read(scope) if is_report else ReportDocument()
    return found


def _read(scope: Scope) -> ReportDocument:
    root = scope.reading.root
    made = ReportDocument(copy=attachment.document_copy(scope))
    for event in every(root, "documentationOf/serviceEvent"):
        codes = frozenset(code for part in every(event, "code") if (code := attribute(part, "code")))
        made.events.append((codes, values.when(event, scope), attribute(event, "code", "lab:statusCode").lower()))
        for assigned in every(event, "performer/assignedEntity"):
            laboratory = values.organization(one(assigned, "representedOrganization")) or values.practitioner(assigned)
            if laboratory is not None and laboratory not in made.laboratories:
                made.laboratories.append(laboratory)
    for number in every(root, "inFulfillmentOf/order/id"):
        if (order := values.identifier(number)) is not None:
            made.orders.append({"type": "ServiceRequest", "identifier": order})
    for part in root.findall(f"{V3}authenticator"):
        if has_template(part, _VALIDATOR) and (who := values.practitioner(one(part, "assignedEntity"))) is not None:
            made.validators = context.distinct([*made.validators, who])
    issued = values.moment(one(root, "effectiveTime"), scope)
    made.issued = issued if "T" in issued else ""
    made.comment = "\n".join(_comments(root))
    return made


def _comments(root: Element) -> list[str]:
    """Titles and texts of the comment sections, which are about the whole report."""
    found = []
    for section in root.findall(names("component/structuredBody/component/section")):
        if has_template(section, _COMMENT_SECTION) and (said := text(one(section, "text"))):
            title = text(one(section, "title"))
            found.append(f"{title} : {said}" if title else said)
    return found
