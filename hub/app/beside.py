"""The database for one command, beside a running hub or without one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from hub.app.config import Installation
from hub.app.database import owner_name
from hub.ledger.audit import AuditEntry, record
from hub.model.refusals import HubError
from hub.store import Transaction
from hub.store.sqlite import ShortStore
from hub.store.upgrade import HEAD, SchemaTooNew, version_of

T = TypeVar("T")


class NoDatabase(HubError):
    """There is no database of this version where the configuration says."""

    code = "NoDatabase"


@contextmanager
def opened(installation: Installation, *, read_only: bool = False) -> Iterator[ShortStore]:
    """The store of this installation. Read-only when nothing is to be changed: then the hub's user is not needed to write.

    Raises:
        NoDatabase: missing, of an older schema, unreadable, or no database at all. SchemaTooNew. StoreUnavailable.
    """
    database = installation.database
    try:
        if not database.exists():
            raise NoDatabase(f"there is no database at {database} yet: start the hub once, or run vaguemestre db upgrade")
        version = version_of(database)
        if version > HEAD:
            raise SchemaTooNew(f"the database has schema {version}, this version knows {HEAD}: use the newer version again")
        store = ShortStore(database, installation.blob_folder, read_only=read_only)
        try:
            if version != HEAD:
                store.read(lambda tx: tx.row("SELECT 1 FROM sqlite_master"))  # tells an unreadable file from an older one
                known = version or "none"
                raise NoDatabase(f"the database has schema {known}, this version needs {HEAD}: run vaguemestre db upgrade")
            yield store
        finally:
            store.close()
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", None) or type(error).__name__
        sentence = f"the database at {database} cannot be read ({code}): run as the user of the hub, or see doctor"
        raise NoDatabase(sentence) from None
    except OSError as error:
        raise NoDatabase(f"{installation.data_dir} cannot be read ({error.strerror}): run as the user of the hub") from None


def rehearsed(store: ShortStore, job: Callable[[Transaction], T]) -> T:
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


def audit(tx: Transaction, store: ShortStore, act: str, target: str, *, patient_id: int | None = None, **detail: object) -> None:
    """The audit row of an act of whoever runs this command, in the act's own transaction."""
    record(tx, [AuditEntry(actor(), "operator", act, target, patient_id, detail)], next_id=store.next_id, now_us=store.now_us())


def actor() -> str:
    """`cli:` and the user of the operating system."""
    return f"cli:{owner_name(os.getuid())}"
