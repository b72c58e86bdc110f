"""Rules that a row of a table cannot say: the INS and its key, the action triplet, the document against what is said of it."""

from __future__ import annotations

from collections.abc import Iterator

from hub.formats.base64_lenient import decode
from hub.formats.er7 import Segment
from hub.model.identifiers import INS_NIA, INS_NIR, INS_NIR_DEMO, INS_NIR_TEST, InsMatricule
from hub.model.refusals import Unreadable
from mappings.conformance.evaluate import Check
from mappings.conformance.path import repetitions
from mappings.conformance.rules import Severity
from mappings.conformance.view import Hit, View, metadata_codes
from mappings.hl7v2.cda_document import is_same_patient
from mappings.hl7v2.line import Line
from mappings.hl7v2.pfi_checks import document_id
from mappings.hl7v2.prt import Prt

_OBX_11_OF_EVENT = {"T02": "F", "T10": "C", "T04": "D"}
_ORC_1_OF_OBX_11 = {"F": "NW", "C": "RO", "D": "CA"}
_DESTINATIONS = ("DESTDMP", "DESTMSSANTEPS", "DESTMSSANTEPAT")
_ENVIRONMENTS = {"P": frozenset({INS_NIR, INS_NIA}), "T": frozenset({INS_NIR_TEST, INS_NIR_DEMO})}
_SHIFTED = frozenset({"INSERT", "UPDATE", "CANCEL"})


def _ins(view: View) -> Iterator[tuple[Segment, int, str, str]]:
    """Each INS of PID-3: segment, repetition, number, OID."""
    for pid in view.message.segments("PID"):
        for n in range(1, repetitions(pid, 3) + 1):
            if pid.text(3, 5, repetition=n) == "INS" and pid.text(3, repetition=n):
                yield pid, n, pid.text(3, repetition=n), pid.text(3, 4, repetition=n, subcomponent=2)


def ins_key(view: View) -> Iterator[Hit]:
    """The key of each INS: 97 less the rest of its 13 characters by 97."""
    for pid, n, number, oid in _ins(view):
        try:
            right = InsMatricule(number, oid if oid in _ENVIRONMENTS["P"] | _ENVIRONMENTS["T"] else INS_NIR).key_is_right
        except ValueError:
            continue  # its form is another rule's
        if not right:
            yield Hit(pid, 3, n, 1, sentence="is an INS with a wrong key.", value=number)


def ins_environment(view: View) -> Iterator[Hit]:
    """The OID of each INS against MSH-11: production numbers in P, test or demonstration numbers in T and D."""
    mode = "P" if view.message.processing_id == "P" else "T"
    for pid, n, _, oid in _ins(view):
        if oid in _ENVIRONMENTS["P"] | _ENVIRONMENTS["T"] and oid not in _ENVIRONMENTS[mode]:
            words = "of production, and MSH-11 does not say P." if mode == "T" else "of test, and MSH-11 says P."
            yield Hit(pid, 3, n, 4, 2, sentence=f"is the OID {words}", value=oid)


def ins_namespace(view: View) -> Iterator[Hit]:
    """The namespace of an INS says NIR or NIA as its OID does."""
    for pid, n, _, oid in _ins(view):
        name = pid.text(3, 4, repetition=n)
        if oid and name and (oid == INS_NIA) is not name.endswith("NIA"):
            yield Hit(pid, 3, n, 4, 1, sentence="does not name what the OID beside it stands for (NIR or NIA).", value=name)


def zbe_shifted(view: View) -> Iterator[Hit]:
    """A ZBE whose values stand one field too far from ZBE-3 on."""
    for zbe in view.message.segments("ZBE"):
        if zbe.text(5).upper() in _SHIFTED and zbe.text(4).upper() not in _SHIFTED:
            yield Hit(zbe, 4, sentence="is not the action, which stands in ZBE-5: every value stands one field too far.")


def merge_differs(view: View) -> Iterator[Hit]:
    """MRG-1 names another number than PID-3."""
    kept = {
        (pid.text(3, repetition=n), pid.text(3, 4, repetition=n, subcomponent=0))
        for pid in view.message.segments("PID")
        for n in range(1, repetitions(pid, 3) + 1)
        if pid.text(3, repetition=n)
    }
    for mrg in view.message.segments("MRG"):
        for n in range(1, repetitions(mrg, 1) + 1):
            if (mrg.text(1, repetition=n), mrg.text(1, 4, repetition=n, subcomponent=0)) in kept:
                yield Hit(mrg, 1, n, sentence="is a number of PID-3: the old number and the new one are the same.")


