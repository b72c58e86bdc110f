"""One SFTP connection, made when it is needed and made again after it broke. Every method blocks."""

from __future__ import annotations

import contextlib
import errno
import logging
import select
import socket
import time
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
_HEARD_S = 0.1
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
        self._closings = 0

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
        """End the connection, also one that is being made, in whichever thread."""
        self._closings += 1
        ssh, self._ssh, self._sftp = self._ssh, None, None
        if ssh is not None:
            ssh.close()

    def _connect(self) -> None:
        ssh, line = paramiko.SSHClient(), None
        try:
            host_keys(self._login)
            key = private_key(self._login) if self._login.key_file else None
            line = self._reached()
            self._ssh = ssh  # whoever closes from here on ends what follows
            sftp = self._log_in(ssh, line, key)
        except (Misconfigured, EOFError, OSError, paramiko.SSHException) as error:
            self.close()
            ssh.close()
            if line is not None:
                line.close()
            raise PeerUnavailable(f"sftp: {_why(error)}") from None
        self._ssh, self._sftp = ssh, sftp

    def _log_in(self, ssh: paramiko.SSHClient, line: socket.socket, key: paramiko.PKey | None) -> _Client:
        login = self._login
        ssh.load_host_keys(login.host_keys_file)
        ssh.set_missing_host_key_policy(paramiko.RejectPolicy())
        ssh.connect(
            login.host,
            login.port,
            login.user,
            password=login.password or None,
            pkey=key,
            sock=line,
            timeout=login.connect_timeout_s,
            banner_timeout=login.connect_timeout_s,
            auth_timeout=login.connect_timeout_s,
            channel_timeout=login.connect_timeout_s,
            allow_agent=False,
            look_for_keys=False,
        )
        transport = ssh.get_transport()
        sftp = _Client.from_transport(transport) if transport is not None else None
        channel = sftp.get_channel() if sftp is not None else None
        if transport is None or sftp is None or channel is None:
            raise paramiko.SSHException("no channel")
        transport.set_keepalive(_KEEPALIVE_S)
        channel.settimeout(login.answer_timeout_s)
        return sftp

    def _reached(self) -> socket.socket:
        """A line to the server, asked for a little at a time: `close` is heard.

        Raises:
            OSError.
        """
        closings, failure = self._closings, OSError(errno.EHOSTUNREACH, "")
        end = time.monotonic() + self._login.connect_timeout_s
        for family, kind, protocol, _, address in socket.getaddrinfo(self._login.host, self._login.port, type=socket.SOCK_STREAM):
            line = socket.socket(family, kind, protocol)
            line.setblocking(False)
            code = line.connect_ex(address)
            while code == errno.EINPROGRESS:
                if self._closings != closings:
                    code = errno.ECONNABORTED
                elif time.monotonic() > end:
                    code = errno.ETIMEDOUT
                elif select.select([], [line], [], _HEARD_S)[1]:
                    code = line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                line.setblocking(True)
                return line
            line.close()
            failure = OSError(code, "")
        raise failure

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


def _why(error: Exception) -> str:
    """Why there is no connection."""
    if isinstance(error, Misconfigured):
        return f"{error.key} {error.reason}"
    if isinstance(error, paramiko.BadHostKeyException) or "not found in known_hosts" in str(error):
        return HOST_KEY_CHANGED
    if isinstance(error, paramiko.AuthenticationException):
        return "the server does not let this user in: user, key_file, password_file"
    return f"no connection ({_code(error)})"


def _code(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    number = getattr(error, "errno", None)
    return errno.errorcode.get(number, type(error).__name__) if isinstance(number, int) else type(error).__name__
