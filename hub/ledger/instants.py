"""Instants of the ledger as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime


def instant(us: int | None) -> str | None:
    """`2026-11-21T23:04:22.123456Z`."""
    if us is None:
        return None
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
