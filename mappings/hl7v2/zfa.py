"""ZFA: the state of the patient's DMP, and what the patient said to feeding and reading it, as Consents.

Feeding is a word of the patient (the latest message counts), reading one of the visit. Both are kept as codings.

Standard: IHE PAM France 2.11.2, ZFA; FHIR R4 Consent.
"""

from __future__ import annotations

from hub.formats.er7 import Message
from hub.formats.ts import parse_ts
from hub.model.consent_codes import CONSULTATION, CONSULTATION_CODES, DMP_STATE, DMP_STATES, FEEDING_CODES, FEEDING_KEY, PATIENT
from hub.model.record_change import ResourceChange
from hub.model.refusals import Finding
from hub.model.site import Site
from mappings.hl7v2.extensions import Json, pam_system
from mappings.hl7v2.line import Line, line
from mappings.hl7v2.message_times import event_time, ts_finding

STATES = {"ACTIF": "DMP existant et ouvert", "FERME": "DMP fermé", "INEXISTANT": "DMP inexistant"}
FEEDING = {"NA": "Non recueilli", "IO": "Informé et opposé", "INO": "Informé et non opposé"}
CONSULTATIONS = {"NA": "Non recueilli", "INC": "Informé et non consentant", "IC": "Informé et consentant"}

_SCOPE = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]}
_CATEGORY = pam_system("consent")
_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_TYPES = {"IO": "deny", "INO": "permit", "INC": "deny", "IC": "permit"}
_DEFAULTS = {"status": "draft"}


def zfa_consents(message: Message, site: Site, stay: ResourceChange | None) -> tuple[ResourceChange, ...]:
    """The Consents that ZFA makes or changes."""
    zfa = line(message, "ZFA")
    if zfa is None:
        return ()
    made = event_time(message, site)
    found = []
    feeding = _said(zfa, 9, FEEDING, FEEDING_CODES, site)
    state = _state(zfa, site)
    if feeding or state:
        body = _consent("dmp-feeding", "OPTOUT", feeding)
        if state:
            body["extension"] = [{"url": DMP_STATE, "extension": state}]
        found.append(ResourceChange("Consent", FEEDING_KEY, body, "ZFA", made, _DEFAULTS))
    reading = _said(zfa, 11, CONSULTATIONS, CONSULTATION_CODES, site)
    if reading:
        body = _consent(CONSULTATION, "OPTIN", reading)
        if stay is not None:
            visit = next(one for one in stay.body["identifier"] if one["type"]["coding"][0]["code"] == "VN")
            reference = {"type": "Encounter", "identifier": {name: visit[name] for name in ("system", "value")}}
            body["provision"]["data"] = [{"meaning": "related", "reference": reference}]
        key = f"{stay.key if stay is not None else PATIENT}|{CONSULTATION}"
        found.append(ResourceChange("Consent", key, body, "ZFA", made, _DEFAULTS))
    return tuple(found)


def zfa_findings(message: Message, site: Site) -> tuple[Finding, ...]:
    """Codes that are in no table, which say nothing then; times that are none."""
    zfa = line(message, "ZFA")
    if zfa is None:
        return ()
    found = [
        Finding("ZFA_CODE", f"ZFA-{n}", f"ZFA-{n}: a code that is in no table; nothing is concluded from it")
        for n, table in ((1, STATES), (9, FEEDING), (11, CONSULTATIONS))
        if zfa.text(n) and zfa.text(n).upper() not in table
    ]
    times = (ts_finding(f"ZFA-{n}", parse_ts(zfa.text(n), site.timezone)) for n in (2, 3, 10, 12))
    return tuple(found + [told for told in times if told is not None])


def _said(zfa: Line, field: int, table: dict[str, str], system: str, site: Site) -> Json:
    """What one answer says of a Consent: `status`, `provision`, `dateTime`; empty when it says nothing."""
    code = zfa.text(field).upper()
    if code not in table:
        return {}
    coding = {"system": system, "code": code, "display": table[code]}
    answered = code in _TYPES
    said: Json = {
        "status": "active" if answered else "draft",
        "provision": {"type": _TYPES.get(code), "code": [{"coding": [coding]}]},
        "dateTime": parse_ts(zfa.text(field + 1), site.timezone).fhir_datetime() or None,
    }
    return said


def _consent(name: str, policy: str, said: Json) -> Json:
    return {
        "scope": _SCOPE,
        "category": [{"coding": [{"system": _CATEGORY, "code": name}]}],
        "policyRule": {"coding": [{"system": _ACT_CODE, "code": policy}]},
        **said,
    }


def _state(zfa: Line, site: Site) -> list[Json]:
    """ZFA-1 to 3: the DMP's state, since when, and when it was closed."""
    code = zfa.text(1).upper()
    if code not in STATES:
        return []
    parts: list[Json] = [{"url": "state", "valueCoding": {"system": DMP_STATES, "code": code, "display": STATES[code]}}]
    for name, field in (("since", 2), ("closed", 3)):
        if text := parse_ts(zfa.text(field), site.timezone).fhir_datetime():
            parts.append({"url": name, "valueDateTime": text})
    return parts
