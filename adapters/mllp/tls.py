"""TLS contexts for MLLP, 1.2 and newer, and the names a client certificate carries."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hub.model.refusals import Misconfigured


@dataclass(frozen=True, slots=True)
class TlsServerOptions:
    """Files in PEM. With `client_ca_file` every client must show a certificate of that authority."""

    cert_file: str
    key_file: str
    client_ca_file: str = ""


@dataclass(frozen=True, slots=True)
class TlsClientOptions:
    """Files in PEM. `ca_file` empty = the system's authorities; `server_hostname` empty = the host connected to."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_hostname: str = ""


def server_context(options: TlsServerOptions) -> ssl.SSLContext:
    """A listener's context.

    Raises:
        Misconfigured: a file is missing, is not PEM, or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_chain(context, options.cert_file, options.key_file)
    if options.client_ca_file:
        _load_authority(context, options.client_ca_file, "tls_client_ca_file")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(options: TlsClientOptions) -> ssl.SSLContext:
    """A destination's context: the server's name and authority are always verified.

    Raises:
        Misconfigured: a file is missing, is not PEM, or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.ca_file:
        _load_authority(context, options.ca_file, "tls_ca_file")
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if options.cert_file:
        _load_chain(context, options.cert_file, options.key_file or options.cert_file)
    return context


def certificate_names(certificate: dict[str, Any]) -> Iterator[str]:
    """Common names and subject alternative names (DNS, URI, mail, IP) of a decoded certificate, in lower case."""
    for rdn in certificate.get("subject", ()):
        for kind, value in rdn:
            if kind == "commonName":
                yield value.lower()
    for _, value in certificate.get("subjectAltName", ()):
        if isinstance(value, str):
            yield value.lower()


def _load_chain(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    try:
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except (OSError, ValueError) as error:
        raise Misconfigured(cert_file, "tls_cert_file", f"certificate and key not usable ({type(error).__name__})") from error


def _load_authority(context: ssl.SSLContext, file: str, key: str) -> None:
    try:
        context.load_verify_locations(cafile=file)
    except (OSError, ValueError) as error:
        raise Misconfigured(file, key, f"authority not usable ({type(error).__name__})") from error


def _no_password() -> str:
    """Without it OpenSSL would ask on the terminal for the password of a protected key."""
    raise ValueError
