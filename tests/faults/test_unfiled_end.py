"""The receiver took a message and the end of that delivery cannot be written: its lane waits for a person, the others go on."""

from __future__ import annotations

import asyncio
import time

from fault_harness import ask, code_of, free_port, run

from bench.sink import Sink
from bench.synthetic import Traffic
from hub.app.config import build
from hub.app.hub import Hub
from hub.flow import deliver
from hub.model.uids import uid_text


def test_an_end_that_cannot_be_filed_holds_one_lane(tmp_path, monkeypatch):
    traffic = Traffic(run="U", patients=3)
    mark = deliver.mark

    def fails(tx, outcomes, *, owner):
        if any(outcome.head.control_id == "UC0S1" for outcome in outcomes):
            raise ValueError
        return mark(tx, outcomes, owner=owner)

    monkeypatch.setattr(deliver, "mark", fails)

    async def story():
        sink, port = Sink(), free_port()
        await sink.start()
        hub = Hub(
            build(
                {
                    "hub": {"data_dir": "data"},
                    "web": {"listen": "127.0.0.1:0"},
                    "source": [{"name": "his", "kind": "mllp", "listen": f"127.0.0.1:{port}", "routes": ["out"]}],
                    "destination": [{"name": "out", "kind": "mllp", "connect": f"127.0.0.1:{sink.port}"}],
                },
                tmp_path / "hub.toml",
            )
        )
        await hub.start()
        assert [code_of(answer) for answer in await ask(port, *(traffic.message(0, n) for n in range(9)))] == ["AA"] * 9
        expected = {f"UC0S{n}" for n in (0, 1, 2, 3, 5, 6, 8)}
        began = time.monotonic()
        while set(sink.ids) != expected or not await _blocked(hub):
            assert time.monotonic() - began < 5, sink.ids
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        assert sorted(sink.ids) == sorted(expected), "sent once, and the rest of that lane not at all"
        [(number, error)] = await hub.store.read(lambda tx: tx.rows("SELECT id, last_error FROM delivery WHERE state = 'UNSURE'"))
        assert error == "its end could not be filed"
        monkeypatch.setattr(deliver, "mark", mark)
        await hub.operations.retry(uid_text(number))
        while len(set(sink.ids)) < 9:
            assert time.monotonic() - began < 8, sink.ids
            await asyncio.sleep(0.02)
        await hub.stop()
        await sink.stop()
        assert sink.ids.index("UC0S4") < sink.ids.index("UC0S7")

    run(story())


async def _blocked(hub) -> bool:
    return bool(await hub.store.read(lambda tx: tx.rows("SELECT key FROM lane WHERE blocked_reason IS NOT NULL")))
