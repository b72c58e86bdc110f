"""From MLLP to a simulated DMP and back: Z01 at the creator with success, refusal, silence; nothing is sent twice."""

import asyncio
import signal
import socket
import subprocess
from contextlib import asynccontextmanager

import hl7
import pytest
import uvicorn

from adapters.dmp.simulated import SimulatedDmp
from hub.app.simulate import dmp_application
from hub.ledger.acts import NotPossible
from hub.ledger.made import HUB
from tests import warm

ONE = pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
NUMBER = "1.2.250.9.77.5.100"
TOML = """
[[source]]
name = "ris"
kind = "mllp"
listen = "127.0.0.1:0"
return_to = "ris-return"
routes = [{routes}]
[[destination]]
name = "ris-return"
kind = "mllp"
connect = "127.0.0.1:{port}"
[dmp]
url = "http://127.0.0.1:{dmp}/"
answer_timeout_s = {answer_s}
connect_timeout_s = 1
[dmp.retry]
base_s = 0.1
probe_s = 0.1
"""


class Dmp:
    """A simulated DMP on a port of its own, that can be stopped and started."""

    def __init__(self, answer="success", **more):
        self.simulated = SimulatedDmp(answer, **more)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    async def start(self):
        app = dmp_application(self.simulated)
        self._server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="error", lifespan="off", timeout_graceful_shutdown=0)
        )
        self._task = asyncio.create_task(self._server._serve())  # without its signal handlers
        while not self._server.started:
            await asyncio.sleep(0.01)

    async def stop(self):
        self._server.should_exit = self._server.force_exit = True
        await self._task


@asynccontextmanager
async def house(running, receiver_class, answer="success", *, started=True, routes='"record", "requested"', answer_s=2.0, **more):
    """A hub with a simulated DMP and the creator's listener."""
    dmp, peer = Dmp(answer, **more), receiver_class()
    await peer.start()
    if started:
        await dmp.start()
    try:
        toml = TOML.format(port=peer.port, dmp=dmp.port, routes=routes, answer_s=answer_s)
        async with running(toml) as hub, hub.sender("ris") as sender:
            yield hub, sender, dmp, peer
    finally:
        await peer.stop()
        if started:
            await dmp.stop()


def told(peer):
    """(original, Y or N, code) of each Z01 that the creator got."""
    found = []
    for zam in peer.got:
        message = hl7.parse(zam.decode())
        code = str(message.segment("ERR")[5][0][0]) if b"\rERR|" in zam else ""
        found.append((str(message.segment("OBX")[4]), str(message.segment("OBX")[5][0][0]), code))
    return found


def delivery(messages, control="C1"):
    (message,) = [m for m in messages if m["control_id"] == control and m["source"] != HUB]
    return message["state"], next(d for d in message["deliveries"] if d["destination"] == "dmp")


def zams_done(n, states=("DONE",)):
    return lambda found: sum(m["source"] == HUB and m["state"] in states for m in found) == n


def test_a_document_is_fed_and_its_creator_is_told(running, receiver_class, make_mdm):
    async def main():
        async with house(running, receiver_class) as (hub, sender, dmp, peer):
            await sender.ask(make_mdm("C1", ACK_RECEPTION="Y"))
            found = await hub.until(lambda f: zams_done(1)(f) and all(m["state"] == "DONE" for m in f))
            state, fed = delivery(found)
            assert (state, fed["state"], fed["external_ref"], fed["attempts"]) == ("DONE", "DELIVERED", NUMBER, 1)
            assert [(r["kind"], r["positive"]) for r in fed["receipts"]] == [("DMP", True)]
            assert told(peer) == [("C1", "Y", "")]
            assert b'<id root="1.2.250.9.77.5.100"/>' in dmp.simulated.document(NUMBER)

    asyncio.run(main())


@ONE
def test_a_refusal_is_final_and_told_with_its_code(running, receiver_class, make_mdm):
    async def main():
        async with house(running, receiver_class, "failure:DMPClosed") as (hub, sender, dmp, peer):
            await sender.ask(make_mdm("C1", ACK_RECEPTION="Y"))
            await sender.ask(make_mdm("C2", number="1.2.250.9.77.5.101"))
            found = await hub.until(lambda f: zams_done(1)(f) and all(m["state"] in ("PARTIAL", "DONE") for m in f))
            for control in ("C1", "C2"):
                state, fed = delivery(found, control)
                assert (state, fed["state"], fed["attempts"]) == ("PARTIAL", "REFUSED", 1)
                assert [(r["positive"], r["code"]) for r in fed["receipts"]] == [(False, "DMPClosed")]
                assert "DMPClosed" in fed["last_error"]
            assert told(peer) == [("C1", "N", "DMPClosed")]
            # an operator tries again when the DMP is open: the creator hears of that, and the message is done
            dmp.simulated.answer = "success"
            await hub.hub.operations.retry(fed_id(found, "C1"))
            found = await hub.until(zams_done(2))
            assert delivery(found, "C1")[0] == "DONE"
            assert told(peer)[1:] == [("C1", "Y", "")]

    def fed_id(found, control):
        return delivery(found, control)[1]["id"]

    asyncio.run(main())


