"""By what the flow works: translations, graph and site. A reload replaces them whole, in one assignment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hub.flow.graph import Graph
from hub.flow.ports import Registry
from hub.model.site import Site


@dataclass(frozen=True)
class Rules:
    """One configuration, as far as the flow cares. `sites` by source."""

    registry: Registry
    graph: Graph
    site: Site
    dedupe_window_s: float = 30 * 86_400
    sites: Mapping[str, Site] = field(init=False)

    def __post_init__(self) -> None:
        sites = {name: replace(self.site, source=name, default_charset=spec.charset) for name, spec in self.graph.sources.items()}
        object.__setattr__(self, "sites", sites)


class Ruled:
    """A station of the flow. Setting `rules` changes what it does with messages from then on."""

    rules: Rules

    @property
    def _registry(self) -> Registry:
        return self.rules.registry

    @property
    def _graph(self) -> Graph:
        return self.rules.graph

    @property
    def _site(self) -> Site:
        return self.rules.site

    @property
    def _sites(self) -> Mapping[str, Site]:
        return self.rules.sites
