"""A process among those that share a store: its lease, the shards it routes, and what it does when it was given up for dead.

`Alone` is the one process of a data folder, to whom everything belongs. A `Member` renews its lease three times in the time
that it lasts, buries others who do not, and takes its share of the shards. Whether the lease still holds is told by this
process's own monotonic clock, from before the renewal was sent: who was stopped for longer knows it before sending anything.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hub.bell.port import Bell
from hub.flow.shards import JOB, SHARDS, job_of
from hub.ledger import leases, members
from hub.ledger.members import Joining
from hub.model import log
from hub.store import Store, StoreUnavailable, Transaction
from hub.store.clock import ticks_us

ROUTERS = ("worker", "all")
DELIVER = "deliver/"  # prefix of the leases on a destination's places
BELL = "member"  # rings when what somebody owned is free
ORPHANS_EVERY = 5  # beats between two looks for lanes that nobody owns though they say so


class Watcher(Protocol):
    """Somebody who works under the lease."""

    def lease_lost(self) -> None:
        """All that was held belongs to others now."""

    def lease_held(self) -> None:
        """Work may go on."""


class Membership(Protocol):
    """What the stations of the flow ask: in whose name they work, whether they still may, and on which shards (None: all)."""

    owner: str
    shards: tuple[int, ...] | None
    leaving: tuple[int, ...]

    def holds(self) -> bool: ...
    def serves(self, destination: str) -> bool:
        """Whether this process delivers there: always, unless the destination takes few processes only."""

    async def let_go(self) -> None: ...


class Alone:
    """The one process of a store that is not shared."""

    def __init__(self) -> None:
        self.owner = _new_name()
        self.shards: tuple[int, ...] | None = None
        self.leaving: tuple[int, ...] = ()

    def holds(self) -> bool:
        return True

    def serves(self, destination: str) -> bool:
        return True

    async def let_go(self) -> None:
        """Nobody waits for anything."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look around found: how many were buried, the shards of this process, who routes which."""

    buried: int = 0
    mine: tuple[int, ...] = ()
    surplus: tuple[int, ...] = ()
    routers: tuple[str, ...] = ()
    served: frozenset[str] = frozenset()


