"""Base64 of OBX-5 as senders write it: RFC 4648 §4 and what they make of it."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.formats.base64_lenient import decode
from hub.model.refusals import Unreadable


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", b""),
        (b"QUJDRA==", b"ABCD"),
        (b"QUJDRA=", b"ABCD"),
        (b"QUJDRA", b"ABCD"),
        (b"QUJDRE", b"ABCD"),
        (b"QUJDR", b"ABC"),
        (b" QU\r\nJD\tRA = = ", b"ABCD"),
        (b"QU\\X0D\\\\X0A\\JD", b"ABC"),
        (b"QU\\X0D0A\\JD", b"ABC"),
        (b"QU\\.br\\JD", b"ABC"),
        (b"=", b""),
        (b"+/\\X2B\\\\X2F\\", base64.b64decode(b"+/+/")),
    ],
)
def test_what_is_understood(data: bytes, expected: bytes):
    assert decode(data) == expected


@pytest.mark.parametrize(
    "data",
    [b"QUJD*", b"QU==JD", b"QU-_", b"<xml/>", b"QU\\F\\JD", b"QU\\X0D", b"QU\\X0\\JD", b"QU\\X2A\\J", "é".encode(), b"QU\x00J"],
)
def test_what_is_refused(data: bytes):
    with pytest.raises(Unreadable) as refused:
        decode(data)
    assert (refused.value.condition, refused.value.at) == ("102", "OBX-5")


@given(
    content=st.binary(max_size=200),
    width=st.integers(1, 76),
    blank=st.sampled_from([b"\r\n", b"\n", b" ", b"\\.br\\", b"\\X0D\\"]),
    padded=st.booleans(),
)
def test_however_it_is_broken_the_content_comes_back(content: bytes, width: int, blank: bytes, padded: bool):
    data = base64.b64encode(content)
    if not padded:
        data = data.rstrip(b"=")
    assert decode(blank.join(data[at : at + width] for at in range(0, len(data), width))) == content


@given(data=st.binary(max_size=60))
def test_arbitrary_bytes_are_decoded_or_refused(data: bytes):
    try:
        assert len(decode(data)) <= len(data)
    except Unreadable as refused:
        assert refused.condition == "102"
