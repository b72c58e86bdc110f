"""MRG, and the second PID of A37: what a message does to patients' numbers.

Standard: IHE PAM France 2.11.2, ITI-30 (A40, A47); HL7 v2.5.1 §3.3.37 (A37), §3.4.9 (MRG).
"""

from __future__ import annotations

from hub.formats.er7 import Message
from hub.model.identity import PatientIdentity
from hub.model.record_change import IdentityAct, IdentityActKind
from hub.model.refusals import FieldMissing, Finding, SegmentMissing
from hub.model.site import Site
from mappings.hl7v2.line import Line, line, lines
from mappings.hl7v2.pid import identity_of, is_ins, numbers_of

MERGE, RENUMBER, UNMERGE = "A40", "A47", "A37"
EVENTS = frozenset({MERGE, RENUMBER, UNMERGE})


def judge_mrg(message: Message, event: str) -> None:
    """What a message that joins, parts or renumbers patients must hold.

    Raises:
        SegmentMissing: no MRG; for A37 no second PID.
        FieldMissing: MRG-1 is empty; for A37 PID-3 of the second PID.
    """
    if event == UNMERGE:
        pids = lines(message, "PID")
        if len(pids) < 2:
            raise SegmentMissing(at="PID[2]")
        if not any(cx.text() for cx in pids[1].all(3)):
            raise FieldMissing(at="PID[2]-3")
        return
    mrg = line(message, "MRG")
    if mrg is None:
        raise SegmentMissing(at="MRG")
    if not any(cx.text() for cx in mrg.all(1)):
        raise FieldMissing(at="MRG-1")


def identity_acts(message: Message, site: Site, event: str) -> tuple[IdentityAct, ...]:
    """A40 merges, A47 changes numbers, A37 parts: each MRG that belongs to the first patient, in order."""
    if event not in EVENTS:
        return ()
    if event == UNMERGE:
        pids = lines(message, "PID")
        return (IdentityAct(IdentityActKind.UNMERGE, identity_of(pids[1], site), "PID[2]"),) if len(pids) > 1 else ()
    kind = IdentityActKind.MERGE if event == MERGE else IdentityActKind.RENUMBER
    removes_ins = event == RENUMBER and _removes_ins(line(message, "PID"))
    return tuple(
        IdentityAct(kind, prior, "MRG-1" if n == 1 else f"MRG[{n}]-1", removes_ins=removes_ins)
        for n, mrg in enumerate(_mrgs_of_the_first(message)[0], 1)
        if (prior := _prior(mrg, site)).local or prior.ins
    )


def mrg_findings(message: Message, event: str) -> tuple[Finding, ...]:
    """What is worth telling of a message with MRG."""
    found: list[Finding] = []
    if event in (MERGE, RENUMBER):
        ours, others = _mrgs_of_the_first(message)
        if others:
            found.append(
                Finding("ONE_PATIENT_A_MESSAGE", "PID[2]", "PID[2]: several patients in one message; the first one is read")
            )
        if any(not any(cx.text() for cx in mrg.all(1)) for mrg in ours[1:]):
            found.append(Finding("MRG_EMPTY", "MRG-1", "MRG-1: an empty one is passed over"))
    if event == RENUMBER and _removes_ins(line(message, "PID")):
        found.append(Finding("INS_REMOVED", "PID-3", "PID-3: the sender takes the INS back; none is kept as current"))
    return tuple(found)


def _prior(mrg: Line, site: Site) -> PatientIdentity:
    """The numbers of MRG-1 and the name of MRG-7."""
    local, ins = numbers_of(mrg.all(1), site)
    name = mrg.one(7)
    return PatientIdentity(local=local, ins=ins, birth_name=name.text(1), first_given_name=name.text(2))


def _mrgs_of_the_first(message: Message) -> tuple[list[Line], list[Line]]:
    """MRGs that stand under a PID with the numbers of the first one, and the others (groups of A40)."""
    ours: list[Line] = []
    others: list[Line] = []
    first = current = ""
    for segment in message.segments():
        if segment.name == "PID":
            current = Line.of(segment, message).raw(3)
            first = first or current
        elif segment.name == "MRG":
            (ours if current == first else others).append(Line.of(segment, message))
    return ours, others


def _removes_ins(pid: Line | None) -> bool:
    """Whether PID-3 holds an INS whose number is null."""
    return pid is not None and any(cx.is_null() and is_ins(cx) for cx in pid.all(3))
