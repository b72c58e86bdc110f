"""The ledger API as `interfaces` says it: shapes, filters, cursors, acts, audit rows, ER7 over HTTP."""

from __future__ import annotations

import json
import socket

import pytest

from hub.model.ports import Answer
from hub.web.hl7_in import ack_status

MESSAGE_KEYS = {"id", "source", "control_id", "type", "state", "received_at", "size", "sha256", "ack", "deliveries"}
DELIVERY_KEYS = {"id", "destination", "state", "attempts", "last_error", "external_ref", "receipts"}


def test_a_list_has_the_agreed_shape(house):
    body = house.client("operator").get("/api/v1/messages", params={"control_id": "LAB1002"}).json()
    assert body.keys() == {"items", "after"} and body["after"] is None
    (item,) = body["items"]
    assert item.keys() >= MESSAGE_KEYS and item["state"] == "PARTIAL" and item["ack"]["code"] == "AA"
    assert item["received_at"].endswith("Z")
    dead = next(delivery for delivery in item["deliveries"] if delivery["destination"] == "lab-out")
    assert dead.keys() >= DELIVERY_KEYS and dead["state"] == "DEAD" and dead["attempts"] == 1


def test_a_refused_message_says_why(house):
    (item,) = house.client("operator").get("/api/v1/messages", params={"control_id": "LAB1003"}).json()["items"]
    assert item["state"] == "REFUSED" and item["ack"]["code"] == "AE"
    assert item["ack"]["error"].keys() == {"code", "at", "text"} and item["ack"]["error"]["at"] == "PID-32"


@pytest.mark.parametrize(
    ("params", "control_ids"),
    [
        ({"state": "SET_ASIDE"}, {"LAB1004"}),
        ({"state": "NO_ROUTE"}, {"RDV0001"}),
        ({"source": "agenda"}, {"RDV0001"}),
        ({"type": "ORU^R01"}, {"LAB1004", "LAB1005"}),
        ({"source": "labo", "type": "MDM^T02", "state": "PARTIAL"}, {"LAB1002"}),
        ({"control_id": "nothing"}, set()),
        ({"since": "2020-01-01", "source": "agenda"}, {"RDV0001"}),
        ({"since": "2099-01-01T00:00:00+01:00"}, set()),
    ],
)
def test_filters_narrow(house, params, control_ids):
    items = house.client("operator").get("/api/v1/messages", params=params).json()["items"]
    assert {item["control_id"] for item in items} == control_ids


def test_pages_follow_each_other_without_a_gap(house):
    client, seen, after = house.client("operator"), [], None
    whole = [item["id"] for item in client.get("/api/v1/messages?limit=500").json()["items"]]
    while True:
        page = client.get("/api/v1/messages", params={"limit": 4, **({"after": after} if after else {})}).json()
        seen += [item["id"] for item in page["items"]]
        after = page["after"]
        if after is None:
            break
    assert seen == whole == sorted(whole, reverse=True) and len(whole) == 15


@pytest.mark.parametrize(
    "query",
    [
        "state=LOST",
        "state=done",
        "limit=0",
        "limit=501",
        "limit=many",
        "after=xyz",
        "after=-1",
        "since=yesterday",
        "stat=DONE",
        "since=9999-99-99",
    ],
)
def test_what_is_not_understood_is_400_and_repeats_no_value(house, query):
    response = house.client("operator").get(f"/api/v1/messages?{query}")
    assert response.status_code == 400 and response.headers["content-type"] == "application/problem+json"
    assert query.partition("=")[2] not in response.text or query == "limit=0"


def test_one_message_is_one_element_of_the_list(house):
    client = house.client("operator")
    (listed,) = client.get("/api/v1/messages", params={"control_id": "LAB1002"}).json()["items"]
    shown = client.get(f"/api/v1/messages/{listed['id']}").json()
    assert {key: shown[key] for key in MESSAGE_KEYS - {"deliveries"}} == {
        key: listed[key] for key in MESSAGE_KEYS - {"deliveries"}
    }
    for wrong in ("nothing", "01a20c9f-b1fd-7000-8000-000000000000", "%27--"):
        assert client.get(f"/api/v1/messages/{wrong}").status_code == 404


