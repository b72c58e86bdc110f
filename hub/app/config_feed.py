"""`[[feed]]`: other software that is told what changes in the patient record."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from hub.app.strict import Strict
from hub.store.place import is_local

NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"


class FeedSection(Strict):
    """Notifications name what changed by type, id and version; who gets them reads it over FHIR, with rights of its own."""

    name: str = Field(pattern=NAME)
    url: str
    types: list[str] = Field([], max_length=100)
    token_file: Path | None = None
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    poll_s: float = Field(1.0, ge=0.05, le=3600)
    from_start: bool = False
    timeout_s: float = Field(20, gt=0, le=300)

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("must be https://HOST/PATH") from None
        if parts.scheme not in ("http", "https") or not host or port == 0 or not value.isascii() or " " in value:
            raise ValueError("must be https://HOST/PATH")
        if parts.username is not None or parts.password is not None:
            raise ValueError("holds a name or a password: use token_file")
        if parts.scheme == "http" and not is_local(host):
            raise ValueError("leaves this machine without TLS: use https://")
        return value

    @field_validator("types")
    @classmethod
    def _kinds(cls, value: list[str]) -> list[str]:
        if not all(one.isascii() and one.isalpha() and one[0].isupper() for one in value):
            raise ValueError("must be names of FHIR resource types")
        return value
