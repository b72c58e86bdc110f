"""Téléradiologie: request for remote reading, its cancellation, the answer to it, the complement after the examination.

| flow | message | ORC-1 | OBR-4 | becomes |
|---|---|---|---|---|
| 1 | ORM^O01 | NW | TRANSMISSION_DEMANDE | ServiceRequest active, Task requested, Observations that support the request |
| 2 | ORM^O01 | CA | ANNULATION_DEMANDE | ServiceRequest revoked, Task cancelled with ORC-16 |
| 3 | ORU^R01 | OK, OC | REPONSE_DEMANDE | Task accepted, or rejected with ORC-16 (ServiceRequest revoked); protocol as output |
| 4 | OMI^O23 | SR | COMPLEMENT_POST_ACTE | ServiceRequest completed, accession, StudyInstanceUID; Task completed; products |

All four know the request by ORC-2 = OBR-2. PV1-19 is the number of the appointment (SIU), not of a stay.

Standard: CI-SIS téléradiologie 1.0 (HL7 v2.5.1), MSH-21 `1.0^CISIS_TLR_HL7_V2`; FHIR R4 ServiceRequest, Task.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hub.formats.base64_lenient import decode
from hub.formats.er7 import Message
from hub.formats.ts import parse_ts
from hub.model.record_change import RecordChange, ResourceChange
from hub.model.refusals import CodeUnknown, FieldMissing, Finding, RuleBroken, SegmentMissing, Unreadable
from hub.model.site import Site
from mappings.hl7v2.ce import coding, full_concept
from mappings.hl7v2.cx import cx_system
from mappings.hl7v2.line import line
from mappings.hl7v2.message_times import event_time
from mappings.hl7v2.obx_observation import Context, numbered_once, observation
from mappings.hl7v2.obx_value import clean, number, obx_text, obx_value
from mappings.hl7v2.orc import OrderControl, service_request
from mappings.hl7v2.order_groups import OrderGroup, Part, judge_one_patient, order_groups
from mappings.hl7v2.order_number import Number, derived_number, ei_number
from mappings.hl7v2.orders import IMAGING
from mappings.hl7v2.pid import judge_pid, pid_findings, pid_identity, pid_patient
from mappings.hl7v2.teleradiology_states import FIRST, REQUEST_STAYS, REQUEST_WINS, TaskEvent, TaskState, unmoved, wins_over
from mappings.hl7v2.ucum import Units
from mappings.hl7v2.xcn import organization_reference, practitioner_reference
from mappings.structure import AsksForNothing

Json = dict[str, Any]

PROFILE = r".*\^CISIS_TLR_HL7_V2"
TYPES = ("ORM^O01", "ORU^R01", "OMI^O23")

# OBR-4 → the message type and the ORC-1 that go with it.
FLOWS: dict[str, tuple[str, frozenset[str]]] = {
    "TRANSMISSION_DEMANDE": ("ORM^O01", frozenset({"NW"})),
    "ANNULATION_DEMANDE": ("ORM^O01", frozenset({"CA"})),
    "REPONSE_DEMANDE": ("ORU^R01", frozenset({"OK", "OC"})),
    "COMPLEMENT_POST_ACTE": ("OMI^O23", frozenset({"SR"})),
}
OBSERVATION_CODES = frozenset(
    {
        "MODALITE_IMAGERIE",
        "REGION_ANATOMIQUE",
        "PROTOCOLE_IMAGERIE",
        "URL_PARTIELLE_VIEWER",
        "CODE_ACTE_IMAGERIE",
        "PRODUIT_ADMINISTRE",
        "APPAREIL_IMAGERIE",
    }
)
OBSERVATIONS = "TLR_OBSERVATION"
TOPOGRAPHY = "urn:vaguemestre:body-site-topography"
_SYSTEM = "urn:vaguemestre:code-system:TLR_OBSERVATION"
_GROUPED = ("PRODUIT_ADMINISTRE", "APPAREIL_IMAGERIE")
# OBX-4 `n.m` of a product and of a device: what the m-th part is.
_PARTS = {
    "PRODUIT_ADMINISTRE": {"1": "Produit (ATC)", "2": "Numéro de lot", "3": "Quantité"},
    "APPAREIL_IMAGERIE": {"1": "Identifiant", "2": "Modèle"},
}
_REASON_EXPECTED = frozenset({"CA", "OC"})


class Teleradiology(AsksForNothing):
    """One message about one request."""

    name, version = "tlr", "1"
    heavy = parses_document = False

    def __init__(self, control: OrderControl, units: Units) -> None:
        self._control, self._units = control, units

    def judge(self, message: Message, site: Site) -> None:
        judge_pid(message)
        judge_one_patient(message)
        orc, obr = line(message, "ORC"), line(message, "OBR")
        if orc is None:
            raise SegmentMissing(at="ORC")
        if obr is None:
            raise SegmentMissing(at="OBR")
        for name, fields, field in (("ORC", orc, 1), ("ORC", orc, 2), ("OBR", obr, 2), ("OBR", obr, 4)):
            if not fields.text(field):
                raise FieldMissing(at=f"{name}-{field}")
        if ei_number(orc.one(2), site) != ei_number(obr.one(2), site):
            raise RuleBroken(at="OBR-2", sentence="OBR-2: not the number of ORC-2")
        flow = FLOWS.get(obr.text(4))
        if flow is None:
            raise CodeUnknown(at="OBR-4")
        if flow[0] != message.type or orc.text(1).upper() not in flow[1]:
            raise RuleBroken(at="OBR-4", sentence="OBR-4: does not go with MSH-9 and ORC-1")

    def remarks(self, message: Message, site: Site) -> tuple[Finding, ...]:
        found = list(pid_findings(message, site))
        orc = line(message, "ORC")
        if orc is not None and orc.text(1).upper() in _REASON_EXPECTED and not orc.raw(16):
            found.append(Finding("REASON_MISSING", "ORC-16", "ORC-16: no reason"))
        for part in _observations(message):
            code = part.fields.text(3)
            if part.fields.text(3, 3) == OBSERVATIONS and code not in OBSERVATION_CODES:
                found.append(Finding("TLR_OBSERVATION", part.at(3), f"{part.at(3)}: not a code of TLR_OBSERVATION; kept"))
            if part.fields.text(2).upper() == "ED" and _decoded(part, message) is None:
                found.append(Finding("BASE64_INVALID", part.at(5), f"{part.at(5)}: neither base64 of a text nor text; not filed"))
        return tuple(found)

    def translate(self, message: Message, site: Site) -> RecordChange:
        identity = pid_identity(message, site)
        return RecordChange(
            mapping=f"{self.name}@{self.version}",
            identity=identity,
            patient=pid_patient(message, identity, site),
            event_time=event_time(message, site),
            resources=tuple(self._changes(message, site)),
        )

    def _changes(self, message: Message, site: Site) -> Iterator[ResourceChange]:
        group = next((one for one in order_groups(message) if one.orc is not None and one.obr is not None), None)
        request = ei_number(group.orc.fields.one(2), site) if group is not None and group.orc is not None else None
        if group is None or group.orc is None or request is None:
            return
        event = TaskEvent(group.orc.fields.text(1).upper())
        observations = numbered_once(list(_measured(group, request, message, site, self._units)), {})
        observations += _grouped(group, request, message, site, self._units)
        yield from observations
        yield self._request(group, request, event, observations, message=message, site=site)
        yield _task(group, request, event, message, site)

    def _request(
        self,
        group: OrderGroup,
        request: Number,
        event: TaskEvent,
        observations: list[ResourceChange],
        *,
        message: Message,
        site: Site,
    ) -> ResourceChange:
        extra: Json = {"category": [{"coding": [IMAGING]}]}
        supporting = [_logical(one) for one in observations]
        if (appointment := appointment_number(message, site)) is not None:
            supporting.append(appointment.reference("Appointment"))
        if sites := _body_sites(group):
            extra["bodySite"] = sites
        if modalities := [
            c for part in _coded(group, "MODALITE_IMAGERIE") if (c := full_concept(part.fields.one(5))) is not None
        ]:
            extra["orderDetail"] = modalities
        change = service_request(group, request, site, self._control, event_time(message, site), extra=extra)
        body = dict(change.body)
        body.pop("code", None)  # OBR-4 names the flow
        if (code := _procedure(group)) is not None:
            body["code"] = code
        if event is TaskEvent.COMPLETE:
            body["status"] = "completed"
        if event in (TaskEvent.ACCEPT, TaskEvent.REJECT):
            body.pop("requester", None)  # ORC-12 and ORC-21 are those of the platform
        notes = [*body.get("note", ()), *({"text": n.text} for part in group.observations for n in part.notes if n.text)]
        if notes:
            body["note"] = notes
        adds = {"supportingInfo": supporting} if supporting else {}
        return replace(
            change,
            body=body,
            path="ORC",
            adds=adds,
            status_stays=REQUEST_STAYS[event],
            status_wins=REQUEST_WINS.get(event, frozenset()),
        )


def appointment_number(message: Message, site: Site) -> Number | None:
    """PV1-19: the appointment's number in the SIU messages."""
    pv1 = line(message, "PV1")
    given = pv1.one(19) if pv1 is not None else None
    return Number(cx_system(given, site), given.text()) if given is not None and given.text() else None