def test_silence_is_asked_about_and_never_told(running, receiver_class, make_mdm):
    """The DMP took it and said nothing: the hub asks, and sends nothing again."""

    async def main():
        async with house(running, receiver_class, "silence", answer_s=0.3) as (hub, sender, dmp, peer):
            await sender.ask(make_mdm("C1", ACK_RECEPTION="Y"))
            found = await hub.until(zams_done(1))
            _, fed = delivery(found)
            assert (fed["state"], fed["external_ref"]) == ("DELIVERED", NUMBER)
            assert told(peer) == [("C1", "Y", "")]
            assert dmp.simulated.requests["ITI-41"] == 1
            assert dmp.simulated.requests["ITI-18"] >= 1
            dmp_only = "SELECT id FROM delivery WHERE destination = 'dmp'"
            shown = await hub.rows(f"SELECT outcome FROM attempt WHERE delivery_id = ({dmp_only}) ORDER BY n")
            assert [outcome for (outcome,) in shown] == ["NO_ANSWER", "DELIVER"]

    asyncio.run(main())


@ONE
def test_a_dmp_that_is_down_is_waited_for_and_nobody_is_told(running, receiver_class, make_mdm):
    async def main():
        async with house(running, receiver_class, started=False) as (hub, sender, dmp, peer):
            await sender.ask(make_mdm("C1", ACK_RECEPTION="Y"))
            await hub.until(lambda f: delivery(f)[1]["state"] == "WAITING" if f and f[0]["deliveries"] else False)
            await asyncio.sleep(0.3)
            assert peer.got == []
            await dmp.start()
            found = await hub.until(lambda f: zams_done(1)(f) and all(m["state"] == "DONE" for m in f))
            assert delivery(found)[0] == "DONE" and told(peer) == [("C1", "Y", "")]
            await dmp.stop()

    asyncio.run(main())


@ONE
def test_busy_is_tried_again_and_a_mix_ends_well_or_refused(running, receiver_class, make_mdm):
    async def main():
        async with house(running, receiver_class, "mixed", answer_s=0.3) as (hub, sender, dmp, peer):
            for n in range(10):
                await sender.ask(make_mdm(f"C{n}", number=f"1.2.250.9.77.5.{n + 1}", ACK_RECEPTION="Y"))
            found = await hub.until(zams_done(10), timeout_s=20)
            states = {f"C{n}": delivery(found, f"C{n}")[1]["state"] for n in range(10)}
            assert set(states.values()) == {"DELIVERED", "REFUSED"}
            assert sorted(told(peer)) == sorted(
                (control, "Y", "") if state == "DELIVERED" else (control, "N", "DMPClosed") for control, state in states.items()
            )
            for n in range(10):
                there = dmp.simulated.status(f"1.2.250.9.77.5.{n + 1}") == "Approved"
                assert there is (states[f"C{n}"] == "DELIVERED")

    asyncio.run(main())


@ONE
def test_replacement_and_deletion_follow_their_document(running, receiver_class, make_mdm):
    async def main():
        second = "1.2.250.9.77.5.200"
        async with house(running, receiver_class) as (hub, sender, dmp, peer):
            await sender.ask(make_mdm("C1", ACK_RECEPTION="Y"))
            await sender.ask(make_mdm("C2", event="T10", number=second, replaces=NUMBER, ACK_RECEPTION="Y"))
            await hub.until(zams_done(2))
            assert (dmp.simulated.status(NUMBER), dmp.simulated.status(second)) == ("Deprecated", "Approved")
            await sender.ask(make_mdm("C3", event="T04", number=second, ACK_RECEPTION="Y"))
            await hub.until(zams_done(3))
            assert dmp.simulated.status(second) == "Deleted"
            assert [said for _, said, _ in told(peer)] == ["Y", "Y", "Y"]
            unknown = "1.2.250.9.77.5.300"
            await sender.ask(make_mdm("C4", event="T04", number=unknown, ACK_RECEPTION="Y"))
            await sender.ask(make_mdm("C5", event="T10", number="1.2.250.9.77.5.301", replaces=unknown, ACK_RECEPTION="Y"))
            await hub.until(zams_done(5))
            assert sorted(told(peer)[3:]) == [("C4", "N", "DOCUMENT_UNKNOWN"), ("C5", "N", "DOCUMENT_UNKNOWN")]

    asyncio.run(main())


