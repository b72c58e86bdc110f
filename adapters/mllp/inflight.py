"""How many bytes of messages all listeners of a process may hold at once."""

from __future__ import annotations

from typing import Protocol

ONE_READ_BYTES = 256 << 10  # what one more read of a resumed connection may add


class Holder(Protocol):
    """A connection that stopped reading because the budget was spent."""

    @property
    def in_frame(self) -> bool: ...
    def resume(self, *, favoured: bool) -> None: ...


class InflightBudget:
    """Bytes held by unfinished frames and by messages not answered yet, shared by all connections.

    A connection asks after each read; what it then holds may pass the limit by that one read. When nothing is owed
    and everything held is unfinished frames, one connection at a time is favoured: it reads on until its frame ends,
    so that frames which fill the budget together end one after the other.
    """

    __slots__ = ("_favoured", "_waiting", "limit_bytes", "owed", "used")

    def __init__(self, limit_bytes: int = 256 << 20) -> None:
        self.limit_bytes = limit_bytes
        self.used = 0
        self.owed = 0  # the part of `used` that waits for an answer
        self._waiting: dict[Holder, None] = {}
        self._favoured: Holder | None = None

    @property
    def exhausted(self) -> bool:
        return self.used >= self.limit_bytes

    def take(self, size: int) -> None:
        """A message was handed over: `size` bytes until its answer."""
        self.used += size
        self.owed += size

    def give(self, size: int) -> None:
        """It was answered."""
        self.used -= size
        self.owed -= size
        if self._waiting:
            self.settle()

    def hold(self, change: int) -> None:
        """The unfinished frames of one connection grew or shrank by `change` bytes."""
        self.used += change
        if change < 0 and self._waiting:
            self.settle()

    def wait(self, holder: Holder) -> None:
        """`holder` reads no more until `resume` is called."""
        self._waiting[holder] = None
        self.settle()

    def favours(self, holder: Holder) -> bool:
        return holder is self._favoured

    def frame_ended(self, holder: Holder) -> None:
        """The favoured connection has no open frame any more, or is gone."""
        if holder is self._favoured:
            self._favoured = None
            self.settle()

    def forget(self, holder: Holder) -> None:
        """`holder` is gone."""
        self._waiting.pop(holder, None)
        self.frame_ended(holder)

    def settle(self) -> None:
        """Let those read on for whom there is room."""
        room = self.limit_bytes - self.used
        while self._waiting and room > 0:
            holder = next(iter(self._waiting))
            del self._waiting[holder]
            holder.resume(favoured=False)
            room -= ONE_READ_BYTES
        if self._waiting and self.owed == 0 and self._favoured is None:
            stuck = next((holder for holder in self._waiting if holder.in_frame), None)
            if stuck is not None:
                del self._waiting[stuck]
                self._favoured = stuck
                stuck.resume(favoured=True)
