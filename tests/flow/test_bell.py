"""The bell inside one process and across processes: the same promises, and what JetStream adds to them."""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import nats
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from bench.services import NatsServer, steady_port
from hub.bell import jetstream
from hub.bell.jetstream import NAMES, SPACING_S, JetStreamBell, ring_hash
from hub.bell.local import LocalBell
from hub.bell.port import Bell
from hub.model.refusals import Misconfigured

LONG_S = 60.0  # a wait that a working bell ends at once
SHORT_S = 0.1  # a wait that nothing ends
MAIL = "mssante/zoe.testut@medecin.mssante.test"


def new_cluster() -> str:
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def quick(monkeypatch):
    """The connection is proved to live five times as often."""
    for name in ("BEAT_S", "ANSWER_S", "SILENCE_S"):
        monkeypatch.setattr(jetstream, name, getattr(jetstream, name) / 5)


@asynccontextmanager
async def ringing(url: str, cluster: str, **options) -> AsyncIterator[JetStreamBell]:
    bell = JetStreamBell(url, cluster=cluster, **options)
    await bell.start()
    try:
        yield bell
    finally:
        await bell.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def wire(url: str, subject: str):
    """Everything that passes the server under `subject`, as (subject, reply, headers, payload)."""
    seen: list[tuple[str, str, str, bytes]] = []

    async def keep(message) -> None:
        seen.append((message.subject, message.reply, str(message.headers), message.data))

    client = await nats.connect(url)
    await client.subscribe(subject, cb=keep)
    await client.flush()
    try:
        yield seen
    finally:
        await client.close()


async def in_the_stream(url: str, cluster: str, count: int) -> None:
    """Wait until the server has rings of so many names."""
    client = await nats.connect(url)
    async with asyncio.timeout(LONG_S):
        while (await client.jsm().stream_info(f"VAGUEMESTRE_{cluster.upper()}")).state.messages < count:
            await asyncio.sleep(0.01)
    await client.close()


# ---- what every bell does ------------------------------------------------------------------------------------------


@pytest.fixture(params=["local", "jetstream"])
def bell(request):
    """A maker of bells: `async with bell() as one`."""
    if request.param == "jetstream":
        url = request.getfixturevalue("nats_server").url
        return lambda: ringing(url, new_cluster())

    @asynccontextmanager
    async def local():
        yield LocalBell()

    return local


def test_a_ring_before_the_wait_is_heard(bell):
    async def main():
        async with bell() as one:
            one.ring("a")
            assert await one.wait("a", LONG_S)

    asyncio.run(main())


def test_a_ring_wakes_whoever_waits(bell):
    async def main():
        async with bell() as one:
            waiting = asyncio.create_task(one.wait("a", LONG_S))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            one.ring("a")
            assert await waiting

    asyncio.run(main())


def test_rings_in_between_are_one_ring(bell):
    async def main():
        async with bell() as one:
            for _ in range(5):
                one.ring("a")
            assert await one.wait("a", LONG_S)
            assert not await one.wait("a", SHORT_S)

    asyncio.run(main())


def test_nothing_rang(bell):
    async def main():
        async with bell() as one:
            one.ring("b")
            assert not await one.wait("a", SHORT_S)
            assert not await one.wait("a", 0)
            assert await one.wait("b", LONG_S)

    asyncio.run(main())


def test_it_is_a_bell(bell):
    async def main():
        async with bell() as one:
            port: Bell = one
            assert port.ring("a") is None

    asyncio.run(main())


# ---- across processes ----------------------------------------------------------------------------------------------


def test_bells_of_one_cluster_hear_each_other(nats_server):
    async def main():
        cluster = new_cluster()
        async with ringing(nats_server.url, cluster) as one, ringing(nats_server.url, cluster) as other:
            assert one.connected and other.connected
            for ringer, hearer in [(one, other), (other, one), (one, other)]:
                ringer.ring("a")
                assert await hearer.wait("a", LONG_S)
                assert await ringer.wait("a", LONG_S)

    asyncio.run(main())


