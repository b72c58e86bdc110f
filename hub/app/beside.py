"""The database for one command, beside running hubs or without any."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from hub.app.config import Installation
from hub.app.database import owner_name
from hub.app.lock import running_hub
from hub.ledger.audit import AuditEntry, record
from hub.store import Transaction, opening
from hub.store.lazy_blobs import LazyBlobs
from hub.store.place import CommandStore

T = TypeVar("T")


@contextmanager
def opened(installation: Installation, *, read_only: bool = False) -> Iterator[CommandStore]:
    """The store of this installation. Read-only when nothing is to be changed: then the hub's user is not needed to write.

    Raises:
        NoDatabase: missing, of an older schema, unreadable, or no database at all. SchemaTooNew. StoreUnavailable.
    """
    with opening.opened(installation.place, LazyBlobs(installation.blobs), read_only=read_only) as store:
        yield store


def rehearsed(store: CommandStore, job: Callable[[Transaction], T]) -> T:
    """What `job` would give, in a transaction that is then undone."""

    class Undone(Exception):
        pass

    found: list[T] = []

    def undone(tx: Transaction) -> None:
        found.append(job(tx))
        raise Undone

    with suppress(Undone):
        store.write(undone)
    return found[0]


def audit(
    tx: Transaction, store: CommandStore, act: str, target: str, *, patient_id: int | None = None, **detail: object
) -> None:
    """The audit row of an act of whoever runs this command, in the act's own transaction."""
    record(tx, [AuditEntry(actor(), "operator", act, target, patient_id, detail)], next_id=store.next_id, now_us=store.now_us())


def actor() -> str:
    """`cli:` and the user of the operating system."""
    return f"cli:{owner_name(os.getuid())}"


def is_delivering(installation: Installation) -> bool:
    """Whether a hub takes up deliveries now: one that holds the data folder, or a process of a shared store.

    Raises:
        OSError: this user may not look. StoreUnavailable, NoDatabase.
    """
    if not installation.place.shared:
        return running_hub(installation.data_dir) is not None
    with opened(installation, read_only=True) as store:
        now = store.now_us()
        return bool(
            store.read(lambda tx: tx.row("SELECT 1 FROM member WHERE lease_until >= ? AND role IN ('worker', 'all')", now))
        )
