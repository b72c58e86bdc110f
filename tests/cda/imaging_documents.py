"""Small synthetic documents of imaging, and documents that hold others."""

from __future__ import annotations

import base64
from zoneinfo import ZoneInfo

from hub.model.record_change import ContentRange
from mappings.cda.contents import Contents
from mappings.cda.translate import CdaFacts, translate_cda
from mappings.hl7v2.ucum import Units
from mappings.registry import packaged_table
from mappings.tables import load

UNITS = Units(load(packaged_table("ucum_units")))
PDF = b"%PDF-1.4\n" + bytes(range(256)) + b"%%EOF"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(80)
LOINC, DCM, SNOMED = "2.16.840.1.113883.6.1", "1.2.840.10008.2.16.4", "2.16.840.1.113883.6.96"
FR, SECTION = "1.2.250.1.213.1.1.3.", "1.2.250.1.213.1.1.2."
STUDY = "1.2.250.1.999.8.1"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def templates(*roots: str) -> str:
    return "".join(f'<templateId root="{root}"/>' for root in roots)


def code(value: str, system: str = LOINC, name: str = "x", inside: str = "", tag: str = "code") -> str:
    return f'<{tag} code="{value}" codeSystem="{system}" displayName="{name}">{inside}</{tag}>'


def section(template: str, inside: str = "", loinc: str = "1-8", words: str = "") -> str:
    head = templates(template) + code(loinc) + "<title>Titre</title>"
    return f"<component><section>{head}<text>{words}</text>{inside}</section></component>"


def entry(statement: str) -> str:
    return f"<entry>{statement}</entry>"


