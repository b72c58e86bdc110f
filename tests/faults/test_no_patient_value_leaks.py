"""No value of a patient in a log, an error, a metric, a file name: marked identities go every way, also the wrong ones, and
everything that is written outside the kept messages and the record is searched for the marks.
"""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.parse
from pathlib import Path

from fault_harness import ask, code_of, run

from bench.sink import AA, AE, AR, END, START, Sink

NAME, GIVEN, STREET, PHONE, NOTE, DOCUMENT = "ZQNOMX", "ZQPRENOMX", "ZQRUEX", "0199887766", "ZQTEXTEX", "ZQDOCUMENTX"
INS, BORN, IPP, WRONG = "284057512345672", "19840507", "ZQIPPX", "ZQFAUXX"
MARKS = (NAME, GIVEN, STREET, PHONE, NOTE, DOCUMENT, INS, BORN, IPP, WRONG, "ZQ")
SITE = """
from mappings.registry import reads
from mappings.hl7v2.adt import Adt

def rewrite(message, site):
    raise KeyError(message.raw.decode("utf-8", "replace"))

class Raises(Adt):
    name, version, heavy = "raises", "1", True
    def translate(self, message, site):
        raise ValueError(message.raw.decode("utf-8", "replace"))

class RaisesHere(Raises):
    name, heavy = "raises-here", False

class JudgeRaises(Adt):
    name = "judge-raises"
    def judge(self, message, site):
        raise ValueError(message.raw.decode("utf-8", "replace"))

REWRITES = {"raises": rewrite}
STRUCTURES = [(reads("ADT^A02"), Raises()), (reads("ADT^A28"), RaisesHere()), (reads("ADT^A31"), JudgeRaises())]
"""


def _message(
    control_id,
    kind="ADT^A01^ADT_A01",
    *,
    pid7=BORN,
    pid3=f"{IPP}^^^M&1.2.250.1.999.1&ISO^PI",
    version="2.5",
    charset="UNICODE UTF-8",
    more="",
    processing="P",
    pid32="VALI",
    app="MARK",
):
    return "\r".join(
        (
            f"MSH|^~\\&|{app}|SITE|HUB|HUB|20260302101500||{kind}|{control_id}|{processing}|{version}|||||FRA|{charset}",
            "EVN||20260302101500",
            f"PID|1||{pid3}~{INS}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS||{NAME}^{GIVEN}^{GIVEN}^^^^L||{pid7}|F|||"
            f"{STREET}^^BREST^^29200^FRA^H||{PHONE}|||||||||||||||||||{pid32}",
            f"PV1|1|I|NEPH^1^B||||||||||||||||{control_id}^^^M&1.2.250.1.999.2&ISO^VN",
            *([more] if more else []),
            "",
        )
    ).encode()


def _obx(content: str, kind="ED") -> str:
    return f"TXA|1|CR|AP|20260302||||||||{WRONG}1|||||AU\rOBX|1|{kind}|18748-4^{NOTE}^LN||{content}||||||F"


def _document(text: str) -> str:
    return f"^application^pdf^Base64^{base64.b64encode(b'%PDF-1.4 ' + text.encode()).decode()}"


