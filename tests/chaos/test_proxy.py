"""The proxy's cuts: a reset is seen at once, a black hole swallows and may give back late."""

from __future__ import annotations

import asyncio

import pytest
from chaos_proxy import BLACKHOLE, RESET, Proxy


class Echo:
    """A server that sends back what comes."""

    def __init__(self) -> None:
        self.port = 0
        self.took: list[bytes] = []

    async def start(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.took.append(line)
                writer.write(line)
        except ConnectionError:
            pass
        finally:
            writer.close()


async def _behind() -> tuple[Echo, Proxy, asyncio.StreamReader, asyncio.StreamWriter]:
    echo = Echo()
    await echo.start()
    proxy = Proxy(echo.port)
    await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"one\n")
    assert await asyncio.wait_for(reader.readline(), 5) == b"one\n"
    return echo, proxy, reader, writer


def test_reset():
    async def story():
        _, proxy, reader, _ = await _behind()
        proxy.cut(RESET)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(reader.readline(), 5)
        with pytest.raises(ConnectionError):
            reader, _ = await asyncio.open_connection("127.0.0.1", proxy.port)
            await asyncio.wait_for(reader.readline(), 5)
        proxy.mend()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"two\n")
        assert await asyncio.wait_for(reader.readline(), 5) == b"two\n"
        await proxy.stop()

    asyncio.run(story())


def test_black_hole_gives_back_late():
    async def story():
        echo, proxy, reader, writer = await _behind()
        proxy.cut(BLACKHOLE)
        writer.write(b"two\n")
        fresh_reader, fresh_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        fresh_writer.write(b"three\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), 0.3)
        assert echo.took == [b"one\n"]
        proxy.mend()
        assert await asyncio.wait_for(reader.readline(), 5) == b"two\n"
        assert await asyncio.wait_for(fresh_reader.readline(), 5) == b"three\n"
        await proxy.stop()

    asyncio.run(story())


def test_black_hole_that_forgets():
    async def story():
        echo, proxy, reader, writer = await _behind()
        proxy.cut(BLACKHOLE)
        writer.write(b"two\n")
        await asyncio.sleep(0.1)
        proxy.mend(forget=True)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(reader.readline(), 5)
        assert echo.took == [b"one\n"]
        await proxy.stop()

    asyncio.run(story())
