"""Doctor: versions, clock, limits of the process, mapping modules."""

from __future__ import annotations

import resource
import sqlite3
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from hub.app.beside import opened
from hub.app.check import load_mappings, route_mistakes
from hub.app.config import Installation
from hub.app.doctor_running import Running
from hub.app.terminal import counted
from hub.app.ways import MllpSourceSection
from hub.model.refusals import HubError, Misconfigured
from hub.store.verdicts import OK, WARNING, WRONG, Verdict

MIN_SQLITE = (3, 35, 0)  # UPDATE … FROM, RETURNING
FILES_KEPT = 256  # of its own, beside one a connection
CLOCK_STEP_S = 300


def versions(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """Python and SQLite."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Verdict("Python", OK, python)
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        yield Verdict(
            "SQLite",
            WRONG,
            f"{sqlite3.sqlite_version} is too old",
            f"use a Python whose SQLite is {'.'.join(map(str, MIN_SQLITE))} or newer",
        )
    else:
        yield Verdict("SQLite", OK, sqlite3.sqlite_version)


def clock(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """The clock is plausible and not behind what the ledger holds; the time zone is that of the configuration."""
    now = datetime.now(UTC)
    newest = _newest_message_s(installation)
    if now.year < 2026:
        yield Verdict(
            "clock",
            WRONG,
            f"says {now:%Y-%m-%d}, which is past",
            "set the clock, and keep it with NTP (timedatectl set-ntp true)",
        )
    elif newest - time.time() > CLOCK_STEP_S:
        behind = int(newest - time.time())
        yield Verdict(
            "clock",
            WRONG,
            f"is {behind} s behind the newest message of the ledger: it was set back",
            "set the clock, and keep it with NTP (timedatectl set-ntp true)",
        )
    else:
        local = now.astimezone(installation.site.timezone)
        yield Verdict("clock", OK, f"{local:%Y-%m-%d %H:%M:%S %z} ({installation.site.timezone})")


def _newest_message_s(installation: Installation) -> float:
    """When the newest message came, in seconds since 1970; 0 when there is none or it cannot be read."""
    try:
        with opened(installation, read_only=True) as store:
            row = store.read(lambda tx: tx.row("SELECT received_at FROM message ORDER BY id DESC LIMIT 1"))
    except HubError:
        return 0.0
    return row[0] / 1e6 if row else 0.0


def open_files(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """The limit on open files of the running hub, else of this process, against the connections that may come."""
    wanted = FILES_KEPT + sum(
        source.max_connections for source in installation.configuration.source if isinstance(source, MllpSourceSection)
    )
    limit, whose = _limit(running.pid if running is not None else 0)
    if limit < wanted:
        yield Verdict(
            "open files",
            WARNING,
            f"{whose} may open {limit}, the sources together take up to {wanted - FILES_KEPT} connections",
            f"LimitNOFILE={wanted} in the systemd unit (or ulimit -n {wanted}), or lower max_connections",
        )
    else:
        yield Verdict("open files", OK, f"{whose} may open {limit}")


def _limit(hub_pid: int) -> tuple[int, str]:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if hub_pid:
        try:
            for line in Path(f"/proc/{hub_pid}/limits").read_text(encoding="ascii").splitlines():
                if line.startswith("Max open files"):
                    return int(line.split()[3]), "the hub"
        except (OSError, ValueError):
            return soft, "this process"
    return soft, "this process"


def mappings(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """Entry points and site modules load, and provide what routes name."""
    try:
        registry = load_mappings(installation)
    except Misconfigured as refused:
        yield Verdict("mappings", WRONG, refused.sentence, "mend the module; a hub does not start with it")
        return
    for mistake in route_mistakes(installation, registry):
        yield Verdict("mappings", WRONG, mistake.sentence, "name a rewriting that there is, or install its module")
    yield Verdict(
        "mappings", OK, f"{counted(len(registry.names()), 'translation')}, {counted(len(registry.rewrites), 'rewriting')}"
    )
