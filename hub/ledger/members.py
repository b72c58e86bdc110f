"""The processes that share a ledger: who is there, and what becomes of the work of one that is not any more.

A process renews its lease often. Who misses it is buried by the others: its row goes, its lanes are free, its leases end. A
process that was only asleep finds its row gone and begins anew under another name; what it still held is fenced by the lanes'
epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.model.refusals import HubError
from hub.store import Transaction

EDGES = 31  # numbers 0 to 30; 31 is that of commands
_TURN = "edge"  # in `job_position`: the number that was given last


class ClusterFull(HubError):
    """As many processes share the database as row numbers can tell apart."""

    code = "ClusterFull"


@dataclass(frozen=True, slots=True)
class Joining:
    """Who joins: `owner` is a name that nobody had before, `session` that of its connections on the server."""

    owner: str
    session: str
    role: str
    host: str
    pid: int
    version: str
    configuration: str = ""


def join(tx: Transaction, who: Joining, *, now: int, lease_until: int) -> int:
    """Enter the list; the number of its row numbers.

    Raises:
        ClusterFull.
    """
    tx.exclusive("member")
    edge = _free_edge(tx)
    if edge is None and bury(tx, now=now):  # many ended at once, and as many begin
        edge = _free_edge(tx)
    if edge is None:
        raise ClusterFull(f"{EDGES} processes share this database already")
    tx.insert(
        "member",
        ("owner", "session", "edge", "role", "host", "pid", "version", "configuration", "started_at", "seen_at", "lease_until"),
        [(who.owner, who.session, edge, who.role, who.host, who.pid, who.version, who.configuration, now, now, lease_until)],
    )
    return edge


def _free_edge(tx: Transaction) -> int | None:
    """The next free number after the one that was given last: a number rests before it comes again, so that a process that
    slept and still makes numbers under it meets nobody.
    """
    taken = {edge for (edge,) in tx.rows("SELECT edge FROM member")}
    row = tx.row("SELECT position FROM job_position WHERE job = ?", _TURN)
    last = row[0] if row is not None else EDGES - 1
    edge = next((n for step in range(1, EDGES + 1) if (n := (last + step) % EDGES) not in taken), None)
    if edge is not None:
        tx.insert(
            "job_position",
            ("job", "position"),
            [(_TURN, edge)],
            suffix="ON CONFLICT (job) DO UPDATE SET position = excluded.position",
        )
    return edge


def renew(tx: Transaction, owner: str, *, now: int, lease_until: int) -> bool:
    """Renew the lease of a process and of the jobs that it holds; False when it was buried."""
    found = tx.rows("UPDATE member SET seen_at = ?, lease_until = ? WHERE owner = ? RETURNING owner", now, lease_until, owner)
    if found:
        tx.run("UPDATE job_lease SET lease_until = ? WHERE owner = ?", lease_until, owner)
    return bool(found)


def runs_with(tx: Transaction, owner: str, configuration: str) -> None:
    """A process works by another configuration from here on."""
    tx.run("UPDATE member SET configuration = ? WHERE owner = ?", configuration, owner)


def leave(tx: Transaction, owner: str) -> None:
    """Go: what is still owned is free at once."""
    tx.run("DELETE FROM member WHERE owner = ?", owner)
    _free(tx, [owner])


def bury(tx: Transaction, *, now: int, longest_s: float = 180.0) -> list[str]:
    """Take those who missed their lease from the list, and free what they owned; their names.

    A lease that would last longer than any (`longest_s`) was given before the server's clock was set back. First their
    connections are ended: one that was stopped in the middle of a transaction would keep its locks.
    """
    ahead = now + int(longest_s * 1e6)
    late = tx.rows("SELECT owner, session FROM member WHERE lease_until < ? OR lease_until > ?", now, ahead)
    if not late:
        return []
    tx.end_sessions([session for _, session in late])
    owners = [owner for owner, _ in late]
    gone = [
        owner
        for (owner,) in tx.rows_in(
            "DELETE FROM member WHERE (lease_until < ? OR lease_until > ?) AND owner IN ({keys}) RETURNING owner",
            owners,
            now,
            ahead,
        )
    ]
    if gone:
        _free(tx, gone)
    return gone


def free_orphans(tx: Transaction) -> None:
    """Free lanes whose owner is not in the list: taken by one that was buried in the same moment."""
    tx.run(
        "UPDATE lane SET owner = NULL WHERE owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM member m WHERE m.owner = lane.owner)"
    )


def _free(tx: Transaction, owners: Sequence[str]) -> None:
    tx.run_in("UPDATE lane SET owner = NULL WHERE owner IN ({keys})", owners)
    tx.run_in("DELETE FROM job_lease WHERE owner IN ({keys})", owners)


def count(tx: Transaction, roles: Sequence[str]) -> int:
    """How many processes have one of these roles."""
    return len(tx.rows_in("SELECT owner FROM member WHERE role IN ({keys})", roles))
