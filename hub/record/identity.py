"""Which patient number a message belongs to. The IPP decides, an INS helps, and no two patients are merged by the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from hub.model.identifiers import INS_NIA, InsMatricule
from hub.model.identity import PatientIdentity, ins_is_usable
from hub.store import Transaction

INS_TRAITS_DIFFER, INS_HELD_BY_ANOTHER, INS_CHANGED, TWO_PATIENTS = (
    "INS_TRAITS_DIFFER", "INS_HELD_BY_ANOTHER", "INS_CHANGED", "TWO_PATIENTS",
)

# CX-5 of numbers that mean one person: others (NH, the insured's number) are shared by a family.
_KINDS = frozenset({"PI", "PT", "MR", "PN", "RRI", ""})
_KIND_INS = "INS"
_AT_ONCE = 30                    # identifiers in one statement; a PID-3 may repeat without end

_CASE_COLUMNS = (
    "id", "kind", "fingerprint", "patient_id", "other_patient_id", "system", "value", "message_id", "state", "created_at",
)

Identifier = tuple[str, str, str]            # system, value, kind
Traits = tuple[str, str, str]
Owners = dict[tuple[str, str], "Owner"]

_SELECT = (
    "SELECT i.system, i.value, p.id, p.birth_name, p.birth_date, p.sex, p.status"
    " FROM patient_identifier i JOIN patient p ON p.id = i.patient_id WHERE "
)
_FIND = {n: _SELECT + " OR ".join(["(i.system = ? AND i.value = ?)"] * n) for n in range(1, _AT_ONCE + 1)}


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


def resolve(
    tx: Transaction, identity: PatientIdentity, *, message_id: int, next_id: Callable[[], int], now_us: int,
) -> Match:
    """The patient number of `identity`, found or made; new identifiers are filed, doubts go to `identity_case`.

    One select for a known patient of whom nothing changed.
    Standard: RNIV (identitovigilance); IHE PAM France 2.11.2, INS annex.
    """
    ipps, ins = _local_identifiers(identity), _usable_ins(identity)
    if not ipps and not ins:
        return NOBODY
    owners = _find(tx, [*ipps, *ins])
    return _Resolution(tx, identity, owners, message_id=message_id, next_id=next_id, now_us=now_us).run(ipps, ins)


def _local_identifiers(identity: PatientIdentity) -> list[Identifier]:
    return list(dict.fromkeys(
        (one.system, one.value, one.kind or "PI") for one in identity.local if one.value and one.system and one.kind in _KINDS
    ))


def _usable_ins(identity: PatientIdentity) -> list[Identifier]:
    if not identity.ins or not ins_is_usable(identity.statuses):
        return []
    ordered: list[InsMatricule] = sorted(identity.ins, key=lambda one: one.oid == INS_NIA)
    return list(dict.fromkeys((one.system, one.value, _KIND_INS) for one in ordered))


def identifier_keys(identity: PatientIdentity) -> list[tuple[str, str]]:
    """System and value of every number that matching looks at."""
    return [one[:2] for one in (*_local_identifiers(identity), *_usable_ins(identity))]


def _find(tx: Transaction, wanted: Sequence[Identifier]) -> Owners:
    owners: Owners = {}
    known: dict[int, Owner] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start:start + _AT_ONCE]
        values = [text for system, value, _ in part for text in (system, value)]
        for system, value, number, name, birth, sex, status in tx.rows(_FIND[len(part)], *values):
            owners[system, value] = known.setdefault(number, Owner(number, (name, birth, sex), status))
    return owners


class _Resolution:
    """One message's identity being matched."""

    def __init__(
        self, tx: Transaction, identity: PatientIdentity, owners: Owners, *,
        message_id: int, next_id: Callable[[], int], now_us: int,
    ) -> None:
        self.tx, self.owners = tx, owners
        self.message_id, self.next_id, self.now_us = message_id, next_id, now_us
        self.traits = identity.traits
        self.status = "~".join(identity.statuses)
        self.case: str | None = None
        self.withheld = False
        self.created = False
        self.gained: list[Identifier] = []

    def run(self, ipps: list[Identifier], ins: list[Identifier]) -> Match:
        patient = next((self.owners[one[:2]] for one in ipps if one[:2] in self.owners), None)
        if patient is not None:
            self._take_over_traits(patient)
        else:
            patient = self._by_ins(ins, joins_an_ipp=bool(ipps)) or self._create()
        for ipp in ipps:
            self._claim_ipp(patient, ipp)
        if ins:
            self._claim_ins(patient, ins, has_ipp=bool(ipps))
        if self.gained:
            self.tx.insert(
                "patient_identifier", ("system", "value", "kind", "patient_id", "since"),
                [(*one, patient.patient_id, self.now_us) for one in self.gained],
            )
        return Match(patient.patient_id, self.withheld, self.case, self.created)

    # ---- who decides ----

    def _by_ins(self, ins: list[Identifier], *, joins_an_ipp: bool) -> Owner | None:
        for one in ins:
            holder = self.owners.get(one[:2])
            if holder is None:
                continue
            if holder.traits == self.traits and (not joins_an_ipp or all(self.traits)):
                return holder
            if not joins_an_ipp and (doubtful := self._doubtful_patient(one)) is not None:
                return doubtful
        return None

    def _doubtful_patient(self, ins: Identifier) -> Owner | None:
        """Who was made when this INS came before, without an IPP, with these traits that are not its holder's."""
        row = self.tx.row(
            "SELECT p.id, p.birth_name, p.birth_date, p.sex, p.status FROM identity_case c JOIN patient p ON p.id = c.patient_id"
            " WHERE c.fingerprint = ?", self._fingerprint_by_traits(ins),
        )
        return None if row is None else Owner(row[0], (row[1], row[2], row[3]), row[4])

    def _create(self) -> Owner:
        patient = Owner(self.next_id(), self.traits, self.status)
        self.tx.insert(
            "patient", ("id", "birth_name", "birth_date", "sex", "status", "created_at"),
            [(patient.patient_id, *self.traits, self.status, self.now_us)],
        )
        self.created = True
        return patient

    def _take_over_traits(self, patient: Owner) -> None:
        """What the deciding IPP says of the person replaces what was known; what it leaves out stays."""
        name, birth, sex = (new or old for new, old in zip(self.traits, patient.traits, strict=True))
        status = self.status or patient.status
        if (name, birth, sex) == patient.traits and status == patient.status:
            return
        self.tx.run(
            "UPDATE patient SET birth_name = ?, birth_date = ?, sex = ?, status = ? WHERE id = ?",
            name, birth, sex, status, patient.patient_id,
        )

    # ---- who owns what ----

    def _claim_ipp(self, patient: Owner, ipp: Identifier) -> None:
        owner = self.owners.get(ipp[:2])
        if owner is None:
            self.gained.append(ipp)
        elif owner.patient_id != patient.patient_id:
            pair = sorted((patient.patient_id, owner.patient_id))
            self._open_case(TWO_PATIENTS, _fingerprint("ipp", *pair), patient, owner, ipp)

    def _claim_ins(self, patient: Owner, ins: list[Identifier], *, has_ipp: bool) -> None:
        own: dict[str, str] | None = None        # system → value of the INS that this patient has
        for one in ins:
            holder = self.owners.get(one[:2])
            if holder is not None and holder.patient_id == patient.patient_id:
                continue
            if own is None:
                own = self._ins_of(patient)
            if holder is not None:
                kind = INS_HELD_BY_ANOTHER if holder.traits == self.traits else INS_TRAITS_DIFFER
                pair = _fingerprint("ins", *one[:2], patient.patient_id, holder.patient_id)
                mark = pair if has_ipp else self._fingerprint_by_traits(one)
                self._withhold(kind, mark, patient, holder, one)
            elif own.get(one[0], one[1]) != one[1]:
                self._withhold(INS_CHANGED, _fingerprint("changed", *one[:2], patient.patient_id), patient, None, one)
            else:
                own[one[0]] = one[1]
                self.gained.append(one)

    def _ins_of(self, patient: Owner) -> dict[str, str]:
        if self.created:
            return {}
        rows = self.tx.rows(
            "SELECT system, value FROM patient_identifier WHERE patient_id = ? AND kind = ?", patient.patient_id, _KIND_INS,
        )
        return {row[0]: row[1] for row in rows}

    # ---- doubts ----

    def _fingerprint_by_traits(self, ins: Identifier) -> bytes:
        return _fingerprint("traits", *ins[:2], *self.traits)

    def _withhold(self, kind: str, fingerprint: bytes, patient: Owner, other: Owner | None, ins: Identifier) -> None:
        self.withheld = True
        self._open_case(kind, fingerprint, patient, other, ins)

    def _open_case(self, kind: str, fingerprint: bytes, patient: Owner, other: Owner | None, what: Identifier) -> None:
        self.case = self.case or kind
        if self.tx.row("SELECT 1 FROM identity_case WHERE fingerprint = ?", fingerprint) is not None:
            return
        self.tx.insert(
            "identity_case", _CASE_COLUMNS, [(
                self.next_id(), kind, fingerprint, patient.patient_id, other.patient_id if other else None,
                what[0], what[1], self.message_id, "OPEN", self.now_us,
            )],
        )


def _fingerprint(*parts: str | int) -> bytes:
    return blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).digest()
