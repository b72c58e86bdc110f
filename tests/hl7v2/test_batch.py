"""Batches and concatenated messages: HL7 v2.5.1 §2.10.3."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.er7.batch import BatchReader, messages, shape_of, write_batch
from hub.model.refusals import Unreadable
from hub.model.site import Site

SITE = Site("PFI-T", "HOPITAL-T", "test", ZoneInfo("Europe/Paris"), "utf-8")


def message(n: int, end: str = "\r") -> bytes:
    return end.join(
        (f"MSH|^~\\&|A|B|C|D|20261124||ADT^A01^ADT_A01|M{n}|T|2.5", f"PID|1||{n}^^^A", "NTE|1||BTS is a word", "")
    ).encode()


def cut(whole: bytes, size: int = 1 << 16) -> list[bytes]:
    return list(messages(whole[at : at + size] for at in range(0, len(whole), size)))


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_bare_messages_one_after_the_other(end, size):
    written = [message(n, end) for n in range(3)]
    assert cut(b"".join(written), size) == written


@pytest.mark.parametrize("size", [1, 5, 4096])
def test_a_batch_in_a_file_with_counts_that_hold(size):
    written = [message(n) for n in range(4)]
    whole = b"".join(
        [b"FHS|^~\\&|A|B\rBHS|^~\\&|A|B\r", *written[:3], b"BTS|3\rBHS|^~\\&|A|B\r", written[3], b"BTS|1|end\rFTS|2\r\n\r\n"]
    )
    assert cut(whole, size) == written
    shape = shape_of([whole])
    assert (shape.messages, shape.batches, shape.files, shape.findings, shape.is_batch) == (4, 2, 1, [], True)


def test_what_write_batch_writes_is_read_again_without_finding():
    written = [message(1), message(2, "\n"), message(3).rstrip()]
    whole = write_batch(written, site=SITE, at=datetime(2026, 11, 24, tzinfo=UTC), control_id="F1")
    assert [one.rstrip() for one in cut(whole)] == [one.rstrip() for one in written]
    assert shape_of([whole]).findings == []
    assert whole.startswith(b"FHS|^~\\&|PFI-T|HOPITAL-T|||20261124010000+0100||||F1\rBHS|")
    assert whole.endswith(b"\rBTS|3\rFTS|1\r")


def test_counts_that_do_not_hold_are_findings():
    whole = b"FHS|^~\\&\rBHS|^~\\&\r" + message(1) + b"BTS|7\rFTS|many\r"
    assert [(f.code, f.at) for f in shape_of([whole]).findings] == [("BTSCount", "BTS-1"), ("FTSCount", "FTS-1")]
    assert cut(whole) == [message(1)]


def test_a_batch_without_its_trailer_inside_a_complete_file_is_a_finding():
    whole = b"FHS|^~\\&\rBHS|^~\\&\r" + message(1) + b"FTS|1\r"
    assert [f.code for f in shape_of([whole]).findings] == ["BatchTrailerMissing"]


def test_a_byte_order_mark_blank_lines_and_mllp_framing_are_tolerated():
    whole = b"\xef\xbb\xbf\r\n\n\x0b" + message(1) + b"\x1c\r\x0b" + message(2) + b"\x1c\r"
    assert cut(whole, 1) == [message(1), message(2)]


def test_other_separators_and_mixed_line_ends():
    other = message(1).replace(b"|", b"#").replace(b"^~\\&", b"*!?@")
    whole = b"BHS#*!?@\n" + other + b"\r\n" + message(2, "\n") + b"BTS#2\n"
    assert cut(whole) == [other, message(2, "\n")]
    assert shape_of([whole]).findings == []


def test_text_that_looks_like_a_trailer_is_text():
    one = b"MSH|^~\\&|A\nOBX|1|TX|||first\nBTS, then\nFTS and MSHA\n"
    assert cut(one, 1) == [one]


@pytest.mark.parametrize(
    ("whole", "at", "says"),
    [
        (b"", "MSH", "no message"),
        (b"\r\n\r\n", "MSH", "no message"),
        (b"%PDF-1.7\nsomething\n", "MSH", "segment 1: belongs to no message"),
        (b"PID|1\r" + message(1), "MSH", "segment 1: belongs to no message"),
        (b"BHS|^~\\&\rNTE|1\r" + message(1) + b"BTS|1\r", "BHS", "segment 2: belongs to no message"),
        (b"BHS|^~\\&\r" + message(1) + b"BTS|1\rPID|1\r", "BTS", "segment 6: belongs to no message"),
        (b"BHS|^~\\&\r" + message(1), "BTS", "segment 4: the BHS of segment 1 has no BTS"),
        (b"FHS|^~\\&\rBHS|^~\\&\r" + message(1) + b"BTS|1\r", "FTS", "segment 6: the FHS of segment 1 has no FTS"),
        (b"FHS|^~\\&\rFHS|^~\\&\r", "FHS", "segment 2: FHS is nested"),
        (b"BHS|^~\\&\r" + message(1) + b"BHS|^~\\&\r", "BHS", "segment 5: BHS is nested"),
        (message(1) + b"BTS|1\r", "BTS", "segment 4: BTS closes nothing"),
        (message(1) + b"FTS|1\r", "FTS", "segment 4: FTS closes nothing"),
    ],
)
@pytest.mark.parametrize("size", [1, 4096])
def test_what_is_no_batch_is_refused_with_the_number_of_the_segment(whole, at, says, size):
    with pytest.raises(Unreadable) as refused:
        cut(whole, size)
    assert refused.value.at == at
    assert says in refused.value.sentence


def test_a_refusal_quotes_nothing_of_the_file():
    with pytest.raises(Unreadable) as refused:
        cut(b"DUPONTEST|19800101\r" + message(1))
    assert "DUPONTEST" not in refused.value.sentence


def test_a_message_that_is_too_large_is_refused_before_it_is_whole():
    reader = BatchReader(max_message_bytes=1000)
    assert list(reader.feed(message(1))) == []
    with pytest.raises(Unreadable, match="message 2 is larger than 1000 bytes"):
        for _ in range(3):
            list(reader.feed(b"MSH|^~\\&|" + b"x" * 600))
    assert len(reader._buffer) < 2000


def test_memory_stays_that_of_one_message():
    reader, n = BatchReader(), 0
    for _ in range(5000):
        n += sum(1 for _ in reader.feed(message(1)))
        assert len(reader._buffer) < 500
    assert n + sum(1 for _ in reader.end()) == 5000


LINES = (b"FHS|^~\\&", b"BHS|^~\\&|A", b"BTS|1", b"FTS|1", b"MSH|^~\\&|A", b"PID|1", b"BTS", b"", b"\x0b", b"MSH")
HEADERS = st.sampled_from(LINES)


@given(st.lists(st.tuples(HEADERS, st.sampled_from([b"\r", b"\n", b"\r\n", b""]))), st.integers(1, 9))
@settings(max_examples=300, deadline=None)
def test_however_it_is_cut_the_end_is_the_same(lines, size):
    whole = b"".join(name + end for name, end in lines)

    def outcome(size: int) -> object:
        try:
            return cut(whole, size)
        except Unreadable as refused:
            return refused.sentence

    assert outcome(size) == outcome(1 << 20)


@given(st.binary(max_size=300))
def test_any_bytes_are_cut_or_refused(whole):
    try:
        found = cut(whole, 3)
    except Unreadable:
        return
    assert all(one.startswith(b"MSH") for one in found)
