"""ACK and ZAM: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2; read back with an independent parser."""

import pickle
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.formats.er7 import acknowledgement, read, zam
from hub.model.refusals import (
    APPLICATION_ERRORS_0533,
    CONDITIONS_0357,
    CodeUnknown,
    ConsumerRefused,
    FieldMissing,
    MessageRefused,
    Unavailable,
    Unreadable,
)
from hub.model.site import Site

SITE = Site(name="PFI-X", organisation="HOPITAL-X")
AT = datetime(2026, 7, 14, 22, 30, 5, tzinfo=UTC)
REQUEST = (
    b"MSH|^~\\&|GAM^1.2^ISO|CHU-X|DPI|CHU-Y|20260301101500||ADT^A01^ADT_A01|M1|D|2.5^FRA^2.11|||||FRA|UNICODE UTF-8"
    b"|FR||2.11^IHE_FRANCE-2.11-PAM\n"
    b"PID|1\n"
)


def answer(request: bytes = REQUEST, code: str = "AA", **more) -> bytes:
    return acknowledgement(read(request), code=code, control_id="0192ab", at=AT, site=SITE, **more)


def test_positive():
    assert answer() == (
        b"MSH|^~\\&|DPI|CHU-Y|GAM^1.2^ISO|CHU-X|20260715003005+0200||ACK^A01^ACK|0192ab|D|2.5^FRA^2.11|||||FRA|UNICODE UTF-8\r"
        b"MSA|AA|M1\r"
    )


def test_winter_time_has_its_own_offset():
    ack = acknowledgement(read(REQUEST), code="AA", control_id="1", at=datetime(2026, 1, 1, tzinfo=UTC), site=SITE)
    assert b"|20260101010000+0100|" in ack


def test_site_speaks_when_the_request_names_no_receiver():
    assert answer(b"MSH|^~\\&|A|B|||2026||ADT^A01|7|P|2.5\r").startswith(b"MSH|^~\\&|PFI-X|HOPITAL-X|A|B|")


def test_nothing_to_read():
    ack = acknowledgement(None, code="AE", control_id="9", at=AT, site=SITE, refusal=Unreadable(at="MSH"))
    message = hl7.parse(ack.decode())
    assert (str(message["MSH.3"]), str(message["MSH.4"]), str(message["MSH.9"])) == ("PFI-X", "HOPITAL-X", "ACK")
    assert [str(field) for field in message.segment("MSA")][:3] == ["MSA", "AE", ""]
    assert str(message.segment("ERR")[3]) == "199^Other HL7 error^messageErrorCondition"


@pytest.mark.parametrize(
    ("at", "erl"),
    [
        ("PID-3", "PID^1^3"),
        ("MSH", "MSH^1"),
        ("OBX[2]-5", "OBX^2^5"),
        ("OBX[2]-5.1", "OBX^2^5^1^1"),
        ("MSH-9.2", "MSH^1^9^1^2"),
        ("PID-3[2].4.2", "PID^1^3^2^4^2"),
        ("PID-3[2]", "PID^1^3^2"),
        ("/ClinicalDocument/recordTarget", ""),
        ("/", ""),
        ("", ""),
        ("PID-3 ESSAI", ""),
    ],
)
def test_err_location(at: str, erl: str):
    line = hl7.parse(answer(code="AE", refusal=FieldMissing(at=at)).decode()).segment("ERR")
    assert str(line[2]) == erl
    assert str(line[3]) == "101^Required field missing^messageErrorCondition"
    assert str(line[4]) == "E"
    assert str(line[8]).startswith(f"{at}: ".lstrip(" "))


def test_err_only_when_something_is_wrong():
    assert b"\rERR" not in answer()
    assert b"\rERR||||" not in answer(code="AE")
    assert answer(code="AE").endswith(b"\rERR|||207^Application error^messageErrorCondition|E\r")
    assert b"\rERR" not in answer(code="CA")


