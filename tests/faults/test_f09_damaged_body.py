"""F9: a byte of a stored body flips. The digest tells; that message waits for a person, the others go on."""

from __future__ import annotations

import json
import sqlite3

import pytest
from fault_harness import ask, check_ledger, code_of, free_port, full, run

from bench.sender import Load, send
from bench.sink import Sink
from bench.synthetic import Traffic

RETRY = "[destination.retry]\nbase_s = 0.1\nprobe_s = 0.1"
LARGE = Traffic("mdm", run="LARGE", patients=5, size=300_000)
SMALL = Traffic("oru", run="SMALL", patients=5)


def _flip(file, marker: bytes) -> None:
    content = bytearray(file.read_bytes())
    at = content.rfind(marker)
    assert at >= 0
    content[at + len(marker) - 1] ^= 1
    file.write_bytes(content)


def _damage(place, how: str) -> str:
    """Damage what is stored of one message while no hub runs; its control id."""
    digest = place.value("SELECT sha256 FROM message WHERE control_id = 'LARGEC0S2'").hex()
    blob = place.data / "blobs" / digest[0] / digest
    if how == "flipped":
        _flip(blob, b"MDM^T02")
    elif how == "cut short":
        blob.write_bytes(blob.read_bytes()[:100_000])
    elif how == "missing":
        blob.unlink()
    else:
        _flip(place.database, b"|SMALLC0S2|P|2.5|||||FRA|U")
        return "SMALLC0S2"
    return "LARGEC0S2"


@pytest.mark.parametrize("how", ["flipped", "flipped in the database", *full(["cut short", "missing"], [])])
def test_f09_damaged_before_delivery(place, how):
    async def story():
        sink = Sink()
        sink.port = free_port()
        place.configure(destinations=[("out", sink.port, RETRY)], routes=("out",))
        await place.start()
        for traffic in (LARGE, SMALL):
            sent = await send(Load("127.0.0.1", place.port, traffic, 1, 10))
            assert len(sent.acked) == 10
        assert (await place.stop())[0] == 0
        damaged = _damage(place, how)
        await sink.start()
        await place.start()
        await place.settled()
        assert set(sink.ids) == {f"{run}C0S{n}" for run in ("LARGE", "SMALL") for n in range(10)} - {damaged}
        state, delivery, error = place.rows(
            "SELECT m.state, d.state, d.last_error FROM message m JOIN delivery d ON d.message_id = m.id WHERE m.control_id = ?",
            damaged,
        )[0]
        assert (state, delivery, error.split(":")[0]) == ("SET_ASIDE", "DEAD", "BlobDamaged")
        assert (await place.stop())[0] == 0
        check_ledger(place, states=("DONE", "SET_ASIDE"))
        await sink.stop()

    run(story())


def test_f09_damaged_before_routing_and_made_good_by_the_sender(place):
    """Found again after a crash between commit and routing; the sender, who had no answer, brings the right bytes once more."""

    async def story():
        message = LARGE.message(0, 2)
        place.configure(routes=())
        await place.start()
        assert code_of((await ask(place.port, message))[0]) == "AA"
        await place.settled(messages=1)
        place.kill()
        with sqlite3.connect(place.database) as connection:
            connection.execute("UPDATE message SET state = 'RECEIVED', routed_at = NULL, ack_state = 'OWED'")
        connection.close()
        _damage(place, "flipped")
        place.configure()
        await place.start()
        await place.settled()
        assert place.value("SELECT state FROM message") == "SET_ASIDE"
        assert json.loads(place.value("SELECT findings FROM message"))[0]["code"] == "SET_ASIDE"
        assert any(event["event"] == "message.damaged" and event["level"] == "error" for event in place.events())
        assert code_of((await ask(place.port, message))[0]) == "AA"
        digest = place.value("SELECT sha256 FROM message").hex()
        assert (place.data / "blobs" / digest[0] / digest).read_bytes() == message
        answers = await ask(place.port, *(SMALL.message(0, n) for n in range(5)))
        assert [code_of(answer) for answer in answers] == ["AA"] * 5
        await place.settled(messages=6)

    run(story())