def test_the_body_is_the_exact_bytes_and_leaves_a_row(house):
    uid = house.uids["LAB1001"]
    before = len(house.audit("message.body"))
    response = house.client("operator").get(f"/api/v1/messages/{uid}/body")
    kept = house.read(
        lambda tx: tx.rows("SELECT b.bytes FROM body b JOIN message m ON m.id = b.message_id WHERE m.control_id = 'LAB1001'")
    )
    assert response.content == kept[0][0]
    assert response.headers["cache-control"] == "no-store" and response.headers["content-disposition"].startswith("attachment")
    rows = house.audit("message.body")
    assert len(rows) == before + 1 and rows[-1]["actor"] == "operator-1" and rows[-1]["target"] == f"message/{uid}"
    assert rows[-1]["patient_id"] is not None


def test_deliveries_and_lanes(house):
    client = house.client("operator")
    (dead,) = client.get("/api/v1/deliveries?state=DEAD").json()["items"]
    assert dead["destination"] == "lab-out" and dead["message"]["control_id"] == "LAB1002"
    assert client.get("/api/v1/deliveries?state=GONE").status_code == 400
    blocked = client.get("/api/v1/lanes?blocked=true").json()["items"]
    assert {lane["destination"].partition(":")[0] for lane in blocked} == {"dmp", "mssante"}
    assert all(lane["blocked_reason"] == "destination not configured" and lane["depth"] == 1 for lane in blocked)
    assert client.get("/api/v1/lanes?blocked=perhaps").status_code == 400


def test_acts_do_what_they_say_and_are_audited_before(own_house):
    house, client = own_house, own_house.client("operator")
    dead = client.get("/api/v1/deliveries?state=DEAD").json()["items"][0]["id"]
    retried = client.post(f"/api/v1/deliveries/{dead}/retry", json={"reason": "peer is back"})
    assert retried.status_code == 200 and retried.json()["state"] == "QUEUED" and retried.json()["id"] == dead
    skipped = client.post(f"/api/v1/deliveries/{dead}/skip")
    assert skipped.json()["state"] == "CANCELLED"
    assert client.post(f"/api/v1/deliveries/{dead}/skip").status_code == 409
    done = house.uids["ADM0001"]
    replayed = client.post(f"/api/v1/messages/{done}/replay", json={"destinations": ["lab-out"]})
    assert replayed.status_code == 202 and len(replayed.json()["deliveries"]) == 1
    assert client.get(f"/api/v1/messages/{done}").json()["deliveries"][-1]["replay_of"]
    aside = house.uids["LAB1004"]
    assert client.post(f"/api/v1/messages/{aside}/discard").json()["state"] == "DISCARDED"
    assert client.post(f"/api/v1/messages/{aside}/discard").status_code == 409
    acts = [(row["act"], row["target"]) for row in house.audit() if not row["act"].startswith("console")]
    assert acts == [
        ("delivery.retry", f"delivery/{dead}"),
        ("delivery.skip", f"delivery/{dead}"),
        ("delivery.skip", f"delivery/{dead}"),
        ("delivery.skip.refused", f"delivery/{dead}"),
        ("message.replay", f"message/{done}"),
        ("message.discard", f"message/{aside}"),
        ("message.discard", f"message/{aside}"),
        ("message.discard.refused", f"message/{aside}"),
    ]
    assert json.loads(house.audit("delivery.retry")[0]["detail"]) == {"reason": "peer is back"}


