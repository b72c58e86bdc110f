"""The configuration read again: what keeps its connections, what is replaced, what is refused whole."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from hub.app import prints
from hub.app.config import ConfigurationRefused, load
from hub.app.hub import Hub

HUB = '[hub]\ndata_dir = "data"\n{hub}\n[web]\nlisten = "127.0.0.1:0"\n'
SOURCE = '[[source]]\nname = "{name}"\nkind = "mllp"\nlisten = "127.0.0.1:{port}"\nroutes = {routes}\n{more}\n'
OUT = (
    '[[destination]]\nname = "{name}"\nkind = "mllp"\nconnect = "127.0.0.1:{port}"\n{more}\n'
    "[destination.retry]\nbase_s = 0.1\nprobe_s = 0.1\n"
)
BOTH = pytest.mark.parametrize("store_of", ["sqlite", "postgres"], indirect=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def source(port: int, routes: str = '["record"]', name: str = "his", more: str = "") -> str:
    return SOURCE.format(port=port, routes=routes, name=name, more=more)


def out(port: int, name: str = "out", more: str = "") -> str:
    return OUT.format(port=port, name=name, more=more)


class Place:
    """A folder with a file that may change, and the hub that runs with it."""

    def __init__(self, folder, store: dict) -> None:
        self.file, self._store = folder / "vaguemestre.toml", store
        self.hub: Hub

    def write(self, *parts: str, hub: str = "") -> None:
        store = "".join(
            f"[{name}]\n" + "".join(f'{key} = "{value}"\n' for key, value in lines.items()) for name, lines in self._store.items()
        )
        self.file.write_text(HUB.format(hub=hub) + store + "".join(parts), encoding="utf-8")

    async def reload(self):
        return await self.hub.reloader.reload()

    async def rows(self, sql: str, *values: object) -> list[tuple]:
        return await self.hub.store.read(lambda tx: tx.rows(sql, *values))

    async def settled(self, n: int, states: str = "'DONE'") -> None:
        until = asyncio.get_running_loop().time() + 15
        while True:
            found = await self.rows("SELECT state, count(*) FROM message GROUP BY state")
            if sum(count for state, count in found if f"'{state}'" in states) >= n:
                return
            assert asyncio.get_running_loop().time() < until, found
            await asyncio.sleep(0.02)


@pytest.fixture
def placed(tmp_path, store_of):
    @asynccontextmanager
    async def start(*parts: str, hub: str = ""):
        place = Place(tmp_path, store_of("hub"))
        place.write(*parts, hub=hub)
        place.hub = Hub(load(place.file))
        await place.hub.start()
        try:
            yield place
        finally:
            await place.hub.stop()

    return start


class Line:
    """One MLLP connection."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> Line:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def ask(self, message: bytes) -> bytes:
        self.writer.write(b"\x0b" + message + b"\x1c\r")
        return (await asyncio.wait_for(self.reader.readuntil(b"\x1c\r"), 10))[1:-2]


@BOTH
def test_a_route_and_a_destination_are_added_and_connections_stay(placed, receiver_class, make_adt):
    async def main():
        receiver, port = receiver_class(), free_port()
        await receiver.start()
        async with placed(source(port)) as place, Line(port) as line:
            await line.ask(make_adt("A1"))
            await place.settled(1)
            place.write(source(port, '["record", "out"]'), out(receiver.port))
            done = await place.reload()
            assert (done.added, done.changed, done.removed) == (["destination/out"], [], [])
            assert b"|AA|" in await line.ask(make_adt("A2"))  # over the same connection
            await place.settled(2)
            assert [message.split(b"|")[9] for message in receiver.got] == [b"A2"]
            again = await place.reload()
            assert (again.added, again.changed, again.removed) == ([], [], [])
        await receiver.stop()

    asyncio.run(main())


@BOTH
def test_a_destination_that_is_gone_blocks_its_lanes_and_frees_them_when_it_is_back(placed, receiver_class, make_adt):
    async def main():
        receiver, port = receiver_class(), free_port()
        await receiver.start()
        both = (source(port, '["record", "out"]'), out(receiver.port))
        async with placed(*both) as place, Line(port) as line:
            await line.ask(make_adt("A1"))
            await place.settled(1)
            receiver.delay_s = 0.3
            for n in range(2, 5):
                await line.ask(make_adt(f"A{n}"))
            while len(await place.rows("SELECT id FROM delivery WHERE destination = 'out'")) < 4:
                await asyncio.sleep(0.01)
            place.write(source(port))
            done = await place.reload()  # what is in flight ends first
            assert done.removed == ["destination/out"]
            open_now = await place.rows("SELECT state FROM delivery WHERE state IN ('QUEUED','WAITING','SENDING','UNSURE')")
            assert {state for (state,) in open_now} <= {"QUEUED", "WAITING"} and open_now
            assert {reason for (reason,) in await place.rows("SELECT blocked_reason FROM lane")} == {"destination not configured"}
            sent = len(receiver.got)
            await asyncio.sleep(0.2)
            assert len(receiver.got) == sent
            place.write(*both)
            receiver.delay_s = 0
            await place.reload()
            await place.settled(4)
            assert [message.split(b"|")[9].decode() for message in receiver.got] == ["A1", "A2", "A3", "A4"]
        await receiver.stop()

    asyncio.run(main())


