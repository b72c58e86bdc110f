"""ADT A01, A02, A03, A08, A28, A31: admissions, transfers, discharges and changes of identity.

Standard: IHE PAM France 2.11.2 (ITI-30, ITI-31); HL7 v2.5.1 chapter 3 for senders outside France, who also use A08.
"""

from __future__ import annotations

from hub.formats.er7 import Message
from hub.model.record_change import RecordChange
from hub.model.refusals import Finding
from hub.model.site import Site
from mappings.hl7v2.message_times import event_time
from mappings.hl7v2.pid import judge_pid, pid_findings, pid_identity, pid_patient
from mappings.hl7v2.pv1 import pv1_encounter, pv1_findings
from mappings.structure import AsksForNothing

EVENTS = ("A01", "A02", "A03", "A08", "A28", "A31")
_OF_THE_STAY = frozenset({"A01", "A02", "A03", "A08"})


class Adt(AsksForNothing):
    """Patient and Encounter of one admission message."""

    name, version = "adt", "1"
    heavy = parses_document = False

    def judge(self, message: Message, site: Site) -> None:
        judge_pid(message)

    def remarks(self, message: Message, site: Site) -> tuple[Finding, ...]:
        findings = pid_findings(message, site)
        return findings + pv1_findings(message, site) if _event(message) in _OF_THE_STAY else findings

    def translate(self, message: Message, site: Site) -> RecordChange:
        identity = pid_identity(message, site)
        stay = pv1_encounter(message, site, event=_event(message))
        return RecordChange(
            mapping=f"{self.name}@{self.version}",
            identity=identity,
            patient=pid_patient(message, identity, site),
            event_time=event_time(message, site),
            resources=(stay,) if stay is not None else (),
        )


def _event(message: Message) -> str:
    return message.type.partition("^")[2]
