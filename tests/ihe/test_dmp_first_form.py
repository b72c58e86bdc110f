"""ITI-41, ITI-57 and ITI-18 as they leave: read with a MIME parser and an XML parser that are not ours; answers good and bad.

Standard: IHE ITI TF-2 §3.18, §3.41, §3.57, TF-3 §4.2; CI-SIS TD2.1, TD3.1b, TD3.3c.
"""

import asyncio
import hashlib
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from adapters.dmp import iti18_registry_stored_query as iti18
from adapters.dmp import iti41_provide_and_register as iti41
from adapters.dmp import iti57_update_document_set as iti57
from adapters.dmp import mtom, soap
from adapters.dmp.destination import DmpDestination
from adapters.dmp.options import DmpOptions, DmpTls, context_of
from adapters.dmp.registry_response import BUSY, answered, response
from adapters.dmp.rim import APPROVED, DELETED
from adapters.dmp.simulated import SimulatedDmp, UnknownAnswer
from hub.formats.content import document_bytes
from hub.formats.er7 import read
from hub.model.record_change import DocumentAction
from hub.model.refusals import Misconfigured, NoAnswer, PeerBusy, PeerRefused, PeerUnavailable
from hub.model.site import Site
from mappings.registry import builtin

NS = {"rim": "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0", "xdsb": "urn:ihe:iti:xds-b:2007"}
INS = "284057512345672^^^&1.2.250.1.213.1.4.10&ISO^NH"
NUMBER, OLD = "1.2.250.9.77.5.100", "1.2.250.9.77.5.99"
VECTORS = Path(__file__).parents[1] / "vectors" / "hl7v2"


def message(event="T02", *, replaces="", change=lambda text: text):
    import base64

    related = f'<relatedDocument typeCode="RPLC"><parentDocument><id root="{replaces}"/></parentDocument></relatedDocument>'
    cda = (VECTORS / "pfi_cda.xml").read_text("utf-8")
    patient = '<id root="1.2.250.1.213.1.4.10" extension="284057512345672"/>'
    for name, value in {
        "ID": NUMBER,
        "CODE": "18748-4",
        "CONF": "N",
        "VERSION": "1",
        "PATIENT": patient,
        "RELATED": related if replaces else "",
    }.items():
        cda = cda.replace(f"@{name}@", value)
    orc_1, obx_11 = {"T02": ("NW", "F"), "T10": ("RO", "C"), "T04": ("CA", "D")}[event]
    text = (VECTORS / "pfi_mdm.hl7").read_text("utf-8").replace("@CDA@", base64.b64encode(cda.encode()).decode())
    text = text.replace("MDM^T02", f"MDM^{event}").replace("ORC|NW", f"ORC|{orc_1}").replace("F\nPRT", f"{obx_11}\nPRT", 1)
    return read(change(text).replace("\n", "\r").encode())


def submission_of(found, site=Site(source="ris", environment="test")):
    structure = builtin().find(found)
    submission = structure.dmp_submission(found, site)
    return submission, [document_bytes(found.raw, one.content) for one in submission.documents]


def written(found=None, entries=None):
    submission, contents = submission_of(found or message())
    body, parts = iti41.request(
        submission, contents, unique_id="2.25.7", source_id="2.25.8", submitted="20261124101500", entries=entries or {}
    )
    envelope = soap.envelope(body, action=iti41.ACTION, to="http://dmp.example/repository", message_id="m1")
    return mtom.written(envelope, parts, iti41.ACTION, "uuid-m1"), contents


def classified(entry, scheme):
    """(code, system) under a classification scheme."""
    found = entry.findall(f"rim:Classification[@classificationScheme='urn:uuid:{scheme}']", NS)
    return [(one.get("nodeRepresentation"), one.findtext(".//rim:Value", namespaces=NS)) for one in found]


def slots(entry):
    return {one.get("name"): [value.text for value in one.iter(f"{{{NS['rim']}}}Value")] for one in entry.findall("rim:Slot", NS)}