def _task(group: OrderGroup, request: Number, event: TaskEvent, message: Message, site: Site) -> ResourceChange:
    assert group.orc is not None
    orc, made_at = group.orc.fields, event_time(message, site)
    state = FIRST[event]
    body: Json = {
        "status": state.value,
        "intent": "order",
        "identifier": [request.identifier("PLAC")],
        "focus": request.reference("ServiceRequest"),
        "basedOn": [request.reference("ServiceRequest")],
        "code": {"text": "Téléradiologie"},
    }
    organisation = organization_reference(orc.one(21), site)
    person = practitioner_reference(orc.one(12))
    if event is TaskEvent.REQUEST:
        if made := parse_ts(orc.text(9), site.timezone).fhir_datetime():
            body["authoredOn"] = made
        if (requester := organisation or person) is not None:
            body["requester"] = requester
    elif event in (TaskEvent.ACCEPT, TaskEvent.REJECT) and (owner := organisation or person) is not None:
        body["owner"] = owner
    if (reason := full_concept(orc.one(16))) is not None:
        body["statusReason"] = reason
    elif state is not TaskState.COMPLETED:
        body["statusReason"] = None
    return ResourceChange(
        "Task",
        request.key,
        body,
        "ORC",
        made_at,
        gathers=True,
        adds={"output": outputs} if (outputs := list(_outputs(group, message, site))) else {},
        status_stays=unmoved(event),
        status_wins=wins_over(event),
    )


