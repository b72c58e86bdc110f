"""Fill a database with messages as if a hub had kept, routed and delivered them long ago."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
import time
from pathlib import Path

from hub.model.uids import UidMaker

GROUP = 5_000


def fill(database: Path, messages: int, *, patients: int = 100_000) -> None:
    """Add `messages` DONE messages of about 1 KB with their dedupe keys, deliveries and Encounters, over the month before now."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-400000")
    now_ms = time.time_ns() // 1_000_000
    began = now_ms - 30 * 86_400_000
    clock = [began]
    uids = UidMaker(lambda: clock[0], edge=30)
    body, encounter = (
        b"MSH|" + b"x" * 1000,
        b'{"status":"finished","class":{"code":"IMP"},"identifier":[{"value":"x"}],"pad":"' + b"x" * 600 + b'"}',
    )
    people = [uids.next() for _ in range(patients)]
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT OR IGNORE INTO patient VALUES (?,?,?,?,?,?)",
        [(p, f"ESSAI{n}", "19800101", "F", "PROV", 0) for n, p in enumerate(people)],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO patient_identifier VALUES ('urn:oid:1.2.250.1.999.7',?,'PI',?,0)",
        [(f"F{n}", p) for n, p in enumerate(people)],
    )
    connection.execute("COMMIT")
    for start in range(0, messages, GROUP):
        rows = []
        for n in range(start, min(start + GROUP, messages)):
            clock[0] = began + (now_ms - began) * n // messages
            rows.append(
                (
                    n,
                    uids.next(),
                    uids.next(),
                    uids.next(),
                    hashlib.sha256(b"%d" % n).digest(),
                    people[n * 7919 % patients],
                    clock[0] * 1000,
                )
            )
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO message (id, source, connection, format, type, control_id, sending_app, charset, size, sha256, in_file, received_at, state, "
            "ack_code, ack_state, patient_id, routed_at) VALUES (?,'record','1','hl7v2-er7','ADT^A01',?,'FILL','utf-8',1004,?,0,?,'DONE','AA','SENT',?,?)",
            [(m, f"FILLC1S{n:08}", sha, at, p, at) for n, m, _, _, sha, p, at in rows],
        )
        connection.executemany("INSERT INTO body VALUES (?,?)", [(m, body) for _, m, *_ in rows])
        connection.executemany(
            "INSERT INTO dedupe VALUES ('record',?,?,?,?)", [(f"FILLC1S{n:08}", sha, m, at) for n, m, _, _, sha, _, at in rows]
        )
        connection.executemany(
            "INSERT INTO delivery (id, message_id, destination, mapping, replay, lane, state, attempts, updated_at) VALUES (?,?,'record','',0,?,'DELIVERED',1,?)",
            [(d, m, f"record/p{p}", at) for _, m, d, _, _, p, at in rows],
        )
        connection.executemany(
            "INSERT INTO resource (id, type, key, version, patient_id, sort_date, status, mask, event_time, updated_at, body) "
            "VALUES (?,'Encounter',?,1,?,'2026-10-30','finished',0,?,?,?)",
            [(r, f"urn:oid:1.2.250.1.999.8|V{n}", p, at, at, encounter) for n, _, _, r, _, p, at in rows],
        )
        connection.executemany(
            "INSERT INTO token_index (param, value, system, resource_id) VALUES ('Encounter.identifier',?,'urn:oid:1.2.250.1.999.8',?)",
            [(f"V{n}", r) for n, _, _, r, *_ in rows],
        )
        connection.executemany(
            "INSERT INTO provenance (resource_id, version, message_id, path, mapping, source) VALUES (?,1,?,'PV1','adt@1','record')",
            [(r, m) for _, m, _, r, *_ in rows],
        )
        connection.execute("COMMIT")
        if start // GROUP % 20 == 0:
            print(f"\r  {start:,} of {messages:,}", end="", file=sys.stderr, flush=True)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    os.sync()  # what follows must not pay for writing this back
    print(file=sys.stderr)
