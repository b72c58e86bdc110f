"""`vaguemestre db upgrade`."""

from __future__ import annotations

import sqlite3

from hub.app.config import Installation
from hub.app.lock import DataFolderInUse, DataFolderLock
from hub.app.terminal import remark
from hub.store.upgrade import HEAD, SchemaTooNew, upgrade, version_of


def upgrade_database(installation: Installation) -> int:
    """Create or migrate the database and say so; 1 when it cannot be done, 2 when it is of a newer version."""
    database = installation.database
    try:
        before, after = upgraded(installation)
    except SchemaTooNew as refused:
        remark(f"{database}: {refused.sentence}")
        return 2
    except DataFolderInUse as refused:
        remark(f"{refused.sentence}. A hub that is running is not migrated under its feet.")
        return 1
    except sqlite3.DatabaseError as error:
        code = type(error).__name__
        remark(f"{database} is not a database that can be upgraded ({code}): restore a copy, or name another file in [store] url")
        return 1
    except OSError as error:
        remark(f"{error.filename or database} cannot be written ({error.strerror}): run as the user of the hub")
        return 1
    if before == after:
        print(f"{database}: schema {after}, nothing to do")
    else:
        print(f"{database}: schema {before or 'none'} → {after}")
    return 0


def upgraded(installation: Installation) -> tuple[str, str]:
    """Versions before and after; nobody else runs on the data folder while something changes.

    Raises:
        SchemaTooNew, DataFolderInUse, OSError, sqlite3.DatabaseError.
    """
    if version_of(installation.database) == HEAD:
        return HEAD, HEAD
    lock = DataFolderLock(installation.data_dir)
    try:
        return upgrade(installation.database)
    finally:
        lock.release()
