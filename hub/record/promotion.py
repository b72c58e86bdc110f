"""Documents that outlive their message: before a message is pruned, the bytes it still owes to the record become the record's.

Small ones stand in their row, large ones are large bodies of their own, named by their SHA-256. What a reader gets of
`Binary/<id>` is the same before and after, to the byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.model.record_change import ContentRange
from hub.record.binaries import content_of, taken_out
from hub.store import Transaction
from hub.store.blob_names import name

INLINE_BYTES = 256 << 10
_OWED = "promoted IS NULL AND promoted_blob IS NULL"


@dataclass(frozen=True, slots=True)
class Owed:
    """A document whose bytes still stand in a message only."""

    id: int
    content: ContentRange

    def out_of(self, raw: bytes, default_charset: str) -> bytes:
        """Its bytes, checked.

        Raises:
            BlobDamaged: the message does not hold what was filed.
        """
        return taken_out(raw, self.content, default_charset)


def owing(tx: Transaction, message_ids: Sequence[int]) -> set[int]:
    """Which of these messages the record still needs the bytes of."""
    sql = f"SELECT message_id FROM binary_content WHERE {_OWED} AND message_id IN ({{keys}})"  # noqa: S608 - our condition
    return {number for (number,) in tx.rows_in(sql, message_ids)} if message_ids else set()


def owed_by(tx: Transaction, message_id: int) -> list[Owed]:
    """What one message still owes, in the order in which it was filed."""
    rows = tx.rows(
        'SELECT id, "offset", length, encoding, content_type, size, sha1 FROM binary_content '  # noqa: S608 - our condition
        f"WHERE message_id = ? AND {_OWED} ORDER BY id",
        message_id,
    )
    return [Owed(row[0], content_of(row[1:])) for row in rows]


def promote(tx: Transaction, number: int, data: bytes, *, sha256: bytes | None = None) -> None:
    """Make the bytes of one Binary the record's own. With `sha256` they are a large body that was put in place before.

    Raises:
        BlobGoing: put it in place again.
    """
    if sha256 is None:
        tx.run(f"UPDATE binary_content SET promoted = ? WHERE id = ? AND {_OWED}", data, number)  # noqa: S608 - our condition
        return
    name(tx, [sha256])
    tx.run(f"UPDATE binary_content SET promoted_blob = ? WHERE id = ? AND {_OWED}", sha256, number)  # noqa: S608
