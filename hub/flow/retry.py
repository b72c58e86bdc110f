"""When to try again: growing pauses for one lane, one probe an interval for a destination that is down."""

from __future__ import annotations

import random
from collections.abc import Callable

from hub.flow.graph import RetryPolicy


def pause_s(policy: RetryPolicy, attempts: int, jitter: Callable[[], float] = random.random) -> float:
    """Seconds before the next attempt after `attempts` failed ones: doubled each time, up to the cap, ± 20 %."""
    pause = min(policy.cap_s, policy.base_s * 2.0 ** min(attempts - 1, 30))
    return pause * (0.8 + 0.4 * jitter())


class Breaker:
    """Knows whether a destination is down.

    Closed: deliveries leave. Open: nothing leaves until a probe succeeds. After a probe one delivery goes first (half
    open); only its success closes the breaker.
    """

    SILENT_FAILURES = 3

    def __init__(self) -> None:
        self.reason = ""
        self.half_open = False
        self._silent = 0

    @property
    def is_open(self) -> bool:
        return bool(self.reason) and not self.half_open

    def unavailable(self, reason: str) -> None:
        """No connection."""
        self.reason, self.half_open = reason or "destination unavailable", False

    def no_answer(self) -> None:
        """Sent and not answered; a few in a row count as down."""
        self._silent += 1
        if self.half_open or self._silent >= self.SILENT_FAILURES:
            self.unavailable("destination does not answer")

    def probed(self) -> None:
        """A probe went well."""
        self.half_open = bool(self.reason)

    def answered(self) -> None:
        """The peer answered, whatever it said."""
        self.reason, self.half_open, self._silent = "", False, 0
