"""The configuration read again while the hub runs: a bad file is refused whole, a good one is in force without losing a message.

Ways in that did not change keep their sockets and connections, ways out their lanes. One that changed ends what it has in
hand and begins anew; a destination that is gone has its lanes blocked, one that is back has them freed. Everything else is
replaced in one assignment, for the messages that come from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.app import prints
from hub.app.check import dmp_mistakes, load_mappings, route_mistakes, tls_mistakes
from hub.app.check_files import file_mistakes
from hub.app.config import ConfigurationRefused, Installation, load
from hub.app.ways import MllpSourceSection
from hub.ledger import deliveries, members
from hub.model import log
from hub.model.refusals import HubError, Misconfigured
from hub.store import StoreUnavailable, Transaction
from mappings.registry import Registry

if TYPE_CHECKING:
    from hub.app.hub import Hub

_FIXED = ("store", "bell", "cluster", "web")
_FIXED_OF_HUB = ("data_dir", "max_inflight_bytes")
_BUSY = "the reload before still waits for deliveries in flight: try again in a moment"
_RESTART = "cannot change while the hub runs: restart it"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that was checked whole and is not yet in force."""

    installation: Installation
    registry: Registry
    prints: dict[str, str]


@dataclass(slots=True)
class Reloaded:
    """What changed, by `source/NAME` and `destination/NAME`. `trouble`: what is in force and does not work."""

    fingerprint: str
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    trouble: list[Misconfigured] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        said: dict[str, Any] = {
            "configuration": self.fingerprint,
            "added": self.added,
            "changed": self.changed,
            "removed": self.removed,
        }
        if self.trouble:
            said["trouble"] = mistakes_json(self.trouble)
        return said


def mistakes_json(mistakes: list[Misconfigured]) -> list[dict[str, str]]:
    """As `vaguemestre check --json` tells them."""
    return [{"file": one.file, "key": one.key, "reason": one.reason} for one in mistakes]


