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


def read_binary(tx: Transaction, logical_id: str, *, viewer: Viewer, body_of: Callable[[int], bytes]) -> BinaryContent | None:
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
        'SELECT b.message_id, b."offset", b.length, b.encoding, b.content_type, b.size, b.sha1, b.promoted,'  # noqa: S608 - our names
        " b.promoted_blob, r.id, r.mask, r.updated_at, r.body FROM binary_content b JOIN resource r ON r.id = b.resource_id"
        f" WHERE b.id = ? AND {condition.sql}",
        number,
        *condition.values,
    )
    if row is None or not (_names(row[12], logical_id) or _in_a_visible_version(tx, row[9], logical_id, viewer)):
        return None
    data = _bytes(tx, row, body_of)
    return BinaryContent(uid_text(number), row[4], data, uid_text(row[9]), row[10], row[11])


def filed_bytes(tx: Transaction, number: int, body_of: Callable[[int], bytes]) -> bytes:
    """The bytes behind a Binary, whoever may see them: for the hub's own work.

    Raises:
        BlobDamaged: they are not those that were filed, or not there. KeyError: their message is not there.
    """
    row = tx.row(
        'SELECT message_id, "offset", length, encoding, content_type, size, sha1, promoted, promoted_blob'
        " FROM binary_content WHERE id = ?",
        number,
    )
    if row is None:
        raise BlobDamaged("a document's bytes are not there")
    return _bytes(tx, row, body_of)


def stored_encoding(content: ContentRange) -> str:
    """How a row tells of the bytes' encoding, and of a range inside the document: `base64`, `base64>OFFSET+LENGTH`."""
    return content.encoding if content.inner is None else f"{content.encoding}>{content.inner[0]}+{content.inner[1]}"


def content_of(row: Row) -> ContentRange:
    """The range of a row of offset, length, encoding, content type, size, SHA-1."""
    encoding, inside, place = str(row[2]).partition(">")
    inner = tuple(int(part) for part in place.split("+")) if inside else None
    return ContentRange(row[0], row[1], encoding, row[3], row[4], bytes(row[5]), (inner[0], inner[1]) if inner else None)


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


def taken_out(raw: bytes, content: ContentRange, default_charset: str = "utf-8") -> bytes:
    """A document's bytes out of the message that holds them, checked against what was filed.

    Raises:
        BlobDamaged.
    """
    try:
        data = document_bytes(raw, content, default_charset)
    except Unreadable:
        data = b""
    return _checked(data, content.size, content.sha1)


def _bytes(tx: Transaction, row: Row, body_of: Callable[[int], bytes]) -> bytes:
    message_id, (size, digest, promoted, blob) = row[0], row[5:9]
    if promoted is not None:
        return _checked(bytes(promoted), size, digest)
    if blob is not None:
        return _checked(tx.blob(bytes(blob)), size, digest)
    read_as = tx.row("SELECT charset FROM message WHERE id = ?", message_id)
    return taken_out(body_of(message_id), content_of(row[1:7]), read_as[0] if read_as is not None else "utf-8")


def _checked(data: bytes, size: int, digest: bytes) -> bytes:
    if len(data) != size or sha1(data, usedforsecurity=False).digest() != digest:
        raise BlobDamaged("a document's bytes are not those that were filed")
    return data
