"""The bell inside one process."""

from __future__ import annotations

import asyncio
from collections.abc import Collection


class LocalBell:
    """One event a name: `ring` wakes whoever waits on it, rings in between are one ring."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}
        self._wakes: dict[str, str] = {}

    def ring(self, name: str) -> None:
        self._event(self._wakes.get(name, name)).set()

    def wake(self, name: str) -> None:
        self.ring(name)

    def gather(self, names: Collection[str], wakes: str) -> None:
        self._wakes = {name: other for name, other in self._wakes.items() if other != wakes}
        self._wakes.update(dict.fromkeys(names, wakes))

    async def close(self) -> None:
        """Nothing to end."""

    async def wait(self, name: str, timeout_s: float) -> bool:
        """Whether it rang within `timeout_s`."""
        event = self._event(name)
        if event.is_set():
            event.clear()
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return False
        event.clear()
        return True

    def _event(self, name: str) -> asyncio.Event:
        return self._events.setdefault(name, asyncio.Event())
