"""ORM^O01, OML^O21/O33/O35, OMG^O19, OMI^O23 and the answers ORR^O02, ORL^O22/O34/O36: orders as ServiceRequest.

Each order is known by its placer number. What a message says of it holds by the time of the message: an order that comes after
its cancellation fills in what is lacking and stays revoked. Observations under an order (history, weight) support it.

Standard: HL7 v2.5.1 chapter 4; IHE PaLM LAB-1, LAB-4; FHIR R4 ServiceRequest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hub.formats.er7 import Message
from hub.model.record_change import RecordChange, ResourceChange
from hub.model.refusals import CodeUnknown, FieldMissing, Finding, SegmentMissing
from hub.model.site import Site
from mappings.hl7v2.ce import coding
from mappings.hl7v2.message_times import event_time
from mappings.hl7v2.obx_observation import numbered_once, observation_findings
from mappings.hl7v2.orc import OrderControl, order_number, parent_number, service_request
from mappings.hl7v2.order_groups import OrderGroup, has_earlier_results, judge_one_patient, order_groups
from mappings.hl7v2.order_number import Number
from mappings.hl7v2.pid import judge_pid, pid_findings, pid_identity, pid_patient
from mappings.hl7v2.plain_document import visit
from mappings.hl7v2.pv1 import pv1_encounter, pv1_findings
from mappings.hl7v2.results import SECTIONS, context_of, observations_of
from mappings.hl7v2.spm import specimen_reference, specimens_of
from mappings.hl7v2.ucum import Units
from mappings.structure import AsksForNothing

Json = dict[str, Any]

REQUESTS = ("ORM^O01", "OML^O21", "OML^O33", "OML^O35", "OMG^O19", "OMI^O23")
ANSWERS = ("ORR^O02", "ORL^O22", "ORL^O34", "ORL^O36")

SNOMED = "http://snomed.info/sct"
LABORATORY = coding("108252007", "Laboratory procedure", SNOMED)
IMAGING = coding("363679005", "Imaging", SNOMED)
_BY_TYPE = {"OML": LABORATORY, "ORL": LABORATORY, "OMI": IMAGING}
_OTHER_DETAILS = ("RXO", "RQD", "RQ1", "ODS", "ODT")  # medicines, supplies, meals


class Orders(AsksForNothing):
    """Orders and answers to them, outside a French profile."""

    version = "1"
    heavy = parses_document = False

    def __init__(self, name: str, control: OrderControl, units: Units) -> None:
        self.name, self._control, self._units = name, control, units

    def judge(self, message: Message, site: Site) -> None:
        if not _is_answer(message) or message.peek("PID") is not None:
            judge_pid(message)
        judge_one_patient(message)
        groups = order_groups(message)
        if not _is_answer(message) and not any(group.orc for group in groups):
            raise SegmentMissing(at="ORC")
        for group in groups:
            self._judge_order(group, site)

    def remarks(self, message: Message, site: Site) -> tuple[Finding, ...]:
        found = [*pid_findings(message, site), *pv1_findings(message, site)]
        if has_earlier_results(message):
            found.append(Finding("EARLIER_RESULTS_LEFT", "PID[2]", "PID[2]: earlier results behind the order are not filed"))
        for name in _OTHER_DETAILS:
            if message.first(name) is not None:
                found.append(Finding("ORDER_DETAIL_LEFT", name, f"{name}: an order of another kind is not filed"))
        for group in order_groups(message):
            for part in group.observations:
                found += observation_findings(part)
        return tuple(found)

    def translate(self, message: Message, site: Site) -> RecordChange:
        identity = pid_identity(message, site)
        stay = pv1_encounter(message, site)
        return RecordChange(
            mapping=f"{self.name}@{self.version}",
            identity=identity,
            patient=pid_patient(message, identity, site) if message.peek("PID") is not None else None,
            event_time=event_time(message, site),
            resources=(*((stay,) if stay is not None else ()), *self._orders(message, site)),
        )

    def _judge_order(self, group: OrderGroup, site: Site) -> None:
        """Raises:
        FieldMissing: no ORC-1, or no order number at all.
        CodeUnknown: an ORC-1 that table 0119 lacks.
        """
        if group.orc is None:
            if group.obr is not None:
                raise SegmentMissing(at="ORC")
            return
        code = group.orc.fields.text(1).upper()
        if not code:
            raise FieldMissing(at=group.orc.at(1))
        if not self._control.knows(code):
            raise CodeUnknown(at=group.orc.at(1))
        if order_number(group, site) is None:
            raise FieldMissing(at=group.orc.at(2))

    def _orders(self, message: Message, site: Site) -> Iterator[ResourceChange]:
        seen: dict[str, ResourceChange] = {}
        ranks: dict[str, int] = {}
        replaced: Number | None = None
        other = any(message.first(name) is not None for name in _OTHER_DETAILS)
        for group in order_groups(message):
            number = order_number(group, site)
            if number is None or (other and group.obr is None):
                continue
            for change in self._order(group, number, replaced, message, site=site, ranks=ranks):
                name = f"{change.type} {change.key}"
                if name in seen and change.type == "ServiceRequest":
                    beside = _beside(change, group)
                    seen.setdefault(f"{beside.type} {beside.key}", beside)
                else:
                    seen.setdefault(name, change)
            replaced = number if _control(group) in ("RP", "RU", "RQ") else None
        yield from seen.values()

    def _order(
        self, group: OrderGroup, number: Number, replaced: Number | None, message: Message, *, site: Site, ranks: dict[str, int]
    ) -> Iterator[ResourceChange]:
        made_at = event_time(message, site)
        specimens = specimens_of(group, number, site, self._units, made_at)
        context = context_of(group, number, specimens, message, site=site, units=self._units)
        context.category = ""
        context.shared.pop("basedOn", None)
        supporting = numbered_once(observations_of(group, context), ranks)
        extra: Json = {}
        if (stay := visit(message, site)) is not None:
            extra["encounter"] = stay
        if (kind := _category(message, group)) is not None:
            extra["category"] = [{"coding": [kind]}]
        if specimens:
            extra["specimen"] = [specimen_reference(one) for one in specimens]
        parent = parent_number(group, site)
        if _control(group) == "RO" and (parent or replaced) is not None:
            extra["replaces"] = [(parent or replaced).reference("ServiceRequest")]  # type: ignore[union-attr]
        elif parent is not None:
            extra["basedOn"] = [parent.reference("ServiceRequest")]
        if message.peek("PID") is not None:
            yield from specimens
            yield from supporting
        request = service_request(group, number, site, self._control, made_at, extra=extra)
        yield replace(request, adds={"supportingInfo": [_reference(one) for one in supporting]}) if supporting else request


def _is_answer(message: Message) -> bool:
    return message.type in ANSWERS


def _control(group: OrderGroup) -> str:
    return group.orc.fields.text(1).upper() if group.orc is not None else ""


def _category(message: Message, group: OrderGroup) -> Json | None:
    """By the type of message, else by OBR-24."""
    kind = _BY_TYPE.get(message.type.partition("^")[0])
    section = group.obr.fields.text(24).upper() if group.obr is not None else ""
    if kind is None and section:
        by_section = SECTIONS.get(section, "laboratory")
        return {"imaging": IMAGING, "laboratory": LABORATORY}.get(by_section)
    return kind


def _beside(change: ResourceChange, group: OrderGroup) -> ResourceChange:
    """An order whose number another order of the message has too: known by its code besides."""
    code = (group.obr.fields.text(4) or group.obr.fields.text(4, 2)) if group.obr is not None else ""
    return replace(change, key=f"{change.key}/{code}")


def _reference(change: ResourceChange) -> Json:
    system, _, value = change.key.partition("|")
    return Number(system, value).reference(change.type)
