"""Reading: the header at once, everything else when somebody asks.

Standard: HL7 v2.5.1 chapter 2; line ends and separators as French senders really write them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from hub.formats.er7.charset import NUL, SUBSTITUTE, codec_of, decode
from hub.formats.er7.escapes import unescape
from hub.formats.er7.separators import STANDARD, Separators, declared, field_separator
from hub.model.refusals import Unreadable

MAX_SEGMENTS = 100_000
NAMELESS = "???"  # a line that does not start with a segment's name; what it starts with may be anybody's data

MAX_PROFILES = 8  # repetitions of MSH-21 that are looked at

_BOM = b"\xef\xbb\xbf"
_HEADER_WINDOW_BYTES = 1024
_LINE_END = re.compile(rb"[\r\n]")
_HEADERS = frozenset({"MSH", "FHS", "BHS"})
_LINE_ENDS = (b"\r", b"\n")
_SMALL_BYTES = 16_384  # a larger message is not copied for being cut
_USUAL_NAMES = """
MSH SFT UAC EVN PID PD1 NK1 PV1 PV2 ROL DB1 AL1 DG1 PR1 GT1 IN1 IN2 MRG ZBE ZFA ZFP
ZFV ZFM ZFD ZFS ORC OBR OBX NTE TQ1 TQ2 PRT TXA SPM IPC SCH RGS AIS AIG AIL AIP MSA ERR
"""
_USUAL = {name.encode(): name for name in _USUAL_NAMES.split()}


class Segment:
    """One line of a message. Fields, components, repetitions and subcomponents count from 1, as HL7 does.

    What is absent is empty; nothing here raises for a position that the message does not reach. As component or
    subcomponent, 0 means "all of it, undivided".
    """

    __slots__ = ("_codec", "_end", "_is_header", "_raw", "_separators", "_starts", "index", "name", "occurrence")

    def __init__(  # noqa: PLR0917 - made once a line, and keywords cost
        self, raw: bytes, start: int, end: int, separators: Separators, codec: str, name: str, index: int, occurrence: int
    ) -> None:
        self._raw, self._end, self._separators, self._codec = raw, end, separators, codec
        self.name, self.index, self.occurrence = name, index, occurrence
        self._is_header = name in _HEADERS
        self._starts = [start]  # where fields start, as far as somebody asked; past the last one: end + a separator

    def at(self, field: int | None = None, component: int | None = None) -> str:
        """The place in words: `PID-3`, `OBX[2]-5.1`."""
        place = self.name if self.occurrence == 1 else f"{self.name}[{self.occurrence}]"
        if field is not None:
            place += f"-{field}" if component is None else f"-{field}.{component}"
        return place

    def raw(self, field: int) -> bytes:
        """A whole field as written, escapes untouched; MSH-1 is the field separator, MSH-2 the encoding characters."""
        start, end = self.span(field)
        return self._raw[start:end]

    def line(self) -> bytes:
        """The whole segment as written, without its line end."""
        return self._raw[self._starts[0] : self._end]

    def line_span(self) -> tuple[int, int]:
        """Where the segment stands in the message's bytes, without its line end."""
        return self._starts[0], self._end

    def span(self, field: int) -> tuple[int, int]:
        """Where a field stands in the message's bytes."""
        separator, end = self._separators.field, self._end
        width = len(separator)
        if self._is_header:
            if field == 1:
                name_end = self._starts[0] + 3
                return name_end, min(name_end + width, end)
            field -= 1
        if field < 1:
            return end, end
        starts = self._starts
        while len(starts) <= field + 1:
            last = starts[-1]
            if last > end:
                return end, end
            found = self._raw.find(separator, last, end)
            starts.append((end if found < 0 else found) + width)
        return starts[field], starts[field + 1] - width

    def component_span(self, field: int, component: int, *, repetition: int = 1) -> tuple[int, int]:
        """Where a component stands in the message's bytes; an empty span when it is absent."""
        start, end = self.span(field)
        if start == end or (self._is_header and field <= 2):
            return (start, end) if component <= 1 and repetition <= 1 else (end, end)
        separators = self._separators
        if repetition:
            start, end = _part(self._raw, start, end, separators.repetition, repetition)
        return _part(self._raw, start, end, separators.component, component) if component else (start, end)

    def repetitions(self, field: int) -> int:
        """How often a field stands there; 0 when it is empty."""
        start, end = self.span(field)
        if start == end:
            return 0
        separator = self._separators.repetition
        if not separator or (self._is_header and field <= 2):
            return 1
        return self._raw.count(separator, start, end) + 1

    def text(self, field: int, component: int = 1, *, repetition: int = 1, subcomponent: int = 1) -> str:
        """Decoded, unescaped, stripped text; a null (`""`) comes as these two characters, a NUL as SUB.

        Made for short fields: what a field holds is copied. For a document take `component_span`.
        """
        start, end = self.span(field)
        value = self._raw[start:end]
        if not value:
            return ""
        separators = self._separators
        if self._is_header and field <= 2:
            return decode(value, self._codec) if component <= 1 and repetition <= 1 else ""
        if repetition:
            value = _piece(value, separators.repetition, repetition)
        if component:
            value = _piece(value, separators.component, component)
            if subcomponent:
                value = _piece(value, separators.subcomponent, subcomponent)
        if separators.escape in value:
            value = unescape(value, separators)
        if NUL in value:
            value = value.replace(NUL, SUBSTITUTE)
        try:
            return value.decode(self._codec).strip()
        except UnicodeDecodeError:
            return decode(value, self._codec).strip()

    def is_null(self, field: int, component: int = 0, *, repetition: int = 1) -> bool:
        """Whether a field (or one component of it) is HL7's null, `""`: the sender says that the value is removed."""
        if not component:
            return self.raw(field).strip() == b'""'
        start, end = self.component_span(field, component, repetition=repetition)
        return self._raw[start:end].strip() == b'""'

    def field_count(self) -> int:
        """The number of the last field written."""
        start, end = self.line_span()
        return self._raw.count(self._separators.field, start, end) + self._is_header


