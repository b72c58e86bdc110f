"""Binary: the exact bytes of a document, cut out of the kept message and decoded. It is seen by who sees its document."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha1

from hub.formats.content import document_bytes
from hub.model.record_change import ContentRange, Json
from hub.model.refusals import Unreadable
from hub.model.uids import uid_text
from hub.record.masking import Viewer, visible
from hub.record.rendering import meta, number_of
from hub.store import BlobDamaged, Transaction
from hub.store.port import Row


@dataclass(frozen=True, slots=True)
class BinaryContent:
    """A document's bytes and what a reader must know of them. `mask` is that of its DocumentReference."""

    id: str
    content_type: str
    data: bytes
    document_id: str
    mask: int
    updated_at: int

    def as_fhir(self) -> Json:
        """The Binary resource, bytes in base64."""
        return {
            "resourceType": "Binary",
            "id": self.id,
            "meta": meta(1, self.updated_at, self.mask),
            "contentType": self.content_type,
            "securityContext": {"reference": f"DocumentReference/{self.document_id}"},
            "data": b64encode(self.data).decode(),
        }


def read_binary(
    tx: Transaction, logical_id: str, *, viewer: Viewer, body_of: Callable[[int], bytes], default_charset: str = "utf-8"
) -> BinaryContent | None:
    """The bytes behind `Binary/<id>`; None when there are none, or when their document is hidden from `viewer`.

    `body_of` gives the bytes of a kept message. A Binary that only an earlier version of the document holds is seen by who
    may see that version.

    Raises:
        BlobDamaged: the bytes are not those that were filed.
    """
    number = number_of(logical_id)
    if number is None:
        return None
    condition = visible(viewer)
    row = tx.row(
        'SELECT b.message_id, b."offset", b.length, b.encoding, b.content_type, b.size, b.sha1, b.promoted, r.id, r.mask,'  # noqa: S608 - our names
        " r.updated_at, r.body FROM binary_content b JOIN resource r ON r.id = b.resource_id"
        f" WHERE b.id = ? AND {condition.sql}",
        number,
        *condition.values,
    )
    if row is None or not (_names(row[11], logical_id) or _in_a_visible_version(tx, row[8], logical_id, viewer)):
        return None
    data = _decoded(row, body_of, default_charset)
    return BinaryContent(uid_text(number), row[4], data, uid_text(row[8]), row[9], row[10])


def _names(body: bytes, logical_id: str) -> bool:
    return f'"Binary/{logical_id.lower()}"'.encode() in body


def _in_a_visible_version(tx: Transaction, document: int, logical_id: str, viewer: Viewer) -> bool:
    condition = visible(viewer, mask="v.mask", resource_id="v.id")
    rows = tx.rows(
        f"SELECT v.body FROM resource_version v WHERE v.id = ? AND {condition.sql}",  # noqa: S608 - our names
        document,
        *condition.values,
    )
    return any(_names(row[0], logical_id) for row in rows)


def _decoded(row: Row, body_of: Callable[[int], bytes], default_charset: str) -> bytes:
    message_id, offset, length, encoding, content_type, size, digest, promoted = row[:8]
    try:
        data = (
            bytes(promoted)
            if promoted is not None
            else document_bytes(
                body_of(message_id), ContentRange(offset, length, encoding, content_type, size, digest), default_charset
            )
        )
    except Unreadable:
        data = b""
    if len(data) != size or sha1(data, usedforsecurity=False).digest() != digest:
        raise BlobDamaged("a document's bytes are not those that were filed")
    return data
