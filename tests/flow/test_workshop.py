"""Worker processes: results, refusals and errors come back; what breaks a limit ends its worker and only itself."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from hub.flow.workshop import Bench, Limits, Workshop
from hub.model.refusals import FieldMissing, TranslationFailed

MODULE = """
import os, time
from hub.model.refusals import FieldMissing

def build(argument):
    def run(task):
        if task == "pid":
            return os.getpid()
        if task == "refuse":
            raise FieldMissing(at="PID-3")
        if task == "raise":
            raise ValueError("SECRET-OF-A-PATIENT")
        if task == "loop":
            while True:
                pass
        if task == "swell":
            return len(bytearray(1 << 30))
        if task == "die":
            os._exit(3)
        return (argument, task)
    return run

def broken(argument):
    raise RuntimeError("no")
"""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    (tmp_path / "benchwork.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(tmp_path)
    return Bench("benchwork:build", "given")


def test_each_end_of_a_task(bench):
    recycled = []
    workshop = Workshop(bench, Limits(time_s=1.0, memory_mb=256), recycled.append)

    async def main():
        assert await workshop.do("hello") == ("given", "hello")
        first = await workshop.do("pid")
        with pytest.raises(FieldMissing) as refused:
            await workshop.do("refuse")
        assert refused.value.at == "PID-3"
        with pytest.raises(TranslationFailed) as raised:
            await workshop.do("raise")
        assert "ValueError" in str(raised.value) and "SECRET" not in str(raised.value)
        assert await workshop.do("pid") == first and recycled == []
        with pytest.raises(TranslationFailed, match="memory"):
            await workshop.do("swell")
        began = time.monotonic()
        with pytest.raises(TranslationFailed, match="longer than 1 s"):
            await workshop.do("loop")
        assert time.monotonic() - began < 3
        with pytest.raises(TranslationFailed):
            await workshop.do("die")
        assert await workshop.do("again") == ("given", "again")
        assert await workshop.do("pid") != first
        assert len(recycled) == 2

    asyncio.run(main())
    workshop.close()


def test_tasks_go_side_by_side_and_workers_serve_their_time(bench):
    workshop = Workshop(bench, Limits(workers=2, tasks=3))

    async def main():
        pids = await asyncio.gather(*(workshop.do("pid") for _ in range(12)))
        assert len(set(pids)) >= 3

    asyncio.run(main())
    workshop.close()


def test_a_worker_that_cannot_start_is_said_so(bench):
    workshop = Workshop(Bench("benchwork:broken"), Limits())
    with pytest.raises(TranslationFailed, match="did not start"):
        asyncio.run(workshop.do("x"))
    workshop.close()
