"""A DMP for training and tests: takes ITI-41, ITI-57 and ITI-18, keeps documents in memory, answers as it is told.

It checks what makes a delivery right or wrong for the hub (hash, size, duplicates, what is replaced or deleted), not signatures,
value sets or rights. Nothing of a document or a patient is printed.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from lxml import etree

from adapters.dmp import iti18_registry_stored_query as iti18
from adapters.dmp import iti41_provide_and_register as iti41
from adapters.dmp import iti57_update_document_set as iti57
from adapters.dmp.mtom import XOP, NotMultipart, read
from adapters.dmp.registry_response import SUCCESS, response
from adapters.dmp.rim import (
    APPROVED,
    DELETED,
    DEPRECATED,
    DOCUMENT_UNIQUE_ID,
    QUERY,
    REPLACES,
    RIM,
    UPDATES_STATUS,
    XDSB,
    identifier_of,
    slot,
    slot_values,
)
from adapters.dmp.soap import Element, NotReadable, answer, element, fault, header_text, opened, payload

SUCCESS_ANSWER, SILENCE, MIXED = "success", "silence", "mixed"
_FAILURE = re.compile(r"failure:([A-Za-z0-9_.:\-]{1,64})")
_MIX = ("success", "failure:XDSRepositoryBusy", "silence", "success", "failure:DMPClosed")
_LITERAL = re.compile(r"'((?:[^']|'')*)'")
_BY_ACTION = {iti41.ACTION: "ITI-41", iti57.ACTION: "ITI-57", iti18.ACTION: "ITI-18"}


class UnknownAnswer(ValueError):
    """An answer that is none of success, failure:CODE, silence, mixed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back: nothing at all when `body` is None. `line` is the request in one line of words and numbers."""

    body: bytes | None
    line: str
    status: int = 200


@dataclass(slots=True)
class _Kept:
    """A document entry as it is registered."""

    entry_uuid: str
    unique_id: str
    sha1: str
    size: int
    status: str = APPROVED
    content: bytes = field(default=b"", repr=False)


class _Refused(Exception):
    """The request is answered with Failure and this code."""


class SimulatedDmp:
    """`handle` takes one request. `answer` is how to answer submissions and updates; questions are always answered.

    `mixed` goes through success, busy, silence, success, closed; `fail_every` n refuses every nth submission besides. A request
    that is met with silence is carried out all the same: the sender has to ask.

    Raises:
        UnknownAnswer: `answer` is no answer.
    """

    def __init__(self, answer: str = SUCCESS_ANSWER, *, fail_every: int = 0) -> None:
        if answer not in (SUCCESS_ANSWER, SILENCE, MIXED) and not _FAILURE.fullmatch(answer):
            raise UnknownAnswer("answer is success, failure:CODE, silence or mixed")
        self.answer, self._fail_every = answer, fail_every
        self._documents: dict[str, _Kept] = {}  # by uniqueId
        self._submissions = 0
        self._lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()

    @property
    def counts(self) -> dict[str, object]:
        """Requests by transaction, answers by kind, documents by status; JSON-ready."""
        states = Counter(kept.status.rpartition(":")[2] for kept in self._documents.values())
        return {"requests": dict(self.requests), "answers": dict(self.answers), "documents": dict(states)}

    def document(self, unique_id: str) -> bytes | None:
        """The bytes registered under an id."""
        kept = self._documents.get(unique_id)
        return kept.content if kept is not None else None

    def status(self, unique_id: str) -> str:
        """Approved, Deprecated, Deleted; empty when there is none."""
        kept = self._documents.get(unique_id)
        return kept.status.rpartition(":")[2] if kept is not None else ""

    def handle(self, body: bytes, content_type: str) -> Reply:
        """Answer one POST; several at once wait for each other."""
        with self._lock:
            return self._handled(body, content_type)

    def _handled(self, body: bytes, content_type: str) -> Reply:
        try:
            root, parts = read(body, content_type)
            request = opened(root)
        except (NotMultipart, NotReadable) as error:
            self.requests["unreadable"] += 1
            self.answers["fault Sender"] += 1
            return Reply(_bare_fault(f"the request cannot be read: {error}"), f"unreadable ({error})", 400)
        action = header_text(request, "Action")
        transaction = _BY_ACTION.get(action)
        self.requests[transaction or "other"] += 1
        if transaction is None:
            self.answers["fault Sender"] += 1
            return Reply(_bare_fault("this action is not served"), "an action that is not served", 500)
        about = payload(request)
        relates_to = header_text(request, "MessageID")
        if transaction == "ITI-18":
            found = self._found(about)
            return self._reply(found, iti18.RESPONSE_ACTION, relates_to, f"ITI-18 {len(found[0])} document(s)", SUCCESS_ANSWER)
        told = self._told()
        failure = _FAILURE.fullmatch(told)
        try:
            if failure is not None:
                raise _Refused(failure[1])
            done = self._provide(about, parts) if transaction == "ITI-41" else self._update(about)
            line, made = f"{transaction} {done} document(s)", response()
        except _Refused as refused:
            line, made, told = transaction, response(str(refused)), f"failure {refused}"
        if told == SILENCE:
            self.answers[SILENCE] += 1
            return Reply(None, f"{line}: silence")
        return self._reply(made, action + "Response", relates_to, line, told)

    def _reply(self, body: Element, action: str, relates_to: str, line: str, told: str) -> Reply:
        self.answers[told] += 1
        return Reply(answer(body, action=action, relates_to=relates_to), f"{line}: {told}")

    def _told(self) -> str:
        """How this submission is to be answered."""
        self._submissions += 1
        if self._fail_every and self._submissions % self._fail_every == 0:
            return "failure:XDSRepositoryError"
        return _MIX[(self._submissions - 1) % len(_MIX)] if self.answer == MIXED else self.answer

    def _provide(self, about: Element, parts: Mapping[str, bytes]) -> int:
        entries = list(about.iter(f"{{{RIM}}}ExtrinsicObject")) if about is not None else []
        contents = _contents(about, parts) if about is not None else {}
        if not entries:
            raise _Refused("XDSRepositoryMetadataError")
        replaced = {one.get("sourceObject"): one.get("targetObject") for one in _associations(about, REPLACES)}
        by_uuid = {kept.entry_uuid: kept for kept in self._documents.values()}
        if any(target not in by_uuid for target in replaced.values()):
            raise _Refused("XDSRegistryMetadataError")
        new = [self._checked(entry, contents) for entry in entries]
        for kept in new:
            self._documents[kept.unique_id] = kept
        for target in replaced.values():
            by_uuid[target].status = DEPRECATED
        return len(new)

    def _checked(self, entry: Element, contents: Mapping[str, bytes]) -> _Kept:
        number, unique_id = entry.get("id", ""), identifier_of(entry, DOCUMENT_UNIQUE_ID)
        content = contents.get(number)
        if content is None:
            raise _Refused("XDSMissingDocument")
        sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        if not unique_id:
            raise _Refused("XDSRepositoryMetadataError")
        if unique_id in self._documents:
            raise _Refused("XDSDuplicateUniqueIdInRegistry")
        if slot_values(entry, "hash") != [sha1]:
            raise _Refused("XDSNonIdenticalHash")
        if slot_values(entry, "size") != [str(len(content))]:
            raise _Refused("XDSNonIdenticalSize")
        return _Kept(f"urn:uuid:{_uuid_of(unique_id)}", unique_id, sha1, len(content), content=content)

    def _update(self, about: Element) -> int:
        by_uuid = {kept.entry_uuid: kept for kept in self._documents.values()}
        asked = list(_associations(about, UPDATES_STATUS)) if about is not None else []
        if not asked:
            raise _Refused("XDSMetadataUpdateOperationError")
        if any(one.get("targetObject") not in by_uuid for one in asked):
            raise _Refused("XDSMetadataUpdateError")
        for one in asked:
            if slot_values(one, "NewStatus") == [DELETED]:
                by_uuid[one.get("targetObject")].status = DELETED
        return len(asked)

    def _found(self, about: Element) -> Element:
        made = etree.Element(f"{{{QUERY}}}AdhocQueryResponse", nsmap={"query": QUERY, "rim": RIM}, status=SUCCESS)
        listed = element(RIM, "RegistryObjectList", made)
        query = about.find(f"{{{RIM}}}AdhocQuery") if about is not None else None
        told = slot_values(query, iti18.UNIQUE_IDS) if query is not None and query.get("id") == iti18.GET_DOCUMENTS else []
        for unique_id in dict.fromkeys(one for value in told for one in _LITERAL.findall(value)):
            kept = self._documents.get(unique_id)
            if kept is not None:
                one = element(RIM, "ExtrinsicObject", listed, id=kept.entry_uuid, status=kept.status, mimeType="text/xml")
                slot(one, "hash", [kept.sha1])
                slot(one, "size", [str(kept.size)])
                element(
                    RIM,
                    "ExternalIdentifier",
                    one,
                    id=f"{kept.entry_uuid}.uniqueId",
                    registryObject=kept.entry_uuid,
                    identificationScheme=DOCUMENT_UNIQUE_ID,
                    value=kept.unique_id,
                )
        return made


def _contents(about: Element, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Bytes of the documents by the id of their entry; those that came as XOP parts."""
    found: dict[str, bytes] = {}
    for document in about.iter(f"{{{XDSB}}}Document"):
        include = document.find(f"{{{XOP}}}Include")
        content = parts.get(include.get("href", "").removeprefix("cid:")) if include is not None else None
        if content is not None:
            found[document.get("id", "")] = content
    return found


def _associations(about: Element, kind: str) -> list[Element]:
    return [one for one in about.iter(f"{{{RIM}}}Association") if one.get("associationType") == kind]


def _uuid_of(unique_id: str) -> str:
    digest = hashlib.sha256(unique_id.encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"


def _bare_fault(reason: str) -> bytes:
    return answer(fault("Sender", reason), action="http://www.w3.org/2005/08/addressing/soap/fault", relates_to="")
