"""A CDA without HL7 v2 around it, by folder and by HTTP: into the record, and out again byte for byte."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from httpx import AsyncClient

from hub.web.tokens import Role, create

pytestmark = pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
FOLDER = """
[hub]
environment = "test"
[[source]]
name = "drop"
kind = "folder"
path = "in"
pattern = "*.xml"
settle_s = 0
poll_s = 9
routes = ["record"]
"""
HTTP = """
[hub]
environment = "test"
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["record"]
"""
CDA = (Path(__file__).parents[1] / "vectors" / "hl7v2" / "pfi_cda.xml").read_text("utf-8")


def cda(number: str = "1.2.250.9.77.5.100", related: str = "") -> bytes:
    values = {"ID": number, "CODE": "11502-2", "CONF": "N", "VERSION": "1", "RELATED": related}
    values["PATIENT"] = '<id root="1.2.250.9.77" extension="4711"/>'
    text = CDA
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text.encode()


async def client_of(hub, name: str, role: Role) -> AsyncClient:
    now = hub.hub.store.now_us()
    token = await hub.hub.store.write(lambda tx: create(tx, name=name, role=role, next_id=hub.hub.store.next_id, now_us=now))
    if hub.hub.web is None:
        await hub.hub.start_web()
    return AsyncClient(base_url=f"http://127.0.0.1:{hub.hub.web.port}", headers={"Authorization": f"Bearer {token}"}, timeout=60)


async def documents_of(hub) -> list[dict]:
    """The DocumentReferences as a professional reads them."""
    async with await client_of(hub, "doc", Role.PROFESSIONAL) as web:
        found = (await web.get("/fhir/DocumentReference", params={"patient.identifier": "urn:oid:1.2.250.9.77|4711"})).json()
        documents = [entry["resource"] for entry in found.get("entry", ())]
        for one in documents:
            binary = await web.get("/fhir/" + one["content"][0]["attachment"]["url"], headers={"Accept": "text/xml"})
            one["bytes"] = binary.content
    return documents


def test_a_file_is_taken_and_its_bytes_come_back(running, tmp_path):
    place = tmp_path / "hub" / "in"
    place.mkdir(parents=True)

    async def main():
        async with running(FOLDER) as hub:
            (place / "a.xml").write_bytes(cda())
            (place / "b.xml").write_bytes(cda()[:-40])
            await next(source for source in hub.hub.sources if source.name == "drop").poll()
            (kept,) = await hub.settled(1)
            (place / "again.xml").write_bytes(cda())
            await next(source for source in hub.hub.sources if source.name == "drop").poll()
            assert len(await hub.settled(1)) == 1, "the same file is known again"
            return kept, await documents_of(hub)

    kept, (document,) = asyncio.run(main())
    assert (kept["type"], kept["state"], kept["ack"]["code"]) == ("MDM^T02", "DONE", "AA")
    assert document["bytes"] == cda()
    assert document["masterIdentifier"]["value"] == "urn:oid:1.2.250.9.77.5.100"
    assert document["content"][1]["attachment"]["contentType"] == "application/pdf"
    assert sorted(file.name for file in (place / "failed").iterdir()) == ["b.xml", "b.xml.ack"]


def test_what_is_posted_is_taken_and_a_new_version_replaces(running):
    replaces = (
        '<relatedDocument typeCode="RPLC"><parentDocument><id root="1.2.250.9.77.5.100"/></parentDocument></relatedDocument>'
    )
    answers = []

    async def main():
        async with running(HTTP) as hub:
            async with await client_of(hub, "post", Role.SYSTEM) as web:
                for body in (cda(), cda("1.2.250.9.77.5.101", replaces), cda().replace(b"urn:hl7-org:v3", b"urn:other")):
                    answers.append(
                        await web.post("/api/v1/hl7", content=body, headers={"Content-Type": "application/hl7-cda+xml"})
                    )
            kept = await hub.settled(2)
            return kept, await documents_of(hub)

    kept, documents = asyncio.run(main())
    assert [answer.status_code for answer in answers] == [200, 200, 422]
    assert all(b"<MSA.1>AA</MSA.1>" in answer.content for answer in answers[:2])
    assert sorted((one["type"], one["state"]) for one in kept) == [("MDM^T02", "DONE"), ("MDM^T10", "DONE")]
    states = {one["masterIdentifier"]["value"][-3:]: one["status"] for one in documents}
    assert states == {"100": "superseded", "101": "current"}


def test_every_official_document_is_taken_and_read(running, samples):
    files = sorted((samples / "cda" / "examples").glob("*.xml"))
    refused: list[str] = []

    async def main():
        async with running(HTTP) as hub:
            async with await client_of(hub, "post", Role.SYSTEM) as web:
                for file in files:
                    answer = await web.post("/api/v1/hl7", content=file.read_bytes(), headers={"Content-Type": "text/xml"})
                    if b"<MSA.1>AA</MSA.1>" not in answer.content:
                        refused.append(file.name)
            kept = await hub.until(
                lambda f: len(f) >= len(files) and all(m["state"] not in ("RECEIVED", "ROUTED") for m in f), 60
            )
            filed = await hub.rows("SELECT type, count(*) FROM resource GROUP BY type")
            read = await hub.row("SELECT count(DISTINCT document_id) FROM derivation")
            return kept, SimpleNamespace(types=dict(filed), read=read[0])

    kept, filed = asyncio.run(main())
    assert refused == []
    assert {one["state"] for one in kept} == {"DONE"}
    assert filed.types["DocumentReference"] >= len(files)
    assert filed.read >= len(files) - 2, "all but those of level 1 say facts"