def _messages() -> list[bytes]:
    """Right and wrong in every way that the hub tells apart."""
    oru, mdm = "ORU^R01^ORU_R01", "MDM^T02^MDM_T02"
    return [
        _message("1"),
        _message("2", "ADT^A08^ADT_A01"),
        _message("3", oru, more=f"OBR|1|||11502-2^{NOTE}^LN\rOBX|1|TX|1234-5^{NOTE}^LN||{NOTE}||||||F"),
        _message("4", mdm, more=_obx(_document(DOCUMENT))),
        _message("5", mdm, more=_obx(f"^application^pdf^Base64^{NOTE}***")),
        _message("6", mdm, more=_obx(f"^text^XML^Base64^{base64.b64encode(f'<a>{DOCUMENT}'.encode()).decode()}")),
        _message("7", mdm, more=_obx(NOTE, "ZQTYPE")),
        _message("8", pid7=f"{WRONG}07"),
        _message("9", pid7="19840532"),
        _message("10", pid3=""),
        _message("11", pid3=f"{WRONG}^^^^INS"),
        _message("12", version=WRONG),
        _message("13", charset=WRONG),
        _message("14", processing=WRONG),
        _message("15", pid32=WRONG),
        _message("16", f"{WRONG}^A01"),
        _message("17", f"ADT^{WRONG}"),
        _message("18", "MDM^T11"),
        _message(f"{WRONG}CONTROL"),
        _message(f"{WRONG}CONTROL", "ADT^A08^ADT_A01"),
        _message(""),
        _message("19", "ADT^A02^ADT_A02"),
        _message("20", "ADT^A28^ADT_A05"),
        _message("21", "ADT^A31^ADT_A05"),
        _message("22", app=WRONG),
        _message("23").replace(b"UNICODE UTF-8", b"8859/1").replace(GIVEN.encode(), GIVEN.encode() + b"\xff\xfe\x80"),
        _message("24").replace(GIVEN.encode(), GIVEN.encode() + b"\xff\xfe\x80\x00\xed\xa0\x80"),
        _message("25").replace(b"PID|1|", b"PID" + WRONG.encode() + b"|1|"),
        _message("26", more=f"ZBE|{WRONG}|{WRONG}||{WRONG}|N").replace(b"PV1|1|I", f"PV1|1|{WRONG}".encode()),
        _message("27", mdm, more=_obx(_document(DOCUMENT * 40_000))),
        _message("28", "MDM^T10^MDM_T02", more=_obx(_document(DOCUMENT))),
        _message("29", "MDM^T04^MDM_T02", more=_obx("")),
        b"MSH|^~\\&|" + NAME.encode(),
        f"{NAME} {INS}".encode(),
        b"MSHMSHMSH" + INS.encode(),
        b"",
        b"MSH" + NAME.encode() * 30,
        b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|x|P|2.5\rPID|" + b"^~&" * 3000 + NAME.encode(),
    ]


async def _raw(port: int, *pieces: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.05)
    writer.close()


def _found(text: str | bytes, where: str, leaks: list[str], allowed: tuple[str, ...] = ()) -> None:
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    for mark in MARKS:
        encoded = base64.b64encode(mark.encode()).decode()[:-4]
        for form in (mark, mark.lower(), encoded, urllib.parse.quote(mark), mark.encode().hex()):
            place = text.find(form)
            if place >= 0 and form not in allowed and len(form) > 1:
                leaks.append(f"{where}: {text[max(0, place - 60) : place + 40]!r}")
                return


