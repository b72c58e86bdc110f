"""DocumentReference: filing, replacing and deleting documents whose bytes stay in the message they came in.

Standard: CI-SIS PDSm, pdsm-comprehensive-document-reference; IHE MHD 4.0.1; spec of CDA R2 for id, setId, versionNumber.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from hub.model.record_change import INVISIBLE_PATIENT, INVISIBLE_REP_LEGAUX, DocumentAction, DocumentChange, Json, merged
from hub.model.refusals import Finding
from hub.model.uids import uid_text
from hub.record.facts import CURRENT, ENTERED_IN_ERROR, FactFiler, attachment_of
from hub.record.filing import Draft, Filing, Stored
from hub.record.instants import as_instant, begins, instant
from hub.record.masking import mask_of, with_labels
from hub.record.tokens import RELATES_TO, URI

SUPERSEDED = "superseded"
VERSION_NUMBER = "http://hl7.org/fhir/5.0/StructureDefinition/extension-DocumentReference.version"
ENCOUNTER = "Encounter"
DOCUMENT = "DocumentReference"
# The patient may stop being kept from seeing a document; never the other way round.
_ONCE_VISIBLE = INVISIBLE_PATIENT | INVISIBLE_REP_LEGAUX
_WRITTEN_HERE = frozenset(
    {"resourceType", "id", "meta", "subject", "status", "masterIdentifier", "identifier", "content", "relatesTo", "securityLabel"}
)


class DocumentFiler:
    """The documents of one message, filed one after another."""

    def __init__(self, filing: Filing, patient_id: int | None, unread: int = 0) -> None:
        self._filing, self._patient_id, self._unread = filing, patient_id, unread
        self._facts = FactFiler(filing, patient_id)
        self.findings = self._facts.findings

    def file(self, change: DocumentChange) -> None:
        """Create, replace or delete as `change` says; what is odd becomes a finding, nothing is refused."""
        if change.action is DocumentAction.DELETE:
            self._delete(change)
        else:
            self._file(change)

    # ---- create, replace ----

    def _file(self, change: DocumentChange) -> None:
        stored, key = self._own(change.master_id)
        if key != change.master_id:
            self._find("DOCUMENT_ID_OF_ANOTHER_PATIENT", change, "this document number is already another patient's document")
        if stored is not None:
            if self._filing.was_applied(stored):
                self._filing.unchanged += 1
            else:
                self._again(stored, change)
            return
        number = self._filing.next_id()
        siblings = self._siblings(change)
        predecessor = self._predecessor(change, siblings)
        mask = mask_of(change.body.get("securityLabel", []), change.mask)
        body = self._body(change, self._file_content(change, number), mask, number)
        if relation := self._relation(change, predecessor, mask):
            body["relatesTo"] = [relation]
        status = self._first_status(change, siblings)
        self._filing.derivations.is_new(document=number)
        document = self._filing.create(
            DOCUMENT,
            key,
            self._patient_id,
            Draft(
                body, status, change.path, sort_date=begins(str(body.get("date", ""))), mask=mask, event_time=change.event_time
            ),
            number=number,
        )
        replaced = self._supersede(change, predecessor, siblings)
        self._file_facts(document, change, replaced)

    def _file_facts(self, document: Stored, change: DocumentChange, replaced: list[Stored]) -> None:
        """What a current document says; what those that it replaces said, and it does not, is withdrawn."""
        if document.status == CURRENT and change.facts_mapping:
            self._facts.file(document, change)
            self._filing.was_translated(document.id, change.facts_mapping, facts=len(change.facts), unread=self._unread)
        links = self._filing.derivations
        said = links.resources_of(document.id)
        before = {number for one in replaced for number in links.resources_of(one.id)} - said
        if before:
            self._facts.settle(before, change.path)

    def _again(self, stored: Stored, change: DocumentChange) -> None:
        """The same document number once more: nothing for the same content, a version for other content."""
        before = stored.json
        same_bytes = _hash_of(before) == _hash(change)
        older = self._filing.is_older(stored, change.event_time)
        mask = self._only_more_visible(stored, mask_of(change.body.get("securityLabel", []), change.mask), change, told=not older)
        status = CURRENT if stored.status == ENTERED_IN_ERROR else stored.status
        body = self._body(change, 0, mask)
        siblings = self._siblings(change)
        predecessor = None
        if change.action is DocumentAction.REPLACE and "relatesTo" not in before and not older:
            predecessor = self._predecessor(change, siblings)
        if relation := self._relation(change, predecessor, mask):
            body["relatesTo"] = [relation]
        if "relatesTo" in before:
            body["relatesTo"] = before["relatesTo"]
        if same_bytes:
            _take_content(body, before, change)
        if same_bytes and (status, mask) == (stored.status, stored.mask) and body == before:
            self._filing.unchanged += 1
        elif older:
            self._filing.unchanged += 1
            self._older(change)
        else:
            self._tell_what_is_odd(stored, change, same_bytes=same_bytes)
            if not same_bytes:
                body["content"] = self._contents(change, self._file_content(change, stored.id), stored.id)
            self._filing.change(
                stored,
                Draft(
                    body,
                    status,
                    change.path,
                    sort_date=begins(str(body.get("date", ""))),
                    mask=mask,
                    event_time=change.event_time,
                ),
            )
            replaced = self._supersede(change, predecessor, siblings) if predecessor is not None else []
            self._file_facts(stored, change, replaced)

    def _tell_what_is_odd(self, stored: Stored, change: DocumentChange, *, same_bytes: bool) -> None:
        if not same_bytes and change.replaces != change.master_id:
            self._find("DOCUMENT_ID_REUSED", change, "the same document number came with other content")
        if stored.status == ENTERED_IN_ERROR:
            self._find("DOCUMENT_FILED_AGAIN", change, "a deleted document came again")

    def _only_more_visible(self, stored: Stored, mask: int, change: DocumentChange, *, told: bool) -> int:
        hidden_anew = mask & ~stored.mask & _ONCE_VISIBLE
        if hidden_anew and told:
            self._find("VISIBLE_IS_FINAL", change, "what the patient may already see stays visible")
        return mask & ~hidden_anew

    # ---- versions of one document ----

    def _siblings(self, change: DocumentChange) -> list[Stored]:
        """The filed versions of the same set, this patient's."""
        if not change.set_id:
            return []
        value, system = document_number(change.set_id)
        return [one for one in self._by_token("DocumentReference.identifier", value, system) if set_of(one) == (value, system)]

    def _predecessor(self, change: DocumentChange, siblings: list[Stored]) -> Stored | None:
        if change.replaces and change.replaces != change.master_id:
            found, key = self._own(change.replaces)
            if found is not None:
                return found
            if key != change.replaces:
                self._find("PREDECESSOR_OF_ANOTHER_PATIENT", change, "the document to replace is another patient's")
                return None
        before = [one for one in siblings if self._precedes(one, change)]
        if before:
            return max(before, key=lambda one: (version_of(one), one.id))
        if change.action is DocumentAction.REPLACE:
            self._find("PREDECESSOR_UNKNOWN", change, "the document to replace is not in the record")
        return None

    @staticmethod
    def _precedes(sibling: Stored, change: DocumentChange) -> bool:
        theirs, ours = version_of(sibling), change.version_number
        if theirs and ours:
            return theirs < ours or (theirs == ours and change.action is DocumentAction.REPLACE)
        return change.action is DocumentAction.REPLACE

    def _first_status(self, change: DocumentChange, siblings: list[Stored]) -> str:
        """`superseded` when a later version, or a document that replaces this one, is already filed."""
        ours = change.version_number
        if ours and any(version_of(one) > ours for one in siblings):
            return SUPERSEDED
        value, system = document_number(change.master_id)
        return SUPERSEDED if self._by_token(RELATES_TO, value, system) else CURRENT

    def _supersede(self, change: DocumentChange, predecessor: Stored | None, siblings: list[Stored]) -> list[Stored]:
        """Make the documents before this one superseded; those that were current."""
        before = {one.id: one for one in siblings if self._precedes(one, change)}
        if predecessor is not None:
            before[predecessor.id] = predecessor
        replaced = [one for one in before.values() if one.status == CURRENT]
        for one in replaced:
            self._filing.change(
                one, Draft(one.json, SUPERSEDED, change.path, sort_date=one.sort_date, mask=one.mask, event_time=one.event_time)
            )
        return replaced

    # ---- delete ----

    def _delete(self, change: DocumentChange) -> None:
        stored = self._own(change.master_id)[0]
        if stored is None and change.replaces:
            stored = self._own(change.replaces)[0]
        if stored is None:
            self._find("DOCUMENT_UNKNOWN", change, "the document to delete is not in the record")
            return
        if stored.status == ENTERED_IN_ERROR or self._filing.was_applied(stored):
            self._filing.unchanged += 1
            return
        if self._filing.is_older(stored, change.event_time):
            self._filing.unchanged += 1
            self._older(change)
            return
        self._filing.change(
            stored,
            Draft(
                stored.json,
                ENTERED_IN_ERROR,
                change.path,
                sort_date=stored.sort_date,
                mask=stored.mask,
                event_time=change.event_time,
            ),
        )
        self._facts.settle(self._filing.derivations.resources_of(stored.id), change.path)

    # ---- rows ----

    def _own(self, master_id: str) -> tuple[Stored | None, str]:
        """The document of this number and this patient, and the key under which it stands or should."""
        stored = self._filing.get(DOCUMENT, master_id)
        if stored is None or self._filing.same_person(stored.patient_id, self._patient_id):
            return stored, master_id
        key = f"{master_id}#{self._patient_id or 0}"
        return self._filing.get(DOCUMENT, key), key

    def _by_token(self, param: str, value: str, system: str) -> list[Stored]:
        rows = self._filing.tx.rows(
            "SELECT resource_id FROM token_index WHERE param = ? AND value = ? AND system = ?", param, value, system
        )
        found = self._filing.by_id([row[0] for row in rows]) if rows else []
        found += [one for one in self._filing.filed_now(param, value, system) if one not in found]
        return [one for one in found if self._filing.same_person(one.patient_id, self._patient_id)]

    def _file_content(self, change: DocumentChange, document: int) -> int:
        """The number of the Binary, 0 when the document has none."""
        return self._filing.add_binary(document, change.content) if change.content is not None else 0

    # ---- the body ----

    def _body(self, change: DocumentChange, binary: int, mask: int, document: int = 0) -> Json:
        said = change.body
        body = merged({}, {name: value for name, value in said.items() if name not in _WRITTEN_HERE})
        body["date"] = as_instant(str(said.get("date", ""))) or instant(self._filing.now_us)
        body["masterIdentifier"] = _identifier(*document_number(change.master_id))
        if change.set_id:
            body["identifier"] = [_identifier(*document_number(change.set_id))]
        if change.version_number:
            extension = {"url": VERSION_NUMBER, "valueString": str(change.version_number)}
            body["extension"] = [*body.get("extension", ()), extension]
        body["securityLabel"] = with_labels(said.get("securityLabel", []), mask)
        body["content"] = self._contents(change, binary, document)
        self._point_to_encounter(body)
        return body

    def _contents(self, change: DocumentChange, binary: int, document: int) -> list[Json]:
        """The document as it came, and, once it has a number, what it holds instead of structured content."""
        contents = [self._content(change, binary)]
        if change.inner_content is not None and document:
            number = self._filing.add_binary(document, change.inner_content)
            contents.append({"attachment": attachment_of(change.inner_content, f"Binary/{uid_text(number)}")})
        return contents

    @staticmethod
    def _content(change: DocumentChange, binary: int) -> Json:
        said: Json = (change.body.get("content") or [{}])[0]
        hints: Json = said.get("attachment", {})
        attachment: Json = {"contentType": "application/octet-stream", "language": hints.get("language") or "fr-FR"}
        if title := hints.get("title") or change.body.get("description") or _display(change.body.get("type", {})):
            attachment["title"] = title
        if creation := hints.get("creation") or change.body.get("date"):
            attachment["creation"] = creation
        if change.content is not None:
            attachment.update(contentType=change.content.content_type, size=change.content.size, hash=_hash(change))
        if binary:
            attachment["url"] = f"Binary/{uid_text(binary)}"
        return {**{name: value for name, value in said.items() if name != "attachment"}, "attachment": attachment}

    @staticmethod
    def _relation(change: DocumentChange, predecessor: Stored | None, mask: int) -> Json | None:
        """`relatesTo`: by number always, by address unless that would point to something more hidden than the document."""
        if predecessor is not None:
            target: Json = {"identifier": predecessor.json["masterIdentifier"]}
            if not predecessor.mask & ~mask:
                target["reference"] = f"{DOCUMENT}/{uid_text(predecessor.id)}"
        elif change.replaces and change.replaces != change.master_id:
            target = {"identifier": _identifier(*document_number(change.replaces))}
        else:
            return None
        return {"code": "replaces", "target": target}

    def _point_to_encounter(self, body: Json) -> None:
        """Give each encounter that the message names by its number the address of the Encounter, when it is filed."""
        context = body.get("context", {})
        if context.get("encounter"):
            body["context"] = {**context, "encounter": [self._with_address(one) for one in context["encounter"]]}

    def _with_address(self, reference: Json) -> Json:
        number = reference.get("identifier", {})
        if not number or "reference" in reference:
            return reference
        stored = self._filing.get(ENCOUNTER, f"{number.get('system', '')}|{number.get('value', '')}")
        if stored is None or not self._filing.same_person(stored.patient_id, self._patient_id):
            return reference
        return {"reference": f"{ENCOUNTER}/{uid_text(stored.id)}", **reference}

    # ---- findings ----

    def _find(self, code: str, change: DocumentChange, sentence: str) -> None:
        self.findings.append(Finding(code, change.path, sentence))

    def _older(self, change: DocumentChange) -> None:
        self._find("OLDER_THAN_RECORD", change, "the record already holds a later state of this document")


