"""How to log in to an SFTP server. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SftpLogin:
    """`host_keys_file` is in the form of `known_hosts`: a server with another key, or with none there, is not talked to.

    One of `key_file` (OpenSSH or PEM, without passphrase) and `password`. `answer_timeout_s`: for each answer of the server.
    """

    host: str
    port: int
    user: str
    host_keys_file: str
    key_file: str = ""
    password: str = ""
    connect_timeout_s: float = 10.0
    answer_timeout_s: float = 30.0

    @property
    def known_as(self) -> str:
        """The server's name in `host_keys_file`."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"

    def __repr__(self) -> str:
        return f"SftpLogin({self.user}@{self.host}:{self.port})"
