"""Devices: prescribed ones as DeviceRequest, worn, implanted or delivered ones as DeviceUseStatement.

Standard: CI-SIS FR-Dispositif-medical (1.2.250.1.213.1.1.3.20); CCD Supply Activity (2.16.840.1.113883.10.20.1.34); EMDN
(1.2.250.1.213.2.68), LPP (1.2.250.1.215.200.2.1); UDI in GS1 form; FHIR R4 DeviceRequest, DeviceUseStatement, Device.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hub.model.identifiers import is_oid
from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import acts
from mappings.cda.templates.dispensation import dispensation
from mappings.cda.templates.measures import amount_of, duration
from mappings.cda.templates.product import extend
from mappings.cda.templates.qualifiers import Qualifiers, fold_observations, is_void, qualifiers, said
from mappings.cda.walk import translate_each
from mappings.cda.xml import Element, attribute, every, one, text

Json = dict[str, Any]

_GS1 = re.compile(r"[({](\d{2})[)}]([^({]{1,90})", re.ASCII)
_SITE = "39111-0"
_BRAND, _MODEL = "C101668", "C43383"  # NCI Thesaurus: the property that a translation's words give
_STATUS = {"aborted": "stopped", "suspended": "on-hold", "held": "on-hold", "cancelled": "stopped"}
_REQUESTED = {"aborted": "revoked", "suspended": "on-hold", "held": "on-hold", "cancelled": "revoked"}
_INTENT = {"PRP": "proposal", "PRMS": "plan"}


def device(entry: Element, scope: Scope) -> Json | None:
    """One device."""
    if is_void(entry, scope):
        return None
    if attribute(entry, "negationInd").lower() == "true":
        scope.left(entry, "a device that is not there or not asked for; stays in the document")
        return None
    made = _device(entry, scope)
    if "type" not in made:
        scope.find("CODE_MISSING", entry, "a device that is not named; stays in the document")
        scope.claim_all(entry)
        return None
    under = qualifiers(entry, scope)
    scope.claim(entry)
    first = (made["type"].get("coding") or [{}])[0]
    about = f"{first.get('system', '')}|{first.get('code', '')}" if first else made["type"]["text"]
    if attribute(entry, "moodCode") in {"EVN", ""}:
        return scope.add("DeviceUseStatement", entry, _used(entry, scope, made, under), about=about)
    return scope.add("DeviceRequest", entry, _requested(entry, scope, made, under), about=about)


def _used(entry: Element, scope: Scope, made: Json, under: Qualifiers) -> Json:
    """DeviceUseStatement; what was measured of the device is an Observation of its own, named in derivedFrom."""
    when = one(entry, "effectiveTime")
    status = _STATUS.get(attribute(entry, "code", "statusCode"), "completed" if acts.is_over(when, scope) else "active")
    body: Json = {
        "status": status,
        "contained": [{"resourceType": "Device", "id": "device", **made}],
        "device": {"reference": "#device"},
    }
    body |= values.when(entry, scope, "timing")
    source, at = values.author(entry), values.moment(one(entry, "author/time"), scope)
    body |= {"source": source} if source is not None else {}
    body |= {"recordedOn": at} if at else {}
    for part in [part for part in under.observations if attribute(part, "code", "code") == _SITE]:
        value = one(part, "value")
        words = said(text(value) or values.text_of(part, scope))
        site = values.concept(value, scope) or ({"text": words} if words else None)
        if site is not None and "bodySite" not in body:
            body["bodySite"] = {**site, "text": site.get("text") or words}
            under.observations.remove(part)
            scope.claim(part)
    measured = translate_each((*under.observations, *under.rest), scope)
    if derived := [reference for reference in measured if reference.get("type") == "Observation"]:
        body["derivedFrom"] = derived
    _common(entry, scope, body, under)
    for actor in values.performers(entry):
        extend(body, {"url": "urn:vaguemestre:performer", "valueReference": actor})
    quantity = amount_of(one(entry, "quantity"), scope)
    extend(body, *([{"url": "urn:vaguemestre:quantity", "valueQuantity": quantity}] if quantity is not None else ()))
    return body


def _requested(entry: Element, scope: Scope, made: Json, under: Qualifiers) -> Json:
    body: Json = {
        "status": _REQUESTED.get(attribute(entry, "code", "statusCode"), "active"),
        "intent": _INTENT.get(attribute(entry, "moodCode"), "order"),
        "codeCodeableConcept": made["type"],
    }
    group, requester, at = acts.group_identifier(scope), acts.author_of(entry, scope), acts.written_at(entry, scope)
    body |= {"groupIdentifier": group} if group is not None else {}
    body |= {"requester": requester} if requester is not None else {}
    body |= {"authoredOn": at} if at else {}
    body |= values.when(entry, scope, "occurrence")
    quantity, lasts = amount_of(one(entry, "quantity"), scope), duration(one(entry, "expectedUseTime/width"), scope)
    if quantity is not None:
        body["parameter"] = [{"code": {"text": "quantity"}, "valueQuantity": quantity}]
    extend(body, *([{"url": "urn:vaguemestre:expected-use", "valueDuration": lasts}] if lasts is not None else ()))
    repeats = values.number(attribute(entry, "value", "repeatNumber"))
    if isinstance(repeats, int) and 0 <= repeats < 1 << 31:
        extend(body, {"url": "urn:vaguemestre:number-of-repeats-allowed", "valueUnsignedInt": repeats})
    extend(body, *fold_observations(under.observations, scope), *acts.marks(scope))
    _common(entry, scope, body, under)
    translate_each((*under.observations, *under.rest), scope)
    return body


def _common(entry: Element, scope: Scope, body: Json, under: Qualifiers) -> None:
    under.notes += [{"text": words} for words in under.instructions]
    under.put(body)


def _device(entry: Element, scope: Scope) -> Json:
    """Device: its type by all its codes, names, maker, UDI. Empty of `type` when nothing names it."""
    role = next((part for part in every(entry, "participant/participantRole") if one(part, "playingDevice") is not None), None)
    code = one(role, "playingDevice/code")
    made: Json = {}
    kind = _kind(code, scope, made)
    maker, model = (text(one(role, f"playingDevice/{name}")) for name in ("manufacturerModelName", "softwareName"))
    if maker:
        made.setdefault("deviceName", []).append({"name": maker, "type": "model-name"})
    if kind is None and (words := model or said(values.text_of(entry, scope))):
        kind = {"text": words}
    if kind is not None:
        made["type"] = kind
    for element in every(role, "id"):
        _identify(element, made)
    return made


def _kind(code: Element | None, scope: Scope, made: Json) -> Json | None:
    """The codes; a translation without a code, or that names the property brand or model, gives words of the device."""
    kind = values.concept(code, scope)
    for part in every(code, "translation"):
        words, named = said(values.original_text(part, scope)), attribute(part, "code")
        if kind is not None and named in {_BRAND, _MODEL}:
            kind["coding"] = [coding for coding in kind.get("coding", ()) if coding["code"] != named]
        if not words:
            continue
        if named == _BRAND:
            made["manufacturer"] = words
        elif named in {_MODEL, ""}:
            made.setdefault("deviceName", []).append({"name": words, "type": "model-name" if named else "user-friendly-name"})
    return kind


def _identify(element: Element, made: Json) -> None:
    """The UDI in GS1 form with its parts; any other number as an identifier."""
    root, extension = attribute(element, "root"), attribute(element, "extension")
    parts = dict(_GS1.findall(extension))
    if "01" in parts:
        carrier: Json = {"deviceIdentifier": parts["01"].strip(), "carrierHRF": extension}
        if is_oid(root):
            carrier["issuer"] = f"urn:oid:{root}"
        made.setdefault("udiCarrier", []).append(carrier)
        for application, name in (("10", "lotNumber"), ("21", "serialNumber")):
            if application in parts:
                made[name] = parts[application].strip()
        for application, name in (("17", "expirationDate"), ("11", "manufactureDate")):
            if at := _gs1_date(parts.get(application, "").strip()):
                made[name] = at
    elif root or extension:
        found = values.identifier(element) or {"value": extension}
        made.setdefault("identifier", []).append(found)


def _gs1_date(said_: str) -> str:
    """YYMMDD of GS1 in this century, day 00 = no day (GS1 General Specifications 3.4); empty when it is none."""
    if not re.fullmatch(r"\d{2}(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])", said_, re.ASCII):
        return ""
    day = said_[4:]
    return f"20{said_[:2]}-{said_[2:4]}" + (f"-{day}" if day != "00" else "")


def supply(entry: Element, scope: Scope) -> Json | None:
    """A supply known only as one: of a device when it has one, else of a medicine."""
    has_device = any(one(part, "playingDevice") is not None for part in every(entry, "participant/participantRole"))
    return device(entry, scope) if has_device else dispensation(entry, scope)


TRANSLATORS: dict[str, Callable[[Element, Scope], Json | None]] = {
    "1.2.250.1.213.1.1.3.20": device,
    "2.16.840.1.113883.10.20.1.34": supply,
}
