"""Sources and destinations of a configuration, made by kind: one maker a kind, and one line of a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.mllp.client import MllpDestination
from adapters.mllp.inflight import InflightBudget
from adapters.mllp.options import MllpDestinationOptions, MllpSourceOptions
from adapters.mllp.server import MllpSource
from adapters.mllp.tls import TlsClientOptions, TlsServerOptions
from hub.app.config import Installation, absolute
from hub.app.file_transports import folder_destination, folder_source, sftp_destination, sftp_source
from hub.app.ways import DestinationSection, MllpDestinationSection, MllpSourceSection, SourceSection
from hub.flow.meters import Meters
from hub.model.ports import Answer, Destination, Origin, Receive, Source


@dataclass(frozen=True, slots=True)
class Intake:
    """What sources need of the hub. `on_refused` answers a message that could not be taken whole."""

    installation: Installation
    receive: Receive
    on_refused: Callable[[Origin, str, bytes], Answer | None]
    budget: InflightBudget
    shared: bool  # several processes listen at the same address
    meters: Meters


def make_source(section: SourceSection, intake: Intake) -> Source:
    """A source of the configuration, not started."""
    return SOURCES[section.kind](section, intake)


def make_destination(section: DestinationSection, installation: Installation) -> Destination:
    """A destination of the configuration."""
    return DESTINATIONS[section.kind](section, installation)


def _mllp_source(section: MllpSourceSection, intake: Intake) -> Source:
    host, port = _split(section.listen)
    installation = intake.installation
    tls = None
    if section.tls_cert_file is not None and section.tls_key_file is not None:
        tls = TlsServerOptions(
            _file(installation, section.tls_cert_file),
            _file(installation, section.tls_key_file),
            _file(installation, section.tls_client_ca_file),
        )
    options = MllpSourceOptions(
        section.name,
        host,
        port,
        tls=tls,
        tls_client_names=tuple(section.tls_client_names),
        peers=tuple(section.peers),
        max_frame_bytes=section.max_frame_bytes,
        max_connections=section.max_connections,
        max_pipelined=section.max_pipelined,
        idle_timeout_s=section.idle_timeout_s,
        frame_timeout_s=section.frame_timeout_s,
        reuse_port=intake.shared,
    )
    return MllpSource(options, intake.receive, on_refused=intake.on_refused, budget=intake.budget)


def _mllp_destination(section: MllpDestinationSection, installation: Installation) -> Destination:
    host, port = _split(section.connect)
    tls = None
    if section.tls:
        tls = TlsClientOptions(
            _file(installation, section.tls_ca_file),
            _file(installation, section.tls_cert_file),
            _file(installation, section.tls_key_file),
            section.tls_server_name,
        )
    return MllpDestination(
        MllpDestinationOptions(
            section.name,
            host,
            port,
            tls=tls,
            connections=section.connections,
            in_flight=section.in_flight,
            connect_timeout_s=section.connect_timeout_s,
            ack_timeout_s=section.ack_timeout_s,
            lenient_msa=section.lenient_msa,
        )
    )


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _file(installation: Installation, path: Path | None) -> str:
    return str(absolute(installation, path) or "")


SOURCES: dict[str, Callable[[Any, Intake], Source]] = {
    "mllp": _mllp_source,
    "sftp": lambda section, intake: sftp_source(section, intake.installation, intake.receive, intake.meters),
    "folder": lambda section, intake: folder_source(section, intake.installation, intake.receive, intake.meters),
}
DESTINATIONS: dict[str, Callable[[Any, Installation], Destination]] = {
    "mllp": _mllp_destination,
    "sftp": sftp_destination,
    "folder": folder_destination,
}
