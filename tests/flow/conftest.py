"""A whole hub in the test's process, on free loopback ports, with a real SQLite file; and a receiver that answers as told."""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import tomllib
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.mllp.frames import frame
from hub.app.config import build
from hub.app.hub import Hub
from hub.ledger import queries
from hub.ledger.queries import MessageFilter
from hub.store.place import Place, place_of
from hub.store.upgrade import upgrade
from tests.databases import emptied

ADT = (
    "MSH|^~\\&|GAM|CHU-TEST|HUB|HUB|20261124080000||ADT^{event}^ADT_A01|{control}|T|2.5^FRA^2.11|||||FRA|UNICODE UTF-8\r"
    "EVN||20261124080000\r"
    "PID|1||{ipp}^^^CHU&1.2.250.1.999.1&ISO^PI||TESTUT^ZOE^ZOE MARIE^^^^L||19800102|F|||"
    "1 RUE DES ESSAIS^^RENNES^^35000^FRA^H|||||||||||||||||||||PROV\r"
    "PV1|1|I|MED^1||||||||||||||||{visit}^^^CHU&1.2.250.1.999.2&ISO^VN|||||||||||||||||||||||||20261124080000\r"
)


def adt(control: str, *, event: str = "A01", ipp: str = "900001", visit: str = "V1") -> bytes:
    """An admission of a synthetic patient."""
    return ADT.format(event=event, control=control, ipp=ipp, visit=visit).encode()


VECTORS = Path(__file__).parents[1] / "vectors" / "hl7v2"


def mdm(control: str, *, event: str = "T02", number: str = "1.2.250.9.77.5.100", replaces: str = "", **flags: str) -> bytes:
    """A CDA of a synthetic patient with a qualified INS, for the platform; `flags` are metadata (`ACK_RECEPTION="Y"`).

    Without flags it asks for the DMP alone. `event` is T02, T10 (then `replaces` is its predecessor) or T04.
    """
    related = f'<relatedDocument typeCode="RPLC"><parentDocument><id root="{replaces}"/></parentDocument></relatedDocument>'
    cda = (VECTORS / "pfi_cda.xml").read_text("utf-8")
    for name, value in {
        "ID": number,
        "CODE": "18748-4",
        "CONF": "N",
        "VERSION": "2" if replaces else "1",
        "PATIENT": '<id root="1.2.250.1.213.1.4.10" extension="284057512345672"/>',
        "RELATED": related if replaces else "",
    }.items():
        cda = cda.replace(f"@{name}@", value)
    text = (VECTORS / "pfi_mdm.hl7").read_text("utf-8").replace("@CDA@", base64.b64encode(cda.encode()).decode())
    orc_1, obx_11 = {"T02": ("NW", "F"), "T10": ("RO", "C"), "T04": ("CA", "D")}[event]
    text = text.replace("|M1|P|", f"|{control}|T|").replace("MDM^T02", f"MDM^{event}").replace("ORC|NW", f"ORC|{orc_1}")
    text = text.replace("||||||F\nPRT", f"||||||{obx_11}\nPRT", 1).replace(
        "1.2.250.9.77.5.100|||||AU", f"{number}|{replaces}||||AU"
    )
    wanted = {"DESTDMP": "Y", "DESTMSSANTEPS": "N", "DESTMSSANTEPAT": "N", **flags}
    for name, value in wanted.items():
        line = f"{name}^^MetaDMPMSS||{value}^^expandedYes-NoIndicator||||||F"
        if f"|{name}^" in text:
            text = re.sub(rf"{name}\^\^MetaDMPMSS\|\|[YN]\^.*", line, text)
        else:
            text += f"OBX|10|CWE|{line}\n"
    return text.replace("\n", "\r").encode()