def document_number(text: str) -> tuple[str, str]:
    """Value and system of a document number: a URI stands for itself, `system|value` is split."""
    if text.startswith(("urn:oid:", "urn:uuid:")) and "|" not in text:
        return text, URI
    system, bar, value = text.rpartition("|")
    return (value, system) if bar else (text, "")


def _identifier(value: str, system: str) -> Json:
    return {"system": system, "value": value} if system else {"value": value}


def set_of(stored: Stored) -> tuple[str, str] | None:
    """Value and system of the number that all versions of a document share."""
    for one in stored.json.get("identifier", ()):
        return one["value"], one.get("system", "")
    return None


def version_of(stored: Stored) -> int:
    """The version number that the document itself says; 0 = none."""
    for one in stored.json.get("extension", ()):
        if one.get("url") == VERSION_NUMBER:
            return int(one["valueString"])
    return 0


def _hash(change: DocumentChange) -> str:
    return b64encode(change.content.sha1).decode() if change.content is not None else ""


def _hash_of(body: Json) -> str:
    found: Any = body["content"][0]["attachment"].get("hash", "")
    return str(found)


def _take_content(body: Json, before: Json, change: DocumentChange) -> None:
    """The bytes are those that are filed: they stay where they are, and so does the date of filing."""
    said, filed = body["content"][0]["attachment"], before["content"][0]["attachment"]
    hints = (change.body.get("content") or [{}])[0].get("attachment", {})
    for name in ("url", "size", "hash", "contentType", *(() if hints.get("creation") else ("creation",))):
        if name in filed:
            said[name] = filed[name]
    body["content"] += before["content"][1:]
    body["date"] = before["date"]


def _display(concept: Json) -> str:
    text = concept.get("text") or next((one.get("display") for one in concept.get("coding", ()) if one.get("display")), "")
    return str(text or "")
