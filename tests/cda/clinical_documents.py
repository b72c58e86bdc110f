"""Small synthetic documents of the clinical families, and their facts, checked against R4."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from fhir.resources.R4B import get_fhir_model_class

from mappings.cda.translate import CdaFacts, translate_cda
from mappings.hl7v2.ucum import Units
from mappings.registry import packaged_table
from mappings.tables import load

UNITS = Units(load(packaged_table("ucum_units")))
FR, PCC, CCD = "1.2.250.1.213.1.1.3.", "1.3.6.1.4.1.19376.1.5.3.1.4.", "2.16.840.1.113883.10.20.1."
SNOMED, LOINC, ICD, TA = (
    f'codeSystem="{oid}"'
    for oid in ("2.16.840.1.113883.6.96", "2.16.840.1.113883.6.1", "2.16.840.1.113883.6.3", "1.2.250.1.213.1.1.4.322")
)
MOTHER = '<subject><relatedSubject classCode="PRS"><code code="MTH" displayName="Mère"/></relatedSubject></subject>'
_PATIENT = {"AllergyIntolerance": "patient", "FamilyMemberHistory": "patient", "Appointment": ""}
_DOCUMENT = """<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:sdtc="urn:hl7-org:sdtc"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><id root="1.2.250.1.999.1" extension="7"/>
<code code="60591-5" {loinc}/><effectiveTime value="20260301101500+0100"/><setId root="1.2.250.1.999.1" extension="S7"/>
<component><structuredBody><component><section>{head}<code code="{section}" {loinc}/><title>Essai</title>
<text><content ID="yes">Oui</content><content ID="no">Non</content><content ID="said">des mots</content>
<content ID="dash">-</content>
<content ID="before"/>derrière l'ancre<content ID="amount">2.5 V</content></text>{entries}</section></component>
</structuredBody></component></ClinicalDocument>"""
COMMENT = f"""<act classCode="ACT" moodCode="EVN"><templateId root="{FR}32"/><code code="48767-8" {LOINC}/>
<text><reference value="#said"/></text></act>"""


def statement(tag: str, template: str, inner: str, mood: str = "EVN", more: str = "") -> str:
    return f'<{tag} moodCode="{mood}" {more}><templateId root="{template}"/>{inner}</{tag}>'


def observation(inner: str, template: str = FR + "48", mood: str = "EVN", more: str = "") -> str:
    return statement("observation", template, inner, mood, more)


def under(kind: str, inner: str, more: str = "") -> str:
    return f'<entryRelationship typeCode="{kind}" {more}>{inner}</entryRelationship>'


def said(template: str, code: str, value: str) -> str:
    """A nested observation that only qualifies: one code, one coded value."""
    return observation(f'<code code="{code}" {LOINC}/><value xsi:type="CD" code="{value}"/>', template)


def problem(inner: str = "", value: str = "", more: str = "", template: str = FR + "37") -> str:
    value = value or f'<value xsi:type="CD" code="I10" displayName="Hypertension" {ICD}/>'
    kind = f'<code code="282291009" displayName="diagnostic" {SNOMED}/><statusCode code="completed"/>'
    return observation(f"{kind}{value}{inner}", template, more=more)


def concern(*inner: str, status: str = "active", template: str = FR + "39") -> str:
    parts = "".join(under("SUBJ", one_) for one_ in inner)
    return statement("act", template, f'<code nullFlavor="NA"/><statusCode code="{status}"/>{parts}')


def document(*entries: str, section: str = "11450-4", head: str = "") -> bytes:
    filled = "".join(f"<entry>{entry}</entry>" for entry in entries)
    return _DOCUMENT.format(section=section, head=head, loinc=LOINC, entries=filled).encode()


def read(*entries: str, section: str = "11450-4", head: str = "") -> CdaFacts:
    return translate_cda(document(*entries, section=section, head=head), tz=ZoneInfo("Europe/Paris"), units=UNITS)


def valid(found: CdaFacts) -> dict[str, list[dict[str, Any]]]:
    """Bodies by type, each valid R4 once the record has added its patient; nothing is left unread."""
    bodies: dict[str, list[dict[str, Any]]] = {}
    for fact in found.facts:
        whose = _PATIENT.get(fact.type, "subject")
        subject = {whose: {"reference": "Patient/1"}} if whose else {}
        body = {**fact.body, **subject}
        if fact.type == "Appointment":
            patient = {"actor": {"reference": "Patient/1"}, "status": "accepted"}
            body = {**body, "participant": [*body.get("participant", ()), patient]}
        get_fhir_model_class(fact.type).model_validate({"resourceType": fact.type, **body})
        bodies.setdefault(fact.type, []).append(fact.body)
    assert codes(found) & {"NOT_READ", "NOT_TRANSLATED"} == set()
    return bodies


def only(*entries: str, section: str = "11450-4", head: str = "") -> dict[str, Any]:
    """The only fact of a document."""
    ((body,),) = valid(read(*entries, section=section, head=head)).values()
    return body


def codes(found: CdaFacts) -> set[str]:
    """Codes of what was found in the body."""
    return {finding.code for finding in found.findings if "/structuredBody" in finding.at}


def code_in(concept: dict[str, Any] | None) -> str:
    return concept["coding"][0]["code"] if concept else ""
