"""The MLLP listener on loopback sockets, on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import struct
import time
from collections.abc import Callable

import hl7
import hl7.mllp
import pytest
import structlog
import uvloop

from adapters.mllp import accept
from adapters.mllp.frames import FrameDecoder, frame
from adapters.mllp.inflight import InflightBudget
from adapters.mllp.options import MllpSourceOptions
from adapters.mllp.server import MllpSource
from hub.model.ports import Answer, Origin
from hub.model.refusals import Misconfigured

Reply = Callable[[Answer], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def go(coroutine, seconds=30):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(coroutine, seconds))

    return go


@pytest.fixture
def logged():
    with structlog.testing.capture_logs() as lines:
        yield lines


def refusals(logged) -> list[tuple[str, str]]:
    return [(line["event"], line["reason"]) for line in logged if line["event"] == "mllp.refused"]


class Flow:
    """A receive that keeps what it got; answers at once, or when the test says."""

    def __init__(self, at_once: bool = True) -> None:
        self.at_once = at_once
        self.got: list[tuple[bytes, Origin, Reply]] = []
        self.lost: list[bytes] = []

    def __call__(self, body: bytes, origin: Origin, reply: Reply) -> None:
        self.got.append((body, origin, reply))
        if self.at_once:
            self.answer(-1)

    def answer(self, place: int, close: bool = False) -> None:
        body, _, reply = self.got[place]
        reply(Answer(b"ACK " + body[:40], lambda: self.lost.append(body[:40]), close))

    async def holds(self, count: int) -> None:
        while len(self.got) < count:
            await asyncio.sleep(0.005)


class Peer:
    """A plain client: bytes out, frames in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.decoder = FrameDecoder()
        self.frames: list[bytes] = []
        self.reset = False

    @classmethod
    async def to(cls, source: MllpSource) -> Peer:
        return cls(*await asyncio.open_connection("127.0.0.1", source.port))

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def answers(self, count: int) -> list[bytes]:
        while len(self.frames) < count:
            data = await self.reader.read(65536)
            assert data, f"closed after {len(self.frames)} answers"
            self.frames.extend(self.decoder.feed(data))
        taken, self.frames = self.frames[:count], self.frames[count:]
        return taken

    async def until_closed(self) -> list[bytes]:
        """The answers that came before the end."""
        try:
            while data := await self.reader.read(65536):
                self.frames.extend(self.decoder.feed(data))
        except ConnectionError:
            self.reset = True
        self.writer.close()
        return self.frames


async def listening(flow: Flow, *, on_refused=None, budget=None, **options) -> MllpSource:
    options.setdefault("linger_s", 0.3)
    source = MllpSource(MllpSourceOptions("his", **options), flow, on_refused=on_refused, budget=budget)
    await source.start()
    return source


def test_a_message_is_handed_over_with_its_origin_and_answered(run):
    async def scene():
        flow = Flow()
        source = await listening(flow)
        peer = await Peer.to(source)
        peer.write(frame(b"MSH|1"))
        assert await peer.answers(1) == [b"ACK MSH|1"]
        body, origin, _ = flow.got[0]
        assert body == b"MSH|1"
        assert origin.source == "his"
        assert origin.connection == "1"
        host, port = peer.writer.get_extra_info("sockname")[:2]
        assert origin.peer == f"{host}:{port}"
        other = await Peer.to(source)
        other.write(frame(b"MSH|2"))
        await other.answers(1)
        assert flow.got[1][1].connection == "2"
        assert source.connections == 2
        await source.drain(2)
        assert source.connections == 0

    run(scene())


def test_one_byte_at_a_time(run):
    async def scene():
        source = await listening(Flow())
        peer = await Peer.to(source)
        for byte in frame(b"MSH|first") + b"\n" + frame(b"MSH|second"):
            peer.write(bytes([byte]))
            await peer.writer.drain()
            await asyncio.sleep(0)
        assert await peer.answers(2) == [b"ACK MSH|first", b"ACK MSH|second"]
        await source.drain(2)

    run(scene())


