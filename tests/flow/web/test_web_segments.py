"""The segment view: names and codes are there, values are not, whatever the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.web.console.segments import MASK, MAX_SEGMENTS, field_names, tail, view

HEADER = b"MSH|^~\\&|LABO|HX|PFI|H|20261124||ORU^R01^ORU_R01|C1|P|2.5|||||FRA|UNICODE UTF-8\r"


def _text(body: bytes, *, revealed: bool = False, charset: str = "utf-8") -> str:
    seen = view(body, charset, revealed=revealed)
    assert seen is not None
    pieces = [p for s in seen.segments for p in (*s.line, *(p for f in s.fields for p in f.pieces))]
    return "\n".join([*(p.text for p in pieces), *(s.summary + s.name for s in seen.segments)])


def test_codes_and_structure_stay_and_values_do_not():
    body = HEADER + (
        b"PID|||279035121518989^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS~8800471132^^^HX^PI||QUATREMARRE^ZELIE^^^^^L||19790312|F\r"
        b"PV1||I|MED^12^1||||10001234567^MARTINAUD^Paul||||||||||||V4410^^^HX^VN\r"
        b"OBX|1|NM|718-7^Hb^LN||13.2|g/dL|12-16|N|||F\r"
        b"OBX|2|CWE|DESTDMP^Destinataire^MetaDMPMSS||Y^^expandedYes-NoIndicator||||||F\r"
        b"OBX|3|CWE|CORPSMAIL_PS^Corps^MetaDMPMSS||Madame QUATREMARRE||||||F\r"
        b"NTE|1||Madame QUATREMARRE\r"
    )
    text = _text(body)
    for value in (
        "279035121518989",
        "880047",
        "QUATREMARRE",
        "ZELIE",
        "19790312",
        "MARTINAUD",
        "10001234567",
        "V4410",
        "13.2",
        "12-16",
    ):
        assert value not in text, value
    for code in (
        "ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO",
        "INS",
        "••••1132",
        "MED",
        "718-7",
        "g/dL",
        "MetaDMPMSS",
        "Y",
        "ORU",
        "C1",
    ):
        assert code in text, code
    assert "QUATREMARRE" in _text(body, revealed=True)


def test_the_dots_do_not_tell_the_length():
    short, long = HEADER + b"PID|||||A\r", HEADER + b"PID|||||ABCDEFGHIJKLMNOPQRST\r"
    assert _text(short) == _text(long)
    assert tail("12") == "••••2" and tail("1") == "••••" and tail("123456789") == "••••6789"


def test_the_senders_own_separators_are_followed():
    body = "MSH|^\u02dc\\&|A|B|C|D|2026||ADT^A01|9|P|2.5\rPID|||11^^^AUT^PI\u02dc22^^^AUT^PI||DURAND^ANNE\r".encode()
    seen = view(body, "utf-8", revealed=False)
    assert [field.place for field in seen.segments[1].fields] == ["PID-3 [1]", "PID-3 [2]", "PID-5"]
    other = b"MSH#!~\\&#A#B#C#D#2026##ADT!A01#9#P#2.5\rPID###11!!!AUT!PI##DURAND!ANNE\r"
    assert "DURAND" not in _text(other) and "AUT" in _text(other)


def test_the_rest_of_a_broken_line_is_masked_whole():
    body = HEADER + b"OBX|1|TX|X^Y^L||Madame\nQUATREMARRE Zelie, nee le 12/03/1979\nLEA\rANN|QUATREMARRE\r"
    text = _text(body)
    for value in ("QUATREMARRE", "1979", "LEA"):
        assert value not in text, value


def test_a_large_document_is_left_out_before_it_is_parsed():
    body = HEADER + b"OBX|1|ED|11502-2^CR^LN||^text^XML^Base64^" + b"QUJD" * 400_000 + b"||||||F\r"
    seen = view(body, "utf-8", revealed=True)
    sizes = [p.text for p in seen.segments[1].line if p.kind == "size"]
    assert sizes == [str(1_600_000)] and sum(len(p.text) for p in seen.segments[1].line) < 200
    many = HEADER + b"OBX|1|NM\r" * 1_000
    seen = view(many, "utf-8", revealed=False)
    assert len(seen.segments) == MAX_SEGMENTS and seen.left_out == 1_001 - MAX_SEGMENTS
    assert view(HEADER + b"ZZZ|" + b"^" * 3_000_000, "utf-8", revealed=True) is not None


def test_what_is_no_hl7_is_none_and_a_wrong_charset_harms_nothing():
    for body in (b"", b"\r\n", b"PID|1", b"<xml/>", b"\x0b\x1c"):
        assert view(body, "utf-8", revealed=True) is None, body
    assert "É" in _text(HEADER.replace(b"LABO", "LABÉ".encode("latin-1")), charset="iso-8859-1")
    assert view(HEADER, "no-such-charset", revealed=False) is not None
    assert view(b"\xef\xbb\xbf" + HEADER, "utf-8", revealed=False) is not None


CATALOGUE = """
MSH SFT UAC EVN PID PD1 NK1 PV1 PV2 ROL DB1 AL1 DG1 PR1 GT1 IN1 ACC MRG ZBE ZFA ZFP ZFV ZFM ZFD ZFS ORC OBR OBX NTE TQ1 TQ2
PRT TXA SPM SAC IPC SCH RGS AIS AIG AIL AIP MSA ERR FHS BHS BTS FTS
"""


def test_every_segment_of_the_catalogue_has_names_in_both_languages():
    for segment in CATALOGUE.split():
        names = field_names(segment)
        assert names and all(french and english for french, english in names.values()), segment


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        ("ZFP|1|SECRET", ["SECRET"]),
        ("ZFD|31^13^1993|40|Y|N|INSI|20251103|CN", ["1993", "20251103"]),
        ("ZFV||||||SECRET^^SECRET^^^^ORI|SECRET^^^CHU^AN", ["SECRET"]),
        ("ZFS|1|SECRET^CHU|20251103|||SECRET^SECRET||SECRET", ["SECRET", "20251103"]),
        ("MRG|SECRET^^^CHU^PI||SECRET^^^CHU^AN||||SECRET^SECRET^^^^^L", ["SECRET"]),
        ("DG1|1||SECRET^SECRET^CIM10|SECRET", ["SECRET"]),
        ("AL1|1|DA|SECRET^SECRET||SECRET", ["SECRET"]),
        ("AIP|1|A|SECRET^SECRET^SECRET", ["SECRET"]),
        ("SCH|SECRET|SECRET||||SECRET|SECRET||||||SECRET^SECRET|SECRET", ["SECRET"]),
        ("SPM|1|SECRET||BLD^sang||||||||||SECRET|||20251103", ["SECRET", "20251103"]),
        ("IPC|SECRET^^1.2^ISO||SECRET", ["SECRET"]),
    ],
    ids=lambda value: value[:3] if isinstance(value, str) else None,
)
def test_who_and_what_in_the_segments_of_the_catalogue_stay_hidden(line, hidden):
    text = _text(HEADER + line.encode() + b"\r")
    assert not any(value in text for value in hidden)
    assert MASK in text


_CHARACTERS = st.sampled_from(list("|^~\\&#ABZ09é\r\n\u02dc \x00\ue000\ue001")) | st.characters(codec="utf-8")


@given(st.text(_CHARACTERS, max_size=200), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_view_or_none(text, revealed):
    for body in (text.encode(), HEADER + text.encode(), b"MSH" + text.encode()):
        view(body, "utf-8", revealed=revealed)


@given(
    st.lists(
        st.tuples(st.sampled_from(["PID", "ZZZ", "NTE", "PV1", "OBX", "QRD", "NK1"]), st.integers(1, 40)), min_size=1, max_size=6
    )
)
@settings(max_examples=150, deadline=None)
def test_a_marked_value_shows_only_where_the_table_says(places):
    """Every field of every segment holds a mark; a masked view shows none in a field that the table does not open."""
    from hub.web.console.segments import _rules

    lines = [f"{name}|{'|' * (number - 1)}SECRET{n}" for n, (name, number) in enumerate(places)]
    text = _text(HEADER + "\r".join(lines).encode() + b"\r")
    for n, (name, number) in enumerate(places):
        rule = _rules(name).get(number, "")
        opened = rule == "*" or "1" in rule.split(",")
        assert (f"SECRET{n}" in text) == opened, (name, number)
    assert MASK in text or all(_rules(name).get(number) for name, number in places)
