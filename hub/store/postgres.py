"""The shared store: PostgreSQL, written to by several processes.

Each piece of work is a transaction of its own on one of a few connections, sent in pipeline mode; the server gathers their
commits. A gathered function (`bulk`) runs one batch at a time, so that what arrives during a commit shares the next one.
Acknowledgements have a connection to themselves. A connection that was lost in the middle is ended on the server before
anything else is written: its commit has happened or never will.
"""

from __future__ import annotations

import asyncio
import errno
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

from hub.model import log
from hub.model.crash_points import crash_point
from hub.model.uids import UidMaker
from hub.store.blobs import Blobs, SyncFailed
from hub.store.clock import SharedClock
from hub.store.group import CommitTimes, Done, deliver_answers, new_future
from hub.store.port import Bulk, Conflict, DuplicateKey, ReadTooLong, StoreUnavailable, Transaction
from hub.store.postgres_connection import (
    AGAIN,
    ALWAYS,
    READ_LIMIT_S,
    READING,
    TRIES,
    WRITING,
    connect,
    sample,
    set_up,
    unavailable,
    without_values,
)
from hub.store.postgres_transaction import PostgresTransaction

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")

WRITERS, READERS = 3, 3
RECONNECT_S = 3.0
_NUMBERED = ("message", "delivery", "patient", "identity_case", "resource", "binary_content", "audit", "token")  # by `next_id`


