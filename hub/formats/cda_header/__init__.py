"""The header of a CDA R2 document: what routing, filing and the identity check need of it."""

from hub.formats.cda_header.header import CdaAuthor, CdaHeader, Code, Id, canonical, canonical_id
from hub.formats.cda_header.reading import MAX_BYTES, is_cda, read_document, read_header, read_whole

__all__ = [
    "MAX_BYTES",
    "CdaAuthor",
    "CdaHeader",
    "Code",
    "Id",
    "canonical",
    "canonical_id",
    "is_cda",
    "read_document",
    "read_header",
    "read_whole",
]
