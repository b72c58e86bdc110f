"""`vaguemestre demo`: a hub, an application that receives, and a day of messages, all on loopback."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.mllp.frames import frame
from hub.app.config import build
from hub.app.demo_day import Event, the_day
from hub.app.demo_patient import IPP, IPP_OID
from hub.app.demo_ways import senders
from hub.model.refusals import HubError

if TYPE_CHECKING:
    from hub.web.server import WebServer

MLLP_BELOW_WEB = 8080 - 2575
INBOX = "letters"


def configuration(port_base: int) -> dict[str, Any]:
    """The demonstration's configuration: a source over MLLP, a folder for documents, HTTP, the record, a simulated DMP, and one
    other application.

    Above the MLLP port stand the application, where receipts go, and the DMP.
    """
    mllp = port_base - MLLP_BELOW_WEB
    return {
        "hub": {"name": "VAGUEMESTRE", "organisation": "HUB", "environment": "test", "data_dir": "data"},
        "web": {"listen": f"127.0.0.1:{port_base}"},
        "dmp": {"url": f"http://127.0.0.1:{mllp + 3}/"},
        "source": [
            {
                "name": "his",
                "kind": "mllp",
                "listen": f"127.0.0.1:{mllp}",
                "return_to": "receipts",
                "routes": ["record", "requested"],
            },
            {"name": "letters", "kind": "folder", "path": INBOX, "pattern": "*.xml", "poll_s": 0.5, "routes": ["record"]},
        ],
        "destination": [
            {"name": "dpi", "kind": "mllp", "connect": f"127.0.0.1:{mllp + 1}"},
            {"name": "receipts", "kind": "mllp", "connect": f"127.0.0.1:{mllp + 2}"},
        ],
        "route": [{"source": "his", "when": {"type": "ADT"}, "to": ["dpi"]}],
    }


def run_demo(*, keep: bool, port_base: int) -> int:
    """Run the demonstration; the exit code."""
    from hub.app.logging import set_up_logging
    from hub.app.run import SWITCH_S, new_runner

    if not MLLP_BELOW_WEB < port_base < 65_535:
        print(f"--port-base: choose a port above {MLLP_BELOW_WEB + 1024}", file=sys.stderr)
        return 2
    set_up_logging(level=logging.ERROR)
    sys.setswitchinterval(SWITCH_S)
    with tempfile.TemporaryDirectory(prefix="vaguemestre-demo-") as folder:
        try:
            return new_runner(lambda: _Demo(Path(folder), port_base, keep).run())
        except HubError as error:
            print(error.sentence, file=sys.stderr)
        except OSError as error:
            print(
                f"Cannot start: {error.strerror or error}. Is port {port_base} or {port_base - MLLP_BELOW_WEB} taken? "
                "Try: vaguemestre demo --keep --port-base 18080",
                file=sys.stderr,
            )
        return 1


_READ = (
    "SELECT coalesce(sum(t.facts), 0), coalesce(sum(t.unread), 0) FROM translated t JOIN resource d ON d.id = t.document_id"
    " WHERE d.status = 'current'"
)
_MARKS = {"DELIVERED": "✓", "WAITING": "⧗", "REFUSED": "✗", "DEAD": "✗"}


class _Demo:
    def __init__(self, folder: Path, port_base: int, keep: bool) -> None:
        self._document, self._folder = configuration(port_base), folder
        self._mllp, self._keep = port_base - MLLP_BELOW_WEB, keep
        self._got = {"dpi": 0, "receipts": 0}

    async def run(self) -> int:
        from rich.console import Console

        from hub.app.hub import Hub

        out = Console()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        applications = [
            await asyncio.start_server(self._application(name), "127.0.0.1", self._mllp + n, limit=64 << 20)
            for n, name in enumerate(self._got, 1)
        ]
        dmp = await _simulated_dmp(self._mllp + 3)
        (self._folder / INBOX).mkdir()
        hub = Hub(build(self._document, self._folder / "demo.toml"))
        await hub.start()
        try:
            await hub.start_web()
            out.print("\n[bold]Vaguemestre[/bold]: a hub on this machine, with an empty patient record.")
            out.print(f"  MLLP listens on 127.0.0.1:{self._mllp}; console and API on {hub.web.url}\n", soft_wrap=True)
            events = await self._play(out, hub)
            ok = await self._tell(out, hub, events)
            if self._keep and not stop.is_set():
                await self._invite(out, hub)
                await stop.wait()
            return 0 if ok else 1
        finally:
            await hub.stop()
            for application in applications:
                application.close()
            await dmp.stop()

    async def _play(self, out: Any, hub: Any) -> list[Event]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        events = list(the_day())
        columns = (TextColumn("  {task.description}"), BarColumn(30), MofNCompleteColumn())
        token = await _token(hub, "town", "system")
        async with senders(self._mllp, hub.web.url, token, self._folder / INBOX) as sent:
            with Progress(*columns, console=out, transient=True) as progress:
                task = progress.add_task("the day", total=len(events))
                for event in events:
                    progress.update(task, description=f"{event.at} {event.english}"[:40].ljust(40))
                    await sent.send(event)
                    progress.advance(task)
        return events

    async def _invite(self, out: Any, hub: Any) -> None:
        """What a reader can do with the hub while it stays."""
        doctor = await _token(hub, "doctor", "professional", rpps="10000000017")
        ticket = hub.tickets.issue("operator", "demo")
        fhir = f"curl -s -H 'Authorization: Bearer {doctor}' '{hub.web.url}/fhir"
        for line in (
            f"  Console (one-use link, as operator): [bold]{hub.web.url}/console/enter/{ticket}[/bold]",
            f"  Send your own:  vaguemestre send --to 127.0.0.1:{self._mllp} FILE.hl7",
            "  Ask the record, as a doctor (the masked result is not shown):",
        ):
            out.print(line, soft_wrap=True, highlight=False)
        for query in (
            f"/Observation?patient.identifier=urn:oid:{IPP_OID}|{IPP}&code=718-7&_sort=-date'   # haemoglobin, newest first",
            f"/MedicationDispense?patient.identifier=urn:oid:{IPP_OID}|{IPP}&_include=MedicationDispense:prescription'",
        ):
            out.print(f"    {fhir}{query}", soft_wrap=True, highlight=False, markup=False)
        out.print("  Ctrl-C ends it; nothing of it is kept.\n")

    async def _tell(self, out: Any, hub: Any, events: list[Event]) -> bool:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        from hub.ledger.queries import MessageFilter, find_messages

        by_control = await self._settled(hub, lambda tx: find_messages(tx, MessageFilter(limit=100)))
        table = Table(title="What became of each message", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for column in ("sent", "what", "by", "type", "answer", "state", "deliveries"):
            table.add_column(column, no_wrap=column in ("sent", "by", "type", "state"))
        for event in events:
            kept = by_control[event.control_id]
            code = kept["ack"]["code"]
            error = kept["ack"]["error"]
            answer = f"{code} {error['code']}, {error['text']}" if error else code
            where = "\n".join(
                f"{_MARKS.get(d['state'], d['state'])} {d['destination'].partition(':')[0]}" for d in kept["deliveries"]
            )
            table.add_row(event.at, event.english, event.way, kept["type"], answer, kept["state"], where or "none")
        out.print(table)
        out.print("  ✓ delivered   ⧗ waits: destination not configured   ROUTED: kept, a delivery is still open")
        counts = dict(await hub.store.read(lambda tx: tx.rows("SELECT type, count(*) FROM resource GROUP BY type ORDER BY type")))
        out.print("\n  The record now holds " + ", ".join(f"{n} {kind}" for kind, n in counts.items()) + ".")
        facts, left = await hub.store.read(lambda tx: tx.row(_READ))
        out.print(f"  {facts} of these were read in documents; {left} entry was left in its document, which its message tells.")
        out.print(f"  The other application (dpi) got {self._got['dpi']} messages, in order.")
        out.print(
            f"  The DMP is simulated; for what it took, the creator got {self._got['receipts']} receipts (ZAM^Z01). "
            "Mail waits, visibly, until its adapter comes.\n",
            soft_wrap=True,
        )
        return all(m["state"] in ("DONE", "ROUTED", "REFUSED") for m in by_control.values())

    async def _settled(self, hub: Any, query: Any) -> dict[str, Any]:
        until = time.monotonic() + 10
        while True:
            found = (await hub.store.read(query))["items"]
            waiting = [d for m in found for d in m["deliveries"] if d["state"] in ("QUEUED", "SENDING")] + [
                m for m in found if m["state"] == "RECEIVED"
            ]
            if not waiting or time.monotonic() > until:
                return {m["control_id"]: m for m in reversed(found)}
            await asyncio.sleep(0.05)

    def _application(self, name: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        """Another application: takes everything."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    message = (await reader.readuntil(b"\x1c\r"))[1:-2]
                    self._got[name] += 1
                    control = message.split(b"|", 10)[9]
                    answer = b"MSH|^~\\&|DPI|CHU-DEMO|VAGUEMESTRE|HUB|20261124||ACK|A%b|T|2.5\rMSA|AA|%b\r" % (control, control)
                    writer.write(frame(answer))
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        return serve


async def _token(hub: Any, name: str, role: str, rpps: str = "") -> str:
    """A token of the demonstration's hub."""
    from hub.web.tokens import Role, create

    def make(tx: Any) -> str:
        return create(tx, name=name, role=Role(role), rpps=rpps, next_id=hub.store.next_id, now_us=hub.store.now_us())

    token: str = await hub.store.write(make)
    return token


async def _simulated_dmp(port: int) -> WebServer:
    """A DMP that takes everything."""
    from adapters.dmp.simulated import SUCCESS_ANSWER, SimulatedDmp
    from hub.app.simulate import dmp_application
    from hub.web.server import WebServer

    server = WebServer(lambda: dmp_application(SimulatedDmp(SUCCESS_ANSWER)), f"127.0.0.1:{port}")
    await server.start()
    return server