@ONE
def test_the_same_document_again_is_confirmed_and_another_under_its_number_is_refused(running, receiver_class, make_mdm):
    async def main():
        async with house(running, receiver_class) as (hub, sender, dmp, peer):
            await sender.ask(make_mdm("C1", ACK_RECEPTION="Y"))
            await hub.until(zams_done(1))
            await sender.ask(make_mdm("C2", ACK_RECEPTION="Y"))
            await hub.until(zams_done(2))
            assert dmp.simulated.requests["ITI-41"] == 2  # refused as a duplicate, and confirmed by its hash
            assert told(peer) == [("C1", "Y", ""), ("C2", "Y", "")]
            dmp.simulated._documents[NUMBER].sha1 = "0" * 40
            await sender.ask(make_mdm("C3", ACK_RECEPTION="Y"))
            await hub.until(zams_done(3))
            assert told(peer)[2] == ("C3", "N", "XDSDuplicateUniqueIdInRegistry")

    asyncio.run(main())


CONSENTS = [
    ("ZFA|ACTIF|20260101|||||||IO|20260101|INC|20260101\r", "ConsentOpposed"),
    ("ZFA|FERME|20260101|20260102\r", "DMPClosed"),
]


@ONE
@pytest.mark.parametrize("zfa, reason", CONSENTS)
def test_a_patient_who_is_opposed_is_not_fed_and_may_have_documents_deleted(
    running, receiver_class, make_mdm, make_adt, zfa, reason
):
    async def main():
        async with house(running, receiver_class) as (hub, sender, dmp, peer):
            await sender.ask(make_mdm("C1", ACK_RECEPTION="Y"))
            await hub.until(zams_done(1))
            said = make_mdm("C0").split(b"\r")
            pid, pv1 = (next(line for line in said if line.startswith(name)) for name in (b"PID", b"PV1"))
            admission = make_adt("A1", event="A31").split(b"\r")
            lines = [pid if line.startswith(b"PID") else pv1 if line.startswith(b"PV1") else line for line in admission]
            assert b"MSA|AA|" in await sender.ask(b"\r".join(lines) + zfa.encode())
            await sender.ask(make_mdm("C2", number="1.2.250.9.77.5.101", ACK_RECEPTION="Y"))
            found = await hub.until(lambda f: zams_done(2)(f) and all(m["state"] in ("DONE", "PARTIAL") for m in f))
            state, fed = delivery(found, "C2")  # told while it was routed, or, where the record was behind then, before it leaves
            assert (state, fed["state"], reason in fed["last_error"]) == ("PARTIAL", "REFUSED", True)
            assert told(peer)[1] == ("C2", "N", reason)
            await sender.ask(make_mdm("C3", event="T04", ACK_RECEPTION="Y"))
            await hub.until(zams_done(3))
            assert dmp.simulated.status(NUMBER) == "Deleted"
            assert dmp.simulated.requests["ITI-41"] == 1
            with pytest.raises(NotPossible):
                await hub.hub.operations.replay(next(m["id"] for m in found if m["control_id"] == "C1"), ["dmp"])

    asyncio.run(main())


def test_killed_between_the_answer_and_its_mark_the_dmp_is_asked_and_nothing_is_sent_again(
    running, receiver_class, make_mdm, monkeypatch
):
    """The mark never happens (as if the process had died there); the next start finds the delivery SENDING."""

    async def main():
        dmp, peer = Dmp(), receiver_class()
        await peer.start()
        await dmp.start()
        toml = TOML.format(port=peer.port, dmp=dmp.port, routes='"requested"', answer_s=2.0)
        async with running(toml) as hub, hub.sender("ris") as sender:
            dispatcher = hub.hub._by_name["dmp"]
            died = asyncio.Event()
            monkeypatch.setattr(dispatcher, "_file", lambda outcome: died.set())
            await sender.ask(make_mdm("C1", ACK_RECEPTION="Y"))
            await asyncio.wait_for(died.wait(), 10)
            assert delivery(await hub.messages())[1]["state"] == "SENDING"
        assert dmp.simulated.status(NUMBER) == "Approved" and peer.got == []
        async with running(toml) as hub:
            found = await hub.until(zams_done(1))
            _, fed = delivery(found)
            assert (fed["state"], [(r["kind"], r["positive"]) for r in fed["receipts"]]) == ("DELIVERED", [("DMP", True)])
            assert dmp.simulated.requests == {"ITI-41": 1, "ITI-18": 1}
            assert told(peer) == [("C1", "Y", "")]
        await dmp.stop()
        await peer.stop()

    asyncio.run(main())


