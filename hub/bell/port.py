"""What every bell does, whether it rings in one process or across machines."""

from __future__ import annotations

from typing import Protocol


class Bell(Protocol):
    """One event a name: `ring` wakes whoever waits on it, rings in between are one ring.

    A bell may ring too often, and it may lose a ring: whoever waits looks again after a time of his own (the sweep).
    """

    def ring(self, name: str) -> None:
        """Wake whoever waits on `name`. Called from the event loop; never blocks, never raises."""

    async def wait(self, name: str, timeout_s: float) -> bool:
        """Whether it rang within `timeout_s`."""
