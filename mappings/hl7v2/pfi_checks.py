"""The decision table of the platform on a CDA message, in its order: what is refused before the acknowledgement, and as what.

Only what the message itself shows is looked at. Value sets, sections and schemas are findings later.
Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2 §2.3–2.7, table 0357; LPS 1.1.2, table 0533.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from hub.formats.cda_header import canonical_id
from hub.formats.er7 import Segment
from hub.model.record_change import DocumentAction
from hub.model.refusals import (
    Cardinality,
    CodeUnknown,
    ConsumerRefused,
    FieldInvalid,
    FieldMissing,
    MessageRefused,
    RuleBroken,
    SegmentMissing,
)
from mappings.hl7v2.cda_document import judge_patient
from mappings.hl7v2.line import Composite
from mappings.hl7v2.pfi_request import ACTION_OF_OBX_11, MetaTable, PfiRequest

_EVENT = {"T02": DocumentAction.CREATE, "T10": DocumentAction.REPLACE, "T04": DocumentAction.DELETE}
_ORC_1 = {"NW": DocumentAction.CREATE, "RO": DocumentAction.REPLACE, "CA": DocumentAction.DELETE}
_STAYS = frozenset({"E", "I", "O", "R"})
_DESTINATIONS = ("DESTDMP", "DESTMSSANTEPS", "DESTMSSANTEPAT")

# Required fields after those of the segment order; of the first segment of its name.
_REQUIRED_EVERYWHERE = (("MSH", 3), ("MSH", 4), ("MSH", 5), ("MSH", 6), ("MSH", 7), ("PID", 3), ("PID", 5), ("PV1", 2))
_REQUIRED_IN_MDM = (("TXA", 1), ("TXA", 2), ("TXA", 3), ("TXA", 12), ("TXA", 17))

# MASQUE_PS, INVISIBLE_PATIENT, INVISIBLE_REP_LEGAUX, DESTMSSANTEPS, DESTMSSANTEPAT; None = any. The page calls the rows
# exhaustive, the official samples do not keep to them: a finding, or a refusal where the site is strict.
_MATRIX_FLAGS = ("MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REP_LEGAUX", "DESTMSSANTEPS", "DESTMSSANTEPAT")
_MATRIX: tuple[tuple[bool | None, ...], ...] = (
    (False, False, False, True, True),
    (False, True, False, True, False),
    (None, False, None, False, True),
)


class Stage(StrEnum):
    """Where a row is decided. Everything but `ROUTE` comes before the acknowledgement."""

    READ = "read"  # hub.formats.er7.read
    ADMISSION = "admission"  # mappings.hl7v2.admission
    MESSAGE = "message"  # `judge`, here
    RECORD = "record"  # hub.record.consumer
    KEEP = "keep"  # hub.flow.receive
    ROUTE = "route"  # after the acknowledgement: a delivery is refused, not the message


Run = Callable[[PfiRequest, MetaTable], None]


@dataclass(frozen=True, slots=True)
class Check:
    """One row: what is checked, the condition (table 0357) it refuses with and where, for which audiences.

    `at` are the places that ERR-2 may name, without the number of the segment. `application` is the code of table 0533 that
    a refusal with 207 carries in flow 6. `run` raises a MessageRefused; None where another stage decides.
    """

    name: str
    condition: str
    at: tuple[str, ...]
    run: Run | None = None
    audiences: frozenset[str] = frozenset({"pfi", "lps"})
    application: str = "906"
    stage: Stage = Stage.MESSAGE


def judge(request: PfiRequest, table: MetaTable) -> None:
    """Run every row that concerns this message's audience.

    Raises:
        MessageRefused: of the first row that does not hold; in flow 6 a ConsumerRefused for each 207.
    """
    audience = request.profile.audience
    for check, run in _RUNS[audience]:
        try:
            run(request, table)
        except MessageRefused as refused:
            if audience != "lps" or refused.condition != "207" or refused.application:
                raise
            raise ConsumerRefused(at=refused.at, application=check.application, sentence=refused.sentence) from None


def _segments(request: PfiRequest, _: MetaTable) -> None:
    has_order = not request.is_mdm or request.profile.order_in_mdm
    before, after = (("EVN",), ("TXA",)) if request.is_mdm else ((), ())
    order = () if not has_order else ("OBR",) if request.is_oul else ("ORC", "OBR")
    for name in (*before, "PID", "PV1", *order, *after):
        if request.message.first(name) is None:
            raise SegmentMissing(at=name)
    if not request.documents:
        raise SegmentMissing(at="OBX", sentence="OBX: no document (ED) among them")


def _number_of_documents(request: PfiRequest, _: MetaTable) -> None:
    most = 1 if request.is_mdm else 2
    if len(request.documents) > most:
        raise Cardinality(at=request.documents[most].at(), sentence=f"OBX: more than {most} document(s) in one message")
    seen: dict[str, str] = {}
    for meta in request.metas:
        if seen.setdefault(meta.code, meta.value) != meta.value:
            raise Cardinality(at=meta.obx.at(3), sentence=f"{meta.obx.at(3)}: {meta.code} twice, with two values")


def _required_fields(request: PfiRequest, _: MetaTable) -> None:
    message = request.message
    required = list(_REQUIRED_EVERYWHERE)
    if request.is_mdm:
        required += _REQUIRED_IN_MDM
        if _event_action(request) is DocumentAction.REPLACE:
            required.append(("TXA", 13))
    if request.profile.orc_1_says:
        required.append(("ORC", 1))
    if not request.is_mdm or request.profile.order_in_mdm:
        required.append(("OBR", 4))
    if message.text("PV1", 2).upper() in _STAYS:
        required.append(("PV1", 19))
    if request.identity.ins:
        required += (("PID", 7), ("PID", 8))
    for name, field in required:
        segment = message.first(name)
        if segment is None or _is_empty(segment, field):
            raise FieldMissing(at=f"{name}-{field}")
    for obx in request.documents:
        for field in (3, 5, 11):
            if _is_empty(obx, field):
                raise FieldMissing(at=obx.at(field))
        start, end = obx.component_span(5, 5)
        if start == end:
            raise FieldMissing(at=obx.at(5))


def _required_metadata(request: PfiRequest, table: MetaTable) -> None:
    there = {meta.code for meta in request.metas}
    for code in table.needed_by[request.profile.audience]:
        if code not in there:
            raise FieldMissing(at="OBX-3", sentence=f"OBX-3: {code} is missing")


def _participations(request: PfiRequest, _: MetaTable) -> None:
    if not request.profile.recipients_in_prt:
        return
    if not request.participations:
        raise FieldMissing(at="PRT", sentence="PRT: at least one is required")
    if request.profile.audience == "lps":
        if not any(prt.role == "SB" and prt.address for prt in request.participations):
            raise FieldMissing(at="PRT-15.4", sentence="PRT-15.4: the address of the sender (SB) is required")
        return
    if request.says("DESTDMP") and not any(prt.role == "SB" and prt.is_named for prt in request.participations):
        raise FieldMissing(at="PRT-4", sentence="PRT-4: DESTDMP needs the sender (SB)")
    patients = [prt.is_patient for prt in request.recipients]
    if request.says("DESTMSSANTEPS") and False not in patients:
        raise FieldMissing(at="PRT-15.4", sentence="PRT-15.4: DESTMSSANTEPS needs the address of a recipient (RCT)")
    if request.says("DESTMSSANTEPAT") and True not in patients:
        raise FieldMissing(at="PRT-15.4", sentence="PRT-15.4: DESTMSSANTEPAT needs the patient's address (RCT)")


def _action(request: PfiRequest, _: MetaTable) -> None:
    action = request.action
    if action is None:
        raise RuleBroken(at=request.documents[0].at(11), sentence=f"{request.documents[0].at(11)}: neither F, C nor D")
    for obx in request.documents[1:]:
        if ACTION_OF_OBX_11.get(obx.text(11).upper()) is not action:
            raise RuleBroken(at=obx.at(11), sentence=f"{obx.at(11)}: both documents take the same action")
    if request.is_mdm and _event_action(request) is not action:
        raise RuleBroken(at=request.documents[0].at(11), sentence=f"{request.documents[0].at(11)}: not what MSH-9.2 says")
    if not request.profile.orc_1_says:
        return
    if _ORC_1.get(request.message.text("ORC", 1).upper()) is not action:
        raise RuleBroken(at="ORC-1", sentence=f"ORC-1: not what {request.documents[0].at(11)} says")
    if action is DocumentAction.CREATE and request.txa is not None and request.txa.text(13):
        raise RuleBroken(at="TXA-13", sentence="TXA-13: names a document to replace, in the first sending of one")


def _readable(request: PfiRequest, _: MetaTable) -> None:
    request.read_documents()


def _ins_in_document(request: PfiRequest, _: MetaTable) -> None:
    for cda in request.cdas:
        if cda.header.patient_ids and not cda.header.ins:
            at = cda.obx.at(5)
            raise ConsumerRefused(at=at, application="903", sentence=f"{at}: the document numbers its patient without an INS")


def _traits_with_ins(request: PfiRequest, _: MetaTable) -> None:
    if not request.profile.traits_with_ins:
        return
    for cda in request.cdas:
        header = cda.header
        traits = (header.birth_name, header.birth_given_names or header.first_given_name, header.birth_time, header.sex)
        if header.ins and not (all(traits) and header.birth_place_code):
            at = cda.obx.at(5)
            raise ConsumerRefused(at=at, application="905", sentence=f"{at}: an INS without its five traits in the document")


def _own_numbers(request: PfiRequest, _: MetaTable) -> None:
    numbers: set[str] = set()
    for cda in request.cdas:
        if cda.header.id in numbers:
            raise RuleBroken(at=cda.obx.at(5), sentence=f"{cda.obx.at(5)}: both documents have the same id")
        numbers.add(cda.header.id)


def _same_patient(request: PfiRequest, _: MetaTable) -> None:
    judge_patient(request.cdas, request.identity)


def _same_number(request: PfiRequest, _: MetaTable) -> None:
    if not request.is_mdm or not request.profile.txa_12_is_cda_id or request.txa is None:
        return
    if document_id(request.txa.one(12)) != request.cdas[0].header.id:
        raise RuleBroken(at="TXA-12", sentence="TXA-12: not the id of the document")


def _same_type(request: PfiRequest, _: MetaTable) -> None:
    for cda in request.cdas:
        told = [(cda.obx.at(3), cda.obx.text(3))]
        if request.txa is not None:
            told.append(("TXA-2", request.txa.text(2)))
        if request.profile.obr_4_is_type and request.message.first("OBR") is not None:
            told.append(("OBR-4", request.message.text("OBR", 4)))
        for at, code in told:
            if code != cda.header.code:
                raise RuleBroken(at=at, sentence=f"{at}: not the type of the document")


def _dmp_needs_ins(request: PfiRequest, _: MetaTable) -> None:
    alone = request.says("DESTDMP") and not request.says("DESTMSSANTEPS") and not request.says("DESTMSSANTEPAT")
    if alone and request.national_ins is None:
        raise RuleBroken(at="PID-3", sentence="PID-3: DESTDMP needs a qualified INS of this environment")


def _flags_agree(request: PfiRequest, _: MetaTable) -> None:
    if request.says("INVISIBLE_PATIENT") and request.says("DESTMSSANTEPAT"):
        at = _place(request, "DESTMSSANTEPAT")
        raise RuleBroken(at=at, sentence=f"{at}: INVISIBLE_PATIENT and DESTMSSANTEPAT contradict each other")
    values = {meta.code: meta.value for meta in request.metas}
    if all(values.get(flag) == "N" for flag in _DESTINATIONS):
        at = _place(request, "DESTDMP")
        raise RuleBroken(at=at, sentence=f"{at}: no destination is asked for")
    if request.site.strict_matrix and not keeps_to_matrix(request):
        at = _place(request, "DESTMSSANTEPS")
        raise RuleBroken(at=at, sentence=f"{at}: flags outside the table of MSSanté routing")


def _place(request: PfiRequest, flag: str) -> str:
    """Where a flag stands."""
    return next((meta.obx.at(5) for meta in request.metas if meta.code == flag), "OBX-5")


def _flags_are_y_or_n(request: PfiRequest, table: MetaTable) -> None:
    for meta in request.metas:
        if meta.code in table.flags and meta.value not in ("Y", "N"):
            raise CodeUnknown(at=meta.obx.at(5), sentence=f"{meta.obx.at(5)}: {meta.code} is neither Y nor N")


def _addresses(request: PfiRequest, _: MetaTable) -> None:
    for prt in request.participations:
        if prt.has_address() and not prt.is_one_address:
            raise FieldInvalid(at=prt.at(15), sentence=f"{prt.at(15)}: not one mail address")


def _predecessor(request: PfiRequest, _: MetaTable) -> None:
    for cda in request.cdas:
        if request.action is DocumentAction.REPLACE and not cda.header.replaces:
            raise RuleBroken(at=cda.obx.at(5), sentence=f"{cda.obx.at(5)}: a replacement without RPLC in the document")
        if request.action is DocumentAction.CREATE and cda.header.replaces:
            raise RuleBroken(at=cda.obx.at(5), sentence=f"{cda.obx.at(5)}: RPLC in a document that is sent for the first time")


_PFI, _LPS = frozenset({"pfi"}), frozenset({"lps"})
_REQUIRED_PLACES = tuple(f"{name}-{field}" for name, field in (*_REQUIRED_EVERYWHERE, *_REQUIRED_IN_MDM))

# The table, first row that does not hold decides. Rows without a function are decided at another stage, in this same order;
# they stand here so that the table is whole.
DECISIONS = (
    Check("header can be read", "199", ("MSH", "MSH-1", "MSH-2"), stage=Stage.READ),
    Check("HL7 version", "203", ("MSH-12",), stage=Stage.ADMISSION),
    Check("message type", "200", ("MSH-9.1",), stage=Stage.ADMISSION),
    Check("event", "201", ("MSH-9.2",), stage=Stage.ADMISSION),
    Check("processing id", "202", ("MSH-11",), stage=Stage.ADMISSION),
    Check("header fields", "101", ("MSH-9", "MSH-10", "MSH-11"), stage=Stage.ADMISSION),
    Check("segments", "100", ("EVN", "PID", "PV1", "ORC", "OBR", "TXA", "OBX"), _segments),
    Check("number of documents", "198", ("OBX", "OBX-3"), _number_of_documents),
    Check(
        "required fields",
        "101",
        (*_REQUIRED_PLACES, "PID-7", "PID-8", "PV1-19", "ORC-1", "OBR-4", "TXA-13", "OBX-3", "OBX-5", "OBX-11"),
        _required_fields,
    ),
    Check("required metadata", "101", ("OBX-3",), _required_metadata),
    Check("participations that the flags need", "101", ("PRT", "PRT-4", "PRT-15.4"), _participations),
    Check("action", "207", ("OBX-11", "ORC-1", "TXA-13"), _action),
    Check("document readable", "102", ("OBX-5",), _readable),
    Check("INS in the document", "207", ("OBX-5",), _ins_in_document, _LPS, "903"),
    Check("traits with the INS", "207", ("OBX-5",), _traits_with_ins, _LPS, "905"),
    Check("same patient", "207", ("PID-3",), _same_patient, application="904"),
    Check("same document number", "207", ("TXA-12",), _same_number),
    Check("own number for each document", "207", ("OBX-5",), _own_numbers),
    Check("same document type", "207", ("OBX-3", "TXA-2", "OBR-4"), _same_type),
    Check("DMP needs a qualified INS", "207", ("PID-3",), _dmp_needs_ins, _PFI),
    Check("patient opposed to feeding", "AA", ("PID-3",), audiences=_PFI, stage=Stage.ROUTE),
    Check("flags agree", "207", ("OBX-5",), _flags_agree, _PFI),
    Check("flags are Y or N", "103", ("OBX-5",), _flags_are_y_or_n),
    Check("addresses", "102", ("PRT-15",), _addresses),
    Check("replacement names its predecessor", "207", ("OBX-5",), _predecessor),
    Check("patient known", "207", ("PID-3",), audiences=_LPS, application="902", stage=Stage.RECORD),
    Check("traits of the record", "207", ("PID-3",), audiences=_LPS, application="904", stage=Stage.RECORD),
    Check("latest version", "207", ("OBX-5",), audiences=_LPS, application="900", stage=Stage.RECORD),
    Check("author or their structure", "207", ("OBX-5",), audiences=_LPS, application="901", stage=Stage.RECORD),
    Check("store takes it", "207", ("MSH",), stage=Stage.KEEP),
)
_RUNS = {
    audience: [(check, check.run) for check in DECISIONS if check.run is not None and audience in check.audiences]
    for audience in ("pfi", "lps")
}


def document_id(ei: Composite) -> str:
    """A document number in TXA, in the form of a CDA id."""
    return canonical_id("^".join(ei.text(component) for component in (1, 2, 3, 4)))


def keeps_to_matrix(request: PfiRequest) -> bool:
    """Whether the flags are a row of the MSSanté routing table; a message that asks for no mail is outside its subject."""
    if not request.says("DESTMSSANTEPS") and not request.says("DESTMSSANTEPAT"):
        return True
    said = [request.says(flag) for flag in _MATRIX_FLAGS]
    return any(all(want is None or want is have for want, have in zip(row, said, strict=True)) for row in _MATRIX)


def _event_action(request: PfiRequest) -> DocumentAction | None:
    return _EVENT.get(request.message.type.partition("^")[2])


def _is_empty(segment: Segment, field: int) -> bool:
    return segment.raw(field).strip(b" ^&~") in (b"", b'""')
