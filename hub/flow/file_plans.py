"""Routing inside the transaction: patient numbers, deliveries in their lanes, and the record's change when its lane is free."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from hub.flow.graph import RECORD
from hub.flow.receipts import DMP, Creator, ReceiptDesk
from hub.ledger import barriers, deliveries, routing
from hub.ledger.deliveries import Claim, Head, NewDelivery
from hub.ledger.messages import reused_control_ids
from hub.ledger.routing import Routed, Unrouted
from hub.model.identity import PatientIdentity
from hub.model.receipts import IncomingReceipt
from hub.model.record_change import RecordChange
from hub.model.refusals import Finding
from hub.record.apply import Arrival, apply_all
from hub.record.consents import dmp_refusal
from hub.record.identity import NOBODY, resolve_all
from hub.record.merging import same_person
from hub.store import Transaction


@dataclass(frozen=True, slots=True)
class Plan:
    """All that routing one message takes, computed without the database.

    `targets` are (destination, mapping), `refused` (destination, reason). `change` is what goes into the record at once;
    None when there is none, or a worker must translate it. `document` is the id of the document it carries, `follows` that of
    the one it replaces or deletes: such a delivery waits when its predecessor was given up. `creator` is told of deliveries
    that a rule ends, `told` are receipts that the message brings for earlier ones; `withdraws`: it deletes, which a patient who
    is opposed to the DMP allows. `broke` says how the hub failed on this message.
    """

    row: Unrouted
    control_id: str = ""
    identity: PatientIdentity | None = None
    remarks: tuple[Finding, ...] = ()
    targets: tuple[tuple[str, str], ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    change: RecordChange | None = None
    document: str | None = None
    follows: str | None = None
    creator: Creator | None = None
    told: tuple[IncomingReceipt, ...] = ()
    withdraws: bool = False
    broke: str = ""

    @property
    def acts(self) -> bool:
        """Whether it merges, parts or renumbers patients: then it is filed by itself."""
        return self.change is not None and bool(self.change.acts)

    @property
    def has_deliveries(self) -> bool:
        """Whether a worker will ask for the message again."""
        return any(name != RECORD for name, _ in self.targets) or (bool(self.targets) and self.change is None)


@dataclass(slots=True)
class _Filed:
    """One plan on its way into the tables."""

    plan: Plan
    patient_id: int | None
    tail: str  # of its lanes: the patient, or source and connection when there is none
    root: int | None = None  # the number that stands for the patient
    others: tuple[int, ...] = ()  # patients whom the message joins to this one, or parts from it
    findings: list[Finding] = field(default_factory=list)
    made: list[NewDelivery] = field(default_factory=list)
    taken: bool = False

    def lanes(self) -> Iterator[str]:
        """Of its deliveries, and those that a joined patient's stand in."""
        for name, _ in self.plan.targets:
            yield f"{name}/{self.tail}"
            for other in self.others:
                yield f"{name}/p{other}"


@dataclass(slots=True)
class Grant:
    """How many empty lanes a destination's worker would take at once, and under which claim."""

    claim: Claim
    lanes: int


@dataclass(frozen=True, slots=True)
class Filed:
    """What is to be done now: destinations with queued deliveries, and heads that a worker holds already."""

    rings: set[str]
    heads: dict[str, list[Head]]


