"""`vaguemestre check`: what the configuration says, as a graph; and what only loading finds out: mappings and TLS files."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from adapters.mllp.tls import TlsClientOptions, TlsServerOptions, client_context, server_context
from hub.app.check_files import file_mistakes
from hub.app.config import API, Installation, absolute
from hub.app.mapping_worker import ENTRY_POINTS
from hub.app.mapping_worker import registry as build_registry
from hub.app.schematron_rules import library_mistakes
from hub.app.schematron_rules import remarks as schematron_remarks
from hub.app.sections import WebSection
from hub.app.terminal import counted, print_json, printable, tell_mistakes
from hub.app.way_dmp import make_dmp
from hub.app.ways import DestinationSection, MllpDestinationSection, MllpSourceSection, SourceSection
from hub.flow.graph import RECORD, REQUESTED, Graph, Route
from hub.model.refusals import Misconfigured
from mappings.registry import Registry

Json = dict[str, Any]

_REQUESTED = ("dmp", "mssante:<address>")


def print_graph(installation: Installation, *, as_json: bool) -> int:
    """Print sources, routes and destinations; 2 and every mistake when something named does not load."""
    mistakes = [*tls_mistakes(installation), *file_mistakes(installation), *dmp_mistakes(installation)]
    mistakes += library_mistakes(installation)
    registry: Registry | None = None
    try:
        registry = load_mappings(installation)
        mistakes += route_mistakes(installation, registry)
    except Misconfigured as refused:
        mistakes.append(refused)
    if mistakes or registry is None:
        tell_mistakes(mistakes, as_json=as_json)
        return 2
    graph = described(installation, registry)
    graph["remarks"] += schematron_remarks(installation)
    if as_json:
        print_json(graph)
    else:
        print("\n".join(printable(line) for line in _drawn(graph)))
    return 0


# ---- what loading finds out ------------------------------------------------------------------------------------------


def load_mappings(installation: Installation) -> Registry:
    """Every translation of this installation.

    Raises:
        Misconfigured: with the place inside a site's module that does not load.
    """
    folder = absolute(installation, installation.configuration.mappings.folder)
    try:
        return build_registry(str(folder) if folder else None)
    except Misconfigured as refused:
        cause = refused.__cause__
        if cause is None:
            raise
        raise Misconfigured(
            refused.file, _line_of(cause, refused.file) or refused.key, f"{refused.reason}: {str(cause)[:200]}"
        ) from cause


def _line_of(error: BaseException, file: str) -> str:
    """`line 12` of `file`, where an error came from."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f"line {error.lineno}"
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"line {line}" if line else ""


def route_mistakes(installation: Installation, registry: Registry) -> list[Misconfigured]:
    """Routes whose `mapping` no module provides."""
    there = ", ".join(sorted(registry.rewrites)) or "none"
    return [
        Misconfigured(
            str(installation.file),
            f"route[{n}].mapping",
            f"names {route.mapping!r}, which no mapping module provides (there are: {there})",
        )
        for n, route in enumerate(installation.configuration.route, 1)
        if route.mapping and route.mapping not in registry.rewrites
    ]


def tls_mistakes(installation: Installation) -> list[Misconfigured]:
    """Certificates and keys that do not load or do not belong together."""
    configuration, mistakes = installation.configuration, []
    listeners: list[tuple[str, WebSection | MllpSourceSection]] = [("web", configuration.web)]
    listeners += [(f"source[{s.name}]", s) for s in configuration.source if isinstance(s, MllpSourceSection)]

    def file(path: Path | None) -> str:
        return str(absolute(installation, path) or "")

    for where, listener in listeners:
        if listener.tls_cert_file is None:
            continue
        try:
            server_context(
                TlsServerOptions(file(listener.tls_cert_file), file(listener.tls_key_file), file(listener.tls_client_ca_file))
            )
        except Misconfigured as refused:
            mistakes.append(Misconfigured(str(installation.file), f"{where}.{refused.key}", f"{refused.reason}: {refused.file}"))
    for destination in configuration.destination:
        if not isinstance(destination, MllpDestinationSection):
            continue
        try:
            client_context(
                TlsClientOptions(
                    file(destination.tls_ca_file),
                    file(destination.tls_cert_file),
                    file(destination.tls_key_file),
                    destination.tls_server_name,
                )
            )
        except Misconfigured as refused:
            where = f"destination[{destination.name}].{refused.key}"
            mistakes.append(Misconfigured(str(installation.file), where, f"{refused.reason}: {refused.file}"))
    return mistakes


