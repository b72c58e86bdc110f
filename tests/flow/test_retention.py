"""Retention: what goes, what stays, what the record keeps of it, whoever arrives or dies in the middle."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import signal
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.app.config import ConfigurationRefused, build
from hub.app.pruning import Pruner, Totals
from hub.ledger import holds, leases, retention
from hub.ledger.acts import NotFound, NotPossible
from hub.ledger.messages import INLINE_BYTES, NewMessage, body_of, keep
from hub.ledger.retention import DAY_US, ENDED, Candidate, Policy, number_at
from hub.model import crash_points
from hub.model.states import OPEN_DELIVERIES, MessageState
from hub.model.uids import uid_text
from hub.record import promotion
from hub.record.masking import Viewer
from hub.record.provenance import MESSAGE_PRUNED
from hub.record.queries import read_binary, search_provenance
from hub.store import BlobDamaged, Transaction, blob_names
from hub.store.blob_names import BlobGoing
from hub.store.blobs import BlobFolder
from hub.store.copy import open_side
from hub.store.place import Place, open_store, place_of

FORK = multiprocessing.get_context("fork")
DAYS_90 = 90 * DAY_US
EVERYTHING = Policy(ages=dict.fromkeys(ENDED, DAYS_90))
LARGE = INLINE_BYTES + 1


@pytest.fixture
def where(each_place: Place) -> Place:
    return each_place


@pytest.fixture
def blobs(tmp_path: Path) -> BlobFolder:
    return BlobFolder(tmp_path / "blobs")


@asynccontextmanager
async def opened(where: Place, blobs: BlobFolder):
    store = open_store(where, blobs)
    store.start()
    try:
        yield store
    finally:
        await store.close()


async def no_rest(_seconds: float) -> None:
    await asyncio.sleep(0)


def pruner(store, blobs: BlobFolder, policy: Policy = EVERYTHING, owner: str = "test") -> Pruner:
    return Pruner(store, blobs, policy, owner=owner, rest=no_rest)


async def round_of(store, blobs: BlobFolder, policy: Policy = EVERYTHING) -> Totals:
    done = await pruner(store, blobs, policy).round()
    assert done is not None and done.ended
    return done


_serial = count(1)


def old(days: float, now: int | None = None) -> int:
    """A row number of so many days ago."""
    return number_at((now or time.time_ns() // 1000) - int(days * DAY_US)) + next(_serial)


def put(
    tx: Transaction,
    number: int,
    state: MessageState | str = MessageState.DONE,
    *,
    source: str = "his",
    kind: str = "ADT^A08",
    body: bytes = b"MSH|^~\\&|synthetic",
    patient: int | None = None,
    open_n: int = 0,
) -> int:
    """A message that came and ended."""
    digest, large = hashlib.sha256(body).digest(), len(body) > INLINE_BYTES
    tx.insert(
        "message",
        (
            *("id", "source", "connection", "format", "type", "control_id", "sending_app", "charset", "size", "sha256"),
            *("in_file", "received_at", "state", "ack_code", "ack_state", "patient_id", "open_n"),
        ),
        [
            (
                *(number, source, "1", "hl7v2-er7", kind, f"C{number}", "GAM", "utf-8", len(body), digest, int(large), 1),
                *(str(state), "AA", "SENT", patient, open_n),
            )
        ],
    )
    if not large:
        tx.insert("body", ("message_id", "bytes"), [(number, body)])
    tx.insert("dedupe", ("source", "control_id", "sha256", "message_id", "at"), [(source, f"C{number}", digest, number, 1)])
    return number


def delivery(
    tx: Transaction, number: int, message_id: int, state: str, *, changed: int, lane: str = "out/p1", document=None, follows=None
) -> None:
    columns = (
        "id",
        "message_id",
        "destination",
        "mapping",
        "replay",
        "lane",
        "state",
        "attempts",
        "updated_at",
        "document",
        "follows",
    )
    tx.insert("delivery", columns, [(number, message_id, "out", "", number % 1000, lane, state, 1, changed, document, follows)])
    tx.insert("attempt", ("delivery_id", "n", "started_at", "ended_at", "outcome"), [(number, 1, 1, 1, "DELIVER")])
    tx.insert("receipt", ("delivery_id", "n", "kind", "positive", "at"), [(number, 1, "ACK", 1, 1)])


async def left(store) -> set[int]:
    return {number for (number,) in await store.read(lambda tx: tx.rows("SELECT id FROM message"))}


# ---- the rule ----


@dataclass(frozen=True)
class Case:
    state: MessageState
    is_old: bool
    delivery: str  # none, delivered, changed lately, or the name of an open state
    held: str  # nothing, message, patient, survivor, source, released
    owes: bool
    doubtful: bool

    @property
    def goes(self) -> bool:
        return (
            self.state in ENDED
            and self.is_old
            and self.delivery in ("none", "delivered")
            and self.held in ("nothing", "released")
            and not self.owes
            and not self.doubtful
        )


CASES = [
    *(
        Case(s, o, d, "nothing", False, False)
        for s, o, d in product(MessageState, (True, False), ("none", "delivered", "lately"))
    ),
    *(Case(MessageState.SET_ASIDE, True, d.value, "nothing", False, False) for d in sorted(OPEN_DELIVERIES)),
    *(
        Case(MessageState.DONE, True, "delivered", h, o, d)
        for h, o, d in product(("nothing", "message", "patient", "survivor", "source", "released"), (True, False), (True, False))
    ),
]


def place_case(tx: Transaction, case: Case, now: int) -> int:
    number = old(91 if case.is_old else 89, now)
    patient = next(_serial)
    put(tx, number, case.state, source=f"s{patient}", patient=patient)
    if case.delivery != "none":
        state = case.delivery.upper() if case.delivery.upper() in set(OPEN_DELIVERIES) else "DELIVERED"
        changed = now - DAY_US if case.delivery == "lately" else now - 91 * DAY_US
        delivery(tx, number + 1, number, state, changed=changed, lane=f"out/p{patient}")
    survivor = next(_serial)
    if case.held == "survivor":
        people = [(patient, survivor), (survivor, None)]
        columns = ("id", "birth_name", "birth_date", "sex", "status", "created_at", "merged_into")
        tx.insert("patient", columns, [(one, "X", "", "F", "", 1, into) for one, into in people])
    target = {
        "message": ("message", uid_text(number)),
        "released": ("message", uid_text(number)),
        "patient": ("patient", uid_text(patient)),
        "survivor": ("patient", uid_text(survivor)),
        "source": ("source", f"s{patient}"),
    }.get(case.held)
    if target is not None:
        ended = (2, "b", "ended") if case.held == "released" else (None, None, None)
        columns = ("kind", "target", "at", "actor", "reason", "released_at", "released_by", "release_reason")
        tx.insert("legal_hold", columns, [(*target, 1, "a", "a court asks", *ended)])
    if case.owes:
        content = ("offset", "length", "encoding", "content_type", "size", "sha1")
        row = (number, number, number, 0, 4, "base64", "application/pdf", 5, b"not these")
        tx.insert("binary_content", ("id", "resource_id", "message_id", *content), [row])
    if case.doubtful:
        columns = ("id", "kind", "fingerprint", "patient_id", "system", "value", "message_id", "state", "created_at")
        tx.insert("identity_case", columns, [(number, "INS_CHANGED", str(number).encode(), patient, "s", "v", number, "OPEN", 1)])
    return number


def test_every_state_age_delivery_and_hold(where, blobs):
    async def main():
        async with opened(where, blobs) as store:
            now = store.now_us()
            numbers = await store.write(lambda tx: {place_case(tx, case, now): case for case in CASES})
            done = await round_of(store, blobs)
            assert await left(store) == {number for number, case in numbers.items() if not case.goes}
            gone = [number for number, case in numbers.items() if case.goes]
            assert done.messages == len(gone) > 10
            for table, column in (("body", "message_id"), ("dedupe", "message_id"), ("delivery", "message_id")):
                rows = await store.read(lambda tx, t=table, c=column: tx.rows(f"SELECT {c} FROM {t}"))
                assert not {number for (number,) in rows} & set(gone)
            for table in ("attempt", "receipt"):
                rows = await store.read(lambda tx, t=table: tx.rows(f"SELECT delivery_id FROM {t}"))
                assert not {number - 1 for (number,) in rows} & set(gone)
            counted = await store.read(lambda tx: tx.row("SELECT sum(messages), sum(bytes) FROM pruned"))
            assert (int(counted[0]), int(counted[1])) == (done.messages, done.bytes)

    asyncio.run(main())


@given(
    st.dictionaries(st.sampled_from(ENDED), st.integers(0, 400)),
    st.dictionaries(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(ENDED)), st.integers(0, 400)),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(list(MessageState)),
    st.integers(0, 60),
)
def test_a_policy_never_keeps_shorter_than_it_says(ages, of_source, source, state, at_least):
    policy = Policy(ages, of_source, at_least)
    said = of_source.get((source, state), ages.get(state, 0))
    assert policy.age(source, state) == (max(said, at_least) if said and state in ENDED else None)
    age = policy.age(source, state)
    assert age is None or (policy.shortest is not None and policy.shortest <= age)


def test_a_failed_delivery_stays_while_another_waits_behind_it(where, blobs):
    """The next version of a document waits for a person to decide on the one that was given up."""

    async def main():
        async with opened(where, blobs) as store:
            now = store.now_us()
            first, second, third = (old(days) for days in (100, 99, 98))

            def job(tx: Transaction) -> None:
                for number in (first, second, third):
                    put(tx, number, "PARTIAL" if number != second else "SET_ASIDE")
                delivery(tx, first + 1, first, "DEAD", changed=1, document="D1")
                delivery(tx, second + 1, second, "WAITING", changed=1, follows="D1")
                delivery(tx, third + 1, third, "DEAD", changed=1, document="D2")

            await store.write(job)
            await round_of(store, blobs)
            assert await left(store) == {first, second}
            cancelled = "UPDATE delivery SET state = 'CANCELLED', updated_at = ? WHERE id = ?"
            await store.write(lambda tx: tx.run(cancelled, now - DAYS_90 * 2, second + 1))
            await round_of(store, blobs)
            assert await left(store) == set()

    asyncio.run(main())


def test_a_slice_ends_when_its_time_is_over_and_the_next_goes_on(where, blobs):
    async def main():
        async with opened(where, blobs) as store:
            numbers = [old(100) for _ in range(50)]
            await store.write(lambda tx: [put(tx, number) for number in numbers])
            candidates = [Candidate(number, "his", "DONE", 18) for number in sorted(numbers)]
            ticks = count(0)

            def part(tx: Transaction):
                return retention.prune(
                    tx, EVERYTHING, candidates, now=store.now_us(), owed=promotion.owing, clock_s=lambda: next(ticks) * 0.005
                )

            done = await store.write(part)
            assert done.messages == 2 * retention.TOGETHER and len(done.left) == 50 - 2 * retention.TOGETHER
            assert await store.read(retention.position) == sorted(numbers)[2 * retention.TOGETHER - 1]
            await round_of(store, blobs)  # another process goes on there, to the end
            assert await left(store) == set() and await store.read(retention.position) == 0

    asyncio.run(main())


def test_one_process_prunes_at_a_time_and_stops_when_it_lost_its_lease(where, blobs):
    async def main():
        async with opened(where, blobs) as store:
            await store.write(lambda tx: [put(tx, old(100)) for _ in range(40)])
            far = store.now_us() + DAY_US
            await store.write(lambda tx: leases.take(tx, ["job/pruning"], owner="other", now=store.now_us(), lease_until=far))
            assert await pruner(store, blobs).round() is None and len(await left(store)) == 40
            await store.write(lambda tx: leases.give_back(tx, ["job/pruning"], owner="other"))
            mine = pruner(store, blobs)

            async def stolen(_seconds: float) -> None:
                await store.write(lambda tx: tx.run("UPDATE job_lease SET owner = 'other'"))

            mine._rest = stolen
            await store.write(lambda tx: put(tx, old(95), body=os.urandom(100)))
            done = await mine.round()
            assert done is not None and not done.ended

    asyncio.run(main())


# ---- what the record keeps ----

SOURCES = """
[hub]
dedupe_window_days = 1
[[source]]
name = "labo"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["record"]
[retention]
done_days = 30
"""


def mdm(control: str, pdf: bytes, ipp: str = "900001") -> bytes:
    return (
        f"MSH|^~\\&|GAM|CHU-TEST|HUB|HUB|20261124080000||MDM^T02^MDM_T02|{control}|T|2.5^FRA^2.11|||||FRA|UNICODE UTF-8\r"
        "EVN||20261124080000\r"
        f"PID|1||{ipp}^^^CHU&1.2.250.1.999.1&ISO^PI||TESTUT^ZOE^^^^^L||19800102|F\r"
        "PV1|1|I\r"
        f"TXA|1|CR|AP|20261124080000||||||||{control}-DOC|||||AU\r"
        f"OBX|1|ED|18842-5^CRH^LN||^application^pdf^Base64^{b64encode(pdf).decode()}||||||F\r"
    ).encode()


async def age_all(store, days: float) -> None:
    """Make everything older, wherever a message is named."""
    shift = (int(days * DAY_US) // 1000) << 16
    named = (("message", "id"), ("body", "message_id"), ("dedupe", "message_id"), ("delivery", "message_id"))
    for table, column in (*named, ("binary_content", "message_id"), ("provenance", "message_id")):
        await store.write(lambda tx, t=table, c=column: tx.run(f"UPDATE {t} SET {c} = {c} - ?", shift))
    await store.write(lambda tx: tx.run("UPDATE delivery SET updated_at = updated_at - ?", int(days * DAY_US)))


VIEWER = Viewer(role="professional")


def binaries(tx: Transaction) -> dict[str, bytes]:
    """Every Binary as a reader gets it, by its id."""
    found = {}
    for (number,) in tx.rows("SELECT id FROM binary_content ORDER BY id"):
        one = read_binary(tx, uid_text(number), viewer=VIEWER, body_of=lambda message_id: body_of(tx, message_id))
        assert one is not None
        found[one.id] = one.data
    return found


@pytest.mark.parametrize("store_of", ["sqlite", "postgres"], indirect=True)
def test_documents_stay_to_the_byte_when_their_messages_go(running):
    pdfs = [b"%PDF-1.4 small", b"%PDF-1.4 " + os.urandom(150_000), b"%PDF-1.4 " + os.urandom(900_000), b""]

    async def main():
        async with running(SOURCES) as hub, hub.sender("labo") as labo:
            store = hub.hub.store
            for n, pdf in enumerate(pdfs[:3]):
                await labo.ask(mdm(f"M{n}", pdf))
            await hub.settled(3)
            before = await store.read(binaries)
            assert sorted(before.values()) == sorted(pdfs[:3])
            await hub.hub.prune()
            assert len(await left(store)) == 3  # nothing is old yet
            await age_all(store, 40)
            assert await store.read(binaries) == before
            (document,) = await hub.row("SELECT min(id) FROM resource WHERE type = 'DocumentReference'")
            await hub.hub.prune()
            assert await left(store) == set()
            assert await store.read(binaries) == before
            found = await hub.rows("SELECT promoted IS NOT NULL, promoted_blob IS NOT NULL FROM binary_content ORDER BY id")
            assert [tuple(map(bool, row)) for row in found] == [(True, False), (True, False), (False, True)]
            folder = hub.hub.installation.data_dir / "blobs"
            names = {path.name for path in folder.glob("?/*")}
            assert names == {hashlib.sha256(pdfs[2]).hexdigest()}  # the message's own large bodies are gone
            page = await store.read(
                lambda tx: search_provenance(tx, [f"DocumentReference/{uid_text(document)}"], viewer=VIEWER, count=5, after="")
            )
            entity = page.entries[0]["entity"][0]
            assert {"url": MESSAGE_PRUNED, "valueBoolean": True} in entity["extension"]
            assert entity["what"]["reference"].startswith("urn:uuid:")
            assert page.entries[0]["agent"][0]["who"]["display"] == "labo"
            assert any(part["url"].endswith("source-path") and part["valueString"] for part in entity["extension"])
            await hub.hub.count_pruned()
            text = hub.hub.metrics()[0].decode()
            assert 'vaguemestre_messages_pruned_total{source="labo",state="DONE"} 3.0' in text
            with open_side(hub.hub.installation.place, write=False) as side:  # a copy takes it along
                assert [bytes(sha256) for sha256, _ in side.bodies()] == [hashlib.sha256(pdfs[2]).digest()]

    asyncio.run(main())


@pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
def test_a_message_whose_document_cannot_be_read_is_not_pruned(running):
    async def main():
        async with running(SOURCES) as hub, hub.sender("labo") as labo:
            await labo.ask(mdm("M0", b"%PDF-1.4 one"))
            await labo.ask(mdm("M1", b"%PDF-1.4 two", ipp="900002"))
            await hub.settled(2)
            await age_all(hub.hub.store, 40)
            (first,) = await hub.row("SELECT min(id) FROM message")
            await hub.hub.store.write(lambda tx: tx.run("UPDATE body SET bytes = ? WHERE message_id = ?", b"torn", first))
            await hub.hub.prune()
            assert await left(hub.hub.store) == {first}

    asyncio.run(main())


# ---- large bodies and their names ----


async def arrive(store, blobs: BlobFolder, body: bytes, number: int, *, source: str = "his") -> int:
    """What the receiver does with a large message.

    Raises:
        BlobGoing: it was answered AR.
    """
    digest = hashlib.sha256(body).digest()
    await store.put_blob(digest, body)
    new = NewMessage(number, source, "1", "ADT^A01", f"C{number}", "GAM", "utf-8", body, digest, 1, in_file=True)
    kept = await store.write(lambda tx: keep(tx, [new], dedupe_since=0))
    return kept[0].message_id


async def end(store, number: int) -> None:
    await store.write(lambda tx: tx.run("UPDATE message SET state = 'DONE' WHERE id = ?", number))


def test_a_large_body_goes_after_its_last_name(where, blobs):
    body = os.urandom(LARGE)

    async def main():
        async with opened(where, blobs) as store:
            first, second = old(100), old(50)
            for number in (first, second):
                await arrive(store, blobs, body, number)
                await end(store, number)
            await round_of(store, blobs)
            assert await left(store) == {second}
            assert bytes(await store.read(lambda tx: body_of(tx, second))) == body
            done = await round_of(store, blobs, Policy(ages={MessageState.DONE: DAY_US}))
            assert done.bodies == 1 and not blobs.path(hashlib.sha256(body).digest()).exists()
            assert await store.read(lambda tx: tx.rows("SELECT * FROM blob_leaving")) == []

    asyncio.run(main())


def test_the_same_bytes_are_not_taken_while_they_are_being_removed(where, blobs):
    body = os.urandom(LARGE)
    digest = hashlib.sha256(body).digest()

    async def main():
        async with opened(where, blobs) as store:
            await arrive(store, blobs, body, old(100))
            await store.write(lambda tx: tx.run("DELETE FROM message"))
            await store.write(lambda tx: blob_names.unname(tx, [digest], store.now_us()))
            assert await store.write(lambda tx: blob_names.condemn(tx, digest, store.now_us()))
            blobs.remove(digest)  # and here the process dies
            with pytest.raises(BlobGoing):
                await arrive(store, blobs, body, old(0))
            await round_of(store, blobs)
            with pytest.raises(BlobGoing):  # somebody may still be at it
                await arrive(store, blobs, body, old(0))
            await store.write(lambda tx: tx.run("UPDATE blob_leaving SET at = 1"))
            await round_of(store, blobs)  # left lying for longer than a lease: another ends it
            number = await arrive(store, blobs, body, old(0))
            assert bytes(await store.read(lambda tx: body_of(tx, number))) == body

    asyncio.run(main())


def test_a_body_that_was_named_again_stays(where, blobs):
    body = os.urandom(LARGE)
    digest = hashlib.sha256(body).digest()

    async def main():
        async with opened(where, blobs) as store:
            await store.write(lambda tx: blob_names.unname(tx, [digest], store.now_us()))
            number = await arrive(store, blobs, body, old(0))
            await round_of(store, blobs)
            assert bytes(await store.read(lambda tx: body_of(tx, number))) == body

    asyncio.run(main())


def test_twins_that_arrive_while_their_like_are_pruned_keep_their_bytes(where, blobs):
    """What was taken can be read, at any moment, whatever the rounds remove meanwhile; what was not taken was told so."""
    body = os.urandom(LARGE)
    there: set[int] = set()

    async def senders(store, taken: Callable[[], None]) -> None:
        for _ in range(60):
            number = old(100)
            try:
                await arrive(store, blobs, body, number)
            except BlobGoing:
                continue
            taken()
            there.add(number)
            assert bytes(await store.read(lambda tx, n=number: body_of(tx, n))) == body
            await asyncio.sleep(0)
            there.discard(number)
            await end(store, number)

    async def main():
        n = count()
        async with opened(where, blobs) as store:
            sending = asyncio.gather(*(senders(store, lambda: next(n)) for _ in range(3)))
            removed = 0
            while not sending.done():
                removed += (await round_of(store, blobs)).bodies
                for number in list(there):
                    try:
                        read = bytes(await store.read(lambda tx, one=number: body_of(tx, one)))
                    except (KeyError, BlobDamaged):
                        assert number not in there, "a message that was taken lost its bytes"
                    else:
                        assert read == body
            await sending
            removed += (await round_of(store, blobs)).bodies
            assert await left(store) == set() and removed and next(n) > 60
            assert not blobs.path(hashlib.sha256(body).digest()).exists()

    asyncio.run(main())


# ---- killed in the middle ----


def _die_at(where: Place, blobs: BlobFolder, point: str, nth: int) -> None:
    """In a process of its own: a round that is killed."""
    crash_points.arm(point, nth, lambda: os.kill(os.getpid(), signal.SIGKILL))

    async def main():
        async with opened(where, blobs) as store:
            await pruner(store, blobs, owner=f"dies {point}").round()

    asyncio.run(main())


@pytest.mark.parametrize("point", ["after-prune", "after-promote", "after-remove", "after-commit"])
def test_a_round_that_is_killed_is_gone_on_with(where, blobs, point):
    """Nothing is counted twice, nothing of the record is lost, nothing that stays in the blob folder is nobody's."""
    pdf = os.urandom(LARGE)

    async def fill() -> None:
        async with opened(where, blobs) as store:
            for n in range(30):
                number = old(100)
                if n % 5:
                    await store.write(lambda tx, one=number: put(tx, one, kind=f"ADT^A0{one % 4}"))
                    continue
                data = pdf + bytes([n]) if n % 10 else b"%PDF" + bytes([n])
                raw = mdm(f"K{n}", data) + (b"NTE|1||" + os.urandom(8).hex().encode() * 40_000 if n == 20 else b"")
                if len(raw) > INLINE_BYTES:
                    await store.put_blob(hashlib.sha256(raw).digest(), raw)
                encoded = b64encode(data)
                row = (number, number, number, raw.index(encoded), len(encoded), "base64", "application/pdf", len(data))

                def job(tx: Transaction, one=number, raw=raw, row=row, data=data) -> None:
                    put(tx, one, body=raw)
                    columns = ("id", "resource_id", "message_id", "offset", "length", "encoding", "content_type", "size", "sha1")
                    tx.insert("binary_content", columns, [(*row, hashlib.sha1(data, usedforsecurity=False).digest())])

                await store.write(job)

    async def look() -> None:
        async with opened(where, blobs) as store:
            await store.write(lambda tx: tx.run("UPDATE job_lease SET lease_until = 1"))
            await store.write(lambda tx: tx.run("UPDATE blob_leaving SET at = 1"))
            await round_of(store, blobs)
            assert await left(store) == set()
            (counted,) = await store.read(lambda tx: tx.row("SELECT sum(messages) FROM pruned"))
            assert int(counted) == 30

            def documents(tx: Transaction) -> set[str]:
                named = set()
                for promoted, blob, size, digest in tx.rows("SELECT promoted, promoted_blob, size, sha1 FROM binary_content"):
                    data = bytes(promoted) if promoted is not None else tx.blob(bytes(blob))
                    assert len(data) == size and hashlib.sha1(data, usedforsecurity=False).digest() == bytes(digest)
                    if blob is not None:
                        named.add(bytes(blob).hex())
                return named

            named = await store.read(documents)
            assert len(named) == 3
            assert {path.name for path in (blobs.path(b"\0" * 32).parent.parent).glob("?/*")} == named

    asyncio.run(fill())
    for nth in (1, 2) if point != "after-commit" else (3, 5, 8):
        process = FORK.Process(target=_die_at, args=(where, blobs, point, nth), daemon=True)
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL or (nth not in (1, 3) and process.exitcode == 0)

        async def free() -> None:
            async with opened(where, blobs) as store:
                await store.write(lambda tx: tx.run("UPDATE job_lease SET lease_until = 1"))
                await store.write(lambda tx: tx.run("UPDATE blob_leaving SET at = 1"))

        asyncio.run(free())
    asyncio.run(look())


