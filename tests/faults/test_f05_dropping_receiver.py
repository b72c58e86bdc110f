"""F5: a receiver that drops each 97th connection after it took the message, refuses each 53rd, is silent to each 211th."""

from __future__ import annotations

from fault_harness import check_ledger, full, measured, run

from bench.sender import Load, send
from bench.sink import AA, AE, DROP, MUTE, Sink, every
from bench.synthetic import Traffic
from bench.traffic import compare

MESSAGES = full(20_000, 2_000)


def test_f05_drops_refusals_and_silence(place):
    async def story():
        sink = Sink(every(drop=97, ae=53, mute=211))
        await sink.start()
        lines = "in_flight = 1\nconnections = 4\nack_timeout_s = 0.5\n[destination.retry]\nbase_s = 0.1\nprobe_s = 0.1"
        place.configure(destinations=[("out", sink.port, lines)], routes=("out",))
        await place.start()
        sent = await send(Load("127.0.0.1", place.port, Traffic(run="D", patients=200), 8, MESSAGES // 8))
        assert len(sent.acked) == MESSAGES
        await place.settled(full(300, 30))
        assert (await place.stop())[0] == 0
        check_ledger(place, sent, states=("DONE", "PARTIAL"))
        verdict = compare(sent.acked, sent.answers, [(got.control_id, got.patient) for got in sink.journal])
        assert verdict.is_clean, verdict
        did: dict[str, list[str]] = {}
        for got in sink.journal:
            did.setdefault(got.control_id, []).append(got.did)
        for control_id, ends in did.items():
            assert ends[-1] in (AA, AE), (control_id, ends)
            assert all(end in (DROP, MUTE) for end in ends[:-1]), f"{control_id} came again after {ends}"
        refused = {
            one
            for (one,) in place.rows(
                "SELECT m.control_id FROM delivery d JOIN message m ON m.id = d.message_id WHERE d.state = 'REFUSED'"
            )
        }
        assert refused == {control_id for control_id, ends in did.items() if ends[-1] == AE}
        measured("F5 dropping receiver", messages=MESSAGES, lost=0, repeats=len(sink.journal) - MESSAGES, refused=len(refused))
        await sink.stop()

    run(story())
