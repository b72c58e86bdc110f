"""How fast the newest results of one analysis are read when a patient has 50,000: `python -m bench.trend`.

One record in a file of its own: a patient with 50,000 Observations of sixty codes, the commonest a hundred times as frequent as
the rarest, one of them only among the oldest, and fifty patients with 1,000 each.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
from itertools import count
from pathlib import Path

from sqlalchemy import create_engine

from hub.model.identifiers import LocalIdentifier
from hub.model.identity import PatientIdentity
from hub.model.record_change import RecordChange, ResourceChange
from hub.model.uids import uid_text
from hub.record import queries
from hub.record.apply import Arrival, apply_all
from hub.record.identity import resolve
from hub.record.masking import Viewer
from hub.store import Transaction
from hub.store.schema import metadata
from hub.store.sqlite_transaction import SqliteTransaction

RESULTS, OTHERS, PER_OTHER, PER_REPORT, ROUNDS = 50_000, 50, 1_000, 20, 200
CODES = [f"{1000 + n}-{n % 10}" for n in range(60)]
WEIGHTS = [1000 if n == 0 else 100 if n < 10 else 10 if n < 50 else 0 for n in range(60)]
OLD = "9999-1"
LOINC = "http://loinc.org"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_numbers = count(1_795_000_000_000 << 16)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder, "record.db"), isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        metadata.create_all(create_engine("sqlite://", creator=lambda: connection))
        tx: Transaction = SqliteTransaction(connection, None)  # type: ignore[arg-type]
        connection.execute("BEGIN")
        started = time.perf_counter()
        patient = _fill(tx, "A", RESULTS)
        for n in range(OTHERS):
            _fill(tx, f"B{n}", PER_OTHER)
        connection.execute("COMMIT")
        filed = RESULTS + OTHERS * PER_OTHER
        print(f"{filed:,} results filed, {filed / (time.perf_counter() - started):,.0f}/s")
        for name, params in (
            ("the commonest code", [("code", f"{LOINC}|{CODES[0]}")]),
            ("a usual code", [("code", f"{LOINC}|{CODES[5]}")]),
            ("a rare code", [("code", f"{LOINC}|{CODES[30]}")]),
            ("a code of any system", [("code", CODES[5])]),
            ("a code only among the oldest", [("code", f"{LOINC}|{OLD}")]),
            ("a code that is absent", [("code", f"{LOINC}|{CODES[55]}")]),
            ("a code before a date", [("code", f"{LOINC}|{CODES[5]}"), ("date", "lt2010-06-01")]),
            ("two codes", [("code", f"{LOINC}|{CODES[5]},{LOINC}|{CODES[6]}")]),
            ("a category", [("category", "laboratory")]),
        ):
            _measure(tx, name, [("patient", uid_text(patient)), *params, ("_sort", "-date")])


def _fill(tx: Transaction, number: str, results: int) -> int:
    """One patient with so many results; the patient's number."""
    identity = PatientIdentity((LocalIdentifier("urn:oid:1.2.250.1.999.1", number),), birth_name=f"BANC {number}")
    found = resolve(tx, identity, message_id=next(_numbers), next_id=lambda: next(_numbers), now_us=1).patient_id
    assert found is not None
    choose = random.Random(number)
    for first in range(0, results, PER_REPORT):
        codes = choose.choices(CODES, WEIGHTS, k=PER_REPORT) if first >= 100 else [OLD] * PER_REPORT
        told = tuple(_observation(number, first + n, code) for n, code in enumerate(codes))
        change = RecordChange("bench@1", identity, {"active": True}, resources=told)
        apply_all(tx, [Arrival(change, found, next(_numbers), "bench")], next_id=lambda: next(_numbers), now_us=1)
    return found


def _observation(patient: str, n: int, code: str) -> ResourceChange:
    body = {
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}, {"code": f"L{code}"}]},
        "category": [{"coding": [{"system": CATEGORY, "code": "laboratory"}]}],
        "effectiveDateTime": time.strftime("%Y-%m-%dT%H:%M:%S+01:00", time.gmtime(1_200_000_000 + n * 5_000)),
        "valueQuantity": {"value": n % 100, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"},
        "identifier": [{"system": "urn:bench", "value": f"{patient}-{n}"}],
        "basedOn": [{"type": "ServiceRequest", "identifier": {"system": "urn:bench", "value": f"{patient}-{n // PER_REPORT}"}}],
    }
    return ResourceChange("Observation", f"urn:bench|{patient}-{n}", body, "OBX", n + 1)


def _measure(tx: Transaction, name: str, params: list[tuple[str, str]]) -> None:
    took = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        page = queries.search(tx, "Observation", params, viewer=Viewer(role="professional"))
        took.append((time.perf_counter() - started) * 1000)
    took.sort()
    median, late = took[ROUNDS // 2], took[ROUNDS * 95 // 100]
    print(f"newest {len(page.entries):2} of {name:30} median {median:6.2f} ms   p95 {late:6.2f} ms")


if __name__ == "__main__":
    main()
