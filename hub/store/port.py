"""What the rest of the hub sees of the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from hub.model.refusals import HubError, Retry

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - an item
R = TypeVar("R")
Row = tuple[Any, ...]


class StoreUnavailable(HubError):
    """Disk full, read-only, or gone: nothing of the group was kept."""

    code, retry = "StoreUnavailable", Retry.TRANSIENT


class BlobDamaged(HubError):
    """A stored body is missing or is not the bytes it was."""

    code = "BlobDamaged"


class Transaction(Protocol):
    """SQL that both engines read: `?` placeholders, ON CONFLICT, RETURNING; bytes, int, str and None as values."""

    def rows(self, sql: str, *values: Any) -> list[Row]: ...
    def row(self, sql: str, *values: Any) -> Row | None: ...
    def run(self, sql: str, *values: Any) -> int:
        """Run one statement; how many rows it touched."""
    def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None: ...
    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, suffix: str = "") -> None:
        """Insert many rows in few statements; `suffix` is an ON CONFLICT clause."""
    def blob(self, sha256: bytes) -> bytes:
        """The bytes of a large body kept as a file named by its digest.

        Raises:
            BlobDamaged: the file is missing or its digest differs.
        """


class Store(Protocol):
    """Runs functions inside transactions.

    Raises (write, bulk): StoreUnavailable when the group could not be made durable, or what the function raised, in which
    case only that function's changes are undone.
    """

    async def write(self, job: Callable[[Transaction], T]) -> T: ...
    async def read(self, job: Callable[[Transaction], T]) -> T: ...
    def bulk(
        self, job: Callable[[Transaction, Sequence[I]], Sequence[R]], *, urgent: bool = False, at_most: int = 256,
    ) -> Callable[[I], Awaitable[R]]:
        """A function of one item whose calls are gathered into few calls of `job`; urgent ones go before all else."""
    def next_id(self) -> int: ...
    def now_us(self) -> int: ...
