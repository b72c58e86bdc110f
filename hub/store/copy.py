"""One database copied into another that is empty, on the same engine or the other, and compared row by row afterwards.

Both sides are read and written through a `Side`: one transaction each. The target's is committed when everything is equal; a
copy that ends before has left nothing.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

from sqlalchemy import Table

from hub.store.blobs import Blobs
from hub.store.copy_side import CopyRefused, Side
from hub.store.place import Place
from hub.store.port import BlobDamaged, Row
from hub.store.schema import metadata

BODIES_AT_ONCE = 4
# who runs, what they hold, what they are about to remove: nobody does on either side
_OF_PROCESSES = frozenset({"member", "job_lease", "blob_leaving"})
# `arrival` is numbered anew in the order of the rows; a lane is nobody's
_LEFT_OUT = {"message": frozenset({"arrival"}), "lane": frozenset({"owner"})}

Progress = Callable[[str, int, int], None]  # what, how many are done, of how many


@dataclass(frozen=True, slots=True)
class Compared:
    """One table on both sides."""

    table: str
    rows: int
    rows_copied: int
    equal: bool


def open_side(place: Place, *, write: bool) -> AbstractContextManager[Side]:
    """A transaction on one database; rolled back unless it is committed.

    Raises:
        CopyRefused, StoreUnavailable.
    """
    if place.path is not None:
        from hub.store.sqlite_copy import opened as opened_file

        return opened_file(place.path, write=write)
    from hub.store.postgres_copy import opened as opened_server

    return opened_server(place, write=write)


def tables() -> list[Table]:
    """What is copied, in an order that stays."""
    return [table for name, table in sorted(metadata.tables.items()) if name not in _OF_PROCESSES]


def refuse_unfit(source: Side, target: Side) -> None:
    """Nobody runs on either side, and the target is empty.

    Raises:
        CopyRefused.
    """
    for side, what in ((source, "copied"), (target, "copied into")):
        if side.living():
            raise CopyRefused(f"processes of the hub run on {side.name}: stop them all, a running hub is not {what}")
    full = [table.name for table in tables() if target.count(table.name)]
    if full:
        raise CopyRefused(f"{target.name} is not empty (it has rows in {', '.join(full[:5])}): name a new database")
    if source.arrival != target.arrival and source.unrouted():  # each engine tells the order of arrival its own way
        raise CopyRefused(
            f"{source.name} has messages that are not routed yet: start the hub on it once more until "
            f"vaguemestre messages list --state RECEIVED is empty, then stop it and copy"
        )


def copy_rows(source: Side, target: Side, progress: Progress) -> None:
    """Every row of every table; in constant memory.

    Raises:
        CopyRefused: the target cannot hold a value. StoreUnavailable.
    """
    for table in tables():
        columns = _columns(table)
        order = [source.arrival] if table.name == "message" else _key(table)
        rows = _fitting(source.rows(table, columns, order), source, target)
        target.load(table, columns, _counted(rows, table.name, source.count(table.name), progress))


def compare(source: Side, target: Side, progress: Progress) -> list[Compared]:
    """Both sides read again, in order of the primary key, and their digests."""
    found = []
    for table in tables():
        columns, key = _columns(table), _key(table)
        total = source.count(table.name)
        ours = _fitting(source.rows(table, columns, key), source, target)
        rows, digest = _digest(_counted(ours, table.name, total, progress))
        copied, digest_copied = _digest(_counted(target.rows(table, columns, key), table.name, total, progress))
        found.append(Compared(table.name, rows, copied, (rows, digest) == (copied, digest_copied)))
    return found


def copy_bodies(source: Side, blobs: Blobs, target_blobs: Blobs, progress: Progress) -> tuple[int, list[int]]:
    """The large bodies that are named, read back from the target; how many, and a message of each that is damaged here.

    Raises:
        CopyRefused: one is not in the target what it was. StoreUnavailable, OSError.
    """
    total = sum(1 for _ in source.bodies())
    copied, damaged = 0, []

    def one(named: tuple[bytes, int]) -> int | None:
        sha256, message = named
        try:
            content = blobs.read(sha256)
        except BlobDamaged:
            return message
        target_blobs.write(sha256, content)
        try:
            target_blobs.read(sha256)
        except BlobDamaged:
            raise CopyRefused(f"a large body is not in {target_blobs.name} what it was: look at that storage") from None
        return None

    bodies = source.bodies()
    with ThreadPoolExecutor(BODIES_AT_ONCE, thread_name_prefix="blob") as threads:
        while batch := list(islice(bodies, BODIES_AT_ONCE)):
            lost = [message for message in threads.map(one, batch) if message is not None]
            damaged += lost
            copied += len(batch) - len(lost)
            progress("large bodies", copied + len(damaged), total)
    target_blobs.sync_folders()
    return copied, damaged


def _columns(table: Table) -> list[str]:
    return [column.name for column in table.columns if column.name not in _LEFT_OUT.get(table.name, ())]


def _key(table: Table) -> list[str]:
    return [column.name for column in table.primary_key.columns]


def _fitting(rows: Iterator[Row], source: Side, target: Side) -> Iterator[Row]:
    """Text without U+0000, where the target has no place for it: SUB instead, as messages are read."""
    if target.holds_nul or not source.holds_nul:
        return rows
    return (
        tuple(value.replace("\0", "\x1a") if isinstance(value, str) else value for value in row)
        if any(isinstance(value, str) and "\0" in value for value in row)
        else row
        for row in rows
    )


def _counted(rows: Iterator[Row], what: str, total: int, progress: Progress) -> Iterator[Row]:
    done = 0
    progress(what, 0, total)
    for done, row in enumerate(rows, 1):
        if done % 1000 == 0:
            progress(what, done, total)
        yield row
    progress(what, done, total)


def _digest(rows: Iterator[Row]) -> tuple[int, bytes]:
    """How many rows, and a digest of their values and of their order: integers, text, bytes and NULL, each by type and length."""
    count, digest = 0, blake2b(digest_size=32)
    for row in rows:
        count += 1
        digest.update(marshal.dumps(row, 2))  # format 2 says nothing but the values: no references, no interned strings
    return count, digest.digest()
