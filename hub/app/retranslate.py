"""`vaguemestre retranslate`: documents that an older translation read are read again by workers, one transaction each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hub.app.beside import audit, opened
from hub.app.config import Installation
from hub.app.mapping_worker import ReadAgain
from hub.app.progress import Bar
from hub.app.terminal import counted, failed, print_json, remark
from hub.flow.workshop import Bench, Limits, Workshop
from hub.ledger.messages import add_findings, body_of
from hub.model.refusals import HubError
from hub.record import retranslation
from hub.record.retranslation import Due, Refiled
from hub.store import BlobDamaged, Transaction
from hub.store.place import CommandStore
from mappings.cda.translate import MAPPING, CdaFacts

AT_ONCE = 20  # documents read from the store in one go


@dataclass(slots=True)
class Totals:
    """What was done."""

    documents: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: int = 0


def retranslate_documents(installation: Installation, *, dry_run: bool, kind: str, as_json: bool) -> int:
    """Say how many documents wait, and read them again unless `dry_run`. 1 when some could not be read."""
    try:
        with opened(installation, read_only=dry_run) as store:
            waiting = store.read(lambda tx: retranslation.count_due(tx, MAPPING, kind))
            if dry_run:
                if as_json:
                    print_json({"mapping": MAPPING, "waiting": waiting})
                else:
                    print(f"{counted(waiting, 'document')} would be read again by {MAPPING}.")
                return 0
            totals = asyncio.run(_all(store, installation, kind, waiting))
            store.write(lambda tx: audit(tx, store, "retranslate", "record", documents=totals.documents, created=totals.created))
    except HubError as error:
        return failed(error)
    if as_json:
        print_json(
            {
                "mapping": MAPPING,
                "documents": totals.documents,
                "created": totals.created,
                "updated": totals.updated,
                "unchanged": totals.unchanged,
                "failed": totals.failed,
            }
        )
    else:
        said = f"facts: {totals.created} new, {totals.updated} changed, {totals.unchanged} as they were"
        print(f"{counted(totals.documents, 'document')} read again by {MAPPING}; {said}.")
    if totals.failed:
        remark(f"{counted(totals.failed, 'document')} could not be read again and stay as they were")
    return 1 if totals.failed else 0


async def _all(store: CommandStore, installation: Installation, kind: str, waiting: int) -> Totals:
    section = installation.configuration.mappings
    limits = Limits(section.workers, section.time_s, section.memory_mb)
    workshop = Workshop(Bench("hub.app.mapping_worker:build_reader"), limits)
    totals, after = Totals(), 0
    try:
        with Bar("reading") as bar:
            while True:
                numbers = store.read(lambda tx, after=after: retranslation.next_due(tx, MAPPING, after, AT_ONCE, kind))  # type: ignore[misc]
                if not numbers:
                    return totals
                reading = [_one(store, installation, workshop, number) for number in numbers]
                for at in range(0, len(reading), section.workers):
                    for done in await asyncio.gather(*reading[at : at + section.workers]):
                        _count(totals, done)
                    bar.show("documents", totals.documents + totals.failed, waiting)
                after = numbers[-1]
    finally:
        workshop.close()


async def _one(store: CommandStore, installation: Installation, workshop: Workshop, number: int) -> Refiled | None:
    """One document; None when it could not be read."""
    try:
        due = store.read(lambda tx: retranslation.document_to_read(tx, number, lambda message: bytes(body_of(tx, message))))
        if due is None:
            return Refiled()
        task = ReadAgain(due.xml, installation.site, due.event_time, due.outer)
        facts: CdaFacts = await workshop.do(task)
    except (BlobDamaged, KeyError):
        return None
    except HubError as error:
        if error.code not in {"Unreadable", "TranslationFailed"}:
            raise
        return None
    return store.write(lambda tx: _refiled(tx, store, due, facts))


def _refiled(tx: Transaction, store: CommandStore, due: Due, facts: CdaFacts) -> Refiled:
    done = retranslation.refile(tx, due, facts.facts, facts.findings, MAPPING, next_id=store.next_id, now_us=store.now_us())
    add_findings(tx, due.message_id, facts.findings, instead_of="/ClinicalDocument")
    return done or Refiled()


def _count(totals: Totals, done: Refiled | None) -> None:
    if done is None:
        totals.failed += 1
        return
    totals.documents += 1
    totals.created += done.created
    totals.updated += done.updated
    totals.unchanged += done.unchanged
