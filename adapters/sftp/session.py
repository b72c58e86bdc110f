"""One SFTP connection, made when it is needed and made again after it broke. Every method blocks."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import paramiko
from paramiko.sftp import CMD_CLOSE, CMD_EXTENDED, CMD_HANDLE, CMD_NAME, CMD_OPENDIR, CMD_READDIR

from adapters.sftp.keys import host_keys, private_key
from adapters.sftp.options import SftpLogin
from hub.model.refusals import Misconfigured, PeerUnavailable

logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)  # its lines name files; ours say the same without

NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, UNSUPPORTED = 2, 3, 4, 8
_WORDS = {
    NO_SUCH_FILE: "the server knows no such folder",
    PERMISSION_DENIED: "the server does not allow it to this user",
    FAILURE: "the server says that it failed: is its disk full?",
    UNSUPPORTED: "the server does not know how to",
}
_PIECE_BYTES = 32 << 10
_KEEPALIVE_S = 15
HOST_KEY_CHANGED = (
    "the server shows another host key than host_keys_file names: somebody answers in its place, or its key was changed. "
    "Compare with its administrator, then replace the line"
)


class ServerSaid(OSError):
    """An answer of the server that is no success; `status` as in the protocol, its text left out: it may name a file."""

    def __init__(self, status: int) -> None:
        super().__init__(_WORDS.get(status, f"the server answers with status {status}"))
        self.status = status


class _Client(paramiko.SFTPClient):
    """paramiko's client with the server's status kept, and two requests it does not make."""

    def _convert_status(self, msg: Any) -> None:
        code = msg.get_int()
        if code == 1:
            raise EOFError
        if code:
            raise ServerSaid(code)

    def list_raw(self, path: str) -> Iterator[tuple[bytes, paramiko.SFTPAttributes]]:
        """Names as bytes: one that is no UTF-8 must not hide the others."""
        kind, message = self._request(CMD_OPENDIR, path)  # type: ignore[attr-defined]
        if kind != CMD_HANDLE:
            raise paramiko.SFTPError("expected a handle")
        handle = message.get_string()
        try:
            while True:
                try:
                    kind, message = self._request(CMD_READDIR, handle)  # type: ignore[attr-defined]
                except EOFError:
                    return
                if kind != CMD_NAME:
                    raise paramiko.SFTPError("expected names")
                for _ in range(message.get_int()):
                    name = message.get_string()
                    message.get_string()
                    yield name, paramiko.SFTPAttributes._from_msg(message)  # type: ignore[attr-defined]
        finally:
            with contextlib.suppress(ServerSaid):
                self._request(CMD_CLOSE, handle)  # type: ignore[attr-defined]

    def sync(self, file: paramiko.SFTPFile) -> None:
        """Make a file durable where the server can."""
        with contextlib.suppress(ServerSaid):
            self._request(CMD_EXTENDED, "fsync@openssh.com", file.handle)  # type: ignore[attr-defined]


class SftpSession:
    """Connected as often as needed; not for two threads at once."""

    def __init__(self, login: SftpLogin) -> None:
        self._login = login
        self._ssh: paramiko.SSHClient | None = None
        self._sftp: _Client | None = None
        self._posix_rename = True

    @contextmanager
    def connected(self) -> Iterator[_Client]:
        """
        Raises:
            PeerUnavailable: no connection, or it broke; it is made again next time.
        """
        try:
            if self._sftp is None:
                self._connect()
            assert self._sftp is not None
            yield self._sftp
        except ServerSaid:
            raise
        except (EOFError, OSError, paramiko.SSHException) as error:
            self.close()
            raise PeerUnavailable(f"sftp: the connection broke ({_code(error)})") from None
        except BaseException:
            if not self.usable:
                self.close()
            raise

    @property
    def usable(self) -> bool:
        transport = self._ssh.get_transport() if self._ssh is not None else None
        return transport is not None and transport.is_active()

    def close(self) -> None:
        ssh, self._ssh, self._sftp = self._ssh, None, None
        if ssh is not None:
            ssh.close()

    def _connect(self) -> None:
        login = self._login
        ssh = paramiko.SSHClient()
        try:
            host_keys(login)
            ssh.load_host_keys(login.host_keys_file)
            ssh.set_missing_host_key_policy(paramiko.RejectPolicy())
            ssh.connect(
                login.host,
                login.port,
                login.user,
                password=login.password or None,
                pkey=private_key(login) if login.key_file else None,
                timeout=login.connect_timeout_s,
                banner_timeout=login.connect_timeout_s,
                auth_timeout=login.connect_timeout_s,
                channel_timeout=login.connect_timeout_s,
                allow_agent=False,
                look_for_keys=False,
            )
            transport = ssh.get_transport()
            client = _Client.from_transport(transport) if transport is not None else None
            if transport is None or client is None or (channel := client.get_channel()) is None:
                raise paramiko.SSHException("no channel")
            transport.set_keepalive(_KEEPALIVE_S)
            channel.settimeout(login.answer_timeout_s)
        except Misconfigured as error:
            ssh.close()
            raise PeerUnavailable(f"sftp: {error.key} {error.reason}") from None
        except paramiko.BadHostKeyException:
            ssh.close()
            raise PeerUnavailable(f"sftp: {HOST_KEY_CHANGED}") from None
        except paramiko.AuthenticationException:
            ssh.close()
            raise PeerUnavailable("sftp: the server does not let this user in: user, key_file, password_file") from None
        except paramiko.SSHException as error:
            ssh.close()
            unknown = "not found in known_hosts" in str(error)
            raise PeerUnavailable(f"sftp: {HOST_KEY_CHANGED if unknown else f'no connection ({_code(error)})'}") from None
        except (EOFError, OSError) as error:
            ssh.close()
            raise PeerUnavailable(f"sftp: no connection ({_code(error)})") from None
        self._ssh, self._sftp = ssh, client

    # ---- what both directions do -------------------------------------------------------------------------------------

    def rename(self, sftp: _Client, before: str, after: str) -> None:
        """One step for whoever looks; where the server lacks posix-rename, the one of the protocol, which replaces nothing.

        Raises:
            ServerSaid.
        """
        if self._posix_rename:
            try:
                return sftp.posix_rename(before, after)
            except ServerSaid as said:
                if said.status != UNSUPPORTED:
                    raise
                self._posix_rename = False
        return sftp.rename(before, after)

    def write(self, sftp: _Client, path: str, body: bytes) -> None:
        """Write a file from its begin and make it durable.

        Raises:
            ServerSaid: also when the server has fewer bytes afterwards than it was given.
        """
        with sftp.open(path, "w") as file:
            file.set_pipelined(True)
            for start in range(0, len(body), _PIECE_BYTES):
                file.write(body[start : start + _PIECE_BYTES])
            file.set_pipelined(False)
            file.flush()
            sftp.sync(file)
        if sftp.stat(path).st_size != len(body):
            raise ServerSaid(FAILURE)

    def copy(self, sftp: _Client, path: str, size: int, into: BinaryIO) -> int:
        """Read a file of `size` bytes; how many came."""
        came = 0
        with sftp.open(path, "rb") as file:
            file.prefetch(size)
            while piece := file.read(_PIECE_BYTES):
                into.write(piece)
                came += len(piece)
                if came > size:
                    break
        return came

    def size_of(self, sftp: _Client, path: str) -> int | None:
        """None when nothing is there. Links are not followed."""
        try:
            return sftp.lstat(path).st_size
        except ServerSaid as said:
            if said.status == NO_SUCH_FILE:
                return None
            raise


def _code(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    number = getattr(error, "errno", None)
    return errno.errorcode.get(number, type(error).__name__) if isinstance(number, int) else type(error).__name__