def test_iti_41_is_mtom_that_others_read():
    (body, content_type), contents = written()
    assert content_type == (
        'multipart/related; boundary="uuid-m1"; type="application/xop+xml"; start="<envelope@vaguemestre>"; '
        f'start-info="application/soap+xml"; action="{iti41.ACTION}"'
    )
    independent = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    root, document = independent.iter_parts()
    assert root["content-type"].startswith("application/xop+xml")
    assert document["content-id"] == "<Document01@vaguemestre>" and document["content-transfer-encoding"] == "binary"
    assert document.get_payload(decode=True) == contents[0]
    assert b"\n" not in body.replace(b"\r\n", b"").replace(contents[0], b"").split(b"?>", 1)[0]
    envelope = etree.fromstring(root.get_payload(decode=True))
    include = envelope.find(".//xdsb:Document[@id='Document01']/*", NS)
    assert include.tag == "{http://www.w3.org/2004/08/xop/include}Include" and include.get("href") == "cid:Document01@vaguemestre"
    action = envelope.find(".//{http://www.w3.org/2005/08/addressing}Action")
    assert action.text == iti41.ACTION
    assert action.get("{http://www.w3.org/2003/05/soap-envelope}mustUnderstand") == "true"


def test_metadata_of_a_document_entry_and_its_submission_set():
    (body, content_type), (content,) = written()
    envelope = etree.fromstring(mtom.read(body, content_type)[0])
    entry, package = envelope.find(".//rim:ExtrinsicObject", NS), envelope.find(".//rim:RegistryPackage", NS)
    told = slots(entry)
    assert told["hash"] == [hashlib.sha1(content).hexdigest()] and told["size"] == [str(len(content))]
    assert told["creationTime"] == ["20260302083000"] and told["serviceStartTime"] == ["20260302080000"]
    assert told["languageCode"] == ["fr-FR"] and told["sourcePatientId"] == ["4711^^^&1.2.250.9.77&ISO^PI"]
    assert told["sourcePatientInfo"] == ["PID-5|LACAILLE^Odette^^^^^L", "PID-7|19840512", "PID-8|F"]
    assert entry.get("mimeType") == "text/xml"
    assert classified(entry, "f0306f51-975f-434e-a61c-c59651d33983") == [("18748-4", "2.16.840.1.113883.6.1")]
    assert classified(entry, "41a5887f-8865-4c09-adf7-e362475b143a") == [("31", "1.2.250.1.213.1.1.4.1")]
    assert classified(entry, "f4f85eac-e6cb-4883-b524-f2705394840f") == [("N", "2.16.840.1.113883.5.25")]
    assert classified(entry, "f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1") == [("SA07", "1.2.250.1.71.4.2.4")]
    assert classified(entry, "cccf5598-8b07-4b77-a05e-ae952c785ead") == [("AMBULATOIRE", "1.2.250.1.213.1.1.4.9")]
    assert classified(package, "aa543740-bdda-424e-8c96-df4873be8500") == [("03", "1.2.250.1.213.2.2")]
    numbers = {
        one.find("rim:Name/rim:LocalizedString", NS).get("value"): one.get("value")
        for one in envelope.iter(f"{{{NS['rim']}}}ExternalIdentifier")
    }
    assert numbers == {
        "XDSDocumentEntry.patientId": INS,
        "XDSDocumentEntry.uniqueId": NUMBER,
        "XDSSubmissionSet.patientId": INS,
        "XDSSubmissionSet.sourceId": "2.25.8",
        "XDSSubmissionSet.uniqueId": "2.25.7",
    }
    author = slots(entry.find("rim:Classification[@classificationScheme='urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d']", NS))
    assert author["authorPerson"] == ["810000000017^VASSEUR^Irma^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"]
    assert author["authorInstitution"] == ["CLINIQUE-Z^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1290000017"]
    ids = [one.get("id") for one in envelope.iter() if isinstance(one.tag, str) and one.get("id") and "rim:3.0" in one.tag]
    assert len(ids) == len(set(ids))


def test_flags_are_confidentiality_codes():
    found = message(change=lambda text: text.replace("MASQUE_PS^^MetaDMPMSS||N", "MASQUE_PS^^MetaDMPMSS||Y"))
    (body, content_type), _ = written(found)
    entry = etree.fromstring(mtom.read(body, content_type)[0]).find(".//rim:ExtrinsicObject", NS)
    assert classified(entry, "f4f85eac-e6cb-4883-b524-f2705394840f")[1:] == [("MASQUE_PS", "1.2.250.1.213.1.1.4.13")]


