"""Which patient number a message belongs to. The IPP decides, an INS helps, and no two patients are merged by the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from hub.model.identifiers import INS_NIA, INS_NIR, InsMatricule
from hub.model.identity import PatientIdentity, ins_is_usable
from hub.model.record_change import IdentityAct, IdentityActKind
from hub.model.refusals import Finding
from hub.record.merging import ever_linked, merge, root_of, unmerge
from hub.store import Transaction

INS_TRAITS_DIFFER, INS_HELD_BY_ANOTHER, INS_CHANGED, TWO_PATIENTS = (
    "INS_TRAITS_DIFFER",
    "INS_HELD_BY_ANOTHER",
    "INS_CHANGED",
    "TWO_PATIENTS",
)

# CX-5 of numbers that mean one person: others (NH, the insured's number) are shared by a family.
_KINDS = frozenset({"PI", "PT", "MR", "PN", "RRI", ""})
_KIND_INS = "INS"
_NIR, _NIA = f"urn:oid:{INS_NIR}", f"urn:oid:{INS_NIA}"

_CASE_COLUMNS = (
    "id",
    "kind",
    "fingerprint",
    "patient_id",
    "other_patient_id",
    "system",
    "value",
    "message_id",
    "state",
    "created_at",
)
_PATIENT_COLUMNS = ("birth_name", "birth_date", "sex", "status")

Identifier = tuple[str, str, str]  # system, value, kind
Traits = tuple[str, str, str]

_FIND = (
    "WITH v(s, n) AS (VALUES {values}) SELECT i.system, i.value, p.id, p.birth_name, p.birth_date, p.sex, p.status,"
    " p.merged_into FROM v"
    " CROSS JOIN patient_identifier i JOIN patient p ON p.id = i.patient_id WHERE i.system = v.s AND i.value = v.n"
)


@dataclass(frozen=True, slots=True)
class Match:
    """The patient of a message; None when it names nobody that could be told from others.

    `patient_id` is the number under which the message's facts are filed, `root` the one that stands for the person after
    merges (`merged_into`): lanes go by it. `others` are the roots of other patients whom an act of the message joined to it or
    parted from it.
    `withheld_ins`: an INS of the message was not given to this patient. `case` is the kind of the doubt, if any; `created`:
    the number is new.
    """

    patient_id: int | None
    withheld_ins: bool = False
    case: str | None = None
    created: bool = False
    merged_into: int | None = None
    others: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def root(self) -> int | None:
        return self.patient_id if self.merged_into is None else self.merged_into


NOBODY = Match(None)


@dataclass(slots=True)
class Owner:
    """A known patient: number, traits in comparable form, identity status, the number that stands for the person."""

    patient_id: int
    traits: Traits
    status: str
    root: int


def resolve(tx: Transaction, identity: PatientIdentity, *, message_id: int, next_id: Callable[[], int], now_us: int) -> Match:
    """The patient number of `identity`, found or made; new identifiers are filed, doubts go to `identity_case`.

    One select for a known patient of whom nothing changed.
    Standard: RNIV (identitovigilance); IHE PAM France 2.11.2, INS annex.
    """
    return resolve_all(tx, [(message_id, identity)], next_id=next_id, now_us=now_us)[0]


def resolve_all(
    tx: Transaction,
    arrivals: Sequence[tuple[int, PatientIdentity]],
    *,
    next_id: Callable[[], int],
    now_us: int,
    acts: Mapping[int, Sequence[IdentityAct]] | None = None,
) -> list[Match]:
    """`resolve` for many messages (number, identity) in their order, in few statements.

    `acts` are what messages do to numbers beside (merge, unmerge, renumber), by message. When it raises, nothing was written.
    """
    desk = _Desk(tx, next_id, now_us)
    numbered = [(message_id, identity, _local_identifiers(identity), _usable_ins(identity)) for message_id, identity in arrivals]
    priors = [one for found in (acts or {}).values() for act in found for one in numbers_of(act.prior)]
    desk.look_up([*(one for _, _, ipps, ins in numbered for one in (*ipps, *ins)), *priors])
    matches = [
        _Resolution(desk, identity, message_id).run(ipps, ins, (acts or {}).get(message_id, ()))
        if ipps or ins or message_id in (acts or {})
        else NOBODY
        for message_id, identity, ipps, ins in numbered
    ]
    desk.flush()
    return matches


def numbers_of(identity: PatientIdentity) -> list[Identifier]:
    """Every number of MRG-1, an INS whatever its status: what is to be replaced needs no qualification."""
    ins = [(one.system, one.value, _KIND_INS) for one in identity.ins]
    return [*_local_identifiers(identity), *dict.fromkeys(ins)]


def identifier_keys(identity: PatientIdentity) -> list[tuple[str, str]]:
    """System and value of every number that matching looks at."""
    return [one[:2] for one in (*_local_identifiers(identity), *_usable_ins(identity))]


def concerned(tx: Transaction, acts: Sequence[IdentityAct], patient_id: int) -> list[int]:
    """The numbers of all patients whose merges or numbers these acts of a message of `patient_id` may have changed."""
    pairs = list(dict.fromkeys(one[:2] for act in acts for one in numbers_of(act.prior)))
    return ever_linked(tx, [patient_id, *(row[2] for row in (tx.rows_values(_FIND, pairs) if pairs else ()))])


def _local_identifiers(identity: PatientIdentity) -> list[Identifier]:
    return list(
        dict.fromkeys(
            (one.system, one.value, one.kind or "PI") for one in identity.local if one.value and one.system and one.kind in _KINDS
        )
    )


def _usable_ins(identity: PatientIdentity) -> list[Identifier]:
    if not identity.ins or not ins_is_usable(identity.statuses):
        return []
    ordered: list[InsMatricule] = sorted(identity.ins, key=lambda one: one.oid == INS_NIA)
    return list(dict.fromkeys((one.system, one.value, _KIND_INS) for one in ordered))


class _Desk:
    """Who owns what, as far as the messages at hand ask, with what they change; written at the end."""

    def __init__(self, tx: Transaction, next_id: Callable[[], int], now_us: int) -> None:
        self._tx, self.next_id, self._now_us = tx, next_id, now_us
        self._owners: dict[tuple[str, str], Owner] = {}
        self._new: dict[int, Owner] = {}
        self._changed: dict[int, Owner] = {}
        self._gained: list[tuple[Identifier, int]] = []
        self._ins_gained: dict[int, dict[str, str]] = {}
        self._cases: dict[bytes, tuple[int, int, tuple[object, ...]]] = {}  # fingerprint → case, patient, row

    def look_up(self, wanted: Sequence[Identifier]) -> None:
        pairs = list(dict.fromkeys(one[:2] for one in wanted))
        known: dict[int, Owner] = {}
        for system, value, number, name, birth, sex, status, root in self._tx.rows_values(_FIND, pairs) if pairs else ():
            self._owners[system, value] = known.setdefault(number, Owner(number, (name, birth, sex), status, root or number))

    def owner(self, identifier: Identifier) -> Owner | None:
        return self._owners.get(identifier[:2])

    def create(self, traits: Traits, status: str) -> Owner:
        number = self.next_id()
        patient = Owner(number, traits, status, number)
        self._new[patient.patient_id] = patient
        return patient

    def describe(self, patient: Owner, traits: Traits, status: str) -> None:
        if (traits, status) != (patient.traits, patient.status):
            patient.traits, patient.status = traits, status
            if patient.patient_id not in self._new:
                self._changed[patient.patient_id] = patient

    def give(self, identifier: Identifier, patient: Owner) -> None:
        self._owners[identifier[:2]] = patient
        self._gained.append((identifier, patient.patient_id))
        if identifier[2] == _KIND_INS:
            self._ins_gained.setdefault(patient.patient_id, {})[identifier[0]] = identifier[1]

    def ins_of(self, patient: Owner) -> dict[str, str]:
        """System → value of each INS that a patient has now."""
        found = dict(self._ins_gained.get(patient.patient_id, ()))
        if patient.patient_id not in self._new:
            found.update(
                self._tx.rows(
                    "SELECT system, value FROM patient_identifier WHERE patient_id = ? AND kind = ? AND until IS NULL",
                    patient.patient_id,
                    _KIND_INS,
                )
            )
        return found

    # ---- acts: rare, so each is written at once ----

    def join(self, survivor: Owner, prior: Owner, message_id: int) -> bool:
        """Merge `prior` into `survivor`; False when that was done before."""
        self.flush()
        done = merge(
            self._tx,
            survivor.patient_id,
            prior.patient_id,
            actor="message",
            message_id=message_id,
            next_id=self.next_id,
            now_us=self._now_us,
        )
        self._look_at_roots()
        return done

    def part(self, patient: Owner, prior: Owner, message_id: int) -> bool:
        """Undo the merge of two patients; False when there is none."""
        self.flush()
        done = unmerge(
            self._tx, patient.patient_id, prior.patient_id, actor="message", message_id=message_id, now_us=self._now_us
        )
        self._look_at_roots()
        return done

    def retire(self, patient: Owner, numbers: Sequence[Identifier]) -> int:
        """Mark numbers of a patient as old ones; how many were not old before."""
        self.flush()
        before = {
            tuple(row)
            for row in self._tx.rows(
                "SELECT system, value FROM patient_identifier WHERE patient_id = ? AND until IS NULL", patient.patient_id
            )
        }
        old = [one for one in numbers if one[:2] in before]
        self._tx.run_many(
            "UPDATE patient_identifier SET until = ? WHERE system = ? AND value = ?", [(self._now_us, *one[:2]) for one in old]
        )
        return len(old)

    def take_away(self, patient: Owner, numbers: Sequence[Identifier] | None) -> int:
        """Remove INS of a patient, these or (None) all, and end the doubts about them; how many there were."""
        self.flush()
        rows = self._tx.rows(
            "SELECT system, value FROM patient_identifier WHERE patient_id = ? AND kind = ?", patient.patient_id, _KIND_INS
        )
        gone = [row for row in map(tuple, rows) if numbers is None or row in {one[:2] for one in numbers}]
        self._tx.run_many("DELETE FROM patient_identifier WHERE system = ? AND value = ?", gone)
        for one in gone:
            self._owners.pop(one, None)
        self._ins_gained.pop(patient.patient_id, None)
        self._tx.run(
            "UPDATE identity_case SET state = 'CLOSED', closed_at = ?, closed_by = 'message' WHERE state = 'OPEN' AND kind = ? "
            "AND patient_id = ?",
            self._now_us,
            INS_CHANGED,
            patient.patient_id,
        )
        return len(gone)

    def _look_at_roots(self) -> None:
        for one in {id(owner): owner for owner in self._owners.values()}.values():
            one.root = root_of(self._tx, one.patient_id)

    def patient_of_case(self, fingerprint: bytes) -> Owner | None:
        if (pending := self._cases.get(fingerprint)) is not None:
            number = pending[1]
        elif (row := self._tx.row("SELECT patient_id FROM identity_case WHERE fingerprint = ?", fingerprint)) is not None:
            number = row[0]
        else:
            return None
        known = (
            self._new.get(number)
            or self._changed.get(number)
            or next((one for one in self._owners.values() if one.patient_id == number), None)
        )
        if known is None:
            row = self._tx.row("SELECT birth_name, birth_date, sex, status, merged_into FROM patient WHERE id = ?", number)
            known = Owner(number, (row[0], row[1], row[2]), row[3], row[4] or number) if row is not None else None
        return known

    def open_case(
        self, kind: str, fingerprint: bytes, patient: Owner, other: Owner | None, what: Identifier, *, message: int
    ) -> None:
        """File a doubt once, however often it comes."""
        if fingerprint in self._cases:
            return
        if self._tx.row("SELECT 1 FROM identity_case WHERE fingerprint = ?", fingerprint) is not None:
            return
        number = self.next_id()
        self._cases[fingerprint] = (
            number,
            patient.patient_id,
            (
                number,
                kind,
                fingerprint,
                patient.patient_id,
                other.patient_id if other else None,
                what[0],
                what[1],
                message,
                "OPEN",
                self._now_us,
            ),
        )

    def flush(self) -> None:
        if self._new:
            self._tx.insert(
                "patient",
                ("id", *_PATIENT_COLUMNS, "created_at"),
                [(one.patient_id, *one.traits, one.status, self._now_us) for one in self._new.values()],
            )
        if self._changed:
            self._tx.update(
                "patient", "id", _PATIENT_COLUMNS, [(one.patient_id, *one.traits, one.status) for one in self._changed.values()]
            )
        if self._gained:
            self._tx.insert(
                "patient_identifier",
                ("system", "value", "kind", "patient_id", "since"),
                [(*identifier, number, self._now_us) for identifier, number in self._gained],
            )
        if self._cases:
            self._tx.insert("identity_case", _CASE_COLUMNS, [row for _, _, row in self._cases.values()])
        for written in (self._new, self._changed, self._gained, self._cases):
            written.clear()


class _Resolution:
    """One message's identity being matched."""

    __slots__ = ("_desk", "_message_id", "_status", "_traits", "case", "created", "findings", "others", "withheld")

    def __init__(self, desk: _Desk, identity: PatientIdentity, message_id: int) -> None:
        self._desk, self._message_id = desk, message_id
        self._traits = identity.traits
        self._status = "~".join(identity.statuses)
        self.case: str | None = None
        self.withheld = False
        self.created = False
        self.others: dict[int, None] = {}
        self.findings: list[Finding] = []

    def run(self, ipps: list[Identifier], ins: list[Identifier], acts: Sequence[IdentityAct] = ()) -> Match:
        owners = [owner for one in ipps if (owner := self._desk.owner(one)) is not None]
        patient = next((one for one in owners if one.root == one.patient_id), None) or next(iter(owners), None)
        if patient is None:
            patient = self._whose_number_changes(acts)
        if patient is None and not (ipps or ins):
            self._find("IDENTITY_NOBODY", "PID-3", "names no patient: nothing was merged or renumbered")
            return Match(None, findings=tuple(self.findings))
        if patient is None:
            patient = self._by_ins(ins, joins_an_ipp=bool(ipps))
        if patient is None:
            patient = self._desk.create(self._traits, self._status)
            self.created = True
        elif ipps:
            self._take_over_traits(patient)
        for ipp in ipps:
            self._claim_ipp(patient, ipp)
        for act in acts:
            _ACTS[act.kind](self, patient, act, ipps)
        self._claim_ins(patient, ins, has_ipp=bool(ipps))
        others = tuple(one for one in self.others if one != patient.root)
        merged = patient.root if patient.root != patient.patient_id else None
        return Match(patient.patient_id, self.withheld, self.case, self.created, merged, others, tuple(self.findings))

    # ---- acts ----

    def _merge(self, patient: Owner, act: IdentityAct, _: list[Identifier]) -> None:
        prior = self._prior(act)
        if prior is None:
            numbers = numbers_of(act.prior)
            if not numbers:
                self._find("PRIOR_MISSING", act.path, "no number of the patient to merge")
                return
            prior = self._desk.create(("", "", ""), "")
            for number in numbers:
                self._desk.give(number, prior)
            self._find("PRIOR_UNKNOWN", act.path, "the patient to merge was not known; the number now leads to the other one")
        if prior.patient_id == patient.patient_id:
            self._find("MERGE_WITH_ITSELF", act.path, "both numbers are the same patient's already")
            return
        before, circle = prior.root, prior.root == patient.root and patient.root != patient.patient_id
        if not self._desk.join(patient, prior, self._message_id):
            self._find("MERGED_BEFORE", act.path, "these patients are merged already")
        elif circle:
            self._find("MERGE_CIRCLE", act.path, "these patients were merged the other way round before; the newest word counts")
        self.others |= dict.fromkeys((before, prior.patient_id))

    def _unmerge(self, patient: Owner, act: IdentityAct, _: list[Identifier]) -> None:
        prior = self._prior(act)
        if prior is None or prior.patient_id == patient.patient_id or not self._desk.part(patient, prior, self._message_id):
            self._find("UNMERGE_OF_NOTHING", act.path, "these patients are not merged")
            return
        self.others[prior.root] = None

    def _renumber(self, patient: Owner, act: IdentityAct, ipps: list[Identifier]) -> None:
        desk, numbers = self._desk, numbers_of(act.prior)
        old_ins = [one for one in numbers if one[2] == _KIND_INS]
        if (act.removes_ins or old_ins) and not desk.take_away(patient, None if act.removes_ins else old_ins):
            self._find("PRIOR_UNKNOWN", act.path, "the patient has no such INS")
        for one in numbers:
            if one[2] == _KIND_INS:
                continue
            owner = desk.owner(one)
            if owner is None:
                self._find("PRIOR_UNKNOWN", act.path, "the number to replace was not known")
            elif owner.root != patient.root:
                pair = sorted((patient.patient_id, owner.patient_id))
                self._open_case(TWO_PATIENTS, _fingerprint("ipp", *pair), patient, owner, one)
            elif one[:2] not in {ipp[:2] for ipp in ipps}:
                desk.retire(patient, [one])

    def _prior(self, act: IdentityAct) -> Owner | None:
        return next((owner for one in numbers_of(act.prior) if (owner := self._desk.owner(one)) is not None), None)

    def _whose_number_changes(self, acts: Sequence[IdentityAct]) -> Owner | None:
        """The patient of the old number, when the new one is nobody's yet."""
        renumbered = (act for act in acts if act.kind is IdentityActKind.RENUMBER)
        return next((owner for act in renumbered if (owner := self._prior(act)) is not None), None)

    def _find(self, code: str, path: str, sentence: str) -> None:
        self.findings.append(Finding(code, path, f"{path}: {sentence}"))

    # ---- who decides ----

    def _by_ins(self, ins: list[Identifier], *, joins_an_ipp: bool) -> Owner | None:
        for one in ins:
            holder = self._desk.owner(one)
            if holder is None:
                continue
            if holder.traits == self._traits and (not joins_an_ipp or all(self._traits)):
                return holder
            # Who was made when this INS came before, without an IPP, with these traits that are not its holder's.
            if not joins_an_ipp and (doubtful := self._desk.patient_of_case(self._fingerprint_by_traits(one))) is not None:
                return doubtful
        return None

    def _take_over_traits(self, patient: Owner) -> None:
        """What the deciding IPP says of the person replaces what was known; what it leaves out stays."""
        name, birth, sex = (new or old for new, old in zip(self._traits, patient.traits, strict=True))
        self._desk.describe(patient, (name, birth, sex), self._status or patient.status)

    # ---- who owns what ----

    def _claim_ipp(self, patient: Owner, ipp: Identifier) -> None:
        owner = self._desk.owner(ipp)
        if owner is None:
            self._desk.give(ipp, patient)
        elif owner.root != patient.root:
            pair = sorted((patient.patient_id, owner.patient_id))
            self._open_case(TWO_PATIENTS, _fingerprint("ipp", *pair), patient, owner, ipp)

    def _claim_ins(self, patient: Owner, ins: list[Identifier], *, has_ipp: bool) -> None:
        own: dict[str, str] | None = None  # system → value of the INS that this patient has
        for one in ins:
            holder = self._desk.owner(one)
            if holder is not None and holder.root == patient.root:
                continue
            if own is None:
                own = self._desk.ins_of(patient)
            if holder is not None:
                self.withheld = True
                kind = INS_HELD_BY_ANOTHER if holder.traits == self._traits else INS_TRAITS_DIFFER
                pair = _fingerprint("ins", *one[:2], patient.patient_id, holder.patient_id)
                self._open_case(kind, pair if has_ipp else self._fingerprint_by_traits(one), patient, holder, one)
            elif own.get(one[0], one[1]) != one[1]:
                self.withheld = True
                self._open_case(INS_CHANGED, _fingerprint("changed", *one[:2], patient.patient_id), patient, None, one)
            else:
                if one[0] == _NIR and (temporary := own.pop(_NIA, None)) is not None:
                    self._desk.retire(patient, [(_NIA, temporary, _KIND_INS)])
                own[one[0]] = one[1]
                self._desk.give(one, patient)

    # ---- doubts ----

    def _fingerprint_by_traits(self, ins: Identifier) -> bytes:
        return _fingerprint("traits", *ins[:2], *self._traits)

    def _open_case(self, kind: str, fingerprint: bytes, patient: Owner, other: Owner | None, what: Identifier) -> None:
        self.case = self.case or kind
        self._desk.open_case(kind, fingerprint, patient, other, what, message=self._message_id)


_ACTS: Mapping[IdentityActKind, Callable[[_Resolution, Owner, IdentityAct, list[Identifier]], None]] = {
    IdentityActKind.MERGE: _Resolution._merge,
    IdentityActKind.UNMERGE: _Resolution._unmerge,
    IdentityActKind.RENUMBER: _Resolution._renumber,
}


def _fingerprint(*parts: str | int) -> bytes:
    return blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).digest()
