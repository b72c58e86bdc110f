"""ORC and OBR: one order, as a FHIR ServiceRequest known by its placer number.

Standard: HL7 v2.5.1 §4.5.1 (ORC), §4.5.3 (OBR), §4.5.4 (TQ1), §4.5.6 (IPC); FHIR R4 ServiceRequest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.formats.ts import Ts, parse_ts
from hub.model.record_change import ResourceChange
from hub.model.site import Site
from mappings.hl7v2.ce import full_concept
from mappings.hl7v2.obx_value import clean
from mappings.hl7v2.order_groups import OrderGroup, Part
from mappings.hl7v2.order_number import Number, ei_number, filler_number, group_number, inner_number, placer_number
from mappings.hl7v2.xcn import organization_reference, practitioner_reference

Json = dict[str, Any]

# ORC-7.6, OBR-27.6, TQ1-9 (tables 0485, 0027) → priority.
PRIORITIES = {
    "S": "stat",
    "A": "asap",
    "R": "routine",
    "P": "urgent",
    "C": "asap",
    "T": "urgent",
    "U": "urgent",
    "UR": "urgent",
    "TS": "urgent",
    "TM": "urgent",
}
STATUS_REASON = "http://hl7.org/fhir/StructureDefinition/request-statusReason"
DICOM_UID = "urn:dicom:uid"


class OrderControl:
    """Over the table of order controls (`tables/order_control.toml`)."""

    def __init__(self, table: Mapping[str, Mapping[str, Any]]) -> None:
        self._statuses: Mapping[str, str] = table["ORC-5"]
        self._rows = {code: row for code, row in table.items() if code != "ORC-5"}

    def knows(self, code: str) -> bool:
        return code in self._rows

    def status(self, code: str, orc_5: str) -> str:
        """ServiceRequest.status by ORC-1 and, where that leaves it open, ORC-5; empty = unchanged."""
        row = self._rows.get(code, {})
        if row.get("by_status"):
            return self._statuses.get(orc_5.upper(), "")
        return str(row.get("status", ""))


def order_number(group: OrderGroup, site: Site) -> Number | None:
    """The number an order is known by: the placer's, else the filler's."""
    return placer_number(group, site) or filler_number(group, site)


def service_request(
    group: OrderGroup, number: Number, site: Site, control: OrderControl, event_time: int, *, extra: Json
) -> ResourceChange:
    """The order of one group. `extra` holds what the message as a whole tells (encounter, specimens, supporting observations)."""
    body: Json = {"intent": "order", "identifier": _identifiers(group, site), **extra}
    orc, obr = group.orc, group.obr
    if orc is not None:
        if status := control.status(orc.fields.text(1).upper(), orc.fields.text(5)):
            body["status"] = status
        if (shared := group_number(group, site)) is not None:
            body["requisition"] = shared.identifier()
        if made := parse_ts(orc.fields.text(9), site.timezone).fhir_datetime():
            body["authoredOn"] = made
        if (reason := full_concept(orc.fields.one(16))) is not None:
            body["extension"] = [{"url": STATUS_REASON, "valueCodeableConcept": reason}]
    if obr is not None and (code := full_concept(obr.fields.one(4))) is not None:
        body["code"] = code
    if (requester := _requester(group, site)) is not None:
        body["requester"] = requester
    if (priority := _priority(group)) is not None:
        body["priority"] = priority
    body |= _occurrence(group, site)
    if reasons := _reasons(group):
        body["reasonCode"] = reasons
    if notes := [{"text": note.text} for note in group.notes() if note.text]:
        body["note"] = notes
    return ResourceChange(
        "ServiceRequest",
        number.key,
        body,
        group.at(),
        event_time,
        defaults={"status": "unknown", "intent": "order"},
        gathers=True,
    )


def image_identifiers(ipc: Part, site: Site) -> list[Json]:
    """IPC-1 (accession number) and IPC-3 (StudyInstanceUID, `urn:dicom:uid`)."""
    found: list[Json] = []
    if (accession := ei_number(ipc.fields.one(1), site)) is not None:
        found.append(accession.identifier("ACSN"))
    if study := ipc.fields.text(3):
        found.append({"system": DICOM_UID, "value": f"urn:oid:{study}"})
    return found


def _identifiers(group: OrderGroup, site: Site) -> list[Json]:
    numbers = ((placer_number(group, site), "PLAC"), (filler_number(group, site), "FILL"), (group_number(group, site), "PGN"))
    found = [number.identifier(kind) for number, kind in numbers if number is not None]
    return found + [one for ipc in group.images for one in image_identifiers(ipc, site)]


def _requester(group: OrderGroup, site: Site) -> Json | None:
    """ORC-12, else OBR-16, else ORC-21 (the ordering organisation)."""
    if group.orc is not None and (person := practitioner_reference(group.orc.fields.one(12))) is not None:
        return person
    if group.obr is not None and (person := practitioner_reference(group.obr.fields.one(16))) is not None:
        return person
    return organization_reference(group.orc.fields.one(21), site) if group.orc is not None else None


def _priority(group: OrderGroup) -> str | None:
    texts = [part.fields.text(9) for part in group.timings]
    texts += [group.orc.fields.text(7, 6)] if group.orc is not None else []
    texts += [group.obr.fields.text(27, 6), group.obr.fields.text(5)] if group.obr is not None else []
    return next((PRIORITIES[text.upper()] for text in texts if text.upper() in PRIORITIES), None)


def _occurrence(group: OrderGroup, site: Site) -> Json:
    """When it should be done: TQ1-7, TQ1-8, else ORC-7.4 and .5, OBR-27.4 and .5, else OBR-36, OBR-6. A pattern is text."""
    start, end = _when(group, site)
    patterns = (clean(part.fields.text(3) or part.fields.text(11)) for part in group.timings)
    pattern = next((text for text in patterns if text), "")
    begins, ends = start.fhir_datetime(), end.fhir_datetime()
    if pattern:
        bounds = {name: said for name, said in (("start", begins), ("end", ends)) if said}
        timing: Json = {"code": {"text": pattern}}
        if bounds:
            timing["repeat"] = {"boundsPeriod": bounds}
        return {"occurrenceTiming": timing, "occurrenceDateTime": None, "occurrencePeriod": None}
    if begins and ends and begins != ends:
        period = {"start": begins, "end": ends}
        return {"occurrencePeriod": period, "occurrenceDateTime": None, "occurrenceTiming": None}
    if begins:
        return {"occurrenceDateTime": begins, "occurrencePeriod": None, "occurrenceTiming": None}
    return {}


def _when(group: OrderGroup, site: Site) -> tuple[Ts, Ts]:
    pairs = [(part.fields.text(7), part.fields.text(8)) for part in group.timings]
    if group.orc is not None:
        pairs.append((group.orc.fields.text(7, 4), group.orc.fields.text(7, 5)))
    if group.obr is not None:
        obr = group.obr.fields
        pairs += [(obr.text(27, 4), obr.text(27, 5)), (obr.text(36), ""), (obr.text(6), "")]
    for first, last in pairs:
        start = parse_ts(first, site.timezone)
        if start.instant is not None:
            return start, parse_ts(last, site.timezone)
    return Ts(), Ts()


def _reasons(group: OrderGroup) -> list[Json]:
    """OBR-31 and DG1-3 as codes, OBR-13 (clinical information) as text."""
    found: list[Json] = []
    if group.obr is not None:
        found += [concept for one in group.obr.fields.all(31) if (concept := full_concept(one)) is not None]
    for part in group.diagnoses:
        concept = full_concept(part.fields.one(3)) or ({"text": text} if (text := clean(part.fields.text(4))) else None)
        if concept is not None:
            found.append(concept)
    if group.obr is not None and (text := clean(group.obr.fields.text(13))):
        found.append({"text": text})
    return found


def parent_number(group: OrderGroup, site: Site) -> Number | None:
    """ORC-8, else OBR-29: the order from which this one comes, by its placer's, else its filler's number."""
    for part, field in ((group.orc, 8), (group.obr, 29)):
        if part is not None:
            pair = part.fields.one(field)
            if (number := inner_number(pair, 1, site) or inner_number(pair, 2, site)) is not None:
                return number
    return None
