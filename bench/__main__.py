"""Speed and size of a hub on this machine, beside a peer in the same run.

    python -m bench                    acks, record, through, both, documents, facts, latency, size, start (about six minutes)
    python -m bench acks both          only these
    python -m bench flat --messages 100000         memory while so many documents with their facts go into the record
    python -m bench growth --messages 2000000      the same figures on a hub that already holds two million messages

Figures depend on the machine and on who shares it: compare ratios, and read them beside the measured fdatasync.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.fill import fill
from bench.running import ROOT, HubProcess, fdatasync_ms, hub, load, peer, sink
from bench.sender import Load, send
from bench.sink import Sink
from bench.synthetic import Traffic

Report = dict[str, Any]


def acks() -> Report:
    """Durable acknowledgements: on disk before the answer, 1 KB ADT; beside python-hl7's server, which keeps nothing."""
    report: Report = {}
    with peer() as port:
        for c, n in ((1, 2_000), (16, 8_000), (64, 8_000)):
            report[f"peer {c}"] = load(port, c, n)["per_s"]
    with hub() as h:
        load(h.ports["keep"], 16, 4_000)
        for c, n in ((1, 4_000), (8, 16_000), (16, 24_000), (64, 24_000)):
            h.settled()
            got = load(h.ports["keep"], c, n)
            report[f"hub {c}"] = {k: got[k] for k in ("per_s", "p50_ms", "p99_ms")}
    for c in (16, 64):
        report[f"ratio {c}"] = round(report[f"hub {c}"]["per_s"] / report[f"peer {c}"], 1)
    return report


def latency() -> Report:
    """Open loop: acknowledgements at 500 msg/s with the record written; from due time to another application at 200 msg/s."""
    with hub() as h:
        load(h.ports["record"], 8, 400)
        h.settled()
        got = load(h.ports["record"], 8, 7_500, "--rate", "500")
        report: Report = {"acks at 500/s, record written": {k: got[k] for k in ("per_s", "p50_ms", "p99_ms")}}
        report["end to end at 200/s, record written"] = asyncio.run(_paced(h, 3_000, 200.0))
    return report


