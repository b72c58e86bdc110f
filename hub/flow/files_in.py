"""Files as a source: claim, cut into messages, hand each in, wait for every answer, put the file aside.

A file is ended only when each of its messages is kept or refused. What was handed in before a crash is handed in again by
who takes the file next, and known again by its control id and bytes.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, BinaryIO

from hub.flow.files_seen import Settling, look
from hub.flow.meters import Meters
from hub.formats.er7 import acknowledgement, read
from hub.formats.er7.batch import BatchShape, batch_head, batch_tail, messages, shape_of
from hub.formats.er7.of_cda import er7_of_document
from hub.formats.er7.xml import looks_like_xml, xml_of_er7
from hub.model import log
from hub.model.crash_points import crash_point
from hub.model.ports import Answer, Claimed, FileUnusable, Inbox, Origin, Receive
from hub.model.refusals import MessageRefused, PeerUnavailable, Unreadable
from hub.model.site import Site

CONNECTION = "files"  # all files of a source are one connection: what they hold stays in their order
MESSAGES_AT_ONCE, BYTES_AT_ONCE = 64, 4 << 20
PIECE_BYTES = 256 << 10
SPOOL_BYTES = 1 << 20
PROGRESS_EVERY = 1000  # files


@dataclass(frozen=True, slots=True)
class FilesIn:
    """Settings of one source. `answers`: whether the sender gets acknowledgements as files."""

    name: str
    pattern: str = "*.hl7"
    settle_s: float = 2.0
    answers: bool = False
    max_file_bytes: int = 256 << 20
    max_message_bytes: int = 64 << 20


@dataclass(slots=True)
class _Taken:
    """A file in hand, and what became of it. `later`: a message was answered AR, so all of it is handed in again."""

    file: Claimed
    opened: BinaryIO
    bodies: Iterator[bytes]
    first: list[bytes] = field(default_factory=list)
    shape: BatchShape = field(default_factory=BatchShape)
    as_xml: bool = False
    answers: IO[bytes] = field(default_factory=lambda: tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES))  # noqa: SIM115
    messages: int = 0
    refused: int = 0
    answered: int = 0
    later: bool = False

    def add(self, answer: Answer) -> None:
        self.messages += 1
        self.later |= answer.code == "AR"
        self.refused += answer.code == "AE"
        if answer.body:
            self.answered += 1
            self.answers.write(xml_of_er7(read(answer.body)) if self.as_xml else answer.body)


@dataclass(frozen=True, slots=True)
class _Refused:
    """A file that cannot be cut into messages: none of it was handed in."""

    file: Claimed
    refusal: MessageRefused


class FileSource:
    """A `Source` that is polled: `poll` looks once and takes all that is ready."""

    def __init__(self, options: FilesIn, inbox: Inbox, receive: Receive, site: Site, meters: Meters, *, poll_s: float) -> None:
        self.name, self.poll_s = options.name, poll_s
        self._options, self._inbox, self._receive, self._site = options, inbox, receive, site
        self._meters = meters
        self._origin = Origin(options.name, CONNECTION, inbox.peer)
        self._settling = Settling(options.settle_s)
        self._numbers = itertools.count(1)
        self._poll: asyncio.Task[None] | None = None
        self._stopping = False
        self._down = ""  # why it cannot be looked into, as it was told
        self._left = (0, 0)
        self._ended = 0

    async def start(self) -> None:
        """Make the folders of our own, where that goes already; a place that is away is tried again by each poll."""
        await self._reached(self._inbox.prepare)

    async def poll(self, may_go_on: Callable[[], bool] = lambda: True) -> None:
        """Take every file that is ready, in the order of their names; asks `may_go_on` before each.

        One poll at a time; who is cancelled leaves it running, and `drain` waits for it. What fails is in the log.
        """
        if self._poll is None and not self._stopping:
            self._poll = asyncio.create_task(self._all(may_go_on), name=f"poll {self.name}")
            self._poll.add_done_callback(self._polled)
        if self._poll is not None:
            await asyncio.wait({self._poll})

    async def drain(self, timeout_s: float) -> None:
        """End the file in hand, take no other. One that takes longer than `timeout_s` is left for the next start."""
        self._stopping = True
        if self._poll is not None:
            done, _ = await asyncio.wait({self._poll}, timeout=timeout_s)
            if not done:
                log.event("files.drain_cut", level="warning", source=self.name)
                self._poll.cancel()
        await asyncio.to_thread(self._inbox.close)

    # ---- one poll ----------------------------------------------------------------------------------------------------

    def _polled(self, task: asyncio.Task[None]) -> None:
        self._poll = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.event("files.poll_failed", level="error", source=self.name, error=type(error).__name__)

    async def _all(self, may_go_on: Callable[[], bool]) -> None:
        if not await self._reached(self._inbox.prepare):
            return
        try:
            for file in await asyncio.to_thread(self._inbox.claimed):  # before others: their names came first
                if self._stopping or not may_go_on() or not await self._take(file):
                    return
            more = True
            while more:
                seen = await asyncio.to_thread(lambda: look(self._inbox.entries(self._options.settle_s), self._options.pattern))
                self._tell_left(seen.left)
                ready = self._settling.ready(seen, time.monotonic())
                more = seen.more and bool(ready)
                for entry in ready:
                    if self._stopping or not may_go_on() or not await self._take(entry.name):
                        return
        except PeerUnavailable as error:
            self._tell_down(error.sentence)

    async def _reached(self, deed: Callable[[], object]) -> bool:
        try:
            await asyncio.to_thread(deed)
        except PeerUnavailable as error:
            self._tell_down(error.sentence)
            return False
        if self._down:
            log.event("files.reached", source=self.name)
        self._down = ""
        self._meters.source_down.labels(self.name).set(0)
        return True

    def _tell_down(self, why: str) -> None:
        if why != self._down:
            log.event("files.unreachable", level="warning", source=self.name, reason=why)
        self._down = why
        self._meters.source_down.labels(self.name).set(1)

    def _tell_left(self, left: tuple[int, int]) -> None:
        if left != self._left and any(left):
            for reason, count in zip(("odd name or no plain file", "empty"), left, strict=True):
                if count:
                    log.event("files.left_alone", level="warning", source=self.name, reason=reason, count=count)
        self._left = left

    # ---- one file ----------------------------------------------------------------------------------------------------

    async def _take(self, file: str | Claimed) -> bool:
        """Claim and end one file; False when the others have to wait, since a message of it is to come again."""
        begun = await asyncio.to_thread(self._begin, file)
        if begun is None:
            return True
        if isinstance(begun, _Refused):
            await asyncio.to_thread(self._put_aside, begun)
        else:
            with begun.opened, begun.answers:
                await self._hand_in(begun)
                if begun.later:
                    log.event("files.later", level="warning", source=self.name, count=begun.messages)
                    return False
                crash_point("before-file-end")
                await asyncio.to_thread(self._end, begun)
        self._ended += 1
        if self._ended % PROGRESS_EVERY == 0:
            log.event("files.progress", source=self.name, count=self._ended)
        return True

    def _begin(self, file: str | Claimed) -> _Taken | _Refused | None:
        """Make a file ours and cut its first messages, all in one thread; None when it is gone."""
        claimed = self._inbox.claim(file)
        if claimed is None:
            return None
        try:
            opened = self._inbox.read(claimed, self._options.max_file_bytes)
        except FileUnusable as unusable:
            return _Refused(claimed, Unreadable(at="MSH", sentence=unusable.sentence))
        try:
            taken = _Taken(claimed, opened, self._cut(opened))
            taken.shape, taken.as_xml = self._shape(opened), looks_like_xml(_head(opened))
            taken.first = _some_of(taken.bodies)
        except MessageRefused as refusal:
            opened.close()
            return _Refused(claimed, refusal)
        except BaseException:
            opened.close()
            raise
        return taken

    def _shape(self, opened: BinaryIO) -> BatchShape:
        """What a file holds, looked through before anything of it is handed in."""
        if looks_like_xml(_head(opened)):
            return BatchShape(messages=1)
        return shape_of(_pieces(opened), max_message_bytes=self._options.max_message_bytes)

    def _cut(self, opened: BinaryIO) -> Iterator[bytes]:
        if looks_like_xml(_head(opened)):
            yield self._from_xml(opened)
        else:
            yield from messages(_pieces(opened), max_message_bytes=self._options.max_message_bytes)

    async def _hand_in(self, taken: _Taken) -> None:
        """Every message of a file to the hub, in order, up to one that is to come again."""
        for finding in taken.shape.findings:
            log.event("files.finding", level="warning", source=self.name, code=finding.code, at=finding.at)
        if taken.shape.is_batch:
            taken.answers.write(batch_head(site=self._site, at=datetime.now(UTC), control_id=f"F{next(self._numbers)}"))
        some = taken.first
        while some and not taken.later:
            for answer in await asyncio.gather(*(self._ask(body) for body in some)):
                taken.add(answer)
            if taken.messages == taken.shape.messages:
                break
            some = await asyncio.to_thread(_some_of, taken.bodies)
        if taken.shape.is_batch:
            taken.answers.write(batch_tail(taken.answered))

    def _from_xml(self, opened: BinaryIO) -> bytes:
        opened.seek(0)
        return er7_of_document(opened.read(), max_bytes=self._options.max_message_bytes)

    def _ask(self, body: bytes) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._receive(body, self._origin, lambda answer: None if future.done() else future.set_result(answer))
        return future

    def _end(self, taken: _Taken) -> None:
        taken.answers.seek(0)
        said = taken.answers.read() if taken.answered and (taken.refused or self._options.answers) else b""
        if said and self._options.answers:
            self._inbox.answer(taken.file, said)
        if taken.refused:
            log.event("files.refused", level="warning", source=self.name, count=taken.refused, reason="messages refused")
        self._inbox.end(taken.file, failed=bool(taken.refused), acknowledgement=said)
        self._meters.files.labels(self.name, "failed" if taken.refused else "done").inc()

    def _put_aside(self, refused: _Refused) -> None:
        """A file that holds nothing to hand in."""
        refusal, control_id = refused.refusal, f"F{next(self._numbers)}"
        log.event("files.refused", level="warning", source=self.name, at=refusal.at, reason=refusal.code)
        said = acknowledgement(None, code="AE", control_id=control_id, at=datetime.now(UTC), site=self._site, refusal=refusal)
        if self._options.answers:
            self._inbox.answer(refused.file, said)
        self._inbox.end(refused.file, failed=True, acknowledgement=said)
        self._meters.files.labels(self.name, "failed").inc()


def _head(opened: BinaryIO) -> bytes:
    opened.seek(0)
    return opened.read(64)


def _pieces(opened: BinaryIO) -> Iterator[bytes]:
    opened.seek(0)
    while piece := opened.read(PIECE_BYTES):
        yield piece


def _some_of(bodies: Iterator[bytes]) -> list[bytes]:
    """The next messages, as many as are handed in before their answers are waited for."""
    some, size = [], 0
    for body in bodies:
        some.append(body)
        size += len(body)
        if len(some) == MESSAGES_AT_ONCE or size >= BYTES_AT_ONCE:
            break
    return some
