"""Who sends in the demonstration: software over MLLP, a practitioner's folder, a laboratory and a pharmacy over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from adapters.mllp.frames import frame
from hub.app.demo_day import Event, Way

_POLL_S, _PATIENCE_S = 0.05, 10


@dataclass(frozen=True, slots=True)
class Senders:
    """Open connections to the hub. A file is answered by where it goes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    http: httpx.AsyncClient
    inbox: Path

    async def send(self, event: Event) -> None:
        """Hand an event over by its way, and wait until the hub has answered."""
        if event.way is Way.HTTP:
            await self.http.post("/api/v1/hl7", content=event.body, headers={"Content-Type": "application/hl7-cda+xml"})
        elif event.way is Way.FOLDER:
            await self._drop(event)
        else:
            self.writer.write(frame(event.body))
            await self.reader.readuntil(b"\x1c\r")

    async def _drop(self, event: Event) -> None:
        name = f"{event.at.replace(':', '')}.xml"
        (self.inbox / f"{name}.part").write_bytes(event.body)
        (self.inbox / f"{name}.part").rename(self.inbox / name)
        for _ in range(int(_PATIENCE_S / _POLL_S)):
            if not (self.inbox / name).exists():
                return
            await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def senders(mllp_port: int, web_url: str, token: str, inbox: Path) -> AsyncIterator[Senders]:
    """Senders to a hub on this machine; `token` is of a system."""
    reader, writer = await asyncio.open_connection("127.0.0.1", mllp_port)
    async with httpx.AsyncClient(base_url=web_url, headers={"Authorization": f"Bearer {token}"}, timeout=_PATIENCE_S) as http:
        try:
            yield Senders(reader, writer, http, inbox)
        finally:
            writer.close()