def test_another_cluster_hears_nothing(nats_server):
    async def main():
        async with ringing(nats_server.url, new_cluster()) as one, ringing(nats_server.url, new_cluster()) as other:
            one.ring("a")
            assert not await other.wait("a", 0.5)

    asyncio.run(main())


def test_a_ring_sounds_once_and_is_not_answered(nats_server):
    async def main():
        cluster = new_cluster()
        async with (
            wire(nats_server.url, f"vaguemestre.{cluster}.>") as seen,
            ringing(nats_server.url, cluster) as one,
            ringing(nats_server.url, cluster) as other,
        ):
            one.ring("a")
            assert await one.wait("a", LONG_S)
            assert await other.wait("a", LONG_S)
            assert not await one.wait("a", 0.5)  # its own ring came back, and woke nobody
            assert not await other.wait("a", SHORT_S)
            assert len(seen) == 1

    asyncio.run(main())


def test_who_joins_late_hears_the_last_ring_of_each_name(nats_server):
    async def main():
        cluster = new_cluster()
        async with ringing(nats_server.url, cluster) as one:
            one.ring("a")
            one.ring("b")
            await in_the_stream(nats_server.url, cluster, 2)
            async with ringing(nats_server.url, cluster) as late:
                assert await late.wait("a", LONG_S)
                assert await late.wait("b", LONG_S)
                assert not await late.wait("d", SHORT_S)

    asyncio.run(main())


def test_a_ring_before_the_start_is_published_at_the_start(nats_server):
    async def main():
        cluster = new_cluster()
        async with ringing(nats_server.url, cluster) as other:
            one = JetStreamBell(nats_server.url, cluster=cluster)
            one.ring("a")
            await one.start()
            assert await other.wait("a", LONG_S)
            await one.close()

    asyncio.run(main())


def test_a_ring_just_before_the_close_is_published(nats_server):
    async def main():
        cluster = new_cluster()
        async with ringing(nats_server.url, cluster) as other:
            async with wire(nats_server.url, f"vaguemestre.{cluster}.>") as seen:
                async with ringing(nats_server.url, cluster) as one:
                    one.ring("a")
                    while one._due:
                        await asyncio.sleep(0)
                    one.ring("a")  # too soon after the first to go at once
                assert not one.connected
                await until(lambda: len(seen) == 2)
            assert await other.wait("a", LONG_S)

    asyncio.run(main())


def test_many_rings_are_few_publishes(nats_server):
    async def main():
        cluster = new_cluster()
        clock = asyncio.get_running_loop().time
        async with wire(nats_server.url, f"vaguemestre.{cluster}.>") as seen, ringing(nats_server.url, cluster) as one:
            began = clock()
            for _ in range(3000):
                one.ring("a")
                await asyncio.sleep(0)
            ended = clock()
            await asyncio.sleep(4 * SPACING_S)
            one.ring("z")
            await until(lambda: any(subject.endswith(ring_hash("z")) for subject, *_ in seen))
            published = sum(subject.endswith(ring_hash("a")) for subject, *_ in seen)
            assert 1 <= published <= (ended - began) / SPACING_S + 2

    asyncio.run(main())


def test_only_hashes_leave_the_process(nats_server):
    async def main():
        async with wire(nats_server.url, ">") as seen:
            cluster = new_cluster()
            async with ringing(nats_server.url, cluster) as one, ringing(nats_server.url, cluster) as other:
                one.ring(MAIL)
                assert await other.wait(MAIL, LONG_S)
            rings = [(subject, data) for subject, _, _, data in seen if subject.startswith(f"vaguemestre.{cluster}.ring.")]
            assert rings
            assert {subject.rpartition(".")[2] for subject, _ in rings} == {ring_hash(MAIL)}
            assert all(len(data) == 16 and int(data, 16) >= 0 for _, data in rings)
            everything = repr(seen).lower()
            assert cluster in everything
            for word in (MAIL, "testut", "medecin"):
                assert word not in everything

    asyncio.run(main())


# ---- faults --------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_server(nats_server):
    """A server that this test may kill."""
    with NatsServer() as server:
        yield server


