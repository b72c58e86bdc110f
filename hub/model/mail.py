"""What a message asks to be sent by MSSanté, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hub.model.receipts import NONE_WANTED, ReceiptsWanted
from hub.model.record_change import DocumentAction


class RecipientKind(StrEnum):
    PROFESSIONAL = "professional"
    ORGANISATION = "organisation"
    APPLICATION = "application"
    PATIENT = "patient"
    UNKNOWN = ""


@dataclass(frozen=True, slots=True, repr=False)
class MailRecipient:
    """One mailbox, which gets a mail of its own."""

    address: str
    kind: RecipientKind

    def __repr__(self) -> str:
        return f"MailRecipient({self.kind})"


@dataclass(frozen=True, slots=True, repr=False)
class MailRequest:
    """`recipients` are those that the flags ask for; `reply_to` are addresses for answers, empty = the sender's own mailbox.

    `professional_body` and `patient_body` are texts, empty when the message brings none. `no_reply`: the patient must not
    answer (X-MSS-MES FIN). `action` says whether a document is sent, replaced or deleted by this mail.
    Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2, mapping vers MSSanté.
    """

    action: DocumentAction
    recipients: tuple[MailRecipient, ...] = ()
    reply_to: tuple[str, ...] = ()
    professional_body: str = ""
    patient_body: str = ""
    no_reply: bool = False
    receipts: ReceiptsWanted = NONE_WANTED

    def __repr__(self) -> str:
        return f"MailRequest({self.action}, {len(self.recipients)} recipients)"
