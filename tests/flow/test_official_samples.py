"""Every official sample through a running hub: the answer on the socket, the state in the ledger, the deliveries it leaves.

Once by our own sender, once by the MLLP client of python-hl7, which shares no code with the hub.
"""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import hl7
import hl7.client
import pytest

HUB = """
[hub]
environment = "test"
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["record", "requested"]
"""


def _expected() -> dict[str, object]:
    path = Path(__file__).parents[1] / "hl7v2" / "test_official_samples_judged.py"
    spec = importlib.util.spec_from_file_location("official_answers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EXPECTED


def translated(message: dict) -> bool:
    """Whether a message is routed, and the record has what it says of it."""
    open_ = (d["state"] in ("QUEUED", "SENDING") for d in message["deliveries"] if d["destination"] == "record")
    return message["state"] != "RECEIVED" and not any(open_)


def test_answers_states_and_deliveries(running, samples, read_msa):
    expected = _expected()

    async def main():
        async with running(HUB) as hub, hub.sender() as his:
            for name, answer in expected.items():
                raw = (samples / "hl7v2" / name).read_bytes()
                before = {m["id"] for m in await hub.messages()}
                his.write(raw)
                if "_ack" in name:
                    answered = None
                else:
                    answered = await his.answer()
                found = await hub.until(lambda f, b=before: len({m["id"] for m in f} - b) == 1 and all(map(translated, f)))
                (kept,) = [m for m in found if m["id"] not in before]
                if isinstance(answer, tuple):
                    structure, requested, refused, _ = answer
                    assert read_msa(answered)[0] == "AA", name
                    where = {d["destination"]: d["state"] for d in kept["deliveries"]}
                    wanted = (
                        dict.fromkeys(requested, "WAITING")
                        | dict.fromkeys((d for d, _ in refused), "REFUSED")
                        | ({} if structure == "zam" else {"record": "DELIVERED"})
                    )
                    assert where == wanted, name
                    state = "ROUTED" if "WAITING" in wanted.values() else "DONE" if wanted else "NO_ROUTE"
                    assert kept["state"] == state, name
                elif answer == "AA, no structure":
                    assert kept["state"] == "NO_ROUTE", name
                    assert answered is None or read_msa(answered)[0] == "AA", name
                else:
                    condition, *_, at = answer.split()
                    assert read_msa(answered)[0] == "AE", name
                    assert f"|{condition}^".encode() in answered, name
                    assert (kept["state"], kept["ack"]["error"]["code"], kept["ack"]["error"]["at"]) == (
                        "REFUSED",
                        condition,
                        at,
                    ), name
            waiting = await hub.rows("SELECT last_error, count(*) FROM delivery WHERE state = 'WAITING' GROUP BY last_error")
            assert [reason for reason, _ in waiting] == ["destination not configured"]
            assert await hub.row("SELECT count(*) FROM delivery WHERE state = 'DELIVERED' AND destination <> 'record'") == (0,)

    asyncio.run(main())


@pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
def test_answers_to_an_independent_client(running, samples):
    """Line ends as in the files (LF), framed by python-hl7; its parser reads what the hub says."""
    expected = {name: answer for name, answer in _expected().items() if "_ack" not in name}

    def send_all(port: int) -> dict[str, hl7.Message]:
        with hl7.client.MLLPClient("127.0.0.1", port) as client:
            client.socket.settimeout(20)
            return {
                name: hl7.parse(client.send_message((samples / "hl7v2" / name).read_bytes()).strip(b"\x0b\x1c\r").decode())
                for name in expected
            }

    async def main():
        async with running(HUB) as hub:
            answers = await asyncio.to_thread(send_all, next(s.port for s in hub.hub.sources if s.name == "his"))
        for name, answer in expected.items():
            ack, raw = answers[name], (samples / "hl7v2" / name).read_bytes()
            request = hl7.parse(raw.decode().strip().replace("\n", "\r"))
            msh = request.segment("MSH")
            assert [str(ack.segment("MSH")[n]) for n in (5, 6, 3, 4)] == [str(msh[n]) for n in (3, 4, 5, 6)], name
            assert str(ack.segment("MSA")[2]) == str(msh[10]), name
            assert ack.extract_field("MSH", 1, 9, 1, 2) == request.extract_field("MSH", 1, 9, 1, 2), name
            taken = isinstance(answer, tuple) or answer.startswith("AA")
            assert str(ack.segment("MSA")[1]) == ("AA" if taken else "AE"), name
            if taken:
                assert not any(str(segment[0]) == "ERR" for segment in ack), name
                continue
            condition, *application, at = answer.split()
            assert ack.extract_field("ERR", 1, 3, 1, 1) == condition, name
            assert str(ack.segment("ERR")[2][0][0]) == at.partition("-")[0], name
            assert ([ack.extract_field("ERR", 1, 5, 1, 1)] if application else []) == application, name
            if application:
                assert ack.extract_field("ERR", 1, 5, 1, 3) == "applicationErrorCondition"

    asyncio.run(main())