def _outputs(group: OrderGroup, message: Message, site: Site) -> Iterator[Json]:
    """Protocol, partial address of the viewer, how long the images are kept (TQ1-6)."""
    for code in ("PROTOCOLE_IMAGERIE", "URL_PARTIELLE_VIEWER"):
        for part in _coded(group, code):
            if text := _decoded(part, message):
                yield {"type": _tlr(part.fields.text(3), part.fields.text(3, 2)), "valueString": text}
    for part in group.timings:
        days = number(part.fields.text(6))
        if days is not None:
            kept = {
                "value": days[1],
                "unit": part.fields.text(6, 2) or "jours",
                "system": "http://unitsofmeasure.org",
                "code": "d",
            }
            yield {"type": {"text": "Durée de conservation"}, "valueDuration": kept}


def _measured(group: OrderGroup, request: Number, message: Message, site: Site, units: Units) -> Iterator[ResourceChange]:
    """Observations of other code systems (LOINC): history, height, weight, pregnancy."""
    context = _context(request, message, site, units)
    for part in group.observations:
        known = part.fields.text(3) in OBSERVATION_CODES
        if not known and part.fields.text(2).upper() != "ED" and (made := observation([part], context)) is not None:
            yield made


def _grouped(group: OrderGroup, request: Number, message: Message, site: Site, units: Units) -> Iterator[ResourceChange]:
    """Products and devices: one Observation each, the parts of OBX-4 `n.m` as components."""
    for code in _GROUPED:
        by_rank: dict[str, list[Part]] = defaultdict(list)
        for part in _coded(group, code):
            by_rank[part.fields.text(4).partition(".")[0]].append(part)
        for rank, parts in by_rank.items():
            components = []
            for part in parts:
                value = obx_value(part, message, site, units)
                which = part.fields.text(4).partition(".")[2]
                if which == "2" and code == "PRODUIT_ADMINISTRE" and (lot := part.fields.text(5)):
                    value = {"valueString": lot}  # a lot number keeps its zeroes, whatever its type
                if value and "component" not in value:
                    components.append({"code": {"text": _PARTS[code].get(which, which or code)}, **value})
            if components:
                number_ = derived_number("observation", *request, code, rank)
                body: Json = {
                    "status": "final",
                    "code": _tlr(code, parts[0].fields.text(3, 2)),
                    "identifier": [number_.identifier()],
                    "category": [
                        {"coding": [coding("procedure", "", "http://terminology.hl7.org/CodeSystem/observation-category")]}
                    ],
                    "component": components,
                    "basedOn": [request.reference("ServiceRequest")],
                }
                yield ResourceChange("Observation", number_.key, body, parts[0].at(), event_time(message, site))


