"""Rewriting: the changed fields and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.formats.er7 import read, splice

RAW = "MSH|^˜\\&|SRC|ORG|DST|ORG2|2026||ADT^A01|1|P|2.5\r\nPID|1|| A ^B~\\Zx\\|\r\n\r\nOBX|1|a\r\nOBX|2|b|c\r\n\r\n".encode()


def test_only_the_named_fields_change():
    message = read(RAW)
    changed = splice(message, {"MSH-3": "PFI", "OBX[2]-2": "z"})
    assert changed == RAW.replace(b"|SRC|", b"|PFI|").replace(b"|b|c", b"|z|c")


def test_places_as_tuples():
    assert splice(read(RAW), {("MSH", 5): "X", ("OBX", 2, 2): "z"}) == RAW.replace(b"|DST|", b"|X|").replace(b"|b|c", b"|z|c")


def test_a_short_segment_grows_by_what_is_needed():
    message = read(RAW)
    changed = splice(message, {"OBX-6": "six", "OBX-4": "four", "MSH-21": "p", "OBX[2]-9": ""})
    assert changed == RAW.replace(b"OBX|1|a\r", b"OBX|1|a||four||six\r").replace(b"|P|2.5\r", b"|P|2.5|||||||||p\r")


def test_text_is_escaped_and_bytes_are_a_field_already():
    message = read(RAW)
    assert splice(message, {"OBX-2": "a|b˜c"}) == RAW.replace(b"OBX|1|a", b"OBX|1|a\\F\\b\\R\\c")
    assert splice(message, {"OBX-2": b"a^b"}) == RAW.replace(b"OBX|1|a", b"OBX|1|a^b")


def test_text_takes_the_charset_of_the_message():
    message = read(b"MSH|^~\\&|A|||||||||||||||8859/15\nPID|1\n")
    assert splice(message, {"PID-2": "é€"}) == b"MSH|^~\\&|A|||||||||||||||8859/15\nPID|1|\xe9\xa4\n"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("MSH-1", "x"),
        ("MSH-2", "x"),
        (("MSH", 2), "x"),
        (("PID", 0), "x"),
        ("NK1-1", "x"),
        ("OBX[3]-1", "x"),
        (("OBX", 1, 0), "x"),
        ("pid-1", "x"),
        ("PID", "x"),
        ("PID-3", b"a|b"),
        ("PID-3", b"a\rb"),
        ("PID-3", b"a\nb"),
    ],
)
def test_what_cannot_be_replaced(place: str, value: bytes | str):
    with pytest.raises(ValueError):
        splice(read(RAW), {place: value})


@given(
    fields=st.lists(st.text(alphabet="ab ^~&\\é", max_size=5), max_size=8),
    field=st.integers(1, 15),
    value=st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("|^~\\&\r\n")), max_size=20),
    end=st.sampled_from(["\r", "\n", "\r\n"]),
)
def test_a_spliced_value_reads_back_and_its_neighbours_stay(fields: list[str], field: int, value: str, end: str):
    header = "MSH|^~\\&|A||||||ADT^A01|1|P|2.5||||||UNICODE UTF-8"
    raw = end.join([header, "ZZ1|x", "ZZ2|" + "|".join(fields), "ZZ3|y", "", ""]).encode()
    before = read(raw)
    after = read(splice(before, {("ZZ2", field): value}))
    target = after.segments("ZZ2")[0]
    assert target.text(field) == value.replace("\0", "\x1a").strip()
    if value:
        assert target.repetitions(field) == 1
    for old, new in zip(before.segments(), after.segments(), strict=True):
        if old.name == "ZZ2":
            reach = max(old.field_count(), field if value else 0)
            others = [n for n in range(1, reach + 1) if n != field]
            assert [old.raw(n) for n in others] == [new.raw(n) for n in others]
        else:
            assert old.line() == new.line()
    start = before.segments("ZZ2")[0].line_span()
    stop = target.line_span()
    assert after.raw[: start[0]] == raw[: start[0]]
    assert after.raw[stop[1] :] == raw[start[1] :]


@given(raw=st.binary(max_size=200).map(lambda rest: b"MSH|^~\\&|A|B\r" + rest))
def test_no_change_is_no_change(raw: bytes):
    assert splice(read(raw), {}) == raw
    assert splice(read(raw), {"MSH-3": "A", "MSH-30": ""}) == raw
