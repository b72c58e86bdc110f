"""Folders as source and destination, in a running hub, on a real file system."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from prometheus_client import generate_latest

from adapters.folder.inbox import FolderInbox, FolderInboxOptions
from adapters.folder.outbox import FolderOutbox
from hub.app import polling
from hub.app.jobs import start_jobs
from hub.flow.files_in import FilesIn, FileSource
from hub.flow.files_out import FileDestination
from hub.flow.meters import Meters
from hub.formats.er7.batch import messages
from hub.model.ports import Answer
from hub.model.refusals import NoAnswer, PeerRefused, PeerUnavailable
from hub.model.site import Site
from tests import warm

ROOT = Path(__file__).resolve().parents[2]
SITE = Site("PFI-T", "HOPITAL-T", "test", ZoneInfo("Europe/Paris"), "utf-8")
only_sqlite = pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)

CONFIGURED = """
[[source]]
name = "drop"
kind = "folder"
path = "in"
settle_s = 0
poll_s = 0.2
routes = ["record"]
"""


def on_a_loop(test):
    """A test that is a coroutine."""

    @functools.wraps(test)
    def run(*arguments, **named):
        asyncio.run(test(*arguments, **named))

    return run


@pytest.fixture
def folder(tmp_path):
    """`put(name, bytes)` and what became of it."""

    class Folder:
        path = tmp_path / "hub" / "in"

        def put(self, name: str, body: bytes) -> None:
            part = self.path / f"{name}.part"
            part.write_bytes(body)
            part.rename(self.path / name)

        def names(self, below: str = "") -> list[str]:
            where = self.path / below
            return sorted(one.name for one in where.iterdir() if one.is_file()) if where.is_dir() else []

    made = Folder()
    made.path.mkdir(parents=True)
    return made


def source_of(hub, name="drop"):
    return next(source for source in hub.hub.sources if source.name == name)


@on_a_loop
async def test_files_become_messages_and_are_put_into_done(running, folder, make_adt):
    async with running(CONFIGURED) as hub:
        folder.put("b.hl7", make_adt("B1") + make_adt("B2", ipp="900002"))
        folder.put("a.hl7", make_adt("A1", ipp="900003").replace(b"\r", b"\r\n"))
        await source_of(hub).poll()
        found = await hub.settled(3)
    assert [(m["control_id"], m["state"], m["source"]) for m in reversed(found)] == [
        ("A1", "DONE", "drop"),
        ("B1", "DONE", "drop"),
        ("B2", "DONE", "drop"),
    ]
    assert (folder.names(), folder.names("done"), folder.names(".claimed")) == ([], ["a.hl7", "b.hl7"], [])


@on_a_loop
async def test_the_clock_of_the_hub_polls(running, folder, make_adt):
    async with running(CONFIGURED) as hub:
        jobs = start_jobs(hub.hub)
        try:
            folder.put("a.hl7", make_adt("A1"))
            await hub.settled(1)
        finally:
            jobs.shutdown(wait=False)


@only_sqlite
@on_a_loop
async def test_a_refused_message_puts_its_file_aside_with_the_reason(running, folder, make_adt, read_msa):
    async with running(CONFIGURED) as hub:
        folder.put("a.hl7", make_adt("A1") + make_adt("A2").replace(b"|2.5^FRA^2.11|", b"|9.9|"))
        await source_of(hub).poll()
        found = await hub.settled(2)
    assert {m["control_id"]: m["state"] for m in found} == {"A1": "DONE", "A2": "REFUSED"}
    assert folder.names("failed") == ["a.hl7", "a.hl7.ack"]
    told = (folder.path / "failed" / "a.hl7.ack").read_bytes()
    assert [read_msa(one) for one in messages([told])] == [("AA", "A1"), ("AE", "A2")]
    assert b"ERR||MSH^1^12|203" in told


@only_sqlite
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"%PDF-1.7 nothing of ours", b"segment 1: belongs to no message"),
        (b"BHS|^~\\&|A\r{adt}", b"has no BTS: the file may be cut"),
        (b"{adt}BTS|1\r", b"BTS closes nothing"),
        (b"<ADT_A01 xmlns='urn:hl7-org:v2xml'>", b"not well-formed XML"),
    ],
)
@on_a_loop
async def test_what_is_no_file_of_messages_is_put_aside_and_nothing_of_it_is_taken(running, folder, make_adt, body, reason):
    async with running(CONFIGURED) as hub:
        folder.put("a.hl7", body.replace(b"{adt}", make_adt("A1")))
        await source_of(hub).poll()
        assert await hub.messages() == []
    assert folder.names("failed") == ["a.hl7", "a.hl7.ack"]
    told = (folder.path / "failed" / "a.hl7.ack").read_bytes()
    assert b"MSA|AE|" in told
    assert reason in told


@only_sqlite
@on_a_loop
async def test_answers_are_files_too_and_an_earlier_file_of_the_same_name_stays(running, folder, make_adt, read_msa):
    async with running(CONFIGURED + 'answers = "acks"\n') as hub:
        for control in ("A1", "A2"):
            folder.put("a.hl7", make_adt(control))
            await source_of(hub).poll()
            answer = folder.path.parent / "acks" / "a.hl7.ack"
            assert read_msa(answer.read_bytes()) == ("AA", control)
        await hub.settled(2)
    done = folder.names("done")
    assert len(done) == 2
    assert done[-1] == "a.hl7" or done[0] == "a.hl7"
    assert all(name.endswith("a.hl7") for name in done)


@only_sqlite
@on_a_loop
async def test_a_message_in_xml_is_kept_as_er7_and_answered_in_xml(running, folder):
    xml = b"""<ADT_A01 xmlns="urn:hl7-org:v2xml"><MSH><MSH.3><HD.1>GAM</HD.1></MSH.3><MSH.9><MSG.1>ADT</MSG.1><MSG.2>A01</MSG.2>
      <MSG.3>ADT_A01</MSG.3></MSH.9><MSH.10>X1</MSH.10><MSH.11><PT.1>T</PT.1></MSH.11><MSH.12><VID.1>2.5</VID.1><VID.2>
      <CE.1>FRA</CE.1></VID.2><VID.3><CE.1>2.11</CE.1></VID.3></MSH.12></MSH><EVN><EVN.2><TS.1>20261124080000</TS.1></EVN.2></EVN>
      <PID><PID.3><CX.1>900001</CX.1><CX.4><HD.1>CHU</HD.1><HD.2>1.2.250.1.999.1</HD.2><HD.3>ISO</HD.3></CX.4><CX.5>PI</CX.5></PID.3>
      <PID.5><XPN.1><FN.1>TESTUT</FN.1></XPN.1><XPN.2>ZOE</XPN.2><XPN.7>L</XPN.7></PID.5><PID.7><TS.1>19800102</TS.1></PID.7>
      <PID.8>F</PID.8><PID.32>PROV</PID.32></PID><PV1><PV1.2>N</PV1.2></PV1></ADT_A01>"""
    async with running(CONFIGURED + 'answers = "acks"\n') as hub:
        folder.put("a.hl7", xml)
        await source_of(hub).poll()
        (found,) = await hub.settled(1)
        body = await hub.row("SELECT bytes FROM body")
    assert (found["control_id"], found["ack"]["code"]) == ("X1", "AA")
    assert bytes(body[0]).startswith(b"MSH|^~\\&|GAM||||||ADT^A01^ADT_A01|X1|T|2.5^FRA^2.11||||||UNICODE UTF-8\r")
    answer = (folder.path.parent / "acks" / "a.hl7.ack").read_bytes()
    assert b"<MSA.1>AA</MSA.1><MSA.2>X1</MSA.2>" in answer
    assert answer.startswith(b"<?xml")


# ---- a source by itself ------------------------------------------------------------------------------------------------


class Taker:
    """A hub that answers as told."""

    def __init__(self, code="AA"):
        self.code, self.got = code, []

    def __call__(self, body, origin, reply):
        self.got.append(body)
        assert (origin.source, origin.connection) == ("drop", "files")
        code = self.code(body) if callable(self.code) else self.code
        reply(Answer(b"MSH|^~\\&|H\rMSA|%b|\r" % code.encode(), code=code))


def inbox_of(path: Path, **more) -> FolderInbox:
    settings = {"done": path / "done", "failed": path / "failed", "answers": None, "owner": "me"} | more
    return FolderInbox(FolderInboxOptions(path, **settings))


def lone(path: Path, taker: Taker, *, owner: str = "me", **more) -> FileSource:
    return FileSource(FilesIn("drop", **{"settle_s": 0, **more}), inbox_of(path, owner=owner), taker, SITE, Meters(), poll_s=1)


def adts(make_adt, *controls: str) -> list[bytes]:
    return [make_adt(control) for control in controls]


@on_a_loop
async def test_a_file_that_grows_or_is_a_part_is_left_alone(tmp_path, make_adt):
    taker = Taker()
    source = lone(tmp_path, taker, settle_s=0.3)
    await source.start()
    (tmp_path / "half.hl7").write_bytes(make_adt("A1")[:100])
    (tmp_path / "other.hl7.part").write_bytes(make_adt("A2"))
    (tmp_path / "empty.hl7").touch()
    await source.poll()
    assert taker.got == []
    (tmp_path / "half.hl7").write_bytes(make_adt("A1"))
    await source.poll()
    assert taker.got == []
    (tmp_path / "other.hl7.part").rename(tmp_path / "other.hl7")
    await source.poll()
    assert taker.got == [make_adt("A2")]  # it was a part: whole at once
    await asyncio.sleep(0.35)
    await source.poll()
    assert taker.got == [make_adt("A2"), make_adt("A1")]
    assert (tmp_path / "empty.hl7").exists()
    await source.drain(1)


@on_a_loop
async def test_a_message_that_cannot_be_kept_now_holds_the_files_behind_it(tmp_path, make_adt):
    taker = Taker("AR")
    source = lone(tmp_path, taker)
    await source.start()
    for name in "abc":
        (tmp_path / f"{name}.hl7").write_bytes(make_adt(name))
    await source.poll()
    assert taker.got == [make_adt("a")]
    await source.poll()
    assert taker.got == [make_adt("a")] * 2
    taker.code, taker.got = "AA", []
    await source.poll()
    assert taker.got == adts(make_adt, "a", "b", "c")
    assert sorted(os.listdir(tmp_path / "done")) == ["a.hl7", "b.hl7", "c.hl7"]


@on_a_loop
async def test_two_that_poll_one_folder_never_take_one_file_both(tmp_path, make_adt):
    takers = [Taker(), Taker()]
    sources = [lone(tmp_path, taker, owner=f"o{n}") for n, taker in enumerate(takers)]
    for n in range(300):
        (tmp_path / f"{n:03}.hl7").write_bytes(make_adt(f"C{n}"))
    for source in sources:
        await source.start()
    await asyncio.gather(*(source.poll() for source in sources))
    both = takers[0].got + takers[1].got
    assert sorted(both) == sorted(make_adt(f"C{n}") for n in range(300))
    assert all(taker.got for taker in takers)


@on_a_loop
async def test_what_a_dead_process_of_this_hub_had_claimed_is_taken_first_and_what_another_hub_has_is_not(tmp_path, make_adt):
    inbox = inbox_of(tmp_path)
    inbox.prepare()
    for name in ("z.hl7", "b.hl7"):
        (tmp_path / name).write_bytes(make_adt(name[0]))
        assert inbox.claim(name) is not None
    other = inbox_of(tmp_path, owner="you")
    (tmp_path / "y.hl7").write_bytes(make_adt("y"))
    assert other.claim("y.hl7") is not None
    (tmp_path / "a.hl7").write_bytes(make_adt("a"))
    taker = Taker()
    source = lone(tmp_path, taker)
    await source.start()
    await source.poll()
    assert taker.got == adts(make_adt, "b", "z", "a")
    assert [name.partition("~")[2] for name in os.listdir(tmp_path / ".claimed")] == ["y.hl7"]


@on_a_loop
async def test_odd_names_and_links_are_left_alone_and_not_named_in_the_log(tmp_path, make_adt, capfd, monkeypatch):
    outside = tmp_path / "outside.hl7"
    outside.write_bytes(make_adt("OUT"))
    path = tmp_path / "in"
    path.mkdir()
    (path / "link.hl7").symlink_to(outside)
    (path / "new\nMARQUETEST.hl7").write_bytes(make_adt("A1"))
    (path / ("n" * 200 + ".hl7")).write_bytes(make_adt("A2"))
    Path(os.fsdecode(os.fsencode(path) + b"/\xff.hl7")).write_bytes(make_adt("A3"))
    os.mkfifo(path / "pipe.hl7")
    (path / "folder.hl7").mkdir()
    told = []
    monkeypatch.setattr("hub.model.log.event", lambda name, **fields: told.append((name, fields)))
    taker = Taker()
    source = lone(path, taker)
    await source.start()
    await source.poll()
    await source.poll()
    assert taker.got == []
    left = [fields for name, fields in told if name == "files.left_alone"]
    assert [(f["reason"], f["count"]) for f in left] == [("odd name or no plain file", 5)]
    assert "MARQUETEST" not in repr(told)
    assert outside.exists()


@on_a_loop
async def test_a_link_that_took_the_place_of_a_claimed_file_is_not_followed(tmp_path, make_adt):
    path = tmp_path / "in"
    path.mkdir()
    inbox = inbox_of(path)
    inbox.prepare()
    (tmp_path / "outside.hl7").write_bytes(make_adt("OUT"))
    (path / ".claimed" / "me.1~a.hl7").symlink_to(tmp_path / "outside.hl7")
    taker = Taker()
    source = lone(path, taker)
    await source.start()
    await source.poll()
    assert taker.got == []
    assert (tmp_path / "outside.hl7").exists()
    assert (path / "failed" / "a.hl7").is_symlink()


@on_a_loop
async def test_a_file_that_is_too_large_is_put_aside_unread(tmp_path, make_adt):
    (tmp_path / "a.hl7").write_bytes(make_adt("A1") * 5)
    taker = Taker()
    source = lone(tmp_path, taker, max_file_bytes=1000)
    await source.start()
    await source.poll()
    assert taker.got == []
    assert b"larger than 1000 bytes" in (tmp_path / "failed" / "a.hl7.ack").read_bytes()


@on_a_loop
async def test_a_folder_that_goes_and_comes_back(tmp_path, make_adt, monkeypatch):
    told = []
    monkeypatch.setattr("hub.model.log.event", lambda name, **fields: told.append(name))
    path, taker, meters = tmp_path / "in", Taker(), Meters()
    source = FileSource(FilesIn("drop", settle_s=0), inbox_of(path), taker, SITE, meters, poll_s=1)
    await source.start()
    await source.poll()
    assert b'vaguemestre_source_down{source="drop"} 1.0' in generate_latest(meters.registry)
    path.mkdir()
    (path / "a.hl7").write_bytes(make_adt("A1"))
    await source.poll()
    assert taker.got == [make_adt("A1")]
    assert [name for name in told if name.startswith("files.")] == ["files.unreachable", "files.reached"]
    said = generate_latest(meters.registry)
    assert b'vaguemestre_source_down{source="drop"} 0.0' in said
    assert b'vaguemestre_files_total{end="done",source="drop"} 1.0' in said


@on_a_loop
async def test_files_that_need_not_be_kept_are_deleted(tmp_path, make_adt):
    (tmp_path / "a.hl7").write_bytes(make_adt("A1"))
    source = FileSource(FilesIn("drop", settle_s=0), inbox_of(tmp_path, done=None), Taker(), SITE, Meters(), poll_s=1)
    await source.start()
    await source.poll()
    assert [one.name for one in tmp_path.rglob("*") if one.is_file()] == []


@on_a_loop
async def test_drain_ends_the_file_in_hand_and_takes_no_other(tmp_path, make_adt):
    for n in range(50):
        (tmp_path / f"{n:02}.hl7").write_bytes(make_adt(f"C{n}"))
    held: list = []
    source = FileSource(
        FilesIn("drop", settle_s=0), inbox_of(tmp_path), lambda body, origin, reply: held.append(reply), SITE, Meters(), poll_s=1
    )
    await source.start()
    polling = asyncio.create_task(source.poll())
    while not held:
        await asyncio.sleep(0.01)
    polling.cancel()
    draining = asyncio.create_task(source.drain(5))
    await asyncio.sleep(0.05)
    held[0](Answer(b"", code="AA"))
    await draining
    assert len(held) == 1
    assert os.listdir(tmp_path / "done") == ["00.hl7"]
    assert os.listdir(tmp_path / ".claimed") == []


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@only_sqlite
@on_a_loop
async def test_no_name_of_a_file_and_no_value_of_a_message_is_logged(running, folder, make_adt, capfd):
    async with running(CONFIGURED) as hub:
        marked = make_adt("A1").replace(b"TESTUT", b"MARQUETEST")
        folder.put("MARQUETEST-1.hl7", marked)
        folder.put("MARQUETEST-2.hl7", marked.replace(b"|2.5^FRA^2.11|", b"|9.9|"))
        folder.put("MARQUETEST-3.hl7", b"MARQUETEST|" + marked)
        await source_of(hub).poll()
        await hub.settled(2)
        folder.put("MARQUETEST-4.hl7", marked)
        source_of(hub)._inbox.claim = lambda file: Path("/nowhere", file).read_bytes()  # a mistake of ours
        await source_of(hub).poll()
    assert folder.names("failed") == [f"MARQUETEST-{n}.hl7{end}" for n in (2, 3) for end in ("", ".ack")]
    written = "".join(capfd.readouterr())
    assert "files.refused" in written and "files.poll_failed" in written and "FileNotFoundError" in written
    assert "MARQUETEST" not in written
    assert b"MARQUETEST" not in b"".join((folder.path / "failed" / f"MARQUETEST-{n}.hl7.ack").read_bytes() for n in (2, 3))
    assert b"MARQUETEST" not in hub.hub.metrics()[0]


FILES = 100_000 if os.environ.get("VAGUEMESTRE_FAULTS") == "full" else 3000


@pytest.mark.timeout(600)
@on_a_loop
async def test_a_folder_with_very_many_files(tmp_path, make_adt, monkeypatch):
    """Memory is that of a slice, the event loop keeps its pace, and the order is that of the names."""
    monkeypatch.setattr("hub.flow.files_seen.AT_ONCE", min(10_000, FILES // 3))
    body = make_adt("C")
    for n in range(FILES):
        (tmp_path / f"{n:06}.hl7").write_bytes(body.replace(b"|C|", b"|C%06d|" % n))
    last, count = [b""], [0]

    def taker(message, origin, reply):
        assert message > last[0]
        last[0] = message
        count[0] += 1
        reply(Answer(b"", code="AA"))

    source = FileSource(FilesIn("drop", settle_s=0), inbox_of(tmp_path), taker, SITE, Meters(), poll_s=1)
    await source.start()
    memory = resident_bytes()
    polling = asyncio.create_task(source.poll())
    longest, before = 0.0, time.perf_counter()
    while not polling.done():
        await asyncio.sleep(0.005)
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    await polling
    assert count[0] == FILES
    assert longest < 0.5
    assert resident_bytes() - memory < 60 << 20
    assert len(os.listdir(tmp_path / "done")) == FILES


@only_sqlite
def test_killed_between_keeping_and_putting_aside_nothing_comes_twice(tmp_path, make_adt, store_of):
    """The messages are kept, the file is still claimed: the next start takes it again and finds them there."""
    home = tmp_path / "hub"
    (home / "in").mkdir(parents=True)
    file = home / "vaguemestre.toml"
    file.write_text('[hub]\ndata_dir = "data"\n[web]\nlisten = "127.0.0.1:0"\n' + CONFIGURED, encoding="utf-8")
    (home / "in" / "a.hl7").write_bytes(make_adt("A1") + make_adt("A2", ipp="900002"))

    def start(**more: str) -> warm.Process | subprocess.Popen:
        return warm.start("run", "--config", file, stderr=subprocess.DEVNULL, env=more)

    first = start(VAGUEMESTRE_CRASH_AT="before-file-end:1")
    assert first.wait(30) == -signal.SIGKILL
    assert [name.partition("~")[2] for name in os.listdir(home / "in" / ".claimed")] == ["a.hl7"]
    second = start()
    try:
        end = time.monotonic() + 30
        while not (home / "in" / "done" / "a.hl7").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        second.send_signal(signal.SIGTERM)
        assert second.wait(15) == 0
    with sqlite3.connect(home / "data" / "vaguemestre.db") as database:
        assert database.execute("SELECT control_id, state FROM message ORDER BY control_id").fetchall() == [
            ("A1", "DONE"),
            ("A2", "DONE"),
        ]


# ---- out ---------------------------------------------------------------------------------------------------------------

OUT = """
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["drop-out"]

