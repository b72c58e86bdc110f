"""F12: the clock jumps an hour forward or back: no retry gets stuck or hot, numbers never repeat, times carry their zone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import pairwise

import pytest
from fault_harness import ask, code_of, free_port, run

from bench.sink import AA, AR, Sink
from bench.synthetic import Traffic
from hub.app.config import build
from hub.app.hub import Hub
from hub.ledger.queries import MessageFilter, find_messages
from hub.model.uids import UidMaker, uid_ms, uid_number, uid_text

HOUR_S = 3600


class Clock:
    """The time that the store sees: the real one, and a jump."""

    def __init__(self) -> None:
        self.jump_s = 0.0

    def time_ns(self) -> int:
        return time.time_ns() + int(self.jump_s * 1e9)

    def __getattr__(self, name):
        return getattr(time, name)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("hub.store.sqlite.time", made)
    return made


def test_f12_numbers_ascend_through_jumps():
    now = [1_780_000_000_000]
    maker = UidMaker(lambda: now[0])
    numbers = []
    for jump_ms in (0, 1, HOUR_S * 1000, -HOUR_S * 1000, 5, -2 * HOUR_S * 1000, 3 * HOUR_S * 1000):
        now[0] += jump_ms
        numbers += [maker.next() for _ in range(3_000)]
    assert numbers == sorted(set(numbers))
    again = UidMaker(lambda: now[0] - HOUR_S * 1000, after=numbers[-1])
    assert again.next() > numbers[-1], "a restart with the clock behind goes on after the last number"
    assert [uid_number(uid_text(number)) for number in numbers[::500]] == numbers[::500]


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
def test_f12_retry_by_the_monotonic_clock(tmp_path, clock, jump_s):
    """A lane waits for its pause when the clock jumps: the next attempt comes when the pause is over, at the latest."""
    tried = Counter()

    def behaviour(_n, control_id):
        tried[control_id] += 1
        return AR if tried[control_id] <= 3 else AA

    async def story():
        sink = Sink(behaviour)
        await sink.start()
        port = free_port()
        hub = Hub(
            build(
                {
                    "hub": {"data_dir": "data"},
                    "web": {"listen": "127.0.0.1:0"},
                    "source": [{"name": "his", "kind": "mllp", "listen": f"127.0.0.1:{port}", "routes": ["out"]}],
                    "destination": [
                        {
                            "name": "out",
                            "kind": "mllp",
                            "connect": f"127.0.0.1:{sink.port}",
                            "retry": {"base_s": 0.3, "probe_s": 0.1},
                        }
                    ],
                },
                tmp_path / "hub.toml",
            )
        )
        await hub.start()
        traffic = Traffic(run="C", patients=20)
        for n in range(10):
            assert code_of((await ask(port, traffic.message(0, n)))[0]) == "AA"
        while len(sink.journal) < 10:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        clock.jump_s = jump_s
        for n in range(10, 20):
            assert code_of((await ask(port, traffic.message(0, n)))[0]) == "AA"
        began = time.monotonic()
        while sum(got.did == AA for got in sink.journal) < 20:
            assert time.monotonic() - began < 8, "a retry is stuck"
            await asyncio.sleep(0.05)
        assert len(sink.journal) == 4 * 20, "a retry is hot"
        for n in range(20):
            at = [got.at for got in sink.journal if got.control_id == traffic.control_id(0, n)]
            pauses = [after - before for before, after in pairwise(at)]
            early = sum(pause < 0.3 * 0.8 * 2**k - 0.02 for k, pause in enumerate(pauses))
            assert early <= (jump_s > 0), f"a jump ahead ends the pause at hand, no other: {pauses}"
        await asyncio.sleep(0.1)
        page = await hub.store.read(lambda tx: find_messages(tx, MessageFilter(limit=50)))
        await hub.stop()
        await sink.stop()
        assert [one["control_id"] for one in page["items"]] == [traffic.control_id(0, n) for n in reversed(range(20))]
        assert {one["state"] for one in page["items"]} == {"DONE"}
        assert all(one["received_at"].endswith("Z") and one["routed_at"].endswith("Z") for one in page["items"])

    run(story())


def test_f12_restart_with_the_clock_an_hour_behind(tmp_path, clock):
    """Pauses that an earlier clock set are no pauses of an hour; new rows do not take the numbers of old ones."""
    port, sink = free_port(), Sink(lambda _n, _id: AR)
    traffic = Traffic(run="R", patients=5)
    document = {
        "hub": {"data_dir": "data"},
        "web": {"listen": "127.0.0.1:0"},
        "source": [{"name": "his", "kind": "mllp", "listen": f"127.0.0.1:{port}", "routes": ["record", "out"]}],
        "destination": [{"name": "out", "kind": "mllp", "connect": "", "retry": {"base_s": 60, "probe_s": 0.1}}],
    }

    async def story():
        await sink.start()
        document["destination"][0]["connect"] = f"127.0.0.1:{sink.port}"
        numbers = []
        for jump_s, behaviour in ((HOUR_S, lambda _n, _id: AR), (0, None)):
            clock.jump_s, sink.behaviour = jump_s, behaviour
            hub = Hub(build(document, tmp_path / "hub.toml"))
            await hub.start()
            for n in range(5):
                message = traffic.message(0, n + len(numbers))
                assert code_of((await ask(port, message))[0]) == "AA"
            began = time.monotonic()
            while sum(got.did == (AA if behaviour is None else AR) for got in sink.journal) < (10 if behaviour is None else 5):
                assert time.monotonic() - began < 8, [got.did for got in sink.journal]
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
            rows = await hub.store.read(lambda tx: tx.rows("SELECT id FROM message ORDER BY id"))
            numbers = [row[0] for row in rows]
            states = await hub.store.read(lambda tx: tx.rows("SELECT state, count(*) FROM message GROUP BY 1"))
            await hub.stop()
        await sink.stop()
        assert len(numbers) == 10
        assert states == [("DONE", 10)]
        assert uid_ms(numbers[-1]) >= uid_ms(numbers[4]), "order of arrival stays the order of numbers"

    run(story())