@BOTH
def test_a_destination_that_moved_gets_what_waited_for_it(placed, receiver_class, make_adt):
    async def main():
        receiver, port, nobody = receiver_class(), free_port(), free_port()
        await receiver.start()
        async with placed(source(port, '["out"]'), out(nobody)) as place, Line(port) as line:
            for n in range(5):
                await line.ask(make_adt(f"M{n}"))
            await asyncio.sleep(0.3)
            place.write(source(port, '["out"]'), out(receiver.port, more="in_flight = 4"))
            assert (await place.reload()).changed == ["destination/out"]
            await line.ask(make_adt("M5"))
            await place.settled(6)
            assert [message.split(b"|")[9].decode() for message in receiver.got] == [f"M{n}" for n in range(6)]
            assert await place.rows("SELECT key FROM lane") == []
        await receiver.stop()

    asyncio.run(main())


@BOTH
def test_sources_come_move_and_go(placed, make_adt):
    async def main():
        first, second, third = free_port(), free_port(), free_port()
        async with placed(source(first), source(second, name="labo")) as place:
            async with Line(second) as labo:
                await labo.ask(make_adt("L1"))
                place.write(source(third), source(first, name="ris"))  # his moved, labo is gone, ris has the place of his
                done = await place.reload()
                assert (done.added, done.changed, done.removed) == (["source/ris"], ["source/his"], ["source/labo"])
                assert done.trouble == [] and await labo.reader.read() == b""
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", second)
            async with Line(first) as ris, Line(third) as his:
                await ris.ask(make_adt("R1"))
                await his.ask(make_adt("H1"))
            await place.settled(3)
            found = await place.rows("SELECT source, control_id FROM message ORDER BY source")
            assert found == [("his", "H1"), ("labo", "L1"), ("ris", "R1")]

    asyncio.run(main())


@pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
def test_the_name_of_the_hub_and_the_retention_change_without_a_restart(placed, make_adt):
    async def main():
        port = free_port()
        async with placed(source(port)) as place, Line(port) as line:
            assert b"|VAGUEMESTRE|" in await line.ask(make_adt("A1").replace(b"|HUB|HUB|", b"|||"))
            before = prints.of_configuration(place.hub.installation)
            assert place.hub.ready()[1]["configuration"] == before
            place.write(source(port), "[retention]\ndone_days = 30\n", hub='name = "PFI-T"')
            done = await place.reload()
            assert done.fingerprint != before and place.hub.ready()[1]["configuration"] == done.fingerprint
            assert b"|PFI-T|" in await line.ask(make_adt("A2").replace(b"|HUB|HUB|", b"|||"))
            assert place.hub.installation.configuration.retention.done_days == 30

    asyncio.run(main())


MAPPING = "def rewrite(message, site):\n    return message.raw.replace(b'ZOE', b'{to}')\n\nREWRITES = {{'swap': rewrite}}\n"


@pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
def test_a_site_mapping_that_changed_is_used_from_then_on(placed, receiver_class, make_adt, tmp_path):
    async def main():
        receiver, port = receiver_class(), free_port()
        await receiver.start()
        (tmp_path / "site").mkdir()
        module = tmp_path / "site" / "swap.py"
        module.write_text(MAPPING.format(to="ONE"))
        route = '[[route]]\nsource = "his"\nto = ["out"]\nmapping = "swap"\n[mappings]\nfolder = "site"\n'
        parts = (source(port, "[]"), out(receiver.port), route)
        async with placed(*parts) as place, Line(port) as line:
            await line.ask(make_adt("A1"))
            await place.settled(1)
            module.write_text(MAPPING.format(to="TWO!"))
            assert (await place.reload()).changed == ["mappings"]
            await line.ask(make_adt("A2"))
            await place.settled(2)
            module.write_text("def broken(:\n")
            with pytest.raises(ConfigurationRefused) as refused:
                await place.reload()
            assert [(one.file, one.key) for one in refused.value.mistakes] == [(str(module), "line 1")]
            await line.ask(make_adt("A3"))
            await place.settled(3)
            assert [b"ONE" in message for message in receiver.got] == [True, False, False]
            assert [b"TWO!" in message for message in receiver.got] == [False, True, True]
        await receiver.stop()

    asyncio.run(main())


@pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
def test_a_file_with_mistakes_changes_nothing_and_tells_them_all(placed, make_adt, tmp_path):
    async def main():
        port, other = free_port(), free_port()
        (tmp_path / "no.pem").write_text("no certificate")
        tls = 'tls_cert_file = "no.pem"\ntls_key_file = "no.pem"'
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            busy = taken.getsockname()[1]
            good = source(port)
            bad: list[tuple[list[str], tuple[str, ...], str]] = [
                (["-"], (good, "[[source]\n"), ""),
                (["source[his].listn"], (good, 'listn = "x"\n'), ""),
                (["source[his].routes", "source[labo].listen"], (source(port, '["nobody"]'), source(port, name="labo")), ""),
                (["source[labo].listen"], (good, source(busy, name="labo")), ""),
                (["source[labo].tls_cert_file"], (good, source(other, name="labo", more=tls)), ""),
                (["hub.data_dir"], (good,), 'data_dir = "elsewhere"'),
                (["hub.max_inflight_bytes"], (good,), "max_inflight_bytes = 2000000"),
                (["bell.url"], (good, '[bell]\nurl = "nats://127.0.0.1:1"\n'), ""),
                (["store.url"], (good, '[store]\nurl = "sqlite:///other.db"\n'), ""),
                (["cluster.lease_s"], (good, "[cluster]\nlease_s = 9\n"), ""),
                (["route[1].mapping"], (good, '[[route]]\nsource = "his"\nto = ["record"]\nmapping = "none"\n'), ""),
                (["mappings.folder"], (good, '[mappings]\nfolder = "nowhere"\n'), ""),
            ]
            async with placed(good) as place, Line(port) as line:
                for keys, parts, hub in bad:
                    place.write(*parts, hub=hub)
                    if hub.startswith("data_dir"):
                        place.file.write_text(place.file.read_text().replace('data_dir = "data"\n', "", 1))
                    before = (place.hub.installation, place.hub.prints, list(place.hub.sources))
                    in_force, said = await place.hub.reloader.reload_for_api()
                    assert not in_force and [one["key"].split(".tls_")[0] for one in said["mistakes"]] == [
                        key.split(".tls_")[0] for key in keys
                    ], said
                    assert (place.hub.installation, place.hub.prints, list(place.hub.sources)) == before
                    assert b"|AA|" in await line.ask(make_adt(f"B{keys[0][:20]}"))
                place.file.unlink()
                assert (await place.hub.reloader.reload_for_api())[0] is False
                place.write(good)
                assert (await place.hub.reloader.reload_for_api())[0] is True

    asyncio.run(main())


@pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
def test_an_address_that_was_taken_in_between_is_told_and_tried_again(placed, make_adt, monkeypatch):
    async def main():
        port, other = free_port(), free_port()
        async with placed(source(port)) as place:
            monkeypatch.setattr("hub.app.reload.listen_mistakes", lambda *_: [])
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", other))
                taken.listen()
                place.write(source(port), source(other, name="labo"))
                done = await place.reload()
                assert [one.key for one in done.trouble] == ["source[labo].listen"]
            assert (await place.reload()).added == ["source/labo"]
            async with Line(other) as labo, Line(port) as his:
                assert b"|AA|" in await labo.ask(make_adt("L1"))
                assert b"|AA|" in await his.ask(make_adt("H1"))

    asyncio.run(main())


@pytest.mark.parametrize("store_of", ["postgres"], indirect=True)
def test_members_say_with_what_they_run(placed):
    async def main():
        port = free_port()
        async with placed(source(port)) as place:
            (said,) = await place.rows("SELECT configuration FROM member")
            assert said == (prints.of_configuration(place.hub.installation),)
            place.write(source(port), "[retention]\ndone_days = 3\n")
            done = await place.reload()
            assert await place.rows("SELECT configuration FROM member") == [(done.fingerprint,)] != [said]

    asyncio.run(main())


def test_a_file_that_is_renewed_under_its_name_is_a_change_and_a_route_is_none(tmp_path):
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("first")
    file = tmp_path / "vaguemestre.toml"
    tls = 'tls_cert_file = "cert.pem"\ntls_key_file = "key.pem"'

    def said(routes: str = '["record"]', more: str = "") -> dict[str, str]:
        file.write_text(source(2575, routes, more=tls + more) + out(2576))
        return prints.of_all(load(file))

    first = said()
    assert said('["out"]', '\nreturn_to = "out"\ncharset = "iso-8859-15"') == first
    assert said(more="\nmax_connections = 5")["source/his"] != first["source/his"]
    (tmp_path / "key.pem").write_text("renewed")
    assert said()["source/his"] != first["source/his"] and said()["destination/out"] == first["destination/out"]
