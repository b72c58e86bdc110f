"""`MDM^T02/T10/T04`, `ORU^R01` and `OUL^R22` that carry a CDA in OBX-5, under the CI-SIS profiles.

Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2 (and 1.2, 2.0); LPS 1.0, 1.1 for the way to the software.
"""

from __future__ import annotations

from collections.abc import Iterator

from hub.formats.er7 import Message
from hub.model.consumer import ConsumerQuestion
from hub.model.dmp import DmpSubmission
from hub.model.identifiers import is_oid
from hub.model.mail import MailRequest
from hub.model.receipts import NONE_WANTED, ReceiptsWanted
from hub.model.record_change import DocumentAction, Json, RecordChange
from hub.model.refusals import Finding
from hub.model.site import Site
from mappings.hl7v2 import pfi_checks
from mappings.hl7v2.cda_document import CdaDocument, CdaTranslation, FiledAs, uri
from mappings.hl7v2.message_times import event_time
from mappings.hl7v2.pfi_consumer import consumer_question
from mappings.hl7v2.pfi_dmp import dmp_submission
from mappings.hl7v2.pfi_mail import BODIES, body_is_whole, mail_request, receipts_wanted
from mappings.hl7v2.pfi_profile import Profile
from mappings.hl7v2.pfi_request import MetaTable, PfiRequest
from mappings.hl7v2.pid import pid_findings, pid_patient
from mappings.hl7v2.pv1 import pv1_encounter, pv1_findings

DMP = "dmp"
_MAX_UNIQUE_ID = 64  # of an OID in XDSDocumentEntry.uniqueId
_URI = "urn:ietf:rfc:3986"


class PfiDocument:
    """One version of the profile, for one message type."""

    version = "2"
    heavy = parses_document = True

    def __init__(self, kind: str, profile: Profile, metas: MetaTable, translation: CdaTranslation) -> None:
        self.name = f"{profile.audience}-{kind.partition('^')[0].lower()}-{profile.name}"
        self._profile, self._metas, self._translation = profile, metas, translation

    def judge(self, message: Message, site: Site) -> None:
        pfi_checks.judge(self._request(message, site), self._metas)

    def question(self, message: Message, site: Site) -> ConsumerQuestion | None:
        return consumer_question(self._request(message, site))

    def remarks(self, message: Message, site: Site) -> tuple[Finding, ...]:
        return tuple(_findings(self._request(message, site)))

    def requests(self, message: Message, site: Site) -> tuple[str, ...]:
        request = self._request(message, site)
        if self._profile.audience != "pfi":
            return ()
        asked = [DMP] if request.says("DESTDMP") else []
        for flag, is_patient in (("DESTMSSANTEPS", False), ("DESTMSSANTEPAT", True)):
            if request.says(flag):
                asked += [f"mssante:{prt.address}" for prt in request.recipients if prt.is_patient is is_patient]
        return tuple(dict.fromkeys(asked))

    def refused_requests(self, message: Message, site: Site) -> tuple[tuple[str, str], ...]:
        request = self._request(message, site)
        asked = self.requests(message, site)
        refused: dict[str, str] = {}
        if DMP in asked and request.national_ins is None:
            refused[DMP] = request.why_no_national_ins
        elif DMP in asked and not all(_is_unique_id(cda.header.id) for cda in request.cdas):
            refused[DMP] = "DOCUMENT_ID"
        for prt in request.recipients:
            destination = f"mssante:{prt.address}"
            if destination in asked and prt.is_patient:
                reason = _patient_mail_refused(request, prt.address)
                if reason:
                    refused[destination] = reason
        return tuple(refused.items())

    def receipts_wanted(self, message: Message, site: Site) -> ReceiptsWanted:
        request = self._request(message, site)
        return receipts_wanted(request) if self._profile.audience == "pfi" else NONE_WANTED

    def dmp_submission(self, message: Message, site: Site) -> DmpSubmission | None:
        """What goes to the DMP; None when the message does not ask for it."""
        if DMP not in self.requests(message, site):
            return None
        refused = dict(self.refused_requests(message, site)).get(DMP, "")
        return dmp_submission(self._request(message, site), self._translation.types, refused)

    def mail_request(self, message: Message, site: Site) -> MailRequest | None:
        """What the message asks to be mailed: recipients, texts, where answers go; None when it asks for no mail."""
        return mail_request(self._request(message, site))

    def documents(self, message: Message, site: Site) -> tuple[str | None, str | None, bool]:
        """The document of the message, the one that it replaces or deletes, and whether it deletes; of several the first."""
        request = self._request(message, site)
        header = request.cdas[0].header
        if request.action is DocumentAction.DELETE:
            return None, header.master_id, True
        return header.master_id, uri(header.replaces) or None, False

    def translate(self, message: Message, site: Site) -> RecordChange:
        request = self._request(message, site)
        stay = pv1_encounter(message, site)
        action = request.action or DocumentAction.CREATE
        made = [
            self._translation.change(cda, message, site, FiledAs(action, mask=request.mask, related=_related(request, cda)))
            for cda in request.cdas
        ]
        return RecordChange(
            mapping=f"{self.name}@{self.version}",
            identity=request.identity,
            patient=pid_patient(message, request.identity, site),
            event_time=event_time(message, site),
            resources=(stay,) if stay is not None else (),
            documents=tuple(change for change, _ in made),
            findings=tuple(finding for _, findings in made for finding in findings),
        )

    def _request(self, message: Message, site: Site) -> PfiRequest:
        """The message as read, kept with it: judge, requests and translate follow each other."""
        kept = message.views.get(self.name)
        if isinstance(kept, PfiRequest) and kept.site == site:
            return kept
        request = message.views[self.name] = PfiRequest(message, site, self._profile, self._metas)
        return request


