"""SPM, and OBR-15 of older senders: the specimen.

Standard: HL7 v2.5.1 §7.4.3 (SPM), §4.5.3.15 (OBR-15); FHIR R4 Specimen.
"""

from __future__ import annotations

from typing import Any

from hub.formats.ts import parse_ts
from hub.model.record_change import ResourceChange
from hub.model.site import Site
from mappings.hl7v2.ce import coding, full_concept
from mappings.hl7v2.line import Line
from mappings.hl7v2.obx_value import clean, number
from mappings.hl7v2.order_groups import OrderGroup, Part
from mappings.hl7v2.order_number import Number, derived_number, inner_number
from mappings.hl7v2.ucum import Units

Json = dict[str, Any]

_AVAILABLE = {"Y": "available", "N": "unavailable"}


def specimens_of(group: OrderGroup, order: Number | None, site: Site, units: Units, event_time: int) -> list[ResourceChange]:
    """The specimens of one order: each SPM, else what OBR-15 tells."""
    found = [_spm(part, order, site, units, event_time) for part in group.specimens]
    if not found and group.obr is not None:
        found = [_obr_15(group.obr, order, site, event_time)]
    return [one for one in found if one is not None]


def specimen_reference(change: ResourceChange) -> Json:
    """A specimen of the same message, as logical reference."""
    system, _, value = change.key.partition("|")
    return Number(system, value).reference("Specimen")


def _spm(part: Part, order: Number | None, site: Site, units: Units, event_time: int) -> ResourceChange | None:
    fields = part.fields
    pair = fields.one(2)
    given: dict[str, Number] = {}
    for component, role in ((2, "FILL"), (1, "PLAC")):
        if (found := inner_number(pair, component, site)) is not None:
            given[role] = found
    own = next(iter(given.values()), None)
    if own is None and order is None:
        return None
    number_ = own or derived_number("specimen", *order, fields.text(1) or "1")  # type: ignore[misc]
    body: Json = {"identifier": [one.identifier(role) for role, one in given.items()] or [number_.identifier()]}
    if (source := full_concept(fields.one(4))) is not None:
        body["type"] = source
    if fields.text(21):
        body["status"] = "unsatisfactory"
    elif (status := _AVAILABLE.get(fields.text(20).upper())) is not None:
        body["status"] = status
    if (parent := inner_number(fields.one(3), 2, site) or inner_number(fields.one(3), 1, site)) is not None:
        body["parent"] = [parent.reference("Specimen")]
    if received := parse_ts(fields.text(18), site.timezone).fhir_datetime():
        body["receivedTime"] = received
    if collection := _collection(fields, site, units):
        body["collection"] = collection
    conditions = [concept for one in fields.all(24) if (concept := full_concept(one)) is not None]
    if conditions:
        body["condition"] = conditions
    notes = [clean(one.text()) for one in fields.all(14)] + [note.text for note in part.notes]
    if texts := [{"text": text} for text in notes if text]:
        body["note"] = texts
    return ResourceChange("Specimen", number_.key, body, part.at(), event_time)


def _collection(fields: Line, site: Site, units: Units) -> Json:
    made: Json = {}
    start, end = (parse_ts(fields.text(17, n), site.timezone).fhir_datetime() for n in (1, 2))
    if start and end:
        made["collectedPeriod"], made["collectedDateTime"] = {"start": start, "end": end}, None
    elif start:
        made["collectedDateTime"], made["collectedPeriod"] = start, None
    if (method := full_concept(fields.one(7))) is not None:
        made["method"] = method
    if (site_ := full_concept(fields.one(8))) is not None:
        made["bodySite"] = site_
    if (amount := number(fields.text(12))) is not None:
        made["quantity"] = units.quantity(amount[1], fields.text(12, 2))
    return made


def _obr_15(obr: Part, order: Number | None, site: Site, event_time: int) -> ResourceChange | None:
    """SPS-1 (source), SPS-4 (body site), OBR-7 (collected)."""
    source = obr.fields.one(15)
    code, text = source.text(1), source.text(1, 2)
    if order is None or not (code or text):
        return None
    number_ = derived_number("specimen", *order, "OBR-15")
    kind: Json = {"coding": [coding(code, text)]} if code else {}
    if text:
        kind["text"] = text
    body: Json = {"identifier": [number_.identifier()], "type": kind}
    collection: Json = {}
    if collected := parse_ts(obr.fields.text(7), site.timezone).fhir_datetime():
        collection["collectedDateTime"] = collected
    if place := source.text(4, 2) or source.text(4):
        collection["bodySite"] = {"text": place}
    if collection:
        body["collection"] = collection
    if received := parse_ts(obr.fields.text(14), site.timezone).fhir_datetime():
        body["receivedTime"] = received
    return ResourceChange("Specimen", number_.key, body, obr.at(15), event_time)
