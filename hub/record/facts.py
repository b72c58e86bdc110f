"""What a document says, as resources of its patient: filed with it, corrected, withdrawn and hidden with it.

A fact stands as long as a current document says it. It is as hidden as the least hidden of them; what a more hidden one says
otherwise stands beside it. A fact that no current document says any more is entered in error; its versions stay.

Standard: FHIR R4; CI-SIS JDV_J08 for what is hidden.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hub.model.record_change import ContentRange, DocumentChange, Json, ResourceChange
from hub.model.refusals import Finding
from hub.model.uids import uid_text
from hub.record.dates import sort_date
from hub.record.filing import Draft, Filing, Stored

CURRENT, ENTERED_IN_ERROR = "current", "entered-in-error"
UNREAD = frozenset({"NOT_READ", "NOT_TRANSLATED", "LEFT_IN_DOCUMENT", "ABOUT_ANOTHER_PERSON"})
_VERIFICATION = {
    "Condition": "http://terminology.hl7.org/CodeSystem/condition-ver-status",
    "AllergyIntolerance": "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification",
}
_CORRECTED = frozenset({"Observation", "DiagnosticReport"})
_SAID_ONCE = frozenset({"final", "corrected", "amended"})


class FactFiler:
    """The facts of documents of one patient. `files_contents`: bytes inside a document can still be found in its message."""

    def __init__(self, filing: Filing, patient_id: int | None, *, files_contents: bool = True) -> None:
        self._filing, self._patient_id, self._files_contents = filing, patient_id, files_contents
        self.findings: list[Finding] = []

    def file(self, document: Stored, change: DocumentChange) -> None:
        """Make the facts of `document` those of `change`; what it said before and does not say any more is withdrawn."""
        filing, links = self._filing, self._filing.derivations
        filing.load((fact.type, fact.key) for fact in change.facts)
        known = [stored for fact in change.facts if (stored := filing.get(fact.type, fact.key)) is not None]
        links.load_documents(stored.id for stored in known)
        with filing.read_from(document.id, change.facts_mapping):
            said = {self._file_one(document, fact) for fact in change.facts}
            gone = links.resources_of(document.id) - said
            for number in gone:
                links.remove(document.id, number)
            self.settle(gone, change.path)

    def settle(self, facts: Iterable[int], path: str) -> None:
        """Give facts the status and the mask that the documents which say them leave."""
        filing, links = self._filing, self._filing.derivations
        numbers = set(facts)
        links.load_documents(numbers)
        filing.by_id({document for number in numbers for document in links.documents_of(number)})
        for stored in filing.by_id(numbers):
            said_by = self._current(links.documents_of(stored.id))
            if not said_by and stored.status != ENTERED_IN_ERROR:
                body = withdrawn(stored.type, stored.json)
                filing.change(stored, _draft(stored, body, ENTERED_IN_ERROR, stored.mask, path))
            elif said_by and stored.status != ENTERED_IN_ERROR:
                filing.change(stored, _draft(stored, stored.json, stored.status, _least(said_by), path))

    def _file_one(self, document: Stored, fact: ResourceChange) -> int:
        filing, links = self._filing, self._filing.derivations
        stored, key = self._own(fact)
        if key != fact.key:
            told = f"{fact.path}: this entry's number is already another patient's: filed beside it"
            self.findings.append(Finding("NUMBER_OF_ANOTHER_PATIENT", fact.path, told))
        if stored is None:
            number = filing.next_id()
            body = self._with_contents(fact, number, {})
            draft = Draft(body, _status(body), fact.path, sort_date(body), document.mask, fact.event_time)
            links.is_new(resource=number)
            links.add(document.id, number)
            filing.create(fact.type, key, self._patient_id, draft, number=number)
            return number
        others = self._current(links.documents_of(stored.id) - {document.id})
        body = self._with_contents(fact, stored.id, _urls(stored.json) if fact.contents else {})
        body = _as_corrected(stored, body)
        if others and body != stored.json and document.mask & ~_least(others):
            return self._file_one(document, _beside(fact, document))  # what only this one says stays as hidden as it is
        newly = links.add(document.id, stored.id)
        status = _status(body)
        if others and stored.status != ENTERED_IN_ERROR and filing.is_older(stored, fact.event_time):
            body, status = stored.json, stored.status
        draft = Draft(body, status, fact.path, sort_date(body), _least([document, *others]), fact.event_time)
        if not filing.change(stored, draft) and newly:
            filing.said_again(stored, fact.path)
        return stored.id

    def _own(self, fact: ResourceChange) -> tuple[Stored | None, str]:
        """The fact of this number and this patient, and the key under which it stands or should."""
        stored = self._filing.get(fact.type, fact.key)
        if stored is None or self._filing.same_person(stored.patient_id, self._patient_id):
            return stored, fact.key
        key = f"{fact.key}#{self._patient_id or 0}"
        return self._filing.get(fact.type, key), key

    def _current(self, documents: Iterable[int]) -> list[Stored]:
        return [one for one in self._filing.by_id(documents) if one.status == CURRENT]

    def _with_contents(self, fact: ResourceChange, number: int, filed: dict[str, str]) -> Json:
        """The body with the addresses of the bytes it holds; what is filed already (`filed`: hash → address) stays there."""
        if not fact.contents:
            return fact.body
        attachments: dict[str, Json] = {}
        for n, content in enumerate(fact.contents):
            digest = b64encode(content.sha1).decode()
            url = filed.get(digest, "")
            if not url and self._files_contents:
                url = f"Binary/{uid_text(self._filing.add_binary(number, content))}"
            attachments[f"#content{n}"] = attachment_of(content, url)
        body: Json = _put(fact.body, attachments)
        return body


def attachment_of(content: ContentRange, url: str) -> Json:
    """What an Attachment says of filed bytes."""
    return {"contentType": content.content_type, "size": content.size, "hash": b64encode(content.sha1).decode(), "url": url}


def withdrawn(kind: str, body: Json) -> Json:
    """A fact's body once nobody says it any more.

    Standard: FHIR R4, `entered-in-error` of each resource's status; of Condition and AllergyIntolerance in verificationStatus.
    """
    if kind in _VERIFICATION:
        kept = {name: value for name, value in body.items() if name != "clinicalStatus"}
        return {**kept, "verificationStatus": {"coding": [{"system": _VERIFICATION[kind], "code": ENTERED_IN_ERROR}]}}
    if kind == "Goal":
        return {**body, "lifecycleStatus": ENTERED_IN_ERROR}
    return {**body, "status": ENTERED_IN_ERROR} if "status" in body else body


def _beside(fact: ResourceChange, document: Stored) -> ResourceChange:
    """The same fact under a number of this document's own."""
    return replace(fact, key=f"{fact.key}~{document.id}")