class Reloader:
    """Reloads of one process, one after the other."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._lock = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()  # ways out that still end what they had in flight
        self._asked: set[asyncio.Task[Any]] = set()
        self._ended = False

    async def reload(self, file: Path | None = None) -> Reloaded:
        """Read the file again, check it, put it in force.

        Raises:
            ConfigurationRefused: with every mistake; nothing changed.
        """
        async with self._lock:
            hub = self._hub
            try:
                if self._ended:
                    raise ConfigurationRefused([self._mistake("-", "the hub is stopping")])
                if self._ending:
                    raise ConfigurationRefused([self._mistake("-", _BUSY)])
                prepared = await asyncio.to_thread(prepare, hub.installation, file or hub.installation.file, hub.listening())
            except ConfigurationRefused as refused:
                for one in refused.mistakes:
                    log.event("reload.refused", level="error", file=one.file, key=one.key, reason=one.reason)
                raise
            done = await self._put_in_force(prepared)
        log.event("reload.done", version=done.fingerprint, count=len(done.added) + len(done.changed) + len(done.removed))
        for one in done.trouble:
            log.event("reload.trouble", level="error", file=one.file, key=one.key, reason=one.reason)
        return done

    def reload_soon(self) -> None:
        """On SIGHUP; the log says how it went."""
        if self._ended or not self._hub.is_started:
            log.event("reload.ignored", level="warning", reason="the hub is starting or stopping")
            return
        task = asyncio.ensure_future(self.reload_for_api())
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def reload_for_api(self) -> tuple[bool, dict[str, Any]]:
        """Whether the file is in force now, and what the API says of it."""
        try:
            return True, (await self.reload()).as_json()
        except ConfigurationRefused as refused:
            return False, {"mistakes": mistakes_json(refused.mistakes)}

    async def stop(self) -> None:
        """The process ends: who still waits for deliveries waits no more."""
        self._ended = True
        tasks = [*self._asked, *self._ending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _mistake(self, key: str, reason: str) -> Misconfigured:
        return Misconfigured(str(self._hub.installation.file), key, reason)

    # ---- in force ------------------------------------------------------------------------------------------------------

    async def _put_in_force(self, prepared: Prepared) -> Reloaded:
        hub, old, new = self._hub, self._hub.prints, prepared.prints
        done = Reloaded(
            prints.of_configuration(prepared.installation),
            added=sorted(new.keys() - old.keys()),
            changed=sorted(key for key in new.keys() & old.keys() if new[key] != old[key]),
            removed=sorted(old.keys() - new.keys()),
        )
        going = _names(done.removed, "source/")
        await self._drain(going)
        await self._routed(going)  # by the routes that they came for
        hub.use(prepared.installation, prepared.registry, mappings="mappings" in done.changed)
        hub.prints = new
        await self._ways_out(done)
        await self._ways_in(done)
        await self._tell_others(done.fingerprint)
        return done

    async def _drain(self, names: list[str]) -> None:
        hub = self._hub
        going = [source for source in hub.sources if source.name in names]
        hub.sources[:] = [source for source in hub.sources if source not in going]
        await asyncio.gather(*(source.drain(self._patience_s) for source in going), return_exceptions=True)

    async def _routed(self, names: list[str]) -> None:
        """Wait until what these sources brought is routed, for as long as a drain may take."""
        until = asyncio.get_running_loop().time() + self._patience_s
        waiting = "SELECT 1 FROM message WHERE state = 'RECEIVED' AND state <> 'DONE' AND source IN ({keys}) LIMIT 1"

        def left(tx: Transaction) -> bool:
            return bool(tx.rows_in(waiting, names))

        if not names:
            return
        with contextlib.suppress(HubError):
            while await self._hub.store.read(left):
                if asyncio.get_running_loop().time() > until:
                    log.event("reload.not_routed", level="warning", count=len(names))
                    return
                await asyncio.sleep(0.02)

    async def _ways_out(self, done: Reloaded) -> None:
        added, changed, removed = (_names(keys, "destination/") for keys in (done.added, done.changed, done.removed))
        hub = self._hub
        if hub.router is None:
            return
        for name in removed:
            self._end(hub.deliverers.remove(name))
        for name in changed:
            self._end(hub.deliverers.replace(name))
        for name in added:
            hub.deliverers.add(name)
        if added or removed:
            await self._block([*added, *removed])
            for name in added:
                hub.bell.ring(name)
        if self._ending:
            await asyncio.wait(self._ending, timeout=self._patience_s)

    async def _block(self, names: list[str]) -> None:
        hub = self._hub

        def job(tx: Transaction) -> None:
            for name in names:
                deliveries.set_blocked(tx, name, hub.installation.graph.blocked(name) or None)

        while True:
            try:
                return await hub.store.write(job)
            except StoreUnavailable as error:
                log.event("reload.store_unavailable", level="warning", reason=error.code)
                await asyncio.sleep(0.5)

    def _end(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _ways_in(self, done: Reloaded) -> None:
        hub = self._hub
        if not hub.takes_messages:
            return
        changed = _names(done.changed, "source/")
        await self._drain(changed)  # all of them first: one may take the address of another
        for name in [*changed, *_names(done.added, "source/")]:
            try:
                await hub.listen(name)
            except OSError as error:
                reason = f"cannot be listened on ({errno.errorcode.get(error.errno or 0, 'OSError')}): reload again, or restart"
                done.trouble.append(self._mistake(f"source[{name}].listen", reason))
                hub.prints.pop(f"source/{name}", None)  # the next reload tries again
            except Misconfigured as refused:
                done.trouble.append(self._mistake(f"source[{name}].{refused.key}", refused.reason))
                hub.prints.pop(f"source/{name}", None)

    async def _tell_others(self, fingerprint: str) -> None:
        """Other processes and `doctor` see with what this one runs."""
        hub = self._hub
        hub.tell_fingerprint(fingerprint)
        if hub.store.shared:
            with contextlib.suppress(StoreUnavailable):
                await hub.store.write(lambda tx: members.runs_with(tx, hub.owner, fingerprint))

    @property
    def _patience_s(self) -> float:
        return self._hub.installation.configuration.hub.drain_s


def _names(keys: list[str], prefix: str) -> list[str]:
    return [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]


# ---- checked whole, before anything changes --------------------------------------------------------------------------------


def prepare(running: Installation, file: Path, listening: frozenset[str] | None) -> Prepared:
    """Read and check a file for a hub that runs with another.

    `listening`: addresses that the hub listens on now; None when it takes no messages.

    Raises:
        ConfigurationRefused: with every mistake.
    """
    new = load(file)
    mistakes = [*fixed_mistakes(running, new), *tls_mistakes(new), *file_mistakes(new), *dmp_mistakes(new)]
    registry: Registry | None = None
    try:
        registry = load_mappings(new)
        mistakes += route_mistakes(new, registry)
    except Misconfigured as refused:
        mistakes.append(refused)
    if listening is not None:
        mistakes += listen_mistakes(new, listening)
    if mistakes or registry is None:
        raise ConfigurationRefused(mistakes)
    return Prepared(new, registry, prints.of_all(new))


def fixed_mistakes(running: Installation, new: Installation) -> list[Misconfigured]:
    """Settings that differ and are only read at a start."""
    keys = [f"{section}.{key}" for section in _FIXED for key in _differing(running, new, section)]
    keys += [f"hub.{key}" for key in _differing(running, new, "hub") if key in _FIXED_OF_HUB]
    before = {one.name: one.workers for one in running.configuration.destination}
    if running.place.shared:
        changed = [one.name for one in new.configuration.destination if before.get(one.name, one.workers) != one.workers]
        keys += [f"destination[{name}].workers" for name in changed]
    return [Misconfigured(str(new.file), key, _RESTART) for key in keys]


def _differing(running: Installation, new: Installation, section: str) -> list[str]:
    before, after = getattr(running.configuration, section), getattr(new.configuration, section)
    return [key for key in type(after).model_fields if getattr(before, key) != getattr(after, key)]


def listen_mistakes(new: Installation, listening: frozenset[str]) -> list[Misconfigured]:
    """Addresses that the hub does not listen on yet, and cannot."""
    mistakes = []
    for source in new.configuration.source:
        if not isinstance(source, MllpSourceSection) or source.listen in listening:
            continue
        reason = _unfit(source.listen, shared=new.place.shared)
        if reason:
            mistakes.append(Misconfigured(str(new.file), f"source[{source.name}].listen", f"cannot be listened on ({reason})"))
    return mistakes


def _unfit(listen: str, *, shared: bool) -> str:
    host, _, port = listen.rpartition(":")
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if shared:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                probe.bind(address)
                probe.listen(1)
    except OSError as error:  # socket.gaierror is one
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return ""
