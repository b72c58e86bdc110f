"""The ways out of one process: a dispatcher each, what it sends through, and its task; they come and go while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from hub.flow.deliver import Dispatcher
from hub.model.dmp import Dmp
from hub.model.ports import Destination

WayOut = Destination | Dmp | None


@dataclass(slots=True, eq=False)
class _Way:
    dispatcher: Dispatcher
    out: WayOut  # None: the record
    task: asyncio.Task[None] | None = None


class Deliverers:
    """`make(name)` gives the dispatcher of a destination as the configuration has it now, and what it sends through.

    `by_name` holds those that take deliveries; it is the same dict for as long as the process runs. `changed` is called
    whenever `dispatchers` is another list.
    """

    def __init__(self, make: Callable[[str], tuple[Dispatcher, WayOut]], changed: Callable[[], None]) -> None:
        self._make, self._changed = make, changed
        self.by_name: dict[str, Dispatcher] = {}
        self._ways: dict[str, _Way] = {}
        self._leaving: set[_Way] = set()
        self._running = False

    @property
    def dispatchers(self) -> list[Dispatcher]:
        """All that may still hold a lane."""
        return [way.dispatcher for way in (*self._ways.values(), *self._leaving)]

    def add(self, name: str) -> None:
        """A way out that was not there."""
        way = _Way(*self._make(name))
        self._ways[name], self.by_name[name] = way, way.dispatcher
        if self._running:
            self._start(way)
        self._changed()

    async def remove(self, name: str) -> None:
        """Claim nothing more, end what is in flight, give back every lane, close."""
        way = self._ways.pop(name)
        del self.by_name[name]
        self._leaving.add(way)
        way.dispatcher.stop()
        if way.task is not None:
            await asyncio.wait({way.task})
        await way.dispatcher.left()
        self._leaving.discard(way)
        self._changed()
        if way.out is not None:
            await way.out.close()

    async def replace(self, name: str) -> None:
        """The same destination with other settings; meanwhile its deliveries wait in their lanes."""
        await self.remove(name)
        self.add(name)

    def start(self) -> None:
        self._running = True
        for way in self._ways.values():
            self._start(way)

    async def stop(self, timeout_s: float) -> None:
        """End what is in flight, within `timeout_s`."""
        self._running = False
        for dispatcher in self.dispatchers:
            dispatcher.stop()
        tasks = self._tasks()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    async def close(self) -> None:
        """Cut what has not ended, close connections."""
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for way in (*self._ways.values(), *self._leaving):
            if way.out is not None:
                await way.out.close()

    def _tasks(self) -> set[asyncio.Task[None]]:
        return {way.task for way in (*self._ways.values(), *self._leaving) if way.task is not None}

    @staticmethod
    def _start(way: _Way) -> None:
        way.task = asyncio.create_task(way.dispatcher.run(), name=f"deliver {way.dispatcher.spec.name}")
