"""HL7 v2 over HTTP in its other forms: XML and batches."""

from __future__ import annotations

import pytest

from hub.formats.er7.batch import messages
from hub.model.ports import Answer

XML = b'<ADT_A01 xmlns="urn:hl7-org:v2xml"><MSH><MSH.10>X1</MSH.10></MSH><PID><PID.3><CX.1>900001</CX.1></PID.3></PID></ADT_A01>'


def ack(code: str, control: str) -> Answer:
    return Answer(f"MSH|^~\\&|PFI-X|H|||20261124||ACK^A01^ACK|9|P|2.5\rMSA|{code}|{control}\r".encode(), code=code)


def batch(count: int) -> bytes:
    bodies = b"".join(b"MSH|^~\\&|A|||||20261124|ADT^A01|M%d\rPID|1\r" % n for n in range(count))
    return b"BHS|^~\\&|A\r" + bodies + b"BTS|%d\r" % count


@pytest.mark.parametrize("media_type", ["application/hl7-v2+xml", "text/xml; charset=utf-8", "application/xml"])
@pytest.mark.parametrize(("code", "status"), [("AA", 200), ("AE", 422), ("AR", 503)])
def test_a_message_in_xml_is_answered_in_xml(house, media_type, code, status):
    house.acks.append(ack(code, "X1"))
    response = house.client("system").post("/api/v1/hl7", content=XML, headers={"Content-Type": media_type})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/hl7-v2+xml"
    assert f"<MSA><MSA.1>{code}</MSA.1><MSA.2>X1</MSA.2></MSA>".encode() in response.content
    assert house.taken[-1][0] == b"MSH|^~\\&||||||||X1||||||||UNICODE UTF-8\rPID|||900001\r"


@pytest.mark.parametrize("body", [b"<ADT_A01", b"MSH|^~\\&|", b'<!DOCTYPE a><ADT_A01 xmlns="urn:hl7-org:v2xml"/>'])
def test_xml_that_is_none_is_refused_in_xml_and_not_handed_in(house, body):
    before = len(house.taken)
    response = house.client("system").post("/api/v1/hl7", content=body, headers={"Content-Type": "application/hl7-v2+xml"})
    assert response.status_code == 422
    assert b"<MSA.1>AE</MSA.1>" in response.content and b"<ERR>" in response.content
    assert len(house.taken) == before


def test_a_batch_is_answered_with_a_batch(house):
    house.acks += [ack("AA", f"M{n}") for n in range(150)]
    response = house.client("system").post("/api/v1/hl7", content=batch(150), headers={"Content-Type": "text/plain"})
    assert response.status_code == 200
    assert [one.split(b"\rMSA|")[1] for one in messages([response.content])] == [b"AA|M%d\r" % n for n in range(150)]
    assert response.content.startswith(b"FHS|") and b"\rBTS|150\r" in response.content
    taken = [body for body, _ in house.taken[-150:]]
    assert taken == list(messages([batch(150)]))
    assert len({origin.connection for _, origin in house.taken[-150:]}) == 1


@pytest.mark.parametrize(("codes", "status"), [(("AA", "AE"), 422), (("AE", "AR"), 503), (("CA", "AA"), 200)])
def test_the_worst_answer_of_a_batch_is_its_status(house, codes, status):
    house.acks += [ack(code, f"M{n}") for n, code in enumerate(codes)]
    response = house.client("system").post("/api/v1/hl7", content=batch(2))
    assert response.status_code == status
    assert ("retry-after" in response.headers) == (status == 503)


def test_after_the_first_that_cannot_be_kept_no_other_slice_is_handed_in(house):
    house.acks += [ack("AR", f"M{n}") for n in range(64)]
    before = len(house.taken)
    assert house.client("system").post("/api/v1/hl7", content=batch(100)).status_code == 503
    assert len(house.taken) - before == 64


def test_a_batch_that_may_be_cut_is_refused_whole(house):
    before = len(house.taken)
    response = house.client("system").post("/api/v1/hl7", content=batch(3)[:-6])
    assert response.status_code == 422
    assert b"MSA|AE|" in response.content and b"has no BTS" in response.content
    assert len(house.taken) == before
