"""What a CDA message asks to be mailed: to whom, with which text, where answers go.

Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2 §2.5, §2.6 (CORPSMAIL, NTE-4), mapping-mss.
"""

from __future__ import annotations

from hub.formats.base64_lenient import decode as decode_base64
from hub.formats.er7 import Segment
from hub.formats.er7.charset import decode
from hub.model.mail import MailRecipient, MailRequest
from hub.model.receipts import ReceiptsWanted
from hub.model.record_change import DocumentAction
from hub.model.refusals import Unreadable
from mappings.hl7v2.pfi_request import PfiRequest

BODIES = frozenset({"CORPSMAIL_PS", "CORPSMAIL_PATIENT"})
_NO_REPLY = "FIN"


def mail_request(request: PfiRequest) -> MailRequest | None:
    """What is to be mailed; None when the message asks for no mail."""
    if request.profile.audience != "pfi" or not (request.says("DESTMSSANTEPS") or request.says("DESTMSSANTEPAT")):
        return None
    wanted = {False: request.says("DESTMSSANTEPS"), True: request.says("DESTMSSANTEPAT")}
    asked = {prt.address: MailRecipient(prt.address, prt.kind) for prt in request.recipients if wanted[prt.is_patient]}
    replies = (prt.address for prt in request.participations if prt.role == "REPLY" and prt.address)
    return MailRequest(
        action=request.action or DocumentAction.CREATE,
        recipients=tuple(asked.values()),
        reply_to=tuple(dict.fromkeys(replies)),
        professional_body=_body(request, "CORPSMAIL_PS"),
        patient_body=_body(request, "CORPSMAIL_PATIENT"),
        no_reply=_no_reply(request),
        receipts=receipts_wanted(request),
    )


def receipts_wanted(request: PfiRequest) -> ReceiptsWanted:
    """ACK_RECEPTION asks for Z01 and Z02, ACK_LECTURE_MSS for Z03; absent, they say no."""
    received = request.says("ACK_RECEPTION")
    return ReceiptsWanted(dmp=received, reception=received, reading=request.says("ACK_LECTURE_MSS"))


def body_is_whole(obx: Segment, raw: bytes) -> bool:
    """Whether a mail's text is Base64 that is not cut."""
    start, end = obx.component_span(5, 5)
    value = raw[start:end].strip().rstrip(b"=")
    try:
        decode_base64(value)
    except Unreadable:
        return False
    return bool(value) and len(value) % 4 != 1


def _body(request: PfiRequest, code: str) -> str:
    """The text of a mail body, as far as it can be decoded."""
    obx = next((meta.obx for meta in request.metas if meta.code == code), None)
    if obx is None:
        return ""
    start, end = obx.component_span(5, 5)
    try:
        return decode(decode_base64(request.message.raw[start:end]), "utf-8")
    except Unreadable:
        return ""


def _no_reply(request: PfiRequest) -> bool:
    """Whether an NTE right after DESTMSSANTEPAT says FIN in NTE-4."""
    flag = next((meta.obx for meta in request.metas if meta.code == "DESTMSSANTEPAT"), None)
    if flag is None or not request.says("DESTMSSANTEPAT"):
        return False
    for segment in request.message.segments()[flag.index + 1 :]:
        if segment.name != "NTE":
            return False
        if segment.text(4).upper() == _NO_REPLY:
            return True
    return False
