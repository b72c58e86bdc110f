"""Two processes at one ledger: nothing is done twice, nothing is lost, whoever comes first and wherever a line breaks."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from hub.ledger import acts, audit, deliveries, members
from hub.ledger.acts import NotFound, NotPossible
from hub.ledger.audit import AuditEntry
from hub.ledger.deliveries import Claim, Head, NewDelivery, add, claim, occupied
from hub.ledger.messages import NewMessage, keep
from hub.ledger.outcomes import Outcome, mark
from hub.model.identifiers import INS_NIR_TEST, InsMatricule, LocalIdentifier
from hub.model.identity import PatientIdentity
from hub.model.record_change import RecordChange, ResourceChange
from hub.model.refusals import RuleBroken
from hub.model.states import DeliveryEvent
from hub.record.apply import apply
from hub.record.identity import resolve
from hub.store import StoreUnavailable, Transaction
from hub.store.blobs import BlobFolder
from hub.store.place import Place, open_store, place_of

OPEN = "('QUEUED','WAITING','SENDING','UNSURE')"


@pytest.fixture
def stores(place, tmp_path):
    """`async with stores(n) as […]`: stores of n processes on one database; `by` is another way to it."""

    @asynccontextmanager
    async def start(n: int = 2, by: Place | None = None):
        made = [open_store(by or place, BlobFolder(tmp_path / "blobs")) for _ in range(n)]
        for edge, store in enumerate(made):
            store.start()
            store.use_edge(edge)
        try:
            yield made
        finally:
            for store in made:
                await store.close()

    return start


def kept(store, tx: Transaction, body: bytes, **more) -> int:
    number = store.next_id()
    new = NewMessage(number, "his", "his/1", "ADT^A01", "C1", "GAM", "utf-8", body, hashlib.sha256(body).digest(), 1, **more)
    return keep(tx, [new], dedupe_since=0)[0].message_id


def routed(store, tx: Transaction, lanes: Sequence[str], **more) -> list[int]:
    """A message with a delivery in each of these lanes (`destination/tail`); the deliveries' numbers."""
    number = kept(store, tx, store.next_id().to_bytes(8, "big"))
    busy = occupied(tx, sorted(lanes))
    made = [NewDelivery(store.next_id(), number, lane.partition("/")[0], lane, **more) for lane in lanes]
    add(tx, made, 1, busy=busy)
    tx.run("UPDATE message SET state = 'ROUTED', open_n = ?, routed_at = 1 WHERE id = ?", len(lanes), number)
    return [one.id for one in made]


def done(head: Head, **more) -> Outcome:
    return Outcome(head, DeliveryEvent.DELIVER, 1, 2, **more)


@pytest.mark.parametrize("meanwhile", ["an operator decided", "it was given back"])
def test_a_late_mark_does_not_end_what_was_decided_since_its_lane_was_freed(stores, meanwhile):
    """The lane has no owner and still the old epoch: that alone does not make the mark good."""

    async def run():
        async with stores(1) as [store]:
            await store.write(lambda tx: routed(store, tx, ["lab/p1"]))
            [head] = await take(store, "one")
            if meanwhile == "an operator decided":
                await store.write(lambda tx: deliveries.hold(tx, [head], 20))
                await store.write(lambda tx: acts.skip(tx, head.id, 30))
            else:
                await store.write(lambda tx: deliveries.give_back(tx, [head], now=20))
            [marked] = await store.write(lambda tx: mark(tx, [done(head)], owner="one"))
            assert marked.fenced
            open_n, state = (0, "CANCELLED") if meanwhile == "an operator decided" else (1, "QUEUED")
            assert await store.read(lambda tx: tx.rows("SELECT open_n FROM message")) == [(open_n,)]
            assert await store.read(lambda tx: tx.rows("SELECT state FROM delivery")) == [(state,)]

    asyncio.run(run())


