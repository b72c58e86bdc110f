"""Large bodies named by their SHA-256, so the same bytes are stored once: as files of a folder, here, or in a bucket."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import threading
from pathlib import Path
from typing import Protocol

from hub.store.port import BlobDamaged, StoreUnavailable

PART_KEPT_S = 3600.0


class SyncFailed(StoreUnavailable):
    """The kernel may have thrown away what it could not write; asking again would not say so."""

    code = "SyncFailed"


class Blobs(Protocol):
    """Where the stores keep large bodies. Every process that shares a database shares this too."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def write(self, sha256: bytes, content: bytes) -> None:
        """Put `content` in place; twice the same is once, and what was altered there is made good.

        Durable when `sync_folders` has returned.

        Raises:
            OSError: a folder's disk is full or read-only.
            StoreUnavailable: a bucket does not answer, or refuses.
        """

    def sync_folders(self) -> None:
        """Make all that was written since the last call durable; called before the commit that names it.

        Raises:
            StoreUnavailable, OSError: nothing that names it may be committed.
        """

    def read(self, sha256: bytes) -> bytes:
        """The bytes, checked against their name.

        Raises:
            BlobDamaged: certainly missing, torn or altered.
            StoreUnavailable: nobody can say for now.
        """

    def clear_parts(self) -> None:
        """Remove what killed processes left half written; never what a living one writes."""

    def remove(self, sha256: bytes) -> None:
        """Remove a body, if it is there. The caller knows that no row names it and that nobody is keeping the same bytes.

        Raises:
            StoreUnavailable: it may still be there.
        """


class BlobFolder:
    """Content-addressed files under sixteen folders, for any number of processes and machines at once.

    `write` syncs the file and renames it into place; `sync_folders` makes the names durable and is called once a commit.
    """

    name = "the blob folder"

    def __init__(self, root: Path, *, make_root: bool = True) -> None:
        """With `make_root` false the folder must be there: where a mount is missing, nothing is kept beside it.

        Raises:
            OSError: it is missing or takes no writes.
        """
        self._root = root
        self._lock = threading.Lock()
        self._unsynced: set[Path] = set()
        self._syncing = threading.Lock()
        self._failed_syncs = 0
        self._parts = root / "parts"
        for name in ("parts", *"0123456789abcdef"):
            (root / name).mkdir(parents=make_root, exist_ok=True)

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
            part = self._new_part(path.name)
            try:
                _write_synced(part, content)
                part.replace(path)
            except OSError:
                with contextlib.suppress(OSError):
                    part.unlink(missing_ok=True)
                raise
        with self._lock:
            self._unsynced.add(path.parent)

    def clear_parts(self) -> None:
        """Remove the parts that nobody has written to for an hour, by the clock of the machine that holds the folder."""
        with contextlib.suppress(OSError):  # a folder that takes no writes has not to be tidied
            probe = self._new_part("clock")
            probe.touch()
            now = probe.stat().st_mtime
            probe.unlink()
            for part in self._parts.iterdir():
                with contextlib.suppress(FileNotFoundError):  # renamed, or removed by another
                    if now - part.stat().st_mtime > PART_KEPT_S:
                        part.unlink()

    def sync_folders(self) -> None:
        """Make the names of all files written since the last call durable. Calls wait for each other.

        Raises:
            SyncFailed: what the folder holds is only known after a restart.
            OSError: the folder cannot be opened; the next call tries again.
        """
        failed_before = self._failed_syncs
        with self._syncing:
            if self._failed_syncs != failed_before:
                raise SyncFailed("the blob folder could not be synced")  # the kernel tells of a failure once
            if not self._unsynced:
                return
            with self._lock:
                folders, self._unsynced = self._unsynced, set()
            try:
                for folder in folders:
                    _sync_folder(folder)
            except (OSError, SyncFailed) as error:
                self._failed_syncs += isinstance(error, SyncFailed)
                with self._lock:
                    self._unsynced |= folders
                raise

    def read(self, sha256: bytes) -> bytes:
        """The bytes, checked against their name.

        Raises:
            BlobDamaged: missing, torn, altered, or on a place of the disk that cannot be read.
            StoreUnavailable: the folder is not there or does not answer.
        """
        path = self.path(sha256)
        try:
            content = _read_shared(path)
        except FileNotFoundError:
            raise BlobDamaged("a stored body file is missing") from None
        except OSError as error:
            if error.errno == errno.EISDIR or (error.errno == errno.EIO and self._takes_writes()):
                raise BlobDamaged("a stored body file is unreadable") from None
            raise StoreUnavailable(f"the blob folder cannot be read ({_code(error)})") from None
        if hashlib.sha256(content).digest() != sha256:
            raise BlobDamaged("a stored body file is not the bytes it was")
        return content

    def remove(self, sha256: bytes) -> None:
        try:
            self.path(sha256).unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"the blob folder does not take writes ({_code(error)})") from None

    def _new_part(self, name: str) -> Path:
        return self._parts / f"{name}.{secrets.token_hex(8)}"

    def _takes_writes(self) -> bool:
        """Whether the folder works but for the file that could not be read: a mount without its server gives EIO too."""
        probe = self._new_part("probe")
        try:
            _write_synced(probe, b"probe")
            probe.unlink()
        except OSError:
            return False
        return True


def _write_synced(part: Path, content: bytes) -> None:
    with part.open("xb") as out:
        out.write(content)
        out.flush()
        os.fdatasync(out.fileno())


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError:
        raise SyncFailed("the blob folder could not be synced") from None
    finally:
        os.close(fd)


def _read_shared(path: Path) -> bytes:
    """The bytes of a file that another machine may just have made.

    Raises:
        FileNotFoundError: not in its folder. StoreUnavailable: the folder itself is missing. OSError.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        try:  # an NFS client remembers what was not there; opening the folder makes it ask again
            os.close(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY))
        except FileNotFoundError:
            raise StoreUnavailable("the blob folder is not there") from None
        return path.read_bytes()


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _code(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "OSError")
