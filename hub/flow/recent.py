"""Messages just received, so that routing and delivery need not read them back; the store stays the truth."""

from __future__ import annotations

from collections import OrderedDict

from hub.formats.er7 import Message

RECENT_BYTES = 16 << 20
OVERHEAD_BYTES = 6_000       # what a read message weighs beside its bytes


class Recent:
    """The last messages by number, bounded by their bytes; the oldest leave first."""

    def __init__(self, limit_bytes: int = RECENT_BYTES) -> None:
        self._limit, self._bytes = limit_bytes, 0
        self._messages: OrderedDict[int, Message] = OrderedDict()

    def put(self, message_id: int, message: Message) -> None:
        self._messages[message_id] = message
        self._bytes += len(message.raw) + OVERHEAD_BYTES
        while self._bytes > self._limit and self._messages:
            _, gone = self._messages.popitem(last=False)
            self._leave(gone)

    def get(self, message_id: int) -> Message | None:
        return self._messages.get(message_id)

    def drop(self, message_id: int) -> None:
        gone = self._messages.pop(message_id, None)
        if gone is not None:
            self._leave(gone)

    def _leave(self, message: Message) -> None:
        self._bytes -= len(message.raw) + OVERHEAD_BYTES
        message.views.clear()        # they point back at the message: without them it is freed at once