[[destination]]
name = "drop-out"
kind = "folder"
path = "out"
{more}
[destination.retry]
base_s = 0.05
probe_s = 0.1
"""


@on_a_loop
async def test_deliveries_become_files_named_after_them(running, tmp_path, make_adt):
    out = tmp_path / "hub" / "out"
    out.mkdir(parents=True)
    async with running(OUT.format(more="")) as hub, hub.sender() as sender:
        for n in range(3):
            await sender.ask(make_adt(f"../../{n}", ipp=f"90000{n}").replace(b"\r", b"\n"))
        found = await hub.settled(3)
    names = {m["control_id"]: f"{m['deliveries'][0]['id']}.hl7" for m in found}
    assert sorted(os.listdir(out)) == sorted(names.values())
    assert (out / names["../../1"]).read_bytes() == make_adt("../../1", ipp="900001")
    assert {m["deliveries"][0]["external_ref"] for m in found} == set(names.values())


@only_sqlite
@on_a_loop
async def test_deliveries_that_leave_together_share_a_batch(running, tmp_path, make_adt):
    out = tmp_path / "hub" / "out"
    out.mkdir(parents=True)
    async with running(OUT.format(more="batch_size = 4\nbatch_wait_s = 0.3")) as hub, hub.sender() as sender:
        for n in range(6):
            await sender.ask(make_adt(f"C{n}", ipp=f"90000{n}"))
        await hub.settled(6)
    bodies = [(out / name).read_bytes() for name in sorted(os.listdir(out))]
    assert len(bodies) < 6
    assert all(body.startswith(b"FHS|") and body.endswith(b"\rFTS|1\r") for body in bodies)
    found = [one for body in bodies for one in messages([body])]
    assert sorted(found) == sorted(make_adt(f"C{n}", ipp=f"90000{n}") for n in range(6))


@only_sqlite
@on_a_loop
async def test_a_folder_that_is_not_mounted_holds_its_deliveries(running, tmp_path, make_adt):
    async with running(OUT.format(more="")) as hub, hub.sender() as sender:
        await sender.ask(make_adt("A1"))
        await hub.until(lambda found: found and found[0]["deliveries"] and found[0]["deliveries"][0]["last_error"] is not None)
        (tmp_path / "hub" / "out").mkdir()
        (found,) = await hub.settled(1)
    assert found["deliveries"][0]["state"] == "DELIVERED"
    assert len(os.listdir(tmp_path / "hub" / "out")) == 1


def test_a_file_that_is_there_already_is_this_delivery_sent_before(tmp_path):
    outbox = FolderOutbox(tmp_path)
    outbox.put("a.hl7", b"whole", unsure=False)
    (tmp_path / "a.hl7").chmod(0o400)
    outbox.put("a.hl7", b"whole", unsure=False)
    with pytest.raises(PeerRefused):
        outbox.put("a.hl7", b"of another size", unsure=False)
    assert os.listdir(tmp_path) == ["a.hl7"]
    assert (tmp_path / "a.hl7").read_bytes() == b"whole"


@pytest.mark.parametrize("number", ["ENOSPC", "EACCES", "EROFS"])
def test_a_disk_that_does_not_take_it_is_unavailable_and_leaves_nothing_behind(tmp_path, monkeypatch, number):
    def fails(_fd):
        raise OSError(getattr(errno, number), "secret-name.hl7")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(PeerUnavailable, match=number) as raised:
        FolderOutbox(tmp_path).put("a.hl7", b"whole", unsure=False)
    assert "secret" not in raised.value.sentence
    assert os.listdir(tmp_path) == []


class Doubtful:
    """A place whose first answer is lost; `took` says whether the file arrived all the same."""

    def __init__(self) -> None:
        self.puts: list[tuple[str, bytes, bool]] = []

    def put(self, name, body, *, unsure):
        self.puts.append((name, body, unsure))
        if len(self.puts) == 1:
            raise NoAnswer("gone")

    def probe(self): ...
    def close(self): ...


@on_a_loop
async def test_after_no_answer_the_same_batch_is_asked_about_for_each_of_its_deliveries():
    place = Doubtful()
    destination = FileDestination("out", place, SITE, batch_size=2, batch_wait_s=5)
    both = [destination.send(b"MSH|%d\r" % n, delivery_id=n, control_id="") for n in (1, 2)]
    assert [type(one) for one in await asyncio.gather(*both, return_exceptions=True)] == [NoAnswer, NoAnswer]
    first = await destination.send(b"MSH|1\r", delivery_id=1, control_id="")
    second = await destination.send(b"MSH|2\r", delivery_id=2, control_id="")
    assert first == second
    assert [(name, unsure) for name, _, unsure in place.puts] == [(first.external_ref, False), (first.external_ref, True)]
    assert place.puts[0][1] == place.puts[1][1]
    await destination.close()
    with pytest.raises(PeerUnavailable):
        await destination.send(b"MSH|3\r", delivery_id=3, control_id="")


# ---- several processes on one store --------------------------------------------------------------------------------------


@pytest.mark.parametrize("store_of", ["postgres"], indirect=True)
@on_a_loop
async def test_one_process_at_a_time_looks_and_another_takes_over_what_a_dead_one_had_claimed(
    running, folder, make_adt, monkeypatch
):
    monkeypatch.setattr(polling, "LEASE_S", 0.6)
    async with running(CONFIGURED) as one, running(CONFIGURED) as other:
        dead = polling._Turn(one.hub, "drop")
        assert await dead.take()
        folder.put("a.hl7", make_adt("A1"))
        folder.put("b.hl7", make_adt("B1", ipp="900002"))
        assert source_of(one)._inbox.claim("b.hl7") is not None  # and then it was seen no more
        await polling.poll(other.hub, "drop")
        assert await other.messages() == []
        await asyncio.sleep(0.7)
        assert not dead.lasts()
        await polling.poll(other.hub, "drop")
        found = await other.settled(2)
        assert [m["control_id"] for m in reversed(found)] == ["B1", "A1"]  # what was claimed comes first
        assert await dead.take()  # the turn was given back
        assert (folder.names("done"), folder.names(".claimed")) == (["a.hl7", "b.hl7"], [])
