"""Values that one database or the other would not take: refused or not found, never a failure of the hub."""

from __future__ import annotations

import re

import pytest

from hub.web import app as web_app

UID, BEYOND = "01a20c9f-b1fd-7000-8000-000000000000", "ffffffff-ffff-7fff-8f00-000000000000"
ODD = [
    "%00",
    "a%00b",
    "%ED%A0%80",
    "%FF",
    "9" * 40,
    "-1",
    "0",
    "%27",
    "ÿ\u2028",
    "1" * 3000,
    BEYOND,
    "a|b",
    "|%00",
    "9999-12-31",
    "0001",
]
SEARCHED = (
    *("identifier", "family", "given", "birthdate", "gender", "_id", "patient", "patient.identifier", "status", "date", "type"),
    *("_lastUpdated", "target", "_count", "after", "_total"),
)
CONSOLE = ("control_id", "source", "type", "state", "since", "until", "after", "limit", "last", "open", "lang", "act", "patient")


def callers(house) -> dict[str, object]:
    return {"/fhir": house.client("professional"), "/consol": house.signed_in(), "": house.client("operator")}


def routes() -> list:
    found = [route for route in web_app.routes() if "GET" in route.methods]
    return [route for route in found if not route.path.startswith(("/console/sign-", "/console/enter/"))]


def asked(house, who, path: str, query: str = "") -> None:
    caller = next(one for start, one in who.items() if path.startswith(start))
    response = caller.get(path + query, follow_redirects=False)
    assert response.status_code < 500 and response.status_code != 401, (path, query)
    assert response.status_code != 403 or path.startswith("/console"), (path, query)


@pytest.mark.parametrize("odd", ODD)
def test_no_value_in_a_query_fails_the_hub(house, odd):
    who = callers(house)
    for route in routes():
        path = re.sub(r"\{[^}]+\}", UID, route.path.replace("{type}", "Patient"))
        for name in CONSOLE if path.startswith("/console") else ():
            asked(house, who, path, f"?{name}={odd}")
        for param in route.dependant.query_params:
            asked(house, who, path, f"?{param.alias}={odd}")
    for kind in ("Patient", "Encounter", "DocumentReference", "Provenance"):
        for name in SEARCHED:
            asked(house, who, f"/fhir/{kind}", f"?{name}={odd}")


@pytest.mark.parametrize("odd", ODD)
def test_no_value_in_a_path_fails_the_hub(house, odd):
    who = callers(house)
    for route in routes():
        path = route.path.replace("{type}", "DocumentReference")
        for name in re.findall(r"\{[^}]+\}", path):
            asked(house, who, re.sub(r"\{[^}]+\}", UID, path.replace(name, odd)))


def test_a_nul_is_refused_in_words(house):
    client, reader = house.client("operator"), house.client("professional")
    for path, kind in (("/api/v1/messages?control_id=a%00", "problem+json"), ("/fhir/Patient?family=%00", "fhir+json")):
        response = (reader if path.startswith("/fhir") else client).get(path)
        assert response.status_code == 400 and kind in response.headers["content-type"]
        assert response.headers["x-content-type-options"] == "nosniff"
    assert reader.post("/fhir/Patient/_search", data={"family": "a\0"}).status_code == 400
    told = {"kind": "ACK", "positive": True, "code": "a\0"}
    assert client.post(f"/api/v1/deliveries/{UID}/receipts", json=told).status_code == 400
    assert client.post(f"/api/v1/messages/{UID}/replay", json={"destinations": ["a\0"]}).status_code == 400


def test_instants_far_away_find_nothing_or_everything(house):
    client = house.client("operator")
    everything = len(client.get("/api/v1/messages?limit=500").json()["items"])
    for since, found in (("9999-12-31T23:59:59Z", 0), ("0001-01-01T00:00:00Z", everything)):
        assert len(client.get(f"/api/v1/messages?limit=500&since={since}").json()["items"]) == found


def test_ids_beyond_63_bits_are_not_there(house):
    client = house.client("operator")
    for path in (f"/api/v1/messages/{BEYOND}", f"/api/v1/messages/{BEYOND}/body"):
        assert client.get(path).status_code == 404
    assert house.client("professional").get(f"/fhir/Patient/{BEYOND}").status_code == 404
