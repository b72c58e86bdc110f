"""The sections of the configuration file. Those of ways in and out are in `hub.app.ways`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from hub.app.config_cda import CdaSection
from hub.app.config_dmp import DmpSection
from hub.app.config_feed import FeedSection
from hub.app.config_retention import RetentionSection
from hub.app.strict import Strict, TlsListener, address
from hub.app.ways import DestinationSection, SourceSection
from hub.store.bucket import parse_blobs
from hub.store.place import is_local, place_of

API = "api"  # the source of what comes by POST /api/v1/hl7


class HubSection(Strict):
    name: str = Field("VAGUEMESTRE", min_length=1, max_length=180)
    organisation: str = Field("HUB", min_length=1, max_length=180)
    finess: str = Field("", pattern=r"^([0-9][0-9AB][0-9]{7})?$")
    environment: Literal["test", "production"] = "test"
    data_dir: Path = Path("data")
    timezone: str = "Europe/Paris"
    default_charset: str = "utf-8"
    max_inflight_bytes: int = Field(256 << 20, ge=1 << 20)
    dedupe_window_days: float = Field(30, gt=0)
    drain_s: float = Field(8.0, gt=0, le=60)

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("is not a time zone name such as Europe/Paris") from None
        return value

    @field_validator("default_charset")
    @classmethod
    def _charset(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError:
            raise ValueError("is not a charset such as utf-8 or iso-8859-15") from None
        return value


class StoreSection(Strict):
    url: str = ""
    password_file: Path | None = None
    blobs: str = ""

    @field_validator("url")
    @classmethod
    def _engine(cls, value: str) -> str:
        place_of(value, base=Path(), default=Path("x"))
        return value

    @field_validator("blobs")
    @classmethod
    def _storage(cls, value: str) -> str:
        parse_blobs(value)
        return value


class BellSection(Strict):
    url: str = ""
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    creds_file: Path | None = None

    @field_validator("url")
    @classmethod
    def _servers(cls, value: str) -> str:
        for one in value.split(",") if value else ():
            parts = urlsplit(one.strip())
            if parts.scheme not in ("nats", "tls") or not parts.hostname:
                raise ValueError("must be nats://HOST:PORT or tls://HOST:PORT, several with commas between them")
            if parts.password is not None:
                raise ValueError("holds a password: use creds_file, or a client certificate")
            if parts.scheme == "nats" and not is_local(parts.hostname):
                raise ValueError("leaves this machine without TLS: use tls://")
        return value


class ClusterSection(Strict):
    name: str = Field("main", pattern=r"^[a-z0-9_-]{1,64}$")
    lease_s: float = Field(3.0, ge=1.0, le=60)


class WebSection(TlsListener):
    listen: str = "127.0.0.1:8080"
    _listen = field_validator("listen")(address)


class WhenSection(Strict):
    type: str = ""
    event: str = ""
    sending_app: str = ""


class RouteSection(Strict):
    source: str
    when: WhenSection = WhenSection()
    to: list[str] = Field(min_length=1)
    mapping: str = ""


class MappingsSection(Strict):
    folder: Path | None = None
    workers: int = Field(1, ge=1, le=64)
    time_s: float = Field(30, gt=0)
    memory_mb: int = Field(512, ge=64)


class Configuration(Strict):
    """The whole file."""

    hub: HubSection = HubSection.model_construct()
    store: StoreSection = StoreSection()
    bell: BellSection = BellSection()
    cluster: ClusterSection = ClusterSection()
    web: WebSection = WebSection()
    source: list[SourceSection] = Field([])
    destination: list[DestinationSection] = Field([])
    route: list[RouteSection] = Field([])
    mappings: MappingsSection = MappingsSection()
    retention: RetentionSection = RetentionSection.model_construct()
    dmp: DmpSection | None = None
    feed: list[FeedSection] = Field([])
    cda: CdaSection = CdaSection.model_construct()
