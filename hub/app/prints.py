"""Fingerprints: of a whole configuration, to compare processes; of its sections, so that a reload sees which differ."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hub.app.config import Installation, absolute
from hub.flow.receipts import DMP

# what only routing and judging look at: a change of it leaves connections alone
_OF_THE_GRAPH = frozenset({"routes", "return_to", "strict_control_id", "unknown_patient", "charset"})


def of_configuration(installation: Installation) -> str:
    """Twelve hexadecimal digits: those of two processes are equal when they run with the same settings and site mappings.

    Where a process keeps its data and what address its pages have is its own affair.
    """
    said = installation.configuration.model_dump(mode="json")
    said["hub"].pop("data_dir", None)
    said["web"].pop("listen", None)
    digest = hashlib.sha256(repr(sorted(said.items())).encode())
    digest.update(of_mappings(installation).encode())
    return digest.hexdigest()[:12]


def of_mappings(installation: Installation) -> str:
    """Changes with the settings and the modules of the site's mappings."""
    section = installation.configuration.mappings
    digest = hashlib.sha256(section.model_dump_json().encode())
    folder = absolute(installation, section.folder)
    for path in sorted(folder.glob("*.py")) if folder is not None else ():
        digest.update(path.name.encode() + b"\0" + _content(path))
    return digest.hexdigest()


def of_all(installation: Installation) -> dict[str, str]:
    """By `source/NAME`, `destination/NAME` and `mappings`: changes when the thing must be made anew."""
    configuration = installation.configuration
    found = {f"source/{one.name}": _of_section(one, installation, _OF_THE_GRAPH) for one in configuration.source}
    found |= {f"destination/{one.name}": _of_section(one, installation) for one in configuration.destination}
    if configuration.dmp is not None:
        found[f"destination/{DMP}"] = _of_section(configuration.dmp, installation)
    return {**found, "mappings": of_mappings(installation)}


def _of_section(section: BaseModel, installation: Installation, without: frozenset[str] = frozenset()) -> str:
    """Of its settings, the files that they name, and what the hub calls itself, which files and the DMP are told."""
    digest = hashlib.sha256(section.model_dump_json(exclude=set(without)).encode())
    if getattr(section, "kind", "") != "mllp":
        digest.update(installation.configuration.hub.model_dump_json(include={"name", "organisation", "environment"}).encode())
    for key, value in sorted(_files(section).items()):
        digest.update(key.encode() + b"\0" + _content(absolute(installation, value) or Path()))
    return digest.hexdigest()


def _files(section: BaseModel) -> dict[str, Path]:
    found: dict[str, Any] = {key: getattr(section, key) for key in type(section).model_fields if key.endswith("_file")}
    return {key: value for key, value in found.items() if isinstance(value, Path)}


def _content(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b"-"
