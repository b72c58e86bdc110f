"""Doctor: which processes of this hub run, here and elsewhere."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from hub.app.beside import opened
from hub.app.config import Installation
from hub.app.lock import running_hub
from hub.model.refusals import HubError

_MEMBERS = (
    "SELECT role, host, pid, version, edge, seen_at, lease_until - seen_at, configuration FROM member ORDER BY host, role, edge"
)


@dataclass(frozen=True, slots=True)
class Member:
    """One process of a shared store. `lease_us`: how long after `seen_us` (UTC microseconds, of the server) it is given up."""

    role: str
    host: str
    pid: int
    version: str
    edge: int
    seen_us: int
    lease_us: int
    configuration: str  # fingerprint of what it runs with


@dataclass(frozen=True, slots=True)
class Running:
    """The hub of this machine. `pid` 0: it is only starting. `listens`, `serves`: it has the MLLP listeners, [web] listen."""

    pid: int
    listens: bool = True
    serves: bool = True


def running_here(installation: Installation) -> Running | None:
    """What runs on this machine, None when nothing does.

    Raises:
        OSError: this user may not look.
    """
    if not installation.place.shared:
        pid = running_hub(installation.data_dir)
        return Running(pid) if pid is not None else None
    here = [one for one in members(installation) if one.host == socket.gethostname()]
    if not here:
        return None
    listening = [one.pid for one in here if one.role in ("all", "edge")]
    serving = [one.pid for one in here if one.role in ("all", "web")]
    return Running((listening or serving or [here[0].pid])[0], bool(listening), bool(serving))


def members(installation: Installation) -> list[Member]:
    """Every process on the list of a shared store; none when it cannot be asked."""
    try:
        with opened(installation, read_only=True) as store:
            return [Member(*row) for row in store.read(lambda tx: tx.rows(_MEMBERS))]
    except HubError:
        return []
