"""One running hub a data folder."""

from __future__ import annotations

import fcntl
import os
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
        data_dir.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise DataFolderInUse(f"another vaguemestre runs on {data_dir}: stop it first, or give this one its own data_dir") from None
        os.truncate(self._fd, 0)
        os.write(self._fd, str(os.getpid()).encode())

    def release(self) -> None:
        os.close(self._fd)
