"""ITI-41 Provide and Register Document Set-b, as TD2.1 of the DMP.

Standard: IHE ITI TF-2 §3.41; CI-SIS, volet Partage de documents de santé, TD2.1 (feed and replacement).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lxml import etree

from adapters.dmp.mtom import XOP, Part
from adapters.dmp.rim import HAS_MEMBER, LCM, REPLACES, RIM, XDSB, association, document_entry, submission_set
from adapters.dmp.soap import Element, element
from hub.model.dmp import DmpSubmission

ACTION = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
RESPONSE_ACTION = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-bResponse"


def request(
    submission: DmpSubmission,
    contents: Sequence[bytes],
    *,
    unique_id: str,
    source_id: str,
    submitted: str,
    entries: Mapping[str, str],
) -> tuple[Element, list[Part]]:
    """The body of the envelope, and its documents as parts.

    `entries` are entryUUID of documents that are replaced, by uniqueId; `unique_id` is that of the submission set.
    """
    body = etree.Element(
        f"{{{XDSB}}}ProvideAndRegisterDocumentSetRequest", nsmap={"xdsb": XDSB, "lcm": LCM, "rim": RIM, "xop": XOP}
    )
    objects = element(RIM, "RegistryObjectList", element(LCM, "SubmitObjectsRequest", body))
    package = submission_set(objects, submission, unique_id=unique_id, source_id=source_id, submitted=submitted)
    numbers = [f"Document{n:02d}" for n in range(1, len(submission.documents) + 1)]
    for number, document in zip(numbers, submission.documents, strict=True):
        document_entry(objects, document, submission, number=number)
    for number, document in zip(numbers, submission.documents, strict=True):
        association(objects, HAS_MEMBER, package, number, [("SubmissionSetStatus", "Original")])
        if document.replaces:
            association(objects, REPLACES, number, entries[document.replaces])
    parts = []
    for number, document, content in zip(numbers, submission.documents, contents, strict=True):
        content_id = f"{number}@vaguemestre"
        element(XOP, "Include", element(XDSB, "Document", body, id=number), href=f"cid:{content_id}")
        parts.append(Part(content_id, content, document.content.content_type))
    return body, parts