def test_frames_of_one_read_are_handed_over_together_and_answers_keep_their_order(run):
    """500 messages in one write, answered backwards by the flow."""

    async def scene():
        flow = Flow(at_once=False)
        source = await listening(flow, max_pipelined=1000)
        peer = await Peer.to(source)
        bodies = [b"MSH|%d" % n for n in range(500)]
        peer.write(b"".join(map(frame, bodies)))
        await flow.holds(500)
        for place in range(499, 0, -1):
            flow.answer(place)
        await asyncio.sleep(0.05)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await peer.answers(1)  # the first message is not answered yet: nothing may be written
        flow.answer(0)
        assert await peer.answers(500) == [b"ACK " + body for body in bodies]
        await source.drain(2)

    run(scene())


def test_a_reply_called_twice_writes_one_answer(run):
    async def scene():
        flow = Flow(at_once=False)
        source = await listening(flow)
        peer = await Peer.to(source)
        peer.write(frame(b"1") + frame(b"2"))
        await flow.holds(2)
        flow.answer(0)
        flow.answer(0)
        flow.answer(1)
        assert await peer.answers(2) == [b"ACK 1", b"ACK 2"]
        await source.drain(2)
        assert source.budget.used == 0

    run(scene())


def test_no_answer_owed_writes_nothing(run):
    async def scene():
        flow = Flow(at_once=False)
        source = await listening(flow)
        peer = await Peer.to(source)
        peer.write(frame(b"1") + frame(b"2"))
        await flow.holds(2)
        flow.got[0][2](Answer(b""))
        flow.answer(1)
        assert await peer.answers(1) == [b"ACK 2"]
        flow.at_once = True
        await source.drain(2)

    run(scene())


def test_reading_pauses_past_max_pipelined_and_goes_on(run):
    async def scene():
        flow = Flow(at_once=False)
        source = await listening(flow, max_pipelined=4)
        peer = await Peer.to(source)
        peer.write(frame(b"x" * 200_000) * 40)  # more than one read can bring
        await flow.holds(5)
        await asyncio.sleep(0.2)
        held = len(flow.got)
        assert held < 10
        answered = 0
        while answered < 40:
            while answered < len(flow.got):
                flow.answer(answered)
                answered += 1
            await asyncio.sleep(0.002)
        assert len(await peer.answers(40)) == 40
        await source.drain(2)

    run(scene())


def test_the_shared_budget_holds_back_and_lets_go(run):
    async def scene():
        budget = InflightBudget(1 << 20)
        flow = Flow(at_once=False)
        first, second = await listening(flow, budget=budget), await listening(flow, budget=budget)
        peers = [await Peer.to(source) for source in (first, second) for _ in range(3)]
        for peer in peers:
            peer.write(frame(b"y" * 400_000) * 5)  # 12 MB against 1 MiB
        await flow.holds(2)
        await asyncio.sleep(0.3)
        assert len(flow.got) < 12
        assert budget.used < (1 << 20) + len(peers) * (256 << 10) + 400_000
        answered = 0
        while answered < 30:
            while answered < len(flow.got):
                flow.answer(answered)
                answered += 1
            await asyncio.sleep(0.002)
        for peer in peers:
            assert len(await peer.answers(5)) == 5
        await first.drain(2)
        await second.drain(2)
        assert (budget.used, budget.owed) == (0, 0)

    run(scene())


def test_a_connection_held_back_between_frames_goes_on_when_there_is_room(run):
    async def scene():
        budget = InflightBudget(100_000)
        flow = Flow(at_once=False)
        source = await listening(flow, budget=budget)
        first, second = await Peer.to(source), await Peer.to(source)
        first.write(frame(b"1" * 150_000))
        await flow.holds(1)
        second.write(frame(b"2"))
        await flow.holds(2)  # one read past the limit, then it stops
        for peer in (first, second):
            peer.write(frame(b"more"))
        await asyncio.sleep(0.1)
        assert len(flow.got) == 2
        flow.at_once = True
        flow.answer(0)
        flow.answer(1)
        for peer in (first, second):
            assert (await peer.answers(2))[1] == b"ACK more"
        await source.drain(2)
        assert budget.used == 0

    run(scene())