def one_document(view: View) -> Iterator[Hit]:
    """One document in an MDM, at most two in an ORU."""
    most = 1 if view.message.type.startswith("MDM") else 2
    for obx in view.document_segments[most:]:
        yield Hit(obx, sentence=f"is one document too many: at most {most} in such a message.")


def action_triplet(view: View) -> Iterator[Hit]:
    """MSH-9.2, ORC-1 and OBX-11 ask for the same action; two documents take the same one."""
    said = [obx for obx in view.document_segments if obx.text(11) in _ORC_1_OF_OBX_11]
    if not said:
        return
    for obx in said[1:]:
        if obx.text(11) != said[0].text(11):
            yield Hit(obx, 11, 1, sentence="is not the action of the first document.", value=obx.text(11))
    event = view.message.type.partition("^")[2]
    wanted = _OBX_11_OF_EVENT.get(event) if view.message.type.startswith("MDM") else said[0].text(11)
    if wanted is None:
        return
    if said[0].text(11) != wanted:
        yield Hit(said[0], 11, 1, sentence=f"does not go with MSH-9.2: {event} wants {wanted}.", value=said[0].text(11))
        return
    orc = view.message.first("ORC")
    if orc is not None and orc.text(1) in _ORC_1_OF_OBX_11.values() and orc.text(1) != _ORC_1_OF_OBX_11[wanted]:
        yield Hit(orc, 1, 1, sentence=f"does not go with OBX-11: {wanted} wants {_ORC_1_OF_OBX_11[wanted]}.", value=orc.text(1))


def event_action(view: View) -> Iterator[Hit]:
    """MSH-9.2 and OBX-11 alone, for versions whose ORC-1 says nothing."""
    yield from (hit for hit in action_triplet(view) if hit.segment is not None and hit.segment.name == "OBX")


def document_readable(view: View) -> Iterator[Hit]:
    """OBX-5.5 is Base64 of a well-formed XML document whose root is ClinicalDocument."""
    for document in view.documents:
        if document.header is None and document.obx.component_span(5, 5)[0] != document.obx.component_span(5, 5)[1]:
            yield Hit(document.obx, 5, 1, 5, sentence=f"holds no CDA document: {document.trouble}.")


def base64_whole(view: View) -> Iterator[Hit]:
    """Base64 is padded and not cut. A document that lacks padding can be read: a warning."""
    documents = {obx.index for obx in view.document_segments}
    for obx in view.message.segments("OBX"):
        if obx.text(2).upper() != "ED" or obx.text(5, 4).upper() not in ("BASE64", "B64"):
            continue
        start, end = obx.component_span(5, 5)
        data = view.message.raw[start:end].strip()
        if not data:
            continue
        try:
            decode(data)
        except Unreadable:
            if obx.index not in documents:
                yield Hit(obx, 5, 1, 5, sentence="is not Base64.", severity=Severity.ERROR)
            continue
        digits = len(data.rstrip(b"="))
        if digits % 4 == 1:
            yield Hit(obx, 5, 1, 5, sentence="is cut: its last character stands for no whole byte.")
        elif len(data) % 4:
            yield Hit(obx, 5, 1, 5, sentence="is Base64 without its padding (=).")


def document_patient(view: View) -> Iterator[Hit]:
    """The patient of PID-3 is the patient of each document."""
    if not view.identity.ins and not view.identity.local:
        return
    for document in view.documents:
        if document.header is not None and not is_same_patient(view.identity, document.header):
            pid = view.message.first("PID")
            yield Hit(pid, 3, sentence=f"is not the patient of the document in {document.obx.at(5)}.")
            return


def document_number(view: View) -> Iterator[Hit]:
    """TXA-12 is the id of the document."""
    txa = view.message.first("TXA")
    if txa is None or not txa.text(12):
        return
    number = document_id(Line.of(txa, view.message).one(12))
    for document in view.documents[:1]:
        if document.header is not None and number != document.header.id:
            yield Hit(txa, 12, 1, sentence="is not the id of the document in OBX-5.", value=txa.text(12))


