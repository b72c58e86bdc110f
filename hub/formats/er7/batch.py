"""Files of several messages: HL7 batches, and messages written one after the other.

Standard: HL7 v2.5.1 §2.10.3, batch file structure: `[FHS] { [BHS] { MSH … } [BTS] } [FTS]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from hub.formats.er7.acknowledgement import timestamp
from hub.formats.er7.escapes import escape
from hub.formats.er7.separators import STANDARD
from hub.model.refusals import Finding, Unreadable
from hub.model.site import Site

MAX_MESSAGE_BYTES = 64 << 20

_BOM = b"\xef\xbb\xbf"
_EDGE = b"\r\n\x0b\x1c"  # also what is left of MLLP, when a receiver wrote its frames into a file
_HEADER = re.compile(rb"(?:^|[\r\n\x0b\x1c])(MSH|FHS|BHS|BTS|FTS)(?=[^0-9A-Za-z \r\n\x0b\x1c]|[\r\n\x0b\x1c]|$)")
_LINE = re.compile(rb"[^\r\n\x0b\x1c]+")
_LOOK_BACK = 4  # a header whose name or the character after it is not there yet: a line end and three letters


class _Where(Enum):
    OUTSIDE = "outside"
    FILE = "in a file"
    BATCH = "in a batch"
    FILE_BATCH = "in a batch of a file"


_NEXT: dict[tuple[_Where, str], _Where] = {
    (_Where.OUTSIDE, "FHS"): _Where.FILE,
    (_Where.OUTSIDE, "BHS"): _Where.BATCH,
    (_Where.OUTSIDE, "MSH"): _Where.OUTSIDE,
    (_Where.FILE, "BHS"): _Where.FILE_BATCH,
    (_Where.FILE, "MSH"): _Where.FILE,
    (_Where.FILE, "FTS"): _Where.OUTSIDE,
    (_Where.BATCH, "MSH"): _Where.BATCH,
    (_Where.BATCH, "BTS"): _Where.OUTSIDE,
    (_Where.FILE_BATCH, "MSH"): _Where.FILE_BATCH,
    (_Where.FILE_BATCH, "BTS"): _Where.FILE,
    (_Where.FILE_BATCH, "FTS"): _Where.OUTSIDE,
}


@dataclass(slots=True)
class BatchShape:
    """What a file turned out to hold. Findings are about trailers: counts that are wrong, a BTS that is not there."""

    messages: int = 0
    batches: int = 0
    files: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_batch(self) -> bool:
        """Whether somebody may expect one answer for all: headers of a batch, or more than one message."""
        return bool(self.batches or self.files) or self.messages > 1


class BatchReader:
    """Cuts a file into its messages as its bytes come; never holds more than one message and one piece.

    CR, LF and CR LF end segments, also mixed; a byte order mark, blank lines and MLLP framing characters between messages
    are tolerated. Bytes of a message are as they stand, without blank lines after it.
    """

    def __init__(self, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.shape = BatchShape()
        self._max_bytes = max_message_bytes
        self._buffer = bytearray()
        self._searched = 0  # of the buffer, without a header in it but at its begin
        self._segment = 0  # the number of the last segment before the buffer
        self._where = _Where.OUTSIDE
        self._in_batch = self._in_file = 0  # messages since BHS, batches since FHS
        self._opened_at = 0  # segment of the FHS or BHS that is open
        self._separator = b"|"
        self._begun = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Each message that ended with this piece.

        Raises:
            Unreadable: what stands there belongs to no message, is nested, or a message is too large; `at` is the segment's
                name, the sentence gives its number, counted from 1.
        """
        self._buffer += piece
        yield from self._cut(last=False)

    def end(self) -> Iterator[bytes]:
        """What is left: the last message.

        Raises:
            Unreadable: as `feed`; also a file or batch whose trailer is missing, since its end may be, too.
        """
        yield from self._cut(last=True)
        if self._where is not _Where.OUTSIDE:
            header, trailer = ("BHS", "BTS") if self._where is _Where.BATCH else ("FHS", "FTS")
            raise _refusal(
                trailer, self._segment, f"the {header} of segment {self._opened_at} has no {trailer}: the file may be cut"
            )
        if not self.shape.messages and not self.shape.batches and not self.shape.files:
            raise Unreadable(at="MSH", sentence="the file holds no message")

    def _cut(self, *, last: bool) -> Iterator[bytes]:
        buffer = self._buffer
        if not self._begun:
            if len(buffer) < 3 and not last:
                return
            self._begun = True
            if buffer.startswith(_BOM):
                del buffer[:3]
        start = 0
        while True:
            begin = max(self._searched, start)
            found = self._header(begin, last)
            end = len(buffer) if found is None else found.start(1)
            if found is None and not last:
                break
            if end > start or found is None:
                yield from self._block(bytes(memoryview(buffer)[start:end]))
            if found is None:
                start = len(buffer)
                break
            start, self._searched = end, end + 3
        del buffer[:start]
        self._searched = max(0, len(buffer) - _LOOK_BACK)
        if len(buffer) > self._max_bytes:
            raise _refusal("MSH", self._segment + 1, f"message {self.shape.messages + 1} is larger than {self._max_bytes} bytes")

    def _header(self, begin: int, last: bool) -> re.Match[bytes] | None:
        """The next header from `begin`, which is no header's own begin; None when there is none yet."""
        found = _HEADER.search(self._buffer, max(0, begin - 1) if begin else 0)
        while found is not None:
            if not last and found.end(1) == len(self._buffer):
                return None
            if found.start(1) >= begin and self._is_header(found):
                return found
            found = _HEADER.search(self._buffer, found.end(1))
        return None

    def _is_header(self, found: re.Match[bytes]) -> bool:
        """A trailer is followed by the separator of its header or by nothing: text of a field may start like one."""
        if found[1] in (b"BTS", b"FTS"):
            after = bytes(self._buffer[found.end(1) : found.end(1) + 1])
            return not after or after in _EDGE or after == self._separator
        return True

    def _block(self, block: bytes) -> Iterator[bytes]:
        """One header with the lines up to the next one."""
        bare = block.rstrip(_EDGE)
        lines = sum(1 for _ in _LINE.finditer(bare))
        if not lines:
            return
        name = bare[:3].decode("latin-1")
        number = self._segment + 1
        if name not in ("MSH", "FHS", "BHS", "BTS", "FTS"):
            raise _refusal("MSH", number, "belongs to no message: the file does not begin with MSH, BHS or FHS")
        self._segment += lines
        self._move(name, number)
        if name == "MSH":
            if len(bare) > self._max_bytes:
                raise _refusal("MSH", number, f"message {self.shape.messages + 1} is larger than {self._max_bytes} bytes")
            self.shape.messages += 1
            self._in_batch += 1
            if self._where is _Where.OUTSIDE:
                self._separator = bare[3:4]
            yield bare + _line_end(block, len(bare))
            return
        if lines > 1:
            raise _refusal(name, number + 1, f"belongs to no message: it stands after {name}")
        self._header_or_trailer(name, bare, number)

    def _move(self, name: str, number: int) -> None:
        after = _NEXT.get((self._where, name))
        if after is None:
            nested = "is nested" if name in ("FHS", "BHS") else "closes nothing"
            raise _refusal(name, number, f"{name} {nested}: the reader is {self._where.value}")
        if (self._where, name) == (_Where.FILE_BATCH, "FTS"):
            self._find("BatchTrailerMissing", "BTS", "the last batch of the file has no BTS")
        self._where = after

    def _header_or_trailer(self, name: str, line: bytes, number: int) -> None:
        if name == "FHS":
            self._separator, self._opened_at = line[3:4], number
            self.shape.files, self._in_file, self._in_batch = self.shape.files + 1, 0, 0
            return
        if name == "BHS":
            self._separator, self._in_batch = line[3:4], 0
            if self._where is _Where.BATCH:
                self._opened_at = number
            self.shape.batches, self._in_file = self.shape.batches + 1, self._in_file + 1
            return
        counted, what = (self._in_batch, "messages") if name == "BTS" else (self._in_file, "batches")
        said = line[4:].split(self._separator, 1)[0].strip() if self._separator else b""
        if said and not (said.isdigit() and len(said) < 10 and int(said) == counted):
            self._find(f"{name}Count", f"{name}-1", f"{name}-1 of segment {number} does not say {counted}, the number of {what}")

    def _find(self, code: str, at: str, sentence: str) -> None:
        if len(self.shape.findings) < 100:
            self.shape.findings.append(Finding(code, at, sentence))


