"""A folder of an SFTP server that files go to: an `Outbox`."""

from __future__ import annotations

import queue
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from adapters.sftp.options import SftpLogin
from adapters.sftp.session import ServerSaid, SftpSession
from hub.model.refusals import NoAnswer, PeerRefused, PeerUnavailable


class SftpOutbox:
    """One folder, over up to `connections` connections. It has to be there; nothing makes it."""

    def __init__(self, login: SftpLogin, path: str, *, connections: int = 1) -> None:
        self._path = path
        self._mine = secrets.token_hex(4)  # two processes never write one `.part`
        self._sessions = [SftpSession(login) for _ in range(connections)]
        self._free: queue.LifoQueue[SftpSession] = queue.LifoQueue()
        for session in self._sessions:
            self._free.put(session)

    def put(self, name: str, body: bytes, *, unsure: bool) -> None:
        """
        Raises:
            PeerUnavailable: no connection, no space, no right, no folder; nothing appeared.
            NoAnswer: the connection broke while the file was given its name.
            PeerRefused: another file has this name.
        """
        path, part = f"{self._path}/{name}", f"{self._path}/{name}.{self._mine}.part"
        renaming = False
        try:
            with self._session() as session, session.connected() as sftp:
                there = session.size_of(sftp, path)
                if there is None and unsure and session.size_of(sftp, part) is None:
                    return  # it was given its name, and its receiver took it already
                if there is None:
                    session.write(sftp, part, body)
                    renaming = True
                    session.rename(sftp, part, path)
                elif there != len(body):
                    raise PeerRefused("the folder holds another file of this name")
        except ServerSaid as said:
            raise PeerUnavailable(f"sftp: {said}") from None
        except PeerUnavailable as error:
            if renaming:
                raise NoAnswer(error.sentence) from None
            raise

    def probe(self) -> None:
        """
        Raises:
            PeerUnavailable.
        """
        try:
            with self._session() as session, session.connected() as sftp:
                sftp.stat(self._path)
        except ServerSaid as said:
            raise PeerUnavailable(f"sftp: {said}") from None

    def close(self) -> None:
        for session in self._sessions:
            session.close()

    @contextmanager
    def _session(self) -> Iterator[SftpSession]:
        session = self._free.get()
        try:
            yield session
        finally:
            self._free.put(session)
