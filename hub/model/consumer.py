"""Flow 6: what must be asked of the record before a document that came by mail is taken.

Standard: CI-SIS transmission au LPS d'un document CDA reçu par messagerie sécurisée de santé en HL7 v2, 1.1.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.model.identity import PatientIdentity
from hub.model.record_change import DocumentAction


@dataclass(frozen=True, slots=True, repr=False)
class ConsumerQuestion:
    """Plain facts of one message: whom it speaks of, which document it brings, replaces or deletes, and who asks for it.

    `master_id`, `replaces` and `set_id` are as in `DocumentChange`, `path` is where the document stands. `people` are numbers
    of the requester (RPPS), `structures` those of their organisation (FINESS), each without its prefix; both empty when the
    message does not tell.
    """

    identity: PatientIdentity
    action: DocumentAction
    master_id: str
    path: str
    replaces: str = ""
    set_id: str = ""
    version_number: int = 0
    people: frozenset[str] = frozenset()
    structures: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return "ConsumerQuestion(…)"