def test_the_server_is_killed_and_comes_back_empty(own_server):
    async def main():
        cluster, changes = new_cluster(), []
        with capture_logs() as logs:
            async with (
                ringing(own_server.url, cluster, on_change=changes.append) as one,
                ringing(own_server.url, cluster) as other,
            ):
                for _ in range(2):
                    own_server.kill()
                    await until(lambda: not one.connected and not other.connected)
                    name = uuid4().hex
                    one.ring(name)
                    assert await one.wait(name, LONG_S)
                    own_server.start()
                    await until(lambda: one.connected and other.connected)
                    assert await other.wait(name, LONG_S)  # rung while the server was down
                    other.ring("back")
                    assert await one.wait("back", LONG_S)
        assert changes == [True, False, True, False, True]
        assert [entry["event"] for entry in logs].count("bell.down") == 4  # two bells, two gaps
        assert [entry["event"] for entry in logs].count("bell.up") == 6

    asyncio.run(main())


def test_after_a_gap_every_name_rings_once(own_server):
    async def main():
        async with ringing(own_server.url, new_cluster()) as one:
            assert not await one.wait("a", SHORT_S)
            own_server.kill()
            await until(lambda: not one.connected)
            assert not await one.wait("a", SHORT_S)
            own_server.start()
            assert await one.wait("a", LONG_S)

    asyncio.run(main())


def test_a_server_that_stops_answering_is_left(own_server, quick):
    async def main():
        cluster = new_cluster()
        async with ringing(own_server.url, cluster) as one, ringing(own_server.url, cluster) as other:
            os.kill(own_server.pid, signal.SIGSTOP)
            try:
                one.ring("a")
                assert await one.wait("a", LONG_S)
                await until(lambda: not one.connected and not other.connected)
            finally:
                os.kill(own_server.pid, signal.SIGCONT)
            await until(lambda: one.connected and other.connected)
            assert await other.wait("a", LONG_S)

    asyncio.run(main())


def test_a_ring_that_the_server_did_not_take_is_published_again(own_server, quick):
    async def main():
        cluster = new_cluster()
        async with ringing(own_server.url, cluster) as one, ringing(own_server.url, cluster) as other:
            os.kill(own_server.pid, signal.SIGSTOP)
            one.ring("a")
            await until(lambda: not one._due)  # in the socket, read by nobody
            await asyncio.sleep(1.25 * jetstream.BEAT_S)
            own_server.kill()
            await until(lambda: not one.connected and not other.connected)
            own_server.start()
            await until(lambda: one.connected and other.connected)  # a wait before would end by the gap
            assert await other.wait("a", LONG_S)

    asyncio.run(main())


def test_a_lost_stream_is_made_again(nats_server, quick):
    async def main():
        cluster, changes = new_cluster(), []
        async with (
            ringing(nats_server.url, cluster, on_change=changes.append) as one,
            ringing(nats_server.url, cluster, on_change=changes.append) as other,
        ):
            client = await nats.connect(nats_server.url)
            assert await client.jsm().delete_stream(f"VAGUEMESTRE_{cluster.upper()}")
            await client.close()
            await until(lambda: changes.count(False) == 2 and one.connected and other.connected)
            one.ring("a")
            assert await other.wait("a", LONG_S)

    asyncio.run(main())


def test_without_a_server_it_rings_inside_the_process():
    async def main():
        changes = []
        url = f"nats://hub:not-for-the-log@127.0.0.1:{steady_port()}"
        with capture_logs() as logs:
            async with ringing(url, new_cluster(), on_change=changes.append) as one:
                assert not one.connected
                for _ in range(20):
                    one.ring("a")
                    assert await one.wait("a", LONG_S)
                    assert not await one.wait("a", 0.05)  # attempts to connect go on meanwhile
                assert not one.connected
        assert changes == [False]
        assert [(entry["event"], entry["log_level"]) for entry in logs] == [("bell.down", "warning")]
        assert "not-for-the-log" not in repr(logs)

    asyncio.run(main())


