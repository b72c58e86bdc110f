"""What ails a database, whichever engine it is. Looks and measures; changes nothing."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator

from hub.store.blobs import Blobs
from hub.store.place import Place
from hub.store.verdicts import Verdict


def examined(place: Place) -> Iterator[Verdict]:
    """One verdict a thing."""
    if place.path is not None:
        from hub.store.sqlite_examination import examined as examined_file

        yield from examined_file(place, place.path)
        return
    from hub.store.postgres_examination import examined as examined_server

    yield from examined_server(place)


def probe(blobs: Blobs) -> None:
    """Keep, read and remove a few bytes that nobody else has.

    Raises:
        StoreUnavailable, BlobDamaged, OSError: large bodies cannot be kept there.
    """
    content = secrets.token_bytes(32)
    name = hashlib.sha256(content).digest()
    blobs.write(name, content)
    try:
        blobs.sync_folders()
        blobs.read(name)
    finally:
        blobs.remove(name)
