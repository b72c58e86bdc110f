"""Large bodies as files named by their SHA-256, so the same bytes are stored once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

from hub.store.port import BlobDamaged, StoreUnavailable


class SyncFailed(StoreUnavailable):
    """The kernel may have thrown away what it could not write; asking again would not say so."""

    code = "SyncFailed"


class BlobFolder:
    """Content-addressed files under sixteen folders.

    `write` syncs the file and renames it into place; `sync_folders` makes the names durable and is called once a commit.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._unsynced: set[Path] = set()
        self._parts = root / "parts"
        for name in ("parts", *"0123456789abcdef"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def path(self, sha256: bytes) -> Path:
        name = sha256.hex()
        return self._root / name[0] / name

    def write(self, sha256: bytes, content: bytes) -> None:
        """Put `content` in place, synced; twice the same is once, and a damaged file is made good.

        Raises:
            OSError: disk full, read-only.
        """
        path = self.path(sha256)
        if not _holds(path, content):
            part = self._parts / f"{path.name}.{threading.get_ident()}"
            try:
                with part.open("wb") as out:
                    out.write(content)
                    out.flush()
                    os.fdatasync(out.fileno())
                part.replace(path)
            except OSError:
                with contextlib.suppress(OSError):
                    part.unlink(missing_ok=True)
                raise
        with self._lock:
            self._unsynced.add(path.parent)

    def clear_parts(self) -> None:
        """Remove what a process that was killed left half written. Only for the one process that holds the data folder."""
        for part in self._parts.iterdir():
            part.unlink(missing_ok=True)

    def sync_folders(self) -> None:
        """Make the names of all files written since the last call durable.

        Raises:
            SyncFailed: what the folder holds is only known after a restart.
            OSError: the folder cannot be opened; the next call tries again.
        """
        if not self._unsynced:
            return
        with self._lock:
            folders, self._unsynced = self._unsynced, set()
        try:
            for folder in folders:
                fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(fd)
                except OSError:
                    raise SyncFailed("the blob folder could not be synced") from None
                finally:
                    os.close(fd)
        except (OSError, SyncFailed):
            with self._lock:
                self._unsynced |= folders
            raise

    def read(self, sha256: bytes) -> bytes:
        """The bytes, checked against their name.

        Raises:
            BlobDamaged: missing, torn or altered.
        """
        try:
            content = self.path(sha256).read_bytes()
        except OSError:
            raise BlobDamaged("a stored body file is missing or unreadable") from None
        if hashlib.sha256(content).digest() != sha256:
            raise BlobDamaged("a stored body file is not the bytes it was")
        return content


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False
