"""TLS and mutual TLS on MLLP: our client against our listener, certificates made for the test."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adapters.mllp.client import MllpDestination
from adapters.mllp.frames import frame
from adapters.mllp.msa import msh_10
from adapters.mllp.options import MllpDestinationOptions, MllpSourceOptions
from adapters.mllp.server import MllpSource
from adapters.mllp.tls import TlsClientOptions, TlsServerOptions, certificate_names
from hub.model.ports import Answer
from hub.model.refusals import Misconfigured, NoAnswer, PeerUnavailable


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def go(coroutine, seconds=20):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(coroutine, seconds))

    return go


@dataclass
class Issued:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cert_file: str
    key_file: str


def issue(folder: Path, name: str, issuer: Issued | None = None, alternative: str = "") -> Issued:
    """A certificate for `name`, of its own authority when `issuer` is None."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if alternative:
        names = [x509.DNSName(alternative), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Issued(certificate, key, str(cert_file), str(key_file))


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    ours, theirs = issue(folder, "ca"), issue(folder, "other-ca")
    return {
        "ca": ours,
        "other-ca": theirs,
        "server": issue(folder, "hub.hospital", ours, "hub.hospital"),
        "his": issue(folder, "his.hospital", ours),
        "lab": issue(folder, "lab.hospital", ours, "alias.hospital"),
        "stranger": issue(folder, "his.hospital.stranger", theirs),
    }


def receive(body, origin, reply):
    reply(Answer(b"MSH|^~\\&|A|B|C|D|2026||ACK|R1|P|2.5\rMSA|AA|%b\r" % msh_10(body)))


def source(pki, *, mutual=False, names=(), **options) -> MllpSource:
    tls = TlsServerOptions(pki["server"].cert_file, pki["server"].key_file, pki["ca"].cert_file if mutual else "")
    return MllpSource(MllpSourceOptions("his", tls=tls, tls_client_names=names, linger_s=0.2, **options), receive)


def destination(pki, port, who="", ca="ca", **options) -> MllpDestination:
    cert, key = (pki[who].cert_file, pki[who].key_file) if who else ("", "")
    options.setdefault("server_hostname", "hub.hospital")
    tls = TlsClientOptions(pki[ca].cert_file, cert, key, **options)
    return MllpDestination(MllpDestinationOptions("hub", "127.0.0.1", port, tls=tls, ack_timeout_s=3))


def message(control_id: str, size: int = 0) -> bytes:
    return f"MSH|^~\\&|HUB|HUB|APP|SITE|2026||ADT^A01|{control_id}|P|2.5\rPID|1||{'x' * size}\r".encode()


async def send(client: MllpDestination, control_id: str, size: int = 0):
    return await client.send(message(control_id, size), delivery_id=1, control_id=control_id)


@pytest.mark.parametrize(
    ("mutual", "who", "names"),
    [(False, "", ()), (True, "his", ()), (True, "his", ("HIS.hospital",)), (True, "lab", ("alias.hospital",))],
    ids=["server only", "mutual", "common name", "alternative name"],
)
def test_messages_pass(run, pki, mutual, who, names):
    async def scene():
        listener = source(pki, mutual=mutual, names=names)
        await listener.start()
        client = destination(pki, listener.port, who)
        sent = [send(client, f"M{n}", size) for n, size in enumerate([10, 2_000_000, 0, 70_000] * 5)]
        assert [reference.external_ref for reference in await asyncio.gather(*sent)] == ["R1"] * 20
        await client.close()
        await listener.drain(2)
        assert (listener.connections, listener.budget.used) == (0, 0)

    run(scene())


@pytest.mark.parametrize(
    ("who", "names", "reason"),
    [("", (), "TlsHandshakeFailed"), ("stranger", (), "TlsHandshakeFailed"), ("his", ("lab.hospital",), "ClientNameNotAllowed")],
    ids=["no certificate", "certificate of another authority", "name not allowed"],
)
def test_wrong_clients_are_refused_and_told(run, pki, who, names, reason):
    async def scene():
        listener = source(pki, mutual=True, names=names)
        await listener.start()
        refused, allowed = destination(pki, listener.port, who), destination(pki, listener.port, "lab")
        with structlog.testing.capture_logs() as logged, pytest.raises((PeerUnavailable, NoAnswer)) as caught:
            await send(refused, "M1")
        if reason == "TlsHandshakeFailed":
            assert isinstance(caught.value, PeerUnavailable), "the server read nothing: nothing is in doubt"
        await asyncio.sleep(0.05)
        assert [line["reason"] for line in logged if line["event"] == "mllp.refused"] == [reason]
        assert (await send(allowed, "M2")).external_ref == "R1"
        await refused.close()
        await allowed.close()
        await listener.drain(2)

    run(scene())


def test_a_certificate_refused_after_our_message_left_leaves_no_doubt(run, pki):
    """TLS 1.3: the server looks at our certificate when our first message is on its way already."""

    async def late_judge(reader, writer):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki["server"].cert_file, pki["server"].key_file)
        context.load_verify_locations(pki["ca"].cert_file)
        context.verify_mode = ssl.CERT_REQUIRED
        received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(received, to_send, server_side=True)
        for wait_s in (0.0, 0.2):
            received.write(await reader.read(65536))
            await asyncio.sleep(wait_s)
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                refusals.append(1)
            writer.write(to_send.read())
        await writer.drain()
        writer.close()

    refusals = []

    async def scene():
        server = await asyncio.start_server(late_judge, "127.0.0.1", 0)
        client = destination(pki, server.sockets[0].getsockname()[1])
        with pytest.raises(PeerUnavailable, match="CERTIFICATE_REQUIRED"):
            await send(client, "M1")
        assert refusals == [1]
        await client.close()
        server.close()

    run(scene())


