"""The embedded store: SQLite in WAL mode, `synchronous=FULL`, exactly one writing connection.

The writer never checkpoints on its own account: a second thread copies the WAL back with PASSIVE checkpoints, and asks the
writer for the last few pages when the file has grown, so that the WAL starts again from its beginning.
"""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from hub.model import log
from hub.model.uids import UidMaker
from hub.store.blobs import Blobs, SyncFailed
from hub.store.group import CommitTimes, GroupWriter
from hub.store.port import Bulk, ReadTooLong, StoreUnavailable, Transaction
from hub.store.sqlite_transaction import SqliteTransaction

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")

READ_LIMIT_S = 5.0
WAL_WANTED_BYTES = 16 << 20
BUSY_S = 5.0
_NUMBERED = ("message", "delivery", "patient", "identity_case", "resource", "binary_content", "audit", "token")  # by `next_id`
READERS = 3
_TRY_LATER = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
    }
)
# a write that did not happen: the WAL up to the last commit is whole. A failed sync is another matter.
_NOT_WRITTEN = frozenset(
    {sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_NOMEM}
)
_BROKEN = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def connect(path: Path, *, read_only: bool = False, cache_kb: int = 4096) -> sqlite3.Connection:
    """A connection set up as every connection of ours is.

    Raises:
        sqlite3.Error: no such file (read-only), not a database.
    """
    connection = sqlite3.connect(
        f"file:{path}?mode={'ro' if read_only else 'rwc'}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_S,
        cached_statements=512,
    )
    connection.execute(f"PRAGMA cache_size=-{cache_kb}")
    if not read_only:
        write_ahead(connection)
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA temp_store=MEMORY")
    return connection


def write_ahead(connection: sqlite3.Connection) -> None:
    """Put a file into WAL mode, each commit synced. Processes that make one file at once wait for each other here.

    SQLite does not wait with its busy timeout for the change of the journal's mode.

    Raises:
        sqlite3.OperationalError: the file stays locked.
    """
    until = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)
    connection.execute("PRAGMA synchronous=FULL")


class _WriterEngine:
    """What `GroupWriter` drives."""

    def __init__(self, connection: sqlite3.Connection, blobs: Blobs, on_broken: Callable[[StoreUnavailable], None]) -> None:
        self._connection, self._blobs = connection, blobs
        self._tx = SqliteTransaction(connection, blobs)
        self._on_broken = on_broken
        self._last_failure: tuple[BaseException, StoreUnavailable | None] | None = None
        self.finish_checkpoint = False
        self.broken: StoreUnavailable | None = None

    def begin(self) -> Transaction:
        if self.broken is not None:
            raise self.broken
        self._connection.execute("BEGIN IMMEDIATE")
        return self._tx

    def savepoint(self) -> None:
        self._connection.execute("SAVEPOINT one")

    def release(self) -> None:
        self._connection.execute("RELEASE one")

    def rollback_to_savepoint(self) -> None:
        self._connection.execute("ROLLBACK TO one")
        self._connection.execute("RELEASE one")

    def commit(self) -> None:
        self._blobs.sync_folders()
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                log.event("store.rollback_failed", level="error", error=type(error).__name__)

    def between_groups(self) -> None:
        if self.finish_checkpoint:
            self.finish_checkpoint = False
            try:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.Error as error:
                log.event("store.checkpoint_failed", level="warning", error=type(error).__name__)

    def failure(self, error: BaseException) -> StoreUnavailable | None:
        if self._last_failure is not None and self._last_failure[0] is error:
            return self._last_failure[1]
        verdict = self._judge(error)
        self._last_failure = (error, verdict)
        return verdict

    def _judge(self, error: BaseException) -> StoreUnavailable | None:
        if isinstance(error, SyncFailed):
            self._break(error)
        if isinstance(error, StoreUnavailable):
            return error
        if isinstance(error, OSError):
            return StoreUnavailable(f"the data folder does not take writes ({errno.errorcode.get(error.errno or 0, 'OSError')})")
        if not isinstance(error, sqlite3.Error):
            return None
        if _try_later(error):
            return StoreUnavailable(f"the database does not take writes ({error.sqlite_errorname})")
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN:
            return self._break(StoreUnavailable(f"the database cannot be trusted any more ({error.sqlite_errorname})"))
        return None

    def _break(self, why: StoreUnavailable) -> StoreUnavailable:
        self.broken = why
        self._on_broken(why)
        return why


