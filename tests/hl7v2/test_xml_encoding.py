"""The XML encoding of HL7 v2 (urn:hl7-org:v2xml): read into ER7, written from it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.er7 import read
from hub.formats.er7.xml import er7_of_xml, looks_like_xml, xml_of_er7
from hub.model.refusals import Unreadable

ORU = """<?xml version="1.0" encoding="UTF-8"?>
<!-- a remark -->
<ORU_R01 xmlns="urn:hl7-org:v2xml" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="urn:hl7-org:v2xml x">
  <MSH><MSH.1>|</MSH.1><MSH.2>^~\\&amp;</MSH.2><MSH.3><HD.1>LABO</HD.1></MSH.3><MSH.7><TS.1>20261124080000</TS.1></MSH.7>
    <MSH.9><MSG.1>ORU</MSG.1><MSG.2>R01</MSG.2><MSG.3>ORU_R01</MSG.3></MSH.9><MSH.10>X1</MSH.10><MSH.11><PT.1>T</PT.1></MSH.11>
    <MSH.12><VID.1>2.5</VID.1></MSH.12><MSH.18>8859/15</MSH.18></MSH>
  <ORU_R01.PATIENT_RESULT>
    <ORU_R01.PATIENT>
      <PID><PID.3><CX.1>900001</CX.1><CX.4><HD.1>CHU</HD.1><HD.2>1.2.250.1.999.1</HD.2><HD.3>ISO</HD.3></CX.4><CX.5>PI</CX.5></PID.3>
        <PID.3><CX.1>42</CX.1></PID.3><PID.5><XPN.1><FN.1>L'ÉTÉ | ^~&amp;\\</FN.1></XPN.1><XPN.2>ZOÉ</XPN.2></PID.5><PID.8/></PID>
    </ORU_R01.PATIENT>
    <ORU_R01.ORDER_OBSERVATION><OBR><OBR.1>1</OBR.1></OBR>
      <ORU_R01.OBSERVATION><OBX><OBX.1>1</OBX.1><OBX.2>FT</OBX.2>
        <OBX.5>one<escape V=".br"/>two <escape V="H"/>three<escape V="N"/>&#13;</OBX.5></OBX></ORU_R01.OBSERVATION>
      <ORU_R01.OBSERVATION><OBX><OBX.1>2</OBX.1><OBX.8>""</OBX.8><OBX.14><TS.1>2026</TS.1></OBX.14></OBX></ORU_R01.OBSERVATION>
    </ORU_R01.ORDER_OBSERVATION>
  </ORU_R01.PATIENT_RESULT>
