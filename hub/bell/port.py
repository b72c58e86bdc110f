"""What every bell does, whether it rings in one process or across machines."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol


class Bell(Protocol):
    """One event a name: `ring` wakes whoever waits on it, rings in between are one ring.

    A bell may ring too often, and it may lose a ring: whoever waits looks again after a time of his own (the sweep).
    """

    def ring(self, name: str) -> None:
        """Wake whoever waits on `name`. Called from the event loop; never blocks, never raises."""

    def wake(self, name: str) -> None:
        """Ring in this process only."""

    async def wait(self, name: str, timeout_s: float) -> bool:
        """Whether it rang within `timeout_s`."""

    def gather(self, names: Collection[str], wakes: str) -> None:
        """A ring of any of `names` wakes who waits on `wakes`, in this process, until this is called again for `wakes`."""

    async def close(self) -> None:
        """End its connection, where it has one."""
