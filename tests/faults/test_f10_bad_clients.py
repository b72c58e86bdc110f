"""F10: slow, greedy and broken senders: bounded memory, the others served, the reason told."""

from __future__ import annotations

import asyncio
import os
import resource

from fault_harness import ask, code_of, full, measured, run

from bench.sender import Load, send
from bench.sink import END, START
from bench.synthetic import Traffic

CAP = full(500, 60)
BEYOND = full(10_000, 300)
MESSAGE = Traffic(run="G", patients=5)


async def _drip(port: int, stop: asyncio.Event) -> str:
    """One byte now and then, until the hub ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(START + b"MSH|^~\\&|SLOW")
        while not stop.is_set():
            writer.write(b"A")
            try:
                answer = await asyncio.wait_for(reader.read(4096), 0.2)
            except TimeoutError:
                continue
            return answer.decode() or "closed"
        return "still open"
    except OSError:
        return "closed"
    finally:
        writer.close()


async def _knock(port: int) -> str:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return "refused"
    try:
        return "closed" if await asyncio.wait_for(reader.read(1), 10) == b"" else "answered"
    except TimeoutError:
        return "open"
    except OSError:
        return "closed"
    finally:
        writer.close()


async def _raw(port: int, data: bytes) -> bytes:
    """Everything that comes back until the hub ends the connection or says nothing more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(data)
        while part := await asyncio.wait_for(reader.read(65536), 0.5):
            answer += part
    except (TimeoutError, OSError):
        pass
    finally:
        writer.close()
    return answer


def test_f10_bad_senders_do_not_hurt_the_others(place):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))

    async def story():
        place.configure(source=f"max_connections = {CAP}\nmax_frame_bytes = 1048576\nframe_timeout_s = 1.0")
        await place.start()
        good = await send(Load("127.0.0.1", place.port, Traffic(run="A", patients=10), 4, 50))
        before_kb = place.rss_kb()

        stop = asyncio.Event()
        slow = [asyncio.create_task(_drip(place.port, stop)) for _ in range(CAP // 2)]
        await asyncio.sleep(0.2)
        good = await send(Load("127.0.0.1", place.port, Traffic(run="B", patients=10), 4, 100))
        assert len(good.acked) == 400, "others are served while slow ones hold connections"
        assert sorted(good.latencies)[395] < 0.5
        fate = await asyncio.wait_for(asyncio.gather(*slow), 20)
        stop.set()
        assert "still open" not in fate

        await asyncio.sleep(1.2)  # those that were ended are let go after a moment
        waiting = [await asyncio.open_connection("127.0.0.1", place.port) for _ in range(CAP)]
        await asyncio.sleep(0.3)
        knocks = []
        for start in range(0, BEYOND, 500):
            knocks += await asyncio.gather(*(_knock(place.port) for _ in range(start, min(BEYOND, start + 500))))
        assert knocks.count("closed") == BEYOND, {one: knocks.count(one) for one in set(knocks)}
        reader, writer = waiting[0]
        writer.write(START + MESSAGE.message(0, 0) + END)
        assert code_of((await asyncio.wait_for(reader.readuntil(END), 5))[1:-2]) == "AA", "who was in before the cap is served"
        for _, one in waiting:
            one.close()
        await asyncio.sleep(0.5)

        endless = START + b"MSH|^~\\&|BIG" + bytes(65 + n % 26 for n in range(1 << 12)) * 300
        flood = await asyncio.gather(*(_raw(place.port, endless) for _ in range(20)))
        assert sum(b"\rMSA|AE" in answer for answer in flood) >= 10, "a frame that is too long is answered before the end"
        growth_mb = (place.rss_kb() - before_kb) / 1024
        assert growth_mb < full(300, 100), growth_mb
        reasons = {event["reason"] for event in place.events() if event["event"] == "mllp.refused"}
        assert {"FrameTimeout", "TooManyConnections", "FrameTooLong"} <= reasons
        assert len([event for event in place.events() if event.get("reason") == "TooManyConnections"]) < 60, "told, not shouted"
        assert (await ask(place.port, MESSAGE.message(0, 1)))[0]
        assert (await place.stop())[0] == 0
        measured("F10 bad senders", slow=len(slow), past_the_cap=BEYOND, rss_growth_mb=round(growth_mb, 1))

    try:
        run(story())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_f10_broken_blocks(place):
    """What is readable between broken blocks is taken; nothing that was not whole is kept as a message."""
    one, two, three = (MESSAGE.message(0, n) for n in range(3))

    async def story():
        place.configure(source="max_frame_bytes = 1048576\nframe_timeout_s = 1.0")
        await place.start()
        nested = await _raw(place.port, START + one[:200] + START + two + END)
        assert b"NoEndBlock" in nested
        assert code_of((await ask(place.port, two))[0]) == "AA"  # its first answer may have gone with the connection
        inside = three.replace(b"RUE DU BANC", b"RUE \x0b DU BANC")
        assert (await _raw(place.port, START + inside + END)).count(b"\rMSA|AA|") == 1
        lone = MESSAGE.message(0, 3).replace(b"RUE DU BANC", b"RUE \x1c BANC")
        assert (await _raw(place.port, START + lone + END)).count(b"\rMSA|AA|") == 1
        forgotten = await _raw(place.port, START + MESSAGE.message(0, 4) + b"\x1c" + START + MESSAGE.message(0, 5) + END)
        assert forgotten.count(b"\rMSA|AA|") == 2
        await _raw(place.port, START + MESSAGE.message(0, 6))  # no end, then gone
        assert await _raw(place.port, os.urandom(6000).replace(b"\x0b", b"x")) is not None
        await place.settled(messages=5)
        kept = sorted(control_id for (control_id,) in place.rows("SELECT control_id FROM message"))
        assert kept == ["GC0S1", "GC0S2", "GC0S3", "GC0S4", "GC0S5"]
        bodies = place.rows("SELECT b.bytes FROM body b JOIN message m ON m.id = b.message_id WHERE control_id = 'GC0S2'")
        assert bodies == [(inside,)]
        assert {"NoEndBlock", "NoStartBlock"} <= {event.get("reason") for event in place.events()}
        assert place.alive

    run(story())