def _patient_mail_refused(request: PfiRequest, address: str) -> str:
    """Why a mail to the patient must not leave; empty when it may.

    Standard: MSSanté citoyenne, the local part of the address is the INS; SMTP 553 mailbox name invalid.
    """
    local = address.partition("@")[0].upper()
    known = {ins.value for ins in request.identity.ins}
    if local not in known:
        return "553"
    national = request.national_ins
    if national is None:
        return request.why_no_national_ins
    return "" if national.value == local else "553"


def _is_unique_id(number: str) -> bool:
    """Whether a CDA id, flattened to `root.extension`, can be the uniqueId of a document in the DMP.

    Standard: CI-SIS, the DMP takes an OID without extension; XDS.b, at most 64 characters.
    """
    return is_oid(number) and len(number) <= _MAX_UNIQUE_ID


def _related(request: PfiRequest, cda: CdaDocument) -> list[Json]:
    """The same content at the other level (second document of an ORU), and what COMP_LOT lists, each by its number."""
    numbers = [other.header.id for other in request.cdas] + list(request.companions)
    return [
        {"type": "DocumentReference", "identifier": {"system": _URI, "value": uri(number)}}
        for number in dict.fromkeys(numbers)
        if number != cda.header.id
    ]


def _findings(request: PfiRequest) -> Iterator[Finding]:
    if not request.profile.knows(request.message.profiles):
        told = f"MSH-21: a version we do not know; read as {request.profile.name}"
        yield Finding("PROFILE_UNKNOWN", "MSH-21", told)
    yield from pid_findings(request.message, request.site)
    yield from pv1_findings(request.message, request.site)
    if request.identity.ins and not request.identity.birth_place:
        yield Finding("BIRTH_PLACE_MISSING", "PID-11.9", "PID-11.9: an INS comes with the code of the place of birth")
    if request.profile.audience == "pfi" and not pfi_checks.keeps_to_matrix(request):
        yield Finding("OUTSIDE_MATRIX", "OBX-5", "OBX-5: flags outside the table of MSSanté routing; routed as they say")
    if not request.profile.recipients_in_prt and request.says("DESTMSSANTEPS"):
        yield Finding("RECIPIENTS_IN_CDA", "PRT", "PRT: this version names recipients in the CDA, which is not read for mail")
    if request.profile.audience == "pfi":
        for obx in request.others:
            yield Finding("META_UNKNOWN", obx.at(3), f"{obx.at(3)}: neither a document nor a known metadata")
    txa = request.txa
    replaces = request.cdas[0].header.replaces
    if request.action is DocumentAction.REPLACE and txa is not None and pfi_checks.document_id(txa.one(13)) != replaces:
        yield Finding("TXA_13_DIFFERS", "TXA-13", "TXA-13: not the document that the CDA replaces; the CDA counts")
    for meta in request.metas:
        if meta.code in BODIES and not body_is_whole(meta.obx, request.message.raw):
            yield Finding("MAIL_BODY", meta.obx.at(5), f"{meta.obx.at(5)}: the mail's text is cut or not base64")
    for prt in request.participations:
        if prt.is_shifted:
            yield Finding("ADDRESS_SHIFTED", prt.at(16), f"{prt.at(16)}: an address one field late; read there")
