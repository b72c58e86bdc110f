"""The MLLP listener: a `Source` that hands every frame to the flow and writes its answers."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from adapters.mllp.accept import Doors
from adapters.mllp.connection import MllpConnection, OnRefused
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

    def __init__(
        self,
        options: MllpSourceOptions,
        receive: Receive,
        *,
        on_refused: OnRefused | None = None,
        budget: InflightBudget | None = None,
    ) -> None:
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
        self._doors = Doors(
            backlog=options.backlog,
            tls=self._tls,
            handshake_timeout_s=options.tls_handshake_timeout_s,
            lets_in=self._lets_in,
            make=self._connection,
            refused=self._log_refused,
            reuse_port=options.reuse_port,
        )
        self._clock: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._connections: set[MllpConnection] = set()
        self._watched: set[MllpConnection] = set()
        self._to_write: list[MllpConnection] = []
        self._all_gone = asyncio.Event()
        self._sparingly = _Sparingly()

    @property
    def port(self) -> int:
        """The port it listens on, also when 0 was asked for."""
        return self._doors.port or self.options.port

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not ours.
        """
        await self._doors.open(self.options.host, self.options.port)
        self._clock = asyncio.get_running_loop().create_task(self._watch_clock(), name=f"mllp {self.name}")
        log.event("mllp.listening", source=self.name, listen=f"{self.options.host}:{self.port}")

    async def drain(self, timeout_s: float) -> None:
        """Accept no connection and no frame more, write the answers owed, close; after `timeout_s` cut what is left."""
        self.draining = True
        self._doors.close()
        self._all_gone.clear()
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
        await asyncio.sleep(0)  # aborted transports report connection_lost in the next iteration

    # ---- asked by connections ----------------------------------------------------------------------------------------

    def admit(self, connection: MllpConnection) -> bool:
        """Whether a connection that came in (after its handshake) may stay."""
        self._doors.entered(connection)
        if self.draining:
            return False
        if self._client_names and not self._name_allowed(connection.transport):
            self._log_refused("ClientNameNotAllowed", connection.origin.peer)
            return False
        self._connections.add(connection)
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

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _connection(self) -> MllpConnection:
        return MllpConnection(self, next(self._numbers))

    def _lets_in(self, peer: str) -> bool:
        if self._peers and not self._peer_allowed(peer):
            self._log_refused("PeerNotAllowed", peer)
            return False
        if len(self._connections) + self._doors.entering >= self.options.max_connections:
            self._log_refused("TooManyConnections", peer)
            return False
        return True

    def _peer_allowed(self, peer: str) -> bool:
        address = _peer_ip(peer)
        return address is not None and any(address in network for network in self._peers)

    def _name_allowed(self, transport: asyncio.BaseTransport) -> bool:
        certificate: dict[str, Any] = transport.get_extra_info("peercert") or {}
        return not self._client_names.isdisjoint(certificate_names(certificate))

    def _log_refused(self, reason: str, peer: str, code: str = "") -> None:
        """At most one line a second and reason; the next one says how many there were."""
        left_out = self._sparingly.left_out(reason, asyncio.get_running_loop().time())
        if left_out is not None:
            log.event(
                "mllp.refused",
                level="warning",
                source=self.name,
                peer=peer,
                reason=reason,
                code=code,
                count=left_out + 1,
                connections=len(self._connections),
            )

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


def _networks(peers: tuple[str, ...]) -> tuple[Any, ...]:
    try:
        return tuple(ip_network(peer, strict=False) for peer in peers)
    except ValueError as error:
        raise Misconfigured("", "peers", "expected networks such as 10.1.2.0/24") from error


def _peer_ip(peer: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(peer.rpartition(":")[0].strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