def test_frames_that_fill_the_budget_together_still_end(run):
    """Six senders with one frame of 400 kB each, none complete: one is favoured after the other."""

    async def scene():
        budget = InflightBudget(600_000)
        flow = Flow()
        source = await listening(flow, budget=budget, frame_timeout_s=20)
        peers = [await Peer.to(source) for _ in range(6)]
        whole = frame(b"z" * 400_000)
        for peer in peers:
            peer.write(whole[:150_000])
        await asyncio.sleep(0.2)
        assert not flow.got
        assert budget.exhausted
        for peer in peers:
            peer.write(whole[150_000:])
        for peer in peers:
            assert len(await peer.answers(1)) == 1
        await source.drain(2)
        assert budget.used == 0

    run(scene())


def refusing(told: list[tuple[str, str, bytes]], answer: bytes | None = b"ACK AE 199"):
    def on_refused(origin: Origin, reason: str, head: bytes) -> Answer | None:
        told.append((origin.source, reason, head))
        return None if answer is None else Answer(answer)

    return on_refused


def test_frame_over_the_limit_is_refused_with_an_answer_and_others_are_served(run, logged):
    async def scene():
        told: list[tuple[str, str, bytes]] = []
        flow = Flow(at_once=False)
        source = await listening(flow, on_refused=refusing(told), max_frame_bytes=100_000)
        peer, other = await Peer.to(source), await Peer.to(source)
        secret = b"MSH|^~\\&|DUPONT"
        peer.write(frame(b"good") + b"\x0b" + secret + b"A" * 5_000_000)
        await flow.holds(1)
        flow.answer(0)
        assert await peer.until_closed() == [b"ACK good", b"ACK AE 199"]
        assert not peer.reset, "a reset could take the answer with it"
        [(name, reason, head)] = told
        assert (name, reason) == ("his", "FrameTooLong")
        assert head.startswith(secret)
        other.write(frame(b"still here"))
        await flow.holds(2)
        flow.answer(1)
        assert await other.answers(1) == [b"ACK still here"]
        await source.drain(2)
        assert source.budget.used == 0

    run(scene())
    assert refusals(logged) == [("mllp.refused", "FrameTooLong")]
    assert "DUPONT" not in repr(logged)


def test_frame_over_the_limit_without_hook_is_closed(run):
    async def scene():
        source = await listening(Flow(), max_frame_bytes=1000)
        peer = await Peer.to(source)
        peer.write(b"\x0b" + b"A" * 5000)
        assert await peer.until_closed() == []
        await source.drain(2)

    run(scene())


def test_message_without_start_block_is_answered_and_the_next_is_taken(run, logged):
    async def scene():
        told: list[tuple[str, str, bytes]] = []
        source = await listening(Flow(), on_refused=refusing(told))
        peer = await Peer.to(source)
        peer.write(b"MSH|lost\r\x1c\r" + frame(b"good"))
        assert await peer.answers(2) == [b"ACK AE 199", b"ACK good"]
        assert told == [("his", "NoStartBlock", b"MSH|lost\r")]
        await source.drain(2)

    run(scene())
    assert refusals(logged) == [("mllp.refused", "NoStartBlock")]


def test_block_without_end_is_refused_and_the_nested_one_is_taken(run):
    async def scene():
        told: list[tuple[str, str, bytes]] = []
        source = await listening(Flow(), on_refused=refusing(told))
        peer = await Peer.to(source)
        peer.write(b"\x0bMSH|lost\r" + frame(b"MSH|good"))
        assert await peer.answers(2) == [b"ACK AE 199", b"ACK MSH|good"]
        assert told == [("his", "NoEndBlock", b"MSH|lost\r")]
        await source.drain(2)

    run(scene())


def test_a_web_browser_on_the_port_is_closed(run, logged):
    async def scene():
        source = await listening(Flow(), frame_timeout_s=0.2)
        peer = await Peer.to(source)
        peer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
        assert await peer.until_closed() == []
        flood = await Peer.to(source)
        flood.write(b"A" * 100_000)
        assert await flood.until_closed() == []
        await source.drain(2)

    run(scene())
    assert refusals(logged) == [("mllp.refused", "FrameTimeout"), ("mllp.refused", "NoStartBlock")]


