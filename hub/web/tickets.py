"""One-use links into the console: whoever runs the hub hands one out, nobody can use it twice."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ticket:
    role: str
    name: str
    expires_at: float  # seconds on the maker's clock
    masked: bool


class Tickets:
    """Kept in memory only, as digests; a ticket that was used or is older than `valid_s` is gone."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, valid_s: float = 900.0, at_most: int = 100) -> None:
        self._clock, self._valid_s, self._at_most = clock, valid_s, at_most
        self._open: dict[bytes, Ticket] = {}

    def issue(self, role: str, name: str, *, masked: bool = False) -> str:
        """The secret part of a link `/console/enter/{ticket}`: 43 characters that fit in a URL."""
        secret = secrets.token_urlsafe(32)
        while len(self._open) >= self._at_most:
            del self._open[next(iter(self._open))]
        self._open[_digest(secret)] = Ticket(role, name, self._clock() + self._valid_s, masked)
        return secret

    def redeem(self, secret: str) -> Ticket | None:
        """The ticket behind `secret`, once."""
        ticket = self._open.pop(_digest(secret), None)
        return ticket if ticket is not None and ticket.expires_at > self._clock() else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
