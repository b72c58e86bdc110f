"""What goes to the DMP, as plain data: one submission of the documents of a message, or their deletion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hub.model.ports import PeerReference
from hub.model.record_change import ContentRange, DocumentAction


@dataclass(frozen=True, slots=True)
class Coded:
    """A code with the OID of its system."""

    code: str
    system: str
    display: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class DmpAuthor:
    """An author as XDS writes it: `person` is an XCN, `institution` an XON; either may be empty."""

    person: str = ""
    institution: str = ""
    specialty: str = ""

    def __repr__(self) -> str:
        return "DmpAuthor(…)"


@dataclass(frozen=True, slots=True, repr=False)
class DmpDocument:
    """One DocumentEntry. `unique_id` and `replaces` are OID, times UTC as `YYYYMMDDHHMMSS`, empty where the CDA says nothing.

    `content` is where its bytes stand in the message.
    Standard: IHE ITI TF-3 §4.2.3.2 (XDSDocumentEntry); CI-SIS, volet Partage de documents de santé.
    """

    unique_id: str
    content: ContentRange
    type: Coded
    replaces: str = ""
    title: str = ""
    language: str = ""
    creation_time: str = ""
    service_start: str = ""
    service_stop: str = ""
    class_: Coded | None = None
    format: Coded | None = None
    facility: Coded | None = None
    practice_setting: Coded | None = None
    confidentiality: tuple[Coded, ...] = ()
    authors: tuple[DmpAuthor, ...] = ()

    def __repr__(self) -> str:
        return "DmpDocument(…)"


@dataclass(frozen=True, slots=True, repr=False)
class DmpSubmission:
    """One SubmissionSet. `patient_id` and `source_patient_id` are CX, `patient_info` values of sourcePatientInfo.

    `refused` is the code of the rule that forbids to send it; empty when it may leave.
    """

    action: DocumentAction
    documents: tuple[DmpDocument, ...]
    patient_id: str = ""
    source_patient_id: str = ""
    patient_info: tuple[str, ...] = ()
    author: DmpAuthor = DmpAuthor()
    content_type: Coded | None = None
    refused: str = ""

    def __repr__(self) -> str:
        return "DmpSubmission(…)"


class Dmp(Protocol):
    """The DMP, as the flow sees it. `submit` gets the documents' bytes in their order; none for a deletion.

    `ask` gives what an earlier `submit` would have given if the DMP has all of it, else None.
    Raises (submit, ask): PeerUnavailable, NoAnswer, PeerBusy, PeerRefused (`reason` is the DMP's code).
    """

    name: str
    in_flight: int

    async def submit(self, submission: DmpSubmission, contents: Sequence[bytes], *, delivery_id: int) -> PeerReference: ...
    async def ask(self, submission: DmpSubmission) -> PeerReference | None: ...
    async def probe(self) -> None: ...
    async def close(self) -> None: ...
