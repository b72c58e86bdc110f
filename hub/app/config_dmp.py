"""`[dmp]`: where the DMP is.

This version neither signs nor carries a VIHF, so it speaks to a simulated DMP only: a production configuration is refused.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from hub.app.strict import Strict
from hub.app.ways import RetrySection
from hub.flow.graph import DestinationSpec, RetryPolicy
from hub.store.place import is_local

NAME = "dmp"


class DmpSection(Strict):
    """Base address of the services; `repository` and `registry` are put behind it."""

    url: str
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    in_flight: int = Field(4, ge=1, le=64)
    connect_timeout_s: float = Field(10, gt=0)
    answer_timeout_s: float = Field(60, gt=0)
    retry: RetrySection = RetrySection()

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("must be https://HOST/PATH/") from None
        if parts.scheme not in ("http", "https") or not host or port == 0:
            raise ValueError("must be https://HOST/PATH/")
        if not value.isascii() or any(c.isspace() for c in value):
            raise ValueError("holds characters that no address has")
        if parts.username is not None or parts.password is not None:
            raise ValueError("holds a name or a password: the DMP knows this hub by its certificate")
        if parts.query or parts.fragment:
            raise ValueError("has a ? or a #: only the address of the services belongs here")
        if parts.scheme == "http" and not is_local(host):
            raise ValueError("leaves this machine without TLS: use https://")
        return value if value.endswith("/") else value + "/"

    @property
    def host_and_port(self) -> str:
        """HOST:PORT of the address."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
        return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"

    @model_validator(mode="after")
    def _files(self) -> DmpSection:
        if self.tls_key_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_key_file needs tls_cert_file")
        if self.url.startswith("http://") and (self.tls_cert_file or self.tls_ca_file):
            raise ValueError("tls_… files are for https://")
        return self


def dmp_mistakes(section: DmpSection | None, environment: str) -> list[tuple[str, str]]:
    """What is wrong with it in this environment: key and reason."""
    if section is None or environment != "production":
        return []
    mistakes = []
    if not section.url.startswith("https://"):
        mistakes.append(("dmp.url", "must be https:// in production"))
    if section.tls_cert_file is None:
        mistakes.append(("dmp.tls_cert_file", "is missing: the DMP asks for the client certificate of the organisation"))
    mistakes.append(
        (
            "dmp",
            "is not for production yet: this version sends no VIHF and no XAdES signature, without which the DMP takes nothing",
        )
    )
    return mistakes


def dmp_spec(section: DmpSection) -> DestinationSpec:
    """The DMP as the flow sees it: who does not know what became of an attempt asks."""
    retry = section.retry
    return DestinationSpec(
        NAME,
        NAME,
        connect=section.url,
        on_unsure="ask",
        retry=RetryPolicy(retry.base_s, retry.cap_s, retry.give_up_h * 3600, retry.probe_s),
    )
