"""`vaguemestre try`: the answer of the true code, and nothing left behind."""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from pathlib import Path

LAB = """
[[destination]]
name = "lab-out"
kind = "mllp"
connect = "127.0.0.1:{port}"
[[route]]
source = "his"
to = ["lab-out"]
"""
REWRITING = (
    "def shout(message, site):\n    return message.raw.replace(b'^^RENNES^', b'^^Rennes^')\n\nREWRITES = {'shout': shout}\n"
)
FAILING = "def shout(message, site):\n    raise ValueError(message.raw.decode())\n\nREWRITES = {'shout': shout}\n"
MDM = (
    "MSH|^~\\&|GAM|CHU-TEST|HUB|HUB|20261124080000||MDM^T02^MDM_T02|{control}|T|2.5^FRA^2.11|||||FRA|UNICODE UTF-8\n"
    "EVN||20261124080000\n"
    "PID|1||900001^^^CHU&1.2.250.1.999.1&ISO^PI||MARQUETEST^ZOE^^^^^L||19800102|F\n"
    "PV1|1|I\n"
    "TXA|1|CR|AP|20261124080000||||||||DOC-1|||||AU\n"
    "OBX|1|ED|18842-5^CRH^LN||^application^pdf^Base64^{pdf}||||||F\n"
)


def with_mapping(installed, code: str, port: int = 2999) -> None:
    (installed.folder / "site").mkdir()
    (installed.folder / "site" / "ours.py").write_text(code)
    installed.configure(LAB.format(port=port) + 'mapping = "shout"\n[mappings]\nfolder = "site"\n')


def test_an_admission(installed, patient_values):
    done = installed.cli("try", installed.write("adt.hl7"))
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "MSA|AA|C1" in lines
    assert "Translation: adt@2" in lines
    assert "──▶ record: would be filed" in lines
    assert any(line.startswith("Patient") and line.endswith("from PID") for line in lines)
    assert any(line.startswith("Encounter") and line.endswith("from PV1") for line in lines)
    assert lines[-1] == "Nothing was kept and nothing was sent."
    assert not any(value in done.stdout + done.stderr for value in patient_values)
    assert not installed.data.exists()


def test_a_refusal_has_its_place_and_exit_code(installed):
    done = installed.cli("try", installed.write("bad.hl7", change=("|2.5^FRA^2.11|", "|9.9|")), "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["state"] == "REFUSED"
    assert (found["error"]["code"], found["error"]["at"]) == ("203", "MSH-12")
    assert found["ack"][1] == "MSA|AE|C1"
    assert found["ack"][2].startswith("ERR||MSH^1^12|203^")
    assert (found["ok"], found["deliveries"], found["record"]["resources"]) == (False, [], [])


def test_a_document_is_described_without_its_content(installed):
    path = installed.folder / "mdm.hl7"
    path.write_text(MDM.format(control="D1", pdf=b64encode(b"%PDF-1.4 synthetic").decode()))
    found = installed.json("try", path)
    document = next(resource for resource in found["record"]["resources"] if resource["type"] == "DocumentReference")
    assert document["content"] == {"content_type": "application/pdf", "size": 18, "encoding": "base64"}
    assert document["from"]
    assert found["record"]["identifiers"] == [{"kind": "PI", "system": "urn:oid:1.2.250.1.999.1", "value": "…"}]


def test_a_rewriting_is_shown_by_its_segments_and_nothing_is_sent(installed):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.2)
        with_mapping(installed, REWRITING, listener.getsockname()[1])
        found = installed.json("try", installed.write("adt.hl7"))
        delivery = next(d for d in found["deliveries"] if d["destination"] == "lab-out")
        assert (delivery["mapping"], delivery["would_send"]["changed"]) == ("shout", ["PID"])
        try:
            listener.accept()
        except TimeoutError:
            pass
        else:
            raise AssertionError("somebody connected")


def test_a_mapping_that_fails_is_told_without_what_it_said(installed, patient_values):
    with_mapping(installed, FAILING)
    done = installed.cli("try", installed.write("adt.hl7"))
    assert done.returncode == 1
    assert "lab-out: DEAD (TranslationFailed: the mapping raised ValueError)" in done.stdout
    assert not any(value in done.stdout + done.stderr for value in patient_values)


def test_beside_a_running_hub_nothing_changes(installed):
    installed.start()
    installed.send(installed.write("adt.hl7"))
    before_list = installed.settled(1)
    before = installed.fingerprint()
    assert len(before) >= 3
    done = installed.cli("try", installed.write("other.hl7", control="C2", ipp="900002"))
    assert done.returncode == 0, done.stderr
    changed = {name for name, digest in installed.fingerprint().items() if before.get(name) != digest}
    assert changed <= {"vaguemestre.db-shm"}  # the hub's own sweep
    assert installed.settled(1) == before_list
    installed.stop()
    before = installed.fingerprint()
    assert installed.cli("try", installed.folder / "other.hl7").returncode == 0
    assert installed.fingerprint() == before


def test_wrong_use(installed):
    message = installed.write("adt.hl7")
    wrong_source = installed.cli("try", message, "--source", "hsi")
    assert (wrong_source.returncode, wrong_source.stderr) == (2, "--source: 'hsi' is none of his, api\n")
    assert installed.cli("try", installed.folder / "no.hl7").returncode == 2
    two = installed.folder / "two.hl7"
    two.write_text(message.read_text() * 2)
    assert "holds 2 messages, try takes one" in installed.cli("try", two).stderr
    empty = installed.folder / "empty.hl7"
    empty.write_text("\n")
    assert "holds no message" in installed.cli("try", empty).stderr


def test_something_that_is_no_message_gets_its_answer(installed):
    done = installed.cli("try", "-", stdin="hello MARQUETEST\n")
    assert done.returncode == 1
    assert "MSA|AE|" in done.stdout
    assert "MARQUETEST" not in done.stdout + done.stderr


def test_as_if_it_came_through_the_api(installed):
    installed.configure(routes="[]")
    adt = installed.write("adt.hl7")
    assert installed.json("try", adt)["state"] == "NO_ROUTE"
    assert installed.json("try", adt, "--source", "api")["state"] == "DONE"


def test_a_bare_document_is_tried_as_the_message_that_would_have_brought_it(installed):
    example = Path(__file__).parents[3] / "examples" / "cda" / "blood_count.xml"
    done = installed.cli("try", example)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0].startswith("MDM^T02, control id C")
    place = "/ClinicalDocument/component/structuredBody/component/section/entry/act"
    assert f"Observation, final  from {place}/entryRelationship[1]/observation" in lines
    assert f"DiagnosticReport, final  from {place}" in lines
    assert any(line.startswith(f"NOT_READ at {place}/entryRelationship[2]/observation") for line in lines)
    cut = installed.folder / "cut.xml"
    cut.write_bytes(example.read_bytes()[:900])
    done = installed.cli("try", cut)
    assert done.returncode == 1 and "not well-formed XML" in done.stderr
