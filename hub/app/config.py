"""The configuration file, read and checked whole: every mistake is told with its file, key and reason."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from hub.app.config_dmp import NAME as DMP
from hub.app.config_dmp import dmp_mistakes, dmp_spec
from hub.app.mistakes import key_of, name_mistakes, path_mistakes, reason_of
from hub.app.sections import API, Configuration
from hub.app.ways import MllpDestinationSection
from hub.flow.graph import RECORD, REQUESTED, Condition, DestinationSpec, Graph, RetryPolicy, Route, SourceSpec
from hub.model.refusals import HubError, Misconfigured
from hub.model.site import Site
from hub.store.blobs import Blobs
from hub.store.bucket import open_blobs
from hub.store.place import Place, place_of

__all__ = ["API", "Configuration", "ConfigurationRefused", "Installation", "absolute", "build", "load"]


class ConfigurationRefused(HubError):
    """One or more mistakes in the configuration."""

    code = "ConfigurationRefused"

    def __init__(self, mistakes: list[Misconfigured]) -> None:
        super().__init__("\n".join(mistake.sentence for mistake in mistakes))
        self.mistakes = mistakes


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
            [Misconfigured(str(file), key_of(document, mistake), reason_of(document, mistake)) for mistake in error.errors()]
        ) from None
    base = file.resolve().parent
    data_dir = base / configuration.hub.data_dir
    place = partial(place_of, configuration.store.url, base=base, default=data_dir / "vaguemestre.db")
    mistakes = [*name_mistakes(configuration), *path_mistakes(configuration, base)]
    mistakes += dmp_mistakes(configuration.dmp, configuration.hub.environment)
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
            listen=s.place,
            return_to=s.return_to,
            strict_control_id=s.strict_control_id,
            unknown_patient=s.unknown_patient,
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
            connect=d.place,
            on_unsure=d.on_unsure,
            on_ae=d.on_ae if isinstance(d, MllpDestinationSection) else "refuse",
            on_dead=d.on_dead,
            line_ends=d.line_ends,
            workers=d.workers,
            retry=RetryPolicy(d.retry.base_s, d.retry.cap_s, d.retry.give_up_h * 3600, d.retry.probe_s),
        )
        for d in configuration.destination
    }
    if configuration.dmp is not None:
        destinations[DMP] = dmp_spec(configuration.dmp)
    return Graph(sources, tuple(routes), destinations)
