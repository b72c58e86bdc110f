"""`vaguemestre send`: files over MLLP, one line an answer."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from adapters.mllp.options import MllpDestinationOptions
from adapters.mllp.sender import Sent, messages_in, send_messages
from adapters.mllp.tls import TlsClientOptions
from hub.app.logging import set_up_logging
from hub.app.terminal import counted, printable, remark
from hub.formats.er7 import Segment, read
from hub.model.refusals import MessageRefused, Misconfigured

MANY = 5  # from so many files on, a terminal shows how far it is
_TEXT_CHARACTERS = 300


def send_files(
    files: Sequence[Path],
    to: str,
    *,
    tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    timeout_s: float,
    quiet: bool,
) -> int:
    """Send every message of `files` in order (`-` is standard input) and print its answer.

    0 when all were accepted, 1 when one was not or got no answer, 2 for wrong arguments: then nothing was sent.
    """
    mistake = _mistake(files, to, ca=ca, cert=cert, key=key, timeout_s=timeout_s)
    if mistake:
        remark(mistake)
        return 2
    host, _, port = to.rpartition(":")
    options = MllpDestinationOptions(
        "send",
        host.strip("[]"),
        int(port),
        ack_timeout_s=timeout_s,
        connect_timeout_s=min(timeout_s, 10.0),
        tls=TlsClientOptions(*(str(path or "") for path in (ca, cert, key))) if tls or ca or cert else None,
    )
    set_up_logging(level=logging.CRITICAL)  # what the connection would log is told in sentences here
    sending = _Sending(files, options, to, quiet=quiet)
    try:
        asyncio.run(sending.run())
    except Misconfigured as refused:
        remark(refused.sentence)
        return 2
    return sending.exit_code()


class _Sending:
    """One run over the files, and what it counts."""

    def __init__(self, files: Sequence[Path], options: MllpDestinationOptions, to: str, *, quiet: bool) -> None:
        self._files, self._options, self._to, self._quiet = files, options, to, quiet
        self._several: dict[str, int] = {}  # messages of each file read so far
        self._accepted = self._failed = 0
        self._gave_up = False
        self._progress: Any = None
        self._task: Any = None

    async def run(self) -> None:
        if len(self._files) >= MANY and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            with Progress(console=Console(stderr=True), transient=True) as self._progress:
                self._task = self._progress.add_task("sending", total=len(self._files))
                await self._run()
            self._progress = None
        else:
            await self._run()

    async def _run(self) -> None:
        async with aclosing(send_messages(self._options, self._contents())) as results:  # type: ignore[type-var]
            async for sent in results:
                self._tell(sent)
                if sent.code == "PeerUnavailable":
                    self._gave_up = True
                    self._remark(_unreachable(sent, self._to, tls=self._options.tls is not None))
                    return

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        for file in self._files:
            name = str(file)
            try:
                content = sys.stdin.buffer.read() if name == "-" else file.read_bytes()
            except OSError as error:
                self._failed += 1
                self._remark(f"{name}: cannot be read ({error.strerror})")
                continue
            self._several[name] = len(messages_in(content))
            if not self._several[name]:
                self._failed += 1
                self._remark(f"{name}: holds no message")
            yield name, content
            if self._progress is not None:
                self._progress.advance(self._task)

    def _tell(self, sent: Sent) -> None:
        name = sent.file if self._several.get(sent.file, 1) == 1 else f"{sent.file}[{sent.number}]"
        if sent.accepted:
            self._accepted += 1
            if not self._quiet:
                self._print(f"{name}: {sent.code}")
            return
        self._failed += 1
        if sent.code == "NoAnswer":
            late = sent.sentence == "AckTimeout"
            reason = f"within {self._options.ack_timeout_s:g} s" if late else f"({sent.sentence or 'nothing came'})"
            self._print(f"{name}: no answer {reason}: it may have arrived all the same, send it again")
        elif sent.code != "PeerUnavailable":
            self._print(f"{name}: {sent.code}{_reason(sent)}")

    def _print(self, line: str) -> None:
        (self._progress.console.out if self._progress is not None and sys.stdout.isatty() else print)(printable(line))

    def _remark(self, line: str) -> None:
        if self._progress is not None:
            self._progress.console.out(printable(line))
        else:
            remark(line)

    def exit_code(self) -> int:
        """Say how many, when there were many or not all went; the exit code."""
        if self._gave_up:
            if self._accepted or len(self._files) > 1:
                remark(f"{counted(self._accepted, 'message')} accepted before; what follows was not sent")
        elif self._accepted + self._failed > 1 and not (self._quiet and not self._failed):
            remark(f"{counted(self._accepted, 'message')} accepted, {self._failed} not")
        return 1 if self._failed or self._gave_up else 0


def _mistake(files: Sequence[Path], to: str, *, ca: Path | None, cert: Path | None, key: Path | None, timeout_s: float) -> str:
    host, colon, port = to.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        return f"--to: {to!r} must be HOST:PORT, for example 127.0.0.1:2575"
    if timeout_s <= 0:
        return "--timeout: must be more than 0 seconds"
    if key is not None and cert is None:
        return "--key needs --cert, the certificate that it belongs to"
    for option, path in (("--ca", ca), ("--cert", cert), ("--key", key)):
        if path is not None and not path.is_file():
            return f"{option}: {path} is no file"
    for file in files:
        if str(file) == "-":
            continue
        if file.is_dir():
            return f"{file} is a folder: name its files, for example {file}/*.hl7"
        if not file.exists():
            return f"{file}: no such file; nothing was sent"
    return ""


def _unreachable(sent: Sent, to: str, *, tls: bool) -> str:
    if "ConnectionRefused" in sent.sentence:
        return f"nothing listens on {to}: is the hub running, and is this the listen address of one of its sources?"
    if "timeout" in sent.sentence:
        return f"{to} does not answer connections: is the address right, is a firewall between?"
    if "gaierror" in sent.sentence:
        return f"{to}: no such host"
    if tls:
        return f"no TLS connection to {to} ({sent.sentence}): is --ca its authority, does it want a client certificate (--cert)?"
    return f"no connection to {to} ({sent.sentence}): does it want TLS (--tls), or take this address (peers)?"


def _reason(sent: Sent) -> str:
    """` 207 at PID-3: sentence` of the acknowledgement's first ERR."""
    try:
        message = read(sent.answer, "utf-8")
    except MessageRefused:
        return f": {sent.sentence}" if sent.sentence else ""
    errors, msas = message.segments("ERR"), message.segments("MSA")
    code = place = text = ""
    for err in errors[:1]:
        code, place = err.text(3), _place(err)
        text = err.text(8) or err.text(7) or err.text(3, 2)
    if not text and msas:
        text = msas[0].text(3)
    text = text.removeprefix(f"{place}: ")
    said = (f" {code}" if code else "") + (f" at {place}" if place else "")
    return said + (f": {text[:_TEXT_CHARACTERS]}" if text else "")


def _place(err: Segment) -> str:
    """ERR-2 in words: `PID^1^3` is `PID-3`.

    Standard: HL7 v2.5.1 §2.A.28, ERL.
    """
    segment, sequence, field, _repetition, component = (err.text(2, n) for n in (1, 2, 3, 4, 5))
    if not segment:
        return ""
    place = segment if sequence in ("", "1") else f"{segment}[{sequence}]"
    return place + (f"-{field}" if field else "") + (f".{component}" if field and component else "")
