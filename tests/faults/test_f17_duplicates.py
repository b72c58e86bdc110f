"""F17: the same message again, the same control id with other bytes, a counter that starts again after the window."""

from __future__ import annotations

import asyncio
import json

from fault_harness import ask, check_ledger, check_record, code_of, run

from bench.sink import Sink
from bench.synthetic import Traffic

TRAFFIC = Traffic(run="D", patients=3)


async def _hub(place, **lines):
    sink = Sink()
    await sink.start()
    place.configure(destinations=[("out", sink.port, "")], routes=("record", "out"), **lines)
    await place.start()
    return sink


def _other(message: bytes) -> bytes:
    """The same control id over another content."""
    return message.replace(b"1 RUE DU BANC", b"9 RUE DU BANC")


def test_f17_same_bytes_are_answered_again_and_delivered_once(place):
    async def story():
        sink = await _hub(place)
        first = TRAFFIC.message(0, 0)
        answers = await ask(place.port, first, first)  # at once
        await place.settled(messages=1)
        answers += await ask(place.port, first)  # over another connection, after routing
        place.kill()
        await place.start()
        answers += await ask(place.port, first)  # after a restart
        answers += await asyncio.gather(*(_one(place.port, first) for _ in range(8)))  # all in one group
        assert [code_of(answer) for answer in answers] == ["AA"] * 12
        assert all(b"|D" in answer.split(b"\rMSA|")[1] for answer in answers)
        await place.settled(messages=1)
        assert sink.ids == ["DC0S0"]
        assert place.value("SELECT count(*) FROM message") == 1
        check_record(place)
        await sink.stop()

    run(story())


async def _one(port, message):
    return (await ask(port, message))[0]


def test_f17_new_message_eight_times_at_once_is_one(place):
    async def story():
        sink = await _hub(place)
        message = TRAFFIC.message(0, 0)
        answers = await asyncio.gather(*(_one(place.port, message) for _ in range(8)))
        assert [code_of(answer) for answer in answers] == ["AA"] * 8
        await place.settled(messages=1)
        assert sink.ids == ["DC0S0"]
        await sink.stop()

    run(story())


def test_f17_same_control_id_other_bytes_is_a_new_message_with_a_warning(place):
    async def story():
        sink = await _hub(place)
        first = TRAFFIC.message(0, 0)
        answers = await ask(place.port, first, _other(first), first, _other(first))
        assert [code_of(answer) for answer in answers] == ["AA"] * 4
        await place.settled(messages=2)
        assert sink.ids == ["DC0S0", "DC0S0"]
        warned = [json.loads(findings or "[]") for (findings,) in place.rows("SELECT findings FROM message ORDER BY id")]
        assert "CONTROL_ID_REUSED" in [finding["code"] for finding in warned[1]]
        check_ledger(place)
        await sink.stop()

    run(story())


def test_f17_strict_source_refuses_the_control_id(place):
    async def story():
        sink = await _hub(place, source="strict_control_id = true", hub="dedupe_window_days = 0.00002")  # 1.7 s
        first = TRAFFIC.message(0, 0)
        answers = await ask(place.port, first, _other(first), first)
        assert [code_of(answer) for answer in answers] == ["AA", "AE", "AA"]
        assert b"MSH^1^10" in answers[1] or b"MSH-10" in answers[1]
        await place.settled(messages=2)
        assert sink.ids == ["DC0S0"]
        assert place.rows("SELECT state, ack_code FROM message ORDER BY id") == [("DONE", "AA"), ("REFUSED", "AE")]
        await asyncio.sleep(2)
        answers = await ask(place.port, _other(first).replace(b"9 RUE", b"10 RUE"))
        assert code_of(answers[0]) == "AA", "after the window the counter may have started again"
        await place.settled(messages=3)
        assert sink.ids == ["DC0S0", "DC0S0"]
        await sink.stop()

    run(story())


def test_f17_outside_the_window_the_same_bytes_are_a_new_message(place):
    async def story():
        sink = await _hub(place, hub="dedupe_window_days = 0.00002")
        first = TRAFFIC.message(0, 0)
        assert [code_of(answer) for answer in await ask(place.port, first, first)] == ["AA", "AA"]
        await place.settled(messages=1)
        assert len(sink.ids) == 1
        await asyncio.sleep(2)
        assert code_of((await ask(place.port, first))[0]) == "AA"
        await place.settled(messages=2)
        assert sink.ids == ["DC0S0", "DC0S0"]
        assert {state for (state,) in place.rows("SELECT state FROM message")} == {"DONE"}
        await sink.stop()

    run(story())


def test_f17_after_a_refusal_the_same_bytes_are_judged_afresh(place):
    """Refused in production, taken in test: on the same row, delivered once."""

    async def story():
        sink = await _hub(place, hub='environment = "production"')
        message = TRAFFIC.message(0, 0).replace(b"|P|2.5", b"|T|2.5")
        answers = await ask(place.port, message, message)
        assert [code_of(answer) for answer in answers] == ["AE", "AE"]
        assert (await place.stop())[0] == 0
        place.configure(destinations=[("out", sink.port, "")], routes=("record", "out"))
        await place.start()
        assert [code_of(answer) for answer in await ask(place.port, message, message)] == ["AA", "AA"]
        await place.settled(messages=1)
        assert sink.ids == ["DC0S0"]
        assert place.rows("SELECT state, ack_code, ack_error FROM message") == [("DONE", "AA", None)]
        await sink.stop()

    run(story())