@pytest.mark.parametrize("ask", [True, False])
def test_what_was_perhaps_sent_stays_in_doubt_when_it_is_given_back(stores, ask):
    """Given back by its owner, or by somebody who does not know whether it took it: the peer is asked where it can be."""

    async def run():
        async with stores(1) as [store]:
            await store.write(lambda tx: routed(store, tx, ["dmp/p1"]))
            [head] = await take(store, "one", destination="dmp")
            await store.write(lambda tx: tx.run("UPDATE lane SET owner = NULL"))  # it died with the answer
            [head] = await take(store, "two", destination="dmp")
            assert head.unsure
            await store.write(lambda tx: deliveries.give_back(tx, [head], now=20))
            [head] = await take(store, "three", destination="dmp")
            assert head.unsure
            [(owner, epoch)] = await store.read(lambda tx: tx.rows("SELECT owner, epoch FROM lane"))
            await store.write(lambda tx: deliveries.forget(tx, [Claim(owner, epoch)], now=30, ask=ask))
            [head] = await take(store, "four", destination="dmp")
            assert head.unsure is ask

    asyncio.run(run())


@pytest.mark.parametrize("what", ["in time", "fenced off", "filed before"])
def test_what_follows_an_end_is_filed_with_it_or_not_at_all(stores, what):
    """A receipt is filed by the mark that counts, once; it sees how the delivery ended."""

    async def run():
        async with stores(1) as [store]:
            await store.write(lambda tx: routed(store, tx, ["dmp/p1"]))
            [head] = await take(store, "one", destination="dmp")
            seen = []

            def receipt(tx: Transaction) -> str:
                seen.append(tx.rows("SELECT d.state, m.state FROM delivery d JOIN message m ON m.id = d.message_id")[0])
                acts.file_receipt(tx, head.id, acts.Receipt("DMP", False, 1, "DMPClosed"))
                return "back"

            def end(**more) -> Outcome:
                return Outcome(head, DeliveryEvent.REFUSE, 1, 2, after=receipt, **more)

            if what == "fenced off":
                await store.write(lambda tx: tx.run("UPDATE lane SET owner = 'two', epoch = epoch + 1"))
            if what == "filed before":
                await store.write(lambda tx: mark(tx, [end()], owner="one"))
                seen.clear()
            [marked] = await store.write(lambda tx: mark(tx, [end(again=True)], owner="one"))
            assert (marked.ring, seen) == (("back", [("REFUSED", "PARTIAL")]) if what == "in time" else ("", []))
            filed = await rows(store, "SELECT count(*) FROM receipt")
            assert filed == [(0 if what == "fenced off" else 1,)]
            if what != "fenced off":  # refused and told so: one failure, which a retry takes back
                assert await rows(store, "SELECT failed_n FROM message") == [(1,)]

    asyncio.run(run())


def test_a_mark_still_counts_after_the_burial_of_who_made_it(stores):
    async def run():
        async with stores(1) as [store]:
            await store.write(lambda tx: routed(store, tx, ["lab/p1"]))
            [head] = await take(store, "one")
            await store.write(lambda tx: tx.run("UPDATE lane SET owner = NULL"))
            [marked] = await store.write(lambda tx: mark(tx, [done(head)], owner="one"))
            assert not marked.fenced and marked.next is None
            assert await store.read(lambda tx: tx.rows("SELECT state, open_n FROM message")) == [("DONE", 0)]

    asyncio.run(run())


async def take(store, owner: str, destination: str = "lab", at_most: int = 64) -> list[Head]:
    under = Claim(owner, store.next_id())
    return await store.write(lambda tx: claim(tx, destination, under, now=10, at_most=at_most))


async def rows(store, sql: str, *values) -> list[tuple]:
    return await store.read(lambda tx: tx.rows(sql, *values))


async def whole(store) -> None:
    """What must hold of every ledger at every moment."""
    counted = await rows(
        store,
        "SELECT m.id, m.state, m.open_n, m.failed_n, "
        f"(SELECT count(*) FROM delivery d WHERE d.message_id = m.id AND d.state IN {OPEN}) FROM message m",
    )
    assert [row for row in counted if row[2] != row[4] or row[2] < 0 or row[3] < 0] == []
    assert [row for row in counted if (row[1] == "ROUTED" and not row[2]) or (row[1] in ("DONE", "PARTIAL") and row[2])] == []
    lost = f"SELECT d.id FROM delivery d WHERE d.state IN {OPEN} AND NOT EXISTS (SELECT 1 FROM lane l WHERE l.key = d.lane)"
    assert await rows(store, lost) == []
    twice = "SELECT lane FROM delivery WHERE state = 'SENDING' GROUP BY lane HAVING count(*) > 1"
    assert await rows(store, twice) == []
    attempts = "SELECT d.id FROM delivery d WHERE d.attempts <> (SELECT count(*) FROM attempt a WHERE a.delivery_id = d.id)"
    assert await rows(store, attempts) == []


