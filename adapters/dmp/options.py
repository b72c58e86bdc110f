"""How to reach the DMP."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from hub.model.refusals import Misconfigured


@dataclass(frozen=True, slots=True)
class DmpTls:
    """Files (PEM). `ca_file` empty: the system's authorities."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class DmpOptions:
    """`url` is the base of the services, with `/` at its end; `source_id` the OID of this hub as a source of submissions."""

    url: str
    source_id: str
    tls: DmpTls | None = None
    in_flight: int = 4
    connect_timeout_s: float = 10.0
    answer_timeout_s: float = 60.0


def context_of(tls: DmpTls) -> ssl.SSLContext:
    """TLS 1.2 or later with the server's name checked, and the client's certificate.

    Raises:
        Misconfigured: a file that does not load.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file or None)
    except (OSError, ValueError) as error:
        raise Misconfigured(tls.ca_file, "tls_ca_file", f"does not load ({type(error).__name__})") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.cert_file:
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file or None, password=_no_password)
        except (OSError, ValueError) as error:
            raise Misconfigured(tls.cert_file, "tls_cert_file", f"does not load ({type(error).__name__})") from None
    return context


def _no_password() -> str:
    """Without it OpenSSL would ask on the terminal for the password of a protected key."""
    raise ValueError
