"""Which files of a folder may be taken, and when one is whole."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hub.model.ports import Entry

AT_ONCE = 10_000  # names held of one look, however many there are
MAX_NAME_BYTES = 180  # what is put before and after a name has to fit as well
_UNFINISHED = (".part", ".filepart", ".partial", ".tmp")


@dataclass(slots=True)
class Look:
    """One look into a folder: the files to take by name, in their order, and what is left alone."""

    files: list[Entry]
    parts: dict[str, int]  # names without their `.part`, and sizes
    odd: int = 0  # names that no file system or log takes unharmed, and links: never followed
    empty: int = 0
    more: bool = False

    @property
    def left(self) -> tuple[int, int]:
        return self.odd, self.empty


def look(entries: Iterable[Entry], pattern: str) -> Look:
    """Choose among all entries of a folder, holding at most AT_ONCE of them."""
    seen = Look([], {})
    kept: list[tuple[_Backwards, Entry]] = []
    for entry in entries:
        if entry.is_folder or entry.name.startswith("."):
            continue
        if entry.name.lower().endswith(_UNFINISHED):
            if entry.name.endswith(".part") and len(seen.parts) < AT_ONCE:
                seen.parts[entry.name.removesuffix(".part")] = entry.size
        elif fnmatchcase(entry.name, pattern):
            if not entry.is_file or not _is_plain(entry.name):
                seen.odd += 1
            elif entry.size == 0:
                seen.empty += 1
            elif len(kept) < AT_ONCE:
                heapq.heappush(kept, (_Backwards(entry.name), entry))
            else:
                seen.more = True
                heapq.heappushpop(kept, (_Backwards(entry.name), entry))
    seen.files = sorted((entry for _, entry in kept), key=lambda entry: entry.name)
    return seen


class Settling:
    """Since when each file has been unchanged, by a monotonic clock."""

    def __init__(self, settle_s: float) -> None:
        self.settle_s = settle_s
        self._since: dict[str, tuple[int, int, float]] = {}
        self._parts: dict[str, int] = {}

    def ready(self, seen: Look, now: float) -> list[Entry]:
        """The files that are whole: quiet, unchanged since an earlier look, or the one that was `.part` in the last look."""
        since: dict[str, tuple[int, int, float]] = {}
        ready: list[Entry] = []
        for entry in seen.files:
            before = self._since.get(entry.name)
            unchanged = before is not None and before[:2] == (entry.size, entry.changed)
            first = before[2] if before is not None and unchanged else now
            since[entry.name] = (entry.size, entry.changed, first)
            renamed = self._parts.get(entry.name) == entry.size and entry.name not in seen.parts
            if renamed or entry.quiet or now - first >= self.settle_s:
                ready.append(entry)
        self._since, self._parts = since, seen.parts
        return ready


def _is_plain(name: str) -> bool:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return name.isprintable() and "/" not in name and size <= MAX_NAME_BYTES


class _Backwards:
    """A name that sorts the other way round: the heap's first is the last name, which is the first to go."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __lt__(self, other: _Backwards) -> bool:
        return self.name > other.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Backwards) and self.name == other.name

    __hash__ = None  # type: ignore[assignment]
