"""Doctor: ports, readiness of the running hub, destinations, certificates."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from hub.app.certificate_dates import MAX_BYTES, NotACertificate, validities
from hub.app.check import dmp_mistakes, tls_mistakes
from hub.app.config import Installation, absolute
from hub.app.doctor_running import Running
from hub.app.ways import MllpDestinationSection, MllpSourceSection
from hub.store.verdicts import OK, WARNING, WRONG, Verdict

CONNECT_S = 1.0
EXPIRY_DAYS = 30
_NOT_FREE = {
    errno.EADDRINUSE: ("is held by another program", "ss -ltnp 'sport = :{port}' shows it: stop it, or listen elsewhere"),
    errno.EACCES: ("may not be used by this user", "take a port from 1024 on, or AmbientCapabilities=CAP_NET_BIND_SERVICE"),
    errno.EADDRNOTAVAIL: ("is no address of this machine", "ip addr shows those there are"),
}
_TLS_FILES = ("tls_cert_file", "tls_client_ca_file", "tls_ca_file")


def listeners(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """Every address to listen on: answered by the running hub, or free for it."""
    configuration = installation.configuration
    here = running if running is not None else Running(0, listens=False, serves=False)
    listening = [source for source in configuration.source if isinstance(source, MllpSourceSection)]
    named = [(f"source {source.name}", source.listen, here.listens) for source in listening]
    for name, listen, answers in [*named, ("web", configuration.web.listen, here.serves)]:
        host, port = _split(listen)
        if port == 0:
            yield Verdict(name, OK, f"{listen} takes any free port")
        elif answers:
            yield _answered(name, listen)
        else:
            yield _free(name, listen, host, port)


def _answered(name: str, listen: str) -> Verdict:
    code = _connect(_reachable(listen))
    if code:
        return Verdict(
            name,
            WRONG,
            f"the hub runs, and {listen} is not answered ({code})",
            "restart the hub; its log says why it does not listen",
        )
    return Verdict(name, OK, f"{listen} is answered")


def _free(name: str, listen: str, host: str, port: int) -> Verdict:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            says, step = _NOT_FREE.get(error.errno or 0, ("cannot be used", "name an address of this machine"))
            return Verdict(name, WRONG, f"{listen} {says}", step.format(port=port))
    return Verdict(name, OK, f"{listen} is free")


def readiness(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """What the running hub says of itself."""
    web = installation.configuration.web
    host, port = _split(_reachable(web.listen))
    if running is None or not running.serves or port == 0 or web.tls_client_ca_file is not None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # its certificate is examined below
    connection = (
        http.client.HTTPSConnection(host, port, timeout=CONNECT_S * 2, context=context)
        if web.tls_cert_file is not None
        else http.client.HTTPConnection(host, port, timeout=CONNECT_S * 2)
    )
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        yield Verdict(
            "readiness", WRONG, f"/readyz gives no answer ({type(error).__name__})", "restart the hub; its log says what ails it"
        )
        return
    finally:
        connection.close()
    if status == 200:
        yield Verdict("readiness", OK, "the hub takes messages")
    else:
        yield Verdict(
            "readiness",
            WRONG,
            f"/readyz answers {status}: the hub cannot take messages",
            "curl /readyz says which part is missing",
        )


def destinations(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """Whether each destination takes a connection now; its deliveries wait while it does not."""
    configuration = installation.configuration
    there = {f"destination {d.name}": d.connect for d in configuration.destination if isinstance(d, MllpDestinationSection)}
    if configuration.dmp is not None:
        there["DMP"] = configuration.dmp.host_and_port
    if not there:
        return
    with ThreadPoolExecutor(min(16, len(there))) as pool:
        for (name, address), code in zip(there.items(), pool.map(_connect, there.values()), strict=True):
            if code:
                yield Verdict(
                    name,
                    WARNING,
                    f"{address} takes no connection ({code}): its deliveries wait",
                    "is the receiving application running, and is a firewall between?",
                )
            else:
                yield Verdict(name, OK, f"{address} takes connections")


def certificates(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """Certificates load, fit their keys, and last."""
    for mistake in (*tls_mistakes(installation), *dmp_mistakes(installation)):
        yield Verdict(
            "certificates", WRONG, mistake.sentence, "a PEM certificate and its own key, both readable by the user of the hub"
        )
    configuration = installation.configuration
    seen: set[Path] = set()
    dmp = [configuration.dmp] if configuration.dmp is not None else []
    for section in (configuration.web, configuration.bell, *configuration.source, *configuration.destination, *dmp):
        for key in _TLS_FILES:
            path = absolute(installation, getattr(section, key, None))
            if path is not None and path not in seen:
                seen.add(path)
                yield _lasting(path)


def _lasting(path: Path) -> Verdict:
    name = f"certificate {path.name}"
    try:
        with path.open("rb") as file:
            found = validities(file.read(MAX_BYTES + 1))
    except OSError as error:
        return Verdict(name, WRONG, f"{path} cannot be read ({error.strerror})", "make it readable by the user of the hub")
    except NotACertificate:
        return Verdict(name, WRONG, f"{path} holds no readable certificate", "put a PEM certificate there")
    if not found:
        return Verdict(name, WRONG, f"{path} holds no certificate", "put a PEM certificate there")
    now = datetime.now(UTC)
    first = min(found, key=lambda one: one.not_after)
    days = (first.not_after - now).days
    if first.not_after < now:
        return Verdict(name, WRONG, f"expired on {first.not_after:%Y-%m-%d}", "renew it and restart the hub")
    if max(one.not_before for one in found) > now:
        return Verdict(name, WRONG, "is not valid yet", "look at the clock of this machine, and at the certificate")
    if days < EXPIRY_DAYS:
        return Verdict(name, WARNING, f"expires on {first.not_after:%Y-%m-%d}, in {days} days", "renew it and restart the hub")
    return Verdict(name, OK, f"valid until {first.not_after:%Y-%m-%d}")


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _reachable(listen: str) -> str:
    """The address to call for one to listen on: `0.0.0.0` is called on loopback."""
    host, port = _split(listen)
    called = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"{called}:{port}"


def _connect(address: str) -> str:
    """Empty when a connection is taken, else why not."""
    try:
        socket.create_connection(_split(address), timeout=CONNECT_S).close()
    except TimeoutError:
        return "timeout"
    except socket.gaierror:
        return "no such host"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return ""
