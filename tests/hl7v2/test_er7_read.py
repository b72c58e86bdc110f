"""Reading ER7: HL7 v2.5.1 chapter 2, and what French senders make of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.formats.er7 import Separators, escape, join, read, unescape
from hub.formats.er7 import message as er7_message
from hub.model.refusals import Unreadable

ADT = (
    b"MSH|^~\\&|GAM|CHU-X|DPI|CHU-Y|20260301101500||ADT^A01^ADT_A01|M1|P|2.5^FRA^2.11|||||FRA|UNICODE UTF-8"
    b"|||2.11^IHE_FRANCE-2.11-PAM\r"
    b"PID|1||000042^^^CHU-X&000897406&N^PI~279035121518989^^^ASIP&1.2.250.1.213.1.4.10&ISO^INS"
    b"||ESSAI^ZO\xc3\x89^ZO\xc3\x89 ANNE^^^^L\r"
    b"OBX|1|ED|A^B||^TEXT^XML^Base64^QUJD\r"
    b'OBX|2|FT|C^D||caf\\E\\\\F\\\\S\\\\T\\\\R\\ \\XC3A9\\ a\\.br\\b \\H\\c\\N\\ \\Zq\\|""\r'
)


def msh(encoding: bytes = b"^~\\&", field: bytes = b"|", charset: bytes = b"") -> bytes:
    fields = [b"MSH", encoding, *[b""] * 6, b"ADT" + encoding[:1] + b"A01", b"1", b"P", b"2.5", *[b""] * 5, charset]
    return field.join(fields)


def test_header_attributes():
    message = read(ADT)
    assert (message.type, message.structure, message.control_id) == ("ADT^A01", "ADT_A01", "M1")
    assert (message.version, message.processing_id, message.sending_app) == ("2.5", "P", "GAM")
    assert message.profiles == ("2.11^IHE_FRANCE-2.11-PAM",)
    assert (message.charset, message.charset_unknown) == ("utf-8", False)


def test_header_components_are_stripped_and_profiles_keep_two():
    raw = b"MSH|^~\\&| LABO ^x|||||| ORU ^ R01 ^ ORU_R01 | 7 | T ^x| 2.5 |||||||||2.1^ CISIS_CDA_HL7_V2^z~ 1.0^X ~^Y\r"
    message = read(raw)
    assert (message.type, message.structure, message.control_id) == ("ORU^R01", "ORU_R01", "7")
    assert (message.sending_app, message.processing_id, message.version) == ("LABO", "T", "2.5")
    assert message.profiles == ("2.1^CISIS_CDA_HL7_V2", "1.0^X")


def test_header_escapes_and_accents():
    message = read(b"MSH|^~\\&|A\\T\\B\xc3\xa9||||||ACK|1\\F\\2\r")
    assert (message.sending_app, message.control_id, message.type) == ("A&Bé", "1|2", "ACK")


def test_fields_components_repetitions():
    pid = read(ADT).first("PID")
    assert pid is not None
    assert pid.repetitions(3) == 2
    assert pid.repetitions(2) == 0
    assert pid.repetitions(99) == 0
    assert pid.text(3) == "000042"
    assert pid.text(3, 4, subcomponent=2) == "000897406"
    assert pid.text(3, 4, repetition=2, subcomponent=2) == "1.2.250.1.213.1.4.10"
    assert pid.text(3, 4, subcomponent=0) == "CHU-X&000897406&N"
    assert pid.text(5, 0) == "ESSAI^ZOÉ^ZOÉ ANNE^^^^L"
    assert pid.text(3, 1, repetition=3) == pid.text(3, 9) == pid.text(99) == pid.text(3, 1, subcomponent=2) == ""


def test_locations():
    first, second = read(ADT).segments("OBX")
    assert (first.at(5), second.at(5, 1), second.at()) == ("OBX-5", "OBX[2]-5.1", "OBX[2]")
    assert (first.index, second.index, second.occurrence) == (2, 3, 2)


def test_escape_sequences():
    second = read(ADT).segments("OBX")[1]
    assert second.text(5) == "caf\\|^&~ é a\nb c \\Zq\\"
    assert second.raw(5).startswith(b"caf\\E\\")


def test_null_is_told_and_kept():
    message = read(b'MSH|^~\\&\rPID|1|""|""^B~a^""|x\r')
    pid = message.segments("PID")[0]
    assert pid.is_null(2)
    assert not pid.is_null(3)
    assert pid.is_null(3, 1)
    assert pid.is_null(3, 2, repetition=2)
    assert not pid.is_null(4)
    assert not pid.is_null(40)
    assert pid.text(2) == '""'


def test_msh_counts_its_separator():
    segment = read(ADT).segments("MSH")[0]
    assert (segment.raw(1), segment.raw(2), segment.raw(3)) == (b"|", b"^~\\&", b"GAM")
    assert (segment.text(1), segment.text(2), segment.text(9, 2)) == ("|", "^~\\&", "A01")
    assert segment.repetitions(2) == 1
    assert segment.component_span(2, 1) == (4, 8)
    assert segment.field_count() == 21


def test_spans_are_offsets_of_the_message():
    message = read(ADT)
    first = message.segments("OBX")[0]
    start, end = first.component_span(5, 5)
    assert ADT[start:end] == b"QUJD"
    assert ADT[slice(*first.span(3))] == b"A^B"
    start, end = first.component_span(5, 6)
    assert start == end == first.span(5)[1]
    assert ADT[slice(*first.line_span())] == first.line() == b"OBX|1|ED|A^B||^TEXT^XML^Base64^QUJD"


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_line_ends(end: bytes):
    raw = end.join([b"MSH|^~\\&|A", b"", b"PID|1", b" ", b"OBX|2|x", b"", b""])
    message = read(raw)
    assert [segment.name for segment in message.segments()] == ["MSH", "PID", "OBX"]
    assert message.text("OBX", 2) == "x"
    assert message.sending_app == "A"
    assert join(message) == raw


@pytest.mark.parametrize("end", [b"\r", b"\r\n"])
def test_lf_in_a_field_is_data_when_segments_end_with_cr(end: bytes):
    message = read(b"MSH|^~\\&|A" + end + b"OBX|1|ED|||QU\nJD" + end + b"OBX|2" + end)
    assert [segment.name for segment in message.segments()] == ["MSH", "OBX", "OBX"]
    assert message.segments("OBX")[0].raw(5) == b"QU\nJD"


def test_a_line_without_a_name_shows_nothing_of_itself():
    message = read(b"MSH|^~\\&|A\rESSAI ZOE 1979\rpid|1\r")
    assert [segment.name for segment in message.segments()] == ["MSH", "???", "pid"]
    assert "ESSAI" not in message.segments()[1].at(1)


def test_byte_order_mark_and_blank_lines_before_msh():
    raw = b"\xef\xbb\xbf\r\n" + ADT
    message = read(raw)
    assert message.control_id == "M1"
    assert message.text("PID", 3) == "000042"
    assert join(message) == raw


def test_separators_of_the_official_samples():
    message = read(msh("^˜\\&".encode()) + "\rPID|1||a˜b^c\r".encode())
    assert message.separators == Separators(repetition="˜".encode())
    assert message.segments("PID")[0].repetitions(3) == 2
    assert message.text("PID", 3, 2, repetition=2) == "c"


@pytest.mark.parametrize(
    ("field", "encoding", "expected"),
    [
        (b"|", b"^~\\", Separators()),
        (b"|", b"^", Separators()),
        (b"|", b"", Separators()),
        (b"|", b"^ \\&", Separators()),
        (b"|", b"^~\\&#", Separators()),
        (b"#", b"@!%$", Separators(b"#", b"@", b"!", b"%", b"$")),
        (b"|", b"^~&", Separators(escape=b"&", subcomponent=b"")),
        ("§".encode(), b"^~\\&", Separators(field="§".encode())),
        (b"|", b"^\x98\\&", Separators(repetition=b"\x98")),
    ],
)
def test_declared_separators(field: bytes, encoding: bytes, expected: Separators):
    assert read(msh(encoding, field)).separators == expected


@pytest.mark.parametrize(
    ("raw", "at"),
    [
        (b"", "MSH"),
        (b"PID|1", "MSH"),
        (b" MSH|^~\\&|", "MSH"),
        (b"FHS|^~\\&|", "MSH"),
        (b"MSH", "MSH-1"),
        (b"MSH\r", "MSH-1"),
        (b"MSHA^~\\&A", "MSH-1"),
        (b"MSH |", "MSH-1"),
        (b"MSH|^^\\&|", "MSH-2"),
        (b"MSH|^~\\A|", "MSH-2"),
        (b"MSH|" + b"^~\\&" * 20, "MSH-2"),
    ],
)
def test_unreadable(raw: bytes, at: str):
    with pytest.raises(Unreadable) as refused:
        read(raw)
    assert (refused.value.at, refused.value.condition, refused.value.ack_code) == (at, "199", "AE")


@pytest.mark.parametrize(
    ("written", "codec", "unknown"),
    [
        (b"UNICODE UTF-8", "utf-8", False),
        (b"unicode  utf-8 ", "utf-8", False),
        (b"UTF-8", "utf-8", False),
        (b"8859/1", "iso8859-1", False),
        (b"8859/15", "iso8859-15", False),
        (b"8859/15~UNICODE", "iso8859-15", False),
        (b"ASCII", "ascii", False),
        (b"", "cp1252", False),
        (b"KLINGON", "cp1252", True),
    ],
)
def test_charsets(written: bytes, codec: str, unknown: bool):
    message = read(msh(charset=written), default_charset="cp1252")
    assert (message.charset, message.charset_unknown) == (codec, unknown)


def test_text_follows_the_charset_and_survives_a_wrong_one():
    line = "\rPID|1||é€’".encode()
    assert read(msh(charset=b"UNICODE UTF-8") + line).text("PID", 3) == "é€’"
    assert read(msh(charset=b"ASCII") + line).text("PID", 3) == "é€’"
    assert read(msh(charset=b"8859/15") + b"\rPID|1||\xe9\xa4").text("PID", 3) == "é€"
    assert read(msh(charset=b"UNICODE UTF-8") + b"\rPID|1||\xe9\xa4").text("PID", 3) == "é€"


def test_header_of_a_large_message_is_found_beyond_the_first_window():
    raw = b"MSH|^~\\&|" + b"x" * 5000 + b"|||||" + b"|ADT^A01|9\nPID|1\r\n"
    message = read(raw)
    assert (message.control_id, len(message.sending_app)) == ("9", 5000)
    assert [segment.name for segment in message.segments()] == ["MSH", "PID"]


def test_too_many_segments(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(er7_message, "MAX_SEGMENTS", 3)
    assert len(read(b"MSH|^~\\&\rA|\rB|\r").segments()) == 3
    with pytest.raises(Unreadable):
        read(b"MSH|^~\\&\rA|\rB|\rC|\r").segments()


# ---- for every input ------------------------------------------------------------------------------------------------

nearly_er7 = st.lists(
    st.one_of(
        st.sampled_from([b"|", b"^", b"~", b"&", b"\\", b"\r", b"\n", b"\r\n", b"\xcb\x9c"]),
        st.sampled_from([b"PID|", b"OBX|1|", b"MSH|", b'""', b"\\F\\", b"\\X4"]),
        st.binary(max_size=6),
    ),
    max_size=60,
).map(b"".join)


def look_at_everything(raw: bytes) -> None:
    message = read(raw)
    assert join(message) == raw
    assert message.type is not None
    for segment in message.segments():
        for field in range(segment.field_count() + 3):
            start, end = segment.span(field)
            assert 0 <= start <= end <= len(raw)
            assert segment.raw(field) == raw[start:end]
            for repetition in range(segment.repetitions(field) + 2):
                for component in (0, 1, 2, 7):
                    first, last = segment.component_span(field, component, repetition=repetition)
                    assert start <= first <= last <= end
                    segment.text(field, component, repetition=repetition, subcomponent=2)
                    segment.is_null(field, component, repetition=repetition)


@given(raw=st.binary(max_size=300))
def test_arbitrary_bytes_are_read_or_refused(raw: bytes):
    try:
        look_at_everything(raw)
    except Unreadable as refused:
        assert refused.at.startswith("MSH")


@given(encoding=st.one_of(st.just(b"|^~\\&|"), st.binary(max_size=8)), rest=nearly_er7)
def test_whatever_follows_msh_comes_back_unchanged(encoding: bytes, rest: bytes):
    try:
        look_at_everything(b"MSH" + encoding + rest)
    except Unreadable as refused:
        assert refused.at.startswith("MSH-")


@given(
    lines=st.lists(st.lists(st.text(alphabet="ab1 ^~&é\\", max_size=8), min_size=1, max_size=6), max_size=5),
    end=st.sampled_from(["\r", "\n", "\r\n"]),
)
def test_positions_are_those_of_plain_splitting(lines: list[list[str]], end: str):
    written = ["ZZ" + str(number) + "|" + "|".join(fields) for number, fields in enumerate(lines)]
    raw = end.join([msh(charset=b"UNICODE UTF-8").decode(), *written, ""]).encode()
    segments = read(raw).segments()[1:]
    assert [segment.name for segment in segments] == [line[:3] for line in written]
    for segment, line in zip(segments, written, strict=True):
        assert segment.line() == line.encode()
        for number, field in enumerate(line.split("|")[1:], 1):
            assert segment.raw(number).decode() == field
            repetitions = field.split("~")
            assert segment.repetitions(number) == (len(repetitions) if field else 0)
            for at_repetition, repetition in enumerate(repetitions, 1):
                for at_component, component in enumerate(repetition.split("^"), 1):
                    start, stop = segment.component_span(number, at_component, repetition=at_repetition)
                    assert raw[start:stop] == component.encode()
                    for at_sub, sub in enumerate(component.split("&"), 1):
                        text = segment.text(number, at_component, repetition=at_repetition, subcomponent=at_sub)
                        assert text == unescape(sub.encode()).decode().strip()


@given(
    text=st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("|^~\\&\r\n\x0b\x1cFSTREXHN.br"))),
    separators=st.sampled_from([Separators(), Separators(repetition="˜".encode()), Separators(b"#", b"@", b"!", b"%", b"$")]),
)
def test_escape_then_unescape_is_the_same_text(text: str, separators: Separators):
    escaped = escape(text, separators)
    assert unescape(escaped, separators).decode() == text
    splitting = (separators.field, separators.component, separators.repetition, separators.subcomponent)
    for character in (*splitting, b"\r", b"\n", b"\x1c", b"\x0b"):
        assert character not in escaped


@given(text=st.text(max_size=20), codec=st.sampled_from(["ascii", "iso8859-1", "iso8859-15", "utf-8"]))
def test_every_text_finds_a_form_in_every_charset(text: str, codec: str):
    escape(text, codec=codec).decode(codec)


def test_typography_that_a_charset_lacks_becomes_plain():
    assert escape("l’œil… de Zoé", codec="iso8859-1") == "l'oeil... de Zoé".encode("iso8859-1")
    assert escape("Š漢", codec="ascii") == b"S?"


@given(st.text(alphabet='PIDMSHOBX|^~\\&\r\n"1a', max_size=120))
def test_a_peek_sees_what_the_cut_message_has(rest):
    raw = ("MSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|2.5\r" + rest).encode()
    for name in ("PID", "OBX"):
        seen, cut = read(raw).peek(name), read(raw).first(name)
        assert (seen is None) == (cut is None)
        if seen is not None and cut is not None:
            assert (seen.line(), seen.raw(3), seen.occurrence, seen.at(5)) == (cut.line(), cut.raw(3), cut.occurrence, cut.at(5))


@pytest.mark.parametrize("line_end", [b"\r", b"\r\n"])
def test_a_nul_is_read_as_sub_and_stays_in_the_bytes(line_end):
    lines = [
        b"MSH|^~\\&|A\0P\0|||||||C\0\\X00\\1|P|2.5\0",
        b"PID|1||12\0~3\\X410042\\^\0^^X\0Y^PI||\xe9\0",
        b"OBX|1|ED|||^^^^QU\0JD",
        b"",
    ]
    raw = line_end.join(lines)
    message = read(raw)
    texts = [message.type, message.control_id, message.sending_app, message.version, message.text("PID", 3, 4, repetition=2)]
    assert message.raw == raw and message.header(10) == b"C\0\\X00\\1"
    assert texts == ["", "C\x1a\x1a1", "A\x1aP\x1a", "2.5\x1a", "X\x1aY"]
    for pid in (message.first("PID"), read(raw).peek("PID")):
        assert pid.text(3) == "12\x1a" and pid.text(3, repetition=2) == "3A\x1aB" and pid.text(5) == "é\x1a"
        assert pid.raw(2) == b"" and pid.raw(5) == b"\xe9\0"


@pytest.mark.parametrize("header", [b"MSH\0^~\\&\0A", b"MSH|^\0\\&|A", b"MSH|\0|A"])
def test_a_nul_separates_nothing(header):
    with pytest.raises(Unreadable):
        read(header + b"\r")
