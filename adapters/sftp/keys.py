"""Files that a login needs, read before anything is connected."""

from __future__ import annotations

import paramiko

from adapters.sftp.options import SftpLogin
from hub.model.refusals import Misconfigured


def checked(login: SftpLogin) -> None:
    """Return when the files of a login serve.

    Raises:
        Misconfigured: no key of that server in `host_keys_file`, or a `key_file` that is no private key without passphrase.
    """
    host_keys(login)
    if login.key_file:
        private_key(login)


def host_keys(login: SftpLogin) -> paramiko.HostKeys:
    """
    Raises:
        Misconfigured.
    """
    try:
        keys = paramiko.HostKeys(login.host_keys_file)
    except (OSError, paramiko.SSHException, ValueError):
        raise Misconfigured(login.host_keys_file, "host_keys_file", "cannot be read as a known_hosts file") from None
    if not keys.lookup(login.known_as):
        raise Misconfigured(
            login.host_keys_file,
            "host_keys_file",
            f"holds no key of {login.known_as}: ssh-keyscan -p {login.port} {login.host} shows it; compare it with what the "
            "server's administrator says",
        )
    return keys


def private_key(login: SftpLogin) -> paramiko.PKey:
    """
    Raises:
        Misconfigured.
    """
    try:
        return paramiko.PKey.from_path(login.key_file)
    except paramiko.PasswordRequiredException:
        reason = "has a passphrase, which nobody could type: take a key without, readable by the hub only"
    except (OSError, ValueError, TypeError, paramiko.SSHException, paramiko.pkey.UnknownKeyType):
        reason = "is not a private key that can be read (OpenSSH or PEM)"
    raise Misconfigured(login.key_file, "key_file", reason) from None