# ---- two at once ----


def test_no_end_is_lost_when_two_deliveries_of_a_message_end_at_once(stores):
    async def run():
        async with stores() as (one, other):
            for n in range(40):
                await one.write(lambda tx, n=n: routed(one, tx, [f"lab/p{n}", f"ris/p{n}"]))
                (left,), (right,) = await asyncio.gather(take(one, "one", "lab"), take(other, "other", "ris"))
                found = await asyncio.gather(
                    one.write(lambda tx, h=left: mark(tx, [done(h)], owner="one")),
                    other.write(lambda tx, h=right: mark(tx, [done(h)], owner="other")),
                )
                assert [marked.fenced for (marked,) in found] == [False, False]
            assert await rows(one, "SELECT state, open_n, count(*) FROM message GROUP BY state, open_n") == [("DONE", 0, 40)]
            assert await rows(one, "SELECT key FROM lane") == []
            await whole(one)

    asyncio.run(run())


def test_a_lane_is_never_claimed_by_two(stores):
    async def run():
        async with stores(3) as made:
            await made[0].write(lambda tx: [routed(made[0], tx, [f"lab/p{n}"]) for n in range(300)])

            async def worker(store, name: str) -> list[Head]:
                taken = []
                while heads := await take(store, name, at_most=7):
                    taken += heads
                return taken

            owners = [(store, f"{n}.{k}") for n, store in enumerate(made) for k in range(3)]
            found = await asyncio.gather(*(worker(store, name) for store, name in owners))
            assert sorted(head.lane for heads in found for head in heads) == sorted(f"lab/p{n}" for n in range(300))
            held = dict(await rows(made[0], "SELECT key, owner FROM lane"))
            assert held == {head.lane: owners[n][1] for n, heads in enumerate(found) for head in heads}
            await whole(made[0])

    asyncio.run(run())


def test_a_lane_is_not_lost_when_a_delivery_comes_while_the_last_one_ends(stores):
    async def run():
        async with stores() as (one, other):
            for n in range(120):
                await one.write(lambda tx: routed(one, tx, ["lab/p1"]))
                (head,) = await take(one, "one")
                (marked,), (second,) = await asyncio.gather(
                    one.write(lambda tx, h=head: mark(tx, [done(h)], owner="one")),
                    other.write(lambda tx: routed(other, tx, ["lab/p1"])),
                )
                following = marked.next or (await take(one, "one"))[0]
                assert following.id == second, n
                await whole(one)
                await one.write(lambda tx, h=following: mark(tx, [done(h)], owner="one"))
            assert await rows(one, "SELECT key FROM lane") == []

    asyncio.run(run())


def test_two_that_add_to_the_same_empty_lane_make_one_lane(stores):
    async def run():
        async with stores() as (one, other):
            for n in range(60):
                lanes = [f"lab/p{n}", f"ris/p{n}"]
                made = await asyncio.gather(
                    one.write(lambda tx, a=lanes: routed(one, tx, a)), other.write(lambda tx, a=lanes: routed(other, tx, a[::-1]))
                )
                assert len({number for numbers in made for number in numbers}) == 4
            assert await rows(one, "SELECT count(*) FROM lane") == [(120,)]
            await whole(one)

    asyncio.run(run())


def test_the_same_message_to_two_processes_is_one(stores):
    async def run():
        async with stores() as (one, other):
            for n in range(40):
                body = f"MSH|{n}".encode()
                numbers = await asyncio.gather(
                    *(store.write(lambda tx, s=store, b=body: kept(s, tx, b)) for store in (one, other) for _ in range(2))
                )
                assert len(set(numbers)) == 1
            assert await rows(one, "SELECT count(*) FROM message") == await rows(one, "SELECT count(*) FROM body") == [(40,)]

    asyncio.run(run())


def test_a_refused_message_that_comes_again_to_two_is_taken_once(stores):
    async def run():
        async with stores() as (one, other):
            for n in range(30):
                body = f"MSH|{n}".encode()
                refusal = RuleBroken(at="PID-3", sentence="no")
                number = await one.write(lambda tx, b=body: kept(one, tx, b, refusal=refusal))
                again = await asyncio.gather(*(store.write(lambda tx, s=store, b=body: kept(s, tx, b)) for store in (one, other)))
                assert again == [number, number]
            assert await rows(one, "SELECT DISTINCT state, ack_code FROM message") == [("RECEIVED", "AA")]

    asyncio.run(run())


