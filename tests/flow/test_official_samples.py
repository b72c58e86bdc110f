"""Every official sample through a running hub: the answer on the socket, the state in the ledger, the deliveries it leaves."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

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
                found = await hub.until(
                    lambda f, b=before: len({m["id"] for m in f} - b) == 1 and all(m["state"] != "RECEIVED" for m in f)
                )
                (kept,) = [m for m in found if m["id"] not in before]
                if isinstance(answer, tuple):
                    _, requested, refused, _ = answer
                    assert read_msa(answered)[0] == "AA", name
                    where = {d["destination"]: d["state"] for d in kept["deliveries"]}
                    wanted = (
                        dict.fromkeys(requested, "WAITING")
                        | dict.fromkeys((d for d, _ in refused), "REFUSED")
                        | {"record": "DELIVERED"}
                    )
                    assert where == wanted, name
                    assert kept["state"] == ("ROUTED" if "WAITING" in wanted.values() else "DONE"), name
                elif answer == "AA, no structure":
                    assert kept["state"] == "NO_ROUTE", name
                    assert answered is None or read_msa(answered)[0] == "AA", name
                else:
                    condition, at = answer.split()
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
