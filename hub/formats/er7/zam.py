"""Business receipts to the creator of a document: what the DMP, the mail server or the reader made of it.

Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2, ZAM_Z01 (HL7 v2.6).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from hub.formats.er7.acknowledgement import timestamp
from hub.formats.er7.charset import name_of
from hub.formats.er7.escapes import escape
from hub.formats.er7.separators import STANDARD
from hub.model.site import Site

Kind = Literal["Z01", "Z02", "Z03"]

_STATUS = {
    "Z01": "ACK_RECEPTION_DMP^Accusé de réception DMP^AckMetierZAM",
    "Z02": "ACK_RECEPTION_MSS^Accusé de réception MSSanté^AckMetierZAM",
    "Z03": "ACK_LECTURE_MSS^Accusé de lecture^AckMetierZAM",
}
_ADDRESS = {
    "Z02": "DESTINATAIRE_MSS^Destinataire MSSanté^AckMetierZAM",
    "Z03": "LECTEUR_MSS^Lecteur du courriel MSSanté^AckMetierZAM",
}


def zam(
    *,
    kind: Kind,
    original_control_id: str,
    positive: bool,
    control_id: str,
    at: datetime,
    event_at: datetime,
    site: Site,
    receiving_app: str,
    receiving_facility: str,
    address: str = "",
    error: tuple[str, str, str] | None = None,
    charset: str = "utf-8",
    processing_id: str = "P",
) -> bytes:
    """A ZAM message in ER7, without MLLP framing.

    Z01 tells of the DMP, Z02 of reception by one mailbox, Z03 of reading by one mailbox (`address`). `error` is code, label
    and coding system of ERR-5; a negative receipt always carries ERR. `receiving_app` and `receiving_facility` are HD, their
    components parted by `^`. `charset` is a Python codec.

    Raises:
        ValueError: Z02 or Z03 without an address.
    """
    if kind in _ADDRESS and not address:
        raise ValueError(f"{kind} names a mailbox")

    def text(value: str) -> bytes:
        return escape(value, STANDARD, charset)

    def coded(value: str) -> bytes:
        return b"^".join(text(part) for part in value.split("^"))

    receipt = text(original_control_id)
    lines = [
        b"|".join(
            (
                b"MSH|^~\\&",
                text(site.name),
                text(site.organisation),
                coded(receiving_app),
                coded(receiving_facility),
                timestamp(at, site.timezone),
                b"",
                b"ZAM^%b^ZAM_Z01" % kind.encode(),
                text(control_id),
                text(processing_id),
                b"2.6",
                b"",
                b"",
                b"",
                b"",
                b"FRA",
                name_of(charset),
                b"",
                b"",
                b"2.1^CISIS_CDA_HL7_V2",
            )
        ),
        b"EVN||" + timestamp(event_at, site.timezone),
        b"OBX|1|CWE|%b|%b|%b^^expandedYes-NoIndicator||||||F" % (coded(_STATUS[kind]), receipt, b"Y" if positive else b"N"),
    ]
    if kind in _ADDRESS:
        lines.append(b"OBX|2|XTN|%b||^^X.400^%b||||||F" % (coded(_ADDRESS[kind]), text(address)))
    if not positive:
        lines.append(b"ERR|||207^Application error^messageErrorCondition|E" + _application_error(error, charset))
    return b"".join(line + b"\r" for line in lines)


def _application_error(error: tuple[str, str, str] | None, charset: str) -> bytes:
    return b"" if error is None else b"|" + b"^".join(escape(part, STANDARD, charset) for part in error)
