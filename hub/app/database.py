"""`vaguemestre db upgrade`."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from hub.app.config import Installation
from hub.app.lock import DataFolderInUse, DataFolderLock
from hub.app.terminal import failed, remark
from hub.model.refusals import HubError
from hub.store.opening import migrated, schema_of
from hub.store.upgrade import HEAD


class WrongUser(HubError):
    """What root would make here, the hub could not use."""

    code = "WrongUser"


def upgrade_database(installation: Installation) -> int:
    """Create or migrate the database and say so; 1 when it cannot be done, 2 when it is of a newer version."""
    name = installation.place.name
    try:
        before, after = upgraded(installation)
    except DataFolderInUse as refused:
        remark(f"{refused.sentence}. A hub that is running is not migrated under its feet.")
        return 1
    except HubError as refused:
        return failed(refused)
    except OSError as error:
        remark(f"{error.filename or name} cannot be written ({error.strerror}): run as the user of the hub")
        return 1
    if before == after:
        print(f"{name}: schema {after}, nothing to do")
    else:
        print(f"{name}: schema {before or 'none'} → {after}")
    return 0


def upgraded(installation: Installation) -> tuple[str, str]:
    """Versions before and after; nobody else runs on the data folder while something changes.

    On a shared store those that start together migrate one after the other.

    Raises:
        SchemaTooNew, DataFolderInUse, WrongUser, NoDatabase, StoreUnavailable, OSError.
    """
    if schema_of(installation.place) == HEAD:
        return HEAD, HEAD
    if installation.place.shared:
        return migrated(installation.place)
    refuse_wrong_user(installation)
    lock = DataFolderLock(installation.data_dir)
    try:
        return migrated(installation.place)
    finally:
        lock.release()


def refuse_wrong_user(installation: Installation) -> None:
    """Root makes no files in the folder of somebody else.

    Raises:
        WrongUser.
    """
    owner = owner_of(installation.data_dir)
    if os.geteuid() == 0 and owner not in ("", owner_name(0)):
        folder = installation.data_dir
        raise WrongUser(f"{folder} belongs to {owner}: run this as {owner} (sudo -u {owner} …), else the hub could not write it")


def owner_of(folder: Path) -> str:
    """The user whose folder it is; empty when there is none."""
    return owner_name(folder.stat().st_uid) if folder.exists() else ""


def owner_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
