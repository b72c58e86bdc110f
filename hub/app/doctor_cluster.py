"""Doctor: the processes of a shared store, lanes that wait for somebody, and the bell between machines."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from hub.app.beside import opened
from hub.app.config import Installation, absolute
from hub.app.doctor_running import Running, members
from hub.app.prints import of_configuration
from hub.app.terminal import counted, destination_name
from hub.model.refusals import HubError
from hub.store.verdicts import OK, WARNING, Verdict

ANSWER_S = 2.0
_BLOCKED = (
    "SELECT destination, blocked_reason, count(*) FROM lane WHERE blocked_reason IS NOT NULL "
    "GROUP BY destination, blocked_reason ORDER BY destination, blocked_reason LIMIT 20"
)


def processes(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """Who is on the list of a shared store; one who misses its lease is taken off it within seconds."""
    if not installation.place.shared:
        return
    found = members(installation)
    newest = max((one.seen_us for one in found), default=0)
    for one in found:
        silent_s = (newest - one.seen_us) / 1e6
        name, says = f"process {one.edge}", f"{one.role} on {one.host}, process {one.pid}, version {one.version}"
        says += f", configuration {one.configuration}" if one.configuration else ""
        if newest - one.seen_us > one.lease_us:
            step = "look at that machine; the others have taken its work"
            yield Verdict(name, WARNING, f"{says}: silent for {silent_s:.0f} s longer than the others", step)
        else:
            yield Verdict(name, OK, says)
    if len({one.version for one in found}) > 1:
        yield Verdict("processes", WARNING, "run different versions", "end the upgrade on every machine")
    others = [str(one.edge) for one in found if one.configuration not in ("", of_configuration(installation))]
    if others:
        step = "reload or restart them: kill -HUP, or POST /api/v1/reload"
        yield Verdict("configuration", WARNING, f"processes {', '.join(others)} run with another than this file", step)
    missing = [part for part in ("edge", "worker", "web") if found and not {one.role for one in found} & {"all", part}]
    for part in missing:
        yield Verdict("processes", WARNING, f"none has the role {part}", f"vaguemestre run --role {part} on some machine")


def lanes(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """Lanes that nothing will move until somebody does something."""
    try:
        with opened(installation, read_only=True) as store:
            rows = store.read(lambda tx: tx.rows(_BLOCKED))
    except HubError:
        return  # told by the examination of the database
    for destination, reason, count in rows:
        yield Verdict(
            f"lanes to {destination_name(destination)}",
            WARNING,
            f"{counted(count, 'lane')} blocked: {reason}",
            "vaguemestre messages list --state ROUTED shows what waits",
        )


def bell(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """Whether the servers of the bell answer. Without them everything is as correct, and slower by a sweep."""
    section = installation.configuration.bell
    for url in filter(None, (one.strip() for one in section.url.split(","))):
        parts = urlsplit(url)
        where = f"{parts.hostname}:{parts.port or 4222}"
        ca = absolute(installation, section.tls_ca_file)
        secure = parts.scheme == "tls" or section.tls_ca_file is not None or section.tls_cert_file is not None
        trouble = _asked(parts.hostname or "", parts.port or 4222, secure=secure, ca=str(ca) if ca else None)
        name = f"bell {where}"
        if trouble:
            step = "is nats-server running there, with jetstream, and is a firewall between?"
            yield Verdict(name, WARNING, f"{trouble}: other processes hear of work later, nothing is lost", step)
        else:
            yield Verdict(name, OK, "answers, with JetStream")


def _asked(host: str, port: int, *, secure: bool, ca: str | None) -> str:
    """Empty when a NATS server with JetStream greets, and proves who it is where TLS is asked for. Sends it nothing."""
    try:
        with socket.create_connection((host, port), timeout=ANSWER_S) as connection:
            with connection.makefile("rb", buffering=0) as lines:
                word, _, greeting = lines.readline(1 << 16).partition(b" ")
            about = json.loads(greeting) if word == b"INFO" else {}
            if secure and not about.get("tls_required"):
                return "does not offer TLS"
            if secure:
                context = ssl.create_default_context(cafile=ca)
                with context.wrap_socket(connection, server_hostname=host):
                    pass
    except ssl.SSLCertVerificationError as error:
        return f"has a certificate that does not hold ({error.verify_message})"
    except ssl.SSLError as error:
        # a server that wants a client certificate ends the handshake; its own certificate was good then
        return "" if "CERTIFICATE_REQUIRED" in (error.reason or "") else f"does not speak TLS ({error.reason})"
    except TimeoutError:
        return "does not answer"
    except (OSError, ValueError) as error:
        return f"does not answer ({type(error).__name__})"
    if not about:
        return "is no NATS server"
    return "" if about.get("jetstream") else "has no JetStream"
