"""One running hub a data folder."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from hub.model.refusals import HubError


class DataFolderInUse(HubError):
    """Another hub runs on this data folder."""

    code = "DataFolderInUse"


class DataFolderLock:
    """Held for the life of the process; the kernel frees it however the process ends.

    Raises:
        DataFolderInUse, OSError.
    """

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # patients' data: its owner's only
        self._fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        for attempt in (1, 2, 3):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if attempt < 3:
                    time.sleep(0.02)  # `running_hub` holds it for an instant while it looks
                    continue
                os.close(self._fd)
                raise DataFolderInUse(
                    f"another vaguemestre runs on {data_dir}: stop it first, or give this one its own data_dir"
                ) from None
        os.truncate(self._fd, 0)
        os.write(self._fd, str(os.getpid()).encode())

    def release(self) -> None:
        os.close(self._fd)


def running_hub(data_dir: Path) -> int | None:
    """The process id of the hub that runs on a data folder, 0 while it starts; None when none does.

    Raises:
        OSError: this user may not look.
    """
    try:
        fd = os.open(data_dir / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        written = os.read(fd, 20)
        return int(written) if written.isdigit() else 0
    else:
        return None
    finally:
        os.close(fd)
