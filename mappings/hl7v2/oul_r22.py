"""OUL^R22 outside a French profile: results by specimen. The same as ORU^R01, but for documents, which it does not carry.

Standard: HL7 v2.5.1 §7.3.7 (OUL_R22).
"""

from __future__ import annotations

from hub.formats.er7 import Message
from hub.model.record_change import RecordChange
from hub.model.refusals import Finding
from hub.model.site import Site
from mappings.hl7v2.message_times import event_time
from mappings.hl7v2.order_groups import judge_one_patient, order_groups
from mappings.hl7v2.pid import judge_pid, pid_findings, pid_identity, pid_patient
from mappings.hl7v2.pv1 import pv1_encounter, pv1_findings
from mappings.hl7v2.results import result_findings, results
from mappings.hl7v2.ucum import Units
from mappings.structure import AsksForNothing


class OulR22(AsksForNothing):
    """Results of a laboratory, specimen by specimen."""

    name, version = "oul", "1"
    heavy = parses_document = False

    def __init__(self, units: Units) -> None:
        self._units = units

    def judge(self, message: Message, site: Site) -> None:
        judge_pid(message)
        judge_one_patient(message)

    def remarks(self, message: Message, site: Site) -> tuple[Finding, ...]:
        left = [
            Finding("DOCUMENT_LEFT", part.at(5), f"{part.at(5)}: a document in an OUL is kept in the message only")
            for group in order_groups(message)
            for part in group.observations
            if part.fields.text(2).upper() == "ED"
        ]
        return (*pid_findings(message, site), *pv1_findings(message, site), *result_findings(message, site), *left)

    def translate(self, message: Message, site: Site) -> RecordChange:
        identity = pid_identity(message, site)
        stay = pv1_encounter(message, site)
        return RecordChange(
            mapping=f"{self.name}@{self.version}",
            identity=identity,
            patient=pid_patient(message, identity, site),
            event_time=event_time(message, site),
            resources=(*((stay,) if stay is not None else ()), *results(message, site, self._units)),
        )
