"""The writer: one thread, one writing connection, many functions a commit.

Urgent bulk work (the acknowledgements' transaction) goes first. On a quick disk it is committed by itself, in turn with other
work; on a slow one both share a commit. Other work follows in order of arrival for as long as a group may last, and stops
short as soon as something urgent arrives. All of a group is committed together, then every caller is answered in one hop to
the event loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from hub.model import log
from hub.model.crash_points import crash_point
from hub.store.port import StoreUnavailable, Transaction

Item = TypeVar("Item")
Result = TypeVar("Result")
Done = Callable[[Any], None]

ALONE_S = 0.010  # how long other work may hold the writer when nothing urgent waits
WITH_URGENT_S = 0.003  # … and when acknowledgements are in the same group
QUICK_COMMIT_S = 0.002  # a disk this fast commits many acknowledgements by themselves, in turn with other work
MANY = 4


class Engine(Protocol):
    """What the writer needs of a database: all calls come from the writer thread."""

    def begin(self) -> Transaction: ...
    def savepoint(self) -> None: ...
    def release(self) -> None: ...
    def rollback_to_savepoint(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def between_groups(self) -> None: ...
    def failure(self, error: BaseException) -> StoreUnavailable | None:
        """The error as StoreUnavailable when the database itself failed, None when it is the function's own."""


@dataclass(slots=True)
class CommitTimes:
    """Totals for the metrics: groups, items, seconds inside COMMIT, the last COMMIT in seconds."""

    groups: int = 0
    items: int = 0
    seconds: float = 0.0
    last: float = 0.0


class _Bulk(Generic[Item, Result]):
    __slots__ = ("_writer", "at_most", "job", "queue", "urgent")

    def __init__(
        self, writer: GroupWriter, job: Callable[[Transaction, Sequence[Item]], Sequence[Result]], urgent: bool, at_most: int
    ) -> None:
        self._writer, self.job, self.urgent, self.at_most = writer, job, urgent, at_most
        self.queue: deque[tuple[Item, Done]] = deque()

    def submit(self, item: Item, done: Callable[[Result | BaseException], None]) -> None:
        self.queue.append((item, done))
        self._writer.wake(self)

    def __call__(self, item: Item) -> Awaitable[Result]:
        future, done = new_future()
        self.submit(item, done)
        return future


