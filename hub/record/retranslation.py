"""Documents whose content was read by an older translation, or never, and their facts filed anew.

Which they are is told by the table `translated`, so whoever stops in the middle goes on with what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hub.model.record_change import ContentRange, DocumentAction, DocumentChange, ResourceChange
from hub.model.refusals import Finding
from hub.record.binaries import content_of, filed_bytes
from hub.record.facts import CURRENT, FactFiler, unread
from hub.record.filing import Filing
from hub.record.kept_documents import CDA_TYPES
from hub.record.rendering import number_of
from hub.store import Transaction

_OF_TYPE = (
    " AND EXISTS (SELECT 1 FROM token_index k WHERE k.param = 'DocumentReference.type' AND k.value = ? AND k.resource_id = r.id)"
)
_DUE = (
    "FROM resource r LEFT JOIN translated t ON t.document_id = r.id WHERE r.type = 'DocumentReference' AND r.id > ?"
    " AND r.status = 'current' AND (t.mapping IS NULL OR t.mapping <> ?) AND EXISTS (SELECT 1 FROM binary_content b"
    " WHERE b.resource_id = r.id AND b.content_type IN (?, ?, ?) AND b.encoding NOT LIKE '%>%')"
)


@dataclass(frozen=True, slots=True)
class Due:
    """A document to read again. `outer` is where its bytes stand in the message `message_id`; None when that was pruned."""

    document_id: int
    message_id: int
    event_time: int
    outer: ContentRange | None
    xml: bytes


@dataclass(frozen=True, slots=True)
class Refiled:
    """How many facts were filed, changed and left alone; None of it when the document was replaced meanwhile."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0


def count_due(tx: Transaction, mapping: str, kind: str = "") -> int:
    """How many documents wait; of one type code when `kind` names it."""
    row = tx.row(f"SELECT count(*) {_DUE}{_OF_TYPE if kind else ''}", 0, mapping, *CDA_TYPES, *([kind] if kind else []))
    return int(row[0]) if row is not None else 0


def next_due(tx: Transaction, mapping: str, after: int, limit: int, kind: str = "") -> list[int]:
    """The numbers of the next documents, in the order of their numbers."""
    sql = f"SELECT r.id {_DUE}{_OF_TYPE if kind else ''} ORDER BY r.id LIMIT ?"
    return [number for (number,) in tx.rows(sql, after, mapping, *CDA_TYPES, *([kind] if kind else []), limit)]


def document_to_read(tx: Transaction, number: int, body_of: Callable[[int], bytes]) -> Due | None:
    """A document with its bytes; None when it is not current any more, or holds none.

    Raises:
        BlobDamaged. KeyError: its message is not there.
    """
    stored = next(iter(Filing(tx, lambda: 0, 0).by_id([number])), None)
    if stored is None or stored.status != CURRENT:
        return None
    url = str(stored.json["content"][0]["attachment"].get("url", ""))
    binary = number_of(url.removeprefix("Binary/"))
    row = tx.row(
        'SELECT message_id, "offset", length, encoding, content_type, size, sha1,'
        " promoted IS NOT NULL OR promoted_blob IS NOT NULL FROM binary_content WHERE id = ?",
        binary,
    )
    if row is None or binary is None:
        return None
    xml = filed_bytes(tx, binary, body_of)
    return Due(number, row[0], stored.event_time, None if row[7] else content_of(row[1:7]), xml)


def refile(
    tx: Transaction,
    due: Due,
    facts: Sequence[ResourceChange],
    findings: Sequence[Finding],
    mapping: str,
    *,
    next_id: Callable[[], int],
    now_us: int,
) -> Refiled | None:
    """Make the facts of a document what its content says by `mapping`; None when it is not current any more."""
    filing = Filing(tx, next_id, now_us)
    owner = tx.row("SELECT patient_id FROM resource WHERE id = ?", due.document_id)
    if tx.locked and owner is not None:
        tx.rows(f"SELECT id FROM patient WHERE id = ?{tx.locked}", owner[0])  # noqa: S608 - our clause
    document = next(iter(filing.by_id([due.document_id])), None)
    if document is None or document.status != CURRENT:
        return None
    source = tx.row("SELECT source FROM provenance WHERE resource_id = ? AND message_id = ?", document.id, due.message_id)
    filing.begin(due.message_id, mapping, source[0] if source is not None else "")
    change = DocumentChange(
        DocumentAction.CREATE,
        document.key,
        "",
        mask=document.mask,
        event_time=due.event_time,
        facts=tuple(facts),
        facts_mapping=mapping,
    )
    FactFiler(filing, document.patient_id, files_contents=due.outer is not None).file(document, change)
    filing.was_translated(document.id, mapping, facts=len(facts), unread=unread(findings))
    filing.flush()
    return Refiled(filing.created, filing.updated, filing.unchanged)