class Sender:
    """One MLLP connection of a sending application."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> Sender:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def write(self, *messages: bytes) -> None:
        self.writer.write(b"".join(map(frame, messages)))

    async def answer(self, timeout_s: float = 10.0) -> bytes:
        return (await asyncio.wait_for(self.reader.readuntil(b"\x1c\r"), timeout_s))[1:-2]

    async def ask(self, message: bytes) -> bytes:
        self.write(message)
        return await self.answer()


def msa(ack: bytes) -> tuple[str, str]:
    """MSA-1 and MSA-2 of an acknowledgement."""
    line = next(line for line in ack.split(b"\r") if line.startswith(b"MSA"))
    return line.split(b"|")[1].decode(), line.split(b"|")[2].decode()


def control_of(message: bytes) -> str:
    return message.split(b"|", 10)[9].decode()


class Receiver:
    """A receiving application. `decide(message)` gives the MSA-1, or None for silence, or bytes to write as they are."""

    def __init__(self, decide: Callable[[bytes], str | bytes | None] = lambda _m: "AA") -> None:
        self.decide, self.got, self.port = decide, [], 0
        self.delay_s = 0.0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 26)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                message = (await reader.readuntil(b"\x1c\r"))[1:-2]
                self.got.append(message)
                answer = self.decide(message)
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if isinstance(answer, str):
                    now = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
                    control = control_of(message)
                    answer = frame(f"MSH|^~\\&|PEER|PEER|||{now}||ACK|R{len(self.got)}|P|2.5\rMSA|{answer}|{control}\r".encode())
                if answer is not None:
                    writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class Running:
    """A running hub and what a test asks of it."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def sender(self, source: str = "his") -> Sender:
        return Sender(next(s.port for s in self.hub.sources if s.name == source))

    async def messages(self, **criteria: object) -> list[dict]:
        found = await self.hub.store.read(lambda tx: queries.find_messages(tx, MessageFilter(**criteria, limit=500)))
        return found["items"]

    async def row(self, sql: str, *values: object) -> tuple | None:
        return await self.hub.store.read(lambda tx: tx.row(sql, *values))

    async def rows(self, sql: str, *values: object) -> list[tuple]:
        return await self.hub.store.read(lambda tx: tx.rows(sql, *values))

    async def until(self, holds: Callable[[list[dict]], bool], timeout_s: float = 10.0, **criteria: object) -> list[dict]:
        """The messages, once `holds` is true of them."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while True:
            found = await self.messages(**criteria)
            if holds(found):
                return found
            assert loop.time() < end, [(m["state"], m["ack"], m["deliveries"]) for m in found][:5]
            await asyncio.sleep(0.02)

    async def settled(self, count: int, timeout_s: float = 10.0) -> list[dict]:
        """All messages, once there are `count` and none is RECEIVED or ROUTED."""
        return await self.until(
            lambda found: len(found) >= count and all(m["state"] not in ("RECEIVED", "ROUTED") for m in found), timeout_s
        )


STORES = ("sqlite", "postgres", "cluster")


@pytest.fixture(params=STORES)
def store_of(request):
    """By folder, the sections of one store: an embedded one; PostgreSQL; PostgreSQL with the bell across processes."""
    if request.param == "sqlite":
        yield lambda _folder: {}
        return
    databases = request.getfixturevalue("databases")
    nats = request.getfixturevalue("nats_server") if request.param == "cluster" else None
    made = {}

    def sections(folder):
        if folder not in made:
            made[folder] = {"store": {"url": databases.take()}}
            if nats is not None:
                made[folder] |= {"bell": {"url": nats.url}, "cluster": {"name": secrets.token_hex(4)}}
        return made[folder]

    yield sections
    for one in made.values():
        databases.give_back(one["store"]["url"])


@pytest.fixture
def running(tmp_path, store_of, migrated_file):
    """`async with running(toml) as hub:` - the text may lack [hub] data_dir and [web]; may be called again on the same folder."""

    @asynccontextmanager
    async def start(toml: str, folder: str = "hub", role: str = "all"):
        home = tmp_path / folder
        home.mkdir(exist_ok=True)
        document = tomllib.loads(toml)
        for section, lines in store_of(folder).items():
            document[section] = {**lines, **document.get(section, {})}
        document.setdefault("hub", {}).setdefault("data_dir", "data")
        document.setdefault("web", {}).setdefault("listen", "127.0.0.1:0")
        installation = build(document, home / "vaguemestre.toml")
        if installation.place.path is not None and not installation.place.path.exists():
            migrated_file.copy(installation.place.path)
        hub = Hub(installation, role=role)
        await hub.start()
        try:
            yield Running(hub)
        finally:
            await hub.stop()

    return start


@pytest.fixture(scope="session")
def database(postgres_server) -> Iterator[Place]:
    """A PostgreSQL database with the schema, which sorts text as French does; whatever the last test left is in it."""
    url = postgres_server.create_database(language="fr-FR")
    place = place_of(url, base=Path(), default=Path())
    upgrade(place)
    yield place
    postgres_server.start()
    postgres_server.drop_database(url)


@pytest.fixture
def place(database) -> Place:
    """An empty PostgreSQL database with the schema."""
    emptied(database.conninfo)
    return database


@pytest.fixture(params=["sqlite", "postgres"])
def each_place(request, tmp_path, migrated_file) -> Place:
    """An empty database with the schema, on each engine."""
    if request.param == "postgres":
        return request.getfixturevalue("place")
    return place_of("", base=tmp_path, default=migrated_file.copy(tmp_path / "hub.db"))


@pytest.fixture
def receiver_class():
    return Receiver


@pytest.fixture
def make_adt():
    return adt


@pytest.fixture
def make_mdm():
    return mdm


@pytest.fixture
def read_msa():
    return msa
