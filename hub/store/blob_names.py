"""Who names a large body, so that it is removed when nobody does, and never under somebody who is about to name it.

A body is written before the transaction that names it, and removed after the one that took its last name. Both look at
`blob_leaving` under a lock on the digest: a body that is going cannot be named until it is gone, and who tries is told so.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.model.refusals import HubError, Retry
from hub.store.port import Transaction

_NAMES = (
    "SELECT 1 FROM message WHERE sha256 = ? AND in_file = 1 LIMIT 1",
    "SELECT 1 FROM binary_content WHERE promoted_blob = ? AND promoted_blob IS NOT NULL LIMIT 1",
)


class BlobGoing(HubError):
    """The same bytes are being removed in this moment: write them again, then name them."""

    code, retry = "BlobGoing", Retry.TRANSIENT


def name(tx: Transaction, digests: Sequence[bytes]) -> None:
    """Before rows that name these bodies are written in this transaction.

    Raises:
        BlobGoing.
    """
    wanted = sorted(set(digests))
    for sha256 in wanted:
        tx.exclusive(_lock(sha256))
    if wanted and tx.rows_in("SELECT sha256 FROM blob_leaving WHERE going = 1 AND sha256 IN ({keys})", wanted):
        raise BlobGoing("a large body is being removed in this moment")


def unname(tx: Transaction, digests: Sequence[bytes], now: int) -> None:
    """Rows that named these bodies are deleted in this transaction: they are looked at later."""
    tx.insert(
        "blob_leaving",
        ("sha256", "at", "going"),
        [(sha256, now, 0) for sha256 in sorted(set(digests))],
        suffix="ON CONFLICT (sha256) DO NOTHING",
    )


def leaving(tx: Transaction, *, before: int, at_most: int) -> list[bytes]:
    """Bodies that lost a name; of those on which somebody is at work, only what was left lying since `before`."""
    rows = tx.rows("SELECT sha256 FROM blob_leaving WHERE going = 0 OR at < ? ORDER BY at, sha256 LIMIT ?", before, at_most)
    return [bytes(sha256) for (sha256,) in rows]


def condemn(tx: Transaction, sha256: bytes, now: int) -> bool:
    """Whether nobody names this body: then nobody can until `gone`, and the caller removes it. Else it is off the list."""
    tx.exclusive(_lock(sha256))
    if is_named(tx, sha256):
        tx.run("DELETE FROM blob_leaving WHERE sha256 = ?", sha256)
        return False
    tx.run("UPDATE blob_leaving SET going = 1, at = ? WHERE sha256 = ?", now, sha256)
    return True


def gone(tx: Transaction, sha256: bytes) -> None:
    """It is removed: the same bytes may come again."""
    tx.run("DELETE FROM blob_leaving WHERE sha256 = ?", sha256)


def is_named(tx: Transaction, sha256: bytes) -> bool:
    """Whether a message, or a document whose message is pruned, consists of these bytes."""
    return any(tx.row(sql, sha256) is not None for sql in _NAMES)


def _lock(sha256: bytes) -> str:
    return f"blob/{sha256.hex()}"
