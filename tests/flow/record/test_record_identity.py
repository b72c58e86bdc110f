"""Which patient number a message belongs to: every branch of the rule, and what no sequence of messages may bring about."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.model.identifiers import INS_NIA, INS_NIR, INS_NIR_TEST, InsMatricule, LocalIdentifier
from hub.model.identity import PatientIdentity
from hub.record.identity import Match, resolve, resolve_all
from hub.store import Transaction

HOSPITAL, CLINIC = "urn:oid:1.2.250.1.999.1", "urn:oid:1.2.250.1.999.2"
NIR = "279035121518989"
OTHER_NIR = "180097512345605"


class Counting:
    """A transaction that counts its statements."""

    def __init__(self, tx: Transaction) -> None:
        self._tx, self.reads, self.writes = tx, 0, 0

    def __getattr__(self, name: str) -> Any:
        if name in {"row", "rows", "rows_in", "rows_values"}:
            self.reads += 1
        elif name in {"run", "run_many", "insert", "update"}:
            self.writes += 1
        return getattr(self._tx, name)


class Desk:
    """An empty record, and messages arriving at it."""

    def __init__(self, engine: Any, n: int = 0) -> None:
        self.tx = Counting(engine.empty(n))
        self.numbers = count(1000)
        self.messages = count(1)

    def resolve(self, identity: PatientIdentity) -> Match:
        return resolve(
            self.tx,
            identity,
            message_id=next(self.messages),
            next_id=lambda: next(self.numbers),
            now_us=1_000,  # type: ignore[arg-type]
        )

    def all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.tx.rows(sql, *values)

    def owner(self, system: str, value: str) -> int | None:
        rows = self.all("SELECT patient_id FROM patient_identifier WHERE system = ? AND value = ?", system, value)
        return rows[0][0] if rows else None

    def cases(self) -> list[str]:
        return [row[0] for row in self.all("SELECT kind FROM identity_case ORDER BY id")]

    def everything(self) -> list[list[tuple[Any, ...]]]:
        return [self.all(f"SELECT * FROM {table}") for table in ("patient", "patient_identifier", "identity_case")]


@pytest.fixture
def desk(engine: Any) -> Desk:
    return Desk(engine)


def who(
    *ipps: str,
    ins: str | tuple[str, ...] = (),
    oid: str = INS_NIR_TEST,
    status: str = "VALI",
    name: str = "Nessi",
    birth: str = "19790410",
    sex: str = "F",
    system: str = HOSPITAL,
    kind: str = "PI",
) -> PatientIdentity:
    return PatientIdentity(
        local=tuple(LocalIdentifier(system, ipp, kind) for ipp in ipps),
        ins=tuple(InsMatricule(value, oid) for value in ((ins,) if isinstance(ins, str) else ins)),
        statuses=(status,) if status else (),
        birth_name=name,
        birth_date=birth,
        sex=sex,
    )


# ---- known and unknown numbers ----


def test_unknown_identifiers_make_one_patient_that_owns_them_all(desk: Desk) -> None:
    match = desk.resolve(who("A1", "A2", ins=NIR))
    assert match == Match(match.patient_id, created=True)
    owners = {desk.owner(HOSPITAL, "A1"), desk.owner(HOSPITAL, "A2"), desk.owner(f"urn:oid:{INS_NIR_TEST}", NIR)}
    assert owners == {match.patient_id}


def test_known_ipp_decides_and_costs_one_select_and_no_write(desk: Desk) -> None:
    first = desk.resolve(who("A1", ins=NIR))
    desk.tx.reads = desk.tx.writes = 0
    again = desk.resolve(who("A1", ins=NIR))
    assert again == Match(first.patient_id)
    assert (desk.tx.reads, desk.tx.writes) == (1, 0)


def test_nobody_without_usable_identifier(desk: Desk) -> None:
    assert desk.resolve(PatientIdentity()).patient_id is None
    assert desk.resolve(who(ins=NIR, status="PROV")).patient_id is None
    assert desk.resolve(who(ins=NIR, status="")).patient_id is None
    assert desk.all("SELECT * FROM patient") == []


def test_a_number_that_a_family_shares_is_no_identity(desk: Desk) -> None:
    assert desk.resolve(who("1790351215189", kind="NH")).patient_id is None


def test_same_value_of_another_authority_is_another_number(desk: Desk) -> None:
    first = desk.resolve(who("A1"))
    assert desk.resolve(who("A1", system=CLINIC)).patient_id != first.patient_id


def test_unqualified_ins_is_not_kept(desk: Desk) -> None:
    desk.resolve(who("A1", ins=NIR, status="PROV"))
    assert desk.owner(f"urn:oid:{INS_NIR_TEST}", NIR) is None


def test_wrong_key_is_kept(desk: Desk) -> None:
    match = desk.resolve(who("A1", ins=NIR[:13] + "11"))
    assert desk.owner(f"urn:oid:{INS_NIR_TEST}", NIR[:13] + "11") == match.patient_id


def test_thousand_repetitions_of_pid_3(desk: Desk) -> None:
    many = [f"A{n}" for n in range(1_000)]
    match = desk.resolve(who(*many))
    assert desk.resolve(who(*reversed(many))).patient_id == match.patient_id
    assert len(desk.all("SELECT * FROM patient_identifier")) == 1_000


# ---- traits ----


def test_deciding_ipp_changes_traits(desk: Desk) -> None:
    match = desk.resolve(who("A1", name="Nessi", status="PROV"))
    desk.resolve(who("A1", name="Néssi-Bà", birth="19800410", sex="M"))
    assert desk.all("SELECT birth_name, birth_date, sex, status FROM patient WHERE id = ?", match.patient_id) == [
        ("NESSI BA", "19800410", "M", "VALI")
    ]


def test_what_a_message_leaves_out_stays(desk: Desk) -> None:
    match = desk.resolve(who("A1"))
    desk.resolve(who("A1", name="", birth="", sex="", status=""))
    assert desk.all("SELECT birth_name, birth_date, sex, status FROM patient WHERE id = ?", match.patient_id) == [
        ("NESSI", "19790410", "F", "VALI")
    ]


# ---- INS and two IPPs ----


def test_ins_joins_two_ipps_when_traits_agree(desk: Desk) -> None:
    first = desk.resolve(who("A1", ins=NIR, name="NÉSSI"))
    second = desk.resolve(who("B1", ins=NIR, name="Nessi", system=CLINIC))
    assert second == Match(first.patient_id)
    assert desk.owner(CLINIC, "B1") == first.patient_id
    assert desk.cases() == []


@pytest.mark.parametrize("different", [{"name": "Durand"}, {"birth": "19790411"}, {"sex": "M"}])
def test_ins_is_withheld_when_one_trait_differs(desk: Desk, different: dict[str, str]) -> None:
    first = desk.resolve(who("A1", ins=NIR))
    second = desk.resolve(who("B1", ins=NIR, system=CLINIC, **different))
    assert second == Match(second.patient_id, withheld_ins=True, case="INS_TRAITS_DIFFER", created=True)
    assert second.patient_id != first.patient_id
    assert desk.owner(f"urn:oid:{INS_NIR_TEST}", NIR) == first.patient_id
    assert desk.all("SELECT patient_id, other_patient_id, state FROM identity_case") == [
        (second.patient_id, first.patient_id, "OPEN")
    ]


@pytest.mark.parametrize("missing", ["name", "birth", "sex"])
def test_ins_joins_no_ipps_when_a_trait_is_missing_on_both_sides(desk: Desk, missing: str) -> None:
    first = desk.resolve(who("A1", ins=NIR, **{missing: ""}))
    second = desk.resolve(who("B1", ins=NIR, system=CLINIC, **{missing: ""}))
    assert second.patient_id != first.patient_id
    assert second.withheld_ins


def test_same_doubtful_pair_makes_one_case(desk: Desk) -> None:
    desk.resolve(who("A1", ins=NIR))
    doubtful = [desk.resolve(who("B1", ins=NIR, system=CLINIC, name="Durand")) for _ in range(50)]
    assert {match.patient_id for match in doubtful} == {doubtful[0].patient_id}
    assert all(match.withheld_ins for match in doubtful)
    assert desk.cases() == ["INS_TRAITS_DIFFER"]


def test_known_patients_are_not_merged_by_an_ins_although_traits_agree(desk: Desk) -> None:
    first, second = desk.resolve(who("A1", ins=NIR)), desk.resolve(who("B1", system=CLINIC))
    again = desk.resolve(who("B1", ins=NIR, system=CLINIC))
    assert again == Match(second.patient_id, withheld_ins=True, case="INS_HELD_BY_ANOTHER")
    assert first.patient_id != second.patient_id


def test_known_ipp_gains_an_ins_that_nobody_has(desk: Desk) -> None:
    first = desk.resolve(who("A1"))
    assert desk.resolve(who("A1", ins=NIR)) == Match(first.patient_id)
    assert desk.owner(f"urn:oid:{INS_NIR_TEST}", NIR) == first.patient_id


def test_other_ins_of_the_same_kind_is_withheld(desk: Desk) -> None:
    first = desk.resolve(who("A1", ins=NIR))
    for _ in range(2):
        assert desk.resolve(who("A1", ins=OTHER_NIR)) == Match(first.patient_id, withheld_ins=True, case="INS_CHANGED")
    assert desk.owner(f"urn:oid:{INS_NIR_TEST}", OTHER_NIR) is None
    assert desk.cases() == ["INS_CHANGED"]


def test_two_ins_of_one_kind_in_one_message(desk: Desk) -> None:
    match = desk.resolve(who("A1", ins=(NIR, OTHER_NIR)))
    assert match.case == "INS_CHANGED"
    assert desk.owner(f"urn:oid:{INS_NIR_TEST}", NIR) == match.patient_id
    assert desk.owner(f"urn:oid:{INS_NIR_TEST}", OTHER_NIR) is None


def test_nir_after_nia_is_no_change(desk: Desk) -> None:
    first = desk.resolve(who("A1", ins=NIR, oid=INS_NIA))
    assert desk.resolve(who("A1", ins=OTHER_NIR, oid=INS_NIR)) == Match(first.patient_id)
    assert desk.cases() == []


# ---- INS alone ----


def test_ins_alone_finds_its_holder(desk: Desk) -> None:
    first = desk.resolve(who("A1", ins=NIR))
    assert desk.resolve(who(ins=NIR)) == Match(first.patient_id)


def test_ins_alone_then_an_ipp_with_the_same_traits(desk: Desk) -> None:
    first = desk.resolve(who(ins=NIR))
    assert first.created
    assert desk.resolve(who("A1", ins=NIR)) == Match(first.patient_id)


def test_ins_alone_with_other_traits_finds_the_same_doubtful_patient_again(desk: Desk) -> None:
    first = desk.resolve(who("A1", ins=NIR))
    doubtful = desk.resolve(who(ins=NIR, name="Durand"))
    assert doubtful == Match(doubtful.patient_id, withheld_ins=True, case="INS_TRAITS_DIFFER", created=True)
    for _ in range(20):
        assert desk.resolve(who(ins=NIR, name="Durand")).patient_id == doubtful.patient_id
    third = desk.resolve(who(ins=NIR, name="Martin"))
    assert third.patient_id not in {first.patient_id, doubtful.patient_id}
    assert desk.cases() == ["INS_TRAITS_DIFFER"] * 2
    assert desk.resolve(who(ins=NIR)).patient_id == first.patient_id


# ---- circles ----


def test_two_ipps_of_two_patients_in_one_message(desk: Desk) -> None:
    first, second = desk.resolve(who("A1")), desk.resolve(who("A2"))
    assert desk.resolve(who("A2", "A1")) == Match(second.patient_id, case="TWO_PATIENTS")
    assert desk.resolve(who("A1", "A2")) == Match(first.patient_id, case="TWO_PATIENTS")
    assert desk.cases() == ["TWO_PATIENTS"]
    assert desk.owner(HOSPITAL, "A1") == first.patient_id
    assert desk.owner(HOSPITAL, "A2") == second.patient_id


def test_first_known_ipp_decides_also_when_an_unknown_one_comes_first(desk: Desk) -> None:
    first, second = desk.resolve(who("A1")), desk.resolve(who("A2"))
    assert desk.resolve(who("NEW", "A2", "A1")) == Match(second.patient_id, case="TWO_PATIENTS")
    assert desk.owner(HOSPITAL, "NEW") == second.patient_id
    assert first.patient_id != second.patient_id


def test_circle_of_ipps_and_ins(desk: Desk) -> None:
    """A1+NIR, A2+other NIR, then A1 with A2's INS and A2 with A1's."""
    first, second = desk.resolve(who("A1", ins=NIR)), desk.resolve(who("A2", ins=OTHER_NIR))
    assert desk.resolve(who("A1", ins=OTHER_NIR)) == Match(first.patient_id, withheld_ins=True, case="INS_HELD_BY_ANOTHER")
    assert desk.resolve(who("A2", ins=NIR)) == Match(second.patient_id, withheld_ins=True, case="INS_HELD_BY_ANOTHER")
    assert desk.owner(f"urn:oid:{INS_NIR_TEST}", NIR) == first.patient_id
    assert desk.owner(f"urn:oid:{INS_NIR_TEST}", OTHER_NIR) == second.patient_id


# ---- any sequence ----

_IPPS, _NIRS = ["A1", "A2", "A3", "A4"], [NIR, OTHER_NIR, "190022A12345617"]
_IDENTITIES = st.builds(
    who,
    ins=st.lists(st.sampled_from(_NIRS), max_size=2).map(tuple),
    oid=st.sampled_from([INS_NIR, INS_NIA]),
    status=st.sampled_from(["VALI", "VALI", "PROV", ""]),
    name=st.sampled_from(["Nessi", "NESSI", "Durand", ""]),
    birth=st.sampled_from(["19790410", ""]),
    sex=st.sampled_from(["F", "F", "M"]),
    system=st.sampled_from([HOSPITAL, CLINIC]),
)


@st.composite
def _messages(draw: st.DrawFn) -> list[PatientIdentity]:
    found = []
    for identity in draw(st.lists(_IDENTITIES, min_size=1, max_size=14)):
        system = draw(st.sampled_from([HOSPITAL, CLINIC]))
        ipps = draw(st.lists(st.sampled_from(_IPPS), max_size=3))
        local = tuple(LocalIdentifier(system, ipp) for ipp in ipps)
        found.append(
            PatientIdentity(
                local, identity.ins, identity.statuses, identity.birth_name, birth_date=identity.birth_date, sex=identity.sex
            )
        )
    return found


@settings(max_examples=150, deadline=None)
@given(_messages())
def test_no_sequence_of_messages_merges_or_moves_anyone(engine: Any, messages: list[PatientIdentity]) -> None:
    desk = Desk(engine)
    for identity in messages:
        before = {(s, v): p for s, v, p in desk.all("SELECT system, value, patient_id FROM patient_identifier")}
        patients = {row[0]: row[1:4] for row in desk.all("SELECT id, birth_name, birth_date, sex FROM patient")}
        match = desk.resolve(identity)
        after = {(s, v): p for s, v, p in desk.all("SELECT system, value, patient_id FROM patient_identifier")}
        ipps = [(one.system, one.value) for one in identity.local]
        usable = [(one.system, one.value) for one in identity.ins] if "VALI" in identity.statuses else []
        if match.patient_id is None:
            assert not ipps and not usable
            continue
        # what was someone's stays theirs, and nobody disappears
        assert before.items() <= after.items()
        assert patients.keys() <= {row[0] for row in desk.all("SELECT id FROM patient")}
        # the message's IPP decides
        known = [before[ipp] for ipp in ipps if ipp in before]
        if known:
            assert match.patient_id == known[0]
        assert all(after[ipp] == before.get(ipp, match.patient_id) for ipp in ipps)
        # an INS brought a new IPP to a known patient: then it was that patient's, and all traits agree
        if ipps and not known and match.patient_id in patients:
            assert patients[match.patient_id] == identity.traits and all(identity.traits)
            assert any(before.get(ins) == match.patient_id for ins in usable)
        # an INS that this patient did not get is told
        assert match.withheld_ins == any(after.get(ins) != match.patient_id for ins in usable)
        # the same message again: the same patient, and nothing is written
        everything = desk.everything()
        again = desk.resolve(identity)
        assert (again.patient_id, again.withheld_ins, again.created) == (match.patient_id, match.withheld_ins, False)
        assert desk.everything() == everything


@settings(max_examples=100, deadline=None)
@given(_messages(), st.integers(1, 5))
def test_many_at_once_are_matched_as_one_after_another(engine: Any, messages: list[PatientIdentity], together: int) -> None:
    singly, batched = Desk(engine, 0), Desk(engine, 1)
    expected = [singly.resolve(identity) for identity in messages]
    found: list[Match] = []
    for start in range(0, len(messages), together):
        part = messages[start : start + together]
        found += resolve_all(
            batched.tx,
            [(next(batched.messages), identity) for identity in part],  # type: ignore[arg-type]
            next_id=lambda: next(batched.numbers),
            now_us=1_000,
        )
    assert found == expected
    assert [sorted(rows, key=repr) for rows in batched.everything()] == [sorted(rows, key=repr) for rows in singly.everything()]