def test_the_order_of_arrival_is_that_of_the_commits_of_each_process(stores):
    async def run():
        async with stores() as (one, other):
            bulks = [s.bulk(lambda tx, items, s=s: [kept(s, tx, b) for b in items], urgent=True) for s in (one, other)]
            numbers = await asyncio.gather(*(bulk(f"{k}/{n}".encode()) for n in range(100) for k, bulk in enumerate(bulks)))
            arrived = [number for (number,) in await rows(one, "SELECT id FROM message ORDER BY arrival")]
            for mine in (numbers[::2], numbers[1::2]):
                assert [number for number in arrived if number in set(mine)] == mine

    asyncio.run(run())


def test_the_chain_of_audit_is_whole_with_two_writers(stores):
    async def run():
        async with stores() as (one, other):

            def note(store):
                entry = AuditEntry("a", "operator", "read", "Patient/1")
                return lambda tx: audit.record(tx, [entry, entry], next_id=store.next_id, now_us=store.now_us())

            await asyncio.gather(*(store.write(note(store)) for _ in range(60) for store in (one, other)))
            assert await rows(one, "SELECT count(*) FROM audit") == [(240,)]
            assert await one.read(audit.verify) is None

    asyncio.run(run())


def who(ipp: str) -> PatientIdentity:
    return PatientIdentity(
        local=(LocalIdentifier("urn:oid:1.2.250.1.999.1", ipp),),
        ins=(InsMatricule("279035121518989", INS_NIR_TEST),),
        statuses=("VALI",),
        birth_name="TESTUT",
        birth_date="19790410",
        sex="F",
    )


def test_two_that_meet_a_new_patient_at_once_make_one(stores):
    async def run():
        async with stores() as (one, other):
            for n in range(40):
                await one.write(
                    lambda tx: [tx.run(f"DELETE FROM {name}") for name in ("patient", "patient_identifier", "identity_case")]
                )

                def meet(store, ipp: str):
                    return lambda tx: resolve(tx, who(ipp), message_id=store.next_id(), next_id=store.next_id, now_us=1)

                found = await asyncio.gather(
                    one.write(meet(one, "A")), other.write(meet(other, "B" if n % 2 else "A")), one.write(meet(one, "A"))
                )
                assert len({match.patient_id for match in found}) == 1
                assert await rows(one, "SELECT count(*) FROM patient") == [(1,)]

    asyncio.run(run())


def test_two_that_change_one_record_leave_every_version(stores):
    async def run():
        async with stores() as (one, other):
            patient = (await one.write(lambda tx: resolve(tx, who("A"), message_id=1, next_id=one.next_id, now_us=1))).patient_id

            def change(store, n: int):
                stay = ResourceChange("Encounter", "urn:x|V1", {"status": f"s{n}", "identifier": []}, "PV1", 0)
                body = {"gender": "female", "telecom": [{"value": str(n)}]}
                told = RecordChange("adt@1", who("A"), body, event_time=0, resources=(stay,))

                def run(tx):
                    number = store.next_id()
                    apply(tx, told, patient_id=patient, message_id=number, source="his", next_id=store.next_id, now_us=n)

                return run

            await asyncio.gather(
                *(store.write(change(store, 2 * n + k)) for n in range(30) for k, store in enumerate((one, other)))
            )
            for number, version in await rows(one, "SELECT id, version FROM resource"):
                older = await rows(one, "SELECT version FROM resource_version WHERE id = ? ORDER BY version", number)
                assert [row[0] for row in older] == list(range(1, version))
                told = await rows(
                    one,
                    "SELECT count(DISTINCT version), count(DISTINCT message_id) FROM provenance WHERE resource_id = ?",
                    number,
                )
                assert told == [(version, version)]
                assert version > 10  # a message whose number was overtaken changes nothing

    asyncio.run(run())


