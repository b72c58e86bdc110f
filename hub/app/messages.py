"""`vaguemestre messages list|show|replay|discard`: the ledger from a terminal, with the hub running or stopped."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Any, TypeVar, cast

from hub.app.beside import audit, is_delivering, opened, rehearsed
from hub.app.config import Installation, absolute
from hub.app.terminal import (
    counted,
    destination_name,
    failed,
    is_narrow,
    local_time,
    print_json,
    print_table,
    printable,
    remark,
    told,
)
from hub.bell.local import LocalBell
from hub.flow.operate import LEAVES_THE_HOUSE, Operations
from hub.flow.rules import Rules
from hub.ledger import acts, queries
from hub.ledger.acts import NotFound, NotPossible
from hub.ledger.queries import MessageFilter
from hub.model.refusals import HubError
from hub.model.states import MessageState
from hub.model.uids import uid_number
from hub.store import Store, Transaction
from hub.store.place import CommandStore

T = TypeVar("T")
Json = dict[str, Any]

_AGO = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_OPEN = ("QUEUED", "WAITING", "SENDING", "UNSURE")


# ---- looking ---------------------------------------------------------------------------------------------------------


def list_messages(
    installation: Installation,
    *,
    state: str,
    source: str,
    type_: str,
    control_id: str,
    since: str,
    limit: int,
    after: str,
    as_json: bool,
) -> int:
    """Print one page, newest first; `--json` is the answer of `GET /api/v1/messages`."""
    if state and state.upper() not in set(MessageState):
        remark(f"--state: {state!r} is none of {', '.join(MessageState)}")
        return 2
    if after and not (after.isascii() and after.isdigit() and len(after) < 20):
        remark("--after: must be the cursor that the page before ended with, unchanged")
        return 2
    try:
        since_us = _since(since, datetime.now(UTC))
    except ValueError:
        remark(f"--since: {since!r} must be like 30m, 2h, 3d, or an instant such as 2026-11-24T08:00:00Z")
        return 2
    wanted = MessageFilter(
        control_id=control_id,
        source=source,
        type=type_,
        state=MessageState(state.upper()) if state else None,
        since=since_us,
        after=int(after) if after else None,
        limit=limit,
    )
    try:
        with opened(installation, read_only=True) as store:
            page = store.read(lambda tx: queries.find_messages(tx, wanted))
    except HubError as error:
        return failed(error)
    if as_json:
        print_json(page)
        return 0
    if not page["items"]:
        print("No message." if not (state or source or type_ or control_id or since or after) else "No message is like that.")
        return 0
    zone = installation.site.timezone
    if is_narrow():
        print_table(
            ("STATE", "RECEIVED", "MESSAGE"),
            [
                (
                    _state_cell(item),
                    local_time(item["received_at"], zone),
                    "\n".join(
                        filter(
                            None,
                            (f"{item['type']} {item['control_id']} from {item['source']}", _deliveries_cell(item), item["id"]),
                        )
                    ),
                )
                for item in page["items"]
            ],
            whole=(0, 1),
        )
    else:
        _print_wide(page["items"], zone)
    if page["after"] is not None:
        remark(f"older ones: --after {page['after']}")
    return 0


def _print_wide(items: Sequence[Json], zone: tzinfo) -> None:
    print_table(
        ("STATE", "RECEIVED", "TYPE", "CONTROL ID", "SOURCE", "DELIVERIES", "MESSAGE"),
        [
            (
                _state_cell(item),
                local_time(item["received_at"], zone),
                item["type"],
                item["control_id"],
                item["source"],
                _deliveries_cell(item),
                item["id"],
            )
            for item in items
        ],
        whole=(0, 1, 6),
    )


def show_message(installation: Installation, message_id: str, *, as_json: bool) -> int:
    """Print one message without its content; `--json` is the answer of `GET /api/v1/messages/{id}`."""
    try:
        with opened(installation, read_only=True) as store:
            found = store.read(lambda tx: queries.show_message(tx, message_id))
    except HubError as error:
        return failed(error)
    if found is None:
        return _unknown(message_id)
    if as_json:
        print_json(found)
        return 0
    for line in _story(found, installation.site.timezone):
        print(printable(line))
    return 0


def _since(text: str, now: datetime) -> int:
    """UTC microseconds of `30m`, `2h`, `3d` ago or of an instant; without an offset it is UTC.

    Raises:
        ValueError.
    """
    if not text:
        return 0
    ago = _AGO.fullmatch(text)
    try:
        at = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else datetime.fromisoformat(text)
        return max(0, int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000_000))
    except OverflowError:
        raise ValueError(text) from None


def _unknown(message_id: str) -> int:
    remark(f"no message has the id {message_id!r}: vaguemestre messages list shows those there are")
    return 1


def _state_cell(item: Json) -> str:
    return f"{item['state']} (held)" if item["held"] else str(item["state"])


def _deliveries_cell(item: Json) -> str:
    if item["ack"]["error"]:
        return f"answered {_answer(item)}"
    return " ".join(f"{destination_name(d['destination'])}:{d['state']}" for d in item["deliveries"])


def _answer(item: Json) -> str:
    error = item["ack"]["error"]
    place = f" at {error['at']}" if error and error["at"] else ""
    return f"{item['ack']['code']} {error['code']}{place}" if error else str(item["ack"]["code"])


def _story(item: Json, zone: tzinfo) -> list[str]:
    """One message told from its arrival to its last delivery, a line each."""
    lines = [
        f"Message {item['id']}  {item['state']}",
        f"  received   {local_time(item['received_at'], zone)} ({zone}) from {item['source']}, connection {item['connection']}",
        f"  type       {item['type'] or '-'}, control id {item['control_id'] or '-'}, "
        f"from application {item['sending_app'] or '-'}",
        f"  bytes      {item['size']}, {item['charset']}, sha256 {item['sha256']}",
        f"  patient    {item['patient'] or 'nobody known'}",
        f"  answer     {item['ack']['code']} ({item['ack']['state']})",
    ]
    lines += [f"  held       with its {hold['kind']}, by {hold['by']}: {hold['reason']}" for hold in item["holds"]]
    if item["ack"]["error"]:
        lines.append(f"  refused    {told(item['ack']['error'])}")
    lines += [f"  finding    {told(finding)}" for finding in item["findings"]]
    for delivery in item["deliveries"]:
        mapping = f", rewritten by {delivery['mapping']}" if delivery["mapping"] else ""
        again = ", again" if delivery["replay_of"] else ""
        lines.append(
            f"  ──▶ {destination_name(delivery['destination'])}  {delivery['state']}{mapping}{again}  ({delivery['id']})"
        )
        for attempt in delivery["attempt_list"]:
            error = f": {attempt['error']}" if attempt["error"] else ""
            lines.append(f"        {local_time(attempt['started_at'], zone)} attempt {attempt['n']}: {attempt['outcome']}{error}")
        if not delivery["attempt_list"] and delivery["last_error"]:
            lines.append(f"        {delivery['last_error']}")
        lane = delivery["lane_state"]
        if lane is not None and delivery["state"] in _OPEN and (lane["blocked_reason"] or lane["not_before"]):
            later = f"not before {local_time(lane['not_before'], zone)}" if lane["not_before"] else ""
            lines.append("        waits: " + ", ".join(filter(None, (lane["blocked_reason"], later))))
        for receipt in delivery["receipts"]:
            verdict = "positive" if receipt["positive"] else "negative"
            lines.append(
                f"        {local_time(receipt['at'], zone)} receipt {receipt['kind']} {verdict} {receipt['code'] or ''}".rstrip()
            )
    return [*lines, *_next(item)]


def _next(item: Json) -> list[str]:
    """What a person can do now."""
    state = item["state"]
    if state == MessageState.REFUSED:
        return ["  next       its sender corrects and sends it again; or messages discard, when nobody will"]
    if state == MessageState.NO_ROUTE:
        return ["  next       give its source a route in the configuration, then messages replay; or messages discard"]
    if state in (MessageState.PARTIAL, MessageState.SET_ASIDE):
        return ["  next       mend what the last attempt or finding says, then messages replay; or messages discard"]
    return []


# ---- acting ----------------------------------------------------------------------------------------------------------


def replay(installation: Installation, message_id: str, destinations: Sequence[str], *, ask: bool) -> int:
    """Show what would be delivered again and where, ask, do it; the running hub takes it up at its next sweep."""
    from hub.app.mapping_worker import registry as build_registry

    try:
        number = uid_number(message_id)
    except ValueError:
        return _unknown(message_id)
    try:
        folder = absolute(installation, installation.configuration.mappings.folder)
        registry = build_registry(str(folder) if folder else None)
        with opened(installation) as store:
            message = store.read(lambda tx: queries.show_message(tx, message_id))
            if message is None:
                return _unknown(message_id)
            wanted = _named(destinations, message)
            kinds = [name.partition(":")[0] for name in wanted]

            operations = partial(Operations, rules=Rules(registry, installation.graph, installation.site), bell=LocalBell())

            def again(tx: Transaction) -> list[str]:
                try:
                    made = [uid_number(one) for one in asyncio.run(operations(_within(tx, store)).replay(message_id, wanted))]
                except KeyError:
                    raise NotPossible("the bytes of this message were pruned: it cannot be delivered again") from None
                return [row[0] for row in tx.rows_in("SELECT destination FROM delivery WHERE id IN ({keys}) ORDER BY id", made)]

            act = _Act(store, "message.replay", message_id, number, {"destinations": kinds})
            planned = act.rehearsed(again)
            print(f"{_name(message)} would go again to:")
            for name in planned:
                print(f"  ──▶ {destination_name(name)}{_what(name, installation)}")
            if ask and not _agreed():
                return 1
            made = act.done(again)
    except HubError as error:
        return failed(error)
    print(f"{counted(len(made), 'delivery', 'deliveries')} queued. {_when(installation)}")
    return 0


def discard(installation: Installation, message_id: str, *, ask: bool) -> int:
    """Show what would be cancelled, ask, close the message."""
    try:
        number = uid_number(message_id)
    except ValueError:
        return _unknown(message_id)
    try:
        with opened(installation) as store:
            message = store.read(lambda tx: queries.show_message(tx, message_id))
            if message is None:
                return _unknown(message_id)

            def close(tx: Transaction) -> None:
                acts.discard(tx, number, store.now_us())

            act = _Act(store, "message.discard", message_id, number, {})
            act.rehearsed(close)
            print(f"{_name(message)}, {message['state']}:")
            still_open = [d for d in message["deliveries"] if d["state"] in _OPEN]
            for delivery in still_open:
                print(f"  {destination_name(delivery['destination'])}: {delivery['state']}, will be cancelled")
            if not still_open:
                print("  no delivery is open; it leaves the list of what needs a person")
            if ask and not _agreed():
                return 1
            act.done(close)
    except HubError as error:
        return failed(error)
    print("Discarded. Its bytes stay.")
    return 0


class _Act:
    """An operator's act on one message: tried first, then done with its audit row in one transaction."""

    def __init__(self, store: CommandStore, name: str, message_id: str, number: int, detail: Json) -> None:
        self._store, self._name, self._number, self._detail = store, name, number, detail
        self._target = f"message/{message_id.lower()}"

    def rehearsed(self, job: Callable[[Transaction], T]) -> T:
        """What `job` would do.

        Raises: what `job` raises, once the attempt is in the audit trail.
        """
        return self._told(lambda: rehearsed(self._store, job))

    def done(self, job: Callable[[Transaction], T]) -> T:
        def audited(tx: Transaction) -> T:
            result = job(tx)
            self._audit(tx, self._name, self._detail)
            return result

        return self._told(lambda: self._store.write(audited))

    def _told(self, run: Callable[[], T]) -> T:
        try:
            return run()
        except HubError as error:
            code = error.code
            if not isinstance(error, NotFound):
                self._store.write(lambda tx: self._audit(tx, f"{self._name}.refused", {**self._detail, "error": code}))
            raise

    def _audit(self, tx: Transaction, name: str, detail: Json) -> None:
        row = tx.row("SELECT patient_id FROM message WHERE id = ?", self._number)
        audit(tx, self._store, name, self._target, patient_id=row[0] if row is not None else None, **detail)