def test_without_a_server_memory_stays_bounded():
    async def main():
        async with ringing(f"nats://127.0.0.1:{steady_port()}", new_cluster()) as one:
            for n in range(2 * NAMES):
                one.ring(f"name {n}")
            assert len(one._due) == NAMES

    asyncio.run(main())


def test_a_server_that_says_nothing_is_tried_again():
    async def main():
        connections = []

        async def mute(reader, writer) -> None:
            connections.append(writer)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, ringing(f"nats://127.0.0.1:{port}", new_cluster()) as one:
            one.ring("a")
            assert await one.wait("a", LONG_S)
            await until(lambda: len(connections) >= 2)
            assert not one.connected
        await until(lambda: all(writer.is_closing() for writer in connections))

    asyncio.run(main())


def test_a_loop_that_ends_without_close_ends_the_bell(nats_server):
    async def main():
        bell = JetStreamBell(nats_server.url, cluster=new_cluster())
        await bell.start()
        bell.ring("a")

    asyncio.run(main())


# ---- who may ring --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A folder with `cert.pem` and `key.pem` of 127.0.0.1."""
    folder = tmp_path_factory.mktemp("nats-tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nats.test")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder


@pytest.fixture
def closed_server(nats_server, certificate):
    """A server with TLS, client certificates and a password."""
    cert, key = certificate / "cert.pem", certificate / "key.pem"
    tls = f'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{cert}", verify: true }}'
    with NatsServer(config=f'{tls}\nauthorization {{ user: hub, password: "right" }}\n') as server:
        yield server


def test_tls_with_a_client_certificate_and_a_password(closed_server, certificate):
    async def main():
        cluster, cert = new_cluster(), str(certificate / "cert.pem")
        files = {"tls_ca_file": cert, "tls_cert_file": cert, "tls_key_file": str(certificate / "key.pem")}
        right = f"tls://hub:right@127.0.0.1:{closed_server.port}"
        async with ringing(right, cluster, **files) as one, ringing(right, cluster, **files) as other:
            one.ring("a")
            assert await other.wait("a", LONG_S)
        for url, options, reason in [
            (right.replace("right", "wrong"), files, "not authorized"),
            (right, {}, "SSLCertVerificationError"),
        ]:
            with capture_logs() as logs:
                async with ringing(url, cluster, **options) as one:
                    assert not one.connected
                    await until(lambda: logs)
            assert logs[0]["event"] == "bell.down"
            assert logs[0]["reason"] == reason

    asyncio.run(main())


def test_the_password_is_not_sent_when_tls_is_not_offered():
    async def main():
        received = []

        async def plain(reader, writer) -> None:
            writer.write(b'INFO {"server_id":"x","version":"2.9.10","max_payload":1048576,"jetstream":true}\r\n')
            received.append(await reader.read(1000))
            writer.close()

        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, ringing(f"tls://hub:secret@127.0.0.1:{port}", new_cluster()) as one:
            await until(lambda: len(received) >= 2)
            assert not one.connected
        assert set(received) == {b""}

    asyncio.run(main())


@pytest.mark.parametrize("cluster", ["", "a.b", "a b", "*", ">", "x" * 65])
def test_the_name_of_a_cluster_is_one_word(cluster):
    with pytest.raises(Misconfigured, match=r"cluster\.name"):
        JetStreamBell("nats://127.0.0.1", cluster=cluster)


def test_files_that_are_not_usable_are_named(tmp_path, certificate):
    with pytest.raises(Misconfigured, match=r"bell\.tls_ca_file"):
        JetStreamBell("nats://127.0.0.1", cluster="main", tls_ca_file=str(tmp_path / "absent"))
    with pytest.raises(Misconfigured, match=r"bell\.tls_cert_file"):
        JetStreamBell("nats://127.0.0.1", cluster="main", tls_cert_file=str(certificate / "cert.pem"))


@pytest.mark.skipif(importlib.util.find_spec("nkeys") is not None, reason="nkeys is installed")
def test_a_credentials_file_needs_its_package(tmp_path):
    with pytest.raises(Misconfigured, match="nkeys"):
        JetStreamBell("nats://127.0.0.1", cluster="main", creds_file=str(tmp_path / "hub.creds"))