def dmp_mistakes(installation: Installation) -> list[Misconfigured]:
    """TLS files of `[dmp]` that do not load."""
    try:
        make_dmp(installation)
    except Misconfigured as refused:
        return [Misconfigured(str(installation.file), f"dmp.{refused.key}", f"{refused.reason}: {refused.file}")]
    return []


# ---- the graph -------------------------------------------------------------------------------------------------------


def described(installation: Installation, registry: Registry) -> Json:
    """The graph as data: what `--json` prints and the drawing is made of."""
    configuration, graph = installation.configuration, installation.graph
    sources: list[Json] = [
        {
            "name": section.name,
            "kind": section.kind,
            "listen": section.place,
            "tls": _source_tls(section),
            "peers": section.peers if isinstance(section, MllpSourceSection) else [],
            "tls_client_names": section.tls_client_names if isinstance(section, MllpSourceSection) else [],
            "charset": graph.sources[section.name].charset,
            "return_to": section.return_to or None,
            "routes": _routes(installation, section.name),
        }
        for section in configuration.source
    ]
    sources.append(
        {
            "name": API,
            "kind": "http",
            "listen": configuration.web.listen,
            "tls": _tls(configuration.web),
            "peers": [],
            "tls_client_names": [],
            "charset": graph.sources[API].charset,
            "return_to": None,
            "routes": _routes(installation, API),
        }
    )
    named = {name for route in graph.routes for name in route.to}
    destinations: list[Json] = [{"name": RECORD, "kind": "record", "connect": None, "tls": None, "waits": None}]
    destinations += [
        {
            "name": section.name,
            "kind": section.kind,
            "connect": section.place,
            "tls": _destination_tls(section),
            "waits": None,
            **_at_once(section),
            "give_up_h": section.retry.give_up_h,
        }
        for section in configuration.destination
    ]
    if REQUESTED in named:
        destinations += [
            {"name": name, "kind": REQUESTED, "connect": _address(graph, name), "tls": None, "waits": graph.blocked(name)}
            for name in _REQUESTED
        ]
    folder = absolute(installation, configuration.mappings.folder)
    return {
        "ok": True,
        "file": str(installation.file),
        "name": installation.site.name,
        "environment": installation.site.environment,
        "data_dir": str(installation.data_dir),
        "web": {"listen": configuration.web.listen, "tls": _tls(configuration.web)},
        "sources": sources,
        "destinations": destinations,
        "mappings": {
            "structures": list(registry.names()),
            "rewritings": sorted(registry.rewrites),
            "packages": [entry.value for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)],
            "modules": [path.name for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")] if folder else [],
        },
        "remarks": _remarks(installation, named),
    }


def _address(graph: Graph, name: str) -> str | None:
    """Where a requested destination is; None where it is not configured."""
    spec = graph.destinations.get(name)
    return spec.connect if spec is not None else None


def _routes(installation: Installation, source: str) -> list[Json]:
    return [_route(route) for route in installation.graph.routes if route.source == source]


def _route(route: Route) -> Json:
    when = {"type": route.when.type, "event": route.when.event, "sending_app": route.when.sending_app}
    return {
        "when": {name: value for name, value in when.items() if value},
        "says": str(route.when),
        "to": list(route.to),
        "mapping": route.mapping or None,
    }


def _at_once(section: DestinationSection) -> Json:
    if isinstance(section, MllpDestinationSection):
        return {"connections": section.connections, "in_flight": section.in_flight}
    return {"batch_size": section.batch_size}


def _source_tls(section: SourceSection) -> str:
    if isinstance(section, MllpSourceSection):
        return _tls(section)
    return "ssh" if section.kind == "sftp" else "local"


def _tls(section: WebSection | MllpSourceSection) -> str:
    if section.tls_cert_file is None:
        return "none"
    return "mutual" if section.tls_client_ca_file is not None else "server"


def _destination_tls(section: DestinationSection) -> str:
    if not isinstance(section, MllpDestinationSection):
        return "ssh" if section.kind == "sftp" else "local"
    if not section.tls:
        return "none"
    return "mutual" if section.tls_cert_file is not None else "server"