async def _paced(h: HubProcess, messages: int, rate: float) -> Report:
    """Sender and receiver in this process, so that one clock measures both."""
    receiver = Sink()
    await receiver.start(port=h.ports["out"])
    await asyncio.sleep(0.6)
    connections = 8
    sent = await send(Load("127.0.0.1", h.ports["both"], Traffic(run="LAT"), connections, messages // connections, rate=rate))
    while len(receiver.journal) < messages:
        await asyncio.sleep(0.05)
    await receiver.stop()
    late = []
    for got in receiver.journal:
        connection, _, number = got.control_id.rpartition("C")[2].partition("S")
        late.append((got.at - sent.began_at - (int(number) * connections + int(connection)) / rate) * 1e3)
    late.sort()
    return {
        "p50_ms": round(late[len(late) // 2], 2),
        "p99_ms": round(late[len(late) * 99 // 100], 2),
        "max_ms": round(late[-1], 1),
    }


def record() -> Report:
    """Acknowledgements while the record is written, and how fast the record follows."""
    with hub() as h:
        load(h.ports["record"], 16, 2_000)
        h.settled()
        began, cpu = time.perf_counter(), h.cpu_s()
        got = load(h.ports["record"], 16, 16_000, "--patients", "300")
        h.settled()
        seconds = time.perf_counter() - began
        return {
            "acks": {k: got[k] for k in ("per_s", "p50_ms", "p99_ms")},
            "messages in the record per s": round(16_000 / seconds),
            "cpu ms a message": round((h.cpu_s() - cpu) / 16, 3),
        }


def through() -> Report:
    """MLLP in, MLLP out: kept, routed, delivered, marked."""
    return {f"{c} connections": _end_to_end("through", c, 3_000 if c == 1 else 16_000) for c in (1, 8)}


def both() -> Report:
    """The same with the record written too."""
    return {"8 connections": _end_to_end("both", 8, 12_000)}


def _end_to_end(source: str, connections: int, n: int) -> Report:
    n -= n % connections
    with hub() as h:
        with sink(h.ports["out"], 800):
            load(h.ports[source], 8, 800)
        h.settled()
        with sink(h.ports["out"], n) as result:
            time.sleep(0.6)  # the breaker finds the receiver
            began, cpu = time.perf_counter(), h.cpu_s()
            got = load(h.ports[source], connections, n, "--patients", "300")
            h.settled()
            seconds = time.perf_counter() - began
        return {
            "end to end per s": round(n / seconds),
            "acks per s": got["per_s"],
            "arrived": result[0]["arrived"],
            "repeats": result[0]["repeats"],
            "cpu ms a message": round((h.cpu_s() - cpu) / n * 1e3, 3),
        }


def documents() -> Report:
    """300 KB MDM, acknowledged; CDA of 130 KB (header read) into the record."""
    with hub() as h:
        large = load(h.ports["keep"], 8, 1_600, "--kind", "mdm", "--size", "225000")
        h.settled()
        began = time.perf_counter()
        cda = load(h.ports["record"], 8, 1_600, "--kind", "cda", "--size", "72000")
        h.settled()
        return {
            "300 KB mdm acks": {k: large[k] for k in ("per_s", "p50_ms", "p99_ms")},
            "130 KB cda acks": {k: cda[k] for k in ("per_s", "p50_ms", "p99_ms")},
            "130 KB cda in the record per s": round(1_600 / (time.perf_counter() - began)),
        }


REPORTS = {2: (85_000, 1_200), 14: (90_000, 800), 44: (100_000, 400)}  # results → bytes of the PDF, how many are sent


def facts() -> Report:
    """Laboratory reports of 2, 14, 44 results: translation alone, and from bytes to the committed record with every fact."""
    report: Report = {}
    for results, (pdf, n) in REPORTS.items():
        report[f"translation alone, {results} results"] = _translated(results, pdf)
        with hub() as h:
            load(h.ports["record"], 4, 40, "--kind", "lab", "--size", str(pdf), "--results", str(results), "--run", "WARM")
            h.settled()
            cpu, before = h.cpu_with_workers_s(), h.count("SELECT max(id) FROM message")
            load(h.ports["record"], 8, n, "--kind", "lab", "--size", str(pdf), "--results", str(results), "--patients", "60")
            h.settled()
            first = h.count(f"SELECT min(received_at) FROM message WHERE id > {before}")
            acked = h.count("SELECT max(received_at) FROM message")
            seconds = (h.count("SELECT max(updated_at) FROM resource") - first) / 1e6
            filed = h.count("SELECT count(*) FROM derivation")
            report[f"reports of {results} results"] = {
                "in the record per s": round(n / seconds, 1),
                "facts per s": round(filed * n / (n + 40) / seconds),
                "acknowledged in s": round((acked - first) / 1e6, 1),
                "cpu ms a report, all processes": round((h.cpu_with_workers_s() - cpu) / n * 1e3, 2),
                "rss MB": round(h.rss_mb()),
            }
    return report


def flat(messages: int = 100_000) -> Report:
    """Memory of the process and of its worker while laboratory reports of 14 results (PDF of 2 KB) go into the record."""
    report: Report = {}
    with hub() as h:
        step = messages // 10
        for n in range(10):
            more = ("--kind", "lab", "--size", "2000", "--results", "14", "--patients", "300", "--run", f"F{n}")
            began = time.perf_counter()
            load(h.ports["record"], 8, step, *more)
            h.settled()
            report[f"after {(n + 1) * step}"] = {
                "rss MB": round(h.rss_mb()),
                "of workers MB": [round(h.rss_mb(pid)) for pid in h.workers()],
                "reports per s": round(step / (time.perf_counter() - began)),
            }
            print(json.dumps(report[f"after {(n + 1) * step}"]), file=sys.stderr, flush=True)
        report["facts"] = h.count("SELECT count(*) FROM derivation")
        report["database MB"] = round(h.database.stat().st_size / 1e6)
    return report


def _translated(results: int, pdf: int) -> Report:
    import base64
    from zoneinfo import ZoneInfo

    from mappings.cda.translate import translate_cda
    from mappings.hl7v2.ucum import Units
    from mappings.registry import packaged_table
    from mappings.tables import load as table

    units, zone = Units(table(packaged_table("ucum_units"))), ZoneInfo("Europe/Paris")
    raw = Traffic("lab", size=pdf, results=results).message(0, 0)
    xml = base64.b64decode(raw.partition(b"^XML^Base64^")[2].partition(b"||")[0])
    took, made = [], 0
    for _ in range(60):
        began = time.perf_counter()
        made = len(translate_cda(xml, tz=zone, units=units).facts)
        took.append((time.perf_counter() - began) * 1e3)
    took.sort()
    return {"KB": round(len(xml) / 1e3), "facts": made, "median ms": round(took[30], 2), "p95 ms": round(took[57], 2)}


def size() -> Report:
    """Memory after 100,000 messages, and bytes that an ADT leaves in the record."""
    import sqlite3

    with hub() as h:
        empty = h.rss_mb()
        load(h.ports["record"], 32, 100_000, "--patients", "300")
        h.settled()
        rss = h.rss_mb()
        h.stop()
        connection = sqlite3.connect(h.database)
        tables = ("resource", "resource_version", "token_index", "provenance", "patient", "patient_identifier")
        names = [
            name
            for (name,) in connection.execute(
                f"SELECT name FROM sqlite_master WHERE tbl_name IN ({','.join('?' * len(tables))})", tables
            )
        ]
        try:
            (kept,) = connection.execute(
                f"SELECT sum(pgsize) FROM dbstat WHERE name IN ({','.join('?' * len(names))})", names
            ).fetchone()
        except sqlite3.OperationalError:  # no dbstat in this SQLite
            kept = 0
        return {"rss MB at start": round(empty), "rss MB after 100,000": round(rss), "record bytes an ADT": round(kept / 100_000)}


def start() -> Report:
    """Seconds until it listens, until it is ready, and of `--help`."""
    with hub() as h:
        first = {"listens": round(h.listens_s, 2), "ready": round(h.ready_s, 2)}
        h.again()
        second = {"listens": round(h.listens_s, 2), "ready": round(h.ready_s, 2)}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "hub.app.cli", "--help"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return {"new folder s": first, "again s": second, "--help s": round(time.perf_counter() - began, 2)}


def growth(messages: int = 2_000_000) -> Report:
    """Throughput and the first page of the list, empty and with many messages kept; start and memory with them."""
    with hub() as h:
        empty = _probe(h)
        h.stop()
        began = time.perf_counter()
        fill(h.database, messages)
        filled = time.perf_counter() - began
        h.again()
        report = {
            "filled": messages,
            "filling s": round(filled),
            "database MB": round(h.database.stat().st_size / 1e6),
            "start s": {"listens": round(h.listens_s, 2), "ready": round(h.ready_s, 2)},
        }
        full = _probe(h)
        report["rss MB"] = round(h.rss_mb())
    for name, before in empty.items():
        report[name] = {"empty": before, "full": full[name], "ratio": round(full[name] / before, 2) if before else None}
    return report


def _probe(h: HubProcess) -> dict[str, float]:
    load(h.ports["record"], 16, 4_000)
    h.settled()
    acked = load(h.ports["keep"], 16, 16_000)["per_s"]
    h.settled()
    began = time.perf_counter()
    load(h.ports["record"], 16, 8_000, "--patients", "200")
    h.settled()
    through_record = 8_000 / (time.perf_counter() - began)
    return {"acks per s, 16 connections": acked, "record per s": round(through_record), "first page ms": _first_page_ms(h)}


def _first_page_ms(h: HubProcess) -> float:
    import sqlite3

    from hub.ledger.queries import MessageFilter, find_messages
    from hub.store.blobs import BlobFolder
    from hub.store.sqlite_transaction import SqliteTransaction

    connection = sqlite3.connect(f"file:{h.database}?mode=ro", uri=True)
    tx = SqliteTransaction(connection, BlobFolder(h.folder / "blobs"))
    times = []
    for _ in range(50):
        began = time.perf_counter()
        find_messages(tx, MessageFilter(limit=50))
        times.append(time.perf_counter() - began)
    connection.close()
    return round(sorted(times)[25] * 1e3, 2)


ORDINARY: dict[str, Callable[[], Report]] = {
    f.__name__: f for f in (acks, latency, record, through, both, documents, facts, size, start)
}


LARGE: dict[str, Callable[..., Report]] = {"flat": flat, "growth": growth}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", help=f"{', '.join(ORDINARY)}, flat, growth")
    parser.add_argument("--messages", type=int, default=0, help="for flat (100,000) and growth (2,000,000)")
    options = parser.parse_args()
    wanted = options.what or list(ORDINARY)
    unknown = [name for name in wanted if name not in ORDINARY and name not in LARGE]
    if unknown:
        parser.error(f"no such measurement: {', '.join(unknown)}")
    results: Report = {"cores": os.cpu_count(), "load before": os.getloadavg()[0], "fdatasync ms": fdatasync_ms()}
    print(json.dumps(results))
    for name in wanted:
        print(f"{name} …", file=sys.stderr, flush=True)
        many = (options.messages,) if options.messages else ()
        results[name] = LARGE[name](*many) if name in LARGE else ORDINARY[name]()
        print(json.dumps({name: results[name]}, ensure_ascii=False, indent=1), flush=True)
    results["fdatasync ms after"] = fdatasync_ms()
    out = Path(__file__).parent / "out"
    out.mkdir(exist_ok=True)
    (out / f"{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
