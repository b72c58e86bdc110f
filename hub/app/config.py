"""The configuration file, read and checked whole: every mistake is told with its file, key and reason."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hub.flow.graph import RECORD, REQUESTED, Condition, DestinationSpec, Graph, RetryPolicy, Route, SourceSpec
from hub.model.refusals import HubError, Misconfigured
from hub.model.site import Site
from hub.store.blobs import Blobs
from hub.store.bucket import open_blobs, parse_blobs
from hub.store.place import Place, is_local, place_of

API = "api"  # the source of what comes by POST /api/v1/hl7


class ConfigurationRefused(HubError):
    """One or more mistakes in the configuration."""

    code = "ConfigurationRefused"

    def __init__(self, mistakes: list[Misconfigured]) -> None:
        super().__init__("\n".join(mistake.sentence for mistake in mistakes))
        self.mistakes = mistakes


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT, for example 127.0.0.1:2575")
    return value


class _Tls(_Strict):
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None

    @model_validator(mode="after")
    def _both(self) -> _Tls:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file go together")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_client_ca_file needs tls_cert_file and tls_key_file")
        return self


class HubSection(_Strict):
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


class StoreSection(_Strict):
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


class BellSection(_Strict):
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


class ClusterSection(_Strict):
    name: str = Field("main", pattern=r"^[a-z0-9_-]{1,64}$")
    lease_s: float = Field(3.0, ge=1.0, le=60)


class WebSection(_Tls):
    listen: str = "127.0.0.1:8080"
    _listen = field_validator("listen")(_address)


class SourceSection(_Tls):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    kind: Literal["mllp"]
    listen: str
    return_to: str = ""
    routes: list[str] = []
    peers: list[str] = []
    tls_client_names: list[str] = []
    strict_control_id: bool = False
    charset: str = ""
    max_frame_bytes: int = Field(64 << 20, ge=1024)
    max_connections: int = Field(10_000, ge=1)
    max_pipelined: int = Field(64, ge=1)
    idle_timeout_s: float = Field(0, ge=0)
    frame_timeout_s: float = Field(30, gt=0)
    _listen = field_validator("listen")(_address)


class RetrySection(_Strict):
    base_s: float = Field(5, gt=0)
    cap_s: float = Field(3600, gt=0)
    give_up_h: float = Field(72, gt=0)
    probe_s: float = Field(5, gt=0)


class DestinationSection(_Strict):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    kind: Literal["mllp"]
    connect: str
    connections: int = Field(1, ge=1, le=64)
    workers: int = Field(0, ge=0, le=31)
    in_flight: int = Field(16, ge=1, le=256)
    ack_timeout_s: float = Field(30, gt=0)
    connect_timeout_s: float = Field(10, gt=0)
    lenient_msa: bool = False
    on_unsure: Literal["resend", "hold"] = "resend"
    on_ae: Literal["refuse", "retry"] = "refuse"
    on_dead: Literal["skip", "block"] = "skip"
    line_ends: Literal["cr", "as_received"] = "cr"
    retry: RetrySection = RetrySection()
    tls: bool = False
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_server_name: str = ""
    _connect = field_validator("connect")(_address)

    @field_validator("name")
    @classmethod
    def _free(cls, value: str) -> str:
        if value in (RECORD, REQUESTED, "dmp", "route") or value.startswith("mssante"):
            raise ValueError("is a name that the hub uses itself")
        return value


class WhenSection(_Strict):
    type: str = ""
    event: str = ""
    sending_app: str = ""


class RouteSection(_Strict):
    source: str
    when: WhenSection = WhenSection()
    to: list[str] = Field(min_length=1)
    mapping: str = ""


class MappingsSection(_Strict):
    folder: Path | None = None
    workers: int = Field(1, ge=1, le=64)
    time_s: float = Field(30, gt=0)
    memory_mb: int = Field(512, ge=64)


class Configuration(_Strict):
    """The whole file."""

    hub: HubSection = HubSection.model_construct()
    store: StoreSection = StoreSection()
    bell: BellSection = BellSection()
    cluster: ClusterSection = ClusterSection()
    web: WebSection = WebSection()
    source: list[SourceSection] = []
    destination: list[DestinationSection] = []
    route: list[RouteSection] = []
    mappings: MappingsSection = MappingsSection()


@dataclass(frozen=True, slots=True)
class Installation:
    """A checked configuration, with paths made absolute. `graph` is what routes messages."""

    file: Path
    configuration: Configuration
    site: Site
    graph: Graph
    data_dir: Path
    place: Place

    def blobs(self) -> Blobs:
        """The storage of large bodies."""
        return open_blobs(self.configuration.store.blobs, self.data_dir / "blobs", base=self.file.resolve().parent)


def load(file: Path) -> Installation:
    """Read and check a configuration.

    Raises:
        ConfigurationRefused: with every mistake found.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationRefused([Misconfigured(str(file), "-", f"cannot be read ({error.strerror})")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationRefused([Misconfigured(str(file), "-", f"is not TOML: {error}")]) from None
    return build(document, file)


def build(document: dict[str, Any], file: Path) -> Installation:
    """The installation that a parsed document describes; relative paths are relative to `file`."""
    try:
        configuration = Configuration.model_validate(document)
    except ValidationError as error:
        raise ConfigurationRefused(
            [Misconfigured(str(file), _key(document, mistake["loc"]), _reason(mistake)) for mistake in error.errors()]
        ) from None
    base = file.resolve().parent
    data_dir = base / configuration.hub.data_dir
    place = partial(place_of, configuration.store.url, base=base, default=data_dir / "vaguemestre.db")
    mistakes = [*_names(configuration), *_paths(configuration, base)]
    if configuration.bell.url and not place().shared:
        mistakes.append(("bell.url", 'is for several processes, which need a shared store: [store] url = "postgresql://…"'))
    if mistakes:
        raise ConfigurationRefused([Misconfigured(str(file), key, reason) for key, reason in mistakes])
    return Installation(
        file=file,
        configuration=configuration,
        site=_site(configuration),
        graph=_graph(configuration),
        data_dir=data_dir,
        place=place(password=_secret(configuration, base)),
    )


def _secret(configuration: Configuration, base: Path) -> str:
    file = configuration.store.password_file
    if file is None:
        return os.environ.get("VAGUEMESTRE_STORE_PASSWORD", "")
    try:
        return (base / file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = f"names a file that cannot be read ({type(error).__name__})"
        raise ConfigurationRefused([Misconfigured(str(file), "store.password_file", reason)]) from None


def absolute(installation: Installation, path: Path | None) -> Path | None:
    """A path of the configuration, relative to its file."""
    return installation.file.resolve().parent / path if path is not None else None


def _key(document: dict[str, Any], location: tuple[int | str, ...]) -> str:
    """`source[his].listen` rather than `source.0.listen`."""
    words: list[str] = []
    here: Any = document
    for part in location:
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            here = {}
        if isinstance(part, int):
            name = here.get("name") or here.get("source") if isinstance(here, dict) else None
            words[-1] += f"[{name or part + 1}]"
        else:
            words.append(str(part))
    return ".".join(words) or "-"


def _reason(mistake: Any) -> str:
    if mistake["type"] == "extra_forbidden":
        return "is not a setting; see docs/configuration.md for those there are"
    if mistake["type"] == "missing":
        return "is missing"
    return str(mistake["msg"]).removeprefix("Value error, ")


def _names(configuration: Configuration) -> list[tuple[str, str]]:
    mistakes = []
    seen: set[str] = set()
    for kind, sections in (("source", configuration.source), ("destination", configuration.destination)):
        for section in sections:
            if section.name in seen:
                mistakes.append((f"{kind}[{section.name}].name", "is used twice"))
            seen.add(section.name)
    sources = {s.name for s in configuration.source} | {API}
    targets = {d.name for d in configuration.destination} | {RECORD, REQUESTED}
    for source in configuration.source:
        for name in source.routes:
            if name not in targets:
                mistakes.append(
                    (f"source[{source.name}].routes", f"names {name!r}, which is no [[destination]], nor record, nor requested")
                )
        if source.return_to and source.return_to not in targets - {RECORD, REQUESTED}:
            mistakes.append((f"source[{source.name}].return_to", f"names {source.return_to!r}, which is no [[destination]]"))
    for n, route in enumerate(configuration.route, 1):
        if route.source not in sources:
            mistakes.append((f"route[{n}].source", f"names {route.source!r}, which is no [[source]]"))
        for name in route.to:
            if name not in targets:
                mistakes.append((f"route[{n}].to", f"names {name!r}, which is no [[destination]], nor record, nor requested"))
    listens: dict[str, str] = {}
    for where, listen in [
        *((f"source[{s.name}].listen", s.listen) for s in configuration.source),
        ("web.listen", configuration.web.listen),
    ]:
        if listen in listens and not listen.endswith(":0"):
            mistakes.append((where, f"is the same address as {listens[listen]}"))
        listens.setdefault(listen, where)
    return mistakes


def _paths(configuration: Configuration, base: Path) -> list[tuple[str, str]]:
    mistakes = []
    named: list[tuple[str, Any]] = [("web", configuration.web), ("store", configuration.store), ("bell", configuration.bell)]
    named += [(f"source[{s.name}]", s) for s in configuration.source]
    named += [(f"destination[{d.name}]", d) for d in configuration.destination]
    for where, section in named:
        for key in ("tls_cert_file", "tls_key_file", "tls_client_ca_file", "tls_ca_file", "password_file", "creds_file"):
            path = getattr(section, key, None)
            if path is not None and not (base / path).is_file():
                mistakes.append((f"{where}.{key}", "names a file that does not exist"))
    if configuration.mappings.folder is not None and not (base / configuration.mappings.folder).is_dir():
        mistakes.append(("mappings.folder", "names a folder that does not exist"))
    return mistakes


def _site(configuration: Configuration) -> Site:
    hub = configuration.hub
    return Site(
        name=hub.name,
        organisation=hub.organisation,
        environment=hub.environment,
        timezone=ZoneInfo(hub.timezone),
        default_charset=hub.default_charset,
    )


def _graph(configuration: Configuration) -> Graph:
    sources = {
        s.name: SourceSpec(
            s.name,
            s.kind,
            listen=s.listen,
            return_to=s.return_to,
            strict_control_id=s.strict_control_id,
            charset=s.charset or configuration.hub.default_charset,
        )
        for s in configuration.source
    }
    sources[API] = SourceSpec(API, "http", charset=configuration.hub.default_charset)
    routes = [Route(s.name, tuple(s.routes)) for s in configuration.source if s.routes]
    routes += [
        Route(r.source, tuple(r.to), Condition(r.when.type, r.when.event, r.when.sending_app), r.mapping)
        for r in configuration.route
    ]
    if not any(route.source == API for route in routes):
        routes.append(Route(API, (RECORD, REQUESTED)))
    destinations = {
        d.name: DestinationSpec(
            d.name,
            d.kind,
            connect=d.connect,
            on_unsure=d.on_unsure,
            on_ae=d.on_ae,
            on_dead=d.on_dead,
            line_ends=d.line_ends,
            workers=d.workers,
            retry=RetryPolicy(d.retry.base_s, d.retry.cap_s, d.retry.give_up_h * 3600, d.retry.probe_s),
        )
        for d in configuration.destination
    }
    return Graph(sources, tuple(routes), destinations)