def test_a_replacement_names_the_entry_that_it_replaces():
    (body, content_type), _ = written(message("T10", replaces=OLD), entries={OLD: "urn:uuid:old"})
    envelope = etree.fromstring(mtom.read(body, content_type)[0])
    found = {
        one.get("associationType").rpartition(":")[2]: (one.get("sourceObject"), one.get("targetObject"))
        for one in envelope.iter(f"{{{NS['rim']}}}Association")
    }
    assert found == {"HasMember": ("SubmissionSet01", "Document01"), "RPLC": ("Document01", "urn:uuid:old")}


def test_a_deletion_changes_the_availability_status():
    submission, _ = submission_of(message("T04"))
    assert submission.action is DocumentAction.DELETE
    entry = iti18.Entry("urn:uuid:e1", NUMBER, APPROVED)
    body = iti57.request(submission, [entry], unique_id="2.25.7", source_id="2.25.8", submitted="20261124101500")
    (one,) = body.iter(f"{{{NS['rim']}}}Association")
    assert one.get("associationType") == "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus"
    assert (one.get("sourceObject"), one.get("targetObject")) == ("SubmissionSet01", "urn:uuid:e1")
    assert slots(one) == {"OriginalStatus": [APPROVED], "NewStatus": [DELETED]}


def test_a_question_quotes_its_values():
    (value,) = iti18.request([NUMBER, OLD]).iter(f"{{{NS['rim']}}}Value")
    assert value.text == f"('{NUMBER}','{OLD}')"


def test_what_no_xml_can_hold_is_left_out():
    found = message(change=lambda text: text.replace("VASSEUR^Irma", "VAS\x01SEUR\x1a^Ir&ma|"))
    (body, content_type), _ = written(found)
    etree.fromstring(mtom.read(body, content_type)[0])


def test_nothing_of_a_patient_is_shown_by_accident():
    submission, _ = submission_of(message())
    assert "LACAILLE" not in repr(submission) + repr(submission.documents) + repr(submission.author)


@pytest.mark.parametrize(
    "environment, change, refused",
    [("test", ("||VALI", "||PROV"), "INS_NOT_QUALIFIED"), ("production", ("", ""), "INS_ENVIRONMENT"), ("test", ("", ""), "")],
)
def test_a_rule_that_forbids_it_is_part_of_the_submission(environment, change, refused):
    found = message(change=lambda text: text.replace(*change))
    assert submission_of(found, Site(environment=environment))[0].refused == refused


# ---- answers -----------------------------------------------------------------------------------------------------------


class Peer:
    """Answers each request with the next of `answers`: bytes as they are written; None: hang up; "" : say nothing."""

    def __init__(self, *answers):
        self.answers, self.got = list(answers), []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
        port = self._server.sockets[0].getsockname()[1]
        options = DmpOptions(f"http://127.0.0.1:{port}/x/", "2.25.8", connect_timeout_s=1, answer_timeout_s=0.4)
        return self, DmpDestination(options, now=lambda: datetime(2026, 11, 24, tzinfo=UTC))

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        self.got.append((head, await reader.readexactly(length)))
        answer = self.answers.pop(0)
        if answer == "":
            await asyncio.sleep(1)
        elif answer is not None:
            writer.write(answer)
            await writer.drain()
        writer.close()


def http(body, status=200, more=""):
    content = body if isinstance(body, bytes) else soap.answer(body, action="a", relates_to="m")
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/soap+xml\r\n{more}Content-Length: {len(content)}\r\n\r\n".encode()
        + content
    )


def found_entries(sha1="", status=APPROVED):
    dmp = SimulatedDmp()
    submission, contents = submission_of(message())
    body, parts = iti41.request(submission, contents, unique_id="2.25.7", source_id="2.25.8", submitted="2026", entries={})
    dmp.handle(*mtom.written(soap.envelope(body, action=iti41.ACTION, to="x", message_id="m"), parts, iti41.ACTION, "b"))
    kept = dmp._documents[NUMBER]
    kept.sha1, kept.status = sha1 or kept.sha1, status
    asked = soap.envelope(iti18.request([NUMBER]), action=iti18.ACTION, to="x", message_id="m")
    return http(dmp.handle(asked, "application/soap+xml").body)