</ORU_R01>
"""


def document(inside: str, root: str = "ADT_A01") -> bytes:
    return f'<{root} xmlns="urn:hl7-org:v2xml"><MSH><MSH.10>1</MSH.10></MSH>{inside}</{root}>'.encode()


def test_groups_are_flattened_in_the_order_of_the_document():
    made = er7_of_xml(ORU.encode())
    assert (
        made
        == (
            "MSH|^~\\&|LABO||||20261124080000||ORU^R01^ORU_R01|X1|T|2.5||||||UNICODE UTF-8\r"
            "PID|||900001^^^CHU&1.2.250.1.999.1&ISO^PI~42||L'ÉTÉ \\F\\ \\S\\\\R\\\\T\\\\E\\^ZOÉ|||\r"
            "OBR|1\r"
            "OBX|1|FT|||one\\.br\\two \\H\\three\\N\\\\X0D\\\r"
            'OBX|2|||||||""||||||2026\r'
        ).encode()
    )
    message = read(made)
    assert (message.type, message.control_id, message.charset) == ("ORU^R01", "X1", "utf-8")
    assert message.text("PID", 5) == "L'ÉTÉ | ^~&\\"


def test_other_charsets_of_the_document_become_utf_8():
    assert er7_of_xml(ORU.replace("UTF-8", "ISO-8859-1").encode("latin-1")) == er7_of_xml(ORU.encode())
    assert er7_of_xml(ORU.replace("UTF-8", "UTF-16").encode("utf-16")) == er7_of_xml(ORU.encode())


@pytest.mark.parametrize(
    ("xml", "at", "says"),
    [
        (b"", "/", "not well-formed"),
        (b"<ADT_A01", "/", "not well-formed"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]>' + document("<PID><PID.5>&a;</PID.5></PID>"), "/", "DOCTYPE"),
        (b"<ADT_A01><MSH/></ADT_A01>", "/", "outside the namespace"),
        (document("", "message"), "/", "no message structure"),
        (document("<PID><x xmlns='urn:other'/></PID>"), "PID", "outside the namespace"),
        (document("<PID><PID.0>1</PID.0></PID>"), "PID", "no field"),
        (document("<PID><PV1.1>1</PV1.1></PID>"), "PID", "another segment"),
        (document("<OBX/><OBX>text</OBX>"), "OBX[2]", "text between"),
        (document("<PID><PID.3><CX.1>1</CX.1>stray</PID.3></PID>"), "PID-3", "text between"),
        (document("<PID><PID.3><CX.1>1</CX.1><CX.1>2</CX.1></PID.3></PID>"), "PID-3", "twice"),
        (document("<PID><PID.3><CX.4><HD.1><A.1/><A.2>deep</A.2></HD.1></CX.4></PID.3></PID>"), "PID-3", "deeper"),
        (document("<PID><PID.5>a<escape V='|'/></PID.5></PID>"), "PID-5", "escape"),
        (document("<nothing/>"), "/", "neither a segment nor a group"),
        (b'<ADT_A01 xmlns="urn:hl7-org:v2xml"><PID/></ADT_A01>', "MSH", "not MSH"),
        (document("<A.B>" * 40 + "</A.B>" * 40), "/", "deeper than"),
    ],
)
def test_what_is_no_message_is_refused_with_its_place(xml, at, says):
    with pytest.raises(Unreadable) as refused:
        er7_of_xml(xml)
    assert refused.value.at == at
    assert says in refused.value.sentence


def test_limits_hold_before_a_tree_is_built():
    with pytest.raises(Unreadable, match="more than 100 bytes"):
        er7_of_xml(document("<PID/>" * 50), max_bytes=100)
    with pytest.raises(Unreadable, match="tags"):
        er7_of_xml(document("<PID/>" * 1_000_001))


def test_a_document_of_many_megabytes_in_one_field():
    made = er7_of_xml(document(f"<OBX><OBX.5><ED.5>{'QUJD' * 3_000_000}</ED.5></OBX.5></OBX>"))
    assert len(made) > 12_000_000
    assert read(made).segments("OBX")[0].line().startswith(b"OBX|||||^^^^QUJDQUJD")


def test_a_message_as_xml():
    er7 = (
        b"MSH|^~\\&|A|B|||20261124||ADT^A01^ADT_A01|M1|T|2.5^FRA^2.11||||||8859/1\r"
        b"PID|1||42^^^CHU&1.2.250.1.999.1&ISO^PI||D\xc9^ZO\\S\\E\rZXX|1|a^b&c\rOBX|1|FT|||x\\.br\\y\\H\\\\X41\\\\q\r"
    )
    xml = xml_of_er7(read(er7)).decode()
    assert "<MSH.1>|</MSH.1><MSH.2>^~\\&amp;</MSH.2>" in xml
    assert "<MSH.12><VID.1>2.5</VID.1><VID.2><CE.1>FRA</CE.1></VID.2><VID.3><CE.1>2.11</CE.1></VID.3></MSH.12>" in xml
    assert "<CX.4><HD.1>CHU</HD.1><HD.2>1.2.250.1.999.1</HD.2><HD.3>ISO</HD.3></CX.4>" in xml
    assert "<PID.5><XPN.1><FN.1>DÉ</FN.1></XPN.1><XPN.2>ZO^E</XPN.2></PID.5>" in xml
    assert "<ZXX.2><ZXX.2.1>a</ZXX.2.1><ZXX.2.2><ZXX.2.2.1>b</ZXX.2.2.1><ZXX.2.2.2>c</ZXX.2.2.2></ZXX.2.2></ZXX.2>" in xml
    assert '<OBX.5>x<escape V=".br"/>y<escape V="H"/><escape V="X41"/>\\q</OBX.5>' in xml


def test_a_line_that_has_no_name_cannot_be_xml():
    with pytest.raises(Unreadable, match="segment 2"):
        xml_of_er7(read(b"MSH|^~\\&|A||||||ADT^A01|1\rnonsense|1\r"))


@pytest.mark.parametrize(
    ("body", "is_xml"), [(b"<a", True), (b"\xef\xbb\xbf \r\n<a", True), ("<a".encode("utf-16"), True), (b"MSH|<", False)]
)
def test_xml_is_known_by_its_first_character(body, is_xml):
    assert looks_like_xml(body) is is_xml


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="￾￿"), max_size=12).map(str.strip)


@given(st.lists(st.lists(st.lists(TEXT, min_size=1, max_size=4), min_size=1, max_size=3), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_what_is_written_as_xml_reads_back_the_same(fields):
    """Fields of repetitions of components."""
    from hub.formats.er7 import escape

    line = "|".join("~".join("^".join(escape(c).decode() for c in repetition) for repetition in field) for field in fields)
    er7 = f"MSH|^~\\&|A|B|||20261124||ADT^A01^ADT_A01|M1|T|2.5\rPID|{line}\rZZZ|{line}\r".encode()
    before, after = read(er7), read(er7_of_xml(xml_of_er7(read(er7))))
    for name in ("PID", "ZZZ"):
        for number in range(1, len(fields) + 1):
            for repetition in range(1, 4):
                for component in range(1, 5):
                    assert after.text(name, number, component, repetition=repetition) == before.text(
                        name, number, component, repetition=repetition
                    )


@given(st.binary(max_size=200) | st.text("<>/&;!MSHPID.13 \"='x", max_size=80).map(str.encode))
@settings(deadline=None)
def test_any_bytes_are_read_or_refused(body):
    try:
        made = er7_of_xml(body)
    except Unreadable:
        return
    assert made.startswith(b"MSH|^~\\&")


def test_official_samples_go_to_xml_and_back(samples):
    files = [file for file in sorted((samples / "hl7v2").iterdir()) if file.suffix in (".hl7", ".er7")]
    assert files
    for file in files:
        before = read(file.read_bytes())
        after = read(er7_of_xml(xml_of_er7(before)))
        for one, other in zip(before.segments(), after.segments(), strict=True):
            assert one.name == other.name
            for number in set(range(1, one.field_count() + 1)) - ({1, 2, 18} if one.name == "MSH" else set()):
                for n in range(1, 12):
                    assert one.text(number, n) == other.text(number, n), one.at(number, n)
