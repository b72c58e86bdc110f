"""A TCP proxy that can be cut: by a reset, or silently, as a network that swallows every packet."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any

RESET, BLACKHOLE = "reset", "blackhole"


class Proxy:
    """From a port of its own to `target_port` on loopback; one of them for each process that shall be cut off alone."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.cut_by = ""
        self._server: asyncio.Server | None = None
        self._pairs: set[_Half] = set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Half(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._abort()
        await asyncio.sleep(0)

    def cut(self, how: str) -> None:
        """`reset`: every connection ends at once and new ones too. `blackhole`: they stay, and nothing passes any more."""
        self.cut_by = how
        if how == RESET:
            self._abort()
        else:
            for half in self._pairs:
                half.pause()

    def mend(self, *, forget: bool = False) -> None:
        """Let everything pass again. What a black hole swallowed arrives late, as TCP sends it again; with `forget` the
        connections of that time end instead.
        """
        was, self.cut_by = self.cut_by, ""
        if was == BLACKHOLE and forget:
            self._abort()
        for half in tuple(self._pairs):
            half.resume()

    def _abort(self) -> None:
        for half in tuple(self._pairs):
            half.abort()

    def joined(self, half: _Half) -> None:
        self._pairs.add(half)

    def left(self, half: _Half) -> None:
        self._pairs.discard(half)


class _Half(asyncio.Protocol):
    """One side of a connection; the accepted side connects the other one."""

    def __init__(self, proxy: Proxy, peer: _Half | None = None) -> None:
        self.proxy, self.peer = proxy, peer
        self.transport: Any = None
        self.ended = False
        self._early: list[bytes] = []
        self._joining: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.proxy.joined(self)
        if self.proxy.cut_by == RESET:
            self.abort()
        elif self.proxy.cut_by == BLACKHOLE:
            self.pause()
        elif self.peer is None:
            self._join()

    def _join(self) -> None:
        self._joining = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            _, peer = await asyncio.get_running_loop().create_connection(
                lambda: _Half(self.proxy, self), "127.0.0.1", self.proxy.target_port
            )
        except OSError:
            self.abort()
            return
        self.peer = peer
        if self.ended or self.proxy.cut_by == RESET:
            peer.abort()
            self.abort()
        elif self._early:
            peer.transport.write(b"".join(self._early))
            self._early.clear()

    def data_received(self, data: bytes) -> None:
        if self.peer is None or self.peer.transport is None:
            self._early.append(data)
        else:
            self.peer.transport.write(data)

    def pause(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.ended or self.proxy.cut_by:
            return
        with contextlib.suppress(RuntimeError):
            self.transport.resume_reading()
        if self.peer is None and self._joining is None:
            self._join()

    def abort(self) -> None:
        """End with a reset, not with an orderly close."""
        if self.transport is not None and not self.ended:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.proxy.left(self)
        if self.peer is not None and not self.peer.ended and self.peer.transport is not None:
            if exc is not None:
                self.peer.abort()
            else:
                self.peer.transport.close()
