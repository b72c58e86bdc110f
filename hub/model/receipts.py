"""Which receipts the creator of a document wants to get back, and those that another platform brings."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ReceiptsWanted:
    """`dmp`: what the DMP answered (ZAM^Z01). `reception`: a mailbox got it (Z02). `reading`: somebody read it (Z03).

    Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2, ACK_RECEPTION, ACK_LECTURE_MSS.
    """

    dmp: bool = False
    reception: bool = False
    reading: bool = False


NONE_WANTED = ReceiptsWanted()


@dataclass(frozen=True, slots=True)
class IncomingReceipt:
    """A receipt that another platform brings for a message which it got from us.

    `kind` is DMP, DSN or MDN; `control_id` is MSH-10 of the message it speaks of, `receiving_app` who it is meant for. `at`
    is UTC microseconds, 0 when it does not say. `address` is the mailbox of a DSN or MDN; `code` why it is negative.
    Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2, ZAM_Z01.
    """

    kind: str
    control_id: str
    positive: bool
    at: int = 0
    code: str = ""
    receiving_app: str = ""
    address: str = field(default="", repr=False)
