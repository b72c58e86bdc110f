"""How far a command is, on a terminal only."""

from __future__ import annotations

import sys
from typing import Any, Self


class Bar:
    """`with Bar("copying") as bar: bar.show("message", 3, 10)`; a line each for what it is told about."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._progress: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._progress = Progress(console=Console(stderr=True), transient=True)
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, what: str, done: int, total: int) -> None:
        """`done` of `total` of `what`."""
        if self._progress is None or not total:
            return
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(f"{self._verb} {what}", total=total)
        self._progress.update(self._tasks[what], completed=done)
