"""The audit chain: whole, in order, and any change of it shows."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.ledger.audit import AuditEntry, record, verify
from hub.store import StoreUnavailable
from hub.web.access import AuditTrail


def _entries(n: int) -> list[AuditEntry]:
    return [AuditEntry("dr-é", "professional", "read", f"Patient/{i}", i, {"n": i, "why": "suivi"}) for i in range(n)]


def _write(house, entries, next_id=None, now_us=5):
    return house.write(lambda tx: record(tx, entries, next_id=next_id or house.store.next_id, now_us=now_us))


def test_an_empty_chain_is_whole(own_house):
    assert own_house.read(verify) is None


def test_a_chain_written_in_pieces_is_whole(own_house):
    for n in (1, 3, 70):
        _write(own_house, _entries(n))
    assert own_house.read(verify) is None
    assert own_house.read(lambda tx: verify(tx, batch=7)) is None


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit SET actor = 'somebody else' WHERE id = ?",
        "UPDATE audit SET detail = '{}' WHERE id = ?",
        "UPDATE audit SET at = at + 1 WHERE id = ?",
        "UPDATE audit SET patient_id = NULL WHERE id = ?",
        "UPDATE audit SET hash = previous WHERE id = ?",
        "UPDATE audit SET act = 'x' WHERE id = ?",
    ],
)
def test_a_changed_row_is_the_first_that_is_told(own_house, sql):
    numbers = _write(own_house, _entries(10))
    own_house.write(lambda tx: tx.run(sql, numbers[4]))
    assert own_house.read(verify) == numbers[4]


def test_a_missing_row_shows_at_the_next(own_house):
    numbers = _write(own_house, _entries(10))
    own_house.write(lambda tx: tx.run("DELETE FROM audit WHERE id = ?", numbers[4]))
    assert own_house.read(verify) == numbers[5]


def test_two_rows_that_changed_places_show(own_house):
    numbers = _write(own_house, _entries(4))
    for one, other in ((numbers[1], 1), (numbers[2], numbers[1]), (1, numbers[2])):
        own_house.write(lambda tx, one=one, other=other: tx.run("UPDATE audit SET id = ? WHERE id = ?", other, one))
    assert own_house.read(verify) is not None


def test_numbers_grow_along_the_chain_whatever_the_clock_of_another_process_says(own_house):
    first = _write(own_house, _entries(2))
    second = _write(own_house, _entries(2), next_id=lambda: 17)
    assert first + second == sorted({*first, *second}) and own_house.read(verify) is None


def test_many_at_once_are_one_chain_and_all_there(own_house):
    trail = AuditTrail(own_house.store)

    async def many() -> None:
        await asyncio.gather(*(trail.note(*_entries(2)) for _ in range(200)))

    own_house.run(many())
    assert len(own_house.audit("read")) == 400 and own_house.read(verify) is None


_TEXT = st.characters(codec="utf-8", exclude_characters="\0")  # no way in lets a NUL pass


@given(
    st.lists(
        st.tuples(
            st.text(_TEXT, max_size=20),
            st.text(_TEXT, max_size=20),
            st.none() | st.integers(0, 2**62),
            st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=25, deadline=None)
def test_any_text_chains(_shared, rows):
    entries = [AuditEntry(actor, "operator", "test", target, patient, detail) for actor, target, patient, detail in rows]
    _write(_shared, entries)
    assert _shared.read(verify) is None


def test_nothing_is_shown_when_the_row_cannot_be_written(own_house, monkeypatch):
    house = own_house

    async def full(*entries):
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(house.app.state.trail, "note", full)
    uid = house.uids["LAB1001"]
    for client, path in (
        (house.client("operator"), f"/api/v1/messages/{uid}/body"),
        (house.client("professional"), f"/fhir/Patient/{house.patient}"),
        (house.client("professional"), "/fhir/Patient?identifier=279035121518989"),
    ):
        response = client.get(path)
        assert response.status_code == 503 and "QUATREMARRE" not in response.text, path
    assert house.client("operator").post(f"/api/v1/messages/{uid}/discard").status_code == 503
    assert house.client("operator").get(f"/api/v1/messages/{uid}").json()["state"] == "ROUTED"
