"""The server inside the hub's loop: ports, stopping, TLS, and how little is imported before it starts."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import signal
import ssl
import subprocess
import sys
import time

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hub.web.server import WebServer


async def _app(scope, receive, send):
    if scope["path"] == "/slow":
        await asyncio.sleep(0.3)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})


def test_it_takes_a_free_port_stops_and_starts_again():
    async def run():
        server = WebServer(lambda: _app, "127.0.0.1:0")
        handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        for _ in range(2):
            await server.start()
            assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
            async with httpx.AsyncClient() as client:
                assert (await client.get(server.url)).text == "http"
            await server.stop()
        with pytest.raises(OSError):
            await asyncio.open_connection(server.host, server.port)

    asyncio.run(run())


def test_small_answers_do_not_wait_for_the_peers_delayed_ack():
    async def run():
        server = WebServer(lambda: _app, "127.0.0.1:0")
        await server.start()
        async with httpx.AsyncClient() as client:
            times = []
            for _ in range(15):
                began = time.perf_counter()
                await client.get(server.url)
                times.append(time.perf_counter() - began)
        await server.stop()
        assert sorted(times)[7] < 0.03

    asyncio.run(run())


def test_a_port_that_is_taken_is_told():
    async def run():
        first = WebServer(lambda: _app, "127.0.0.1:0")
        await first.start()
        with pytest.raises(OSError):
            await WebServer(lambda: _app, f"127.0.0.1:{first.port}").start()
        await first.stop()
        for wrong in ("127.0.0.1", "127.0.0.1:http", "127.0.0.1:99999"):
            with pytest.raises((OSError, ValueError, OverflowError)):
                await WebServer(lambda: _app, wrong).start()

    asyncio.run(run())


def test_requests_in_hand_end_before_it_stops():
    async def run():
        server = WebServer(lambda: _app, "127.0.0.1:0")
        await server.start()
        async with httpx.AsyncClient() as client:
            slow = asyncio.create_task(client.get(server.url + "/slow"))
            await asyncio.sleep(0.1)
            await server.stop()
            assert (await slow).status_code == 200

    asyncio.run(run())


def _certificate(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub.test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.mark.parametrize("mutual", [False, True])
def test_tls_and_mutual_tls(tmp_path, mutual):
    _certificate(tmp_path)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    async def run():
        server = WebServer(
            lambda: _app, "127.0.0.1:0", tls_cert_file=cert, tls_key_file=key, tls_client_ca_file=cert if mutual else None
        )
        await server.start()
        context = ssl.create_default_context(cafile=cert)
        if mutual:
            with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
                async with httpx.AsyncClient(verify=context) as stranger:
                    await stranger.get(server.url)
            context = ssl.create_default_context(cafile=cert)
            context.load_cert_chain(cert, key)
        async with httpx.AsyncClient(verify=context) as client:
            assert (await client.get(server.url)).text == "https"
        await server.stop()

    asyncio.run(run())


def test_services_are_cheap_to_import():
    heavy = ("fastapi", "starlette", "uvicorn", "jinja2", "pydantic", "hl7")
    code = (
        "import sys, hub.web.services, hub.web.server, hub.web.tokens; "
        f"sys.exit(', '.join(m for m in {heavy!r} if m in sys.modules) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
