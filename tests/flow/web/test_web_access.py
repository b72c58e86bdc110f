"""Who may call what: every path, every role, and what a refused caller is told."""

from __future__ import annotations

import hashlib
import re

import pytest
from fastapi import APIRouter

from hub.web import app as web_app
from hub.web import tokens
from hub.web.access import NeedsRole, nobody
from hub.web.console.sessions import NeedsSession
from hub.web.throttle import FailedSignIns
from hub.web.tickets import Tickets
from hub.web.tokens import Role

OPEN = {
    "/healthz",
    "/readyz",
    "/console",
    "/console/sign-in",
    "/console/sign-out",
    "/console/enter/{ticket}",
    "/console/static/{name}",
}


def _concrete(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "01a20c9f-b1fd-7000-8000-000000000000", path)


def _calls():
    for route in web_app.routes():
        for method in sorted(route.methods):
            yield method, route


def test_the_walk_sees_every_path():
    paths = {(method, route.path) for method, route in _calls()}
    assert {
        ("GET", "/api/v1/messages"),
        ("POST", "/api/v1/hl7"),
        ("GET", "/fhir/{type}/{id}"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
        ("GET", "/console/messages/{id}"),
        ("POST", "/console/messages/{id}/{name}"),
    } <= paths
    assert len(paths) > 30


def test_every_path_but_the_open_ones_refuses_without_a_token(house):
    client = house.client()
    for method, route in _calls():
        if route.path in OPEN:
            continue
        response = client.request(method, _concrete(route.path))
        wanted = {303, 401} if route.path.startswith(("/console", "/docs")) else {401}
        assert response.status_code in wanted, (method, route.path, response.status_code)
        if response.status_code == 303:
            assert response.headers["location"].startswith("/console/sign-in"), route.path


def test_the_open_paths_are_those_we_mean():
    found = {
        route.path
        for _, route in _calls()
        if not any(isinstance(d.call, NeedsRole | NeedsSession) for d in web_app._flattened(route.dependant))
    }
    assert found == OPEN


def test_every_path_refuses_each_role_that_it_does_not_name(house):
    tried, clients = 0, {role: house.client(role.value) for role in Role}
    for method, route in _calls():
        calls = [d.call for d in web_app._flattened(route.dependant)]
        needed = next((call for call in calls if isinstance(call, NeedsRole)), None)
        if needed is None:
            continue
        for role in set(Role) - needed.roles:
            response = clients[role].request(method, _concrete(route.path))
            assert response.status_code == 403, (method, route.path, role)
            tried += 1
    assert tried > 40


def test_the_console_refuses_other_roles_than_operator(house):
    for role in (Role.PROFESSIONAL, Role.PHARMACIST, Role.SYSTEM):
        client = house.signed_in(role.value)
        for method, route in _calls():
            calls = [d.call for d in web_app._flattened(route.dependant)]
            if any(isinstance(call, NeedsSession) for call in calls):
                response = client.request(method, _concrete(route.path))
                assert response.status_code == 403, (method, route.path, role)


def test_a_path_that_names_no_role_does_not_start(monkeypatch, house):
    forgotten = APIRouter()

    @forgotten.get("/forgotten")
    async def forgotten_path() -> None: ...

    monkeypatch.setattr(web_app, "ROUTERS", (*web_app.ROUTERS, forgotten))
    with pytest.raises(TypeError, match="/forgotten"):
        web_app.create_app(house.services)


def test_open_paths_answer_anybody(house):
    client = house.client()
    assert client.get("/healthz").json() == {"status": "up"}
    assert client.get("/readyz").json() == {"ready": True, "store": "ok"}
    assert nobody() is None


@pytest.mark.parametrize("header", ["", "Bearer", "Basic dXNlcjpwYXNz", "vgm_x", "Token vgm_x"])
def test_what_is_not_a_bearer_token_is_told_how(house, header):
    response = house.client(headers={"Authorization": header} if header else {}).get("/api/v1/messages")
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"].startswith("Bearer ")
    assert response.json()["code"] == "TokenMissing"


def test_a_refusal_has_the_format_of_its_path(house):
    client = house.client(headers={"Authorization": "Bearer vgm_wrong"})
    fhir, api = client.get("/fhir/Patient"), client.get("/api/v1/messages")
    assert fhir.headers["content-type"] == "application/fhir+json"
    assert fhir.json()["resourceType"] == "OperationOutcome" and fhir.json()["issue"][0]["code"] == "login"
    assert api.json()["status"] == 401 and api.headers["content-type"] == "application/problem+json"
    forbidden = house.client("system")
    assert forbidden.get("/fhir/Patient").json()["issue"][0]["code"] == "forbidden"
    assert forbidden.get("/api/v1/messages").json()["code"] == "RoleNotAllowed"


def test_an_unknown_path_is_a_problem_too(house):
    response = house.client().get("/nothing/here")
    assert response.status_code == 404 and response.json()["code"] == "NotFound"
    assert house.client("operator").put("/api/v1/messages").status_code == 405


def test_a_token_is_kept_as_a_digest_and_works_until_it_is_revoked(own_house):
    house = own_house
    secret = house.write(
        lambda tx: tokens.create(
            tx, name="soon gone", role=Role.OPERATOR, next_id=house.store.next_id, now_us=house.store.now_us()
        )
    )
    assert re.fullmatch(r"vgm_[A-Za-z0-9_-]{43}", secret)
    rows = house.read(lambda tx: tx.rows("SELECT * FROM token"))
    assert not any(secret in str(value) for row in rows for value in row)
    assert any(hashlib.sha256(secret.encode()).digest() in row for row in rows)
    client = house.client(headers={"Authorization": f"bearer {secret}"})
    assert client.get("/api/v1/messages").status_code == 200
    assert house.write(lambda tx: tokens.revoke(tx, "soon gone", now_us=1)) == 1
    assert client.get("/api/v1/messages").status_code == 401


def test_a_token_needs_a_name_and_right_numbers(house):
    make = {"role": Role.PROFESSIONAL, "next_id": house.store.next_id, "now_us": 1}
    for wrong in (
        {"name": " "},
        {"name": "a\nb"},
        {"name": "x" * 81},
        {"name": "dr", "rpps": "123"},
        {"name": "dr", "finess": "12"},
    ):
        with pytest.raises(ValueError):
            house.write(lambda tx, wrong=wrong: tokens.create(tx, **make, **wrong))


def test_failed_attempts_are_slowed_down_and_right_ones_are_not(own_house):
    wrong, right = own_house.client(headers={"Authorization": "Bearer vgm_nope"}), own_house.client("operator")
    statuses = [wrong.get("/api/v1/messages").status_code for _ in range(14)]
    assert statuses[:10] == [401] * 10 and statuses[-1] == 429
    refused = wrong.get("/api/v1/messages")
    assert int(refused.headers["retry-after"]) > 0
    assert right.get("/api/v1/messages").status_code == 200
    signing_in = own_house.client().post("/console/sign-in", data={"token": "vgm_nope"})
    assert signing_in.status_code == 429
    assert wrong.get("/fhir/Patient").json()["issue"][0]["code"] == "throttled"


def test_the_bucket_fills_again_and_forgets_old_peers():
    now = [0.0]
    failures = FailedSignIns(burst=2, refill_s=6, at_most=3, clock=lambda: now[0])
    assert [failures.failed("10.0.0.1") for _ in range(3)] == [0, 0, 6]
    assert failures.failed("10.0.0.2") == 0
    now[0] = 6.0
    assert failures.failed("10.0.0.1") == 0 and failures.failed("10.0.0.1") > 0
    for n in range(10):
        failures.failed(f"10.1.0.{n}")
    assert len(failures._buckets) == 3


def test_one_ipv6_network_is_one_peer():
    failures = FailedSignIns(burst=1, clock=lambda: 0.0)
    assert failures.failed("2001:db8::1") == 0 and failures.failed("2001:db8::2") > 0
    assert failures.failed("2001:db8:0:1::1") == 0
    assert failures.failed("::ffff:10.0.0.1") == 0 and failures.failed("10.0.0.1") > 0
    assert failures.failed("not an address") == 0


def test_a_ticket_opens_once_and_not_for_ever():
    now = [0.0]
    tickets = Tickets(clock=lambda: now[0], valid_s=10, at_most=2)
    first = tickets.issue("operator", "demo")
    assert tickets.redeem("other") is None
    assert tickets.redeem(first).name == "demo" and tickets.redeem(first) is None
    late = tickets.issue("operator", "demo")
    now[0] = 11
    assert tickets.redeem(late) is None
    issued = [tickets.issue("operator", "demo") for _ in range(3)]
    assert [tickets.redeem(secret) is not None for secret in issued] == [False, True, True]


def test_masked_tokens_see_states_but_no_bytes(house):
    client = house.client("masked")
    assert client.get("/api/v1/messages").status_code == 200
    refused = client.get(f"/api/v1/messages/{house.uids['LAB1001']}/body")
    assert refused.status_code == 403 and refused.json()["code"] == "MaskedToken"


def test_the_openapi_document_and_its_page_load_nothing_from_elsewhere(house):
    document = house.client("professional").get("/openapi.json").json()
    assert "/api/v1/messages" in document["paths"] and "/fhir/{type}" in document["paths"]
    html = house.signed_in().get("/docs").text
    assert "/api/v1/hl7" in html and "rôle operator" in html and "ouvert à tous" in html
    assert html.count("ouvert à tous") == 2  # healthz and readyz
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', html)


def test_every_answer_carries_safe_headers(house):
    for path in ("/healthz", "/api/v1/messages", "/console/sign-in", "/nothing"):
        headers = house.client("operator").get(path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"
        assert "default-src 'none'" in headers["content-security-policy"] and "server" not in headers
