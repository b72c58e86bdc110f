"""`vaguemestre doctor`: what is wrong with this installation, and what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hub.app import doctor_cluster, doctor_files, doctor_machine, doctor_network, doctor_storage, schematron_rules
from hub.app.config import Installation
from hub.app.database import owner_of
from hub.app.doctor_running import Running, running_here
from hub.app.terminal import print_json, printable
from hub.store.opening import NoDatabase, is_there
from hub.store.verdicts import OK, WARNING, WRONG, Verdict

_MARKS = {OK: "✓", WARNING: "!", WRONG: "✗"}

Check = Callable[[Installation, Running | None], Iterator[Verdict]]
MACHINE: tuple[Check, ...] = (doctor_machine.versions, doctor_machine.mappings, doctor_storage.disk)
CHECKS: tuple[Check, ...] = (
    doctor_machine.versions,
    doctor_machine.clock,
    doctor_machine.open_files,
    doctor_machine.mappings,
    schematron_rules.rules,
    doctor_storage.folders,
    doctor_storage.disk,
    doctor_storage.sync_time,
    doctor_storage.database,
    doctor_storage.bodies,
    doctor_cluster.processes,
    doctor_cluster.lanes,
    doctor_cluster.bell,
    doctor_network.listeners,
    doctor_network.readiness,
    doctor_network.destinations,
    doctor_files.transports,
    doctor_network.certificates,
)


def examine(installation: Installation, *, as_json: bool) -> int:
    """Print every verdict; 1 when one is wrong. Looks and measures; changes nothing but a file of its own, removed at once."""
    running: Running | None = None
    checks, verdicts = CHECKS, []
    try:
        running = running_here(installation)
        if not installation.place.shared:
            is_there(installation.place)
    except (OSError, NoDatabase):
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
    verdicts += [verdict for check in checks for verdict in _safely(check, installation, running)]
    wrong = any(verdict.level == WRONG for verdict in verdicts)
    if as_json:
        print_json(
            {
                "ok": not wrong,
                "running": running is not None,
                "pid": running.pid or None if running is not None else None,
                "checks": [{"check": v.check, "level": v.level, "says": v.says, "next": v.next or None} for v in verdicts],
            }
        )
        return int(wrong)
    state = "not running" if running is None else f"running, process {running.pid}" if running.pid else "running"
    print(f"{installation.file}: hub {state}")
    for verdict in verdicts:
        print(printable(f"{_MARKS[verdict.level]} {verdict.check}: {verdict.says}"))
        if verdict.next:
            print(printable(f"    → {verdict.next}"))
    return int(wrong)


def _safely(check: Check, installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """A check that fails itself is a verdict too: the others still speak."""
    try:
        yield from check(installation, running)
    except Exception as error:
        yield Verdict(
            check.__name__.replace("_", " "),
            WRONG,
            f"could not be examined ({type(error).__name__})",
            "run as the user of the hub",
        )
