"""A running web server over a real store, with a short day of synthetic messages in every state."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.bell.local import LocalBell
from hub.flow.graph import Graph
from hub.flow.identities import Identities
from hub.ledger import acts
from hub.ledger.acts import Receipt
from hub.ledger.deliveries import NewDelivery, add, occupied
from hub.ledger.messages import NewMessage, keep
from hub.model.identifiers import INS_NIR_TEST, InsMatricule, LocalIdentifier
from hub.model.identity import PatientIdentity
from hub.model.ports import Answer, Origin
from hub.model.record_change import MASQUE_PS, ContentRange, DocumentAction, DocumentChange, RecordChange, ResourceChange
from hub.model.refusals import RuleBroken
from hub.model.site import Site
from hub.model.uids import uid_number, uid_text
from hub.record.apply import apply
from hub.record.identity import resolve
from hub.store import Transaction
from hub.store.blobs import BlobFolder
from hub.store.place import OpenStore, open_store, place_of
from hub.store.upgrade import upgrade
from hub.web import tokens
from hub.web.server import WebServer
from hub.web.services import Services
from hub.web.tokens import Role
from tests.databases import emptied

NAME, GIVEN, IPP, INS, ADDRESS = "QUATREMARRE", "Zélie-Anne", "8800471132", "279035121518989", "12 rue des Essais Marqués"
MARKED = (NAME, GIVEN, IPP, INS, ADDRESS, "19790312")
RPPS, FINESS = "10003434343", "300017985"
PDF = b"%PDF-1.4 synthetic report"
SYSTEM = "urn:oid:1.2.250.1.999.1"


def pid(reliability: str = "VALI") -> str:
    return (
        f"PID|||{INS}^^^ASIP-SANTE-INS-NIR&{INS_NIR_TEST}&ISO^INS~{IPP}^^^HOPITAL-X&1.2.250.1.999.1&ISO^PI||{NAME}^{GIVEN}^^^^^L||19790312|F"
        f"|||{ADDRESS}^^LYON^^69001|||||||||||||||||||||{reliability}"
    )


def message(kind: str, control_id: str, *segments: str, app: str = "LABO") -> bytes:
    full_kind = f"{kind}^{kind.replace('^', '_')}"
    header = f"MSH|^~\\&|{app}|HOPITAL-X|PFI-X|HOPITAL-X|20261124101500||{full_kind}|{control_id}|P|2.5|||||FRA|UNICODE UTF-8"
    return "\r".join([header, *segments, ""]).encode()


def admission(control_id: str) -> bytes:
    return message(
        "ADT^A01",
        control_id,
        "EVN||20261124101500",
        pid(),
        "PV1||I|MED^12^1^HOPITAL-X||||10001234567^MARTINAUD^Paul||||||||||||V4410^^^HOPITAL-X^VN",
        "ZBE|77^HOPITAL-X|20261124101400||INSERT|N||^^^^^^UF^^^3021|^^^^^^UF^^^3021|HMS",
        app="SIH",
    )


def report(control_id: str, content: bytes = PDF) -> bytes:
    return message(
        "MDM^T02",
        control_id,
        "EVN||20261124101500",
        pid(),
        "PV1||N",
        "ORC|NW",
        "OBR|1|||11502-2^CR de biologie médicale^LN",
        f"TXA|1|11502-2|TEXT|20261124||||||||1.2.250.1.999.2.{control_id[-4:]}|||||AU",
        f"OBX|1|ED|11502-2^CR de biologie médicale^LN||^text^XML^Base64^{b64encode(content).decode()}||||||F",
        "PRT|1|UC||RCT^Result Copies To^participation|"
        "801234567890^GUERINEAU^Alix^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^RPPS||||||||||^^X.400^alix.guerineau@test.mssante.example",
        "OBX|2|CWE|MASQUE_PS^Masqué aux professionnels de Santé^MetaDMPMSS||N^^expandedYes-NoIndicator||||||F",
        "OBX|3|CWE|DESTDMP^Destinataire DMP^MetaDMPMSS||Y^^expandedYes-NoIndicator||||||F",
    )


def result(control_id: str) -> bytes:
    return message(
        "ORU^R01",
        control_id,
        pid(),
        "PV1||O",
        "OBR|1|P77^SIH|F77^LABO|58410-2^Numération formule sanguine^LN",
        "OBX|1|NM|718-7^Hémoglobine^LN||13.2|g/dL^gramme par décilitre^UCUM|12-16||||F",
        "NTE|1||Patiente revue par sa famille QUATREMARRE",
    )


class Acts:
    """Operator acts straight on the ledger, as the flow does them but without its workers."""

    def __init__(self, store: OpenStore) -> None:
        self.store, self.done = store, list[tuple[str, str]]()

    async def replay(self, message_id: str, only: Sequence[str] = ()) -> list[str]:
        number = self._number(message_id)

        def job(tx: Transaction) -> list[int]:
            names = list(only) or [
                row[0] for row in tx.rows("SELECT DISTINCT destination FROM delivery WHERE message_id = ?", number)
            ]
            return acts.replay(
                tx,
                number,
                [(name, "", f"{name}/s") for name in names],
                next_id=self.store.next_id,
                now=self.store.now_us(),
                blocked=lambda _: "",
            )

        made = await self.store.write(job)
        self.done.append(("replay", ",".join(only)))
        return [uid_text(n) for n in made]

    async def discard(self, message_id: str) -> None:
        await self.store.write(lambda tx: acts.discard(tx, self._number(message_id), self.store.now_us()))
        self.done.append(("discard", message_id))

    async def retry(self, delivery_id: str) -> None:
        await self.store.write(lambda tx: acts.retry(tx, self._number(delivery_id), self.store.now_us()))
        self.done.append(("retry", delivery_id))

    async def skip(self, delivery_id: str) -> None:
        await self.store.write(lambda tx: acts.skip(tx, self._number(delivery_id), self.store.now_us()))
        self.done.append(("skip", delivery_id))

    async def file_receipt(self, delivery_id: str, receipt: Receipt) -> None:
        await self.store.write(lambda tx: acts.file_receipt(tx, self._number(delivery_id), receipt))
        self.done.append(("receipt", receipt.kind))

    def _number(self, uid: str) -> int:
        try:
            return uid_number(uid)
        except ValueError:
            raise acts.NotFound("no such thing") from None


class House:
    """The server, what is in its store, and clients for each role."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder, self.place = folder, place_of(url, base=folder, default=folder / "hub.db")
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.acks: list[Answer] = []
        self.taken: list[tuple[bytes, Origin]] = []
        self.tokens: dict[str, str] = {}
        self.uids: dict[str, str] = {}
        self.documents: dict[str, str] = {}

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def read(self, job: Callable[[Transaction], Any]) -> Any:
        return self.run(self.store.read(job))

    def write(self, job: Callable[[Transaction], Any]) -> Any:
        return self.run(self.store.write(job))

    def start(self) -> None:
        self.thread.start()
        upgrade(self.place)
        self.run(self._start())

    async def _start(self) -> None:
        self.store = open_store(self.place, BlobFolder(self.folder / "blobs"))
        self.store.start()
        self.operations = Acts(self.store)

        async def submit(body: bytes, origin: Origin) -> Answer:
            self.taken.append((body, origin))
            return self.acks.pop(0)

        self.services = Services(
            store=self.store,
            operations=self.operations,
            identities=Identities(self.store, lambda: Graph({}, (), {}), LocalBell()),
            site=Site(name="PFI-X", organisation="HOPITAL-X"),
            ready=lambda: (True, {"store": "ok"}),
            metrics=lambda: (b"# HELP up\n", "text/plain; version=0.0.4"),
            submit_hl7=submit,
            max_body_bytes=1 << 20,
        )
        from hub.web.app import create_app

        self.app = create_app(self.services)
        self.server = WebServer(lambda: self.app, "127.0.0.1:0")
        await self.server.start()
        await self.store.write(self._tokens)
        await self.store.write(self._a_day)

    def stop(self) -> None:
        self.run(self.server.stop())
        self.run(self.store.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    def client(self, role: str = "", **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        options.setdefault("verify", False)  # it speaks HTTP; reading the authorities takes longer than most requests
        return httpx.Client(base_url=self.server.url, headers=headers | options.pop("headers", {}), timeout=20, **options)

    def signed_in(self, role: str = "operator", *, masked: bool = False) -> httpx.Client:
        client = self.client(headers={"Accept": "text/html"})
        ticket = self.services.tickets.issue(role, f"{role} de test", masked=masked)
        assert client.get(f"/console/enter/{ticket}").status_code == 200
        return client

    def audit(self, act: str = "") -> list[dict[str, Any]]:
        rows = self.read(lambda tx: tx.rows("SELECT actor, role, act, target, patient_id, detail FROM audit ORDER BY id"))
        keys = ("actor", "role", "act", "target", "patient_id", "detail")
        entries = [dict(zip(keys, row, strict=True)) for row in rows]
        return [entry for entry in entries if act in ("", entry["act"])]

    # ---- what is in the store

    def _tokens(self, tx: Transaction) -> None:
        for role in Role:
            self.tokens[role.value] = tokens.create(
                tx, name=f"{role.value}-1", role=role, next_id=self.store.next_id, now_us=self.store.now_us()
            )
        self.tokens["masked"] = tokens.create(
            tx, name="masked-1", role=Role.OPERATOR, next_id=self.store.next_id, now_us=1, masked=True
        )
        self.tokens["author"] = tokens.create(
            tx, name="dr-author", role=Role.PROFESSIONAL, next_id=self.store.next_id, now_us=1, rpps=RPPS
        )

    def kept(self, tx: Transaction, body: bytes, source: str, kind: str, control_id: str, **options: Any) -> int:
        number, now = self.store.next_id(), self.store.now_us()
        keep(
            tx,
            [
                NewMessage(
                    number,
                    source,
                    f"{source}/1",
                    kind,
                    control_id,
                    "LABO",
                    "utf-8",
                    body,
                    hashlib.sha256(body).digest(),
                    now,
                    **options,
                )
            ],
            dedupe_since=0,
        )
        self.uids[control_id] = uid_text(number)
        return number

    def routed(
        self, tx: Transaction, number: int, state: str, patient: int | None, *deliveries: tuple[str, str, str]
    ) -> list[int]:
        """Move a message on by hand: `(destination, state, reason)` for each delivery."""
        now, made = self.store.now_us() + 4_000, []
        for destination, delivery_state, reason in deliveries:
            delivery = self.store.next_id()
            made.append(delivery)
            waiting = delivery_state == "WAITING"
            add(
                tx,
                [
                    NewDelivery(
                        delivery,
                        number,
                        destination,
                        f"{destination}/p{patient}",
                        blocked_reason=reason if waiting else "",
                        delivered=delivery_state == "DELIVERED",
                    )
                ],
                now,
                busy=occupied(tx, [f"{destination}/p{patient}"]),
            )
            tried = delivery_state in ("DELIVERED", "REFUSED", "DEAD", "UNSURE") and destination != "record"
            tx.run(
                "UPDATE delivery SET state = ?, last_error = ?, attempts = ?, updated_at = ? WHERE id = ?",
                delivery_state,
                reason or None,
                int(tried or destination == "record"),
                now + (171_000 if tried else 31_000),
                delivery,
            )
            if tried:
                outcome = {"DELIVERED": "DELIVER", "REFUSED": "REFUSE", "DEAD": "GIVE_UP", "UNSURE": "NO_ANSWER"}[delivery_state]
                msa = f"MSA|{'AA' if outcome == 'DELIVER' else 'AE'}|{number}|{NAME} inconnue"
                answer = f"MSH|^~\\&|LAB|X|PFI|X|2026||ACK|1|P|2.5\r{msa}\r".encode()
                tx.insert(
                    "attempt",
                    ("delivery_id", "n", "started_at", "ended_at", "outcome", "error", "answer"),
                    [
                        (
                            delivery,
                            1,
                            now + 8_000,
                            now + 171_000,
                            outcome,
                            reason or None,
                            answer if outcome != "NO_ANSWER" else b"",
                        )
                    ],
                )
            if delivery_state not in ("QUEUED", "WAITING", "SENDING", "UNSURE"):
                tx.run("DELETE FROM lane WHERE key = ? AND head = ?", f"{destination}/p{patient}", delivery)
        failed = sum(one[1] in ("REFUSED", "DEAD") for one in deliveries)
        still = sum(one[1] in ("QUEUED", "WAITING", "SENDING", "UNSURE") for one in deliveries)
        tx.run(
            "UPDATE message SET state = ?, patient_id = ?, routed_at = ?, ack_state = 'SENT', open_n = ?, failed_n = ? "
            "WHERE id = ?",
            state,
            patient,
            now,
            still,
            failed,
            number,
        )
        return made

    def _patient(self, tx: Transaction, message_id: int) -> int:
        who = PatientIdentity(
            local=(LocalIdentifier(SYSTEM, IPP),),
            ins=(InsMatricule(INS, INS_NIR_TEST),),
            statuses=("VALI",),
            birth_name=NAME,
            first_given_name=GIVEN,
            birth_date="19790312",
            sex="F",
        )
        body = {"name": [{"use": "official", "family": NAME, "given": [GIVEN]}], "gender": "female", "birthDate": "1979-03-12"}
        match = resolve(tx, who, message_id=message_id, next_id=self.store.next_id, now_us=self.store.now_us())
        stay = ResourceChange(
            "Encounter",
            f"{SYSTEM}.2|V4410",
            {
                "identifier": [{"system": f"{SYSTEM}.2", "value": "V4410"}],
                "status": "in-progress",
                "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
                "period": {"start": "2026-11-24T10:14:00+01:00"},
            },
            "PV1",
            1,
        )
        apply(
            tx,
            RecordChange("adt_a01 1", identity=who, patient=body, resources=(stay,), event_time=1),
            patient_id=match.patient_id,
            message_id=message_id,
            source="his",
            next_id=self.store.next_id,
            now_us=self.store.now_us(),
        )
        assert match.patient_id is not None
        return match.patient_id

    def document(
        self,
        tx: Transaction,
        patient: int,
        message_id: int,
        body: bytes,
        master: str,
        *,
        mask: int = 0,
        content_type: str = "application/pdf",
    ) -> None:
        encoded = b64encode(PDF)
        start = body.index(encoded)
        change = DocumentChange(
            DocumentAction.CREATE,
            f"urn:oid:{master}",
            "OBX[1]-5",
            {
                "status": "current",
                "type": {"coding": [{"system": "http://loinc.org", "code": "11502-2"}]},
                "date": "2026-11-24T10:15:00+01:00",
                "author": [{"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.1", "value": RPPS}}],
            },
            ContentRange(start, len(encoded), "base64", content_type, len(PDF), hashlib.sha1(PDF).digest()),
            mask=mask,
            event_time=1,
        )
        apply(
            tx,
            RecordChange("mdm_t02 1", documents=(change,), event_time=1),
            patient_id=patient,
            message_id=message_id,
            source="labo",
            next_id=self.store.next_id,
            now_us=self.store.now_us(),
        )
        row = tx.row("SELECT id FROM resource WHERE type = 'DocumentReference' ORDER BY id DESC LIMIT 1")
        assert row is not None
        self.documents[master] = uid_text(row[0])

    def _a_day(self, tx: Transaction) -> None:
        first = self.kept(tx, admission("ADM0001"), "his", "ADT^A01", "ADM0001")
        patient = self._patient(tx, first)
        self.patient = uid_text(patient)
        self.routed(tx, first, "DONE", patient, ("record", "DELIVERED", ""), ("lab-out", "DELIVERED", ""))
        body = report("LAB1001")
        number = self.kept(tx, body, "labo", "MDM^T02", "LAB1001")
        self.document(tx, patient, number, body, "1.2.250.1.999.2.1001")
        self.routed(
            tx,
            number,
            "ROUTED",
            patient,
            ("record", "DELIVERED", ""),
            ("lab-out", "DELIVERED", ""),
            ("dmp", "WAITING", "destination not configured"),
            (f"mssante:{INS}@patient.mssante.example", "WAITING", "destination not configured"),
        )
        body = report("LAB1002")
        number = self.kept(tx, body, "labo", "MDM^T02", "LAB1002")
        self.document(tx, patient, number, body, "1.2.250.1.999.2.1002", mask=MASQUE_PS)
        self.routed(
            tx, number, "PARTIAL", patient, ("record", "DELIVERED", ""), ("lab-out", "DEAD", "AE 207 PID-3: refused by the peer")
        )
        self.kept(
            tx,
            report("LAB1003"),
            "labo",
            "MDM^T02",
            "LAB1003",
            refusal=RuleBroken(at="PID-32", sentence="PID-32: the DMP was asked for and the identity is not qualified"),
        )
        number = self.kept(tx, result("LAB1004"), "labo", "ORU^R01", "LAB1004")
        tx.run(
            "UPDATE message SET findings = ? WHERE id = ?",
            '[{"code":"OBX_WITHOUT_CODE","at":"OBX[2]-3","text":"OBX[2]-3: a result without a code"}]',
            number,
        )
        self.routed(tx, number, "SET_ASIDE", patient)
        number = self.kept(tx, message("SIU^S12", "RDV0001", pid(), app="AGENDA"), "agenda", "SIU^S12", "RDV0001")
        self.routed(tx, number, "NO_ROUTE", patient)
        number = self.kept(tx, result("LAB1005"), "labo", "ORU^R01", "LAB1005")
        self.routed(tx, number, "ROUTED", patient, ("record", "DELIVERED", ""), ("ris-out", "UNSURE", "no answer in 30 s"))
        self.kept(
            tx,
            b"no HL7 at all, but a name: QUATREMARRE",
            "his",
            "",
            "",
            refusal=RuleBroken(at="MSH-1", sentence="MSH-1: not an HL7 v2 message"),
        )
        self.uids["UNREADABLE"] = self.uids.pop("")
        for n in range(6):
            control = f"ADM01{n:02d}"
            number = self.kept(tx, admission(control), "his", "ADT^A08", control)
            self.routed(tx, number, "DONE", patient, ("record", "DELIVERED", ""), ("lab-out", "DELIVERED", ""))
        self.kept(tx, admission("ADM0200"), "his", "ADT^A03", "ADM0200")


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def new_url(request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """The URL of an empty database by a name that stands for it; empty for a file in the house's folder."""
    if request.param == "sqlite":
        yield lambda _name: ""
        return
    server, made = request.getfixturevalue("postgres_server"), dict[str, str]()

    def new(name: str) -> str:
        if name not in made:
            made[name] = server.create_database(language="fr-FR")
            return made[name]
        return emptied(made[name])

    yield new
    for url in made.values():
        server.drop_database(url)


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory, new_url: Callable[[str], str]) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("web"), new_url("shared"))
    house.start()
    yield house
    house.stop()


@pytest.fixture
def house(_shared: House) -> House:
    """The shared house: for tests that only read, or act on a message that no other test looks at."""
    return _shared


@pytest.fixture
def own_house(tmp_path: Path, new_url: Callable[[str], str]) -> Iterator[House]:
    """A house of one's own: for tests that change what others count."""
    house = House(tmp_path, new_url("own"))
    house.start()
    yield house
    house.stop()
