"""Small synthetic documents of medicines, vaccinations and devices, and their facts, checked against R4."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from fhir.resources.R4B import get_fhir_model_class

from mappings.cda.translate import CdaFacts, translate_cda
from mappings.hl7v2.ucum import Units
from mappings.registry import packaged_table
from mappings.tables import load

UNITS = Units(load(packaged_table("ucum_units")))
FR, PCC, PHARM = "1.2.250.1.213.1.1.3.", "1.3.6.1.4.1.19376.1.5.3.1.4.", "1.3.6.1.4.1.19376.1.9.1.3."
DOCUMENT = """<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:pharm="urn:ihe:pharm:medication"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><id root="1.2.250.1.999.1" extension="7"/>
<code code="{code}" codeSystem="2.16.840.1.113883.6.1"/><effectiveTime value="20260301101500+0100"/>
<setId root="1.2.250.1.999.1" extension="S7"/>
<author><time value="20260301100000+0100"/><assignedAuthor><id root="1.2.250.1.71.4.2.1" extension="899700000017"/>
<assignedPerson><name><family>AUTEUR</family></name></assignedPerson></assignedAuthor></author>
<participant typeCode="PRF"><associatedEntity classCode="PROV"><scopingOrganization>
<id root="1.2.250.1.71.4.2.2" extension="1999999999"/><name>Officine</name></scopingOrganization></associatedEntity></participant>
<documentationOf><serviceEvent><id root="1.2.250.1.215.500.1.1" extension="01ESSAI"/>
<effectiveTime><low value="20260301"/><high value="20260601"/></effectiveTime><performer typeCode="PRF"><assignedEntity>
<id root="1.2.250.1.71.4.2.1" extension="899700000025"/></assignedEntity></performer></serviceEvent></documentationOf>
<documentationOf><serviceEvent classCode="INFO"><code code="MED-1096" codeSystem="1.2.250.1.213.1.1.4.322"/></serviceEvent>
</documentationOf><component><structuredBody><component><section><code code="{section}" codeSystem="2.16.840.1.113883.6.1"/>
<title>Essai</title><text><content ID="m">Essaimycine 5 mg</content><content ID="m-posologie">1 le matin</content>
<content ID="i">à jeun</content><content ID="none">-</content>
<content ID="dose">Oui</content></text>{entries}</section></component>
</structuredBody></component></ClinicalDocument>"""
CODE = """<code code="60000001" codeSystem="1.2.250.1.213.2.3.1" displayName="ESSAIMYCINE 5 mg">
<originalText><reference value="#m"/></originalText></code>"""
MATERIAL = f"""<manufacturedProduct><manufacturedMaterial>{CODE}<name>ESSAIMYCINE</name>
<lotNumberText> L7 </lotNumberText><pharm:expirationTime value="20270131"/>
<pharm:asSpecializedKind><pharm:generalizedMedicineClass><pharm:code code="J01XX00" codeSystem="2.16.840.1.113883.6.73"/>
</pharm:generalizedMedicineClass></pharm:asSpecializedKind><pharm:ingredient classCode="ACTI"><pharm:quantity>
<numerator xsi:type="PQ" value="5" unit="mg"/><denominator xsi:type="PQ" value="1"/></pharm:quantity><pharm:ingredient>
<pharm:code code="100000000001" codeSystem="2.16.840.1.113883.3.6905.2"/><pharm:name>Essai</pharm:name></pharm:ingredient>
</pharm:ingredient></manufacturedMaterial></manufacturedProduct>"""
CONSUMABLE = f"<consumable>{MATERIAL}</consumable>"
NAMELESS = (
    '<consumable><manufacturedProduct><manufacturedMaterial><code nullFlavor="NA"/></manufacturedMaterial>'
    "</manufacturedProduct></consumable>"
)


def templates(*roots: str) -> str:
    return "".join(f'<templateId root="{root}"/>' for root in roots)


def under(kind: str, statement: str) -> str:
    return f'<entryRelationship typeCode="{kind}">{statement}</entryRelationship>'


def act(root: str, inner: str = "", mood: str = "INT") -> str:
    return f'<act classCode="ACT" moodCode="{mood}">{templates(root)}{inner}</act>'


def observation(root: str, code: str, value: str, mood: str = "EVN") -> str:
    return (
        f'<observation classCode="OBS" moodCode="{mood}">{templates(root, PCC + "13", FR + "48")}'
        f'<code code="{code}" codeSystem="1.2.250.1.213.1.1.4.322" displayName="d"/>{value}</observation>'
    )


def administration(roots: tuple[str, ...], inner: str, mood: str = "EVN", more: str = "") -> str:
    return f'<substanceAdministration moodCode="{mood}" {more}>{templates(*roots)}{inner}</substanceAdministration>'


def supply(roots: tuple[str, ...], inner: str, mood: str = "EVN") -> str:
    return f'<supply classCode="SPLY" moodCode="{mood}">{templates(*roots)}{inner}</supply>'


def document(*entries: str, code: str = "60591-5", section: str = "29549-3") -> bytes:
    filled = "".join(f"<entry>{entry}</entry>" for entry in entries)
    return DOCUMENT.format(code=code, section=section, entries=filled).encode()


def read(*entries: str, code: str = "60591-5", section: str = "29549-3") -> CdaFacts:
    return translate_cda(document(*entries, code=code, section=section), tz=ZoneInfo("Europe/Paris"), units=UNITS)


def one(*entries: str, code: str = "60591-5", section: str = "29549-3") -> dict[str, Any]:
    """The only fact of a document, which is valid R4."""
    found = read(*entries, code=code, section=section)
    assert [finding.code for finding in found.findings if finding.code.startswith("NOT_")] == []
    (fact,) = valid(found)
    return fact


def valid(found: CdaFacts) -> list[dict[str, Any]]:
    for fact in found.facts:
        whose = "patient" if fact.type.startswith("Immunization") else "subject"
        get_fhir_model_class(fact.type).model_validate(
            {"resourceType": fact.type, whose: {"reference": "Patient/1"}, **fact.body}
        )
    return [fact.body for fact in found.facts]


def codes(found: CdaFacts) -> set[str]:
    """Codes of what was found in the body; what the checks of the header say is not asked here."""
    return {finding.code for finding in found.findings if "/structuredBody" in finding.at}


PRESCRIBED = (PCC + "7", PHARM + "2", FR + "83")
LINE = f"""<id root="1.2.250.1.999.2" extension="L1"/><text><reference value="#m"/></text><statusCode code="completed"/>
<effectiveTime xsi:type="IVL_TS"><low value="20260301"/><high value="20260306"/></effectiveTime><repeatNumber value="0"/>
<routeCode code="20053000" codeSystem="0.4.0.127.0.16.1.1.2.1"/>
<maxDoseQuantity><numerator value="4"/><denominator value="1" unit="j"/></maxDoseQuantity>{CONSUMABLE}"""
STEP = """<entryRelationship typeCode="COMP"><sequenceNumber value="{number}"/><substanceAdministration moodCode="INT">
<templateId root="1.2.250.1.213.1.1.3.83.1"/><id root="1.2.250.1.999.2" extension="S{number}"/><effectiveTime xsi:type="SXPR_TS">
<comp xsi:type="IVL_TS" operator="A"><low value="2026030{number}"/><width value="2" unit="d"/></comp>
<comp xsi:type="PIVL_TS" operator="A"><period value="{hours}" unit="h"/></comp></effectiveTime>
<doseQuantity><low value="1" unit="{{tablet}}"/><high value="{high}" unit="{{tablet}}"/></doseQuantity>
<consumable><manufacturedProduct><manufacturedMaterial><code nullFlavor="NA"/></manufacturedMaterial></manufacturedProduct>
</consumable></substanceAdministration></entryRelationship>"""
SUPPLIED = supply((FR + "86",), '<quantity value="2" unit="30009000"/>', "RQO")
ALL_OF_IT = (
    LINE
    + STEP.format(number=3, hours=12, high=1)
    + STEP.format(number=1, hours=8, high=2)
    + under("SUBJ", act(FR + "33", '<text><reference value="#i"/></text>'))
    + under("SUBJ", act(FR + "34", '<text><reference value="#none"/></text>'))
    + under("COMP", SUPPLIED)
    + under("COMP", act(FR + "87", '<code code="N" codeSystem="2.16.840.1.113883.5.1070"/>', "DEF"))
    + under("COMP", observation(FR + "48.13", "MED-574", '<value xsi:type="BL" value="true"/>'))
    + "<precondition><criterion><text>si fièvre</text></criterion></precondition>"
)


LINE_OF_PRESCRIPTION = (
    '<entryRelationship typeCode="REFR"><substanceAdministration moodCode="INT">'
    + templates(PHARM + "11", FR + "90")
    + '<id root="1.2.250.1.999.2" extension="L1"/>'
    + CONSUMABLE
    + '<reference typeCode="XCRPT"><externalDocument><id root="1.2.250.1.999.9"/></externalDocument></reference>'
    + "</substanceAdministration></entryRelationship>"
)
DISPENSED = (
    f'<quantity value="2" unit="30009000"/><product>{MATERIAL}</product>'
    + LINE_OF_PRESCRIPTION
    + under("SUBJ", act(FR + "207", "<text>prévenu</text>"))
    + under("COMP", administration((FR + "42",), f'<doseQuantity value="1"/>{NAMELESS}', "INT"))
)


VACCINE = f'<code code="{{series}}" codeSystem="2.16.840.1.113883.5.4"/>{{time}}<doseQuantity value="1"/>{CONSUMABLE}'
RANK = (
    '<observation moodCode="EVN"><templateId root="1.2.250.1.213.1.1.3.82"/>'
    '<code code="30973-2"/><value value="{}"/></observation>'
)


DEVICE = """<effectiveTime xsi:type="IVL_TS"><low value="20190811"/></effectiveTime><quantity value="1"/>
<expectedUseTime><width value="60" unit="d"/></expectedUseTime><participant typeCode="DEV"><participantRole>{ids}<playingDevice>
<code code="J010104" codeSystem="1.2.250.1.213.2.68"><translation code="3400000" codeSystem="1.2.250.1.215.200.2.1"/>
<translation code="C101668" codeSystem="2.16.840.1.113883.3.26.1.1"><originalText>Marque E</originalText></translation>
<translation><originalText>Modèle E</originalText></translation></code></playingDevice></participantRole></participant>"""
UDI = '<id root="2.16.840.1.113883.3.3719" extension="(01)00000000000017(17)270500(10)LOT7(21)S7"/><id root="1.2.250.1.999.8"/>'
