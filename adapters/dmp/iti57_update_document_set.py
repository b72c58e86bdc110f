"""ITI-57 Update Document Set, as TD3.3c of the DMP: a document is deleted by its availability status.

Standard: IHE ITI TF-2 §3.57; CI-SIS, volet Partage de documents de santé, TD3.3c.
"""

from __future__ import annotations

from collections.abc import Sequence

from lxml import etree

from adapters.dmp.iti18_registry_stored_query import Entry
from adapters.dmp.rim import DELETED, LCM, RIM, UPDATES_STATUS, association, submission_set
from adapters.dmp.soap import Element, element
from hub.model.dmp import DmpSubmission

ACTION = "urn:ihe:iti:2010:UpdateDocumentSet"
RESPONSE_ACTION = "urn:ihe:iti:2010:UpdateDocumentSetResponse"


def request(submission: DmpSubmission, entries: Sequence[Entry], *, unique_id: str, source_id: str, submitted: str) -> Element:
    """The body of the envelope that deletes these entries."""
    body = etree.Element(f"{{{LCM}}}SubmitObjectsRequest", nsmap={"lcm": LCM, "rim": RIM})
    objects = element(RIM, "RegistryObjectList", body)
    package = submission_set(objects, submission, unique_id=unique_id, source_id=source_id, submitted=submitted)
    for entry in entries:
        association(
            objects, UPDATES_STATUS, package, entry.entry_uuid, [("OriginalStatus", entry.status), ("NewStatus", DELETED)]
        )
    return body
