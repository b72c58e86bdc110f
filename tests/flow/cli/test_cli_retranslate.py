"""`vaguemestre retranslate`: documents read by an older translation are read again, beside the hub and after a stop."""

from __future__ import annotations

from bench.synthetic import Traffic

REPORTS = Traffic("lab", run="R", patients=3, size=2_000, results=2)
FACTS = "SELECT type, key, status, body FROM resource WHERE type IN ('Observation', 'DiagnosticReport') ORDER BY type, key"


def forget(one, documents: int) -> None:
    """As an older version left it: some documents never read, a fact of another that this version does not say any more."""
    for (document,) in one.sql("SELECT document_id FROM translated ORDER BY document_id LIMIT ?", documents):
        one.sql("UPDATE translated SET mapping = 'cda@0' WHERE document_id = ? RETURNING 1", document)
        (fact,) = one.sql("SELECT min(resource_id) FROM derivation WHERE document_id = ?", document)[0]
        for table, column in (("resource", "id"), ("derivation", "resource_id"), ("provenance", "resource_id")):
            one.sql(f"DELETE FROM {table} WHERE {column} = ? RETURNING 1", fact)


def test_what_an_older_version_read_becomes_what_this_one_says(either):
    one = either
    one.configure(routes='["record"]')
    one.start()
    files = []
    for n in range(3):
        files.append(one.folder / f"{n}.hl7")
        files[-1].write_bytes(REPORTS.message(0, n))
    one.send(*files)
    one.settled(3)
    before = one.sql(FACTS)
    assert len(before) == 9
    assert one.json("retranslate", "--dry-run") == {"mapping": "cda@1", "waiting": 0}
    forget(one, 2)
    assert one.json("retranslate", "--dry-run", "--type", "11502-2")["waiting"] == 2
    assert one.json("retranslate", "--dry-run", "--type", "18748-4")["waiting"] == 0
    done = one.json("retranslate")  # beside the running hub
    assert (done["documents"], done["created"], done["updated"], done["failed"]) == (2, 2, 0, 0)
    assert one.sql(FACTS) == before
    assert one.json("retranslate")["documents"] == 0
    one.stop()
    forget(one, 1)
    assert one.cli("retranslate").stdout.startswith("1 document read again by cda@1; facts: 1 new")
    assert one.sql(FACTS) == before
    assert one.whole_chain()