class _Line:
    """One writing connection; used by one thread."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._connection: Connection[Any] | None = None
        self._tx: PostgresTransaction | None = None
        self._backend: tuple[int, Any] = (0, None)
        self._lost_early = False  # the connection of the last transaction was lost, and its COMMIT was never sent

    def run(self, job: Callable[[Transaction], T]) -> T:
        """`job` in a transaction; run again when another process was first, or the connection turns out to be lost."""
        for left in range(TRIES - 1, -1, -1):
            try:
                return self._once(job)
            except psycopg.Error as error:
                if self._lost_early and left == TRIES - 1:
                    continue
                if error.sqlstate not in AGAIN:
                    raise
                self._store.conflicts += 1
                if not left and error.sqlstate == "23505":
                    raise DuplicateKey("a row with this key is there already") from None
                if not left:
                    raise Conflict(f"other processes changed the same rows first ({error.sqlstate})") from None
                time.sleep(random.uniform(0.001, 0.004) * (TRIES - left))  # noqa: S311 - so that two do not meet again
        raise AssertionError("unreachable")

    def _once(self, job: Callable[[Transaction], T]) -> T:
        self._lost_early = False
        try:
            connection, tx = self.open()
        except psycopg.Error:  # ended by the server, and noticed when it was asked to end another
            if self._connection is not None and self._connection.closed:
                self._store.doubt(self._backend)
                self._drop()
            self._lost_early = self._connection is None
            raise
        committing = False
        try:
            with connection.pipeline():
                connection.execute("BEGIN")
                result = job(tx)
                self._store.blobs.sync_folders()
                began, committing = time.perf_counter(), True
                connection.execute("COMMIT")
        except BaseException:
            self._undo(connection)
            self._lost_early = self._connection is None and not committing
            raise
        self._store.committed(time.perf_counter() - began)
        return result

    def _undo(self, connection: Connection[Any]) -> None:
        try:
            if not connection.closed and connection.info.transaction_status is not TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
            if not connection.closed:
                return
        except psycopg.Error:
            pass
        self._store.doubt(self._backend)
        self._drop()

    def open(self) -> tuple[Connection[Any], PostgresTransaction]:
        """The connection, made anew if it was lost; nothing of a lost one is under way any more."""
        if self._connection is not None and self._connection.closed:
            self._store.doubt(self._backend)
            self._drop()
        if self._connection is None or self._tx is None:
            self._connection = connect(self._store.conninfo, *WRITING, name=self._store.session)
            row = self._connection.execute(
                "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
            ).fetchone()
            assert row is not None
            self._backend = (row[0], row[1])
            self._tx = PostgresTransaction(self._connection, self._store.blobs)
        self._store.end_doubtful(self._connection)
        return self._connection, self._tx

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._tx = None

    def close(self) -> None:
        self._drop()


class _Bulk(Generic[Item, Result]):
    """A function whose calls are gathered: one batch at a time."""

    def __init__(
        self,
        store: PostgresStore,
        job: Callable[[Transaction, Sequence[Item]], Sequence[Result]],
        executor: ThreadPoolExecutor,
        at_most: int,
    ) -> None:
        self._store, self._job, self._executor, self._at_most = store, job, executor, at_most
        self._queue: deque[tuple[Item, Done]] = deque()
        self._lock = threading.Lock()
        self.busy = False

    def submit(self, item: Item, done: Callable[[Result | BaseException], None]) -> None:
        self._queue.append((item, done))
        with self._lock:
            if self.busy:
                return
            self.busy = True
        self._executor.submit(self._batch)

    def __call__(self, item: Item) -> Awaitable[Result]:
        future, done = new_future()
        self.submit(item, done)
        return future

    def _batch(self) -> None:
        queue = self._queue
        batch = [queue.popleft() for _ in range(min(len(queue), self._at_most))]
        results = self._store.batch(self._job, [item for item, _ in batch]) if batch else []
        self._store.answer(list(zip((done for _, done in batch), results, strict=True)))
        with self._lock:
            more = self.busy = bool(queue)
        if more:
            self._executor.submit(self._batch)


def _one_each(results: Sequence[Result], items: Sequence[Item]) -> list[Result]:
    if len(results) != len(items):
        raise ValueError("a result for each item")
    return list(results)


class PostgresStore:
    """A store on a PostgreSQL server. `conninfo` is libpq's, with its secret; it is never shown."""

    shared = True

    def __init__(self, conninfo: str, blobs: Blobs, *, on_broken: Callable[[], None] | None = None) -> None:
        self.conninfo, self.blobs, self._on_broken = conninfo, blobs, on_broken
        self.session = f"vaguemestre {secrets.token_hex(8)}"
        self.clock, self.times, self.conflicts = SharedClock(), CommitTimes(), 0
        self._urgent = ThreadPoolExecutor(1, thread_name_prefix="keep")
        self._jobs = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")
        self._blob_writers = ThreadPoolExecutor(4, thread_name_prefix="blob")
        self._lines: list[_Line] = []
        self._bulks: list[_Bulk[Any, Any]] = []
        self._local = threading.local()
        self._doubtful: set[tuple[int, Any]] = set()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failing = ""
        self.broken: StoreUnavailable | None = None
        try:
            with connect(conninfo) as connection:
                sample(connection, self.clock)
                last = max(connection.execute(f"SELECT coalesce(max(id), 0) FROM {one}").fetchone()[0] for one in _NUMBERED)  # type: ignore[index]  # noqa: S608
        except psycopg.Error as error:
            raise unavailable(error) or StoreUnavailable("the database cannot be opened") from None
        self._last = last
        self.use_edge(0)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._pool = ConnectionPool(
            conninfo,
            min_size=1,
            max_size=READERS,
            open=False,
            timeout=RECONNECT_S,
            reconnect_timeout=RECONNECT_S,  # then the next read tries at once; longer pauses would outlast the trouble
            kwargs={**ALWAYS, "application_name": self.session, "options": READING},
            configure=set_up,
        )

    def start(self) -> None:
        """Answers go to the event loop that this is called on."""
        self._loop = asyncio.get_running_loop()
        self._pool.open(wait=False)

    async def close(self) -> None:
        """Finish queued work, close the connections."""
        while any(bulk.busy for bulk in self._bulks):  # noqa: ASYNC110 - asked once, at the stop
            await asyncio.sleep(0.005)
        for executor in (self._urgent, self._jobs, self._readers, self._blob_writers):
            await asyncio.to_thread(executor.shutdown, True)
        for line in self._lines:
            line.close()
        await asyncio.to_thread(self._pool.close)

    def use_edge(self, edge: int) -> None:
        self._uids = UidMaker(lambda: self.clock.now_us() // 1000, edge=edge, after=self._last)

    def next_id(self) -> int:
        return self._uids.next()

    def seen(self, number: int) -> None:
        self._uids.seen(number)

    def now_us(self) -> int:
        return self.clock.now_us()

    def health(self) -> str:
        return self._failing

    # ---- work --------------------------------------------------------------------------------------------------------

    async def write(self, job: Callable[[Transaction], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._jobs, self._write, job)

    def bulk(
        self, job: Callable[[Transaction, Sequence[Item]], Sequence[Result]], *, urgent: bool = False, at_most: int = 256
    ) -> Bulk[Item, Result]:
        made = _Bulk(self, job, self._urgent if urgent else self._jobs, at_most)
        self._bulks.append(made)
        return made

    async def read(self, job: Callable[[Transaction], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, job)

    async def put_blob(self, sha256: bytes, content: bytes) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._blob_writers, self.blobs.write, sha256, content)
        except StoreUnavailable as error:
            self._failed(error)
            raise
        except OSError as error:
            why = StoreUnavailable(f"the blob storage does not take writes ({errno.errorcode.get(error.errno or 0, 'OSError')})")
            self._failed(why)
            raise why from None

    async def read_clock(self) -> None:
        """Ask the server for the time once more; without an answer the time is kept as it was."""
        try:  # over the connection that never waits for long: readers may all be busy
            await asyncio.get_running_loop().run_in_executor(self._urgent, self._ask_clock)
        except (psycopg.Error, StoreUnavailable) as error:
            log.event("store.clock_not_read", level="warning", error=type(error).__name__)

    # ---- in threads --------------------------------------------------------------------------------------------------

    def _line(self) -> _Line:
        try:
            return self._local.line  # type: ignore[no-any-return]
        except AttributeError:
            line = self._local.line = _Line(self)
            with self._lock:
                self._lines.append(line)
            return line

    def _write(self, job: Callable[[Transaction], T]) -> T:
        if self.broken is not None:
            raise self.broken
        try:
            result = self._line().run(job)
        except Exception as error:
            why = unavailable(error)
            if why is None:
                raise without_values(error) from None
            if not isinstance(why, Conflict):
                self._failed(why)
            raise why from None
        self.times.items += 1
        return result

    def batch(self, job: Callable[[Transaction, Sequence[Item]], Sequence[Result]], items: Sequence[Item]) -> list[Any]:
        """The result of each item, or its error: those of a batch that failed are tried one by one."""
        try:
            return self._write(lambda tx: _one_each(job(tx, items), items))
        except StoreUnavailable as error:
            time.sleep(0.02)  # a server that is away is not asked ten thousand times a second
            return [error] * len(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
        return [self.batch(job, [item])[0] for item in items]

    def _read(self, job: Callable[[Transaction], T]) -> T:
        for left in range(READERS, -1, -1):
            try:
                return self._with_reader(lambda connection: self._read_with(connection, job))
            except psycopg.errors.QueryCanceled:
                raise ReadTooLong(f"a read took longer than {READ_LIMIT_S:.0f} s") from None
            except (psycopg.Error, PoolTimeout) as error:
                why = unavailable(error)
                if why is None:
                    raise without_values(error) from None
                if isinstance(error, PoolTimeout) or not left:
                    raise why from None
        raise AssertionError("unreachable")

    def _with_reader(self, use: Callable[[Connection[Any]], T]) -> T:
        with self._pool.connection() as connection:
            return use(connection)

    def _read_with(self, connection: Connection[Any], job: Callable[[Transaction], T]) -> T:
        try:
            with connection.pipeline():
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                result = job(PostgresTransaction(connection, self.blobs))
                connection.execute("COMMIT")  # after a ROLLBACK psycopg would prepare every statement anew
        except BaseException:
            if not connection.closed and connection.info.transaction_status is not TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
            raise
        return result

    def _ask_clock(self) -> None:
        sample(self._line().open()[0], self.clock)

    # ---- trouble -----------------------------------------------------------------------------------------------------

    def doubt(self, backend: tuple[int, Any]) -> None:
        """A connection was lost: what it was told last may still happen."""
        with self._lock:
            self._doubtful.add(backend)

    def end_doubtful(self, connection: Connection[Any]) -> None:
        """End lost connections on the server and wait until they are gone.

        Raises:
            StoreUnavailable: one is still there.
        """
        if not self._doubtful:
            return
        for backend in list(self._doubtful):
            until = time.monotonic() + RECONNECT_S
            while connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2", backend
            ).fetchone():
                if time.monotonic() > until:
                    raise StoreUnavailable("a lost connection is still open on the database server")
                time.sleep(0.01)
            with self._lock:
                self._doubtful.discard(backend)

    def committed(self, seconds: float) -> None:
        """One transaction was kept."""
        if self._failing:
            self._failing = ""
            log.event("store.available")
        times = self.times
        times.groups, times.seconds, times.last = times.groups + 1, times.seconds + seconds, seconds
        crash_point("after-commit")

    def _break(self, why: SyncFailed) -> None:
        """What the blob folder holds is only known after a restart: nothing more is written by this process."""
        if self.broken is None:
            self.broken = why
            log.event("store.broken", level="error", reason=why.sentence)
            if self._on_broken is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(self._on_broken)

    def _failed(self, why: StoreUnavailable) -> None:
        if not self._failing:
            log.event("store.unavailable", level="error", reason=why.sentence)
        self._failing = why.sentence

    def answer(self, answers: list[tuple[Done, Any]]) -> None:
        """Tell callers on the event loop."""
        if self._loop is not None and answers and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(deliver_answers, answers)
