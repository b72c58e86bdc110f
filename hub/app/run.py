"""`vaguemestre run`: the process around a hub."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from hub.app.config import Installation
from hub.model import log
from hub.model.crash_points import arm

_WRONG_USE = ("Misconfigured", "ConfigurationRefused", "DataFolderInUse", "SchemaTooNew", "ClusterFull")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h of glibc
SWITCH_S = 0.0002  # the writer thread gets the interpreter back quickly after each statement


def wrong_role(installation: Installation, role: str, status: str) -> str:
    """Why this installation cannot be run so; empty when it can."""
    if role not in ("all", "edge", "worker", "web"):
        return f"--role {role}: it is all, edge, worker or web"
    if role != "all" and not installation.place.shared:
        return f'--role {role}: several processes need a shared store, [store] url = "postgresql://…"'
    if status and role in ("all", "web"):
        return f"--status: {role} answers on [web] listen"
    host, colon, port = status.rpartition(":")
    if status and not (colon and host and port.isdigit() and int(port) < 65536):
        return "--status: must be HOST:PORT, for example 127.0.0.1:9301"
    return ""


def run_hub(installation: Installation, *, role: str = "all", status: str = "") -> int:
    """Run until SIGTERM or SIGINT; the exit code. `status`: HOST:PORT where an edge or a worker says how it is."""
    from hub.app.hub import Hub
    from hub.app.logging import set_up_logging
    from hub.model.refusals import HubError

    set_up_logging()
    sys.setswitchinterval(SWITCH_S)
    _keep_heap_together()
    _arm_crash_points()

    async def life() -> int:
        began = time.perf_counter()
        hub = Hub(installation, role=role, status=status)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hub.reloader.reload_soon)
        await hub.start()
        log.event(
            "hub.listening",
            seconds=round(time.perf_counter() - began, 3),
            pid=os.getpid(),
            environment=installation.site.environment,
            count=len(hub.sources),
            role=role,
        )
        await hub.start_web()
        gc.collect()
        gc.freeze()  # what the start made stays: collecting looks only at what messages leave behind
        gc.set_threshold(20_000, 20, 50)
        log.event("hub.ready", seconds=round(time.perf_counter() - began, 3), url=hub.web.url if hub.web is not None else None)
        await asyncio.wait(
            {asyncio.ensure_future(stop.wait()), asyncio.ensure_future(hub.failed.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        log.event("hub.stopping", reason="broken store" if hub.failed.is_set() else "signal")
        await hub.stop()
        return 1 if hub.failed.is_set() else 0

    try:
        return new_runner(life)
    except HubError as error:
        print(error.sentence, file=sys.stderr)
        return 2 if error.code in _WRONG_USE else 1
    except OSError as error:
        print(f"cannot start: {error.strerror or error}", file=sys.stderr)
        return 1


def _keep_heap_together() -> None:
    """Two heaps for all threads: with one a thread, buffers of documents that come and go leave each of them full of holes.

    Large buffers go back to the system at once. Where the C library is another one, it does as it always does.
    """
    import ctypes

    try:
        tune = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for option, value in ((M_ARENA_MAX, 2), (M_MMAP_THRESHOLD, 128 << 10), (M_TRIM_THRESHOLD, 1 << 20)):
        tune(option, value)


def new_runner(life: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a coroutine function on uvloop where it exists."""
    try:
        from uvloop import run
    except ImportError:
        return asyncio.run(life())
    result: int = run(life())
    return result


def _arm_crash_points() -> None:
    """For fault tests only: `VAGUEMESTRE_CRASH_AT=after-commit:100` ends the process there with SIGKILL."""
    wanted = os.environ.get("VAGUEMESTRE_CRASH_AT", "")
    if wanted:
        name, _, nth = wanted.partition(":")
        arm(name, int(nth or 1), lambda: os.kill(os.getpid(), signal.SIGKILL))