def test_whatever_workers_and_operators_do_at_once_the_ledger_is_whole(stores):
    lanes = [f"{name}/p{n}" for name in ("lab", "ris") for n in range(4)]

    async def actor(store, name: str, seed: int, until: float, mine: list[Head]) -> None:
        chance = random.Random(seed)
        while time.monotonic() < until:
            act = chance.choice(
                ("route", "route", "take", "mark", "mark", "give_back", "hold", "skip", "retry", "discard", "replay", "bury")
            )
            now = store.now_us()
            if act == "route":
                await store.write(
                    lambda tx: routed(
                        store,
                        tx,
                        [f"{one}/p{chance.randrange(4)}" for one in ("lab", "ris")],
                        blocked_reason=chance.choice(("", "", "", "down")),
                    )
                )
            elif act == "take":
                mine += await take(store, name, chance.choice(("lab", "ris")), 4)
            elif act in ("mark", "give_back", "hold") and mine:
                chance.shuffle(mine)
                heads, mine[:] = mine[:3], mine[3:]
                if act == "mark":
                    events = (DeliveryEvent.DELIVER, DeliveryEvent.FAIL_FOR_NOW, DeliveryEvent.REFUSE, DeliveryEvent.GIVE_UP)
                    ends = [Outcome(head, chance.choice(events), now, now + n) for n, head in enumerate(heads)]
                    for marked in await store.write(lambda tx: mark(tx, ends, owner=name)):
                        if marked.next is not None:
                            mine.append(marked.next)
                elif act == "give_back":
                    await store.write(lambda tx: deliveries.give_back(tx, heads, now=now))
                else:
                    await store.write(lambda tx: deliveries.hold(tx, heads, now))
            elif act == "bury":  # given up for dead, and back under the same name: all it holds is fenced or free
                await store.write(lambda tx: members.leave(tx, name))
            elif act in ("skip", "retry", "discard", "replay"):
                found = await rows(store, f"SELECT id, message_id FROM delivery ORDER BY id DESC LIMIT {chance.randrange(1, 60)}")
                if found:
                    delivery, message = found[-1]
                    with suppress(NotPossible, NotFound):
                        if act == "discard":
                            await store.write(lambda tx: acts.discard(tx, message, now))
                        elif act == "replay":
                            target = chance.choice(lanes)
                            told = [(target.partition("/")[0], "", target)]
                            await store.write(
                                lambda tx: acts.replay(tx, message, told, next_id=store.next_id, now=now, blocked=lambda _: "")
                            )
                        else:
                            await store.write(lambda tx: getattr(acts, act)(tx, delivery, now))

    async def run():
        async with stores(3) as made:
            until = time.monotonic() + 5
            await asyncio.gather(
                *(actor(store, f"{n}.{k}", 10 * n + k, until, []) for n, store in enumerate(made) for k in range(3))
            )
            await whole(made[0])
            assert (await rows(made[0], "SELECT count(*) FROM delivery"))[0][0] > 50

    asyncio.run(run())


# ---- run again ----


def test_who_meets_another_is_run_again_and_both_end_right(stores):
    async def run():
        async with stores() as (one, other):
            await one.write(lambda tx: tx.insert("job_lease", ("job", "owner", "lease_until"), [("a", "", 0), ("b", "", 0)]))
            both, ran = threading.Barrier(2), []

            def crossed(first: str, second: str):
                def run(tx):
                    ran.append(first)
                    tx.row("SELECT job FROM job_lease WHERE job = ? FOR UPDATE", first)
                    if len(ran) <= 2:
                        both.wait(20)
                    tx.row("SELECT job FROM job_lease WHERE job = ? FOR UPDATE", second)
                    tx.run("UPDATE job_lease SET lease_until = lease_until + 1")
                    return "ended"

                return run

            assert await asyncio.gather(one.write(crossed("a", "b")), other.write(crossed("b", "a"))) == ["ended"] * 2
            assert await rows(one, "SELECT job, lease_until FROM job_lease ORDER BY job") == [("a", 2), ("b", 2)]
            assert len(ran) >= 3 and one.conflicts + other.conflicts >= 1

    asyncio.run(run())


