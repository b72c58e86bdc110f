"""What is wrong with a document is a refusal or a finding with code and place, never a crash: through the structure, and mutated.

Refusals: HL7 v2.5.1 table 0357, 102, at OBX-5; findings: at the XPath of the element.
"""

import base64
import importlib.util
import os
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from hub.formats.er7 import read
from hub.model.refusals import HubError, MessageRefused
from hub.model.site import Site
from mappings.cda.translate import translate_cda
from mappings.hl7v2.ucum import Units
from mappings.registry import builtin, packaged_table
from mappings.tables import load

REGISTRY, SITE = builtin(), Site(source="ris", environment="test")
UNITS = Units(load(packaged_table("ucum_units")))
MESSAGE = (Path(__file__).parent.parent / "vectors" / "hl7v2" / "pfi_mdm.hl7").read_text("utf-8")
NUMBER, CODE = "1.2.250.1.999.1.7", "11502-2"


def _documents():
    spec = importlib.util.spec_from_file_location("header_document", Path(__file__).with_name("header_document.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DOCUMENTS = _documents()
# a first sending replaces nothing
N1, N3 = (xml.replace("relatedDocument", "other").encode() for xml in (DOCUMENTS.n1(), DOCUMENTS.n3()))


def message_of(data: bytes | str):
    """The document in a message of the profile, or what stands instead of its Base64."""
    said = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    text = MESSAGE.replace("@CDA@", said).replace("1.2.250.9.77.5.100", NUMBER).replace("18748-4", CODE)
    return read(text.replace("\n", "\r").encode())


def bomb(levels: int) -> bytes:
    entities = "".join(f'<!ENTITY e{n + 1} "&e{n};&e{n};&e{n};&e{n};">' for n in range(levels))
    return f'<!DOCTYPE x [<!ENTITY e0 "x">{entities}]>'.encode()


def within(doctype: bytes, said: bytes = b"&e9;") -> bytes:
    return N3.replace(b"?>\n", b"?>" + doctype, 1).replace(b"<text>x</text>", b"<text>" + said + b"</text>")


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (within(bomb(9)), "OBX-5"),
        (within(b'<!DOCTYPE x [<!ENTITY e9 SYSTEM "file:///etc/hostname">]>'), "OBX-5"),
        (within(b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">', b"x"), "OBX-5"),
        (within(b"", b"<a>" * 10_000 + b"</a>" * 10_000), "OBX-5"),
        (N3.replace(b"urn:hl7-org:v3", b"urn:hl7-org:v2"), "OBX-5"),
        (N3.replace(b"UTF-8", b"UTF-16"), "OBX-5"),
        (N3.replace(b"<text>x", b"<text>\xe9"), "OBX-5"),
        (N3[:-40], "OBX-5"),
        (b"%PDF-1.4", "OBX-5"),
        ("PD94bWwg*", "OBX-5"),
        (base64.b64encode(N3).decode()[:-41], "OBX-5"),
        (N3.replace(b"4.10", b"4.13").replace(b"284057512345672", b"1"), "PID-3"),
    ],
)
def test_what_cannot_be_read_or_speaks_of_another_is_refused(data, at):
    message = message_of(data)
    with pytest.raises(MessageRefused) as refused:
        REGISTRY.find(message).judge(message, SITE)
    assert (refused.value.condition, refused.value.at) == ({"OBX-5": "102", "PID-3": "207"}[at], at)


OBSERVATION = """<entry><observation classCode="OBS" moodCode="EVN"><templateId root="1.3.6.1.4.1.19376.1.5.3.1.4.13"/>
<templateId root="1.2.250.1.213.1.1.3.48"/><id root="1.2.250.1.999.4" extension="1"/>@CODE@<statusCode code="completed"/>
<effectiveTime value="@TIME@"/><value xsi:type="PQ" value="@VALUE@" unit="@UNIT@"/></observation></entry></section>"""


def with_observation(code='<code code="29463-7" codeSystem="2.16.840.1.113883.6.1"/>', time="20260301", value="70", unit="kg"):
    entry = OBSERVATION.replace("@CODE@", code).replace("@TIME@", time).replace("@VALUE@", value).replace("@UNIT@", unit)
    return N3.replace(b"</section>", entry.encode())


ENTRY = "/ClinicalDocument/component/structuredBody/component/section/entry/observation"


@pytest.mark.parametrize(
    ("xml", "code", "at"),
    [
        (with_observation(time="20230230"), "TS_INVALID", f"{ENTRY}/effectiveTime"),
        (with_observation(value="many"), "VALUE_INVALID", f"{ENTRY}/value"),
        (with_observation(unit="furlong!"), "UNIT_NOT_UCUM", f"{ENTRY}/value"),
        (with_observation(code=""), "CODE_MISSING", ENTRY),
        (N3.replace(b'<code code="11450-4"/>', b""), "SECTION_CODE", ENTRY.partition("/entry")[0]),
        (N3.replace(b'code="AMBULATOIRE"', b'code="X"'), "CDA_PRACTICE_SETTING_SET", None),
        (N1.replace(b"JVBERi0xLjQK", b"R0lGODlh"), "CONTENT_NOT_PDF", "/ClinicalDocument/component/nonXMLBody/text"),
        (N1.replace(b"JVBERi0xLjQK", b"JVBERi0xLjQKJ"), "CONTENT_BASE64", "/ClinicalDocument/component/nonXMLBody/text"),
        (N1.replace(b"JVBERi0xLjQK", b"J*"), "CONTENT_BASE64", "/ClinicalDocument/component/nonXMLBody/text"),
    ],
)
def test_what_is_wrong_inside_is_told_with_the_document_filed(xml, code, at):
    message = message_of(xml)
    structure = REGISTRY.find(message)
    structure.judge(message, SITE)
    change = structure.translate(message, SITE)
    assert change.documents[0].master_id == f"urn:oid:{NUMBER}"
    told = [finding.at for finding in change.findings if finding.code == code]
    assert told and (at is None or at in told), change.findings


@cache
def samples() -> list[bytes]:
    """Synthetic documents, and three official ones where they are."""
    folder = os.environ.get("VAGUEMESTRE_SAMPLES", "")
    names = ("BIO-CR-BIO_2024.01_Microbiologie_V1.xml", "VSM_1.4_2022.01.xml", "eP-MED-DM_2024.01_PosoStruct.xml")
    official = [(Path(folder) / "cda" / "examples" / name).read_bytes() for name in names] if folder else []
    return [N1, with_observation(), *official]


def mutated(xml: bytes, data: st.DataObject) -> bytes:
    """A document with elements left out, doubled, moved or renamed, and attributes garbled."""
    root = etree.fromstring(xml)
    elements = [element for element in root.iter(etree.Element) if element is not root]
    for _ in range(data.draw(st.integers(1, 12))):
        element = data.draw(st.sampled_from(elements))
        parent = element.getparent()
        deed = data.draw(st.sampled_from(("drop", "double", "move", "rename", "attribute", "attribute", "text")))
        if deed == "drop" and parent is not None:
            parent.remove(element)
        elif deed == "double" and parent is not None:
            parent.insert(0, etree.fromstring(etree.tostring(element, with_tail=False)))
        elif deed == "move":
            other = data.draw(st.sampled_from(elements))
            if element not in other.iterancestors() and element is not other:
                other.append(element)
        elif deed == "rename":
            element.tag = data.draw(st.sampled_from(elements)).tag
        elif deed == "attribute" and element.attrib:
            name = data.draw(st.sampled_from(sorted(element.attrib)))
            element.set(name, data.draw(st.sampled_from(("", " ", "x", "-1", "1e999", "20230230", "PQ", "CD", "é" * 300))))
        else:
            element.text = data.draw(st.sampled_from(("", "x", "9" * 40)))
    return etree.tostring(root)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_mutated_document_is_translated_or_refused(data):
    xml = mutated(data.draw(st.sampled_from(samples())), data)
    try:
        found = translate_cda(xml, tz=ZoneInfo("Europe/Paris"), units=UNITS)
    except HubError:
        return
    assert all(finding.code and finding.at.startswith("/") for finding in found.findings)
    assert len({fact.key for fact in found.facts}) == len(found.facts)