def test_a_receipt_is_filed_and_a_negative_one_shows(own_house):
    client, uid = own_house.client("operator"), own_house.uids["ADM0001"]
    delivery = client.get(f"/api/v1/messages/{uid}").json()["deliveries"][1]["id"]
    answer = client.post(
        f"/api/v1/deliveries/{delivery}/receipts",
        json={"kind": "MDN", "positive": False, "code": "5.1.1", "at": "2026-11-24T10:00:00Z"},
    )
    assert answer.status_code == 201
    (receipt,) = answer.json()["receipts"]
    assert receipt["kind"] == "MDN" and receipt["positive"] is False and receipt["at"].startswith("2026-11-24T10:00:00")
    assert client.get(f"/api/v1/messages/{uid}").json()["state"] == "PARTIAL"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "FAX", "positive": True},
        {"kind": "DMP", "positive": "yes"},
        {"kind": "DMP", "positive": True, "at": "soon"},
        {"kind": "DMP", "positive": True, "code": 7},
        {"kind": "DMP", "positive": True, "extra": 1},
        {"kind": "DMP", "positive": True, "code": "x" * 201},
    ],
)
def test_a_receipt_that_is_none_is_refused(house, body):
    delivery = house.client("operator").get("/api/v1/deliveries?state=DEAD").json()["items"][0]["id"]
    assert house.client("operator").post(f"/api/v1/deliveries/{delivery}/receipts", json=body).status_code == 400


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b'"x"', b'{"destinations": "dmp"}', b'{"destinations": [1]}', b'{"to": []}', b'{"reason": 1}', b"\xff"],
)
def test_a_replay_body_that_is_none_is_refused(house, content):
    uid = house.uids["ADM0100"]
    assert house.client("operator").post(f"/api/v1/messages/{uid}/replay", content=content).status_code == 400


def test_acts_on_nothing_are_404(house):
    client = house.client("operator")
    for path in ("messages/{}/discard", "messages/{}/replay", "deliveries/{}/retry", "deliveries/{}/skip"):
        for uid in ("nothing", "01a20c9f-b1fd-7000-8000-000000000000"):
            assert client.post("/api/v1/" + path.format(uid)).status_code == 404, path


@pytest.mark.parametrize(("code", "status"), [("AA", 200), ("CA", 200), ("AE", 422), ("CE", 422), ("AR", 503), ("CR", 503)])
def test_er7_over_http_answers_with_the_acknowledgement(house, code, status):
    acknowledgement = f"MSH|^~\\&|PFI-X|H|SIH|H|20261124||ACK^A01^ACK|9|P|2.5\rMSA|{code}|ADM1\r".encode()
    house.acks.append(Answer(acknowledgement))
    response = house.client("system").post("/api/v1/hl7", content=b"MSH|^~\\&|SIH\rPID|1\r")
    assert response.status_code == status and response.content == acknowledgement
    assert ("retry-after" in response.headers) == (status == 503)
    body, origin = house.taken[-1]
    assert body == b"MSH|^~\\&|SIH\rPID|1\r" and origin.source == "system-1" and origin.peer == "127.0.0.1"


def test_an_acknowledgement_that_is_not_one_is_not_a_success():
    assert ack_status(b"") == 200 and ack_status(b"MSH|x\rERR|1\r") == 503 and ack_status(b"MSH\rMSA|??|1\r") == 503


def test_er7_over_http_takes_no_empty_and_no_endless_body(house):
    client = house.client("system")
    assert client.post("/api/v1/hl7").status_code == 400
    limit = house.services.max_body_bytes
    token = house.tokens["system"]
    head = f"POST /api/v1/hl7 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {limit + 1}\r\n\r\n"
    with socket.create_connection((house.server.host, house.server.port), timeout=5) as peer:
        peer.sendall(head.encode())
        assert peer.recv(100).startswith(b"HTTP/1.1 413 ")  # before a byte of the body was sent
    sent = 0

    def endless():
        nonlocal sent
        while sent < limit + (1 << 18):
            sent += 1 << 16
            yield b"x" * (1 << 16)

    response = client.post("/api/v1/hl7", content=endless())
    assert response.status_code == 413 and response.json()["code"] == "BodyTooLarge"
