"""OUL^R22 outside a French profile: results by specimen. The same as ORU^R01, but of documents it carries CDA only.

Standard: HL7 v2.5.1 §7.3.7 (OUL_R22).
"""

from __future__ import annotations

from hub.formats.er7 import Message
from hub.model.record_change import RecordChange
from hub.model.refusals import Finding
from hub.model.site import Site
from mappings.hl7v2.cda_document import CdaTranslation, judge_patient, plain_cda, plain_cda_findings
from mappings.hl7v2.message_times import event_time
from mappings.hl7v2.order_groups import judge_one_patient, order_groups
from mappings.hl7v2.oru_r01 import cda_changes, numbers_of, result_cdas
from mappings.hl7v2.pid import judge_pid, pid_findings, pid_identity, pid_patient
from mappings.hl7v2.pv1 import pv1_encounter, pv1_findings
from mappings.hl7v2.results import result_findings, results
from mappings.hl7v2.ucum import Units
from mappings.structure import AsksForNothing


class OulR22(AsksForNothing):
    """Results of a laboratory, specimen by specimen."""

    name, version = "oul", "2"
    heavy, parses_document = False, True

    def __init__(self, units: Units, translation: CdaTranslation) -> None:
        self._units, self._translation = units, translation

    def is_heavy(self, message: Message) -> bool:
        """Whether it holds a CDA."""
        return bool(result_cdas(message))

    def documents(self, message: Message, site: Site) -> tuple[str | None, str | None, bool]:
        """The document of the message, the one that it replaces or deletes, and whether it deletes; of several the first."""
        return numbers_of(result_cdas(message))

    def judge(self, message: Message, site: Site) -> None:
        judge_pid(message)
        judge_one_patient(message)
        if cdas := result_cdas(message):
            judge_patient(cdas, pid_identity(message, site))

    def remarks(self, message: Message, site: Site) -> tuple[Finding, ...]:
        left: list[Finding] = []
        for group in order_groups(message):
            for part in group.observations:
                if part.fields.text(2).upper() == "ED" and plain_cda(part.segment, message) is None:
                    at = part.at(5)
                    left.append(Finding("DOCUMENT_LEFT", at, f"{at}: no CDA; a document in an OUL is kept in the message only"))
                    left += plain_cda_findings(part.segment, message)
        return (*pid_findings(message, site), *pv1_findings(message, site), *result_findings(message, site), *left)

    def translate(self, message: Message, site: Site) -> RecordChange:
        identity = pid_identity(message, site)
        stay = pv1_encounter(message, site)
        made = [*cda_changes(result_cdas(message), message, site, self._translation)]
        return RecordChange(
            mapping=f"{self.name}@{self.version}",
            identity=identity,
            patient=pid_patient(message, identity, site),
            event_time=event_time(message, site),
            resources=(*((stay,) if stay is not None else ()), *results(message, site, self._units)),
            documents=tuple(change for change, _ in made),
            findings=tuple(finding for _, findings in made for finding in findings),
        )