WHOLE = "@whole"
"""A view that is there where a message is translated aside: its documents are read with their bodies."""


class Message:
    """An HL7 message over its bytes, made by `read`.

    Standard: MSH-3.1, MSH-9, MSH-10, MSH-11.1, MSH-12.1, MSH-18 and MSH-21 are the attributes of its header.
    """

    __slots__ = (
        "_by_name",
        "_header",
        "_segments",
        "_start",
        "charset",
        "charset_unknown",
        "control_id",
        "processing_id",
        "profiles",
        "raw",
        "sending_app",
        "separators",
        "structure",
        "type",
        "version",
        "views",
    )

    def __init__(self, raw: bytes, start: int, end: int, separators: Separators, default_charset: str) -> None:
        self.raw, self.separators, self._start = raw, separators, start
        self._segments: tuple[Segment, ...] | None = None
        self._by_name: dict[str, tuple[Segment, ...]] = {}
        self.views: dict[str, object] = {}  # what readers made of this message and may want again
        line = raw[start:end]
        header = line.split(separators.field, 21)
        if len(header) < 21:
            header += [b""] * (21 - len(header))
        self._header = header
        self.charset, self.charset_unknown = _charset(header[17], separators, default_charset)

        escape, component = separators.escape, separators.component or b"\r"  # no header holds a CR: nothing is split
        escaped = bool(escape) and line.find(escape, line.find(header[1]) + len(header[1])) >= 0
        text: Callable[[bytes], str] = bytes.decode if line.isascii() and not escaped and NUL not in line else self._leaf
        kind, _, rest = header[8].partition(component)
        event, _, rest = rest.partition(component)
        self.type = text(kind).strip()
        if event := event.strip():
            self.type += "^" + text(event)
        self.structure = text(rest.partition(component)[0]).strip()
        self.control_id = text(header[9]).strip()
        self.version = text(header[11].partition(component)[0]).strip()
        self.processing_id = text(header[10].partition(component)[0]).strip()
        self.sending_app = text(header[2].partition(component)[0]).strip()
        self.profiles = self._profiles(header[20], text) if header[20] else ()

    def header(self, field: int) -> bytes:
        """MSH-`field` (2 to 21) as written, without a look at the rest of the message."""
        return self._header[field - 1]

    def segments(self, name: str | None = None) -> tuple[Segment, ...]:
        """All segments, or those of one name, in their order; blank lines are none.

        Raises:
            Unreadable: more than MAX_SEGMENTS.
        """
        if self._segments is None:
            self._segments = tuple(self._split())
        if name is None:
            return self._segments
        found = self._by_name.get(name)
        if found is None:
            found = tuple(segment for segment in self._segments if segment.name == name)
            if found:
                self._by_name[name] = found
        return found

    def first(self, name: str) -> Segment | None:
        """The first segment of that name."""
        found = self.segments(name)
        return found[0] if found else None

    def peek(self, name: str) -> Segment | None:
        """The first segment of that name, found without cutting the message; its `index` is not set (-1)."""
        if self._segments is not None:
            return self.first(name)
        line_end, separator = self._line_end(), self.separators.field
        place = self.raw.find(b"%b%b%b" % (line_end, name.encode(), separator), self._start)
        if place < 0:
            return self.first(name)  # after CR LF, or there is none
        end = self.raw.find(line_end, place + 1)
        return Segment(self.raw, place + 1, len(self.raw) if end < 0 else end, self.separators, self.charset, name, -1, 1)

    def text(self, name: str, field: int, component: int = 1, *, repetition: int = 1, subcomponent: int = 1) -> str:
        """`Segment.text` of the first segment of that name; empty when there is none."""
        segment = self.first(name)
        return segment.text(field, component, repetition=repetition, subcomponent=subcomponent) if segment is not None else ""

    def _split(self) -> list[Segment]:
        if len(self.raw) <= _SMALL_BYTES:
            plain = self._split_plain()
            if plain is not None:
                return plain
        raw, separators, codec = self.raw, self.separators, self.charset
        separator, line_end = separators.field, self._line_end()
        find, size = raw.find, len(raw)
        segments: list[Segment] = []
        seen: dict[str, int] = {}
        start = self._start
        while start < size:
            following = find(line_end, start)
            if following < 0:
                following = size
            end = following
            while start < end and raw[start] in b"\r\n":
                start += 1
            while start < end and raw[end - 1] in b"\r\n":
                end -= 1
            name_end = find(separator, start, end)
            if name_end < 0:
                name_end = end
            written = raw[start:name_end]
            if name_end < end or written.strip():
                name = written.decode() if len(written) == 3 and written.isalnum() else NAMELESS
                if len(segments) == MAX_SEGMENTS:
                    raise Unreadable(at="MSH", sentence=f"MSH: more than {MAX_SEGMENTS} segments")
                occurrence = seen[name] = seen.get(name, 0) + 1
                segments.append(Segment(raw, start, end, separators, codec, name, len(segments), occurrence))
            start = following + 1
        return segments

    def _split_plain(self) -> list[Segment] | None:
        """The segments of a small message of usual lines, cut in one go; None when one line needs a closer look."""
        raw, separators, codec = self.raw, self.separators, self.charset
        separator, line_end, start = separators.field, self._line_end(), self._start
        segments: list[Segment] = []
        seen: dict[str, int] = {}
        for line in (raw[start:] if start else raw).split(line_end):
            end = start + len(line)
            if line:
                name = _USUAL.get(line[:3])
                if name is None or line[3:4] != separator or line[-1:] in _LINE_ENDS:
                    return None
                occurrence = seen[name] = seen.get(name, 0) + 1
                segments.append(Segment(raw, start, end, separators, codec, name, len(segments), occurrence))
            start = end + 1
        return segments

    def _line_end(self) -> bytes:
        """What ends a segment: the first line end decides, since an LF after that may be data."""
        found = _LINE_END.search(self.raw, self._start)
        return b"\n" if found and found[0] == b"\n" else b"\r"

    def _profiles(self, field: bytes, text: Callable[[bytes], str]) -> tuple[str, ...]:
        separators, profiles = self.separators, []
        for one in field.split(separators.repetition, MAX_PROFILES) if separators.repetition else [field]:
            number, _, rest = one.partition(separators.component or b"\r")
            name = text(rest.partition(separators.component or b"\r")[0]).strip()
            if number := number.strip():
                profiles.append(f"{text(number)}^{name}" if name else text(number))
        return tuple(profiles[:MAX_PROFILES])

    def _leaf(self, value: bytes) -> str:
        if self.separators.escape in value:
            value = unescape(value, self.separators)
        return decode(value, self.charset).strip()


