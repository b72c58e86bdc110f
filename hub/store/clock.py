"""The time of the database server, kept by this process's monotonic clock: what a machine believes of the hour is not asked."""

from __future__ import annotations

import time
from collections import deque

SAMPLES = 16
DRIFT_US = 50_000  # between two clocks, over all samples


def ticks_us() -> int:
    """Microseconds since the machine's start; goes on while the process, or the machine, sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class SharedClock:
    """UTC microseconds as the server has them, within half the shortest round trip of the last samples.

    Samples that contradict the newest are forgotten: the server's clock was set.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque(maxlen=SAMPLES)  # (round trip, offset)
        self._offset = 0

    def sample(self, before: int, server_us: int, after: int) -> None:
        """One reading: `ticks_us` before and after, and what the server said in between."""
        trip, offset = after - before, server_us - (before + after) // 2
        agreeing = ((t, o) for t, o in self._samples if abs(o - offset) <= (t + trip) // 2 + DRIFT_US)
        self._samples = deque((*agreeing, (trip, offset)), maxlen=SAMPLES)
        self._offset = min(self._samples)[1]

    def now_us(self) -> int:
        """Now, on the server."""
        return ticks_us() + self._offset
