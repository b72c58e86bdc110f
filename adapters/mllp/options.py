"""What may be set on an MLLP listener and an MLLP destination. Times in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.mllp.frames import MAX_FRAME_BYTES
from adapters.mllp.tls import TlsClientOptions, TlsServerOptions


@dataclass(frozen=True, slots=True)
class MllpSourceOptions:
    """One listener.

    `peers` are networks (`10.1.2.0/24`) or addresses, empty = everyone. `tls_client_names` are the common names or
    subject alternative names allowed in client certificates, empty = every certificate of the client CA.
    `idle_timeout_s` 0 = a silent connection between frames stays. A begun frame must move on every `frame_timeout_s`
    and reach, after that time, an average of `min_bytes_per_s`. `reuse_port`: other processes of this machine listen on the
    same port, and the system gives each a part of the connections.
    """

    name: str
    host: str = "127.0.0.1"
    port: int = 0
    tls: TlsServerOptions | None = None
    tls_client_names: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    max_frame_bytes: int = MAX_FRAME_BYTES
    max_connections: int = 10_000
    max_pipelined: int = 64
    idle_timeout_s: float = 0.0
    frame_timeout_s: float = 30.0
    min_bytes_per_s: int = 16_384
    tls_handshake_timeout_s: float = 10.0
    linger_s: float = 1.0
    backlog: int = 512
    reuse_port: bool = False


@dataclass(frozen=True, slots=True)
class MllpDestinationOptions:
    """One receiver. `in_flight` messages may wait for their answer on each of `connections`; 1 = strictly one by one.

    `ack_timeout_s` runs for the oldest unanswered message of a connection. `lenient_msa` takes an acknowledgement
    with an empty MSA-2 when exactly one message is in flight, and sends a message without MSH-10, alone.
    """

    name: str
    host: str
    port: int
    tls: TlsClientOptions | None = None
    connections: int = 1
    in_flight: int = 16
    connect_timeout_s: float = 10.0
    ack_timeout_s: float = 30.0
    max_ack_bytes: int = 1 << 20
    lenient_msa: bool = False
