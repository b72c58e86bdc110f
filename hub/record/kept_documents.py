"""CDA documents in the order in which they were filed, and their bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hub.record.binaries import filed_bytes
from hub.store import Transaction

CDA_TYPES = ("application/xml", "application/xslt+xml", "text/xml")
SCANNED = 200


@dataclass(frozen=True, slots=True)
class KeptDocument:
    """A Binary that may be a CDA, and the message that brought it."""

    id: int
    message_id: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """`document` is the first CDA, None where there is none; `last` is the last row that was looked at, None: no row."""

    document: KeptDocument | None
    last: int | None


def following(tx: Transaction, after: int, before: int) -> Stretch:
    """The next CDA with a number above `after` and below `before`."""
    rows = tx.rows(
        "SELECT id, message_id, content_type, encoding FROM binary_content WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
        after,
        before,
        SCANNED,
    )
    return _stretch(rows)


def preceding(tx: Transaction, before: int) -> Stretch:
    """The newest CDA with a number below `before`."""
    rows = tx.rows(
        "SELECT id, message_id, content_type, encoding FROM binary_content WHERE id < ? ORDER BY id DESC LIMIT ?", before, SCANNED
    )
    return _stretch(rows)


def newest(tx: Transaction) -> int:
    """The highest number that there is; 0 for none."""
    row = tx.row("SELECT id FROM binary_content ORDER BY id DESC LIMIT 1")
    return row[0] if row is not None else 0


def _stretch(rows: list[tuple[int, int, str, str]]) -> Stretch:
    for number, message_id, content_type, encoding in rows:
        if content_type.partition(";")[0].strip().lower() in CDA_TYPES and ">" not in encoding:
            return Stretch(KeptDocument(number, message_id), number)
    return Stretch(None, rows[-1][0] if rows else None)


def bytes_of(tx: Transaction, number: int, body_of: Callable[[int], bytes]) -> bytes | None:
    """The document's bytes, checked; None when it, or the message that holds it, is not there any more.

    Raises:
        BlobDamaged.
    """
    if tx.row("SELECT 1 FROM binary_content WHERE id = ?", number) is None:
        return None
    try:
        return filed_bytes(tx, number, body_of)
    except KeyError:
        return None
