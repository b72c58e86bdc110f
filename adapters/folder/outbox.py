"""A folder of this machine that files go to: an `Outbox`."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from adapters.folder.writing import unavailable, write_whole
from hub.model.refusals import PeerRefused, PeerUnavailable


class FolderOutbox:
    """One folder. It has to be there: nothing makes it, so that a mount that is missing is noticed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mine = secrets.token_hex(4)  # two processes never write one `.part`

    def put(self, name: str, body: bytes, *, unsure: bool) -> None:
        """
        Raises:
            PeerUnavailable: no space, no right, no folder; nothing appeared.
            PeerRefused: another file has this name.
        """
        path = self._path / name
        try:
            there = path.lstat()
        except FileNotFoundError:
            write_whole(path, self._path / f"{name}.{self._mine}.part", body)
            return
        except OSError as error:
            raise unavailable(error) from None
        if there.st_size != len(body):
            raise PeerRefused("the folder holds another file of this name")

    def probe(self) -> None:
        """
        Raises:
            PeerUnavailable.
        """
        if not self._path.is_dir():
            raise PeerUnavailable("folder: not there: is it mounted?")
        if not os.access(self._path, os.W_OK | os.X_OK):
            raise PeerUnavailable("folder: not allowed to this user")

    def close(self) -> None:
        """Nothing is open."""