def test_two_that_insert_what_neither_saw_are_not_refused(stores):
    async def run():
        async with stores() as (one, other):
            both, ran = threading.Barrier(2), []

            def once(tx):
                ran.append(1)
                there = tx.row("SELECT lease_until FROM job_lease WHERE job = 'x'")
                if len(ran) <= 2:
                    both.wait(20)
                if there is None:
                    tx.insert("job_lease", ("job", "owner", "lease_until"), [("x", "", 1)])
                else:
                    tx.run("UPDATE job_lease SET lease_until = lease_until + 1 WHERE job = 'x'")

            await asyncio.gather(one.write(once), other.write(once))
            assert await rows(one, "SELECT job, lease_until FROM job_lease") == [("x", 2)]

    asyncio.run(run())


# ---- a line that breaks around the COMMIT ----


class Wire:
    """A line to the server that breaks at the next COMMIT of a writer.

    `before`: the COMMIT is lost. `after`: its answer is lost. `late`: the client's side breaks, and the COMMIT still comes
    to the server a little later, as from a network that held it back.
    """

    def __init__(self, port: int) -> None:
        self._server_port, self._mode = port, ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.broken = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, mode: str) -> None:
        self._mode = mode

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                for side in (client, server):
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                line = _Line(self, client, server)
                for work in (line.to_server, line.to_client):
                    threading.Thread(target=work, daemon=True).start()

    def take(self) -> str:
        mode, self._mode = self._mode, ""
        self.broken += bool(mode)
        return mode


class _Line:
    def __init__(self, wire: Wire, client: socket.socket, server: socket.socket) -> None:
        self._wire, self._client, self._server = wire, client, server
        self._statements: dict[bytes, bytes] = {}
        self._writing = self._swallow = False

    def _close(self, *sides: socket.socket) -> None:
        for side in sides:
            with suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def to_client(self) -> None:
        seen = b""
        with suppress(OSError):
            while data := self._server.recv(1 << 16):
                if self._swallow:
                    seen += data
                    if b"COMMIT\0" in seen:
                        break
                else:
                    self._client.sendall(data)
        self._close(self._client, self._server)

    def to_server(self) -> None:
        waiting, started = b"", False
        with suppress(OSError):
            while data := self._client.recv(1 << 16):
                waiting += data
                ready = b""
                while len(waiting) >= 5:
                    at = 1 if started else 0
                    size = at + int.from_bytes(waiting[at : at + 4], "big")
                    if len(waiting) < size:
                        break
                    message, waiting = waiting[:size], waiting[size:]
                    if not started:
                        started = message[4:8] == b"\0\x03\0\0"
                    elif self._is_commit(message) and (mode := self._wire.take()):
                        self._server.sendall(ready)
                        self._break(mode, message + waiting)
                        return
                    ready += message
                self._server.sendall(ready)
        self._close(self._server, self._client)

    def _is_commit(self, message: bytes) -> bool:
        kind, body = message[:1], message[5:]
        if kind == b"P":
            name, query, _ = body.split(b"\0", 2)
            self._statements[name] = query
        elif kind == b"B":
            query = self._statements.get(body.split(b"\0", 2)[1], b"")
            if query.startswith(b"BEGIN"):
                self._writing = b"READ ONLY" not in query
            return query == b"COMMIT" and self._writing
        return False

    def _break(self, mode: str, rest: bytes) -> None:
        while b"S\0\0\0\4" not in rest:  # the end of the pipeline: only then does the server answer
            rest += self._client.recv(1 << 16)
        if mode == "before":
            self._close(self._client, self._server)
        elif mode == "after":
            self._swallow = True
            self._server.sendall(rest)
        else:
            self._swallow = True
            self._close(self._client)
            time.sleep(0.3)
            with suppress(OSError):  # the server has ended this connection
                self._server.sendall(rest)


@pytest.fixture
def wire(postgres_server) -> Iterator[Wire]:
    made = Wire(postgres_server.port)
    yield made
    made.close()


@pytest.fixture
def by_wire(place, wire, tmp_path) -> Place:
    url = f"postgresql://postgres@127.0.0.1:{wire.port}/{place.name.rpartition('/')[2]}"
    return place_of(url, base=tmp_path, default=tmp_path)


async def until_kept(call: Callable):
    for _ in range(100):
        try:
            return await call()
        except StoreUnavailable:
            await asyncio.sleep(0.05)
    raise AssertionError("the store is not back")


