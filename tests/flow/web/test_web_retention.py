"""Holds and totals over the API: shapes, roles, audit, mistakes."""

from __future__ import annotations

import json

import pytest


def test_a_message_is_held_and_released_with_an_audit_row(own_house):
    house = own_house
    client = house.client("operator")
    (item,) = client.get("/api/v1/messages", params={"control_id": "RDV0001"}).json()["items"]
    uid = item["id"]
    assert item["held"] is False
    held = client.post(f"/api/v1/messages/{uid}/hold", json={"reason": "request of the court"})
    assert held.status_code == 200 and held.json()["held"] is True
    assert held.json()["holds"][0].keys() >= {"kind", "target", "at", "by", "reason"}
    assert client.get("/api/v1/messages", params={"control_id": "RDV0001"}).json()["items"][0]["held"] is True
    assert client.post(f"/api/v1/messages/{uid}/hold", json={"reason": "request of the court"}).status_code == 409
    assert json.loads(house.audit("message.hold")[0]["detail"]) == {"reason": "request of the court"}
    assert [one["target"] for one in client.get("/api/v1/holds").json()["items"]] == [uid]
    assert client.post(f"/api/v1/messages/{uid}/release", json={"reason": "case closed"}).json()["held"] is False
    assert client.get("/api/v1/holds").json()["items"] == []
    assert len(client.get("/api/v1/holds", params={"released": "true"}).json()["items"]) == 1
    assert client.post(f"/api/v1/messages/{uid}/release", json={"reason": "case closed"}).status_code == 404


def test_a_patient_and_a_source_are_held(own_house):
    client = own_house.client("operator")
    (item,) = client.get("/api/v1/messages", params={"control_id": "LAB1002"}).json()["items"]
    done = client.post(f"/api/v1/patients/{own_house.patient}/hold", json={"reason": "claim of the patient"})
    assert done.json() == {"kind": "patient", "target": own_house.patient, "held": True}
    shown = client.get(f"/api/v1/messages/{item['id']}").json()
    assert [one["kind"] for one in shown["holds"]] == ["patient"]
    page = client.get("/api/v1/holds", params={"kind": "patient"}).json()["items"]
    assert page[0]["reason"] == "claim of the patient"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("messages/{uid}/hold", {}, 400),
        ("messages/{uid}/hold", {"reason": "no"}, 400),
        ("messages/{uid}/hold", {"reason": 7}, 400),
        ("messages/{uid}/hold", {"reason": "long enough", "until": "tomorrow"}, 400),
        ("messages/nothing/hold", {"reason": "long enough"}, 404),
        ("patients/01a20cbd-c8f3-7000-8000-000000000000/hold", {"reason": "long enough"}, 404),
        ("sources/nobody/hold", {"reason": "long enough"}, 404),
        ("sources/nobody/release", {"reason": "long enough"}, 404),
    ],
)
def test_a_wrong_hold_is_refused(house, path, body, status):
    client = house.client("operator")
    uid = client.get("/api/v1/messages", params={"control_id": "RDV0001"}).json()["items"][0]["id"]
    answer = client.post(f"/api/v1/{path.format(uid=uid)}", json=body)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("role", ["professional", "system", "pharmacist"])
def test_only_operators_hold(house, role):
    client = house.client(role)
    assert client.post("/api/v1/sources/labo/hold", json={"reason": "long enough"}).status_code == 403
    assert client.get("/api/v1/holds").status_code == 403 and client.get("/api/v1/totals").status_code == 403


def test_totals_count_what_is_kept(house):
    client = house.client("operator")
    told = client.get("/api/v1/totals").json()
    assert told.keys() == {"since", "until", "items"} and sum(row["messages"] for row in told["items"]) == 15
    only = client.get("/api/v1/totals", params={"source": "labo"}).json()["items"]
    assert {row["source"] for row in only} == {"labo"} and all(row["pruned"] == 0 for row in only)
    assert client.get("/api/v1/totals", params={"since": "2020-01-01", "until": "2020-02-01"}).json()["items"] == []
    assert client.get("/api/v1/totals", params={"since": "2020-03-01", "until": "2020-02-01"}).status_code == 400


def test_the_page_of_a_message_says_that_it_is_held(own_house):
    (item,) = own_house.client("operator").get("/api/v1/messages", params={"control_id": "RDV0001"}).json()["items"]
    console = own_house.signed_in()
    assert "request of the court" not in console.get(f"/console/messages/{item['id']}").text
    own_house.client("operator").post(f"/api/v1/messages/{item['id']}/hold", json={"reason": "request of the court"})
    assert "request of the court" in console.get(f"/console/messages/{item['id']}").text
