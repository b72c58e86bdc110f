"""Messages just received, so that routing and delivery need not read them back; the store stays the truth."""

from __future__ import annotations

from collections import OrderedDict

from hub.formats.er7 import Message

RECENT_BYTES = 32 << 20
OVERHEAD_BYTES = 6_000  # what a read message weighs beside its bytes
DOCUMENT_BYTES, READ_BYTES = 16_000, 24_000  # a message of that size holds a document, and what was read of it weighs so much


class Recent:
    """Messages by number, bounded by their bytes.

    Those that wait for routing stay; when they fill the room, newer ones are not taken in, because routing goes by age.
    Those that are routed stay for their deliveries, and make room, the oldest first.
    """

    def __init__(self, limit_bytes: int = RECENT_BYTES) -> None:
        self._limit, self._bytes = limit_bytes, 0
        self._waiting: dict[int, Message] = {}
        self._routed: OrderedDict[int, Message] = OrderedDict()

    def put(self, message_id: int, message: Message) -> None:
        """Keep a message that waits for routing, if there is room."""
        size = _weight(message)
        while self._bytes + size > self._limit and self._routed:
            self._leave(self._routed.popitem(last=False)[1])
        if self._bytes + size <= self._limit:
            self._waiting[message_id] = message
            self._bytes += size
        else:
            message.views.clear()

    def done_with(self, message_id: int, message: Message) -> None:
        """Let go of what readers made of a message that was read back, unless it is kept here."""
        if self.get(message_id) is not message:
            message.views.clear()

    def get(self, message_id: int) -> Message | None:
        return self._waiting.get(message_id) or self._routed.get(message_id)

    def routed(self, message_id: int, *, has_deliveries: bool) -> None:
        """A message was routed: it stays for its deliveries, or leaves."""
        message = self._waiting.pop(message_id, None)
        if message is None:
            return
        if has_deliveries:
            self._routed[message_id] = message
        else:
            self._leave(message)

    def _leave(self, message: Message) -> None:
        self._bytes -= _weight(message)
        message.views.clear()  # what readers made may point back at the message: without it, it is freed at once


def _weight(message: Message) -> int:
    size = len(message.raw)
    return size + OVERHEAD_BYTES + (READ_BYTES if size > DOCUMENT_BYTES else 0)