@pytest.mark.parametrize("code", sorted(APPLICATION_ERRORS_0533))
@pytest.mark.parametrize("charset", ["utf-8", "iso8859-15"])
def test_application_error_code(code: str, charset: str):
    request = REQUEST if charset == "utf-8" else REQUEST.replace(b"UNICODE UTF-8", b"8859/15")
    refusal = ConsumerRefused(at="PID-3", application=code, sentence="PID-3: nobody")
    line = hl7.parse(answer(request, "AE", refusal=refusal).decode(charset)).segment("ERR")
    assert str(line[2]) == "PID^1^3"
    assert str(line[3]) == "207^Application error^messageErrorCondition"
    assert str(line[5]) == f"{code}^{APPLICATION_ERRORS_0533[code]}^applicationErrorCondition"
    assert str(line[8]) == f"PID-3: nobody ({code})"


def test_a_refusal_survives_a_process_boundary():
    refusal = pickle.loads(pickle.dumps(ConsumerRefused(at="OBX-5", application="900", sentence="OBX-5: older")))
    assert (refusal.at, refusal.application, refusal.sentence) == ("OBX-5", "900", "OBX-5: older (900)")


def test_sentence_fits_the_charset_and_cannot_break_the_line():
    request = REQUEST.replace(b"UNICODE UTF-8", b"8859/15")
    ack = answer(request, "AE", refusal=CodeUnknown(at="OBX-3", sentence="l’été\r\nn|a ^pas de\x1c\rcode"))
    assert b"|8859/15\r" in ack
    assert ack.decode("iso8859-15").split("\r")[2].endswith("|E||||l'été n\\F\\a \\S\\pas de code")


def test_control_id_comes_back_byte_for_byte():
    assert answer(REQUEST.replace(b"|M1|", b"| \xe9\\T\\~x |")).endswith(b"MSA|AA| \xe9\\T\\~x \r")


def test_a_request_with_other_separators_is_answered_with_the_usual_ones():
    ack = answer(b"MSH#@!%$#GA|M@1.2$x#B%F%B!z#C#D#2026##ADT@A01#a|1#P#2.5@FRA\r")
    assert ack.startswith(b"MSH|^~\\&|C|D|GA\\F\\M^1.2&x|B#B~z|")
    assert b"|ACK^A01^ACK|0192ab|P|2.5^FRA|" in ack
    assert ack.endswith(b"MSA|AA|a\\F\\1\r")


def test_framing_characters_never_leave():
    assert b"\x1c" not in answer(REQUEST.replace(b"|M1|", b"|M1\x1c|"))


refusals = st.one_of(
    st.builds(
        MessageRefused,
        at=st.one_of(st.sampled_from(["PID-3", "OBX[2]-5.1", "/ClinicalDocument/id"]), st.text(max_size=10)),
        sentence=st.text(max_size=30),
        condition=st.sampled_from(sorted(CONDITIONS_0357)),
    ),
    st.builds(Unavailable, at=st.just("MSH")),
)
visible = st.text(
    alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="|^~\\&\x85\u2028\u2029"),
    max_size=12,
).map(str.strip)  # python-hl7 drops blanks at the end of a message


@given(control_id=visible, event=st.sampled_from(["A01", "T02", "R01", "Z99", ""]), app=visible, refusal=st.none() | refusals)
def test_every_acknowledgement_is_read_by_others(control_id: str, event: str, app: str, refusal: MessageRefused | None):
    request = f"MSH|^~\\&|{app}|B|C|D|2026||ADT^{event}|{control_id}|P|2.5||||||UNICODE UTF-8\rPID|1\r".encode()
    code = refusal.ack_code if refusal else "AA"
    ack = acknowledgement(read(request), code=code, control_id="X1", at=AT, site=SITE, refusal=refusal)
    message = hl7.parse(ack.decode())
    assert [str(segment[0]) for segment in message] == ["MSH", "MSA", *(["ERR"] if refusal else [])]
    assert str(message.segment("MSA")[1]) == code
    assert str(message.segment("MSA")[2]) == control_id
    assert str(message.segment("MSH")[9]) == (f"ACK^{event}^ACK" if event else "ACK")
    assert str(message.segment("MSH")[5]) == app
    if refusal:
        assert str(message.segment("ERR")[3]) == f"{refusal.condition}^{CONDITIONS_0357[refusal.condition]}^messageErrorCondition"
        assert str(message.segment("ERR")[4]) == "E"


