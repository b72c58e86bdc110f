"""Who must not be fed to the DMP: the latest word of each person, whatever the number it came under."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from hub.model.consent_codes import DMP_STATE, DMP_STATES, FEEDING_CODES, FEEDING_KEY, key_for
from hub.record.consents import dmp_refusal

COLUMNS = ("id", "type", "key", "version", "patient_id", "sort_date", "status", "mask", "event_time", "updated_at", "body")


@pytest.fixture
def record(engine: Any) -> Any:
    return engine.empty()


def patient(tx: Any, number: int, merged_into: int | None = None) -> None:
    names = ("id", "birth_name", "birth_date", "sex", "status", "created_at", "merged_into")
    tx.insert("patient", names, [(number, "", "", "", "", 0, merged_into)])


def consent(tx: Any, number: int, patient_id: int, *, code: str = "", state: str = "", at: int = 0) -> None:
    body: dict[str, Any] = {}
    if code:
        body["provision"] = {"code": [{"coding": [{"system": FEEDING_CODES, "code": code}]}]}
    if state:
        parts = [{"url": "state", "valueCoding": {"system": DMP_STATES, "code": state}}]
        body["extension"] = [{"url": DMP_STATE, "extension": parts}]
    key = key_for(FEEDING_KEY, patient_id)
    tx.insert("resource", COLUMNS, [(number, "Consent", key, 1, patient_id, "", "active", 0, at, 0, orjson.dumps(body))])


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [
        ("IO", "", "ConsentOpposed"),
        ("IO", "FERME", "ConsentOpposed"),
        ("INO", "ACTIF", None),
        ("INO", "FERME", "DMPClosed"),
        ("", "INEXISTANT", "DMPAbsent"),
        ("NA", "", None),
        ("", "", None),
    ],
)
def test_reason(record: Any, code: str, state: str, reason: str | None) -> None:
    patient(record, 7)
    consent(record, 100, 7, code=code, state=state)
    assert dmp_refusal(record, [7]).get(7) == reason


def test_many_at_once_and_nobody(record: Any) -> None:
    for number in (7, 8, 9):
        patient(record, number)
    consent(record, 100, 7, code="IO")
    consent(record, 101, 8, code="INO")
    assert dmp_refusal(record, [9, 8, 7, 7, 12]) == {7: "ConsentOpposed"}
    assert dmp_refusal(record, []) == {}


@pytest.mark.parametrize("asked", [7, 8, 9])
@pytest.mark.parametrize(("later", "reason"), [(7, None), (8, "ConsentOpposed")])
def test_merged_patients_are_one_person(record: Any, asked: int, later: int, reason: str | None) -> None:
    patient(record, 7)
    patient(record, 8, merged_into=7)
    patient(record, 9, merged_into=7)
    patient(record, 10)
    consent(record, 100, 7, code="INO", at=20 if later == 7 else 10)
    consent(record, 101, 8, code="IO", at=20 if later == 8 else 10)
    consent(record, 102, 10, code="IO", at=30)
    assert dmp_refusal(record, [asked]).get(asked) == reason


def test_state_and_opposition_may_come_from_different_messages(record: Any) -> None:
    patient(record, 7)
    patient(record, 8, merged_into=7)
    consent(record, 100, 7, code="INO", state="FERME", at=10)
    consent(record, 101, 8, code="INO", at=20)
    assert dmp_refusal(record, [7, 8]) == {7: "DMPClosed", 8: "DMPClosed"}


def test_key_of_a_patient() -> None:
    assert key_for(FEEDING_KEY, 7) == "7|dmp-feeding"
    assert key_for(FEEDING_KEY, None) == "0|dmp-feeding"
    assert key_for("urn:x|{patient}", 7) == "urn:x|{patient}"
