"""The MLLP client against receivers that behave, and against all that do not (field notes F4, F5)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

import pytest
import structlog
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from adapters.mllp.client import MllpDestination
from adapters.mllp.frames import FrameDecoder, frame
from adapters.mllp.link import MllpLink
from adapters.mllp.msa import msh_10, read_acknowledgement
from adapters.mllp.options import MllpDestinationOptions
from adapters.mllp.sender import messages_in, send_messages
from hub.model.ports import PeerReference
from hub.model.refusals import NoAnswer, PeerBusy, PeerRefused, PeerUnavailable


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def go(coroutine, seconds=20):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(coroutine, seconds))

    return go


def message(control_id: str, text: str = "") -> bytes:
    return f"MSH|^~\\&|HUB|HUB|APP|SITE|20261124||ADT^A01^ADT_A01|{control_id}|P|2.5\rPID|1||990001{text}\r".encode()


def ack(control_id: str | bytes, code: str = "AA", own: str = "R1", err: str = "") -> bytes:
    control_id = control_id.decode() if isinstance(control_id, bytes) else control_id
    return f"MSH|^~\\&|APP|SITE|HUB|HUB|20261124||ACK^A01^ACK|{own}|P|2.5\rMSA|{code}|{control_id}\r{err}".encode()


class Connection:
    """The receiver's side of one connection, driven by a script."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.decoder = FrameDecoder()
        self.frames: list[bytes] = []

    async def message(self) -> bytes | None:
        """The control id of the next message, None at the end."""
        while not self.frames:
            try:
                data = await self.reader.read(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            self.frames.extend(self.decoder.feed(data))
        return msh_10(self.frames.pop(0))

    def write(self, *bodies: bytes) -> None:
        self.writer.write(b"".join(map(frame, bodies)))

    def abort(self) -> None:
        self.writer.transport.abort()


Script = Callable[[Connection], Awaitable[None]]


class Receiver:
    """Runs one script for each connection; the last one serves all further connections."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = scripts
        self.connections: list[Connection] = []

    async def __aenter__(self) -> Receiver:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=1 << 21)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for connection in self.connections:
            connection.abort()
        await asyncio.sleep(0.02)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self.connections.append(connection)
        await self.scripts[min(len(self.connections), len(self.scripts)) - 1](connection)

    def destination(self, **options) -> MllpDestination:
        options.setdefault("ack_timeout_s", 0.4)
        return MllpDestination(MllpDestinationOptions("lab", "127.0.0.1", self.port, **options))


async def obliging(connection: Connection) -> None:
    while (control_id := await connection.message()) is not None:
        connection.write(ack(control_id, own="OWN-" + control_id.decode()))


async def silent(connection: Connection) -> None:
    while await connection.message() is not None:
        pass


def answering(*bodies: bytes, raw: bytes = b"") -> Script:
    async def script(connection: Connection) -> None:
        if await connection.message() is not None:
            connection.write(*bodies)
            connection.writer.write(raw)
        await silent(connection)

    return script


async def send(destination: MllpDestination, control_id: str) -> PeerReference:
    return await destination.send(message(control_id), delivery_id=1, control_id=control_id)


async def served_afterwards(destination: MllpDestination, control_id: str = "NEXT") -> None:
    """The next message goes over a new connection and gets its own answer."""
    assert (await send(destination, control_id)).external_ref == f"OWN-{control_id}"


def test_accepted(run):
    async def scene():
        async with Receiver(obliging) as receiver:
            destination = receiver.destination()
            assert (destination.name, destination.in_flight) == ("lab", 16)
            for n in range(5):
                reference = await send(destination, f"M{n}")
                assert reference == PeerReference(f"OWN-M{n}", ack(f"M{n}", own=f"OWN-M{n}"))
            assert len(receiver.connections) == 1, "one lasting connection"
            await destination.close()
            with pytest.raises(PeerUnavailable):
                await send(destination, "late")

    run(scene())


@pytest.mark.parametrize(
    ("code", "err", "raised", "sentence"),
    [
        ("CA", "", None, ""),
        (
            "AE",
            "ERR||PID^1^3|204^Unknown key^HL70357|E|||NIR DE DUPONT\r",
            PeerRefused,
            "MSA-1 AE, ERR-3 204 (Unknown key identifier)",
        ),
        ("CE", "", PeerRefused, "MSA-1 CE"),
        ("AE", "ERR|PID^1^5^103&Table value not found&HL70357\r", PeerRefused, "MSA-1 AE, ERR-3 103 (Table value not found)"),
        ("AE", "ERR||PID^1^3|DUPONT JEAN^né en 1979|E\r", PeerRefused, "MSA-1 AE"),
        ("AR", "ERR|||207^x|E\r", PeerBusy, "MSA-1 AR, ERR-3 207 (Application error)"),
        ("CR", "", PeerBusy, "MSA-1 CR"),
    ],
)
def test_what_msa_1_means(run, code, err, raised, sentence):
    async def scene():
        body = ack("M1", code, err=err)
        async with Receiver(answering(body)) as receiver:
            destination = receiver.destination()
            if raised is None:
                assert (await send(destination, "M1")).answer == body
            else:
                with pytest.raises(raised) as caught:
                    await send(destination, "M1")
                assert caught.value.sentence == sentence
                assert caught.value.answer == body
            await destination.close()

    run(scene())


def test_a_long_refusal_is_cut(run):
    async def scene():
        async with Receiver(answering(ack("M1", "AE") + b"NTE|1||" + b"x" * 50_000)) as receiver:
            destination = receiver.destination()
            with pytest.raises(PeerRefused) as caught:
                await send(destination, "M1")
            assert len(caught.value.answer) == 4096
            await destination.close()

    run(scene())


def test_nobody_listens(run):
    async def scene():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            destination = MllpDestination(MllpDestinationOptions("lab", "127.0.0.1", free.getsockname()[1]))
            with pytest.raises(PeerUnavailable):
                await send(destination, "M1")
            with pytest.raises(PeerUnavailable):
                await destination.probe()
            outcomes = await asyncio.gather(*(send(destination, f"M{n}") for n in range(10)), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [PeerUnavailable] * 10
            await destination.close()

    run(scene())


def test_connect_timeout(run):
    async def scene():
        with socket.socket() as full:  # a listener whose queue is full answers nothing
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = full.getsockname()
            plugs = [socket.socket() for _ in range(4)]
            for plug in plugs:
                plug.setblocking(False)
                plug.connect_ex(address)
            destination = MllpDestination(MllpDestinationOptions("lab", "127.0.0.1", address[1], connect_timeout_s=0.3))
            began = time.monotonic()
            with pytest.raises(PeerUnavailable, match="TimeoutError"):
                await send(destination, "M1")
            assert time.monotonic() - began < 3
            await destination.close()
            for plug in plugs:
                plug.close()

    run(scene())


def test_probe_connects_and_sends_nothing(run):
    async def scene():
        async with Receiver(obliging) as receiver:
            destination = receiver.destination()
            await destination.probe()
            await destination.probe()
            await served_afterwards(destination)
            assert len(receiver.connections) == 1
            await destination.close()

    run(scene())


@pytest.mark.parametrize(
    ("script", "waits"),
    [
        (silent, True),
        (answering(ack("OTHER")), True),
        (answering(ack("")), True),
        (answering(ack("M10")), True),
        (answering(raw=b"SMTP 220 hello" * 400), False),
        (answering(raw=b"\x0bnot HL7\x1c\r"), False),
        (answering(raw=b"\x0bMSH|^~\\&|APP\rPID|1\r\x1c\r"), False),
        (answering(raw=b"\x0bMSH|^~\\&|APP|||||||R1\rMSA|ZZ|M1\r\x1c\r"), False),
        (answering(raw=b"\x0b" + ack("M1")), True),
        (answering(raw=frame(ack("M1"))[:-1]), True),
        (answering(raw=b"\x0b" + b"A" * 70_000), False),
    ],
    ids=[
        "never",
        "wrong MSA-2",
        "empty MSA-2",
        "MSA-2 begins alike",
        "garbage",
        "no HL7",
        "no MSA",
        "unknown MSA-1",
        "half frame",
        "half trailer",
        "too long",
    ],
)
def test_no_usable_answer(run, script, waits):
    async def scene():
        async with Receiver(script, obliging) as receiver:
            destination = receiver.destination(max_ack_bytes=65536)
            began = time.monotonic()
            with pytest.raises(NoAnswer):
                await send(destination, "M1")
            assert (time.monotonic() - began > 0.35) is waits
            await served_afterwards(destination)
            assert len(receiver.connections) == 2
            assert await receiver.connections[0].message() is None, "the doubtful connection is closed"
            await destination.close()

    run(scene())


async def drop_after_read(connection: Connection) -> None:
    await connection.message()
    connection.abort()


async def half_frame_then_end(connection: Connection) -> None:
    await connection.message()
    connection.writer.write(b"\x0bMSH|^~")
    connection.writer.close()


@pytest.mark.parametrize("script", [drop_after_read, half_frame_then_end])
def test_connection_lost_after_the_message_left(run, script):
    async def scene():
        async with Receiver(script, obliging) as receiver:
            destination = receiver.destination(ack_timeout_s=5)
            with pytest.raises(NoAnswer):
                await send(destination, "M1")
            await served_afterwards(destination)
            await destination.close()

    run(scene())


def test_connection_ended_while_idle_is_made_again(run):
    async def ends(connection: Connection) -> None:
        control_id = await connection.message()
        connection.write(ack(control_id, own="first"))
        await connection.writer.drain()
        connection.writer.close()

    async def scene():
        async with Receiver(ends, obliging) as receiver:
            destination = receiver.destination()
            assert (await send(destination, "M1")).external_ref == "first"
            await asyncio.sleep(0.05)
            await served_afterwards(destination)
            await destination.close()

    run(scene())


def test_late_answer_is_never_taken_for_the_next_message(run):
    """The receiver answers M1 after the timeout, on whatever connection is then open."""

    async def scene():
        late = asyncio.Event()

        async def second(connection: Connection) -> None:
            control_id = await connection.message()
            connection.write(ack("M1", own="LATE"))
            await connection.writer.drain()
            late.set()
            await asyncio.sleep(0.1)
            connection.write(ack(control_id, own="MINE"))
            await silent(connection)

        async with Receiver(silent, second) as receiver:
            destination = receiver.destination()
            with pytest.raises(NoAnswer):
                await send(destination, "M1")
            with structlog.testing.capture_logs() as logged:
                assert (await send(destination, "M2")).external_ref == "MINE"
            assert late.is_set()
            assert [line["event"] for line in logged] == ["mllp.ack_unmatched"]
            await destination.close()

    run(scene())


def test_second_answer_is_ignored(run):
    async def twice(connection: Connection) -> None:
        while (control_id := await connection.message()) is not None:
            connection.write(ack(control_id, "AA", own="OWN-" + control_id.decode()), ack(control_id, "AE", own="second"))

    async def scene():
        async with Receiver(twice) as receiver:
            destination = receiver.destination()
            with structlog.testing.capture_logs() as logged:
                for n in range(4):
                    assert (await send(destination, f"M{n}")).external_ref == f"OWN-M{n}"
            assert len(logged) == 1, "told once a connection"
            assert len(receiver.connections) == 1
            await destination.close()

    run(scene())


def test_answers_in_any_order_reach_their_messages(run):
    async def backwards(connection: Connection) -> None:
        while True:
            ids = [await connection.message() for _ in range(8)]
            if None in ids:
                return
            connection.write(*(ack(control_id, own="OWN-" + control_id.decode()) for control_id in reversed(ids)))

    async def scene():
        async with Receiver(backwards) as receiver:
            destination = receiver.destination(in_flight=8)
            references = await asyncio.gather(*(send(destination, f"M{n}") for n in range(40)))
            assert [reference.external_ref for reference in references] == [f"OWN-M{n}" for n in range(40)]
            await destination.close()

    run(scene())


@pytest.mark.parametrize(("in_flight", "connections"), [(1, 1), (4, 1), (2, 3)])
def test_never_more_in_flight_than_allowed(run, in_flight, connections):
    async def scene():
        most = 0

        async def slow(connection: Connection) -> None:
            nonlocal most
            waiting: list[bytes] = []

            async def read() -> None:
                nonlocal most
                while (control_id := await connection.message()) is not None:
                    waiting.append(control_id)
                    most = max(most, len(waiting))

            reading = asyncio.create_task(read())
            while not reading.done():
                await asyncio.sleep(0.005)
                if waiting:
                    connection.write(ack(waiting.pop(0)))

        async with Receiver(slow) as receiver:
            destination = receiver.destination(in_flight=in_flight, connections=connections, ack_timeout_s=5)
            assert destination.in_flight == in_flight * connections
            await asyncio.gather(*(send(destination, f"M{n}") for n in range(30)))
            assert most == in_flight
            assert len(receiver.connections) == connections
            await destination.close()

    run(scene())


def test_messages_sent_together_leave_in_one_write_and_in_order(run):
    async def scene():
        seen: list[bytes] = []

        async def keep(connection: Connection) -> None:
            while (control_id := await connection.message()) is not None:
                seen.append(control_id)
                connection.write(ack(control_id))

        async with Receiver(keep) as receiver:
            destination = receiver.destination()
            await destination.probe()
            await asyncio.gather(*(send(destination, f"M{n:02}") for n in range(50)))
            assert seen == [b"M%02d" % n for n in range(50)]
            await destination.close()

    run(scene())


def test_the_same_control_id_waits_for_its_predecessor(run):
    async def scene():
        open_now = most = 0

        async def one_after_the_other(connection: Connection) -> None:
            nonlocal open_now, most
            while (control_id := await connection.message()) is not None:
                most = max(most, 1 + len(connection.frames))
                await asyncio.sleep(0.02)
                connection.write(ack(control_id))

        async with Receiver(one_after_the_other) as receiver:
            destination = receiver.destination(connections=2, ack_timeout_s=5)
            await asyncio.gather(*(send(destination, "015") for _ in range(6)))
            assert most == 1
            await destination.close()

    run(scene())


def test_timeout_takes_everything_in_flight_on_its_connection(run):
    async def first_only(connection: Connection) -> None:
        control_id = await connection.message()
        connection.write(ack(control_id))
        await silent(connection)

    async def scene():
        async with Receiver(first_only, obliging) as receiver:
            destination = receiver.destination(in_flight=4)
            outcomes = await asyncio.gather(*(send(destination, f"M{n}") for n in range(4)), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [PeerReference, NoAnswer, NoAnswer, NoAnswer]
            await served_afterwards(destination)
            await destination.close()

    run(scene())


def test_a_slow_receiver_that_answers_in_order_is_not_cut(run):
    """Each answer takes 0.25 s, six messages are in flight: the last waits 1.5 s, well past the timeout of 0.4 s."""

    async def slow(connection: Connection) -> None:
        while (control_id := await connection.message()) is not None:
            await asyncio.sleep(0.25)
            connection.write(ack(control_id))

    async def scene():
        async with Receiver(slow) as receiver:
            destination = receiver.destination()
            await asyncio.gather(*(send(destination, f"M{n}") for n in range(6)))
            assert len(receiver.connections) == 1
            await destination.close()

    run(scene())


def test_one_muted_message_times_out_among_answered_ones(run):
    async def mute(connection: Connection) -> None:
        while (control_id := await connection.message()) is not None:
            if control_id != b"MUTE":
                connection.write(ack(control_id))

    async def scene():
        async with Receiver(mute) as receiver:
            destination = receiver.destination()
            muted = asyncio.create_task(send(destination, "MUTE"))
            began = time.monotonic()
            n = 0
            while not muted.done():
                n += 1
                await asyncio.gather(send(destination, f"M{n}"), return_exceptions=True)
                await asyncio.sleep(0.01)
            assert 0.3 < time.monotonic() - began < 2
            assert isinstance(muted.exception(), NoAnswer)
            await destination.close()

    run(scene())


@pytest.mark.parametrize("lenient", [True, False])
def test_empty_msa_2(run, lenient):
    async def scene():
        async with Receiver(answering(ack("", own="R9"))) as receiver:
            destination = receiver.destination(lenient_msa=lenient)
            if lenient:
                assert (await send(destination, "M1")).external_ref == "R9"
            else:
                with pytest.raises(NoAnswer):
                    await send(destination, "M1")
            await destination.close()

    run(scene())


def test_empty_msa_2_among_several_in_flight_is_nobodys(run):
    async def scene():
        async with Receiver(answering(ack(""))) as receiver:
            destination = receiver.destination(lenient_msa=True)
            outcomes = await asyncio.gather(send(destination, "M1"), send(destination, "M2"), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [NoAnswer, NoAnswer]
            await destination.close()

    run(scene())


def test_message_without_control_id_is_not_sent(run):
    async def scene():
        async with Receiver(silent) as receiver:
            destination = receiver.destination()
            with pytest.raises(PeerRefused, match="MSH-10"):
                await destination.send(message(""), delivery_id=1, control_id="")
            assert not receiver.connections
            await destination.close()

    run(scene())


def test_a_message_that_no_answer_can_name_travels_alone(run):
    async def scene():
        together: list[set[bytes]] = []

        async def waits(connection: Connection) -> None:
            while (control_id := await connection.message()) is not None:
                batch = [control_id]
                await asyncio.sleep(0.05)  # whatever else is in flight arrives meanwhile
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        while True:
                            batch.append(await connection.message())
                together.append(set(batch))
                connection.write(*(ack(control_id) for control_id in batch))

        async with Receiver(waits) as receiver:
            destination = receiver.destination(lenient_msa=True, ack_timeout_s=5)
            await destination.probe()
            nameless = (destination.send(b"no header", delivery_id=1, control_id="") for _ in range(2))
            await asyncio.gather(send(destination, "M1"), send(destination, "M2"), *nameless, send(destination, "M3"))
            assert together.count({b""}) == 2
            assert sorted(set().union(*together)) == [b"", b"M1", b"M2", b"M3"]
            assert all(b"" not in batch or len(batch) == 1 for batch in together)
            await destination.close()

    run(scene())


def test_an_answer_before_its_message_left_is_not_taken(run):
    """A receiver restarted with its old queue may name an id that is only now being sent."""

    async def scene():
        async with Receiver(obliging) as receiver:
            link = MllpLink(receiver.destination()._options, lambda: None)
            await asyncio.get_running_loop().create_connection(lambda: link, "127.0.0.1", receiver.port)
            answer = link.send(message("M1"), b"M1")
            link.data_received(frame(ack("M1", own="EARLY")))
            assert (await answer).external_ref == "OWN-M1"
            link.close()

    run(scene())


def test_close_ends_what_is_in_flight(run):
    async def scene():
        async with Receiver(silent) as receiver:
            destination = receiver.destination(ack_timeout_s=10, in_flight=1)
            sent = [asyncio.create_task(send(destination, f"M{n}")) for n in range(3)]
            await asyncio.sleep(0.1)
            await destination.close()
            outcomes = await asyncio.gather(*sent, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [NoAnswer, PeerUnavailable, PeerUnavailable]

    run(scene())


def test_a_cancelled_send_leaves_the_others_alone(run):
    async def scene():
        go = asyncio.Event()

        async def later(connection: Connection) -> None:
            ids = [await connection.message(), await connection.message()]
            await go.wait()
            connection.write(*(ack(control_id, own="OWN-" + control_id.decode()) for control_id in ids))
            await obliging(connection)

        async with Receiver(later) as receiver:
            destination = receiver.destination(ack_timeout_s=5)
            first, second = (asyncio.create_task(send(destination, name)) for name in ("M1", "M2"))
            await asyncio.sleep(0.05)
            first.cancel()
            await asyncio.sleep(0)
            go.set()
            assert (await second).external_ref == "OWN-M2"
            await served_afterwards(destination)
            assert len(receiver.connections) == 1
            await destination.close()

    run(scene())


def test_a_large_message_that_is_still_moving_is_not_timed_out(run):
    async def sips(connection: Connection) -> None:
        wanted, got = 24 << 20, 0
        while got < wanted:
            data = await connection.reader.read(1 << 20)
            got += len(data)
            await asyncio.sleep(0.03)
        connection.write(ack("BIG"))
        await silent(connection)

    async def scene():
        async with Receiver(sips) as receiver:
            destination = receiver.destination(ack_timeout_s=0.5)
            began = time.monotonic()
            await destination.send(message("BIG", "x" * (24 << 20)), delivery_id=1, control_id="BIG")
            assert time.monotonic() - began > 0.5
            await destination.close()

    run(scene())


# ---- reading acknowledgements ---------------------------------------------------------------------------------------


def test_acknowledgement_with_other_separators_and_line_ends():
    body = b"MSH#:~\\&#A#B#C#D#2026##ACK#OWN#P#2.5\nMSA#AE#M1\nERR##PID:1:3#101:Required#E\n"
    read = read_acknowledgement(body)
    assert (read.code, read.msa_2, read.msh_10, read.err_3) == ("AE", b"M1", "OWN", "101")


@pytest.mark.parametrize("body", [b"", b"MSH", b"MSH|^~\\&|", b"MSA|AA|1\r", b"MSH|^~\\&|A\rMSX|AA|1", b"\xff" * 40])
def test_what_is_no_acknowledgement(body):
    assert read_acknowledgement(body) is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (message("M1"), b"M1"),
        (b"MSH|^~\\&|A|B|C|D|E|F|G", b""),
        (b"MSH|^~\\&|A|B|C|D|E|F|G|ID7", b"ID7"),
        (b"PID|1", b""),
        (b"", b""),
        (b"MSH|^\xcb\x9c\\&|A|B|C|D|E|F|G|015|P", b"015"),
    ],
)
def test_msh_10(body, expected):
    assert msh_10(body) == expected


text = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="|^&"), max_size=30)


@given(
    st.binary(max_size=300)
    | st.binary(max_size=200).map(lambda tail: b"MSH|^~\\&|" + tail)
    | st.binary(max_size=200).map(lambda tail: b"MSH|^~\\&|A\rMSA|" + tail)
)
def test_anything_is_read_without_raising_and_only_codes_come_out(body):
    read = read_acknowledgement(body)
    assert msh_10(body) in body
    messages_in(body)
    if read is not None:
        assert read.msa_2 in body
        assert all(code == "" or (code.isascii() and len(code) <= 20 and " " not in code) for code in (read.code, read.err_3))


@given(text, text, st.sampled_from(["AA", "AE", "AR", "CA", "CE", "CR"]), st.sampled_from(["\r", "\n", "\r\n"]))
def test_acknowledgements_come_back(control_id, own, code, line_end):
    read = read_acknowledgement(ack(control_id, code, own).decode().replace("\r", line_end).encode())
    assert (read.code, read.msa_2.decode(), read.msh_10) == (code, control_id, own)


# ---- sending files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"MSH|1\nPID|1\n\n\nMSH|2\nPID|2\n",
        b"MSH|1\r\nPID|1\r\nMSH|2\r\nPID|2",
        b"\xef\xbb\xbfMSH|1\rPID|1\rMSH|2\rPID|2\r",
        b"FHS|^~\\&\nBHS|^~\\&\nMSH|1\nPID|1\nMSH|2\nPID|2\nBTS|2\nFTS|1\n",
        frame(b"MSH|1\nPID|1\n") + b"\n" + frame(b"MSH|2\rPID|2"),
        frame(b"MSH|1\rPID|1\r") + b"\x0bMSH|2\rPID|2\r",
    ],
    ids=["LF", "CRLF", "CR with BOM", "batch", "framed", "framed, last end missing"],
)
def test_messages_in_a_file(content):
    assert messages_in(content) == [b"MSH|1\rPID|1\r", b"MSH|2\rPID|2\r"]


def test_files_are_sent_in_order_with_a_result_each(run):
    async def some(connection: Connection) -> None:
        while (control_id := await connection.message()) is not None:
            code = {b"M3": "AE", b"M4": "AR"}.get(control_id, "AA")
            connection.write(ack(control_id, code))

    async def scene():
        async with Receiver(some) as receiver:
            options = MllpDestinationOptions("send", "127.0.0.1", receiver.port, in_flight=4, ack_timeout_s=2)
            files = [
                ("a.hl7", message("M1").replace(b"\r", b"\n") + message("M2")),
                ("b.hl7", message("M3")),
                ("c.hl7", message("M4")),
                ("d.hl7", b"no header at all"),
                ("e.hl7", message("M1")),
            ]
            results = [sent async for sent in send_messages(options, files)]
            assert [(sent.file, sent.number, sent.code, sent.accepted) for sent in results] == [
                ("a.hl7", 1, "AA", True),
                ("a.hl7", 2, "AA", True),
                ("b.hl7", 1, "AE", False),
                ("c.hl7", 1, "AR", False),
                ("d.hl7", 1, "AA", True),
                ("e.hl7", 1, "AA", True),
            ]
            assert all(sent.answer.startswith(b"MSH") for sent in results)

    run(scene())


def test_files_to_nobody(run):
    async def scene():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            options = MllpDestinationOptions("send", "127.0.0.1", free.getsockname()[1], in_flight=1)
            results = [sent async for sent in send_messages(options, [("a", message("M1")), ("b", message("M2"))])]
            assert [(sent.code, sent.accepted, sent.answer) for sent in results] == [("PeerUnavailable", False, b"")] * 2

    run(scene())
