"""What a document of flow 6 must be checked for in the record, as a plain question.

Standard: CI-SIS transmission au LPS d'un document CDA reçu par messagerie sécurisée de santé en HL7 v2, 1.1.2.
"""

from __future__ import annotations

from hub.formats.cda_header import CdaAuthor, CdaHeader
from hub.model.consumer import ConsumerQuestion
from hub.model.record_change import DocumentAction
from mappings.hl7v2.cda_document import uri
from mappings.hl7v2.pfi_request import PfiRequest
from mappings.national_identifiers import FINESS_SYSTEM, RPPS_SYSTEM, professional_identifier, structure_identifier


def consumer_question(request: PfiRequest) -> ConsumerQuestion | None:
    """The question; None for messages from a creator to the platform."""
    if request.profile.audience != "lps":
        return None
    cda, action = request.cdas[0], request.action or DocumentAction.CREATE
    header = cda.header
    people, structures = _requester(request, header, action)
    return ConsumerQuestion(
        identity=request.identity,
        action=action,
        master_id=header.master_id,
        path=cda.obx.at(5),
        replaces=uri(header.replaces),
        set_id=uri(header.set_id),
        version_number=header.version_number,
        people=people,
        structures=structures,
    )


def _requester(request: PfiRequest, header: CdaHeader, action: DocumentAction) -> tuple[frozenset[str], frozenset[str]]:
    """Who asks to replace or delete: the sender of PRT with their structure, as far as they are named by national numbers.

    A sender who is an author of the new document acts for the structure that it names. When no sender is named, a new version
    speaks for itself by its authors.
    """
    senders = [prt for prt in request.participations if prt.role == "SB"]
    people = {prt.rpps for prt in senders} - {""}
    structures = {prt.finess for prt in senders} - {""}
    authors = [(_rpps(author), _finess(author)) for author in header.authors]
    if action is DocumentAction.REPLACE:
        structures |= {finess for rpps, finess in authors if finess and rpps in people}
        if not people and not structures:
            people, structures = {rpps for rpps, _ in authors} - {""}, {finess for _, finess in authors} - {""}
    return frozenset(people), frozenset(structures)


def _rpps(author: CdaAuthor) -> str:
    found = professional_identifier(author.id_extension, author.id_root)
    return found["value"] if found is not None and found.get("system") == RPPS_SYSTEM else ""


def _finess(author: CdaAuthor) -> str:
    found = structure_identifier(author.organisation_id, author.organisation_root)
    return found["value"] if found is not None and found.get("system") == FINESS_SYSTEM else ""
