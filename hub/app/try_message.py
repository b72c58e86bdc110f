"""`vaguemestre try`: one message through a whole hub that lives for a moment in a temporary folder and sends nothing."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.mllp.sender import messages_in
from hub.app.config import Installation
from hub.app.deliverers import WayOut
from hub.app.hub import Hub
from hub.app.logging import set_up_logging
from hub.app.run import new_runner
from hub.app.sections import BellSection, StoreSection
from hub.app.terminal import destination_name, failed, print_json, printable, remark, told
from hub.formats.er7 import Message, read
from hub.formats.er7.of_cda import er7_of_document
from hub.formats.er7.xml import looks_like_xml
from hub.ledger import queries
from hub.ledger.made import HUB
from hub.ledger.queries import MessageFilter
from hub.model.dmp import DmpSubmission
from hub.model.ports import Origin, PeerReference
from hub.model.refusals import HubError, MessageRefused
from hub.model.uids import uid_text
from hub.store import Transaction
from hub.store.place import place_of

Json = dict[str, Any]

START_S = 40.0  # a mapping worker's start, beside the time that it may take
_CHANGES_SHOWN = 12


def try_message(installation: Installation, path: Path, source: str, *, as_json: bool) -> int:
    """Print what the hub would answer, keep, change and send.

    0 when it would be accepted and every delivery could leave or wait, 1 when not, 2 for wrong arguments.
    """
    sources = list(installation.graph.sources)
    source = source or sources[0]
    if source not in sources:
        remark(f"--source: {source!r} is none of {', '.join(sources)}")
        return 2
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        remark(f"{path}: cannot be read ({error.strerror})")
        return 2
    try:
        bodies = [er7_of_document(content)] if looks_like_xml(content[:4096]) else messages_in(content)
    except HubError as error:
        return failed(error)
    if len(bodies) != 1:
        remark(f"{path}: holds {len(bodies) or 'no'} message{'s' if len(bodies) > 1 else ''}, try takes one")
        return 2
    set_up_logging(level=logging.ERROR)
    try:
        with tempfile.TemporaryDirectory(prefix="vaguemestre-try-") as folder:
            found = _Tried(installation, Path(folder), source, bodies[0]).result()
    except HubError as error:
        return failed(error)
    except OSError as error:
        remark(f"the temporary folder cannot be used ({error.strerror}): TMPDIR names another")
        return 1
    if as_json:
        print_json(found)
    else:
        print("\n".join(printable(line) for line in _told(found, installation)))
    return 0 if found["ok"] else 1


class _Recording:
    """A destination that keeps what it is given instead of sending it."""

    in_flight = 1

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent: dict[str, bytes] = {}

    async def send(self, body: bytes, *, delivery_id: int, control_id: str) -> PeerReference:
        self.sent[uid_text(delivery_id)] = body
        return PeerReference()

    async def submit(self, submission: DmpSubmission, contents: Sequence[bytes], *, delivery_id: int) -> PeerReference:
        """As the DMP."""
        return PeerReference(" ".join(document.unique_id for document in submission.documents))

    async def ask(self, submission: DmpSubmission) -> PeerReference | None:
        """Nothing was sent before."""

    async def probe(self) -> None:
        """It is always there."""

    async def close(self) -> None:
        """Nothing is open."""


class _TryHub(Hub):
    """The hub as it runs, without listeners and with destinations that send nothing."""

    def __init__(self, installation: Installation) -> None:
        super().__init__(installation)
        self.recorded: list[_Recording] = []

    async def _listen(self) -> None:
        """Nobody else is heard."""

    def _make_way_out(self, name: str) -> WayOut:
        recording = _Recording(name)
        self.recorded.append(recording)
        return recording


class _Tried:
    """One try."""

    def __init__(self, installation: Installation, folder: Path, source: str, body: bytes) -> None:
        self._installation = _alone(installation, folder)
        self._source, self._body = source, body

    def result(self) -> Json:
        """What became of the message, JSON-ready."""
        found: list[Json] = []

        async def life() -> int:
            hub = _TryHub(self._installation)
            await hub.start()
            try:
                found.append(await self._run(hub))
            finally:
                await hub.stop()
            return 0

        new_runner(life)
        return found[0]

    async def _run(self, hub: _TryHub) -> Json:
        answer = await hub.receiver.submit(self._body, Origin(self._source, "try"))
        item = await self._settled(hub)
        message = self._read()
        structure = hub.registry.find(message) if message is not None else None
        sent = {uid: body for one in hub.recorded for uid, body in one.sent.items()}
        for delivery in item["deliveries"]:
            del delivery["attempt_list"]
            body = sent.get(delivery["id"])
            delivery["would_send"] = self._would_send(body) if body is not None else None
        record = await hub.store.read(_record)
        states = {d["state"] for d in item["deliveries"]}
        return {
            "ok": item["ack"]["code"] == "AA" and item["state"] != "SET_ASIDE" and not states & {"DEAD", "REFUSED"},
            "source": self._source,
            "type": item["type"],
            "control_id": item["control_id"],
            "size": item["size"],
            "ack": [line.decode("utf-8", "replace") for line in answer.body.split(b"\r") if line],
            "state": item["state"],
            "error": item["ack"]["error"],
            "findings": item["findings"],
            "structure": f"{structure.name}@{structure.version}" if structure is not None else None,
            "routes": self._routes(message, taken=item["state"] != "REFUSED"),
            "deliveries": item["deliveries"],
            "record": record,
        }

    async def _settled(self, hub: _TryHub) -> Json:
        """The message once nothing moves any more."""
        until = time.monotonic() + START_S + self._installation.configuration.mappings.time_s
        while True:
            item = await hub.store.read(_only_message)
            moving = item["state"] == "RECEIVED" or any(d["state"] in ("QUEUED", "SENDING") for d in item["deliveries"])
            if not moving or time.monotonic() > until:
                return item
            await asyncio.sleep(0.01)

    def _read(self) -> Message | None:
        try:
            return read(self._body, self._installation.graph.sources[self._source].charset)
        except MessageRefused:
            return None

    def _routes(self, message: Message | None, *, taken: bool) -> list[Json]:
        if message is None or not taken:
            return []
        return [
            {"when": str(route.when), "to": list(route.to), "mapping": route.mapping or None}
            for route in self._installation.graph.routes
            if route.source == self._source and route.when.holds(message)
        ]

    def _would_send(self, body: bytes) -> Json:
        return {"size": len(body), "changed": _changed(self._body, body)}


def _alone(installation: Installation, folder: Path) -> Installation:
    """The same installation with an embedded store and its bodies in `folder`, and no other process to ring to."""
    embedded = installation.configuration.model_copy(update={"store": StoreSection(), "bell": BellSection()})
    place = place_of("", base=folder, default=folder / "try.db")
    return replace(installation, configuration=embedded, data_dir=folder, place=place)


def _only_message(tx: Transaction) -> Json:
    (item,) = (one for one in queries.find_messages(tx, MessageFilter())["items"] if one["source"] != HUB)
    shown = queries.show_message(tx, item["id"])
    assert shown is not None
    return shown


def _changed(before: bytes, after: bytes) -> list[str]:
    """Names of the segments that differ, in order; `segments` when their number does."""
    old, new = (content.rstrip(b"\r").split(b"\r") for content in (before, after))
    if len(old) != len(new):
        return ["segments"]
    names: list[str] = []
    seen: dict[str, int] = {}
    for was, now in zip(old, new, strict=True):
        name = was[:3].decode("ascii", "replace")
        seen[name] = seen.get(name, 0) + 1
        if was != now:
            names.append(name if seen[name] == 1 else f"{name}[{seen[name]}]")
    return names


def _record(tx: Transaction) -> Json:
    """What stands in a record that was empty before: types, places, sizes; no value of a patient."""
    contents: dict[int, Json] = {
        resource_id: {"content_type": content_type, "size": size, "encoding": encoding}
        for resource_id, content_type, size, encoding in tx.rows(
            "SELECT resource_id, content_type, size, encoding FROM binary_content"
        )
    }
    places: dict[int, list[str]] = {}
    mapping = None
    for resource_id, path, used in tx.rows("SELECT resource_id, path, mapping FROM provenance ORDER BY resource_id, path"):
        places.setdefault(resource_id, []).append(path)
        mapping = used
    return {
        "mapping": mapping,
        "identifiers": [
            {"kind": kind, "system": system, "value": "…"}
            for kind, system in tx.rows("SELECT kind, system FROM patient_identifier ORDER BY kind DESC")
        ],
        "resources": [
            {"type": kind, "status": status, "from": places.get(number, []), "content": contents.get(number)}
            for number, kind, status in tx.rows("SELECT id, type, status FROM resource ORDER BY id")
        ],
    }


# ---- for people ------------------------------------------------------------------------------------------------------


def _told(found: Json, installation: Installation) -> list[str]:
    lines = [
        f"{found['type'] or 'Unreadable'}, control id {found['control_id'] or '-'}, {found['size']} bytes, "
        f"as if from {found['source']}"
    ]
    lines += ["", "Answer" if found["ack"] else "Answer: none is owed", *(f"  {segment}" for segment in found["ack"])]
    if found["error"]:
        lines.append(f"  refused: {told(found['error'])}")
    if found["findings"]:
        lines += ["", "Findings", *(f"  {told(finding)}" for finding in found["findings"])]
    if found["state"] != "REFUSED":
        lines += ["", f"Translation: {found['structure'] or 'none reads this message'}", "", f"Deliveries ({found['state']})"]
        lines += [f"  {route['when']} ──▶ {', '.join(route['to'])}" for route in found["routes"]]
        lines += [f"  ──▶ {_delivery(delivery, installation)}" for delivery in found["deliveries"]]
        if not found["deliveries"] and not found["routes"]:
            lines.append("  none: no route of this source takes this message")
        elif not found["deliveries"]:
            lines.append("  none: no translation files it in the record, and it asks for nothing")
    resources = found["record"]["resources"]
    if resources:
        lines += ["", f"Record, if it were empty before (by {found['record']['mapping']})"]
        lines += [f"  identifier {i['kind']} of {i['system']}" for i in found["record"]["identifiers"]]
        lines += [f"  {_resource(resource)}" for resource in resources]
    return [*lines, "", "Nothing was kept and nothing was sent."]


def _delivery(delivery: Json, installation: Installation) -> str:
    name, sent = delivery["destination"], delivery["would_send"]
    if sent is not None:
        places = ", ".join(sent["changed"][:_CHANGES_SHOWN]) + (", …" if len(sent["changed"]) > _CHANGES_SHOWN else "")
        how = f"rewritten by {delivery['mapping']} ({places or 'nothing changed'})" if delivery["mapping"] else "as it stands"
        return f"{name}: would be sent to {installation.graph.destinations[name].connect}, {sent['size']} bytes, {how}"
    words = {"DELIVERED": "would be filed", "WAITING": "would wait"}.get(delivery["state"], delivery["state"])
    lane = delivery["lane_state"]
    reason = delivery["last_error"] or (lane["blocked_reason"] if lane else "")
    return f"{destination_name(name)}: {words}" + (f" ({reason})" if reason else "")


def _resource(resource: Json) -> str:
    content = resource["content"]
    document = f", {content['content_type']}, {content['size']} bytes" if content else ""
    status = f", {resource['status']}" if resource["status"] else ""
    return f"{resource['type']}{status}{document}  from {', '.join(resource['from'])}"
