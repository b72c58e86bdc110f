"""Sections and entries of the demonstration's structured documents, as small as the volets allow. Products and lots are invented.

Standard: CI-SIS CR-BIO, VAC-NOTE, eP-MED-DM, eDISP-MED, VSM (sections 1.2.250.1.213.1.1.2.N, entries 1.2.250.1.213.1.1.3.N).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from hub.app.demo_cda import LOINC

SNOMED, ICD_10, CIS = "2.16.840.1.113883.6.96", "2.16.840.1.113883.6.3", "1.2.250.1.213.2.3.1"
_HELD = ' negationInd="false"'
_S, _E, _PCC = "1.2.250.1.213.1.1.2.", "1.2.250.1.213.1.1.3.", "1.3.6.1.4.1.19376.1.5.3.1.4."


def _templates(*roots: str) -> str:
    return "".join(f'<templateId root="{root}"/>' for root in roots)


def _observation(*roots: str, more: str = "") -> str:
    """The begin of an observation that was made."""
    return f'<observation classCode="OBS" moodCode="EVN"{more}>{_templates(*roots)}'


def _section(number: str, code: str, title: str, told: str, *entries: str) -> str:
    filled = "".join(f"<entry>{entry}</entry>" for entry in entries)
    return (
        f'<section>{_templates(_S + number)}<code code="{code}" codeSystem="{LOINC}" displayName="{title}"/>'
        f"<title>{title}</title><text>{told}</text>\n{filled}</section>"
    )


def _lines(rows: dict[str, str], said: dict[str, str] | None = None) -> str:
    """A narrative: a list whose items begin with what their anchor names; `said` follows it."""
    items = (f'<item><content ID="{name}">{text}</content>{(said or {}).get(name, "")}</item>' for name, text in rows.items())
    return f"<list>{''.join(items)}</list>"


def copy_of(content: bytes) -> str:
    """The PDF that shows the document."""
    shown = f'<value mediaType="application/pdf" representation="B64">{base64.b64encode(content).decode()}</value>'
    media = f'<observationMedia classCode="OBS" moodCode="EVN">{shown}</observationMedia>'
    attached = (
        f'<organizer classCode="CLUSTER" moodCode="EVN">{_templates(_E + "18")}<statusCode code="completed"/>'
        f"<component>{media}</component></organizer>"
    )
    return _section("243", "55108-5", "Copie du document", "", attached)


# ---- biology -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """One result: its number (so that a correction is of the same), LOINC code, name, value with unit, or a coded value (XML)."""

    number: str
    code: str
    name: str
    value: str
    unit: str = ""
    normal: tuple[str, str] = ("", "")
    status: str = "completed"


def chapter(code: str, title: str, at: str, *results: Result) -> str:
    """One chapter of a laboratory report. `at` (YYYYMMDDhhmm): when the specimens were taken."""
    rows = {f"r{n}": one.name for n, one in enumerate(results)}
    said = {f"r{n}": f" : {one.value} {one.unit}" for n, one in enumerate(results) if one.unit}
    told = "".join(_result(one, f"r{n}", at) for n, one in enumerate(results))
    act = (
        f'<act classCode="ACT" moodCode="EVN">{_templates(_E + "21")}'
        f'<code code="{code}" codeSystem="{LOINC}" displayName="{title}"/><statusCode code="completed"/>{told}</act>'
    )
    return _section("70", code, title, _lines(rows, said), act).replace("<entry>", '<entry typeCode="DRIV">')


def _result(said: Result, anchor: str, at: str) -> str:
    value = f'<value xsi:type="PQ" value="{said.value}" unit="{said.unit}"/>' if said.unit else said.value
    low, high = said.normal
    normal = (
        ""
        if not low
        else (
            '<referenceRange><observationRange classCode="OBS" moodCode="EVN.CRT"><value xsi:type="IVL_PQ">'
            f'<low value="{low}" unit="{said.unit}"/><high value="{high}" unit="{said.unit}"/></value>'
            '<interpretationCode code="N" codeSystem="2.16.840.1.113883.5.83"/></observationRange></referenceRange>'
        )
    )
    flag = "" if not low else "L" if float(said.value) < float(low) else "H" if float(said.value) > float(high) else "N"
    meaning = f'<interpretationCode code="{flag}" codeSystem="2.16.840.1.113883.5.83"/>' if flag else ""
    return (
        f'<entryRelationship typeCode="COMP">{_observation(_E + "80")}'
        f'<id root="{said.number}"/><code code="{said.code}" codeSystem="{LOINC}" displayName="{said.name}">'
        f'<originalText><reference value="#{anchor}"/></originalText></code><statusCode code="{said.status}"/>'
        f'<effectiveTime value="{at}00+0100"/>{value}{meaning}{normal}</observation></entryRelationship>'
    )


# ---- medicines and vaccines ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Product:
    """A product: CIS code, name, lot."""

    code: str
    name: str
    lot: str = ""

    def xml(self) -> str:
        lot = f"<lotNumberText>{self.lot}</lotNumberText>" if self.lot else ""
        return (
            f"<manufacturedProduct>{_templates(_E + '43')}<manufacturedMaterial>"
            f'<code code="{self.code}" codeSystem="{CIS}" displayName="{self.name}"/><name>{self.name}</name>{lot}'
            "</manufacturedMaterial></manufacturedProduct>"
        )


ORAL = '<routeCode code="20053000" codeSystem="0.4.0.127.0.16.1.1.2.1" displayName="Voie orale"/>'


def vaccinations(number: str, product: Product, day: str, rank: int) -> str:
    """The section of a vaccination note, with one injection."""
    dose = (
        f'<entryRelationship typeCode="SUBJ">{_observation(_E + "82")}'
        f'<code code="30973-2" codeSystem="{LOINC}"/><statusCode code="completed"/><value xsi:type="INT" value="{rank}"/>'
        "</observation></entryRelationship>"
    )
    given = (
        f'<substanceAdministration classCode="SBADM" moodCode="EVN" negationInd="false">{_templates(_PCC + "12", _E + "45")}'
        f'<id root="{number}"/><code code="BOOSTER" codeSystem="2.16.840.1.113883.5.4"/><text><reference value="#v1"/></text>'
        f'<statusCode code="completed"/><effectiveTime value="{day}"/><consumable>{product.xml()}</consumable>{dose}'
        "</substanceAdministration>"
    )
    return _section("147", "11369-6", "Vaccinations", _lines({"v1": product.name}), given)


def prescribed(*lines: tuple[str, Product, str]) -> str:
    """The section of an e-prescription: number, product and dosing in words of each line."""
    rows: dict[str, str] = {}
    entries = []
    for n, (number, product, dosing) in enumerate(lines, 1):
        rows |= {f"m{n}": product.name, f"m{n}-posologie": dosing}
        entries.append(
            f'<substanceAdministration classCode="SBADM" moodCode="INT">{_templates(_PCC + "7", _E + "83")}'
            f'<id root="{number}"/><code code="DRUG" codeSystem="2.16.840.1.113883.5.4"/><text><reference value="#m{n}"/></text>'
            '<statusCode code="completed"/><effectiveTime xsi:type="IVL_TS"><low value="20261124"/><high value="20261201"/>'
            f'</effectiveTime><repeatNumber value="0"/>{ORAL}<consumable>{product.xml()}</consumable></substanceAdministration>'
        )
    return _section("171", "57828-6", "Prescription de médicaments", _lines(rows), *entries)


def dispensed(*lines: tuple[str, str, Product]) -> str:
    """The section of a dispensation: number, number of the prescribed line, and product of each line."""
    entries = [
        f'<supply classCode="SPLY" moodCode="EVN">{_templates(_E + "204")}<id root="{number}"/>'
        f'<text><reference value="#d{n}"/></text><quantity value="1" unit="30009000"/><product>{product.xml()}</product>'
        f'<entryRelationship typeCode="REFR"><substanceAdministration classCode="SBADM" moodCode="INT">{_templates(_E + "90")}'
        f'<id root="{line}"/><consumable>{product.xml()}</consumable></substanceAdministration></entryRelationship></supply>'
        for n, (number, line, product) in enumerate(lines, 1)
    ]
    rows = {f"d{n}": product.name for n, (_, _, product) in enumerate(lines, 1)}
    return _section("236", "60590-7", "Médicaments délivrés", _lines(rows), *entries)


def treatments(number: str, product: Product, since: str) -> str:
    """The section of long-term treatments, with one."""
    taken = (
        f'<substanceAdministration classCode="SBADM" moodCode="EVN">{_templates(_PCC + "7", _E + "42", _PCC + "7.1")}'
        f'<id root="{number}"/><code code="DRUG" codeSystem="2.16.840.1.113883.5.4"/><text><reference value="#t1"/></text>'
        f'<statusCode code="completed"/><effectiveTime xsi:type="IVL_TS"><low value="{since}"/></effectiveTime>'
        f'<effectiveTime xsi:type="PIVL_TS" operator="A"><period value="1" unit="d"/></effectiveTime>{ORAL}'
        f"<consumable>{product.xml()}</consumable></substanceAdministration>"
    )
    return _section("143", "10160-0", "Traitements", _lines({"t1": f"{product.name}, 1 par jour"}), taken)


# ---- problems and allergies ----------------------------------------------------------------------------------------------


def _concern(templates: str, number: str, since: str, inner: str) -> str:
    return (
        f'<act classCode="ACT" moodCode="EVN">{templates}<id root="{number}"/><code nullFlavor="NA"/><statusCode code="active"/>'
        f'<effectiveTime><low value="{since}"/></effectiveTime>'
        f'<entryRelationship typeCode="SUBJ">{inner}</entryRelationship></act>'
    )


def problems(number: str, code: str, name: str, since: str) -> str:
    """The section of active problems, with one (ICD-10)."""
    found = (
        f'{_observation(_PCC + "5", _E + "37", more=_HELD)}<id root="{number}.1"/>'
        f'<code code="282291009" codeSystem="{SNOMED}"/><text><reference value="#p1"/></text><statusCode code="completed"/>'
        f'<effectiveTime><low value="{since}"/></effectiveTime>'
        f'<value xsi:type="CD" code="{code}" codeSystem="{ICD_10}" displayName="{name}"/></observation>'
    )
    return _section(
        "132", "11450-4", "Problèmes actifs", _lines({"p1": name}), _concern(_templates(_E + "39"), number, since, found)
    )


def allergies(number: str, agent: str, name: str, since: str) -> str:
    """The section of allergies, with one to a substance (SNOMED CT)."""
    found = (
        f'{_observation(_PCC + "6", _E + "41", more=_HELD)}<id root="{number}.1"/>'
        f'<code code="416098002" codeSystem="{SNOMED}" displayName="allergie médicamenteuse"/>'
        f'<text><reference value="#a1"/></text><statusCode code="completed"/>'
        f'<effectiveTime xsi:type="IVL_TS"><low value="{since}"/></effectiveTime>'
        '<participant typeCode="CSM"><participantRole classCode="MANU"><playingEntity classCode="MMAT">'
        f'<code code="{agent}" codeSystem="{SNOMED}" displayName="{name}"/></playingEntity></participantRole></participant>'
        "</observation>"
    )
    listed = _concern(_templates(_E + "40"), number, since, found)
    return _section("137", "48765-2", "Allergies", _lines({"a1": name}), listed)


def score(number: str) -> str:
    """A section of a software of its own: a template that nobody else knows, which the hub leaves unread and says so."""
    return (
        f'<section><code code="57207-3" codeSystem="{LOINC}" displayName="Facteurs de risque"/><title>Score maison</title>'
        f'<text>Score maison : 3</text><entry>{_observation(number)}<id root="{number}.1"/>'
        '<code code="SCORE" codeSystem="1.2.250.1.999.50.99"/><statusCode code="completed"/><value xsi:type="INT" value="3"/>'
        "</observation></entry></section>"
    )
