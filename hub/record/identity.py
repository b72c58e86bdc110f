"""Which patient number a message belongs to. The IPP decides, an INS helps, and no two patients are merged by the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from hub.model.identifiers import INS_NIA, InsMatricule
from hub.model.identity import PatientIdentity, ins_is_usable
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
    "WITH v(s, n) AS (VALUES {values}) SELECT i.system, i.value, p.id, p.birth_name, p.birth_date, p.sex, p.status FROM v"
    " CROSS JOIN patient_identifier i JOIN patient p ON p.id = i.patient_id WHERE i.system = v.s AND i.value = v.n"
)


@dataclass(frozen=True, slots=True)
class Match:
    """The patient of a message; None when it names nobody that could be told from others.

    `withheld_ins`: an INS of the message was not given to this patient. `case` is the kind of the doubt, if any; `created`:
    the number is new.
    """

    patient_id: int | None
    withheld_ins: bool = False
    case: str | None = None
    created: bool = False


NOBODY = Match(None)


@dataclass(slots=True)
class Owner:
    """A known patient: number, traits in comparable form, identity status."""

    patient_id: int
    traits: Traits
    status: str


def resolve(tx: Transaction, identity: PatientIdentity, *, message_id: int, next_id: Callable[[], int], now_us: int) -> Match:
    """The patient number of `identity`, found or made; new identifiers are filed, doubts go to `identity_case`.

    One select for a known patient of whom nothing changed.
    Standard: RNIV (identitovigilance); IHE PAM France 2.11.2, INS annex.
    """
    return resolve_all(tx, [(message_id, identity)], next_id=next_id, now_us=now_us)[0]


def resolve_all(
    tx: Transaction, arrivals: Sequence[tuple[int, PatientIdentity]], *, next_id: Callable[[], int], now_us: int
) -> list[Match]:
    """`resolve` for many messages (number, identity) in their order, in few statements.

    When it raises, nothing was written.
    """
    desk = _Desk(tx, next_id, now_us)
    numbered = [(message_id, identity, _local_identifiers(identity), _usable_ins(identity)) for message_id, identity in arrivals]
    desk.look_up([one for _, _, ipps, ins in numbered for one in (*ipps, *ins)])
    matches = [
        _Resolution(desk, identity, message_id).run(ipps, ins) if ipps or ins else NOBODY
        for message_id, identity, ipps, ins in numbered
    ]
    desk.flush()
    return matches


def identifier_keys(identity: PatientIdentity) -> list[tuple[str, str]]:
    """System and value of every number that matching looks at."""
    return [one[:2] for one in (*_local_identifiers(identity), *_usable_ins(identity))]


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
        for system, value, number, name, birth, sex, status in self._tx.rows_values(_FIND, pairs) if pairs else ():
            self._owners[system, value] = known.setdefault(number, Owner(number, (name, birth, sex), status))

    def owner(self, identifier: Identifier) -> Owner | None:
        return self._owners.get(identifier[:2])

    def create(self, traits: Traits, status: str) -> Owner:
        patient = Owner(self.next_id(), traits, status)
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
        """System → value of each INS of a patient."""
        found = dict(self._ins_gained.get(patient.patient_id, ()))
        if patient.patient_id not in self._new:
            found.update(
                self._tx.rows(
                    "SELECT system, value FROM patient_identifier WHERE patient_id = ? AND kind = ?",
                    patient.patient_id,
                    _KIND_INS,
                )
            )
        return found

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
            row = self._tx.row("SELECT birth_name, birth_date, sex, status FROM patient WHERE id = ?", number)
            known = Owner(number, (row[0], row[1], row[2]), row[3]) if row is not None else None
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


class _Resolution:
    """One message's identity being matched."""

    __slots__ = ("_desk", "_message_id", "_status", "_traits", "case", "created", "withheld")

    def __init__(self, desk: _Desk, identity: PatientIdentity, message_id: int) -> None:
        self._desk, self._message_id = desk, message_id
        self._traits = identity.traits
        self._status = "~".join(identity.statuses)
        self.case: str | None = None
        self.withheld = False
        self.created = False

    def run(self, ipps: list[Identifier], ins: list[Identifier]) -> Match:
        patient = next((owner for one in ipps if (owner := self._desk.owner(one)) is not None), None)
        if patient is None:
            patient = self._by_ins(ins, joins_an_ipp=bool(ipps))
        if patient is None:
            patient = self._desk.create(self._traits, self._status)
            self.created = True
        elif ipps:
            self._take_over_traits(patient)
        for ipp in ipps:
            self._claim_ipp(patient, ipp)
        self._claim_ins(patient, ins, has_ipp=bool(ipps))
        return Match(patient.patient_id, self.withheld, self.case, self.created)

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
        elif owner.patient_id != patient.patient_id:
            pair = sorted((patient.patient_id, owner.patient_id))
            self._open_case(TWO_PATIENTS, _fingerprint("ipp", *pair), patient, owner, ipp)

    def _claim_ins(self, patient: Owner, ins: list[Identifier], *, has_ipp: bool) -> None:
        own: dict[str, str] | None = None  # system → value of the INS that this patient has
        for one in ins:
            holder = self._desk.owner(one)
            if holder is not None and holder.patient_id == patient.patient_id:
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
                own[one[0]] = one[1]
                self._desk.give(one, patient)

    # ---- doubts ----

    def _fingerprint_by_traits(self, ins: Identifier) -> bytes:
        return _fingerprint("traits", *ins[:2], *self._traits)

    def _open_case(self, kind: str, fingerprint: bytes, patient: Owner, other: Owner | None, what: Identifier) -> None:
        self.case = self.case or kind
        self._desk.open_case(kind, fingerprint, patient, other, what, message=self._message_id)


def _fingerprint(*parts: str | int) -> bytes:
    return blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).digest()
