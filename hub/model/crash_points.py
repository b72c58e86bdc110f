"""Named places where a fault test may stop the process: between the commit and the ACK, between a send and its mark.

Nothing happens unless `arm` was called, which only `vaguemestre run` does, from `VAGUEMESTRE_CRASH_AT=name[:nth]`.
"""

from __future__ import annotations

from collections.abc import Callable

_armed: dict[str, tuple[int, Callable[[], None]]] = {}


def arm(name: str, nth: int, stop: Callable[[], None]) -> None:
    """Call `stop` the nth time that `name` is reached."""
    _armed[name] = (nth, stop)


def crash_point(name: str) -> None:
    """A place worth crashing at."""
    if _armed and name in _armed:
        left, stop = _armed[name]
        _armed[name] = (left - 1, stop)
        if left <= 1:
            stop()
