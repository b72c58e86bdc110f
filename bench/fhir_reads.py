"""How fast a professional's software reads a large record over HTTP: `python -m bench.fhir_reads`.

A SQLite record is filled through the store as messages fill it, a report of twenty results at a time. One patient has
`--patient` results, which lie scattered among those of the others. Then a hub is started on it and asked one request at a time,
with and without the file in the memory of the operating system.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.running import ROOT, free_ports, wait_for_port
from hub.model.identifiers import LocalIdentifier
from hub.model.identity import PatientIdentity
from hub.model.record_change import RecordChange, ResourceChange
from hub.model.uids import uid_text
from hub.record.apply import Arrival, apply_all
from hub.record.identity import resolve_all
from hub.store import Transaction
from hub.store.blobs import BlobFolder
from hub.store.place import OpenStore, open_store, place_of
from hub.store.upgrade import upgrade
from hub.web import tokens
from hub.web.tokens import Role

PER_REPORT, PER_OTHER, GROUP, ROUNDS, COLD_ROUNDS = 20, 1_000, 256, 300, 60
LOINC = "http://loinc.org"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
CODES = [f"{1000 + n}-{n % 10}" for n in range(60)]
WEIGHTS = [100 if n < 10 else 10 for n in range(60)]
BIG = "A"
CONFIG = """
[hub]
data_dir = "data"
environment = "test"
[web]
listen = "127.0.0.1:{web}"
"""


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    asked.add_argument("--observations", type=int, default=200_000)
    asked.add_argument("--patient", type=int, default=50_000)
    wanted = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="vaguemestre-bench-") as folder:
        base = Path(folder)
        (base / "data").mkdir()
        database = base / "data" / "vaguemestre.db"
        patient, token = asyncio.run(_filled(base, database, wanted.observations, wanted.patient))
        print(f"file {database.stat().st_size / 1e9:.2f} GB", flush=True)
        _measure(base, database, patient, token)


# ---- the record ----


async def _filled(base: Path, database: Path, observations: int, of_one: int) -> tuple[str, str]:
    """The logical id of the patient with `of_one` results, and a token to read."""
    place = place_of("", base=base, default=database)
    upgrade(place)
    store = open_store(place, BlobFolder(base / "data" / "blobs"))
    store.start()
    file = store.bulk(_filing(store), at_most=GROUP)
    began = time.perf_counter()
    waiting: set[asyncio.Future[Any]] = set()
    told = 0
    for report in _reports(observations, of_one):
        waiting.add(asyncio.ensure_future(_filed(file, report)))
        told += PER_REPORT
        if len(waiting) > 2 * GROUP:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if told % 500_000 == 0:
            print(f"{told:,} results, {told / (time.perf_counter() - began):,.0f}/s", flush=True)
    await asyncio.gather(*waiting)
    print(f"{told:,} results filed, {told / (time.perf_counter() - began):,.0f}/s", flush=True)
    rows = await store.read(lambda tx: tx.rows("SELECT count(*) FROM token_index"))
    print(f"{rows[0][0] / told:.1f} search rows for each", flush=True)
    found = await store.read(lambda tx: tx.row("SELECT patient_id FROM patient_identifier WHERE value = ?", BIG))
    token = await store.write(
        lambda tx: tokens.create(tx, name="bench", role=Role.PROFESSIONAL, next_id=store.next_id, now_us=store.now_us())
    )
    await store.close()
    assert found is not None
    return uid_text(found[0]), token


async def _filed(file: Any, report: tuple[str, int]) -> None:
    await file(report)


def _reports(observations: int, of_one: int) -> Iterator[tuple[str, int]]:
    """Whose report, and its number: those of the one patient lie among the others' from the beginning to the end."""
    reports, ours = observations // PER_REPORT, of_one // PER_REPORT
    others = max(1, (observations - of_one) // PER_OTHER)
    for n in range(reports):
        mine = (n + 1) * ours // reports > n * ours // reports
        yield (BIG if mine else f"B{n % others}"), n


def _filing(store: OpenStore) -> Callable[[Transaction, Sequence[tuple[str, int]]], list[None]]:
    def job(tx: Transaction, reports: Sequence[tuple[str, int]]) -> list[None]:
        numbers = [store.next_id() for _ in reports]
        people = [_identity(who) for who, _ in reports]
        matches = resolve_all(tx, list(zip(numbers, people, strict=True)), next_id=store.next_id, now_us=store.now_us())
        arrivals = [
            Arrival(RecordChange("bench@1", person, None, resources=_results(who, n)), match.patient_id, number, "bench")
            for (who, n), person, match, number in zip(reports, people, matches, numbers, strict=True)
        ]
        apply_all(tx, arrivals, next_id=store.next_id, now_us=store.now_us())
        return [None] * len(reports)

    return job


def _identity(who: str) -> PatientIdentity:
    return PatientIdentity((LocalIdentifier("urn:oid:1.2.250.1.999.1", who),), birth_name=f"BANC {who}")


def _results(who: str, report: int) -> tuple[ResourceChange, ...]:
    choose = random.Random(report)
    codes = choose.choices(CODES, WEIGHTS, k=PER_REPORT)
    taken = time.strftime("%Y-%m-%dT%H:%M:%S+01:00", time.gmtime(1_200_000_000 + report * 2_000))
    found = []
    for n, code in enumerate(codes):
        number = f"{report}-{n}"
        body = {
            "status": "final",
            "code": {"coding": [{"system": LOINC, "code": code, "display": "Dosage"}]},
            "category": [{"coding": [{"system": CATEGORY, "code": "laboratory"}]}],
            "effectiveDateTime": taken,
            "valueQuantity": {
                "value": choose.randint(1, 200),
                "unit": "mmol/L",
                "system": "http://unitsofmeasure.org",
                "code": "mmol/L",
            },
            "interpretation": [{"coding": [{"system": "urn:oid:2.16.840.1.113883.5.83", "code": "N"}]}],
            "referenceRange": [{"low": {"value": 4, "unit": "mmol/L"}, "high": {"value": 9, "unit": "mmol/L"}}],
            "identifier": [{"system": "urn:bench", "value": number}],
        }
        found.append(ResourceChange("Observation", f"urn:bench|{number}", body, f"entry[{n + 1}]"))
    return tuple(found)


# ---- the questions ----


class Client:
    """One connection to the hub."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers = {"Authorization": f"Bearer {token}"}

    def ask(self, path: str) -> tuple[float, float, bytes]:
        """Milliseconds until the first byte of the body and until the last, and the body."""
        began = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        response = self._connection.getresponse()
        first = response.read(1)
        at_first = (time.perf_counter() - began) * 1e3
        body = first + response.read()
        if response.status != 200 or b'"entry":[' not in body:
            raise RuntimeError(f"{response.status}, {len(body)} bytes")
        return at_first, (time.perf_counter() - began) * 1e3, body


def _measure(base: Path, database: Path, patient: str, token: str) -> None:
    (port,) = free_ports(1)
    config = base / "hub.toml"
    config.write_text(CONFIG.format(web=port))
    with (base / "log").open("wb") as log:
        hub = subprocess.Popen(
            [sys.executable, "-m", "hub.app.cli", "run", "--config", str(config)], stdout=log, stderr=log, cwd=ROOT
        )
    try:
        wait_for_port(port, hub)
        client = Client(port, token)
        choose = random.Random(1)

        def trend() -> str:
            code = choose.choice(CODES)
            return f"/fhir/Observation?patient={patient}&code={LOINC}|{code}&_sort=-date&_count=20"

        _told("trend, cold", [_cold(client, database, trend()) for _ in range(COLD_ROUNDS)])
        for name, path in (
            ("trend, warm", trend),
            ("category and date, warm", lambda: f"/fhir/Observation?patient={patient}&category=laboratory&_sort=-date&_count=20"),
            ("abnormal, warm", lambda: f"/fhir/Observation?patient={patient}&interpretation=N&_count=20"),
            ("$lastn, warm", lambda: f"/fhir/Observation/$lastn?patient={patient}"),
            ("$lastn of a category, warm", lambda: f"/fhir/Observation/$lastn?patient={patient}&category=laboratory"),
        ):
            for _ in range(20):
                client.ask(path())
            _told(name, [client.ask(path())[1] for _ in range(ROUNDS)])
        _told("$lastn, cold", [_cold(client, database, f"/fhir/Observation/$lastn?patient={patient}") for _ in range(10)])
        _told("$summary, warm", [client.ask(f"/fhir/Patient/{patient}/$summary")[1] for _ in range(20)])
        _everything(client, hub.pid, f"/fhir/Patient/{patient}/$everything")
    finally:
        hub.terminate()
        hub.wait(30)


def _everything(client: Client, pid: int, path: str) -> None:
    before = _rss_mb(pid)
    took = [client.ask(path) for _ in range(3)]
    first, last = sorted(one[0] for one in took), min(one[1] for one in took)
    entries = len(json.loads(took[0][2])["entry"])
    print(
        f"$everything: first byte {first[1]:.1f} ms (worst {first[-1]:.1f}), {entries:,} resources in {last / 1e3:.1f} s,"
        f" {len(took[0][2]) / 1e6:.0f} MB, memory of the hub {before:.0f} -> {_rss_mb(pid):.0f} MB",
        flush=True,
    )


def _cold(client: Client, database: Path, path: str) -> float:
    """After the operating system forgot the file."""
    for file in (database, database.with_name(database.name + "-wal")):
        if file.exists():
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    return client.ask(path)[1]


def _told(name: str, took: Sequence[float]) -> None:
    ordered = sorted(took)
    p95 = ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]
    print(f"{name:28} p50 {ordered[len(ordered) // 2]:7.2f} ms   p95 {p95:7.2f} ms", flush=True)


def _rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
