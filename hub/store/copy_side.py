"""What a copy asks of the database at each of its ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from sqlalchemy import Table

from hub.model.refusals import HubError
from hub.store.port import Row

# what names large bodies: messages, and documents whose message is pruned
BODIES = (
    "SELECT n.sha256, min(n.id) FROM (SELECT sha256, id FROM message WHERE in_file = 1 UNION ALL "
    "SELECT promoted_blob, message_id FROM binary_content WHERE promoted_blob IS NOT NULL) n GROUP BY n.sha256"
)


class CopyRefused(HubError):
    """The copy cannot be made, or is not equal; the target holds nothing of it."""

    code = "CopyRefused"


class Side(Protocol):
    """One database inside one transaction. Raises: CopyRefused, StoreUnavailable."""

    name: str
    holds_nul: bool  # whether text may hold U+0000
    arrival: str  # the column of `message` that grows in order of arrival

    def living(self) -> int:
        """Processes that run on it; none can start until the end of this transaction."""

    def unrouted(self) -> int:
        """Messages that wait to be routed."""

    def count(self, table: str) -> int: ...
    def rows(self, table: Table, columns: list[str], order: list[str]) -> Iterator[Row]:
        """All rows, a few at a time; text is ordered by its bytes."""

    def bodies(self) -> Iterator[tuple[bytes, int]]:
        """Digests of large bodies and a message that names each."""

    def load(self, table: Table, columns: list[str], rows: Iterable[Row]) -> None: ...
    def commit(self) -> None: ...
