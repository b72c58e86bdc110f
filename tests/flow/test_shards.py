"""Messages of one patient share a shard, however their sender writes; nothing that a sender writes breaks the reckoning."""

from __future__ import annotations

import string
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from hub.flow.shards import SHARDS, job_of, shard_of
from hub.formats.er7 import Separators, escape, read
from hub.model.refusals import HubError

INS = ("279035121518989", "ASIP&1.2.250.1.213.1.4.8&ISO", "INS")
_NUMBERS = st.text(string.ascii_letters + string.digits + "-/.^&|é ", min_size=1, max_size=12).filter(lambda text: text.strip())
_MARKS = st.permutations("^~\\&|#$@;!").map(lambda marks: Separators(*(mark.encode() for mark in marks[:5])))
_AUTHORITIES = st.sampled_from(["CHU&1.2.250.1.999.1&ISO", "&1.2.250.1.999.1&ISO", "CHU", ""])
_LINE_ENDS = st.sampled_from(["\r", "\n", "\r\n"])


def message(marks: Separators, numbers: list[tuple[str, str, str]], end: str = "\r", before: str = ""):
    """PID-3 with these (number, authority, type)."""

    def authority(text: str) -> bytes:
        return (marks.subcomponent or b" ").join(escape(part, marks) for part in text.split("&"))

    repetitions = [
        marks.component.join([escape(number, marks), b"", b"", authority(oid), kind.encode()]) for number, oid, kind in numbers
    ]
    field = marks.field
    head = b"MSH" + field + marks.component + marks.repetition + marks.escape + marks.subcomponent
    header = head + field * 7 + b"ADT" + marks.component + b"A01" + field + b"1" + field * 8 + b"UNICODE UTF-8"
    pid = b"PID" + field + b"1" + field + before.encode() + field + marks.repetition.join(repetitions) + field
    return read(end.encode().join([header, b"EVN" + field, pid, b""]))


@given(
    _NUMBERS,
    st.lists(
        st.tuples(_MARKS, _AUTHORITIES, _LINE_ENDS, st.booleans(), st.sampled_from(["PI", "", "MR"])), min_size=2, max_size=4
    ),
)
def test_one_local_number_is_one_shard_however_it_is_written(number, ways):
    found = set()
    for marks, authority, end, ins_first, kind in ways:
        numbers = [(number, authority, kind), INS]
        found.add(shard_of(message(marks, numbers[::-1] if ins_first else numbers, end), f"s{end!r}", authority))
    assert len(found) == 1 and found < set(range(SHARDS))


@given(st.lists(_NUMBERS, min_size=1, max_size=5, unique=True), st.randoms(use_true_random=False))
def test_the_order_of_the_numbers_does_not_matter(numbers, chance):
    marks, told = Separators(), [(number, "CHU", "PI") for number in numbers] + [INS]
    shuffled = chance.sample(told, len(told))
    assert shard_of(message(marks, told), "a", "1") == shard_of(message(marks, shuffled), "b", "2")


def test_without_a_local_number_the_ins_tells_and_without_a_patient_the_connection():
    marks = Separators()
    assert shard_of(message(marks, [INS]), "a", "1") == shard_of(message(marks, [INS]), "b", "2")
    for nobody in (None, message(marks, []), message(marks, [("", "CHU", "PI")]), read(b"MSH|^~\\&|A\rEVN|\r")):
        assert shard_of(nobody, "a", "1") == shard_of(None, "a", "1")
    assert len({shard_of(None, "a", str(n)) for n in range(1_000)}) == SHARDS
    assert len({shard_of(message(marks, [(str(n), "CHU", "PI")]), "a", "1") for n in range(1_000)}) == SHARDS


def test_the_names_of_the_jobs_are_told_apart():
    assert len({job_of(shard) for shard in range(SHARDS)}) == SHARDS


@given(st.sampled_from([b"MSH|^~\\&|", b"MSH", b"", b"MSH|^\\&~|A\rPID|", b"MSH|^~\\&|A\nPID|1||"]), st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_refusal(start, rest):
    with suppress(HubError):
        assert 0 <= shard_of(read(start + rest), "a", "1") < SHARDS


def test_a_thousand_numbers_are_quick_enough():
    many = message(Separators(), [(f"{n:06d}", "CHU", "PI") for n in range(20_000)])
    assert shard_of(many, "a", "1") == shard_of(message(Separators(), [("000000", "", "PI")]), "a", "1")
