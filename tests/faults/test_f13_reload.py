"""F13: the configuration read again and again under load, good, changed, bad: nothing lost, nothing twice, bad ones refused."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import urllib.error
import urllib.request

from fault_harness import check_ledger, check_record, full, measured, on_both_engines, run

from bench.sender import Load, Sent, send
from bench.sink import Sink
from bench.synthetic import Traffic
from bench.traffic import compare

EVERY_S = full(5.0, 0.3)
RETRY = "in_flight = {n}\n[destination.retry]\nbase_s = 0.2\nprobe_s = 0.2"
BAD = (
    "[hub\n",
    'surprise = "x"\n',
    '[[route]]\nsource = "his"\nto = ["nobody"]\n',
    '[[source]]\nname = "other"\nkind = "mllp"\nlisten = "203.0.113.1:2575"\nroutes = ["record"]\n',
    "[cluster]\nlease_s = 17\n",
)


class Reloads:
    """Writes files and asks for a reload: by SIGHUP, or over the API."""

    def __init__(self, place, sinks: dict[str, Sink], token: str) -> None:
        self.place, self.sinks, self.token = place, sinks, token
        self.done = self.refused = 0
        self.rng = random.Random(13)

    def write(self, *, tail: str = "", n: int = 16, extra: bool = False) -> None:
        destinations = [("out", self.sinks["out"].port, RETRY.format(n=n))]
        more = '[[source]]\nname = "more"\nkind = "mllp"\nlisten = "127.0.0.1:0"\nroutes = ["record"]\n' if extra else ""
        if extra:
            destinations.append(("extra", self.sinks["extra"].port, RETRY.format(n=4)))
        retention = f"[retention]\ndone_days = {self.rng.randint(30, 90)}\n"
        self.place.configure(destinations=destinations, routes=("record", "out"), more=f"{more}\n{retention}\n{tail}")

    async def again(self, turn: int) -> None:
        bad = turn % 3 == 1
        self.write(tail=BAD[turn // 3 % len(BAD)] if bad else "", n=8 + turn % 3 * 8, extra=turn % 4 == 2)
        if turn % 2:
            status, answer = await asyncio.to_thread(self._post)
            assert status == (422 if bad else 200), answer
            assert not bad or answer["mistakes"][0].keys() == {"file", "key", "reason"}
            assert bad or "trouble" not in answer
        else:
            seen = len(self._events())
            self.place.process.send_signal(signal.SIGHUP)
            while len(self._events()) == seen:
                await asyncio.sleep(0.05)
            assert self._events()[-1]["event"] == ("reload.refused" if bad else "reload.done")
        self.refused, self.done = self.refused + bad, self.done + (not bad)

    def _events(self) -> list[dict]:
        return [event for event in self.place.events() if event["event"] in ("reload.refused", "reload.done")]

    def _post(self) -> tuple[int, dict]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.place.web_port}/api/v1/reload",
            data=b"",
            headers={"Authorization": f"Bearer {self.token}"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


def token_of(place) -> str:
    process = place.spawn("token", "create", "--name", "reload", "--role", "operator")
    process.wait(30)
    return next(word for word in place.log.read_text().split() if word.startswith("vgm_"))


@on_both_engines
def test_f13_reload_under_load(place, engine):
    async def story():
        sinks = {"out": Sink(delay_s=0.02), "extra": Sink()}
        for sink in sinks.values():
            await sink.start()
        reloads = Reloads(place, sinks, "")
        reloads.write()
        await place.start(ready=True)
        reloads.token = token_of(place)
        rate, seconds = full(500, 300), full(120, 4)
        journal = Sent()
        load = Load("127.0.0.1", place.port, Traffic(run="R", patients=100), 8, rate * seconds // 8, 8, rate, resend=True)
        sending = asyncio.create_task(send(load, journal))
        turn = 0
        while not sending.done():
            await asyncio.sleep(EVERY_S)
            await reloads.again(turn)
            turn += 1
        await sending
        assert reloads.done > 3 and reloads.refused >= 2
        reloads.write()
        place.process.send_signal(signal.SIGHUP)
        await place.settled(60, messages=len(journal.acked))
        assert journal.repeats == 0, "an unchanged source lost connections"
        assert set(journal.codes) == {"AA"}, journal.codes
        assert (await place.stop())[0] == 0
        check_ledger(place, journal)
        check_record(place)
        verdict = compare(journal.acked, journal.answers, [(got.control_id, got.patient) for got in sinks["out"].journal])
        assert verdict.is_clean and not verdict.repeated, verdict
        assert "Traceback" not in place.log.read_text()
        measured(f"F13 reload, {engine}", reloads=reloads.done, refused=reloads.refused, messages=len(journal.acked), lost=0)
        for sink in sinks.values():
            await sink.stop()

    run(story())