def test_no_patient_value_leaves_the_kept_messages(place):
    async def story():
        answers_of = {0: AA, 1: AE, 2: AR, 3: "mute", 4: "garbage", 5: "half"}
        sink = Sink(lambda n, _id: answers_of[n % 6])
        await sink.start()
        (place.folder / "site").mkdir()
        (place.folder / "site" / "site.py").write_text(SITE)
        retry = "ack_timeout_s = 0.2\n[destination.retry]\nbase_s = 0.05\ncap_s = 0.1\nprobe_s = 0.05\ngive_up_h = 0.0003"
        place.configure(
            destinations=[("out", sink.port, retry), ("rewritten", sink.port, retry), ("down", 9, retry)],
            routes=("record", "requested", "out", "down"),
            source="max_frame_bytes = 1048576\nframe_timeout_s = 0.5",
            more='[mappings]\nfolder = "site"\ntime_s = 2.0\n[[route]]\nsource = "his"\nto = ["rewritten"]\nmapping = "raises"\n'
            'when = {type = "ORU"}\n',
        )
        await place.start(ready=True)
        answers = []
        for message in _messages():
            answers += await ask(place.port, message)
        codes = [code_of(answer) for answer in answers if b"\rMSA|" in answer]
        assert codes.count("AA") > 8
        assert codes.count("AE") > 8

        name = NAME.encode()
        await _raw(place.port, name * 100)
        await _raw(place.port, START + _message("30")[:300])
        await _raw(place.port, START + _message("31")[:300] + START + _message("32") + END)
        await _raw(place.port, START + b"MSH|^~\\&|" + name * 200_000)
        _, slow = await asyncio.open_connection("127.0.0.1", place.port)
        slow.write(START + b"MSH|^~\\&|" + name)

        operator, system = place.token("operator"), place.token("system")
        professional = place.token("professional", "--rpps", "10001234567")
        web: list[tuple[int, bytes]] = []
        for token in (operator, professional, system, f"{WRONG}-no-such-token", ""):
            for path in (
                f"/fhir/Patient?name={NAME}",
                f"/fhir/Patient?identifier=urn:oid:1.2.250.1.213.1.4.10|{INS}",
                f"/fhir/Patient/{IPP}",
                f"/fhir/{WRONG}?x={NAME}",
                f"/fhir/DocumentReference?{WRONG}={NOTE}",
                f"/api/v1/messages?control_id={WRONG}",
                f"/api/v1/messages?state={WRONG}",
                f"/api/v1/messages/{WRONG}",
                f"/console/{NAME}",
                "/metrics",
                f"/fhir/Binary/{WRONG}",
            ):
                web.append((await place.get(path.replace("|", "%7C"), token), path))
        assert {status for (status, _), _ in web} >= {200, 401, 403, 404}
        await asyncio.sleep(2.5)  # retries, give-ups, a frame that times out
        _, metrics = await place.get("/metrics", operator)
        assert b"vaguemestre_messages" in metrics
        slow.close()
        place.process.send_signal(15)
        await place.ended()

        leaks: list[str] = []
        _found(place.log.read_text(errors="replace"), "log", leaks)
        _found(metrics, "/metrics", leaks)
        for (status, body), path in web:
            if status >= 400 and not path.startswith("/console"):  # a page links to itself in other languages
                _found(body, f"answer {status} to {path.split('?')[0]}", leaks)
        for answer in answers:
            text = answer.replace(f"{WRONG}CONTROL".encode(), b"")  # MSA-2 and the header say whom it answers
            text = b"\r".join(line for line in text.split(b"\r") if not line.startswith(b"MSH"))
            _found(text, "acknowledgement", leaks)
        for path in place.folder.rglob("*"):
            _found(str(path.relative_to(place.folder)), "file name", leaks)
        for column, sql in {
            "message.ack_error": "SELECT ack_error FROM message",
            "message.findings": "SELECT findings FROM message",
            "delivery.last_error": "SELECT last_error FROM delivery",
            "attempt.error": "SELECT error FROM attempt",
            "lane": "SELECT key || coalesce(blocked_reason, '') FROM lane",
            "delivery.lane": "SELECT lane FROM delivery",
            "audit": "SELECT act || ' ' || target || ' ' || detail FROM audit",
            "receipt": "SELECT coalesce(detail, '') FROM receipt",
        }.items():
            for (value,) in place.rows(sql):
                _found(value or "", column, leaks)
        assert not leaks, "\n".join(sorted(set(leaks)))
        # the search itself can find: what is kept holds every mark that was sent right
        kept = b"".join(row[0] for row in place.rows("SELECT bytes FROM body"))
        assert all(mark.encode() in kept for mark in (NAME, GIVEN, STREET, PHONE, NOTE, INS, BORN, IPP, WRONG))
        states = dict(place.rows("SELECT state, count(*) FROM message GROUP BY 1"))
        assert {"REFUSED", "SET_ASIDE"} <= states.keys(), states
        assert place.value("SELECT count(*) FROM delivery WHERE state IN ('DEAD', 'REFUSED')") > 3
        assert json.loads(place.log.read_text().splitlines()[0])
        await sink.stop()

    run(story())
    assert Path(place.log).stat().st_size > 1000
