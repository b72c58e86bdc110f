"""Row leases: one process at a time does a job. A lease ends at its time, with its owner, or when it is given back."""

from __future__ import annotations

from collections.abc import Sequence

from hub.store import Transaction

_TAKE = (
    "ON CONFLICT (job) DO UPDATE SET owner = excluded.owner, lease_until = excluded.lease_until "
    "WHERE job_lease.lease_until < ? RETURNING job"
)


def take(tx: Transaction, jobs: Sequence[str], *, owner: str, now: int, lease_until: int) -> list[str]:
    """Those of `jobs` that nobody holds, from here on held by `owner` until `lease_until` (UTC microseconds)."""
    rows = [(job, owner, lease_until) for job in sorted(jobs)]
    return [job for (job,) in tx.insert("job_lease", ("job", "owner", "lease_until"), rows, suffix=_TAKE, suffix_values=(now,))]


def extend(tx: Transaction, job: str, *, owner: str, lease_until: int) -> bool:
    """Hold a lease for longer; False when it is not `owner`'s any more."""
    sql = "UPDATE job_lease SET lease_until = ? WHERE job = ? AND owner = ? RETURNING job"
    return bool(tx.rows(sql, lease_until, job, owner))


def give_back(tx: Transaction, jobs: Sequence[str], *, owner: str) -> None:
    """Others may have them."""
    for job in sorted(jobs):
        tx.run("DELETE FROM job_lease WHERE job = ? AND owner = ?", job, owner)


def held(tx: Transaction, *, kind: str, now: int = 0) -> dict[str, str]:
    """Job → owner of all leases whose job begins with `kind` and that last at `now`.

    A lease that ran out is nobody's, whatever its row says: one may be written by a process in the moment in which it leaves.
    """
    rows = tx.rows("SELECT job, owner FROM job_lease WHERE lease_until >= ?", now)
    return {job: owner for job, owner in rows if job.startswith(kind)}
