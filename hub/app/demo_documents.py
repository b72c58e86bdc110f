"""A printed report, and messages that carry documents, for the demonstration's day."""

from __future__ import annotations

import base64

from hub.app.demo_cda import RADIOLOGIST, DemoDocument, printed
from hub.app.demo_patient import DOCUMENT_OID, INS, pid, pv1

_FLAGS = {
    "MASQUE_PS": "N",
    "INVISIBLE_PATIENT": "N",
    "INVISIBLE_REP_LEGAUX": "N",
    "CONNEXION_SECRETE": "N",
    "MODIF_CONF_CODE": "N",
    "DESTDMP": "Y",
    "DESTMSSANTEPS": "N",
    "DESTMSSANTEPAT": "N",
    "ACK_RECEPTION": "Y",
    "ACK_LECTURE_MSS": "N",
}
_BY_MAIL = "810008888888^TRAITANT^SACHA^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"


def imaging_report(
    number: int, *, version: int = 1, replaces: int = 0, set_number: int = 100, matricule: str = INS
) -> DemoDocument:
    """A report of level 1: a PDF."""
    return DemoDocument(
        number=f"{DOCUMENT_OID}.{number}",
        set_number=f"{DOCUMENT_OID}.{set_number}",
        code="18748-4",
        display="CR d'imagerie médicale",
        title="Radiographie du thorax",
        at="202611241040",
        author=RADIOLOGIST,
        version=version,
        replaces=f"{DOCUMENT_OID}.{replaces}" if replaces else "",
        matricule=matricule,
        body=printed(pdf(f"Radiographie du thorax, version {version} (exemple)")),
    )


def mdm(
    event: str,
    control: str,
    at: str,
    document: DemoDocument,
    *,
    action: str = "NW",
    status: str = "F",
    app: str = "RIS",
    **flags: str,
) -> bytes:
    """A document under the CI-SIS profile 2.1. `flags` are the metadata that differ: MASQUE_PS, DESTMSSANTEPS, …"""
    by, content = document.author, base64.b64encode(document.xml()).decode()
    sender = f"{by.rpps}^{by.family}^{by.given}^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"
    said = {**_FLAGS, **flags}
    copies = (f"PRT||UC||RCT^Result Copies To^participation|{_BY_MAIL}||||||||||^^X.400^sacha.traitant@medecin.example",)
    return "\r".join(
        [
            f"MSH|^~\\&|{app}|CHU-DEMO|VAGUEMESTRE|HUB|{at}||MDM^{event}^MDM_T02|{control}|T|2.6|||||FRA|UNICODE UTF-8|||2.1^CISIS_CDA_HL7_V2",
            f"EVN||{at}",
            pid(),
            pv1(),
            f"ORC|{action}",
            f"OBR|1|||{document.kind}",
            f"TXA|1|{document.code}|TEXT|||||||||{document.number}|{document.replaces}||||AU",
            f"OBX|1|ED|{document.kind}||^TEXT^XML^Base64^{content}||||||{status}",
            f"PRT||UC||SB^Send by^participation|{sender}"
            f"|||{by.place}^^^^^ASIP-SANTE-ST&1.2.250.1.71.4.2.2&ISO^IDNST^^^{by.finess}",
            *(copies if said["DESTMSSANTEPS"] == "Y" else ()),
            *(
                f"OBX|{n}|CWE|{code}^{code}^MetaDMPMSS||{value}^^expandedYes-NoIndicator||||||F"
                for n, (code, value) in enumerate(said.items(), 2)
            ),
            "",
        ]
    ).encode()


def pdf(title: str) -> bytes:
    """A one-page PDF that viewers open."""
    text = title.encode("latin-1", "replace").replace(b"(", b"\\(").replace(b")", b"\\)")
    stream = b"BT /F1 16 Tf 60 760 Td (" + text + b") Tj ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    out, places = b"%PDF-1.4\n", []
    for n, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj%s endobj\n" % (n, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
