"""The DMP as a destination, first form: feed, replacement and deletion over XDS.b, without signatures.

What is not here: the VIHF (SAML assertion in WS-Security), the XAdES signature of the submission set, the schematrons that a
platform must run on every CDA, value sets of the metadata. Without them the real DMP takes nothing: `hub.app.config_dmp`
refuses a production configuration. Envelopes are built with lxml, since zeep cannot send MTOM.
Everything is found again by uniqueId, so a submission may be repeated. Services: `repository` and `registry` under the URL.
Standard: CI-SIS, volet Partage de documents de santé: TD2.1, TD3.1b, TD3.3c.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from adapters.dmp import iti18_registry_stored_query as iti18
from adapters.dmp import iti41_provide_and_register as iti41
from adapters.dmp import iti57_update_document_set as iti57
from adapters.dmp import mtom
from adapters.dmp.http_exchange import HttpAnswer, connect, post
from adapters.dmp.iti18_registry_stored_query import Entry
from adapters.dmp.mtom import NotMultipart, Part
from adapters.dmp.options import DmpOptions, context_of
from adapters.dmp.registry_response import BUSY, DUPLICATE, Answered, answered
from adapters.dmp.rim import DELETED
from adapters.dmp.soap import Element, NotReadable, envelope, opened, payload
from hub.model.dmp import DmpDocument, DmpSubmission
from hub.model.ports import PeerReference
from hub.model.record_change import DocumentAction
from hub.model.refusals import NoAnswer, PeerBusy, PeerRefused, PeerUnavailable

UNKNOWN = "DOCUMENT_UNKNOWN"  # what is to be replaced or deleted is not there
_NAMESPACE = uuid.UUID("6f1c1f0e-3a0f-5b8e-9d0a-2f5b7c9a4e11")  # of ids made from the numbers of deliveries
_NOT_FOR_US = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 407, 410})
_NOT_NOW = frozenset({408, 425, 429, 503})


class DmpDestination:
    """`hub.model.dmp.Dmp` over SOAP 1.2 and MTOM. Each request has a connection of its own."""

    name = "dmp"

    def __init__(self, options: DmpOptions, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._options, self._now = options, now
        self._context = context_of(options.tls) if options.tls is not None else None
        self.in_flight = options.in_flight

    async def submit(self, submission: DmpSubmission, contents: Sequence[bytes], *, delivery_id: int) -> PeerReference:
        """Feed, replace or delete; the uniqueId of the documents come back as reference."""
        made = uuid.uuid5(_NAMESPACE, str(delivery_id))
        if submission.action is DocumentAction.DELETE:
            return await self._delete(submission, made)
        entries = await self._predecessors(submission)
        body, parts = iti41.request(
            submission,
            contents,
            unique_id=_oid(made),
            source_id=self._options.source_id,
            submitted=self._submitted(),
            entries=entries,
        )
        answer, said = await self._ask_service("repository", iti41.ACTION, body, parts)
        if said.success:
            return _reference(submission, answer)
        if said.code in DUPLICATE:
            there = await self.ask(submission)
            if there is not None:
                return there
        raise _refusal(said, answer)

    async def ask(self, submission: DmpSubmission) -> PeerReference | None:
        """Whether the DMP has all of it: each document with the bytes that we have, or each deleted."""
        found = {entry.unique_id: entry for entry in await self._find([one.unique_id for one in submission.documents])}
        deletes = submission.action is DocumentAction.DELETE
        if all(_is_done(found.get(one.unique_id), one, deletes=deletes) for one in submission.documents):
            return _reference(submission, HttpAnswer())
        return None

    async def probe(self) -> None:
        """A connection can be opened."""
        _, writer = await connect(urlsplit(self._options.url), self._context, self._options.connect_timeout_s)
        writer.transport.abort()

    async def close(self) -> None:
        """Nothing stays open between two requests."""

    # ---- the three transactions --------------------------------------------------------------------------------------

    async def _delete(self, submission: DmpSubmission, made: uuid.UUID) -> PeerReference:
        numbers = [one.unique_id for one in submission.documents]
        found = {entry.unique_id: entry for entry in await self._find(numbers)}
        if any(number not in found for number in numbers):
            raise PeerRefused(f"the DMP has no document to delete under this id ({UNKNOWN})", reason=UNKNOWN)
        alive = [entry for entry in found.values() if entry.status != DELETED]
        if not alive:
            return _reference(submission, HttpAnswer())
        body = iti57.request(
            submission, alive, unique_id=_oid(made), source_id=self._options.source_id, submitted=self._submitted()
        )
        answer, said = await self._ask_service("registry", iti57.ACTION, body)
        if not said.success:
            raise _refusal(said, answer)
        return _reference(submission, answer)

    async def _predecessors(self, submission: DmpSubmission) -> dict[str, str]:
        """entryUUID of what is replaced, by uniqueId."""
        replaced = [one.replaces for one in submission.documents if one.replaces]
        if not replaced:
            return {}
        found = {entry.unique_id: entry.entry_uuid for entry in await self._find(replaced)}
        if any(number not in found for number in replaced):
            raise PeerRefused(f"the DMP has no document to replace under this id ({UNKNOWN})", reason=UNKNOWN)
        return found

    async def _find(self, unique_ids: Sequence[str]) -> list[Entry]:
        answer, said = await self._ask_service("registry", iti18.ACTION, iti18.request(unique_ids))
        if not said.success:
            raise _refusal(said, answer)
        return iti18.entries(payload(_opened(answer)))

    # ---- one exchange ------------------------------------------------------------------------------------------------

    async def _ask_service(
        self, service: str, action: str, body: Element, parts: Sequence[Part] = ()
    ) -> tuple[HttpAnswer, Answered]:
        url, message_id = self._options.url + service, str(uuid.uuid4())
        written = envelope(body, action=action, to=url, message_id=message_id)
        if parts:
            sent, content_type = mtom.written(written, parts, action, f"uuid-{message_id}")
        else:
            sent, content_type = written, f'application/soap+xml; charset=UTF-8; action="{action}"'
        answer = await post(
            urlsplit(url),
            sent,
            content_type,
            context=self._context,
            connect_timeout_s=self._options.connect_timeout_s,
            answer_timeout_s=self._options.answer_timeout_s,
        )
        return answer, _said(answer)

    def _submitted(self) -> str:
        return self._now().strftime("%Y%m%d%H%M%S")


def _said(answer: HttpAnswer) -> Answered:
    """What an HTTP answer says.

    Raises:
        PeerUnavailable: the service is not for us: address, certificate.
        PeerBusy: not now. NoAnswer: it is not known what became of the request.
    """
    status = answer.status
    if status in _NOT_FOR_US:
        raise PeerUnavailable(f"the DMP answered HTTP {status}: address and certificate must be looked at")
    if status in _NOT_NOW:
        raise PeerBusy(f"the DMP answered HTTP {status}", answer=bytes(answer.body))
    try:
        said = answered(payload(_opened(answer)))
    except NoAnswer:
        said = None
    if said is not None:
        return said
    if 400 <= status < 500:
        raise PeerRefused(f"the DMP answered HTTP {status}", answer=bytes(answer.body), reason=f"HTTP{status}")
    raise NoAnswer(f"the DMP's answer cannot be read (HTTP {status})", answer=bytes(answer.body))


def _opened(answer: HttpAnswer) -> Element:
    try:
        root, _ = mtom.read(bytes(answer.body), answer.content_type)
        return opened(root)
    except (NotMultipart, NotReadable) as error:
        raise NoAnswer(f"the DMP's answer cannot be read ({error})", answer=bytes(answer.body)) from None


def _refusal(said: Answered, answer: HttpAnswer) -> PeerBusy | PeerRefused:
    body = bytes(answer.body)
    if said.code in BUSY or (said.is_fault and said.code == "Receiver"):
        return PeerBusy(f"the DMP cannot take it now ({said.code})", answer=body, reason=said.code)
    reason = said.code or "DMPError"
    return PeerRefused(f"the DMP refused it ({reason})", answer=body, reason=reason)


def _is_done(entry: Entry | None, document: DmpDocument, *, deletes: bool) -> bool:
    if entry is None:
        return False
    if deletes:
        return entry.status == DELETED
    return not entry.sha1 or entry.sha1 == document.content.sha1.hex()


def _reference(submission: DmpSubmission, answer: HttpAnswer) -> PeerReference:
    return PeerReference(" ".join(one.unique_id for one in submission.documents), bytes(answer.body))


def _oid(made: uuid.UUID) -> str:
    """The OID of a UUID.

    Standard: ITU-T X.667, arc 2.25.
    """
    return f"2.25.{made.int}"