def _try_later(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _TRY_LATER or code in _NOT_WRITTEN


class SqliteStore:
    """The embedded store of one data folder.

    After a failed write to disk (I/O error) nothing more is written and `broken` is set: what the disk holds is then only
    known after a restart. `on_broken` is called once, on the event loop.
    """

    shared, session = False, ""

    def __init__(self, path: Path, blobs: Blobs, *, on_broken: Callable[[], None] | None = None) -> None:
        self._path = path
        self._blobs = blobs
        self._blobs.clear_parts()
        try:
            self._connection = connect(path, cache_kb=24_576)
            last = max(self._connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0] for table in _NUMBERED)  # noqa: S608
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            raise StoreUnavailable(f"the database cannot be opened ({name})") from None
        self._last = last
        self.use_edge(0)
        self._on_broken = on_broken
        self._engine = _WriterEngine(self._connection, self._blobs, self._break)
        self._writer = GroupWriter(self._engine)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._blob_writers = ThreadPoolExecutor(4, thread_name_prefix="blob")
        self._local = threading.local()
        self._closing = threading.Event()
        self._checkpointer = threading.Thread(target=self._checkpoint, name="checkpoint", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.broken: StoreUnavailable | None = None

    def start(self) -> None:
        """Start the threads; on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._writer.start()
        self._checkpointer.start()

    async def close(self) -> None:
        """Finish queued writes, bring the WAL back, close."""
        await self._writer.stop()
        self._closing.set()
        await asyncio.to_thread(self._checkpointer.join)
        self._readers.shutdown(wait=True)
        self._blob_writers.shutdown(wait=True)
        try:
            if self.broken is None:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._connection.close()
        except sqlite3.Error as error:  # a full disk: the WAL stays, and is read at the next start
            log.event("store.checkpoint_failed", level="warning", error=type(error).__name__)

    @property
    def times(self) -> CommitTimes:
        return self._writer.times

    def use_edge(self, edge: int) -> None:
        self._uids = UidMaker(lambda: time.time_ns() // 1_000_000, edge=edge, after=self._last)

    def next_id(self) -> int:
        return self._uids.next()

    def seen(self, number: int) -> None:
        self._uids.seen(number)

    def now_us(self) -> int:
        return time.time_ns() // 1000

    async def read_clock(self) -> None:
        """There is no server."""

    def health(self) -> str:
        if self.broken is not None:
            return self.broken.sentence
        return self._writer.failing

    async def write(self, job: Callable[[Transaction], T]) -> T:
        if self.broken is not None:
            raise self.broken
        return await self._writer.write(job)

    def bulk(
        self, job: Callable[[Transaction, Sequence[Item]], Sequence[Result]], *, urgent: bool = False, at_most: int = 256
    ) -> Bulk[Item, Result]:
        return self._writer.bulk(self._unless_broken(job), urgent=urgent, at_most=at_most)

    async def read(self, job: Callable[[Transaction], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, job)

    async def put_blob(self, sha256: bytes, content: bytes) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._blob_writers, self._blobs.write, sha256, content)
        except OSError as error:
            why = StoreUnavailable(f"the blob folder does not take writes ({errno.errorcode.get(error.errno or 0, 'OSError')})")
            self._writer.failed(why)
            raise why from None

    def _unless_broken(
        self, job: Callable[[Transaction, Sequence[Item]], Sequence[Result]]
    ) -> Callable[[Transaction, Sequence[Item]], Sequence[Result]]:
        def guarded(tx: Transaction, items: Sequence[Item]) -> Sequence[Result]:
            if self.broken is not None:
                raise self.broken
            return job(tx, items)

        return guarded

    def _break(self, why: StoreUnavailable) -> None:
        if self.broken is None:
            self.broken = why
            log.event("store.broken", level="error", reason=why.sentence)
            if self._on_broken is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(self._on_broken)

    def _read(self, job: Callable[[Transaction], T]) -> T:
        try:
            tx, connection = self._reader()
            until = time.monotonic() + READ_LIMIT_S
            connection.set_progress_handler(lambda: time.monotonic() > until, 20_000)
            connection.execute("BEGIN")
            try:
                return job(tx)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0)
            if code == sqlite3.SQLITE_INTERRUPT:
                raise ReadTooLong(f"a read took longer than {READ_LIMIT_S:.0f} s") from None
            if _try_later(error) or code & 0xFF in _BROKEN:
                raise StoreUnavailable(f"the database cannot be read ({error.sqlite_errorname})") from None
            raise

    def _reader(self) -> tuple[SqliteTransaction, sqlite3.Connection]:
        try:
            return self._local.pair  # type: ignore[no-any-return]
        except AttributeError:
            connection = connect(self._path, read_only=True)
            self._local.pair = SqliteTransaction(connection, self._blobs), connection
            return self._local.pair  # type: ignore[no-any-return]

    def _checkpoint(self) -> None:
        wal = self._path.with_name(self._path.name + "-wal")
        connection = connect(self._path)
        copied = 0
        while not self._closing.wait(0.2):
            try:
                size = wal.stat().st_size if wal.exists() else 0
                if size < WAL_WANTED_BYTES // 4 or self.broken is not None:
                    continue
                _, frames, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if frames * 4096 > WAL_WANTED_BYTES and done != copied:
                    self._engine.finish_checkpoint = True
                copied = done
            except (sqlite3.Error, OSError) as error:
                log.event("store.checkpoint_failed", level="warning", error=type(error).__name__)
        connection.close()


class ShortStore:
    """Writes and reads of one command beside a running hub: short transactions, waiting for its turn. Not a `run`."""

    def __init__(self, path: Path, blobs: Blobs, *, read_only: bool = False) -> None:
        self._connection = connect(path, read_only=read_only)
        self._blobs = blobs
        self._uids = UidMaker(lambda: time.time_ns() // 1_000_000, edge=31)

    def next_id(self) -> int:
        return self._uids.next()

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def write(self, job: Callable[[Transaction], T]) -> T:
        """Run `job` in its own transaction.

        Raises:
            StoreUnavailable: the database does not take writes.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = job(SqliteTransaction(self._connection, self._blobs))
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the database does not take writes ({type(error).__name__})") from None
        return result

    def read(self, job: Callable[[Transaction], T]) -> T:
        return job(SqliteTransaction(self._connection, self._blobs))

    def close(self) -> None:
        self._connection.close()
