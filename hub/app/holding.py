"""`vaguemestre messages hold|release|holds`: what retention must not touch, from a terminal, hub running or stopped."""

from __future__ import annotations

from collections.abc import Callable

from hub.app.beside import actor, audit, opened
from hub.app.config import Installation
from hub.app.terminal import failed, local_time, print_json, print_table, remark
from hub.ledger import holds
from hub.ledger.acts import NotFound
from hub.model.refusals import HubError
from hub.model.uids import uid_number
from hub.store import Transaction


def hold(installation: Installation, *, message: str, patient: str, source: str, reason: str) -> int:
    """Keep one message, a patient's, or a source's, until they are released."""

    def job(tx: Transaction, kind: str, target: str, now: int) -> str:
        return holds.hold(tx, kind, target, actor=actor(), reason=reason, now=now, sources=installation.graph.sources)

    return _act(installation, "hold", job, message=message, patient=patient, source=source, reason=reason)


def release(installation: Installation, *, message: str, patient: str, source: str, reason: str) -> int:
    """End a hold."""

    def job(tx: Transaction, kind: str, target: str, now: int) -> str:
        return holds.release(tx, kind, target, actor=actor(), reason=reason, now=now)

    return _act(installation, "release", job, message=message, patient=patient, source=source, reason=reason)


def _act(
    installation: Installation,
    verb: str,
    job: Callable[[Transaction, str, str, int], str],
    *,
    message: str,
    patient: str,
    source: str,
    reason: str,
) -> int:
    named = [(kind, target) for kind, target in (("message", message), ("patient", patient), ("source", source)) if target]
    if len(named) != 1:
        remark(f"{verb} one thing: a message id, --patient ID, or --source NAME")
        return 2
    kind, target = named[0]
    try:
        with opened(installation) as store:

            def audited(tx: Transaction) -> str:
                done = job(tx, kind, target, store.now_us())
                person = uid_number(done) if kind == "patient" else _patient_of(tx, done) if kind == "message" else None
                audit(tx, store, f"{kind}.{verb}", f"{kind}/{done}", patient_id=person, reason=reason)
                return done

            store.write(audited)
    except NotFound as error:
        remark(f"{error.sentence}: {target}")
        return 1
    except HubError as error:
        return failed(error)
    print("Held: retention leaves it alone." if verb == "hold" else "Released: retention looks at it again in its next round.")
    return 0


def _patient_of(tx: Transaction, message_id: str) -> int | None:
    row = tx.row("SELECT patient_id FROM message WHERE id = ?", uid_number(message_id))
    return row[0] if row is not None else None


def list_holds(installation: Installation, *, released: bool, as_json: bool) -> int:
    """Print who holds what, and why."""
    try:
        with opened(installation, read_only=True) as store:
            found = store.read(lambda tx: holds.find_holds(tx, released=released, limit=500))
    except HubError as error:
        return failed(error)
    if as_json:
        print_json({"items": found})
        return 0
    if not found:
        print("Nothing is held.")
        return 0
    zone = installation.site.timezone
    print_table(
        ("SINCE", "UNTIL", "WHAT", "TARGET", "BY", "REASON"),
        [
            (
                local_time(one["at"], zone),
                local_time(one["released_at"], zone),
                one["kind"],
                one["target"],
                one["by"],
                one["reason"],
            )
            for one in found
        ],
        whole=(0, 1, 3),
    )
    return 0
