"""Files that appear whole or not at all, and what the errors of a file system mean to the flow."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from hub.model.refusals import PeerUnavailable

_WORDS = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "the quota is used up",
    errno.EACCES: "not allowed to this user",
    errno.EPERM: "not allowed to this user",
    errno.EROFS: "mounted read-only",
    errno.ENOENT: "the folder is not there: is it mounted?",
    errno.ESTALE: "the mount is stale",
    errno.EXDEV: "on another file system than the folder",
}


def unavailable(error: OSError) -> PeerUnavailable:
    """The error in words, without a name of a file."""
    number = error.errno or 0
    return PeerUnavailable(f"folder: {_WORDS.get(number, 'cannot be used')} ({errno.errorcode.get(number, 'error')})")


def write_whole(path: Path, part: Path, body: bytes) -> None:
    """Write `part`, make it durable, give it its name; what is there under `path` is replaced.

    Raises:
        PeerUnavailable: nothing appeared under `path`.
    """
    try:
        number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        with os.fdopen(number, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise unavailable(error) from None


def sync_folder(folder: Path) -> None:
    """Make names in `folder` durable, where its file system can."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no way to
            os.fsync(number)
    finally:
        os.close(number)
