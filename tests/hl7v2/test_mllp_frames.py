"""The MLLP frame decoder: vectors, then every cut of every stream. Standard: MLLP Release 1, block format."""

from __future__ import annotations

import itertools
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.mllp.frames import HEAD_BYTES, FrameDecoder, FrameReason, FrameRefused, frame

CASES = tomllib.loads((Path(__file__).parent.parent / "vectors" / "mllp_frames.toml").read_text())["case"]


def shown(event: bytes | FrameRefused) -> str:
    if isinstance(event, bytes):
        return "=" + event.hex()
    return f"{event.reason} {event.size}{'!' if event.fatal else ''}"


def decode(chunks: list[bytes], max_bytes: int = 64, max_stray_bytes: int = 16) -> list[bytes | FrameRefused]:
    decoder = FrameDecoder(max_bytes, max_stray_bytes)
    return [event for chunk in chunks for event in decoder.feed(chunk)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_vector(case):
    chunks = [bytes.fromhex(chunk) for chunk in case["chunks"]]
    limits = (case.get("max_bytes", 64), case.get("max_stray_bytes", 16))
    assert [shown(event) for event in decode(chunks, *limits)] == case["events"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_vector_byte_by_byte(case):
    stream = b"".join(bytes.fromhex(chunk) for chunk in case["chunks"])
    limits = (case.get("max_bytes", 64), case.get("max_stray_bytes", 16))
    assert [shown(event) for event in decode([stream[i : i + 1] for i in range(len(stream))], *limits)] == case["events"]


# Streams rich in the bytes that matter, and streams of anything.
pieces = st.sampled_from(
    [b"\x0b", b"\x1c", b"\r", b"\n", b"\x1c\r", b"\x1c\x0b", b"\x0bMSH", b"MSH|", b"A", b"BB", b"\x0bMSH|x\x1c\r"]
)
streams = st.lists(pieces, max_size=40).map(b"".join) | st.binary(max_size=200)


@given(streams, st.lists(st.integers(0, 200), max_size=12), st.integers(1, 30), st.integers(0, 12))
@settings(max_examples=600, deadline=None)
def test_events_do_not_depend_on_the_cuts(stream, cuts, max_bytes, max_stray_bytes):
    places = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    chunks = [stream[a:b] for a, b in itertools.pairwise(places)]
    whole = decode([stream], max_bytes, max_stray_bytes)
    assert decode(chunks, max_bytes, max_stray_bytes) == whole
    assert decode([stream[i : i + 1] for i in range(len(stream))], max_bytes, max_stray_bytes) == whole


@given(st.lists(streams, max_size=8), st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_memory_is_bounded_and_nothing_is_made_up(chunks, max_bytes):
    decoder = FrameDecoder(max_bytes, 16)
    fed, fatal = b"", False
    for chunk in chunks:
        events = decoder.feed(chunk)
        fed += chunk
        assert not (fatal and events), "nothing follows a fatal refusal"
        for event in events:
            assert not fatal
            if isinstance(event, bytes):
                assert len(event) <= max_bytes
                assert event in fed
            else:
                assert len(event.head) <= HEAD_BYTES
                fatal = event.fatal
        assert decoder.buffered <= max_bytes + len(chunk)
    if fatal:
        assert decoder.buffered == 0


# What a well-behaved sender writes: data without VT, and FS only where no end could be read into it.
bodies = st.binary(max_size=60).map(lambda body: body.replace(b"\x0b", b".").replace(b"\x1c", b"."))


@given(st.lists(bodies, max_size=10))
def test_framed_messages_come_back(messages):
    stream = b"".join(frame(message) for message in messages)
    assert decode([stream]) == messages


def test_head_of_a_refused_block_holds_its_msh():
    header = b"MSH|^~\\&|APP|FAC|||20261124||ADT^A01|42|P|2.5\r"
    [refused] = decode([b"\x0b" + header + b"x" * 5000], max_bytes=4000)
    assert refused.reason is FrameReason.FRAME_TOO_LONG
    assert refused.head.startswith(header)
    assert len(refused.head) == HEAD_BYTES
    [refused] = decode([header + b"\x1c\r"], max_stray_bytes=200)
    assert refused == FrameRefused(FrameReason.NO_START_BLOCK, len(header) - 1, header)


def test_unfinished_and_buffered_follow_the_open_block():
    decoder = FrameDecoder()
    assert not decoder.unfinished
    decoder.feed(b"\x0bMSH|")
    assert decoder.unfinished
    assert decoder.buffered == 4
    assert decoder.head == b"MSH|"
    assert decoder.feed(b"\x1c\r\n") == [b"MSH|"]
    assert not decoder.unfinished
    assert decoder.buffered == 0
    decoder.feed(b"zz")
    assert decoder.unfinished
    assert decoder.head == b"zz"


def seconds_to_decode(chunks: list[bytes], max_bytes: int = 80 << 20) -> tuple[float, list[bytes | FrameRefused]]:
    began = time.process_time()
    events = decode(chunks, max_bytes)
    return time.process_time() - began, events


def in_chunks(stream: bytes, size: int) -> list[bytes]:
    return [stream[i : i + size] for i in range(0, len(stream), size)]


@pytest.mark.parametrize("filler", [b"A", b"\x1c", b"\x1cA", b"\x0b"], ids=["text", "only FS", "half FS", "only VT"])
def test_a_large_message_in_pieces_is_scanned_once(filler):
    body = filler * ((32 << 20) // len(filler)) + b"."
    seconds, events = seconds_to_decode(in_chunks(frame(body), 65536))
    assert [len(event) for event in events] == [len(body)]
    assert seconds < 3


@pytest.mark.parametrize(
    "unit",
    [b"\x0bA\x1cB\x1c\x0b", b"\x1cA", b"\x0b\x1c\r", b"A\x0b\x1c\r", b"\x0bx\x1cy\x1c\r"],
    ids=["no CR", "FS between", "empty blocks", "stray and block", "FS in data"],
)
def test_hostile_chunks_take_linear_time(unit):
    stream = unit * ((1 << 20) // len(unit))
    seconds, _ = seconds_to_decode(in_chunks(stream, 1 << 20))
    assert seconds < 5


def test_head_of_stray_bytes_is_bounded():
    decoder = FrameDecoder()
    for _ in range(40):
        assert decoder.feed(b"x" * 100) == []
    assert decoder.head == b"x" * HEAD_BYTES
    [refused] = decoder.feed(b"x" * 100)
    assert refused == FrameRefused(FrameReason.NO_START_BLOCK, 4096, b"x" * HEAD_BYTES, fatal=True)