NOTHING = http(
    SimulatedDmp()
    .handle(soap.envelope(iti18.request([NUMBER]), action=iti18.ACTION, to="x", message_id="m"), "application/soap+xml")
    .body
)
SUCCESS = soap.answer(response(), action="a", relates_to="m")
CASES = [
    ("success", [http(response())], NUMBER),
    (
        "chunked",
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(SUCCESS), SUCCESS)],
        NUMBER,
    ),
    ("closed", [http(response("DMPClosed"))], (PeerRefused, "DMPClosed")),
    *((code, [http(response(code))], (PeerBusy, code)) for code in sorted(BUSY)),
    ("duplicate that is ours", [http(response("XDSDuplicateUniqueIdInRegistry")), found_entries()], NUMBER),
    (
        "duplicate that is not",
        [http(response("XDSDuplicateUniqueIdInRegistry")), found_entries("00")],
        (PeerRefused, "XDSDuplicateUniqueIdInRegistry"),
    ),
    (
        "duplicate of nothing",
        [http(response("XDSDuplicateUniqueIdInRegistry")), NOTHING],
        (PeerRefused, "XDSDuplicateUniqueIdInRegistry"),
    ),
    ("a code that is none", [http(response("Mme Testut, née"))], (PeerRefused, "DMPError")),
    ("fault of ours", [http(soap.fault("Sender", "no"), 500)], (PeerRefused, "Sender")),
    ("fault of theirs", [http(soap.fault("Receiver", "no"), 500)], (PeerBusy, "Receiver")),
    ("hung up", [None], (NoAnswer, "")),
    ("silence", [""], (NoAnswer, "")),
    ("half an answer", [http(response())[:-20]], (NoAnswer, "")),
    ("no HTTP", [b"220 mail.example ESMTP\r\n"], (NoAnswer, "")),
    ("no XML", [http(b"good morning")], (NoAnswer, "")),
    ("doctype", [http(b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')], (NoAnswer, "")),
    ("another envelope", [http(b"<a/>")], (NoAnswer, "")),
    ("gateway", [http(b"no", 502)], (NoAnswer, "")),
    ("not now", [http(b"later", 503)], (PeerBusy, "")),
    ("not for us", [http(b"no", 403)], (PeerUnavailable, "")),
    ("moved", [http(b"", 307, "Location: https://elsewhere.example/\r\n")], (PeerUnavailable, "")),
    ("not found", [http(b"", 404)], (PeerUnavailable, "")),
    ("too large", [http(b"no", 413)], (PeerRefused, "HTTP413")),
    ("broken", [http(b"no", 500)], (NoAnswer, "")),
]


@pytest.mark.parametrize("answers, expected", [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_an_answer_means(answers, expected):
    async def main():
        async with Peer(*answers) as (peer, dmp):
            submission, contents = submission_of(message())
            if isinstance(expected, str):
                assert (await dmp.submit(submission, contents, delivery_id=7)).external_ref == expected
            else:
                with pytest.raises(expected[0]) as raised:
                    await dmp.submit(submission, contents, delivery_id=7)
                assert raised.value.reason == expected[1]
                assert "LACAILLE" not in raised.value.sentence and "Testut" not in raised.value.sentence
            assert peer.answers == []
            assert peer.got[0][0].startswith(b"POST /x/repository HTTP/1.1\r\n")

    asyncio.run(main())


def test_the_same_delivery_has_the_same_submission_set():
    async def main():
        async with Peer(*[http(response())] * 3) as (peer, dmp):
            submission, contents = submission_of(message())
            for number in (7, 7, 8):
                await dmp.submit(submission, contents, delivery_id=number)
        found = [
            body.split(b'"XDSSubmissionSet.uniqueId"')[0].rpartition(b'value="2.25.')[2].split(b'"')[0] for _, body in peer.got
        ]
        assert found[0] == found[1] != found[2]

    asyncio.run(main())


def test_nobody_there_is_told_from_no_answer():
    async def main():
        async with Peer() as (_, dmp):
            pass
        for attempt in (dmp.probe(), dmp.ask(submission_of(message())[0])):
            with pytest.raises(PeerUnavailable):
                await attempt

    asyncio.run(main())


def test_the_answer_to_a_question_about_a_deletion():
    async def main():
        async with Peer(found_entries(status=DELETED), found_entries(), NOTHING) as (_, dmp):
            submission, _ = submission_of(message("T04"))
            assert (await dmp.ask(submission)).external_ref == NUMBER
            assert await dmp.ask(submission) is None
            assert await dmp.ask(submission) is None

    asyncio.run(main())


def test_tls_files_that_do_not_load(tmp_path):
    (tmp_path / "not.pem").write_text("no")
    for tls, key in (
        (DmpTls(ca_file=str(tmp_path / "not.pem")), "tls_ca_file"),
        (DmpTls(cert_file=str(tmp_path / "not.pem")), "tls_cert_file"),
    ):
        with pytest.raises(Misconfigured) as refused:
            context_of(tls)
        assert refused.value.key == key


# ---- the simulated DMP -------------------------------------------------------------------------------------------------


def provided(dmp, found=None, damage=lambda parts: parts):
    submission, contents = submission_of(found or message())
    body, parts = iti41.request(
        submission, contents, unique_id="2.25.7", source_id="2.25.8", submitted="2026", entries={OLD: "urn:uuid:none"}
    )
    envelope = soap.envelope(body, action=iti41.ACTION, to="x", message_id="m")
    reply = dmp.handle(*mtom.written(envelope, damage(parts), iti41.ACTION, "b"))
    return answered(soap.payload(soap.opened(reply.body))) if reply.body else None


def test_one_flipped_byte_is_refused_and_a_document_is_taken_once():
    dmp = SimulatedDmp()
    flipped = [mtom.Part("Document01@vaguemestre", b"\x00" + submission_of(message())[1][0][1:])]
    assert provided(dmp, damage=lambda _: flipped).code == "XDSNonIdenticalHash"
    assert provided(dmp, damage=lambda _: []).code == "XDSMissingDocument"
    assert provided(dmp).success
    assert provided(dmp).code == "XDSDuplicateUniqueIdInRegistry"
    assert provided(dmp, message("T10", replaces=OLD)).code == "XDSRegistryMetadataError"
    assert dmp.counts["documents"] == {"Approved": 1} and dmp.counts["requests"] == {"ITI-41": 5}


def test_answers_as_told():
    assert provided(SimulatedDmp("failure:DMPClosed")).code == "DMPClosed"
    silent = SimulatedDmp("silence")
    assert provided(silent) is None and silent.status(NUMBER) == "Approved"
    assert provided(SimulatedDmp(fail_every=1)).code == "XDSRepositoryError"
    for wrong in ("", "maybe", "failure:", "failure:two words"):
        with pytest.raises(UnknownAnswer):
            SimulatedDmp(wrong)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=60))
def test_no_bytes_crash_the_readers(body, content_type):
    reply = SimulatedDmp().handle(body, content_type)
    assert reply.status == 400 and b"Fault" in reply.body


pieces = st.lists(
    st.sampled_from([b"--b", b"\r\n", b"--", b"Content-ID: <a>", b"<", b"x", b"\r\n\r\n", b"Content-Type: text/xml", b"\x00"]),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(pieces)
def test_no_multipart_crashes_the_reader(parts):
    try:
        root, found = mtom.read(b"".join(parts), 'multipart/related; boundary="b"; start="<a>"')
    except mtom.NotMultipart:
        return
    assert root in found.values()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=3))
def test_what_is_written_is_read(contents):
    parts = [mtom.Part(f"d{n}@x", content) for n, content in enumerate(contents)]
    root, found = mtom.read(*mtom.written(b"<e/>", parts, "urn:a", "uuid-4b1d0e0c-boundary"))
    assert root == b"<e/>"
    assert [found[part.content_id] for part in parts] == contents


xml = st.recursive(
    st.sampled_from(["x", ""]),
    lambda inner: st.builds(
        lambda name, attribute, child: f"<{name} {attribute}>{child}</{name}>",
        st.sampled_from(["rim:ExtrinsicObject", "rim:Association", "rim:Slot", "rim:AdhocQuery", "xdsb:Document", "rim:Value"]),
        st.sampled_from(['id="1"', 'name="hash"', 'associationType="urn:ihe:iti:2007:AssociationType:RPLC"', ""]),
        inner,
    ),
)


@settings(max_examples=150, deadline=None)
@given(xml, st.sampled_from([iti41.ACTION, iti57.ACTION, iti18.ACTION, "urn:other"]))
def test_no_envelope_crashes_the_simulated_dmp(inner, action):
    envelope = (
        f'<s:Envelope xmlns:s="{soap.SOAP}" xmlns:a="{soap.WSA}" xmlns:rim="{NS["rim"]}" xmlns:xdsb="{NS["xdsb"]}">'
        f"<s:Header><a:Action>{action}</a:Action></s:Header><s:Body><rim:X>{inner}</rim:X></s:Body></s:Envelope>"
    )
    reply = SimulatedDmp().handle(envelope.encode(), "application/soap+xml")
    assert answered(soap.payload(soap.opened(reply.body))) is not None
