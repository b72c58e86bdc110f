"""What a mapping worker builds when it starts: the same registry as the main process."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hub.model.record_change import ContentRange
from hub.model.refusals import Misconfigured
from hub.model.site import Site
from mappings.registry import Reads, Registry, builtin

ENTRY_POINTS = "vaguemestre.mappings"
_STRUCTURE = ("name", "version", "heavy", "judge", "question", "requests", "refused_requests", "receipts_wanted", "translate")


def registry(folder: str | None) -> Registry:
    """Our translations, those of installed packages (entry points `vaguemestre.mappings`), and those of a site's folder.

    Raises:
        Misconfigured: a module cannot be imported, or what it exposes has another shape.
    """
    found = builtin()
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            module = entry_point.load()
        except Exception as error:
            raise Misconfigured(entry_point.value, "-", f"cannot be imported ({type(error).__name__})") from error
        found = _with_module(found, module, entry_point.value)
    if folder is not None:
        for path in sorted(Path(folder).glob("*.py")):
            if not path.name.startswith("_"):
                found = _with_module(found, _module(path), str(path))
    return found


def build(folder: str | None) -> Callable[[Any], Any]:
    """For `hub.flow.workshop.Bench`."""
    from hub.flow.carry import work

    return work(registry(folder))


def build_reader(_argument: None) -> Callable[[Any], Any]:
    """For `hub.flow.workshop.Bench`: a worker that reads documents again (`ReadAgain` → `CdaFacts`)."""
    from mappings.cda.contents import Contents
    from mappings.cda.translate import translate_cda
    from mappings.hl7v2.ucum import Units
    from mappings.registry import packaged_table
    from mappings.tables import load

    units = Units(load(packaged_table("ucum_units")))

    def run(task: ReadAgain) -> Any:
        contents = Contents(task.xml, task.outer or task.anywhere())
        return translate_cda(
            task.xml,
            tz=task.site.timezone,
            units=units,
            event_time=task.event_time,
            contents=contents,
            environment=task.site.environment,
        )

    return run


@dataclass(frozen=True, slots=True)
class ReadAgain:
    """A document to translate once more. `outer`: where its bytes stand in the message, None when that is not there any more."""

    xml: bytes
    site: Site
    event_time: int
    outer: ContentRange | None

    def anywhere(self) -> ContentRange:
        """A range for bytes that are looked up by their hash only."""
        return ContentRange(0, 0, "base64", "text/xml", len(self.xml), b"")


def _module(path: Path) -> ModuleType:
    name = f"vaguemestre_site_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Misconfigured(str(path), "-", "is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise Misconfigured(str(path), "-", f"cannot be imported ({type(error).__name__})") from error
    return module


def _with_module(found: Registry, module: ModuleType, file: str) -> Registry:
    """`found` with what a module exposes, once that has the shape the registry calls."""
    structures, rewrites = getattr(module, "STRUCTURES", ()), getattr(module, "REWRITES", {})
    if not isinstance(structures, list | tuple):
        raise Misconfigured(file, "STRUCTURES", "must be a list of (reads(…), structure)")
    for n, row in enumerate(structures, 1):
        if not (isinstance(row, tuple) and len(row) == 2 and isinstance(row[0], Reads)):
            raise Misconfigured(file, f"STRUCTURES[{n}]", "must be (reads(…), structure)")
        missing = [name for name in _STRUCTURE if not hasattr(row[1], name)]
        if missing:
            raise Misconfigured(file, f"STRUCTURES[{n}]", f"this structure lacks {', '.join(missing)}")
    if not isinstance(rewrites, dict) or not all(isinstance(name, str) and callable(one) for name, one in rewrites.items()):
        raise Misconfigured(file, "REWRITES", "must be a dict of name: function(message, site)")
    return found.with_module(module)
