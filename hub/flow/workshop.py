"""Worker processes for what may loop, swell or crash: translations of documents and a site's own mappings.

A worker gets bytes and gives back a RecordChange or bytes; it never sees the store. It has a memory limit, each task has a
time limit, and after a number of tasks it is replaced. A task that breaks its limits ends its worker and only itself.
"""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hub.model import log
from hub.model.refusals import HubError, TranslationFailed

PLANNED = ("served its time", "other mappings")
START_S = 30.0  # a worker that is not ready by then is given up
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may use. `memory_mb` is address space above what an idle worker has."""

    workers: int = 1
    time_s: float = 30.0
    memory_mb: int = 512
    tasks: int = 20_000


@dataclass(frozen=True, slots=True)
class Bench:
    """How a worker builds what it works with: `module:function`, called once with `argument`; it returns `run(task)`."""

    builder: str
    argument: Any = None


class Workshop:
    """A few workers and the tasks that wait for them. Raises (do): TranslationFailed, or the HubError the task raised."""

    def __init__(self, bench: Bench, limits: Limits, on_recycled: Callable[[str], None] = lambda _reason: None) -> None:
        self._bench, self._limits, self._on_recycled = bench, limits, on_recycled
        self._free: asyncio.Queue[_Worker] = asyncio.Queue()
        self._all: list[_Worker] = []
        self._closed = False

    def _hire(self) -> None:
        worker = _Worker(self._bench, self._limits)
        self._all.append(worker)
        self._free.put_nowait(worker)

    async def do(self, task: Any) -> Any:
        """The result of one task."""
        if not self._all or (self._free.empty() and len(self._all) < self._limits.workers):
            self._hire()
        worker = await self._free.get()
        try:
            result = await asyncio.to_thread(worker.do, task, self._limits.time_s)
        except _WorkerLost as lost:
            self._replace(worker, lost.reason)
            raise TranslationFailed(f"the worker was ended: {lost.reason}") from None
        except BaseException:
            self._replace(worker, "cancelled")
            raise
        if worker.bench is not self._bench:
            self._replace(worker, "other mappings")
        elif worker.done >= self._limits.tasks:
            self._replace(worker, "served its time")
        else:
            self._free.put_nowait(worker)
        if isinstance(result, HubError):
            raise result
        return result

    def _replace(self, worker: _Worker, reason: str) -> None:
        worker.end()
        self._all.remove(worker)
        self._on_recycled(reason)
        log.event("worker.recycled", level="info" if reason in PLANNED else "warning", reason=reason)
        if not self._closed:
            self._hire()

    def renew(self, bench: Bench, limits: Limits) -> None:
        """Work at another bench from the next task on: who is at one ends it and is replaced, who is idle goes at once."""
        self._bench, self._limits = bench, limits
        while not self._free.empty():
            worker = self._free.get_nowait()
            self._all.remove(worker)
            threading.Thread(target=worker.end, name="worker end", daemon=True).start()

    def close(self) -> None:
        self._closed = True
        for worker in self._all:
            worker.end()


class _WorkerLost(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Worker:
    """One child process, started at its first task."""

    def __init__(self, bench: Bench, limits: Limits) -> None:
        self.bench, self._limits = bench, limits
        self._process: Any = None
        self._pipe: Connection | None = None
        self._lock = threading.Lock()
        self.done = 0

    def do(self, task: Any, time_s: float) -> Any:
        with self._lock:
            if self._pipe is None:
                self._start()
            assert self._pipe is not None
            try:
                self._pipe.send(task)
                if not self._pipe.poll(time_s):
                    raise _WorkerLost(f"it took longer than {time_s:g} s")
                self.done += 1
                return self._pipe.recv()
            except (EOFError, OSError):
                raise _WorkerLost("it died, or needed more memory than it may have") from None

    def _start(self) -> None:
        ours, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(
            target=_work, args=(theirs, self.bench, self._limits.memory_mb), daemon=True, name="mapping-worker"
        )
        self._process.start()
        theirs.close()
        self._pipe = ours
        try:
            if ours.poll(START_S) and ours.recv() == "ready":
                return
        except (EOFError, OSError):
            pass
        raise _WorkerLost("it did not start")

    def end(self) -> None:
        if self._process is not None and self._process.is_alive():
            self._process.kill()
        if self._process is not None:
            self._process.join(5)
        if self._pipe is not None:
            self._pipe.close()


def _work(pipe: Connection, bench: Bench, memory_mb: int) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    module, _, function = bench.builder.partition(":")
    run = getattr(importlib.import_module(module), function)(bench.argument)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (memory_mb << 20), used + (memory_mb << 20)))
    pipe.send("ready")
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            result: Any = run(task)
        except HubError as error:
            result = error
        except MemoryError:
            result = TranslationFailed("it needed more memory than it may have")
        except Exception as error:
            result = TranslationFailed(f"the mapping raised {type(error).__name__}")
        pipe.send(result)
