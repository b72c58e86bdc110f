"""The command line as real processes that start at once: each is forked from one that has imported the program.

What a process of its own has is the same here: arguments, standard streams, folder, environment, signals, exit code, spawned
workers. Only the second that importing takes is spent once. `VAGUEMESTRE_COLD=1` starts every one from nothing, as the
full numbers of the fault and chaos tests do, and whoever sets LD_PRELOAD.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
COLD = os.environ.get("VAGUEMESTRE_COLD") == "1" or "full" in (
    os.environ.get("VAGUEMESTRE_FAULTS"),
    os.environ.get("VAGUEMESTRE_CHAOS"),
)
COMMAND = "hub.app.cli"
NOT_BEFORE = (COMMAND, "hub.store.migrations.", "hub.app.check_message_standard")  # the command itself; scripts; hl7apy
LATE = ("uvicorn.lifespan.on", "uvicorn.protocols.http.httptools_impl", "sqlalchemy.dialects.sqlite", "alembic.command", "nats")


# ---- on the side of the tests --------------------------------------------------------------------------------------


class Process:
    """One process, as `subprocess.Popen` gives it."""

    def __init__(self, args: list[str], pid: int, status: int) -> None:
        self.args, self.pid, self.returncode = args, pid, None
        self._status, self._lock = status, threading.Lock()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def _ended(self, timeout: float | None) -> int | None:
        with self._lock:
            if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
                told = os.read(self._status, 16)
                os.close(self._status)
                self.returncode = int(told) if told else -signal.SIGKILL
            return self.returncode


class _Origin:
    """The process that has imported the program, and forks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        theirs.close()
        atexit.register(self.close)

    def fork(self, args: list[str], cwd: str, env: dict[str, str], streams: list[int]) -> Process:
        ours, theirs = os.pipe()
        try:
            with self._lock:
                asked = json.dumps({"args": args, "cwd": cwd, "env": env}).encode()
                socket.send_fds(self._line, [asked], [*streams, theirs])
                pid = int(self._line.recv(32))
        finally:
            os.close(theirs)
        return Process(args, pid, ours)

    def close(self) -> None:
        self._line.close()
        self._process.wait()


_origin: _Origin | None = None
_first = threading.Lock()


def start(
    *args: object,
    stdin: Any = subprocess.DEVNULL,
    stdout: Any = None,
    stderr: Any = None,
    cwd: Path = ROOT,
    env: dict[str, str] | None = None,
) -> Process | subprocess.Popen[str]:
    """`vaguemestre ARGS`, started and not waited for. A stream is an open file, or None: that of the tests."""
    global _origin
    words, env = list(map(str, args)), {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    if COLD or "LD_PRELOAD" in env or subprocess.PIPE in (stdin, stdout, stderr):
        command = [sys.executable, "-m", COMMAND, *words]
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=env, text=True)
    with _first:
        if _origin is None:
            _origin = _Origin()
    with open(os.devnull, "r+b") as nothing:
        streams = [_number(one, of, nothing) for of, one in enumerate((stdin, stdout, stderr))]
        return _origin.fork(words, str(cwd), env, streams)


def _number(stream: Any, of: int, nothing: io.BufferedRandom) -> int:
    if stream is None:
        return of
    return nothing.fileno() if stream == subprocess.DEVNULL else stream.fileno()


def run(
    *args: object,
    stdin: str = "",
    cwd: Path = ROOT,
    env: dict[str, str] | None = None,
    timeout: float = 60.0,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """`vaguemestre ARGS` to its end, with what it wrote.

    Raises:
        subprocess.TimeoutExpired: it was ended.
        subprocess.CalledProcessError: with `check`, its exit code is not 0.
    """
    with _memory(stdin) as given, _memory() as out, _memory() as err:
        process = start(*args, stdin=given, stdout=out, stderr=err, cwd=cwd, env=env)
        try:
            process.wait(timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        done = subprocess.CompletedProcess(process.args, process.returncode, *(_text(one) for one in (out, err)))
    if check:
        done.check_returncode()
    return done


def _memory(text: str = "") -> Any:
    file = os.fdopen(os.memfd_create("stream"), "w+b")
    file.write(text.encode())
    file.seek(0)
    return file


def _text(file: Any) -> str:
    file.seek(0)
    return io.TextIOWrapper(file, "utf-8").read()  # newlines as subprocess has them with text=True


# ---- on the side of the one that forks -----------------------------------------------------------------------------


def _import_all() -> None:
    names = [
        one.name
        for package in ("hub", "adapters", "mappings")
        for one in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
        if not one.name.startswith(NOT_BEFORE)
    ]
    for name in [*names, *LATE]:
        with contextlib.suppress(Exception):  # told by the command that needs it
            importlib.import_module(name)


def _child(line: socket.socket) -> dict[str, Any]:
    """Fork for every question; comes back in the child only, with what it is to run."""
    ends: dict[int, int] = {}
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    while True:
        ready, _, _ = select.select([line, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _tell(ends)
        if line not in ready:
            continue
        asked, told, _, _ = socket.recv_fds(line, 1 << 20, 4)
        if not asked:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            for number, stream in enumerate(told[:3]):
                os.dup2(stream, number)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            line.detach()
            os.closerange(3, 4096)
            return json.loads(asked)
        *streams, ends[pid] = told
        for stream in streams:
            os.close(stream)
        line.send(str(pid).encode())


def _tell(ends: dict[int, int]) -> None:
    """The exit codes of those that ended, each to who waits for it."""
    while ends:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        end = ends.pop(pid)
        with contextlib.suppress(BrokenPipeError):
            os.write(end, str(os.waitstatus_to_exitcode(status)).encode())
        os.close(end)


def _serve(line: socket.socket) -> None:
    sys.path[0] = str(ROOT)
    _import_all()
    gc.collect()
    gc.freeze()
    asked = _child(line)
    os.chdir(asked["cwd"])
    sys.path[0] = asked["cwd"]
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    sys.argv = [COMMAND, *asked["args"]]
    try:
        runpy.run_module(COMMAND, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking every module apart would copy all that is shared


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