def read(raw: bytes, default_charset: str = "utf-8") -> Message:
    """The message that `raw` holds, without MLLP framing; only its header is looked at.

    A byte order mark and blank lines before MSH are tolerated. `default_charset` is the Python codec for an empty MSH-18.

    Raises:
        Unreadable: no MSH segment, or separators that cannot be told apart (MSH-1, MSH-2).
    """
    if raw.startswith(b"MSH|^~\\&|"):
        return Message(raw, 0, _header_end(raw, 8), STANDARD, default_charset)
    start = 3 if raw.startswith(_BOM) else 0
    while raw[start : start + 1] in (b"\r", b"\n"):
        start += 1
    if not raw.startswith(b"MSH", start):
        raise Unreadable(at="MSH")
    separator = field_separator(raw, start + 3)
    encoding_start = start + 3 + len(separator)
    end = _header_end(raw, encoding_start)
    encoding_end = raw.find(separator, encoding_start, end)
    if encoding_end < 0:
        encoding_end = end
    if encoding_end - encoding_start > 24:
        raise Unreadable(at="MSH-2")
    return Message(raw, start, end, declared(separator, raw[encoding_start:encoding_end]), default_charset)


def join(message: Message) -> bytes:
    """The exact bytes that `read` was given."""
    return message.raw