def messages(pieces: Iterable[bytes], *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> Iterator[bytes]:
    """The messages of a whole file, one after the other; holds one at a time.

    Raises:
        Unreadable: as `BatchReader`.
    """
    reader = BatchReader(max_message_bytes=max_message_bytes)
    for piece in pieces:
        yield from reader.feed(piece)
    yield from reader.end()


def shape_of(pieces: Iterable[bytes], *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> BatchShape:
    """What a whole file holds, before anything of it is used.

    Raises:
        Unreadable: as `BatchReader`.
    """
    reader = BatchReader(max_message_bytes=max_message_bytes)
    for piece in pieces:
        for _ in reader.feed(piece):
            pass
    for _ in reader.end():
        pass
    return reader.shape


def batch_head(*, site: Site, at: datetime, control_id: str) -> bytes:
    """FHS and BHS of a file with one batch. `at` is aware.

    Standard: HL7 v2.5.1 §2.10.3, §2.15.2 BHS, §2.15.3 BTS.
    """
    sender = b"|".join((escape(site.name, STANDARD, "utf-8"), escape(site.organisation, STANDARD, "utf-8")))
    when = timestamp(at, site.timezone)
    head = b"|^~\\&|%b|||%b||||%b\r" % (sender, when, escape(control_id, STANDARD, "ascii"))
    return b"FHS%bBHS%b" % (head, head)


def batch_tail(count: int) -> bytes:
    """BTS and FTS of a file with one batch of `count` messages."""
    return b"BTS|%d\rFTS|1\r" % count


def write_batch(bodies: Iterable[bytes], *, site: Site, at: datetime, control_id: str) -> bytes:
    """One file with one batch: FHS, BHS, the messages, BTS and FTS with their counts. `at` is aware."""
    written = [body.rstrip(_EDGE) + _segment_end(body) for body in bodies]
    return batch_head(site=site, at=at, control_id=control_id) + b"".join(written) + batch_tail(len(written))


def _segment_end(body: bytes) -> bytes:
    cr, lf = body.find(b"\r"), body.find(b"\n")
    return b"\n" if cr < 0 <= lf else b"\r"


def _line_end(block: bytes, at: int) -> bytes:
    """The line end that stands there: one, of one or two characters."""
    if block[at : at + 2] == b"\r\n":
        return b"\r\n"
    return block[at : at + 1] if block[at : at + 1] in (b"\r", b"\n") else b""


def _refusal(at: str, number: int, why: str) -> Unreadable:
    return Unreadable(at=at, sentence=f"segment {number}: {why}")
