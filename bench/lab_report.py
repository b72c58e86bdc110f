"""A synthetic laboratory report (CR-BIO, CDA R2 level 3): so many results, their narrative, and the report's own PDF.

Shape: CI-SIS CR-BIO 2024.01; nobody in it exists.
"""

from __future__ import annotations

from functools import lru_cache

_ANALYSES = (
    ("718-7", "Hémoglobine", "g/dL", 13.2, 12, 16),
    ("2951-2", "Sodium", "mmol/L", 139, 136, 145),
    ("2823-3", "Potassium", "mmol/L", 4.1, 3.5, 5.1),
    ("2160-0", "Créatinine", "umol/L", 71, 45, 84),
    ("14749-6", "Glucose", "mmol/L", 5.2, 4.1, 6.1),
    ("3016-3", "Thyréostimuline", "m[IU]/L", 1.95, 0.27, 4.2),
    ("1988-5", "Protéine C réactive", "mg/L", 2.1, 0, 5),
    ("6690-2", "Leucocytes", "10*9/L", 7.2, 4, 10),
    ("777-3", "Plaquettes", "10*9/L", 251, 150, 400),
    ("1920-8", "ASAT", "U/L", 21, 5, 34),
    ("1742-6", "ALAT", "U/L", 19, 5, 35),
)
_HEADER = """<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xmlns:lab="urn:oid:1.3.6.1.4.1.19376.1.3.2">
  <realmCode code="FR"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
  <templateId root="2.16.840.1.113883.2.8.2.1"/><templateId root="1.2.250.1.213.1.1.1.1"/>
  <templateId root="1.3.6.1.4.1.19376.1.3.3"/><templateId root="1.2.250.1.213.1.1.1.55" extension="2024.01"/>
  <id root="1.2.250.9.77.5.@NUMBER@"/>
  <code code="11502-2" codeSystem="2.16.840.1.113883.6.1" displayName="CR d'examens biologiques"/>
  <title>Compte rendu d'examens biologiques</title>
  <effectiveTime value="20260302093000+0100"/><confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/>
  <languageCode code="fr-FR"/><setId root="1.2.250.9.77.6.@NUMBER@"/><versionNumber value="1"/>
  <recordTarget><patientRole>
    <id root="1.2.250.1.999.1" extension="@IPP@"/><id root="1.2.250.1.213.1.4.10" extension="@INS@"/>
    <patient><name><family qualifier="BR">ESSAI@NAME@</family><given>CAMILLE ANNE</given>
      <given qualifier="BR">CAMILLE</given></name>
      <administrativeGenderCode code="F"/><birthTime value="@BORN@"/>
      <birthplace><place><addr><county>29019</county></addr></place></birthplace></patient>
  </patientRole></recordTarget>
  <author><time value="20260302093000+0100"/><assignedAuthor>
    <id root="1.2.250.1.71.4.2.1" extension="810000000017"/><code code="G15_10/SM02" codeSystem="1.2.250.1.213.1.1.4.5"/>
    <assignedPerson><name><family>VASSEUR</family><given>Irma</given></name></assignedPerson>
    <representedOrganization><id root="1.2.250.1.71.4.2.2" extension="1290000017"/><name>BENCH</name></representedOrganization>
  </assignedAuthor></author>
  <custodian><assignedCustodian><representedCustodianOrganization>
    <id root="1.2.250.1.71.4.2.2" extension="1290000017"/><name>BENCH</name>
  </representedCustodianOrganization></assignedCustodian></custodian>
  <legalAuthenticator><time value="20260302093000+0100"/><signatureCode code="S"/><assignedEntity>
    <id root="1.2.250.1.71.4.2.1" extension="810000000017"/>
    <assignedPerson><name><family>VASSEUR</family></name></assignedPerson></assignedEntity></legalAuthenticator>
  <inFulfillmentOf><order><id root="1.2.250.9.77.7" extension="@NUMBER@"/></order></inFulfillmentOf>
  <documentationOf><serviceEvent><effectiveTime><low value="20260302090000+0100"/></effectiveTime>
    <lab:statusCode code="completed"/>
    <performer typeCode="PRF"><assignedEntity><id root="1.2.250.1.71.4.2.1" extension="810000000017"/><representedOrganization>
      <standardIndustryClassCode code="AMBULATOIRE" codeSystem="1.2.250.1.213.1.1.4.9"/></representedOrganization>
    </assignedEntity></performer></serviceEvent></documentationOf>
  <componentOf><encompassingEncounter><effectiveTime><low value="20260302"/></effectiveTime>
    <location><healthCareFacility><code code="SA25" codeSystem="1.2.250.1.71.4.2.4"/></healthCareFacility></location>
  </encompassingEncounter></componentOf>
  <component><structuredBody>
"""
_CHAPTER = """<component><section><templateId root="1.3.6.1.4.1.19376.1.3.3.2.1"/><templateId root="1.2.250.1.213.1.1.2.70"/>
  <code code="18719-5" displayName="Biochimie" codeSystem="2.16.840.1.113883.6.1"/><title>Biochimie</title>
  <text><table><thead><tr><th>Analyse</th><th>Résultat</th><th>Référence</th></tr></thead><tbody>{rows}</tbody></table></text>
  <entry typeCode="DRIV"><templateId root="1.3.6.1.4.1.19376.1.3.1"/><templateId root="1.2.250.1.213.1.1.3.21"/>
    <act classCode="ACT" moodCode="EVN"><code code="18719-5" codeSystem="2.16.840.1.113883.6.1" displayName="Biochimie"/>
    <statusCode code="completed"/>{results}</act></entry></section></component>
"""
_ROW = '<tr><td><content ID="r{n}">{name}</content></td><td>{value} {unit}</td><td>{low} - {high}</td></tr>'
_RESULT = """<entryRelationship typeCode="COMP"><observation classCode="OBS" moodCode="EVN">
  <templateId root="1.3.6.1.4.1.19376.1.3.1.6"/><templateId root="1.2.250.1.213.1.1.3.80"/>
  <code code="{code}" displayName="{name}" codeSystem="2.16.840.1.113883.6.1">
    <originalText><reference value="#r{n}"/></originalText>
    <translation code="B{n:03}" codeSystem="1.2.250.9.77.8" displayName="{name}"/></code>
  <statusCode code="completed"/><effectiveTime value="202603020{hour}{minute:02}00+0100"/>
  <value xsi:type="PQ" value="{value}" unit="{unit}"/>
  <interpretationCode code="{flag}" codeSystem="2.16.840.1.113883.5.83"/>
  <methodCode code="M{n}" codeSystem="1.2.250.9.77.9" displayName="Dosage"/>
  <referenceRange typeCode="REFV"><observationRange classCode="OBS" moodCode="EVN.CRT"><value xsi:type="IVL_PQ">
    <low value="{low}" unit="{unit}"/><high value="{high}" unit="{unit}"/></value>
    <interpretationCode code="N" codeSystem="2.16.840.1.113883.5.83"/></observationRange></referenceRange>
  </observation></entryRelationship>
"""
_COPY = """<component><section><templateId root="1.2.250.1.213.1.1.2.243"/>
  <code code="55108-5" codeSystem="2.16.840.1.113883.6.1" displayName="Copie du document"/><title>Copie du document</title><text/>
  <entry><organizer classCode="CLUSTER" moodCode="EVN"><templateId root="1.2.250.1.213.1.1.3.18"/><statusCode code="completed"/>
    <component><observationMedia classCode="OBS" moodCode="EVN">
      <value mediaType="application/pdf" representation="B64">@PDF@</value></observationMedia></component></organizer></entry>
</section></component>
</structuredBody></component></ClinicalDocument>"""


@lru_cache(maxsize=8)
def lab_report(results: int) -> str:
    """The document with places @NUMBER@, @IPP@, @INS@, @NAME@, @BORN@ and @PDF@ (Base64)."""
    rows, told = [], []
    for n in range(results):
        code, name, unit, value, low, high = _ANALYSES[n % len(_ANALYSES)]
        value = round(value + n // len(_ANALYSES) / 10, 2)
        said = {"n": n, "code": code, "name": name, "unit": unit, "value": value, "low": low, "high": high}
        rows.append(_ROW.format(**said))
        told.append(_RESULT.format(**said, hour=6 + n // 60, minute=n % 60, flag="H" if value > high else "N"))
    return _HEADER + _CHAPTER.format(rows="".join(rows), results="".join(told)) + _COPY