def test_slow_loris_is_closed_and_others_are_served(run, logged):
    async def scene():
        told: list[tuple[str, str, bytes]] = []
        source = await listening(Flow(), on_refused=refusing(told, b"ACK AR"), frame_timeout_s=0.4, linger_s=0.2)
        loris, other, idle = await Peer.to(source), await Peer.to(source), await Peer.to(source)

        async def drip():
            loris.write(b"\x0bMSH|")
            while not loris.writer.is_closing():
                loris.write(b"x")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        began = time.monotonic()
        assert await loris.until_closed() == [b"ACK AR"]
        assert 0.3 < time.monotonic() - began < 2
        dripping.cancel()
        assert told[0][:2] == ("his", "FrameTimeout")
        for peer in (other, idle):  # idle between frames is no offence
            peer.write(frame(b"ok"))
            assert await peer.answers(1) == [b"ACK ok"]
        await source.drain(2)
        assert source.budget.used == 0

    run(scene())
    assert refusals(logged) == [("mllp.refused", "FrameTimeout")]


def test_a_large_frame_that_moves_on_may_take_longer_than_the_timeout(run):
    async def scene():
        source = await listening(Flow(), frame_timeout_s=0.3, min_bytes_per_s=50_000)
        peer = await Peer.to(source)
        peer.write(b"\x0b")
        for _ in range(14):
            peer.write(b"m" * 10_000)
            await asyncio.sleep(0.1)
        peer.write(b"\x1c\r")
        assert len(await peer.answers(1)) == 1
        peer.write(b"\x0b" + b"m" * 200_000)  # has earned 4 s, but stops
        began = time.monotonic()
        await peer.until_closed()
        assert time.monotonic() - began < 2
        await source.drain(2)

    run(scene())


def test_no_clock_runs_while_the_hub_itself_holds_back(run):
    async def scene():
        flow = Flow(at_once=False)
        source = await listening(flow, max_pipelined=1, frame_timeout_s=0.3)
        peer = await Peer.to(source)
        peer.write(frame(b"1") + frame(b"2") + b"\x0bhalf")
        await flow.holds(2)
        await asyncio.sleep(0.8)
        flow.answer(0)
        flow.answer(1)
        await peer.answers(2)
        await asyncio.sleep(0.15)  # the clock has looked again, the frame still has time
        flow.at_once = True
        peer.write(b" done\x1c\r")
        assert await peer.answers(1) == [b"ACK half done"]
        await source.drain(2)

    run(scene())


def test_idle_timeout_is_off_unless_set(run, logged):
    async def scene():
        source = await listening(Flow(), idle_timeout_s=0.3)
        peer = await Peer.to(source)
        peer.write(frame(b"1"))
        await peer.answers(1)
        assert await peer.until_closed() == []
        await source.drain(2)

    run(scene())
    assert refusals(logged) == [("mllp.refused", "IdleTimeout")]


def test_connections_past_the_cap_are_closed_and_told_sparingly(run, logged):
    async def scene():
        source = await listening(Flow(), max_connections=3)
        served = [await Peer.to(source) for _ in range(3)]
        for peer in served:
            peer.write(frame(b"in"))
            await peer.answers(1)
        for _ in range(40):
            refused = await Peer.to(source)
            assert await refused.until_closed() == []
        served[0].writer.close()
        while source.connections == 3:
            await asyncio.sleep(0.01)
        late = await Peer.to(source)
        late.write(frame(b"room again"))
        assert await late.answers(1) == [b"ACK room again"]
        await source.drain(2)

    run(scene())
    assert 1 <= len(refusals(logged)) <= 3
    assert refusals(logged)[0] == ("mllp.refused", "TooManyConnections")


