"""What a delivery carries: the kept bytes, or a site's rewriting of them, to an application; or a translation to the record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from hub.flow.graph import DestinationSpec
from hub.flow.ports import Registry, is_heavy
from hub.flow.recent import Recent
from hub.flow.rules import Ruled, Rules
from hub.flow.workshop import Workshop
from hub.formats.er7 import WHOLE, Message, read
from hub.ledger.deliveries import Head
from hub.ledger.messages import add_findings, body_of
from hub.model.ports import CanBeAsked, Destination, PeerReference
from hub.model.record_change import RecordChange
from hub.model.refusals import HubError, PeerRefused, TranslationFailed
from hub.model.site import Site
from hub.record.apply import apply
from hub.store import Store, Transaction


class NotOurs(HubError):
    """The lease ended before anything was sent."""

    code = "NotOurs"


After = Callable[[Transaction], str]
"""What is filed behind the end of a delivery, in its transaction: a receipt. Gives the destination to wake, or nothing."""


@dataclass(frozen=True, slots=True)
class Cargo:
    """What came back from one carried delivery."""

    reference: PeerReference = field(default_factory=PeerReference)
    also: Callable[[Transaction], None] | None = None
    after: After | None = None


class SaidNo(PeerRefused):
    """The peer refused for good, and `after` files what it said."""

    def __init__(self, refused: PeerRefused, after: After) -> None:
        super().__init__(refused.sentence, answer=refused.answer, reason=refused.reason)
        self.after = after


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a mapping worker. `kind` is `translate` (a structure's name) or `rewrite` (a rewriting's name)."""

    kind: str
    name: str
    raw: bytes
    site: Site


class KeptMessages(Ruled):
    """Kept messages by delivery, with the site of their source; and by what rules carriers work."""

    def __init__(self, store: Store, rules: Rules, recent: Recent) -> None:
        self._store, self.rules, self._recent = store, rules, recent

    async def of(self, head: Head) -> Message:
        """The message of a delivery.

        Raises:
            BlobDamaged.
        """
        message = self._recent.get(head.message_id)
        if message is None:
            raw = await self._store.read(lambda tx: body_of(tx, head.message_id))
            message = read(raw, head.charset)
        return message

    def done_with(self, head: Head, message: Message) -> None:
        """The message of a delivery was used."""
        self._recent.done_with(head.message_id, message)

    def site(self, source: str) -> Site:
        return self._sites.get(source, self._site)


class ApplicationCarrier:
    """To another application, through its adapter."""

    def __init__(self, spec: DestinationSpec, destination: Destination, messages: KeptMessages, workshop: Workshop) -> None:
        self._spec, self._destination, self._messages, self._workshop = spec, destination, messages, workshop
        self.in_flight = destination.in_flight

    async def carry(self, head: Head, may_send: Callable[[], bool]) -> Cargo:
        message = await self._messages.of(head)
        body = message.raw
        if head.mapping:
            if head.mapping not in self._messages.rules.registry.rewrites:
                raise TranslationFailed("the mapping that the route names is not installed")
            body = await self._workshop.do(Task("rewrite", head.mapping, body, self._messages.site(head.source)))
        if self._spec.line_ends == "cr":
            body = with_cr(body)
        if not may_send():
            raise NotOurs("the lease ended before anything was sent")
        if head.unsure and self._spec.on_unsure == "ask":
            peer = cast(CanBeAsked, self._destination)
            there = await peer.ask(body, delivery_id=head.id, control_id=head.control_id)
            if there is not None:
                return Cargo(there)
            if not may_send():
                raise NotOurs("the lease ended while the peer was asked")
        return Cargo(await self._destination.send(body, delivery_id=head.id, control_id=head.control_id))

    async def probe(self) -> None:
        await self._destination.probe()


class RecordCarrier:
    """To the patient record: translate, and change the record in the transaction that marks the delivery done."""

    in_flight = 16

    def __init__(self, messages: KeptMessages, workshop: Workshop, store: Store) -> None:
        self._messages, self._workshop, self._store = messages, workshop, store

    async def carry(self, head: Head, _may_send: Callable[[], bool]) -> Cargo:
        """What it changes is fenced by the mark, in the same transaction."""
        message = await self._messages.of(head)
        structure = self._messages.rules.registry.find(message)
        if structure is None:
            raise TranslationFailed("no translation reads this message any more")
        site = self._messages.site(head.source)
        try:
            if is_heavy(structure, message):
                change: RecordChange = await self._workshop.do(Task("translate", structure.name, message.raw, site))
            else:
                change = structure.translate(message, site)
        except TranslationFailed:
            raise
        except HubError as error:
            raise TranslationFailed(f"{error.code} while translating") from None
        except Exception as error:
            raise TranslationFailed(f"the mapping raised {type(error).__name__}") from None
        finally:
            self._messages.done_with(head, message)
        return Cargo(also=lambda tx: self._apply(tx, head, change))

    async def probe(self) -> None:
        """The record is always there."""

    def _apply(self, tx: Transaction, head: Head, change: RecordChange) -> None:
        row = tx.row("SELECT patient_id FROM message WHERE id = ?", head.message_id)
        patient_id = row[0] if row is not None else None
        applied = apply(
            tx,
            change,
            patient_id=patient_id,
            message_id=head.message_id,
            source=head.source,
            next_id=self._store.next_id,
            now_us=self._store.now_us(),
        )
        add_findings(tx, head.message_id, applied.findings)


def with_cr(body: bytes) -> bytes:
    """The message with CR between segments; one that has CR already is left as it is."""
    lf, cr = body.find(b"\n"), body.find(b"\r")
    if lf < 0 or (0 <= cr < lf and body[cr + 1 : cr + 2] != b"\n"):
        return body
    return body.replace(b"\r\n", b"\r") if 0 <= cr < lf else body.replace(b"\n", b"\r")


def work(registry: Registry) -> Callable[[Any], Any]:
    """What a worker does with a task, given its registry."""

    def run(task: Task) -> Any:
        message = read(task.raw, task.site.default_charset)
        if task.kind == "rewrite":
            return bytes(registry.rewrites[task.name](message, task.site))
        message.views[WHOLE] = True
        structure = registry.find(message)
        if structure is None:
            raise TranslationFailed("no translation reads this message any more")
        return structure.translate(message, task.site)

    return run
