"""Failed authentications per peer: a few at once, then a slow trickle."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address


class FailedSignIns:
    """A token bucket for each peer address (an IPv6 peer is its /64).

    Only failures are counted and only failures are refused: behind a proxy all callers share one address, and a right token
    must go through whatever the others do.
    """

    def __init__(
        self, *, burst: int = 10, refill_s: float = 6.0, at_most: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._refill_s, self._at_most, self._clock = burst, refill_s, at_most, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def failed(self, peer: str) -> int:
        """Count one failure: 0, or the seconds after which the next one is looked at."""
        key, now = _network(peer), self._clock()
        left, at = self._buckets.pop(key, (float(self._burst), now))
        left = min(self._burst, left + (now - at) / self._refill_s)
        refused = left < 1.0
        self._buckets[key] = (left if refused else left - 1.0, now)
        while len(self._buckets) > self._at_most:
            self._buckets.popitem(last=False)
        return math.ceil((1.0 - left) * self._refill_s) if refused else 0


def _network(peer: str) -> str:
    try:
        address = ip_address(peer)
    except ValueError:
        return peer
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped) if address.ipv4_mapped else str(int(address) >> 64)
    return str(address)