@pytest.mark.parametrize("mode", ["before", "after", "late"])
def test_an_end_whose_commit_is_in_doubt_is_filed_once(stores, by_wire, wire, mode):
    async def run():
        async with stores(1, by_wire) as (store,):
            marks = store.bulk(lambda tx, ends: mark(tx, ends, owner="me"))
            await store.write(lambda tx: tx.insert("job_lease", ("job", "owner", "lease_until"), [("effects", "", 0)]))
            for n in range(6):
                (first,) = await store.write(lambda tx: routed(store, tx, ["lab/p1"]))
                (second,) = await store.write(lambda tx: routed(store, tx, ["lab/p1"]))
                (head,) = await take(store, "me")
                assert (head.id, head.unsure) == (first, False)
                effect = lambda tx: tx.run("UPDATE job_lease SET lease_until = lease_until + 1")  # noqa: E731
                end = done(head, also=effect)
                wire.arm(mode)
                with pytest.raises(StoreUnavailable):
                    await marks(end)
                assert wire.broken == n + 1
                end.again = True
                marked = await until_kept(lambda e=end: marks(e))
                assert (marked.fenced, marked.next.id, marked.next.unsure) == (False, second, False)
                assert await rows(store, "SELECT count(*) FROM attempt WHERE delivery_id = ?", first) == [(1,)]
                assert await rows(store, "SELECT state, attempts FROM delivery WHERE id = ?", first) == [("DELIVERED", 1)]
                assert await rows(store, "SELECT lease_until FROM job_lease") == [(n + 1,)]
                await marks(Outcome(marked.next, DeliveryEvent.DELIVER, 3, 4))
                await whole(store)
            assert await rows(store, "SELECT DISTINCT state, open_n FROM message") == [("DONE", 0)]

    asyncio.run(run())


@pytest.mark.parametrize("mode", ["before", "after", "late"])
def test_a_claim_whose_commit_is_in_doubt_is_forgotten_and_made_again(stores, by_wire, wire, mode):
    async def run():
        async with stores(1, by_wire) as (store,):
            for n in range(6):
                (number,) = await store.write(lambda tx: routed(store, tx, [f"lab/p{n}"]))
                lost = Claim("me", store.next_id())
                wire.arm(mode)
                with pytest.raises(StoreUnavailable):
                    await store.write(lambda tx, c=lost: claim(tx, "lab", c, now=10, at_most=9))

                def again(tx, lost=lost):
                    deliveries.forget(tx, [lost], now=11)
                    return claim(tx, "lab", Claim("me", store.next_id()), now=12, at_most=9)

                (head,) = await until_kept(lambda f=again: store.write(f))
                assert (head.id, head.unsure) == (number, False)
                await store.write(lambda tx, h=head: mark(tx, [done(h)], owner="me"))
                await whole(store)
            assert wire.broken == 6

    asyncio.run(run())


@pytest.mark.parametrize("mode", ["before", "after", "late"])
def test_a_message_whose_commit_is_in_doubt_is_kept_once(stores, by_wire, wire, mode):
    async def run():
        async with stores(1, by_wire) as (store,):
            keeping = store.bulk(lambda tx, bodies: [kept(store, tx, body) for body in bodies], urgent=True)
            for n in range(6):
                wire.arm(mode)
                with pytest.raises(StoreUnavailable):
                    await keeping(str(n).encode())
                assert store.health() != ""
                await until_kept(lambda n=n: keeping(str(n).encode()))
                assert store.health() == ""
            assert await rows(store, "SELECT count(*) FROM message") == [(6,)]
            assert wire.broken == 6

    asyncio.run(run())


def test_a_transaction_of_a_lost_line_holds_nobody_up(stores, by_wire, wire):
    """Its locks are gone before the next one is asked for, not when the server notices by itself."""

    async def run():
        async with stores(1, by_wire) as (store,):
            await store.write(lambda tx: tx.insert("job_lease", ("job", "owner", "lease_until"), [("x", "", 0)]))
            for n in range(4):
                wire.arm("late")
                with pytest.raises(StoreUnavailable):
                    await store.write(lambda tx: tx.run("UPDATE job_lease SET lease_until = lease_until + 1"))
                before = (
                    await until_kept(lambda: store.write(lambda tx: tx.row("SELECT lease_until FROM job_lease FOR UPDATE")))
                )[0]
                await asyncio.sleep(0.5)
                assert (await rows(store, "SELECT lease_until FROM job_lease"))[0][0] == before, n

    asyncio.run(run())
