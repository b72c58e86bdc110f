"""What the rest of the hub sees of the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from hub.model.refusals import HubError, Retry

T = TypeVar("T")
I_contra = TypeVar("I_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
Item = TypeVar("Item")
Result = TypeVar("Result")
Row = tuple[Any, ...]


class StoreUnavailable(HubError):
    """Disk full, read-only, or gone: nothing of the group was kept."""

    code, retry = "StoreUnavailable", Retry.TRANSIENT


class ReadTooLong(HubError):
    """A read ran into its time limit."""

    code, retry = "ReadTooLong", Retry.TRANSIENT


class BlobDamaged(HubError):
    """A stored body is missing or is not the bytes it was."""

    code = "BlobDamaged"


class Conflict(StoreUnavailable):
    """Another process changed the same rows first, and again each time it was tried."""

    code = "Conflict"


class DuplicateKey(HubError):
    """A row with this key is there already, and stays there: the function's own mistake."""

    code = "DuplicateKey"


class StatementRefused(RuntimeError):
    """The server does not take a statement or a value: the function's own mistake, told by its kind and without any value."""


class Transaction(Protocol):
    """SQL that both engines read: `?` placeholders, ON CONFLICT, RETURNING; bytes, int, str and None as values.

    `locked` ends a SELECT whose rows must stay as they are until the commit, `skip_locked` one that passes over rows that
    somebody else holds; both are empty where there is one writer. `arrival` is the column of `message` that grows in the order
    in which messages were kept, whichever process kept them.
    """

    locked: str
    skip_locked: str
    arrival: str

    def exclusive(self, name: str) -> None:
        """Until the commit nobody else is past a call with this name."""

    def end_sessions(self, names: Sequence[str]) -> None:
        """End what connections of lost processes (`Store.session`) still hold on the server: nothing of it is kept."""

    def rows(self, sql: str, *values: Any) -> list[Row]: ...
    def row(self, sql: str, *values: Any) -> Row | None: ...
    def rows_in(self, sql: str, keys: Sequence[Any], *values: Any) -> list[Row]:
        """Rows of a query whose `{keys}` stands for a list of values: `… WHERE ? < at AND id IN ({keys})`.

        `values` fill the placeholders before `{keys}`.
        """

    def rows_values(self, sql: str, rows: Sequence[Sequence[Any]]) -> list[Row]:
        """Rows of a query over given rows: `WITH v(a, b) AS (VALUES {values}) SELECT … FROM v CROSS JOIN t ON …`."""

    def run(self, sql: str, *values: Any) -> None:
        """Run one statement; RETURNING and `rows` tell what it touched."""

    def run_in(self, sql: str, keys: Sequence[Any]) -> None:
        """Run a statement whose `{keys}` stands for a list of values."""

    def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None: ...
    def insert(
        self,
        table: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        suffix: str = "",
        suffix_values: Sequence[Any] = (),
    ) -> list[Row]:
        """Insert many rows in few statements; `suffix` is an ON CONFLICT clause, and what to give back (RETURNING)."""

    def update(self, table: str, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Set `columns` of many rows in few statements; each row is (key, values in the order of `columns`)."""

    def blob(self, sha256: bytes) -> bytes:
        """The bytes of a large body kept as a file named by its digest.

        Raises:
            BlobDamaged: the file is missing or its digest differs.
        """


class Bulk(Protocol[I_contra, R_co]):
    """A function of one item whose calls are gathered into few transactions."""

    def __call__(self, item: I_contra) -> Awaitable[R_co]: ...
    def submit(self, item: I_contra, done: Callable[[R_co | BaseException], None]) -> None:
        """Queue one item; `done` is called on the event loop with the result or the error."""


class Store(Protocol):
    """Runs functions inside transactions.

    Raises (write, bulk): StoreUnavailable when the group could not be made durable, or what the function raised, in which
    case only that function's changes are undone. Raises (read): ReadTooLong.

    `shared`: other processes write to it too. Then rows are locked (`Transaction.locked`), a function may be run again
    after it met another's change, and StoreUnavailable can also mean that the answer to a commit was lost: who tries again
    must first look whether it was done. What was begun on a lost connection is ended before anything else is.
    """

    shared: bool
    session: str  # the name of this process's connections, where there is a server

    def use_edge(self, edge: int) -> None:
        """Make row numbers of this edge (0 to 31) from here on."""

    async def write(self, job: Callable[[Transaction], T]) -> T: ...
    async def read(self, job: Callable[[Transaction], T]) -> T: ...
    def bulk(
        self, job: Callable[[Transaction, Sequence[Item]], Sequence[Result]], *, urgent: bool = False, at_most: int = 256
    ) -> Bulk[Item, Result]: ...
    async def put_blob(self, sha256: bytes, content: bytes) -> None:
        """Write a large body to its file and sync it; the group that names it syncs the folder before its commit."""

    def next_id(self) -> int: ...
    def seen(self, number: int) -> None:
        """Make only higher numbers from here on: somebody else made this one."""

    def now_us(self) -> int:
        """UTC microseconds; of the server, where there is one."""

    async def read_clock(self) -> None:
        """Ask the server for the time once more, where there is one."""

    def health(self) -> str:
        """Empty when the store takes writes, else why not."""