def _context(request: Number, message: Message, site: Site, units: Units) -> Context:
    return Context(message, site, units, event_time(message, site), order=request)


def _body_sites(group: OrderGroup) -> list[Json]:
    """REGION_ANATOMIQUE: `n.1` the region, `n.2` its topography."""
    regions: dict[str, Json] = {}
    for part in _coded(group, "REGION_ANATOMIQUE"):
        rank, _, which = part.fields.text(4).partition(".")
        concept = full_concept(part.fields.one(5))
        if concept is None:
            continue
        if which == "2" and rank in regions:
            regions[rank]["extension"] = [{"url": TOPOGRAPHY, "valueCodeableConcept": concept}]
        else:
            regions.setdefault(rank or part.at(), concept)
    return list(regions.values())


def _procedure(group: OrderGroup) -> Json | None:
    """CODE_ACTE_IMAGERIE, else IPC-2 (the code of the examination, its system in IPC-2.3)."""
    for part in _coded(group, "CODE_ACTE_IMAGERIE"):
        if (code := full_concept(part.fields.one(5))) is not None:
            return code
    for part in group.images:
        if code_ := part.fields.text(2):
            oid = part.fields.text(2, 3)
            system = "http://loinc.org" if oid == "2.16.840.1.113883.6.1" else f"urn:oid:{oid}" if oid else ""
            return {"coding": [coding(code_, "", system)]}
    return None


def _coded(group: OrderGroup, code: str) -> list[Part]:
    return [part for part in group.observations if part.fields.text(3) == code]


def _observations(message: Message) -> list[Part]:
    return [part for group in order_groups(message) for part in group.observations]


def _decoded(part: Part, message: Message) -> str | None:
    """The text of an ED in Base64, or of a text OBX-5; None when it is neither."""
    if part.fields.text(2).upper() != "ED":
        return obx_text(part, message)
    start, end = part.segment.component_span(5, 5)
    try:
        return clean(decode(message.raw[start:end]).decode())
    except (Unreadable, UnicodeDecodeError):
        return None


def _tlr(code: str, display: str) -> Json:
    return {"coding": [coding(code, display, _SYSTEM)], **({"text": display} if display else {})}


def _logical(change: ResourceChange) -> Json:
    system, _, value = change.key.partition("|")
    return Number(system, value).reference(change.type)
