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

SWITCH_S = 0.0002  # the writer thread gets the interpreter back quickly after each statement


def run_hub(installation: Installation) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    from hub.app.hub import Hub
    from hub.app.logging import set_up_logging
    from hub.model.refusals import HubError

    set_up_logging()
    sys.setswitchinterval(SWITCH_S)
    _arm_crash_points()

    async def life() -> int:
        began = time.perf_counter()
        hub = Hub(installation)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await hub.start()
        log.event(
            "hub.listening",
            seconds=round(time.perf_counter() - began, 3),
            pid=os.getpid(),
            environment=installation.site.environment,
            count=len(hub.sources),
        )
        await hub.start_web()
        gc.collect()
        gc.freeze()  # what the start made stays: collecting looks only at what messages leave behind
        gc.set_threshold(20_000, 20, 50)
        log.event("hub.ready", seconds=round(time.perf_counter() - began, 3), url=hub.web.url)
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
        return 2 if error.code in ("Misconfigured", "ConfigurationRefused", "DataFolderInUse", "SchemaTooNew") else 1
    except OSError as error:
        print(f"cannot start: {error.strerror or error}", file=sys.stderr)
        return 1


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
