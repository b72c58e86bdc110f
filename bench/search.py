"""Searches of the patient record on both engines: the same rows, the same questions in the same order.

python -m bench.cluster search
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.synthetic import Traffic
from hub.formats.er7 import read
from hub.model.site import Site
from hub.record.apply import Arrival, apply_all
from hub.record.identity import resolve_all
from hub.record.masking import Viewer
from hub.record.queries import search
from hub.store.blobs import BlobFolder
from hub.store.place import OpenStore, Place, open_store, place_of
from hub.store.upgrade import upgrade
from mappings.registry import builtin

MESSAGES, PATIENTS, QUESTIONS, TOGETHER = 42_000, 3_000, 2_000, 50
Question = tuple[str, list[tuple[str, str]]]


def compare_engines(url: str) -> dict[str, Any]:
    """95th percentiles in milliseconds by kind of question, and their ratio. `url`: an empty PostgreSQL database."""
    with tempfile.TemporaryDirectory(prefix="vaguemestre-bench-") as folder:
        base = Path(folder)
        places = {"sqlite": place_of("", base=base, default=base / "hub.db"), "postgres": place_of(url, base=base, default=base)}
        return asyncio.run(_compare(places, base))


async def _compare(places: dict[str, Place], base: Path) -> dict[str, Any]:
    stores: dict[str, OpenStore] = {}
    for name, place in places.items():
        upgrade(place)
        stores[name] = open_store(place, BlobFolder(base / f"blobs-{name}"))
        stores[name].start()
    questions: list[Question] = []
    for name, store in stores.items():
        asked = await _fill(store)
        questions = questions or asked
        if name == "postgres":
            await asyncio.to_thread(_analyze, places[name])
    times: dict[str, dict[str, list[float]]] = {name: {} for name in stores}
    counts: dict[str, list[int]] = {name: [] for name in stores}
    for kind, params in [*questions[: QUESTIONS // 10], *questions]:  # the first tenth warms both up and is asked again
        label = f"{kind}?{'&'.join(key for key, _ in params)}"
        for name, store in stores.items():
            began = time.perf_counter()
            page = await store.read(lambda tx, k=kind, p=params: search(tx, k, p, viewer=Viewer(), count=20))
            times[name].setdefault(label, []).append((time.perf_counter() - began) * 1e3)
            counts[name].append(len(page.entries))
    for store in stores.values():
        await store.close()
    assert counts["sqlite"] == counts["postgres"], "the engines answer differently"
    report: dict[str, Any] = {"messages": MESSAGES, "patients": PATIENTS, "questions": QUESTIONS}
    for label in sorted(times["sqlite"]):
        report[label] = _beside(times["sqlite"][label], times["postgres"][label])
    report["all"] = _beside(*([t for one in times[name].values() for t in one] for name in ("sqlite", "postgres")))
    return report


def _beside(sqlite: list[float], postgres: list[float]) -> dict[str, float]:
    p95 = [sorted(one)[len(one) * 95 // 100] for one in (sqlite, postgres)]
    return {"sqlite p95 ms": round(p95[0], 2), "postgres p95 ms": round(p95[1], 2), "ratio": round(p95[1] / p95[0], 2)}


def _analyze(place: Place) -> None:
    import psycopg

    with psycopg.connect(place.conninfo, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


async def _fill(store: OpenStore) -> list[Question]:
    """File a mix of messages; questions about what was filed."""
    registry, site, chance = builtin(), Site(), random.Random(7)
    names: list[str] = []
    ipps: list[tuple[str, str]] = []
    group: list[tuple[int, Any]] = []
    for raw in _messages():
        message = read(raw)
        structure = registry.find(message)
        if structure is None:
            continue
        change = structure.translate(message, site)
        if change.identity is not None and len(ipps) < 4 * PATIENTS:
            ipps.append((change.identity.local[0].system, change.identity.local[0].value))
            names.append(change.identity.traits[0])
        group.append((store.next_id(), change))
        if len(group) == TOGETHER:
            await store.write(lambda tx, g=tuple(group): _file(tx, g, store))
            group.clear()
    numbers = await store.read(
        lambda tx: [row[0] for row in tx.rows("SELECT id FROM patient ORDER BY birth_name, id LIMIT 3000")]
    )
    from hub.model.uids import uid_text

    asked: list[Question] = []
    for _ in range(QUESTIONS // 5):
        system, value = chance.choice(ipps)
        token = f"{system}|{value}"
        asked += [
            ("Patient", [("identifier", token)]),
            ("Encounter", [("patient.identifier", token)]),
            ("DocumentReference", [("patient.identifier", token), ("date", "ge2026-01-01")]),
            ("Patient", [("family", chance.choice(names))]),
            ("DocumentReference", [("status", "current"), ("_lastUpdated", "ge2020-01-01")]),
        ]
    assert numbers and uid_text(numbers[0])
    return asked


def _file(tx: Any, group: tuple[tuple[int, Any], ...], store: OpenStore) -> None:
    known = [(number, change.identity) for number, change in group]
    matches = resolve_all(tx, known, next_id=store.next_id, now_us=store.now_us())
    arrivals = [
        Arrival(change, match.patient_id, number, "bench") for (number, change), match in zip(group, matches, strict=True)
    ]
    apply_all(tx, arrivals, next_id=store.next_id, now_us=store.now_us())


def _messages() -> Iterator[bytes]:
    connections = 10
    traffic = Traffic(run="SEARCH", kind="mix", patients=PATIENTS // connections)
    for number in range(MESSAGES // connections):
        for connection in range(connections):
            yield traffic.message(connection, number)
