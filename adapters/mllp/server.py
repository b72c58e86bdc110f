"""The MLLP listener: a `Source` that hands every frame to the flow and writes its answers."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, cast

from adapters.mllp.connection import MllpConnection, OnRefused, peer_address
from adapters.mllp.inflight import InflightBudget
from adapters.mllp.options import MllpSourceOptions
from adapters.mllp.tls import certificate_names, server_context
from hub.model import log
from hub.model.ports import Receive
from hub.model.refusals import Misconfigured


class MllpSource:
    """One listener. `budget` is shared by all listeners of the process.

    `on_refused(origin, reason, head)` builds the answer to bytes that are no message (FrameTooLong, NoStartBlock,
    NoEndBlock, FrameTimeout), None for no answer; `head` is their beginning, at most 1 KiB.
    """

    def __init__(self, options: MllpSourceOptions, receive: Receive, *, on_refused: OnRefused | None = None,
                 budget: InflightBudget | None = None) -> None:
        """
        Raises:
            Misconfigured: `peers` holds something else than networks, or the TLS files do not serve.
        """
        self.name = options.name
        self.options = options
        self.receive = receive
        self.on_refused = on_refused
        self.budget = budget if budget is not None else InflightBudget()
        self.draining = False
        self._tls = server_context(options.tls) if options.tls is not None else None
        if options.tls_client_names and (self._tls is None or self._tls.verify_mode != ssl.CERT_REQUIRED):
            raise Misconfigured("", "tls_client_names", "needs tls_client_ca_file")
        self._client_names = {name.lower() for name in options.tls_client_names}
        self._peers = _networks(options.peers)
        self._server: asyncio.Server | None = None
        self._clock: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._connections: set[MllpConnection] = set()
        self._doors: set[_TlsDoor] = set()
        self._watched: set[MllpConnection] = set()
        self._to_write: list[MllpConnection] = []
        self._all_gone = asyncio.Event()
        self._sparingly = _Sparingly()

    @property
    def port(self) -> int:
        """The port it listens on, also when 0 was asked for."""
        if self._server is None or not self._server.sockets:
            return self.options.port
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not ours.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, self.options.host, self.options.port,
                                                backlog=self.options.backlog, reuse_address=True)
        self._clock = loop.create_task(self._watch_clock(), name=f"mllp {self.name}")
        log.event("mllp.listening", source=self.name, listen=f"{self.options.host}:{self.port}")

    async def drain(self, timeout_s: float) -> None:
        """Accept no connection and no frame more, write the answers owed, close; after `timeout_s` cut what is left."""
        if self._server is None:
            return
        self._server.close()
        self.draining = True
        self._all_gone.clear()
        for door in tuple(self._doors):
            door.abort()
        for connection in tuple(self._connections):
            connection.drain()
        if self._connections:
            try:
                await asyncio.wait_for(self._all_gone.wait(), timeout_s)
            except TimeoutError:
                log.event("mllp.drain_cut", level="warning", source=self.name, connections=len(self._connections))
        for connection in tuple(self._connections):
            connection.abort()
        if self._clock is not None:
            self._clock.cancel()
        await asyncio.sleep(0)           # aborted transports report connection_lost in the next iteration

    # ---- asked by connections ----------------------------------------------------------------------------------------

    def admit(self, connection: MllpConnection) -> bool:
        """Whether the connection may stay: peer, number of connections, certificate."""
        transport = connection.transport
        if self._tls is None:
            if not self.lets_in(transport):
                return False
        elif not self._name_allowed(transport):
            self.log_refused("ClientNameNotAllowed", transport)
            return False
        self._connections.add(connection)
        return True

    def lets_in(self, transport: asyncio.BaseTransport) -> bool:
        """Whether a connection may come in, before any of its bytes is read."""
        if self.draining:
            return False
        if self._peers and not self._peer_allowed(transport):
            self.log_refused("PeerNotAllowed", transport)
            return False
        if len(self._connections) + len(self._doors) >= self.options.max_connections:
            self.log_refused("TooManyConnections", transport)
            return False
        return True

    def forget(self, connection: MllpConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_gone.set()

    def write_soon(self, connection: MllpConnection) -> None:
        """Answers of all connections that became ready in one loop iteration are written together."""
        if not self._to_write:
            asyncio.get_running_loop().call_soon(self._write)
        self._to_write.append(connection)

    def watch(self, connection: MllpConnection) -> None:
        self._watched.add(connection)

    def unwatch(self, connection: MllpConnection) -> None:
        self._watched.discard(connection)

    def log_refused(self, reason: str, transport: asyncio.BaseTransport, code: str = "") -> None:
        """At most one line a second and reason; the next one says how many were left out."""
        left_out = self._sparingly.left_out(reason, asyncio.get_running_loop().time())
        if left_out is not None:
            log.event("mllp.refused", level="warning", source=self.name, peer=peer_address(transport), reason=reason, code=code,
                      count=left_out + 1, connections=len(self._connections))

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _accept(self) -> asyncio.Protocol:
        if self._tls is None:
            return MllpConnection(self, next(self._numbers))
        return _TlsDoor(self, self._tls)

    def new_connection(self) -> MllpConnection:
        return MllpConnection(self, next(self._numbers))

    def door_opened(self, door: _TlsDoor) -> None:
        self._doors.add(door)

    def door_closed(self, door: _TlsDoor) -> None:
        self._doors.discard(door)

    def _write(self) -> None:
        ready, self._to_write = self._to_write, []
        for connection in ready:
            connection.write()

    async def _watch_clock(self) -> None:
        """Look at connections that have a frame open or linger; at the idle ones only when `idle_timeout_s` is set."""
        options, loop = self.options, asyncio.get_running_loop()
        limits = [limit for limit in (options.frame_timeout_s, options.linger_s, options.idle_timeout_s) if limit > 0]
        tick_s = min(1.0, *(limit / 4 for limit in limits))
        while True:
            await asyncio.sleep(tick_s)
            now = loop.time()
            for connection in tuple(self._watched):
                connection.check(now)
            if options.idle_timeout_s:
                for connection in tuple(self._connections):
                    if now - connection.last_read_at > options.idle_timeout_s:
                        connection.refuse_idle()

    def _peer_allowed(self, transport: asyncio.BaseTransport) -> bool:
        address = _peer_ip(transport)
        return address is not None and any(address in network for network in self._peers)

    def _name_allowed(self, transport: asyncio.BaseTransport) -> bool:
        if not self._client_names:
            return True
        certificate: dict[str, Any] = transport.get_extra_info("peercert") or {}
        return not self._client_names.isdisjoint(certificate_names(certificate))


class _TlsDoor(asyncio.Protocol):
    """A connection before its TLS handshake: peer and number are checked on the bare socket, a failed handshake is logged."""

    def __init__(self, source: MllpSource, context: ssl.SSLContext) -> None:
        self._source = source
        self._context = context
        self._transport: asyncio.Transport | None = None
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._source.lets_in(transport):
            self._transport.abort()
            return
        self._transport.pause_reading()
        self._source.door_opened(self)
        self._handshake = asyncio.get_running_loop().create_task(self._shake_hands(self._transport))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        connection = self._source.new_connection()
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport, connection, self._context, server_side=True,
                ssl_handshake_timeout=self._source.options.tls_handshake_timeout_s)
        except (OSError, ssl.SSLError) as error:
            self._source.door_closed(self)
            self._source.log_refused("TlsHandshakeFailed", transport, code=_tls_code(error))
            transport.abort()
            return
        self._source.door_closed(self)
        if secured is not None:
            connection.connection_made(secured)


class _Sparingly:
    """One line a second for each reason."""

    def __init__(self) -> None:
        self._last_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def left_out(self, reason: str, now: float) -> int | None:
        """How many lines were left out since the last one; None when this one is left out too."""
        if now - self._last_at.get(reason, -1.0) < 1.0:
            self._left_out[reason] = self._left_out.get(reason, 0) + 1
            return None
        self._last_at[reason] = now
        return self._left_out.pop(reason, 0)


def _tls_code(error: Exception) -> str:
    return str(getattr(error, "reason", None) or type(error).__name__)


def _networks(peers: tuple[str, ...]) -> tuple[Any, ...]:
    try:
        return tuple(ip_network(peer, strict=False) for peer in peers)
    except ValueError as error:
        raise Misconfigured("", "peers", "expected networks such as 10.1.2.0/24") from error


def _peer_ip(transport: asyncio.BaseTransport) -> IPv4Address | IPv6Address | None:
    address = transport.get_extra_info("peername")
    if not isinstance(address, tuple):
        return None
    try:
        parsed = ip_address(str(address[0]).partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