def _remarks(installation: Installation, named: set[str]) -> list[str]:
    """What is allowed and probably not meant."""
    configuration, remarks = installation.configuration, []
    returned = {source.return_to for source in configuration.source}
    for source in configuration.source:
        if not _routes(installation, source.name):
            remarks.append(f"source[{source.name}]: has no route: its messages are kept, answered, and end as NO_ROUTE")
        if not isinstance(source, MllpSourceSection):
            continue
        if _open_to_the_network(source.listen) and source.tls_cert_file is None:
            remarks.append(
                f"source[{source.name}].listen: takes messages from the network in clear text (tls_cert_file, tls_key_file)"
            )
        if source.tls_client_names and source.tls_client_ca_file is None:
            remarks.append(
                f"source[{source.name}].tls_client_names: nobody is asked for a certificate without tls_client_ca_file"
            )
    for destination in configuration.destination:
        if destination.name not in named | returned:
            remarks.append(f"destination[{destination.name}]: no route sends anything to it")
        if not isinstance(destination, MllpDestinationSection):
            continue
        if not destination.tls and (destination.tls_ca_file or destination.tls_cert_file):
            remarks.append(f"destination[{destination.name}]: has TLS files but not tls = true: messages leave in clear text")
        elif not destination.tls and _open_to_the_network(destination.connect):
            remarks.append(f"destination[{destination.name}].connect: messages cross the network in clear text (tls = true)")
    if _open_to_the_network(configuration.web.listen) and configuration.web.tls_cert_file is None:
        remarks.append("web.listen: takes tokens from the network in clear text (tls_cert_file, tls_key_file)")
    return remarks


def _open_to_the_network(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    return not (host.startswith("127.") or host in ("localhost", "::1"))


_TLS_WORDS = {
    "none": "clear text",
    "server": "TLS",
    "mutual": "TLS both ways",
    "ssh": "SSH, the server's key is known",
    "local": "files of this machine",
    None: "",
}


def _drawn(graph: Json) -> list[str]:
    there = {d["name"]: d for d in graph["destinations"]}
    lines = [
        f"{graph['file']} is valid: {counted(len(graph['sources']) - 1, 'source')} and the API, "
        f"{counted(sum(d['kind'] not in ('record', REQUESTED) for d in graph['destinations']), 'destination')}, "
        f"environment {graph['environment']}.",
        "",
    ]
    for source in graph["sources"]:
        way = "POST /api/v1/hl7" if source["kind"] == "http" else source["kind"].upper()
        only = f", only from {', '.join(source['peers'])}" if source["peers"] else ""
        lines.append(f"{source['name']}  {way} {source['listen']}, {_TLS_WORDS[source['tls']]}{only}")
        arrows = [(route, name) for route in source["routes"] for name in route["to"]]
        for n, (route, name) in enumerate(arrows):
            branch = "└──" if n == len(arrows) - 1 else "├──"
            mapping = f" rewritten by {route['mapping']}" if route["mapping"] and name not in (RECORD, REQUESTED) else ""
            lines.append(f"{branch} {route['says']} ──▶ {name}{mapping}{_where(name, there)}")
        if not arrows:
            lines.append("└── nothing: NO_ROUTE")
        if source["return_to"]:
            lines.append(f"    receipts ──▶ {source['return_to']}  (ZAM)")
        lines.append("")
    mappings = graph["mappings"]
    lines.append(f"Translations  {', '.join(mappings['structures'])}")
    if mappings["rewritings"]:
        lines.append(f"Rewritings    {', '.join(mappings['rewritings'])}")
    if mappings["packages"] or mappings["modules"]:
        lines.append(f"Site modules  {', '.join([*mappings['packages'], *mappings['modules']])}")
    lines.append(f"Web           {graph['web']['listen']}, {_TLS_WORDS[graph['web']['tls']]}")
    lines.append(f"Data          {graph['data_dir']}")
    return [*lines, *(f"! {remark}" for remark in graph["remarks"])]


def _where(name: str, there: dict[str, Json]) -> str:
    if name == RECORD:
        return "  the patient record, here"
    if name == REQUESTED:
        asked = (
            f"{one}, waits: {there[one]['waits']}" if there[one]["waits"] else f"{one} {there[one]['connect']}"
            for one in _REQUESTED
        )
        return f"  what the message asks for ({'; '.join(asked)})"
    destination = there[name]
    return f"  {destination['kind'].upper()} {destination['connect']}, {_TLS_WORDS[destination['tls']]}"
