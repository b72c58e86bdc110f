"""CDA documents of the demonstration's patient: one header for all of them, and a body of level 1 or 3.

Standard: CI-SIS structuration minimale des documents de santé.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import partial

from hub.app.demo_patient import INS, IPP, IPP_OID, TEST_INS_OID, VISIT_OID

LOINC, TRE_A05 = "2.16.840.1.113883.6.1", "1.2.250.1.213.1.1.4.12"
PRINTED_ONLY = "1.3.6.1.4.1.19376.1.2.20"


@dataclass(frozen=True, slots=True)
class Author:
    """Who signs, and where: RPPS, name, specialty (JDV_J01), FINESS, the structure's name, its kind (JDV_J02, JDV_J04)."""

    rpps: str
    family: str
    given: str
    specialty: str
    finess: str
    place: str
    facility: str = "SA01"
    setting: str = "ETABLISSEMENT"
    in_the_stay: bool = True


CARDIOLOGIST = Author("810009999999", "SOIGNANT", "ALEX", "G15_10/SM04", "1350000009", "CHU DE DEMONSTRATION")
RADIOLOGIST = Author("810009999981", "CLICHE", "ANDREA", "G15_10/SM44", "1350000009", "CHU DE DEMONSTRATION")
BIOLOGIST = Author("810009999973", "PAILLASSE", "DOMINIQUE", "G15_10/SM02", "1350000009", "CHU DE DEMONSTRATION")


_OF_TOWN = partial(Author, setting="AMBULATOIRE", in_the_stay=False)
TOWN_BIOLOGIST = _OF_TOWN(
    "810006666666", "EPROUVETTE", "MAXIME", "G15_10/SM02", "1350000033", "LABORATOIRE DU PORT", facility="SA25"
)
PRACTITIONER = _OF_TOWN("810008888888", "TRAITANT", "SACHA", "G15_10/SM26", "1350000017", "CABINET DU PORT", facility="SA07")
PHARMACIST = _OF_TOWN("810007777777", "OFFICINE", "CLAUDE", "G15_21/A", "1350000025", "PHARMACIE DU PORT", facility="SA33")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoDocument:
    """What a document says in its header. `at` is YYYYMMDDhhmm in Paris.

    `begun` is when the act began that it tells of; `at` when it is unsaid. `models` are template roots, `ROOT/EXTENSION` with a
    version. `event` stands in the main serviceEvent before its times, `event_status` after them.
    """

    number: str
    set_number: str
    code: str
    display: str
    title: str
    at: str
    author: Author
    body: str
    models: tuple[str, ...] = (PRINTED_ONLY,)
    code_system: str = LOINC
    version: int = 1
    replaces: str = ""
    matricule: str = INS
    begun: str = ""
    event: str = ""
    event_status: str = ""

    @property
    def kind(self) -> str:
        """The type as HL7 v2 writes it (OBR-4, OBX-3)."""
        return f"{self.code}^{self.display}^{'LN' if self.code_system == LOINC else 'TRE_A05'}"

    def xml(self) -> bytes:
        """The document."""
        return "\n".join(
            ['<?xml version="1.0" encoding="UTF-8"?>', _head(self), _people(self), _context(self), self.body, _END]
        ).encode()


_END = "</ClinicalDocument>\n"


def printed(content: bytes) -> str:
    """A body of level 1: a PDF."""
    shown = base64.b64encode(content).decode()
    return (
        f'<component><nonXMLBody><text mediaType="application/pdf" representation="B64">{shown}</text></nonXMLBody></component>'
    )


def structured(*sections: str) -> str:
    """A body of level 3."""
    inner = "\n".join(f"<component>{section}</component>" for section in sections)
    return f"<component><structuredBody>\n{inner}\n</structuredBody></component>"


def _template(name: str) -> str:
    root, _, extension = name.partition("/")
    return f'<templateId root="{root}"' + (f' extension="{extension}"' if extension else "") + "/>"


def _head(said: DemoDocument) -> str:
    models = "".join(map(_template, said.models))
    return f"""<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xmlns:lab="urn:oid:1.3.6.1.4.1.19376.1.3.2" xmlns:pharm="urn:ihe:pharm:medication">
<realmCode code="FR"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
<templateId root="2.16.840.1.113883.2.8.2.1"/><templateId root="1.2.250.1.213.1.1.1.1"/>{models}
<id root="{said.number}"/><code code="{said.code}" displayName="{said.display}" codeSystem="{said.code_system}"/>
<title>{said.title}</title><effectiveTime value="{said.at}00+0100"/>
<confidentialityCode code="N" displayName="Normal" codeSystem="2.16.840.1.113883.5.25"/><languageCode code="fr-FR"/>
<setId root="{said.set_number}"/><versionNumber value="{said.version}"/>
<recordTarget><patientRole><id root="{TEST_INS_OID}" extension="{said.matricule}"/><id root="{IPP_OID}" extension="{IPP}"/>
<patient><name><family qualifier="BR">EXEMPLE</family>
<given>CAMILLE ANNE LOUISE</given><given qualifier="BR">CAMILLE</given></name>
<administrativeGenderCode code="F" codeSystem="2.16.840.1.113883.5.1"/><birthTime value="19850712"/>
<birthplace><place><addr><county>35238</county><city>RENNES</city></addr></place></birthplace></patient></patientRole></recordTarget>"""


def _people(said: DemoDocument) -> str:
    by = said.author
    number = f'<id root="1.2.250.1.71.4.2.1" extension="{by.rpps}"/>'
    person = f"<assignedPerson><name><family>{by.family}</family><given>{by.given}</given></name></assignedPerson>"
    place = f'<id root="1.2.250.1.71.4.2.2" extension="{by.finess}"/><name>{by.place}</name>'
    return f"""<author><time value="{said.at}00+0100"/><assignedAuthor>{number}
<code code="{by.specialty}" codeSystem="1.2.250.1.213.1.1.4.5"/>{person}
<representedOrganization>{place}</representedOrganization></assignedAuthor></author>
<custodian><assignedCustodian><representedCustodianOrganization>{place}</representedCustodianOrganization></assignedCustodian></custodian>
<legalAuthenticator><time value="{said.at}00+0100"/><signatureCode code="S"/>
<assignedEntity>{number}{person}</assignedEntity></legalAuthenticator>"""


def _context(said: DemoDocument) -> str:
    by, day = said.author, f"{said.begun or said.at}00+0100"
    performer = f'<assignedEntity><id root="1.2.250.1.71.4.2.1" extension="{by.rpps}"/>'
    setting = f'<standardIndustryClassCode code="{by.setting}" codeSystem="1.2.250.1.213.1.1.4.9"/>'
    replaced = f'<parentDocument><id root="{said.replaces}"/></parentDocument>' if said.replaces else ""
    related = f'<relatedDocument typeCode="RPLC">{replaced}</relatedDocument>' if replaced else ""
    stay = f'<id root="{VISIT_OID}" extension="V777001"/>' if by.in_the_stay else ""
    begun = "20261124075800+0100" if by.in_the_stay else day
    return f"""<documentationOf><serviceEvent>{said.event}<effectiveTime><low value="{day}"/></effectiveTime>{said.event_status}
<performer typeCode="PRF">{performer}<representedOrganization>{setting}</representedOrganization></assignedEntity></performer>
</serviceEvent></documentationOf>{related}
<componentOf><encompassingEncounter>{stay}<effectiveTime><low value="{begun}"/></effectiveTime>
<location><healthCareFacility><code code="{by.facility}" codeSystem="1.2.250.1.71.4.2.4"/></healthCareFacility></location>
</encompassingEncounter></componentOf>"""