def test_a_server_that_is_not_the_right_one_gets_nothing(run, pki):
    async def scene():
        listener = source(pki)
        await listener.start()
        for client in (
            destination(pki, listener.port, ca="other-ca"),
            destination(pki, listener.port, server_hostname="lab.hospital"),
        ):
            with pytest.raises(PeerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
                await send(client, "M1")
            await client.close()
        by_address = destination(pki, listener.port, server_hostname="")
        assert (await send(by_address, "M2")).external_ref == "R1"
        await by_address.close()
        await listener.drain(2)

    run(scene())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_plain_text_on_a_tls_port_and_tls_older_than_1_2(run, pki):
    async def scene():
        listener = source(pki)
        await listener.start()
        with structlog.testing.capture_logs() as logged:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(frame(message("M1")))
            assert b"\x0bMSH" not in await reader.read()
            writer.close()
        assert [line["reason"] for line in logged] == ["TlsHandshakeFailed"]
        assert logged[0]["code"]
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", listener.port, ssl=old)
        await listener.drain(2)

    run(scene())


def test_a_handshake_that_never_comes_is_cut(run, pki):
    async def scene():
        listener = source(pki, tls_handshake_timeout_s=0.3, max_connections=1)
        await listener.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        await asyncio.sleep(0.05)
        client = destination(pki, listener.port)
        with pytest.raises(PeerUnavailable):  # the silent one counts
            await send(client, "M1")
        assert await reader.read() == b""
        writer.close()
        assert (await send(client, "M2")).external_ref == "R1"
        await client.close()
        await listener.drain(2)

    run(scene())


def test_peers_are_checked_before_the_handshake(run, pki):
    async def scene():
        listener = source(pki, peers=("10.1.2.0/24",))
        await listener.start()
        client = destination(pki, listener.port)
        with structlog.testing.capture_logs() as logged, pytest.raises(PeerUnavailable):
            await send(client, "M1")
        assert [line["reason"] for line in logged if line["event"] == "mllp.refused"] == ["PeerNotAllowed"]
        await client.close()
        await listener.drain(2)

    run(scene())


def test_drain_over_tls_writes_what_is_owed(run, pki):
    async def scene():
        replies = []
        tls = TlsServerOptions(pki["server"].cert_file, pki["server"].key_file)
        listener = MllpSource(
            MllpSourceOptions("his", tls=tls, linger_s=0.2), lambda body, origin, reply: replies.append((body, reply))
        )
        await listener.start()
        client = destination(pki, listener.port)
        sent = [asyncio.create_task(send(client, f"M{n}")) for n in range(3)]
        while len(replies) < 3:
            await asyncio.sleep(0.01)
        draining = asyncio.create_task(listener.drain(3))
        await asyncio.sleep(0.1)
        for body, reply in replies:
            receive(body, None, reply)
        assert [reference.external_ref for reference in await asyncio.gather(*sent)] == ["R1"] * 3
        await draining
        await client.close()

    run(scene())


def test_files_that_do_not_serve(pki, tmp_path):
    broken = tmp_path / "broken.pem"
    broken.write_text("not PEM")
    good = pki["server"]
    for tls in (
        TlsServerOptions("missing.pem", good.key_file),
        TlsServerOptions(str(broken), good.key_file),
        TlsServerOptions(good.cert_file, pki["his"].key_file),
        TlsServerOptions(good.cert_file, good.key_file, str(broken)),
    ):
        with pytest.raises(Misconfigured):
            MllpSource(MllpSourceOptions("his", tls=tls), receive)
    for client_tls in (TlsClientOptions(ca_file=str(broken)), TlsClientOptions(cert_file="missing.pem")):
        with pytest.raises(Misconfigured):
            MllpDestination(MllpDestinationOptions("hub", "127.0.0.1", 1, tls=client_tls))
    with pytest.raises(Misconfigured, match="tls_client_names"):
        no_authority = TlsServerOptions(good.cert_file, good.key_file)
        MllpSource(MllpSourceOptions("his", tls=no_authority, tls_client_names=("a",)), receive)


def test_a_key_with_a_password_is_a_mistake_not_a_question(pki, tmp_path):
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        pki["server"].key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
        )
    )
    with pytest.raises(Misconfigured):
        MllpSource(MllpSourceOptions("his", tls=TlsServerOptions(pki["server"].cert_file, str(locked))), receive)


def test_certificate_names():
    certificate = {
        "subject": ((("countryName", "FR"),), (("commonName", "HIS.Hospital"),)),
        "subjectAltName": (("DNS", "a.hospital"), ("IP Address", "10.1.2.3")),
    }
    assert list(certificate_names(certificate)) == ["his.hospital", "a.hospital", "10.1.2.3"]
    assert list(certificate_names({})) == []
