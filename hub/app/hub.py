"""The wiring of one process: store, receiver, router, dispatchers, listeners, web, jobs; how it starts and how it stops.

A process has all parts, or those of its role; several on one shared store are one hub.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from adapters.mllp.inflight import InflightBudget
from hub.app import prints, schematron_rules
from hub.app.check import route_mistakes
from hub.app.config import API, ConfigurationRefused, Installation, absolute
from hub.app.deliverers import Deliverers, WayOut
from hub.app.lock import DataFolderLock
from hub.app.mapping_worker import registry as build_registry
from hub.app.reload import Reloader
from hub.app.transports import Intake, make_destination, make_source
from hub.app.way_dmp import make_dmp
from hub.app.ways import MllpSourceSection
from hub.bell.local import LocalBell
from hub.bell.port import Bell
from hub.flow.carry import ApplicationCarrier, KeptMessages, RecordCarrier
from hub.flow.carry_dmp import DmpCarrier
from hub.flow.deliver import Carrier, Dispatcher
from hub.flow.graph import RECORD, DestinationSpec
from hub.flow.identities import Identities
from hub.flow.membership import Alone, Member
from hub.flow.meters import Meters
from hub.flow.operate import Operations
from hub.flow.receipts import DMP
from hub.flow.receive import Receiver
from hub.flow.recent import Recent
from hub.flow.route import Router
from hub.flow.rule_checks import RuleChecks
from hub.flow.rules import Ruled, Rules
from hub.flow.workshop import PLANNED, Bench, Limits, Workshop
from hub.ledger import barriers, deliveries, queries, retention
from hub.ledger.routing import Unrouted
from hub.model import log
from hub.model.dmp import Dmp
from hub.model.ports import Answer, Destination, Origin, Source
from hub.model.refusals import MessageRefused, Unreadable
from hub.store import Transaction
from hub.store.place import OpenStore, open_store
from hub.store.upgrade import upgrade
from mappings.registry import Registry

SWEEP_S = 5.0
VERSION = "0.1.0"
PARTS = {"all": {"edge", "worker", "web"}, "edge": {"edge"}, "worker": {"worker"}, "web": {"web"}}


class Hub:
    """One process of a hub. `start` returns once it listens; `stop` drains and ends everything."""

    def __init__(self, installation: Installation, *, role: str = "all", status: str = "") -> None:
        self.installation, self.role = installation, role
        self._parts, self._status = PARTS[role], status
        self.failed = asyncio.Event()  # the store broke: end the process, let it be started again
        self.store: OpenStore
        self.member: Alone | Member
        self.bell: Bell
        self.router: Router | None = None
        self.sources: list[Source] = []
        self.web: Any = None
        self.tickets: Any = None
        self._lock: DataFolderLock | None = None
        self._routing: asyncio.Task[None] | None = None
        self._checking: asyncio.Task[None] | None = None  # documents against the rules of `[cda]`
        self._life: asyncio.Task[None] | None = None  # of the member
        self.deliverers = Deliverers(self._make_dispatcher, self._watch_lease)
        self.prints: dict[str, str] = {}  # of sections as they are in force: `hub.app.prints`
        self._services: Any = None
        self.reloader = Reloader(self)
        self._jobs: Any = None
        self._ready: dict[str, bool] = {"store": False, "listeners": False, "web": False}
        self._counts: dict[str, Any] = {}
        self._pruned: list[tuple[str, str, int, int]] = []
        self._pruner: Any = None
        self._http_n = 0

    # ---- start -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, then listen for messages, then the rest.

        Raises:
            ConfigurationRefused, DataFolderInUse, SchemaTooNew, StoreUnavailable, ClusterFull, OSError, Misconfigured.
        """
        installed = self.installation
        self.meters = Meters()
        self._take_mappings()
        installed.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # patients' data: its owner's only
        if not installed.place.shared:
            self._lock = DataFolderLock(installed.data_dir)
        await asyncio.to_thread(upgrade, installed.place)
        self._blobs = installed.blobs()
        self.store = open_store(installed.place, self._blobs, on_broken=self.failed.set)
        self.store.start()
        await self._join()
        self._ready["store"] = True
        recent = Recent()
        if "worker" in self._parts:
            await self._make_worker(recent)
        self.receiver = Receiver(
            store=self.store,
            rules=self._rules,
            recent=Recent(0) if self.store.shared else recent,
            meters=self.meters,
            on_kept=self._kept,
        )
        self.identities = Identities(self.store, lambda: self.installation.graph, self.bell)
        self.operations = Operations(self.store, self._rules, self.bell)
        if "edge" in self._parts:
            await self._listen()
        self._ready["listeners"] = True
        if self.router is not None:
            self._routing = asyncio.create_task(self.router.run(), name="router")
            self.deliverers.start()
            self._check_documents()
        if isinstance(self.member, Member):
            self._life = asyncio.create_task(self.member.run(), name="member")

    async def _join(self) -> None:
        """A name among the processes of a shared store; everything, where there is no other process."""
        self.bell = LocalBell()
        if not self.store.shared:
            self.member = Alone()
            await self.store.write(self._recover)
            return
        section = self.installation.configuration.cluster
        if self.installation.configuration.bell.url:
            self.bell = await self._bell_across(section.name)
        few = {name: spec.workers for name, spec in self.installation.graph.destinations.items() if spec.workers}
        self.member = Member(self.store, self.bell, self.role, version=VERSION, lease_s=section.lease_s, few=few)
        self.member.configuration = self._fingerprint
        await self.member.start()
        if "worker" in self._parts:
            await self.store.write(self._block_unconfigured)

    async def _bell_across(self, cluster: str) -> Bell:
        from hub.bell.jetstream import JetStreamBell

        section = self.installation.configuration.bell
        bell = JetStreamBell(
            section.url,
            cluster=cluster,
            tls_ca_file=self._file(section.tls_ca_file),
            tls_cert_file=self._file(section.tls_cert_file),
            tls_key_file=self._file(section.tls_key_file),
            creds_file=self._file(section.creds_file),
        )
        await bell.start()
        return bell

    async def _make_worker(self, recent: Recent) -> None:
        self._messages = KeptMessages(self.store, self._rules, recent)
        self.router = Router(
            store=self.store,
            rules=self._rules,
            recent=recent,
            bell=self.bell,
            held=self._held,
            takers=self.deliverers.by_name,
            member=self.member,
            pressed=lambda: self.receiver.pressed,
        )
        for name in (RECORD, *self.installation.graph.destinations):
            self.deliverers.add(name)

    def _check_documents(self) -> None:
        """Run the rules of `[cda]`, when there are any, over what was filed."""
        schematron_rules.tell_missing(self.installation)
        self.rule_checks = RuleChecks(
            self.store, lambda: schematron_rules.bench(self.installation), owner=lambda: self.owner, rest=self._rest
        )
        self._checking = asyncio.create_task(self.rule_checks.run(), name="rule checks")

    def _kept(self, row: Unrouted) -> None:
        """A message was kept: route it here, or wake the process whose turn it is."""
        if isinstance(self.member, Member):
            self.bell.ring(self.member.router_of(row.shard))
        elif self.router is not None:
            self.router.feed(row)

    async def start_web(self) -> None:
        """Import and start the web and the scheduled jobs; messages flow already."""
        section = self.installation.configuration.web
        listen = section.listen if "web" in self._parts else self._status
        if listen:
            await self._serve(listen, status_only="web" not in self._parts)
        self._ready["web"] = True
        await asyncio.to_thread(__import__, "hub.app.jobs")
        from hub.app.jobs import start_jobs

        self._jobs = start_jobs(self)

    async def _serve(self, listen: str, *, status_only: bool) -> None:
        from hub.web.server import WebServer
        from hub.web.services import Services
        from hub.web.tickets import Tickets

        self.tickets = Tickets()
        section = self.installation.configuration.web
        self._services = services = Services(
            store=self.store,
            operations=self.operations,
            identities=self.identities,
            site=self.installation.site,
            ready=self.ready,
            metrics=self.metrics,
            submit_hl7=self._submit,
            tickets=self.tickets,
            version=VERSION,
            reload=self.reloader.reload_for_api,
        )

        def app() -> Any:
            from hub.web.app import create_app

            return create_app(services, status_only=status_only)

        self.web = WebServer(
            app,
            listen,
            tls_cert_file=absolute(self.installation, section.tls_cert_file),
            tls_key_file=absolute(self.installation, section.tls_key_file),
            tls_client_ca_file=absolute(self.installation, section.tls_client_ca_file),
        )
        await self.web.start()

    def _take_mappings(self) -> None:
        self.registry = build_registry(self._file(self.installation.configuration.mappings.folder) or None)
        mistakes = route_mistakes(self.installation, self.registry)
        if mistakes:
            raise ConfigurationRefused(mistakes)
        self.workshop = Workshop(
            *self._bench(),
            lambda reason: self.meters.workers_recycled.labels("served its time" if reason in PLANNED else "broke a limit").inc(),
        )
        self._rules = self._rules_now()
        self.prints = prints.of_all(self.installation)
        self._fingerprint = prints.of_configuration(self.installation)

    def _bench(self) -> tuple[Bench, Limits]:
        section = self.installation.configuration.mappings
        bench = Bench("hub.app.mapping_worker:build", self._file(section.folder) or None)
        return bench, Limits(section.workers, section.time_s, section.memory_mb)

    def _rules_now(self) -> Rules:
        installed = self.installation
        return Rules(self.registry, installed.graph, installed.site, installed.configuration.hub.dedupe_window_days * 86_400)

    def use(self, installation: Installation, registry: Registry, *, mappings: bool) -> None:
        """Work by another configuration from here on. Ways in and out are the caller's to change.

        `mappings`: those of the site are others, so workers that have the old ones are replaced.
        """
        self.installation, self.registry = installation, registry
        self._rules = rules = self._rules_now()
        if mappings:
            self.workshop.renew(*self._bench())
        stations: list[Ruled] = [self.receiver, self.operations]
        if self.router is not None:
            stations += [self.router, self._messages]
        for station in stations:
            station.rules = rules
        if self._services is not None:
            self._services.site = installation.site
        if isinstance(self.member, Member):
            self.member.few = {name: spec.workers for name, spec in installation.graph.destinations.items() if spec.workers}

    def _recover(self, tx: Transaction) -> None:
        deliveries.free_all(tx)
        self._block_unconfigured(tx)

    def _block_unconfigured(self, tx: Transaction) -> None:
        for (destination,) in tx.rows("SELECT DISTINCT destination FROM lane"):
            deliveries.set_blocked(tx, destination, self.installation.graph.blocked(destination) or None)

    async def _listen(self) -> None:
        self._budget = InflightBudget(self.installation.configuration.hub.max_inflight_bytes)
        for section in self.installation.configuration.source:
            await self.listen(section.name)

    @property
    def is_started(self) -> bool:
        return self._ready["listeners"]

    @property
    def makes_deliveries(self) -> bool:
        return "worker" in self._parts

    @property
    def takes_messages(self) -> bool:
        return "edge" in self._parts

    def listening(self) -> frozenset[str] | None:
        """The addresses of its sources; None for a process without."""
        if not self.takes_messages:
            return None
        names = {source.name for source in self.sources}
        sections = self.installation.configuration.source
        return frozenset(one.listen for one in sections if isinstance(one, MllpSourceSection) and one.name in names)

    def tell_fingerprint(self, fingerprint: str) -> None:
        """With what this process runs, for `/readyz`."""
        self._fingerprint = fingerprint
        if isinstance(self.member, Member):
            self.member.configuration = fingerprint

    async def listen(self, name: str) -> None:
        """Take messages at a source of the configuration.

        Raises:
            OSError: its address is taken or not ours. Misconfigured.
        """
        section = next(one for one in self.installation.configuration.source if one.name == name)
        intake = Intake(
            self.installation, self.receiver.receive, self._frame_refused, self._budget, self.store.shared, self.meters
        )
        source = make_source(section, intake)
        await source.start()
        self.sources.append(source)

    def _file(self, path: Path | None) -> str:
        return str(absolute(self.installation, path) or "")

    def _make_way_out(self, name: str) -> WayOut:
        """What deliveries to a destination of the configuration are sent through."""
        if name == DMP:
            return make_dmp(self.installation)
        section = next(one for one in self.installation.configuration.destination if one.name == name)
        return make_destination(section, self.installation)

    def _make_dispatcher(self, name: str) -> tuple[Dispatcher, WayOut]:
        carrier: Carrier
        if name == RECORD:
            spec, out = DestinationSpec(RECORD, "record"), None
            carrier = RecordCarrier(self._messages, self.workshop, self.store)
        else:
            spec, out = self.installation.graph.destinations[name], self._make_way_out(name)
            if name == DMP:
                carrier = DmpCarrier(cast(Dmp, out), self._messages, self.store)
            else:
                carrier = ApplicationCarrier(spec, cast(Destination, out), self._messages, self.workshop)
        made = Dispatcher(
            spec, carrier, store=self.store, bell=self.bell, member=self.member, meters=self.meters, sweep_s=SWEEP_S
        )
        return made, out

    def _watch_lease(self) -> None:
        """Tell the member who works under its lease."""
        if isinstance(self.member, Member) and self.router is not None:
            self.member.watchers = [self.router, *self.deliverers.dispatchers]

    @property
    def _by_name(self) -> dict[str, Dispatcher]:
        return self.deliverers.by_name

    def _held(self, destination: str) -> str:
        dispatcher = self._by_name.get(destination)
        return dispatcher.breaker.reason if dispatcher is not None and dispatcher.breaker.is_open else ""

    def _frame_refused(self, origin: Origin, reason: str, head: bytes) -> Answer | None:
        from hub.formats.er7 import acknowledgement, read

        try:
            message = read(head, self.installation.site.default_charset)
        except MessageRefused:
            message = None
        refusal = Unreadable(at="MSH", sentence=f"the message could not be taken whole ({reason})")
        from datetime import UTC, datetime

        return Answer(
            acknowledgement(
                message,
                code="AE",
                control_id=f"{self.store.next_id():016X}",
                at=datetime.now(UTC),
                site=self.installation.site,
                refusal=refusal,
            ),
            close=True,
        )

    async def _submit(self, body: bytes, origin: Origin) -> Answer:
        self._http_n += 1
        return await self.receiver.submit(body, replace(origin, source=API, connection=origin.connection or str(self._http_n)))

    # ---- what it says of itself ------------------------------------------------------------------------------------

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether messages can be taken, and what is missing."""
        health = self.store.health()
        parts: dict[str, Any] = {**self._ready, "store": self._ready["store"] and not health, "configuration": self._fingerprint}
        if health:
            parts["reason"] = health
        return bool(parts["store"] and parts["listeners"]), parts

    def metrics(self) -> tuple[bytes, str]:
        """The Prometheus page."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        from hub.app.gauges import render

        counted = render({**self._counts, "pruned": self._pruned}, self.store.times)
        return generate_latest(self.meters.registry) + counted, CONTENT_TYPE_LATEST

    @property
    def owner(self) -> str:
        """The name of this process in the ledger."""
        return self.member.owner

    @property
    def dedupe_window_us(self) -> int:
        """For how long the same bytes from the same source are the same message."""
        return int(self.installation.configuration.hub.dedupe_window_days * 86_400_000_000)

    async def sweep(self) -> None:
        """Wake everybody, as if every ring were lost; take fresh counts."""
        if self.router is not None:
            self.router.look()
        for dispatcher in self.deliverers.dispatchers:
            dispatcher.look()
        if "worker" in self._parts and await self.store.read(barriers.any_barred):
            await self.store.write(barriers.lift_all)
        if "web" in self._parts:
            self._counts = {**await self.store.read(queries.counts), "at": time.time()}

    async def prune(self) -> None:
        """A round of retention, or the rest of one, if this process works on the ledger and no other is at it."""
        if "worker" not in self._parts or self._pruner is not None:
            return
        from hub.app.pruning import Pruner

        configuration = self.installation.configuration
        policy = configuration.retention.policy(configuration.hub.dedupe_window_days)
        self._pruner = Pruner(self.store, self._blobs, policy, owner=self.owner, rest=self._rest)
        try:
            done = await self._pruner.round()
        finally:
            self._pruner = None
        if done is not None and done.messages + done.bodies:
            log.event("prune.done", count=done.messages, bytes=done.bytes)

    async def _rest(self, seconds: float) -> None:
        """Between two slices of a job: longer while senders wait for their answers."""
        await asyncio.sleep(seconds)
        while self.receiver.pressed:  # noqa: ASYNC110 - an event would cost every message
            await asyncio.sleep(seconds)

    async def count_pruned(self) -> None:
        """Take the counts of what is not kept any more, for the metrics."""
        if "web" in self._parts:
            self._pruned = await self.store.read(retention.pruned_by_source)

    # ---- stop ------------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Take nothing more, end what is in hand, close. Within `drain_s` and a little."""
        limit = self.installation.configuration.hub.drain_s
        self._ready["listeners"] = False  # who asks sends no more here
        if self._jobs is not None:
            self._jobs.shutdown(wait=False)
        if self._pruner is not None:
            self._pruner.stop()
        await self.reloader.stop()
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
            await self.rule_checks.stop()
        await asyncio.gather(*(source.drain(limit / 2) for source in self.sources), return_exceptions=True)
        self.receiver.draining = True
        await _within(limit / 4, self.receiver.drained())
        if self.router is not None and self._routing is not None:
            self.router.stop()
            await asyncio.wait({self._routing}, timeout=limit / 8)
            await self.deliverers.stop(limit / 8)
            self._routing.cancel()
            await asyncio.gather(self._routing, return_exceptions=True)
        await self.deliverers.close()
        if self.web is not None:
            await self.web.stop(1.0)
        self.workshop.close()
        await self._go()
        await self.store.close()
        if self._lock is not None:
            self._lock.release()
        log.event("hub.stopped")

    async def _go(self) -> None:
        """Leave the other processes, and the bell."""
        if isinstance(self.member, Member):
            if self._life is not None:
                self._life.cancel()
                await asyncio.gather(self._life, return_exceptions=True)
            await self.member.leave()
        await self.bell.close()


async def _within(seconds: float, waiting: Any) -> None:
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        log.event("hub.drain_timeout", level="warning", seconds=seconds)
