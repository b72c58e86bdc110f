"""`vaguemestre doctor`: what is wrong with this installation, and what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hub.app import doctor_machine, doctor_network, doctor_storage
from hub.app.config import Installation
from hub.app.database import owner_of
from hub.app.doctor_verdicts import OK, WARNING, WRONG, Verdict
from hub.app.lock import running_hub
from hub.app.terminal import print_json, printable

_MARKS = {OK: "✓", WARNING: "!", WRONG: "✗"}

Check = Callable[[Installation, int | None], Iterator[Verdict]]
MACHINE: tuple[Check, ...] = (doctor_machine.versions, doctor_machine.mappings, doctor_storage.disk)
CHECKS: tuple[Check, ...] = (
    doctor_machine.versions,
    doctor_machine.clock,
    doctor_machine.open_files,
    doctor_machine.mappings,
    doctor_storage.folders,
    doctor_storage.disk,
    doctor_storage.sync_time,
    doctor_storage.database,
    doctor_network.listeners,
    doctor_network.readiness,
    doctor_network.destinations,
    doctor_network.certificates,
)


def examine(installation: Installation, *, as_json: bool) -> int:
    """Print every verdict; 1 when one is wrong. Looks and measures; changes nothing but a file of its own, removed at once."""
    hub_pid: int | None = None
    checks, verdicts = CHECKS, []
    try:
        hub_pid = running_hub(installation.data_dir)
        installation.database.exists()
    except OSError:
        owner = owner_of(installation.data_dir)
        verdicts.append(
            Verdict(
                "user",
                WRONG,
                f"this user may not look into {installation.data_dir}: only the machine was examined",
                f"sudo -u {owner} vaguemestre doctor --config {installation.file}",
            )
        )
        checks = MACHINE
    verdicts += [verdict for check in checks for verdict in _safely(check, installation, hub_pid)]
    wrong = any(verdict.level == WRONG for verdict in verdicts)
    if as_json:
        print_json(
            {
                "ok": not wrong,
                "running": hub_pid is not None,
                "pid": hub_pid or None,
                "checks": [{"check": v.check, "level": v.level, "says": v.says, "next": v.next or None} for v in verdicts],
            }
        )
        return int(wrong)
    running = f"running, process {hub_pid}" if hub_pid else "running" if hub_pid is not None else "not running"
    print(f"{installation.file}: hub {running}")
    for verdict in verdicts:
        print(printable(f"{_MARKS[verdict.level]} {verdict.check}: {verdict.says}"))
        if verdict.next:
            print(printable(f"    → {verdict.next}"))
    return int(wrong)


def _safely(check: Check, installation: Installation, hub_pid: int | None) -> Iterator[Verdict]:
    """A check that fails itself is a verdict too: the others still speak."""
    try:
        yield from check(installation, hub_pid)
    except Exception as error:
        yield Verdict(
            check.__name__.replace("_", " "),
            WRONG,
            f"could not be examined ({type(error).__name__})",
            "run as the user of the hub",
        )
