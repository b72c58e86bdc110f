"""A folder of an SFTP server that files come into: an `Inbox`. Links are never followed."""

from __future__ import annotations

import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from adapters.sftp.options import SftpLogin
from adapters.sftp.session import NO_SUCH_FILE, PERMISSION_DENIED, ServerSaid, SftpSession
from hub.model.ports import Claimed, Entry, FileUnusable
from hub.model.refusals import PeerUnavailable

CLAIMED = ".claimed"


@dataclass(frozen=True, slots=True)
class SftpInboxOptions:
    """Paths of the server, without a slash at the end. `done` empty: ended files are deleted. `answers` empty: the sender
    gets none. `owner`: letters and digits that say whose claims are ours. `scratch`: a folder here for the file in hand.
    """

    path: str
    done: str
    failed: str
    answers: str
    owner: str
    scratch: str


class SftpInbox:
    """One folder, over one connection."""

    def __init__(self, login: SftpLogin, options: SftpInboxOptions) -> None:
        self.peer = f"{login.host}:{login.port}"
        self._session, self._options = SftpSession(login), options
        self._claimed = f"{options.path}/{CLAIMED}"

    def prepare(self) -> None:
        """
        Raises:
            PeerUnavailable.
        """
        with self._asked() as session, session.connected() as sftp:
            if not stat.S_ISDIR(sftp.stat(self._options.path).st_mode or 0):
                raise PeerUnavailable("sftp: path is no folder")
            for folder in (self._claimed, self._options.done, self._options.failed, self._options.answers):
                if folder and session.size_of(sftp, folder) is None:
                    sftp.mkdir(folder, 0o700)

    def entries(self, settle_s: float) -> Iterator[Entry]:
        """Its clock is not ours: nothing is quiet, what is unchanged shows from one look to the next.

        Raises:
            PeerUnavailable.
        """
        with self._asked() as session, session.connected() as sftp:
            for name, seen in sftp.list_raw(self._options.path):
                mode = seen.st_mode or 0
                yield Entry(
                    name.decode("utf-8", "surrogateescape"),
                    seen.st_size or 0,
                    int(seen.st_mtime or 0),
                    stat.S_ISREG(mode),
                    stat.S_ISDIR(mode),
                )

    def claimed(self) -> list[Claimed]:
        """
        Raises:
            PeerUnavailable.
        """
        with self._asked() as session, session.connected() as sftp:
            names = [name.decode("utf-8", "surrogateescape") for name, _ in sftp.list_raw(self._claimed)]
        mine = [name for name in names if name.startswith(f"{self._options.owner}.") and "~" in name]
        return sorted((Claimed(name.partition("~")[2], name) for name in mine), key=lambda one: one.name)

    def claim(self, file: str | Claimed) -> Claimed | None:
        """
        Raises:
            PeerUnavailable.
        """
        name = file if isinstance(file, str) else file.name
        before = f"{self._options.path}/{file}" if isinstance(file, str) else f"{self._claimed}/{file.claim}"
        claimed = Claimed(name, f"{self._options.owner}.{secrets.token_hex(4)}~{name}")
        with self._asked() as session, session.connected() as sftp:
            try:
                session.rename(sftp, before, f"{self._claimed}/{claimed.claim}")
            except ServerSaid as said:
                if said.status != NO_SUCH_FILE or session.size_of(sftp, self._claimed) is None:
                    raise
                return None
        return claimed

    def read(self, file: Claimed, max_bytes: int) -> BinaryIO:
        """
        Raises:
            PeerUnavailable, FileUnusable.
        """
        path = f"{self._claimed}/{file.claim}"
        into: BinaryIO = tempfile.TemporaryFile(dir=self._options.scratch)  # noqa: SIM115 - the caller closes it
        try:
            with self._asked() as session, session.connected() as sftp:
                seen = sftp.lstat(path)
                size = seen.st_size or 0
                if not stat.S_ISREG(seen.st_mode or 0):
                    raise FileUnusable("the file is no plain file")
                if size > max_bytes:
                    raise FileUnusable(f"the file is larger than {max_bytes} bytes")
                try:
                    came = session.copy(sftp, path, size, into)
                except ServerSaid as said:
                    if said.status != PERMISSION_DENIED:
                        raise
                    raise FileUnusable("the server does not let this user read the file") from None
            if came != size:
                raise PeerUnavailable("sftp: a file was cut while it was read")
        except BaseException:
            into.close()
            raise
        into.seek(0)
        return into

    def answer(self, file: Claimed, acknowledgement: bytes) -> None:
        """
        Raises:
            PeerUnavailable.
        """
        if self._options.answers:
            self._write(f"{self._options.answers}/{file.name}.ack", acknowledgement)

    def end(self, file: Claimed, *, failed: bool, acknowledgement: bytes = b"") -> None:
        """
        Raises:
            PeerUnavailable.
        """
        folder = self._options.failed if failed else self._options.done
        claimed = f"{self._claimed}/{file.claim}"
        with self._asked() as session, session.connected() as sftp:
            if session.size_of(sftp, claimed) is None:
                return  # somebody else of this hub took it meanwhile
            if not folder:
                sftp.remove(claimed)
                return
            aside = f"{folder}/{file.name}"
            if session.size_of(sftp, aside) is not None:  # an earlier file of that name stays
                aside = f"{folder}/{file.claim.partition('~')[0]}~{file.name}"
            if failed and acknowledgement:
                self._write(f"{aside}.ack", acknowledgement)
            session.rename(sftp, claimed, aside)

    def close(self) -> None:
        self._session.close()

    def _write(self, path: str, body: bytes) -> None:
        part = f"{path}.{secrets.token_hex(4)}.part"
        with self._asked() as session, session.connected() as sftp:
            session.write(sftp, part, body)
            session.rename(sftp, part, path)

    @contextmanager
    def _asked(self) -> Iterator[SftpSession]:
        """What the server does not do makes the place unavailable: it is asked again by the next poll."""
        try:
            yield self._session
        except ServerSaid as said:
            raise PeerUnavailable(f"sftp: {said}") from None
