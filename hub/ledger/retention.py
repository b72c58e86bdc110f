"""How long ended messages are kept, and how they go: in small slices, counted, never one that somebody still needs.

A message goes with its deliveries, attempts, receipts, key and body. It stays while a delivery of it is open, while a hold
keeps it, while the record owes it bytes, while a doubtful identity that it brought is open, and while a delivery waits behind
one of its own that was given up.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hub.ledger.holds import LOCK, held
from hub.model.states import OPEN_DELIVERIES, MessageState
from hub.store import Transaction
from hub.store.blob_names import unname
from hub.store.port import Row

JOB = "prune"
ENDED = tuple(state for state in MessageState if state not in (MessageState.RECEIVED, MessageState.ROUTED))
DAY_US = 86_400_000_000
KEY_MARGIN_US = 3_600_000_000  # a message goes an hour after its control id is forgotten: clocks of machines differ
SCANNED = 1000  # rows read in one go
TOGETHER, TOGETHER_BYTES = 16, 1 << 20  # messages deleted between two looks at the clock
SLICE_S = 0.006  # of the writer; what was begun is ended, so that a slice stays under 10 ms
_OPEN = frozenset(state.value for state in OPEN_DELIVERIES)

Owed = Callable[[Transaction, Sequence[int]], set[int]]


@dataclass(frozen=True, slots=True)
class Policy:
    """How long ended messages are kept, in microseconds since they came or since one of their deliveries last changed.

    `ages` by state, `of_source` by (source, state), where it differs. A state without an age is kept for ever; 0 in
    `of_source` means for ever too. Nothing goes before `at_least` has passed.
    """

    ages: Mapping[MessageState, int] = field(default_factory=dict)
    of_source: Mapping[tuple[str, MessageState], int] = field(default_factory=dict)
    at_least: int = 0

    def age(self, source: str, state: MessageState) -> int | None:
        """None: kept for ever."""
        own = self.of_source.get((source, state))
        age = self.ages.get(state, 0) if own is None else own
        return max(age, self.at_least) if age and state in ENDED else None

    @property
    def shortest(self) -> int | None:
        """The age below which nothing goes; None when nothing ever goes."""
        ages = [age for age in (*self.ages.values(), *self.of_source.values()) if age]
        return max(min(ages), self.at_least) if ages else None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A message that is old enough, as a reader saw it."""

    id: int
    source: str
    state: str
    size: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What one look found. `last` is the number of the last row looked at; None: there is nothing older left."""

    last: int | None
    candidates: list[Candidate]


@dataclass(frozen=True, slots=True)
class Slice:
    """What one transaction did: how many went, their bytes, and which candidates it did not come to."""

    messages: int
    bytes: int
    left: list[int]


# ---- looking -----------------------------------------------------------------------------------------------------------


def scan(tx: Transaction, policy: Policy, *, after: int, now: int, at_most: int = SCANNED) -> Scan:
    """The next rows in order of their arrival, and those of them that are old enough."""
    shortest = policy.shortest
    if shortest is None:
        return Scan(None, [])
    rows = tx.rows(
        "SELECT id, source, state, size FROM message WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
        after,
        number_at(now - shortest),
        at_most,
    )
    return Scan(rows[-1][0] if rows else None, [Candidate(*row) for row in rows if _is_old(policy, row, now)])


def _is_old(policy: Policy, row: Row, now: int) -> bool:
    age = policy.age(row[1], MessageState(row[2]))
    return age is not None and row[0] < number_at(now - age)


def may_go(
    tx: Transaction, policy: Policy, message_ids: Sequence[int], *, now: int, owed: Owed | None = None, lock: str = ""
) -> list[Row]:
    """Rows (id, source, type, state, size, sha256, in_file, control_id) of those that nobody needs any more.

    `owed` names those whose bytes the record still needs; None does not ask. `lock` is `Transaction.skip_locked` for who
    deletes them.
    """
    rows = tx.rows_in(
        "SELECT id, source, type, state, size, sha256, in_file, control_id, patient_id, open_n FROM message "  # noqa: S608
        f"WHERE id IN ({{keys}}) ORDER BY id{lock}",
        message_ids,
    )
    rows = [row for row in rows if not row[9] and _is_old(policy, (row[0], row[1], row[3]), now)]
    if not rows:
        return []
    numbers = [row[0] for row in rows]
    needed = held(tx, [(row[0], row[1], row[8]) for row in rows])
    needed |= _in_work(tx, policy, rows, now)
    doubtful = "SELECT message_id FROM identity_case WHERE state = 'OPEN' AND message_id IN ({keys})"
    needed |= {number for (number,) in tx.rows_in(doubtful, numbers)}
    if owed is not None:
        needed |= owed(tx, numbers)
    return [row[:8] for row in rows if row[0] not in needed]


def _in_work(tx: Transaction, policy: Policy, rows: Sequence[Row], now: int) -> set[int]:
    """Those with a delivery that is open, that changed lately, or that was given up and has another waiting behind it."""
    ages = {row[0]: policy.age(row[1], MessageState(row[3])) or 0 for row in rows}
    found, given_up = set(), {}
    for message_id, state, updated_at, lane, document in tx.rows_in(
        "SELECT message_id, state, updated_at, lane, document FROM delivery WHERE message_id IN ({keys})", list(ages)
    ):
        if state in _OPEN or updated_at > now - ages[message_id]:
            found.add(message_id)
        elif state == "DEAD" and document is not None:
            given_up[lane, document] = message_id
    for (lane, document), message_id in given_up.items():
        waiting = tx.row(
            "SELECT 1 FROM delivery WHERE lane = ? AND follows = ? AND state IN ('QUEUED','WAITING','SENDING','UNSURE') LIMIT 1",
            lane,
            document,
        )
        if waiting is not None:
            found.add(message_id)
    return found


# ---- pruning -----------------------------------------------------------------------------------------------------------


def prune(
    tx: Transaction,
    policy: Policy,
    candidates: Sequence[Candidate],
    *,
    now: int,
    owed: Owed,
    clock_s: Callable[[], float] = time.perf_counter,
) -> Slice:
    """Delete those of the candidates that may go, for as long as a slice may last.

    Remembers in `job_position` how far it came: the next slice, of whichever process, goes on there.
    """
    began, done, size = clock_s(), 0, 0
    tx.exclusive(LOCK)
    rest = list(candidates)
    while rest and (rest[0] is candidates[0] or clock_s() - began < SLICE_S):
        group = _group(rest)
        del rest[: len(group)]
        going = may_go(tx, policy, [one.id for one in group], now=now, owed=owed, lock=tx.skip_locked)
        if going:
            _delete(tx, going, now)
        _remember(tx, group[-1].id)
        done, size = done + len(going), size + sum(row[4] for row in going)
    return Slice(done, size, [one.id for one in rest])


def _group(candidates: Sequence[Candidate]) -> list[Candidate]:
    """As many as go between two looks at the clock: few, and not many bytes."""
    group, size = list[Candidate](), 0
    for one in candidates[:TOGETHER]:
        if group and size + one.size > TOGETHER_BYTES:
            break
        group.append(one)
        size += one.size
    return group


def _delete(tx: Transaction, rows: Sequence[Row], now: int) -> None:
    numbers = [row[0] for row in rows]
    deliveries = [number for (number,) in tx.rows_in("SELECT id FROM delivery WHERE message_id IN ({keys})", numbers)]
    if deliveries:
        for table, key in (("attempt", "delivery_id"), ("receipt", "delivery_id"), ("delivery", "id")):
            tx.run_in(f"DELETE FROM {table} WHERE {key} IN ({{keys}})", deliveries)  # noqa: S608 - our tables
    tx.run_many(
        "DELETE FROM dedupe WHERE source = ? AND control_id = ? AND sha256 = ? AND message_id = ?",
        [(row[1], row[7], row[5], row[0]) for row in rows],
    )
    tx.run_in("DELETE FROM body WHERE message_id IN ({keys})", numbers)
    tx.run_in("DELETE FROM message WHERE id IN ({keys})", numbers)
    large = [row[5] for row in rows if row[6]]
    if large:
        unname(tx, large, now)
    counts: Counter[tuple[str, str, str, int]] = Counter()
    sizes: Counter[tuple[str, str, str, int]] = Counter()
    for number, source, kind, state, size, *_ in rows:
        cell = (source, kind, state, (number >> 16) * 1000 // DAY_US)
        counts[cell] += 1
        sizes[cell] += size
    tx.insert(
        "pruned",
        ("source", "type", "state", "day", "messages", "bytes"),
        [(*cell, counts[cell], sizes[cell]) for cell in sorted(counts)],
        suffix="ON CONFLICT (source, type, state, day) DO UPDATE SET messages = pruned.messages + excluded.messages, "
        "bytes = pruned.bytes + excluded.bytes",
    )


# ---- where a round stands ------------------------------------------------------------------------------------------------


def position(tx: Transaction) -> int:
    """The number after which the round goes on; 0 at its beginning."""
    row = tx.row("SELECT position FROM job_position WHERE job = ?", JOB)
    return int(row[0]) if row is not None else 0


def end_round(tx: Transaction) -> None:
    """The next round begins with the oldest message: holds may have been released, policies changed."""
    _remember(tx, 0)


def _remember(tx: Transaction, number: int) -> None:
    suffix = "ON CONFLICT (job) DO UPDATE SET position = excluded.position"
    tx.insert("job_position", ("job", "position"), [(JOB, number)], suffix=suffix)


def number_at(us: int) -> int:
    """The lowest row number that an instant (UTC microseconds) gives."""
    return min(max(us, 0) // 1000 << 16, (1 << 63) - 1)


# ---- counts --------------------------------------------------------------------------------------------------------------


def pruned_by_source(tx: Transaction) -> list[tuple[str, str, int, int]]:
    """(source, state, messages, bytes) of what is not kept any more; for metrics."""
    return [
        (source, state, int(n), int(size))
        for source, state, n, size in tx.rows(
            "SELECT source, state, sum(messages), sum(bytes) FROM pruned GROUP BY source, state ORDER BY source, state"
        )
    ]


def totals(tx: Transaction, *, since: int, until: int, source: str = "") -> list[dict[str, object]]:
    """Messages by source, type and state of whole days (UTC microseconds, `until` not included), kept or pruned alike.

    Raises:
        ReadTooLong: the kept ones are counted, which takes its time over many days.
    """
    also, value = (" AND source = ?", (source,)) if source else ("", ())
    found: dict[tuple[str, str, str], list[int]] = {}
    kept = tx.rows(
        "SELECT source, type, state, count(*), sum(size) FROM message WHERE id >= ? AND id < ?"  # noqa: S608 - our condition
        f"{also} GROUP BY source, type, state",
        number_at(since),
        number_at(until),
        *value,
    )
    gone = tx.rows(
        "SELECT source, type, state, sum(messages), sum(bytes) FROM pruned WHERE day >= ? AND day < ?"  # noqa: S608
        f"{also} GROUP BY source, type, state",
        since // DAY_US,
        -(-until // DAY_US),
        *value,
    )
    for at, rows in ((0, kept), (2, gone)):
        for name, kind, state, n, size in rows:
            cell = found.setdefault((name, kind, state), [0, 0, 0, 0])
            cell[at] += int(n)
            cell[at + 1] += int(size)
    return [
        {
            "source": name,
            "type": kind,
            "state": state,
            "messages": kept_n + gone_n,
            "bytes": kept_bytes + gone_bytes,
            "pruned": gone_n,
        }
        for (name, kind, state), (kept_n, kept_bytes, gone_n, gone_bytes) in sorted(found.items())
    ]