@ONE
def test_who_could_not_ask_stays_unsure_and_asks_again(running, receiver_class, make_mdm, monkeypatch):
    """Answered by nobody, then the DMP is away: the question comes before anything is sent, however long that takes."""

    async def main():
        async with house(running, receiver_class, "silence", answer_s=0.2) as (hub, sender, dmp, peer):
            await sender.ask(make_mdm("C1", ACK_RECEPTION="Y"))
            await hub.until(lambda f: delivery(f)[1]["state"] in ("UNSURE", "SENDING") if f and f[0]["deliveries"] else False)
            while not dmp.simulated.requests["ITI-41"]:
                await asyncio.sleep(0.01)
            await dmp.stop()
            await hub.until(lambda f: delivery(f)[1]["state"] == "UNSURE" and delivery(f)[1]["attempts"] >= 2)
            assert peer.got == []
            dmp.simulated.answer = "success"
            await dmp.start()
            await hub.until(zams_done(1))
            assert dmp.simulated.requests["ITI-41"] == 1 and told(peer) == [("C1", "Y", "")]

    asyncio.run(main())


@ONE
def test_two_documents_are_one_submission_and_one_receipt(running, receiver_class, make_mdm):
    async def main():
        async with house(running, receiver_class) as (hub, sender, dmp, peer):
            mdm = make_mdm("C1", ACK_RECEPTION="Y").decode()
            other = make_mdm("C1", number="1.2.250.9.77.5.101").decode()
            lines = mdm.replace("MDM^T02^MDM_T02", "ORU^R01^ORU_R01").replace("|2.6|", "|2.5|").split("\r")
            first = next(line for line in lines if "|ED|" in line)
            second = next(line for line in other.split("\r") if "|ED|" in line).replace("OBX|1|", "OBX|2|")
            lines = [line for line in lines if not line.startswith(("EVN", "TXA"))]
            lines.insert(lines.index(first) + 5, second)
            assert b"MSA|AA|" in await sender.ask("\r".join(lines).replace("|CWE|", "|CE|").encode())
            found = await hub.until(zams_done(1))
            assert delivery(found)[1]["external_ref"] == f"{NUMBER} 1.2.250.9.77.5.101"
            assert dmp.simulated.requests["ITI-41"] == 1
            await asyncio.sleep(0.1)
            assert told(peer) == [("C1", "Y", "")]

    asyncio.run(main())


def test_a_process_killed_between_the_answer_and_its_mark(receiver_class, make_mdm, tmp_path):
    """SIGKILL, a real process, a second one on the same folder."""

    async def started(file, port, **more):
        process = warm.start("run", "--config", file, stderr=subprocess.DEVNULL, env=more)
        for _ in range(600):
            try:
                return process, *(await asyncio.open_connection("127.0.0.1", port))
            except OSError:
                await asyncio.sleep(0.05)
        raise AssertionError("it does not listen")

    async def main():
        dmp, peer = Dmp(), receiver_class()
        await peer.start()
        await dmp.start()
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            two.bind(("127.0.0.1", 0))
            mllp, web = one.getsockname()[1], two.getsockname()[1]
        toml = TOML.format(port=peer.port, dmp=dmp.port, routes='"record", "requested"', answer_s=2.0)
        toml = toml.replace('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{mllp}"', 1)
        file = tmp_path / "vaguemestre.toml"
        file.write_text(f'[web]\nlisten = "127.0.0.1:{web}"\n' + toml)
        process, reader, writer = await started(file, mllp, VAGUEMESTRE_CRASH_AT="before-mark:1")
        writer.write(b"\x0b" + make_mdm("C1", ACK_RECEPTION="Y") + b"\x1c\r")
        assert b"MSA|AA|C1" in await asyncio.wait_for(reader.readuntil(b"\x1c\r"), 10)
        assert await asyncio.to_thread(process.wait, 20) == -signal.SIGKILL
        writer.close()
        assert dmp.simulated.requests == {"ITI-41": 1} and peer.got == []
        process, _, writer = await started(file, mllp)
        writer.close()
        for _ in range(400):
            if peer.got:
                break
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 15) == 0
        assert dmp.simulated.requests == {"ITI-41": 1, "ITI-18": 1}
        assert told(peer) == [("C1", "Y", "")]
        await dmp.stop()
        await peer.stop()

    asyncio.run(main())
