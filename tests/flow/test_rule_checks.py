"""The rules of a kit over documents that were kept: every document once, whatever breaks in between."""

from __future__ import annotations

import asyncio
import json
import shutil
from hashlib import sha1, sha256
from pathlib import Path
from typing import ClassVar

import pytest
import structlog

from hub.flow import rule_checks
from hub.flow.rule_checks import Checked, NotRun, RuleChecks
from hub.flow.workshop import Bench
from hub.model.refusals import Finding, TranslationFailed
from hub.store.blobs import BlobFolder
from hub.store.place import open_store, place_of
from hub.store.upgrade import upgrade

KIT = Path(__file__).parents[1] / "vectors" / "cda" / "schematron" / "kit"
BENCH = Bench("nowhere:build")
HIS = """
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["record"]
"""


class Side:
    """In place of a side process: answers by the document's bytes, or raises what `answers` says in turn."""

    answers: ClassVar[list[object]] = []
    asked: ClassVar[list[bytes]] = []
    closed: ClassVar[int] = 0

    def __init__(self, *_: object) -> None: ...

    async def do(self, content: bytes) -> Checked:
        Side.asked.append(content)
        answer = Side.answers.pop(0) if Side.answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer or Checked((Finding("SCHEMATRON_X_ERROR", "/", content.decode()),))

    def close(self) -> None:
        Side.closed += 1


@pytest.fixture
def side(monkeypatch):
    Side.answers, Side.asked, Side.closed = [], [], 0
    monkeypatch.setattr(rule_checks, "Workshop", Side)
    return Side


def with_store(tmp_path, job, url=""):
    """`job(store, file)` on an empty SQLite store; `file(number, text)` keeps a message and files its document."""
    place = place_of(url, base=tmp_path, default=tmp_path / "hub.db")
    upgrade(place)

    async def main():
        store = open_store(place, BlobFolder(tmp_path / "blobs"))
        store.start()

        async def file(number, text, content_type="text/xml"):
            body = text.encode()

            def write(tx):
                tx.insert(
                    "message",
                    (
                        "id",
                        "source",
                        "connection",
                        "format",
                        "type",
                        "control_id",
                        "sending_app",
                        "charset",
                        "size",
                        "sha256",
                        "in_file",
                        "received_at",
                        "state",
                        "ack_code",
                        "ack_state",
                    ),
                    [
                        (
                            number,
                            "his",
                            "1",
                            "hl7v2-er7",
                            "MDM^T02",
                            str(number),
                            "",
                            "utf-8",
                            len(body),
                            sha256(body).digest(),
                            0,
                            0,
                            "DONE",
                            "AA",
                            "SENT",
                        )
                    ],
                )
                tx.insert("body", ("message_id", "bytes"), [(number, body)])
                tx.insert(
                    "binary_content",
                    (
                        "id",
                        "resource_id",
                        "message_id",
                        "offset",
                        "length",
                        "encoding",
                        "content_type",
                        "size",
                        "sha1",
                        "promoted",
                    ),
                    [(number + 1, 1, number, 0, len(body), "base64", content_type, len(body), sha1(body).digest(), body)],
                )

            await store.write(write)

        async def findings():
            rows = await store.read(lambda tx: tx.rows("SELECT id, findings FROM message ORDER BY id"))
            return {number: [one["text"] for one in json.loads(told or "[]")] for number, told in rows}

        try:
            await job(store, file, findings)
        finally:
            await store.close()

    asyncio.run(main())


def checks_of(store, bench=lambda: BENCH, owner="one"):
    async def no_rest(_seconds):
        return None

    return RuleChecks(store, bench, owner=lambda: owner, rest=no_rest, look_s=0.01, idle_s=0.02, settled_s=0)


async def to_the_end(checks):
    while await checks.step():
        pass