# ---- size and counts ----


def test_the_database_stops_growing(tmp_path, blobs, migrated_file):
    """Arrivals and rounds in turn: what is freed is used again, so the file has an end."""
    where = place_of("", base=tmp_path, default=migrated_file.copy(tmp_path / "hub.db"))

    async def main():
        sizes = []
        async with opened(where, blobs) as store:
            for _ in range(8):
                numbers = [old(100) for _ in range(400)]
                await store.write(lambda tx, ns=numbers: [put(tx, n, body=os.urandom(2_000)) for n in ns])
                await round_of(store, blobs)
                sizes.append((await store.read(lambda tx: tx.row("PRAGMA page_count")))[0])
            assert await left(store) == set()
        assert sizes[-1] <= sizes[1] * 1.1, sizes

    asyncio.run(main())


def test_totals_are_the_same_before_and_after(where, blobs):
    async def main():
        async with opened(where, blobs) as store:
            now = store.now_us()
            for n, (state, source) in enumerate(product(ENDED, ("his", "labo"))):
                for days in (10, 100, 101.5):
                    await store.write(
                        lambda tx, s=state, o=source, d=days, n=n: put(tx, old(d, now), s, source=o, kind=f"ADT^A0{n % 3}")
                    )

            def counted(tx: Transaction, since: int = 0):
                found = retention.totals(tx, since=since, until=now + DAY_US)
                return [{k: v for k, v in row.items() if k != "pruned"} for row in found], sum(row["pruned"] for row in found)

            before, none = await store.read(counted)
            done = await round_of(store, blobs)
            after, gone = await store.read(counted)
            assert (none, gone) == (0, done.messages) == (0, 24) and before == after
            rows = await store.read(lambda tx: retention.totals(tx, since=0, until=now + DAY_US, source="labo"))
            assert {row["source"] for row in rows} == {"labo"} and sum(row["messages"] for row in rows) == 18
            day = (now // DAY_US - 100) * DAY_US
            rows = await store.read(lambda tx: retention.totals(tx, since=day, until=day + DAY_US))
            assert sum(row["messages"] for row in rows) == 12

    asyncio.run(main())


# ---- holds ----


def test_holds_are_made_and_released_with_a_reason(where, blobs):
    async def main():
        async with opened(where, blobs) as store:
            number = old(100)
            await store.write(lambda tx: put(tx, number, source="his", patient=77))
            await store.write(lambda tx: put(tx, number + 5, source="labo", patient=78))
            uid = uid_text(number)

            def held(kind: str, target: str, reason: str = "a court asks for it"):
                return store.write(
                    lambda tx: holds.hold(tx, kind, target, actor="op", reason=reason, now=store.now_us(), sources={"new"})
                )

            def released(kind: str, target: str, reason: str = "the case is closed"):
                return store.write(lambda tx: holds.release(tx, kind, target, actor="op2", reason=reason, now=store.now_us()))

            for kind, target in (
                *(("message", "no uid"), ("message", uid_text(5)), ("patient", uid_text(99)), ("patient", "x")),
                *(("source", "nobody"), ("lane", "x")),
            ):
                with pytest.raises(NotFound):
                    await held(kind, target)
            for reason in ("", " no ", "x" * 301):
                with pytest.raises(NotPossible):
                    await held("message", uid, reason)
            assert await held("message", uid.upper()) == uid
            with pytest.raises(NotPossible):
                await held("message", uid)
            assert await held("source", "new") == "new" and await held("source", "his") == "his"
            columns = ("id", "birth_name", "birth_date", "sex", "status", "created_at")
            await store.write(lambda tx: tx.insert("patient", columns, [(78, "X", "", "F", "", 1)]))
            assert await held("patient", uid_text(78)) == uid_text(78)
            found = await store.read(lambda tx: holds.holds_of(tx, number))
            assert [(one["kind"], one["by"], one["reason"]) for one in found] == [
                ("message", "op", "a court asks for it"),
                ("source", "op", "a court asks for it"),
            ]
            await round_of(store, blobs)
            assert await left(store) == {number, number + 5}
            with pytest.raises(NotFound):
                await released("message", uid_text(number + 5))
            with pytest.raises(NotPossible):
                await released("message", uid, "")
            await released("message", uid)
            await round_of(store, blobs)
            assert await left(store) == {number, number + 5}  # its source is held as well
            await released("source", "his")
            await released("patient", uid_text(78))
            await round_of(store, blobs)
            assert await left(store) == set()
            assert await store.read(lambda tx: [one["target"] for one in holds.find_holds(tx)]) == ["new"]
            every = await store.read(lambda tx: holds.find_holds(tx, released=True))
            assert {one["released_by"] for one in every} == {None, "op2"} and len(every) == 4
            assert (await held("source", "his")) == "his"  # again, after a release

    asyncio.run(main())


# ---- configuration ----


def test_ages_come_from_the_configuration():
    document = {
        "hub": {"dedupe_window_days": 2},
        "retention": {"done_days": 90, "no_route_days": 1, "source": [{"name": "labo", "done_days": 0, "partial_days": 365}]},
    }
    policy = build(document, Path("x.toml")).configuration.retention.policy(2)
    assert policy.age("his", MessageState.DONE) == DAYS_90
    assert policy.age("his", MessageState.NO_ROUTE) == 2 * DAY_US + retention.KEY_MARGIN_US  # not before its key is forgotten
    assert policy.age("labo", MessageState.DONE) is None and policy.age("labo", MessageState.NO_ROUTE) is not None
    assert policy.age("labo", MessageState.PARTIAL) == 365 * DAY_US and policy.age("his", MessageState.PARTIAL) is None
    assert build({}, Path("x.toml")).configuration.retention.policy(30).shortest is None


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"done_days": -1}, "retention.done_days"),
        ({"done_days": "long"}, "retention.done_days"),
        ({"done_days": float("inf")}, "retention.done_days"),
        ({"done": 3}, "retention.done"),
        ({"source": [{"done_days": 3}]}, "retention.source[1].name"),
        ({"source": [{"name": "a"}, {"name": "a"}]}, "retention.source"),
        ({"source": [{"name": "a", "dayz": 1}]}, "retention.source[a].dayz"),
    ],
)
def test_mistakes_are_told_with_their_key(section, key):
    with pytest.raises(ConfigurationRefused) as refused:
        build({"retention": section}, Path("x.toml"))
    assert [mistake.key for mistake in refused.value.mistakes] == [key]
