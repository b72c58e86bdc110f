"""`POST /api/v1/reload`: what it answers, who may ask, what the audit trail says."""

from __future__ import annotations

import json

import pytest

MISTAKE = {"file": "vaguemestre.toml", "key": "route[1].to", "reason": "names 'x', which is no [[destination]]"}


def answering(house, in_force: bool, said: dict) -> None:
    async def again():
        return in_force, said

    house.services.reload = again


def test_a_good_file_says_what_changed(own_house):
    said = {"configuration": "0123456789ab", "added": ["destination/out"], "changed": [], "removed": []}
    answering(own_house, True, said)
    answer = own_house.client("operator").post("/api/v1/reload")
    assert (answer.status_code, answer.json()) == (200, said)
    assert json.loads(own_house.audit("configuration.reload")[0]["detail"]) == {"done": True, "configuration": "0123456789ab"}


def test_a_file_with_mistakes_is_a_problem_with_all_of_them(own_house):
    answering(own_house, False, {"mistakes": [MISTAKE, MISTAKE]})
    answer = own_house.client("operator").post("/api/v1/reload")
    assert answer.status_code == 422 and answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["mistakes"] == [MISTAKE, MISTAKE] and answer.json()["code"] == "ConfigurationRefused"
    assert json.loads(own_house.audit("configuration.reload")[0]["detail"])["done"] is False


@pytest.mark.parametrize("role", ["professional", "system", "pharmacist"])
def test_only_operators_ask(house, role):
    assert house.client(role).post("/api/v1/reload").status_code == 403


def test_a_process_that_cannot_says_so(own_house):
    own_house.services.reload = None
    assert own_house.client("operator").post("/api/v1/reload").status_code == 409
