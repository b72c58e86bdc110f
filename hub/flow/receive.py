"""First station: judge a message by itself, keep it, and only then answer.

Nothing is looked up and nothing is translated before the answer, but for documents of flow 6, whose answer must say what the
record holds. Messages of one connection are kept in the order in which they came, also when one of them is large or asks the
record, and takes longer to judge.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from hub.flow.consumer import ask_record
from hub.flow.meters import Meters
from hub.flow.recent import Recent
from hub.flow.rules import Ruled, Rules
from hub.flow.shards import shard_of
from hub.formats.er7 import Message, acknowledgement, read
from hub.ledger.messages import INLINE_BYTES, Kept, NewMessage, keep, mark_acks
from hub.ledger.routing import Unrouted
from hub.model import log
from hub.model.consumer import ConsumerQuestion
from hub.model.ports import Answer, Origin
from hub.model.refusals import MessageRefused, Unavailable, Unreadable
from hub.model.states import AckEvent
from hub.store import Store, StoreUnavailable, Transaction

ASIDE_BYTES = 64 << 10  # larger messages are judged in a thread, so that nobody waits behind them
PRESSED_BY = 8  # answers owed at once

Reply = Callable[[Answer], None]
Judged = tuple[Message | None, NewMessage, ConsumerQuestion | None]


class Receiver(Ruled):
    """Takes whole messages from all sources (`receive` is a `hub.model.ports.Receive`)."""

    def __init__(
        self, *, store: Store, rules: Rules, recent: Recent, meters: Meters, on_kept: Callable[[Unrouted], None]
    ) -> None:
        self.rules = rules
        self._store, self._recent, self._meters, self._on_kept = store, recent, meters, on_kept
        self._keep = store.bulk(self._keep_all, urgent=True)
        self._ack_marks = store.bulk(mark_acks)
        self._behind: dict[tuple[str, str], deque[tuple[bytes, Origin, Reply, float, Judged | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._owed = self._submitted = self._answered = 0
        self.draining = False

    def receive(self, body: bytes, origin: Origin, reply: Reply) -> None:
        """Judge, keep, answer. `reply` is called once, when the message is durable or refused."""
        began = time.perf_counter()
        self._owed += 1
        line = self._behind.get((origin.source, origin.connection))
        if line is not None:
            line.append((body, origin, reply, began, None))
        elif len(body) > ASIDE_BYTES:
            self._step_aside(body, origin, reply, began, None)
        else:
            judged = message, new, question = self._judge(body, origin)
            if question is None:
                self._submit(message, new, reply, began)
            else:
                self._step_aside(body, origin, reply, began, judged)

    async def submit(self, body: bytes, origin: Origin) -> Answer:
        """The same for callers that wait (HTTP)."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.receive(body, origin, lambda answer: None if future.done() else future.set_result(answer))
        return await future

    @property
    def pressed(self) -> bool:
        """Whether so many senders wait that everything else should step back."""
        return self._owed >= PRESSED_BY

    async def drained(self) -> None:
        """Return when every message taken so far is answered."""
        while self._owed:  # noqa: ASYNC110 - asked once, at the stop; an event would cost every message
            await asyncio.sleep(0.005)

    # ---- one message -----------------------------------------------------------------------------------------------

    def _step_aside(self, body: bytes, origin: Origin, reply: Reply, began: float, judged: Judged | None) -> None:
        """Open a line for this connection: what comes meanwhile waits behind."""
        self._behind[origin.source, origin.connection] = deque([(body, origin, reply, began, judged)])
        task = asyncio.create_task(self._take_turns(origin))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take_turns(self, origin: Origin) -> None:
        key = (origin.source, origin.connection)
        line = self._behind[key]
        while line:
            body, origin, reply, began, judged = line[0]
            if judged is None:
                judged = await asyncio.to_thread(self._judge, body, origin)
            message, new, question = judged
            try:
                if question is not None:
                    new.refusal = await self._ask_record(question, new, origin)
                if new.in_file:
                    await self._store.put_blob(new.sha256, body)
                self._submit(message, new, reply, began)
            except StoreUnavailable as error:
                self._submitted += 1
                self._answer(message, new, error, reply, began)
            line.popleft()
        del self._behind[key]

    async def _ask_record(self, question: ConsumerQuestion, new: NewMessage, origin: Origin) -> MessageRefused | None:
        submitted = self._submitted
        while self._answered < submitted:  # noqa: ASYNC110 - what came before is not even kept yet
            await asyncio.sleep(0.001)
        spec = self._graph.sources.get(origin.source)
        must_know = spec is not None and spec.unknown_patient == "refuse"
        return await ask_record(self._store, question, origin, before=new.id, must_know=must_know)

    def _judge(self, body: bytes, origin: Origin) -> Judged:
        site = self._sites.get(origin.source, self._site)
        spec = self._graph.sources.get(origin.source)
        message: Message | None = None
        question: ConsumerQuestion | None = None
        new = NewMessage(
            self._store.next_id(),
            origin.source,
            origin.connection,
            "",
            "",
            "",
            site.default_charset,
            body,
            hashlib.sha256(body).digest(),
            self._store.now_us(),
            in_file=len(body) > INLINE_BYTES,
            strict_control_id=spec.strict_control_id if spec else False,
        )
        try:
            message = read(body, site.default_charset)
            new.type, new.control_id, new.sending_app = message.type[:64], message.control_id[:200], message.sending_app[:200]
            new.charset, new.ack_owed = message.charset, _owes_answer(message)
            if self._store.shared:
                new.shard = shard_of(message, origin.source, origin.connection)
            if self.draining:
                raise Unavailable(at="MSH", sentence="the hub is stopping: send again in a moment")
            new.findings = tuple(self._registry.admit(message, site))
            structure = self._registry.find(message)
            if structure is not None:
                structure.judge(message, site)
                question = structure.question(message, site)
                if question is not None and not self._graph.files(origin.source, message):
                    question = None  # another software is the one that integrates it
        except MessageRefused as refusal:
            new.refusal = refusal
        except Exception as error:
            log.event("receive.failed", level="error", source=origin.source, error=type(error).__name__)
            new.refusal = Unreadable(at="MSH", sentence="the hub could not judge this message: it is kept for its operators")
        return message, new, question

    def _submit(self, message: Message | None, new: NewMessage, reply: Reply, began: float) -> None:
        self._submitted += 1
        self._keep.submit(new, lambda result: self._answer(message, new, result, reply, began))

    def _keep_all(self, tx: Transaction, items: Sequence[NewMessage]) -> list[Kept]:
        return keep(tx, items, dedupe_since=self._store.now_us() - int(self.rules.dedupe_window_s * 1e6))

    def _answer(self, message: Message | None, new: NewMessage, result: Kept | BaseException, reply: Reply, began: float) -> None:
        self._owed -= 1
        self._answered += 1
        if isinstance(result, Kept):
            refusal, kept, again = result.refusal, True, result.again
            message_id = result.message_id
            if refusal is None and not again and message is not None:
                self._recent.put(message_id, message)
                self._on_kept(Unrouted(message_id, new.source, new.connection, new.charset, new.in_file, new.sha256, new.shard))
        else:
            refusal, kept, again, message_id = (
                Unavailable(at="MSH", sentence="the hub cannot store messages now: send again later"),
                False,
                False,
                0,
            )
            if not isinstance(result, StoreUnavailable):
                log.event("receive.not_kept", level="error", source=new.source, error=type(result).__name__)
        body = self._acknowledge(message, refusal)
        if kept and (again or refusal is not None):
            self._ack_marks.submit((message_id, AckEvent.SEND), _ignore)
        answer = "AA" if refusal is None else refusal.ack_code
        self._meters.answered(new.source, new.type, answer, time.perf_counter() - began)
        if refusal is not None:
            log.event(
                "message.refused",
                source=new.source,
                message_id=message_id,
                ack=answer,
                condition=refusal.condition,
                at=refusal.at,
                reason=refusal.code,
                size=len(new.body),
            )
        lost = (lambda: self._ack_marks.submit((message_id, AckEvent.LOSE), _ignore)) if kept else None
        reply(Answer(body, lost=lost, code=answer))

    def _acknowledge(self, message: Message | None, refusal: MessageRefused | None) -> bytes:
        code = "AA" if refusal is None else refusal.ack_code
        if message is not None:
            if not _owes_answer(message):
                return b""
            wanted = _accept_mode(message)
            if (wanted == "ER" and code == "AA") or (wanted == "SU" and code != "AA"):
                return b""
            code = "C" + code[1] if wanted else code
        return acknowledgement(
            message, code=code, control_id=f"{self._store.next_id():016X}", at=datetime.now(UTC), site=self._site, refusal=refusal
        )


def _accept_mode(message: Message) -> str:
    """MSH-15 in enhanced mode, empty in original mode; the French document profiles are always in original mode.

    Standard: HL7 v2.5.1 §2.9.2, §2.9.3.
    """
    mode = message.header(15)
    if not mode or any(profile.partition("^")[2].startswith("CISIS") for profile in message.profiles):
        return ""
    return mode.strip().decode("ascii", "replace")


def _owes_answer(message: Message) -> bool:
    """Whether the sender wants any answer: not to an acknowledgement, not when MSH-15 says never."""
    return not message.type.startswith("ACK") and _accept_mode(message) != "NE"


def _ignore(_result: object) -> None:
    """Nobody waits for this."""