@pytest.mark.parametrize(
    ("peers", "allowed"),
    [(("127.0.0.0/8",), True), (("10.1.2.0/24", "127.0.0.1"), True), (("10.1.2.0/24",), False), (("::1",), False)],
)
def test_peers(run, logged, peers, allowed):
    async def scene():
        flow = Flow()
        source = await listening(flow, peers=peers)
        peer = await Peer.to(source)
        peer.write(frame(b"1"))
        if allowed:
            assert await peer.answers(1) == [b"ACK 1"]
        else:
            assert await peer.until_closed() == []
            assert not flow.got
        await source.drain(2)

    run(scene())
    assert refusals(logged) == ([] if allowed else [("mllp.refused", "PeerNotAllowed")])


def test_wrong_peers_are_a_configuration_mistake():
    with pytest.raises(Misconfigured, match="peers"):
        MllpSource(MllpSourceOptions("his", peers=("10.1.2.0/99",)), Flow())


def test_answers_that_cannot_be_written_are_lost(run):
    async def scene():
        flow = Flow(at_once=False)
        source = await listening(flow)
        peer = await Peer.to(source)
        peer.write(frame(b"1") + frame(b"2") + frame(b"3"))
        await flow.holds(3)
        flow.answer(1)  # waits behind 1
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.writer.transport.abort()  # a reset, not an orderly end
        while source.connections:
            await asyncio.sleep(0.005)
        assert flow.lost == [b"2"]
        flow.answer(0)
        flow.answer(2)
        assert flow.lost == [b"2", b"1", b"3"]
        assert source.budget.used == 0
        await source.drain(1)

    run(scene())


def test_close_asked_by_an_answer(run):
    async def scene():
        flow = Flow(at_once=False)
        source = await listening(flow)
        peer = await Peer.to(source)
        peer.write(frame(b"1") + frame(b"2") + frame(b"3"))
        await flow.holds(3)
        flow.answer(1)
        flow.answer(0, close=True)
        assert await peer.until_closed() == [b"ACK 1"]
        flow.answer(2)
        assert flow.lost == [b"2", b"3"]
        await source.drain(2)

    run(scene())


def test_a_peer_that_shuts_its_side_gets_its_answers(run):
    """`printf … | nc`: the end of the input comes before the answers."""

    async def scene():
        flow = Flow(at_once=False)
        source = await listening(flow)
        peer = await Peer.to(source)
        peer.write(frame(b"1") + frame(b"2") + b"\x0bhalf")
        peer.writer.write_eof()
        await flow.holds(2)
        await asyncio.sleep(0.05)
        flow.answer(1)
        flow.answer(0)
        assert await peer.until_closed() == [b"ACK 1", b"ACK 2"]
        await source.drain(2)
        assert not flow.lost

    run(scene())


def test_a_peer_that_does_not_read_is_closed(run, logged):
    async def scene():
        flow = Flow(at_once=False)
        source = await listening(flow, frame_timeout_s=0.3, max_pipelined=1000)
        peer = await Peer.to(source)
        peer.writer.transport.pause_reading()
        peer.write(frame(b"1") * 64)
        await flow.holds(64)
        for _, _, reply in flow.got:
            reply(Answer(b"A" * 300_000))
        while source.connections:
            await asyncio.sleep(0.02)
        await source.drain(2)

    run(scene())
    assert refusals(logged) == [("mllp.refused", "PeerNotReading")]


def test_drain_writes_the_answers_owed_and_takes_nothing_more(run):
    async def scene():
        flow = Flow(at_once=False)
        source = await listening(flow)
        port = source.port
        busy, idle, half = await Peer.to(source), await Peer.to(source), await Peer.to(source)
        busy.write(frame(b"1") + frame(b"2"))
        half.write(b"\x0bnot whole")
        idle.write(frame(b"3"))
        await flow.holds(3)
        flow.answer(next(place for place, got in enumerate(flow.got) if got[0] == b"3"))
        await idle.answers(1)
        draining = asyncio.create_task(source.drain(5))
        await asyncio.sleep(0.05)
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        busy.write(frame(b"too late"))
        half.write(b"\x1c\r")
        await asyncio.sleep(0.1)
        assert not draining.done()
        for place, (body, _, _) in enumerate(flow.got):
            if body != b"3":
                flow.answer(place)
        assert await busy.until_closed() == [b"ACK 1", b"ACK 2"]
        assert await idle.until_closed() == []
        assert await half.until_closed() == []
        assert not (busy.reset or idle.reset or half.reset)
        await draining
        assert sorted(body for body, _, _ in flow.got) == [b"1", b"2", b"3"]
        assert not flow.lost
        assert source.connections == 0

    run(scene())