def _charset(msh_18: bytes, separators: Separators, default: str) -> tuple[str, bool]:
    """The codec to read with, and whether MSH-18 names one that we do not know."""
    if separators.repetition and separators.repetition in msh_18:
        msh_18 = msh_18.split(separators.repetition, 1)[0]
    if not msh_18 or msh_18.isspace():
        return default, False
    codec = codec_of(msh_18)
    return codec or default, codec is None


def _header_end(raw: bytes, start: int) -> int:
    """Where the MSH line ends, without a search for a CR through a message that has none."""
    window = start + _HEADER_WINDOW_BYTES
    cr = raw.find(b"\r", start, window)
    lf = raw.find(b"\n", start, window if cr < 0 else cr)
    if lf >= 0:
        return lf
    if cr >= 0:
        return cr
    found = _LINE_END.search(raw, window) if window < len(raw) else None
    return found.start() if found else len(raw)


def _piece(value: bytes, separator: bytes, number: int) -> bytes:
    """The `number`-th piece of `value` between separators; empty when there are fewer."""
    if separator not in value or not separator:
        return value if number <= 1 else b""
    if number == 1:
        return value.partition(separator)[0]
    pieces = value.split(separator, number)
    return pieces[number - 1] if len(pieces) >= number else b""


def _part(raw: bytes, start: int, end: int, separator: bytes, number: int) -> tuple[int, int]:
    """The `number`-th piece of raw[start:end] between separators, as a span; (end, end) when there are fewer."""
    if not separator:
        return (start, end) if number <= 1 else (end, end)
    while number > 1:
        found = raw.find(separator, start, end)
        if found < 0:
            return end, end
        start, number = found + len(separator), number - 1
    found = raw.find(separator, start, end)
    return start, end if found < 0 else found