def document_replaced(view: View) -> Iterator[Hit]:
    """TXA-13 is the id of the document that the CDA replaces."""
    txa = view.message.first("TXA")
    if txa is None or not txa.text(13) or not view.message.type.endswith("T10"):
        return
    number = document_id(Line.of(txa, view.message).one(13))
    for document in view.documents[:1]:
        if document.header is not None and document.header.replaces and number != document.header.replaces:
            yield Hit(txa, 13, 1, sentence="is not the document that the CDA replaces (relatedDocument).", value=txa.text(13))


def document_type(view: View) -> Iterator[Hit]:
    """OBX-3.1, OBR-4.1 and TXA-2 are the type of the document."""
    seen: set[tuple[int, int]] = set()
    for document in view.documents:
        if document.header is None:
            continue
        told = [(document.obx, 3), *((view.message.first(name), field) for name, field in (("OBR", 4), ("TXA", 2)))]
        for segment, field in told:
            if segment is None or (segment.index, field) in seen:
                continue
            if (code := segment.text(field)) and code != document.header.code:
                seen.add((segment.index, field))
                yield Hit(segment, field, 1, 1, sentence="is not the type code of the document.", value=code)


def same_type(view: View) -> Iterator[Hit]:
    """OBR-4.1 and TXA-2 are OBX-3.1 of the document."""
    if not view.document_segments or any(document.header is not None for document in view.documents):
        return  # then document_type compares with the document itself
    code = view.document_segments[0].text(3)
    for name, field in (("OBR", 4), ("TXA", 2)):
        segment = view.message.first(name)
        if segment is not None and code and segment.text(field) and segment.text(field) != code:
            yield Hit(segment, field, 1, 1, sentence="is not OBX-3.1 of the document.", value=segment.text(field))


def document_relation(view: View) -> Iterator[Hit]:
    """A replacement names its predecessor inside the CDA (RPLC), a first sending names none."""
    for document in view.documents:
        if document.header is None:
            continue
        action = document.obx.text(11)
        if action == "C" and not document.header.replaces:
            yield Hit(document.obx, 5, 1, 5, sentence="is a replacement (OBX-11 C) whose CDA has no relatedDocument RPLC.")
        if action == "F" and document.header.replaces:
            yield Hit(
                document.obx, 5, 1, 5, sentence="is sent for the first time (OBX-11 F), and its CDA replaces another (RPLC)."
            )


def traits_in_document(view: View) -> Iterator[Hit]:
    """A document with an INS carries the five traits."""
    for document in view.documents:
        if document.header is not None and document.header.ins and not document.header.has_all_traits:
            yield Hit(document.obx, 5, 1, 5, sentence="is a CDA with an INS, without all its traits.")


def metadata_order(view: View) -> Iterator[Hit]:
    """The OBX of MetaDMPMSS come in the order of the table, after the document."""
    ranks = {code: n for n, code in enumerate(metadata_codes())}
    highest, before = -1, ""
    for obx in view.metadata:
        code = view.code(obx)
        if ranks[code] < highest:
            yield Hit(obx, 3, 1, 1, sentence=f"comes after {before}, and belongs before it.")
        else:
            highest, before = ranks[code], code


def metadata_twice(view: View) -> Iterator[Hit]:
    """No metadata comes twice."""
    seen: set[str] = set()
    for obx in view.metadata:
        if (code := view.code(obx)) in seen and code != "COMP_LOT":
            yield Hit(obx, 3, 1, 1, sentence=f"says {code} a second time.")
        seen.add(code)


def metadata_unknown(view: View) -> Iterator[Hit]:
    """Every OBX is a document or one of MetaDMPMSS."""
    for obx in view.others:
        if obx.text(3):
            yield Hit(obx, 3, 1, 1, sentence="is neither a document nor one of the metadata.", value=obx.text(3))


def a_destination(view: View) -> Iterator[Hit]:
    """At least one of the three destinations is Y."""
    said = [view.says(flag) for flag in _DESTINATIONS]
    obx = view.flag("DESTDMP")
    if obx is not None and all(value == "N" for value in said):
        yield Hit(obx, 5, 1, 1, sentence="is N like the other destinations: nobody is to receive the document.")


def hidden_from_patient(view: View) -> Iterator[Hit]:
    """What the patient may not see is not mailed to the patient."""
    obx = view.flag("DESTMSSANTEPAT")
    if obx is not None and view.says("INVISIBLE_PATIENT") == "Y" and view.says("DESTMSSANTEPAT") == "Y":
        yield Hit(
            obx, 5, 1, 1, sentence="is Y, and INVISIBLE_PATIENT too: the document would be mailed to whom it is hidden from."
        )


