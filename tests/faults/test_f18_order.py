"""F18: admissions, changes and discharges of many patients over parallel lanes: per patient always in order."""

from __future__ import annotations

import random

from fault_harness import check_ledger, check_record, full, measured, run

from bench.sender import Load, send
from bench.sink import AA, AR, DROP, Sink
from bench.synthetic import Traffic
from bench.traffic import compare

PATIENTS = full(5_000, 160)


def test_f18_per_patient_order_over_parallel_lanes(place):
    rng = random.Random(18)

    def behaviour(_n, _control_id):
        return rng.choices((AA, AR, DROP), weights=(97, 2, 1))[0]

    async def story():
        sink = Sink(behaviour, delay_s=lambda: rng.uniform(0, 0.02))
        await sink.start()
        lines = (
            "connections = 4\nin_flight = 8\nack_timeout_s = 2\n[destination.retry]\nbase_s = 0.05\ncap_s = 0.5\nprobe_s = 0.05"
        )
        place.configure(destinations=[("out", sink.port, lines)], routes=("record", "out"))
        await place.start()
        traffic = Traffic(run="O", patients=PATIENTS // 8)
        sent = await send(Load("127.0.0.1", place.port, traffic, 8, PATIENTS // 8 * 3, 8))
        assert len(sent.acked) == PATIENTS // 8 * 8 * 3
        await place.settled(full(300, 30))
        assert (await place.stop())[0] == 0
        check_ledger(place, sent)
        encounters = check_record(place)
        assert encounters == PATIENTS // 8 * 8
        finished = place.value("SELECT count(*) FROM resource WHERE type = 'Encounter' AND status = 'finished' AND version = 3")
        assert finished == encounters
        verdict = compare(sent.acked, sent.answers, [(got.control_id, got.patient) for got in sink.journal])
        assert verdict.is_clean, verdict
        order: dict[str, list[str]] = {}
        for got in sink.journal:
            events = order.setdefault(got.patient, [])
            if got.did == AA and got.event not in events[-1:]:  # again when the AA went with a dropped connection
                events.append(got.event)
        assert all(events == ["A01", "A08", "A03"] for events in order.values())
        assert len(order) == encounters
        side_by_side = len({got.connection for got in sink.journal})
        assert side_by_side >= 4
        measured("F18 order per patient", patients=encounters, arrivals=len(sink.journal), inversions=0)
        await sink.stop()

    run(story())