def test_new_documents_come_first_then_the_older_ones_backwards_and_each_once(tmp_path, side):
    async def job(store, file, findings):
        for number in (10, 20, 30):
            await file(number, f"old {number}")
        await file(40, "a picture", "application/pdf")
        checks = checks_of(store)
        assert await checks.step()
        await file(50, "new 50")
        await to_the_end(checks)
        assert [one.decode() for one in side.asked] == ["old 30", "new 50", "old 20", "old 10"]
        assert await findings() == {10: ["old 10"], 20: ["old 20"], 30: ["old 30"], 40: [], 50: ["new 50"]}
        await to_the_end(checks_of(store))
        assert len(side.asked) == 4

    with_store(tmp_path, job)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_a_check_that_is_broken_off_is_done_again_and_filed_once(tmp_path, side, engine, request):
    url = request.getfixturevalue("postgres_url") if engine == "postgres" else ""

    async def job(store, file, findings):
        await file(10, "a document")
        side.answers = [asyncio.CancelledError()]
        with pytest.raises(asyncio.CancelledError):
            await to_the_end(checks_of(store))
        assert await findings() == {10: []}
        await file(20, "another")
        two = [checks_of(store), checks_of(store, owner="two")]
        await asyncio.gather(*(to_the_end(one) for one in two))
        for one in two:
            await one.stop()
            await to_the_end(one)
        assert await findings() == {10: ["a document"], 20: ["another"]}
        if store.shared:
            assert len(side.asked) == 3

    with_store(tmp_path, job, url)


def test_a_document_that_ends_its_process_twice_is_told_and_left(tmp_path, side):
    async def job(store, file, findings):
        await file(10, "heavy")
        await file(20, "light")
        await file(30, "unlucky")
        lost = TranslationFailed("the worker was ended: it took longer than 120 s")
        side.answers = [lost, None, None, lost, lost]
        await to_the_end(checks_of(store))
        assert await findings() == {
            10: ["the rules were not run: the worker was ended: it took longer than 120 s"],
            20: ["light"],
            30: ["unlucky"],
        }

    with_store(tmp_path, job)


def test_a_broken_rule_file_is_logged_once_and_the_process_ends_when_idle(tmp_path, side):
    async def job(store, file, findings):
        broken = Checked((), (NotRun("X", "x.sch", "line 3", "XPST0003 Unexpected token"),))
        for number in (10, 20):
            await file(number, "a document")
        side.answers = [broken, broken]
        checks = checks_of(store)
        with structlog.testing.capture_logs() as logs:
            running = asyncio.create_task(checks.run())
            while len(side.asked) < 2 or checks.is_working:
                await asyncio.sleep(0.01)
            running.cancel()
        assert [(one["event"], one["file"], one["key"]) for one in logs] == [("schematron.not_run", "x.sch", "line 3")]
        assert side.closed == 1

    with_store(tmp_path, job)


def test_without_a_kit_nothing_is_read_and_nothing_begins(tmp_path, side):
    async def job(store, file, findings):
        await file(10, "a document")
        assert not await checks_of(store, bench=lambda: None).step()
        assert await store.read(lambda tx: tx.rows("SELECT 1 FROM job_position")) == []

    with_store(tmp_path, job)


@pytest.fixture
def store_of():
    return lambda _folder: {}


def test_a_document_gets_its_findings_after_its_acknowledgement(running, make_mdm, tmp_path):
    pytest.importorskip("saxonche")
    shutil.copytree(KIT, tmp_path / "hub" / "kit")

    async def main():
        cda = '[cda]\nschematron_dir = "kit"\n'
        async with running(cda + HIS) as hub:
            async with hub.sender() as his:
                await his.ask(make_mdm("C1"))
            [message] = await hub.until(
                lambda found: bool(found) and any(one["code"].startswith("SCHEMATRON") for one in found[0]["findings"]),
                timeout_s=40,
            )
            assert message["ack"]["code"] == "AA"
            told = [one for one in message["findings"] if one["code"].startswith("SCHEMATRON")]
            assert told == [
                {
                    "code": "SCHEMATRON_ASIP_STRUCT_MIN_STRUCMIN_ERROR",
                    "at": "/ClinicalDocument",
                    "text": "code-1: in the value set",
                }
            ]

    asyncio.run(main())
