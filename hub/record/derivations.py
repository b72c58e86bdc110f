"""Which documents say which facts: rows read together, added to, and written with the rest of a change."""

from __future__ import annotations

from collections.abc import Iterable

from hub.store import Transaction

Pair = tuple[int, int]  # document, resource


class Derivations:
    """The links between documents and facts, as they will be when everything is written."""

    __slots__ = ("_documents", "_gone", "_new", "_resources", "_tx")

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._documents: dict[int, set[int]] = {}  # by resource
        self._resources: dict[int, set[int]] = {}  # by document
        self._new: set[Pair] = set()
        self._gone: set[Pair] = set()

    def is_new(self, *, document: int = 0, resource: int = 0) -> None:
        """Nothing is linked to this one yet: there is no need to look."""
        if document:
            self._resources.setdefault(document, set())
        if resource:
            self._documents.setdefault(resource, set())

    def load_documents(self, resources: Iterable[int]) -> None:
        """Read the documents of these facts in one statement."""
        wanted = sorted(set(resources) - self._documents.keys())
        if not wanted:
            return
        self._documents.update((one, set()) for one in wanted)
        rows = self._tx.rows_in("SELECT document_id, resource_id FROM derivation WHERE resource_id IN ({keys})", wanted)
        for document, resource in self._overlaid(rows, {one for _, one in self._new} & set(wanted)):
            self._documents[resource].add(document)

    def _overlaid(self, rows: Iterable[tuple[int, ...]], pending: set[int]) -> set[Pair]:
        found = {(row[0], row[1]) for row in rows} - self._gone
        return found | {pair for pair in self._new if pair[1] in pending} if pending else found

    def documents_of(self, resource: int) -> set[int]:
        """The documents that say this fact, whatever became of them."""
        self.load_documents([resource])
        return self._documents[resource]

    def resources_of(self, document: int) -> set[int]:
        """The facts that this document says, or said until it was replaced or deleted."""
        if document not in self._resources:
            rows = self._tx.rows("SELECT document_id, resource_id FROM derivation WHERE document_id = ?", document)
            found = {(row[0], row[1]) for row in rows} - self._gone
            self._resources[document] = {one for _, one in found} | {one for other, one in self._new if other == document}
        return self._resources[document]

    def add(self, document: int, resource: int) -> bool:
        """Link the two; whether that is new."""
        if document in self.documents_of(resource):
            return False
        self.resources_of(document).add(resource)
        self._documents[resource].add(document)
        pair = (document, resource)
        if pair in self._gone:
            self._gone.discard(pair)
        else:
            self._new.add(pair)
        return True

    def remove(self, document: int, resource: int) -> None:
        """The document does not say this fact any more."""
        self.resources_of(document).discard(resource)
        self.documents_of(resource).discard(document)
        pair = (document, resource)
        if pair in self._new:
            self._new.discard(pair)
        else:
            self._gone.add(pair)

    def flush(self) -> None:
        if self._gone:
            self._tx.run_many("DELETE FROM derivation WHERE document_id = ? AND resource_id = ?", sorted(self._gone))
        if self._new:
            self._tx.insert("derivation", ("document_id", "resource_id"), sorted(self._new))