class _Within:
    """A store whose writes happen in a transaction that is open already."""

    def __init__(self, tx: Transaction, store: CommandStore) -> None:
        self._tx, self.next_id, self.now_us = tx, store.next_id, store.now_us

    async def write(self, job: Callable[[Transaction], T]) -> T:
        return job(self._tx)


def _name(message: Json) -> str:
    return printable(f"Message {message['id']} ({message['type']}, control id {message['control_id']}, from {message['source']})")


def _within(tx: Transaction, store: CommandStore) -> Store:
    return cast(Store, _Within(tx, store))


def _named(destinations: Sequence[str], message: Json) -> list[str]:
    """Destinations as the ledger names them: a patient's mailbox may be named the way `messages show` writes it."""
    shown = {destination_name(d["destination"]): d["destination"] for d in message["deliveries"]}
    return [shown.get(name, name) for name in destinations]


def _what(name: str, installation: Installation) -> str:
    """What a delivery to `name` means."""
    if name.startswith(LEAVES_THE_HOUSE):
        outside = "  leaves the house" if name == "dmp" else "  leaves the house by mail"
        return f"{outside}; waits: {installation.graph.blocked(name)}" if installation.graph.blocked(name) else outside
    if name == "record":
        return "  the patient record here; what it says already is left alone"
    spec = installation.graph.destinations.get(name)
    return f"  {spec.kind.upper()} {spec.connect}" if spec is not None else ""


def _agreed() -> bool:
    """Whether the person at the terminal says yes."""
    sys.stdout.write("Do it? [y/N] ")
    sys.stdout.flush()
    answer = sys.stdin.readline().strip().lower()
    if answer in ("y", "yes", "o", "oui"):
        return True
    print("Nothing was done." if answer else "\nNothing was done (--yes does it without asking).")
    return False


def _when(installation: Installation) -> str:
    try:
        running = is_delivering(installation)
    except (HubError, OSError):
        return "The hub takes them within a few seconds, or when it starts."
    return "The running hub takes them within a few seconds." if running else "No hub runs here now: they leave when it starts."
