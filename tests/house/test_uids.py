"""Row numbers that are UUIDs."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.uids import UidMaker, uid_ms, uid_number, uid_text


@given(st.integers(min_value=0, max_value=(1 << 63) - 1))
def test_a_number_and_its_uuid_are_the_same_thing(number):
    text = uid_text(number)
    assert uid_number(text) == number
    assert uuid.UUID(text).version == 7
    assert uuid.UUID(text).variant == uuid.RFC_4122


@given(st.lists(st.integers(min_value=0, max_value=1 << 42), min_size=1, max_size=200))
def test_numbers_only_grow_even_when_the_clock_steps_back(clock):
    ticks = iter(clock)
    now = [0]

    def now_ms():
        now[0] = next(ticks, now[0])
        return now[0]

    maker = UidMaker(now_ms)
    made = [maker.next() for _ in range(len(clock) + 50)]
    assert made == sorted(set(made))


def test_a_restart_goes_on_after_the_last_number():
    first = UidMaker(lambda: 5_000)
    last = max(first.next() for _ in range(10))
    again = UidMaker(lambda: 1_000, after=last)  # the clock went back over the restart
    assert again.next() > last


def test_two_edges_never_meet():
    numbers = {UidMaker(lambda: 7, edge=edge).next() for edge in range(32)}
    assert len(numbers) == 32


def test_the_milliseconds_can_be_read():
    assert uid_ms(UidMaker(lambda: 1_795_000_000_123).next()) == 1_795_000_000_123


@pytest.mark.parametrize(
    "text",
    ["", "x", "0192f3a4-0000-4000-8000-000000000000", str(uuid.UUID(int=0)), "g" * 36, "ffffffff-ffff-7fff-8f00-000000000000"],
)
def test_other_uuids_are_not_ours(text):
    with pytest.raises(ValueError, match=r"uid|invalid literal"):
        uid_number(text)
