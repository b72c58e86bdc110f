"""F16: a second process on the same data folder refuses; a killed one leaves no lock behind."""

from __future__ import annotations

import asyncio
import time

from fault_harness import ask, code_of, run

from bench.sink import Sink
from bench.synthetic import Traffic


def test_f16_second_process_refuses(place):
    traffic = Traffic(run="T", patients=5)

    async def story():
        sink = Sink()
        await sink.start()
        place.configure(destinations=[("out", sink.port, "")], routes=("out",))
        await place.start()
        first = place.process
        before = len(place.unstructured())
        began = time.monotonic()
        second = place.spawn()
        assert await asyncio.to_thread(second.wait, 10) == 2
        assert time.monotonic() - began < 5
        said = place.unstructured()[before:]
        assert len(said) == 1
        assert "another vaguemestre runs on" in said[0]
        assert first.poll() is None
        assert [code_of(answer) for answer in await ask(place.port, *(traffic.message(0, n) for n in range(10)))] == ["AA"] * 10
        await place.settled()
        assert len(sink.ids) == len(set(sink.ids)) == 10
        place.kill()
        await place.start()
        assert (await place.stop())[0] == 0
        await sink.stop()

    run(story())
