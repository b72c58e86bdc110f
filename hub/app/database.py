"""`vaguemestre db upgrade`."""

from __future__ import annotations

import os
import pwd
import sqlite3
from pathlib import Path

from hub.app.config import Installation
from hub.app.lock import DataFolderInUse, DataFolderLock
from hub.app.terminal import remark
from hub.model.refusals import HubError
from hub.store.upgrade import HEAD, SchemaTooNew, upgrade, version_of


class WrongUser(HubError):
    """What root would make here, the hub could not use."""

    code = "WrongUser"


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
    except WrongUser as refused:
        remark(refused.sentence)
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
        SchemaTooNew, DataFolderInUse, WrongUser, OSError, sqlite3.DatabaseError.
    """
    if version_of(installation.database) == HEAD:
        return HEAD, HEAD
    owner = owner_of(installation.data_dir)
    if os.geteuid() == 0 and owner not in ("", owner_name(0)):
        folder = installation.data_dir
        raise WrongUser(f"{folder} belongs to {owner}: run this as {owner} (sudo -u {owner} …), else the hub could not write it")
    lock = DataFolderLock(installation.data_dir)
    try:
        return upgrade(installation.database)
    finally:
        lock.release()


def owner_of(folder: Path) -> str:
    """The user whose folder it is; empty when there is none."""
    return owner_name(folder.stat().st_uid) if folder.exists() else ""


def owner_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