def unread(findings: Iterable[Finding]) -> int:
    """How many statements stay in the document."""
    return sum(one.code in UNREAD for one in findings)


def _status(body: Json) -> str:
    """The status that searches go by: the body's, or that it was entered in error where another element says so."""
    said = body.get("status") or body.get("lifecycleStatus") or ""
    codes = {coding.get("code") for coding in body.get("verificationStatus", {}).get("coding", ())}
    if ENTERED_IN_ERROR in {said, *codes}:
        return ENTERED_IN_ERROR
    return str(body.get("status", ""))


def _draft(stored: Stored, body: Json, status: str, mask: int, path: str) -> Draft:
    return Draft(body, status, path, stored.sort_date, mask, stored.event_time)


def _least(documents: list[Stored]) -> int:
    mask = documents[0].mask
    for one in documents[1:]:
        mask &= one.mask
    return mask


def _as_corrected(stored: Stored, body: Json) -> Json:
    """A result that was final and says something else now is a corrected one; it stays one when it is said again."""
    if stored.type not in _CORRECTED or body.get("status") != "final" or stored.json.get("status") not in _SAID_ONCE:
        return body
    if {**body, "status": stored.json["status"]} == stored.json:
        return stored.json
    return {**body, "status": "corrected"}


def _urls(part: Any) -> dict[str, str]:
    """Addresses of the bytes that a filed body holds, by their hash."""
    found: dict[str, str] = {}
    if isinstance(part, list):
        for one in part:
            found |= _urls(one)
    elif isinstance(part, dict):
        if "hash" in part and str(part.get("url", "")).startswith("Binary/"):
            found[part["hash"]] = part["url"]
        for one in part.values():
            if isinstance(one, dict | list):
                found |= _urls(one)
    return found


def _put(part: Any, attachments: dict[str, Json]) -> Any:
    if isinstance(part, list):
        return [_put(one, attachments) for one in part]
    if isinstance(part, dict):
        if part.get("url") in attachments:
            return {**{name: one for name, one in part.items() if name != "url"}, **attachments[part["url"]]}
        return {name: _put(one, attachments) if isinstance(one, dict | list) else one for name, one in part.items()}
    return part
