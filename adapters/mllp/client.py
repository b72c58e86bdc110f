"""The MLLP client: a `Destination` over a few lasting connections."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque

from adapters.mllp.accept import error_code
from adapters.mllp.link import MllpLink
from adapters.mllp.msa import msh_10
from adapters.mllp.options import MllpDestinationOptions
from adapters.mllp.tls import client_context
from hub.model.ports import PeerReference
from hub.model.refusals import PeerRefused, PeerUnavailable


class MllpDestination:
    """One receiver. Connections are made when a message needs them, and made again after they broke.

    A control id is in flight once at most: a second message that carries it waits for the answer to the first.
    """

    def __init__(self, options: MllpDestinationOptions) -> None:
        """
        Raises:
            Misconfigured: the TLS files do not serve.
        """
        self.name = options.name
        self.in_flight = options.in_flight * options.connections
        self._options = options
        self._tls = client_context(options.tls) if options.tls is not None else None
        self._links: list[MllpLink | None] = [None] * options.connections
        self._connecting: dict[int, asyncio.Task[None]] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False

    async def send(self, body: bytes, *, delivery_id: int, control_id: str) -> PeerReference:
        """What the receiver answered: AA or CA. `body` is sent as it stands, `control_id` is used when it has no MSH-10.

        Raises:
            PeerUnavailable: no connection; nothing left.
            NoAnswer: the bytes left, and no usable answer came within `ack_timeout_s`.
            PeerBusy: AR or CR.
            PeerRefused: AE or CE, or the message has no control id that an answer could name.
        Standard: HL7 v2.5.1 §2.9.2, message acknowledgement.
        """
        key = msh_10(body) or control_id.encode()
        if not key and not self._options.lenient_msa:
            raise PeerRefused("MSH-10: empty, its answer could not be recognised")
        while True:
            link = await self._link_for(key)
            if link is not None:
                return await link.send(body, key)
            await self._wait_for_room()

    async def probe(self) -> None:
        """Connect, send nothing; the connection serves the next message.

        Raises:
            PeerUnavailable: the receiver does not take connections.
        """
        await self._connected(0)

    async def close(self) -> None:
        """End every connection; what is in flight raises NoAnswer."""
        self._closed = True
        for task in tuple(self._connecting.values()):
            task.cancel()
        for link in self._links:
            if link is not None:
                link.close("closed by the hub")
        self._room()
        await asyncio.sleep(0)

    async def _link_for(self, key: bytes) -> MllpLink | None:
        """A connected link with room, None when all are full or `key` is in flight."""
        if self._closed:
            raise PeerUnavailable("destination closed")
        best, least = -1, self._options.in_flight
        for place, link in enumerate(self._links):
            if link is None or not link.usable:
                load = 0
            elif link.holds(key):
                return None
            elif self._has_room(link, key):
                load = link.in_flight
            else:
                continue
            if load < least:
                best, least = place, load
        if best < 0:
            return None
        link = self._links[best]
        if link is not None and link.usable:
            return link
        await self._connected(best)
        link = self._links[best]
        if link is None or not link.usable:
            raise PeerUnavailable("connection ended at once")
        return link if self._has_room(link, key) else None  # others may have filled it meanwhile

    def _has_room(self, link: MllpLink, key: bytes) -> bool:
        """A message that no answer can name travels alone."""
        if not key or link.holds(b""):
            return link.in_flight == 0
        return link.in_flight < self._options.in_flight and not any(
            other is not None and other.usable and other.holds(key) for other in self._links
        )

    async def _connected(self, place: int) -> None:
        link = self._links[place]
        if link is not None and link.usable:
            return
        task = self._connecting.get(place)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._connect(place))
            self._connecting[place] = task
            task.add_done_callback(lambda done: self._connect_ended(place, done))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise PeerUnavailable("destination closed") from None
            raise

    async def _connect(self, place: int) -> None:
        options = self._options
        try:
            async with asyncio.timeout(options.connect_timeout_s):
                _, link = await asyncio.get_running_loop().create_connection(
                    lambda: MllpLink(options, self._room),
                    options.host,
                    options.port,
                    ssl=self._tls,
                    server_hostname=self._server_hostname(),
                )
        except (OSError, ssl.SSLError) as error:
            raise PeerUnavailable(f"no connection: {error_code(error)}") from error
        self._links[place] = link
        if self._closed:
            link.close("closed by the hub")

    def _connect_ended(self, place: int, task: asyncio.Task[None]) -> None:
        self._connecting.pop(place, None)
        if not task.cancelled():
            task.exception()  # seen, even when every sender that waited for it was cancelled

    def _server_hostname(self) -> str | None:
        tls = self._options.tls
        return None if tls is None else tls.server_hostname or self._options.host

    async def _wait_for_room(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _room(self) -> None:
        """Somebody's answer came, or a connection ended: those who wait look again."""
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
