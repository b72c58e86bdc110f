"""Which receipts the creator of a document wants to get back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReceiptsWanted:
    """`dmp`: what the DMP answered (ZAM^Z01). `reception`: a mailbox got it (Z02). `reading`: somebody read it (Z03).

    Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2, ACK_RECEPTION, ACK_LECTURE_MSS.
    """

    dmp: bool = False
    reception: bool = False
    reading: bool = False


NONE_WANTED = ReceiptsWanted()
