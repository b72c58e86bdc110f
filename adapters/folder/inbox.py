"""A folder of this machine that files come into: an `Inbox`. Links are never followed."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from adapters.folder.writing import unavailable, write_whole
from hub.model.ports import Claimed, Entry, FileUnusable
from hub.model.refusals import PeerUnavailable

CLAIMED = ".claimed"  # below the folder, so that a rename is one


@dataclass(frozen=True, slots=True)
class FolderInboxOptions:
    """`done` None: ended files are deleted. `answers` None: the sender gets none. `owner`: letters and digits that say whose
    claims are ours, also after a restart.
    """

    path: Path
    done: Path | None
    failed: Path
    answers: Path | None
    owner: str


class FolderInbox:
    """One folder."""

    def __init__(self, options: FolderInboxOptions) -> None:
        self.peer = ""
        self._options = options
        self._claimed = options.path / CLAIMED

    def prepare(self) -> None:
        """
        Raises:
            PeerUnavailable.
        """
        if not self._options.path.is_dir():
            raise PeerUnavailable("the folder is not there: is it mounted?")
        try:
            for folder in (self._claimed, self._options.done, self._options.failed, self._options.answers):
                if folder is not None:
                    folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise unavailable(error) from None

    def entries(self, settle_s: float) -> Iterator[Entry]:
        """
        Raises:
            PeerUnavailable.
        """
        now = time.time()
        try:
            with os.scandir(self._options.path) as found:
                for one in found:
                    try:
                        seen = one.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    changed = max(seen.st_mtime, seen.st_ctime)  # a copy may set the first; nobody sets the second
                    yield Entry(
                        one.name,
                        seen.st_size,
                        max(seen.st_mtime_ns, seen.st_ctime_ns),
                        stat.S_ISREG(seen.st_mode),
                        stat.S_ISDIR(seen.st_mode),
                        quiet=settle_s <= now - changed,
                    )
        except OSError as error:
            raise unavailable(error) from None

    def claimed(self) -> list[Claimed]:
        """
        Raises:
            PeerUnavailable.
        """
        try:
            found = [one.name for one in self._claimed.iterdir() if one.name.startswith(f"{self._options.owner}.")]
        except OSError as error:
            raise unavailable(error) from None
        return sorted((Claimed(name.partition("~")[2], name) for name in found if "~" in name), key=lambda one: one.name)

    def claim(self, file: str | Claimed) -> Claimed | None:
        """
        Raises:
            PeerUnavailable.
        """
        name = file if isinstance(file, str) else file.name
        before = self._options.path / file if isinstance(file, str) else self._claimed / file.claim
        claimed = Claimed(name, f"{self._options.owner}.{secrets.token_hex(4)}~{name}")
        try:
            before.rename(self._claimed / claimed.claim)
        except FileNotFoundError:
            if not self._claimed.is_dir():
                raise PeerUnavailable("the folder .claimed is not there") from None
            return None
        except OSError as error:
            raise unavailable(error) from None
        return claimed

    def read(self, file: Claimed, max_bytes: int) -> BinaryIO:
        """
        Raises:
            FileUnusable.
        """
        try:
            number = os.open(self._claimed / file.claim, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise FileUnusable(f"the file cannot be read ({errno.errorcode.get(error.errno or 0, 'error')})") from None
        opened = os.fdopen(number, "rb")
        seen = os.fstat(number)
        if not stat.S_ISREG(seen.st_mode):
            opened.close()
            raise FileUnusable("the file is no plain file")
        if seen.st_size > max_bytes:
            opened.close()
            raise FileUnusable(f"the file is larger than {max_bytes} bytes")
        return opened

    def answer(self, file: Claimed, acknowledgement: bytes) -> None:
        """
        Raises:
            PeerUnavailable.
        """
        if self._options.answers is not None:
            self._write(self._options.answers / f"{file.name}.ack", acknowledgement)

    def end(self, file: Claimed, *, failed: bool, acknowledgement: bytes = b"") -> None:
        """
        Raises:
            PeerUnavailable.
        """
        folder = self._options.failed if failed else self._options.done
        claimed = self._claimed / file.claim
        try:
            if folder is None:
                claimed.unlink(missing_ok=True)
                return
            aside = folder / file.name
            if os.path.lexists(aside):  # an earlier file of that name stays
                aside = folder / f"{file.claim.partition('~')[0]}~{file.name}"
            if failed and acknowledgement:
                self._write(aside.with_name(f"{aside.name}.ack"), acknowledgement)
            claimed.rename(aside)
        except FileNotFoundError:
            if not folder or not folder.is_dir():
                raise PeerUnavailable("the folder of ended files is not there") from None
        except OSError as error:
            raise unavailable(error) from None

    def close(self) -> None:
        """Nothing is open."""

    def _write(self, path: Path, body: bytes) -> None:
        write_whole(path, path.with_name(f"{path.name}.{secrets.token_hex(4)}.part"), body)