def file_plans(
    tx: Transaction,
    plans: Sequence[Plan],
    *,
    next_id: Callable[[], int],
    now: int,
    blocked: Callable[[str], str],
    held: Callable[[str], str],
    grants: dict[str, Grant],
    desk: ReceiptDesk,
    seen: Callable[[int], None] | None = None,
) -> Filed:
    """File a few messages in their order.

    `blocked` says why a destination cannot have anything (not configured), `held` why it is not asked now (down). A delivery
    whose lane is empty goes straight to the worker that has a grant for it. `desk` files receipts. `seen` tells the maker of
    numbers what other processes made, where there are any: a lane is in the order of its deliveries' numbers.
    """
    before = routing.still_received(tx, [plan.row.id for plan in plans])
    filed = _match(tx, [plan for plan in plans if plan.row.id in before], next_id, now)
    _tell_reused_control_ids(tx, filed)
    lanes = sorted({lane for one in filed for lane in one.lanes()})
    busy = deliveries.occupied(tx, lanes)
    there = frozenset(busy)
    if seen is not None and there:
        seen(deliveries.newest_open(tx, sorted(there)))
    _part_lanes(tx, filed, next_id, later=False)
    busy |= barriers.barred(tx, lanes)
    for one in filed:
        one.made = _deliveries(one, next_id, blocked, held)
    _change_record(tx, filed, busy, next_id, now)
    _ask_consent(tx, filed)
    heads = _hand_out(filed, busy, grants, now)
    made = [d for one in filed for d in one.made]
    deliveries.add(tx, made, now, busy=there)
    rings = _file_receipts(tx, filed, desk)
    routing.file_routed(tx, [_routed(one) for one in filed], before, now)
    _part_lanes(tx, filed, next_id, later=True)
    waiting = {d.destination for d in made if not (d.delivered or d.refused or d.blocked_reason or d.claim or d.lane in there)}
    return Filed(waiting | rings, heads)


def _match(tx: Transaction, plans: Sequence[Plan], next_id: Callable[[], int], now: int) -> list[_Filed]:
    known = [(plan.row.id, plan.identity) for plan in plans if plan.identity is not None and not plan.broke]
    acts = {plan.row.id: plan.change.acts for plan in plans if plan.acts and plan.change is not None}
    found = resolve_all(tx, known, next_id=next_id, now_us=now, acts=acts)
    matches = dict(zip((number for number, _ in known), found, strict=True))
    filed = []
    for plan in plans:
        match = matches.get(plan.row.id, NOBODY)
        tail = f"p{match.root}" if match.root is not None else f"s{plan.row.source}/{plan.row.connection}"
        findings = [*plan.remarks, *match.findings]
        if match.case is not None:
            findings.append(Finding("IDENTITY_CASE", "PID-3", f"a person must look at this identity ({match.case})"))
        if plan.broke:
            findings.append(Finding("SET_ASIDE", "MSH", f"the hub failed on this message ({plan.broke})"))
        filed.append(_Filed(plan, match.patient_id, tail, match.root, match.others, findings))
    return filed


def _part_lanes(tx: Transaction, filed: Sequence[_Filed], next_id: Callable[[], int], *, later: bool) -> None:
    """Where a message joins two patients or parts them, let what comes after it wait for what came before, in the lanes of both.

    Called before its deliveries have numbers, and once more when they are filed (`later`).
    """
    for one in filed:
        if not one.others or one.root is None:
            continue
        at, everyone = next_id(), same_person(tx, (one.root, *one.others))
        for other in one.others:
            first, then = (one.root, other) if later else (other, one.root)
            barriers.raise_between(tx, everyone, before=first, after=then, at=at)


def _tell_reused_control_ids(tx: Transaction, filed: Sequence[_Filed]) -> None:
    asked = [(one.plan.row.id, one.plan.row.source, one.plan.control_id) for one in filed if one.plan.control_id]
    reused = reused_control_ids(tx, asked)
    for one in filed:
        if one.plan.row.id in reused:
            one.findings.append(Finding("CONTROL_ID_REUSED", "MSH-10", "this control id was already used for another message"))


def _deliveries(
    one: _Filed, next_id: Callable[[], int], blocked: Callable[[str], str], held: Callable[[str], str]
) -> list[NewDelivery]:
    number, tail = one.plan.row.id, one.tail
    made = [
        NewDelivery(
            next_id(),
            number,
            name,
            f"{name}/{tail}",
            mapping,
            blocked_reason=blocked(name),
            held=held(name),
            document=one.plan.document,
            follows=one.plan.follows,
        )
        for name, mapping in one.plan.targets
    ]
    made += [NewDelivery(next_id(), number, name, f"{name}/{tail}", refused=reason) for name, reason in one.plan.refused]
    return made