def routing_matrix(view: View) -> Iterator[Hit]:
    """The flags are a row of the table of MSSanté routing."""
    mask, patient, guardians, to_ps, to_pat = (
        view.says(flag) for flag in ("MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REP_LEGAUX", "DESTMSSANTEPS", "DESTMSSANTEPAT")
    )
    if "Y" not in (to_ps, to_pat) or (patient, to_pat) == ("Y", "Y") or "" in (mask, patient, guardians, to_ps, to_pat):
        return
    row = (mask, patient, guardians, to_ps, to_pat)
    if row in (("N", "N", "N", "Y", "Y"), ("N", "Y", "N", "Y", "N")) or (patient == "N" and (to_ps, to_pat) == ("N", "Y")):
        return
    yield Hit(view.flag("DESTMSSANTEPS"), 5, 1, 1, sentence="and the other flags are no row of the table of MSSanté routing.")


def _participations(view: View) -> list[tuple[Segment, Prt]]:
    return [(segment, Prt(segment, view.message)) for segment in view.message.segments("PRT")]


def sender_for_dmp(view: View) -> Iterator[Hit]:
    """DESTDMP needs the sender: a person, a structure or a device."""
    if view.says("DESTDMP") != "Y" or view.message.first("PRT") is None:
        return
    if not any(prt.role == "SB" and prt.is_named for _, prt in _participations(view)):
        yield Hit(view.message.first("PRT"), 4, sentence="is nowhere SB with a name: DESTDMP needs the sender.")


def ins_for_dmp(view: View) -> Iterator[Hit]:
    """DESTDMP needs an INS, and an identity that is qualified."""
    obx = view.flag("DESTDMP")
    if obx is None or view.says("DESTDMP") != "Y" or view.message.first("PID") is None:
        return
    if not any(ins.key_is_right for ins in view.identity.ins) or "VALI" not in view.identity.statuses:
        yield Hit(obx, 5, 1, 1, sentence="is Y, and PID carries no qualified INS (PID-3 of type INS, PID-32 VALI).")


def recipients_for_mail(view: View) -> Iterator[Hit]:
    """DESTMSSANTEPS and DESTMSSANTEPAT need a recipient with an address, of that kind."""
    if view.message.first("PRT") is None:
        return
    patients = [prt.is_patient for _, prt in _participations(view) if prt.role == "RCT"]
    for flag, is_patient, who in (("DESTMSSANTEPS", False, "professional or structure"), ("DESTMSSANTEPAT", True, "patient")):
        if view.says(flag) == "Y" and is_patient not in patients:
            yield Hit(view.flag(flag), 5, 1, 1, sentence=f"is Y, and no PRT (RCT) names a {who} who receives.")


def patient_mailbox(view: View) -> Iterator[Hit]:
    """The patient's mailbox is made of the INS of PID-3."""
    known = {ins.value for ins in view.identity.ins}
    for segment, prt in _participations(view):
        if prt.role == "RCT" and prt.is_patient and known and "@" in prt.address and prt.address.partition("@")[0] not in known:
            yield Hit(segment, 15, 1, 4, sentence="is not the mailbox of the INS in PID-3.", value=prt.address)


def placer_number(view: View) -> Iterator[Hit]:
    """OBR-2 repeats ORC-2."""
    for orc, obr in zip(view.message.segments("ORC"), view.message.segments("OBR"), strict=False):
        if orc.text(2) and obr.text(2) and orc.text(2, 0, subcomponent=0) != obr.text(2, 0, subcomponent=0):
            yield Hit(obr, 2, 1, sentence="is not ORC-2 of the same request.", value=obr.text(2))


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        ins_key, ins_environment, ins_namespace, zbe_shifted, merge_differs, one_document, action_triplet, event_action,
        document_readable, base64_whole, document_patient, document_number, document_replaced, document_type, same_type,
        document_relation, traits_in_document, metadata_order, metadata_twice, metadata_unknown, a_destination,
        hidden_from_patient, routing_matrix, sender_for_dmp, ins_for_dmp, recipients_for_mail, patient_mailbox, placer_number,
    )
}  # fmt: skip