class GroupWriter:
    """Owns the writer thread. `start` and `stop` are called on the event loop that answers are sent to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell: SimpleQueue[bool] = SimpleQueue()
        self._idle = False
        self._stopping = False
        self._urgents_turn = False
        self._commit_s = 0.0  # a moving mean
        self._bulks: list[_Bulk[Any, Any]] = []
        self._jobs: deque[tuple[Any, Done | None]] = deque()  # (function, done) or (bulk, None)
        self._urgent: list[_Bulk[Any, Any]] = []
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.times = CommitTimes()
        self.failing = ""  # why the last group could not be kept; empty after one that was

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Finish all queued work, then end the thread."""
        self._stopping = True
        self._bell.put(True)
        await asyncio.to_thread(self._thread.join)

    def bulk(
        self, job: Callable[[Transaction, Sequence[Item]], Sequence[Result]], *, urgent: bool, at_most: int
    ) -> _Bulk[Item, Result]:
        made: _Bulk[Item, Result] = _Bulk(self, job, urgent, at_most)
        if urgent:
            self._urgent.append(made)
        return made

    async def write(self, job: Callable[[Transaction], Result]) -> Result:
        future, done = new_future()
        self._jobs.append((job, done))
        self._ring()
        result: Result = await future
        return result

    def wake(self, bulk: _Bulk[Any, Any]) -> None:
        if not bulk.urgent:
            self._jobs.append((bulk, None))
        self._ring()

    def _ring(self) -> None:
        if self._idle:
            self._idle = False
            self._bell.put(True)

    # ---- the writer thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            if not self._jobs and not any(bulk.queue for bulk in self._urgent):
                if self._stopping:
                    return
                self._idle = True
                if not self._jobs and not any(bulk.queue for bulk in self._urgent) and not self._stopping:
                    self._bell.get()
                self._idle = False
                continue
            self._group()
            self._engine.between_groups()

    def _group(self) -> None:
        answers: list[tuple[Done, Any]] = []
        waiting: list[Done] = []
        begun = False
        try:
            tx = self._engine.begin()
            begun = True
            urgent, others = self._turn()
            if urgent:
                for bulk in self._urgent:
                    self._run_bulk(tx, bulk, answers, waiting, alone=not others and len(self._urgent) == 1)
            if others:
                self._run_jobs(tx, answers, waiting, WITH_URGENT_S if urgent else ALONE_S, watch_urgent=not urgent)
            started = time.perf_counter()
            self._engine.commit()
            took = time.perf_counter() - started
        except BaseException as error:
            self._engine.rollback()
            failure = self._engine.failure(error) or StoreUnavailable("the store failed unexpectedly")
            if failure is not error and self._engine.failure(error) is None:
                log.event("store.error", level="error", error=type(error).__name__)
            waiting.extend(done for done, _ in answers)
            if not begun:
                waiting.extend(self._all_queued())
            self.failed(failure)
            self._answer([(done, failure) for done in waiting])
            time.sleep(0.02)  # a full disk is not asked ten thousand times a second
            return
        if self.failing:
            self.failing = ""
            log.event("store.available")
        times = self.times
        times.groups, times.items = times.groups + 1, times.items + len(answers)
        times.seconds, times.last = times.seconds + took, took
        self._commit_s += (took - self._commit_s) / 16
        crash_point("after-commit")
        self._answer(answers)

    def _turn(self) -> tuple[bool, bool]:
        """Whether this group holds urgent work, and whether it holds other work."""
        urgent = sum(len(bulk.queue) for bulk in self._urgent)
        if urgent < MANY or self._commit_s > QUICK_COMMIT_S:
            return bool(urgent), True
        if not self._jobs:
            return True, False
        self._urgents_turn = not self._urgents_turn
        return self._urgents_turn, not self._urgents_turn

    def failed(self, why: StoreUnavailable) -> None:
        """Something could not be made durable: told once, until a group is kept again."""
        if not self.failing:
            log.event("store.unavailable", level="error", reason=why.sentence)
        self.failing = why.sentence

    def _all_queued(self) -> list[Done]:
        """Empty every queue: no transaction could be begun, so everybody is told so."""
        bulks = [*self._urgent]
        waiting: list[Done] = []
        while self._jobs:
            job, done = self._jobs.popleft()
            if done is None:
                bulks.append(job)
            else:
                waiting.append(done)
        for bulk in bulks:
            while bulk.queue:
                waiting.append(bulk.queue.popleft()[1])
        return waiting

    def _run_jobs(
        self, tx: Transaction, answers: list[tuple[Done, Any]], waiting: list[Done], limit_s: float, *, watch_urgent: bool
    ) -> None:
        until = time.perf_counter() + limit_s
        jobs = self._jobs
        while jobs:
            job, done = jobs.popleft()
            if done is None:
                self._run_bulk(tx, job, answers, waiting)
            else:
                waiting.append(done)
                answers.append((done, self._one(lambda job=job: job(tx))))  # type: ignore[misc]
                waiting.pop()
            if time.perf_counter() > until or (watch_urgent and any(bulk.queue for bulk in self._urgent)):
                return

    def _run_bulk(
        self, tx: Transaction, bulk: _Bulk[Any, Any], answers: list[tuple[Done, Any]], waiting: list[Done], *, alone: bool = False
    ) -> None:
        queue = bulk.queue
        batch = [queue.popleft() for _ in range(min(len(queue), bulk.at_most))]
        if not batch:
            return
        waiting.extend(done for _, done in batch)
        items = [item for item, _ in batch]
        results = self._alone(lambda: bulk.job(tx, items)) if alone else self._one(lambda: bulk.job(tx, items))
        if isinstance(results, BaseException) and len(items) > 1:
            results = [self._first(self._one(lambda item=item: bulk.job(tx, [item]))) for item in items]  # type: ignore[misc]
        elif isinstance(results, BaseException):
            results = [results]
        answers.extend(zip((done for _, done in batch), results, strict=True))
        del waiting[-len(batch) :]
        if queue and not bulk.urgent:
            self._jobs.append((bulk, None))

    def _alone(self, call: Callable[[], Any]) -> Any:
        """Like `_one` for work that has the transaction to itself: no savepoint, what fails begins it anew."""
        try:
            return call()
        except Exception as error:
            if self._engine.failure(error) is not None:
                raise
            self._engine.rollback()
            self._engine.begin()
            return error

    def _one(self, call: Callable[[], Any]) -> Any:
        """What the call returned, or the error it raised with its changes undone; a failing database raises."""
        self._engine.savepoint()
        try:
            result = call()
        except Exception as error:
            if self._engine.failure(error) is not None:
                raise
            self._engine.rollback_to_savepoint()
            return error
        self._engine.release()
        return result

    @staticmethod
    def _first(results: Any) -> Any:
        return results if isinstance(results, BaseException) else results[0]

    def _answer(self, answers: list[tuple[Done, Any]]) -> None:
        if self._loop is not None and answers and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(deliver_answers, answers)


def deliver_answers(answers: list[tuple[Done, Any]]) -> None:
    for done, result in answers:
        try:
            done(result)
        except Exception as error:  # one caller's trouble is not that of the others in its group
            log.event("store.caller_failed", level="error", error=type(error).__name__)


def new_future() -> tuple[asyncio.Future[Any], Done]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(result: Any) -> None:
        if future.cancelled():
            return
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)

    return future, done