def _change_record(tx: Transaction, filed: Sequence[_Filed], busy: set[str], next_id: Callable[[], int], now: int) -> None:
    """Apply what is ready at once, in order; whoever stands behind something open in the record's lane waits there."""
    waiting = [(one, d) for one in filed for d in one.made if d.destination == RECORD and not d.refused]
    arrivals: list[Arrival] = []
    takers: list[_Filed] = []
    for one, delivery in waiting:
        if one.plan.change is None or delivery.lane in busy:
            busy.add(delivery.lane)
            continue
        arrivals.append(Arrival(one.plan.change, one.patient_id, one.plan.row.id, one.plan.row.source))
        takers.append(one)
        delivery.delivered = True
    if arrivals:
        for one, applied in zip(takers, apply_all(tx, arrivals, next_id=next_id, now_us=now), strict=True):
            one.findings += applied.findings


def _ask_consent(tx: Transaction, filed: Sequence[_Filed]) -> None:
    """Refuse what may not go to the DMP of its patient, as the record knows it now; a deletion may always."""
    feeds = [
        (one.patient_id, d)
        for one in filed
        if one.patient_id is not None and not one.plan.withdraws
        for d in one.made
        if d.destination == DMP and not d.refused
    ]
    if feeds:
        reasons = dmp_refusal(tx, sorted({patient_id for patient_id, _ in feeds}))
        for patient_id, d in feeds:
            d.refused = reasons.get(patient_id, "")


def _file_receipts(tx: Transaction, filed: Sequence[_Filed], desk: ReceiptDesk) -> set[str]:
    """Receipts that messages bring, and those of deliveries that a rule ended; the destinations that get a ZAM."""
    rings: set[str] = set()
    for one in filed:
        for d in one.made:
            if d.refused:
                rings.add(desk.file_refused(tx, d.id, d.destination, d.refused, one.plan.creator))
        for told in one.plan.told:
            delivery_id, ring = desk.file_incoming(tx, told)
            rings.add(ring)
            if delivery_id is None:
                one.findings.append(Finding("RECEIPT_UNKNOWN", "OBX-4", "OBX-4: no message that was sent on carries this number"))
            one.taken = one.taken or delivery_id is not None
    return rings - {""}


def _hand_out(filed: Sequence[_Filed], busy: set[str], grants: dict[str, Grant], now: int) -> dict[str, list[Head]]:
    """Give the first open delivery of each empty lane to the worker that would take it."""
    heads: dict[str, list[Head]] = {}
    for one in filed:
        row = one.plan.row
        for d in one.made:
            if d.delivered or d.refused or d.blocked_reason or d.held or d.lane in busy:
                continue
            busy.add(d.lane)
            grant = grants.get(d.destination)
            if grant is None or len(heads.get(d.destination, ())) >= grant.lanes or d.follows is not None:
                continue
            d.claim = grant.claim
            heads.setdefault(d.destination, []).append(
                Head(
                    d.id,
                    d.message_id,
                    d.destination,
                    d.mapping,
                    d.lane,
                    0,
                    now,
                    0,
                    row.source,
                    one.plan.control_id,
                    row.in_file,
                    row.sha256,
                    row.charset,
                    grant.claim.epoch,
                )
            )
    return heads


def _routed(one: _Filed) -> Routed:
    return Routed(
        one.plan.row.id,
        one.patient_id,
        open_n=sum(not d.delivered and not d.refused for d in one.made),
        failed_n=sum(bool(d.refused) for d in one.made),
        made=len(one.made),
        taken=one.taken,
        findings=tuple(one.findings),
        broke=bool(one.plan.broke),
    )