class Member:
    """One of several processes. `start` joins; `run` is its life; `leave` goes.

    `few`: destinations that take deliveries from so many processes only.
    """

    def __init__(
        self, store: Store, bell: Bell, role: str, *, version: str, lease_s: float = 3.0, few: Mapping[str, int] | None = None
    ) -> None:
        self._store, self._bell, self._role, self._version = store, bell, role, version
        self.few, self._served = dict(few or {}), frozenset[str]()
        self.configuration = ""  # fingerprint of what this process runs with, for `doctor`
        self._lease_us = int(lease_s * 1e6)
        self._beat_s = lease_s / 3
        self.owner = ""
        self.shards: tuple[int, ...] | None = ()
        self.leaving: tuple[int, ...] = ()
        self.watchers: list[Watcher] = []
        self._routers: tuple[str, ...] = ()  # who routes which shard, as far as the last beat knows
        self._held_until = 0  # by `ticks_us`
        self._steady_since = 0  # by `ticks_us`: since when no renewal was missed
        self._beats = 0
        self._stopping = False
        self._renew = store.bulk(self._renew_all, urgent=True)

    def holds(self) -> bool:
        return ticks_us() < self._held_until

    def serves(self, destination: str) -> bool:
        return destination not in self.few or destination in self._served

    def router_of(self, shard: int) -> str:
        """The bell of the process that routes a shard; that of every router while nobody is known to."""
        return bell_of(self._routers[shard] if self._routers else "")

    async def start(self) -> None:
        """Join under a new name.

        Raises:
            ClusterFull, StoreUnavailable.
        """
        await self._store.read_clock()
        said = (self._version, self.configuration)
        who = Joining(_new_name(), self._store.session, self._role, socket.gethostname(), os.getpid(), *said)
        began, now = ticks_us(), self._store.now_us()
        edge = await self._store.write(lambda tx: members.join(tx, who, now=now, lease_until=now + self._lease_us))
        self._store.use_edge(edge)
        self.owner, self._held_until, self._steady_since = who.owner, began + self._lease_us, began
        log.event("member.joined", role=self._role, edge=edge)
        await self._beat()

    async def run(self) -> None:
        while not self._stopping:
            await self._bell.wait(BELL, self._beat_s)
            try:
                await self._beat()
            except StoreUnavailable as error:
                log.event("member.not_renewed", level="warning", reason=error.code)
            except Exception as error:  # without its lease a process is of no use: it tries on
                log.event("member.failed", level="error", error=type(error).__name__)

    async def leave(self) -> None:
        """Give everything back; others need not wait for the lease to end."""
        self._stopping, self.shards = True, ()
        try:
            await self._store.write(lambda tx: members.leave(tx, self.owner))
            self._bell.ring(BELL)  # others take over at once
        except StoreUnavailable as error:
            log.event("member.not_left", level="warning", reason=error.code)

    async def let_go(self) -> None:
        """Give back the shards that others should have; the router calls it when nothing of them is in its hands."""
        going, self.leaving = self.leaving, ()
        self.shards = tuple(one for one in self.shards or () if one not in going)
        await self._store.write(lambda tx: leases.give_back(tx, [job_of(one) for one in going], owner=self.owner))

    # ---- one beat ----------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        self._beats += 1
        began = ticks_us()
        if not await self._renew(None):
            if not self._stopping:
                log.event("member.buried", level="warning", role=self._role)
                self.shards, self.leaving, self._served = (), (), frozenset()
                await self._rejoin()
            return
        stood_still = not self.holds()
        if began > self._held_until:
            self._steady_since = began
        self._held_until = began + self._lease_us
        if stood_still:
            self._tell_that_it_holds()
        # After the server was away nobody had renewed: only who renewed all the while can tell who is dead.
        steady, orphans = began - self._steady_since >= self._lease_us, self._beats % ORPHANS_EVERY == 0
        found = await self._store.write(lambda tx: self._look(tx, bury=steady, orphans=orphans))
        if self._stopping:
            return
        self._routers = found.routers
        if found.buried:
            log.event("member.buried_others", level="warning", count=found.buried)
            self._bell.ring(BELL)
        if self._role in ROUTERS:
            gained = set(found.mine) - set(self.shards or ()) or found.served - self._served
            self.shards, self.leaving, self._served = found.mine, found.surplus, found.served
            if gained or found.surplus or found.buried:
                self._tell_that_it_holds()
        if orphans:
            await self._store.read_clock()

    async def _rejoin(self) -> None:
        for watcher in self.watchers:
            watcher.lease_lost()
        await self.start()
        self._tell_that_it_holds()

    def _tell_that_it_holds(self) -> None:
        for watcher in self.watchers:
            watcher.lease_held()

    def _renew_all(self, tx: Transaction, asked: Sequence[None]) -> list[bool]:
        now = self._store.now_us()
        return [members.renew(tx, self.owner, now=now, lease_until=now + self._lease_us)] * len(asked)

    def _look(self, tx: Transaction, *, bury: bool, orphans: bool) -> _Look:
        now = self._store.now_us()
        buried = len(members.bury(tx, now=now)) if bury else 0
        if buried or orphans:
            members.free_orphans(tx)
        held = {int(job.removeprefix(JOB)): owner for job, owner in leases.held(tx, kind=JOB, now=now).items()}
        routers = tuple(held.get(shard, "") for shard in range(SHARDS)) if self._role != "worker" else ()
        if self._role not in ROUTERS:
            return _Look(buried, routers=routers)
        mine, surplus = self._share(tx, held, now)
        return _Look(buried, mine, surplus, routers, self._places(tx, now))

    def _places(self, tx: Transaction, now: int) -> frozenset[str]:
        """Destinations of `few` that this process has a place at; a free place is taken."""
        served = set()
        for name, places in self.few.items():
            held = leases.held(tx, kind=f"{DELIVER}{name}/", now=now)
            free = [job for n in range(places) if (job := f"{DELIVER}{name}/{n}") not in held]
            if self.owner in held.values() or (
                free and leases.take(tx, free[:1], owner=self.owner, now=now, lease_until=now + self._lease_us)
            ):
                served.add(name)
        return frozenset(served)

    def _share(self, tx: Transaction, held: Mapping[int, str], now: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shards of this process after it took its share of the free ones; and those that are too many."""
        mine = sorted(shard for shard, owner in held.items() if owner == self.owner)
        share = -(-SHARDS // max(1, members.count(tx, ROUTERS)))
        free = [shard for shard in range(SHARDS) if shard not in held]
        wanted = [job_of(shard) for shard in free[: max(0, share - len(mine))]]
        if wanted:
            taken = leases.take(tx, wanted, owner=self.owner, now=now, lease_until=now + self._lease_us)
            mine += [int(job.removeprefix(JOB)) for job in taken]
        return tuple(mine), tuple(mine[share:])


def bell_of(owner: str) -> str:
    """What rings when something waits for this router; without a name, for whichever."""
    return f"route@{owner}"


def _new_name() -> str:
    """A name that no process ever had: host, process, and chance."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
