"""SFTP as source and destination, against a real OpenSSH server."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import threading
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from adapters.sftp.inbox import SftpInbox, SftpInboxOptions
from adapters.sftp.keys import checked
from adapters.sftp.options import SftpLogin
from adapters.sftp.outbox import SftpOutbox
from adapters.sftp.session import UNSUPPORTED, ServerSaid
from bench import sftp_server
from hub.flow.files_in import FilesIn, FileSource
from hub.flow.files_out import FileDestination
from hub.flow.meters import Meters
from hub.model.ports import Answer
from hub.model.refusals import Misconfigured, NoAnswer, PeerRefused, PeerUnavailable
from hub.model.site import Site

SITE = Site("PFI-T", "HOPITAL-T", "test", ZoneInfo("Europe/Paris"), "utf-8")
only_sqlite = pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)


def on_a_loop(test):
    """A test that is a coroutine."""

    @functools.wraps(test)
    def run(*arguments, **named):
        asyncio.run(test(*arguments, **named))

    return run


@pytest.fixture
def server(tmp_path):
    if not sftp_server.SftpServer.available():
        if os.environ.get("VAGUEMESTRE_REQUIRE_SERVICES") == "1":
            pytest.fail("openssh-server is not installed, and VAGUEMESTRE_REQUIRE_SERVICES=1", pytrace=False)
        pytest.skip("openssh-server is not installed")
    folder = tmp_path / "ssh"
    folder.mkdir()
    with sftp_server.SftpServer(folder) as made:
        yield made


@pytest.fixture
def line(server):
    made = sftp_server.Line(server.port)
    server.know(made.port)
    yield made
    made.close()


def login_of(server, port: int = 0, **more) -> SftpLogin:
    settings = {"key_file": str(server.key), "answer_timeout_s": 5} | more
    return SftpLogin("127.0.0.1", port or server.port, server.user, str(server.known), **settings)


def section(server, kind: str, *more: str, port: int = 0) -> str:
    return "\n".join(
        (
            f"[[{kind}]]",
            'kind = "sftp"',
            f'host = "127.0.0.1:{port or server.port}"',
            f'user = "{server.user}"',
            f'key_file = "{server.key}"',
            f'host_keys_file = "{server.known}"',
            f'path = "{server.path}/"',
            *more,
            "",
        )
    )


# ---- in ----------------------------------------------------------------------------------------------------------------


@only_sqlite
@on_a_loop
async def test_files_become_messages_and_are_put_into_done(running, server, make_adt):
    async with running(section(server, "source", 'name = "labo"', "settle_s = 0", 'routes = ["record"]')) as hub:
        (server.files / "b.hl7").write_bytes(make_adt("B1") + make_adt("B2", ipp="900002"))
        (server.files / "a.hl7").write_bytes(make_adt("A1", ipp="900003"))
        await hub.hub.sources[0].poll()
        found = await hub.settled(3)
    assert [(m["control_id"], m["state"]) for m in reversed(found)] == [("A1", "DONE"), ("B1", "DONE"), ("B2", "DONE")]
    assert sorted(os.listdir(server.files / "done")) == ["a.hl7", "b.hl7"]


class Taker:
    def __init__(self, code="AA"):
        self.code, self.got = code, []

    def __call__(self, body, origin, reply):
        self.got.append(body)
        reply(Answer(b"MSH|^~\\&|H\rMSA|%b|\r" % self.code.encode(), code=self.code))


def lone(server, taker, tmp_path, *, port: int = 0, owner: str = "me", done: str | None = None, **more) -> FileSource:
    options = SftpInboxOptions(
        server.path,
        done=f"{server.path}/done" if done is None else done,
        failed=f"{server.path}/failed",
        answers=f"{server.path}/acks",
        owner=owner,
        scratch=str(tmp_path),
    )
    inbox = SftpInbox(login_of(server, port, **more), options)
    return FileSource(FilesIn("labo", settle_s=0, answers=True), inbox, taker, SITE, Meters(), poll_s=1)


@pytest.fixture
def told(monkeypatch):
    found: list = []
    monkeypatch.setattr("hub.model.log.event", lambda name, **fields: found.append((name, fields)))
    return found


@on_a_loop
async def test_a_file_is_answered_refused_or_put_off_as_the_hub_says(server, tmp_path, make_adt):
    taker = Taker("AE")
    source = lone(server, taker, tmp_path)
    await source.start()
    (server.files / "a.hl7").write_bytes(make_adt("A1"))
    await source.poll()
    assert sorted(os.listdir(server.files / "failed")) == ["a.hl7", "a.hl7.ack"]
    assert (server.files / "acks" / "a.hl7.ack").read_bytes().endswith(b"MSA|AE|\r")
    taker.code = "AR"
    (server.files / "b.hl7").write_bytes(make_adt("B1"))
    await source.poll()
    assert not (server.files / "done" / "b.hl7").exists()
    taker.code = "AA"
    await source.poll()
    assert (server.files / "done" / "b.hl7").exists()
    assert os.listdir(server.files / ".claimed") == []
    await source.drain(1)


@on_a_loop
async def test_a_name_that_is_no_utf_8_hides_no_other_file_and_links_are_not_followed(server, tmp_path, make_adt, told):
    (tmp_path / "outside.hl7").write_bytes(make_adt("OUT"))
    (server.files / "link.hl7").symlink_to(tmp_path / "outside.hl7")
    Path(os.fsdecode(os.fsencode(server.files) + b"/\xff.hl7")).write_bytes(make_adt("BAD"))
    (server.files / "new\nline.hl7").write_bytes(make_adt("BAD"))
    (server.files / "good.hl7").write_bytes(make_adt("A1"))
    taker = Taker()
    source = lone(server, taker, tmp_path)
    await source.start()
    await source.poll()
    assert taker.got == [make_adt("A1")]
    assert [f["count"] for name, f in told if name == "files.left_alone"] == [3]


@on_a_loop
async def test_two_that_poll_one_folder_never_take_one_file_both(server, tmp_path, make_adt):
    takers = [Taker(), Taker()]
    sources = [lone(server, taker, tmp_path, owner=f"o{n}") for n, taker in enumerate(takers)]
    wanted = [make_adt(f"C{n}") for n in range(40)]
    for n, body in enumerate(wanted):
        (server.files / f"{n:02}.hl7").write_bytes(body)
    for source in sources:
        await source.start()
    await asyncio.gather(*(source.poll() for source in sources))
    assert sorted(takers[0].got + takers[1].got) == sorted(wanted)


@on_a_loop
async def test_another_host_key_is_not_talked_to_and_loudly_so(server, tmp_path, make_adt, told):
    (server.files / "a.hl7").write_bytes(make_adt("A1"))
    server.stop()
    server.new_host_key()
    server.start()
    taker = Taker()
    source = lone(server, taker, tmp_path)
    await source.start()
    await source.poll()
    await source.poll()
    assert taker.got == []
    (said,) = [fields for name, fields in told if name == "files.unreachable"]
    assert said["level"] == "warning"
    assert "another host key than host_keys_file names" in said["reason"]
    server.known.unlink()
    server.know(server.port)
    await source.poll()
    assert taker.got == [make_adt("A1")]


def test_a_server_without_a_pinned_key_and_files_that_do_not_serve_are_mistakes(server, tmp_path):
    checked(login_of(server))
    with pytest.raises(Misconfigured, match=r"holds no key of \[127.0.0.1\]:1: ssh-keyscan"):
        checked(login_of(server, 1))
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("no key", encoding="ascii")
    with pytest.raises(Misconfigured, match="is not a private key"):
        checked(login_of(server, key_file=str(nonsense)))


def test_a_user_who_is_not_let_in(server, tmp_path):
    stranger = tmp_path / "stranger"
    sftp_server._keygen(stranger)
    with pytest.raises(PeerUnavailable, match="does not let this user in"):
        SftpOutbox(login_of(server, key_file=str(stranger)), server.path).probe()


@on_a_loop
async def test_a_server_that_vanishes_while_a_file_is_read(server, line, tmp_path, make_adt, told):
    whole = b"".join(make_adt(f"C{n}") for n in range(1000))
    (server.files / "a.hl7").write_bytes(whole)
    taker = Taker()
    source = lone(server, taker, tmp_path, port=line.port)
    await source.start()
    for _ in range(20):  # every time a little later
        line.cut_after = 200 + 60 * _
        await source.poll()
    line.cut_after = None
    await source.poll()
    await source.poll()
    assert [name for name, _ in told].count("files.unreachable") >= 1
    assert len(set(taker.got)) == 1000
    assert os.listdir(server.files / "done") == ["a.hl7"]
    assert os.listdir(server.files / ".claimed") == []
    assert [name for name in os.listdir(tmp_path) if name not in ("ssh",)] == []  # nothing is left here either


@on_a_loop
async def test_a_server_that_says_nothing_any_more_does_not_hold_the_source_for_ever(server, line, tmp_path, make_adt, told):
    source = lone(server, Taker(), tmp_path, port=line.port, answer_timeout_s=0.3)
    await source.start()
    line.silent = True
    began = time.monotonic()
    await source.poll()
    assert time.monotonic() - began < 5
    assert "timeout" in next(fields["reason"] for name, fields in told if name == "files.unreachable")
    line.silent = False
    line.cut()
    (server.files / "a.hl7").write_bytes(make_adt("A1"))
    await source.poll()
    assert (server.files / "done" / "a.hl7").exists()


def test_a_server_that_does_not_even_take_the_connection_is_left_at_once_when_the_hub_stops(server):
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        first.connect(("127.0.0.1", port))  # its one place
        server.know(port)
        outbox, ended = SftpOutbox(login_of(server, port, connect_timeout_s=20), server.path), []

        def probe():
            with pytest.raises(PeerUnavailable):
                outbox.probe()
            ended.append(time.monotonic())

        probing = threading.Thread(target=probe)
        probing.start()
        time.sleep(0.3)
        assert not ended
        began = time.monotonic()
        outbox.close()
        probing.join(5)
        assert ended and ended[0] - began < 1


# ---- out ---------------------------------------------------------------------------------------------------------------

MLLP = '[[source]]\nname = "his"\nkind = "mllp"\nlisten = "127.0.0.1:0"\nroutes = ["labo"]\n'
RETRY = "[destination.retry]\nbase_s = 0.05\nprobe_s = 0.1\n"


@only_sqlite
@on_a_loop
async def test_deliveries_become_files_whole_and_durable(running, server, make_adt):
    toml = MLLP + section(server, "destination", 'name = "labo"', "connections = 2") + RETRY
    async with running(toml) as hub, hub.sender() as sender:
        for n in range(5):
            await sender.ask(make_adt(f"C{n}", ipp=f"90000{n}"))
        found = await hub.settled(5)
    names = {m["control_id"]: m["deliveries"][0]["external_ref"] for m in found}
    assert sorted(os.listdir(server.files)) == sorted(names.values())
    assert all((server.files / name).read_bytes().split(b"|")[9] == control.encode() for control, name in names.items())


@only_sqlite
@on_a_loop
async def test_a_server_that_goes_and_comes_back_gets_every_delivery_once(running, server, make_adt):
    toml = MLLP + section(server, "destination", 'name = "labo"') + RETRY
    async with running(toml) as hub, hub.sender() as sender:
        await sender.ask(make_adt("C0"))
        await hub.settled(1)
        server.stop()
        for n in range(1, 5):
            await sender.ask(make_adt(f"C{n}"))
        await hub.until(lambda found: any(d["last_error"] for m in found for d in m["deliveries"]))
        server.start()
        found = await hub.settled(5)
    assert {m["state"] for m in found} == {"DONE"}
    assert len([name for name in os.listdir(server.files) if name.endswith(".hl7")]) == 5


def test_every_place_where_the_line_may_break_ends_with_one_whole_file(server, line):
    """The line breaks after so many bytes; the same delivery is sent until it is there."""
    body, answers = b"MSH|^~\\&|" + b"x" * 3000 + b"\r", set()
    for n, cut_after in enumerate(range(1500, 9500, 700)):
        outbox, unsure = SftpOutbox(login_of(server, line.port), server.path), False
        line.cut_after = cut_after
        for _ in range(5):
            try:
                outbox.put(f"{n}.hl7", body, unsure=unsure)
                break
            except (PeerUnavailable, NoAnswer) as error:
                answers.add(type(error))
                unsure |= isinstance(error, NoAnswer)
                line.cut_after = None
        outbox.close()
        assert (server.files / f"{n}.hl7").read_bytes() == body
    assert answers >= {PeerUnavailable}
    assert [name for name in os.listdir(server.files) if name.endswith(".part")] == []


def test_no_answer_to_the_renaming_is_asked_about(server, monkeypatch):
    outbox = SftpOutbox(login_of(server), server.path)
    session = outbox._sessions[0]
    rename = session.rename

    def lost(sftp, before, after):
        rename(sftp, before, after)
        raise EOFError

    monkeypatch.setattr(session, "rename", lost)
    with pytest.raises(NoAnswer):
        outbox.put("a.hl7", b"whole", unsure=False)
    with pytest.raises(NoAnswer):
        outbox.put("b.hl7", b"whole", unsure=False)
    monkeypatch.undo()
    outbox.put("a.hl7", b"whole", unsure=True)  # there: it was this one
    (server.files / "b.hl7").unlink()
    outbox.put("b.hl7", b"whole", unsure=True)  # its receiver took it: not written again
    assert os.listdir(server.files) == ["a.hl7"]
    outbox.close()


def test_a_server_without_posix_rename_is_served_with_the_renaming_of_the_protocol(server, monkeypatch):
    import paramiko

    def unsupported(self, before, after):
        raise ServerSaid(UNSUPPORTED)

    monkeypatch.setattr(paramiko.SFTPClient, "posix_rename", unsupported)
    outbox = SftpOutbox(login_of(server), server.path)
    outbox.put("a.hl7", b"whole", unsure=False)
    outbox.put("b.hl7", b"whole", unsure=False)
    assert sorted(os.listdir(server.files)) == ["a.hl7", "b.hl7"]
    outbox.close()


def test_another_file_of_that_name_is_not_overwritten(server):
    (server.files / "a.hl7").write_bytes(b"of somebody else")
    outbox = SftpOutbox(login_of(server), server.path)
    with pytest.raises(PeerRefused):
        outbox.put("a.hl7", b"whole", unsure=False)
    assert (server.files / "a.hl7").read_bytes() == b"of somebody else"
    outbox.close()


def test_a_folder_that_is_not_there_is_unavailable_without_naming_it(server):
    outbox = SftpOutbox(login_of(server), f"{server.path}/secret")
    for deed in (outbox.probe, lambda: outbox.put("a.hl7", b"whole", unsure=False)):
        with pytest.raises(PeerUnavailable, match="no such folder") as raised:
            deed()
        assert "secret" not in raised.value.sentence
    outbox.close()


@only_sqlite
@on_a_loop
async def test_a_changed_host_key_holds_deliveries_until_the_new_one_is_pinned(running, server, make_adt):
    server.stop()
    server.new_host_key()
    server.start()
    toml = MLLP + section(server, "destination", 'name = "labo"') + RETRY
    async with running(toml) as hub, hub.sender() as sender:
        await sender.ask(make_adt("A1"))
        (found,) = await hub.until(lambda found: any(d["last_error"] for m in found for d in m["deliveries"]))
        assert "another host key" in found["deliveries"][0]["last_error"]
        assert hub.hub._by_name["labo"].breaker.is_open
        assert os.listdir(server.files) == []
        server.known.unlink()
        server.know(server.port)
        (found,) = await hub.settled(1)
    assert found["state"] == "DONE"


@on_a_loop
async def test_batches_go_over_sftp_too(server):
    destination = FileDestination("labo", SftpOutbox(login_of(server), server.path), SITE, batch_size=3, batch_wait_s=0.1)
    await destination.probe()
    references = await asyncio.gather(
        *(destination.send(b"MSH|^~\\&|%d\r" % n, delivery_id=n, control_id="") for n in range(1, 5))
    )
    assert len({one.external_ref for one in references}) == 2
    assert len(os.listdir(server.files)) == 2
    await destination.close()
