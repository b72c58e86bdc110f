"""ADT: identities, admissions, transfers, discharges, and everything else that PAM France says with them.

| events | become |
|---|---|
| A28 A31 | Patient, consents, legal modes |
| A40 A47 A37 | patients joined, renumbered, parted (`mrg.py`) |
| A01 to A07, A14 to A16, A21, A22, A54, their cancellations, Z99 | a movement of the stay (`zbe.py`) |
| A08 (outside France) | Patient, and a correction of what is current |
| A44 | accepted and left aside |

Standard: IHE PAM France 2.11.2 (ITI-30, ITI-31); HL7 v2.5.1 chapter 3 for senders outside France.
"""

from __future__ import annotations

from hub.formats.er7 import Message
from hub.model.record_change import RecordChange, ResourceChange
from hub.model.refusals import Finding
from hub.model.site import Site
from mappings.hl7v2 import mrg, zbe
from mappings.hl7v2.hospitalization import hospitalization_findings, put_hospitalization
from mappings.hl7v2.message_times import event_time
from mappings.hl7v2.pid import judge_pid, pid_findings, pid_identity, pid_patient
from mappings.hl7v2.pv1 import pv1_encounter, pv1_findings
from mappings.hl7v2.zfa import zfa_consents, zfa_findings
from mappings.hl7v2.zfd import zfd_findings
from mappings.hl7v2.zfp import zfp_findings
from mappings.hl7v2.zfs import zfs_findings, zfs_legal_modes
from mappings.structure import AsksForNothing

LEFT_ASIDE = frozenset({"A44"})
EVENTS = tuple(sorted({"A28", "A31", *mrg.EVENTS, *zbe.EVENTS, *LEFT_ASIDE}))


class Adt(AsksForNothing):
    """Patient, stay with its movement, consents, and what happens to numbers."""

    name, version = "adt", "2"
    heavy = parses_document = False

    def judge(self, message: Message, site: Site) -> None:
        judge_pid(message)
        event = _event(message)
        if event in mrg.EVENTS:
            mrg.judge_mrg(message, event)

    def remarks(self, message: Message, site: Site) -> tuple[Finding, ...]:
        event = _event(message)
        findings = pid_findings(message, site)
        if event in LEFT_ASIDE:
            return (*findings, Finding("EVENT_LEFT_ASIDE", "MSH-9.2", "MSH-9.2: kept, but the record does not follow this event"))
        if event in mrg.EVENTS:
            return findings + mrg.mrg_findings(message, event)
        if event in zbe.EVENTS:
            findings += pv1_findings(message, site) + zbe.zbe_findings(message, site, event)
            findings += hospitalization_findings(message, site)
        return (
            *findings,
            *zfa_findings(message, site),
            *zfd_findings(message),
            *zfp_findings(message),
            *(zfs_findings(message, site) if message.peek("ZFS") is not None else ()),
        )

    def translate(self, message: Message, site: Site) -> RecordChange:
        event, identity, mapping = _event(message), pid_identity(message, site), f"{self.name}@{self.version}"
        if event in LEFT_ASIDE:
            return RecordChange(mapping, identity, event_time=event_time(message, site))
        patient = pid_patient(message, identity, site)
        if event in mrg.EVENTS:
            acts = mrg.identity_acts(message, site, event)
            return RecordChange(mapping, identity, patient, event_time=event_time(message, site), acts=acts)
        stay = _stay(message, site, event)
        resources = (stay,) if stay is not None else ()
        return RecordChange(
            mapping=mapping,
            identity=identity,
            patient=patient,
            event_time=event_time(message, site),
            resources=(*resources, *zfa_consents(message, site, stay), *zfs_legal_modes(message, site)),
            movements=zbe.movement_changes(message, site, stay, event) if stay is not None else (),
        )


def _stay(message: Message, site: Site, event: str) -> ResourceChange | None:
    stay = pv1_encounter(message, site, event=event)
    if stay is not None:
        put_hospitalization(stay.body, message, site)
    return stay


def _event(message: Message) -> str:
    return message.type.partition("^")[2]