def test_drain_cuts_what_is_never_answered(run, logged):
    async def scene():
        flow = Flow(at_once=False)
        source = await listening(flow)
        peer = await Peer.to(source)
        peer.write(frame(b"1"))
        await flow.holds(1)
        began = time.monotonic()
        await source.drain(0.3)
        assert time.monotonic() - began < 2
        assert await peer.until_closed() == []
        flow.answer(0)
        assert flow.lost == [b"1"]

    run(scene())
    assert [line["connections"] for line in logged if line["event"] == "mllp.drain_cut"] == [1]


def test_two_thousand_idle_connections_and_one_that_works(run):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 4_300
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"open files limited to {hard}: 2,000 connections need {needed}")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

    async def scene():
        source = await listening(Flow())
        idle: list[Peer] = []
        while len(idle) < 2_000:
            idle += await asyncio.gather(*(Peer.to(source) for _ in range(200)))
        while source.connections < 2_000:
            await asyncio.sleep(0.01)
        peer = await Peer.to(source)
        began = time.monotonic()
        for n in range(200):
            peer.write(frame(b"%d" % n))
            assert await peer.answers(1) == [b"ACK %d" % n]
        assert time.monotonic() - began < 2
        idle[1234].write(frame(b"woke up"))
        assert await idle[1234].answers(1) == [b"ACK woke up"]
        used = time.process_time()
        await asyncio.sleep(1.2)  # one tick and more of the clock
        assert time.process_time() - used < 0.1
        await source.drain(5)
        for other in (*idle, peer):
            other.writer.close()

    try:
        run(scene(), 60)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_out_of_file_descriptors_is_survived(run, logged, monkeypatch):
    class Exhausted(socket.socket):
        refusals = 2

        def accept(self):
            if Exhausted.refusals:
                Exhausted.refusals -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr(accept.socket, "socket", Exhausted)
    monkeypatch.setattr(accept, "PAUSE_OUT_OF_FILES_S", 0.2)

    async def scene():
        source = await listening(Flow())
        peer = await Peer.to(source)
        peer.write(frame(b"1"))
        used = time.process_time()
        assert await peer.answers(1) == [b"ACK 1"]
        assert time.process_time() - used < 0.2
        await source.drain(2)

    Exhausted.refusals = 2
    run(scene())
    assert refusals(logged) == [("mllp.refused", "OutOfFileDescriptors")]


def test_a_taken_port_and_a_wrong_host_are_told(run):
    async def scene():
        source = await listening(Flow())
        with pytest.raises(OSError):
            await listening(Flow(), port=source.port)
        with pytest.raises(OSError):
            await listening(Flow(), host="203.0.113.7")
        port = source.port
        await source.drain(1)
        again = await listening(Flow(), port=port)
        await again.drain(1)

    run(scene())


def test_python_hl7_is_answered(run):
    """An independent MLLP client and an independent reader of the answer."""
    header = "MSH|^~\\&|APP|SITE|HUB|HUB|20261124101500||ADT^A01^ADT_A01|PYHL7-1|P|2.5|||||FRA|UNICODE UTF-8\r"
    message = hl7.parse(header + "PID|1||990001^^^SITE^PI||ESSAI^ÉLODIE^^^^^L\r")

    def receive(body: bytes, origin: Origin, reply: Reply) -> None:
        reply(Answer(str(hl7.parse(body, encoding="utf-8").create_ack("AA")).encode()))

    async def scene():
        source = MllpSource(MllpSourceOptions("his"), receive)
        await source.start()
        reader, writer = await hl7.mllp.open_hl7_connection("127.0.0.1", source.port, encoding="utf-8")
        for _ in range(3):
            writer.writemessage(message)
            await writer.drain()
            answer = await reader.readmessage()
            assert str(answer.segment("MSA")) == "MSA|AA|PYHL7-1"
        writer.close()
        await writer.wait_closed()
        await source.drain(2)

    run(scene())