def cda(*sections: str, model: str = "1.2.250.1.213.1.1.1.45", header: str = "", body: str = "") -> bytes:
    inside = body or f"<structuredBody>{''.join(sections)}</structuredBody>"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xmlns:ps3-20="urn:dicom-org:ps3-20">
{templates("2.16.840.1.113883.2.8.2.1", "1.2.250.1.213.1.1.1.1", model)}
<id root="1.2.250.1.999.1" extension="42.1"/>{code("18748-4", name="CR")}<title>Scanner</title>
<effectiveTime value="20260301101500+0100"/><confidentialityCode code="N"/><languageCode code="fr-FR"/>
<setId root="1.2.250.1.999.1" extension="42"/><versionNumber value="1"/>
<recordTarget><patientRole><id root="1.2.250.1.999.7" extension="IPP-7"/></patientRole></recordTarget>
<author><time value="20260301101500+0100"/><assignedAuthor><id root="1.2.250.1.71.4.2.1" extension="899700000017"/>
<assignedPerson><name><family>AUTEUR</family></name></assignedPerson></assignedAuthor></author>
{header}<component>{inside}</component></ClinicalDocument>""".encode()


def translate(xml: bytes, *, finds_bytes: bool = True) -> CdaFacts:
    outer = ContentRange(0, len(xml), "text", "text/xml", len(xml), b"")
    contents = Contents(xml, outer) if finds_bytes else lambda _element: None
    return translate_cda(xml, tz=ZoneInfo("Europe/Paris"), units=UNITS, contents=contents)


# ---- documents inside a document -------------------------------------------------------------------------------------


def media(data: str, kind: str = "application/pdf", name: str = "D1") -> str:
    value = f'<value mediaType="{kind}" representation="B64">{data}</value>'
    return f'<component><observationMedia classCode="OBS" moodCode="EVN" ID="{name}">{value}</observationMedia></component>'


def attached(*medias: str, kind: str = f'<value xsi:type="CD" code="11502-2" codeSystem="{LOINC}"/>', time: str = "") -> str:
    """FR-Document-attache."""
    typed = (
        f'<component><observation classCode="OBS" moodCode="EVN">{templates(FR + "48", FR + "48.18")}{code("69764-9")}'
        f'<text><reference value="#name"/></text><statusCode code="completed"/>{time}{kind}</observation></component>'
    )
    inside = templates(FR + "18") + '<id root="1.2.250.1.999.1.5"/>' + code("55107-7") + '<statusCode code="completed"/>'
    return f'<organizer classCode="CLUSTER" moodCode="EVN">{inside}{typed}{"".join(medias)}</organizer>'


# ---- imaging ---------------------------------------------------------------------------------------------------------

COMMENT = (
    f'<entryRelationship typeCode="SUBJ"><act classCode="ACT" moodCode="EVN">{templates(FR + "32")}{code("48767-8")}'
    "<text>remarque</text></act></entryRelationship>"
)
SITE = (
    f'<targetSiteCode code="302551006" codeSystem="{SNOMED}" displayName="thorax"><originalText>Thorax</originalText>'
    f"<qualifier>{code('106233006', SNOMED, 'côté', tag='name')}{code('7771000', SNOMED, 'gauche', tag='value')}</qualifier>"
    "</targetSiteCode>"
)


def act(number: str = "1.2.250.1.999.3.1", mood: str = "EVN", inside: str = COMMENT) -> str:
    """FR-Acte-imagerie."""
    return (
        f'<procedure classCode="PROC" moodCode="{mood}">{templates("1.2.840.10008.9.14", FR + "153")}<id root="{number}"/>'
        f'{code("24627-2", name="Scanner du thorax")}<text>description</text><effectiveTime value="20260301"/>'
        f"{code('CT', DCM, 'TDM', tag='methodCode')}{SITE}{inside}</procedure>"
    )


CONTRAST = (
    f'<substanceAdministration classCode="SBADM" moodCode="EVN">{templates("1.2.840.10008.9.13", FR + "151")}'
    f"<consumable><manufacturedProduct><manufacturedMaterial>{code('V08AB11', '2.16.840.1.113883.6.73', 'IOBITRIDOL')}"
    "</manufacturedMaterial></manufacturedProduct></consumable></substanceAdministration>"
)
DOSE = (
    f'<observation classCode="OBS" moodCode="EVN">{templates(FR + "154")}<id root="1.2.250.1.999.3.2"/>'
    f'{code("113813", DCM, "PDL")}<statusCode code="completed"/><value xsi:type="PQ" value="512.5" unit="mGy.cm"/></observation>'
)


def instance(
    uid: str = STUDY + ".1.1", sop: str = "1.2.840.10008.5.1.4.1.1.2", address: str = "http://h/wado?x=1 &amp;y=2"
) -> str:
    return (
        f'<entryRelationship typeCode="COMP"><observation classCode="DGIMG" moodCode="EVN">{templates(FR + "157")}'
        f'<id root="{uid}"/><code code="{sop}" codeSystem="1.2.840.10008.2.6.1"/>'
        f'<text mediaType="application/dicom"><reference value="{address}"/></text></observation></entryRelationship>'
    )


def series(uid: str = STUDY + ".1", modality: str = "CT", inside: str = instance()) -> str:
    named = code("121139", DCM, tag="name") + (code(modality, DCM, tag="value") if modality else "")
    return (
        f'<entryRelationship typeCode="COMP"><act classCode="ACT" moodCode="EVN">{templates(FR + "156")}<id root="{uid}"/>'
        f"{code('113015', DCM, inside=f'<qualifier>{named}</qualifier>')}{inside}</act></entryRelationship>"
    )


def study(uid: str = STUDY, inside: str = series()) -> str:
    return (
        f'<act classCode="ACT" moodCode="EVN">{templates("1.2.840.10008.9.16", FR + "155")}<id root="{uid}"/>'
        f'{code("113014", DCM)}<effectiveTime value="20260301101000+0100"/>{inside}</act>'
    )


def request(
    priority: str = '<priorityCode code="UR" codeSystem="2.16.840.1.113883.5.7"/>', inside: str = COMMENT, **at: str
) -> str:
    """FR-Demande-d-examen-d-imagerie."""
    return (
        f'<observation classCode="OBS" moodCode="{at.get("mood", "INT")}">{templates(FR + "27", FR + "27.3")}'
        f'<id root="1.2.250.1.999.3.9"/>{at.get("code", code("CT", DCM, "Scanner"))}'
        f'<statusCode code="{at.get("status", "active")}"/>'
        f'<effectiveTime nullFlavor="UNK"/>{priority}{SITE}{inside}</observation>'
    )


QUESTION = (
    f'<entryRelationship typeCode="COMP"><observation classCode="OBS" moodCode="EVN">{templates(FR + "48")}'
    f'{code("GEN-297", "1.2.250.1.9")}<value xsi:type="BL" value="true"/></observation></entryRelationship>'
)
ORDER = (
    '<inFulfillmentOf><order><id root="1.2.250.1.999.4" extension="D-1"/>'
    '<ps3-20:accessionNumber root="1.2.250.1.999.5" extension="A-1"/></order></inFulfillmentOf>'
)
_MODALITY = code("CT", DCM, inside="<qualifier>" + code("121139", DCM, tag="name") + "</qualifier>", tag="translation")
EVENT = (
    f'<documentationOf><serviceEvent classCode="ACT"><id root="{STUDY}"/>{code("24627-2", name="Scanner", inside=_MODALITY)}'
    '<effectiveTime><low value="20260301100000+0100"/><high value="20260301101000+0100"/></effectiveTime>'
    "</serviceEvent></documentationOf>"
)
REPORT = cda(
    section(
        SECTION + "206",
        entry(act()) + entry(CONTRAST) + section(SECTION + "215", entry(DOSE)) + section(SECTION + "217", entry(study())),
    ),
    section(SECTION + "209", words="Rien <br/>d'anormal"),
    section(SECTION + "210", words="Relu"),
    section(SECTION + "208", words="Poumons clairs"),
    section(SECTION + "243", entry(attached(media(b64(PDF)))), "55108-5"),
    header=ORDER + EVENT,
)
REQUEST = cda(
    section(SECTION + "205", section(SECTION + "211", words="Douleur")),
    section(SECTION + "158.3", entry(request(inside=COMMENT + QUESTION))),
    model="1.2.250.1.213.1.1.1.47",
    header='<documentationOf><serviceEvent><id root="1.2.250.1.999.4" extension="D-1"/></serviceEvent></documentationOf>',
)
