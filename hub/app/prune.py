"""`vaguemestre db prune`: a round of retention from a terminal, or what one would remove."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from hub.app.beside import actor, audit, opened
from hub.app.config import Installation
from hub.app.progress import Bar
from hub.app.pruning import Pruner, Totals
from hub.app.terminal import counted, failed, print_json, print_table, remark
from hub.ledger import retention
from hub.ledger.retention import Policy
from hub.model.refusals import HubError
from hub.store import Transaction
from hub.store.blobs import Blobs
from hub.store.place import CommandStore

T = TypeVar("T")
Found = dict[tuple[str, str], tuple[int, int]]  # (source, state) → messages, bytes


def prune_database(installation: Installation, *, dry_run: bool, as_json: bool) -> int:
    """Say by source and state what goes; remove it unless `dry_run`. 1 when it cannot be done or another process is at it."""
    configuration = installation.configuration
    policy = configuration.retention.policy(configuration.hub.dedupe_window_days)
    try:
        with opened(installation, read_only=dry_run) as store:
            found = _would_go(store, policy)
            if as_json and dry_run:
                print_json({"items": _items(found)})
            elif not as_json:
                _tell(found, policy)
            if dry_run:
                return 0
            done = asyncio.run(_round(store, installation.blobs(), policy, sum(n for n, _ in found.values())))
            if done is not None:
                told = {"messages": done.messages, "bytes": done.bytes, "bodies": done.bodies}
                store.write(lambda tx: audit(tx, store, "db.prune", "ledger", **told))
    except HubError as error:
        return failed(error)
    if done is None or not done.ended:
        remark("another process is pruning: it goes on by itself")
        return 1
    if as_json:
        print_json({"messages": done.messages, "bytes": done.bytes, "documents": done.documents, "bodies": done.bodies})
    else:
        took = f"the record took over {counted(done.documents, 'document')}"
        print(f"{counted(done.messages, 'message')} removed, {_size(done.bytes)}; {took}.")
    return 0


def _would_go(store: CommandStore, policy: Policy) -> Found:
    """What is old enough and needed by nobody. The record's claims do not count: what it is owed becomes its own first."""
    counts: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    now = store.now_us()
    row = store.read(lambda tx: tx.row("SELECT min(id) FROM message"))
    after, first = 0, row[0] if row is not None and row[0] is not None else 0
    last = retention.number_at(now - (policy.shortest or 0))
    with Bar("looking at") as bar:
        while True:
            found = store.read(lambda tx, after=after: retention.scan(tx, policy, after=after, now=now))  # type: ignore[misc]
            if found.last is None:
                break
            numbers = [one.id for one in found.candidates]
            rows = store.read(lambda tx, numbers=numbers: _going(tx, policy, numbers, now))  # type: ignore[misc]
            for source, state, size in rows:
                counts[source, state] += 1
                sizes[source, state] += size
            after = found.last
            bar.show("messages", after - first, max(1, last - first))
    return {key: (counts[key], sizes[key]) for key in sorted(counts)}


def _going(tx: Transaction, policy: Policy, numbers: list[int], now: int) -> list[tuple[str, str, int]]:
    parts = [numbers[at : at + 200] for at in range(0, len(numbers), 200)]
    return [(row[1], row[3], row[4]) for part in parts for row in retention.may_go(tx, policy, part, now=now)]


async def _round(store: CommandStore, blobs: Blobs, policy: Policy, total: int) -> Totals | None:
    with Bar("removing") as bar:
        pruner = Pruner(
            _Beside(store, blobs),
            blobs,
            policy,
            owner=f"{actor()} {os.getpid()}",
            told=lambda totals, _number: bar.show("messages", totals.messages, total),
        )
        return await pruner.round()


class _Beside:
    """The store of a command, as a round sees it."""

    def __init__(self, store: CommandStore, blobs: Blobs) -> None:
        self._store, self._blobs, self.now_us = store, blobs, store.now_us

    async def write(self, job: Callable[[Transaction], T]) -> T:
        return self._store.write(job)

    async def read(self, job: Callable[[Transaction], T]) -> T:
        return self._store.read(job)

    async def put_blob(self, sha256: bytes, content: bytes) -> None:
        """In place and durable, name and all."""
        self._blobs.write(sha256, content)
        self._blobs.sync_folders()


def _items(found: Found) -> list[dict[str, object]]:
    return [{"source": s, "state": state, "messages": n, "bytes": size} for (s, state), (n, size) in found.items()]


def _tell(found: Found, policy: Policy) -> None:
    if policy.shortest is None:
        print("[retention] keeps everything for ever.")
    elif not found:
        print("Nothing is old enough.")
    else:
        print_table(
            ("SOURCE", "STATE", "MESSAGES", "SIZE"),
            [(source, state, str(n), _size(size)) for (source, state), (n, size) in found.items()],
        )


def _size(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError("unreachable")
