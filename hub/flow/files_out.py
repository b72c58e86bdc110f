"""Files as a destination: one message a file, or batches. A file's name is its delivery's number and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hub.formats.er7.batch import write_batch
from hub.model.ports import Outbox, PeerReference
from hub.model.refusals import DeliveryFailed, NoAnswer, PeerUnavailable
from hub.model.site import Site
from hub.model.uids import uid_text

SUFFIX = ".hl7"


@dataclass(slots=True)
class _File:
    """What is written under one name: the deliveries of it, who waits, and whether a try ended without answer."""

    name: str
    ids: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    waiting: dict[int, asyncio.Future[PeerReference]] = field(default_factory=dict)
    written: bytes = b""
    unsure: bool = False
    there: bool = False
    under_way: asyncio.Task[None] | None = None


class FileDestination:
    """A `Destination`. With `batch_size` over 1 deliveries under way at once, of different patients, share a file: it is
    written when it is full, or `batch_wait_s` after its first message.

    A delivery that ended with NoAnswer is asked about before it is written again: the file of its name, or of its batch.
    """

    def __init__(
        self, name: str, outbox: Outbox, site: Site, *, threads: int = 1, batch_size: int = 1, batch_wait_s: float = 1.0
    ) -> None:
        self.name = name
        self.in_flight = max(threads, batch_size)
        self._outbox, self._site = outbox, site
        self._batch_size, self._batch_wait_s = batch_size, batch_wait_s
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"files {name}")
        self._open: _File | None = None
        self._doubtful: dict[int, _File] = {}
        self._closed = False

    async def send(self, body: bytes, *, delivery_id: int, control_id: str) -> PeerReference:
        """The name of the file, once it is there whole.

        Raises:
            PeerUnavailable: nothing appeared. NoAnswer: it may have. PeerRefused: another file has its name.
        """
        if self._closed:
            raise PeerUnavailable("destination closed")
        file = self._doubtful.get(delivery_id)
        if file is None:
            file = self._next(delivery_id, body)
        elif file.there:  # another delivery of its batch asked first
            del self._doubtful[delivery_id]
            return PeerReference(external_ref=file.name)
        future: asyncio.Future[PeerReference] = asyncio.get_running_loop().create_future()
        file.waiting[delivery_id] = future
        if file.unsure or len(file.ids) >= self._batch_size:
            self._write(file)
        return await future

    async def probe(self) -> None:
        """
        Raises:
            PeerUnavailable.
        """
        await self._threaded(self._outbox.probe)

    async def close(self) -> None:
        """Write what waits for its batch, end the connection."""
        if self._open is not None:
            self._write(self._open)
            if self._open is not None and self._open.under_way is not None:
                await asyncio.wait({self._open.under_way})
        self._closed = True
        await asyncio.to_thread(self._outbox.close)
        self._pool.shutdown(wait=False, cancel_futures=True)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _next(self, delivery_id: int, body: bytes) -> _File:
        """The file that a delivery goes into."""
        if self._open is None:
            self._open = _File(f"{uid_text(delivery_id)}{SUFFIX}")
            if self._batch_size > 1:
                asyncio.get_running_loop().call_later(self._batch_wait_s, self._write, self._open)
        file = self._open
        file.ids.append(delivery_id)
        file.bodies.append(body)
        if len(file.ids) >= self._batch_size:
            self._open = None
        return file

    def _write(self, file: _File) -> None:
        if file.under_way is not None:
            return
        if self._open is file:
            self._open = None
        if not file.unsure and all(future.done() for future in file.waiting.values()):
            return  # nobody waits any more
        file.under_way = asyncio.create_task(self._written(file))

    async def _written(self, file: _File) -> None:
        if not file.written:
            file.written = file.bodies[0] if self._batch_size == 1 else self._as_batch(file)
        failure: DeliveryFailed | None = None
        try:
            await self._threaded(lambda: self._outbox.put(file.name, file.written, unsure=file.unsure))
        except DeliveryFailed as error:
            failure = error
        except Exception as error:
            failure = PeerUnavailable(f"could not be written ({type(error).__name__})")
        self._remember(file, failure)
        waiting, file.waiting, file.under_way = file.waiting, {}, None
        for future in waiting.values():
            if future.done():
                continue
            if failure is None:
                future.set_result(PeerReference(external_ref=file.name))
            else:
                future.set_exception(type(failure)(failure.sentence))

    def _remember(self, file: _File, failure: DeliveryFailed | None) -> None:
        """While nobody knows whether a file is there, each of its deliveries asks for it by its name."""
        file.unsure = file.unsure or isinstance(failure, NoAnswer)
        file.there = failure is None
        if not file.unsure:
            return
        known = failure is not None and not isinstance(failure, NoAnswer | PeerUnavailable)
        for one in file.ids:
            if known or (file.there and one in file.waiting):
                self._doubtful.pop(one, None)
            elif not file.there or one in self._doubtful:
                self._doubtful[one] = file

    def _as_batch(self, file: _File) -> bytes:
        control_id = uid_text(file.ids[0]).replace("-", "")[:20]
        return write_batch(file.bodies, site=self._site, at=datetime.now(UTC), control_id=control_id)

    async def _threaded(self, deed: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, deed)
