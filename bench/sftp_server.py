"""A real OpenSSH server on loopback, as the current user, with keys made on the spot; and a line to it that can be cut."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

SSHD = Path("/usr/sbin/sshd")


class SftpServer:
    """`with SftpServer(folder) as server:` - `files` is what clients see as `server.path`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.user = folder, getpass.getuser()
        self.files = folder / "files"
        self.key, self.known = folder / "client_key", folder / "known_hosts"
        self.port, self._process = 0, None

    @staticmethod
    def available() -> bool:
        return SSHD.exists() and shutil.which("ssh-keygen") is not None

    @property
    def path(self) -> str:
        return str(self.files)

    def __enter__(self) -> SftpServer:
        self.files.mkdir(parents=True, exist_ok=True)
        for name in ("client_key", "host_key"):
            _keygen(self.folder / name)
        keys = self.folder / "authorized_keys"
        keys.write_text((self.folder / "client_key.pub").read_text(encoding="ascii"), encoding="ascii")
        keys.chmod(0o600)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (self.folder / "sshd_config").write_text(
            f"""
Port {self.port}
ListenAddress 127.0.0.1
HostKey {self.folder}/host_key
AuthorizedKeysFile {keys}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
MaxStartups 100
Subsystem sftp internal-sftp
""",
            encoding="ascii",
        )
        self.know(self.port)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def know(self, port: int, host_key: str = "host_key") -> None:
        """Put the server's key, as seen at `port`, into `known`."""
        public = (self.folder / f"{host_key}.pub").read_text(encoding="ascii").split()
        with self.known.open("a", encoding="ascii") as file:
            file.write(f"[127.0.0.1]:{port} {public[0]} {public[1]}\n")

    def new_host_key(self) -> None:
        """The server is another from its next start on."""
        (self.folder / "host_key").unlink()
        _keygen(self.folder / "host_key")

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [str(SSHD), "-D", "-e", "-f", str(self.folder / "sshd_config")],
            stderr=(self.folder / "log").open("a"),
            start_new_session=True,
        )
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < end, (self.folder / "log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        """The server and its connections end."""
        if self._process is not None:
            number = self._process.pid
            for session in Path(f"/proc/{number}/task/{number}/children").read_text(encoding="ascii").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(session), signal.SIGKILL)
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


class Line:
    """A TCP line to a port. It breaks after `cut_after` bytes from the client, once `cut_after` is set."""

    def __init__(self, port: int) -> None:
        self._to, self.cut_after, self.silent = port, None, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break all connections."""
        self._break(self._open)
        self._open = []

    @staticmethod
    def _break(connections: list[socket.socket]) -> None:
        for one in connections:
            for deed in (lambda one=one: one.shutdown(socket.SHUT_RDWR), one.close):
                with contextlib.suppress(OSError):
                    deed()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            self._open += [client, server]
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        try:
            while piece := source.recv(65536):
                if from_client and self.cut_after is not None:
                    self.cut_after -= len(piece)
                    if self.cut_after <= 0:
                        self.cut_after = None
                        return self.cut()
                while self.silent:
                    time.sleep(0.01)
                sink.sendall(piece)
        except OSError:
            pass
        return self._break([source, sink])
