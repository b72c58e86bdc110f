"""Listening sockets: who comes in is decided on the bare socket, before a TLS handshake and before a byte is read."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any

ACCEPTED_AT_ONCE = 64
OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE_OUT_OF_FILES_S = 1.0

LetsIn = Callable[[str], bool]
Refused = Callable[[str, str, str], None]


class Doors:
    """The sockets of one listener.

    `lets_in(peer)` is asked for each connection, `make()` gives the protocol of one that came in (it calls
    `entered` once it is made), `refused(reason,
    peer, code)` is told of failed handshakes and of a process out of file descriptors.
    """

    def __init__(
        self,
        *,
        backlog: int,
        tls: ssl.SSLContext | None,
        handshake_timeout_s: float,
        lets_in: LetsIn,
        make: Callable[[], asyncio.Protocol],
        refused: Refused,
        reuse_port: bool = False,
    ) -> None:
        self._backlog, self._reuse_port = backlog, reuse_port
        self._tls = tls
        self._handshake_timeout_s = handshake_timeout_s
        self._lets_in = lets_in
        self._make = make
        self._refused = refused
        self._sockets: list[socket.socket] = []
        self._entering: dict[asyncio.Protocol, asyncio.Task[None]] = {}

    @property
    def port(self) -> int:
        """0 when closed."""
        return int(self._sockets[0].getsockname()[1]) if self._sockets else 0

    @property
    def entering(self) -> int:
        """Connections in their TLS handshake, or between accept and `connection_made`."""
        return len(self._entering)

    def entered(self, protocol: asyncio.Protocol) -> None:
        """`connection_made` was called: the connection counts among those of the listener now."""
        self._entering.pop(protocol, None)

    async def open(self, host: str, port: int) -> None:
        """Listen on every address of `host`.

        Raises:
            OSError: an address is unknown, taken or not ours.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
                self._sockets.append(_listening(family, address, self._backlog, self._reuse_port))
        except OSError:
            self.close()
            raise
        for sock in self._sockets:
            loop.add_reader(sock, self._accept, sock)

    def close(self) -> None:
        """Listen no more and cut handshakes; connections that came in stay."""
        loop = asyncio.get_running_loop()
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            loop.remove_reader(sock)
            sock.close()
        for task in tuple(self._entering.values()):
            task.cancel()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in OUT_OF_FILES:
                    raise
                self._pause(listening, error)
                return
            peer = peer_name(address)
            if not self._lets_in(peer):
                sock.close()
                continue
            sock.setblocking(False)
            protocol = self._make()
            self._entering[protocol] = asyncio.get_running_loop().create_task(self._enter(protocol, sock, peer))

    async def _enter(self, protocol: asyncio.Protocol, sock: socket.socket, peer: str) -> None:
        timeout_s = self._handshake_timeout_s if self._tls is not None else None
        try:
            tune(sock)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol, sock, ssl=self._tls, ssl_handshake_timeout=timeout_s
            )
        except (OSError, ssl.SSLError) as error:
            sock.close()
            if self._tls is not None:
                self._refused("TlsHandshakeFailed", peer, error_code(error))
        finally:
            self._entering.pop(protocol, None)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Without a free descriptor the socket stays readable: look again a little later, not at once."""
        self._refused("OutOfFileDescriptors", "", errno.errorcode.get(error.errno or 0, ""))
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        loop.call_later(PAUSE_OUT_OF_FILES_S, self._listen_again, listening)

    def _listen_again(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)


def _listening(family: int, address: Any, backlog: int, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def tune(sock: Any) -> None:
    """No delay for small answers; a peer that vanished without a word is noticed after two minutes."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    for option in options:
        sock.setsockopt(*option)


def peer_name(address: Any) -> str:
    """`10.1.2.3:40000` or `[::1]:40000`, empty when the peer is gone already."""
    if not isinstance(address, tuple) or len(address) < 2:
        return ""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def error_code(error: Exception) -> str:
    """The reason OpenSSL gives, or the kind of error: never its text."""
    return str(getattr(error, "reason", None) or type(error).__name__)