@given(header=st.lists(st.binary(max_size=8), max_size=20))
def test_no_request_can_add_a_segment_to_its_answer(header: list[bytes]):
    try:
        request = read(b"MSH|^~\\&|" + b"|".join(header) + b"\r")
    except Unreadable:
        return
    ack = acknowledgement(request, code="AA", control_id="1", at=AT, site=SITE)
    assert ack.count(b"\r") == 2
    assert b"\n" not in ack
    assert ack.endswith(b"\r")
    assert b"\rMSA|AA|" in ack


# ---- ZAM ------------------------------------------------------------------------------------------------------------


def receipt(kind: str, positive: bool, **more) -> bytes:
    return zam(
        kind=kind,
        original_control_id="015",
        positive=positive,
        control_id="017",
        at=AT,
        event_at=datetime(2026, 7, 14, 6, tzinfo=UTC),
        site=SITE,
        receiving_app="SIL-Y",
        receiving_facility="labo",
        **more,
    )


def test_zam_z01_negative():
    assert receipt("Z01", False, error=("DMPClosed", "DMP fermé", "DMPERRORCODE")).decode().split("\r") == [
        "MSH|^~\\&|PFI-X|HOPITAL-X|SIL-Y|labo|20260715003005+0200||ZAM^Z01^ZAM_Z01|017|P|2.6|||||FRA|UNICODE UTF-8"
        "|||2.1^CISIS_CDA_HL7_V2",
        "EVN||20260714080000+0200",
        "OBX|1|CWE|ACK_RECEPTION_DMP^Accusé de réception DMP^AckMetierZAM|015|N^^expandedYes-NoIndicator||||||F",
        "ERR|||207^Application error^messageErrorCondition|E|DMPClosed^DMP fermé^DMPERRORCODE",
        "",
    ]


@pytest.mark.parametrize(
    ("kind", "status", "mailbox"), [("Z02", "ACK_RECEPTION_MSS", "DESTINATAIRE_MSS"), ("Z03", "ACK_LECTURE_MSS", "LECTEUR_MSS")]
)
def test_zam_of_a_mailbox(kind: str, status: str, mailbox: str):
    message = hl7.parse(receipt(kind, True, address="zoe.essai@test.mssante.fr").decode())
    assert [str(segment[0]) for segment in message] == ["MSH", "EVN", "OBX", "OBX"]
    first, second = message.segments("OBX")
    assert (str(first[3][0][0]), str(first[4]), str(first[5][0][0]), str(first[11])) == (status, "015", "Y", "F")
    assert (str(second[2]), str(second[3][0][0]), str(second[5])) == ("XTN", mailbox, "^^X.400^zoe.essai@test.mssante.fr")
    with pytest.raises(ValueError):
        receipt(kind, True)


def test_zam_reads_back_in_another_charset():
    error = ("906", "autre ’ erreur", "applicationErrorCondition")
    raw = receipt("Z03", False, address="a|b@x.fr", charset="iso8859-15", error=error)
    message = read(raw)
    assert (message.charset, message.type, message.structure) == ("iso8859-15", "ZAM^Z03", "ZAM_Z01")
    assert message.text("OBX", 3, 2) == "Accusé de lecture"
    assert message.segments("OBX")[1].text(5, 4) == "a|b@x.fr"
    assert message.text("ERR", 5, 2) == "autre ' erreur"


def test_another_time_zone():
    site = Site(timezone=ZoneInfo("America/Cayenne"))
    ack = acknowledgement(read(REQUEST), code="AA", control_id="1", at=AT, site=site)
    assert b"|20260714193005-0300|" in ack
