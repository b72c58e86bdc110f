"""Row numbers that are also UUIDv7: one 63-bit integer, one text form, no second index.

A number is `milliseconds since 1970 (47 bits) << 16 | edge (5 bits) << 11 | counter (11 bits)`, so rows append in order of
arrival. The UUID spreads the same bits over the fields that RFC 9562 leaves free and can be turned back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_COUNTER_BITS, _EDGE_BITS = 11, 5
_LOW_BITS = _COUNTER_BITS + _EDGE_BITS
_VARIANT = 0x8 << 60


class UidMaker:
    """Hands out strictly increasing numbers, also when the clock steps back; `edge` (0-31) keeps processes apart."""

    def __init__(self, now_ms: Callable[[], int], *, edge: int = 0, after: int = 0) -> None:
        if not 0 <= edge < 1 << _EDGE_BITS:
            raise ValueError("edge is 0 to 31")
        self._now_ms, self._edge = now_ms, edge
        self._ms, self._count = after >> _LOW_BITS, (1 << _COUNTER_BITS) - 1 if after else -1
        self._lock = threading.Lock()

    def seen(self, number: int) -> None:
        """Numbers from here on are higher than this one, which somebody else made."""
        with self._lock:
            if number >> _LOW_BITS >= self._ms:
                self._ms, self._count = number >> _LOW_BITS, (1 << _COUNTER_BITS) - 1

    def next(self) -> int:
        with self._lock:
            now = self._now_ms()
            if now > self._ms:
                self._ms, self._count = now, 0
            else:
                self._count += 1
                if self._count >> _COUNTER_BITS:
                    self._ms, self._count = self._ms + 1, 0
            return self._ms << _LOW_BITS | self._edge << _COUNTER_BITS | self._count


def uid_text(number: int) -> str:
    """The UUIDv7 of a row number.

    Standard: RFC 9562 §5.7 (48-bit milliseconds, 12 bits, variant, 62 bits).
    """
    ms, low = number >> _LOW_BITS, number & ((1 << _LOW_BITS) - 1)
    high = ms << 16 | 0x7 << 12 | low >> 4
    tail = _VARIANT | (low & 0xF) << 56
    text = f"{high:016x}{tail:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uid_number(text: str) -> int:
    """The row number of a UUID made by `uid_text`.

    Raises:
        ValueError: not such a UUID.
    """
    bare = text.replace("-", "")
    if len(bare) != 32 or len(text) != 36:
        raise ValueError("not a uid")
    high, tail = int(bare[:16], 16), int(bare[16:], 16)
    number = (high >> 16) << _LOW_BITS | (high & 0xFFF) << 4 | tail >> 56 & 0xF
    if number >> 63 or uid_text(number) != text.lower():
        raise ValueError("not a uid")
    return number


def uid_ms(number: int) -> int:
    """Milliseconds since 1970 inside a row number."""
    return number >> _LOW_BITS
